import { CoveyError } from '../../../protocol/errors.ts';
import { logPhi } from '../../privacy/normal.ts';
import { assertSignificance } from './binomial.ts';

/** A normal law. Units: those of the cosine. */
export interface NormalLaw {
  readonly mean: number;
  readonly stddev: number;
}

/** Mass of `law` in [from, to], as a difference of the smaller tails. */
function mass({ mean, stddev }: NormalLaw, from: number, to: number): number {
  const [a, b] = [(from - mean) / stddev, (to - mean) / stddev];
  return a > 0 ? Math.exp(logPhi(-a)) - Math.exp(logPhi(-b)) : Math.exp(logPhi(b)) - Math.exp(logPhi(a));
}

/** Where log p(x) - log q(x) > epsilon: at most two intervals, by the roots of a quadratic. */
function likelierThan(p: NormalLaw, q: NormalLaw, epsilon: number): readonly (readonly [number, number])[] {
  const [vp, vq] = [p.stddev ** 2, q.stddev ** 2];
  // log p - log q - epsilon = a x^2 + b x + c
  const a = 1 / (2 * vq) - 1 / (2 * vp);
  const b = p.mean / vp - q.mean / vq;
  const c = q.mean ** 2 / (2 * vq) - p.mean ** 2 / (2 * vp) + Math.log(q.stddev / p.stddev) - epsilon;
  const everywhere = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY] as const;
  if (Math.abs(a) <= 1e-12 / vq) {
    if (b === 0) return c > 0 ? [everywhere] : [];
    return b > 0 ? [[-c / b, everywhere[1]]] : [[everywhere[0], -c / b]];
  }
  const discriminant = b * b - 4 * a * c;
  if (discriminant <= 0) return a > 0 ? [everywhere] : [];
  // The larger root in size first: no cancellation.
  const large = -(b + (b < 0 ? -1 : 1) * Math.sqrt(discriminant)) / 2;
  const roots = [large / a, large === 0 ? 0 : c / large].sort((x, y) => x - y) as [number, number];
  return a < 0
    ? [roots]
    : [
        [everywhere[0], roots[0]],
        [roots[1], everywhere[1]],
      ];
}

/** Hockey-stick divergence: integral of the positive part of p - e^epsilon q. */
export function hockeyStick(p: NormalLaw, q: NormalLaw, epsilon: number): number {
  return likelierThan(p, q, epsilon).reduce(
    (sum, [from, to]) => sum + mass(p, from, to) - Math.exp(epsilon) * mass(q, from, to),
    0,
  );
}

/** Least epsilon at which both directions of the divergence are at most delta. @throws CoveyError USAGE_RANGE */
export function epsilonBetween(p: NormalLaw, q: NormalLaw, delta: number): number {
  if (!(p.stddev > 0 && q.stddev > 0 && delta > 0 && delta < 1))
    throw new CoveyError(
      'USAGE_RANGE',
      `"stddev" and "delta" expected positive, got ${p.stddev}, ${q.stddev}, ${delta}`,
    );
  const exceeds = (epsilon: number): boolean =>
    Math.max(hockeyStick(p, q, epsilon), hockeyStick(q, p, epsilon)) > delta;
  if (!exceeds(0)) return 0;
  let [low, high] = [0, 1];
  while (exceeds(high) && high < 700) [low, high] = [high, Math.min(700, 2 * high)];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (exceeds(middle)) low = middle;
    else high = middle;
  }
  return low;
}

export interface OneShotAudit {
  /** Cosines of canaries that took part, as fitted. */
  readonly fitted: NormalLaw;
  /** Cosines of canaries that did not: N(0, 1/d), known without a run. */
  readonly unobserved: NormalLaw;
  /** The estimate of the method: no confidence statement. */
  readonly epsilonEstimate: number;
  /** Least epsilon over the confidence box of mean and deviation: a bound if the cosines are normal. */
  readonly epsilonLowerBound: number;
}

/** z with Phi(z) = p, by bisection; p in (0, 1). */
function normalQuantile(p: number): number {
  let [low, high] = [-40, 40];
  for (let i = 0; i < 80; i++) {
    const middle = (low + high) / 2;
    if (logPhi(middle) < Math.log(p)) low = middle;
    else high = middle;
  }
  return low;
}

/**
 * One-shot audit of a federated run with k canary participants, each a random direction in d dimensions: their cosines
 * with the released sum against those of directions that nobody sent.
 * Assumes: cosines are independent and normal (d much larger than k^2 in the paper; k interacting canaries widen the
 * fitted law). The box takes four limits at a quarter of `significance` each, by normal and Wilson-Hilferty quantiles.
 * @throws CoveyError USAGE_RANGE for fewer than 8 canaries. @see Andrew et al. 2023, Algorithm 2; privacy F25
 */
export function auditOneShot(
  cosines: readonly number[],
  dimension: number,
  delta: number,
  significance: number,
): OneShotAudit {
  assertSignificance(significance);
  const k = cosines.length;
  if (k < 8) throw new CoveyError('USAGE_RANGE', `"canaries" expected at least 8 participants, got ${k}`);
  const mean = cosines.reduce((sum, value) => sum + value, 0) / k;
  const variance = cosines.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (k - 1);
  const fitted = { mean, stddev: Math.sqrt(variance) };
  const unobserved = { mean: 0, stddev: 1 / Math.sqrt(dimension) };
  const z = normalQuantile(1 - significance / 4);
  // Wilson-Hilferty: chi-square_f quantile = f (1 - 2/(9f) +- z sqrt(2/(9f)))^3.
  const f = k - 1;
  const chiSquare = (side: number): number => f * (1 - 2 / (9 * f) + side * z * Math.sqrt(2 / (9 * f))) ** 3;
  const widest = Math.sqrt((variance * f) / chiSquare(-1));
  const narrowest = Math.sqrt((variance * f) / chiSquare(1));
  const nearest = Math.sign(mean) * Math.max(0, Math.abs(mean) - (z * widest) / Math.sqrt(k));
  // The deviation that makes the laws hardest to tell apart is inside the box, so it is searched, not only its corners.
  const deviations = Array.from({ length: 33 }, (_, i) => narrowest * (widest / narrowest) ** (i / 32));
  deviations.push(Math.min(widest, Math.max(narrowest, unobserved.stddev)));
  const bounds = deviations.map((stddev) => epsilonBetween({ mean: nearest, stddev }, unobserved, delta));
  return {
    fitted,
    unobserved,
    epsilonEstimate: epsilonBetween(fitted, unobserved, delta),
    epsilonLowerBound: Math.min(...bounds),
  };
}
