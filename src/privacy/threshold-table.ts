import { FIRST_PRECISION } from './fixed-point.ts';
import type { RandomWords } from './random-words.ts';
import type { SymmetricLaw } from './symmetric-law.ts';

/** Bits of a draw that the fast path compares; the 32nd bit is the sign. */
const DRAW_BITS = 31;

/** Where the first bits of the thresholds are looked for. Units: bits; doubled where they leave one open. */
const TABLE_PRECISION = 128;

/**
 * Thresholds of the cells of a law. With C_k the normalized cumulative weight of the cells up to k (the infinite tail
 * included), `prefix[k]` is the exact first 31 bits of C_k: a draw u is in the first cell with u < prefix[k]; if it
 * equals a prefix, only `resolve` can tell.
 */
export interface ThresholdTable {
  /** Shapes: ascending, the last is 2^31 - 1. */
  readonly prefix: Int32Array;
  /** Decides the cell of a draw exactly. Random: 225 more bits; twice as many with probability < 2^-200, and so on. */
  resolve(draw: number, random: Pick<RandomWords, 'bits'>): number;
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

/**
 * Builds the table. The tables are functions of public numbers; how far they are computed tells that a draw met a
 * threshold. Cost: about a millisecond per 1,000 cells.
 */
export function buildThresholdTable(law: SymmetricLaw, cellWidth: number, mirrored: boolean): ThresholdTable {
  const precisions = new Map<number, readonly bigint[]>();
  const sumsAt = (bits: number): readonly bigint[] => {
    let sums = precisions.get(bits);
    if (sums === undefined) {
      sums = law.cumulativeWeights(cellWidth, mirrored, bits);
      precisions.set(bits, sums);
    }
    return sums;
  };
  let found: number[] | null = null;
  for (let bits = TABLE_PRECISION; found === null; bits *= 2) found = prefixes(sumsAt(bits), bits);
  return {
    prefix: Int32Array.from(found),
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
