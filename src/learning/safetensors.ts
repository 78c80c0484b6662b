import { fromUtf8, readU32le, utf8 } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { shown } from './shown.ts';

/** A named tensor, flattened rows first. Single precision is stored as F32, double precision as F64. */
export interface NamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array | Float64Array;
}

/** Contents of a safetensors file. */
export interface TensorFile {
  readonly tensors: readonly NamedTensor[];
  readonly metadata: Readonly<Record<string, string>>;
}

/** The reference reader refuses longer headers. */
const MAX_HEADER_BYTES = 100_000_000;
/** The header is padded with spaces so that the data that follow are aligned for 64-bit floats. */
const ALIGNMENT = 8;

const DTYPES = { F32: 4, F64: 8 } as const;
type Dtype = keyof typeof DTYPES;

function refuse(message: string): never {
  throw new CoveyError('CODEC_TYPE', message);
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Writes values as little-endian floats, whatever the byte order of the machine. */
export function writeFloats(values: Float32Array | Float64Array, target: Uint8Array, at: number): void {
  const view = new DataView(target.buffer, target.byteOffset + at, values.byteLength);
  if (values instanceof Float32Array)
    for (let i = 0; i < values.length; i++) view.setFloat32(4 * i, values[i] as number, true);
  else for (let i = 0; i < values.length; i++) view.setFloat64(8 * i, values[i] as number, true);
}

/** Reads little-endian floats into an array of its own. */
export function readFloats(dtype: Dtype, bytes: Uint8Array, start: number, end: number): Float32Array | Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, end - start);
  const length = (end - start) / DTYPES[dtype];
  if (dtype === 'F32') return Float32Array.from({ length }, (_, i) => view.getFloat32(4 * i, true));
  return Float64Array.from({ length }, (_, i) => view.getFloat64(8 * i, true));
}

/**
 * Encodes tensors as a safetensors file: header length (8 bytes, little-endian), JSON header, data without gaps.
 * @throws CoveyError USAGE_RANGE for a repeated or reserved name or a shape that does not fit the values.
 * @see https://github.com/huggingface/safetensors (format)
 */
export function encodeSafetensors(
  tensors: readonly NamedTensor[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const entries: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) entries.push(['__metadata__', metadata]);
  const names = new Set<string>(['__metadata__']);
  let dataBytes = 0;
  for (const { name, shape, values } of tensors) {
    if (names.has(name))
      throw new CoveyError('USAGE_RANGE', `"tensors" expected distinct names other than __metadata__, got ${name}`);
    if (sizeOf(shape) !== values.length) {
      throw new CoveyError('USAGE_RANGE', `"${name}" expected ${sizeOf(shape)} values, got ${values.length}`);
    }
    names.add(name);
    const end = dataBytes + values.byteLength;
    entries.push([
      name,
      { dtype: values instanceof Float32Array ? 'F32' : 'F64', shape, data_offsets: [dataBytes, end] },
    ]);
    dataBytes = end;
  }
  const json = utf8(JSON.stringify(Object.fromEntries(entries)));
  const headerBytes = Math.ceil(json.length / ALIGNMENT) * ALIGNMENT;
  const file = new Uint8Array(8 + headerBytes + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes), true);
  file.set(json, 8);
  file.fill(0x20, 8 + json.length, 8 + headerBytes);
  let at = 8 + headerBytes;
  for (const { values } of tensors) {
    writeFloats(values, file, at);
    at += values.byteLength;
  }
  return file;
}

function parseHeader(bytes: Uint8Array): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(fromUtf8(bytes));
  } catch (cause) {
    throw new CoveyError('CODEC_TYPE', '"header" expected JSON in UTF-8', {}, { cause });
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) refuse('"header" expected an object');
  return header as Record<string, unknown>;
}

function isIndex(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function parseEntry(name: string, value: unknown): { dtype: Dtype; shape: number[]; start: number; end: number } {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
  if (dtype !== 'F32' && dtype !== 'F64') refuse(`"${name}" expected dtype F32 or F64, got ${shown(dtype)}`);
  if (!Array.isArray(shape) || !shape.every(isIndex)) refuse(`"${name}" expected a shape of sizes`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isIndex))
    refuse(`"${name}" expected two data offsets`);
  const [start, end] = offsets as [number, number];
  if (end - start !== sizeOf(shape) * DTYPES[dtype])
    refuse(`"${name}" expected ${sizeOf(shape)} values, got ${end - start} bytes`);
  return { dtype, shape, start, end };
}

function parseMetadata(value: unknown): Record<string, string> {
  if (value === undefined) return {};
  if (
    typeof value !== 'object' ||
    value === null ||
    !Object.values(value).every((entry) => typeof entry === 'string')
  ) {
    refuse('"__metadata__" expected a map of texts');
  }
  return value as Record<string, string>;
}

/**
 * Decodes a safetensors file with single and double precision tensors, in the order of their data.
 * Every byte of the data must belong to exactly one tensor.
 * @throws CoveyError CODEC_TRUNCATED, CODEC_TRAILING, CODEC_LIMIT or CODEC_TYPE for anything else.
 */
export function decodeSafetensors(bytes: Uint8Array): TensorFile {
  if (bytes.length < 8)
    throw new CoveyError('CODEC_TRUNCATED', `"file" expected 8 bytes of header length, got ${bytes.length}`);
  const headerBytes = readU32le(bytes, 0);
  if (readU32le(bytes, 4) !== 0 || headerBytes > MAX_HEADER_BYTES) {
    throw new CoveyError('CODEC_LIMIT', `"header" expected at most ${MAX_HEADER_BYTES} bytes`);
  }
  if (8 + headerBytes > bytes.length) {
    throw new CoveyError('CODEC_TRUNCATED', `"header" expected ${headerBytes} bytes, got ${bytes.length - 8}`);
  }
  // The format demands it, so that a file is never mistaken for another kind.
  if (bytes[8] !== 0x7b) refuse('"header" expected to begin with a brace');
  const { __metadata__: rawMetadata, ...entries } = parseHeader(bytes.subarray(8, 8 + headerBytes));
  const metadata = parseMetadata(rawMetadata);
  const specs = Object.entries(entries).map(([name, value]) => ({ name, ...parseEntry(name, value) }));
  specs.sort((a, b) => a.start - b.start || a.end - b.end);
  const base = 8 + headerBytes;
  let expected = 0;
  const tensors = specs.map(({ name, dtype, shape, start, end }) => {
    if (start !== expected) refuse(`"${name}" expected data at ${expected}, got ${start}`);
    if (base + end > bytes.length)
      throw new CoveyError('CODEC_TRUNCATED', `"${name}" expected data up to ${end}, got ${bytes.length - base}`);
    expected = end;
    return { name, shape, values: readFloats(dtype, bytes, base + start, base + end) };
  });
  if (base + expected !== bytes.length)
    throw new CoveyError('CODEC_TRAILING', `"file" expected ${base + expected} bytes, got ${bytes.length}`);
  return { tensors, metadata };
}
