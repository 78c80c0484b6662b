import { CoveyError } from '../../protocol/errors.ts';
import { logPhi } from './normal.ts';

const MOST_EXACT_MU = 2e6;

/**
 * log delta of the Gaussian mechanism at epsilon: delta = Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu), mu = 1/z,
 * as exp(a) (1 - exp(b - a)): the two terms are subtracted as logarithms, so that 1e-30 is as exact as 0.5.
 * @see Balle, Wang 2018, Theorem 8; privacy F2
 */
function gaussianLogDelta(noiseMultiplier: number, epsilon: number): number {
  const mu = 1 / noiseMultiplier;
  const a = logPhi(mu / 2 - epsilon / mu);
  // Epsilon is then of the order of mu^2 / 2, and a difference of two such numbers has no digits left: the first term alone
  // bounds delta, and epsilon to a relative 1e-12.
  if (mu > MOST_EXACT_MU) return a;
  const b = epsilon + logPhi(-mu / 2 - epsilon / mu);
  return b >= a ? Number.NEGATIVE_INFINITY : a + Math.log(-Math.expm1(b - a));
}

/** Exact delta of Gaussian noise at epsilon >= 0. Units: `noiseMultiplier` = deviation / l2 sensitivity. */
export function gaussianDelta(noiseMultiplier: number, epsilon: number): number {
  if (noiseMultiplier === 0) return 1;
  if (epsilon === Number.POSITIVE_INFINITY) return 0;
  return Math.exp(gaussianLogDelta(noiseMultiplier, epsilon));
}

/** Least x >= 0 with f(x) <= 0, for f falling, as the upper end of a bracket of relative width 1e-15. */
function fallingRoot(f: (x: number) => number, start: number): number {
  let high = start;
  while (f(high) > 0) {
    high *= 2;
    if (high > 1e300) throw new CoveyError('USAGE_RANGE', 'no finite value reaches the target');
  }
  let low = high;
  while (low > 1e-300 && f(low) <= 0) {
    high = low;
    low /= 2;
  }
  for (let i = 0; i < 200 && high - low > 1e-15 * high; i++) {
    const middle = (low + high) / 2;
    if (f(middle) <= 0) high = middle;
    else low = middle;
  }
  return high;
}

/** Exact epsilon of Gaussian noise at `delta`. @see privacy F2 */
export function gaussianEpsilon(noiseMultiplier: number, delta: number): number {
  if (noiseMultiplier === 0) return Number.POSITIVE_INFINITY;
  const target = Math.log(delta);
  if (gaussianLogDelta(noiseMultiplier, 0) <= target) return 0;
  return fallingRoot((epsilon) => gaussianLogDelta(noiseMultiplier, epsilon) - target, 1);
}

/** Least noise multiplier of one Gaussian release that is (epsilon, delta)-DP. @see Balle, Wang 2018, Algorithm 1 */
export function gaussianNoiseMultiplier(epsilon: number, delta: number): number {
  const target = Math.log(delta);
  return fallingRoot((noiseMultiplier) => gaussianLogDelta(noiseMultiplier, epsilon) - target, 1);
}
