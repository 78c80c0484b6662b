import { invertReal, realRounding, transformReal } from './fft.ts';
import type { GridLoss } from './pld-grid.ts';
import { U } from './pld-pairs.ts';

/*
 * Composition of losses that are nearly always the same, and rarely large: rare records under little noise. Of the tilted
 * masses p of such a loss one, w at j, is nearly all; the rest r is small:
 *
 *   p^T = (w d_j + r)^T = w^T d_{Tj} * (d_0 + z)^T,  z = r / w moved by -j,
 *   prod over terms of (1 + z^)^T = 1 + expm1(L),  L = sum of T log1p(z^) at every frequency.
 *
 * Transforms of p itself are off by about 2^-53 in every entry, T times as much after T-fold composition, and that error is
 * added to every mass above the answer. Transforms of r are off by 2^-53 |r|_1, and the 1 stays exact.
 * @see privacy F8
 */

/** A loss whose tilted masses are one, `weight`, but for rare others. */
interface RareLoss {
  /** Masses other than the heaviest over it, rounded up, at their distance from it modulo the length. */
  readonly rest: Float64Array;
  /** Their sum. */
  readonly restTotal: number;
  /** Grid index of the heaviest mass. */
  readonly index: number;
  /** log of the heaviest tilted mass, untilted scale: mass e^{lambda l}. */
  readonly logWeight: number;
  /** Relative rounding of that weight; the others hold theirs. */
  readonly rounding: number;
}

/** Largest restTotal for which log1p keeps its digits. */
const MAX_REST = 0.25;
/** Largest bound on |L|: above, most frequencies of the product are 0 and the ordinary transforms have digits enough. */
const MAX_EXPONENT = 16;

const heaviestOf = new WeakMap<GridLoss, number>();

/** Index of the largest mass if it is more than half of all, before any tilt; else -1. */
function dominantIndex(grid: GridLoss): number {
  const known = heaviestOf.get(grid);
  if (known !== undefined) return known;
  let heaviest = 0;
  for (let i = 1; i < grid.masses.length; i++)
    if ((grid.masses[i] as number) > (grid.masses[heaviest] as number)) heaviest = i;
  const found = (grid.masses[heaviest] as number) > 0.5 ? heaviest : -1;
  heaviestOf.set(grid, found);
  return found;
}

/** The tilted loss around its heaviest mass, or null where it has none. */
function rareLoss(grid: GridLoss, lambda: number, size: number): RareLoss | null {
  const { first, masses, step } = grid;
  const heaviest = dominantIndex(grid);
  if (heaviest < 0) return null;
  const mask = size - 1;
  const rest = new Float64Array(size);
  const weight = masses[heaviest] as number;
  // Added at once: a factor on the whole sum would have to hold for T steps in which a rare loss comes up.
  const up = (1 + (16 + 6 * masses.length * step * lambda) * U) / weight;
  let restTotal = 0;
  for (let i = 0; i < masses.length; i++) {
    const mass = masses[i] as number;
    if (mass === 0 || i === heaviest) continue;
    const tilted = mass * up * Math.exp(lambda * (i - heaviest) * step);
    restTotal += tilted;
    if (!(restTotal <= MAX_REST)) return null;
    rest[(i - heaviest) & mask] = (rest[(i - heaviest) & mask] as number) + tilted;
  }
  const at = (first + heaviest) * step * lambda;
  return {
    rest,
    restTotal: restTotal * (1 + 1e-9),
    index: first + heaviest,
    logWeight: Math.log(weight) + at,
    rounding: (16 + 6 * (Math.abs(at) + Math.abs(Math.log(weight)))) * U,
  };
}

/** The masses of a composition, apart from one that is exactly 1. */
export interface RareSum {
  /** Tilted masses beside the one at `centre`, at their distance from it modulo the length. */
  readonly masses: Float64Array;
  /** Most by which any of them may be too low. */
  readonly error: number;
  readonly centre: number;
  /** log of the factor that undoes all scalings: mass = tilted mass e^{logScale - lambda s}. */
  readonly logScale: number;
  /** Relative rounding of the scalings. */
  readonly rounding: number;
}

/** L at every frequency, and a bound on the error of each value. */
interface Exponent {
  readonly re: Float64Array;
  readonly im: Float64Array;
  readonly error: Float64Array;
}

/**
 * Adds T log1p(z^). With |z^| <= rho <= 1/4 and an error e of z^, log1p is off by e / (1 - rho - e), and by 24 u |z^| as
 * computed: by 6 u |z^| (1 + ...) in the real part, whose argument 2x + x^2 + y^2 may cancel, by 4 u |z^| in the angle.
 */
function addLogPower(to: Exponent, { rest, restTotal }: RareLoss, count: number): void {
  const { re, im } = transformReal(rest);
  const e = realRounding(rest.length) * restTotal;
  const steep = 1 / (1 - restTotal - e);
  for (let k = 0; k < re.length; k++) {
    const x = re[k] as number;
    const y = im[k] as number;
    const real = (to.re[k] as number) + count * (0.5 * Math.log1p(2 * x + x * x + y * y));
    const angle = (to.im[k] as number) + count * Math.atan2(y, 1 + x);
    to.re[k] = real;
    to.im[k] = angle;
    const own = count * (e * steep + 24 * U * (Math.abs(x) + Math.abs(y)));
    to.error[k] = (to.error[k] as number) + own + 2 * U * (Math.abs(real) + Math.abs(angle));
  }
}

/**
 * Composes losses that are nearly always the same; null where one of them is not, or rare losses come up too often.
 * Shapes: `size` points, a power of two.
 */
export function composeRare(
  terms: readonly { readonly count: number }[],
  grids: readonly GridLoss[],
  lambda: number,
  size: number,
): RareSum | null {
  const losses: RareLoss[] = [];
  let bound = 0;
  for (const [i, { count }] of terms.entries()) {
    const loss = rareLoss(grids[i] as GridLoss, lambda, size);
    if (loss === null) return null;
    losses.push(loss);
    bound += (count * loss.restTotal) / (1 - loss.restTotal);
  }
  if (!(bound <= MAX_EXPONENT)) return null;
  const half = size / 2 + 1;
  const sum: Exponent = { re: new Float64Array(half), im: new Float64Array(half), error: new Float64Array(half) };
  let [centre, logScale, rounding] = [0, 0, 0];
  for (const [i, loss] of losses.entries()) {
    const { count } = terms[i] as { count: number };
    addLogPower(sum, loss, count);
    centre += count * loss.index;
    logScale += count * loss.logWeight;
    rounding += count * loss.rounding;
  }
  let [errors, sizes] = [0, 0];
  for (let k = 0; k < half; k++) {
    // expm1(a + ib) = expm1(a) cos b - 2 sin^2(b/2) + i e^a sin b
    const a = sum.re[k] as number;
    const b = sum.im[k] as number;
    const e = sum.error[k] as number;
    const grown = Math.exp(Math.max(0, a));
    const sine = Math.sin(b / 2);
    sum.re[k] = Math.expm1(a) * Math.cos(b) - 2 * sine * sine;
    sum.im[k] = Math.exp(a) * Math.sin(b);
    const twice = k === 0 || 2 * k === size ? 1 : 2;
    errors += twice * (grown * e * Math.exp(e) + 16 * U * grown * (Math.abs(a) + Math.abs(b)));
    sizes += twice * (Math.abs(sum.re[k] as number) + Math.abs(sum.im[k] as number));
  }
  return {
    masses: invertReal(sum),
    error: (1.01 * (errors + realRounding(size) * sizes)) / size,
    centre,
    logScale,
    rounding: rounding + 16 * U * (Math.abs(logScale) + size),
  };
}
