import { CoveyError } from '../../protocol/errors.ts';
import { createDataset, type SplitData } from './dataset.ts';
import { SKELETONS } from './glyphs.ts';
import { createRandom, type DataRandom } from './random.ts';

/** Organizations of the embedded scenario. */
export const DIGITS_ORGANIZATIONS = 12;
/** Values of a record after pooling (8 x 8). */
export const DIGITS_FEATURES = 64;
/** Style groups: upright, turned by 180 degrees, mirrored. Organization i writes in style i mod 3. */
export const DIGITS_GROUPS = 3;
/** Test records of every organization. */
export const DIGITS_TEST_RECORDS = 200;

const CLASSES = 10;
const SIDE = 16;
const PIXELS = SIDE * SIDE;
/** Training records of organization i. Three of twelve are large, one in each style group. */
const TRAIN_RECORDS = [60, 70, 80, 100, 90, 90, 150, 160, 140, 1200, 1100, 1300] as const;
/** Public size of the scenario for its denominators: the records of the first organizations, rounded down to hundreds. */
export function digitsNominalRecords(organizations: number): number {
  const records = TRAIN_RECORDS.slice(0, organizations).reduce((sum: number, size) => sum + size, 0);
  return Math.max(100, 100 * Math.floor(records / 100));
}

/** Separates the streams of this scenario from every other use of the same seed. */
const STREAM = 0x6469_6700;

/** The hand of an organization: what all its writers share. */
interface Hand {
  readonly group: number;
  readonly slant: number;
  readonly pen: number;
  readonly labelWeights: readonly number[];
}

const clampUnit = (value: number): number => (value < 0 ? 0 : value > 1 ? 1 : value);

function drawHand(random: DataRandom, group: number): Hand {
  const slant = random.uniform(-0.25, 0.25);
  const pen = random.uniform(0.035, 0.06);
  const labelWeights = Array.from({ length: CLASSES }, () => 0.4 + random.uniform(0, 1));
  return { group, slant, pen, labelWeights };
}

function drawLabel(random: DataRandom, weights: readonly number[]): number {
  let left = random.uniform(0, 1) * weights.reduce((sum, weight) => sum + weight, 0);
  for (let label = 0; label < CLASSES - 1; label++) {
    left -= weights[label] ?? 0;
    if (left < 0) return label;
  }
  return CLASSES - 1;
}

/** Places the corners of one writer's strokes in the unit square: jitter, size, slant, turn, place. */
function drawCorners(random: DataRandom, label: number, slant: number, corners: Float64Array): void {
  const points = SKELETONS[label]?.points ?? new Float64Array(0);
  const width = 0.52 * (1 + random.uniform(-0.18, 0.18));
  const height = 0.66 * (1 + random.uniform(-0.18, 0.18));
  const lean = slant + random.uniform(-0.35, 0.35);
  const turn = random.uniform(-0.18, 0.18);
  const left = 0.5 + random.uniform(-0.08, 0.08);
  const top = 0.5 + random.uniform(-0.08, 0.08);
  for (let i = 0; i < points.length; i += 2) {
    const y = ((points[i + 1] as number) + random.uniform(-0.07, 0.07)) * height;
    const x = ((points[i] as number) + random.uniform(-0.07, 0.07)) * width - lean * y;
    const turned = x - turn * y;
    corners[i] = turned + left;
    corners[i + 1] = y + turn * turned + top;
  }
}

/** Squared distance of every pixel's centre to the nearest stroke. */
function strokeDistances(label: number, corners: Float64Array, squared: Float64Array): void {
  const segments = SKELETONS[label]?.segments ?? new Uint8Array(0);
  squared.fill(Number.POSITIVE_INFINITY);
  for (let s = 0; s < segments.length; s += 2) {
    const from = 2 * (segments[s] as number);
    const to = 2 * (segments[s + 1] as number);
    const ax = corners[from] as number;
    const ay = corners[from + 1] as number;
    const bx = (corners[to] as number) - ax;
    const by = (corners[to + 1] as number) - ay;
    // The small term keeps the quotient finite where jitter makes two corners meet.
    const inverse = 1 / (bx * bx + by * by + 1e-9);
    for (let row = 0, pixel = 0; row < SIDE; row++) {
      const py = (row + 0.5) / SIDE - ay;
      for (let column = 0; column < SIDE; column++, pixel++) {
        const px = (column + 0.5) / SIDE - ax;
        const along = clampUnit((px * bx + py * by) * inverse);
        const dx = px - along * bx;
        const dy = py - along * by;
        const distance = dx * dx + dy * dy;
        if (distance < (squared[pixel] as number)) squared[pixel] = distance;
      }
    }
  }
}

/** Inks one record: pen, fade and pixel noise, in the orientation of the style group. */
function drawImage(random: DataRandom, hand: Hand, squared: Float64Array, image: Float64Array): void {
  const pen = hand.pen * (1 + random.uniform(-0.35, 0.35));
  const ink = 1 - random.uniform(0, 0.4);
  for (let row = 0; row < SIDE; row++) {
    for (let column = 0; column < SIDE; column++) {
      const distance = Math.sqrt(squared[row * SIDE + column] as number);
      const covered = clampUnit((pen - distance) * (SIDE / 1.6) + 0.5) * ink;
      const y = hand.group === 1 ? SIDE - 1 - row : row;
      const x = hand.group === 0 ? column : SIDE - 1 - column;
      image[y * SIDE + x] = clampUnit(covered + random.uniform(-0.25, 0.25));
    }
  }
}

/** Fixed public front of the model: 2 x 2 mean pooling, each image to mean 0 and deviation .5. */
function poolFeatures(image: Float64Array, features: Float32Array, offset: number): void {
  const pooled = new Float64Array(DIGITS_FEATURES);
  const side = SIDE / 2;
  let mean = 0;
  for (let i = 0; i < DIGITS_FEATURES; i++) {
    const corner = 2 * SIDE * Math.floor(i / side) + 2 * (i % side);
    const sum =
      (image[corner] as number) +
      (image[corner + 1] as number) +
      (image[corner + SIDE] as number) +
      (image[corner + SIDE + 1] as number);
    pooled[i] = sum / 4;
    mean += sum / 4;
  }
  mean /= DIGITS_FEATURES;
  let variance = 0;
  for (const value of pooled) variance += (value - mean) * (value - mean);
  const gain = 0.5 / (Math.sqrt(variance / DIGITS_FEATURES) + 1e-3);
  for (let i = 0; i < DIGITS_FEATURES; i++) features[offset + i] = ((pooled[i] as number) - mean) * gain;
}

/** The data of one organization and the style group that the server is never told. */
export interface DigitsOrganization extends SplitData {
  readonly group: number;
}

/**
 * Generates the handwriting-like digits of one organization; no other organization's data enter.
 * Uniform draws and + - * / sqrt only: every engine gives the same bits.
 * Random: `seed` (32 bits); the data are public examples.
 * @throws CoveyError USAGE_RANGE for an organization that does not exist.
 */
export function generateDigits(seed: number, organization: number): DigitsOrganization {
  const trainRecords = TRAIN_RECORDS[organization];
  if (trainRecords === undefined) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"organization" expected an integer in [0, ${DIGITS_ORGANIZATIONS}), got ${organization}`,
    );
  }
  const random = createRandom(seed, STREAM + organization);
  const hand = drawHand(random, organization % DIGITS_GROUPS);
  const corners = new Float64Array(32);
  const squared = new Float64Array(PIXELS);
  const image = new Float64Array(PIXELS);
  const drawRecords = (count: number): SplitData['train'] => {
    const features = new Float32Array(count * DIGITS_FEATURES);
    const labels = new Uint8Array(count);
    for (let record = 0; record < count; record++) {
      const label = drawLabel(random, hand.labelWeights);
      labels[record] = label;
      drawCorners(random, label, hand.slant, corners);
      strokeDistances(label, corners, squared);
      drawImage(random, hand, squared, image);
      poolFeatures(image, features, record * DIGITS_FEATURES);
    }
    return createDataset(DIGITS_FEATURES, CLASSES, features, labels);
  };
  const test = drawRecords(DIGITS_TEST_RECORDS);
  return { group: hand.group, train: drawRecords(trainRecords), test };
}
