import { CoveyError } from '../../protocol/errors.ts';
import type { DiscreteGaussianEvent, DpEvent, Relation, SkellamEvent } from '../privacy/events.ts';

/*
 * The audit's own accountant: written apart from the one that runs use and on another numeric route, so that a slip in
 * one of them shows. It integrates the moments numerically where the other one sums binomials, and searches the order
 * instead of walking a table.
 */

/** log E_Q[(P/Q)^order] = (order - 1) * Renyi divergence, for real orders > 1. */
type LogMoment = (order: number) => number;

/** Events with how often each was charged. */
export type ChargedEvents = readonly { readonly event: DpEvent; readonly count: number }[];

function unsupported(what: string): never {
  throw new CoveyError(
    'PRIVACY_UNSUPPORTED_EVENT',
    `"event" expected a mechanism that the audit can recompose, got ${what}`,
  );
}

function memoized(moment: LogMoment): LogMoment {
  const known = new Map<number, number>();
  return (order) => {
    const found = known.get(order);
    if (found !== undefined) return found;
    const value = moment(order);
    known.set(order, value);
    return value;
  };
}

/** log of a sum of exponentials that arrive one by one; `total` is relative to the largest exponent so far. */
class LogSum {
  #largest = Number.NEGATIVE_INFINITY;
  #total = 0;

  add(exponent: number): void {
    if (exponent <= this.#largest) {
      this.#total += Math.exp(exponent - this.#largest);
    } else {
      this.#total = this.#total * Math.exp(this.#largest - exponent) + 1;
      this.#largest = exponent;
    }
  }

  get value(): number {
    return this.#largest + Math.log(this.#total);
  }
}

/** log(1 - q + q e^x), stable for both signs of x. */
function logMixture(q: number, x: number): number {
  return x > 0 ? x + Math.log(q + (1 - q) * Math.exp(-x)) : Math.log1p(q * Math.expm1(x));
}

/**
 * Trapezoid rule for log E_{x ~ N(0, z^2)}[(1 - q + q e^{(2x - 1) / (2 z^2)})^order]; the remove direction dominates.
 * The integrand is analytic in a strip of half-width pi z^2, so the error falls like exp(-2 pi^2 z^2 / step).
 * @see Mironov, Talwar, Zhang 2019; privacy F3
 */
function integrateSampledGaussian(q: number, z: number, order: number): number {
  const step = Math.min(z, z * z) / 8;
  const from = -14 * z;
  const nodes = Math.ceil((order + 14 * z - from) / step);
  const sum = new LogSum();
  for (let i = 0; i <= nodes; i++) {
    const x = from + i * step;
    sum.add((-x * x) / (2 * z * z) + order * logMixture(q, (2 * x - 1) / (2 * z * z)));
  }
  return Math.max(0, sum.value + Math.log(step / (z * Math.sqrt(2 * Math.PI))));
}

function logBinomial(n: number, k: number): number {
  let value = 0;
  for (let i = 1; i <= k; i++) value += Math.log((n - k + i) / i);
  return value;
}

/** log sum_k C(n,k) (1-q)^(n-k) q^k e^{(k-1) eps(k)} for symmetric noise. @see privacy F9 */
function sumSampledMoments(q: number, base: LogMoment, order: number): number {
  const sum = new LogSum();
  for (let k = 0; k <= order; k++) {
    const moment = k < 2 ? 0 : base(k);
    sum.add(logBinomial(order, k) + (order - k) * Math.log1p(-q) + k * Math.log(q) + moment);
  }
  return Math.max(0, sum.value);
}

/** Chords between integer orders: log-moments are convex in the order, so a chord is an upper bound. */
function interpolated(atInteger: LogMoment): LogMoment {
  const known = memoized((order) => (order < 2 ? 0 : atInteger(order)));
  return (order) => {
    const low = Math.floor(order);
    const share = order - low;
    return share === 0 ? known(low) : (1 - share) * known(low) + share * known(low + 1);
  };
}

interface DiscreteSum {
  readonly noiseMultiplier: number;
  /** Distance of the sum of the shares from one discrete Gaussian, per coordinate. */
  readonly tau: number;
  readonly moment: LogMoment;
}

/** A sum of discrete Gaussian shares. @see Kairouz, Liu, Steinke 2021; privacy F11 */
function discreteSum(event: DiscreteGaussianEvent): DiscreteSum {
  const variances = [...Array<number>(event.shares).fill(event.shareVariance), ...(event.otherShareVariances ?? [])];
  if (variances.some((variance) => variance < 1.5 ** 2)) unsupported('a share below 1.5 integer units');
  let total = 0;
  let tau = 0;
  for (const variance of variances) {
    if (total > 0) tau += 10 * Math.exp((-2 * Math.PI ** 2) / (1 / variance + 1 / total));
    total += variance;
  }
  const { sensitivity, dimension } = event;
  const shift = sensitivity / Math.sqrt(total);
  const l1Shift = Math.min(Math.sqrt(dimension) * sensitivity, sensitivity ** 2) / Math.sqrt(total);
  const divergence = (order: number): number =>
    Math.min(
      (order / 2) * shift ** 2 + tau * dimension,
      (order / 2) * (shift ** 2 + 2 * l1Shift * tau + tau ** 2 * dimension),
      (order / 2) * (shift + Math.sqrt(dimension) * tau) ** 2,
    );
  return { noiseMultiplier: 1 / shift, tau, moment: (order) => (order - 1) * divergence(order) };
}

/**
 * Skellam noise of variance mu: the divergence of Gaussian noise and an excess that grows with the order, bounded at
 * integer orders. @see Agarwal, Kairouz, Liu 2021; privacy F12
 */
function skellamSum(event: SkellamEvent): { readonly noiseMultiplier: number; readonly excess: LogMoment } {
  const { sensitivity, dimension, variance } = event;
  const l1 = Math.min(Math.sqrt(dimension) * sensitivity, sensitivity ** 2);
  const flat = (1.5 * l1) / variance;
  const rising = (order: number): number => ((2 * order - 1) * sensitivity ** 2 + 6 * l1) / (2 * variance) ** 2;
  return {
    noiseMultiplier: Math.sqrt(variance) / sensitivity,
    excess: (order) => (order - 1) * Math.min(rising(order), flat),
  };
}

function skellamMoment(event: SkellamEvent): LogMoment {
  const { noiseMultiplier, excess } = skellamSum(event);
  return interpolated((order) => ((order - 1) * order) / (2 * noiseMultiplier ** 2) + excess(order));
}

/**
 * A draw of bounded range epsilon: its loss is t or t - epsilon in the worst case, with the odds that make the expected
 * inverse likelihood 1. The mean is searched over t; deviations from it are subgaussian (Hoeffding).
 * @see Dong, Durfee, Rogers 2020; privacy F21
 */
function boundedRangeMoment(epsilon: number): LogMoment {
  const mean = (t: number): number => t - (epsilon * Math.expm1(t)) / Math.expm1(epsilon);
  const divergence = mean(minimize((t) => -mean(t), 0, epsilon));
  return (order) => (order - 1) * Math.min(divergence + ((order - 1) * epsilon ** 2) / 8, epsilon);
}

function sampledMoment(q: number, event: DpEvent, relation: Relation): LogMoment {
  if (q === 1) return momentOf(event, relation);
  if (relation === 'replace-one') unsupported('Poisson sampling under replace-one');
  if (event.kind === 'gaussian') return (order) => integrateSampledGaussian(q, event.noiseMultiplier, order);
  if (event.kind !== 'discreteGaussian' && event.kind !== 'skellam') unsupported(`a Poisson-sampled ${event.kind}`);
  // Only for symmetric noise is the reverse direction the smaller one. privacy F9
  if (!event.symmetric) unsupported('sampled noise that is not symmetric');
  if (event.kind === 'skellam') {
    const { noiseMultiplier, excess } = skellamSum(event);
    const exact = skellamMoment(event);
    // The excess of a term of the expansion is at most that of the whole order.
    return interpolated((order) =>
      excess(order) > 1e-9
        ? sumSampledMoments(q, exact, order)
        : integrateSampledGaussian(q, noiseMultiplier, order) + excess(order),
    );
  }
  const { noiseMultiplier, tau, moment } = discreteSum(event);
  const surcharge = tau * event.dimension;
  if (surcharge > 1e-9) return interpolated((order) => sumSampledMoments(q, moment, order));
  // e^{(k-1) tau d} <= e^{(order-1) tau d} for every term of the expansion.
  return interpolated((order) => integrateSampledGaussian(q, noiseMultiplier, order) + (order - 1) * surcharge);
}

function momentOf(event: DpEvent, relation: Relation): LogMoment {
  switch (event.kind) {
    case 'gaussian':
      return (order) => ((order - 1) * order) / (2 * event.noiseMultiplier ** 2);
    case 'discreteGaussian':
      return discreteSum(event).moment;
    case 'skellam':
      return skellamMoment(event);
    case 'exponentialMechanism':
      return boundedRangeMoment(event.epsilon);
    case 'zCdp':
      return (order) => (order - 1) * ((event.xi ?? 0) + order * event.rho);
    case 'poissonSampled':
      return sampledMoment(event.probability, event.event, relation);
    case 'selfComposed': {
      const moment = momentOf(event.event, relation);
      return (order) => event.count * moment(order);
    }
    case 'composed': {
      const moments = event.events.map((part) => momentOf(part, relation));
      return (order) => moments.reduce((sum, moment) => sum + moment(order), 0);
    }
    case 'nonPrivate':
      return () => Number.POSITIVE_INFINITY;
    default:
      return unsupported(event.kind);
  }
}

const GOLDEN = (Math.sqrt(5) - 1) / 2;

/** Golden-section search for the place of the minimum of a unimodal function. */
function minimize(f: (x: number) => number, from: number, to: number): number {
  let [low, high] = [from, to];
  let [a, b] = [high - GOLDEN * (high - low), low + GOLDEN * (high - low)];
  let [fa, fb] = [f(a), f(b)];
  for (let i = 0; i < 60 && high - low > 1e-9 * high; i++) {
    if (fa <= fb) {
      [high, b, fb] = [b, a, fa];
      a = high - GOLDEN * (high - low);
      fa = f(a);
    } else {
      [low, a, fa] = [a, b, fb];
      b = low + GOLDEN * (high - low);
      fb = f(b);
    }
  }
  return fa <= fb ? a : b;
}

/** Chords have corners at the integers: every piece is searched, or the whole where pieces are many and short. */
function searchValley(f: (order: number) => number, from: number, to: number): number {
  const corners = to - from > 32 ? 0 : Math.floor(to) - Math.floor(from);
  const bounds = [from, ...Array.from({ length: corners }, (_, i) => Math.floor(from) + 1 + i), to];
  let least = f(to);
  for (let i = 1; i < bounds.length; i++) {
    const [low, high] = [bounds[i - 1] as number, bounds[i] as number];
    least = Math.min(least, f(high), f(minimize(f, low, high)));
  }
  return least;
}

/** Largest order that is tried; larger ones only matter for epsilons that round to zero. */
const MAX_ORDER = 65_536;

/** min over orders of r + log((a-1)/a) - (log delta + log a)/(a-1), at least 0. @see privacy F4 */
function convert(logMoment: LogMoment, delta: number): number {
  const epsilonAt = (order: number): number => {
    if (order <= 1.01) return Number.POSITIVE_INFINITY;
    const moment = logMoment(order);
    // A divergence this small bounds the total variation by delta already.
    if (delta ** 2 + Math.expm1(-moment / (order - 1)) > 0) return 0;
    return moment / (order - 1) + Math.log1p(-1 / order) - (Math.log(delta) + Math.log(order)) / (order - 1);
  };
  // The divergence never falls with the order; what is subtracted from it is at most (1 + log a)/(a-1).
  const isHopeless = (order: number, best: number): boolean =>
    (logMoment(order) - 1 - Math.log(order)) / (order - 1) > best;
  const grid: { readonly order: number; readonly value: number }[] = [];
  let bestValue = Number.POSITIVE_INFINITY;
  for (let gap = 0.02; 1 + gap <= MAX_ORDER; gap *= 1.25) {
    const value = epsilonAt(1 + gap);
    grid.push({ order: 1 + gap, value });
    bestValue = Math.min(bestValue, value);
    if (isHopeless(1 + gap, bestValue)) break;
  }
  // Bounds that are minima of others give several valleys: every one that comes close is searched.
  const near = bestValue * 1.05;
  grid.forEach(({ value }, i) => {
    const before = grid[i - 1] ?? grid[i];
    const after = grid[i + 1] ?? grid[i];
    if (before === undefined || after === undefined || value > near || value > before.value || value > after.value)
      return;
    bestValue = Math.min(bestValue, searchValley(epsilonAt, before.order, after.order));
  });
  return Math.max(0, bestValue);
}

/** The audit's accountant; it remembers the curves of the events that it has seen. */
export interface Recomposer {
  /** Smallest provable epsilon of a composition. @throws CoveyError PRIVACY_UNSUPPORTED_EVENT */
  epsilon(charged: ChargedEvents, delta: number): number;
  /** What the same composition needs at one order: the count of a filter that was fixed to it. */
  epsilonAt(order: number, charged: ChargedEvents, delta: number): number;
}

/** Creates the audit's accountant for one neighbouring relation. */
export function createRecomposer(relation: Relation): Recomposer {
  const curves = new Map<string, LogMoment>();
  const curveOf = (event: DpEvent): LogMoment => {
    const key = JSON.stringify(event);
    const known = curves.get(key) ?? memoized(momentOf(event, relation));
    curves.set(key, known);
    return known;
  };
  return {
    epsilon(charged, delta) {
      if (charged.length === 0) return 0;
      const parts = charged.map(({ event, count }) => ({ moment: curveOf(event), count }));
      return convert((order) => parts.reduce((sum, { moment, count }) => sum + count * moment(order), 0), delta);
    },
    epsilonAt(order, charged, delta) {
      const moment = charged.reduce((sum, { event, count }) => sum + count * curveOf(event)(order), 0);
      return (moment - Math.log(delta) - Math.log(order)) / (order - 1) + Math.log1p(-1 / order);
    },
  };
}
