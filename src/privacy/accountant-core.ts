import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import { eventKey, eventToJson, type JsonObject } from './event-json.ts';
import type { DpEvent, Relation } from './events.ts';

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
  /** What the numbers assume beyond the events, to be printed beside them. */
  readonly labels: readonly string[];
  /** What was composed, in the canonical order in which it is summed. */
  readonly contents: readonly Charge[];
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

/** An event that is not a composition, and how often. */
export interface Charge {
  readonly event: DpEvent;
  readonly count: number;
}
type Charges = ReadonlyMap<string, Charge>;

/** How one accountant bounds: the cost of the charges in the order of their keys, and what it cannot bound. */
export interface Method {
  readonly name: string;
  /** Options other than the defaults, for the state. */
  readonly options?: JsonObject;
  labels?(charges: readonly Charge[]): readonly string[];
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

export function createAccountant(method: Method, relation: Relation, charges: Charges = new Map()): Accountant {
  // Code-unit order, the same on every platform.
  const ordered = [...charges.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, charge]) => charge);
  const epsilons = new Map<number, number>();
  const accountant: Accountant = {
    name: method.name,
    relation,
    labels: Object.freeze([...(method.labels?.(ordered) ?? [])]),
    contents: Object.freeze(ordered),
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
        ...(method.options ? { options: method.options } : {}),
        relation,
      };
    },
  };
  return Object.freeze(accountant);
}
