import { concatBytes, toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';

/**
 * Labelled records of one organization.
 * Shapes: `features` count x featureLength, row after row; `labels` count, each below `classes`.
 */
export interface Dataset {
  readonly count: number;
  readonly featureLength: number;
  readonly classes: number;
  readonly features: Float32Array;
  readonly labels: Uint8Array;
  /** Whose record each one is, numbered from 0 without gaps; absent where nobody says. Shapes: `count`. */
  readonly persons?: Uint32Array;
  /** Real targets, one for each record, where a model is fitted by squared error; labels are zeros of one class then. */
  readonly targets?: Float64Array;
}

/** Training and test records of one organization. */
export interface SplitData {
  readonly train: Dataset;
  readonly test: Dataset;
}

/**
 * Builds a data set after checking its shapes.
 * @throws CoveyError USAGE_RANGE if the lengths do not fit or a label is not a class.
 */
export function createDataset(
  featureLength: number,
  classes: number,
  features: Float32Array,
  labels: Uint8Array,
): Dataset {
  if (features.length !== featureLength * labels.length) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"features" expected ${featureLength * labels.length} values, got ${features.length}`,
    );
  }
  for (const label of labels) {
    if (label >= classes)
      throw new CoveyError('USAGE_RANGE', `"labels" expected classes below ${classes}, got ${label}`);
  }
  return { count: labels.length, featureLength, classes, features, labels };
}

/** The chosen records, in the order of the choice. @throws CoveyError USAGE_RANGE for a record that does not exist. */
export function selectRecords(data: Dataset, records: Uint32Array): Dataset {
  const { featureLength, classes } = data;
  const features = new Float32Array(records.length * featureLength);
  const labels = new Uint8Array(records.length);
  records.forEach((record, i) => {
    if (record >= data.count)
      throw new CoveyError('USAGE_RANGE', `"records" expected records below ${data.count}, got ${record}`);
    features.set(data.features.subarray(record * featureLength, (record + 1) * featureLength), i * featureLength);
    labels[i] = data.labels[record] as number;
  });
  const selected = createDataset(featureLength, classes, features, labels);
  const { targets } = data;
  const chosen =
    targets === undefined
      ? selected
      : { ...selected, targets: Float64Array.from(records, (record) => targets[record] as number) };
  const { persons } = data;
  return persons === undefined
    ? chosen
    : withPersons(
        chosen,
        Array.from(records, (record) => String(persons[record])),
      );
}

/**
 * Says whose record each one is; persons are numbered in the order in which they are first met.
 * @throws CoveyError USAGE_RANGE unless there is a name for each record.
 */
export function withPersons(data: Dataset, names: readonly string[]): Dataset {
  if (names.length !== data.count)
    throw new CoveyError('USAGE_RANGE', `"persons" expected ${data.count} names, got ${names.length}`);
  const numbers = new Map<string, number>();
  const persons = Uint32Array.from(names, (name) => {
    const number = numbers.get(name) ?? numbers.size;
    numbers.set(name, number);
    return number;
  });
  return { ...data, persons };
}

/** What one unit of privacy owns: records one by one, or all records of a person. */
export type RecordUnits = readonly (readonly number[])[];

/**
 * Groups the records by what an epsilon protects.
 * @throws CoveyError USAGE_CONFIG if persons are to be protected and nobody says whose the records are.
 */
export function unitsOf(data: Dataset, perPerson: boolean): RecordUnits {
  if (!perPerson) return Array.from({ length: data.count }, (_, record) => [record]);
  const { persons } = data;
  if (persons === undefined && data.count > 0)
    throw new CoveyError('USAGE_CONFIG', '"data" expected a person for every record in a run that protects persons');
  const units: number[][] = [];
  persons?.forEach((person, record) => {
    const unit = units[person];
    if (unit === undefined) units[person] = [record];
    else unit.push(record);
  });
  return units;
}

const LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** Canonical bytes of a data set: features as little-endian 32-bit floats, then the labels, then targets as doubles. */
export function datasetBytes(dataset: Dataset): Uint8Array {
  const { features, labels } = dataset;
  const bytes = new Uint8Array(4 * features.length + labels.length);
  // A machine that stores numbers this way already needs no conversion: 752 MB in the largest scenario.
  if (LITTLE_ENDIAN) bytes.set(new Uint8Array(features.buffer, features.byteOffset, features.byteLength));
  else {
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < features.length; i++) view.setFloat32(4 * i, features[i] as number, true);
  }
  bytes.set(labels, 4 * features.length);
  if (dataset.targets === undefined) return bytes;
  const doubles = new DataView(new ArrayBuffer(8 * dataset.targets.length));
  dataset.targets.forEach((target, i) => {
    doubles.setFloat64(8 * i, target, true);
  });
  return concatBytes(bytes, new Uint8Array(doubles.buffer));
}

/** SHA-256 of the canonical bytes, in hex. */
export function datasetHash(crypto: Pick<CryptoProvider, 'sha256'>, dataset: Dataset): string {
  return toHex(crypto.sha256(datasetBytes(dataset)));
}

/** What identifies the split of a scenario: the same numbers on every engine, or the data are not the same. */
export interface SplitManifest {
  readonly scenario: string;
  readonly seed: number;
  readonly organizations: readonly {
    readonly trainRecords: number;
    readonly trainSha256: string;
    readonly testRecords: number;
    readonly testSha256: string;
  }[];
}

/** Builds the split manifest of a scenario from the data of its organizations. */
export function buildSplitManifest(
  crypto: Pick<CryptoProvider, 'sha256'>,
  scenario: string,
  seed: number,
  organizations: readonly SplitData[],
): SplitManifest {
  return {
    scenario,
    seed,
    organizations: organizations.map(({ train, test }) => ({
      trainRecords: train.count,
      trainSha256: datasetHash(crypto, train),
      testRecords: test.count,
      testSha256: datasetHash(crypto, test),
    })),
  };
}

/** Records of one organization followed by `added` others. */
export function appendRecords(data: Dataset, added: Dataset): Dataset {
  const features = new Float32Array(data.features.length + added.features.length);
  features.set(data.features);
  features.set(added.features, data.features.length);
  return createDataset(data.featureLength, data.classes, features, Uint8Array.from([...data.labels, ...added.labels]));
}
