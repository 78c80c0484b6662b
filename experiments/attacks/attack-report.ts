import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import type { SecureSum } from '../../protocol/ideal.ts';
import type { EpsilonReport } from '../../src/privacy/views.ts';

export const ATTACK_METHODS = ['one-run', 'two-worlds', 'one-shot', 'membership'] as const;
export type AttackMethod = (typeof ATTACK_METHODS)[number];

export interface AttackOptions {
  readonly method: AttackMethod;
  readonly seed: number;
  readonly canaries: number;
  readonly steps: number;
  readonly targetEpsilon: number;
  /** Organizations with data, at most 12; one-shot adds one participant for each canary. */
  readonly participants: number;
  /** Further members that hold no records and add their share of the noise. */
  readonly idle?: number;
  readonly crypto: CryptoProvider;
  /** The ideal aggregator by default; the masked protocol releases the same bits. */
  readonly secureSum?: SecureSum;
}

export interface AttackReport {
  readonly method: AttackMethod;
  readonly seed: number;
  readonly canaries: number;
  /** What the accountant says of the run that was attacked. */
  readonly claim: EpsilonReport;
  readonly epsilonLowerBound: number;
  readonly confidence: number;
  readonly verdict: 'consistent' | 'violated';
  /** Numbers of the method: guesses, rates, fitted law. */
  readonly evidence: Readonly<Record<string, number>>;
  /** What the bound holds under. */
  readonly assumptions: readonly string[];
}

/** Probability that a bound exceeds the true epsilon. */
export const SIGNIFICANCE = 0.05;
export const VIEW_ASSUMPTION =
  'view: the coordinator, with every released sum and model and all records but the canaries; it takes off no colluder share';

export function report(
  options: Pick<AttackOptions, 'method' | 'seed' | 'canaries'>,
  claim: EpsilonReport,
  epsilonLowerBound: number,
  evidence: AttackReport['evidence'],
  assumptions: readonly string[],
): AttackReport {
  const { method, seed, canaries } = options;
  const verdict = epsilonLowerBound > claim.epsilon ? 'violated' : 'consistent';
  return {
    method,
    seed,
    canaries,
    claim,
    epsilonLowerBound,
    confidence: 1 - SIGNIFICANCE,
    verdict,
    evidence,
    assumptions,
  };
}
