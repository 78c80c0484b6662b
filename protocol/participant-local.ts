import { encodeParts } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import { expandEntropy } from './key-schedule.ts';
import { signMessage } from './messages.ts';
import { coordinateCount } from './params.ts';
import { advertise, prepareMask } from './participant-share.ts';
import {
  type ParticipantSession,
  type ParticipantState,
  type Progress,
  peerSecretsOf,
  type Stage,
} from './participant-state.ts';
import { advance, answering, contextOf, type ParticipantStep, positionOf } from './participant-step.ts';
import { hasStrayBits, ringWordCount, wordsToBytes } from './ring.ts';
import type { ParticipantEffect, ParticipantEvent } from './session.ts';

type At<S extends Stage> = Extract<Progress, { stage: S }>;

export function authorized(
  crypto: CryptoProvider,
  state: ParticipantState,
  session: ParticipantSession,
  { entropy }: At<'authorizing'>,
): ParticipantStep {
  const { params, sid } = session;
  const secrets = expandEntropy(crypto, entropy, sid);
  const message = advertise(contextOf(crypto, state, session), secrets);
  const position = positionOf(params);
  const positions = new Map(state.positions).set(params.runId, { ...position, uploaded: false });
  return advance(
    { ...state, positions },
    answering(session, 'p0', message),
    { stage: 'advertised', secrets },
    [
      // Durable before P1 leaves: the same (round, purpose, attempt) is never entered again.
      { type: 'persist', record: { kind: 'entered', runId: params.runId, sid, ...position } },
      { type: 'send', message },
    ],
    [entropy],
  );
}

export function contribution(
  state: ParticipantState,
  session: ParticipantSession,
  progress: At<'contributing'>,
  words: Uint32Array,
): ParticipantStep {
  const { params, sid } = session;
  const coordinates = coordinateCount(params);
  const expected = ringWordCount(coordinates, params.ring.lanes);
  if (words.length !== expected || hasStrayBits(words, coordinates, params.ring.lanes)) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"contribution" expected ${expected} halves without bits outside its fields, got ${words.length}`,
    );
  }
  // Write-ahead: the worst accepted case is reserved before any byte of the upload can leave.
  const charge: ParticipantEffect = { type: 'charge', params, sid, survivors: params.minSurvivors };
  const { cohort, dealers, held, peers, components } = progress;
  return advance(
    state,
    session,
    { stage: 'charging', cohort, dealers, held, peers, words: words.slice() },
    [charge],
    [words, ...components.map(({ seed }) => seed)],
  );
}

export function charged(
  crypto: CryptoProvider,
  state: ParticipantState,
  session: ParticipantSession,
  progress: At<'charging'>,
): ParticipantStep {
  const { cohort, dealers, held, peers, words } = progress;
  const seeds = prepareMask(contextOf(crypto, state, session), cohort, dealers, peers);
  return advance(
    state,
    session,
    { stage: 'masking', cohort, dealers, held, words, seeds },
    [{ type: 'mask', words, lanes: session.params.ring.lanes, seeds }],
    peerSecretsOf(peers),
  );
}

export function masked(
  crypto: CryptoProvider,
  state: ParticipantState,
  session: ParticipantSession,
  progress: At<'masking'>,
  event: Extract<ParticipantEvent, { type: 'masked' }>,
): ParticipantStep {
  const { sid, params } = session;
  const { cohort, dealers, held, words, seeds } = progress;
  const { digest } = event;
  const { runId, round, purpose } = params;
  const body = encodeParts([state.identity.id, dealers.h2, digest]);
  const message = signMessage(crypto, state.identity.secretSeed, 'p3', sid, body, wordsToBytes(event.words));
  const position = state.positions.get(runId);
  const positions =
    position === undefined ? state.positions : new Map(state.positions).set(runId, { ...position, uploaded: true });
  return advance(
    { ...state, positions },
    answering(session, 'p2-all', message),
    { stage: 'uploaded', cohort, dealers, held, digest },
    [
      { type: 'persist', record: { kind: 'uploaded', runId, sid, round, purpose, digest } },
      { type: 'send', message },
    ],
    // The driver may have masked in place: then x is gone already and the buffer is the upload.
    [...(words.buffer === event.words.buffer ? [] : [words]), ...seeds.map(({ seed }) => seed)],
  );
}
