import { compareBytes, decodeParts, encodeParts, equalBytes, toHex, u8, utf8 } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError, type ErrorCode, isCoveyError } from './errors.ts';
import { expandEntropy, type SessionSecrets } from './key-schedule.ts';
import { requireBoundAttachment, requireSignature, signMessage } from './messages.ts';
import { coordinateCount, decodeParams, rosterHash, sessionId } from './params.ts';
import { agree, answerCertificate, type MemberView, Complaint, prepareMask, shareKeys, takeShares } from './participant-phases.ts';
import { advertise } from './participant-phases.ts';
import { ringWordCount } from './ring.ts';
import type { MessageType, ParticipantEffect, ParticipantEvent, Roster, SessionMessage, SessionParams, Step } from './session.ts';

/** Long-term keys of a node. Secrets: `secretSeed` signs every message of the node. */
export interface ParticipantIdentity {
  readonly id: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly secretSeed: Uint8Array;
}

/** What a participant pins out of band. */
export interface ParticipantTrust {
  readonly coordinatorKey: Uint8Array;
  readonly roster: Roster;
}

type Stage = 'authorizing' | 'advertised' | 'shared' | 'contributing' | 'charging' | 'masking' | 'uploaded' | 'agreed' | 'replied' | 'closed';

/** One session as this participant lives it. Secrets of a stage are gone from the state of the next that does not need them. */
export interface ParticipantSession {
  readonly stage: Stage;
  readonly params: SessionParams;
  readonly sid: Uint8Array;
  readonly census: readonly Uint8Array[] | null;
  readonly entropy: Uint8Array | null;
  readonly secrets: SessionSecrets | null;
  readonly view: MemberView;
  /** Vector on its way: unmasked until `masking`, masked until the upload is acknowledged. */
  readonly vector: Uint32Array | null;
  /** First coordinator message of each type; another one of that type is equivocation. */
  readonly answered: ReadonlyMap<MessageType, Uint8Array>;
  readonly lastSent: SessionMessage | null;
}

export interface ParticipantState {
  readonly identity: ParticipantIdentity;
  readonly trust: ParticipantTrust;
  readonly session: ParticipantSession | null;
}

type ParticipantStep = Step<ParticipantState, ParticipantEffect>;

export function createParticipant(identity: ParticipantIdentity, trust: ParticipantTrust, crypto: CryptoProvider): ParticipantState {
  if (!equalBytes(crypto.ed25519PublicKey(identity.secretSeed), identity.publicKey)) {
    throw new CoveyError('USAGE_CONFIG', '"publicKey" expected the key of the secret seed');
  }
  return { identity, trust, session: null };
}

/** Everything secret that a session still holds. */
function secretsOf(session: ParticipantSession | null): (Uint8Array | Uint32Array)[] {
  if (session === null) return [];
  const { entropy, secrets, vector, view } = session;
  return [
    ...(entropy === null ? [] : [entropy]),
    ...(secrets === null ? [] : Object.values(secrets as unknown as Record<string, Uint8Array>)),
    ...(vector === null ? [] : [vector]),
    ...[...view.held.values()].flatMap((held) => [held.shareB, held.openingB, held.shareS, held.openingS]),
  ];
}

const EMPTY_VIEW: MemberView = { advertisements: [], threshold: 0, h1: null, dealers: [], h2: null, digest: null, survivors: [], h3: null, held: new Map() };

function close(state: ParticipantState, session: ParticipantSession, effects: readonly ParticipantEffect[]): ParticipantStep {
  const closed: ParticipantSession = { ...session, stage: 'closed', entropy: null, secrets: null, vector: null, view: EMPTY_VIEW, lastSent: null };
  return { state: { ...state, session: closed }, effects, consumed: secretsOf(session) };
}

function abort(state: ParticipantState, session: ParticipantSession, code: ErrorCode, reason: string, accused: readonly Uint8Array[] = [], before: readonly ParticipantEffect[] = []): ParticipantStep {
  return close(state, session, [...before, { type: 'abort', sid: session.sid, code, reason, accused }]);
}

/** P0: a session is offered. Nothing is derived or sent before the site's policy has authorized it. */
function open(crypto: CryptoProvider, state: ParticipantState, message: SessionMessage, entropy: Uint8Array): ParticipantStep {
  const { coordinatorKey, roster } = state.trust;
  const params = decodeParams(message.body);
  const sid = sessionId(crypto, params);
  if (!equalBytes(sid, message.sid)) throw new CoveyError('PROTO_UNEXPECTED', '"sid" expected the hash of the parameters');
  requireSignature(crypto, message, sid, coordinatorKey);
  if (state.session !== null && equalBytes(state.session.sid, sid)) return ignore(state);
  if (!equalBytes(params.rosterHash, rosterHash(crypto, roster)) || params.rosterVersion !== roster.version) {
    throw new CoveyError('PRIVACY_POLICY', '"rosterHash" expected the pinned roster');
  }
  const session: ParticipantSession = {
    stage: 'authorizing',
    params,
    sid,
    census: null,
    entropy: entropy.slice(),
    secrets: null,
    view: EMPTY_VIEW,
    vector: null,
    answered: new Map([['p0', message.body]]),
    lastSent: null,
  };
  // Accepting a session wipes every secret of an earlier one.
  return { state: { ...state, session }, effects: [{ type: 'authorize', params, sid }], consumed: [entropy, ...secretsOf(state.session)] };
}

const ignore = (state: ParticipantState): ParticipantStep => ({ state, effects: [], consumed: [] });

function advance(state: ParticipantState, session: ParticipantSession, effects: readonly ParticipantEffect[], consumed: readonly (Uint8Array | Uint32Array)[] = []): ParticipantStep {
  return { state: { ...state, session }, effects, consumed };
}

function authorized(crypto: CryptoProvider, state: ParticipantState, session: ParticipantSession, census: readonly Uint8Array[] | null): ParticipantStep {
  const { params, sid, entropy } = session;
  if (entropy === null) throw new CoveyError('INTERNAL_INVARIANT', 'a session without entropy');
  const secrets = expandEntropy(crypto, entropy, sid);
  const message = advertise(crypto, state.identity, sid, secrets);
  const { runId, round, purpose, attempt } = params;
  return advance(
    state,
    { ...session, stage: 'advertised', census, entropy: null, secrets, lastSent: message },
    [
      // Durable before P1 leaves: the same (round, purpose, attempt) is never entered again.
      { type: 'persist', record: { kind: 'entered', runId, sid, round, purpose, attempt } },
      { type: 'send', message },
    ],
    [entropy],
  );
}

function contribution(state: ParticipantState, session: ParticipantSession, words: Uint32Array): ParticipantStep {
  const { params, sid } = session;
  const expected = ringWordCount(coordinateCount(params), params.ring.lanes);
  if (words.length !== expected) throw new CoveyError('INTERNAL_INVARIANT', `"contribution" expected ${expected} halves, got ${words.length}`);
  // Write-ahead: the worst accepted case is reserved before any byte of the upload can leave.
  const charge: ParticipantEffect = { type: 'charge', params, sid, survivors: params.minSurvivors };
  return advance(state, { ...session, stage: 'charging', vector: words.slice() }, [charge], [words]);
}

function charged(crypto: CryptoProvider, state: ParticipantState, session: ParticipantSession): ParticipantStep {
  const { vector, secrets, params } = session;
  if (vector === null || secrets === null) throw new CoveyError('INTERNAL_INVARIANT', 'a charge without a vector');
  const seeds = prepareMask(crypto, state.identity.id, session.sid, secrets, session.view);
  return advance(
    state,
    { ...session, stage: 'masking', secrets: null, vector: null },
    [{ type: 'mask', words: vector, lanes: params.ring.lanes, seeds }],
    // The driver wipes these when the effect is done: x, the seeds and every key that made them.
    [vector, ...seeds.map(({ seed }) => seed), ...Object.values(secrets as unknown as Record<string, Uint8Array>)],
  );
}

function masked(crypto: CryptoProvider, state: ParticipantState, session: ParticipantSession, words: Uint32Array, digest: Uint8Array): ParticipantStep {
  const { sid, params, view } = session;
  const { runId, round, purpose } = params;
  const body = encodeParts([state.identity.id, view.h2 ?? new Uint8Array(0), digest]);
  const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  const message = signMessage(crypto, state.identity.secretSeed, 'p3', sid, body, bytes);
  return advance(state, { ...session, stage: 'uploaded', view: { ...view, digest }, lastSent: message }, [
    { type: 'persist', record: { kind: 'uploaded', runId, sid, round, purpose, digest } },
    { type: 'send', message },
  ]);
}

/** Stage in which each coordinator message is expected. */
const EXPECTED: Readonly<Partial<Record<MessageType, readonly Stage[]>>> = {
  'p1-all': ['advertised'],
  'p2-all': ['shared'],
  'p4-ask': ['uploaded'],
  'p5-ask': ['agreed'],
  result: ['replied'],
};

function receive(crypto: CryptoProvider, state: ParticipantState, session: ParticipantSession, message: SessionMessage): ParticipantStep {
  requireSignature(crypto, message, session.sid, state.trust.coordinatorKey);
  const before = session.answered.get(message.type);
  if (before !== undefined) {
    // The identical message is answered identically, a different one is proof of equivocation.
    if (equalBytes(before, message.body)) {
      return session.lastSent === null ? ignore(state) : { state, effects: [{ type: 'send', message: session.lastSent }], consumed: [] };
    }
    return abort(state, session, 'PROTO_EQUIVOCATION', `two different ${message.type} messages of the coordinator`);
  }
  if (message.type === 'abort') {
    const [code, reason] = decodeParts(message.body).map((part) => String.fromCharCode(...part.subarray(0, 200)));
    return abort(state, session, 'ROUND_TIMEOUT', `the coordinator gave the session up: ${code ?? ''} ${reason ?? ''}`.trim());
  }
  if (EXPECTED[message.type]?.includes(session.stage) !== true) {
    return abort(state, session, 'PROTO_UNEXPECTED', `a ${message.type} message came while ${session.stage}`);
  }
  const answered = new Map(session.answered).set(message.type, message.body);
  const current: ParticipantSession = { ...session, answered };
  if (message.type !== 'result') requireBoundAttachment(crypto, message);
  return handle(crypto, state, current, message);
}

function handle(crypto: CryptoProvider, state: ParticipantState, session: ParticipantSession, message: SessionMessage): ParticipantStep {
  const { identity, trust } = state;
  const { params, sid, secrets, view } = session;
  const context = { crypto, identity, roster: trust.roster, params, sid };
  switch (message.type) {
    case 'p1-all': {
      if (secrets === null) throw new CoveyError('INTERNAL_INVARIANT', 'a session without secrets');
      const { view: next, message: answer } = shareKeys(context, secrets, message.attachment);
      return advance(state, { ...session, stage: 'shared', view: next, lastSent: answer }, [{ type: 'send', message: answer }]);
    }
    case 'p2-all': {
      if (secrets === null) throw new CoveyError('INTERNAL_INVARIANT', 'a session without secrets');
      const next = takeShares(context, secrets, view, message.attachment);
      const cohort = next.dealers.map(({ id }) => id);
      return advance(state, { ...session, stage: 'contributing', view: next }, [{ type: 'contribute', params, sid, cohort }]);
    }
    case 'p4-ask': {
      const { view: next, message: answer } = agree(context, view, session.census, message.attachment);
      const h3 = next.h3 ?? new Uint8Array(0);
      const uploaded = session.lastSent === null ? [] : [session.lastSent.attachment];
      return advance(
        state,
        { ...session, stage: 'agreed', view: next, lastSent: answer },
        [
          { type: 'persist', record: { kind: 'agreed', runId: params.runId, sid, h3 } },
          { type: 'send', message: answer },
        ],
        uploaded,
      );
    }
    case 'p5-ask': {
      const { message: answer, h3 } = answerCertificate(context, view, message.attachment);
      const wiped = [...view.held.values()].flatMap((held) => [held.shareB, held.openingB, held.shareS, held.openingS]);
      return advance(
        state,
        { ...session, stage: 'replied', view: { ...view, held: new Map() }, lastSent: answer },
        [
          { type: 'settle', params, sid, h3, survivors: view.survivors.map(({ id }) => id) },
          { type: 'persist', record: { kind: 'replied', runId: params.runId, sid, h3 } },
          { type: 'send', message: answer },
        ],
        wiped,
      );
    }
    default: {
      const [h3, sumHash, survivors] = decodeParts(message.body, 3) as [Uint8Array, Uint8Array, Uint8Array];
      if (view.h3 === null || !equalBytes(h3, view.h3) || survivors.length !== 4) {
        return abort(state, session, 'PROTO_UNEXPECTED', '"result" expected the agreed h3');
      }
      return close(state, session, [{ type: 'done', sid, h3: h3.slice(), survivors: view.survivors.map(({ id }) => id), sumHash: sumHash.slice() }]);
    }
  }
}

/**
 * One step of the participant machine (SPEC section 4): pure, deterministic, its input stays as it is.
 * Secrets: what the new state no longer needs is in `consumed`, to be wiped when the effects are done.
 * Every failed check becomes an `abort` effect; nothing is thrown for what a peer sends.
 */
export function stepParticipant(crypto: CryptoProvider, state: ParticipantState, event: ParticipantEvent): ParticipantStep {
  const session = state.session;
  try {
    if (event.type === 'open') return open(crypto, state, event.message, event.entropy);
    if (session === null || session.stage === 'closed') return ignore(state);
    switch (event.type) {
      case 'message':
        return equalBytes(event.message.sid, session.sid) ? receive(crypto, state, session, event.message) : ignore(state);
      case 'authorized':
        return session.stage === 'authorizing' ? authorized(crypto, state, session, event.census) : ignore(state);
      case 'contribution':
        return session.stage === 'contributing' ? contribution(state, session, event.words) : ignore(state);
      case 'charged':
        return session.stage === 'charging' ? charged(crypto, state, session) : ignore(state);
      case 'masked':
        return session.stage === 'masking' ? masked(crypto, state, session, event.words, event.digest) : ignore(state);
      case 'refused':
        return abort(state, session, event.code, event.reason);
      case 'deadline':
        return abort(state, session, 'PROTO_DEADLINE', `nothing came in time while ${session.stage}`);
      case 'resend':
        return session.lastSent === null ? ignore(state) : { state, effects: [{ type: 'send', message: session.lastSent }], consumed: [] };
    }
  } catch (error) {
    if (!isCoveyError(error)) throw error;
    if (event.type === 'open') {
      // A refused offer leaves a session in progress untouched.
      return { state, effects: [{ type: 'abort', sid: event.message.sid, code: error.code, reason: error.message, accused: [] }], consumed: [event.entropy] };
    }
    if (session === null) return ignore(state);
    if (error instanceof Complaint) {
      const body = encodeParts([state.identity.id, u8(2), error.dealer, utf8(error.message)]);
      const complaint = signMessage(crypto, state.identity.secretSeed, 'complaint', session.sid, body);
      return abort(state, session, error.code, error.message, [error.dealer], [{ type: 'send', message: complaint }]);
    }
    return abort(state, session, error.code, error.message);
  }
}

/** Short public name of a participant in messages for people. */
export function shortId(id: Uint8Array): string {
  return toHex(id).slice(0, 12);
}

/** Bytewise order of ids, as every list of members uses it. */
export const byId = (a: { readonly id: Uint8Array }, b: { readonly id: Uint8Array }): number => compareBytes(a.id, b.id);
