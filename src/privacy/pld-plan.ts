import {
  type Cumulants,
  cumulants,
  cutSketch,
  gridRange,
  gridVariance,
  type LossSketch,
  worstGridVariance,
} from './pld-grid.ts';
import type { LossPair } from './pld-pairs.ts';

/** A pair and how often it is composed. */
export interface LossTerm {
  readonly pair: LossPair;
  readonly count: number;
}

/** What is asked: epsilon at a delta, or delta at an epsilon. */
export type LossQuery = { readonly delta: number } | { readonly epsilon: number };

/** Choices for one composition; none of them affects validity, only tightness. Losses in units of the step. */
export interface CompositionPlan {
  readonly step: number;
  /** Tilt. */
  readonly lambda: number;
  readonly saddle: Saddle;
  /** Grid of every term, [first, last]. */
  readonly ranges: readonly (readonly [number, number])[];
  /** The window of sums, from `windowFirst`, `size` points long. */
  readonly windowFirst: number;
  readonly size: number;
  /** Tilt at which the mass right of the window is bounded. */
  readonly chernoff: number;
}

/** Over-estimate of epsilon that an automatic grid aims at, relative; a second, finer one is made above the limit. */
const TOLERANCE = 0.6e-4;
const TOLERANCE_LIMIT = 0.75e-4;
/** Delta given up to what lies right of the grids, relative. */
const TAIL_SHARE = 1e-6;
/** Part of delta that may be added by what wraps into the window from its right, as a logarithm. */
const LOG_WRAPPED = -14;
/** Tilted mass left of the window, as a logarithm. */
const LOG_LEFT = -24;
/** Largest product of tilt and sum. */
const MAX_TILTED = 5e3;
const MAX_POINTS = 2 ** 22;
/** Deltas below are bounded, but not resolved. */
const LEAST_LOG_DELTA = -200 * Math.LN10;

/** A term with the sketch of that part of its loss that its grid will hold. */
interface SketchedTerm extends LossTerm {
  readonly sketch: LossSketch;
}

/** Powers of 4, so that the grids of the next query are the same ones. */
function evenPower(x: number): number {
  return 4 ** Math.floor(Math.log2(x) / 2);
}

/** Mass that the grid of a term leaves above it, at infinity. */
function rightMass({ count }: LossTerm, terms: readonly LossTerm[], logDelta: number): number {
  return evenPower((TAIL_SHARE * Math.exp(logDelta)) / (terms.length * count));
}

function sketchTerms(terms: readonly LossTerm[], logDelta: number): SketchedTerm[] {
  return terms.map((term) => ({ ...term, sketch: cutSketch(term.pair, rightMass(term, terms, logDelta)) }));
}

function total(terms: readonly SketchedTerm[], lambda: number): Cumulants {
  let log = 0;
  let mean = 0;
  let variance = 0;
  for (const { sketch, count } of terms) {
    const c = cumulants(sketch, lambda);
    log += count * c.log;
    mean += count * c.mean;
    variance += count * c.variance;
  }
  return { log, mean, variance };
}

/** log of the saddle-point estimate of delta at epsilon = the tilted mean, kept finite for atoms and small tilts. */
function logDeltaAtMean(c: Cumulants, lambda: number): number {
  return c.log - lambda * c.mean + logSpread(c, lambda);
}

function logSpread(c: Cumulants, lambda: number): number {
  return -Math.log1p(lambda * Math.sqrt(2 * Math.PI * c.variance)) - Math.log1p(lambda);
}

/** Bound on the variance that a grid adds to all releases. */
function worstVariance(terms: readonly SketchedTerm[], lambda: number, step: number): number {
  return terms.reduce((sum, { sketch, count }) => sum + count * worstGridVariance(sketch, lambda, step), 0);
}

/** Finer grids fit no loss; without a least step a loss that never varies would ask for a step of 0. */
const LEAST_STEP = 2 ** -40;
const LEAST_TILT = 2 ** -20;
/** Tilts are taken from a fixed set, so that transforms can be used again by the next query. */
const TILT_RATIO = 2 ** 0.125;

/**
 * The last tilt of the ladder before a falling function of it crosses 0. Heavy tails make the tilted mean jump: too small
 * a tilt only costs digits, of which there are plenty; too large a one would leave the sums that decide.
 */
function solveTilt(falling: (lambda: number) => number, least: number): number {
  let k = Math.ceil(Math.log(least) / Math.log(TILT_RATIO));
  let jump = 16;
  // Small tilts where delta is large, and where a heavy tail takes over before the bulk is tilted at all.
  while (!(falling(TILT_RATIO ** k) > 0)) {
    if (TILT_RATIO ** k < LEAST_TILT) return TILT_RATIO ** k;
    k -= jump;
  }
  // Beyond 2^40 no loss that double precision can tell apart is left to resolve.
  while (TILT_RATIO ** (k + jump) < 2 ** 40 && falling(TILT_RATIO ** (k + jump)) > 0) {
    k += jump;
    jump *= 2;
  }
  let [a, b] = [k, k + jump];
  while (b - a > 1) {
    const middle = Math.floor((a + b) / 2);
    if (falling(TILT_RATIO ** middle) > 0) a = middle;
    else b = middle;
  }
  // Where the ladder is too coarse for such a jump, closer.
  let [low, high] = [TILT_RATIO ** a, TILT_RATIO ** b];
  for (let i = 0; i < 12 && falling(low) > 1; i++) {
    const middle = Math.sqrt(low * high);
    if (falling(middle) > 0) low = middle;
    else high = middle;
  }
  return low;
}

/**
 * Largest step of the ladder 2^{-k/2} whose discretisation costs at most the tolerance, if log delta falls with epsilon
 * at the rate `slope`.
 */
function chooseStep(
  terms: readonly SketchedTerm[],
  lambda: number,
  slope: number,
  epsilon: number,
  tolerance: number,
): number {
  const allowed = tolerance * epsilon;
  const most = Math.max(1, allowed / 4);
  const cost = (step: number): number => {
    let sum = 0;
    for (const { sketch, count } of terms) sum += count * gridVariance(sketch, lambda, step);
    return ((slope + 1) * sum) / 2;
  };
  const releases = terms.reduce((sum, { count }) => sum + count, 0);
  // Even losses cost h^2/6; unevenly spread ones may allow up to twice that step.
  let even = Math.max(LEAST_STEP, Math.sqrt((12 * allowed) / (releases * (slope + 1))));
  // Losses near 0 cost less than even ones, however coarse the grid: where nearly all are, so much coarser a grid will do.
  while (even < most / 4 && ((slope + 1) / 2) * worstVariance(terms, lambda, 4 * even) <= allowed) even *= 4;
  let k = Math.floor(-2 * Math.log2(Math.min(2 * even, 0.5 / slope, most)));
  while (cost(2 ** (-k / 2)) > allowed && 2 ** (-k / 2) > even / 4) k++;
  return 2 ** (-k / 2);
}

/** Smallest sum of losses beyond which a tilted bound leaves e^{logMass}, and the tilt of that bound. */
function rightEnd(
  terms: readonly SketchedTerm[],
  lambda: number,
  logMass: number,
  step: number,
): readonly [number, number] {
  let best: readonly [number, number] = [Number.POSITIVE_INFINITY, 2 * lambda];
  for (let excess = 0.01, worse = 0; excess < 200 && worse < 2; excess *= 2) {
    const at = (1 + excess) * lambda;
    // The grid adds a variance to every release: 3/2 of what it adds on average, h^2/6, is the most.
    const grid = step === 0 ? 0 : 0.75 * at * (at + 1) * worstVariance(terms, at, step);
    const end = (total(terms, at).log + grid - logMass) / at;
    worse = end < best[0] ? 0 : worse + 1;
    if (end < best[0]) best = [end, at];
  }
  return best;
}

/** Largest sum of losses below which the tilted measure has at most e^{logMass}. */
function leftEnd(terms: readonly SketchedTerm[], lambda: number, c: Cumulants, logMass: number): number {
  let best = Number.NEGATIVE_INFINITY;
  // Beyond lambda a heavy left tail may count, which the tilted measure does not see.
  for (let theta = Math.min(2 / Math.sqrt(c.variance), lambda / 4), worse = 0; worse < 2; theta *= 2) {
    const end = (c.log - total(terms, lambda - theta).log + logMass) / theta;
    if (end > best) best = end;
    else worse++;
  }
  return best;
}

/** Tilts to choose from where a heavy tail makes the solved one wrap too much: down to half of it. */
const SETTLING = 16;

/**
 * A tilt at which next to nothing of the tilted measure wraps from the right of the window to above the answer, where it
 * would count: near the jump of a heavy tail the tilted measure has a second mode far out.
 */
function settleTilt(terms: readonly SketchedTerm[], solved: number, epsilon: number, logDelta: number): number {
  const at = (i: number): number => solved / 2 ** (i / SETTLING);
  const isSettled = (lambda: number): boolean => {
    const c = total(terms, lambda);
    const [end, chernoff] = rightEnd(terms, lambda, logDelta - 20, 0);
    const wraps = epsilon + end - Math.min(epsilon, leftEnd(terms, lambda, c, LOG_LEFT));
    const most = LOG_WRAPPED + logSpread(c, lambda);
    return [0.25, 0.5, 1, 2, 4].some((factor) => {
      const more = factor * (chernoff - lambda);
      return total(terms, lambda + more).log - c.log - more * wraps < most;
    });
  };
  if (isSettled(solved)) return solved;
  let [low, high] = [0, SETTLING];
  while (high - low > 1) {
    const middle = (low + high) / 2;
    if (isSettled(at(middle))) high = middle;
    else low = middle;
  }
  return at(high);
}

/** The tilt of a composition and what follows from it alone. */
interface Saddle {
  readonly solved: number;
  readonly lambda: number;
  /** Estimates of the answer and of the delta there. */
  readonly epsilon: number;
  readonly logDelta: number;
}

/** The tilt solves T log M - lambda T m - log(lambda (1 + lambda) sqrt(2 pi T v)) = log delta. */
function findSaddle(terms: readonly SketchedTerm[], query: LossQuery, gridStep: number): Saddle {
  const still = total(terms, 0);
  const deviation = Math.sqrt(still.variance) || 1e-9;
  const target = 'delta' in query ? Math.log(query.delta) : LEAST_LOG_DELTA;
  const solved = solveTilt((at) => {
    const c = total(terms, at);
    // Larger tilts resolve nothing: 1/lambda is below the grid, or far below what is summed.
    if (at * Math.max(Math.abs(c.mean), deviation) > MAX_TILTED || at * gridStep > 4) return -1;
    const short = logDeltaAtMean(c, at) - target;
    return 'delta' in query ? short : Math.min(short, query.epsilon - c.mean);
  }, 0.02 / deviation);
  const c = total(terms, solved);
  const atMean = logDeltaAtMean(c, solved);
  const epsilon = 'delta' in query ? Math.max(0, c.mean + (atMean - target) / solved) : query.epsilon;
  const logDelta =
    'delta' in query ? target : Math.max(target, Math.min(0, atMean - solved * (query.epsilon - c.mean)));
  return { solved, lambda: settleTilt(terms, solved, epsilon, logDelta), epsilon, logDelta };
}

/** Tilt, grids and window for a composition at a grid step. */
function planAt(terms: readonly SketchedTerm[], query: LossQuery, saddle: Saddle, chosen: number): CompositionPlan {
  const { lambda, logDelta } = saddle;
  const wide = leftEnd(terms, lambda, total(terms, lambda), LOG_LEFT);
  // Below the window nothing is bounded: it has to reach the epsilon that is asked for.
  const left = 'delta' in query ? wide : Math.min(wide, query.epsilon);
  // A grid that would not fit gets coarser: still an upper bound, with a larger over-estimate.
  for (let step = chosen; ; step *= 2) {
    const [right, chernoff] = rightEnd(terms, lambda, logDelta - 20, step);
    const ranges = terms.map((term): readonly [number, number] => {
      const { pair, count, sketch } = term;
      const part = TAIL_SHARE / (terms.length * count);
      const [first, last] = gridRange(pair, step, rightMass(term, terms, logDelta), evenPower(part));
      // What moves up to -r weighs at most e^{-lambda r} of the M of the tilted measure.
      const reach = -(Math.log(part) + cumulants(sketch, lambda).log) / lambda;
      const cut =
        pair.kind === 'density' && reach > step ? -Math.ceil(2 ** (Math.ceil(2 * Math.log2(reach)) / 2) / step) : first;
      return [Math.max(first, cut), last];
    });
    let [lowest, highest] = [0, 0];
    for (const [i, { count }] of terms.entries()) {
      lowest += count * (ranges[i]?.[0] as number);
      highest += count * (ranges[i]?.[1] as number);
    }
    const windowFirst = Math.max(lowest, Math.floor(left / step));
    const windowLast = Math.max(windowFirst, Math.min(highest, Math.ceil(right / step)));
    let size = 16;
    while (size <= windowLast - windowFirst) size *= 2;
    const cells = Math.max(...ranges.map(([a, b]) => b - a));
    if (Math.max(size, cells) <= MAX_POINTS) return { step, lambda, saddle, ranges, windowFirst, size, chernoff };
  }
}

/** Chooses tilt, grids and window for a composition from sketches of the losses. Follows privacy F8. */
export function planComposition(terms: readonly LossTerm[], query: LossQuery, gridStep?: number): CompositionPlan {
  const logDelta =
    'delta' in query
      ? Math.log(query.delta)
      : findSaddle(sketchTerms(terms, LEAST_LOG_DELTA), query, gridStep ?? 0).logDelta;
  const sketched = sketchTerms(terms, logDelta);
  const saddle = findSaddle(sketched, query, gridStep ?? 0);
  const { solved, epsilon } = saddle;
  const { variance } = total(sketched, solved);
  // If the answer is far inside the bulk it may well be 0: a coarse grid tells.
  const step =
    gridStep ?? chooseStep(sketched, solved, solved, Math.max(epsilon, 0.3 * Math.sqrt(variance)), TOLERANCE);
  return planAt(sketched, query, saddle, step);
}

/**
 * A better plan where a first one has found that the answer is at `epsilon`, where log delta falls at the rate `slope`, and
 * that its grid is too coarse for that, or its tilt too large; null where it is good enough.
 */
export function refinePlan(
  terms: readonly LossTerm[],
  query: LossQuery,
  { saddle, step }: CompositionPlan,
  found: { readonly slope: number; readonly epsilon: number },
): CompositionPlan | null {
  const { solved, logDelta } = saddle;
  const sketched = sketchTerms(terms, logDelta);
  const lambda = settleTilt(sketched, saddle.lambda, Math.min(saddle.epsilon, found.epsilon), logDelta);
  const slope = Math.max(solved, found.slope);
  const least = 0.02 * Math.sqrt(total(sketched, lambda).variance);
  const finer = chooseStep(sketched, lambda, slope, Math.max(found.epsilon, least), TOLERANCE_LIMIT);
  return finer < step || lambda < saddle.lambda
    ? planAt(sketched, query, { ...saddle, lambda, epsilon: found.epsilon }, Math.min(step, finer))
    : null;
}
