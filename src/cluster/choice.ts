import type { KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { expNegative, rationalOf } from '../privacy/fixed-point.ts';
import { RandomWords } from '../privacy/random-words.ts';

/** Bits of the weights and of the draw: what rounding adds to the probabilities is below 2^-180 (a part of delta). */
const WEIGHT_BITS = 192;
/** Grid of the scores. Units: steps per sensitivity. */
const GRID = 0x10_0000;
/** What a record moves a gridded score by at most: `GRID` for sums of gridded losses, two steps more for any other score. */
const GRID_SENSITIVITY = BigInt(GRID + 2);

/**
 * Score of a slot: minus the **sum** of the losses clipped to [0, bound]; a mean would bring the private number of records
 * in. A loss that is not a number counts as the bound, so one record moves a score by at most the bound, and downward.
 * Each loss is put on the grid by itself: sums of up to 2^30 losses are exact, whatever their order. @see privacy 3.4
 */
export function clippedLossScore(losses: Float64Array, bound: number): number {
  let steps = 0;
  for (const loss of losses) steps += loss < bound ? Math.round((Math.max(loss, 0) / bound) * GRID) : GRID;
  return -((steps / GRID) * bound);
}

/**
 * Exponential mechanism: picks j with probability proportional to exp(epsilon q_j / B) if all scores move one way
 * (`monotone`, add-remove), else exp(epsilon q_j / (2B)); B is the most by which a record moves a score.
 * Scores are put on a grid of B / 2^20, which gives back what `clippedLossScore` has summed there, and everything after is
 * integer arithmetic with the sensitivity enlarged by two steps, so that no rounding of floats exceeds the charge.
 * Random: one draw of 192 bits. Secrets: the choice. Not guaranteed: constant time.
 * @throws CoveyError USAGE_RANGE for scores that are not finite or an epsilon or sensitivity that is not positive.
 * @see privacy F21
 */
export function chooseByExponentialMechanism(
  scores: Float64Array,
  epsilon: number,
  sensitivity: number,
  monotone: boolean,
  stream: KeyStream,
): number {
  if (scores.length === 0 || !scores.every(Number.isFinite)) {
    throw new CoveyError('USAGE_RANGE', '"scores" expected finite numbers');
  }
  if (!(epsilon > 0 && sensitivity > 0)) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"epsilon" expected a positive number, got ${epsilon} for sensitivity ${sensitivity}`,
    );
  }
  const steps = Array.from(scores, (score) => BigInt(Math.round((score / sensitivity) * GRID)));
  const best = steps.reduce((most, step) => (step > most ? step : most));
  const factor = rationalOf(epsilon);
  const denominator = factor.denominator * GRID_SENSITIVITY * (monotone ? 1n : 2n);
  const weights = steps.map((step) => {
    const numerator = (best - step) * factor.numerator;
    // Far below the last bit of the weights: the chance rounds to nothing.
    return numerator > BigInt(WEIGHT_BITS) * denominator ? 0n : expNegative({ numerator, denominator }, WEIGHT_BITS);
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

/**
 * The n best of the slots by n draws of the exponential mechanism, each among those that are left: n charges of `epsilon`
 * (FLSC at unit `record`). `streamOf`: a fresh keystream for each draw. @see privacy 3.4, F21
 */
export function chooseSeveralByExponentialMechanism(
  scores: Float64Array,
  draws: number,
  epsilon: number,
  sensitivity: number,
  monotone: boolean,
  streamOf: (draw: number) => KeyStream,
): number[] {
  const left = Array.from(scores, (_, slot) => slot);
  return Array.from({ length: draws }, (_, draw) => {
    const among = Float64Array.from(left, (slot) => scores[slot] as number);
    const at = chooseByExponentialMechanism(among, epsilon, sensitivity, monotone, streamOf(draw));
    return left.splice(at, 1)[0] as number;
  });
}

/**
 * The slot of lowest summed training loss (IFCA, Ghosh 2020); ties go to the lower slot.
 * Not private at unit `record`: there use the exponential mechanism. Free in hidden slots at unit `participant`.
 */
export function chooseLowestLoss(losses: readonly Float64Array[]): number {
  const totals = losses.map((values) => values.reduce((sum, loss) => sum + loss, 0));
  let best = 0;
  totals.forEach((total, slot) => {
    if (total < (totals[best] ?? Number.POSITIVE_INFINITY)) best = slot;
  });
  return best;
}
