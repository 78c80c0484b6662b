/**
 * What an accountant is told about a release: frozen data, whose meaning never changes once shipped.
 *
 * The neighbouring relation is a property of the accountant that composes events; `noiseMultiplier` and `sensitivity`
 * are always relative to the sensitivity under that relation. Noise on the integer grid is described by variances and
 * sensitivities in integer units, so that what is charged is what was drawn.
 */
export type DpEvent =
  /** Continuous Gaussian noise of standard deviation noiseMultiplier times the l2 sensitivity. */
  | { readonly kind: 'gaussian'; readonly noiseMultiplier: number }
  | DiscreteGaussianEvent
  | SkellamEvent
  /** Laplace noise of scale noiseMultiplier times the l1 sensitivity. */
  | { readonly kind: 'laplace'; readonly noiseMultiplier: number; readonly symmetric: boolean }
  /** Discrete Laplace noise, P(x) proportional to e^{-noiseParameter |x|}, on one integer that moves by `sensitivity`. */
  | { readonly kind: 'discreteLaplace'; readonly noiseParameter: number; readonly sensitivity: number }
  /**
   * Gaussian noise of deviation `noiseStddev` on a sum that one record moves by sensitivities[j] with probability
   * probabilities[j], hidden from the viewer.
   */
  | {
      readonly kind: 'gaussianMixture';
      readonly noiseStddev: number;
      readonly sensitivities: readonly number[];
      readonly probabilities: readonly number[];
    }
  /**
   * Gaussian noise on a Poisson sample, of which a uniform subset of `maxBatchSize` is kept if it is larger;
   * `noiseMultiplier` relative to the sensitivity of adding or removing one record.
   */
  | {
      readonly kind: 'truncatedPoissonGaussian';
      readonly populationSize: number;
      readonly probability: number;
      readonly maxBatchSize: number;
      readonly noiseMultiplier: number;
    }
  /**
   * One draw from the exponential mechanism that is epsilon-DP (and epsilon-bounded-range). `monotone` records that
   * one record moves all scores one way, for which P is proportional to exp(epsilon q / Delta) instead of
   * exp(epsilon q / (2 Delta)); the cost is that of epsilon in both cases.
   */
  | { readonly kind: 'exponentialMechanism'; readonly epsilon: number; readonly monotone: boolean }
  | { readonly kind: 'permuteAndFlip'; readonly epsilon: number }
  /**
   * A bucket of `buckets` is reported: the true one, or with probability `noiseParameter` a uniform one (which may
   * again be the true one).
   */
  | { readonly kind: 'randomizedResponse'; readonly noiseParameter: number; readonly buckets: number }
  /** Every record takes part independently with this probability; who did stays hidden from the viewer. */
  | { readonly kind: 'poissonSampled'; readonly probability: number; readonly event: DpEvent }
  /** A uniform subset of fixed size takes part, hidden from the viewer; relation replace-one only. */
  | {
      readonly kind: 'fixedSizeSampled';
      readonly populationSize: number;
      readonly sampleSize: number;
      readonly event: DpEvent;
    }
  | { readonly kind: 'selfComposed'; readonly count: number; readonly event: DpEvent }
  | { readonly kind: 'composed'; readonly events: readonly DpEvent[] }
  /** (xi, rho)-zCDP; xi is 0 where it is left out. */
  | { readonly kind: 'zCdp'; readonly rho: number; readonly xi?: number }
  /** Binary trees of partial sums with Gaussian noise in every node; each record takes part once. Relation zero-out only. */
  | { readonly kind: 'treeAggregation'; readonly noiseMultiplier: number; readonly stepCounts: readonly number[] }
  /** The best of a random number of runs; negative binomial with `shape`, or Poisson where it is left out. */
  | { readonly kind: 'repeatAndSelect'; readonly event: DpEvent; readonly mean: number; readonly shape?: number }
  /** Any (epsilon, delta)-DP mechanism; its delta is taken off the delta of the claim. */
  | { readonly kind: 'approximateDp'; readonly epsilon: number; readonly delta: number }
  /** A release without protection: epsilon is infinite from here on. */
  | { readonly kind: 'nonPrivate' }
  /** A mechanism nobody can bound; every accountant refuses it. */
  | { readonly kind: 'unsupported'; readonly reason: string };

/**
 * A sum in which `shares` honest participants each added discrete Gaussian noise of variance `shareVariance` to every
 * coordinate. Units: variances in squared integer units, `sensitivity` (l2) in integer units; `dimension` counts the
 * padded coordinates of all blocks.
 * @see Kairouz, Liu, Steinke 2021; privacy F11
 */
export interface DiscreteGaussianEvent {
  readonly kind: 'discreteGaussian';
  readonly shares: number;
  readonly shareVariance: number;
  /** Variances of further honest shares that differ from `shareVariance`. */
  readonly otherShareVariances?: readonly number[];
  readonly sensitivity: number;
  readonly dimension: number;
  /** The noise is symmetric and the shift it hides is fixed by the record alone (record rule); privacy F9. */
  readonly symmetric: boolean;
}

/** A sum with Skellam noise of total honest variance `variance` on every coordinate. @see privacy F12 */
export interface SkellamEvent {
  readonly kind: 'skellam';
  readonly variance: number;
  readonly sensitivity: number;
  readonly dimension: number;
  readonly symmetric: boolean;
}

/** Neighbouring relations; zero-out keeps the number of records public and has the numbers of add-remove. */
export type Relation = 'add-remove' | 'zero-out' | 'replace-one';

export const RELATIONS: readonly Relation[] = ['add-remove', 'zero-out', 'replace-one'];
