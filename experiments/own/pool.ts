import { CoveyError } from '../../protocol/errors.ts';
import { createDataset, type Dataset } from '../../src/data/dataset.ts';

/** Records that are not features yet: a byte each where files hold bytes, so that large sets fit into memory. */
export interface RecordPool {
  readonly count: number;
  readonly featureLength: number;
  readonly classes: number;
  /** Where features are rows of a table of embeddings: how many it has. */
  readonly entries?: number | undefined;
  readonly labels: Uint8Array;
  /** Whose each record is; null where the files do not say. */
  readonly owners: readonly string[] | null;
  /** Writes the features of a record. */
  write(record: number, target: Float32Array, at: number): void;
}

/** One pool behind the other. @throws CoveyError USAGE_CONFIG unless records have one length and both or none have owners. */
export function joinPools(first: RecordPool, second: RecordPool): RecordPool {
  for (const size of ['featureLength', 'classes'] as const)
    if (first[size] !== second[size])
      throw new CoveyError('USAGE_CONFIG', `"test" expected ${size} ${first[size]}, got ${second[size]}`);
  const labels = new Uint8Array(first.count + second.count);
  labels.set(first.labels);
  labels.set(second.labels, first.count);
  return {
    ...first,
    count: labels.length,
    labels,
    owners: first.owners === null || second.owners === null ? null : [...first.owners, ...second.owners],
    write(record, target, at) {
      if (record < first.count) first.write(record, target, at);
      else second.write(record - first.count, target, at);
    },
  };
}

/** Features and labels of the chosen records, in the order of the choice. */
export function poolDataset({ classes, featureLength, labels, write }: RecordPool, records: Uint32Array): Dataset {
  const features = new Float32Array(records.length * featureLength);
  records.forEach((record, i) => {
    write(record, features, i * featureLength);
  });
  return createDataset(
    featureLength,
    classes,
    features,
    Uint8Array.from(records, (record) => labels[record] as number),
  );
}
