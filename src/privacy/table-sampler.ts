import type { KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { loadSamplerKernels, type Route } from '../../protocol/kernels/sampler.ts';
import {
  type CellRun,
  type CellSpec,
  cellsPlain,
  type Inversion,
  scanPlain,
  searchPlain,
} from '../../protocol/kernels/sampler-plain.ts';
import { RandomWords } from './random-words.ts';
import type { SymmetricLaw } from './symmetric-law.ts';
import { buildThresholdTable, type ThresholdTable } from './threshold-table.ts';
import { addWideCells, createWideCells, type WideCells } from './wide-cells.ts';

/** Draws from a law on the integers, one value a coordinate. */
export interface NoiseSampler {
  /** Units: squared integer units; the double is taken as the exact number it is. */
  readonly variance: number;
  /** Overwrites `target` with independent draws. */
  fill(target: Int32Array, stream: KeyStream): void;
  /** Adds an independent draw to every coordinate, modulo 2^32. */
  add(target: Int32Array, stream: KeyStream): void;
}

/** Smallest and largest variance that the error bounds of the tables cover (stddev .5 to 3.3e7). */
const MIN_VARIANCE = 0.25;
const MAX_VARIANCE = 2 ** 50;

/** Whether samplers are made for a variance. */
export function isDrawable(variance: number): boolean {
  return variance >= MIN_VARIANCE && variance <= MAX_VARIANCE;
}

/** Largest variances of the scan over all thresholds, and of tables with a cell for every magnitude. */
const MAX_SCAN_VARIANCE = 64 ** 2;
const MAX_UNIT_VARIANCE = 1_024 ** 2;

/** Samplers are pure functions of public numbers; a run asks for the same few again and again: with removable noise 65 and the others. */
const MAX_REMEMBERED = 72;
const remembered = new Map<string, NoiseSampler>();

/** Width of a cell: 1 up to stddev 1,024, else the power of two in (stddev / 128, stddev / 64]. */
export function cellWidthOf(variance: number): number {
  let width = 1;
  if (variance > MAX_UNIT_VARIANCE) while (variance >= 128 * 128 * width * width) width *= 2;
  return width;
}

function inversionOf(route: Route, prefix: Int32Array): Inversion {
  const fast = loadSamplerKernels()?.inversion(route, prefix);
  return fast ?? (route === 'scan' ? scanPlain : searchPlain)(prefix);
}

function cellRunOf(spec: CellSpec): CellRun {
  return loadSamplerKernels()?.cells(spec) ?? cellsPlain(spec);
}

function addUnitCells(table: ThresholdTable, inversion: Inversion, target: Int32Array, random: RandomWords): void {
  for (let i = 0; i < target.length; ) {
    if (random.at === random.words.length) random.refill();
    const to = Math.min(target.length, i + random.words.length - random.at);
    const stop = inversion.run(random.words, random.at, target, i, to);
    random.at += stop - i;
    i = stop;
    if (stop < to) {
      const word = random.next();
      const found = inversion.one(word >>> 1);
      const k = found < 0 ? table.resolve(word >>> 1, random) : found;
      const mask = -(word & 1);
      target[i] = (target[i] as number) + ((k ^ mask) - mask);
      i += 1;
    }
  }
}

function createSampler(variance: number, law: SymmetricLaw): NoiseSampler {
  const width = cellWidthOf(variance);
  const table = buildThresholdTable(law, width, width === 1);
  const inversion = inversionOf(variance <= MAX_SCAN_VARIANCE ? 'scan' : 'search', table.prefix);
  const cells: WideCells | null = width === 1 ? null : createWideCells(law, table, inversion, width, cellRunOf);
  const add = (target: Int32Array, stream: KeyStream): void => {
    const count = cells === null ? target.length : 2 * target.length;
    const random = new RandomWords(stream, count, loadSamplerKernels()?.words);
    try {
      if (cells === null) addUnitCells(table, inversion, target, random);
      else addWideCells(cells, target, random, loadSamplerKernels()?.draws);
    } finally {
      random.wipe();
    }
  };
  return {
    variance,
    add,
    fill(target, stream) {
      target.fill(0);
      add(target, stream);
    },
  };
}

/**
 * An exact sampler of a symmetric law: given uniform bits its output has exactly the distribution. The magnitude, or the
 * cell of magnitudes, is found by inversion: 31 bits against the exact first bits of the cumulative weights; a draw that
 * equals one is decided in integers with as many digits as it takes, so that the infinite tail is included. Then, in
 * cells of several magnitudes, a uniform offset and rejection with the ratio of the probabilities, decided exactly as
 * well.
 * Random: whole refills of the stream (at most 64 KiB each); one or two words a draw.
 * Secrets: the draws; the buffers of random words and of draws are wiped.
 * Constant time: up to a standard deviation of 64 every draw is compared with every threshold, so that neither an
 * address nor a branch depends on it, but for one event: a draw that equals a threshold (probability 2^-31 times the
 * number of thresholds) is resolved by itself. Up to 1,024 the table is halved a fixed number of times for every draw.
 * Not guaranteed: that caches tell nothing about the addresses of that search; beyond 1,024 also that the number of
 * words a draw takes tells nothing (an offset that is refused, about 1 %, is drawn again with its cell).
 * @throws CoveyError USAGE_RANGE for a variance outside [1/4, 2^50].
 * @see privacy F17
 */
export function tableSampler(name: string, variance: number, lawOf: () => SymmetricLaw): NoiseSampler {
  if (!isDrawable(variance)) {
    throw new CoveyError('USAGE_RANGE', `"variance" expected a number from 0.25 to 2^50, got ${variance}`);
  }
  const key = `${name} ${variance}`;
  const known = remembered.get(key);
  if (known) return known;
  const sampler = createSampler(variance, lawOf());
  if (remembered.size >= MAX_REMEMBERED) remembered.delete(remembered.keys().next().value as string);
  remembered.set(key, sampler);
  return sampler;
}
