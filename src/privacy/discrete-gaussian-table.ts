import { expNegative, FIRST_PRECISION, GUARD_BITS, type Rational } from './fixed-point.ts';
import type { RandomWords } from './random-words.ts';

/** Bits of a draw that the fast path compares; the 32nd bit is the sign. */
export const DRAW_BITS = 31;

/**
 * Half-line table of the cells of a discrete Gaussian: cell k stands for the magnitudes m*k ... m*k + m - 1 and has
 * weight exp(-(m*k)^2 / (2 * variance)), doubled for k > 0 if `mirrored` (both signs in one cell, m = 1 only).
 * With C_k the normalized cumulative weight (the infinite tail included), `prefix[k]` is the exact first 31 bits of
 * C_k: a draw u is in the first cell with u < prefix[k]; if it equals a prefix, only `resolve` can tell.
 */
export interface CellTable {
  /** Shapes: ascending, the last is 2^31 - 1. */
  readonly prefix: Int32Array;
  /**
   * For the draws that start with the bits of b: their cell if they all fall into one (and none hits a prefix), else
   * ~k with k the first cell whose prefix is not below them all, from which to scan.
   */
  readonly guide: Int16Array;
  readonly guideShift: number;
  /** Decides the cell of a draw exactly. Random: 225 more bits; twice as many with probability < 2^-200, and so on. */
  resolve(draw: number, random: Pick<RandomWords, 'bits'>): number;
}

/**
 * Cumulative weights: integers c_k with |c_k - 2^bits * C_k| < 2, k from 0 until the weight is below 2^-(bits+64).
 *
 * w_{k+1} = w_k * s_k with s_k = q^(2k+1), q = exp(-m^2 / (2 * variance)), everything rounded down at bits + 64 bits.
 * Units of the last place: q is off by < 2, s_k by < 4 (2k+1), w_k by < 4 (k+1)^2, a sum of K weights (doubled) by
 * < 8 (K+1)^3. The tail that is left out starts below that error and shrinks by a constant factor: K <= 2^13 cells (of
 * at least stddev / 128, to beyond 40 stddev) leave < 2^50 of the 2^64 that make up one unit of c_k.
 */
export function cumulativeWeights(variance: Rational, cellWidth: number, mirrored: boolean, bits: number): bigint[] {
  const work = BigInt(bits + GUARD_BITS);
  const m = BigInt(cellWidth);
  const q = expNegative(
    { numerator: m * m * variance.denominator, denominator: 2n * variance.numerator },
    Number(work),
  );
  const qq = (q * q) >> work;
  const sums: bigint[] = [];
  let total = 0n;
  let step = q;
  for (let weight = 1n << work; weight > 0n; weight = (weight * step) >> work, step = (step * qq) >> work) {
    total += mirrored && sums.length > 0 ? 2n * weight : weight;
    sums.push(total);
  }
  return sums.map((sum) => (sum << BigInt(bits)) / total);
}

/** First 31 bits of each C_k, or null if `sums` cannot tell one of them for certain. */
function prefixes(sums: readonly bigint[], bits: number): number[] | null {
  const shift = BigInt(bits - DRAW_BITS);
  const last = 2 ** DRAW_BITS - 1;
  const out: number[] = [];
  for (const sum of sums) {
    const low = Number((sum - 2n) >> shift);
    const high = Number((sum + 2n) >> shift);
    // From the first C_k that starts with 31 ones on, every draw that could be meant equals the prefix.
    if (low >= last) {
      out.push(last);
      return out;
    }
    if (low !== high) return null;
    out.push(low);
  }
  return null;
}

/** Builds the table. Cost: about a millisecond per 1,000 cells. */
export function buildCellTable(variance: Rational, cellWidth: number, mirrored: boolean): CellTable {
  const precisions = new Map<number, readonly bigint[]>();
  const sumsAt = (bits: number): readonly bigint[] => {
    let sums = precisions.get(bits);
    if (sums === undefined) {
      sums = cumulativeWeights(variance, cellWidth, mirrored, bits);
      precisions.set(bits, sums);
    }
    return sums;
  };
  let found: number[] | null = null;
  for (let bits = FIRST_PRECISION; found === null; bits *= 2) found = prefixes(sumsAt(bits), bits);
  const prefix = Int32Array.from(found);
  let guideBits = 10;
  while (guideBits < 13 && 2 ** guideBits < 16 * prefix.length) guideBits += 1;
  const guideShift = DRAW_BITS - guideBits;
  const guide = new Int16Array(2 ** guideBits);
  for (let b = 0, k = 0; b < guide.length; b++) {
    while ((prefix[k] as number) < b * 2 ** guideShift) k += 1;
    guide[b] = (prefix[k] as number) < (b + 1) * 2 ** guideShift ? ~k : k;
  }
  return {
    prefix,
    guide,
    guideShift,
    resolve(draw, random) {
      let u = BigInt(draw);
      let have = DRAW_BITS;
      for (let bits = FIRST_PRECISION; ; bits *= 2) {
        u = (u << BigInt(bits - have)) | random.bits(bits - have);
        have = bits;
        const sums = sumsAt(bits);
        // First cell with u certainly below C_k; the draw belongs to it if u is certainly not below C_{k-1}.
        let low = 0;
        let high = sums.length;
        while (low < high) {
          const middle = (low + high) >> 1;
          if (u + 1n <= (sums[middle] as bigint) - 2n) high = middle;
          else low = middle + 1;
        }
        if (low < sums.length && (low === 0 || u >= (sums[low - 1] as bigint) + 2n)) return low;
      }
    },
  };
}
