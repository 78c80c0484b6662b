import { CoveyError } from '../../protocol/errors.ts';
import { type HistogramSummary, summarizeHistogram } from '../learning/accuracy-histogram.ts';
import type { Block } from '../privacy/encode.ts';
import type { MetricsConfig, RunConfig } from './config.ts';
import { groupCount } from './groups.ts';

/*
 * Protected accuracies: every few steps each member adds a one to the bin of its accuracy, under noise of its own and
 * charged by itself (privacy 3.5). The models that are measured come with the order; whatever they are, one unit moves
 * the histogram by no more than what is charged.
 */

/** Scale of the unrotated histogram: keeps the share of each participant above 1.5 integer units. */
export const METRICS_SCALE = 16;

/** Least variance of a share: below it sums of discrete Gaussians are refused. Units: squared integer units. @see privacy F11 */
const MIN_SHARE_VARIANCE = 2.25;

function metricsOf({ metrics }: RunConfig): MetricsConfig {
  if (metrics === undefined || metrics === null)
    throw new CoveyError('INTERNAL_INVARIANT', 'a metrics session of a run without metrics');
  return metrics;
}

/** True if accuracies are summed after this training step: every `every` steps and after the last. */
export function isMeasured({ metrics, training }: RunConfig, step: number): boolean {
  if (metrics === undefined || metrics === null) return false;
  return (step + 1) % metrics.every === 0 || step + 1 === training.steps;
}

export function metricsBlock(config: RunConfig): Block {
  const { bins } = metricsOf(config);
  return { segment: 'metrics', realLength: bins, length: bins, rotated: false };
}

/**
 * l2 norm by which one unit moves the summed histogram: a participant that holds nothing adds zeros (1, zero-out); a record
 * that comes or goes may change the measured model and the test records, so that the one moves to another bin (sqrt 2).
 * Units: integer units. @see privacy 3.5
 */
export function metricsSensitivity({ privacy }: RunConfig): number {
  // The double above sqrt 2: the charge is never below the true distance.
  return privacy.unit === 'participant' ? METRICS_SCALE : METRICS_SCALE * Math.SQRT2;
}

/** Variance that one participant adds to each bin. Units: squared integer units. */
export function metricsShareVariance(config: RunConfig): number {
  const { minSurvivors, colluders } = config.cohort;
  const stddev = metricsOf(config).noiseStddev * METRICS_SCALE;
  return Math.max(MIN_SHARE_VARIANCE, stddev ** 2 / (minSurvivors - colluders));
}

/** A released histogram. Units: `histogram` in members, noise included. */
export interface MetricsRelease {
  /** Training step that it was taken after. */
  readonly step: number;
  /** Members that took part, of all groups. */
  readonly survivors: number;
  readonly histogram: readonly number[];
  /** Groups that have released so far. */
  readonly groups: number;
}

/** Adds a released sum; groups of one step are pooled. */
export function addMetrics(
  released: readonly MetricsRelease[],
  step: number,
  sum: Int32Array,
  survivors: number,
): MetricsRelease[] {
  const last = released.at(-1);
  const histogram = [...sum].map((value) => value / METRICS_SCALE);
  if (last?.step !== step) return [...released, { step, survivors, histogram, groups: 1 }];
  const pooled = last.histogram.map((count, bin) => count + (histogram[bin] as number));
  const { survivors: before, groups } = last;
  return [...released.slice(0, -1), { step, survivors: before + survivors, histogram: pooled, groups: groups + 1 }];
}

/** Accuracies over all members after the last measured step; null while groups are still missing. */
export function summarizeMetrics(config: RunConfig, released: readonly MetricsRelease[]): HistogramSummary | null {
  const last = released.at(-1);
  if (last === undefined || last.groups < groupCount(config)) return null;
  return summarizeHistogram(last.histogram, last.survivors);
}
