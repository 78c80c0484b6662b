import { CoveyError } from '../../../protocol/errors.ts';
import { logAddExp } from '../../privacy/log-math.ts';

/** Compensated sums of log k, so that log n! keeps its last digits at n = 1e5. */
const LOG_FACTORIALS: number[] = [0];
let compensation = 0;

function logFactorial(n: number): number {
  for (let k = LOG_FACTORIALS.length; k <= n; k++) {
    const last = LOG_FACTORIALS[k - 1] as number;
    const term = Math.log(k) - compensation;
    const next = last + term;
    compensation = next - last - term;
    LOG_FACTORIALS.push(next);
  }
  return LOG_FACTORIALS[n] as number;
}

/** A binomial distribution by the logarithms of p and 1 - p: either may be far below 2^-53. */
export interface Binomial {
  readonly trials: number;
  readonly logSuccess: number;
  readonly logFailure: number;
}

/** The binomial distribution with success probability `p`. @throws CoveyError USAGE_RANGE */
function binomial(trials: number, p: number): Binomial {
  return { trials, logSuccess: Math.log(p), logFailure: Math.log1p(-p) };
}

/** log P[X = k]; every term of the sum is a logarithm, so that it neither under- nor overflows. */
export function logBinomialMass({ trials, logSuccess, logFailure }: Binomial, k: number): number {
  if (k < 0 || k > trials) return Number.NEGATIVE_INFINITY;
  const choices = logFactorial(trials) - logFactorial(k) - logFactorial(trials - k);
  // 0 log 0 = 0
  return choices + (k === 0 ? 0 : k * logSuccess) + (k === trials ? 0 : (trials - k) * logFailure);
}

/** log P[X >= k]: the exact sum of positive terms, with relative accuracy in the tail. */
export function logBinomialTail(law: Binomial, k: number): number {
  let tail = Number.NEGATIVE_INFINITY;
  for (let i = law.trials; i >= Math.max(0, k); i--) tail = logAddExp(tail, logBinomialMass(law, i));
  return Math.min(0, tail);
}

/** Checks that `k` of `n` is a count of successes. @throws CoveyError USAGE_RANGE */
export function assertCounts(name: string, k: number, n: number): void {
  if (!Number.isSafeInteger(k) || !Number.isSafeInteger(n) || k < 0 || k > n)
    throw new CoveyError('USAGE_RANGE', `"${name}" expected a count of at most ${n}, got ${k}`);
}

/** Checks a probability of error. @throws CoveyError USAGE_RANGE */
export function assertSignificance(significance: number): void {
  if (!(significance > 0 && significance < 1))
    throw new CoveyError('USAGE_RANGE', `"significance" expected a number in (0, 1), got ${significance}`);
}

/**
 * Exact upper confidence limit of a binomial proportion: the p with P[X <= successes] = significance.
 * @throws CoveyError USAGE_RANGE @see Clopper, Pearson 1934
 */
export function clopperPearsonUpper(successes: number, trials: number, significance: number): number {
  return 1 - clopperPearsonLower(trials - successes, trials, significance);
}

/**
 * Exact lower confidence limit of a binomial proportion: the p with P[X >= successes] = significance; 0 for none.
 * @throws CoveyError USAGE_RANGE @see Clopper, Pearson 1934
 */
export function clopperPearsonLower(successes: number, trials: number, significance: number): number {
  assertCounts('successes', successes, trials);
  assertSignificance(significance);
  if (successes === 0) return 0;
  const target = Math.log(significance);
  let [low, high] = [0, 1];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (logBinomialTail(binomial(trials, middle), successes) <= target) low = middle;
    else high = middle;
  }
  return low;
}
