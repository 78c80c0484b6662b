import { CoveyError } from '../../protocol/errors.ts';
import { createDataset, type Dataset, selectRecords } from './dataset.ts';
import type { DeclaredRange } from './scaling.ts';

/** Features of a window: 9 rows x (mean, deviation, lowest, highest, step, 8 of the spectrum). */
export const HAR_FEATURES = 117;
export const HAR_CLASSES = 6;

const MAX_WINDOWS = 1 << 20;

/** Windows of one subject, in the order of the file. */
export interface HarSubject {
  readonly subject: number;
  readonly data: Dataset;
}

interface Block {
  readonly subject: number;
  readonly n: number;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function readIndex(text: string): { windows: number; blocks: readonly Block[] } {
  let index: unknown;
  try {
    index = JSON.parse(text);
  } catch (cause) {
    throw new CoveyError('CODEC_TYPE', '"index.json" expected JSON', {}, { cause });
  }
  if (!isObject(index) || !Array.isArray(index['blocks']))
    throw new CoveyError('CODEC_TYPE', '"index.json" expected an object with "blocks"');
  const blocks = index['blocks'].map((block: unknown, i): Block => {
    const { subject, n } = isObject(block) ? block : {};
    if (!Number.isInteger(subject) || !Number.isInteger(n) || (subject as number) < 1 || (n as number) < 1)
      throw new CoveyError('CODEC_TYPE', `"blocks" expected a subject and a count at ${i}`);
    if ((subject as number) > 1000 || (n as number) > MAX_WINDOWS)
      throw new CoveyError('CODEC_LIMIT', `"blocks" expected subjects to 1000 and counts to ${MAX_WINDOWS} at ${i}`);
    return { subject: subject as number, n: n as number };
  });
  const windows = blocks.reduce((sum, { n }) => sum + n, 0);
  if (windows > MAX_WINDOWS)
    throw new CoveyError('CODEC_LIMIT', `"blocks" expected at most ${MAX_WINDOWS} windows, got ${windows}`);
  if (index['windows'] !== windows)
    throw new CoveyError('CODEC_TYPE', `"windows" expected ${windows}, the sum of the blocks, got ${index['windows']}`);
  return { windows, blocks };
}

/** @throws CoveyError CODEC_TRUNCATED or CODEC_TRAILING */
export function expectLength(name: string, bytes: Uint8Array, expected: number): void {
  if (bytes.length === expected) return;
  throw new CoveyError(
    bytes.length < expected ? 'CODEC_TRUNCATED' : 'CODEC_TRAILING',
    `"${name}" expected ${expected} bytes, got ${bytes.length}`,
  );
}

/** Features of all windows from their bytes. @throws CoveyError of the kinds that `parseHar` names */
export type HarFeatureReader = (bytes: Uint8Array, windows: number) => Float32Array;

/** Reads windows x 117 little-endian 32-bit floats, row after row. */
export const readHarFeatures: HarFeatureReader = (bytes, windows) => {
  expectLength('features', bytes, 4 * HAR_FEATURES * windows);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values = Float32Array.from({ length: HAR_FEATURES * windows }, (_, i) => view.getFloat32(4 * i, true));
  const infinite = values.findIndex((value) => !Number.isFinite(value));
  if (infinite >= 0)
    throw new CoveyError('CODEC_TYPE', `"features" expected finite values, got ${values[infinite]} at ${infinite}`);
  return values;
};

/**
 * Reads the activity windows and groups them by subject, subjects in rising order.
 * Shapes: labels one byte a window; `index.json` names the subject of each run of windows.
 * @throws CoveyError CODEC_TRUNCATED, CODEC_TRAILING, CODEC_TYPE (index, label, value that is not finite) or CODEC_LIMIT.
 */
export function parseHar(
  indexText: string,
  bytes: Uint8Array,
  labels: Uint8Array,
  readFeatures: HarFeatureReader = readHarFeatures,
): HarSubject[] {
  const { windows, blocks } = readIndex(indexText);
  expectLength('labels', labels, windows);
  const wrong = labels.findIndex((label) => label >= HAR_CLASSES);
  if (wrong >= 0)
    throw new CoveyError(
      'CODEC_TYPE',
      `"labels" expected classes below ${HAR_CLASSES}, got ${labels[wrong]} at ${wrong}`,
    );
  const values = readFeatures(bytes, windows);
  const all = createDataset(HAR_FEATURES, HAR_CLASSES, values, labels);
  const rows = new Map<number, number[]>();
  let at = 0;
  for (const { subject, n } of blocks) {
    const own = rows.get(subject) ?? [];
    for (let i = 0; i < n; i++) own.push(at + i);
    rows.set(subject, own);
    at += n;
  }
  return [...rows]
    .sort(([a], [b]) => a - b)
    .map(([subject, own]) => ({
      subject,
      data: selectRecords(all, Uint32Array.from(own)),
    }));
}

/**
 * Ranges that hold for body-worn sensors in g and rad/s whatever was recorded: means and deviations of a row, its
 * extremes, mean step between neighbours, and log(1 + amplitude) of the lowest eight frequencies of 128 samples.
 */
const ROW_RANGES: readonly DeclaredRange[] = [
  [-1, 1],
  [0, 2],
  [-4, 1],
  [-1, 4],
  [0, 2],
];
const SPECTRUM_RANGE: DeclaredRange = [0, 5];

/** Declared range of each of the 117 features: nine rows of every kind, then nine times eight frequencies. */
export const HAR_RANGES: readonly DeclaredRange[] = Array.from({ length: HAR_FEATURES }, (_, i) =>
  i < 45 ? (ROW_RANGES[Math.floor(i / 9)] as DeclaredRange) : SPECTRUM_RANGE,
);
