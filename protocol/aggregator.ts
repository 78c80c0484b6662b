import { askToUnmask, closePhase, composeDelivery, composeMembers, contextOf, publish } from './aggregator-phases.ts';
import {
  type AggregatorSession,
  type AggregatorState,
  type AggregatorStep,
  abort,
  type CoordinatorIdentity,
  isExpected,
  newSession,
  nothing,
  recordFault,
  sendTo,
  signAbort,
  withSession,
} from './aggregator-state.ts';
import { checkOpenings, fewestOpenings } from './aggregator-unmask.ts';
import { decodeParts, equalBytes, toHex } from './bytes.ts';
import { arePeers, readAdvertisement, requireReveal } from './cohort.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { readBundle } from './dealer-bundle.ts';
import { CoveyError, type ErrorCode, isCoveyError } from './errors.ts';
import {
  type Advertisement,
  decodeAbort,
  decodeComplaint,
  decodeReveal,
  decodeUpload,
  readFields,
  requireSignature,
  signMessage,
  withoutAttachment,
} from './messages.ts';
import { toleranceOf } from './noise-seeds.ts';
import { coordinateCount, decodeParams, encodeParams, rosterHash, sessionId } from './params.ts';
import { hasStrayBits, ringWordCount, viewWords } from './ring.ts';
import { checkRoster, rankOf, requireEntry } from './roster.ts';
import type { AggregatorEffect, AggregatorEvent, MessageType, Phase, Roster, SessionMessage } from './session.ts';

export type { AggregatorState, CoordinatorIdentity } from './aggregator-state.ts';

export function createAggregator(identity: CoordinatorIdentity, roster: Roster): AggregatorState {
  return { identity, roster, session: null };
}

/** @throws CoveyError for parameters or members that no participant would accept: the caller's mistake. */
function open(
  crypto: CryptoProvider,
  state: AggregatorState,
  event: Extract<AggregatorEvent, { type: 'open' }>,
): AggregatorStep {
  const { params, attachment, invited } = event;
  if (state.session !== null) throw new CoveyError('USAGE_STATE', '"open" expected an aggregator without a session');
  checkRoster(crypto, state.roster);
  const body = encodeParams(params);
  decodeParams(body);
  if (!equalBytes(params.rosterHash, rosterHash(crypto, state.roster)))
    throw new CoveyError('USAGE_RANGE', '"rosterHash" expected the hash of the roster');
  for (const id of invited) requireEntry(state.roster, id);
  const sid = sessionId(crypto, params);
  const message = signMessage(crypto, state.identity.secretSeed, 'p0', sid, body, attachment);
  const sent = sendTo(newSession(params, sid, message, invited), invited, message);
  return withSession(state, sent.session, [
    ...sent.effects,
    { type: 'deadline', phase: 'advertise', ms: params.deadlineMs },
  ]);
}

/** True if nobody is left of whom an answer may still come. */
function isAnswered(session: AggregatorSession): boolean {
  const { expected, received, lost, left, phase, cohort } = session;
  // Everybody in U1 waits for the graph; its committee alone has something to say.
  const answering =
    phase === 'reveal'
      ? (cohort.plan?.committee ?? []).map((rank) => (cohort.advertisements[rank] as Advertisement).id)
      : expected;
  // Most messages are not the last one: no need to look at everybody for them.
  if (received.size + lost.size + left.size < answering.length) return false;
  return answering.every((id) => {
    const key = toHex(id);
    return received.has(key) || lost.has(key) || left.has(key);
  });
}

/** Closes the phase as soon as nothing more is needed or nobody else can answer. */
function closeIfComplete(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession): AggregatorStep {
  const { phase, received, cohort, step } = session;
  if (step !== 'collecting') return withSession(state, session);
  // Consistency and unmasking need some answers, not all: a member lost after its upload does not delay the others.
  const enough =
    (phase === 'consistency' && received.size >= cohort.quorum) ||
    (phase === 'unmask' && fewestOpenings(session) >= cohort.threshold);
  if (enough || session.closing || isAnswered(session)) return closePhase(crypto, state, session);
  return withSession(state, session);
}

/** A member is out for good and learns why. */
function dismiss(
  crypto: CryptoProvider,
  state: AggregatorState,
  session: AggregatorSession,
  id: Uint8Array,
  code: ErrorCode,
): AggregatorStep {
  const message = signAbort(crypto, state, session.sid, code);
  const told = sendTo({ ...session, left: new Set(session.left).add(toHex(id)) }, [id], message);
  const step = closeIfComplete(crypto, state, told.session);
  return { ...step, effects: [...told.effects, ...step.effects] };
}

const PHASES: readonly Phase[] = ['advertise', 'reveal', 'share-keys', 'masked-input', 'consistency', 'unmask'];
const PHASE_OF: Readonly<Partial<Record<MessageType, Phase>>> = {
  p1: 'advertise',
  p1r: 'reveal',
  p2: 'share-keys',
  p3: 'masked-input',
  p4: 'consistency',
  p5: 'unmask',
};

function receive(
  crypto: CryptoProvider,
  state: AggregatorState,
  session: AggregatorSession,
  from: Uint8Array,
  message: SessionMessage,
): AggregatorStep {
  const key = toHex(from);
  const { type } = message;
  // Other sessions, strangers and members that are out: discarded unread.
  if (!equalBytes(message.sid, session.sid) || session.left.has(key) || !isExpected(session, key))
    return nothing(state);
  const phase = PHASE_OF[type];
  // A late message, above all a late upload, is discarded unread too: the self mask still hides it.
  if (phase !== undefined && PHASES.indexOf(phase) < PHASES.indexOf(session.phase)) return nothing(state);
  if (phase !== session.phase && type !== 'complaint' && type !== 'abort')
    throw new CoveyError('PROTO_UNEXPECTED', `"type" expected a message of ${session.phase}, got ${type}`);
  requireSignature(crypto, message, session.sid, requireEntry(state.roster, from).publicKey);
  const [claimed] = decodeParts(message.body);
  if (claimed === undefined || !equalBytes(claimed, from))
    throw new CoveyError('AUTH_UNKNOWN', '"id" expected the sender');
  if (type === 'complaint') return takeComplaint(crypto, state, session, from, message);
  if (type === 'abort') {
    const { code } = decodeAbort(message.body);
    const faulted = recordFault(session, { id: from, code, reportedBy: 'member', evidence: [] });
    return closeIfComplete(crypto, state, { ...faulted, left: new Set(session.left).add(key) });
  }
  const before = session.received.get(key) ?? (type === 'p3' ? session.uploads.get(key)?.message : undefined);
  if (before !== undefined) {
    // The same message again changes nothing; another one is refused and kept as evidence, the first one counts.
    if (equalBytes(before.body, message.body)) return nothing(state);
    const evidence = [before, withoutAttachment(message)];
    return withSession(
      state,
      recordFault(session, { id: from, code: 'PROTO_EQUIVOCATION', reportedBy: 'coordinator', evidence }),
    );
  }
  if (session.step !== 'collecting' || session.closing) return nothing(state);
  if (type === 'p3') return takeUpload(crypto, state, session, from, message);
  const answered: AggregatorSession = {
    ...session,
    received: new Map(session.received).set(key, withoutAttachment(message)),
  };
  switch (type) {
    case 'p1': {
      const keys = addFreshKeys(crypto, session, message);
      return closeIfComplete(crypto, state, { ...answered, keys });
    }
    case 'p1r': {
      const advertisement = session.cohort.advertisements[committeeRank(session, from)] as Advertisement;
      requireReveal(contextOf(crypto, state, session), session.cohort, advertisement, decodeReveal(message.body));
      return closeIfComplete(crypto, state, answered);
    }
    case 'p2': {
      const rank = rankOf(session.cohort.advertisements, from);
      const bundle = readBundle(crypto, session.cohort, toleranceOf(session.params), rank, message);
      return closeIfComplete(crypto, state, { ...answered, bundles: new Map(session.bundles).set(rank, bundle) });
    }
    case 'p4': {
      const [, h3] = readFields(message.body, [32, 32]) as [Uint8Array, Uint8Array];
      if (!equalBytes(h3, session.agreement.h3))
        throw new CoveyError('PROTO_EQUIVOCATION', '"h3" expected the survivors that were sent');
      return closeIfComplete(crypto, state, answered);
    }
    default: {
      const opened = checkOpenings(crypto, session, from, message);
      const openings = new Map(session.openings).set(key, opened);
      const coverage = session.coverage.slice();
      for (const dealer of opened.keys()) {
        const at = rankOf(session.dealers.dealers, (session.cohort.advertisements[dealer] as Advertisement).id);
        coverage[at] = (coverage[at] as number) + 1;
      }
      const step = closeIfComplete(crypto, state, { ...answered, openings, coverage });
      const persist: AggregatorEffect = { type: 'persist', record: { kind: 'reply', sid: session.sid, id: from } };
      return { ...step, effects: [persist, ...step.effects] };
    }
  }
}

/** P1: valid points, and no key that another member has already advertised. Returns all keys so far. */
function addFreshKeys(crypto: CryptoProvider, session: AggregatorSession, message: SessionMessage): Set<string> {
  const { encryptionKey, maskKey } = readAdvertisement(session.params, message.body);
  const keys = new Set(session.keys);
  for (const key of [encryptionKey, maskKey]) {
    if (!crypto.x25519IsPublicKey(key))
      throw new CoveyError('CRYPTO_POINT', '"keys" expected canonical X25519 points of large order');
    const name = toHex(key);
    if (keys.has(name)) throw new CoveyError('PROTO_COHORT', '"keys" expected keys that nobody else advertised');
    keys.add(name);
  }
  return keys;
}

/** P1R: rank of a committee member. @throws CoveyError PROTO_UNEXPECTED */
function committeeRank({ cohort }: AggregatorSession, from: Uint8Array): number {
  const rank = rankOf(cohort.advertisements, from);
  if (cohort.plan?.committee.includes(rank) !== true)
    throw new CoveyError('PROTO_UNEXPECTED', '"type" expected a reveal of a member of the committee');
  return rank;
}

/** P3: folded only when it is complete and verified; a broken upload leaves no trace. `folded` counts it. */
function takeUpload(
  crypto: CryptoProvider,
  state: AggregatorState,
  session: AggregatorSession,
  from: Uint8Array,
  message: SessionMessage,
): AggregatorStep {
  const { params, dealers } = session;
  const { h2, digest } = decodeUpload(message.body);
  if (!equalBytes(h2, dealers.h2))
    throw new CoveyError('PROTO_EQUIVOCATION', '"h2" expected the dealers that were sent');
  const { lanes } = params.ring;
  const coordinates = coordinateCount(params);
  const expected = 4 * ringWordCount(coordinates, lanes);
  if (message.attachment.length !== expected)
    throw new CoveyError('CODEC_TRUNCATED', `"vector" expected ${expected} bytes, got ${message.attachment.length}`);
  if (!equalBytes(crypto.sha256(message.attachment), digest))
    throw new CoveyError('CODEC_TYPE', '"vector" does not match its signed digest');
  const words = viewWords(message.attachment);
  if (hasStrayBits(words, coordinates, lanes, false))
    throw new CoveyError('CODEC_TYPE', '"vector" has bits outside its fields');
  const upload = {
    message: withoutAttachment(message),
    vector: params.purpose === 'census' ? message.attachment.slice() : null,
  };
  return withSession(state, { ...session, uploads: new Map(session.uploads).set(toHex(from), upload) }, [
    { type: 'fold', id: from, words, lanes },
  ]);
}

function folded(
  crypto: CryptoProvider,
  state: AggregatorState,
  session: AggregatorSession,
  id: Uint8Array,
): AggregatorStep {
  const key = toHex(id);
  const upload = session.uploads.get(key);
  if (upload === undefined || session.phase !== 'masked-input')
    throw new CoveyError('USAGE_STATE', '"folded" expected an upload that was to be folded');
  return closeIfComplete(crypto, state, { ...session, received: new Map(session.received).set(key, upload.message) });
}

/**
 * A claim that a dealer's shares are wrong. It proves that one of the two is at fault: while nobody has uploaded, the
 * session is given up and both stay out of the next attempt. Afterwards the complainer alone goes: a liar must not
 * be able to burn the charges of everybody else.
 */
function takeComplaint(
  crypto: CryptoProvider,
  state: AggregatorState,
  session: AggregatorSession,
  from: Uint8Array,
  message: SessionMessage,
): AggregatorStep {
  const { dealers, cohort, phase, uploads } = session;
  const { h1, dealer, code } = decodeComplaint(message.body);
  const possible =
    phase === 'masked-input' &&
    !uploads.has(toHex(from)) &&
    equalBytes(h1, cohort.h1) &&
    rankOf(dealers.dealers, dealer) >= 0 &&
    arePeers(cohort, rankOf(cohort.advertisements, dealer), rankOf(cohort.advertisements, from));
  if (!possible)
    throw new CoveyError(
      'PROTO_UNEXPECTED',
      '"complaint" expected a member of U2 about another dealer, before its upload',
    );
  const noted = recordFault(session, { id: from, code, reportedBy: 'member', evidence: [withoutAttachment(message)] });
  const left = new Set(session.left).add(toHex(from));
  if (uploads.size > 0) return closeIfComplete(crypto, state, { ...noted, left });
  const excluded = [from, dealer.slice()];
  return abort(crypto, state, { ...noted, left }, 'ROUND_COMPLAINT', 'a member could not open the shares of a dealer', {
    excluded,
    uploadBegun: false,
  });
}

/** A message that failed a check. A member that has already answered this phase stays, with its answer. */
function blame(
  crypto: CryptoProvider,
  state: AggregatorState,
  session: AggregatorSession,
  from: Uint8Array,
  error: CoveyError,
): AggregatorStep {
  const faulted = recordFault(session, { id: from, code: error.code, reportedBy: 'coordinator', evidence: [] });
  const key = toHex(from);
  if (session.received.has(key) || (session.phase === 'masked-input' && session.uploads.has(key)))
    return withSession(state, faulted);
  return dismiss(crypto, state, faulted, from, error.code);
}

/**
 * One step of the aggregator machine (SPEC section 4): pure, deterministic, its input stays as it is.
 * What a member sends wrongly removes that member; nothing is thrown for it. Secrets: see `stepParticipant`.
 * @throws CoveyError USAGE_* for a driver's mistake.
 */
export function stepAggregator(crypto: CryptoProvider, state: AggregatorState, event: AggregatorEvent): AggregatorStep {
  const { session } = state;
  if (event.type === 'open') return open(crypto, state, event);
  if (session === null) return nothing(state);
  if (event.type === 'reconnected') {
    const key = toHex(event.id);
    const lost = new Set(session.lost);
    lost.delete(key);
    const kept = session.outbox.get(key);
    const isDelivering = session.phase === 'masked-input' && session.step === 'collecting';
    const message =
      kept ?? (kept === null && isDelivering ? composeDelivery(crypto, state, session, event.id) : undefined);
    const missed = message?.type === 'p1r-all' ? [composeMembers(crypto, state, session), message] : [message];
    return withSession(
      state,
      { ...session, lost },
      missed.flatMap((sent): AggregatorEffect[] =>
        sent === undefined ? [] : [{ type: 'send', to: event.id, message: sent }],
      ),
    );
  }
  if (session.step === 'closed') return nothing(state);
  switch (event.type) {
    case 'message':
      try {
        return receive(crypto, state, session, event.from, event.message);
      } catch (error) {
        return blame(crypto, state, session, event.from, toFault(error));
      }
    case 'folded':
      return folded(crypto, state, session, event.id);
    case 'charged':
      return session.step === 'charging' ? askToUnmask(crypto, state, session) : nothing(state);
    case 'unmasked':
      return session.step === 'unmasking' ? publish(crypto, state, session, event.sum) : nothing(state);
    case 'deadline':
      return event.phase === session.phase && session.step === 'collecting'
        ? closePhase(crypto, state, session)
        : nothing(state);
    case 'lost':
      return closeIfComplete(crypto, state, { ...session, lost: new Set(session.lost).add(toHex(event.id)) });
  }
}

function toFault(error: unknown): CoveyError {
  return isCoveyError(error)
    ? error
    : new CoveyError('INTERNAL_INVARIANT', 'a step of the aggregator failed', {}, { cause: error });
}
