import { expectLength, HAR_FEATURES, type HarFeatureReader } from './har.ts';
import { portableLog, portableSin } from './portable.ts';
import type { DeclaredRange } from './scaling.ts';

/** Channels: body acceleration x y z (g), angular velocity x y z (rad/s), total acceleration x y z (g). */
const CHANNELS = 9;
const SAMPLES = 128;
const FREQUENCIES = 8;
/** Stored integers a unit. */
const SCALE = 4000;

/**
 * How the samples of a window follow each other. The files hold time first, all channels of a moment together. Their
 * index says the opposite, and the published 117 features follow the index: there, each row mixes all channels.
 */
export type HarLayout = 'time-first' | 'channel-first';

/** cos and sin of 2 pi f t / 128 for f = 1 to 8. */
const WAVES: readonly (readonly [Float64Array, Float64Array])[] = Array.from({ length: FREQUENCIES }, (_, f) => {
  const angle = (t: number): number => (2 * Math.PI * (((f + 1) * t) % SAMPLES)) / SAMPLES;
  return [
    Float64Array.from({ length: SAMPLES }, (_, t) => portableSin(angle(t) + Math.PI / 2)),
    Float64Array.from({ length: SAMPLES }, (_, t) => portableSin(angle(t))),
  ] as const;
});

function correlation(row: Float64Array, wave: Float64Array): number {
  let sum = 0;
  for (let t = 0; t < SAMPLES; t++) sum += (row[t] as number) * (wave[t] as number);
  return sum;
}

/** Features of one row: mean, deviation, lowest, highest, mean step, then log(1 + amplitude) of eight frequencies. */
function rowFeatures(row: Float64Array, channel: number, features: Float32Array, offset: number): void {
  let [sum, lowest, highest, steps] = [0, row[0] as number, row[0] as number, 0];
  for (let t = 0; t < SAMPLES; t++) {
    const x = row[t] as number;
    sum += x;
    if (x < lowest) lowest = x;
    if (x > highest) highest = x;
    if (t > 0) steps += Math.abs(x - (row[t - 1] as number));
  }
  const mean = sum / SAMPLES;
  let squares = 0;
  for (let t = 0; t < SAMPLES; t++) squares += ((row[t] as number) - mean) * ((row[t] as number) - mean);
  const kinds = [mean, Math.sqrt(squares / SAMPLES), lowest, highest, steps / (SAMPLES - 1)];
  kinds.forEach((value, kind) => {
    features[offset + kind * CHANNELS + channel] = value;
  });
  WAVES.forEach(([cosine, sine], f) => {
    const [re, im] = [correlation(row, cosine), correlation(row, sine)];
    const at = offset + kinds.length * CHANNELS + channel * FREQUENCIES + f;
    features[at] = portableLog(1 + Math.sqrt(re * re + im * im));
  });
}

/**
 * Creates a reader that computes the 117 features from the signals: 128 samples of nine channels a window as
 * little-endian 16-bit integers, 4000 a unit. With + - * / sqrt only: every engine gives the same bits.
 */
export function harSignalReader(layout: HarLayout): HarFeatureReader {
  return (bytes, windows) => {
    expectLength('signals', bytes, 2 * CHANNELS * SAMPLES * windows);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const features = new Float32Array(windows * HAR_FEATURES);
    const row = new Float64Array(SAMPLES);
    for (let window = 0; window < windows; window++) {
      const start = window * CHANNELS * SAMPLES;
      for (let channel = 0; channel < CHANNELS; channel++) {
        for (let t = 0; t < SAMPLES; t++) {
          const place = layout === 'time-first' ? t * CHANNELS + channel : channel * SAMPLES + t;
          row[t] = view.getInt16(2 * (start + place), true) / SCALE;
        }
        rowFeatures(row, channel, features, window * HAR_FEATURES);
      }
    }
    return features;
  };
}

/** Ranges that body-worn sensors keep to, for body acceleration, angular velocity, total acceleration. */
const KIND_RANGES: readonly (readonly [DeclaredRange, DeclaredRange, DeclaredRange])[] = [
  [
    [-0.5, 0.5],
    [-1, 1],
    [-1.5, 1.5],
  ],
  [
    [0, 1],
    [0, 3],
    [0, 1],
  ],
  [
    [-2, 0.5],
    [-6, 0.5],
    [-2, 1.5],
  ],
  [
    [-0.5, 2],
    [-0.5, 6],
    [-1, 3],
  ],
  [
    [0, 0.5],
    [0, 1],
    [0, 0.5],
  ],
];

/** Declared range of each feature that `harSignalReader('time-first')` computes. */
export const HAR_SIGNAL_RANGES: readonly DeclaredRange[] = Array.from({ length: HAR_FEATURES }, (_, i) => {
  const ranges = KIND_RANGES[Math.floor(i / CHANNELS)];
  return ranges === undefined ? [0, 6] : (ranges[Math.floor((i % CHANNELS) / 3)] as DeclaredRange);
});
