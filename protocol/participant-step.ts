import type { CryptoProvider } from './crypto-provider.ts';
import type { ErrorCode } from './errors.ts';
import { encodeAbort, signMessage } from './messages.ts';
import type { MemberContext } from './participant-share.ts';
import {
  type ParticipantSession,
  type ParticipantState,
  type Progress,
  type RunPosition,
  secretsOf,
} from './participant-state.ts';
import type { MessageType, ParticipantEffect, SessionMessage, Step } from './session.ts';

export type ParticipantStep = Step<ParticipantState, ParticipantEffect>;

export const positionOf = ({
  round,
  purpose,
  attempt,
}: Omit<RunPosition, 'uploaded'>): Omit<RunPosition, 'uploaded'> => ({
  round,
  purpose,
  attempt,
});

export const ignore = (state: ParticipantState): ParticipantStep => ({ state, effects: [], consumed: [] });

export const contextOf = (
  crypto: CryptoProvider,
  { identity, trust }: ParticipantState,
  { params, sid }: ParticipantSession,
): MemberContext => ({
  crypto,
  identity,
  roster: trust.roster,
  params,
  sid,
});

export function advance(
  state: ParticipantState,
  session: ParticipantSession,
  progress: Progress,
  effects: readonly ParticipantEffect[],
  consumed: readonly (Uint8Array | Uint32Array)[] = [],
): ParticipantStep {
  return { state: { ...state, session: { ...session, progress } }, effects, consumed };
}

/** Remembers the answer to a coordinator message, so that the same message is answered by the same bytes. */
export const answering = (
  session: ParticipantSession,
  type: MessageType,
  answer: SessionMessage,
): ParticipantSession => ({
  ...session,
  answers: new Map(session.answers).set(type, answer),
});

export interface Ending {
  readonly code: ErrorCode;
  readonly reason: string;
  readonly accused?: readonly Uint8Array[];
  readonly evidence?: readonly SessionMessage[];
  readonly tell?: readonly SessionMessage[];
}

/** Ends a session without a result: every secret is given back to be wiped. */
export function abort(
  state: ParticipantState,
  session: ParticipantSession,
  { code, reason, accused = [], evidence = [], tell = [] }: Ending,
): ParticipantStep {
  const closed: ParticipantSession = { ...session, progress: { stage: 'closed' }, answers: new Map() };
  const effects: ParticipantEffect[] = [
    ...tell.map((message): ParticipantEffect => ({ type: 'send', message })),
    { type: 'abort', sid: session.sid, code, reason, accused, evidence },
  ];
  return { state: { ...state, session: closed }, effects, consumed: secretsOf(session.progress) };
}

/** Ends a session because of a failed check or a local refusal; the coordinator learns the code and nothing else. */
export function refuse(
  crypto: CryptoProvider,
  state: ParticipantState,
  session: ParticipantSession,
  ending: Ending,
): ParticipantStep {
  const { identity } = state;
  const message = signMessage(crypto, identity.secretSeed, 'abort', session.sid, encodeAbort(identity.id, ending.code));
  return abort(state, session, { tell: [message], ...ending });
}
