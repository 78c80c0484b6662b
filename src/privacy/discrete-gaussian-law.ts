import { expNegative, GUARD_BITS, type Rational } from './fixed-point.ts';
import type { SymmetricLaw } from './symmetric-law.ts';

/** Half of the width in which a comparison in doubles is not trusted; its true error is below 2^-45. */
const SLACK = 2 ** -40;

/**
 * w_{k+1} = w_k * s_k with s_k = q^(2k+1), q = exp(-m^2 / (2 * variance)), everything rounded down at bits + 64 bits.
 * Units of the last place: q is off by < 2, s_k by < 4 (2k+1), w_k by < 4 (k+1)^2, a sum of K weights (doubled) by
 * < 8 (K+1)^3. The tail that is left out starts below that error and shrinks by a constant factor: K <= 2^15 cells (22
 * standard deviations of at most 1,024 in unit cells, 40 of at most 128 in wide ones) leave < 2^50 of the 2^64 that
 * make up one unit of c_k.
 */
function cumulativeWeights(variance: Rational, cellWidth: number, mirrored: boolean, bits: number): bigint[] {
  const work = BigInt(bits + GUARD_BITS);
  const m = BigInt(cellWidth);
  const q = expNegative(
    { numerator: m * m * variance.denominator, denominator: 2n * variance.numerator },
    Number(work),
  );
  const qq = (q * q) >> work;
  const sums: bigint[] = [];
  let total = 0n;
  let step = q;
  for (let weight = 1n << work; weight > 0n; weight = (weight * step) >> work, step = (step * qq) >> work) {
    total += mirrored && sums.length > 0 ? 2n * weight : weight;
    sums.push(total);
  }
  return sums.map((sum) => (sum << BigInt(bits)) / total);
}

/**
 * The discrete Gaussian N_Z(0, variance): P(x) proportional to exp(-x^2 / (2 * variance)).
 * @see Canonne, Kamath, Steinke 2020; privacy F10
 */
export function discreteGaussianLaw(variance: Rational): SymmetricLaw {
  const halfInverse = Number(variance.denominator) / (2 * Number(variance.numerator));
  return {
    cumulativeWeights: (cellWidth, mirrored, bits) => cumulativeWeights(variance, cellWidth, mirrored, bits),
    exponent: (magnitude, offset) => offset * (2 * magnitude + offset) * halfInverse,
    slack: SLACK,
    fastReach: Number.POSITIVE_INFINITY,
    ratio(magnitude, offset, bits) {
      const product = BigInt(offset) * BigInt(2 * magnitude + offset);
      return expNegative({ numerator: product * variance.denominator, denominator: 2n * variance.numerator }, bits);
    },
  };
}
