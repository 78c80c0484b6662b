import type { CellRun, CellSpec, Inversion } from '../../protocol/kernels/sampler-plain.ts';
import { isBelow } from './fixed-point.ts';
import type { RandomWords } from './random-words.ts';
import type { SymmetricLaw } from './symmetric-law.ts';
import type { ThresholdTable } from './threshold-table.ts';

/** Above this exponent the polynomial below is not used (only reached beyond 16 standard deviations). */
const MAX_FAST_EXPONENT = 0.25;

/** exp(-t) for 0 <= t <= 1/4 by + and * only, off by less than 2^-45: Taylor to t^10, remainder < (1/4)^11 / 11!. */
function expNegativeFast(t: number): number {
  let value = 1;
  for (let i = 10; i > 0; i--) value = 1 - (value * t) / i;
  return value;
}

/** A law drawn in two steps: a cell of `width` magnitudes by inversion, then an offset in it by rejection. */
export interface WideCells {
  readonly law: SymmetricLaw;
  readonly table: ThresholdTable;
  readonly inversion: Inversion;
  readonly width: number;
  readonly offsetBits: number;
  /** The draws that need no more than their two words. */
  readonly run: CellRun;
}

/** Shapes: `width` a power of two. `runOf` makes the hot loop. */
export function createWideCells(
  law: SymmetricLaw,
  table: ThresholdTable,
  inversion: Inversion,
  width: number,
  runOf: (spec: CellSpec) => CellRun,
): WideCells {
  const offsetBits = Math.log2(width);
  // Acceptance bits below `limits[k]` accept every offset of cell k, for exp(-t) >= 1 - t.
  const limits = Int32Array.from(table.prefix, (_, k) => {
    // The thresholds end at 6.3 deviations: far from where the exponent is no longer known in doubles.
    const largest = law.exponent(k * width, width - 1);
    return Math.max(0, Math.floor((1 - largest - law.slack) * 2 ** (32 - offsetBits)) - 1);
  });
  return { law, table, inversion, width, offsetBits, run: runOf({ thresholds: table.prefix, limits, offsetBits }) };
}

/** Bern(exp(-t)) for the first bits of U in `fine` above the offset, decided exactly. */
function acceptOffset(cells: WideCells, magnitude: number, fine: number, random: RandomWords): boolean {
  const { law } = cells;
  const offset = fine & (cells.width - 1);
  const first = fine >>> cells.offsetBits;
  const firstBits = 32 - cells.offsetBits;
  const unit = 2 ** -firstBits;
  const isFast = magnitude + offset <= law.fastReach;
  const t = isFast ? law.exponent(magnitude, offset) : 1;
  if (isFast && (first + 1) * unit <= 1 - t - law.slack) return true;
  const second = random.next();
  const u = (first + second * 2 ** -32) * unit;
  if (isFast && t <= MAX_FAST_EXPONENT) {
    const probability = expNegativeFast(t);
    if (u < probability - law.slack) return true;
    if (u > probability + law.slack) return false;
  }
  const prefix = (BigInt(first) << 32n) | BigInt(second);
  return isBelow(prefix, firstBits + 32, (bits) => law.ratio(magnitude, offset, bits), random);
}

/** One draw of wide cells, with as many words as it takes. */
function drawWideCell(cells: WideCells, random: RandomWords): number {
  for (;;) {
    const word = random.next();
    const fine = random.next();
    const found = cells.inversion.one(word >>> 1);
    const magnitude = (found < 0 ? cells.table.resolve(word >>> 1, random) : found) * cells.width;
    if (!acceptOffset(cells, magnitude, fine, random)) continue;
    const x = magnitude + (fine & (cells.width - 1));
    const negative = (word & 1) === 1;
    // Zero would be drawn with both signs: "-0" is drawn again (CKS 2020, Algorithm 2).
    if (x !== 0 || !negative) return negative ? -x : x;
  }
}

function addPiece(cells: WideCells, target: Int32Array, random: RandomWords): void {
  for (let i = 0; i < target.length; ) {
    if (random.at === random.words.length) random.refill();
    const to = Math.min(target.length, i + ((random.words.length - random.at) >> 1));
    const stop = cells.run(random.words, random.at, target, i, to);
    random.at += 2 * (stop - i);
    i = stop;
    // Also the draw whose two words lie on both sides of a refill.
    if (i < target.length && (stop < to || random.at < random.words.length)) {
      target[i] = (target[i] as number) + drawWideCell(cells, random);
      i += 1;
    }
  }
}

/** Adds a draw to every coordinate, modulo 2^32. `draws`: memory in which the run is fast; wiped. */
export function addWideCells(
  cells: WideCells,
  target: Int32Array,
  random: RandomWords,
  draws: Int32Array | undefined,
): void {
  if (draws === undefined) {
    addPiece(cells, target, random);
    return;
  }
  // One in a hundred draws stops the run: the coordinates stay in its memory meanwhile.
  try {
    for (let from = 0; from < target.length; from += draws.length) {
      const part = target.subarray(from, from + draws.length);
      const piece = draws.subarray(0, part.length);
      piece.set(part);
      addPiece(cells, piece, random);
      part.set(piece);
    }
  } finally {
    draws.fill(0, 0, Math.min(draws.length, target.length));
  }
}
