import { CoveyError } from '../../protocol/errors.ts';
import { type Accountant, type Budget, zcdpAccountant } from './accountant.ts';
import type { DpEvent, Relation } from './events.ts';
import { conversionTerm } from './rdp-conversion.ts';
import { rdpCurve, slackOf } from './rdp-curve.ts';
import { zcdpCost } from './zcdp.ts';

/** What is fixed before a run whose later events may depend on earlier releases. */
export interface FilterDeclaration {
  readonly budget: Budget;
  readonly relation: Relation;
  /** The zCDP sum, or RDP at one order: the optimum of the plan. */
  readonly gate: GateKind;
}

/** How a filter adds up. */
export type GateKind = { readonly kind: 'zcdp' } | { readonly kind: 'rdp'; readonly order: number };

/**
 * Budget gate of fully adaptive composition. Immutable: `admit` returns the next filter.
 * @see Feldman, Zrnic 2021; Whitehouse et al. 2023; privacy F22
 */
export interface Filter {
  readonly declaration: FilterDeclaration;
  /** Most that the events may add up to: rho, or the divergence at the order. */
  readonly limit: number;
  readonly spent: number;
  readonly events: number;
}

function costOf({ gate, relation }: FilterDeclaration, event: DpEvent): number {
  if (slackOf(event) > 0) throw unsupported('an event without a delta of its own', event);
  if (gate.kind === 'rdp') return rdpCurve(event, relation)(gate.order);
  const { rho, xi } = zcdpCost(event, relation);
  if (xi !== 0) throw unsupported('an event whose xi is 0', event);
  return rho;
}

function unsupported(expected: string, { kind }: DpEvent): CoveyError {
  return new CoveyError('PRIVACY_UNSUPPORTED_EVENT', `the filter expected ${expected}, got ${kind}`, { kind });
}

/** Largest total for which the conversion stays within epsilon at delta. @see privacy F4 */
function limitOf({ budget, gate, relation }: FilterDeclaration): number {
  const { epsilon, delta } = budget;
  if (gate.kind === 'rdp') return epsilon - conversionTerm(gate.order, delta);
  const fits = (rho: number): boolean =>
    rho === 0 || zcdpAccountant({ relation }).compose({ kind: 'zCdp', rho }).epsilon(delta) <= epsilon;
  let [low, high] = [0, 1];
  while (fits(high)) [low, high] = [high, 2 * high];
  while (high - low > 1e-9 * high) {
    const middle = (low + high) / 2;
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}

/** @throws CoveyError USAGE_RANGE for a budget or an order that is none, or an order at which nothing fits. */
export function createFilter(declaration: FilterDeclaration): Filter {
  const { budget, gate } = declaration;
  const { epsilon, delta } = budget;
  if (!(epsilon > 0 && epsilon < Number.POSITIVE_INFINITY && delta > 0 && delta < 1))
    throw new CoveyError('USAGE_RANGE', `"budget" expected epsilon > 0 and delta in (0, 1), got ${epsilon}, ${delta}`);
  if (gate.kind === 'rdp' && !(gate.order > 1 && gate.order < Number.POSITIVE_INFINITY))
    throw new CoveyError('USAGE_RANGE', `"order" expected a number above 1, got ${gate.order}`);
  const limit = limitOf(declaration);
  if (!(limit > 0)) throw new CoveyError('USAGE_RANGE', '"order" expected one at which the budget leaves room');
  const fixed = Object.freeze({
    ...declaration,
    budget: Object.freeze({ ...budget }),
    gate: Object.freeze({ ...gate }),
  });
  return Object.freeze({ declaration: fixed, limit, spent: 0, events: 0 });
}

/**
 * Admits the next event, whose parameters may depend on everything released so far, before it runs.
 * @throws CoveyError PRIVACY_BUDGET if the total would exceed the limit; PRIVACY_UNSUPPORTED_EVENT
 */
export function admit(filter: Filter, event: DpEvent): Filter {
  const { declaration, limit } = filter;
  const spent = filter.spent + costOf(declaration, event);
  // Not `>`: what is not a number exceeds.
  if (!(spent <= limit)) {
    const { epsilon, delta } = declaration.budget;
    throw new CoveyError('PRIVACY_BUDGET', `the next event would exceed epsilon ${epsilon} at delta ${delta}`, {
      epsilon,
      delta,
    });
  }
  return Object.freeze({ ...filter, spent, events: filter.events + 1 });
}

/** Cost of all that was composed: each kind of event times its number, in the accountant's canonical order. */
export function totalCost(declaration: FilterDeclaration, { contents }: Pick<Accountant, 'contents'>): number {
  return contents.reduce((total, { event, count }) => total + count * costOf(declaration, event), 0);
}

/**
 * True if the filter admits everything that was composed, whatever the order in which it came. A charge that settles below
 * its reserve may be replaced: the realised cost is known before its sum is opened.
 */
export function admitsAll(filter: Filter, composed: Pick<Accountant, 'contents'>): boolean {
  return totalCost(filter.declaration, composed) <= filter.limit;
}

/**
 * Another declaration, before the first event only: an order picked after releases could depend on them.
 * @throws CoveyError USAGE_STATE once an event was admitted.
 */
export function redeclare(filter: Filter, declaration: FilterDeclaration): Filter {
  if (filter.events > 0)
    throw new CoveyError(
      'USAGE_STATE',
      `"gate" expected a declaration before the run, got one after ${filter.events} events`,
    );
  return createFilter(declaration);
}

/** Steps of the odometer below the budget, each half of the one above. */
const ODOMETER_STEPS = 8;

/**
 * Epsilon to display while an adaptive run goes on: the least of eight fixed budgets (halves of the budget) whose filter
 * at delta / 8 still holds; infinite above the last. All eight hold at once, whenever the run stops. Never a gate.
 * @see Rogers et al. 2016 (odometers by a union of filters); privacy F22
 */
export function readOdometer(filter: Filter): number {
  const { budget, ...rest } = filter.declaration;
  if (filter.events === 0) return 0;
  const delta = budget.delta / ODOMETER_STEPS;
  for (let i = ODOMETER_STEPS - 1; i >= 0; i--) {
    // Twice the budget at the top: its own filter runs at the full delta.
    const epsilon = (2 * budget.epsilon) / 2 ** i;
    if (filter.spent <= limitOf({ ...rest, budget: { epsilon, delta } })) return epsilon;
  }
  return Number.POSITIVE_INFINITY;
}
