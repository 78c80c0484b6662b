import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import type { SecureSum } from '../../protocol/ideal.ts';
import { createDenseOracle } from '../../src/learning/dense-oracle.ts';
import type { DenseShape } from '../../src/learning/manifest.ts';
import type { GradientOracle } from '../../src/learning/oracle.ts';
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
  /** In place of the model of the digits, of as many features and classes. */
  readonly model?: DenseShape;
  /** What computes it; perceptrons in plain doubles if absent. */
  readonly createOracle?: (model: DenseShape) => GradientOracle;
  readonly crypto: CryptoProvider;
  /** The ideal aggregator by default; the masked protocol releases the same bits. */
  readonly secureSum?: SecureSum;
}

export interface AttackReport {
  readonly method: AttackMethod;
  readonly seed: number;
  readonly canaries: number;
  /** Folder of the finished run; null for a run that was simulated for the attack. */
  readonly run: string | null;
  /** What the accountant says of the run that was attacked. */
  readonly claim: EpsilonReport;
  readonly epsilonLowerBound: number;
  readonly confidence: number;
  readonly verdict: 'consistent' | 'violated';
  /** What the attacker did, and what came of it, in words. */
  readonly tried: string;
  readonly found: string;
  /** Numbers of the method: guesses, rates, fitted law. */
  readonly evidence: Readonly<Record<string, number>>;
  /** What the bound holds under. */
  readonly assumptions: readonly string[];
}

/** Oracle of the attacked model. */
export function oracleOf(
  { createOracle = createDenseOracle }: Pick<AttackOptions, 'createOracle'>,
  model: DenseShape,
): GradientOracle {
  return createOracle(model);
}

/** Probability that a bound exceeds the true epsilon. */
export const SIGNIFICANCE = 0.05;
export const VIEW_ASSUMPTION =
  'view: the coordinator, with every released sum and model and all records but the canaries; it takes off no colluder share';

/** What a method hands in; the rest of a report follows from it. */
export type Findings = Pick<
  AttackReport,
  'method' | 'seed' | 'canaries' | 'claim' | 'epsilonLowerBound' | 'tried' | 'found' | 'evidence' | 'assumptions'
> & { readonly run?: string };

export function report({ run, ...findings }: Findings): AttackReport {
  const verdict = findings.epsilonLowerBound > findings.claim.epsilon ? 'violated' : 'consistent';
  return { ...findings, run: run ?? null, confidence: 1 - SIGNIFICANCE, verdict };
}

/** A share in per cent, for sentences. */
export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** A number of things, for sentences. */
export const count = (n: number, thing: string): string => `${n} ${thing}${n === 1 ? '' : 's'}`;
