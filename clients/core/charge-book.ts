import { fromUtf8, hashParts, toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import { LABELS } from '../../protocol/labels.ts';
import { strictThreshold } from '../../protocol/roster.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { canonicalJson } from '../../src/audit/canonical-json.ts';
import { entryHash, signEntry } from '../../src/audit/entries.ts';
import type { Assurance } from '../../src/learning/trainer.ts';
import type { Budget } from '../../src/privacy/accountant.ts';
import { chargesWouldExceed, type ViewEvents } from '../../src/privacy/charges.ts';
import { eventToJson, type JsonObject } from '../../src/privacy/event-json.ts';
import type { DpEvent } from '../../src/privacy/events.ts';
import { gateOrder, lastingOrder } from '../../src/privacy/gate-order.ts';
import {
  createLedger,
  gateOf,
  type LedgerStep,
  openLedger,
  reportLedger,
  reserve,
  settle,
} from '../../src/privacy/ledger.ts';
import { decodeLine } from '../../src/privacy/ledger-entry.ts';
import type { Path } from '../../src/privacy/paths.ts';
import { conversionTerm } from '../../src/privacy/rdp-conversion.ts';
import { VIEWS, type View } from '../../src/privacy/views.ts';
import { isFloatBounded } from '../../src/run/config.ts';
import type { RunFacts } from '../../src/run/order.ts';
import type { ScheduledSession } from '../../src/run/plan.ts';
import { groupOf, purposeOf, sessionEvents, sessionPaths, sessionSlots } from '../../src/run/plan.ts';
import { atSurvivors } from '../../src/run/shrink.ts';
import type { Store } from '../../src/run/store.ts';
import type { DatasetBook } from './dataset-book.ts';

/**
 * A node's own ledger of one run on disk, and the signed log entries that tell the federation about it. A reserve is
 * durable before the first byte of an upload leaves; a settlement may only replace it by the realised, smaller charge.
 * Nothing is given back by a crash, an abort or a missing proof.
 */
export interface ChargeBook {
  /** Reserves the worst accepted case, in the run and in the data set's period. @throws CoveyError PRIVACY_BUDGET before anything is written. */
  reserve(params: SessionParams, sid: Uint8Array, session: ScheduledSession, slots: number): Promise<string>;
  settle(
    params: SessionParams,
    sid: Uint8Array,
    session: ScheduledSession,
    slots: number,
    h3: Uint8Array,
    survivors: number,
  ): Promise<string>;
  /** Why the worst accepted case of a session would not be affordable; null if it is. Depends on charges alone, never on data. */
  refusalOf(session: ScheduledSession): CoveyError | null;
  /** Leaves the run for good before a session that is not affordable; null if the node has left before. */
  leave(session: ScheduledSession, why: Pick<CoveyError, 'code'>): Promise<string | null>;
  hasLeft(): boolean;
  /** Epsilon of everything reserved or settled so far, in the view that the budget limits. */
  epsilon(): number;
  /** Last signed entries, for a coordinator that may have missed them. */
  recentLines(): readonly string[];
}

/** Stands for a session that has no number yet. */
const NO_SESSION = '0'.repeat(64);

/** What the log says of every leave. */
const LEAVE_REASON = 'a budget of this site is spent';

/** Entries a returning node repeats: more than one session writes. */
const REPEATED_LINES = 8;

/** Streams of a node's store: the ledger with its budget, and the signed charges that an audit reads. */
export const ledgerStream = (runId: string): string => `ledger/${runId}`;
export const chargeStream = (runId: string): string => `charges/${runId}`;

/** The ledger and the signed entries of a node are written together: one without the other was restored or changed. */
function requireSameCharges(lines: readonly string[], entries: readonly string[]): void {
  const held = lines.slice(1).map((line) => {
    const { entry } = decodeLine(line);
    if (entry.kind !== 'reserve' && entry.kind !== 'settle') return `${entry.kind}`;
    return `${entry.kind} of session ${entry.sid} ${canonicalJson((entry.events.server ?? []).map(eventToJson))}`;
  });
  const told = entries.flatMap((line) => {
    const { type, body } = JSON.parse(line) as {
      type: string;
      body: { kind: string; sid: string; events: JsonObject[] };
    };
    return type === 'client.charge' ? [`${body.kind} of session ${body.sid} ${canonicalJson(body.events)}`] : [];
  });
  const at = held.findIndex((charge, i) => charge !== told[i]);
  if (at < 0 && told.length <= held.length) return;
  const first = at < 0 ? held.length : at;
  const name = (charge: string | undefined): string => charge?.slice(0, 60) ?? 'none';
  throw new CoveyError(
    'PRIVACY_LEDGER',
    `charge ${first + 1} of the ledger (${name(held[first])}) and of the signed entries (${name(told[first])}) differ`,
    { charge: first + 1 },
  );
}

/**
 * Opens the ledger of a run and checks its chain. `assurance`: who vouches for what this site adds to training steps; it is
 * said in every such charge.
 * @throws CoveyError PRIVACY_LEDGER naming the broken line.
 */
export async function openChargeBook(
  store: Store,
  crypto: CryptoProvider,
  identity: { readonly id: Uint8Array; readonly secretSeed: Uint8Array },
  facts: RunFacts,
  budget: Budget,
  now: () => string,
  dataset: DatasetBook | null = null,
  assurance: Assurance = 'computed here',
): Promise<ChargeBook> {
  const { config, plan, roster, runId } = facts;
  const read = async (stream: string): Promise<string[]> =>
    (await store.read(stream)).map(({ payload }) => fromUtf8(payload));
  const stored = await read(ledgerStream(runId));
  const entries = await read(chargeStream(runId));
  let ledger = openOrCreate(stored);
  let head = hashParts(crypto, utf8(LABELS.ledgerEntry), utf8(runId), identity.id);
  let hasLeft = false;
  for (const line of entries) {
    const { type, body } = JSON.parse(line) as {
      type: string;
      body: { sid: string; kind: string; events: JsonObject[]; paths?: string[]; ledgerHead: string };
    };
    hasLeft = type === 'client.leave';
    if (hasLeft) continue;
    head = nextHead(body.sid, body.kind, body.events, body.paths);
    if (toHex(head) !== body.ledgerHead) {
      throw new CoveyError('PRIVACY_LEDGER', '"ledgerHead" of a stored charge does not continue the chain');
    }
  }
  if (stored.length > 0) requireSameCharges(stored, entries);
  if (stored.length === 0) {
    await store.append(ledgerStream(runId), utf8(ledger.line));
  }

  /** Head of the chain over the charges: what a participant has charged itself cannot be cut or reordered. */
  function nextHead(
    sid: string,
    kind: string,
    events: readonly JsonObject[],
    paths: readonly string[] | undefined,
  ): Uint8Array {
    // Charges of earlier versions name no paths.
    const named = paths === undefined ? [] : [utf8(canonicalJson(paths))];
    const charged = [utf8(sid), utf8(kind), utf8(canonicalJson(events)), ...named];
    return hashParts(crypto, utf8(LABELS.ledgerEntry), head, ...charged);
  }

  function openOrCreate(lines: readonly string[]): LedgerStep {
    if (lines.length > 0) return { ledger: openLedger(crypto, lines), line: '' };
    return createLedger(crypto, {
      participant: toHex(identity.id),
      budget,
      budgetView: 'server',
      views: VIEWS,
      unit: config.privacy.unit,
      relation: config.privacy.relation,
      colluders: config.cohort.colluders,
      accountant: 'rdp',
      gate: { kind: 'rdp', order: gateOrder(budget, config.privacy.relation, worstSessions('server')) },
      ...(isFloatBounded(config) ? { sums: 'float-bounded' as const } : {}),
    });
  }

  /** What a unit pays in the whole schedule, with the fewest survivors that a session accepts. Groups are disjoint. */
  function worstSessions(view: View): DpEvent[][] {
    const own = plan.schedule.filter((session) => groupOf(session) === 0);
    return own.map((session) => {
      const slots = sessionSlots(config, session);
      return sessionEvents(config, plan, session, slots, config.cohort.minSurvivors, view);
    });
  }

  /** `minSurvivors`: of the session, which tells the noise of a share. */
  const eventsOf = (
    session: ScheduledSession,
    slots: number,
    survivors: number,
    { minSurvivors }: Pick<SessionParams, 'minSurvivors'>,
  ): ViewEvents => {
    const at = atSurvivors(facts, minSurvivors);
    return {
      server: sessionEvents(at.config, at.plan, session, slots, survivors, 'server'),
      release: sessionEvents(at.config, at.plan, session, slots, survivors, 'release'),
    };
  };

  // Fixed by the plan before the first charge of a period; later runs of the period keep it.
  const datasetOrder =
    dataset === null ? null : lastingOrder(dataset.budget, config.privacy.relation, worstSessions(dataset.budget.view));

  function sign(type: 'client.charge' | 'client.leave', body: Record<string, unknown>): string {
    const last = entries.at(-1);
    const actor = toHex(identity.id);
    const prevByActor = last === undefined ? '' : entryHash(crypto, last);
    const entry = { type, federation: config.federation, run: runId, seq: entries.length, time: now(), actor };
    return signEntry({ ...entry, body, prevByActor }, identity.secretSeed, crypto);
  }

  /** A site that lowers its budget while a run goes on is obeyed; the order of the filter stays, so that it still is one. */
  function exceedsLowered(events: ViewEvents): boolean {
    const { charges, terms } = ledger.ledger;
    if (budget.epsilon >= terms.budget.epsilon && budget.delta >= terms.budget.delta) return false;
    const { gate } = terms;
    const charged = events.server ?? [];
    // No filter is made at an order that leaves no room.
    if (gate?.kind === 'rdp' && !(conversionTerm(gate.order, budget.delta) < budget.epsilon)) return charged.length > 0;
    return chargesWouldExceed(charges, 'server', gateOf({ ...terms, budget }), charged);
  }

  /** The reserve of a session, not stored. @throws CoveyError PRIVACY_BUDGET, PRIVACY_LEDGER */
  function reserveOf(
    params: Pick<SessionParams, 'minSurvivors' | 'purpose' | 'round'>,
    sid: string,
    session: ScheduledSession,
    slots: number,
  ): { readonly step: LedgerStep; readonly events: ViewEvents; readonly paths: readonly Path[] } {
    if (hasLeft) throw new CoveyError('PRIVACY_BUDGET', 'this site has left the run');
    const events = eventsOf(session, slots, params.minSurvivors, params);
    const paths = sessionPaths(config, plan, session, slots);
    const charge = {
      sid,
      round: params.round,
      purpose: params.purpose,
      // Signatures that could ever prove an absence: no cohort of the roster has a larger threshold.
      threshold: strictThreshold(roster.entries.length),
      events,
      paths,
    };
    if (exceedsLowered(events))
      throw new CoveyError(
        'PRIVACY_BUDGET',
        `the server view would exceed epsilon ${budget.epsilon} at delta ${budget.delta}, the budget by now`,
        { sid, epsilon: budget.epsilon, delta: budget.delta },
      );
    return { step: reserve(crypto, ledger.ledger, charge), events, paths };
  }

  /** Charge of the data set for a session: all runs that read it share its budget. @throws CoveyError PRIVACY_BUDGET */
  function prepareShared(
    kind: 'reserve' | 'settle',
    sid: string,
    events: ViewEvents,
  ): ReturnType<DatasetBook['prepare']> | undefined {
    return dataset?.prepare({
      kind,
      run: runId,
      sid,
      time: now(),
      events: events[dataset.budget.view] ?? [],
      ...(kind === 'reserve' && datasetOrder !== null ? { order: datasetOrder } : {}),
    });
  }

  async function write(
    step: LedgerStep,
    params: SessionParams,
    sid: Uint8Array,
    kind: 'reserve' | 'settle',
    survivors: number,
    events: ViewEvents,
    paths: readonly Path[],
  ): Promise<string> {
    // Refused before anything of this session is written.
    const shared = prepareShared(kind, toHex(sid), events);
    const charged = (events.server ?? []).map(eventToJson);
    const next = nextHead(toHex(sid), kind, charged, paths);
    const entry = sign('client.charge', {
      sid: toHex(sid),
      round: params.round,
      purpose: params.purpose,
      kind,
      survivors,
      events: charged,
      paths,
      // Choices, counts and accuracies are Covey's own in any case.
      ...(params.purpose === 'train' && assurance !== 'computed here' ? { assurance } : {}),
      ledgerHead: toHex(next),
    });
    // Both or none: an entry without its charge, or a charge that nobody hears of, would split the two ledgers.
    await store.transaction(async (tx) => {
      await tx.append(ledgerStream(runId), utf8(step.line));
      await tx.append(chargeStream(runId), utf8(entry));
      await shared?.write(tx);
    });
    // The store has it: what is in memory follows even if the head outside cannot be kept.
    ledger = step;
    head = next;
    entries.push(entry);
    await shared?.commit();
    return entry;
  }

  return {
    async reserve(params, sid, session, slots) {
      const { step, events, paths } = reserveOf(params, toHex(sid), session, slots);
      return write(step, params, sid, 'reserve', params.minSurvivors, events, paths);
    },
    refusalOf(session) {
      const { minSurvivors } = config.cohort;
      const purpose = purposeOf(session);
      try {
        const { events } = reserveOf(
          { minSurvivors, purpose, round: 0 },
          NO_SESSION,
          session,
          sessionSlots(config, session),
        );
        prepareShared('reserve', NO_SESSION, events);
        return null;
      } catch (error) {
        if (!isCoveyError(error, 'PRIVACY_BUDGET')) throw error;
        return error;
      }
    },
    async leave(session, { code }) {
      if (hasLeft) return null;
      // Which of a site's budgets it is, and of which data set, is for its own operator alone.
      const entry = sign('client.leave', { kind: session.kind, step: session.step, code, reason: LEAVE_REASON });
      await store.append(chargeStream(runId), utf8(entry));
      hasLeft = true;
      entries.push(entry);
      return entry;
    },
    hasLeft: () => hasLeft,
    async settle(params, sid, session, slots, h3, survivors) {
      const events = eventsOf(session, slots, survivors, params);
      const step = settle(crypto, ledger.ledger, { sid: toHex(sid), h3: toHex(h3), survivors, events });
      return write(step, params, sid, 'settle', survivors, events, sessionPaths(config, plan, session, slots));
    },
    epsilon: () => reportLedger(ledger.ledger).epsilon,
    recentLines: () => entries.slice(-REPEATED_LINES),
  };
}
