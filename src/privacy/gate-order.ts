import { type Accountant, type Budget, rdpAccountant } from './accountant.ts';
import type { DpEvent, Relation } from './events.ts';
import { minimiseOverOrders } from './order-search.ts';
import { conversionTerm, optimalOrder } from './rdp-conversion.ts';
import { isMonotoneEvent, rdpCurve } from './rdp-curve.ts';

/*
 * The order of an RDP filter is fixed before the first release, from public facts alone: the schedule at its worst accepted
 * case and the budget. An order that is picked later could depend on releases. @see privacy F22
 */

/** Charges of a schedule in which each session is a list of events. */
type Sessions = readonly (readonly DpEvent[])[];

/** Best order of what was composed, and the epsilon that it needs at this order. */
export function optimumOf(
  { contents, relation }: Pick<Accountant, 'contents' | 'relation'>,
  delta: number,
): { readonly order: number; readonly epsilon: number } {
  const parts = contents.map(({ event, count }) => ({ count, curve: rdpCurve(event, relation) }));
  const curve = (order: number): number => parts.reduce((sum, part) => sum + part.count * part.curve(order), 0);
  return optimalOrder(curve, delta, { isMonotone: contents.every(({ event }) => isMonotoneEvent(event)) });
}

/**
 * Order for a budget and a schedule at its worst accepted case: the optimum of the whole schedule where that fits, otherwise
 * the optimum of as many sessions as fit, so that a smaller budget lasts as long as it can.
 */
export function gateOrder(budget: Budget, relation: Relation, sessions: Sessions): number {
  const composeFirst = (count: number): Accountant =>
    sessions
      .slice(0, count)
      .flat()
      .reduce((total, event) => total.compose(event), rdpAccountant({ relation }));
  const optimum = (count: number) => optimumOf(composeFirst(count), budget.delta);
  const whole = optimum(sessions.length);
  if (whole.epsilon <= budget.epsilon) return whole.order;
  let [fits, exceeds] = [0, sessions.length];
  while (exceeds - fits > 1) {
    const middle = Math.floor((fits + exceeds) / 2);
    if (optimum(middle).epsilon <= budget.epsilon) fits = middle;
    else exceeds = middle;
  }
  return optimum(fits).order;
}

/**
 * Order at which a budget holds the most repetitions of a schedule, whole or not: for budgets that many runs share. The optimum
 * of one small run would be an order at which no larger one fits. Null for a schedule that costs nothing.
 */
export function lastingOrder({ delta, epsilon }: Budget, relation: Relation, sessions: Sessions): number | null {
  const { contents } = sessions
    .flat()
    .reduce((total: Accountant, event) => total.compose(event), rdpAccountant({ relation }));
  if (contents.length === 0) return null;
  const parts = contents.map(({ event, count }) => ({ count, curve: rdpCurve(event, relation) }));
  const costAt = (order: number): number => parts.reduce((sum, part) => sum + part.count * part.curve(order), 0);
  // Beyond here the room is at most twice epsilon, and the cost never falls.
  const isHopeless = (order: number, best: number): boolean => costAt(order) / (2 * epsilon) >= best;
  const { order, value } = minimiseOverOrders(
    (at) => {
      const room = epsilon - conversionTerm(at, delta);
      return room > 0 ? costAt(at) / room : Number.POSITIVE_INFINITY;
    },
    contents.every(({ event }) => isMonotoneEvent(event)) ? { isHopeless } : {},
  );
  return value < Number.POSITIVE_INFINITY ? order : null;
}
