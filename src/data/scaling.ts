import { CoveyError } from '../../protocol/errors.ts';
import { createDataset, type Dataset } from './dataset.ts';

/** Mean and standard deviation of every feature. Shapes: featureLength each; a constant feature has deviation 1. */
export interface FeatureMoments {
  readonly means: Float64Array;
  readonly stddevs: Float64Array;
}

/**
 * Raw moments over the training records of all the participants, as three sums (count, sum, sum of squares around a
 * first mean) would give them.
 * Not guaranteed: privacy. A record scaled by these depends on every other record: with noise at record level use
 * declared ranges, or charge a noisy sum. @see privacy section 1
 */
export function pooledMoments(datasets: readonly Dataset[]): FeatureMoments {
  const length = datasets[0]?.featureLength ?? 0;
  if (length === 0 || datasets.some((d) => d.featureLength !== length))
    throw new CoveyError('USAGE_RANGE', '"datasets" expected records of one length');
  const count = datasets.reduce((sum, d) => sum + d.count, 0);
  if (count === 0) throw new CoveyError('USAGE_RANGE', '"datasets" expected at least one record');
  const means = new Float64Array(length);
  const stddevs = new Float64Array(length);
  const eachValue = (visit: (feature: number, value: number) => void): void => {
    for (const { features } of datasets)
      for (let i = 0, j = 0; i < features.length; i++, j = j + 1 === length ? 0 : j + 1)
        visit(j, features[i] as number);
  };
  eachValue((j, value) => {
    means[j] = (means[j] as number) + value;
  });
  for (let j = 0; j < length; j++) means[j] = (means[j] as number) / count;
  eachValue((j, value) => {
    const distance = value - (means[j] as number);
    stddevs[j] = (stddevs[j] as number) + distance * distance;
  });
  for (let j = 0; j < length; j++) {
    const stddev = Math.sqrt((stddevs[j] as number) / count);
    stddevs[j] = stddev > 1e-9 ? stddev : 1;
  }
  return { means, stddevs };
}

/** Subtracts the means and divides by the deviations. */
export function standardize(data: Dataset, { means, stddevs }: FeatureMoments): Dataset {
  const length = data.featureLength;
  const features = data.features.map(
    (value, i) => (value - (means[i % length] as number)) / (stddevs[i % length] as number),
  );
  return createDataset(length, data.classes, features, data.labels);
}

/** A range that is public before any record is seen. */
export type DeclaredRange = readonly [low: number, high: number];

/** Clamps every feature to its declared range and maps that to [-1, 1]: a function of the record alone. */
export function scaleByRanges(data: Dataset, ranges: readonly DeclaredRange[]): Dataset {
  const length = data.featureLength;
  if (ranges.length !== length || !ranges.every(([low, high]) => low < high))
    throw new CoveyError('USAGE_RANGE', `"ranges" expected ${length} ranges with low below high`);
  const features = data.features.map((value, i) => {
    const [low, high] = ranges[i % length] as DeclaredRange;
    return (2 * (Math.min(high, Math.max(low, value)) - low)) / (high - low) - 1;
  });
  return createDataset(length, data.classes, features, data.labels);
}
