import { concatBytes, encodeParts, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { loadHadamardKernel } from '../../protocol/kernels/hadamard.ts';
import { transformPlain } from '../../protocol/kernels/hadamard-plain.ts';
import { LABELS } from '../../protocol/labels.ts';

/** Smallest power of two that holds `length` coordinates. */
export function paddedLength(length: number): number {
  let padded = 1;
  while (padded < length) padded *= 2;
  return padded;
}

function assertPowerOfTwo(length: number): void {
  if (length < 1 || paddedLength(length) !== length) {
    throw new CoveyError('USAGE_RANGE', `"length" expected a power of two, got ${length}`, { length });
  }
}

/** One stage of butterflies over pairs `half` apart. */
function stage2(x: Float64Array, half: number): void {
  for (let base = 0; base < x.length; base += 2 * half) {
    for (let i = base; i < base + half; i++) {
      const a = x[i] as number;
      const b = x[i + half] as number;
      x[i] = a + b;
      x[i + half] = a - b;
    }
  }
}

/** Two stages at once; the same additions of the same pairs as `stage2` twice, hence the same bits. */
function stage4(x: Float64Array, quarter: number): void {
  for (let base = 0; base < x.length; base += 4 * quarter) {
    for (let i = base; i < base + quarter; i++) {
      const i1 = i + quarter;
      const i2 = i1 + quarter;
      const i3 = i2 + quarter;
      const a = x[i] as number;
      const b = x[i1] as number;
      const c = x[i2] as number;
      const d = x[i3] as number;
      const ab = a + b;
      const ba = a - b;
      const cd = c + d;
      const dc = c - d;
      x[i] = ab + cd;
      x[i1] = ba + dc;
      x[i2] = ab - cd;
      x[i3] = ba - dc;
    }
  }
}

/** Three stages at once, again with the additions of `stage2`. */
function stage8(x: Float64Array, eighth: number): void {
  for (let base = 0; base < x.length; base += 8 * eighth) {
    for (let i = base; i < base + eighth; i++) {
      const i1 = i + eighth;
      const i2 = i1 + eighth;
      const i3 = i2 + eighth;
      const i4 = i3 + eighth;
      const i5 = i4 + eighth;
      const i6 = i5 + eighth;
      const i7 = i6 + eighth;
      const x0 = x[i] as number;
      const x1 = x[i1] as number;
      const x2 = x[i2] as number;
      const x3 = x[i3] as number;
      const x4 = x[i4] as number;
      const x5 = x[i5] as number;
      const x6 = x[i6] as number;
      const x7 = x[i7] as number;
      const a0 = x0 + x1;
      const a1 = x0 - x1;
      const a2 = x2 + x3;
      const a3 = x2 - x3;
      const a4 = x4 + x5;
      const a5 = x4 - x5;
      const a6 = x6 + x7;
      const a7 = x6 - x7;
      const b0 = a0 + a2;
      const b1 = a1 + a3;
      const b2 = a0 - a2;
      const b3 = a1 - a3;
      const b4 = a4 + a6;
      const b5 = a5 + a7;
      const b6 = a4 - a6;
      const b7 = a5 - a7;
      x[i] = b0 + b4;
      x[i1] = b1 + b5;
      x[i2] = b2 + b6;
      x[i3] = b3 + b7;
      x[i4] = b0 - b4;
      x[i5] = b1 - b5;
      x[i6] = b2 - b6;
      x[i7] = b3 - b7;
    }
  }
}

/**
 * Walsh-Hadamard transform in place, unnormalized: x <- H x with H_ij = (-1)^popcount(i & j).
 * Only additions and subtractions in a fixed order: the same bits on every engine.
 * Shapes: a power of two. @throws CoveyError USAGE_RANGE for any other length.
 */
export function transformWalshHadamard(x: Float64Array): void {
  assertPowerOfTwo(x.length);
  let half = 1;
  for (; 8 * half <= x.length; half *= 8) stage8(x, half);
  if (4 * half === x.length) stage4(x, half);
  else if (2 * half === x.length) stage2(x, half);
}

/**
 * Rotates a block in place: x <- (1/sqrt(D)) H (signs o x). Orthogonal, so the norm is kept whatever the signs are: no
 * privacy claim rests on them.
 * Shapes: both of length D, a power of two. @see privacy F15; Kairouz, Liu, Steinke 2021
 */
export function rotateBlock(values: Float64Array, signs: Int8Array): void {
  assertSameLength(values, signs);
  for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) * (signs[i] as number);
  transformWalshHadamard(values);
  const norm = 1 / Math.sqrt(values.length);
  for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) * norm;
}

/** Undoes `rotateBlock` up to rounding of doubles: x <- signs o (1/sqrt(D)) H x. */
export function unrotateBlock(values: Float64Array, signs: Int8Array): void {
  assertSameLength(values, signs);
  transformWalshHadamard(values);
  const norm = 1 / Math.sqrt(values.length);
  for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) * norm * (signs[i] as number);
}

function assertSameLength(values: Float64Array, signs: Int8Array): void {
  if (values.length !== signs.length) {
    throw new CoveyError('USAGE_RANGE', `"signs" expected ${values.length} elements, got ${signs.length}`);
  }
}

/** Floats in which blocks lie one after the other to be transformed in place. */
export interface RotationWorkspace {
  /** Good until the next workspace is asked for. */
  readonly values: Float32Array;
  /** Transforms a block of `values`, unnormalized. Shapes: `length` a power of two. Units: `from` in floats. */
  transform(from: number, length: number): void;
}

/** The plain loops: fallback and oracle. Shapes: `length` floats, all blocks together. */
export function plainWorkspace(length: number): RotationWorkspace {
  const values = new Float32Array(length);
  return { values, transform: (from, size) => transformPlain(values.subarray(from, from + size)) };
}

/**
 * The memory of the SIMD kernel where the engine has one, else the plain loops; the same bits.
 * Shapes: `length` floats, all blocks together. Not guaranteed: what the memory holds at the start.
 */
export function rotationWorkspace(length: number): RotationWorkspace {
  const kernel = loadHadamardKernel();
  const values = kernel?.reserve(length) ?? null;
  if (kernel === null || values === null) return plainWorkspace(length);
  return {
    values,
    transform(from, size) {
      if (size < kernel.minLength) transformPlain(values.subarray(from, from + size));
      else kernel.transform(from, size);
    },
  };
}

/**
 * How far rotation in floats may move the norm of a block, relative to it. One stage gives s + e with |e_i| <= u |s_i| for
 * the exact s, hence a norm within 1 -+ u of its own; log2(D) stages and the rounding of the input make
 * (1 + u)^(log2(D) + 1) - 1, u = 2^-24. One u more covers the second-order terms, the doubles around the transform
 * and values below the floats' range (at most 2^-150 each, of a vector whose norm is 1).
 * Shapes: `length` D, a power of two up to 2^28. @see Higham, Accuracy and Stability of Numerical Algorithms, section 2.2
 */
export function rotationError(length: number): number {
  const stages = 31 - Math.clz32(length);
  return (stages + 2) * 2 ** -24;
}

/**
 * Expands the public seed of a session to the signs of one block: bit i of the AES-256-CTR stream (least significant bit
 * first) under a key bound to the segment's name; 1 means -1.
 * Shapes: `seed` 32 bytes.
 */
export function rotationSigns(crypto: CryptoProvider, seed: Uint8Array, segment: string, length: number): Int8Array {
  const info = concatBytes(utf8(LABELS.rotationSigns), encodeParts([utf8(segment)]));
  const bytes = new Uint8Array(Math.ceil(length / 8));
  crypto.aes256Ctr(crypto.hkdfSha256(seed, new Uint8Array(0), info, 32)).read(bytes);
  const signs = new Int8Array(length);
  for (let i = 0; i < length; i++) signs[i] = 1 - 2 * (((bytes[i >> 3] as number) >> (i & 7)) & 1);
  return signs;
}
