import { equalBytes } from './bytes.ts';
import { type Cohort, checkReveals } from './cohort.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError, ERROR_CODES, isCoveyError } from './errors.ts';
import type { SessionSecrets } from './key-schedule.ts';
import {
  decodeAbort,
  decodeBodies,
  decodeResult,
  encodeComplaint,
  requireBoundAttachment,
  requireSignature,
  signMessage,
  withoutAttachment,
} from './messages.ts';
import { componentCount, componentSeeds } from './noise-seeds.ts';
import { decodeParams, nodeId, requireNewer, rosterHash, sessionId } from './params.ts';
import { authorized, charged, contribution, masked } from './participant-local.ts';
import {
  AccusedError,
  Complaint,
  type MemberContext,
  reveal,
  shareKeys,
  takeCohort,
  takeShares,
} from './participant-share.ts';
import {
  type ParticipantIdentity,
  type ParticipantSession,
  type ParticipantState,
  type ParticipantTrust,
  type Progress,
  type RunPosition,
  type Stage,
  secretsOf,
} from './participant-state.ts';
import {
  abort,
  advance,
  answering,
  contextOf,
  type Ending,
  ignore,
  type ParticipantStep,
  positionOf,
  refuse,
} from './participant-step.ts';
import { agree, answerCertificate } from './participant-unmask.ts';
import { checkRoster, rankOf, requireEntry } from './roster.ts';
import type { MessageType, ParticipantEffect, ParticipantEvent, ParticipantRecord, SessionMessage } from './session.ts';

export type { ParticipantIdentity, ParticipantState, ParticipantTrust } from './participant-state.ts';

/**
 * A participant without a session. `records`: durable records of this node, oldest first; after a restart it refuses
 * every session that they say it has entered. @throws CoveyError USAGE_CONFIG
 */
export function createParticipant(
  identity: ParticipantIdentity,
  trust: ParticipantTrust,
  crypto: CryptoProvider,
  records: readonly ParticipantRecord[] = [],
): ParticipantState {
  if (
    !equalBytes(crypto.ed25519PublicKey(identity.secretSeed), identity.publicKey) ||
    !equalBytes(nodeId(crypto, identity.publicKey), identity.id)
  ) {
    throw new CoveyError('USAGE_CONFIG', '"identity" expected a public key of the secret seed and its hash as id');
  }
  checkRoster(crypto, trust.roster);
  const positions = new Map<string, RunPosition>();
  for (const record of records) {
    if (record.kind === 'entered') positions.set(record.runId, { ...positionOf(record), uploaded: false });
    else if (record.kind === 'uploaded')
      positions.set(record.runId, {
        attempt: 0,
        ...positions.get(record.runId),
        round: record.round,
        purpose: record.purpose,
        uploaded: true,
      });
  }
  return { identity, trust, positions, session: null };
}

/** P0: a session is offered. Nothing is derived or sent before the site's policy has authorized it. */
function open(
  crypto: CryptoProvider,
  state: ParticipantState,
  message: SessionMessage,
  entropy: Uint8Array,
): ParticipantStep {
  const { coordinatorKey, roster } = state.trust;
  const current = state.session;
  const params = decodeParams(message.body);
  const sid = sessionId(crypto, params);
  if (!equalBytes(sid, message.sid))
    throw new CoveyError('PROTO_UNEXPECTED', '"sid" expected the hash of the parameters');
  requireSignature(crypto, message, sid, coordinatorKey);
  if (current !== null && equalBytes(current.sid, sid)) {
    const answer = current.answers.get('p0');
    return { state, effects: answer === undefined ? [] : [{ type: 'send', message: answer }], consumed: [entropy] };
  }
  requireNewer(state.positions.get(params.runId), params);
  if (!equalBytes(params.rosterHash, rosterHash(crypto, roster)) || params.rosterVersion !== roster.version) {
    throw new CoveyError('PRIVACY_POLICY', '"rosterHash" expected the pinned roster');
  }
  requireEntry(roster, state.identity.id);
  const session: ParticipantSession = {
    params,
    sid,
    census: null,
    progress: { stage: 'authorizing', entropy: entropy.slice() },
    received: new Map([['p0', withoutAttachment(message)]]),
    answers: new Map(),
  };
  const effects: ParticipantEffect[] = [{ type: 'authorize', params, sid }];
  if (current !== null && current.progress.stage !== 'closed') {
    effects.unshift({
      type: 'abort',
      sid: current.sid,
      code: 'ROUND_TIMEOUT',
      reason: 'a newer session took its place',
      accused: [],
      evidence: [],
    });
  }
  // Accepting a session wipes every secret of an earlier one.
  return {
    state: { ...state, session },
    effects,
    consumed: [entropy, ...(current === null ? [] : secretsOf(current.progress))],
  };
}

/** Stage in which each coordinator message is expected. */
const EXPECTED: Readonly<Partial<Record<MessageType, Stage>>> = {
  'p1-all': 'advertised',
  'p1r-all': 'revealing',
  'p2-all': 'shared',
  'p4-ask': 'uploaded',
  'p5-ask': 'agreed',
  result: 'replied',
};

function receive(
  crypto: CryptoProvider,
  state: ParticipantState,
  session: ParticipantSession,
  message: SessionMessage,
): ParticipantStep {
  const { type } = message;
  requireSignature(crypto, message, session.sid, state.trust.coordinatorKey);
  if (type === 'abort') {
    // Whatever the coordinator says, to this node it is weather: its own refusals have other codes.
    const { code } = decodeAbort(message.body);
    const isWeather = ERROR_CODES[code].class === 'RoundAborted';
    return abort(state, session, {
      code: isWeather ? code : 'ROUND_TIMEOUT',
      reason: `the coordinator gave the session up (${code})`,
    });
  }
  const before = session.received.get(type);
  if (before !== undefined) {
    if (equalBytes(before.body, message.body)) {
      // Answered by the same bytes; nothing where the answer is still being made or is known to have arrived.
      const answer = session.answers.get(type);
      return answer === undefined
        ? ignore(state)
        : { state, effects: [{ type: 'send', message: answer }], consumed: [] };
    }
    const evidence = [before, withoutAttachment(message)];
    return refuse(crypto, state, session, {
      code: 'PROTO_EQUIVOCATION',
      reason: `two different ${type} messages of the coordinator`,
      evidence,
    });
  }
  const { stage } = session.progress;
  if (EXPECTED[type] !== stage)
    throw new CoveyError('PROTO_UNEXPECTED', `"type" expected a message for the stage ${stage}, got ${type}`);
  if (type !== 'result') requireBoundAttachment(crypto, message, type === 'p2-all' ? state.identity.id : undefined);
  const received = new Map(session.received).set(type, withoutAttachment(message));
  return handle(crypto, state, { ...session, received }, message);
}

function handle(
  crypto: CryptoProvider,
  state: ParticipantState,
  session: ParticipantSession,
  message: SessionMessage,
): ParticipantStep {
  const { params, sid, progress } = session;
  const context = contextOf(crypto, state, session);
  const { attachment } = message;
  switch (progress.stage) {
    case 'advertised': {
      const cohort = takeCohort(context, session.answers.get('p0') as SessionMessage, attachment);
      if (cohort.plan === null) return deal(context, state, session, progress.secrets, cohort, 'p1-all');
      const next: Progress = { stage: 'revealing', secrets: progress.secrets, cohort };
      const ownRank = rankOf(cohort.advertisements, state.identity.id);
      if (!cohort.plan.committee.includes(ownRank)) return advance(state, session, next, []);
      const answer = reveal(context, cohort, progress.secrets);
      return advance(state, answering(session, 'p1-all', answer), next, [{ type: 'send', message: answer }]);
    }
    case 'revealing': {
      const cohort = checkReveals(context, progress.cohort, decodeBodies('p1r', attachment));
      return deal(context, state, session, progress.secrets, cohort, 'p1r-all');
    }
    case 'shared': {
      const p2 = session.answers.get(progress.cohort.plan === null ? 'p1-all' : 'p1r-all') as SessionMessage;
      const { dealers, held } = takeShares(context, progress.cohort, progress.peers, progress.held, p2, attachment);
      const cohort = dealers.dealers.map(({ id }) => id);
      // The number of components and their variances follow from |U2|.
      const { noiseRoot } = progress.peers;
      const last = componentCount(params, cohort.length);
      const components = componentSeeds(crypto, sid, dealers.h2, state.identity.id, noiseRoot, 1, last);
      const noRoot = new Uint8Array(0);
      const peers = { ...progress.peers, noiseRoot: noRoot, openingKeys: new Map<number, Uint8Array>() };
      const next: Progress = { stage: 'contributing', cohort: progress.cohort, peers, held, dealers, components };
      return advance(
        state,
        session,
        next,
        [{ type: 'contribute', params, sid, cohort, components }],
        [noiseRoot, ...progress.peers.openingKeys.values()],
      );
    }
    case 'uploaded': {
      const { cohort, dealers, digest, held } = progress;
      const { agreement, message: answer } = agree(context, cohort, dealers, digest, session.census, attachment);
      // U3 names the own digest: the upload has arrived and is not sent again.
      const answers = new Map(session.answers).set('p4-ask', answer);
      answers.delete('p2-all');
      return advance(state, { ...session, answers }, { stage: 'agreed', cohort, dealers, held, agreement }, [
        { type: 'persist', record: { kind: 'agreed', runId: params.runId, sid, h3: agreement.h3 } },
        { type: 'send', message: answer },
      ]);
    }
    case 'agreed': {
      const { cohort, dealers, agreement, held } = progress;
      const answer = answerCertificate(context, cohort, dealers, agreement, held, attachment);
      const survivors = agreement.survivors.map(({ id }) => id);
      return advance(
        state,
        answering(session, 'p5-ask', answer),
        { stage: 'replied', agreement },
        [
          { type: 'settle', params, sid, h3: agreement.h3, survivors },
          { type: 'persist', record: { kind: 'replied', runId: params.runId, sid, h3: agreement.h3 } },
          { type: 'send', message: answer },
        ],
        secretsOf(progress),
      );
    }
    case 'replied': {
      const { survivors, h3 } = progress.agreement;
      const result = decodeResult(message.body);
      if (!equalBytes(result.h3, h3) || result.survivors !== survivors.length)
        throw new CoveyError('PROTO_EQUIVOCATION', '"result" expected the agreed h3');
      const done: ParticipantEffect = {
        type: 'done',
        sid,
        h3,
        survivors: survivors.map(({ id }) => id),
        sumHash: result.sumHash.slice(),
      };
      return advance(state, { ...session, answers: new Map() }, { stage: 'closed' }, [done]);
    }
    default:
      throw new CoveyError('PROTO_UNEXPECTED', `"type" expected no message in the stage ${progress.stage}`);
  }
}

/** P2, as the answer to the message that fixed who holds whose shares. */
function deal(
  context: MemberContext,
  state: ParticipantState,
  session: ParticipantSession,
  secrets: SessionSecrets,
  cohort: Cohort,
  answered: MessageType,
): ParticipantStep {
  const { held, peers, message } = shareKeys(context, secrets, cohort);
  // From here on the mask key and the polynomials exist only as shares.
  return advance(
    state,
    answering(session, answered, message),
    { stage: 'shared', cohort, peers, held },
    [{ type: 'send', message }],
    Object.values(secrets),
  );
}

/** The last message that may not have arrived, as the same bytes. */
function resend(state: ParticipantState, session: ParticipantSession): ParticipantStep {
  const last = [...session.answers.values()].at(-1);
  return last === undefined ? ignore(state) : { state, effects: [{ type: 'send', message: last }], consumed: [] };
}

function dispatch(
  crypto: CryptoProvider,
  state: ParticipantState,
  session: ParticipantSession,
  event: Exclude<ParticipantEvent, { type: 'open' }>,
): ParticipantStep {
  const { progress } = session;
  switch (event.type) {
    case 'message':
      // Messages of other sessions, replayed or late, are not even an error.
      return equalBytes(event.message.sid, session.sid)
        ? receive(crypto, state, session, event.message)
        : ignore(state);
    case 'authorized':
      return progress.stage === 'authorizing'
        ? authorized(crypto, state, { ...session, census: event.census ?? null }, progress)
        : ignore(state);
    case 'contribution':
      // A vector that comes too late is wiped unseen.
      return progress.stage === 'contributing'
        ? contribution(state, session, progress, event.words)
        : { state, effects: [], consumed: [event.words] };
    case 'charged':
      return progress.stage === 'charging' ? charged(crypto, state, session, progress) : ignore(state);
    case 'masked':
      return progress.stage === 'masking' ? masked(crypto, state, session, progress, event) : ignore(state);
    case 'refused':
      return refuse(crypto, state, session, { code: event.code, reason: event.reason });
    case 'deadline':
      return refuse(crypto, state, session, {
        code: 'PROTO_DEADLINE',
        reason: `nothing came in time in the stage ${progress.stage}`,
      });
    case 'resend':
      return resend(state, session);
  }
}

/**
 * One step of the participant machine (SPEC section 4): pure, deterministic, its input stays as it is.
 * Secrets: what the new state no longer needs is in `consumed`; no effect of the same step refers to it, so that a driver
 * may wipe it at once. Every failed check ends the session with an `abort` effect; nothing is thrown for what a peer sends.
 */
export function stepParticipant(
  crypto: CryptoProvider,
  state: ParticipantState,
  event: ParticipantEvent,
): ParticipantStep {
  const { session } = state;
  if (event.type === 'open') {
    try {
      return open(crypto, state, event.message, event.entropy);
    } catch (error) {
      // A refused offer leaves a session in progress untouched.
      const { code, message } = toFault(error);
      return {
        state,
        effects: [{ type: 'abort', sid: event.message.sid, code, reason: message, accused: [], evidence: [] }],
        consumed: [event.entropy],
      };
    }
  }
  if (session === null || session.progress.stage === 'closed')
    return { state, effects: [], consumed: event.type === 'contribution' ? [event.words] : [] };
  try {
    return dispatch(crypto, state, session, event);
  } catch (error) {
    const fault = toFault(error);
    const { code, message: reason } = fault;
    const ending: Ending = { code, reason, accused: fault instanceof AccusedError ? [fault.accused.slice()] : [] };
    if (!(fault instanceof Complaint) || session.progress.stage !== 'shared')
      return refuse(crypto, state, session, ending);
    const { identity } = state;
    const body = encodeComplaint({ id: identity.id, h1: session.progress.cohort.h1, dealer: fault.accused, code });
    return abort(state, session, {
      ...ending,
      tell: [signMessage(crypto, identity.secretSeed, 'complaint', session.sid, body)],
    });
  }
}

/** Whatever goes wrong inside a step ends the session; a fault of this program is named as one. */
function toFault(error: unknown): CoveyError {
  return isCoveyError(error)
    ? error
    : new CoveyError('INTERNAL_INVARIANT', 'a step of the participant failed', {}, { cause: error });
}
