import { CoveyError } from '../../protocol/errors.ts';
import { type Accountant, type Budget, rdpAccountant } from './accountant.ts';
import { areNeverDearer } from './event-order.ts';
import type { DpEvent, Relation } from './events.ts';
import { admitsAll, type Filter } from './filter.ts';
import { comparePaths, type Path, UNNAMED_PATH } from './paths.ts';
import type { View } from './views.ts';

/** What one session costs, for each view that is followed; an empty list where the release depends on no data. */
export type ViewEvents = Readonly<Partial<Record<View, readonly DpEvent[]>>>;

/** A charge that waits for its settlement. */
export interface ReservedCharge {
  readonly events: ViewEvents;
  /** What the session releases; each path may hold all that the events bound. Left out by old ledgers. */
  readonly paths?: readonly Path[] | undefined;
}

type ViewAccountants = Readonly<Partial<Record<View, Accountant>>>;

/** Where the charge of a session stands. */
export type ChargeStatus = 'none' | 'reserved' | 'settled' | 'restored';

/**
 * Charges of one payer: what was settled, and what is reserved at its worst case until it settles. Immutable.
 * The loss is that of both together, so a reserve that never settles stays charged.
 */
export interface Charges {
  readonly views: readonly View[];
  readonly relation: Relation;
  /** All settled charges, each once. */
  readonly settled: ViewAccountants;
  /** Settled charges of every path; a charge for several paths is in each of them. */
  readonly settledPaths: ReadonlyMap<string, ViewAccountants>;
  readonly reserved: ReadonlyMap<string, ReservedCharge>;
  readonly closed: ReadonlyMap<string, 'settled' | 'restored'>;
}

function broken(message: string, sid: string): CoveyError {
  return new CoveyError('PRIVACY_LEDGER', message, { sid });
}

function eventsOf(events: ViewEvents, view: View, sid: string): readonly DpEvent[] {
  const list = events[view];
  if (list === undefined) throw broken(`"events" expected the events of the ${view} view`, sid);
  return list;
}

function composeAll(accountant: Accountant, events: readonly DpEvent[]): Accountant {
  return events.reduce((composed, event) => composed.compose(event), accountant);
}

export function createCharges(views: readonly View[], relation: Relation): Charges {
  if (views.length === 0) throw new CoveyError('USAGE_RANGE', '"views" expected at least one view');
  return {
    views,
    relation,
    settled: emptyAccountants(views, relation),
    settledPaths: new Map(),
    reserved: new Map(),
    closed: new Map(),
  };
}

function emptyAccountants(views: readonly View[], relation: Relation): ViewAccountants {
  return Object.fromEntries(views.map((view) => [view, rdpAccountant({ relation })]));
}

/** Paths of a charge; what an old ledger did not name is kept together, and what costs nothing is of no path. */
function pathsOf({ events, paths }: ReservedCharge): readonly string[] {
  if (paths !== undefined) return paths;
  return Object.values(events).some((list) => list.length > 0) ? [UNNAMED_PATH] : [];
}

export function chargeStatus(charges: Charges, sid: string): ChargeStatus {
  return charges.closed.get(sid) ?? (charges.reserved.has(sid) ? 'reserved' : 'none');
}

/** Settled and reserved charges of a view together, as one accountant. */
export function totalCharges(charges: Charges, view: View): Accountant {
  let total = charges.settled[view];
  if (!total) throw new CoveyError('USAGE_RANGE', `"view" expected one that is followed, got ${view}`);
  for (const [sid, { events }] of charges.reserved) total = composeAll(total, eventsOf(events, view, sid));
  return total;
}

/**
 * Settled and reserved charges of a view for every path that was charged, in the order in which they are shown. What one
 * path of a vector tells is bounded by the event of the whole vector, so that event is in the account of each of its paths;
 * the total is not their sum, it has every event once (`totalCharges`).
 */
export function pathCharges(charges: Charges, view: View): ReadonlyMap<string, Accountant> {
  const totals = new Map<string, Accountant>();
  for (const [path, settled] of charges.settledPaths) totals.set(path, settled[view] as Accountant);
  for (const [sid, reserved] of charges.reserved) {
    for (const path of pathsOf(reserved)) {
      const spent = totals.get(path) ?? rdpAccountant({ relation: charges.relation });
      totals.set(path, composeAll(spent, eventsOf(reserved.events, view, sid)));
    }
  }
  return new Map([...totals].sort(([a], [b]) => comparePaths(a, b)));
}

/**
 * True if reserving the events would take the view above the budget: settled, reserved and new charges count. The gate is a
 * filter; a bare budget is gated at any order, as ledgers of earlier versions promised.
 */
export function chargesWouldExceed(
  charges: Charges,
  view: View,
  gate: Filter | Budget,
  events: readonly DpEvent[],
): boolean {
  const spent = totalCharges(charges, view);
  // A session that costs nothing cannot exceed: it may run even when the budget is used up.
  if (events.length === 0) return false;
  const all = composeAll(spent, events);
  if ('declaration' in gate) return !admitsAll(gate, all);
  return !(all.epsilon(gate.delta) <= gate.epsilon);
}

/** @throws CoveyError PRIVACY_LEDGER if the session was charged before, or lacks a view. */
export function reserveCharge(
  charges: Charges,
  sid: string,
  events: ViewEvents,
  paths?: readonly Path[] | undefined,
): Charges {
  const status = chargeStatus(charges, sid);
  if (status !== 'none') throw broken(`"sid" expected a session without a charge, got one that is ${status}`, sid);
  for (const view of charges.views) {
    const spent = charges.settled[view] as Accountant;
    // Refused now, not when the loss is asked for.
    composeAll(spent, eventsOf(events, view, sid));
  }
  const reserve = paths === undefined ? { events } : { events, paths };
  if (paths?.length === 0 && charges.views.some((view) => eventsOf(events, view, sid).length > 0))
    throw broken('"paths" expected what the events pay for, got none', sid);
  return { ...charges, reserved: new Map(charges.reserved).set(sid, reserve) };
}

function withoutReserve(
  charges: Charges,
  sid: string,
): { reserve: ReservedCharge; reserved: Map<string, ReservedCharge> } {
  const reserve = charges.reserved.get(sid);
  if (!reserve) throw broken(`"sid" expected a reserved session, got one that is ${chargeStatus(charges, sid)}`, sid);
  const reserved = new Map(charges.reserved);
  reserved.delete(sid);
  return { reserve, reserved };
}

/**
 * Replaces a reserve by what the session really cost.
 * @throws CoveyError PRIVACY_LEDGER if nothing is reserved or the cost is not, event by event, at most that of the reserve in any view.
 */
export function settleCharge(charges: Charges, sid: string, events: ViewEvents): Charges {
  const { reserve, reserved } = withoutReserve(charges, sid);
  const settled: Partial<Record<View, Accountant>> = {};
  for (const view of charges.views) {
    const spent = charges.settled[view] as Accountant;
    const realised = eventsOf(events, view, sid);
    // By parameters, for orders are endless: costs that agree at some may cross at others.
    if (!areNeverDearer(realised, eventsOf(reserve.events, view, sid))) {
      throw broken(`"events" expected a cost of at most the reserve in the ${view} view`, sid);
    }
    settled[view] = composeAll(spent, realised);
  }
  const settledPaths = new Map(charges.settledPaths);
  for (const path of pathsOf(reserve)) {
    const spent = settledPaths.get(path) ?? emptyAccountants(charges.views, charges.relation);
    const next = charges.views.map((view) => [
      view,
      composeAll(spent[view] as Accountant, eventsOf(events, view, sid)),
    ]);
    settledPaths.set(path, Object.fromEntries(next) as ViewAccountants);
  }
  return { ...charges, settled, settledPaths, reserved, closed: new Map(charges.closed).set(sid, 'settled') };
}

/** Drops a reserve whose session provably released nothing of the payer; the caller has checked the proof. */
export function restoreCharge(charges: Charges, sid: string): Charges {
  const { reserved } = withoutReserve(charges, sid);
  return { ...charges, reserved, closed: new Map(charges.closed).set(sid, 'restored') };
}
