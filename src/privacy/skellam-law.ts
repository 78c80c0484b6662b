import { GUARD_BITS, type Rational } from './fixed-point.ts';
import type { SymmetricLaw } from './symmetric-law.ts';

/** Half of the width in which a comparison in doubles is not trusted; see `exponent`. */
const SLACK = 2 ** -30;

/** Standard deviations up to which the expansion in `exponent` is off by less than SLACK / 8. */
const FAST_DEVIATIONS = 9;

/**
 * A magnitude n with P(X >= n) < 2^-digits, by Bernstein's inequality: log E exp(a X) = variance (cosh a - 1) is at most
 * variance a^2 / (2 (1 - a / 3)), hence P(X >= n) <= exp(-n^2 / (2 (variance + n / 3))). One more than its root, for
 * the rounding of the doubles.
 */
function tailStart(variance: number, digits: number): number {
  const l = digits * 0.6931471805599454;
  return Math.ceil(l / 3 + Math.sqrt((l * l) / 9 + 2 * l * variance)) + 1;
}

/**
 * Weights I_0, ..., I_K of the modified Bessel functions at `variance`, up to one factor, by I_{k-1} = I_{k+1} +
 * (2k / variance) I_k downwards from 0 at K + 1 (Miller). All terms are positive, so that relative errors do not grow:
 * rounding down costs each step less than 2^-g of its weight, which starts at 2^g, K 2^-g altogether. Starting with 0
 * costs I_k less than I_{K+1} (the second solution, K_k, grows with k), K P(X > K) altogether.
 */
function besselWeights(variance: Rational, last: number, g: number): bigint[] {
  const weights: bigint[] = new Array(last + 1);
  const { numerator, denominator } = variance;
  let above = 0n;
  let here = 1n << BigInt(g);
  for (let k = last; ; k--) {
    weights[k] = here;
    if (k === 0) return weights;
    const below = above + (2n * BigInt(k) * denominator * here) / numerator;
    above = here;
    here = below;
  }
}

/**
 * T(n) = I_n(v) sqrt(2 pi v) exp(-v) by its expansion in 1 / v: an integer with |integer - 2^bits * T(n)| < 2, for
 * v >= 2^16. Terms t_j = t_{j-1} ((2j-1)^2 - 4 n^2) / (8 j v), t_0 = 1. What follows term l is less than
 * 4 l |t_l| exp((n^2 - 1/4) pi / (2 v)): DLMF 10.40.11 and 10.40.12 on the ray where I_n is the real part, with
 * chi(1) = pi / 2 and chi(l) <= 2 l (DLMF 9.7.1). Every term is rounded: an error of one unit grows as the terms do, by less than
 * exp(n^2 / (2 v)), which is within the same guard.
 */
function scaledBessel(variance: Rational, n: bigint, bits: number): bigint {
  const { numerator: v, denominator: d } = variance;
  // Digits of exp(n^2 pi / (2 v)): pi / (2 log 2) < 2.2662.
  const growth = Number((22_662n * n * n * d) / (10_000n * v)) + 1;
  const work = bits + GUARD_BITS + growth;
  const square = 4n * n * n;
  let sum = 0n;
  let term = 1n << BigInt(work);
  const small = 1n << BigInt(work - bits - growth - 24);
  for (let j = 1n; ; j += 1n) {
    sum += term;
    const odd = 2n * j - 1n;
    term = (term * (odd * odd - square) * d) / (8n * j * v);
    if ((term < 0n ? -term : term) < small) return sum >> BigInt(work - bits);
  }
}

function accumulate(weights: readonly bigint[], mirrored: boolean, bits: number): bigint[] {
  const sums: bigint[] = [];
  let total = 0n;
  for (const weight of weights) {
    total += mirrored && sums.length > 0 ? 2n * weight : weight;
    sums.push(total);
  }
  return sums.map((sum) => (sum << BigInt(bits)) / total);
}

/**
 * Skellam noise, the difference of two Poisson variables of mean variance / 2: P(x) = exp(-variance) I_x(variance).
 * Sums of independent Skellam variables are Skellam. Wide cells need a variance of 2^16 at least.
 * @see Agarwal, Kairouz, Liu 2021; privacy F12
 */
export function skellamLaw(variance: Rational): SymmetricLaw {
  const double = Number(variance.numerator) / Number(variance.denominator);
  const halfInverse = 1 / (2 * double);
  return {
    cumulativeWeights(cellWidth, mirrored, bits) {
      const last = tailStart(double, bits + GUARD_BITS);
      if (cellWidth === 1) return accumulate(besselWeights(variance, last, bits + GUARD_BITS), mirrored, bits);
      const width = BigInt(cellWidth);
      const cells = Math.ceil(last / cellWidth) + 1;
      // A sum of K < 2^12 weights is off by less than 2^13 units, of 2^32 that make up one of the result.
      const weights = Array.from({ length: cells }, (_, k) => scaledBessel(variance, BigInt(k) * width, bits + 32));
      return accumulate(weights, mirrored, bits);
    },
    /*
     * log I_n(v) = v - n^2 / (2v) + n^4 / (24 v^3) - n^2 / (4 v^2) - log(2 pi v) / 2 + ..., the uniform expansion of
     * DLMF 10.41.3 in n / v. For n <= 9 sqrt(v) and v >= 2^20 the next term, n^6 / (80 v^5), is below 7e-9, and its
     * change over a cell (at most 1/64 of a deviation) below 1e-10.
     */
    exponent(magnitude, offset) {
      const x = magnitude + offset;
      const squares = offset * (magnitude + x);
      const fourths = squares * (magnitude * magnitude + x * x);
      return squares * halfInverse * (1 + halfInverse) - (fourths * halfInverse * halfInverse * halfInverse) / 3;
    },
    slack: SLACK,
    fastReach: FAST_DEVIATIONS * Math.sqrt(double),
    ratio(magnitude, offset, bits) {
      // Both values with so many more digits that the smaller one, exp(-n^2 / v) at least, keeps `bits` of its own.
      const n = BigInt(magnitude + offset);
      const digits = bits + 16 + Number((2n * n * n * variance.denominator) / variance.numerator);
      const upper = scaledBessel(variance, n, digits);
      const lower = scaledBessel(variance, BigInt(magnitude), digits);
      return (upper << BigInt(bits)) / lower;
    },
  };
}
