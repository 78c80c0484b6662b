import { decodeParts, encodeParts, equalBytes, toHex, utf8 } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError, type ErrorCode, isCoveyError } from './errors.ts';
import { hashDealers, hashUploads, pairMaskSeed, pairSign, requireFit, selfMaskSeed } from './key-schedule.ts';
import { decodeAdvertisement, encodeBodies, readFields, requireSignature, signList, signMessage, type SignedBody } from './messages.ts';
import { coordinateCount, encodeParams, sessionId } from './params.ts';
import { type Dealer, checkAdvertisements, encodeDelivery, encodeResult, rankOf, readDealerBundle } from './participant-phases.ts';
import { bytesToWords, hasStrayBits, ringWordCount, wordsToBytes } from './ring.ts';
import type { AggregatorEffect, AggregatorEvent, MaskSeed, Phase, Roster, SessionMessage, Step } from './session.ts';
import { type AggregatorSession, type MemberOpenings, checkOpenings, reconstructSecrets } from './aggregator-unmask.ts';
import { encodeTranscript } from './transcript.ts';

/** Keys of the coordinator. Secrets: `secretSeed` signs every coordinator message. */
export interface CoordinatorIdentity {
  readonly publicKey: Uint8Array;
  readonly secretSeed: Uint8Array;
}

export interface AggregatorState {
  readonly identity: CoordinatorIdentity;
  readonly roster: Roster;
  readonly session: AggregatorSession | null;
}

type AggregatorStep = Step<AggregatorState, AggregatorEffect>;

export function createAggregator(identity: CoordinatorIdentity, roster: Roster): AggregatorState {
  return { identity, roster, session: null };
}

const nothing = (state: AggregatorState): AggregatorStep => ({ state, effects: [], consumed: [] });

const withSession = (state: AggregatorState, session: AggregatorSession, effects: readonly AggregatorEffect[]): AggregatorStep => ({
  state: { ...state, session },
  effects,
  consumed: [],
});

/** Sends a message to members and remembers it as what a returning member is missing. */
function sendTo(session: AggregatorSession, ids: readonly Uint8Array[], messageFor: (id: Uint8Array) => SessionMessage): { session: AggregatorSession; effects: AggregatorEffect[] } {
  const outbox = new Map(session.outbox);
  const effects = ids.map((to): AggregatorEffect => {
    const message = messageFor(to);
    outbox.set(toHex(to), message);
    return { type: 'send', to, message };
  });
  return { session: { ...session, outbox }, effects };
}

function open(crypto: CryptoProvider, state: AggregatorState, event: Extract<AggregatorEvent, { type: 'open' }>): AggregatorStep {
  const { params, attachment, invited } = event;
  const sid = sessionId(crypto, params);
  const message = signMessage(crypto, state.identity.secretSeed, 'p0', sid, encodeParams(params), attachment);
  const session: AggregatorSession = {
    params,
    sid,
    phase: 'advertise',
    opening: message,
    expected: invited,
    received: new Map(),
    lost: new Set(),
    outbox: new Map(),
    advertisements: [],
    p1: [],
    threshold: 0,
    h1: null,
    dealers: [],
    p2: [],
    bundles: new Map(),
    h2: null,
    p3: [],
    survivors: [],
    uploads: new Map(),
    h3: null,
    p4: [],
    openings: new Map(),
    secrets: null,
    accused: [],
    closed: false,
  };
  const sent = sendTo(session, invited, () => message);
  return withSession(state, sent.session, [...sent.effects, { type: 'deadline', phase: 'advertise', ms: params.deadlineMs }]);
}

function abort(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession, code: ErrorCode, reason: string, excluded: readonly Uint8Array[] = []): AggregatorStep {
  const { params, sid, phase } = session;
  const body = encodeParts([utf8(code), utf8(reason)]);
  const message = signMessage(crypto, state.identity.secretSeed, 'abort', sid, body);
  const members = [...session.outbox.keys()];
  const effects: AggregatorEffect[] = session.expected.filter((id) => members.includes(toHex(id))).map((to) => ({ type: 'send', to, message }));
  // Once the shares were delivered a member may have begun to upload: the round number is spent.
  const uploadBegun = phase === 'masked-input' || phase === 'consistency' || phase === 'unmask';
  return withSession(state, { ...session, closed: true, uploads: new Map(), bundles: new Map(), secrets: null }, [
    ...effects,
    { type: 'abort', outcome: { params, sid, phase, code, reason, uploadBegun, excluded } },
  ]);
}

/** Members that answered this phase, in order of id. */
function answeredMessages(session: AggregatorSession): { id: Uint8Array; message: SessionMessage }[] {
  return [...session.received.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
}

function isComplete(session: AggregatorSession): boolean {
  // Consistency and unmasking need t answers, not all: a member lost after its upload does not delay the others.
  if (session.phase === 'consistency' || session.phase === 'unmask') return session.received.size >= session.threshold;
  return session.expected.every((id) => session.received.has(toHex(id)) || session.lost.has(toHex(id)));
}

/** True if the phase can no longer reach its threshold. */
function isHopeless(session: AggregatorSession): boolean {
  return session.expected.every((id) => session.received.has(toHex(id)) || session.lost.has(toHex(id))) && !isComplete(session);
}

function closeIfComplete(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession): AggregatorStep {
  if (isComplete(session)) return closePhase(crypto, state, session);
  if (isHopeless(session)) return abort(crypto, state, session, 'ROUND_BELOW_THRESHOLD', `${session.phase}: ${session.received.size} answers, ${session.threshold} needed`);
  return withSession(state, session, []);
}

function closePhase(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession): AggregatorStep {
  try {
    switch (session.phase) {
      case 'advertise':
        return closeAdvertise(crypto, state, session);
      case 'share-keys':
        return closeShareKeys(crypto, state, session);
      case 'masked-input':
        return closeMaskedInput(crypto, state, session);
      case 'consistency':
        return closeConsistency(crypto, state, session);
      case 'unmask':
        return closeUnmask(crypto, state, session);
    }
  } catch (error) {
    if (!isCoveyError(error)) throw error;
    const code = error.code === 'PRIVACY_COHORT_TOO_SMALL' ? 'ROUND_BELOW_THRESHOLD' : error.code;
    return abort(crypto, state, session, code, `${session.phase}: ${error.message}`);
  }
}

/** Moves to the next phase with the members that go on; the rest learn that the session goes on without them. */
function enter(session: AggregatorSession, phase: Phase, expected: readonly Uint8Array[]): AggregatorSession {
  const lost = new Set([...session.lost].filter((id) => expected.some((e) => toHex(e) === id)));
  return { ...session, phase, expected, received: new Map(), lost };
}

function closeAdvertise(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession): AggregatorStep {
  const { params, sid } = session;
  const p1 = answeredMessages(session).map(({ message }) => message);
  const context = { crypto, identity: { id: state.identity.publicKey, secretSeed: state.identity.secretSeed }, roster: state.roster, params, sid };
  const { advertisements, threshold, h1 } = checkAdvertisements(context, p1);
  const ids = advertisements.map(({ id }) => id);
  const message = signList(crypto, state.identity.secretSeed, 'p1-all', sid, encodeBodies(p1));
  const next = enter({ ...session, advertisements, p1, threshold, h1 }, 'share-keys', ids);
  const sent = sendTo(next, ids, () => message);
  return withSession(state, sent.session, [
    { type: 'persist', record: { kind: 'u1', sid, ids } },
    ...sent.effects,
    { type: 'deadline', phase: 'share-keys', ms: params.deadlineMs },
  ]);
}

function closeShareKeys(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession): AggregatorStep {
  const { params, sid, advertisements, threshold, bundles } = session;
  const answers = answeredMessages(session);
  const p2 = answers.map(({ message }) => message);
  const ids = answers.map(({ id }) => id);
  requireFit(state.roster, params, ids, threshold);
  const dealers: Dealer[] = p2.map(({ body }) => {
    const [id, , root] = readFields(body, [32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array];
    return { id, root };
  });
  const h2 = hashDealers(crypto, sid, session.h1 as Uint8Array, dealers.map(({ id, root }) => [id, root]));
  const next = enter({ ...session, dealers, p2, h2 }, 'masked-input', ids);
  const sent = sendTo(next, ids, (holder) => {
    const rank = rankOf(advertisements, holder);
    const entries = dealers
      .filter(({ id }) => !equalBytes(id, holder))
      .map(({ id }) => {
        const bundle = bundles.get(toHex(id));
        if (bundle === undefined) throw new CoveyError('INTERNAL_INVARIANT', 'a dealer without its shares');
        return { leaf: bundle.leaves[rank] as Uint8Array, ciphertext: bundle.ciphertexts[rank] as Uint8Array, proof: bundle.proofs[rank] as Uint8Array[] };
      });
    return signList(crypto, state.identity.secretSeed, 'p2-all', sid, encodeDelivery(p2, entries));
  });
  return withSession(state, sent.session, [
    { type: 'persist', record: { kind: 'u2', sid, ids } },
    ...sent.effects,
    { type: 'deadline', phase: 'masked-input', ms: params.deadlineMs },
  ]);
}

function closeMaskedInput(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession): AggregatorStep {
  const { params, sid, threshold } = session;
  const answers = answeredMessages(session);
  const ids = answers.map(({ id }) => id);
  requireFit(state.roster, params, ids, threshold);
  // The vectors are folded; what stays are the signed digests.
  const p3: SignedBody[] = answers.map(({ message: { type, body, signature } }) => ({ type, body, signature }));
  const survivors = p3.map(({ body }) => {
    const [id, , digest] = readFields(body, [32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array];
    return { id, digest };
  });
  const h3 = hashUploads(crypto, sid, session.h2 as Uint8Array, survivors.map(({ id, digest }) => [id, digest]));
  const message = signList(crypto, state.identity.secretSeed, 'p4-ask', sid, encodeBodies(p3));
  const next = enter({ ...session, p3, survivors, h3, bundles: stripCiphertexts(session) }, 'consistency', ids);
  const sent = sendTo(next, ids, () => message);
  return withSession(state, sent.session, [
    { type: 'persist', record: { kind: 'u3', sid, ids } },
    ...sent.effects,
    { type: 'deadline', phase: 'consistency', ms: params.deadlineMs },
  ]);
}

/** Commitments are needed to check openings; ciphertexts and paths are delivered. */
function stripCiphertexts(session: AggregatorSession): AggregatorSession['bundles'] {
  return new Map([...session.bundles].map(([id, { leaves }]) => [id, { leaves, ciphertexts: [], proofs: [] }]));
}

function closeConsistency(_crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession): AggregatorStep {
  const { params, sid, threshold, h3 } = session;
  const p4 = answeredMessages(session).map(({ message }) => message);
  if (p4.length < threshold) throw new CoveyError('ROUND_BELOW_THRESHOLD', `"signatures" expected at least ${threshold}, got ${p4.length}`);
  const survivors = session.survivors.map(({ id }) => id);
  // The charge is durable before anybody is asked to unmask; `charged` continues.
  return withSession(state, { ...enter(session, 'unmask', survivors), p4 }, [{ type: 'charge', params, sid, h3: h3 as Uint8Array, survivors }]);
}

function askToUnmask(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession): AggregatorStep {
  if (session.phase !== 'unmask' || session.outboxPhase === 'unmask') return nothing(state);
  const message = signList(crypto, state.identity.secretSeed, 'p5-ask', session.sid, encodeBodies(session.p4));
  const sent = sendTo({ ...session, outboxPhase: 'unmask' }, session.expected, () => message);
  return withSession(state, sent.session, [...sent.effects, { type: 'deadline', phase: 'unmask', ms: session.params.deadlineMs }]);
}

function closeUnmask(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession): AggregatorStep {
  const { params, sid, survivors, dealers, advertisements, h2 } = session;
  if (session.openings.size < session.threshold) throw new CoveyError('ROUND_BELOW_THRESHOLD', `"openings" expected at least ${session.threshold}, got ${session.openings.size}`);
  const secrets = reconstructSecrets(crypto, session);
  if (secrets.liar !== null) {
    // Valid openings that do not give the committed secret prove that the dealer dealt inconsistent shares.
    return abort(crypto, state, session, 'CRYPTO_COMMITMENT', 'a dealer dealt shares of another secret than it committed to', [secrets.liar]);
  }
  const seeds: MaskSeed[] = [];
  for (const { id } of survivors) {
    const selfSeed = secrets.selfSeeds.get(toHex(id)) as Uint8Array;
    seeds.push({ seed: selfMaskSeed(crypto, selfSeed, sid, h2 as Uint8Array, id), sign: -1 });
  }
  for (const { id } of dealers) {
    const maskSecret = secrets.maskSecrets.get(toHex(id));
    if (maskSecret === undefined) continue;
    for (const survivor of survivors) {
      const peer = advertisements[rankOf(advertisements, survivor.id)];
      if (peer === undefined) throw new CoveyError('INTERNAL_INVARIANT', 'a survivor without keys');
      const seed = pairMaskSeed(crypto, maskSecret, peer.maskKey, sid, h2 as Uint8Array, id, survivor.id);
      // The survivor added its side of the pair; take it off again.
      seeds.push({ seed, sign: pairSign(survivor.id, id) === 1 ? -1 : 1 });
    }
  }
  return {
    state: { ...state, session: { ...session, secrets } },
    effects: [{ type: 'unmask', lanes: params.ring.lanes, seeds }],
    consumed: seeds.map(({ seed }) => seed),
  };
}

function unmasked(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession, sum: Uint32Array): AggregatorStep {
  const { params, sid, h3, survivors, secrets } = session;
  if (secrets === null || h3 === null) return nothing(state);
  if (hasStrayBits(sum, coordinateCount(params), params.ring.lanes)) {
    return abort(crypto, state, session, 'INTERNAL_INVARIANT', 'the unmasked sum has bits outside its fields');
  }
  const sumHash = crypto.sha256(wordsToBytes(sum));
  const message = signMessage(crypto, state.identity.secretSeed, 'result', sid, encodeResult(h3, sumHash, survivors.length));
  const ids = survivors.map(({ id }) => id);
  const sent = sendTo(session, ids, () => message);
  const transcript = params.purpose === 'census' ? encodeTranscript(session, secrets, message) : new Uint8Array(0);
  const outcome = {
    params,
    sid,
    h3,
    sum,
    u1: session.advertisements.map(({ id }) => id),
    u2: session.dealers.map(({ id }) => id),
    survivors: ids,
    transcript,
    accused: session.accused,
  };
  const consumed = [...secrets.selfSeeds.values(), ...secrets.maskSecrets.values()];
  return { state: { ...state, session: { ...sent.session, closed: true, secrets: null, uploads: new Map() } }, effects: [...sent.effects, { type: 'done', outcome }], consumed };
}

const PHASE_OF: Readonly<Record<string, Phase>> = { p1: 'advertise', p2: 'share-keys', p3: 'masked-input', p4: 'consistency', p5: 'unmask' };

function receive(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession, from: Uint8Array, message: SessionMessage): AggregatorStep {
  const entry = state.roster.entries.find(({ id }) => equalBytes(id, from));
  if (entry === undefined || !equalBytes(message.sid, session.sid)) return nothing(state);
  requireSignature(crypto, message, session.sid, entry.publicKey);
  const [claimed] = decodeParts(message.body);
  if (claimed === undefined || !equalBytes(claimed, from)) throw new CoveyError('PROTO_UNEXPECTED', '"id" expected the sender');
  if (message.type === 'complaint') return takeComplaint(crypto, state, session, from, message);
  const key = toHex(from);
  // Late, early and repeated messages change nothing; a late upload is discarded unread.
  if (PHASE_OF[message.type] !== session.phase || !session.expected.some((id) => equalBytes(id, from))) return nothing(state);
  const before = session.received.get(key);
  if (before !== undefined) {
    if (equalBytes(before.message.body, message.body)) return nothing(state);
    return withSession(state, { ...session, accused: [...session.accused, from] }, []);
  }
  const received = new Map(session.received).set(key, { id: from, message });
  switch (message.type) {
    case 'p1':
      decodeAdvertisement(message.body);
      return closeIfComplete(crypto, state, { ...session, received });
    case 'p2': {
      const [, h1, root] = readFields(message.body, [32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array];
      if (!equalBytes(h1, session.h1 as Uint8Array)) throw new CoveyError('PROTO_EQUIVOCATION', '"h1" expected the list that was sent');
      const bundle = readDealerBundle(crypto, session.advertisements.length, root, message.attachment);
      const light = { ...message, attachment: new Uint8Array(0) };
      return closeIfComplete(crypto, state, { ...session, received: new Map(session.received).set(key, { id: from, message: light }), bundles: new Map(session.bundles).set(key, bundle) });
    }
    case 'p3':
      return takeUpload(crypto, state, session, from, message);
    case 'p4': {
      const [, h3] = readFields(message.body, [32, 32]) as [Uint8Array, Uint8Array];
      if (!equalBytes(h3, session.h3 as Uint8Array)) throw new CoveyError('PROTO_EQUIVOCATION', '"h3" expected the survivors that were sent');
      return closeIfComplete(crypto, state, { ...session, received });
    }
    default: {
      if (session.outboxPhase !== 'unmask' || session.secrets !== null) return nothing(state);
      const openings: MemberOpenings = checkOpenings(crypto, session, from, message);
      const next = { ...session, received, openings: new Map(session.openings).set(key, openings) };
      const step = closeIfComplete(crypto, state, next);
      return { ...step, effects: [{ type: 'persist', record: { kind: 'reply', sid: session.sid, id: from } }, ...step.effects] };
    }
  }
}

function takeUpload(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession, from: Uint8Array, message: SessionMessage): AggregatorStep {
  const { params } = session;
  const [, h2, digest] = readFields(message.body, [32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array];
  if (!equalBytes(h2, session.h2 as Uint8Array)) throw new CoveyError('PROTO_EQUIVOCATION', '"h2" expected the dealers that were sent');
  const coordinates = coordinateCount(params);
  const expected = 4 * ringWordCount(coordinates, params.ring.lanes);
  if (message.attachment.length !== expected) throw new CoveyError('CODEC_TRUNCATED', `"vector" expected ${expected} bytes, got ${message.attachment.length}`);
  if (!equalBytes(crypto.sha256(message.attachment), digest)) throw new CoveyError('CODEC_TYPE', '"vector" does not match its signed digest');
  const words = bytesToWords(message.attachment);
  if (hasStrayBits(words, coordinates, params.ring.lanes, false)) throw new CoveyError('CODEC_TYPE', '"vector" has bits outside its fields');
  const key = toHex(from);
  if (session.uploads.has(key)) return nothing(state);
  // Folded only now that it is complete and verified: a broken upload leaves no trace. `folded` counts it.
  const light = { ...message, attachment: new Uint8Array(0) };
  // Members recompute the sum of a census, which is small; other vectors are not kept beyond the sum.
  const uploads = new Map(session.uploads).set(key, { message: light, vector: params.purpose === 'census' ? message.attachment.slice() : null });
  return withSession(state, { ...session, uploads }, [{ type: 'fold', id: from, words, lanes: params.ring.lanes }]);
}

function folded(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession, id: Uint8Array): AggregatorStep {
  const upload = session.uploads.get(toHex(id));
  if (upload === undefined || session.phase !== 'masked-input') throw new CoveyError('INTERNAL_INVARIANT', 'folded an upload that was not asked for');
  return closeIfComplete(crypto, state, { ...session, received: new Map(session.received).set(toHex(id), { id, message: upload.message }) });
}

/** A proof that one of a pair is at fault: the session is given up, both stay out of the next. */
function takeComplaint(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession, from: Uint8Array, message: SessionMessage): AggregatorStep {
  const [, , dealer] = decodeParts(message.body, 4) as [Uint8Array, Uint8Array, Uint8Array];
  const known = rankOf(session.dealers, dealer) >= 0 && rankOf(session.dealers, from) >= 0;
  if (session.phase !== 'masked-input' || !known) return nothing(state);
  return abort(crypto, state, session, 'ROUND_COMPLAINT', 'a member could not open the shares of a dealer', [from, dealer.slice()]);
}

/**
 * One step of the aggregator machine (SPEC section 4): pure, deterministic, its input stays as it is.
 * What a member sends wrongly is ignored or accuses that member; nothing is thrown for it.
 */
export function stepAggregator(crypto: CryptoProvider, state: AggregatorState, event: AggregatorEvent): AggregatorStep {
  const session = state.session;
  if (event.type === 'open') return open(crypto, state, event);
  if (session === null) return nothing(state);
  if (event.type === 'reconnected') {
    const message = session.outbox.get(toHex(event.id));
    return message === undefined ? nothing(state) : { state, effects: [{ type: 'send', to: event.id, message }], consumed: [] };
  }
  if (session.closed) return nothing(state);
  switch (event.type) {
    case 'message':
      try {
        return receive(crypto, state, session, event.from, event.message);
      } catch (error) {
        if (!isCoveyError(error) || error.code === 'INTERNAL_INVARIANT') throw error;
        // The member's message is void; the session goes on without it if it can.
        const accused = [...session.accused, event.from];
        return closeIfComplete(crypto, state, { ...session, accused, lost: new Set(session.lost).add(toHex(event.from)) });
      }
    case 'folded':
      return folded(crypto, state, session, event.id);
    case 'charged':
      return askToUnmask(crypto, state, session);
    case 'unmasked':
      return unmasked(crypto, state, session, event.sum);
    case 'deadline':
      return event.phase === session.phase ? closePhase(crypto, state, session) : nothing(state);
    case 'lost':
      if (session.phase === 'unmask' && session.secrets !== null) return nothing(state);
      return closeIfComplete(crypto, state, { ...session, lost: new Set(session.lost).add(toHex(event.id)) });
  }
}
