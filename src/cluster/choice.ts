import type { KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { expNegative, rationalOf } from '../privacy/fixed-point.ts';
import { RandomWords } from '../privacy/random-words.ts';

/** Bits of the weights and of the draw: what rounding adds to the probabilities is below 2^-180. */
const WEIGHT_BITS = 192;

/**
 * Exponential mechanism: picks j with probability proportional to exp(epsilon q_j / B) if all scores move one way
 * (`monotone`, add-remove), else exp(epsilon q_j / (2B)); B is the most by which a record moves a score.
 * Random: one draw of 192 bits. Not guaranteed: constant time. @throws CoveyError USAGE_RANGE
 * @see privacy F21
 */
export function chooseByExponentialMechanism(
  scores: Float64Array,
  epsilon: number,
  sensitivity: number,
  monotone: boolean,
  stream: KeyStream,
): number {
  if (scores.length === 0 || !scores.every(Number.isFinite))
    throw new CoveyError('USAGE_RANGE', '"scores" expected finite numbers');
  if (!(epsilon > 0 && sensitivity > 0))
    throw new CoveyError('USAGE_RANGE', `"epsilon" expected a positive number, got ${epsilon}`);
  const best = scores.reduce((max, score) => Math.max(max, score), Number.NEGATIVE_INFINITY);
  const factor = epsilon / (monotone ? sensitivity : 2 * sensitivity);
  const weights = Array.from(scores, (score) => {
    const y = (best - score) * factor;
    // Far below the last bit of the weights: the chance rounds to nothing.
    return y > WEIGHT_BITS ? 0n : expNegative(rationalOf(y), WEIGHT_BITS);
  });
  const total = weights.reduce((sum, weight) => sum + weight, 0n);
  const words = new RandomWords(stream, 16);
  // Rejection gives an exactly uniform draw below the total.
  const bits = total.toString(2).length;
  let drawn = words.bits(bits);
  while (drawn >= total) drawn = words.bits(bits);
  words.wipe();
  let chosen = 0;
  while (drawn >= (weights[chosen] as bigint)) {
    drawn -= weights[chosen] as bigint;
    chosen += 1;
  }
  return chosen;
}
