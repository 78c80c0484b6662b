import type { CryptoProvider, KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { type EncodingSpec, jointNorm, prepareBlocks } from './encode.ts';
import { exactGramNorm, gramNorm } from './gram-norm.ts';
import { transformWalshHadamard } from './hadamard.ts';
import { RandomWords } from './random-words.ts';
import { roundRandomly } from './rounding.ts';

/*
 * Unit `record` with one rotation and one rounding for the sum of all records (F13, `float-bounded`). A record's gradient in a
 * dense layer is an outer product a d^T, so its norm is |a| |d|, and the sum of clipped gradients is one product of matrices:
 * no gradient is written out. In a convolution it is the product A^T E of unfolded windows (positions x window) and errors
 * (positions x channels). |A^T E|^2 = <A A^T, E E^T> takes positions^2 (window + channels) multiplications by Gram matrices, the
 * product itself positions x window x channels, which the sum needs in any case: convolutions, and embeddings, are written out.
 *
 * Sums of doubles are rounded, by amounts that depend on all their terms: one record would move what the others add. Here
 * they are not rounded at all. A record's clipped gradient is cut to integers in units of C 2^-T: both factors of a dense layer
 * to P, Q, whose product P Q^T it is, and each value w of one that is written out. The sum over the layers of |P|^2 |Q|^2 and
 * |w|^2 is checked against 2^2T in exact integers; and T is so small that no sum of B such terms, nor any sum inside its
 * rotation, passes 2^53. What floats did before that - A^T E among it - only changes which integers a record adds, as a function
 * of this record alone. One float operation is left behind it: the multiplication of the rotated integers by the scale, whose
 * error kappa_f bounds.
 */

/** kappa_f: the charged norm is sC (1 + kappa_f) + sqrt(D). @see `floatSensitivity` */
const FLOAT_ERROR: number = 2 ** -30;

/** Most terms of a sum for which kappa_f holds. */
export const MOST_TERMS: number = 2 ** 20;

/** Fewest and most bits T of a term: fewer would blur a clipped gradient, more are lost in the rounding to scale anyway. */
const MIN_BITS = 24;
const MAX_BITS = 48;

/** Norms of one factor below are taken for zero: their reciprocal in integer units may be no double. */
const SMALLEST_FACTOR = 2 ** -900;

/**
 * l2 norm by which one record moves an integer sum g(x) that is rounded as a whole: Delta = sC (1 + kappa_f) + sqrt(D).
 *
 * For any fixed random words, g takes each coordinate to one of the two integers around it, never decreases, and goes up by n
 * over a distance above n - 1 (less 2^-53, where the fraction of a coordinate between -1 and 0 is rounded). So |g(x) - g(x')|
 * <= |x - x'| + (1 + 2^-53) in each coordinate and, by the triangle inequality, |x - x'| + sqrt(D) (1 + 2^-53) in norm. This
 * holds for every outcome of the words and of the draw of the other records; divergences are jointly quasi-convex, so it is the
 * sensitivity of the mixture over them too (coupling). The words need not be secret.
 *
 * x = fl(k c) for integers k, |k| <= B 2^T sqrt(D), |k - k'| <= 2^T sqrt(D), and c = fl(sC 2^-T / sqrt(D)), in which three
 * operations are rounded (block by block: norms add up as squares). With u = 2^-53
 * |x - x'| <= c |k - k'| + u c (|k| + |k'|) <= sC (1 + 4u) (1 + (2B + 1) u) <= sC (1 + 2^-31) for B <= 2^20;
 * the other half of kappa_f covers the evaluation of Delta in doubles and sqrt(D) 2^-53 <= 2^-40 for D <= 2^26.
 * Units: `scaledNorm` sC in integer units. Shapes: `dimension` D counts all coordinates, padding included.
 * @throws CoveyError USAGE_RANGE unless 1 <= sC <= 2^26 and D <= 2^26. @see privacy F13
 */
export function floatSensitivity(scaledNorm: number, dimension: number): number {
  if (!(scaledNorm >= 1 && scaledNorm <= 2 ** 26 && dimension <= 2 ** 26))
    throw new CoveyError(
      'USAGE_RANGE',
      `"scale * clippingNorm" expected from 1 to 2^26 over at most 2^26 coordinates, got ${scaledNorm} over ${dimension}`,
    );
  return scaledNorm * (1 + FLOAT_ERROR) + Math.sqrt(dimension);
}

/**
 * Bits T of a term: the most for which B 2^T sqrt(D) <= 2^53, so that sums of B terms and of their rotation are exact in
 * doubles. A coordinate of H x, or of any step on the way to it, is at most |x|_1 <= sqrt(D) |x|.
 * Shapes: `longest` is the padded length D of the longest block.
 * @throws CoveyError PRIVACY_POLICY for more terms than kappa_f holds for, or where too few bits are left.
 */
export function termBits(longest: number, mostTerms: number): number {
  if (!(mostTerms >= 1 && mostTerms <= MOST_TERMS))
    throw new CoveyError(
      'PRIVACY_POLICY',
      `"training.maxRecordsPerStep" expected at most ${MOST_TERMS} with float-bounded terms, got ${mostTerms}`,
    );
  const squared = BigInt(mostTerms) ** 2n * BigInt(longest);
  let bits = MAX_BITS;
  while (bits > 0 && squared << BigInt(2 * bits) > 1n << 106n) bits--;
  if (bits < MIN_BITS)
    throw new CoveyError(
      'PRIVACY_POLICY',
      `"privacy.terms" expected integer: float-bounded sums of ${mostTerms} records over ${longest} coordinates leave ${bits} of ${MIN_BITS} bits to a record`,
    );
  return bits;
}

/** One layer of a record's gradient: `weight` a d^T, in each of `copies` places of the vector. */
export interface TermFactor {
  /** Inputs a, and errors d. */
  readonly left: Float64Array;
  readonly right: Float64Array;
  /** The inputs are taken with a one behind them: the row of the biases. */
  readonly hasBias: boolean;
  readonly copies: number;
  readonly weight: number;
  /** Take the integers. Shapes: `leftUnits` as `left`, and one more with biases; `rightUnits` as `right`. */
  readonly leftUnits: Float64Array;
  readonly rightUnits: Float64Array;
}

/** A layer of a record's gradient that is written out: `weight` times the values, in each of `copies` places of the vector. */
export interface WrittenTerm {
  readonly values: Float64Array;
  readonly copies: number;
  readonly weight: number;
  /** Take the integers. Shapes: as `values`. */
  readonly units: Float64Array;
}

/** Most bits of what is written out, so that a sum of squares up to 2^52 is exact; those below are zeros. */
const WRITTEN_BITS = 26;

const ONE = Float64Array.of(1);
const NOTHING = new Float64Array(0);

/**
 * Writes values times `factor`, cut toward zero; returns the sum of their squares, exact below 2^53: squares and sums are
 * integers that only grow, so one that has passed 2^53 is not returned as less.
 */
function cutInto(units: Float64Array, values: Float64Array, factor: number): number {
  let squares = 0;
  for (let i = 0; i < values.length; i++) {
    const cut = Math.trunc((values[i] as number) * factor);
    units[i] = cut;
    squares += cut * cut;
  }
  return squares;
}

/** Bits of the left factor, so that both lose about as much when they are cut. */
function leftBits(bits: number, left: number, right: number): number {
  const even = Math.round(bits / 2 + Math.log2(left / right) / 4);
  return Math.min(26, bits, Math.max(0, bits - 26, even));
}

interface FactorSize {
  readonly leftNorm: number;
  readonly rightNorm: number;
  readonly norm: number;
}

function sizesOf(factors: readonly TermFactor[]): FactorSize[] {
  return factors.map(({ left, right, hasBias, copies, weight }) => {
    const [leftNorm, rightNorm] = [jointNorm([left, hasBias ? ONE : NOTHING]), jointNorm([right])];
    return { leftNorm, rightNorm, norm: leftNorm * rightNorm * weight * Math.sqrt(copies) };
  });
}

const normOf = (sizes: readonly { readonly norm: number }[]): number =>
  jointNorm([Float64Array.from(sizes, ({ norm }) => norm)]);
const writtenSizes = (written: readonly WrittenTerm[]): { readonly norm: number }[] =>
  written.map(({ copies, values, weight }) => ({ norm: jointNorm([values]) * weight * Math.sqrt(copies) }));
const isNormal = (norm: number): boolean => norm >= SMALLEST_FACTOR && norm < Number.POSITIVE_INFINITY;

function clear(factors: readonly TermFactor[], written: readonly WrittenTerm[] = []): void {
  for (const { leftUnits, rightUnits } of factors) {
    leftUnits.fill(0);
    rightUnits.fill(0);
  }
  for (const { units } of written) units.fill(0);
}

/**
 * Writes the factors of one record in units of `unit` 2^-T, each cut toward zero; returns the sum over layers and copies of
 * |P|^2 |Q|^2. Norms of factors are within 2^-26 of true, so that each sum of squares is below 2^53, hence exact.
 */
function cutFactors(factors: readonly TermFactor[], sizes: readonly FactorSize[], unit: number, bits: number): bigint {
  let squares = 0n;
  factors.forEach((factor, i) => {
    const { left, right, hasBias, copies, weight, leftUnits, rightUnits } = factor;
    const { leftNorm, rightNorm } = sizes[i] as FactorSize;
    if (!(leftNorm >= SMALLEST_FACTOR && rightNorm >= SMALLEST_FACTOR)) {
      clear([factor]);
      return;
    }
    const share = leftBits(bits, leftUnits.length, rightUnits.length);
    const leftScale = 2 ** share / leftNorm;
    let leftSquares = cutInto(leftUnits, left, leftScale);
    if (hasBias) leftSquares += cutInto(leftUnits.subarray(left.length), ONE, leftScale);
    const rightSquares = cutInto(rightUnits, right, 2 ** (bits - share) * ((leftNorm * weight) / unit));
    squares += BigInt(copies) * BigInt(leftSquares) * BigInt(rightSquares);
  });
  return squares;
}

/**
 * Writes what is written out in units of `unit` 2^-T, cut toward zero at 2^-26 of `unit` where T is more; returns the exact sum
 * over layers and copies of the squares, or any larger number if that passes 2^53 at those bits.
 */
function cutWritten(written: readonly WrittenTerm[], unit: number, bits: number): bigint {
  const kept = Math.min(bits, WRITTEN_BITS);
  const step = 2 ** (bits - kept);
  let squares = 0n;
  for (const { copies, units, values, weight } of written) {
    squares += BigInt(copies) * BigInt(cutInto(units, values, 2 ** kept * (weight / unit)));
    if (step > 1) for (let i = 0; i < units.length; i++) units[i] = (units[i] as number) * step;
  }
  return squares << BigInt(2 * (bits - kept));
}

/**
 * Clips a record's gradient to C and writes it as integers: the sum over layers and copies of |P|^2 |Q|^2, and of |w|^2 where it
 * is written out, is at most 2^2T, checked exactly. Only this record is read. A gradient that is not finite, whose norm is no
 * normal number, or that does not fit for any other reason becomes zero.
 * Units: `clippingNorm` C; the integers P Q^T and w in C 2^-T. Secrets: the gradient. @see privacy F13
 */
export function quantizeTerm(
  factors: readonly TermFactor[],
  clippingNorm: number,
  bits: number,
  written: readonly WrittenTerm[] = [],
): void {
  const sizes = sizesOf(factors);
  const norm = normOf([...sizes, ...writtenSizes(written)]);
  const unit = Math.max(clippingNorm, norm);
  const most = 1n << BigInt(2 * bits);
  // The second try is shorter by more than doubles can err.
  for (const shrink of isNormal(norm) ? [0, 2 ** -26] : []) {
    const shorter = unit / (1 - shrink);
    if (cutFactors(factors, sizes, shorter, bits) + cutWritten(written, shorter, bits) <= most) return;
  }
  clear(factors, written);
}

/** Shorter and shorter: what cutting does to each record need not shorten their sum. */
const SHRINK_STEPS = [0, 2 ** -26, 2 ** -12, 2 ** -8, 2 ** -5, 2 ** -2] as const;

/**
 * As `quantizeTerm`, for the summed gradient of all records of a person: the exact norm of the sum of their P Q^T, and of the
 * sum that is written out, is at most 2^T. So is P Q^T of each record by itself, as exact sums need it; records that cancel there
 * are clipped by the longest of them.
 * Shapes: the factors of each record; `written` sums over the records. Cost: of all pairs of records, or of their gradients
 * written out where those are less.
 * Not guaranteed: a sum of records whose gradients pass 1e75; it becomes zero.
 */
export function quantizePerson(
  rows: readonly (readonly TermFactor[])[],
  clippingNorm: number,
  bits: number,
  written: readonly WrittenTerm[] = [],
): void {
  const sizes = rows.map(sizesOf);
  const longest = Math.max(normOf(writtenSizes(written)), ...sizes.map(normOf));
  const squared = gramNorm(rows) + normOf(writtenSizes(written)) ** 2;
  const isTerm = isNormal(longest) && squared < Number.POSITIVE_INFINITY;
  const unit = Math.max(clippingNorm, longest, Math.sqrt(Math.max(0, squared)));
  const most = 1n << BigInt(2 * bits);
  for (const shrink of isTerm ? SHRINK_STEPS : []) {
    const shorter = unit / (1 - shrink);
    const each = rows.map((row, r) => cutFactors(row, sizes[r] as FactorSize[], shorter, bits));
    const sum = cutWritten(written, shorter, bits);
    if (each.every((squares) => squares <= most) && exactGramNorm(rows, bits) + sum <= most) return;
  }
  for (const row of rows) clear(row);
  clear([], written);
}

/**
 * Rotates and scales a sum of terms, exact until its one multiplication, and rounds every coordinate at random, without a
 * condition on the result: that would depend on all records.
 * Shapes: one array of `realLength` per block, overwritten with zeros. Units: `sums` in C 2^-T. Random: one word a coordinate.
 * Secrets: the sums and the result before noise. @see privacy F13; `floatSensitivity`
 */
export function encodeFloatSum(
  crypto: CryptoProvider,
  spec: EncodingSpec,
  bits: number,
  sums: readonly Float64Array[],
  stream: KeyStream,
): Int32Array {
  const blocks = prepareBlocks(crypto, spec);
  const rounded = new Int32Array(blocks.reduce((total, { length }) => total + length, 0));
  const random = new RandomWords(stream, rounded.length);
  const units = spec.scale * spec.clippingNorm * 2 ** -bits;
  blocks.forEach(({ length, norm, offset, realLength, rotated, signs }, b) => {
    const sum = sums[b];
    if (sum?.length !== realLength)
      throw new CoveyError('USAGE_RANGE', `"sums" expected ${realLength} values, got ${sum?.length ?? 'none'}`);
    const work = new Float64Array(length);
    for (let i = 0; i < realLength; i++) work[i] = (sum[i] as number) * (signs[i] as number);
    sum.fill(0);
    if (rotated) transformWalshHadamard(work);
    roundRandomly(rounded.subarray(offset, offset + length), work, units * norm, random);
    work.fill(0);
  });
  random.wipe();
  return rounded;
}
