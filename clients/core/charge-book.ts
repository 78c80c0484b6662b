import { fromUtf8, hashParts, toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { LABELS } from '../../protocol/labels.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { canonicalJson } from '../../src/audit/canonical-json.ts';
import { entryHash, signEntry } from '../../src/audit/entries.ts';
import { type Accountant, type Budget, rdpAccountant } from '../../src/privacy/accountant.ts';
import { eventFromJson, eventToJson } from '../../src/privacy/event-json.ts';
import type { DpEvent } from '../../src/privacy/events.ts';
import type { Store } from '../../src/run/store.ts';

/**
 * A node's own ledger of one run: write-ahead, hash-chained, each line signed. A reserve is durable before the first
 * byte of an upload leaves; a settlement may only replace it by the realised, smaller charge. Nothing is given back by a
 * crash, an abort or a missing proof.
 */
export interface ChargeBook {
  /** @throws CoveyError PRIVACY_BUDGET before anything is written if the budget would be exceeded. */
  reserve(params: SessionParams, sid: Uint8Array, events: readonly DpEvent[]): Promise<readonly string[]>;
  settle(params: SessionParams, sid: Uint8Array, h3: Uint8Array, survivors: readonly Uint8Array[], events: readonly DpEvent[]): Promise<readonly string[]>;
  /** Epsilon of everything reserved or settled so far. */
  epsilon(): number;
  /** Last lines, for a coordinator that may have missed them. */
  recentLines(): readonly string[];
}

/** Lines a returning node repeats: more than one session writes. */
const REPEATED_LINES = 8;

interface Charge {
  readonly sid: string;
  readonly events: readonly DpEvent[];
}

/** Opens the ledger of a run and checks its chain. @throws CoveyError PRIVACY_LEDGER naming the broken line. */
export async function openChargeBook(
  store: Store,
  crypto: CryptoProvider,
  identity: { readonly id: Uint8Array; readonly secretSeed: Uint8Array },
  origin: { readonly federation: string; readonly runId: string; now(): string },
  budget: Budget,
): Promise<ChargeBook> {
  const stream = `ledger/${origin.runId}`;
  const lines = (await store.read(stream)).map(({ payload }) => fromUtf8(payload));
  const charges = new Map<string, Charge>();
  let head = hashParts(crypto, utf8(LABELS.ledgerEntry), utf8(origin.runId), identity.id);
  let previous = '';

  const chain = (sid: string, kind: string, events: readonly DpEvent[]): Uint8Array =>
    hashParts(crypto, utf8(LABELS.ledgerEntry), head, utf8(sid), utf8(kind), utf8(canonicalJson(events.map(eventToJson))));
  const take = (line: string, sid: string, kind: string, events: readonly DpEvent[]): void => {
    head = chain(sid, kind, events);
    previous = entryHash(crypto, line);
    charges.set(sid, { sid, events });
  };
  lines.forEach((line, i) => {
    const { seq, prevByActor, body } = JSON.parse(line) as { seq: number; prevByActor: string; body: { sid: string; kind: string; events: unknown[]; ledgerHead: string } };
    const events = body.events.map(eventFromJson);
    if (seq !== i || prevByActor !== previous || body.ledgerHead !== toHex(chain(body.sid, body.kind, events))) {
      throw new CoveyError('PRIVACY_LEDGER', `"ledger" line ${i + 1} does not continue the chain`);
    }
    take(line, body.sid, body.kind, events);
  });

  const total = (extra: readonly DpEvent[], without: string): Accountant => {
    // One order, so that the same charges give the same epsilon everywhere.
    const kept = [...charges.values()].filter(({ sid }) => sid !== without).flatMap(({ events }) => events);
    return [...kept, ...extra].reduce((accountant, event) => accountant.compose(event), rdpAccountant());
  };

  async function write(params: SessionParams, sidHex: string, kind: 'reserve' | 'settle', survivors: number, events: readonly DpEvent[]): Promise<readonly string[]> {
    const line = signEntry(
      {
        type: 'client.charge',
        federation: origin.federation,
        run: origin.runId,
        seq: lines.length,
        time: origin.now(),
        actor: toHex(identity.id),
        body: { sid: sidHex, round: params.round, purpose: params.purpose, kind, survivors, events: events.map(eventToJson), ledgerHead: toHex(chain(sidHex, kind, events)) },
        prevByActor: previous,
      },
      identity.secretSeed,
      crypto,
    );
    await store.append(stream, utf8(line));
    lines.push(line);
    take(line, sidHex, kind, events);
    return [line];
  }

  return {
    async reserve(params, sid, events) {
      const sidHex = toHex(sid);
      const epsilon = total(events, sidHex).epsilon(budget.delta);
      if (!(epsilon <= budget.epsilon * (1 + 1e-9))) {
        throw new CoveyError('PRIVACY_BUDGET', `"epsilon" expected at most ${budget.epsilon} at delta ${budget.delta}, the round would make it ${epsilon.toFixed(4)}`);
      }
      return write(params, sidHex, 'reserve', params.minSurvivors, events);
    },
    async settle(params, sid, _h3, survivors, events) {
      const sidHex = toHex(sid);
      const reserved = charges.get(sidHex);
      if (reserved === undefined) throw new CoveyError('PRIVACY_LEDGER', '"settle" expected a reserve of this session');
      const worst = total([], '').epsilon(budget.delta);
      // A settlement may only lower the charge; a larger one would mean that the reserve was no worst case.
      if (total(events, sidHex).epsilon(budget.delta) > worst) throw new CoveyError('PRIVACY_LEDGER', '"settle" expected at most the reserved charge');
      return write(params, sidHex, 'settle', survivors.length, events);
    },
    epsilon: () => total([], '').epsilon(budget.delta),
    recentLines: () => lines.slice(-REPEATED_LINES),
  };
}
