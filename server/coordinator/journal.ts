import { fromUtf8, toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { bytesToWords, wordsToBytes } from '../../protocol/ring.ts';
import { type EntryType, entryHash, parseEntry, type SignedEntry, signEntry } from '../../src/audit/entries.ts';
import type { Store } from '../../src/run/store.ts';

/** One released sum, enough to replay the run. */
export interface ReleaseRecord {
  readonly params: Uint8Array;
  readonly sid: Uint8Array;
  readonly sum: Uint32Array;
  /** Transcript of a census session, whose members recompute the sum; empty for training steps. */
  readonly transcript: Uint8Array;
}

/**
 * The coordinator's durable memory: signed log, numbers of opened rounds, released sums. Everything else is replayed.
 */
export interface Journal {
  readonly runId: string;
  /** Signs and appends an own entry; durable when it resolves. */
  append(type: EntryType, body: Record<string, unknown>): Promise<string>;
  /** Appends a participant's signed entry after checking it; null if it is here already. @throws CoveyError AUTH_* or CODEC_* */
  appendForeign(line: string, actorKey: Uint8Array): Promise<SignedEntry | null>;
  lines(): readonly string[];
  /** Highest round ever opened, or 0. */
  lastRound(): number;
  openRound(round: number): Promise<void>;
  releases(): readonly ReleaseRecord[];
  release(record: ReleaseRecord, body: Record<string, unknown>): Promise<string>;
}

const LOG = 'log';
const ROUNDS = 'rounds';
const RELEASES = 'releases';

/** Opens the journal and replays what is in the store. */
export async function openJournal(
  store: Store,
  crypto: CryptoProvider,
  origin: {
    readonly federation: string;
    readonly runId: string;
    readonly identity: { readonly id: Uint8Array; readonly secretSeed: Uint8Array };
    /** Wall clock in RFC 3339; appears in entries only. */
    now(): string;
  },
): Promise<Journal> {
  const actor = toHex(origin.identity.id);
  const lines = (await store.read(LOG)).map(({ payload }) => fromUtf8(payload));
  const byActor = new Map<string, string[]>();
  const index = (line: string): void => {
    const entry = JSON.parse(line) as { actor: string };
    const own = byActor.get(entry.actor);
    if (own === undefined) byActor.set(entry.actor, [line]);
    else own.push(line);
  };
  const headOf = (of: string): { seq: number; hash: string } => {
    const own = byActor.get(of) ?? [];
    const last = own.at(-1);
    return { seq: own.length, hash: last === undefined ? '' : entryHash(crypto, last) };
  };
  lines.forEach(index);
  const rounds = await store.read(ROUNDS);
  let lastRound = rounds.reduce((max, { payload }) => Math.max(max, Number(fromUtf8(payload))), 0);
  const releases: ReleaseRecord[] = [];
  for (const { payload } of await store.read(RELEASES)) {
    const sidHex = fromUtf8(payload);
    const part = async (table: string): Promise<Uint8Array> => {
      const bytes = await store.get(table, sidHex);
      if (bytes === undefined)
        throw new CoveyError('INTERNAL_INVARIANT', `the store lost ${table} of session ${sidHex.slice(0, 12)}`);
      return bytes;
    };
    releases.push({
      params: await part('params'),
      sid: Uint8Array.from(sidHex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16)),
      sum: bytesToWords(await part('sums')),
      transcript: await part('transcripts'),
    });
  }

  const sign = (type: EntryType, body: Record<string, unknown>): string => {
    const head = headOf(actor);
    return signEntry(
      {
        type,
        federation: origin.federation,
        run: origin.runId,
        seq: head.seq,
        time: origin.now(),
        actor,
        body,
        prevByActor: head.hash,
      },
      origin.identity.secretSeed,
      crypto,
    );
  };
  const keep = (line: string): void => {
    lines.push(line);
    index(line);
  };

  return {
    runId: origin.runId,
    async append(type, body) {
      const line = sign(type, body);
      keep(line);
      await store.append(LOG, utf8(line));
      return line;
    },
    async appendForeign(line, actorKey) {
      const entry = parseEntry(line, () => actorKey, crypto);
      if (entry.run !== origin.runId || entry.federation !== origin.federation) {
        throw new CoveyError('PROTO_ROUND', '"entry" expected this federation and run');
      }
      // A resent entry is already here; a different one for the same place is a fork of the actor's chain.
      if (byActor.get(entry.actor)?.[entry.seq] === line) return null;
      const head = headOf(entry.actor);
      if (entry.seq !== head.seq || entry.prevByActor !== head.hash) {
        throw new CoveyError('PROTO_EQUIVOCATION', `"seq" expected ${head.seq}, got ${entry.seq}`, {
          actor: entry.actor,
        });
      }
      keep(line);
      await store.append(LOG, utf8(line));
      return entry;
    },
    lines: () => lines,
    lastRound: () => lastRound,
    async openRound(round) {
      lastRound = Math.max(lastRound, round);
      await store.append(ROUNDS, utf8(String(round)));
    },
    releases: () => releases,
    async release(record, body) {
      const sidHex = toHex(record.sid);
      const line = sign('round.release', body);
      keep(line);
      releases.push(record);
      await store.transaction(async (tx) => {
        await tx.put('params', sidHex, record.params);
        await tx.put('sums', sidHex, wordsToBytes(record.sum));
        await tx.put('transcripts', sidHex, record.transcript);
        await tx.append(RELEASES, utf8(sidHex));
        await tx.append(LOG, utf8(line));
      });
      return line;
    },
  };
}
