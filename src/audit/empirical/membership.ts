import { CoveyError } from '../../../protocol/errors.ts';
import { assertSignificance, clopperPearsonLower, clopperPearsonUpper } from './binomial.ts';

/** A point of the ROC: rates of "was in" among canaries that were out and in, at scores of at least `threshold`. */
export interface RocPoint {
  readonly threshold: number;
  readonly falsePositiveRate: number;
  readonly truePositiveRate: number;
}

function assertScores(inside: readonly number[], outside: readonly number[]): void {
  if (inside.length < 2 || outside.length < 2)
    throw new CoveyError(
      'USAGE_RANGE',
      `"canaries" expected at least 2 in and 2 out, got ${inside.length} and ${outside.length}`,
    );
}

const countFrom = (scores: readonly number[], threshold: number): number =>
  scores.reduce((count, score) => count + (score >= threshold ? 1 : 0), 0);

/** ROC of a membership score (larger: "was in"), from the strictest threshold to the loosest. */
export function rocCurve(inside: readonly number[], outside: readonly number[]): RocPoint[] {
  assertScores(inside, outside);
  const ranked = [
    ...inside.map((score) => ({ score, isIn: true })),
    ...outside.map((score) => ({ score, isIn: false })),
  ].sort((a, b) => b.score - a.score);
  const roc: RocPoint[] = [];
  let [hits, misses] = [0, 0];
  ranked.forEach(({ score, isIn }, i) => {
    if (isIn) hits++;
    else misses++;
    // Equal scores fall on one side of every threshold.
    if (ranked[i + 1]?.score === score) return;
    roc.push({
      threshold: score,
      falsePositiveRate: misses / outside.length,
      truePositiveRate: hits / inside.length,
    });
  });
  return roc;
}

/** Largest true-positive rate at a false-positive rate of at most `rate`; 0 if no threshold is that strict. */
export function truePositiveRateAt(roc: readonly RocPoint[], rate: number): number {
  return roc.reduce(
    (best, point) => (point.falsePositiveRate <= rate ? Math.max(best, point.truePositiveRate) : best),
    0,
  );
}

/** Number of canaries that a score says were in, of those that were. */
interface Rates {
  readonly truePositives: number;
  readonly inside: number;
  readonly falsePositives: number;
  readonly outside: number;
}

/**
 * Lower bound of epsilon from error rates: (epsilon, delta)-DP gives TPR <= e^epsilon FPR + delta and, for the opposite
 * test, 1 - FPR <= e^epsilon (1 - TPR) + delta. Both rates enter by their Clopper-Pearson limit at half the error.
 */
export function epsilonOfRates(rates: Rates, delta: number, significance: number): number {
  assertSignificance(significance);
  const { truePositives, inside, falsePositives, outside } = rates;
  const bound = (hits: number, all: number, misses: number, others: number): number => {
    const power = clopperPearsonLower(hits, all, significance / 2) - delta;
    return power <= 0 ? 0 : Math.log(power / clopperPearsonUpper(misses, others, significance / 2));
  };
  return Math.max(
    0,
    bound(truePositives, inside, falsePositives, outside),
    bound(outside - falsePositives, outside, inside - truePositives, inside),
  );
}

/** Thresholds that are tried on the first half: evenly spread over the ranks. */
const TRIED_THRESHOLDS = 64;

export interface MembershipAudit {
  readonly roc: readonly RocPoint[];
  readonly epsilonLowerBound: number;
}

/**
 * Membership inference turned into a lower bound. The threshold and the direction of the test are chosen on every other
 * canary and judged on the rest, so that the choice costs no confidence.
 * Assumes: scores of different canaries are independent given who was in; canaries that share one run only nearly are,
 * so this number is weaker evidence than the one-run audit. @throws CoveyError USAGE_RANGE
 * @see Jagielski, Ullman, Oprea 2020; Carlini et al. 2022 (TPR at low FPR)
 */
export function auditMembership(
  scores: readonly number[],
  included: readonly boolean[],
  delta: number,
  significance: number,
): MembershipAudit {
  if (scores.length !== included.length)
    throw new CoveyError('USAGE_RANGE', `"included" expected ${scores.length} truths, got ${included.length}`);
  const select = (isIn: boolean): number[] => scores.filter((_, j) => included[j] === isIn);
  const [inside, outside] = [select(true), select(false)];
  const roc = rocCurve(inside, outside);
  const half = (values: readonly number[], rest: number): number[] => values.filter((_, j) => j % 2 === rest);
  const ratesOf = (rest: number, threshold: number): Rates => {
    const [chosenIn, chosenOut] = [half(inside, rest), half(outside, rest)];
    return {
      truePositives: countFrom(chosenIn, threshold),
      inside: chosenIn.length,
      falsePositives: countFrom(chosenOut, threshold),
      outside: chosenOut.length,
    };
  };
  const stride = Math.ceil(roc.length / TRIED_THRESHOLDS);
  const chosen = roc
    .filter((_, i) => i % stride === 0)
    .map(({ threshold }) => ({ threshold, epsilon: epsilonOfRates(ratesOf(0, threshold), delta, significance) }));
  const tied = Math.max(...chosen.map(({ epsilon }) => epsilon));
  const best = chosen.filter(({ epsilon }) => epsilon === tied);
  // Many thresholds separate the first half equally well; the middle one is least likely to cut through the second.
  const { threshold } = best[Math.floor(best.length / 2)] as { threshold: number };
  // Two directions of the test, judged once each.
  return { roc, epsilonLowerBound: epsilonOfRates(ratesOf(1, threshold), delta, significance / 2) };
}
