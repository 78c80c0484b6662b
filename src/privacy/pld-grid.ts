import { type AtomPair, type DensityPair, type LossPair, U } from './pld-pairs.ts';

/**
 * Masses of the privacy loss at the multiples of a step, with everything above the grid at infinity: a measure that
 * stochastically dominates the connect-the-dots discretisation of a pair, so that its composition, too, bounds delta
 * from above. Shapes: `masses[i]` belongs to the loss (first + i) h.
 */
export interface GridLoss {
  readonly step: number;
  readonly first: number;
  readonly masses: Float64Array;
  readonly infinity: number;
}

/** One mass per cell of a fine, uneven partition of the losses: a sketch from which grids and tilts are chosen. */
export interface LossSketch {
  readonly logMasses: Float64Array;
  readonly losses: Float64Array;
  /** Cell widths; 0 for single losses. */
  readonly widths: Float64Array;
}

const scratch = new Float64Array(3);

/** P[l > epsilon] of a density pair. */
export function upperTail(pair: DensityPair, epsilon: number): number {
  pair.tails(epsilon, scratch);
  return scratch[0] as number;
}

/** Loss of one outcome. */
export function atomLoss(pair: AtomPair, i: number): number {
  return Math.log((pair.upper[i] as number) / (pair.lower[i] as number));
}

/** No loss of the pair is above; may be Infinity. */
export function largestLoss(pair: LossPair): number {
  if (pair.kind === 'density') return pair.highest ?? Number.POSITIVE_INFINITY;
  if (pair.infinity > 0) return Number.POSITIVE_INFINITY;
  let largest = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < pair.upper.length; i++) largest = Math.max(largest, atomLoss(pair, i));
  return largest + 2 * pair.error;
}

/** Beyond every loss that a noise multiplier above 1e-9 can give. */
const FARTHEST = 1e18;

/** Cells of ratio 2^{1/4} from 1e-8 outwards, down to tails of 1e-120. */
function sketchDensity(pair: DensityPair): LossSketch {
  const ratio = 2 ** (1 / 4);
  const edges: number[] = [0];
  for (let e = 1e-8; e < FARTHEST; e *= ratio) {
    edges.push(e);
    if (upperTail(pair, e) < 1e-120) break;
  }
  const last = edges.at(-1) as number;
  if (upperTail(pair, last) === 0) {
    // A largest loss: large tilts look at its neighbourhood only.
    let [low, high] = [0, last];
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (upperTail(pair, middle) > 0) low = middle;
      else high = middle;
    }
    for (let part = 0.5; part > 1e-8; part /= 1.2) edges.push(low * (1 - part));
  }
  const below: number[] = [];
  for (let e = 1e-8; e < 1e5 && -e > pair.lowest; e *= ratio) {
    below.push(-e);
    if (upperTail(pair, -e) > 1 - 1e-15) break;
  }
  const near = pair.atoms.flatMap((l) => [l - 1e-12 * (Math.abs(l) + 1e-3), l + 1e-12 * (Math.abs(l) + 1e-3)]);
  const all = [...edges, ...below, ...near].sort((a, b) => a - b);
  const [logMasses, losses, widths]: [number[], number[], number[]] = [[], [], []];
  let [before, lowerBefore] = [1, 1];
  for (const [i, edge] of all.entries()) {
    pair.tails(edge, scratch);
    const [upper, lower] = [scratch[0] as number, scratch[1] as number];
    const mass = before - upper;
    if (mass > 0) {
      const previous = i > 0 ? (all[i - 1] as number) : Math.max(pair.lowest, 2 * edge - 1);
      const loss = Math.log(mass / (lowerBefore - lower));
      logMasses.push(Math.log(mass));
      // Where masses are too small a difference for their ratio, the middle of the cell is as good.
      losses.push(loss > previous && loss < edge ? loss : (previous + edge) / 2);
      widths.push(edge - previous);
    }
    [before, lowerBefore] = [upper, lower];
  }
  return {
    logMasses: Float64Array.from(logMasses),
    losses: Float64Array.from(losses),
    widths: Float64Array.from(widths),
  };
}

const sketches = new WeakMap<LossPair, LossSketch>();
const cutSketches = new WeakMap<LossPair, Map<number, LossSketch>>();

/** The sketch without what is above a grid that leaves `rightMass` at infinity. */
export function cutSketch(pair: LossPair, rightMass: number): LossSketch {
  const whole = sketchLoss(pair);
  if (pair.kind === 'atoms') return whole;
  const cuts = cutSketches.get(pair) ?? new Map<number, LossSketch>();
  cutSketches.set(pair, cuts);
  const known = cuts.get(rightMass);
  if (known) return known;
  const { losses, logMasses, widths } = whole;
  let kept = losses.length;
  let above = Math.exp(logMasses[kept - 1] as number);
  while (kept > 1 && above < rightMass) {
    kept--;
    above += Math.exp(logMasses[kept - 1] as number);
  }
  // The cell that the grid ends in, and one more: bounds from the sketch must not be below those of the grid.
  kept = Math.min(kept + 1, losses.length);
  const cut = {
    logMasses: logMasses.subarray(0, kept),
    losses: losses.subarray(0, kept),
    widths: widths.subarray(0, kept),
  };
  if (cuts.size >= MAX_CUTS) cuts.clear();
  cuts.set(rightMass, cut);
  return cut;
}

/** The sketch of a pair, made once. Cost: about 250 evaluations of the tails. */
export function sketchLoss(pair: LossPair): LossSketch {
  const known = sketches.get(pair);
  if (known) return known;
  let sketch: LossSketch;
  if (pair.kind === 'density') sketch = sketchDensity(pair);
  else {
    const kept = [...pair.upper.keys()].filter((i) => (pair.upper[i] as number) > 0);
    sketch = {
      logMasses: Float64Array.from(kept, (i) => Math.log(pair.upper[i] as number)),
      losses: Float64Array.from(kept, (i) => atomLoss(pair, i)),
      widths: new Float64Array(kept.length),
    };
  }
  sketches.set(pair, sketch);
  return sketch;
}

/** log E[e^{lambda l}] over finite losses, with its first two derivatives (tilted mean and variance). */
export interface Cumulants {
  readonly log: number;
  readonly mean: number;
  readonly variance: number;
}

const MAX_CUTS = 4;
/** Plans ask for the same tilts again and again: the last ones of every sketch. */
const MAX_TILTS = 512;
const tilts = new WeakMap<LossSketch, Map<number, Cumulants>>();

export function cumulants(sketch: LossSketch, lambda: number): Cumulants {
  let known = tilts.get(sketch);
  if (!known) {
    known = new Map();
    tilts.set(sketch, known);
  }
  const before = known.get(lambda);
  if (before) return before;
  const found = sumTilted(sketch, lambda);
  if (known.size >= MAX_TILTS) known.clear();
  known.set(lambda, found);
  return found;
}

function sumTilted({ logMasses, losses }: LossSketch, lambda: number): Cumulants {
  let high = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < losses.length; i++) {
    const x = (logMasses[i] as number) + lambda * (losses[i] as number);
    if (x > high) high = x;
  }
  let sum = 0;
  let first = 0;
  let second = 0;
  for (let i = 0; i < losses.length; i++) {
    const loss = losses[i] as number;
    const x = (logMasses[i] as number) + lambda * loss - high;
    // The rest would not be seen beside the largest.
    if (x < -60) continue;
    const weight = Math.exp(x);
    sum += weight;
    first += weight * loss;
    second += weight * loss * loss;
  }
  const mean = first / sum;
  // The difference loses digits where the deviation is far below the mean; a relative 1e-3 of it is enough here.
  return { log: high + Math.log(sum), mean, variance: Math.max(0, second / sum - mean * mean) };
}

/**
 * Mean of t (h - t) under the tilted loss, for the distance t of a loss from the grid point below: connect-the-dots adds
 * this variance v, and the mean v/2, to every loss, so that epsilon grows by about (lambda + 1) v / 2 per release.
 */
export function gridVariance(sketch: LossSketch, lambda: number, step: number): number {
  const { log } = cumulants(sketch, lambda);
  const { logMasses, losses, widths } = sketch;
  let sum = 0;
  for (let i = 0; i < losses.length; i++) {
    const loss = losses[i] as number;
    const x = (logMasses[i] as number) + lambda * loss - log;
    if (x < -60) continue;
    const t = loss - Math.floor(loss / step) * step;
    const spread = (widths[i] as number) < step / 2 ? t * (step - t) : (step * step) / 6;
    sum += Math.exp(x) * spread;
  }
  return sum;
}

/** As `gridVariance`, wherever the grid points fall: h^2/6 of losses at large, at most |l| h of those near 0, a grid point. */
export function worstGridVariance(sketch: LossSketch, lambda: number, step: number): number {
  const { log } = cumulants(sketch, lambda);
  const { logMasses, losses } = sketch;
  let sum = 0;
  for (let i = 0; i < losses.length; i++) {
    const x = (logMasses[i] as number) + lambda * (losses[i] as number) - log;
    if (x >= -60) sum += Math.exp(x) * Math.min((step * step) / 6, Math.abs(losses[i] as number) * step);
  }
  return sum;
}

/** Smallest k in [low, high] at which a predicate that turns true once holds. */
function firstIndex(low: number, high: number, holds: (k: number) => boolean): number {
  let [a, b] = [low, high];
  while (a < b) {
    const middle = Math.floor((a + b) / 2);
    if (holds(middle)) b = middle;
    else a = middle + 1;
  }
  return b;
}

/** Grid indices beyond which a pair has at most `rightMass` above and `leftMass` below. */
export function gridRange(pair: LossPair, step: number, rightMass: number, leftMass: number): [number, number] {
  if (pair.kind === 'atoms') {
    const losses = [...pair.upper.keys()].filter((i) => (pair.upper[i] as number) > 0).map((i) => atomLoss(pair, i));
    // One cell of margin: the rounding of a loss must not push it off the grid.
    return [Math.floor(Math.min(...losses) / step) - 1, Math.ceil(Math.max(...losses) / step) + 1];
  }
  let far = 1;
  while (upperTail(pair, far * step) > rightMass && far < 2 ** 40) far *= 2;
  const last = firstIndex(0, far, (k) => upperTail(pair, k * step) <= rightMass);
  const inside = (k: number): boolean => k * step >= pair.lowest && upperTail(pair, k * step) < 1 - leftMass;
  let near = 1;
  while (inside(-near) && near < 2 ** 40) near *= 2;
  return [firstIndex(-near, 0, inside) - 1, Math.max(last, 1)];
}

/**
 * Connect-the-dots: of a cell (e_i, e_{i+1}] with mass A under P and B under Q, (A - e^{e_i} B) / (1 - e^{-h}) goes to
 * e_{i+1} and the rest to e_i, which keeps both masses, and delta exact at all e_i. What rounding may have taken off the
 * mass of a cell or off its right share is added back, so the result is an upper bound as computed.
 * @see Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, Algorithm 1; privacy F7
 */
function discretizeDensity(pair: DensityPair, step: number, first: number, last: number): GridLoss {
  const masses = new Float64Array(last - first + 1);
  const out = new Float64Array(3);
  const inverse = (1 + 4 * U) / -Math.expm1(-step);
  const threshold = pair.thresholdError ?? 0;
  const cell = cellMasses(pair);
  pair.tails(first * step, out);
  masses[0] = Math.max(0, 1 - (out[0] as number) * (1 - (out[2] as number))) + 2 * U;
  for (let i = 0; i < last - first; i++) {
    const edge = (first + i) * step;
    cell(edge, (first + i + 1) * step, out);
    const slack = out[2] as number;
    const mass = (out[0] as number) + slack;
    if (mass > 0) {
      // Too little only moves mass up.
      const scaled =
        (out[1] as number) > 1e-290 ? Math.exp(edge) * (out[1] as number) : scaledByParts(pair, edge, step);
      const loss = (4 * U * (1 + Math.abs(edge)) + threshold) * (mass + slack);
      const right = (mass - (Number.isFinite(scaled) ? scaled : 0) + slack + loss) * inverse;
      const share = Math.min(mass, Math.max(0, right));
      masses[i] = (masses[i] as number) + (mass - share);
      masses[i + 1] = share;
    }
  }
  pair.tails(last * step, out);
  return { step, first, masses, infinity: (out[0] as number) * (1 + (out[2] as number)) };
}

/** What the grid may add to a loss where Q is out of range, relative to the loss, and the most parts of a cell for it. */
const PART_SHARE = 1e-5;
const MAX_PARTS = 16;

/**
 * At most e^{edge} Q of a cell above `edge`, where Q itself has left the range of full precision: of each part of the cell at
 * least e^{-t} P, for the loss edge + t at its end. 0 where the whole cell is narrow enough to move up.
 */
function scaledByParts(pair: DensityPair, edge: number, step: number): number {
  const parts = Math.min(MAX_PARTS, Math.ceil(step / (2 * PART_SHARE * Math.abs(edge))));
  if (parts <= 1) return 0;
  const at = new Float64Array(3);
  pair.tails(edge, at);
  let sum = 0;
  for (let part = 1; part <= parts; part++) {
    const before = (at[0] as number) * (1 - (at[2] as number));
    const t = (part * step) / parts;
    pair.tails(edge + t, at);
    sum += Math.max(0, before - (at[0] as number) * (1 + (at[2] as number))) * Math.exp(-t);
  }
  return sum * (1 - 16 * U);
}

/**
 * out = P and Q of a cell, and the most by which P, or e^{from} Q, may be off. Cells are asked for from left to right.
 * e^e Q <= P on what lies above e: the error of the second is at most that of the first.
 */
function cellMasses(pair: DensityPair): (from: number, to: number, out: Float64Array) => void {
  const { cells } = pair;
  const at = new Float64Array(3);
  /** Loss whose tails are in `at`. */
  let tailsOf = Number.NaN;
  let [left, leftPoint] = [Number.NaN, Number.NaN];
  return (from, to, out) => {
    if (cells) {
      const start = left === from ? leftPoint : cells.point(from);
      left = to;
      leftPoint = cells.point(to);
      if (cells.mass(start, leftPoint, out)) {
        out[2] = (out[2] as number) * (out[0] as number);
        return;
      }
    }
    if (tailsOf !== from) pair.tails(from, at);
    const [upper, lower, error] = at as unknown as [number, number, number];
    pair.tails(to, at);
    tailsOf = to;
    out[0] = Math.max(0, upper - (at[0] as number));
    out[1] = lower > 1e-290 ? lower - (at[1] as number) : 0;
    out[2] = error * upper + (at[2] as number) * (at[0] as number);
  };
}

function discretizeAtoms(pair: AtomPair, step: number, first: number, last: number): GridLoss {
  const masses = new Float64Array(last - first + 1);
  const inverse = 1 / -Math.expm1(-step);
  let infinity = pair.infinity * (1 + pair.error);
  for (const [i, p] of pair.upper.entries()) {
    if (p === 0) continue;
    const mass = p * (1 + pair.error);
    const exact = atomLoss(pair, i);
    const loss = exact + 2 * pair.error + 4 * U * Math.abs(exact);
    const cell = Math.floor(loss / step);
    // Off the grid: up, to its first point or to infinity.
    if (cell < first || cell >= last) {
      if (cell < first) masses[0] = (masses[0] as number) + mass;
      else infinity += mass;
      continue;
    }
    const share = Math.min(1, Math.max(0, -Math.expm1(cell * step - loss) * inverse));
    const at = cell - first;
    masses[at] = (masses[at] as number) + mass * (1 - share);
    masses[at + 1] = (masses[at + 1] as number) + mass * share;
  }
  return { step, first, masses, infinity };
}

/** The loss of a pair on the grid points first..last of width `step`; what is left of the grid moves up to `first`. */
export function discretizeLoss(pair: LossPair, step: number, first: number, last: number): GridLoss {
  return pair.kind === 'density'
    ? discretizeDensity(pair, step, first, last)
    : discretizeAtoms(pair, step, first, last);
}
