import { fromUtf8, hashParts, toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { LABELS } from '../../protocol/labels.ts';
import { strictThreshold } from '../../protocol/roster.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { canonicalJson } from '../../src/audit/canonical-json.ts';
import { entryHash, signEntry } from '../../src/audit/entries.ts';
import type { Budget } from '../../src/privacy/accountant.ts';
import type { ViewEvents } from '../../src/privacy/charges.ts';
import { eventToJson, type JsonObject } from '../../src/privacy/event-json.ts';
import type { DpEvent } from '../../src/privacy/events.ts';
import { gateOrder } from '../../src/privacy/gate-order.ts';
import { createLedger, type LedgerStep, openLedger, reportLedger, reserve, settle } from '../../src/privacy/ledger.ts';
import type { Path } from '../../src/privacy/paths.ts';
import { VIEWS, type View } from '../../src/privacy/views.ts';
import type { RunFacts } from '../../src/run/order.ts';
import type { ScheduledSession } from '../../src/run/plan.ts';
import { groupOf, sessionEvents, sessionPaths, sessionSlots } from '../../src/run/plan.ts';
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
  /** Epsilon of everything reserved or settled so far, in the view that the budget limits. */
  epsilon(): number;
  /** Last signed entries, for a coordinator that may have missed them. */
  recentLines(): readonly string[];
}

/** Entries a returning node repeats: more than one session writes. */
const REPEATED_LINES = 8;

/** Streams of a node's store: the ledger with its budget, and the signed charges that an audit reads. */
const ledgerStream = (runId: string): string => `ledger/${runId}`;
export const chargeStream = (runId: string): string => `charges/${runId}`;

/** Opens the ledger of a run and checks its chain. @throws CoveyError PRIVACY_LEDGER naming the broken line. */
export async function openChargeBook(
  store: Store,
  crypto: CryptoProvider,
  identity: { readonly id: Uint8Array; readonly secretSeed: Uint8Array },
  facts: RunFacts,
  budget: Budget,
  now: () => string,
  dataset: DatasetBook | null = null,
): Promise<ChargeBook> {
  const { config, plan, roster, runId } = facts;
  const read = async (stream: string): Promise<string[]> =>
    (await store.read(stream)).map(({ payload }) => fromUtf8(payload));
  const stored = await read(ledgerStream(runId));
  const entries = await read(chargeStream(runId));
  let ledger = openOrCreate(stored);
  let head = hashParts(crypto, utf8(LABELS.ledgerEntry), utf8(runId), identity.id);
  for (const line of entries) {
    const { body } = JSON.parse(line) as {
      body: { sid: string; kind: string; events: JsonObject[]; paths?: string[]; ledgerHead: string };
    };
    head = nextHead(body.sid, body.kind, body.events, body.paths);
    if (toHex(head) !== body.ledgerHead) {
      throw new CoveyError('PRIVACY_LEDGER', '"ledgerHead" of a stored charge does not continue the chain');
    }
  }
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

  const eventsOf = (session: ScheduledSession, slots: number, survivors: number): ViewEvents => ({
    server: sessionEvents(config, plan, session, slots, survivors, 'server'),
    release: sessionEvents(config, plan, session, slots, survivors, 'release'),
  });

  // Fixed by the plan before the first charge of a period; later runs of the period keep it.
  const datasetOrder =
    dataset === null ? null : gateOrder(dataset.budget, config.privacy.relation, worstSessions(dataset.budget.view));

  async function write(
    step: LedgerStep,
    params: SessionParams,
    sid: Uint8Array,
    kind: 'reserve' | 'settle',
    survivors: number,
    events: ViewEvents,
    paths: readonly Path[],
  ): Promise<string> {
    // All runs that read the data set share its budget; refused before anything of this session is written.
    const shared = dataset?.prepare({
      kind,
      run: runId,
      sid: toHex(sid),
      time: now(),
      events: events[dataset.budget.view] ?? [],
      ...(kind === 'reserve' && datasetOrder !== null ? { order: datasetOrder } : {}),
    });
    const last = entries.at(-1);
    const charged = (events.server ?? []).map(eventToJson);
    const next = nextHead(toHex(sid), kind, charged, paths);
    const entry = signEntry(
      {
        type: 'client.charge',
        federation: config.federation,
        run: runId,
        seq: entries.length,
        time: now(),
        actor: toHex(identity.id),
        body: {
          sid: toHex(sid),
          round: params.round,
          purpose: params.purpose,
          kind,
          survivors,
          events: charged,
          paths,
          ledgerHead: toHex(next),
        },
        prevByActor: last === undefined ? '' : entryHash(crypto, last),
      },
      identity.secretSeed,
      crypto,
    );
    // Both or none: an entry without its charge, or a charge that nobody hears of, would split the two ledgers.
    await store.transaction(async (tx) => {
      await tx.append(ledgerStream(runId), utf8(step.line));
      await tx.append(chargeStream(runId), utf8(entry));
      await shared?.write(tx);
    });
    await shared?.commit();
    ledger = step;
    head = next;
    entries.push(entry);
    return entry;
  }

  return {
    async reserve(params, sid, session, slots) {
      const events = eventsOf(session, slots, params.minSurvivors);
      const charge = {
        sid: toHex(sid),
        round: params.round,
        purpose: params.purpose,
        // Signatures that could ever prove an absence: no cohort of the roster has a larger threshold.
        threshold: strictThreshold(roster.entries.length),
        events,
        paths: sessionPaths(config, plan, session, slots),
      };
      const step = reserve(crypto, ledger.ledger, charge);
      return write(step, params, sid, 'reserve', params.minSurvivors, events, charge.paths);
    },
    async settle(params, sid, session, slots, h3, survivors) {
      const events = eventsOf(session, slots, survivors);
      const step = settle(crypto, ledger.ledger, { sid: toHex(sid), h3: toHex(h3), survivors, events });
      return write(step, params, sid, 'settle', survivors, events, sessionPaths(config, plan, session, slots));
    },
    epsilon: () => reportLedger(ledger.ledger).epsilon,
    recentLines: () => entries.slice(-REPEATED_LINES),
  };
}
