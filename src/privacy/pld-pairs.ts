import { NARROW, narrowNormalMass, normalTail } from './normal-tail.ts';

/**
 * A pair (P, Q) of distributions that dominates a mechanism in one direction of the neighbouring relation, through its
 * privacy loss l = log(dP/dQ). What dominates each of several mechanisms dominates their adaptive composition by the
 * product of the pairs.
 * @see Zhu, Dong, Wang 2022, Definition 7 and Theorem 10; privacy F7
 */
export type LossPair = DensityPair | AtomPair;

/** A pair given by the survival functions of its loss. */
export interface DensityPair {
  readonly kind: 'density';
  /**
   * out[0] = P[l > epsilon], out[1] = Q[l > epsilon], out[2] = bound on the relative error of both, for a threshold
   * within 4 U (1 + |epsilon|) + thresholdError of epsilon.
   */
  tails(epsilon: number, out: Float64Array): void;
  /** Losses that have a mass of their own. */
  readonly atoms: readonly number[];
  /** No loss is below; may be -Infinity. */
  readonly lowest: number;
  /** No loss is above; left out where there is no such bound. */
  readonly highest?: number;
  readonly thresholdError?: number;
  /** Masses of narrow cells; left out where differences of tails have to do. */
  readonly cells?: Cells;
}

/**
 * Masses of the cells between outcomes, with an error relative to the cell: differences of tails have one relative to the
 * tail, which adds up over fine grids and many releases.
 */
export interface Cells {
  /** The outcome, on a scale on which the loss increases, at which the loss is `epsilon`; infinite outside its range. */
  point(epsilon: number): number;
  /**
   * P and Q of the outcomes in (a, b], in out[0] and out[1], and a bound on the relative error of both in out[2]; false
   * where the cell is too wide for that. The points may be off as the thresholds of `tails` may.
   */
  mass(a: number, b: number, out: Float64Array): boolean;
}

/** A pair with finitely many outcomes. Shapes: both arrays of equal length; masses with relative error `error`. */
export interface AtomPair {
  readonly kind: 'atoms';
  readonly upper: Float64Array;
  readonly lower: Float64Array;
  /** P of outcomes that are impossible under Q; those impossible under P are listed with `upper` 0. */
  readonly infinity: number;
  readonly error: number;
}

/** Both directions of a relation: the record is in P (`remove`), or the record is in Q (`add`). */
export interface Directions {
  readonly remove: LossPair;
  readonly add: LossPair;
  /** Set for plain Gaussian noise, which composes in closed form. */
  readonly noiseMultiplier?: number;
}

/** Unit roundoff. */
export const U: number = 2 ** -53;

/** The same pair in both directions. */
export function symmetric(pair: LossPair): Directions {
  return { remove: pair, add: pair };
}

/** P = N(1, z^2), Q = N(0, z^2): l(x) = (2x - 1) / (2 z^2). @see privacy F1 */
export function gaussianPair(noiseMultiplier: number): DensityPair {
  const z = noiseMultiplier;
  const half = 1 / (2 * z);
  return {
    kind: 'density',
    atoms: [],
    lowest: Number.NEGATIVE_INFINITY,
    tails(epsilon, out) {
      const t = z * epsilon;
      const high = t + half;
      out[0] = normalTail(t - half);
      out[1] = normalTail(high);
      // The argument is rounded as well: t phi(t) / (1 - Phi(t)) < 1 + t^2 per relative unit.
      const reach = Math.max(Math.abs(t) + half, 1);
      out[2] = (16 + 8 * reach * reach) * U;
    },
    cells: {
      point: (epsilon) => z * epsilon,
      mass(a, b, out) {
        const reach = Math.max(Math.abs(a), Math.abs(b)) + half;
        if (!((b - a) * Math.max(1, reach) <= NARROW)) return false;
        // Centre and width: ends that are rounded one by one would not agree on the width.
        const centre = (a + b) / 2;
        const s = (b - a) / 2;
        out[0] = narrowNormalMass(centre - half, s);
        out[1] = narrowNormalMass(centre + half, s);
        out[2] = (16 + 8 * reach * reach) * U;
        return true;
      },
    },
  };
}

/** Laplace noise of scale 1/a per unit of sensitivity: l(x) = a (1 - 2x) on [0, 1], with atoms at both ends. */
export function laplacePair(a: number): DensityPair {
  return {
    kind: 'density',
    atoms: [-a, a],
    lowest: -a,
    highest: a,
    tails(epsilon, out) {
      const inside = epsilon < a && epsilon >= -a;
      out[0] = epsilon >= a ? 0 : inside ? 1 - Math.exp((epsilon - a) / 2) / 2 : 1;
      out[1] = epsilon >= a ? 0 : inside ? Math.exp(-(a + epsilon) / 2) / 2 : 1;
      out[2] = (16 + 4 * a) * U;
    },
  };
}

/**
 * Any epsilon-bounded-range mechanism (all losses within an interval of length epsilon): the largest
 * p_t (1 - e^{e - t}) over the generalised randomized responses t in [0, epsilon] is
 * delta(e) = (e^{epsilon/2} - e^{e/2})^2 / (e^epsilon - 1) on |e| <= epsilon. A supremum of functions convex in e^e is
 * convex in e^e, so it is the profile of a pair; minus its derivative is Q[l > e].
 * @see Dong, Durfee, Rogers 2020, Lemma 3.1 (generalised randomized response); Zhu, Dong, Wang 2022, Proposition 8
 */
export function boundedRangePair(range: number): DensityPair {
  const total = Math.expm1(-range);
  return {
    kind: 'density',
    atoms: [],
    lowest: -range,
    highest: range,
    tails(epsilon, out) {
      const inside = epsilon < range && epsilon > -range;
      const rest = inside ? Math.expm1((epsilon - range) / 2) / total : 0;
      out[0] = inside ? rest : epsilon >= range ? 0 : 1;
      out[1] = inside ? rest * Math.exp(-(range + epsilon) / 2) : epsilon >= range ? 0 : 1;
      out[2] = (24 + 8 * range) * U;
    },
  };
}

/** Finitely many outcomes with probabilities `upper` under P and `lower` under Q. */
export function atomPair(upper: readonly number[], lower: readonly number[], error: number = 16 * U): AtomPair {
  const possible = [...upper.keys()].filter((i) => (lower[i] as number) > 0);
  return {
    kind: 'atoms',
    upper: Float64Array.from(possible, (i) => upper[i] as number),
    lower: Float64Array.from(possible, (i) => lower[i] as number),
    infinity: upper.reduce((sum, p, i) => ((lower[i] as number) > 0 ? sum : sum + p), 0),
    error,
  };
}

/** Both directions of a mechanism with finitely many outcomes. */
export function atomDirections(upper: readonly number[], lower: readonly number[], error?: number): Directions {
  return { remove: atomPair(upper, lower, error), add: atomPair(lower, upper, error) };
}

/**
 * The tight pair of all (epsilon, delta)-DP mechanisms: infinite loss with probability delta, else randomized response.
 * @see Kairouz, Oh, Viswanath 2015, Theorem 3.1 and Section 4
 */
export function approximatePair(epsilon: number, delta: number): AtomPair {
  const truth = 1 / (1 + Math.exp(-epsilon));
  const lie = 1 / (1 + Math.exp(epsilon));
  const rest = 1 - delta;
  return atomPair([delta, rest * truth, rest * lie, 0], [0, rest * lie, rest * truth, delta]);
}

/** Loss before sampling at which the sampled loss log(1 - q + q e^l) is `epsilon`; -Infinity where it is always above. */
function unsampledLoss(q: number, epsilon: number): number {
  const change = Math.expm1(epsilon) / q;
  if (change <= -1) return Number.NEGATIVE_INFINITY;
  // Beyond the range of exp: e^epsilon / q dwarfs what is left out.
  return change < Number.POSITIVE_INFINITY ? Math.log1p(change) : epsilon - Math.log(q);
}

/** The loss before sampling is up to -log q larger, and rounded on that scale. */
function sampledThreshold(q: number, base: DensityPair): number {
  return (base.thresholdError ?? 0) + 8 * U * (1 - Math.log(q));
}

function sampleRemove(q: number, base: LossPair): LossPair {
  if (base.kind === 'atoms') {
    const upper = base.upper.map((p, i) => q * p + (1 - q) * (base.lower[i] as number));
    return { ...base, upper, infinity: q * base.infinity, error: base.error + 4 * U };
  }
  return {
    kind: 'density',
    atoms: base.atoms.map((l) => Math.log1p(q * Math.expm1(l))),
    lowest: Math.log1p(-q),
    ...(base.highest === undefined ? {} : { highest: Math.log1p(q * Math.expm1(base.highest)) }),
    thresholdError: sampledThreshold(q, base),
    tails(epsilon, out) {
      const threshold = unsampledLoss(q, epsilon);
      if (threshold === Number.NEGATIVE_INFINITY) {
        out[0] = 1;
        out[1] = 1;
        out[2] = 0;
        return;
      }
      base.tails(threshold, out);
      out[0] = q * (out[0] as number) + (1 - q) * (out[1] as number);
      out[2] = (out[2] as number) + 4 * U;
    },
    ...(base.cells && {
      cells: {
        point: (epsilon) => base.cells?.point(unsampledLoss(q, epsilon)) as number,
        mass(a, b, out) {
          if (base.cells?.mass(a, b, out) !== true) return false;
          out[0] = q * (out[0] as number) + (1 - q) * (out[1] as number);
          out[2] = (out[2] as number) + 4 * U;
          return true;
        },
      },
    }),
  };
}

/** `base` is the pair of the unsampled mechanism in the add direction: without the record against with it. */
function sampleAdd(q: number, base: LossPair): LossPair {
  if (base.kind === 'atoms') {
    const lower = base.lower.map((p, i) => q * p + (1 - q) * (base.upper[i] as number));
    // What is impossible with the record remains possible when it is not drawn.
    return {
      kind: 'atoms',
      upper: Float64Array.from([...base.upper, base.infinity]),
      lower: Float64Array.from([...lower, (1 - q) * base.infinity]),
      infinity: 0,
      error: base.error + 4 * U,
    };
  }
  return {
    kind: 'density',
    atoms: base.atoms.map((l) => -Math.log1p(q * Math.expm1(-l))),
    lowest: Number.NEGATIVE_INFINITY,
    highest: -Math.log1p(q * Math.expm1(-(base.highest ?? Number.POSITIVE_INFINITY))),
    thresholdError: sampledThreshold(q, base),
    tails(epsilon, out) {
      // -log(1 - q + q e^{-l}) > epsilon, for the loss l of the unsampled pair.
      const threshold = -unsampledLoss(q, -epsilon);
      if (threshold === Number.POSITIVE_INFINITY) {
        out[0] = 0;
        out[1] = 0;
        out[2] = 0;
        return;
      }
      base.tails(threshold, out);
      out[1] = q * (out[1] as number) + (1 - q) * (out[0] as number);
      out[2] = (out[2] as number) + 4 * U;
    },
    ...(base.cells && {
      cells: {
        point: (epsilon) => base.cells?.point(-unsampledLoss(q, -epsilon)) as number,
        mass(a, b, out) {
          if (base.cells?.mass(a, b, out) !== true) return false;
          out[1] = q * (out[1] as number) + (1 - q) * (out[0] as number);
          out[2] = (out[2] as number) + 4 * U;
          return true;
        },
      },
    }),
  };
}

/**
 * A mechanism on a Poisson sample: (qP + (1-q)Q, Q) when the record is removed, (P', qQ' + (1-q)P') when it is added,
 * for the dominating pairs (P, Q) and (P', Q') of the mechanism in these directions.
 * @see Zhu, Dong, Wang 2022, Theorem 11; privacy F7
 */
export function poissonSampled(q: number, base: Directions): Directions {
  return q === 1 ? base : { remove: sampleRemove(q, base.remove), add: sampleAdd(q, base.add) };
}

/**
 * Gaussian noise on a uniform subset of fixed size, gamma = its share, replace-one. For losses above 0 the pair is
 * (gamma P + (1 - gamma) Q, Q); the profile is symmetric, which gives the losses below 0 and an atom at 0.
 * Units: `noiseMultiplier` relative to the replace-one sensitivity.
 * @see Balle, Barthe, Gaboardi 2018, Theorem 5; privacy F6
 */
export function fixedSizePair(gamma: number, noiseMultiplier: number): LossPair {
  const base = gaussianPair(noiseMultiplier);
  if (gamma === 1) return base;
  const above = sampleRemove(gamma, base) as DensityPair;
  return {
    kind: 'density',
    atoms: [0],
    lowest: Number.NEGATIVE_INFINITY,
    tails(epsilon, out) {
      above.tails(Math.abs(epsilon), out);
      if (epsilon >= 0) return;
      const upper = 1 - (out[1] as number);
      out[1] = 1 - (out[0] as number);
      out[0] = upper;
      // The survival functions at |epsilon| are at most 1/2, or so, and so is their error against 1 minus them.
      out[2] = ((out[2] as number) + 2 * U) / Math.max(out[1] as number, U);
    },
  };
}

/**
 * Gaussian noise on a Poisson sample, replace-one: (1-q) N(0) + q N(-1) against (1-q) N(0) + q N(1), in units of half
 * the replace-one sensitivity, to which each record's term is clipped. `deviation` is in these units.
 * Not guaranteed: this is the pair of published accountants; no worse one was found, but no proof is known.
 * @see privacy F7
 */
export function replaceOnePoissonPair(q: number, deviation: number): DensityPair {
  const z2 = deviation * deviation;
  const half = 1 / deviation;
  const point = (x: number, out: Float64Array): void => {
    // P[X < x] under both, for x in units of the deviation; the loss falls with x.
    const centre = (1 - q) * normalTail(-x);
    out[0] = centre + q * normalTail(-(x + half));
    out[1] = centre + q * normalTail(-(x - half));
    const reach = Math.abs(x) + half + 1;
    out[2] = (32 + 8 * reach * reach) * U;
  };
  const outcome = (epsilon: number): number => {
    // With w = e^{x/z^2} and a = q e^{-1/(2 z^2)} the loss is epsilon where (1-q) + a/w = e^epsilon ((1-q) + a w):
    // log w = -epsilon/2 - asinh((1-q)(e^epsilon - 1) e^{-epsilon/2} / (2a)); log w(-epsilon) = -log w(epsilon).
    const e = Math.abs(epsilon);
    const logRest = Math.log1p(-q) + (e > 1 ? e + Math.log1p(-Math.exp(-e)) : Math.log(Math.expm1(e)));
    const y = logRest - e / 2 - Math.LN2 - logA;
    const logW = -e / 2 - (y < 300 ? Math.asinh(Math.exp(y)) : y + Math.LN2);
    return (epsilon >= 0 ? logW : -logW) * deviation;
  };
  const logA = Math.log(q) - 1 / (2 * z2);
  return {
    kind: 'density',
    atoms: [],
    lowest: Number.NEGATIVE_INFINITY,
    thresholdError: 8 * U * Math.abs(logA),
    tails(epsilon, out) {
      point(outcome(epsilon), out);
    },
    cells: {
      point: (epsilon) => -outcome(epsilon),
      mass(a, b, out) {
        const reach = Math.max(Math.abs(a), Math.abs(b)) + half;
        if (!((b - a) * Math.max(1, reach) <= NARROW)) return false;
        const centre = (a + b) / 2;
        const s = (b - a) / 2;
        const unmoved = (1 - q) * narrowNormalMass(centre, s);
        out[0] = unmoved + q * narrowNormalMass(centre - half, s);
        out[1] = unmoved + q * narrowNormalMass(centre + half, s);
        out[2] = (32 + 8 * reach * reach) * U;
        return true;
      },
    },
  };
}
