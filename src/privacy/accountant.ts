import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import { gaussianDelta, gaussianEpsilon } from './analytic-gaussian.ts';
import { eventFromJson, eventKey, eventToJson, type JsonObject } from './event-json.ts';
import { type DpEvent, RELATIONS, type Relation } from './events.ts';
import { type ConversionSearch, rdpToDelta, rdpToEpsilon } from './rdp-conversion.ts';
import { isMonotoneEvent, rdpCurve, slackOf } from './rdp-curve.ts';
import { zcdpCost } from './zcdp.ts';

export interface Budget {
  readonly epsilon: number;
  readonly delta: number;
}

/**
 * Privacy loss of a sequence of releases. Immutable: `compose` returns a new accountant.
 *
 * The loss depends on which events were composed and how often, never on their order: contents are kept as counts per
 * canonical event text and summed in the order of these texts.
 */
export interface Accountant {
  readonly name: string;
  readonly relation: Relation;
  /** True if `compose` would accept the event. */
  supports(event: DpEvent): boolean;
  /** @throws CoveyError PRIVACY_UNSUPPORTED_EVENT for events it cannot bound: they are refused, never guessed. */
  compose(event: DpEvent, count?: number): Accountant;
  /** Least epsilon it can prove at `delta`, a number in (0, 1). */
  epsilon(delta: number): number;
  delta(epsilon: number): number;
  /** True if composing the event would take epsilon above the budget. */
  wouldExceed(budget: Budget, event: DpEvent, count?: number): boolean;
  state(): JsonObject;
}

export interface AccountantOptions {
  /** Default add-remove. */
  readonly relation?: Relation;
}

interface Charge {
  readonly event: DpEvent;
  readonly count: number;
}
type Charges = ReadonlyMap<string, Charge>;

/** How one accountant bounds: the cost of the charges in the order of their keys, and what it cannot bound. */
interface Method {
  readonly name: string;
  /** @throws CoveyError PRIVACY_UNSUPPORTED_EVENT */
  check(event: DpEvent): void;
  epsilon(charges: readonly Charge[], delta: number): number;
  delta(charges: readonly Charge[], epsilon: number): number;
}

function requireCount(count: number): number {
  if (Number.isSafeInteger(count) && count >= 0) return count;
  throw new CoveyError('USAGE_RANGE', `"count" expected an integer >= 0, got ${count}`);
}

/** Leaves of the event tree, so that compose(selfComposed(e, n)) and n times compose(e) are the same contents. */
function addLeaves(charges: Map<string, Charge>, event: DpEvent, count: number): void {
  if (event.kind === 'selfComposed') addLeaves(charges, event.event, count * event.count);
  else if (event.kind === 'composed') for (const part of event.events) addLeaves(charges, part, count);
  else {
    const key = eventKey(event);
    charges.set(key, { event, count: requireCount((charges.get(key)?.count ?? 0) + count) });
  }
}

function createAccountant(method: Method, relation: Relation, charges: Charges): Accountant {
  // Code-unit order, the same on every platform.
  const ordered = [...charges.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, charge]) => charge);
  const epsilons = new Map<number, number>();
  const accountant: Accountant = {
    name: method.name,
    relation,
    supports(event) {
      try {
        method.check(event);
        return true;
      } catch (error) {
        if (isCoveyError(error, 'PRIVACY_UNSUPPORTED_EVENT')) return false;
        throw error;
      }
    },
    compose(event, count = 1) {
      if (requireCount(count) === 0) return accountant;
      method.check(event);
      const next = new Map(charges);
      addLeaves(next, event, count);
      return createAccountant(method, relation, next);
    },
    epsilon(delta) {
      if (!(delta > 0 && delta < 1))
        throw new CoveyError('USAGE_RANGE', `"delta" expected a number in (0, 1), got ${delta}`);
      const known = epsilons.get(delta) ?? (ordered.length === 0 ? 0 : method.epsilon(ordered, delta));
      epsilons.set(delta, known);
      return known;
    },
    delta(epsilon) {
      if (!(epsilon >= 0)) throw new CoveyError('USAGE_RANGE', `"epsilon" expected a number >= 0, got ${epsilon}`);
      return ordered.length === 0 ? 0 : method.delta(ordered, epsilon);
    },
    wouldExceed(budget, event, count = 1) {
      // Not `>`: a budget that is not a number is exceeded by everything.
      return !(accountant.compose(event, count).epsilon(budget.delta) <= budget.epsilon);
    },
    state() {
      return {
        accountant: method.name,
        charges: ordered.map(({ count, event }) => ({ count, event: eventToJson(event) })),
        relation,
      };
    },
  };
  return Object.freeze(accountant);
}

function requireOrders(orders: readonly number[] | undefined): readonly number[] | undefined {
  if (orders && (orders.length === 0 || orders.some((a) => !(a > 1 && a < Number.POSITIVE_INFINITY)))) {
    throw new CoveyError('USAGE_RANGE', '"orders" expected at least one order, all above 1');
  }
  return orders && [...orders].sort((a, b) => a - b);
}

function rdpMethod(relation: Relation, orders: readonly number[] | undefined): Method {
  const total = (charges: readonly Charge[]): ((order: number) => number) => {
    const curves = charges.map(({ event, count }) => ({ count, curve: rdpCurve(event, relation) }));
    return (order) => curves.reduce((sum, { count, curve }) => sum + count * curve(order), 0);
  };
  // Deltas of (epsilon, delta)-DP parts add up and leave less for the rest.
  const slack = (charges: readonly Charge[]): number =>
    charges.reduce((sum, { event, count }) => sum + count * slackOf(event), 0);
  const search = (charges: readonly Charge[]): ConversionSearch => ({
    orders,
    isMonotone: charges.every(({ event }) => isMonotoneEvent(event)),
  });
  return {
    name: 'rdp',
    check: (event) => void rdpCurve(event, relation),
    epsilon(charges, delta) {
      const left = delta - slack(charges);
      return left > 0 ? rdpToEpsilon(total(charges), left, search(charges)) : Number.POSITIVE_INFINITY;
    },
    delta: (charges, epsilon) => Math.min(1, rdpToDelta(total(charges), epsilon, search(charges)) + slack(charges)),
  };
}

/**
 * Renyi accountant: sums divergences at every real order and converts at the best one.
 * `orders` restricts the conversion to given orders, for comparison with published numbers.
 * @see Mironov 2017; privacy F1, F3, F4, F5, F9, F11, F12, F21
 */
export function rdpAccountant(options: AccountantOptions & { readonly orders?: readonly number[] } = {}): Accountant {
  const relation = options.relation ?? 'add-remove';
  return createAccountant(rdpMethod(relation, requireOrders(options.orders)), relation, new Map());
}

function zcdpMethod(relation: Relation): Method {
  const total = (charges: readonly Charge[]): ((order: number) => number) => {
    let [xi, rho] = [0, 0];
    for (const { event, count } of charges) {
      const cost = zcdpCost(event, relation);
      xi += count * cost.xi;
      rho += count * cost.rho;
    }
    return (order) => xi + rho * order;
  };
  return {
    name: 'zcdp',
    check: (event) => void zcdpCost(event, relation),
    epsilon: (charges, delta) => rdpToEpsilon(total(charges), delta, { closedForm: true }),
    delta: (charges, epsilon) => rdpToDelta(total(charges), epsilon, { closedForm: true }),
  };
}

/** Concentrated accountant: adds rho; a valid filter for adaptive runs. @see Bun, Steinke 2016; privacy F22 */
export function zcdpAccountant(options: AccountantOptions = {}): Accountant {
  const relation = options.relation ?? 'add-remove';
  return createAccountant(zcdpMethod(relation), relation, new Map());
}

function gdpMethod(): Method {
  const requireGaussian = (event: DpEvent): void => {
    if (event.kind === 'selfComposed') requireGaussian(event.event);
    else if (event.kind === 'composed') for (const part of event.events) requireGaussian(part);
    else if (event.kind !== 'gaussian' && event.kind !== 'nonPrivate') {
      throw new CoveyError(
        'PRIVACY_UNSUPPORTED_EVENT',
        `the gdp accountant expected Gaussian noise, got ${event.kind}`,
        {
          kind: event.kind,
        },
      );
    }
  };
  const mu = (charges: readonly Charge[]): number => {
    let squares = 0;
    for (const { event, count } of charges) {
      squares += event.kind === 'gaussian' ? count / event.noiseMultiplier ** 2 : Number.POSITIVE_INFINITY;
    }
    return Math.sqrt(squares);
  };
  return {
    name: 'gdp',
    check(event) {
      eventKey(event);
      requireGaussian(event);
    },
    epsilon: (charges, delta) => gaussianEpsilon(1 / mu(charges), delta),
    delta: (charges, epsilon) => gaussianDelta(1 / mu(charges), epsilon),
  };
}

/** Exact accountant of plain Gaussian noise: mu^2 adds. @see Dong, Roth, Su 2022; privacy F1, F2 */
export function gdpAccountant(options: AccountantOptions = {}): Accountant {
  return createAccountant(gdpMethod(), options.relation ?? 'add-remove', new Map());
}

/**
 * The accountant whose `state()` this is. Every event is read strictly and composed anew.
 * @throws CoveyError CODEC_TYPE for anything else.
 */
export function restoreAccountant(state: JsonObject): Accountant {
  const { accountant: name, relation, charges } = state as Readonly<Record<string, unknown>>;
  const makers = { rdp: rdpAccountant, zcdp: zcdpAccountant, gdp: gdpAccountant };
  const isState =
    typeof name === 'string' &&
    Object.hasOwn(makers, name) &&
    RELATIONS.includes(relation as Relation) &&
    Array.isArray(charges);
  if (!isState || Object.keys(state).length !== 3) {
    throw new CoveyError('CODEC_TYPE', '"state" expected the state of an accountant');
  }
  const empty = makers[name as keyof typeof makers]({ relation: relation as Relation });
  return (charges as readonly { count: number; event: unknown }[]).reduce<Accountant>(
    (restored, { count, event }) => restored.compose(eventFromJson(event), count),
    empty,
  );
}
