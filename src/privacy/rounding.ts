import type { KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { RandomWords } from './random-words.ts';

/** Bound on the l2 norm of a conditionally rounded vector. One integer serves the check and the accounting. */
export interface RoundingBound {
  /** floor of the squared bound. Units: squared integer units; below 2^53. */
  readonly squaredNorm: number;
  /** Square root of `squaredNorm`, rounded up: what is charged (zero-out). Units: integer units. */
  readonly sensitivity: number;
}

/** Attempts before rounding toward zero; each is refused with probability at most exp(-1/2) (64 of them: 2e-14). */
const MAX_ROUNDING_ATTEMPTS = 64;

/**
 * Bound that randomized rounding of a vector of norm `scaledNorm` keeps with probability at least 1 - beta, beta =
 * exp(-1/2): (sC)^2 + d/4 + sqrt(2 ln(1/beta)) (sC + sqrt(d)/2). It is below the sure bound (sC + sqrt(d))^2 for every
 * d >= 1, as 2 sC sqrt(d) >= sC and 3d/4 > sqrt(d)/2.
 * Shapes: `dimension` d counts all coordinates, padding included.
 * @throws CoveyError USAGE_RANGE if the bound does not fit exact arithmetic in doubles.
 * @see privacy F13; Kairouz, Liu, Steinke 2021, section 4
 */
export function contributionBound(scaledNorm: number, dimension: number): RoundingBound {
  // sqrt(2 ln(1/beta)) = 1
  const squaredNorm = Math.floor(scaledNorm ** 2 + dimension / 4 + (scaledNorm + Math.sqrt(dimension) / 2));
  if (!(squaredNorm >= 1 && squaredNorm < 2 ** 53)) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"scaledNorm" expected a bound below 2^53 when squared, got ${scaledNorm} in ${dimension} dimensions`,
    );
  }
  let sensitivity = Math.sqrt(squaredNorm);
  // The charged root is never below the exact one; the square may round either way.
  if (sensitivity * sensitivity <= squaredNorm && !Number.isInteger(sensitivity)) sensitivity *= 1 + 2 ** -52;
  return { squaredNorm, sensitivity };
}

/** Exact sum of squares of integers below 2^31 as long as it is below 2^53, and at least 2^53 otherwise. */
function squaredIntegerNorm(values: Int32Array): number {
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += (values[i] as number) * (values[i] as number);
  return squares;
}

/**
 * Rounds values times `factor` up with the probability of their fraction, else down: floor(x + U), U = 1 - word / 2^32.
 * Shapes: `rounded` as `values`; overflow wraps. Random: one word a value.
 */
export function roundRandomly(
  rounded: Int32Array,
  values: Float64Array,
  factor: number,
  random: Pick<RandomWords, 'at' | 'refill' | 'words'>,
): void {
  const { words } = random;
  for (let i = 0; i < values.length; ) {
    if (random.at === words.length) random.refill();
    let at = random.at;
    for (const end = Math.min(values.length, i + words.length - at); i < end; i++) {
      const value = (values[i] as number) * factor;
      const below = Math.floor(value);
      rounded[i] = below + ((words[at++] as number) < (value - below) * 2 ** 32 ? 1 : 0);
    }
    random.at = at;
  }
}

/**
 * Rounds every coordinate up with the probability of its fraction, again until the exact integer norm is within `bound`;
 * after 64 attempts toward zero, checked again; at last the zero vector. No output ever exceeds the bound.
 * Random: one word a coordinate and attempt; a probability is off by less than 2^-32 (bias, not privacy).
 * Secrets: `scaled`. Not guaranteed: the number of attempts depends on the values.
 * @see privacy F13
 */
export function roundContribution(scaled: Float64Array, bound: RoundingBound, stream: KeyStream): Int32Array {
  const random = new RandomWords(stream, scaled.length);
  const rounded = new Int32Array(scaled.length);
  const fits = (): boolean => squaredIntegerNorm(rounded) <= bound.squaredNorm;
  let accepted = false;
  for (let attempt = 0; attempt < MAX_ROUNDING_ATTEMPTS && !accepted; attempt++) {
    roundRandomly(rounded, scaled, 1, random);
    accepted = fits();
  }
  random.wipe();
  if (accepted) return rounded;
  for (let i = 0; i < scaled.length; i++) rounded[i] = Math.trunc(scaled[i] as number);
  return fits() ? rounded : rounded.fill(0);
}
