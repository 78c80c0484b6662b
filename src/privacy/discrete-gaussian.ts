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

function addUnitCells(table: CellTable, target: Int32Array, random: RandomWords): void {
  const { prefix, guide, guideShift } = table;
  const { words } = random;
  let at = random.at;
  for (let i = 0; i < target.length; i++) {
    if (at === words.length) {
      random.refill();
      at = 0;
    }
    const word = words[at++] as number;
    const draw = word >>> 1;
    let k = guide[draw >>> guideShift] as number;
    while (draw > (prefix[k] as number)) k += 1;
    if (draw === prefix[k]) {
      random.at = at;
      k = table.resolve(draw, random);
      at = random.at;
    }
    const mask = -(word & 1);
    target[i] = (target[i] as number) + ((k ^ mask) - mask);
  }
  random.at = at;
}

function addWideCells(
  table: CellTable,
  variance: Rational,
  width: number,
  target: Int32Array,
  random: RandomWords,
): void {
  const { prefix, guide, guideShift } = table;
  const { words } = random;
  const offsetBits = Math.log2(width);
  const offsetMask = width - 1;
  const acceptBits = 32 - offsetBits;
  const acceptUnit = 2 ** -acceptBits;
  const halfInverse = Number(variance.denominator) / (2 * Number(variance.numerator));

  /** Exact test of U < exp(-t), for the draws that the first `acceptBits` bits of U leave open. */
  const accept = (t: number, magnitude: number, offset: number, first: number): boolean => {
    const second = random.next();
    const u = (first + second * 2 ** -32) * acceptUnit;
    if (t <= MAX_FAST_EXPONENT) {
      const probability = expNegativeFast(t);
      if (u < probability - SLACK) return true;
      if (u > probability + SLACK) return false;
    }
    const product = BigInt(offset) * BigInt(2 * magnitude + offset);
    const exponent = { numerator: product * variance.denominator, denominator: 2n * variance.numerator };
    const bits = BigInt(first) * 2n ** 32n + BigInt(second);
    return isBelow(bits, acceptBits + 32, (precision) => expNegative(exponent, precision), random);
  };

  let at = random.at;
  for (let i = 0; i < target.length; ) {
    let word: number;
    let fine: number;
    if (at < words.length - 1) {
      word = words[at] as number;
      fine = words[at + 1] as number;
      at += 2;
    } else {
      random.at = at;
      word = random.next();
      fine = random.next();
      at = random.at;
    }
    const draw = word >>> 1;
    let k = guide[draw >>> guideShift] as number;
    while (draw > (prefix[k] as number)) k += 1;
    if (draw === prefix[k]) {
      random.at = at;
      k = table.resolve(draw, random);
      at = random.at;
    }
    const offset = fine & offsetMask;
    const magnitude = k * width;
    const t = offset * (2 * magnitude + offset) * halfInverse;
    const first = fine >>> offsetBits;
    // exp(-t) >= 1 - t settles all but about t of the draws.
    if ((first + 1) * acceptUnit > 1 - t - SLACK) {
      random.at = at;
      const accepted = accept(t, magnitude, offset, first);
      at = random.at;
      if (!accepted) continue;
    }
    const x = magnitude + offset;
    const mask = -(word & 1);
    // Zero would be drawn with both signs: "-0" is drawn again (CKS 2020, Algorithm 2).
    if (x === 0 && mask !== 0) continue;
    target[i] = (target[i] as number) + (mask === 0 ? x : -x);
    i += 1;
  }
  random.at = at;
}

/**
 * Creates an exact sampler of N_Z(0, variance): given uniform bits its output has exactly the distribution, by inversion
 * of the cell index (31 bits against the exact first bits of the cumulative weights; a draw that hits one is decided in
 * integers with as many digits as it takes, so that the infinite tail is included), a uniform offset within the cell and
 * rejection with probability exp(-offset (2 cell + offset) / (2 variance)), decided exactly as well.
 * Random: whole refills of the stream (at most 64 KiB each); one or two words a draw.
 * Secrets: the draws; the buffer of random words is wiped.
 * Cost: see `bench`; the table is built once per variance, about a millisecond.
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
  const add = (target: Int32Array, stream: KeyStream): void => {
    const random = new RandomWords(stream, width === 1 ? target.length : 2 * target.length);
    if (width === 1) addUnitCells(table, target, random);
    else addWideCells(table, exact, width, target, random);
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
