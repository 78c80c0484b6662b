import { isUtf8 } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { parse } from 'csv-parse/sync';
import { z } from 'zod';
import { loadConfig } from '../../platform/node/config.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { concatBytes, toHex, u32le, utf8 } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';
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

function readRows(text: Uint8Array, name: string): string[][] {
  if (text.length > MAX_BYTES)
    throw new CoveyError('CODEC_LIMIT', `"${name}" expected at most ${MAX_BYTES} bytes, got ${text.length}`);
  // Decoded with replacements, different names or values would become one.
  if (!isUtf8(text)) throw new CoveyError('CODEC_TYPE', `"${name}" expected text in UTF-8`);
  try {
    return parse(text, { bom: true, skip_empty_lines: true, trim: true });
  } catch (error) {
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
  const rows = readRows(text, name);
  const head = rows.shift() ?? [];
  const first = new Map(head.map((column, i) => [column, i] as const).reverse());
  const last = new Map(head.map((column, i) => [column, i] as const));
  const columnOf = (wanted: string): number => {
    const found = first.get(wanted);
    if (found === undefined || last.get(wanted) !== found)
      throw new CoveyError('CODEC_TYPE', `"${name}" expected one column "${wanted}" in its header`);
    return found;
  };
  const { features, label, missing, person } = description;
  const places = features.map((feature) => columnOf(feature.column));
  const placed = placeFeatures(features);
  const labelPlace = columnOf(label.column);
  const width = tableWidth(description);
  if (rows.length * width > MAX_VALUES)
    throw new CoveyError(
      'CODEC_LIMIT',
      `"${name}" expected at most ${MAX_VALUES} numbers, got ${rows.length} rows of ${width}`,
    );
  const numbers = new Float32Array(rows.length * width);
  const labels = new Uint8Array(rows.length);
  rows.forEach((row, i) => {
    // The header is line 1; quoted line breaks may shift what follows.
    const line = i + 2;
    let at = i * width;
    features.forEach((feature, j) => {
      const cell = row[places[j] as number] ?? '';
      writeCell(placed[j] as PlacedFeature, cell, missing.includes(cell), line, numbers, at);
      at += widthOf(feature);
    });
    const found = label.values.indexOf(row[labelPlace] ?? '');
    if (found < 0)
      throw new CoveyError(
        'CODEC_TYPE',
        `"${label.column}" expected one of ${label.values.length} classes in line ${line}`,
        {
          line,
        },
      );
    labels[i] = found;
  });
  const data = createDataset(width, label.values.length, numbers, labels);
  if (person === undefined) return { data, names: null };
  const place = columnOf(person);
  const names = rows.map((row, i) => {
    const cell = row[place] ?? '';
    if (missing.includes(cell))
      throw new CoveyError('CODEC_TYPE', `"${person}" expected whose record it is in line ${i + 2}`, { line: i + 2 });
    // One name in two spellings of the same letters would be two persons.
    return cell.normalize('NFC');
  });
  return { data: withPersons(data, names), names };
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
    return new Uint8Array(await readFile(path));
  } catch (cause) {
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
