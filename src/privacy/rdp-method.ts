import type { Charge, Method } from './accountant-core.ts';
import type { Relation } from './events.ts';
import { type ConversionSearch, rdpToDelta, rdpToEpsilon } from './rdp-conversion.ts';
import { isMonotoneEvent, rdpCurve, slackOf } from './rdp-curve.ts';

/** Bounds by Renyi divergences, converted at the best order, or at the best of the `orders` given. */
export function rdpMethod(relation: Relation, orders: readonly number[] | undefined): Method {
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
