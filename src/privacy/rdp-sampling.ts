import { log1pExp, logAddExp, logExpm1, logSumExp } from './log-math.ts';

/** (order - 1) times the Renyi divergence at an integer order >= 2, of the mechanism before sampling. */
export type LogMoment = (order: number) => number;

/**
 * log A of a mechanism on a Poisson sample, integer order alpha >= 2, add/remove:
 * A = (1-q)^{alpha-1}(1-q+alpha q) + C(alpha,2) q^2 (1-q)^{alpha-2} e^{eps(2)}
 *   + c sum_{l>=3} C(alpha,l) q^l (1-q)^{alpha-l} e^{(l-1) eps(l)}.
 *
 * c = 3 holds for every mechanism. c = 1 is exact for additive noise that is symmetric, with a shift that the record
 * alone fixes: then x -> v - x exchanges noise and shifted noise, so the add direction dominates and the binomial
 * expansion is an identity. A - 1 is summed instead of A: the weights add to 1, so nothing cancels for small q.
 * Not guaranteed: c = 1 for asymmetric noise, or where the other records' terms react to the record.
 * @see Zhu, Wang 2019, Theorem 5; Mironov, Talwar, Zhang 2019, Theorem 5; privacy F9
 */
export function poissonLogMoment(order: number, probability: number, logMoment: LogMoment, factor: 1 | 3): number {
  const q = probability;
  if (q === 1) return logMoment(order);
  const logOdds = Math.log(q) - Math.log1p(-q);
  // log of C(alpha,l) q^l (1-q)^{alpha-l}, carried from l to l+1: large gamma functions would lose digits.
  let logWeight = order * Math.log1p(-q);
  const terms: number[] = [];
  for (let l = 1; l <= order; l++) {
    logWeight += Math.log((order - l + 1) / l) + logOdds;
    if (l === 1) continue;
    const moment = logMoment(l);
    const c = l === 2 ? 1 : factor;
    terms.push(logWeight + (c === 1 ? logExpm1(moment) : moment + Math.log(c - Math.exp(-moment))));
  }
  return log1pExp(logSumExp(terms));
}

/** The same for Gaussian noise, where eps(l) = l / (2 z^2) and c = 1. @see privacy F3, integer orders */
function gaussianLogMomentInteger(order: number, probability: number, noiseMultiplier: number): number {
  const rho = 1 / (2 * noiseMultiplier * noiseMultiplier);
  return poissonLogMoment(order, probability, (l) => l * (l - 1) * rho, 1);
}

/** log of (1+u)^alpha - 1 - alpha u, which is >= 0 by convexity, from logTotal = log(1+u). */
function logConvexityGap(order: number, u: number, logTotal: number): number {
  if (Math.abs(u) < 0.1 && order * Math.abs(u) < 0.5) {
    // Binomial series from k = 2: the direct form would subtract nearly equal numbers.
    let term = (order * (order - 1) * u * u) / 2;
    let sum = term;
    for (let k = 2; Math.abs(term) > 1e-17 * sum; k++) {
      term *= (u * (order - k)) / (k + 1);
      sum += term;
      if (term === 0) break;
    }
    return Math.log(sum);
  }
  // e^{alpha l} [1 - alpha e^{(1-alpha) l} + (alpha-1) e^{-alpha l}] cannot overflow for l > 0.
  if (logTotal > 0) {
    const rest = (order - 1) * Math.exp(-order * logTotal) - order * Math.exp((1 - order) * logTotal);
    return order * logTotal + Math.log1p(rest);
  }
  return Math.log(Math.exp(order * logTotal) - 1 - order * u);
}

const MAX_NODES = 2 ** 17;

/**
 * log A of the Gaussian mechanism on a Poisson sample at any real order alpha > 1:
 * A - 1 = integral of phi_z(x) [(1+u)^alpha - 1 - alpha u] dx with u = q (e^{(2x-1)/(2z^2)} - 1), since E[u] = 0.
 * The bracket is never negative, so the trapezoid sum has no cancellation, and it converges geometrically: the
 * integrand is analytic up to pi z^2 from the real axis. Cost: about (24 z + alpha) / min(z/4, z^2/1.5) nodes.
 * @see Mironov, Talwar, Zhang 2019; privacy F3
 */
export function poissonGaussianLogMoment(order: number, probability: number, noiseMultiplier: number): number {
  const z = noiseMultiplier;
  const q = probability;
  if (q === 1) return (order * (order - 1)) / (2 * z * z);
  if (Number.isInteger(order)) return gaussianLogMomentInteger(order, q, z);
  const step = Math.min(z / 4, (z * z) / 1.5);
  const nodes = Math.ceil((24 * z + order) / step);
  // Next to no noise: chords between integer orders, from above, instead of millions of nodes.
  if (nodes > MAX_NODES) return interpolateLogMoment(order, (at) => gaussianLogMomentInteger(at, q, z));
  const logRest = Math.log1p(-q);
  const logQ = Math.log(q);
  let high = Number.NEGATIVE_INFINITY;
  let sum = 0;
  for (let i = 0; i <= nodes; i++) {
    const x = -12 * z + i * step;
    const exponent = (2 * x - 1) / (2 * z * z);
    const u = q * Math.expm1(exponent);
    const logTotal = Math.abs(u) < 0.5 ? Math.log1p(u) : logAddExp(logRest, logQ + exponent);
    const value = logConvexityGap(order, u, logTotal) - (x * x) / (2 * z * z);
    if (value <= high) sum += Math.exp(value - high);
    else if (value > Number.NEGATIVE_INFINITY) {
      sum = sum * Math.exp(high - value) + 1;
      high = value;
    }
  }
  return log1pExp(high + Math.log((sum * step) / (z * Math.sqrt(2 * Math.PI))));
}

/** log |sum_i (-1)^i C(l,i) e^{(i-1) e(i)}|: a forward difference, by signed log-domain sums. */
function logForwardDifference(l: number, logMoment: LogMoment): number {
  let logBinomial = 0;
  const even: number[] = [];
  const odd: number[] = [];
  for (let i = 0; i <= l; i++) {
    if (i > 0) logBinomial += Math.log((l - i + 1) / i);
    (i % 2 === 0 ? even : odd).push(logBinomial + (i < 2 ? 0 : logMoment(i)));
  }
  const a = logSumExp(even);
  const b = logSumExp(odd);
  const high = Math.max(a, b);
  // The difference keeps no digit once the sums agree to rounding; the rounding itself then bounds it from above.
  const rounding = high + Math.log(l * 4e-16);
  return a === b ? rounding : Math.max(rounding, high + Math.log(-Math.expm1(-Math.abs(a - b))));
}

/** Orders above this use only the second branch of F5, whose differences would cost O(order^2). */
const MAX_DIFFERENCE_ORDER = 256;

/**
 * log A of the Gaussian mechanism on a uniform subset of fixed size, gamma = sampleSize / populationSize, integer
 * order alpha >= 2, replace-one; `noiseMultiplier` is relative to the replace-one sensitivity.
 * @see Wang, Balle, Kasiviswanathan 2019, Theorem 27; privacy F5
 */
function fixedSizeLogMomentInteger(order: number, gamma: number, noiseMultiplier: number): number {
  const rho = 1 / (2 * noiseMultiplier * noiseMultiplier);
  const logMoment: LogMoment = (l) => l * (l - 1) * rho;
  const logGamma = Math.log(gamma);
  const log4 = Math.log(4);
  const differences = new Map<number, number>();
  const difference = (l: number): number => {
    const known = differences.get(l) ?? logForwardDifference(l, logMoment);
    differences.set(l, known);
    return known;
  };
  let logBinomial = Math.log(order);
  const terms: number[] = [];
  for (let j = 2; j <= order; j++) {
    logBinomial += Math.log((order - j + 1) / j);
    let bound = Math.LN2 + logMoment(j);
    if (j === 2) bound = Math.min(bound, log4 + logExpm1(2 * rho));
    else if (order <= MAX_DIFFERENCE_ORDER) {
      const low = difference(2 * Math.floor(j / 2));
      bound = Math.min(bound, log4 + (low + difference(2 * Math.ceil(j / 2))) / 2);
    }
    terms.push(logBinomial + j * logGamma + bound);
  }
  return log1pExp(logSumExp(terms));
}

/** The same at any real order: log A is convex in the order and log A(1) = 0, so it is interpolated linearly. */
export function fixedSizeLogMoment(order: number, gamma: number, noiseMultiplier: number): number {
  return interpolateLogMoment(order, (integer) => fixedSizeLogMomentInteger(integer, gamma, noiseMultiplier));
}

/** Convex interpolation of (alpha - 1) eps(alpha) between integer orders, with value 0 at order 1. @see privacy F9 */
export function interpolateLogMoment(order: number, logMoment: LogMoment): number {
  const below = Math.floor(order);
  if (below === order) return logMoment(order);
  const lower = below === 1 ? 0 : logMoment(below);
  return lower + (order - below) * (logMoment(below + 1) - lower);
}
