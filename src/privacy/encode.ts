import type { CryptoProvider, KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { type RotationWorkspace, rotationError, rotationSigns, rotationWorkspace, unrotateBlock } from './hadamard.ts';
import { contributionBound, type RoundingBound, roundContribution } from './rounding.ts';

/**
 * One run of coordinates that is clipped jointly with the others but rotated by itself, so that an empty block stays
 * exactly zero. Units: lengths in coordinates; `length` includes the padding, a power of two if `rotated`.
 */
export interface Block {
  readonly segment: string;
  readonly realLength: number;
  readonly length: number;
  readonly rotated: boolean;
}

/** What both ends must agree on to encode and decode. Units: `scale` in integer units per 1.0. */
export interface EncodingSpec {
  readonly blocks: readonly Block[];
  readonly clippingNorm: number;
  readonly scale: number;
  readonly rotationSeed: Uint8Array;
}

/** Values of one block that a record contributes to. Shapes: `values` has the block's `realLength`. */
export interface TermPart {
  readonly block: number;
  readonly values: Float64Array;
}

export interface Encoder {
  /** l2 norm that no record's encoded term exceeds (zero-out; replace-one is twice this). Units: integer units. */
  readonly sensitivity: number;
  /** Bound on an encoded contribution at unit `participant`; larger by the randomized rounding. */
  readonly contribution: RoundingBound;
  /**
   * Adds one record's term to an organization's sum: a non-finite term becomes zero, all parts are clipped jointly, each
   * is rotated and scaled, rounded toward zero and the norm of what is added is checked in exact integers.
   * Depends on the record and public values only (the record rule). Shapes: `sum` has all blocks; overflow wraps.
   * Secrets: `term`. @see privacy F13, F16, section 1
   */
  addRecord(sum: Int32Array, term: readonly TermPart[]): void;
  /**
   * Encodes a whole contribution (unit `participant`): clipped jointly, rotated, scaled, rounded at random under the
   * condition that its norm stays within `contribution`. Shapes: one array of `realLength` per block.
   * Random: 64 bits a coordinate and attempt. Secrets: `segments`. @see privacy F13
   */
  encodeContribution(segments: readonly Float64Array[], stream: KeyStream): Int32Array;
  /** Undoes scale and rotation of a sum. Shapes: one array of `realLength` per block; still a sum, not a mean. */
  decode(sum: Int32Array): Float64Array[];
}

/** Largest l2 norm in integer units: squares then sum exactly in doubles (below 2^53). */
const MAX_SENSITIVITY = 2 ** 26;

/**
 * Relative shrinking of a term whose rounded norm is too large: by what doubles, then by what floats usually err, at last
 * by more than both can err together, which leaves nothing over the bound. Should it, the term becomes zero.
 */
const shrinkSteps = (longestRotated: number): readonly number[] => [
  0,
  2 ** -40,
  2 ** -30,
  2 ** -26,
  rotationError(longestRotated),
];

/** Norms below are taken for zero: their reciprocal is no double. */
const SMALLEST_NORM = 2 ** -1022;

/** A block with its place in the vector and what rotates it. */
export interface PreparedBlock extends Block {
  readonly offset: number;
  readonly signs: Int8Array;
  /** 1 / sqrt(length) if rotated, else 1. */
  readonly norm: number;
}

/** @throws CoveyError USAGE_RANGE for a block that does not fit its length. */
export function prepareBlocks(
  crypto: CryptoProvider,
  spec: Pick<EncodingSpec, 'blocks' | 'rotationSeed'>,
): PreparedBlock[] {
  let offset = 0;
  return spec.blocks.map((block) => {
    const { segment, realLength, length, rotated } = block;
    const fits =
      Number.isSafeInteger(length) && Number.isSafeInteger(realLength) && realLength >= 0 && realLength <= length;
    if (!fits || (rotated && 2 ** Math.round(Math.log2(length)) !== length)) {
      const wanted = rotated ? 'a power of two, at least "realLength"' : 'at least "realLength"';
      throw new CoveyError('USAGE_RANGE', `"length" of "${segment}" expected ${wanted}, got ${length}`, {
        segment,
        length,
        realLength,
      });
    }
    const signs = rotated ? rotationSigns(crypto, spec.rotationSeed, segment, length) : new Int8Array(length).fill(1);
    const prepared = { ...block, offset, signs, norm: rotated ? 1 / Math.sqrt(length) : 1 };
    offset += length;
    return prepared;
  });
}

function sumOfSquares(values: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] as number) * (values[i] as number);
  return sum;
}

/** l2 norm over all parts; NaN or infinity if any value is not finite. */
export function jointNorm(parts: readonly Float64Array[]): number {
  let squares = 0;
  for (const part of parts) squares += sumOfSquares(part);
  // Between these bounds no square overflowed, and those that underflowed do not matter.
  if (Number.isNaN(squares) || (squares > 1e-200 && squares < 1e200)) return Math.sqrt(squares);
  let largest = 0;
  for (const part of parts) for (const value of part) largest = Math.max(largest, Math.abs(value));
  if (!Number.isFinite(largest) || largest === 0) return largest;
  squares = 0;
  for (const part of parts) squares += sumOfSquares(part.map((value) => value / largest));
  return Math.sqrt(squares) * largest;
}

/** Values of one block in the order of the vector, and what they are to be multiplied with beside scale and clip. */
interface Arranged {
  readonly block: PreparedBlock;
  readonly values: Float64Array | Float32Array;
  readonly factor: number;
}

/**
 * Rotates the blocks that want it, as floats of a vector whose joint norm is 1: no sum of theirs overflows, and the relative
 * error of `rotationError` holds for values of any size. Other blocks are taken as they are.
 * Shapes: one array of `realLength` per block. The values are good until the next workspace is asked for.
 */
function arrange(
  workspaceOf: (length: number) => RotationWorkspace,
  parts: readonly { readonly block: PreparedBlock; readonly values: Float64Array }[],
  norm: number,
): { readonly arranged: readonly Arranged[]; readonly workspace: RotationWorkspace } {
  const workspace = workspaceOf(parts.reduce((total, { block }) => total + (block.rotated ? block.length : 0), 0));
  const inverse = 1 / norm;
  let from = 0;
  const arranged = parts.map(({ block, values }): Arranged => {
    const { signs, realLength, length, rotated } = block;
    if (!rotated) {
      const padded = new Float64Array(length);
      padded.set(values);
      return { block, values: padded, factor: 1 };
    }
    const work = workspace.values.subarray(from, from + length);
    for (let i = 0; i < realLength; i++) work[i] = (values[i] as number) * inverse * (signs[i] as number);
    work.fill(0, realLength);
    workspace.transform(from, length);
    from += length;
    return { block, values: work, factor: norm * block.norm };
  });
  return { arranged, workspace };
}

/**
 * Rounds toward zero; returns the exact sum of squares as long as it is below 2^53, and at least 2^53 otherwise: sums of
 * integers in doubles are exact in any order until then, so that four of them may run side by side.
 */
function truncateInto(rounded: Int32Array, work: Float64Array | Float32Array, factor: number): number {
  let squares0 = 0;
  let squares1 = 0;
  let squares2 = 0;
  let squares3 = 0;
  const whole = work.length & ~3;
  for (let i = 0; i < whole; i += 4) {
    const value0 = ((work[i] as number) * factor) | 0;
    const value1 = ((work[i + 1] as number) * factor) | 0;
    const value2 = ((work[i + 2] as number) * factor) | 0;
    const value3 = ((work[i + 3] as number) * factor) | 0;
    rounded[i] = value0;
    rounded[i + 1] = value1;
    rounded[i + 2] = value2;
    rounded[i + 3] = value3;
    squares0 += value0 * value0;
    squares1 += value1 * value1;
    squares2 += value2 * value2;
    squares3 += value3 * value3;
  }
  for (let i = whole; i < work.length; i++) {
    const value = ((work[i] as number) * factor) | 0;
    rounded[i] = value;
    squares0 += value * value;
  }
  return squares0 + squares1 + squares2 + squares3;
}

function addInto(sum: Int32Array, offset: number, rounded: Int32Array): void {
  for (let i = 0; i < rounded.length; i++) sum[offset + i] = (sum[offset + i] as number) + (rounded[i] as number);
}

/**
 * Creates the encoder of a session. Rotation is in floats, by `workspaceOf`; no bound rests on their precision.
 * @throws CoveyError USAGE_RANGE for a block that does not fit its length, or unless 1 <= scale * clippingNorm <= 2^26.
 * @see privacy section 1, F13, F15, F16
 */
export function createEncoder(
  crypto: CryptoProvider,
  spec: EncodingSpec,
  workspaceOf: (length: number) => RotationWorkspace = rotationWorkspace,
): Encoder {
  const blocks = prepareBlocks(crypto, spec);
  const coordinates = blocks.reduce((total, block) => total + block.length, 0);
  const { clippingNorm, scale } = spec;
  const sensitivity = Math.floor(scale * clippingNorm);
  if (!(scale > 0 && clippingNorm > 0 && sensitivity >= 1 && sensitivity <= MAX_SENSITIVITY)) {
    throw new CoveyError('USAGE_RANGE', `"scale * clippingNorm" expected from 1 to 2^26, got ${scale * clippingNorm}`);
  }
  const squaredSensitivity = sensitivity * sensitivity;
  const contribution = contributionBound(scale * clippingNorm, coordinates);
  const steps = shrinkSteps(Math.max(1, ...blocks.map((block) => (block.rotated ? block.length : 1))));
  const rounded = blocks.map((block) => new Int32Array(block.length));

  const assertLength = (block: PreparedBlock | undefined, values: Float64Array | undefined): PreparedBlock => {
    if (block === undefined || values?.length !== block.realLength) {
      throw new CoveyError(
        'USAGE_RANGE',
        `"values" expected ${block?.realLength ?? 'a known block'}, got ${values?.length ?? 'none'}`,
      );
    }
    return block;
  };
  const assertSum = (sum: Int32Array): void => {
    if (sum.length !== coordinates)
      throw new CoveyError('USAGE_RANGE', `"sum" expected ${coordinates} coordinates, got ${sum.length}`);
  };

  return {
    sensitivity,
    contribution,
    addRecord(sum, term) {
      assertSum(sum);
      const parts = term.map(({ block, values }) => ({ block: assertLength(blocks[block], values), values }));
      if (new Set(term.map(({ block }) => block)).size !== term.length)
        throw new CoveyError('USAGE_RANGE', '"term" expected each block at most once');
      const norm = jointNorm(term.map((part) => part.values));
      // Not finite: a zero term, silently, for a visible refusal would be a release (privacy 3.5).
      if (!(norm < Number.POSITIVE_INFINITY && norm >= SMALLEST_NORM)) return;
      // The clip commutes with the rotation, so one factor serves both, in integer units.
      const factor = scale * norm > sensitivity ? sensitivity / norm : scale;
      const { arranged, workspace } = arrange(workspaceOf, parts, norm);
      // Floats and doubles are not trusted with the norm: what is added is checked in integers, whatever came before (F13).
      for (const shrink of steps) {
        let squares = 0;
        arranged.forEach((part, i) => {
          const target = rounded[(term[i] as TermPart).block] as Int32Array;
          squares += truncateInto(target, part.values, factor * (1 - shrink) * part.factor);
        });
        if (squares > squaredSensitivity) continue;
        parts.forEach(({ block }, i) => {
          addInto(sum, block.offset, rounded[(term[i] as TermPart).block] as Int32Array);
        });
        break;
      }
      workspace.values.fill(0);
    },
    encodeContribution(segments, stream) {
      if (segments.length !== blocks.length) {
        throw new CoveyError('USAGE_RANGE', `"segments" expected ${blocks.length} arrays, got ${segments.length}`);
      }
      const parts = blocks.map((block, i) => ({
        block: assertLength(block, segments[i]),
        values: segments[i] as Float64Array,
      }));
      const norm = jointNorm(segments);
      const scaled = new Float64Array(coordinates);
      if (norm >= SMALLEST_NORM && norm < Number.POSITIVE_INFINITY) {
        const { arranged, workspace } = arrange(workspaceOf, parts, norm);
        for (const { block, values, factor } of arranged) {
          const target = scaled.subarray(block.offset, block.offset + block.length);
          for (let i = 0; i < target.length; i++) target[i] = (values[i] as number) * (factor / norm);
        }
        workspace.values.fill(0);
        // Clipped after the rotation, by the norm of the floats that came out of it: their error is in it (F16).
        const rotatedNorm = Math.sqrt(sumOfSquares(scaled)) * norm;
        const clipped = rotatedNorm > clippingNorm ? (scale * clippingNorm) / rotatedNorm : scale;
        for (let i = 0; i < scaled.length; i++) scaled[i] = (scaled[i] as number) * (clipped * norm);
      }
      return roundContribution(scaled, contribution, stream);
    },
    decode(sum) {
      assertSum(sum);
      return blocks.map((block) => {
        const values = Float64Array.from(sum.subarray(block.offset, block.offset + block.length));
        if (block.rotated) unrotateBlock(values, block.signs);
        return values.slice(0, block.realLength).map((value) => value / scale);
      });
    },
  };
}
