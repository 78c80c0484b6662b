import {
  type AggregatorSession,
  type AggregatorState,
  type AggregatorStep,
  abort,
  proven,
  sendTo,
  signAbort,
  withSession,
} from './aggregator-state.ts';
import { fewestOpenings, reconstructSecrets, removedComponents, unmaskSeeds } from './aggregator-unmask.ts';
import { toHex } from './bytes.ts';
import { checkAdvertisements, checkDealings, checkReveals, dealersFor, type SessionContext } from './cohort.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { type DealerBundle, encodeDelivery, withoutDelivery } from './dealer-bundle.ts';
import { CoveyError, type ErrorCode, isCoveyError } from './errors.ts';
import { hashDealers } from './key-schedule.ts';
import { type Advertisement, encodeBodies, encodeResult, type SignedBody, signList, signMessage } from './messages.ts';
import { coordinateCount } from './params.ts';
import { checkUploads } from './participant-unmask.ts';
import { hasStrayBits, wordsToBytes } from './ring.ts';
import { rankOf } from './roster.ts';
import type { AggregatorEffect, Phase, SessionMessage, SessionOutcome } from './session.ts';
import { encodeTranscript } from './transcript.ts';

export const contextOf = (
  crypto: CryptoProvider,
  { roster }: AggregatorState,
  { params, sid }: AggregatorSession,
): SessionContext => ({ crypto, roster, params, sid });

/** Signed bodies of everybody who answered this phase, in order of id. */
function answersOf({ received }: AggregatorSession): SessionMessage[] {
  return [...received.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, message]) => message);
}

const bodiesOf = (session: AggregatorSession): SignedBody[] =>
  answersOf(session).map(({ type, body, signature }) => ({ type, body, signature }));

/** Moves to the next phase with the members that go on; the others learn that the session goes on without them. */
function enter(
  crypto: CryptoProvider,
  state: AggregatorState,
  session: AggregatorSession,
  phase: Phase,
  expected: readonly Uint8Array[],
): ReturnType<typeof sendTo> {
  const staying = new Set(expected.map(toHex));
  const dropped = session.expected.filter((id) => !staying.has(toHex(id)) && !session.left.has(toHex(id)));
  const message = signAbort(crypto, state, session.sid, 'ROUND_TIMEOUT');
  return sendTo({ ...session, phase, expected, received: new Map() }, dropped, message);
}

/** Closes the phase with the answers that are there. A set that does not fit ends the session and reveals nothing. */
export function closePhase(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession): AggregatorStep {
  try {
    switch (session.phase) {
      case 'advertise':
        return closeAdvertise(crypto, state, session);
      case 'reveal':
        return closeReveal(crypto, state, session);
      case 'share-keys':
        return closeShareKeys(crypto, state, session);
      case 'masked-input':
        return closeMaskedInput(crypto, state, session);
      case 'consistency':
        return closeConsistency(state, session);
      case 'unmask':
        return closeUnmask(crypto, state, session);
    }
  } catch (error) {
    if (!isCoveyError(error)) throw error;
    const code: ErrorCode = error.code === 'PRIVACY_COHORT_TOO_SMALL' ? 'ROUND_BELOW_THRESHOLD' : error.code;
    return abort(crypto, state, session, code, `${session.phase}: ${error.message}`);
  }
}

function closeAdvertise(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession): AggregatorStep {
  const { params, sid } = session;
  const p1 = bodiesOf(session);
  const cohort = checkAdvertisements(contextOf(crypto, state, session), p1);
  const ids = cohort.advertisements.map(({ id }) => id);
  const message = composeMembers(crypto, state, { sid, p1 });
  const next: Phase = cohort.plan === null ? 'share-keys' : 'reveal';
  const told = enter(crypto, state, { ...session, cohort, p1, keys: new Set() }, next, ids);
  const sent = sendTo(told.session, ids, message);
  return withSession(state, sent.session, [
    { type: 'persist', record: { kind: 'u1', sid, ids } },
    ...told.effects,
    ...sent.effects,
    { type: 'deadline', phase: next, ms: params.deadlineMs },
  ]);
}

/**
 * The P1 list. Nobody but the committee answers it in the sparse profile, so a member that was away may lack it when the
 * reveals are out already.
 */
export function composeMembers(
  crypto: CryptoProvider,
  { identity }: AggregatorState,
  { sid, p1 }: Pick<AggregatorSession, 'sid' | 'p1'>,
): SessionMessage {
  return signList(crypto, identity.secretSeed, 'p1-all', sid, encodeBodies(p1));
}

/** Who keeps silent could choose among graphs: without the whole committee there is none, and the next attempt is without them. */
function closeReveal(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession): AggregatorStep {
  const { params, sid, received } = session;
  const committee = (session.cohort.plan?.committee ?? []).map(
    (rank) => (session.cohort.advertisements[rank] as Advertisement).id,
  );
  const silent = committee.filter((id) => !received.has(toHex(id)));
  if (silent.length > 0)
    return abort(
      crypto,
      state,
      session,
      'ROUND_REVEAL',
      `${silent.length} of ${committee.length} reveals are missing`,
      {
        excluded: silent,
      },
    );
  const reveals = bodiesOf(session);
  const cohort = checkReveals(contextOf(crypto, state, session), session.cohort, reveals);
  const ids = session.expected.filter((id) => !session.left.has(toHex(id)));
  const message = signList(crypto, state.identity.secretSeed, 'p1r-all', sid, encodeBodies(reveals));
  const told = enter(crypto, state, { ...session, cohort, reveals }, 'share-keys', ids);
  const sent = sendTo(told.session, ids, message);
  return withSession(state, sent.session, [
    ...told.effects,
    ...sent.effects,
    { type: 'deadline', phase: 'share-keys', ms: params.deadlineMs },
  ]);
}

function closeShareKeys(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession): AggregatorStep {
  const { params, sid, cohort } = session;
  const p2 = bodiesOf(session);
  const dealers = checkDealings(contextOf(crypto, state, session), cohort, p2);
  const ids = dealers.map(({ id }) => id);
  const h2 = hashDealers(
    crypto,
    sid,
    cohort.h1,
    dealers.map(({ id, root }) => [id, root]),
  );
  const told = enter(crypto, state, { ...session, dealers: { dealers, h2 }, p2 }, 'masked-input', ids);
  const outbox = new Map(told.session.outbox);
  for (const id of ids) outbox.set(toHex(id), null);
  const dealt: AggregatorSession = { ...told.session, outbox };
  const list = encodeBodies(p2);
  // Composed when it is sent: the deliveries of a large cohort never exist all at once.
  const deliveries = ids.map(
    (to): AggregatorEffect => ({
      type: 'send',
      to,
      get message() {
        return composeDelivery(crypto, state, dealt, to, list);
      },
    }),
  );
  return withSession(state, dealt, [
    { type: 'persist', record: { kind: 'u2', sid, ids } },
    ...told.effects,
    ...deliveries,
    { type: 'deadline', phase: 'masked-input', ms: params.deadlineMs },
  ]);
}

/** The P2 list for one holder: every dealer's body, and from each dealer it has shares of leaf, ciphertext and path. */
export function composeDelivery(
  crypto: CryptoProvider,
  { identity }: AggregatorState,
  { sid, cohort, dealers, bundles, p2 }: AggregatorSession,
  holder: Uint8Array,
  list: Uint8Array = encodeBodies(p2),
): SessionMessage {
  const rank = rankOf(cohort.advertisements, holder);
  const dealt: DealerBundle[] = [];
  for (const dealer of dealersFor(cohort, dealers, rank))
    if (dealer !== rank) dealt.push(bundles.get(dealer) as DealerBundle);
  return signList(crypto, identity.secretSeed, 'p2-all', sid, encodeDelivery(list, dealt, rank), holder);
}

function closeMaskedInput(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession): AggregatorStep {
  // An upload that is being folded will be part of the sum: U3 waits for it and takes no other.
  if (session.uploads.size > session.received.size) return withSession(state, { ...session, closing: true });
  const { params, sid, cohort, dealers } = session;
  const p3 = bodiesOf(session);
  const agreement = checkUploads(contextOf(crypto, state, session), cohort, dealers, p3);
  const ids = agreement.survivors.map(({ id }) => id);
  const message = signList(crypto, state.identity.secretSeed, 'p4-ask', sid, encodeBodies(p3));
  const bundles = new Map([...session.bundles].map(([dealer, bundle]) => [dealer, withoutDelivery(bundle)]));
  const told = enter(crypto, state, { ...session, p3, agreement, bundles }, 'consistency', ids);
  const sent = sendTo(told.session, ids, message);
  return withSession(state, sent.session, [
    // The set and the sum are durable together: after a crash there is never a second U3.
    { type: 'persist', record: { kind: 'u3', sid, ids } },
    ...told.effects,
    ...sent.effects,
    { type: 'deadline', phase: 'consistency', ms: params.deadlineMs },
  ]);
}

function closeConsistency(state: AggregatorState, session: AggregatorSession): AggregatorStep {
  const { params, sid, cohort, agreement } = session;
  const p4 = bodiesOf(session);
  if (p4.length < cohort.quorum)
    throw new CoveyError('ROUND_BELOW_THRESHOLD', `"signatures" expected at least ${cohort.quorum}, got ${p4.length}`);
  const survivors = agreement.survivors.map(({ id }) => id);
  // The charge is durable before anybody is asked to unmask; `charged` continues.
  const charging: AggregatorSession = { ...session, p4: p4.slice(0, cohort.quorum), step: 'charging' };
  return withSession(state, charging, [{ type: 'charge', params, sid, h3: agreement.h3, survivors }]);
}

/** The server's charge is durable: the certificate goes to every survivor. */
export function askToUnmask(
  crypto: CryptoProvider,
  state: AggregatorState,
  session: AggregatorSession,
): AggregatorStep {
  const survivors = session.agreement.survivors.map(({ id }) => id).filter((id) => !session.left.has(toHex(id)));
  const message = signList(crypto, state.identity.secretSeed, 'p5-ask', session.sid, encodeBodies(session.p4));
  const coverage = new Uint16Array(session.dealers.dealers.length);
  const told = enter(crypto, state, { ...session, step: 'collecting', coverage }, 'unmask', survivors);
  const sent = sendTo(told.session, survivors, message);
  return withSession(state, sent.session, [
    ...told.effects,
    ...sent.effects,
    { type: 'deadline', phase: 'unmask', ms: session.params.deadlineMs },
  ]);
}

function closeUnmask(crypto: CryptoProvider, state: AggregatorState, session: AggregatorSession): AggregatorStep {
  const { params, sid, cohort, dealers, agreement, openings } = session;
  const fewest = fewestOpenings(session);
  if (fewest < cohort.threshold)
    throw new CoveyError(
      'ROUND_BELOW_THRESHOLD',
      `"openings" expected at least ${cohort.threshold} for everybody, got ${fewest}`,
    );
  const { secrets, liars } = reconstructSecrets(crypto, session);
  if (liars.length > 0) {
    return abort(
      crypto,
      state,
      { ...session, secrets },
      'CRYPTO_COMMITMENT',
      'a dealer dealt shares of another secret than the one it published',
      { excluded: liars },
    );
  }
  const seeds = unmaskSeeds(crypto, sid, cohort, dealers, agreement, secrets);
  const components = removedComponents(crypto, params, sid, dealers, agreement, secrets);
  const used = [...seeds, ...components].map(({ seed }) => seed);
  const members = dealers.dealers.length;
  return {
    state: { ...state, session: { ...session, step: 'unmasking', openings: new Map(), secrets, seeds: used } },
    effects: [{ type: 'unmask', lanes: params.ring.lanes, seeds, members, components }],
    consumed: [...openings.values()].flatMap((shares) => [...shares.values()]),
  };
}

/** The sum is bare: it is checked, hashed, signed and published to the survivors. */
export function publish(
  crypto: CryptoProvider,
  state: AggregatorState,
  session: AggregatorSession,
  sum: Uint32Array,
): AggregatorStep {
  const { params, sid, cohort, dealers, agreement, faults, secrets, seeds } = session;
  if (hasStrayBits(sum, coordinateCount(params), params.ring.lanes)) {
    return abort(
      crypto,
      state,
      session,
      'CODEC_TYPE',
      '"sum" has bits outside its fields: a member masked a malformed vector',
    );
  }
  const { h3, survivors } = agreement;
  const message = signMessage(
    crypto,
    state.identity.secretSeed,
    'result',
    sid,
    encodeResult(h3, crypto.sha256(wordsToBytes(sum)), survivors.length),
  );
  const ids = survivors.map(({ id }) => id);
  const sent = sendTo(
    session,
    ids.filter((id) => !session.left.has(toHex(id))),
    message,
  );
  const outcome: SessionOutcome = {
    params,
    sid,
    h3,
    sum,
    u1: cohort.advertisements.map(({ id }) => id),
    u2: dealers.dealers.map(({ id }) => id),
    survivors: ids,
    quorum: cohort.quorum,
    transcript: encodeTranscript(session, secrets, message),
    accused: proven(faults),
    faults,
  };
  const closed: AggregatorSession = {
    ...sent.session,
    step: 'closed',
    bundles: new Map(),
    uploads: new Map(),
    secrets: [],
    seeds: [],
  };
  return {
    state: { ...state, session: closed },
    effects: [...sent.effects, { type: 'done', outcome }],
    consumed: [...secrets, ...seeds],
  };
}
