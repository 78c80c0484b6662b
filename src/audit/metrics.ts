import { type HistogramSummary, meanNoiseStddev, summarizeHistogram } from '../learning/accuracy-histogram.ts';
import type { EntryBody } from './bodies.ts';
import type { RunHistory } from './replay.ts';

/** What the configuration in the log says about metrics, null if a run has none. */
export function announcedMetrics({
  config,
}: EntryBody<'run.open'>): { readonly every: number; readonly bins: number; readonly noiseStddev: number } | null {
  const announced = config['metrics'] as Readonly<Record<string, unknown>> | null | undefined;
  if (announced === null || announced === undefined) return null;
  const { every, bins, noiseStddev } = announced;
  return { every: Number(every), bins: Number(bins), noiseStddev: Number(noiseStddev) };
}

/** True if the configuration in the log asks for accuracies after this training step. */
export function isMetricsStep(open: EntryBody<'run.open'>, step: number): boolean {
  const announced = announcedMetrics(open);
  if (announced === null || step >= open.plan.rounds) return false;
  return (step + 1) % announced.every === 0 || step + 1 === open.plan.rounds;
}

/** Accuracies that a run released after a training step, of all groups. */
export interface ProtectedAccuracy extends HistogramSummary {
  readonly step: number;
  readonly members: number;
  /** Standard deviation of the mean by noise alone. */
  readonly meanStddev: number;
}

/** Summaries of the histograms in the log, in order; post-processing of charged releases. */
export function protectedAccuracies({ sessions }: RunHistory): ProtectedAccuracy[] {
  const steps = new Map<number, { counts: number[]; members: number; variance: number }>();
  for (const { histogram, params, release } of sessions) {
    if (histogram === undefined || release === undefined) continue;
    const { step, histogram: counts } = histogram.body;
    const { survivors } = release.body;
    const variance = (survivors * params.noise.shareVariance) / params.encoding.scale ** 2;
    const pooled = steps.get(step);
    steps.set(step, {
      counts: counts.map((count, bin) => Number(count) + (pooled?.counts[bin] ?? 0)),
      members: survivors + (pooled?.members ?? 0),
      variance: variance + (pooled?.variance ?? 0),
    });
  }
  return [...steps].map(([step, { counts, members, variance }]) => ({
    step,
    members,
    meanStddev: meanNoiseStddev(Math.sqrt(variance), counts.length, members),
    ...summarizeHistogram(counts, members),
  }));
}
