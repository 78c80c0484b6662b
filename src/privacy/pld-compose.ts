import { invertReal, realRounding, transformReal } from './fft.ts';
import { cumulants, discretizeLoss, type GridLoss, largestLoss, sketchLoss } from './pld-grid.ts';
import { type LossPair, U } from './pld-pairs.ts';
import { type CompositionPlan, type LossQuery, type LossTerm, planComposition, refinePlan } from './pld-plan.ts';
import { composeRare, type RareSum } from './pld-rare.ts';
import { queryPair } from './pld-single.ts';

/** Transform of a tilted loss, non-negative frequencies only. */
interface Spectrum {
  readonly re: Float64Array;
  readonly im: Float64Array;
  /** Logarithm of the divisor that makes the tilted masses add to 1. */
  readonly logScale: number;
  readonly total: number;
  /** Relative rounding of a tilted mass. */
  readonly rounding: number;
}

/** Powers below this logarithm are taken for 0, and charged as an error: far below the rounding of the transforms. */
const LOG_DROPPED = -60;

/** Largest transform that is kept for later queries, in points. */
const MAX_CACHED_POINTS = 2 ** 17;
/** Grids kept of a pair: those of a first and of a refined plan. */
const MAX_CACHED_GRIDS = 2;
const grids = new WeakMap<LossPair, GridLoss[]>();
const spectra = new WeakMap<
  GridLoss,
  { readonly lambda: number; readonly size: number; readonly spectrum: Spectrum }
>();

function gridOf(pair: LossPair, step: number, [first, last]: readonly [number, number]): GridLoss {
  const kept = grids.get(pair) ?? [];
  const known = kept.find((g) => g.step === step && g.first === first && g.masses.length === last - first + 1);
  if (known) return known;
  const grid = discretizeLoss(pair, step, first, last);
  grids.set(pair, [grid, ...kept.slice(0, MAX_CACHED_GRIDS - 1)]);
  return grid;
}

/**
 * log E[e^{lambda l}]; the tilted masses, too, are added up if wanted, at their index modulo the length of `tilted` (a
 * power of two). `near` is about the result and keeps exp in its range.
 */
function logMoment(grid: GridLoss, lambda: number, near: number, tilted?: Float64Array): number {
  const { masses, first, step } = grid;
  const mask = tilted ? tilted.length - 1 : 0;
  const addUp = (unit: number): number => {
    let sum = 0;
    for (let i = 0; i < masses.length; i++) {
      const mass = masses[i] as number;
      if (mass === 0) continue;
      const weight = mass * Math.exp(lambda * ((first + i) * step) - unit);
      sum += weight;
      if (tilted) tilted[(first + i) & mask] = (tilted[(first + i) & mask] as number) + weight;
    }
    return sum;
  };
  let unit = near;
  let sum = addUp(unit);
  if (!(sum > 1e-200 && sum < 1e200)) {
    // Out of the range of full precision: again with the largest weight as unit.
    unit = masses.reduce((most, mass, i) => Math.max(most, Math.log(mass) + lambda * ((first + i) * step)), -1e300);
    tilted?.fill(0);
    sum = addUp(unit);
  }
  if (tilted) for (let i = 0; i < tilted.length; i++) tilted[i] = (tilted[i] as number) / sum;
  return unit + Math.log(sum);
}

function transform(pair: LossPair, grid: GridLoss, lambda: number, size: number): Spectrum {
  const known = spectra.get(grid);
  if (known && known.lambda === lambda && known.size === size) return known.spectrum;
  const { masses, first, step } = grid;
  const tilted = new Float64Array(size);
  const logScale = logMoment(grid, lambda, cumulants(sketchLoss(pair), lambda).log, tilted);
  let sum = 0;
  for (const mass of tilted) sum += mass;
  const reach = Math.max(Math.abs(first), Math.abs(first + masses.length)) * step * lambda;
  const spectrum: Spectrum = {
    ...transformReal(tilted),
    logScale,
    total: sum * (1 + 1e-9),
    rounding: (16 + 6 * (reach + Math.abs(logScale))) * U,
  };
  if (size <= MAX_CACHED_POINTS) spectra.set(grid, { lambda, size, spectrum });
  return spectrum;
}

/** Tilted masses of the sum on the window, and the most by which any of them may be too low. */
interface TiltedSum {
  /** At the index modulo the length. */
  readonly masses: Float64Array;
  readonly error: number;
  /** log of the factor that undoes all scalings: mass = tilted mass e^{logScale - lambda s}. */
  readonly logScale: number;
  /** Relative rounding of the scalings. */
  readonly rounding: number;
}

/** Products of powers of transforms with a running bound on what rounding did to each. */
class SpectrumProduct {
  readonly #re: Float64Array;
  readonly #im: Float64Array;
  readonly #error: Float64Array;
  readonly #size: number;

  constructor(size: number) {
    this.#size = size;
    this.#re = new Float64Array(size / 2 + 1).fill(1);
    this.#im = new Float64Array(size / 2 + 1);
    this.#error = new Float64Array(size / 2 + 1);
  }

  /**
   * Multiplies by the count-th power of a transform with entries within e of the exact p:
   * |fl(p^T) - p^T| <= T e (|p| + e)^{T-1} + 3 T u |p|^T, the second part for repeated squaring.
   */
  multiply({ re, im, total }: Spectrum, count: number): void {
    const [accRe, accIm, accError] = [this.#re, this.#im, this.#error];
    const e = realRounding(this.#size) * total;
    const least = Math.exp(LOG_DROPPED / count);
    const dropped = 2 * Math.exp(LOG_DROPPED);
    for (let k = 0; k < accRe.length; k++) {
      let baseRe = re[k] as number;
      let baseIm = im[k] as number;
      const size = Math.sqrt(baseRe * baseRe + baseIm * baseIm);
      if (size + e < least) {
        // Most frequencies: a sum of many losses is smooth.
        const r = accRe[k] as number;
        const i = accIm[k] as number;
        accError[k] = (Math.sqrt(r * r + i * i) + (accError[k] as number)) * dropped;
        accRe[k] = 0;
        accIm[k] = 0;
        continue;
      }
      let powerRe = 1;
      let powerIm = 0;
      for (let t = count; ; ) {
        if (t % 2 === 1) {
          const x = powerRe * baseRe - powerIm * baseIm;
          powerIm = powerRe * baseIm + powerIm * baseRe;
          powerRe = x;
        }
        t = Math.floor(t / 2);
        if (t === 0) break;
        const x = baseRe * baseRe - baseIm * baseIm;
        baseIm = 2 * baseRe * baseIm;
        baseRe = x;
      }
      const powerSize = Math.sqrt(powerRe * powerRe + powerIm * powerIm);
      // (|p| + e)^{T-1} from |p|^T where e is small beside |p| / T.
      const steep = (count - 1) * e < 0.01 * size ? (1.02 * powerSize) / size : (size + 2 * e) ** (count - 1);
      const powerError = count * (e * steep + 3 * U * powerSize);
      const r = accRe[k] as number;
      const i = accIm[k] as number;
      const before = accError[k] as number;
      const known = Math.sqrt(r * r + i * i);
      accRe[k] = r * powerRe - i * powerIm;
      accIm[k] = r * powerIm + i * powerRe;
      accError[k] = known * powerError + before * (powerSize + powerError) + 4 * U * known * powerSize;
    }
  }

  /** The sequence with this transform, and a bound on the error of each of its entries. */
  invert(): { readonly values: Float64Array; readonly error: number } {
    const n = this.#size;
    let [errors, sizes] = [0, 0];
    for (let k = 0; k <= n / 2; k++) {
      const r = this.#re[k] as number;
      const i = this.#im[k] as number;
      const twice = k === 0 || 2 * k === n ? 1 : 2;
      errors += twice * (this.#error[k] as number);
      sizes += twice * Math.sqrt(r * r + i * i);
    }
    const values = invertReal({ re: this.#re, im: this.#im });
    return { values, error: (1.01 * (errors + realRounding(n) * sizes)) / n };
  }
}

/** The masses at their own indices, the one at the centre among them. */
function aroundCentre({ centre, masses: around, ...rest }: RareSum): TiltedSum {
  const mask = around.length - 1;
  const masses = new Float64Array(around.length);
  // A remainder first: the index of a sum may have more bits than & keeps.
  const at = centre % around.length;
  for (let i = 0; i < around.length; i++) masses[(at + i) & mask] = around[i] as number;
  masses[at & mask] = (masses[at & mask] as number) + 1;
  return { masses, ...rest };
}

function composeTilted(
  terms: readonly LossTerm[],
  gridsOfTerms: readonly GridLoss[],
  plan: CompositionPlan,
): TiltedSum {
  const rare = composeRare(terms, gridsOfTerms, plan.lambda, plan.size);
  if (rare !== null) return aroundCentre(rare);
  const product = new SpectrumProduct(plan.size);
  let [logScale, rounding] = [0, 0];
  for (const [i, { pair, count }] of terms.entries()) {
    const spectrum = transform(pair, gridsOfTerms[i] as GridLoss, plan.lambda, plan.size);
    product.multiply(spectrum, count);
    logScale += count * spectrum.logScale;
    rounding += count * spectrum.rounding;
  }
  const { values, error } = product.invert();
  return { masses: values, error, logScale, rounding: rounding + 16 * U * (Math.abs(logScale) + plan.size) };
}

/** Bound on the probability that the sum is right of the window, where it is lost by wrapping around. */
function lostRight(terms: readonly LossTerm[], gridsOfTerms: readonly GridLoss[], plan: CompositionPlan): number {
  const end = plan.windowFirst + plan.size;
  let highest = 0;
  for (const [i, { count }] of terms.entries()) highest += count * (plan.ranges[i]?.[1] as number);
  if (highest < end) return 0;
  let least = Number.POSITIVE_INFINITY;
  // Any tilt bounds; the planned one comes from a sketch, and may be too large for the grids.
  for (let at = plan.chernoff, i = 0; i < 5 && !(least < plan.saddle.logDelta - 14); i++, at = (at + plan.lambda) / 2) {
    let log = -at * end * plan.step;
    for (const [k, { pair, count }] of terms.entries()) {
      log += count * logMoment(gridsOfTerms[k] as GridLoss, at, cumulants(sketchLoss(pair), at).log);
    }
    least = Math.min(least, log * (1 - 1e-9) + 1e-6 + 1e-12 * Math.abs(log));
  }
  return Math.exp(least);
}

/** Fails closed: what is not a number is the limit. */
function atMost(limit: number, x: number): number {
  return x <= limit ? x : limit;
}

/**
 * Epsilon at a delta, or delta at an epsilon, of a composition of loss pairs, as an upper bound.
 *
 * Each discretised loss is tilted by e^{lambda l}, so that the sums that decide lie in the bulk of what is composed, and
 * composed by one product of Fourier transforms. Added back: the rounding of the transforms (to every mass of the sum),
 * the probability right of the window, which wraps around, and the losses above the grids. What wraps around from the
 * left only adds.
 * @see privacy F8
 */
export function queryComposition(terms: readonly LossTerm[], query: LossQuery, gridStep?: number): number {
  if ('delta' in query) {
    // delta(0), the total variation, adds up at most.
    const most = terms.reduce((sum, { pair, count }) => sum + count * queryPair(pair, { epsilon: 0 }), 0);
    if (most * (1 + 1e-12) <= query.delta) return 0;
  }
  const bound = queryGrid(terms, query, gridStep);
  // Bounded losses add up: no grid can be needed above their sum.
  const pure = terms.reduce((sum, { pair, count }) => sum + count * largestLoss(pair), 0) * (1 + 1e-12);
  return 'delta' in query ? Math.min(bound, Math.max(0, pure)) : query.epsilon >= pure ? 0 : bound;
}

function queryGrid(terms: readonly LossTerm[], query: LossQuery, gridStep: number | undefined): number {
  const plan = planComposition(terms, query, gridStep);
  const first = runQuery(terms, query, plan);
  if (gridStep !== undefined || !('delta' in query) || !Number.isFinite(first.value)) return first.value;
  // Where a heavy tail sets the tilt, delta may fall much faster at the answer than the tilt says: a finer grid then.
  const finer = refinePlan(terms, query, plan, { slope: first.slope, epsilon: first.value });
  return finer === null ? first.value : Math.min(first.value, runQuery(terms, query, finer).value);
}

/** The answer on one plan, and the rate at which log delta falls there. */
function runQuery(
  terms: readonly LossTerm[],
  query: LossQuery,
  plan: CompositionPlan,
): { readonly value: number; readonly slope: number } {
  const { step, lambda, windowFirst, size } = plan;
  const used = terms.map(({ pair }, i) => gridOf(pair, step, plan.ranges[i] as readonly [number, number]));
  const sum = composeTilted(terms, used, plan);
  let logFinite = 0;
  for (const [i, { count }] of terms.entries())
    logFinite += count * Math.log1p(-Math.min(1, used[i]?.infinity as number));
  const certain = -Math.expm1(logFinite) * (1 + 1e-12) + lostRight(terms, used, plan);
  const scale = sum.logScale + Math.log1p(sum.rounding);
  const mask = size - 1;
  const massAt = (s: number): number => Math.max(0, sum.masses[s & mask] as number) + sum.error;
  // For s falling through the window, over the points s' > s, in units of e^{scale - lambda s}:
  // excess = sum of masses times (1 - e^{s - s'}), rest = sum of masses times e^{s - s'}. All terms are positive.
  let [excess, rest] = [0, 0];
  const gap = -Math.expm1(-step);
  const shrink = Math.exp(-lambda * step);
  const both = Math.exp(-(lambda + 1) * step);
  const bottom = Math.max(windowFirst, 0);
  const top = windowFirst + size - 1;
  if ('epsilon' in query) {
    const above = Math.floor(query.epsilon / step) + 1;
    if (above > top) return { value: atMost(1, certain), slope: 0 };
    for (let s = top; s > above; s--) {
      const all = rest + massAt(s);
      excess = (excess + all * gap) * shrink;
      rest = all * both;
    }
    const reached = excess + (rest + massAt(above)) * -Math.expm1(query.epsilon - above * step);
    return { value: atMost(1, certain + reached * Math.exp(scale - lambda * above * step)), slope: 0 };
  }
  const wanted = query.delta - certain;
  if (!(wanted > 0 && Number.isFinite(sum.error))) return { value: Number.POSITIVE_INFINITY, slope: 0 };
  const logWanted = Math.log(wanted) - scale;
  let limit = 0;
  for (let s = top; s >= bottom; s--) {
    // At s, over the points above it; the limit is `wanted` in the same units.
    if ((top - s) % 256 === 0) limit = Math.exp(logWanted + lambda * s * step);
    if (excess > limit)
      return { value: s * step + Math.log1p((excess - limit) / rest) + 8 * U * (1 + s * step), slope: rest / excess };
    const all = rest + massAt(s);
    excess = (excess + all * gap) * shrink;
    rest = all * both;
    limit *= shrink;
  }
  return { value: bottom * step, slope: 0 };
}
