/**
 * Inversion of a law on the integers that is symmetric about zero. A draw is a 32-bit word: its upper 31 bits against
 * ascending 31-bit thresholds of which the last is 2^31 - 1, its lowest bit the sign. The number of thresholds below
 * the draw is the magnitude. A draw that equals a threshold needs more digits, which is not decided here.
 */
export interface Inversion {
  /**
   * Adds signed draws of words[at, ...), one word each, to target[from, to), modulo 2^32. Returns where it stopped: at
   * `to`, or earlier, at the latest in front of a draw that equals a threshold; the next draw is then made by `one`.
   */
  run(words: Uint32Array, at: number, target: Int32Array, from: number, to: number): number;
  /** Magnitude of one 31-bit draw, or -1 if it equals a threshold. */
  one(draw: number): number;
}

/**
 * Cells of 2^offsetBits magnitudes, two words a draw: the upper bits of the second are compared with the limit of the
 * cell, its lower ones are the offset in it.
 */
export interface CellSpec {
  readonly thresholds: Int32Array;
  /** Shapes: one a cell. Bits below it accept every offset. */
  readonly limits: Int32Array;
  readonly offsetBits: number;
}

/**
 * Adds signed draws of cells as `Inversion.run` does, from two words each. Stops at `to`, or earlier, at the latest in
 * front of a draw that equals a threshold, is not below its limit, or is zero.
 */
export type CellRun = Inversion['run'];

/** Halves the table for the cell of every draw. */
export function cellsPlain({ thresholds, limits, offsetBits }: CellSpec): CellRun {
  const { one } = searchPlain(thresholds);
  const offsetMask = 2 ** offsetBits - 1;
  return (words, at, target, from, to) => {
    for (let i = from, w = at; i < to; i++, w += 2) {
      const word = (words[w] as number) | 0;
      const fine = (words[w + 1] as number) | 0;
      const k = one(word >>> 1);
      if (k < 0) return i;
      const x = (k << offsetBits) + (fine & offsetMask);
      if (fine >>> offsetBits >= (limits[k] as number) || x === 0) return i;
      const mask = -(word & 1);
      target[i] = ((target[i] as number) + ((x ^ mask) - mask)) | 0;
    }
    return to;
  };
}

/**
 * Compares with every threshold: neither an address nor a length depends on the draw, and the only branch is on whether
 * it equals a threshold. Not guaranteed: that an engine compiles the comparisons without branches of its own.
 */
export function scanPlain(thresholds: Int32Array): Inversion {
  const one = (draw: number): number => {
    let below = 0;
    let distinct = -1;
    for (let j = 0; j < thresholds.length; j++) {
      // Both are below 2^31: the difference fits, and d | -d has its top bit set unless d is 0.
      const d = ((thresholds[j] as number) - draw) | 0;
      below = (below - (d >> 31)) | 0;
      distinct &= (d | -d) >> 31;
    }
    return distinct === 0 ? -1 : below;
  };
  return { one, run: runSingly(one) };
}

/** Thresholds padded with the last one to a power of two. */
export function padThresholds(thresholds: Int32Array): Int32Array {
  let size = 2;
  while (size < thresholds.length) size *= 2;
  const padded = new Int32Array(size).fill(2 ** 31 - 1);
  padded.set(thresholds);
  return padded;
}

/** Halves the table as many times for every draw. Not guaranteed: which addresses it reads depends on the draw. */
export function searchPlain(thresholds: Int32Array): Inversion {
  const padded = padThresholds(thresholds);
  const one = (draw: number): number => {
    let k = 0;
    for (let h = padded.length >> 1; h > 0; h >>= 1) k += h & (((padded[k + h - 1] as number) - draw) >> 31);
    return padded[k] === draw ? -1 : k;
  };
  return { one, run: runSingly(one) };
}

function runSingly(one: (draw: number) => number): Inversion['run'] {
  return (words, at, target, from, to) => {
    for (let i = from, w = at; i < to; i++, w++) {
      const word = (words[w] as number) | 0;
      const k = one(word >>> 1);
      if (k < 0) return i;
      const mask = -(word & 1);
      target[i] = ((target[i] as number) + ((k ^ mask) - mask)) | 0;
    }
    return to;
  };
}
