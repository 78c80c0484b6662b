import { compareBytes, toHex } from './bytes.ts';
import type { Cohort, Dealers } from './cohort.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import type { DealerBundle } from './dealer-bundle.ts';
import type { ErrorCode } from './errors.ts';
import { encodeAbort, type SignedBody, signMessage, withoutAttachment } from './messages.ts';
import type { Agreement } from './participant-unmask.ts';
import type { AggregatorEffect, Phase, Roster, SessionFault, SessionMessage, SessionParams, Step } from './session.ts';

/** Keys of the coordinator. Secrets: `secretSeed` signs every coordinator message. */
export interface CoordinatorIdentity {
  readonly publicKey: Uint8Array;
  readonly secretSeed: Uint8Array;
}

/** Shares that one member opened in P5, by rank of the dealer in U1. */
export type MemberOpenings = ReadonlyMap<number, Uint8Array>;

/** What P5 gave back, in order of U2: the self seed of a survivor, the mask key of a member that dropped. */
export type RevealedSecrets = readonly Uint8Array[];

/** One upload: its signed body, and the vector where a transcript will need it. */
export interface Upload {
  readonly message: SessionMessage;
  readonly vector: Uint8Array | null;
}

/** One session as the coordinator lives it. Maps and sets are keyed by hex id. */
export interface AggregatorSession {
  readonly params: SessionParams;
  readonly sid: Uint8Array;
  readonly phase: Phase;
  readonly opening: SessionMessage;
  /** Members of whom this phase expects an answer, in order of id. */
  readonly expected: readonly Uint8Array[];
  /** Answers of this phase, without attachments. */
  readonly received: ReadonlyMap<string, SessionMessage>;
  /** Not connected: not waited for, but welcome back. */
  readonly lost: ReadonlySet<string>;
  /** Out for good: refused, complained or broke a rule. */
  readonly left: ReadonlySet<string>;
  readonly faults: readonly SessionFault[];
  /** Last message to each member, for those who come back; null stands for its P2 delivery, composed anew from `bundles`. */
  readonly outbox: ReadonlyMap<string, SessionMessage | null>;
  readonly cohort: Cohort;
  readonly p1: readonly SignedBody[];
  /** Both kinds of keys that were advertised, in hex. */
  readonly keys: ReadonlySet<string>;
  readonly reveals: readonly SignedBody[];
  readonly dealers: Dealers;
  readonly p2: readonly SignedBody[];
  /** By rank of the dealer in U1. */
  readonly bundles: ReadonlyMap<number, DealerBundle>;
  /** Verified uploads; those that are also in `received` have been folded. */
  readonly uploads: ReadonlyMap<string, Upload>;
  /** The deadline has passed while uploads were being folded: no new ones. */
  readonly closing: boolean;
  readonly p3: readonly SignedBody[];
  readonly agreement: Agreement;
  readonly p4: readonly SignedBody[];
  readonly step: 'collecting' | 'charging' | 'unmasking' | 'closed';
  readonly openings: ReadonlyMap<string, MemberOpenings>;
  /** Number of openings for each dealer, in order of U2. */
  readonly coverage: Uint16Array;
  readonly secrets: RevealedSecrets;
  readonly seeds: readonly Uint8Array[];
}

export interface AggregatorState {
  readonly identity: CoordinatorIdentity;
  readonly roster: Roster;
  readonly session: AggregatorSession | null;
}

export type AggregatorStep = Step<AggregatorState, AggregatorEffect>;

const NO_BYTES = new Uint8Array(0);

/** A session before its first answer. */
export function newSession(
  params: SessionParams,
  sid: Uint8Array,
  opening: SessionMessage,
  invited: readonly Uint8Array[],
): AggregatorSession {
  return {
    params,
    sid,
    phase: 'advertise',
    opening: withoutAttachment(opening),
    expected: [...invited].sort(compareBytes),
    received: new Map(),
    lost: new Set(),
    left: new Set(),
    faults: [],
    outbox: new Map(),
    cohort: { advertisements: [], threshold: 0, quorum: 0, h1: NO_BYTES, plan: null, graph: null },
    p1: [],
    keys: new Set(),
    reveals: [],
    dealers: { dealers: [], h2: NO_BYTES },
    p2: [],
    bundles: new Map(),
    uploads: new Map(),
    closing: false,
    p3: [],
    agreement: { survivors: [], h3: NO_BYTES },
    p4: [],
    step: 'collecting',
    openings: new Map(),
    coverage: new Uint16Array(0),
    secrets: [],
    seeds: [],
  };
}

// A list of expected members is immutable, so that its keys can live beside it.
const keySets = new WeakMap<readonly Uint8Array[], ReadonlySet<string>>();

/** True if this phase expects an answer of the member. `key`: its id in hex. */
export function isExpected({ expected }: AggregatorSession, key: string): boolean {
  const keys = keySets.get(expected) ?? new Set(expected.map(toHex));
  keySets.set(expected, keys);
  return keys.has(key);
}

export const nothing = (state: AggregatorState): AggregatorStep => ({ state, effects: [], consumed: [] });

export const withSession = (
  state: AggregatorState,
  session: AggregatorSession,
  effects: readonly AggregatorEffect[] = [],
): AggregatorStep => ({
  state: { ...state, session },
  effects,
  consumed: [],
});

/** Sends a message to members and remembers it as what a returning member is missing. */
export function sendTo(
  session: AggregatorSession,
  ids: readonly Uint8Array[],
  message: SessionMessage,
): { readonly session: AggregatorSession; readonly effects: readonly AggregatorEffect[] } {
  const outbox = new Map(session.outbox);
  const effects = ids.map((to): AggregatorEffect => {
    outbox.set(toHex(to), message);
    return { type: 'send', to, message };
  });
  return { session: { ...session, outbox }, effects };
}

export function signAbort(
  crypto: CryptoProvider,
  { identity }: AggregatorState,
  sid: Uint8Array,
  code: ErrorCode,
): SessionMessage {
  return signMessage(crypto, identity.secretSeed, 'abort', sid, encodeAbort(NO_BYTES, code));
}

/** Members that are proven to be at fault: their faults are of the class CryptoError and were found by the coordinator. */
export function proven(faults: readonly SessionFault[]): Uint8Array[] {
  return faults
    .filter(({ reportedBy, code }) => reportedBy === 'coordinator' && code.startsWith('CRYPTO_'))
    .map(({ id }) => id);
}

/** Gives the session up: everybody in it learns the code; nothing that could open a mask is kept. */
export function abort(
  crypto: CryptoProvider,
  state: AggregatorState,
  session: AggregatorSession,
  code: ErrorCode,
  reason: string,
  more: { readonly excluded?: readonly Uint8Array[]; readonly uploadBegun?: boolean } = {},
): AggregatorStep {
  const { params, sid, phase, faults } = session;
  const message = signAbort(crypto, state, sid, code);
  const sent = sendTo(
    session,
    session.expected.filter((id) => !session.left.has(toHex(id))),
    message,
  );
  // Once the shares were delivered a member may have begun to upload: then the round number is spent.
  const uploadBegun = more.uploadBegun ?? (phase === 'masked-input' || phase === 'consistency' || phase === 'unmask');
  const excluded = new Map([...proven(faults), ...(more.excluded ?? [])].map((id) => [toHex(id), id]));
  const closed: AggregatorSession = {
    ...sent.session,
    step: 'closed',
    bundles: new Map(),
    uploads: new Map(),
    openings: new Map(),
    secrets: [],
    seeds: [],
  };
  const outcome = { params, sid, phase, code, reason, uploadBegun, excluded: [...excluded.values()], faults };
  return {
    state: { ...state, session: closed },
    effects: [...sent.effects, { type: 'abort', outcome }],
    consumed: [
      ...[...session.openings.values()].flatMap((shares) => [...shares.values()]),
      ...session.secrets,
      ...session.seeds,
    ],
  };
}

// One member cannot fill the coordinator's memory with evidence.
const MAX_FAULTS_OF_MEMBER = 4;

/** Records a fault of a member. */
export function recordFault(session: AggregatorSession, fault: Omit<SessionFault, 'phase'>): AggregatorSession {
  const known = session.faults.filter(({ id }) => compareBytes(id, fault.id) === 0).length;
  return known >= MAX_FAULTS_OF_MEMBER
    ? session
    : { ...session, faults: [...session.faults, { ...fault, phase: session.phase }] };
}
