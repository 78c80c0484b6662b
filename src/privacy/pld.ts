import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import {
  type Accountant,
  type AccountantOptions,
  type Charge,
  createAccountant,
  type Method,
} from './accountant-core.ts';
import { gaussianDelta, gaussianEpsilon } from './analytic-gaussian.ts';
import { eventKey, type JsonObject } from './event-json.ts';
import type { DpEvent, Relation } from './events.ts';
import { queryComposition } from './pld-compose.ts';
import {
  chooseRoundingVariance,
  type DiscreteReduction,
  eventLoss,
  gaussianDirections,
  reducedSum,
  roundingLoss,
} from './pld-events.ts';
import type { Directions } from './pld-pairs.ts';
import type { LossTerm } from './pld-plan.ts';
import { queryPair } from './pld-single.ts';
import { describeDiscreteGaussianSum } from './rdp-curve.ts';
import { rdpMethod } from './rdp-method.ts';

export interface PldOptions extends AccountantOptions {
  /** Width of the grid of losses; left out, one is chosen that over-estimates epsilon by at most a relative 1e-4. */
  readonly gridStep?: number;
  /**
   * 'allowed' (the default) accounts sums of discrete Gaussians over several coordinates as plain Gaussian noise of
   * slightly less variance; 'refused' leaves them to the Renyi accountant.
   */
  readonly discreteReduction?: DiscreteReduction;
}

const LABEL_SCHEDULE = 'for schedules declared in advance: not a filter for adaptive runs';
const LABEL_REPLACE_ONE = 'Poisson sampling under replace-one: dominating pair without a published proof';
const LABEL_TRUNCATED =
  'truncated Poisson samples: published dominating pair, whose part for full batches has no published proof';
const LABEL_REDUCTION = 'discrete Gaussian sums accounted by reduction to Gaussian noise';

function someEvent(event: DpEvent, holds: (event: DpEvent) => boolean): boolean {
  if (holds(event)) return true;
  if (event.kind === 'composed') return event.events.some((part) => someEvent(part, holds));
  return 'event' in event && someEvent(event.event, holds);
}

const BOUNDED: ReadonlySet<DpEvent['kind']> = new Set([
  'laplace',
  'discreteLaplace',
  'exponentialMechanism',
  'permuteAndFlip',
  'randomizedResponse',
  'approximateDp',
]);

/** True if no outcome of the event, but for its delta, has a loss above some epsilon. */
const isBounded = ({ kind }: DpEvent): boolean => BOUNDED.has(kind);

/** From here on losses may be too far apart for any grid that fits into memory. */
const HOPELESS_EPSILON = 1_000;

interface Composition {
  readonly terms: readonly { readonly directions: Directions; readonly count: number }[];
  readonly isPrivate: boolean;
  /** s of F10: delta(eps) <= e^s delta_G(eps - 2s). */
  readonly shift: number;
}

function pldMethod(relation: Relation, gridStep: number | undefined, reduction: DiscreteReduction): Method {
  const check = (event: DpEvent): void => {
    eventKey(event);
    if (event.kind === 'selfComposed') check(event.event);
    else if (event.kind === 'composed') for (const part of event.events) check(part);
    else eventLoss(event, relation, reduction, chooseRoundingVariance(1));
  };
  const compose = (charges: readonly Charge[]): Composition => {
    const sums = charges.flatMap(({ event, count }) => {
      const sum = reducedSum(event);
      return sum ? [{ ...describeDiscreteGaussianSum(sum), count }] : [];
    });
    const coordinates = sums.reduce((all, { dimension, count }) => all + dimension * count, 0);
    const rounding = chooseRoundingVariance(Math.max(1, coordinates));
    const shift = sums.reduce(
      (all, { dimension, count, tau }) => all + dimension * count * (roundingLoss(rounding) + tau),
      0,
    );
    const terms: { directions: Directions; count: number }[] = [];
    let precision = 0;
    for (const { event, count } of charges) {
      const directions = eventLoss(event, relation, reduction, rounding);
      if (directions === 'nonPrivate') return { terms: [], isPrivate: false, shift };
      if (directions.noiseMultiplier === undefined) terms.push({ directions, count });
      else precision += count / directions.noiseMultiplier ** 2;
    }
    // Plain Gaussian noise composes to one Gaussian.
    if (precision > 0) terms.push({ directions: gaussianDirections(1 / Math.sqrt(precision)), count: 1 });
    return { terms, isPrivate: true, shift };
  };
  const worst = ({ terms }: Composition, query: { readonly delta: number } | { readonly epsilon: number }): number => {
    const [only] = terms;
    if (terms.length === 1 && only?.directions.noiseMultiplier !== undefined) {
      const z = only.directions.noiseMultiplier;
      // Closed form; the margin is for its own rounding.
      return ('delta' in query ? gaussianEpsilon(z, query.delta) : gaussianDelta(z, query.epsilon)) * (1 + 1e-12);
    }
    const ask = (side: 'remove' | 'add'): number => {
      const pairs: LossTerm[] = terms.map(({ directions, count }) => ({ pair: directions[side], count }));
      const [first] = pairs;
      return pairs.length === 1 && first?.count === 1
        ? queryPair(first.pair, query)
        : queryComposition(pairs, query, gridStep);
    };
    const removed = ask('remove');
    return terms.every(({ directions }) => directions.remove === directions.add)
      ? removed
      : Math.max(removed, ask('add'));
  };
  const renyi = rdpMethod(relation, undefined);
  /** The lesser of a bound and the Renyi one, where that may be tighter and knows all events. */
  const orRenyi = (bound: number, isHopeless: boolean, charges: readonly Charge[], ask: () => number): number => {
    // The pair of all bounded-range mechanisms is wider than any of them: over many choices the Renyi bound is tighter. Where
    // losses are bounded, so it may be by the little that a grid costs, and by more where they are too far apart for any grid.
    if (!isHopeless && !charges.some(({ event }) => someEvent(event, isBounded))) return bound;
    try {
      for (const { event } of charges) renyi.check(event);
    } catch (error) {
      if (!isCoveyError(error, 'PRIVACY_UNSUPPORTED_EVENT')) throw error;
      return bound;
    }
    return Math.min(bound, ask());
  };
  const options = {
    ...(gridStep === undefined ? {} : { gridStep: Number.isSafeInteger(gridStep) ? gridStep : String(gridStep) }),
    ...(reduction === 'allowed' ? {} : { discreteReduction: reduction }),
  };
  return {
    name: 'pld',
    ...(Object.keys(options).length > 0 ? { options } : {}),
    labels(charges) {
      const truncated = (e: DpEvent): boolean => e.kind === 'truncatedPoissonGaussian';
      const poisson = (e: DpEvent): boolean => e.kind === 'poissonSampled' && e.probability < 1;
      return [
        LABEL_SCHEDULE,
        ...(relation === 'replace-one' && charges.some(({ event }) => someEvent(event, poisson))
          ? [LABEL_REPLACE_ONE]
          : []),
        ...(charges.some(({ event }) => someEvent(event, truncated)) ? [LABEL_TRUNCATED] : []),
        ...(charges.some(({ event }) => reducedSum(event) !== null) ? [LABEL_REDUCTION] : []),
      ];
    },
    check,
    epsilon(charges, delta) {
      const composition = compose(charges);
      if (!composition.isPrivate) return Number.POSITIVE_INFINITY;
      const { shift } = composition;
      const epsilon = worst(composition, { delta: delta * Math.exp(-shift) });
      return orRenyi(epsilon + 2 * shift, !(epsilon < HOPELESS_EPSILON), charges, () => renyi.epsilon(charges, delta));
    },
    delta(charges, epsilon) {
      const composition = compose(charges);
      if (!composition.isPrivate) return 1;
      const { shift } = composition;
      const within = epsilon - 2 * shift;
      const delta = within < 0 ? 1 : Math.min(1, Math.exp(shift) * worst(composition, { epsilon: within }));
      return orRenyi(delta, delta >= 1, charges, () => renyi.delta(charges, epsilon));
    },
  };
}

/**
 * Accountant of privacy loss distributions: the tightest for schedules that are known in advance, at any delta down to
 * 1e-30. Every number is an upper bound as computed, rounding included.
 *
 * Grid: with a fixed `gridStep`, or where none fits into memory, the bound is what that grid gives. Plain Gaussian noise
 * alone, and single releases, are exact in either case.
 * Cost: milliseconds a query for one repeated event; O(events) transforms otherwise.
 * Not guaranteed: a valid budget filter for adaptively chosen events (F22), see `labels`; monotone below the relative
 * 1e-4 of the automatic grid; that 1e-4 where a single rare loss decides at a delta below about 1e-13, or beside events that
 * are not rare: digits run out, and the bound is too large, by 1 % or by a factor of 2.
 * @throws CoveyError USAGE_RANGE for a grid step that is not a number in (0, 1].
 * @see Doroshenko et al. 2022; Zhu, Dong, Wang 2022; privacy F6, F7, F8, F10
 */
export function pldAccountant(options: PldOptions = {}): Accountant {
  const { gridStep, discreteReduction: reduction = 'allowed', relation = 'add-remove' } = options;
  if (gridStep !== undefined && !(gridStep > 0 && gridStep <= 1)) {
    throw new CoveyError('USAGE_RANGE', `"gridStep" expected a number in (0, 1], got ${gridStep}`);
  }
  if (reduction !== 'refused' && reduction !== 'allowed') {
    throw new CoveyError('USAGE_RANGE', `"discreteReduction" expected refused or allowed, got ${String(reduction)}`);
  }
  return createAccountant(pldMethod(relation, gridStep, reduction), relation);
}

/**
 * Options of a PLD accountant from its state.
 * @throws CoveyError CODEC_TYPE for anything else.
 */
export function pldOptionsFromJson(json: unknown): PldOptions {
  const options = json as JsonObject;
  const wrong = new CoveyError('CODEC_TYPE', '"options" expected those of a pld accountant');
  if (typeof json !== 'object' || json === null || Array.isArray(json) || Object.keys(json).length === 0) throw wrong;
  const result: { gridStep?: number; discreteReduction?: DiscreteReduction } = {};
  for (const [key, value] of Object.entries(options)) {
    const step = Number(value);
    if (key === 'discreteReduction' && (value === 'allowed' || value === 'refused')) result.discreteReduction = value;
    else if (key === 'gridStep' && (value === 1 || (typeof value === 'string' && value === String(step) && step < 1)))
      result.gridStep = step;
    else throw wrong;
  }
  return result;
}
