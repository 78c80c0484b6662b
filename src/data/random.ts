import { CoveyError } from '../../protocol/errors.ts';

/**
 * Reproducible draws for generated data, public starting points and the order of local minibatches.
 * Not guaranteed: unpredictability. Nothing that protects a record, a share or a mask may come from here.
 */
export interface DataRandom {
  /** Next word of the generator. Units: uniform integer in [0, 2^32). */
  word(): number;
  /** Uniform double in [low, high), on a grid of 2^-53 of the width. */
  uniform(low: number, high: number): number;
  /** Uniform integer in [0, bound) without modulo bias. */
  integer(bound: number): number;
  /** Puts the values in uniformly random order, in place (Fisher-Yates). */
  shuffle(values: Uint32Array): void;
}

/** Steps after seeding until every bit of the seed has reached every bit of the state. */
const WARM_UP = 20;

/**
 * Creates the generator sfc32 (Doty-Humphrey, PractRand) for a seed and the number of an independent stream.
 * Integer operations and exact double arithmetic only, so that every engine draws the same bits.
 * @throws CoveyError USAGE_RANGE unless both are integers in [0, 2^32).
 */
export function createRandom(seed: number, stream: number = 0): DataRandom {
  for (const [name, value] of [
    ['seed', seed],
    ['stream', stream],
  ] as const) {
    // Callers combine seeds with bit operators, which yield signed words: both forms name the same 32 bits.
    if (!Number.isInteger(value) || value < -0x8000_0000 || value > 0xffff_ffff) {
      throw new CoveyError('USAGE_RANGE', `"${name}" expected a 32-bit integer, got ${value}`);
    }
  }
  let a = seed | 0;
  let b = stream | 0;
  let c = 0x9e37_79b9 | 0;
  let counter = 1;
  const word = (): number => {
    const result = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + result) | 0;
    return result >>> 0;
  };
  for (let i = 0; i < WARM_UP; i++) word();
  const unit = (): number => {
    // 27 + 26 bits: every product and sum below is an exact double.
    const high = word() >>> 5;
    return (high * 0x400_0000 + (word() >>> 6)) / 0x20_0000_0000_0000;
  };
  const integer = (bound: number): number => {
    if (!Number.isInteger(bound) || bound < 1 || bound > 0xffff_ffff) {
      throw new CoveyError('USAGE_RANGE', `"bound" expected an integer in [1, 2^32), got ${bound}`);
    }
    const limit = 0x1_0000_0000 - (0x1_0000_0000 % bound);
    let drawn = word();
    while (drawn >= limit) drawn = word();
    return drawn % bound;
  };
  return {
    word,
    uniform: (low, high) => low + (high - low) * unit(),
    integer,
    shuffle: (values) => {
      for (let i = values.length - 1; i > 0; i--) {
        const j = integer(i + 1);
        const moved = values[i] as number;
        values[i] = values[j] as number;
        values[j] = moved;
      }
    },
  };
}
