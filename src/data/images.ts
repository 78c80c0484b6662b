import { CoveyError } from '../../protocol/errors.ts';
import { createDataset, type Dataset } from './dataset.ts';
import type { IdxArray } from './idx.ts';

/** Grey images with labels, a byte a pixel. Shapes: `pixels` count x side x side; `labels` count, each below `classes`. */
export interface ImageSet {
  readonly count: number;
  readonly side: number;
  readonly classes: number;
  readonly pixels: Uint8Array;
  readonly labels: Uint8Array;
}

/** How images become features; both constants are public. */
export interface ImageView {
  /** Quarter turns, counterclockwise. */
  readonly turns: number;
  /** Feature of a black (0) and of a white (255) pixel. */
  readonly range: readonly [number, number];
}

const UPRIGHT: ImageView = { turns: 0, range: [0, 1] };

/**
 * Puts images and labels read from two idx files together.
 * @throws CoveyError CODEC_TYPE unless they are bytes of square images and as many labels below `classes`.
 */
export function createImageSet(images: IdxArray, labels: IdxArray, classes: number): ImageSet {
  const [count = 0, side = 0, width = 0] = images.shape;
  if (!(images.values instanceof Uint8Array) || images.shape.length !== 3 || side !== width || side === 0)
    throw new CoveyError('CODEC_TYPE', `"images" expected bytes of square images, got ${images.shape.join(' x ')}`);
  if (!(labels.values instanceof Uint8Array) || labels.shape.length !== 1 || labels.shape[0] !== count)
    throw new CoveyError('CODEC_TYPE', `"labels" expected ${count} bytes, got ${labels.shape.join(' x ')}`);
  const wrong = labels.values.find((label) => label >= classes);
  if (wrong !== undefined)
    throw new CoveyError('CODEC_TYPE', `"labels" expected classes below ${classes}, got ${wrong}`);
  return { count, side, classes, pixels: images.values, labels: labels.values };
}

/** One set after the other. @throws CoveyError USAGE_RANGE for images of another size or number of classes. */
export function joinImageSets(first: ImageSet, second: ImageSet): ImageSet {
  if (first.side !== second.side || first.classes !== second.classes)
    throw new CoveyError('USAGE_RANGE', `"images" expected sides of ${first.side}, got ${second.side}`);
  const pixels = new Uint8Array(first.pixels.length + second.pixels.length);
  pixels.set(first.pixels);
  pixels.set(second.pixels, first.pixels.length);
  const labels = new Uint8Array(first.count + second.count);
  labels.set(first.labels);
  labels.set(second.labels, first.count);
  return { ...first, count: labels.length, pixels, labels };
}

/** For every pixel of a turned image the place it comes from. Quarter turns only: nothing is interpolated. */
function turnedPlaces(side: number, turns: number): Uint32Array {
  const places = new Uint32Array(side * side);
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      let [y, x] = [row, column];
      for (let t = 0; t < turns; t++) [y, x] = [x, side - 1 - y];
      places[row * side + column] = y * side + x;
    }
  }
  return places;
}

function copyImage(
  image: Uint8Array,
  places: Uint32Array,
  levels: Float32Array,
  target: Float32Array,
  at: number,
): void {
  for (let p = 0; p < places.length; p++) target[at + p] = levels[image[places[p] as number] as number] as number;
}

/**
 * Features and labels of the chosen images.
 * @throws CoveyError USAGE_RANGE for an image that does not exist or other turns than 0 to 3.
 */
export function imageDataset(images: ImageSet, indices: Uint32Array, view: ImageView = UPRIGHT): Dataset {
  const { side, pixels } = images;
  const { turns, range } = view;
  if (![0, 1, 2, 3].includes(turns)) throw new CoveyError('USAGE_RANGE', `"turns" expected 0 to 3, got ${turns}`);
  const [low, high] = range;
  const levels = Float32Array.from({ length: 256 }, (_, level) => low + ((high - low) * level) / 255);
  const places = turnedPlaces(side, turns);
  const size = side * side;
  const features = new Float32Array(indices.length * size);
  const labels = new Uint8Array(indices.length);
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i] as number;
    if (index >= images.count)
      throw new CoveyError('USAGE_RANGE', `"indices" expected images below ${images.count}, got ${index}`);
    labels[i] = images.labels[index] as number;
    copyImage(pixels.subarray(index * size, (index + 1) * size), places, levels, features, i * size);
  }
  return createDataset(size, images.classes, features, labels);
}

/** Builds a value when it is first asked for and keeps it: for what many participants share. */
export function once<T>(build: () => T): () => T {
  let built: { readonly value: T } | undefined;
  return () => {
    built ??= { value: build() };
    return built.value;
  };
}
