import { rdpAccountant } from '../../src/privacy/accountant.ts';
import type { JsonObject } from '../../src/privacy/event-json.ts';
import { eventFromJson } from '../../src/privacy/event-json.ts';
import type { Relation } from '../../src/privacy/events.ts';
import { rdpToEpsilon } from '../../src/privacy/rdp-conversion.ts';
import { rdpCurve } from '../../src/privacy/rdp-curve.ts';
import { repeatAndSelectCurve } from '../../src/privacy/rdp-selection.ts';
import type { View } from '../../src/privacy/views.ts';
import type { RecordedResult } from '../benchmark.ts';

/** What a search over settings costs whoever's data all of its runs read. Without any claim where a run released without noise. */
export interface SearchPrice {
  /** Runs that released anything, every seed one. */
  readonly runs: number;
  /** Of them without noise of consequence: their epsilon is no claim. */
  readonly unprotected: number;
  /** Of them recorded without their charges: no price can be named. */
  readonly unknown: number;
  /** All protected runs composed. The server saw the sums of every one of them. */
  readonly server: number;
  /** All protected runs composed, in the view of a member or whoever gets the models. */
  readonly release: number;
  /**
   * Release view if the number of runs had been drawn from a Poisson law with this mean, every run's settings at random,
   * and no participant had seen a run that lost. Null without protected runs.
   * @see Papernot, Steinke 2021, Theorem 6
   */
  readonly releaseSelected: number | null;
}

interface RunCharges {
  readonly relation: Relation;
  readonly charges: readonly { readonly count: number; readonly event: unknown }[];
}

function chargesOf(state: JsonObject): RunCharges {
  const { relation, charges } = state as unknown as RunCharges;
  return { relation, charges };
}

/** The pointwise largest curve bounds a run whose settings are drawn at random: mixtures are dominated by the worst. */
function worstCurve(runs: readonly RunCharges[]): (order: number) => number {
  // Seeds of one setting have the same charges.
  const distinct = [...new Map(runs.map((run) => [JSON.stringify(run), run])).values()];
  const curves = distinct.map(({ relation, charges }) => {
    const parts = charges.map(({ count, event }) => ({ count, curve: rdpCurve(eventFromJson(event), relation) }));
    return (order: number) => parts.reduce((sum, { count, curve }) => sum + count * curve(order), 0);
  });
  const known = new Map<number, number>();
  return (order) => {
    const value = known.get(order) ?? Math.max(0, ...curves.map((curve) => curve(order)));
    known.set(order, value);
    return value;
  };
}

/**
 * Composes every recorded run of a search, all over the same data, at one unit.
 * @see privacy 3.5: the server's view pays for all runs; repeat-and-select lowers the release view at most.
 */
export function priceOfSearch(results: readonly RecordedResult[], delta: number): SearchPrice {
  const paid = results.filter(({ epsilon }) => epsilon !== null);
  const unprotected = paid.filter(({ protection }) => protection === 'none').length;
  const unknown = paid.filter(
    ({ charges, protection }) => protection === 'noise' && (charges === undefined || charges === null),
  ).length;
  const isProtected = ({ protection }: RecordedResult): boolean => protection === 'noise';
  const statesOf = (view: View): RunCharges[] =>
    paid
      .filter(isProtected)
      .flatMap(({ charges }) => (charges === undefined || charges === null ? [] : [chargesOf(charges[view])]));
  const composed = (view: View): number => {
    const states = statesOf(view);
    const relation = states[0]?.relation ?? 'add-remove';
    return states
      .flatMap(({ charges }) => charges)
      .reduce((total, { count, event }) => total.compose(eventFromJson(event), count), rdpAccountant({ relation }))
      .epsilon(delta);
  };
  const selected = (): number => {
    const states = statesOf('release');
    const curve = repeatAndSelectCurve(worstCurve(states), states.length, undefined);
    return rdpToEpsilon(curve, delta, { isMonotone: false, orders: undefined });
  };
  return {
    runs: paid.length,
    unprotected,
    unknown,
    server: composed('server'),
    release: composed('release'),
    releaseSelected: paid.length === unprotected + unknown ? null : selected(),
  };
}
