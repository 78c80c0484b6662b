import { CoveyError } from '../../protocol/errors.ts';

/** An array of the idx format. Shapes: `values` holds the product of `shape`, last dimension fastest. */
export interface IdxArray {
  readonly shape: readonly number[];
  readonly values: Uint8Array | Int8Array | Int16Array | Int32Array | Float32Array | Float64Array;
}

/** What the caller can use; anything else in the file is refused before memory is taken. */
export interface IdxLimits {
  /** Most elements. */
  readonly maxElements: number;
}

interface ElementType {
  readonly bytes: number;
  create(length: number): IdxArray['values'];
  read(view: DataView, at: number): number;
}

/** Element types of the format; multi-byte values are big-endian. */
const TYPES: Readonly<Record<number, ElementType>> = {
  8: { bytes: 1, create: (n) => new Uint8Array(n), read: (view, at) => view.getUint8(at) },
  9: { bytes: 1, create: (n) => new Int8Array(n), read: (view, at) => view.getInt8(at) },
  11: { bytes: 2, create: (n) => new Int16Array(n), read: (view, at) => view.getInt16(at) },
  12: { bytes: 4, create: (n) => new Int32Array(n), read: (view, at) => view.getInt32(at) },
  13: { bytes: 4, create: (n) => new Float32Array(n), read: (view, at) => view.getFloat32(at) },
  14: { bytes: 8, create: (n) => new Float64Array(n), read: (view, at) => view.getFloat64(at) },
};

const DEFAULT_LIMITS: IdxLimits = { maxElements: 1 << 28 };

/**
 * Reads an array in the idx format of the MNIST files: two zero bytes, element type, number of dimensions, sizes as
 * big-endian 32-bit integers, values. The file must end where the last value ends. `name` appears in messages.
 * @throws CoveyError CODEC_TRUNCATED or CODEC_TRAILING for another length than declared, CODEC_TYPE for another magic
 * number, element type, number of dimensions (1 to 8) or an infinite value, CODEC_LIMIT for too many elements.
 * @see LeCun, Cortes, Burges, "The MNIST database", file formats
 */
export function parseIdx(
  bytes: Uint8Array,
  { maxElements }: IdxLimits = DEFAULT_LIMITS,
  name: string = 'idx',
): IdxArray {
  if (bytes.length < 4)
    throw new CoveyError('CODEC_TRUNCATED', `"${name}" expected a header of 4 bytes, got ${bytes.length}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const type = TYPES[view.getUint8(2)];
  if (view.getUint16(0) !== 0 || type === undefined) {
    throw new CoveyError('CODEC_TYPE', `"${name}" expected a known magic number, got ${view.getUint32(0)}`);
  }
  const dimensions = view.getUint8(3);
  if (dimensions < 1 || dimensions > 8)
    throw new CoveyError('CODEC_TYPE', `"${name}" expected 1 to 8 dimensions, got ${dimensions}`);
  const header = 4 + 4 * dimensions;
  if (bytes.length < header)
    throw new CoveyError('CODEC_TRUNCATED', `"${name}" expected a header of ${header} bytes, got ${bytes.length}`);
  const shape = Array.from({ length: dimensions }, (_, i) => view.getUint32(4 + 4 * i));
  // Sizes come from the file: the product is bounded at each factor, before it can lose exactness. A size of 0 does not
  // excuse the others.
  let length = 1;
  for (const size of shape) {
    if (Math.max(1, length) * size > maxElements)
      throw new CoveyError('CODEC_LIMIT', `"${name}" expected at most ${maxElements} values, got ${shape.join(' x ')}`);
    length *= size;
  }
  const expected = header + length * type.bytes;
  if (bytes.length !== expected) {
    throw new CoveyError(
      bytes.length < expected ? 'CODEC_TRUNCATED' : 'CODEC_TRAILING',
      `"${name}" expected ${expected} bytes for ${shape.join(' x ')}, got ${bytes.length}`,
    );
  }
  // Bytes need no conversion: a copy, so that the caller's buffer can go.
  if (type.bytes === 1 && type.create(0) instanceof Uint8Array) return { shape, values: bytes.slice(header) };
  const values = type.create(length);
  for (let i = 0; i < length; i++) {
    const value = type.read(view, header + i * type.bytes);
    if (!Number.isFinite(value))
      throw new CoveyError('CODEC_TYPE', `"${name}" expected finite values, got ${value} at ${i}`);
    values[i] = value;
  }
  return { shape, values };
}
