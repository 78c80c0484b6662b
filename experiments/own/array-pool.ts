import { CoveyError } from '../../protocol/errors.ts';
import { parseIdx } from '../../src/data/idx.ts';
import { type ArrayFile, type ArrayPart, type ArrayRecords, partsOf, type RawType, type Scale } from './description.ts';
import type { OwnFiles } from './files.ts';
import type { RecordPool } from './pool.ts';

/** Most numbers of one file. */
const MAX_VALUES = 2 ** 28;

type Numbers = ReturnType<typeof parseIdx>['values'];

/** Numbers in rows, a row a record. */
interface Rows {
  readonly count: number;
  readonly width: number;
  readonly values: Numbers;
}

const RAW: Readonly<
  Record<RawType, { readonly bytes: number; create(n: number): Numbers; read(view: DataView, place: number): number }>
> = {
  uint8: { bytes: 1, create: (n) => new Uint8Array(n), read: (view, at) => view.getUint8(at) },
  int8: { bytes: 1, create: (n) => new Int8Array(n), read: (view, at) => view.getInt8(at) },
  int16: { bytes: 2, create: (n) => new Int16Array(n), read: (view, at) => view.getInt16(at, true) },
  uint16: { bytes: 2, create: (n) => new Int32Array(n), read: (view, at) => view.getUint16(at, true) },
  int32: { bytes: 4, create: (n) => new Int32Array(n), read: (view, at) => view.getInt32(at, true) },
  uint32: { bytes: 4, create: (n) => new Float64Array(n), read: (view, at) => view.getUint32(at, true) },
  // Beyond 2^53 not exact: as labels and owners such numbers are refused, as features they are rounded anyway.
  int64: { bytes: 8, create: (n) => new Float64Array(n), read: (view, at) => Number(view.getBigInt64(at, true)) },
  float32: { bytes: 4, create: (n) => new Float32Array(n), read: (view, at) => view.getFloat32(at, true) },
  float64: { bytes: 8, create: (n) => new Float64Array(n), read: (view, at) => view.getFloat64(at, true) },
};

/** Little-endian numbers without a header. @throws CoveyError CODEC_TYPE, CODEC_LIMIT */
function parseRaw(bytes: Uint8Array, type: RawType, width: number, name: string): Rows {
  const { bytes: size, create, read } = RAW[type];
  if (bytes.length % (size * width) !== 0)
    throw new CoveyError(
      'CODEC_TYPE',
      `"${name}" expected records of ${width} x ${type} (${size * width} bytes), got ${bytes.length} bytes`,
    );
  const length = bytes.length / size;
  if (length > MAX_VALUES)
    throw new CoveyError('CODEC_LIMIT', `"${name}" expected at most ${MAX_VALUES} numbers, got ${length}`);
  if (type === 'uint8') return { count: length / width, width, values: bytes };
  const values = create(length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < length; i++) {
    const value = read(view, i * size);
    if (!Number.isFinite(value))
      throw new CoveyError('CODEC_TYPE', `"${name}" expected finite numbers, got ${value} at ${i}`);
    values[i] = value;
  }
  return { count: length / width, width, values };
}

/** Rows with the columns that are meant. */
interface ChosenRows extends Rows {
  /** First column and how many. */
  readonly first: number;
  readonly chosen: number;
}

async function readPart(files: OwnFiles, part: ReturnType<typeof partsOf>[number], spec: ArrayFile): Promise<Rows> {
  const content = await files.read(part);
  if (spec.type !== undefined) return parseRaw(content, spec.type, spec.length ?? 1, part.file);
  const { shape, values } = parseIdx(content, { maxElements: MAX_VALUES }, part.file);
  const [count = 0, ...rest] = shape;
  return { count, width: rest.reduce((product, size) => product * size, 1), values };
}

/** One file behind the other. @throws CoveyError CODEC_TYPE, CODEC_LIMIT */
function joinRows(parts: readonly Rows[], name: string): Rows {
  const [first] = parts as [Rows];
  if (parts.length === 1) return first;
  for (const { values, width } of parts)
    if (width !== first.width || values.constructor !== first.values.constructor)
      throw new CoveyError(
        'CODEC_TYPE',
        `"${name}" expected ${first.width} numbers a record of one type, got ${width}`,
      );
  const count = parts.reduce((sum, part) => sum + part.count, 0);
  if (count * first.width > MAX_VALUES)
    throw new CoveyError('CODEC_LIMIT', `"${name}" expected at most ${MAX_VALUES} numbers, got ${count * first.width}`);
  const values = new (first.values.constructor as new (length: number) => Numbers)(count * first.width);
  let at = 0;
  for (const part of parts) {
    values.set(part.values, at);
    at += part.values.length;
  }
  return { ...first, count, values };
}

const nameOf = ({ file }: ArrayFile): string => [file].flat().join(', ');

async function readRows(files: OwnFiles, spec: ArrayFile): Promise<ChosenRows> {
  const parts: Rows[] = [];
  for (const part of partsOf(spec)) parts.push(await readPart(files, part, spec));
  const rows = joinRows(parts, nameOf(spec));
  const [first, last] =
    typeof spec.columns === 'number' ? [spec.columns, spec.columns] : (spec.columns ?? [0, rows.width - 1]);
  if (first > last || last >= rows.width)
    throw new CoveyError(
      'CODEC_TYPE',
      `"${nameOf(spec)}" expected columns among ${rows.width} numbers a record, got ${first === last ? first : `${first} to ${last}`}`,
    );
  return { ...rows, first, chosen: last - first + 1 };
}

/** One integer for each record. @throws CoveyError CODEC_TYPE */
async function readIntegers(files: OwnFiles, spec: ArrayFile, count: number): Promise<(record: number) => number> {
  const { chosen, count: rows, first, values, width } = await readRows(files, spec);
  const name = nameOf(spec);
  if (rows !== count) throw new CoveyError('CODEC_TYPE', `"${name}" expected ${count} records, got ${rows}`);
  if (chosen !== 1)
    throw new CoveyError('CODEC_TYPE', `"${name}" expected one number a record, got ${chosen}; hint: "columns"`);
  return (record) => {
    const value = values[record * width + first] as number;
    if (!Number.isSafeInteger(value))
      throw new CoveyError('CODEC_TYPE', `"${name}" expected integers, got ${value} at record ${record}`);
    return value;
  };
}

/** The class that a number stands for. @throws CoveyError CODEC_TYPE */
function classesOf(classes: number | readonly number[], name: string): (label: number) => number {
  if (typeof classes === 'number')
    return (label) => {
      if (label >= 0 && label < classes) return label;
      throw new CoveyError(
        'CODEC_TYPE',
        `"${name}" expected classes below ${classes}, got ${label}; hint: "classes" may list the numbers that stand for them`,
      );
    };
  const numbers = new Map(classes.map((label, i) => [label, i]));
  return (label) => {
    const found = numbers.get(label);
    if (found !== undefined) return found;
    throw new CoveyError('CODEC_TYPE', `"${name}" expected one of ${classes.length} classes, got ${label}`);
  };
}

/** The feature of a number at a place of its record: a function of that number alone. */
function featureOf(scale: Scale | undefined, width: number): (value: number, place: number) => number {
  if (scale === undefined || scale === 'standardized') return (value) => value;
  if ('from' in scale) {
    const [least, most] = scale.from;
    const [low, high] = scale.to;
    return (value) => low + ((high - low) * (Math.min(most, Math.max(least, value)) - least)) / (most - least);
  }
  const { ranges } = scale;
  if (ranges.length !== width)
    throw new CoveyError(
      'USAGE_CONFIG',
      `"scale.ranges" expected ${width}, one for each feature, got ${ranges.length}`,
    );
  return (value, place) => {
    const [low, high] = ranges[place] as readonly [number, number];
    return (2 * (Math.min(high, Math.max(low, value)) - low)) / (high - low) - 1;
  };
}

/** The records of parallel files; `distinct` reads the features. @throws CoveyError USAGE_CONFIG, CODEC_* naming the file */
export async function readArrayPool(
  files: OwnFiles,
  distinct: OwnFiles,
  { classes, planes = 1, scale }: ArrayRecords,
  { features, labels, owners }: ArrayPart,
): Promise<RecordPool> {
  const rows = await readRows(distinct, features);
  const { chosen: width, first } = rows;
  const labelOf = await readIntegers(files, labels, rows.count);
  const classOf = classesOf(classes, nameOf(labels));
  const known = Uint8Array.from({ length: rows.count }, (_, record) => classOf(labelOf(record)));
  const ownerOf = owners === undefined ? null : await readIntegers(files, owners, rows.count);
  const convert = featureOf(scale, width);
  const pixels = width / planes;
  if (!Number.isInteger(pixels))
    throw new CoveyError('USAGE_CONFIG', `"planes" expected a divisor of ${width} numbers a record, got ${planes}`);
  return {
    count: rows.count,
    featureLength: width,
    classes: typeof classes === 'number' ? classes : classes.length,
    labels: known,
    owners: ownerOf === null ? null : Array.from({ length: rows.count }, (_, record) => `owner-${ownerOf(record)}`),
    write(record, target, at) {
      const start = record * rows.width + first;
      for (let place = 0; place < width; place++) {
        const plane = place % planes;
        const value = rows.values[start + plane * pixels + (place - plane) / planes] as number;
        const feature = Math.fround(convert(value, place));
        if (!Number.isFinite(feature))
          throw new CoveyError(
            'CODEC_TYPE',
            `"${nameOf(features)}" expected features that 32-bit floats hold, got another at record ${record}; hint: "scale"`,
          );
        target[at + place] = feature;
      }
    },
  };
}
