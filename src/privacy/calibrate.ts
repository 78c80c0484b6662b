import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import { type Accountant, type Budget, rdpAccountant } from './accountant.ts';
import type { DpEvent } from './events.ts';

/** A schedule: what is released, and how often. */
export type Schedule = readonly { readonly event: DpEvent; readonly count: number }[];

const RELATIVE_WIDTH = 1e-6;
const MAX_NOISE_MULTIPLIER = 2 ** 40;
const MIN_NOISE_MULTIPLIER = 2 ** -40;

/**
 * Least noise multiplier, to a relative 1e-6, for which the schedule stays within epsilon at delta; the value returned
 * was itself evaluated, so epsilon <= target holds for it exactly as an accountant will compute it.
 *
 * A multiplier whose events are refused (for example shares below 1.5 integer units) counts as too little noise.
 * @throws CoveyError PRIVACY_BUDGET if no noise is enough, because other events of the schedule cost too much;
 * USAGE_RANGE for a target that is not one.
 */
export function calibrateNoiseMultiplier(
  target: Budget,
  build: (noiseMultiplier: number) => Schedule,
  accountant: Accountant = rdpAccountant(),
): number {
  if (!(target.epsilon > 0 && target.epsilon < Number.POSITIVE_INFINITY)) {
    throw new CoveyError('USAGE_RANGE', `"epsilon" expected a finite number > 0, got ${target.epsilon}`);
  }
  // log(epsilon / target) over log z is nearly a line, falling: secants find its zero in a few steps.
  const excess = (noiseMultiplier: number): number => {
    let composed = accountant;
    try {
      for (const { event, count } of build(noiseMultiplier)) composed = composed.compose(event, count);
    } catch (error) {
      if (isCoveyError(error, 'PRIVACY_UNSUPPORTED_EVENT') || isCoveyError(error, 'PRIVACY_NOISE'))
        return Number.POSITIVE_INFINITY;
      throw error;
    }
    const epsilon = composed.epsilon(target.delta);
    // `<= target` decides; rounding of the logarithm must not turn an excess into a fit.
    return epsilon <= target.epsilon
      ? Math.min(0, Math.log(epsilon / target.epsilon))
      : Math.max(5e-17, Math.log(epsilon / target.epsilon));
  };
  let high = 1;
  let highExcess = excess(high);
  let low = high;
  let lowExcess = highExcess;
  while (highExcess > 0) {
    [low, lowExcess] = [high, highExcess];
    high *= 2;
    if (high > MAX_NOISE_MULTIPLIER) {
      throw new CoveyError(
        'PRIVACY_BUDGET',
        `"epsilon" expected a target that noise can reach, got ${target.epsilon}`,
        {
          epsilon: target.epsilon,
          delta: target.delta,
        },
      );
    }
    highExcess = excess(high);
  }
  while (lowExcess <= 0) {
    [high, highExcess] = [low, lowExcess];
    low /= 2;
    if (low < MIN_NOISE_MULTIPLIER) {
      throw new CoveyError('USAGE_RANGE', '"build" expected a schedule whose cost depends on the noise multiplier');
    }
    lowExcess = excess(low);
  }
  // Illinois method: regula falsi that halves the weight of an end that stays twice, with bisection as a safeguard.
  let [lowWeight, highWeight] = [lowExcess, highExcess];
  let lastMoved: 'low' | 'high' | null = null;
  for (let i = 1; high - low > RELATIVE_WIDTH * high; i++) {
    const [a, b] = [Math.log(low), Math.log(high)];
    const secant = b - (highWeight * (b - a)) / (highWeight - lowWeight);
    // Away from the ends, so that a secant that hits the root closes the bracket around it from both sides.
    const guarded = Math.min(b - RELATIVE_WIDTH / 3, Math.max(a + RELATIVE_WIDTH / 3, secant));
    const middle = Math.exp(Number.isFinite(secant) && i % 6 !== 0 ? guarded : (a + b) / 2);
    const value = excess(middle);
    if (value > 0) {
      [low, lowWeight] = [middle, value];
      if (lastMoved === 'low') highWeight /= 2;
      lastMoved = 'low';
    } else {
      [high, highWeight] = [middle, value];
      if (lastMoved === 'high') lowWeight /= 2;
      lastMoved = 'high';
    }
  }
  return high;
}
