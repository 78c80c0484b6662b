import { CoveyError } from '../../../protocol/errors.ts';
import { log1pExp, logAddExp } from '../../privacy/log-math.ts';
import { assertCounts, assertSignificance, type Binomial, logBinomialMass, logBinomialTail } from './binomial.ts';

/** Outcome of a one-run audit: `canaries` m included by fair coins, `guesses` r made, `correct` v of them. */
export interface OneRunOutcome {
  readonly canaries: number;
  readonly guesses: number;
  readonly correct: number;
}

/**
 * Upper bound on the chance of at least `correct` right guesses if the mechanism were (epsilon, delta)-DP:
 * P[B >= v] + 2 m delta max_{1<=i<=v} P[v-i <= B < v] / i with B ~ Bin(r, 1/(1+e^-epsilon)).
 * Assumes: the coins of the canaries are independent and fair, and the guesses depend on the release alone.
 * @throws CoveyError USAGE_RANGE @see Steinke, Nasr, Jagielski 2023, Theorem 5.2; privacy F25
 */
export function oneRunPValue(outcome: OneRunOutcome, epsilon: number, delta: number): number {
  const { canaries, guesses, correct } = outcome;
  assertCounts('guesses', guesses, canaries);
  assertCounts('correct', correct, guesses);
  if (!(epsilon >= 0 && delta >= 0 && delta < 1))
    throw new CoveyError('USAGE_RANGE', `"epsilon" and "delta" expected a privacy claim, got ${epsilon} and ${delta}`);
  // log of 1/(1+e^-epsilon) and of 1/(1+e^epsilon): exact where 1 - p would lose every digit.
  const law: Binomial = { trials: guesses, logSuccess: -log1pExp(-epsilon), logFailure: -log1pExp(epsilon) };
  const tail = Math.exp(logBinomialTail(law, correct));
  let slack = 0;
  let below = Number.NEGATIVE_INFINITY;
  for (let i = 1; delta > 0 && i <= correct; i++) {
    below = logAddExp(below, logBinomialMass(law, correct - i));
    slack = Math.max(slack, Math.exp(below) / i);
  }
  return Math.min(1, tail + 2 * canaries * delta * slack);
}

/** Beyond this no audit of a feasible number of canaries can tell one epsilon from another. */
const MAX_EPSILON = 100;

/**
 * Largest epsilon that the outcome rejects: with probability 1 - significance the mechanism is no (epsilon, delta)-DP
 * for any smaller epsilon. 0 if the outcome rejects nothing.
 * @throws CoveyError USAGE_RANGE @see Steinke, Nasr, Jagielski 2023; privacy F25
 */
export function oneRunLowerBound(outcome: OneRunOutcome, delta: number, significance: number): number {
  assertSignificance(significance);
  const rejects = (epsilon: number): boolean => oneRunPValue(outcome, epsilon, delta) <= significance;
  if (!rejects(0)) return 0;
  let [low, high] = [0, 1];
  while (rejects(high) && high < MAX_EPSILON) [low, high] = [high, 2 * high];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (rejects(middle)) low = middle;
    else high = middle;
  }
  return low;
}

/** Shares of the canaries that are guessed; the rest is abstained from. Fixed beforehand, paid for by Bonferroni. */
const GUESSED_SHARES: readonly number[] = [1, 0.75, 0.5, 0.25];

export interface OneRunAudit extends OneRunOutcome {
  readonly epsilonLowerBound: number;
}

/**
 * Audits scores of canaries: the larger above 0, the surer "was in"; those nearest to 0 are abstained from. The best of
 * four numbers of guesses is reported, each tested at a quarter of `significance`, so that the confidence stands.
 * Shapes: one score and one truth for each canary. @throws CoveyError USAGE_RANGE
 */
export function auditOneRun(
  scores: readonly number[],
  included: readonly boolean[],
  delta: number,
  significance: number,
): OneRunAudit {
  if (scores.length === 0 || scores.length !== included.length)
    throw new CoveyError('USAGE_RANGE', `"included" expected ${scores.length} truths, got ${included.length}`);
  const surest = scores.map((_, j) => j).sort((a, b) => Math.abs(scores[b] as number) - Math.abs(scores[a] as number));
  const audits = GUESSED_SHARES.map((share) => {
    const guesses = Math.ceil(share * scores.length);
    const correct = surest.slice(0, guesses).filter((j) => (scores[j] as number) > 0 === included[j]).length;
    const outcome = { canaries: scores.length, guesses, correct };
    return {
      ...outcome,
      epsilonLowerBound: oneRunLowerBound(outcome, delta, significance / GUESSED_SHARES.length),
    };
  });
  return audits.reduce((best, next) => (next.epsilonLowerBound > best.epsilonLowerBound ? next : best));
}
