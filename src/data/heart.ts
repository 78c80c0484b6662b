import { CoveyError } from '../../protocol/errors.ts';
import { parseNumericCsv } from './csv.ts';
import { createDataset, type Dataset, type SplitData } from './dataset.ts';
import { createRandom } from './random.ts';

/** A hospital of the UCI Heart Disease data. Units: records left after rows with missing values are dropped. */
export interface HeartHospital {
  readonly name: string;
  readonly file: string;
  readonly trainRecords: number;
  readonly testRecords: number;
}

/** The four hospitals with the sizes of the split that FLamby published. */
export const HEART_HOSPITALS: readonly HeartHospital[] = [
  { name: 'Cleveland', file: 'processed.cleveland.data', trainRecords: 199, testRecords: 104 },
  { name: 'Hungarian', file: 'processed.hungarian.data', trainRecords: 172, testRecords: 89 },
  { name: 'Switzerland', file: 'processed.switzerland.data', trainRecords: 30, testRecords: 16 },
  { name: 'VA Long Beach', file: 'processed.va.data', trainRecords: 85, testRecords: 45 },
];

/** Values of a record: eight measurements and five indicators. */
export const HEART_FEATURES = 13;

const COLUMNS = 14;
const DIAGNOSIS = 13;
/** Columns that are read; slope, vessels and thal (10 to 12) are missing in most rows of three hospitals and ignored. */
const USED_COLUMNS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, DIAGNOSIS] as const;

/**
 * Plausible ranges known before any record was seen. Statistics of the records (mean, deviation, extremes) would make a
 * record's term depend on other records, which the record rule forbids (privacy section 1); values outside are clamped.
 */
const MEASUREMENTS = [
  { name: 'age', column: 0, low: 20, high: 80 },
  { name: 'sex', column: 1, low: 0, high: 1 },
  { name: 'resting blood pressure', column: 3, low: 80, high: 200 },
  { name: 'cholesterol', column: 4, low: 0, high: 500 },
  { name: 'fasting blood sugar above 120', column: 5, low: 0, high: 1 },
  { name: 'highest heart rate', column: 7, low: 60, high: 200 },
  { name: 'exercise angina', column: 8, low: 0, high: 1 },
  { name: 'ST depression', column: 9, low: -3, high: 6 },
] as const;

/** Categories as indicators without the first value of each: chest pain 2, 3, 4 and resting ECG 1, 2. */
const INDICATORS = [
  { column: 2, value: 2 },
  { column: 2, value: 3 },
  { column: 2, value: 4 },
  { column: 6, value: 1 },
  { column: 6, value: 2 },
] as const;

/** Seed of the built-in split; public. */
const SPLIT_SEED = 0x6865_6172;

/** Measurements mapped from their declared ranges to [-1, 1], or as they stand in the file. */
export type HeartScaling = 'declared' | 'none';

function scaleRow(row: Float64Array, scaling: HeartScaling, features: Float32Array, offset: number): void {
  MEASUREMENTS.forEach(({ column, low, high }, i) => {
    const raw = row[column] as number;
    const value = Math.min(high, Math.max(low, raw));
    features[offset + i] = scaling === 'none' ? raw : (2 * (value - low)) / (high - low) - 1;
  });
  INDICATORS.forEach(({ column, value }, i) => {
    features[offset + MEASUREMENTS.length + i] = row[column] === value ? 1 : 0;
  });
}

function select(rows: readonly Float64Array[], indices: readonly number[], scaling: HeartScaling): Dataset {
  const features = new Float32Array(indices.length * HEART_FEATURES);
  const labels = new Uint8Array(indices.length);
  indices.forEach((index, i) => {
    const row = rows[index] as Float64Array;
    scaleRow(row, scaling, features, i * HEART_FEATURES);
    labels[i] = (row[DIAGNOSIS] as number) > 0 ? 1 : 0;
  });
  return createDataset(HEART_FEATURES, 2, features, labels);
}

function builtInTestIndices(hospital: number, total: number, testRecords: number): number[] {
  const order = Uint32Array.from({ length: total }, (_, i) => i);
  createRandom(SPLIT_SEED, hospital).shuffle(order);
  return [...order.subarray(0, testRecords)];
}

/**
 * Reads one hospital's `processed.*.data` text: heart disease (any degree) or none, 13 features scaled by public ranges
 * to [-1, 1]. A row with a missing value in a used column is dropped; a cholesterol of 0 (not measured, most of
 * Switzerland) stays 0, as in FLamby. Rows keep their order.
 * `testIndices` selects the test rows among those left (FLamby publishes such a list); without it a fixed draw of the
 * same size is used. `scaling` `none` leaves the measurements in their own units, for scenarios without record-level
 * claims.
 * @throws CoveyError USAGE_RANGE for an unknown hospital, another number of rows or bad indices, CODEC_TYPE for a bad file.
 */
export function parseHeart(
  hospital: number,
  text: string,
  testIndices?: readonly number[],
  scaling: HeartScaling = 'declared',
): SplitData {
  const facts = HEART_HOSPITALS[hospital];
  if (facts === undefined) {
    throw new CoveyError('USAGE_RANGE', `"hospital" expected 0 to ${HEART_HOSPITALS.length - 1}, got ${hospital}`);
  }
  const rows = parseNumericCsv(text, COLUMNS).filter((row) => USED_COLUMNS.every((c) => !Number.isNaN(row[c])));
  const total = facts.trainRecords + facts.testRecords;
  if (rows.length !== total) {
    throw new CoveyError('USAGE_RANGE', `"${facts.file}" expected ${total} complete rows, got ${rows.length}`);
  }
  const chosen = testIndices ?? builtInTestIndices(hospital, total, facts.testRecords);
  const test = new Set(chosen);
  if (test.size !== chosen.length || ![...test].every((i) => Number.isInteger(i) && i >= 0 && i < total)) {
    throw new CoveyError('USAGE_RANGE', `"testIndices" expected distinct rows below ${total}`);
  }
  const all = Array.from({ length: total }, (_, i) => i);
  return {
    train: select(
      rows,
      all.filter((i) => !test.has(i)),
      scaling,
    ),
    test: select(
      rows,
      all.filter((i) => test.has(i)),
      scaling,
    ),
  };
}

/** Keys of FLamby's list of test rows, in the order of `HEART_HOSPITALS`. */
const TEST_ROW_KEYS = ['cleveland', 'hungarian', 'switzerland', 'va'] as const;

/**
 * Reads the published test rows of the four hospitals; `parseHeart` checks them against the rows there are.
 * @throws CoveyError CODEC_TYPE unless the text is a JSON object with a list of numbers for every hospital.
 */
export function parseTestRows(text: string): readonly (readonly number[])[] {
  let lists: unknown;
  try {
    lists = JSON.parse(text);
  } catch (cause) {
    throw new CoveyError('CODEC_TYPE', '"flamby_test_indices.json" expected JSON', {}, { cause });
  }
  return TEST_ROW_KEYS.map((key) => {
    const rows = (lists as Readonly<Record<string, unknown>> | null)?.[key];
    if (!Array.isArray(rows) || !rows.every((row) => typeof row === 'number'))
      throw new CoveyError('CODEC_TYPE', `"flamby_test_indices.json" expected a list of rows of ${key}`);
    return rows as readonly number[];
  });
}
