import type { KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import type { Rational } from './fixed-point.ts';
import { RandomWords } from './random-words.ts';

/** Uniform on [0, bound) by rejection of whole bit strings. */
function uniformBelow(bound: bigint, random: RandomWords): bigint {
  const count = (bound - 1n).toString(2).length;
  for (;;) {
    const value = random.bits(count);
    if (value < bound) return value;
  }
}

/** Bern(a / b) for 0 <= a <= b. */
function bernoulli(a: bigint, b: bigint, random: RandomWords): boolean {
  return uniformBelow(b, random) < a;
}

/** Bern(exp(-a / b)) for a <= b: the number k of the first failure of Bern(a / (b k)) is odd. */
function bernoulliExpUnit(a: bigint, b: bigint, random: RandomWords): boolean {
  let k = 1n;
  while (bernoulli(a, b * k, random)) k += 1n;
  return k % 2n === 1n;
}

/** Bern(exp(-a / b)): floor(a / b) times Bern(exp(-1)), then the rest. Follows Algorithm 1 of [CKS20]. */
function bernoulliExp(a: bigint, b: bigint, random: RandomWords): boolean {
  for (let whole = a / b; whole > 0n; whole -= 1n) {
    if (!bernoulliExpUnit(1n, 1n, random)) return false;
  }
  return bernoulliExpUnit(a % b, b, random);
}

/** Discrete Laplace of scale t: P(y) proportional to exp(-|y| / t). Follows Algorithm 2 of [CKS20] with s = 1. */
function discreteLaplace(t: bigint, random: RandomWords): bigint {
  for (;;) {
    const u = uniformBelow(t, random);
    if (!bernoulliExpUnit(u, t, random)) continue;
    let v = 0n;
    while (bernoulliExpUnit(1n, 1n, random)) v += 1n;
    const magnitude = u + t * v;
    const negative = bernoulli(1n, 2n, random);
    if (negative && magnitude === 0n) continue;
    return negative ? -magnitude : magnitude;
  }
}

/** Newton's iteration from above. */
function floorSqrt(value: bigint): bigint {
  if (value === 0n) return 0n;
  let root = value + 1n;
  for (let next = (root + value / root) / 2n; next < root; next = (root + value / root) / 2n) root = next;
  return root;
}

/**
 * Draws `count` values from N_Z(0, variance) in integer arithmetic only: the oracle of the fast sampler.
 * Follows Algorithm 3 of [CKS20] (Canonne, Kamath, Steinke 2020, "The Discrete Gaussian for Differential Privacy").
 * Cost: microseconds a draw. Random: whole refills of the stream. Not guaranteed: constant time.
 * @throws CoveyError USAGE_RANGE unless the variance is positive.
 * @see privacy F17
 */
export function sampleDiscreteGaussianExact(variance: Rational, count: number, stream: KeyStream): bigint[] {
  const { numerator: n, denominator: d } = variance;
  if (n <= 0n || d <= 0n) throw new CoveyError('USAGE_RANGE', '"variance" expected a positive fraction');
  const random = new RandomWords(stream);
  const t = floorSqrt(n / d) + 1n;
  const draws: bigint[] = [];
  while (draws.length < count) {
    const y = discreteLaplace(t, random);
    const magnitude = y < 0n ? -y : y;
    // (|y| - variance / t)^2 / (2 variance) = (|y| t d - n)^2 / (2 t^2 n d)
    const difference = magnitude * t * d - n;
    if (bernoulliExp(difference * difference, 2n * t * t * n * d, random)) draws.push(y);
  }
  random.wipe();
  return draws;
}
