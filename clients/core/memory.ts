import { decodeParts, encodeParts, fromHex, fromUtf8, toHex, utf8 } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';
import type { ParticipantRecord, Purpose, SessionParams } from '../../protocol/session.ts';
import type { ProbeHistory } from '../../src/cluster/evolution.ts';
import type { LocalVectors } from '../../src/learning/algorithm.ts';
import type { ClipHistory } from '../../src/run/adaptive-clip.ts';
import { type MemberState, NEW_MEMBER } from '../../src/run/member.ts';
import type { ScheduledSession } from '../../src/run/plan.ts';
import type { Store } from '../../src/run/store.ts';

const PURPOSES: readonly Purpose[] = ['census', 'train', 'metrics'];

interface Entered {
  readonly round: number;
  readonly purpose: Purpose;
  readonly attempt: number;
}

/** A node's durable memory of one run: which sessions it entered, its uploads, its hidden slot. Never a session secret. */
export interface NodeMemory {
  member(): MemberState;
  saveMember(member: MemberState): Promise<void>;
  /** Vectors that the algorithm keeps at this site. */
  local(): LocalVectors;
  saveLocal(local: LocalVectors): Promise<void>;
  /** Keeps what the norm of the own update in a settled session cannot exceed. Units: integer units. */
  saveOwnNorm(sid: string, norm: number): Promise<void>;
  /** Members of the last census of the slots, or null before the first. */
  census(): readonly Uint8Array[] | null;
  saveCensus(ids: readonly Uint8Array[]): Promise<void>;
  /** Counts that an adaptive clip was followed by so far. */
  clip(): ClipHistory;
  saveClip(history: ClipHistory): Promise<void>;
  /** Released probes of evolving clusters so far. */
  probes(): ProbeHistory;
  /** Saves what a probe released and what the member knows after it, both or none. */
  saveProbe(history: ProbeHistory, member: MemberState): Promise<void>;
  /** Refuses a session that is not newer than every one entered, or whose number is spent by an upload. */
  requireNewer(params: SessionParams): void;
  persist(record: ParticipantRecord): Promise<void>;
  rememberSession(sid: Uint8Array, session: ScheduledSession): Promise<void>;
  recallSession(sid: Uint8Array): Promise<ScheduledSession | null>;
}

/** Names and little-endian doubles, in turn. */
function encodeVectors(vectors: LocalVectors): Uint8Array {
  return encodeParts(
    Object.entries(vectors).flatMap(([name, values]) => {
      const view = new DataView(new ArrayBuffer(8 * values.length));
      values.forEach((value, i) => {
        view.setFloat64(8 * i, value, true);
      });
      return [utf8(name), new Uint8Array(view.buffer)];
    }),
  );
}

function decodeVectors(bytes: Uint8Array): LocalVectors {
  const parts = decodeParts(bytes);
  const vectors: Record<string, Float64Array> = {};
  for (let i = 0; i + 1 < parts.length; i += 2) {
    const part = parts[i + 1] as Uint8Array;
    const view = new DataView(part.buffer, part.byteOffset, part.byteLength);
    vectors[fromUtf8(parts[i] as Uint8Array)] = Float64Array.from({ length: part.length / 8 }, (_, at) =>
      view.getFloat64(8 * at, true),
    );
  }
  return vectors;
}

/** Norms of a node's own updates: they never leave its store, and nothing is decided by them (F23). */
export const normStream = (runId: string): string => `norms/${runId}`;

const json = (value: unknown): Uint8Array => utf8(JSON.stringify(value));

export async function openMemory(store: Store, runId: string): Promise<NodeMemory> {
  const read = async <T>(table: string, key: string): Promise<T | null> => {
    const bytes = await store.get(table, key);
    return bytes === undefined ? null : (JSON.parse(fromUtf8(bytes)) as T);
  };
  let member: MemberState = { ...NEW_MEMBER, ...(await read<MemberState>('member', runId)) };
  const kept = await store.get('local', runId);
  let local = kept === undefined ? {} : decodeVectors(kept);
  let entered = await read<Entered>('entered', runId);
  let census = ((await read<string[]>('census', runId)) ?? null)?.map(fromHex) ?? null;
  let clip: ClipHistory = (await read<ClipHistory>('clip', runId)) ?? [];
  let probes: ProbeHistory = (await read<ProbeHistory>('probes', runId)) ?? [];
  let uploaded = await read<{ round: number; purpose: Purpose }>('uploaded', runId);

  return {
    member: () => member,
    async saveMember(next) {
      member = next;
      await store.put('member', runId, json(next));
    },
    local: () => local,
    async saveLocal(next) {
      local = next;
      await store.put('local', runId, encodeVectors(next));
    },
    saveOwnNorm: async (sid, norm) => void (await store.append(normStream(runId), json({ sid, norm }))),
    census: () => census,
    async saveCensus(ids) {
      census = ids.map((id) => id.slice());
      await store.put('census', runId, json(ids.map(toHex)));
    },
    clip: () => clip,
    async saveClip(history) {
      if (history.length === clip.length) return;
      clip = history;
      await store.put('clip', runId, json(history));
    },
    probes: () => probes,
    async saveProbe(history, next) {
      await store.transaction(async (tx) => {
        await tx.put('probes', runId, json(history));
        await tx.put('member', runId, json(next));
      });
      probes = history;
      member = next;
    },
    requireNewer({ round, purpose, attempt }) {
      const order = (e: Entered): number[] => [e.round, PURPOSES.indexOf(e.purpose), e.attempt];
      if (entered !== null) {
        const now = order({ round, purpose, attempt });
        const last = order(entered);
        const at = now.findIndex((value, i) => value !== last[i]);
        if (at < 0 || (now[at] ?? 0) < (last[at] ?? 0)) {
          throw new CoveyError('PROTO_ROUND', `"round" expected later than ${last.join('/')}, got ${now.join('/')}`);
        }
      }
      // Once an upload has begun its number is spent: a retry is a new round with fresh noise and a new charge.
      if (uploaded !== null && uploaded.round === round && uploaded.purpose === purpose) {
        throw new CoveyError('PROTO_ROUND', `"round" ${round} (${purpose}) is spent by an upload`);
      }
    },
    async persist(record) {
      if (record.kind === 'entered') {
        entered = { round: record.round, purpose: record.purpose, attempt: record.attempt };
        await store.put('entered', runId, json(entered));
      } else if (record.kind === 'uploaded') {
        uploaded = { round: record.round, purpose: record.purpose };
        await store.put('uploaded', runId, json({ ...uploaded, digest: toHex(record.digest) }));
      } else {
        await store.put(record.kind, runId, json({ sid: toHex(record.sid), h3: toHex(record.h3) }));
      }
    },
    rememberSession: (sid, session) => store.put('session', `${runId}/${toHex(sid)}`, json(session)),
    recallSession: (sid) => read<ScheduledSession>('session', `${runId}/${toHex(sid)}`),
  };
}
