import { isUtf8 } from 'node:buffer';
import { readFile, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { parse } from 'csv-parse/sync';
import { z } from 'zod';
import { loadConfig } from '../../platform/node/config.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { concatBytes, toHex, u32le, utf8 } from '../../protocol/bytes.ts';
import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import {
  createDataset,
  type Dataset,
  datasetBytes,
  type SplitData,
  selectRecords,
  withPersons,
} from '../../src/data/dataset.ts';

/** A column as one feature in [-1, 1], as one feature of 0 or 1 for each of its values, or as a row of a table of embeddings. */
type Feature =
  | { readonly column: string; readonly range: readonly [number, number] }
  | { readonly column: string; readonly values: readonly string[] }
  | { readonly column: string; readonly entries: readonly string[] };

/**
 * What the columns of a table mean, the same at every site. Ranges and values are public: they are agreed on before anybody
 * looks at records, so that the features of a record depend on that record alone.
 */
export interface TableDescription {
  readonly label: { readonly column: string; readonly values: readonly string[] };
  /** Column that says whose record a row is. */
  readonly person?: string | undefined;
  readonly features: readonly Feature[];
  /** Cells that hold nothing: the middle of a range, none of the values, a row of their own behind the entries. */
  readonly missing: readonly string[];
}

const column: z.ZodString = z.string().min(1).max(200);
const values: z.ZodArray<z.ZodString> = z.array(z.string().max(200)).min(2).max(256);
const entries: z.ZodArray<z.ZodString> = z.array(z.string().max(200)).min(2).max(65_536);
const range: z.ZodType<readonly [number, number]> = z
  .tuple([z.number(), z.number()])
  .refine(
    ([low, high]) => low < high && 2 * (high - low) < Number.POSITIVE_INFINITY,
    'expected a low and a higher number whose distance is a number',
  );

/** Reads the description of a table. */
export const tableDescriptionSchema: z.ZodType<TableDescription> = z.strictObject({
  label: z.strictObject({ column, values }),
  person: column.optional(),
  features: z
    .array(
      z.union([
        z.strictObject({ column, range }),
        z.strictObject({ column, values }),
        z.strictObject({ column, entries }),
      ]),
    )
    .min(1)
    .max(65_536)
    .refine(
      (features) => new Set(features.map((feature) => 'entries' in feature)).size < 2,
      'expected entries in all columns or in none',
    ),
  missing: z.array(z.string().max(200)).max(64).default(['', '?', 'NA']),
});

/** Largest table that is read. Units: bytes. */
const MAX_BYTES = 512 * 1024 * 1024;
/** Most numbers that the records of a table become: 1 GiB. */
const MAX_VALUES = 2 ** 28;
/** In one way only for every text, so that a long one costs no more than its length. */
const NUMBER = /^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/;

const widthOf = (feature: Feature): number => ('values' in feature ? feature.values.length : 1);

/** Rows of a table of embeddings that a column has for itself. */
const rowsOf = (feature: Feature): number => ('entries' in feature ? feature.entries.length + 1 : 0);

/** Rows of a table of embeddings that the columns of entries need: for each its entries and what is missing. */
export function tableEntries({ features }: TableDescription): number {
  return features.reduce((sum, feature) => sum + rowsOf(feature), 0);
}

/** The row of each entry of a column. `firstRow`: behind the rows of the columns before it. */
interface PlacedFeature {
  readonly feature: Feature;
  readonly rows: ReadonlyMap<string, number>;
  readonly firstRow: number;
}

function placeFeatures(features: readonly Feature[]): PlacedFeature[] {
  let firstRow = 0;
  return features.map((feature) => {
    const first = firstRow;
    firstRow += rowsOf(feature);
    const named = 'entries' in feature ? feature.entries.map((entry, i) => [entry, first + i] as const) : [];
    // Of an entry that is declared twice the first row.
    return { feature, firstRow: first, rows: new Map(named.reverse()) };
  });
}

/** Numbers that a record becomes. */
export function tableWidth({ features }: TableDescription): number {
  return features.reduce((sum, feature) => sum + widthOf(feature), 0);
}

/** Writes the features of one cell; messages name line and column, never what is in the cell. */
function writeCell(
  { feature, firstRow, rows }: PlacedFeature,
  cell: string,
  isMissing: boolean,
  line: number,
  to: Float32Array,
  at: number,
): void {
  if (isMissing) {
    if ('entries' in feature) to[at] = firstRow + feature.entries.length;
    return;
  }
  const wrong = (expected: string): CoveyError =>
    new CoveyError('CODEC_TYPE', `"${feature.column}" expected ${expected} in line ${line}`, { line });
  if ('values' in feature) {
    const found = feature.values.indexOf(cell);
    if (found < 0) throw wrong(`one of ${feature.values.length} declared values`);
    to[at + found] = 1;
    return;
  }
  if ('entries' in feature) {
    const row = rows.get(cell);
    if (row === undefined) throw wrong(`one of ${feature.entries.length} declared entries`);
    to[at] = row;
    return;
  }
  if (!NUMBER.test(cell)) throw wrong('a number');
  const [low, high] = feature.range;
  to[at] = (2 * (Math.min(high, Math.max(low, Number(cell))) - low)) / (high - low) - 1;
}

/** Most rows that a text can hold: every line break may end one. */
function countLines(text: Uint8Array): number {
  let lines = 1;
  for (let i = 0; i < text.length; i++) if (text[i] === 10 || (text[i] === 13 && text[i + 1] !== 10)) lines += 1;
  return lines;
}

/** Hands over row after row, the header first: cells of a large table take ten times its bytes if all are kept. */
function eachRow(text: Uint8Array, name: string, take: (row: readonly string[]) => void): void {
  if (text.length > MAX_BYTES)
    throw new CoveyError('CODEC_LIMIT', `"${name}" expected at most ${MAX_BYTES} bytes, got ${text.length}`);
  // Decoded with replacements, different names or values would become one.
  if (!isUtf8(text)) throw new CoveyError('CODEC_TYPE', `"${name}" expected text in UTF-8`);
  try {
    parse(text, {
      bom: true,
      skip_empty_lines: true,
      trim: true,
      on_record(row: readonly string[]) {
        take(row);
        return null;
      },
    });
  } catch (error) {
    if (isCoveyError(error)) throw error;
    // The parser's own messages may quote the table.
    const { code, lines } = error as { readonly code?: string; readonly lines?: number };
    const line = typeof lines === 'number' ? ` near line ${lines}` : '';
    throw new CoveyError('CODEC_TYPE', `"${name}" expected comma-separated values with a header (${code})${line}`);
  }
}

/** Records and the names of the persons that they belong to, if the table says so. */
export interface Table {
  readonly data: Dataset;
  readonly names: readonly string[] | null;
}

/**
 * Turns a comma-separated table with a header into labelled records.
 * Shapes: `tableWidth` features. Rows without a label are refused: leaving them out would depend on them.
 * @throws CoveyError CODEC_TYPE, naming file, line and column, or CODEC_LIMIT
 */
export function parseTable(text: Uint8Array, description: TableDescription, name: string): Table {
  const { features, label, missing, person } = description;
  const width = tableWidth(description);
  let most = countLines(text);
  if (most * width > MAX_VALUES) {
    // Empty lines and quoted breaks are no records: counted before the numbers take memory.
    let rows = -1;
    eachRow(text, name, () => {
      rows += 1;
    });
    if (rows * width > MAX_VALUES)
      throw new CoveyError(
        'CODEC_LIMIT',
        `"${name}" expected at most ${MAX_VALUES} numbers, got ${rows} rows of ${width}`,
      );
    most = Math.max(0, rows);
  }
  const numbers = new Float32Array(most * width);
  const labels = new Uint8Array(most);
  const placed = placeFeatures(features);
  // One text for each person, not one for each row.
  const spellings = new Map<string, string>();
  const names: string[] = [];
  let count = 0;
  let places: ReturnType<typeof placesOf> | null = null;

  const takeRecord = (row: readonly string[], at: NonNullable<typeof places>): void => {
    // The header is line 1; quoted line breaks may shift what follows.
    const line = count + 2;
    let to = count * width;
    features.forEach((feature, j) => {
      const cell = row[at.features[j] as number] ?? '';
      writeCell(placed[j] as PlacedFeature, cell, missing.includes(cell), line, numbers, to);
      to += widthOf(feature);
    });
    const found = label.values.indexOf(row[at.label] ?? '');
    if (found < 0)
      throw new CoveyError(
        'CODEC_TYPE',
        `"${label.column}" expected one of ${label.values.length} classes in line ${line}`,
        { line },
      );
    labels[count] = found;
    if (person !== undefined) {
      const cell = row[at.person ?? -1] ?? '';
      if (missing.includes(cell))
        throw new CoveyError('CODEC_TYPE', `"${person}" expected whose record it is in line ${line}`, { line });
      // One name in two spellings of the same letters would be two persons.
      const normal = cell.normalize('NFC');
      const known = spellings.get(normal) ?? normal;
      spellings.set(known, known);
      names.push(known);
    }
    count += 1;
  };
  eachRow(text, name, (row) => {
    if (places === null) places = placesOf(row, description, name);
    else takeRecord(row, places);
  });
  // Without any row the columns of the header are missing, too.
  if (places === null) placesOf([], description, name);
  const data = createDataset(
    width,
    label.values.length,
    count === most ? numbers : numbers.slice(0, count * width),
    labels.slice(0, count),
  );
  return person === undefined ? { data, names: null } : { data: withPersons(data, names), names };
}

/** Where the header has the columns that a description names. @throws CoveyError CODEC_TYPE */
function placesOf(
  head: readonly string[],
  { features, label, person }: TableDescription,
  name: string,
): { readonly features: readonly number[]; readonly label: number; readonly person: number | null } {
  const first = new Map(head.map((column, i) => [column, i] as const).reverse());
  const last = new Map(head.map((column, i) => [column, i] as const));
  const placeOf = (wanted: string): number => {
    const found = first.get(wanted);
    if (found === undefined || last.get(wanted) !== found)
      throw new CoveyError('CODEC_TYPE', `"${name}" expected one column "${wanted}" in its header`);
    return found;
  };
  return {
    features: features.map((feature) => placeOf(feature.column)),
    label: placeOf(label.column),
    person: person === undefined ? null : placeOf(person),
  };
}

/** What decides on which side a record is: its person, or the row itself and how many equal ones came before it. */
function* holdOutKeys({ data, names }: Table): Generator<Uint8Array> {
  const equals = new Map<string, number>();
  for (let record = 0; record < data.count; record++) {
    const name = names?.[record];
    if (name !== undefined) {
      yield utf8(`test ${name}`);
      continue;
    }
    const row = nodeCrypto.sha256(datasetBytes(selectRecords(data, Uint32Array.of(record))));
    const before = equals.get(toHex(row)) ?? 0;
    equals.set(toHex(row), before + 1);
    yield concatBytes(utf8('test '), row, u32le(before));
  }
}

/**
 * Splits by person, or by what is in a row where nobody says whose they are: the same rows are held out in every run. By their
 * places one row that comes or goes would move others between training and testing, which no clip covers (record rule); of
 * equal rows it is always one more or less on one side.
 */
function holdOut(table: Table, share: number): SplitData {
  const { data } = table;
  const held = Array.from(holdOutKeys(table), (key) => {
    const hash = nodeCrypto.sha256(key);
    return new DataView(hash.buffer, hash.byteOffset).getUint32(0) < share * 2 ** 32;
  });
  const all = Uint32Array.from({ length: data.count }, (_, i) => i);
  return {
    train: selectRecords(
      data,
      all.filter((record) => held[record] !== true),
    ),
    test: selectRecords(
      data,
      all.filter((record) => held[record] === true),
    ),
  };
}

/** Files of a site's table. Paths are absolute; without a test file a share of the persons is held out. */
export interface TableFiles {
  readonly description: string;
  readonly train: string;
  readonly test?: string | undefined;
  readonly testShare: number;
}

async function read(path: string): Promise<Uint8Array> {
  try {
    const { size } = await stat(path);
    if (size > MAX_BYTES)
      throw new CoveyError('CODEC_LIMIT', `"${basename(path)}" expected at most ${MAX_BYTES} bytes, got ${size}`);
    return new Uint8Array(await readFile(path));
  } catch (cause) {
    if (isCoveyError(cause)) throw cause;
    throw new CoveyError('USAGE_CONFIG', `"data" expected a readable file ${path}`, {}, { cause });
  }
}

/** Reads a site's own records. @throws CoveyError USAGE_CONFIG, CODEC_TYPE, CODEC_LIMIT */
export async function loadTable(files: TableFiles): Promise<SplitData> {
  const description = await loadConfig(files.description, tableDescriptionSchema);
  const train = parseTable(await read(files.train), description, basename(files.train));
  if (files.test === undefined) return holdOut(train, files.testShare);
  return { train: train.data, test: parseTable(await read(files.test), description, basename(files.test)).data };
}
