import { fromHex, toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { createParticipant, type ParticipantState, stepParticipant } from '../../protocol/participant.ts';
import { applyMasks, bytesToWords, wordsToBytes } from '../../protocol/ring.ts';
import type {
  Lanes,
  MessageType,
  ParticipantEffect,
  ParticipantEvent,
  ParticipantRecord,
  Roster,
  SessionMessage,
} from '../../protocol/session.ts';

/* Drives members of the frozen sessions. Nothing of Node, so that the same code runs in a browser. */

export interface MessageVector {
  readonly type: MessageType;
  readonly sid: string;
  readonly body: string;
  readonly signature: string;
  readonly attachment: string;
}

export interface MemberVector {
  readonly secretSeed: string;
  readonly entropy: string;
  readonly contribution: string;
  /** Seeds of removable noise, 1 to their number, that its machine must hand out with the call for its contribution. */
  readonly components?: readonly string[];
  readonly received: readonly MessageVector[];
  readonly sent: readonly MessageVector[];
}

export interface SessionVector {
  readonly lanes: Lanes;
  readonly coordinatorSeed: string;
  readonly coordinatorKey: string;
  readonly roster: {
    readonly version: number;
    readonly entries: readonly { id: string; publicKey: string; organization: string }[];
  };
  readonly members: readonly MemberVector[];
  readonly survivors: readonly string[];
  readonly sum: string;
}

/** What differs at home from the member of the frozen session. */
export interface LocalVector {
  /** Long-term seed of the node; its roster is that of the session. */
  readonly secretSeed?: string;
  /** Ids that the pinned roster revokes. */
  readonly revoked?: readonly string[];
  /** Organizations in the pinned roster, in order of its entries. */
  readonly organizations?: readonly string[];
  /** The newest session that the node has entered for the run, and whether an upload of it has begun. */
  readonly entered?: { readonly round: number; readonly attempt: number; readonly uploaded: boolean };
  /** Number of members of the census that binds the session; none of them is in U3. */
  readonly census?: number;
}

export function encodeMessageVector(message: SessionMessage): MessageVector {
  const { type, sid, body, signature, attachment } = message;
  return { type, sid: toHex(sid), body: toHex(body), signature: toHex(signature), attachment: toHex(attachment) };
}

export const decodeMessageVector = (vector: MessageVector): SessionMessage => ({
  type: vector.type,
  sid: fromHex(vector.sid),
  body: fromHex(vector.body),
  signature: fromHex(vector.signature),
  attachment: fromHex(vector.attachment),
});

export const rosterOf = ({ roster }: SessionVector, { revoked = [], organizations }: LocalVector = {}): Roster => ({
  version: roster.version,
  entries: roster.entries.map(({ id, publicKey, organization }, i) => ({
    id: fromHex(id),
    publicKey: fromHex(publicKey),
    organization: organizations?.[i] ?? organization,
  })),
  revoked: revoked.map(fromHex),
});

/** A member before P0. */
export function startMember(
  crypto: CryptoProvider,
  session: SessionVector,
  member: MemberVector,
  local: LocalVector = {},
): ParticipantState {
  const secretSeed = fromHex(local.secretSeed ?? member.secretSeed);
  const publicKey = crypto.ed25519PublicKey(secretSeed);
  const roster = rosterOf(session, local);
  const own = roster.entries.find((entry) => toHex(entry.publicKey) === toHex(publicKey));
  const records: ParticipantRecord[] = [];
  if (local.entered !== undefined) {
    const { round, attempt, uploaded } = local.entered;
    const empty = new Uint8Array(32);
    // Run and purpose of the frozen sessions.
    const position = { runId: '000102030405060708090a0b0c0d0e0f', sid: empty, round, purpose: 'train' } as const;
    records.push({ kind: 'entered', ...position, attempt });
    if (uploaded) records.push({ kind: 'uploaded', ...position, digest: empty });
  }
  return createParticipant(
    { id: own?.id ?? crypto.sha256(publicKey), publicKey, secretSeed },
    { coordinatorKey: fromHex(session.coordinatorKey), roster },
    crypto,
    records,
  );
}

/** Hands a message to a member, answers what the machine asks of its driver, and returns every effect in order. */
export function feedMember(
  crypto: CryptoProvider,
  start: ParticipantState,
  member: MemberVector,
  message: SessionMessage,
  local: LocalVector = {},
): { readonly state: ParticipantState; readonly effects: readonly ParticipantEffect[] } {
  let state = start;
  const effects: ParticipantEffect[] = [];
  const events: ParticipantEvent[] = [
    message.type === 'p0' ? { type: 'open', message, entropy: fromHex(member.entropy) } : { type: 'message', message },
  ];
  const census =
    local.census === undefined
      ? null
      : Array.from({ length: local.census }, (_, i) => Uint8Array.of(i >> 8, i, ...new Uint8Array(30)));
  for (let event = events.shift(); event !== undefined; event = events.shift()) {
    const step = stepParticipant(crypto, state, event);
    state = step.state;
    effects.push(...step.effects);
    const answers: ParticipantEvent[] = [];
    for (const effect of step.effects) {
      if (effect.type === 'authorize') answers.push({ type: 'authorized', census });
      else if (effect.type === 'contribute')
        answers.push({ type: 'contribution', words: bytesToWords(fromHex(member.contribution)) });
      else if (effect.type === 'charge') answers.push({ type: 'charged' });
      else if (effect.type === 'mask') {
        const words = effect.words.slice();
        applyMasks(words, effect.lanes, effect.seeds, crypto);
        answers.push({ type: 'masked', words, digest: crypto.sha256(wordsToBytes(words)) });
      }
    }
    events.unshift(...answers);
  }
  return { state, effects };
}
