import { logSumExp } from './log-math.ts';

/**
 * Renyi divergences of single mechanisms, as functions of the order alpha > 1.
 * Symbols are those of the cited papers; sampling is in rdp-sampling.ts, composition in accountant.ts.
 */

/** alpha / (2 z^2). @see Mironov 2017, Proposition 7; privacy F1 */
export function gaussianRdp(order: number, noiseMultiplier: number): number {
  return order / (2 * noiseMultiplier * noiseMultiplier);
}

/** Laplace noise of scale 1/epsilon per unit of l1 sensitivity. @see Mironov 2017, Proposition 6; privacy F21 */
export function laplaceRdp(order: number, epsilon: number): number {
  const tail = ((order - 1) * Math.expm1((1 - 2 * order) * epsilon)) / (2 * order - 1);
  // The two terms cancel for small epsilon; the true value is never negative.
  return Math.max(0, epsilon + Math.log1p(tail) / (order - 1));
}

/** Discrete Laplace noise P(x) proportional to e^{-a |x|}, moved by v: losses a (v - 2j), j = 0..v, summed exactly. */
export function discreteLaplaceRdp(order: number, a: number, shift: number): number {
  const logTail = -Math.log1p(Math.exp(-a));
  const logCentre = logTail + Math.log(-Math.expm1(-a));
  const terms: number[] = [];
  for (let j = 0; j <= shift; j++) {
    const logMass = j === 0 ? logTail : j === shift ? logTail - a * shift : logCentre - a * j;
    terms.push(logMass + (order - 1) * a * (shift - 2 * j));
  }
  return Math.max(0, logSumExp(terms) / (order - 1));
}

/**
 * min(epsilon, KL + (alpha-1) epsilon^2 / 8): the privacy loss of the exponential mechanism has range epsilon, so its
 * deviation from its mean is subgaussian (Hoeffding), and its mean is at most KL = x - 1 - log x, x = eps/(e^eps - 1).
 * KL <= epsilon^2 / 8, which gives the zCDP bound alpha epsilon^2 / 8.
 * @see Dong, Durfee, Rogers 2020; Cesar, Rogers 2021; privacy F21
 */
export function exponentialMechanismRdp(order: number, epsilon: number): number {
  const eighth = (epsilon * epsilon) / 8;
  // x - 1 - log x cancels near 1; below 0.01 the bound on it is as good to 2e-6.
  const x = epsilon / Math.expm1(epsilon);
  const divergence = epsilon < 0.01 ? eighth : Math.min(eighth, x - 1 - Math.log(x));
  return Math.min(epsilon, divergence + (order - 1) * eighth);
}

/**
 * Randomized response over `buckets` values, of which the true one is replaced by a uniform draw with probability
 * `noiseParameter`. Under zero-out the neighbour reports a uniform bucket; the worse of both directions is returned.
 * @see Mironov 2017, Proposition 5 (two buckets)
 */
export function randomizedResponseRdp(
  order: number,
  noiseParameter: number,
  buckets: number,
  relation: 'zero-out' | 'replace-one',
): number {
  const other = noiseParameter / buckets;
  const truth = 1 - noiseParameter + other;
  const log = (p: number, q: number): number => order * Math.log(p) + (1 - order) * Math.log(q);
  const sum = (terms: readonly (readonly [weight: number, logTerm: number])[]): number => {
    const kept = terms.filter(([weight]) => weight > 0);
    const high = Math.max(...kept.map(([, x]) => x));
    return (high + Math.log(kept.reduce((total, [weight, x]) => total + weight * Math.exp(x - high), 0))) / (order - 1);
  };
  if (buckets === 1) return 0;
  if (relation === 'replace-one') {
    return Math.max(
      0,
      sum([
        [1, log(truth, other)],
        [1, log(other, truth)],
        [buckets - 2, Math.log(other)],
      ]),
    );
  }
  const uniform = 1 / buckets;
  const forward = sum([
    [1, log(truth, uniform)],
    [buckets - 1, log(other, uniform)],
  ]);
  const backward = sum([
    [1, log(uniform, truth)],
    [buckets - 1, log(uniform, other)],
  ]);
  return Math.max(0, forward, backward);
}

/**
 * tau = 10 sum_k exp(-2 pi^2 / (1/s_{k+1} + 1/(s_1 + ... + s_k))): how far a sum of discrete Gaussians with
 * variances s_k is from one discrete Gaussian; for equal shares this is the published formula.
 * Units: `variances` in squared integer units, listed as [variance, number of shares].
 * @see Kairouz, Liu, Steinke 2021, Theorem 9; privacy F11 (unequal shares)
 */
export function discreteGaussianSumTau(variances: readonly (readonly [variance: number, shares: number])[]): number {
  let sum = 0;
  let before = 0;
  for (const [variance, shares] of variances) {
    for (let i = 0; i < shares; i++) {
      if (before > 0) sum += Math.exp((-2 * Math.PI * Math.PI * variance * before) / (variance + before));
      before += variance;
    }
  }
  return 10 * sum;
}

/** Parameters of F11. Units: integer units; `variance` is that of the whole honest sum. */
export interface DiscreteGaussianSum {
  readonly l1Sensitivity: number;
  readonly l2Sensitivity: number;
  readonly variance: number;
  readonly tau: number;
  readonly dimension: number;
}

/** The three bounds on a sum of discrete Gaussians, of which the least holds. @see Kairouz et al. 2021; privacy F11 */
export function discreteGaussianSumRdp(order: number, sum: DiscreteGaussianSum): number {
  const { l1Sensitivity, l2Sensitivity, variance, tau, dimension } = sum;
  const gaussian = (l2Sensitivity * l2Sensitivity) / variance;
  const ratio = l2Sensitivity / Math.sqrt(variance);
  const viaL1 = gaussian + (2 * l1Sensitivity * tau) / Math.sqrt(variance) + tau * tau * dimension;
  return Math.min(
    (order / 2) * gaussian + tau * dimension,
    (order / 2) * viaL1,
    (order / 2) * (ratio + Math.sqrt(dimension) * tau) ** 2,
  );
}

/** Largest l1 norm of an integer vector of this l2 norm and dimension. */
export function integerL1Bound(l2Sensitivity: number, dimension: number): number {
  return Math.min(Math.sqrt(dimension) * l2Sensitivity, l2Sensitivity * l2Sensitivity);
}

/**
 * Skellam noise of variance mu, at integer orders.
 * @see Agarwal, Kairouz, Liu 2021, Theorem 3.5; privacy F12
 */
export function skellamRdp(order: number, l1Sensitivity: number, l2Sensitivity: number, variance: number): number {
  const squared = l2Sensitivity * l2Sensitivity;
  const excess = ((2 * order - 1) * squared + 6 * l1Sensitivity) / (4 * variance * variance);
  return (order * squared) / (2 * variance) + Math.min(excess, (3 * l1Sensitivity) / (2 * variance));
}
