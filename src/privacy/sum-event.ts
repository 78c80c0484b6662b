import { CoveyError } from '../../protocol/errors.ts';
import type { NoiseMechanism } from '../../protocol/session.ts';
import { survivorVariance } from './dropout-noise.ts';
import type { DpEvent } from './events.ts';
import { floatSensitivity } from './float-terms.ts';
import { contributionBound } from './rounding.ts';
import { honestShares, type View } from './views.ts';

/** What one protected sum is, whoever runs or plans it. Units: `sensitivity` and `dimension` as in `DiscreteGaussianEvent`. */
export interface SumTerms {
  readonly sensitivity: number;
  readonly dimension: number;
  /** Probability with which each unit is drawn, hidden from the viewer; 1 without sampling. */
  readonly samplingProbability: number;
  readonly colluders: number;
  /** Law of every share; discrete Gaussian where it is left out. */
  readonly mechanism?: SumMechanism | undefined;
  /**
   * Where noise is exact whoever drops out: the number of survivors whose share `shareVariance` is; more carry as much
   * together. Left out: every survivor keeps its share.
   */
  readonly exactFor?: number | undefined;
}

/** How the terms of records are summed: as integers, or in exact doubles that are rounded once. */
export type TermKind = 'integer' | 'float-bounded';

/**
 * l2 norm by which one unit moves an integer sum: a record's term is rounded toward zero, or all of them once at random; the
 * update of a participant at random within a bound that grows with the dimension. Units: `scaledNorm` (clip times scale) in
 * integer units. @see privacy F13
 */
export function unitSensitivity(
  unit: 'record' | 'participant',
  scaledNorm: number,
  dimension: number,
  terms: TermKind = 'integer',
): number {
  if (unit === 'record') return terms === 'integer' ? Math.floor(scaledNorm) : floatSensitivity(scaledNorm, dimension);
  return contributionBound(scaledNorm, dimension).sensitivity;
}

/** Laws of noise whose sums an accountant bounds. */
export type SumMechanism = Exclude<NoiseMechanism, 'none'>;

/**
 * What one unit pays for a sum of `survivors` members, each with a share of variance `shareVariance`.
 * Skellam shares sum to Skellam noise; discrete Gaussian ones stay apart in the event, and are never taken off again.
 * @throws CoveyError PRIVACY_NOISE if no honest share is left. @see privacy section 3, F9, F11, F12, F18, F19
 */
export function sumEvent(terms: SumTerms, shareVariance: number, survivors: number, view: View): DpEvent {
  const { sensitivity, dimension, samplingProbability: probability, colluders } = terms;
  const shares = honestShares(view, survivors, colluders);
  const variance =
    terms.exactFor === undefined ? shareVariance : survivorVariance(shareVariance, terms.exactFor, survivors);
  if (terms.exactFor !== undefined && terms.mechanism !== 'skellam')
    throw new CoveyError('PRIVACY_NOISE', '"mechanism" expected skellam where noise is exact whoever drops out');
  const sum: DpEvent =
    terms.mechanism === 'skellam'
      ? { kind: 'skellam', variance: shares * variance, sensitivity, dimension, symmetric: true }
      : { kind: 'discreteGaussian', shares, shareVariance, sensitivity, dimension, symmetric: true };
  return probability === 1 ? sum : { kind: 'poissonSampled', probability, event: sum };
}
