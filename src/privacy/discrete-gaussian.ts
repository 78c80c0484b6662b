import type { KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { buildCellTable, type CellTable } from './discrete-gaussian-table.ts';
import { expNegative, isBelow, type Rational, rationalOf } from './fixed-point.ts';
import { RandomWords } from './random-words.ts';

/** Draws from the discrete Gaussian N_Z(0, variance): P(x) proportional to exp(-x^2 / (2 * variance)). */
export interface DiscreteGaussian {
  /** Units: squared integer units; the double is taken as the exact number it is. */
  readonly variance: number;
  /** Overwrites `target` with independent draws. */
  fill(target: Int32Array, stream: KeyStream): void;
  /** Adds an independent draw to every coordinate, modulo 2^32. */
  add(target: Int32Array, stream: KeyStream): void;
}

/** Smallest and largest variance that the error bounds of the table cover (stddev .5 to 3.3e7). */
const MIN_VARIANCE = 0.25;
const MAX_VARIANCE = 2 ** 50;

/** Half of the width in which a comparison in doubles is not trusted; its true error is below 2^-45. */
const SLACK = 2 ** -40;

/** Above this exponent the polynomial below is not used (only reached beyond 16 standard deviations). */
const MAX_FAST_EXPONENT = 0.25;

/** exp(-t) for 0 <= t <= 1/4 by + and * only, off by less than 2^-45: Taylor to t^10, remainder < (1/4)^11 / 11!. */
function expNegativeFast(t: number): number {
  let value = 1;
  for (let i = 10; i > 0; i--) value = 1 - (value * t) / i;
  return value;
}

/** Width of a cell: 1 up to stddev 128, else the power of two in (stddev / 128, stddev / 64]. */
export function cellWidthOf(variance: number): number {
  let width = 1;
  while (variance >= 128 * 128 * width * width) width *= 2;
  return width;
}

/** Cell of a draw that the guide leaves open. */
function scanCell(table: CellTable, draw: number, random: RandomWords): number {
  const { prefix, guide, guideShift } = table;
  const start = guide[draw >>> guideShift] as number;
  let k = start < 0 ? ~start : start;
  while (draw > (prefix[k] as number)) k += 1;
  return draw === prefix[k] ? table.resolve(draw, random) : k;
}

/*
 * The two `run` functions below hold the hot loops and nothing else: they stop in front of the first draw that needs
 * more than the next one or two words, and the caller makes that draw. Kept apart, the loops stay in registers.
 */

/** Draws of unit cells for target[from, to) from words[at, ...), one word each; returns where it stopped. */
function runUnitCells(
  table: CellTable,
  words: Uint32Array,
  at: number,
  target: Int32Array,
  from: number,
  to: number,
): number {
  const { prefix, guide, guideShift } = table;
  for (let i = from, w = at; i < to; i++, w++) {
    const word = (words[w] as number) | 0;
    const draw = word >>> 1;
    let k = guide[draw >>> guideShift] as number;
    if (k < 0) {
      k = ~k;
      while (draw > (prefix[k] as number)) k = (k + 1) | 0;
      if (draw === prefix[k]) return i;
    }
    const mask = -(word & 1);
    target[i] = ((target[i] as number) + ((k ^ mask) - mask)) | 0;
  }
  return to;
}

function addUnitCells(table: CellTable, target: Int32Array, random: RandomWords): void {
  for (let i = 0; i < target.length; ) {
    if (random.at === random.words.length) random.refill();
    const to = Math.min(target.length, i + random.words.length - random.at);
    const stop = runUnitCells(table, random.words, random.at, target, i, to);
    random.at += stop - i;
    i = stop;
    if (stop < to) {
      const word = random.next();
      const k = scanCell(table, word >>> 1, random);
      target[i] = (target[i] as number) + ((word & 1) === 0 ? k : -k);
      i += 1;
    }
  }
}

/** What acceptance within a wide cell needs: the exponent is offset * (2 * magnitude + offset) / (2 * variance). */
interface WideCells {
  readonly variance: Rational;
  /** 1 / (2 * variance), rounded. */
  readonly halfInverse: number;
  readonly width: number;
  readonly offsetBits: number;
  /** Acceptance bits below `limits[k]` accept every offset of cell k, for exp(-t) >= 1 - t. */
  readonly limits: Int32Array;
}

function wideCells(variance: Rational, width: number, cells: number): WideCells {
  const halfInverse = Number(variance.denominator) / (2 * Number(variance.numerator));
  const offsetBits = Math.log2(width);
  const limits = Int32Array.from({ length: cells }, (_, k) => {
    const largest = (width - 1) * (2 * k * width + width - 1) * halfInverse;
    return Math.max(0, Math.floor((1 - largest - SLACK) * 2 ** (32 - offsetBits)) - 1);
  });
  return { variance, halfInverse, width, offsetBits, limits };
}

/** Bern(exp(-t)) for the first bits of U in `fine` above the offset, decided exactly. */
function acceptOffset(cells: WideCells, magnitude: number, fine: number, random: RandomWords): boolean {
  const offset = fine & (cells.width - 1);
  const first = fine >>> cells.offsetBits;
  const firstBits = 32 - cells.offsetBits;
  const unit = 2 ** -firstBits;
  const t = offset * (2 * magnitude + offset) * cells.halfInverse;
  if ((first + 1) * unit <= 1 - t - SLACK) return true;
  const second = random.next();
  const u = (first + second * 2 ** -32) * unit;
  if (t <= MAX_FAST_EXPONENT) {
    const probability = expNegativeFast(t);
    if (u < probability - SLACK) return true;
    if (u > probability + SLACK) return false;
  }
  const product = BigInt(offset) * BigInt(2 * magnitude + offset);
  const exponent = { numerator: product * cells.variance.denominator, denominator: 2n * cells.variance.numerator };
  const prefix = (BigInt(first) << 32n) | BigInt(second);
  return isBelow(prefix, firstBits + 32, (bits) => expNegative(exponent, bits), random);
}

/** Draws of wide cells for target[from, to) from words[at, ...), two words each; returns where it stopped. */
function runWideCells(
  table: CellTable,
  cells: WideCells,
  words: Uint32Array,
  at: number,
  target: Int32Array,
  from: number,
  to: number,
): number {
  const { prefix, guide, guideShift } = table;
  const { width, offsetBits, limits } = cells;
  const offsetMask = width - 1;
  for (let i = from, w = at; i < to; i++, w += 2) {
    const word = (words[w] as number) | 0;
    const fine = (words[w + 1] as number) | 0;
    const draw = word >>> 1;
    let k = guide[draw >>> guideShift] as number;
    if (k < 0) {
      k = ~k;
      while (draw > (prefix[k] as number)) k = (k + 1) | 0;
      if (draw === prefix[k]) return i;
    }
    const x = k * width + (fine & offsetMask);
    if (fine >>> offsetBits >= (limits[k] as number) || x === 0) return i;
    const mask = -(word & 1);
    target[i] = ((target[i] as number) + ((x ^ mask) - mask)) | 0;
  }
  return to;
}

/** One draw of wide cells, with as many words as it takes. */
function drawWideCell(table: CellTable, cells: WideCells, random: RandomWords): number {
  for (;;) {
    const word = random.next();
    const fine = random.next();
    const magnitude = scanCell(table, word >>> 1, random) * cells.width;
    if (!acceptOffset(cells, magnitude, fine, random)) continue;
    const x = magnitude + (fine & (cells.width - 1));
    const negative = (word & 1) === 1;
    // Zero would be drawn with both signs: "-0" is drawn again (CKS 2020, Algorithm 2).
    if (x !== 0 || !negative) return negative ? -x : x;
  }
}

function addWideCells(table: CellTable, cells: WideCells, target: Int32Array, random: RandomWords): void {
  for (let i = 0; i < target.length; ) {
    if (random.at === random.words.length) random.refill();
    const to = Math.min(target.length, i + ((random.words.length - random.at) >> 1));
    const stop = runWideCells(table, cells, random.words, random.at, target, i, to);
    random.at += 2 * (stop - i);
    i = stop;
    // Also the draw whose two words lie on both sides of a refill.
    if (i < target.length && (stop < to || random.at < random.words.length)) {
      target[i] = (target[i] as number) + drawWideCell(table, cells, random);
      i += 1;
    }
  }
}

/**
 * Creates an exact sampler of N_Z(0, variance): given uniform bits its output has exactly the distribution, by inversion
 * of the cell index (31 bits against the exact first bits of the cumulative weights; a draw that hits one is decided in
 * integers with as many digits as it takes, so that the infinite tail is included), a uniform offset within the cell and
 * rejection with probability exp(-offset (2 cell + offset) / (2 variance)), decided exactly as well.
 * Random: whole refills of the stream (at most 64 KiB each); one or two words a draw.
 * Secrets: the draws; the buffer of random words is wiped.
 * Cost: 7 ns a draw of unit cells, 11 ns of wide ones (OpenSSL keystream, one core of a server); a table takes 1 to 5 ms.
 * Not guaranteed: constant time. The position within the scan of a guide cell, rejections (about 1 % of the draws
 * of wide cells) and the rare integer comparisons depend on the draws; what leaks is the duration of a whole vector.
 * @throws CoveyError USAGE_RANGE for a variance outside [1/4, 2^50].
 * @see privacy F10, F17; Canonne, Kamath, Steinke 2020
 */
export function createDiscreteGaussian(variance: number): DiscreteGaussian {
  if (!(variance >= MIN_VARIANCE && variance <= MAX_VARIANCE)) {
    throw new CoveyError('USAGE_RANGE', `"variance" expected a number from 0.25 to 2^50, got ${variance}`);
  }
  const exact = rationalOf(variance);
  const width = cellWidthOf(variance);
  const table = buildCellTable(exact, width, width === 1);
  const cells = width === 1 ? null : wideCells(exact, width, table.prefix.length);
  const add = (target: Int32Array, stream: KeyStream): void => {
    const random = new RandomWords(stream, cells === null ? target.length : 2 * target.length);
    if (cells === null) addUnitCells(table, target, random);
    else addWideCells(table, cells, target, random);
    random.wipe();
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
