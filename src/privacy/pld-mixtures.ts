import { normalTail } from './normal-tail.ts';
import {
  type DensityPair,
  type Directions,
  gaussianPair,
  poissonSampled,
  replaceOnePoissonPair,
  symmetric,
  U,
} from './pld-pairs.ts';

/** x at which log sum_j p_j e^{(2 s_j x - s_j^2) / (2 sigma^2)}, convex and increasing, is epsilon. */
function solvePoint(
  epsilon: number,
  deviation: number,
  sensitivities: readonly number[],
  probabilities: readonly number[],
): number {
  const v = deviation * deviation;
  const value = (x: number): readonly [number, number] => {
    let high = Number.NEGATIVE_INFINITY;
    for (const [j, s] of sensitivities.entries()) {
      high = Math.max(high, Math.log(probabilities[j] as number) + (s * (2 * x - s)) / (2 * v));
    }
    let [sum, slope] = [0, 0];
    for (const [j, s] of sensitivities.entries()) {
      const weight = Math.exp(Math.log(probabilities[j] as number) + (s * (2 * x - s)) / (2 * v) - high);
      sum += weight;
      slope += (weight * s) / v;
    }
    return [high + Math.log(sum), slope / sum];
  };
  // Newton from the right of the root of a convex increasing function stays there and converges.
  let x = 1;
  for (let reach = deviation; value(x)[0] < epsilon; reach *= 2) x += reach;
  for (let i = 0; i < 200; i++) {
    const [at, slope] = value(x);
    const next = x - (at - epsilon) / slope;
    if (!(Math.abs(next - x) > 2 * U * (Math.abs(x) + deviation))) return next;
    x = next;
  }
  return x;
}

/**
 * Gaussian noise of this deviation on a sum that the record moves by a random amount: sensitivity s_j with probability
 * p_j, unseen. P = sum_j p_j N(s_j), Q = N(0).
 * @see Choquette-Choo, Ganesh, Steinke, Thakurta 2024, Privacy Amplification for Matrix Mechanisms, Lemma 4.6
 */
export function gaussianMixture(
  deviation: number,
  sensitivities: readonly number[],
  probabilities: readonly number[],
): Directions {
  const kept = [...sensitivities.keys()].filter((j) => (probabilities[j] as number) > 0);
  const s = kept.map((j) => sensitivities[j] as number);
  const p = kept.map((j) => probabilities[j] as number);
  const certain = s.reduce((sum, x, j) => (x === 0 ? sum + (p[j] as number) : sum), 0);
  const lowest = certain > 0 ? Math.log(certain) : Number.NEGATIVE_INFINITY;
  const largest = Math.max(...s);
  const thresholdError = 32 * U * (1 + (largest * largest) / (deviation * deviation));
  const relative = (x: number): number => (64 + 8 * ((Math.abs(x) + largest) / deviation) ** 2) * U;
  const mix = (tail: (s: number) => number): number => s.reduce((sum, x, j) => sum + (p[j] as number) * tail(x), 0);
  const remove: DensityPair = {
    kind: 'density',
    atoms: [],
    lowest,
    thresholdError,
    tails(epsilon, out) {
      if (epsilon <= lowest) {
        out.fill(1);
        out[2] = 0;
        return;
      }
      const x = solvePoint(epsilon, deviation, s, p);
      out[0] = mix((at) => normalTail((x - at) / deviation));
      out[1] = normalTail(x / deviation);
      out[2] = relative(x);
    },
  };
  const add: DensityPair = {
    kind: 'density',
    atoms: [],
    lowest: Number.NEGATIVE_INFINITY,
    thresholdError,
    tails(epsilon, out) {
      if (-epsilon <= lowest) {
        out.fill(0);
        return;
      }
      const x = solvePoint(-epsilon, deviation, s, p);
      out[0] = normalTail(-x / deviation);
      out[1] = mix((at) => normalTail((at - x) / deviation));
      out[2] = relative(x);
    },
  };
  return { remove, add };
}

/** A mechanism that publicly chooses between several: tails, and with them delta, are averages. */
export function averagePair(parts: readonly (readonly [weight: number, pair: DensityPair])[]): DensityPair {
  return {
    kind: 'density',
    atoms: parts.flatMap(([, pair]) => pair.atoms),
    lowest: Math.min(...parts.map(([, pair]) => pair.lowest)),
    thresholdError: Math.max(...parts.map(([, pair]) => pair.thresholdError ?? 0)),
    tails(epsilon, out) {
      let [upper, lower, error] = [0, 0, 0];
      for (const [weight, pair] of parts) {
        pair.tails(epsilon, out);
        upper += weight * (out[0] as number);
        lower += weight * (out[1] as number);
        error = Math.max(error, out[2] as number);
      }
      out[0] = upper;
      out[1] = lower;
      out[2] = error + 4 * U;
    },
  };
}

/** log of C(n, k) q^k (1-q)^{n-k}, summed in logarithms: large factorials would lose digits. */
function binomialTail(n: number, q: number, above: number): number {
  if (q === 1) return n > above ? 1 : 0;
  const logOdds = Math.log(q) - Math.log1p(-q);
  let log = n * Math.log1p(-q);
  let [low, high] = [0, 0];
  for (let k = 0; k <= n; k++) {
    if (k > 0) log += Math.log((n - k + 1) / k) + logOdds;
    if (k <= above) low += Math.exp(log);
    else high += Math.exp(log);
  }
  return Math.min(1, high / (low + high));
}

/**
 * Gaussian noise on a Poisson sample cut to `maxBatchSize` by a uniform draw. If the others already fill the batch
 * (probability t), a record that gets in pushes another one out: a move of twice the sensitivity, seen with probability
 * P[Bin(n, q) > B] B / (t n); else this is the plain Poisson sample.
 * @see Chua, Ghazi, Kamath, Kumar, Manurangsi, Sinha, Zhang 2024, Scalable DP-SGD
 */
export function truncatedPoissonGaussian(event: {
  readonly populationSize: number;
  readonly probability: number;
  readonly maxBatchSize: number;
  readonly noiseMultiplier: number;
}): Directions {
  const { populationSize: n, probability: q, maxBatchSize, noiseMultiplier: z } = event;
  const plain = poissonSampled(q, symmetric(gaussianPair(z)));
  const full = binomialTail(n - 1, q, maxBatchSize - 1);
  if (full === 0) return plain;
  const seen = Math.min(1, (binomialTail(n, q, maxBatchSize) * maxBatchSize) / full / n);
  const pushed = replaceOnePoissonPair(seen, z / 2);
  const mix = (pair: DensityPair): DensityPair =>
    averagePair([
      [1 - full, pair],
      [full, pushed],
    ]);
  return { remove: mix(plain.remove as DensityPair), add: mix(plain.add as DensityPair) };
}
