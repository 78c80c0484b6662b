import { CoveyError } from '../../protocol/errors.ts';
import { portableExp, portableLog } from './portable.ts';
import type { DataRandom } from './random.ts';

/** True with probability e^-p for p in [0, 1]: length parity of a falling run (von Neumann 1951). */
function expBernoulli(random: DataRandom, p: number): boolean {
  let last = p;
  for (let even = true; ; even = !even) {
    const next = random.uniform(0, 1);
    if (!(next < last)) return even;
    last = next;
  }
}

/** True with probability e^(-x (2k + x) / (2k + 2)). Follows algorithm B of Karney 2016. */
function karneyBernoulli(random: DataRandom, k: number, x: number): boolean {
  const step = (2 * k + x) / (2 * k + 2);
  let last = x;
  for (let even = true; ; even = !even) {
    const next = random.uniform(0, 1);
    if (!(next < last) || !(random.uniform(0, 1) < step)) return even;
    last = next;
  }
}

/**
 * Draws from N(0, 1) with comparisons of uniform draws alone: no logarithm, cosine or table, so every engine gives the
 * same bits. Exact up to the grid of 2^-53 of the uniform draws. Cost: 17 uniform draws on average, 0.3 microseconds.
 * @see Karney, "Sampling exactly from the normal distribution", ACM TOMS 42 (2016), algorithm N
 */
export function drawNormal(random: DataRandom): number {
  for (;;) {
    let k = 0;
    while (expBernoulli(random, 0.5)) k++;
    let left = k * (k - 1);
    while (left > 0 && expBernoulli(random, 0.5)) left--;
    if (left > 0) continue;
    const x = random.uniform(0, 1);
    left = k + 1;
    while (left > 0 && karneyBernoulli(random, k, x)) left--;
    if (left === 0) return random.uniform(0, 1) < 0.5 ? k + x : -(k + x);
  }
}

/** Draws an integer from floor(exp(N(mean, stddev^2))). */
export function drawLogNormalFloor(random: DataRandom, mean: number, stddev: number): number {
  return Math.floor(portableExp(mean + stddev * drawNormal(random)));
}

/**
 * Logarithm of a draw from Gamma(shape, 1); the logarithm because draws of a small shape underflow.
 * @see Marsaglia and Tsang, "A simple method for generating gamma variables", ACM TOMS 26 (2000)
 */
function drawLogGamma(random: DataRandom, shape: number): number {
  // Gamma(a) = Gamma(a + 1) U^(1/a) for a < 1, section 6 of the paper. U in (0, 1].
  if (shape < 1) return drawLogGamma(random, shape + 1) + portableLog(1 - random.uniform(0, 1)) / shape;
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = drawNormal(random);
    const root = 1 + c * x;
    if (!(root > 0)) continue;
    const v = root * root * root;
    const logV = 3 * portableLog(root);
    if (portableLog(1 - random.uniform(0, 1)) < 0.5 * x * x + d - d * v + d * logV) return portableLog(d) + logV;
  }
}

/**
 * Draws class shares from a Dirichlet distribution.
 * Shapes: one share for each concentration, sum 1. Units: concentrations > 0; 0 leaves the class out.
 * @throws CoveyError USAGE_RANGE unless every concentration is >= 0, finite, and one is positive.
 */
export function drawDirichlet(random: DataRandom, concentrations: readonly number[]): Float64Array {
  if (!concentrations.every((a) => a >= 0 && a < 1e9) || !concentrations.some((a) => a > 0))
    throw new CoveyError('USAGE_RANGE', '"concentrations" expected numbers in [0, 1e9), one of them positive');
  const logs = concentrations.map((a) => (a > 0 ? drawLogGamma(random, a) : Number.NEGATIVE_INFINITY));
  // The largest becomes 1: even where all the draws underflow, their ratios do not.
  const highest = logs.reduce((max, log) => (log > max ? log : max), Number.NEGATIVE_INFINITY);
  const weights = Float64Array.from(logs, (log) => portableExp(log - highest));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}
