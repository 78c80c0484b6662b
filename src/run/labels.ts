import type { ReleasedModels } from '../learning/algorithm.ts';
import type { Block } from '../privacy/encode.ts';
import type { RunConfig } from './config.ts';

/*
 * Records of each class over the whole cohort, for algorithms whose gradients read them at unit `record`: either public
 * numbers of the configuration, or one noisy histogram that is summed before the first step and charged by itself. A record
 * adds a one to one class, so it moves the histogram by 1; whatever is done with the released counts is free (privacy section 1).
 */

/** Where label counts come from: a public prior, or a histogram under noise. */
export type LabelSource =
  | { readonly prior: readonly number[] }
  /** Standard deviation of the summed noise in each class with the fewest accepted honest shares. Units: records. */
  | { readonly noiseStddev: number };

/** Counts are not scaled: one record is one unit, and its l2 norm is exactly one. */
export const LABEL_SCALE = 1;

/** Least variance of a share: below it sums of discrete Gaussians are refused. Units: squared integer units. @see privacy F11 */
const MIN_SHARE_VARIANCE = 2.25;

type Labelled = Pick<RunConfig, 'algorithm' | 'model'>;

/** True if a run sums label counts before its first step. */
export function sumsLabels({ algorithm }: Pick<RunConfig, 'algorithm'>): boolean {
  return algorithm?.labels !== undefined && 'noiseStddev' in algorithm.labels;
}

export function labelsBlock({ model }: Labelled): Block {
  return { segment: 'labels', realLength: model.classes, length: model.classes, rotated: false };
}

/** Variance that one participant adds to each count. Units: squared records. */
export function labelsShareVariance({ algorithm, cohort }: RunConfig): number {
  const noiseStddev =
    algorithm?.labels !== undefined && 'noiseStddev' in algorithm.labels ? algorithm.labels.noiseStddev : 0;
  return Math.max(MIN_SHARE_VARIANCE, noiseStddev ** 2 / (cohort.minSurvivors - cohort.colluders));
}

/** Length of the released counts, the last of the vectors beside the models; none where they are not summed. */
export function labelLengths(config: Labelled): readonly number[] {
  return sumsLabels(config) ? [config.model.classes] : [];
}

/** The counts that everybody uses, public or released, at least one in each class; null in a run without. */
export function labelCounts(config: Labelled, models: ReleasedModels): Float64Array | null {
  const { labels } = config.algorithm ?? {};
  if (labels === undefined) return null;
  const counts = 'prior' in labels ? labels.prior : (models.extra.at(-1) ?? []);
  // Before they are released all counts are zero: the same in each class.
  return Float64Array.from(counts, (count) => ('prior' in labels ? count : Math.max(1, count)));
}
