import { CoveyError } from '../../protocol/errors.ts';
import type { Dataset } from '../data/dataset.ts';
import type { GradientOracle, Model } from './oracle.ts';

/** Share of records whose predicted class is right, in [0, 1]. */
export function accuracy(oracle: GradientOracle, model: Model, data: Dataset): number {
  const predicted = oracle.predict(model.body, model.head, data);
  let right = 0;
  for (let i = 0; i < data.count; i++) if (predicted[i] === data.labels[i]) right++;
  return data.count === 0 ? 0 : right / data.count;
}

/** Mean recall over the classes that occur: not fooled by an organization with nearly one class. */
export function balancedAccuracy(oracle: GradientOracle, model: Model, data: Dataset): number {
  const predicted = oracle.predict(model.body, model.head, data);
  const total = new Float64Array(data.classes);
  const right = new Float64Array(data.classes);
  data.labels.forEach((label, i) => {
    total[label] = (total[label] ?? 0) + 1;
    if (predicted[i] === label) right[label] = (right[label] ?? 0) + 1;
  });
  const recalls = [...total].flatMap((n, label) => (n === 0 ? [] : [(right[label] ?? 0) / n]));
  return recalls.length === 0 ? 0 : recalls.reduce((sum, recall) => sum + recall, 0) / recalls.length;
}

/** Accuracies over the participants. Units: shares in [0, 1]; `weightedMean` by test records. */
export interface Evaluation {
  readonly mean: number;
  readonly weightedMean: number;
  readonly stddev: number;
  readonly worst: number;
  /** Mean of the worst tenth of the participants, at least one. */
  readonly worstTenth: number;
}

/**
 * Summarizes the accuracies of the participants.
 * @throws CoveyError USAGE_RANGE for no participant or weights that do not fit.
 */
export function summarizeAccuracies(
  accuracies: readonly number[],
  weights: readonly number[] = accuracies.map(() => 1),
): Evaluation {
  const n = accuracies.length;
  if (n === 0 || weights.length !== n)
    throw new CoveyError(
      'USAGE_RANGE',
      `"accuracies" expected as many values as weights, got ${n} and ${weights.length}`,
    );
  const sorted = [...accuracies].sort((a, b) => a - b);
  const mean = accuracies.reduce((sum, a) => sum + a, 0) / n;
  const total = weights.reduce((sum, w) => sum + w, 0);
  const tenth = sorted.slice(0, Math.max(1, Math.floor(n / 10)));
  return {
    mean,
    weightedMean: accuracies.reduce((sum, a, i) => sum + a * (weights[i] ?? 0), 0) / total,
    stddev: Math.sqrt(accuracies.reduce((sum, a) => sum + (a - mean) ** 2, 0) / n),
    worst: sorted[0] ?? 0,
    worstTenth: tenth.reduce((sum, a) => sum + a, 0) / tenth.length,
  };
}
