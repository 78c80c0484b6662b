import { CoveyError } from '../../protocol/errors.ts';
import type { RandomWords } from './random-words.ts';

/** An exact non-negative fraction. */
export interface Rational {
  readonly numerator: bigint;
  readonly denominator: bigint;
}

/**
 * The exact value of a double.
 * @throws CoveyError USAGE_RANGE unless the value is finite and not negative.
 */
export function rationalOf(value: number): Rational {
  if (!(value >= 0 && value < Number.POSITIVE_INFINITY)) {
    throw new CoveyError('USAGE_RANGE', `"value" expected a finite number >= 0, got ${value}`);
  }
  let mantissa = value;
  let exponent = 0n;
  // Doubling a double is exact; at most 1,074 times until it is an integer.
  while (!Number.isInteger(mantissa)) {
    mantissa *= 2;
    exponent += 1n;
  }
  return { numerator: BigInt(mantissa), denominator: 1n << exponent };
}

/**
 * exp(-y) in fixed point: an integer E with |E - 2^bits * exp(-y)| < 3 * bits + 8, for 0 <= y <= 2 and bits >= 16.
 *
 * Taylor terms t_i = floor(t_{i-1} * y / i): the error of t_i is at most y/i of the error before plus 1, hence < 3 for
 * y <= 2; there are fewer than `bits` + 2 non-zero terms, and what follows the first zero term sums to less than 2.
 */
function expNegativeSmall(y: Rational, bits: number): bigint {
  let sum = 0n;
  let sign = 1n;
  let index = 1n;
  for (let term = 1n << BigInt(bits); term > 0n; index += 1n) {
    sum += sign * term;
    sign = -sign;
    term = (term * y.numerator) / (y.denominator * index);
  }
  return sum;
}

/** Bits of work beyond the asked precision; they absorb every rounding error counted in the functions below. */
export const GUARD_BITS = 64;

/**
 * exp(-y) for any y >= 0: an integer E with |E - 2^bits * exp(-y)| < 2.
 * Shapes: bits from 16 to 8,192. y above 2 is halved h times and the result squared h times; a square at most doubles
 * the error and adds 2, so that h <= 16 keeps it far below the 2^GUARD_BITS that make up one unit of the result.
 * @throws CoveyError USAGE_RANGE for y > 2^17.
 */
export function expNegative(y: Rational, bits: number): bigint {
  let halvings = 0;
  let denominator = y.denominator;
  while (y.numerator > 2n * denominator) {
    denominator *= 2n;
    halvings += 1;
  }
  if (halvings > 16) throw new CoveyError('USAGE_RANGE', '"y" expected at most 2^17');
  const work = bits + GUARD_BITS;
  let value = expNegativeSmall({ numerator: y.numerator, denominator }, work);
  for (let i = 0; i < halvings; i++) value = (value * value) >> BigInt(work);
  return value >> BigInt(GUARD_BITS);
}

/** Where lazy comparisons start. Units: bits; each undecided comparison (probability < 2^-200) doubles them. */
export const FIRST_PRECISION = 256;

/**
 * Decides U < T exactly, where U is uniform on [0, 1) and its first `prefixBits` bits are already drawn.
 * `threshold(bits)` gives T as an integer with |integer - 2^bits * T| <= 2. More bits of U are drawn, and T is computed
 * to more digits, until the two differ for certain.
 * Random: ceil((256 - prefixBits) / 32) words, then as many again with probability < 2^-200.
 */
export function isBelow(
  prefix: bigint,
  prefixBits: number,
  threshold: (bits: number) => bigint,
  random: Pick<RandomWords, 'bits'>,
): boolean {
  let have = prefixBits;
  let u = prefix;
  for (let bits = FIRST_PRECISION; ; bits *= 2) {
    u = (u << BigInt(bits - have)) | random.bits(bits - have);
    have = bits;
    const t = threshold(bits);
    if (u + 1n <= t - 2n) return true;
    if (u >= t + 2n) return false;
  }
}
