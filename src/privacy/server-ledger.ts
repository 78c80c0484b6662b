import { CoveyError } from '../../protocol/errors.ts';
import type { Budget } from './accountant.ts';
import {
  type Charges,
  chargesWouldExceed,
  createCharges,
  pathCharges,
  reserveCharge,
  settleCharge,
  totalCharges,
  type ViewEvents,
} from './charges.ts';
import type { DpEvent } from './events.ts';
import { gateOf, type PathEpsilon } from './ledger.ts';
import type { LedgerTerms } from './ledger-entry.ts';
import { type Path, PERSONAL_PATH } from './paths.ts';
import type { EpsilonReport, View } from './views.ts';

/** A fact of the run's log: these members' data enter the session's sum, at this cost to each. */
export interface ChargeFact {
  readonly sid: string;
  readonly members: readonly string[];
  /** Public cluster whose models the session trains; null where members are not told apart. */
  readonly cluster: string | null;
  readonly events: ViewEvents;
  /** What the session releases. */
  readonly paths?: readonly Path[] | undefined;
}

/** What the coordinator charges to every participant, in total and within each public cluster. Immutable. */
export interface ServerLedger {
  readonly terms: Omit<LedgerTerms, 'participant'>;
  readonly participants: ReadonlyMap<string, Charges>;
  readonly clusters: ReadonlyMap<string, Charges>;
}

const clusterKey = (participant: string, cluster: string): string => JSON.stringify([participant, cluster]);

export function createServerLedger(terms: Omit<LedgerTerms, 'participant'>): ServerLedger {
  return { terms, participants: new Map(), clusters: new Map() };
}

function update(ledger: ServerLedger, fact: ChargeFact, step: (charges: Charges) => Charges): ServerLedger {
  if (new Set(fact.members).size !== fact.members.length) {
    throw new CoveyError('PRIVACY_LEDGER', '"members" expected distinct participants', { sid: fact.sid });
  }
  const participants = new Map(ledger.participants);
  const clusters = new Map(ledger.clusters);
  const empty = createCharges(ledger.terms.views, ledger.terms.relation);
  // Equal histories stay one object, so that their epsilon is computed once.
  const stepped = new Map<Charges, Charges>();
  const stepOnce = (charges: Charges): Charges => {
    const known = stepped.get(charges) ?? step(charges);
    stepped.set(charges, known);
    return known;
  };
  for (const id of fact.members) {
    participants.set(id, stepOnce(participants.get(id) ?? empty));
    if (fact.cluster !== null) {
      const key = clusterKey(id, fact.cluster);
      clusters.set(key, stepOnce(clusters.get(key) ?? empty));
    }
  }
  return { ...ledger, participants, clusters };
}

/** Charges the worst case to every member, before the session can release. @throws CoveyError PRIVACY_LEDGER */
export function reserveFact(ledger: ServerLedger, fact: ChargeFact): ServerLedger {
  return update(ledger, fact, (charges) => reserveCharge(charges, fact.sid, fact.events, fact.paths));
}

/** Lowers the charge of the survivors to the realised cost. @throws CoveyError PRIVACY_LEDGER */
export function settleFact(ledger: ServerLedger, fact: ChargeFact): ServerLedger {
  return update(ledger, fact, (charges) => settleCharge(charges, fact.sid, fact.events));
}

function chargesOf(ledger: ServerLedger, participant: string, cluster: string | null): Charges {
  const known =
    cluster === null ? ledger.participants.get(participant) : ledger.clusters.get(clusterKey(participant, cluster));
  return known ?? createCharges(ledger.terms.views, ledger.terms.relation);
}

/** Epsilon of one participant, in total or within one public cluster. */
export function reportParticipant(
  ledger: ServerLedger,
  participant: string,
  view: View,
  cluster: string | null = null,
): EpsilonReport {
  const { budget, unit, relation, colluders, accountant } = ledger.terms;
  const epsilon = totalCharges(chargesOf(ledger, participant, cluster), view).epsilon(budget.delta);
  return { epsilon, delta: budget.delta, unit, relation, view, colluders, accountant };
}

/** Epsilon of one participant for every path that was charged; zero for the personal part. */
export function reportParticipantPaths(ledger: ServerLedger, participant: string, view: View): PathEpsilon[] {
  const { delta } = ledger.terms.budget;
  const spent = pathCharges(chargesOf(ledger, participant, null), view);
  return [
    ...[...spent].map(([path, accountant]) => ({ path, epsilon: accountant.epsilon(delta) })),
    { path: PERSONAL_PATH, epsilon: 0 },
  ];
}

/** Report of the participant that paid most; epsilon 0 if nobody paid. */
export function reportWorst(ledger: ServerLedger, view: View): EpsilonReport {
  const { budget, unit, relation, colluders, accountant } = ledger.terms;
  let epsilon = 0;
  for (const charges of new Set(ledger.participants.values())) {
    epsilon = Math.max(epsilon, totalCharges(charges, view).epsilon(budget.delta));
  }
  return { epsilon, delta: budget.delta, unit, relation, view, colluders, accountant };
}

/** Members whose budget a session with these events would exceed. */
export function membersOverBudget(
  ledger: ServerLedger,
  members: readonly string[],
  events: readonly DpEvent[],
  budget: Budget = ledger.terms.budget,
): string[] {
  const { budgetView } = ledger.terms;
  const gate = gateOf({ ...ledger.terms, budget });
  const verdicts = new Map<Charges | null, boolean>();
  return members.filter((id) => {
    const known = ledger.participants.get(id) ?? null;
    const verdict = verdicts.get(known) ?? chargesWouldExceed(chargesOf(ledger, id, null), budgetView, gate, events);
    verdicts.set(known, verdict);
    return verdict;
  });
}
