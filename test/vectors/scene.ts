import { nodeCrypto } from '../../platform/node/crypto.ts';
import { compareBytes, decodeParts, encodeParts, equalBytes, hashParts, toHex, utf8 } from '../../protocol/bytes.ts';
import { arePeers, type Cohort, holdersOf } from '../../protocol/cohort.ts';
import type { ErrorCode } from '../../protocol/errors.ts';
import { LABELS } from '../../protocol/labels.ts';
import { inclusionProofs } from '../../protocol/merkle.ts';
import { encodeBodies, type SignedBody, signList, signMessage } from '../../protocol/messages.ts';
import { encodeParams, rosterHash } from '../../protocol/params.ts';
import type { ParticipantState } from '../../protocol/participant.ts';
import { rankOf } from '../../protocol/roster.ts';
import type { MessageType, SessionMessage, SessionParams } from '../../protocol/session.ts';
import type { World } from '../support/session-world.ts';
import type { AlteredVector, RefusalVector } from './refusals.ts';
import {
  decodeMessageVector,
  feedMember,
  type LocalVector,
  type MemberVector,
  rosterOf,
  type SessionVector,
  startMember,
} from './replay.ts';

/* What the writers of refusals share: the frozen session, its keys, and the form in which an altered message is kept. */

const crypto = nodeCrypto;
const NOTHING = new Uint8Array(0);

export type Signed = Pick<SignedBody, 'body' | 'signature'>;

/** A frozen session and the world that it was recorded in. */
export interface Scene {
  readonly session: RefusalVector['session'];
  readonly vector: SessionVector;
  readonly world: World;
  readonly sid: Uint8Array;
}

export const bytesOf = (name: string): Uint8Array => hashParts(crypto, utf8('covey/1 refusals'), utf8(name));

/** Long-term seed of a node that no roster holds. */
export const STRANGER_SEED: Uint8Array = bytesOf('stranger');

const BLOCK = 12;

/** Pieces of `altered`: hex, or `offset:length` of the frozen bytes. */
function piecesOf(frozen: Uint8Array, altered: Uint8Array): string {
  const places = new Map<string, number[]>();
  for (let at = 0; at + BLOCK <= frozen.length; at++) {
    const key = toHex(frozen.subarray(at, at + BLOCK));
    places.set(key, [...(places.get(key) ?? []), at]);
  }
  const pieces: string[] = [];
  let fresh = '';
  const flush = (): void => {
    if (fresh !== '') pieces.push(fresh);
    fresh = '';
  };
  for (let at = 0; at < altered.length; ) {
    let [from, length] = [0, 0];
    for (const place of places.get(toHex(altered.subarray(at, at + BLOCK))) ?? []) {
      let same = 0;
      while (place + same < frozen.length && at + same < altered.length && frozen[place + same] === altered[at + same])
        same++;
      if (same > length) [from, length] = [place, same];
    }
    if (length < BLOCK) {
      fresh += toHex(altered.subarray(at, at + 1));
      at += 1;
      continue;
    }
    flush();
    pieces.push(`${from}:${length}`);
    at += length;
  }
  flush();
  return pieces.join(' ');
}

/** An altered message beside the frozen one of its type, or the last one. */
function alter(frozen: readonly SessionMessage[], message: SessionMessage): AlteredVector {
  const same = frozen.findIndex(({ type }) => type === message.type);
  const of = same < 0 ? frozen.length - 1 : same;
  const from = frozen[of] as SessionMessage;
  return {
    of,
    ...(message.type === from.type ? {} : { type: message.type }),
    ...(equalBytes(message.sid, from.sid) ? {} : { sid: toHex(message.sid) }),
    ...(equalBytes(message.body, from.body) ? {} : { body: piecesOf(from.body, message.body) }),
    ...(equalBytes(message.attachment, from.attachment)
      ? {}
      : { attachment: piecesOf(from.attachment, message.attachment) }),
    ...(equalBytes(message.signature, from.signature) ? {} : { signature: toHex(message.signature) }),
  };
}

export interface Details {
  readonly after?: number;
  readonly accused?: readonly Uint8Array[];
  readonly answer?: RefusalVector['answer'];
  readonly local?: LocalVector;
  readonly phase?: MessageType;
}

export interface Collector {
  readonly refusals: RefusalVector[];
  /** What the member received, or sent where the coordinator refuses. */
  readonly frozen: readonly SessionMessage[];
  own(type: MessageType): SessionMessage;
  indexOf(type: MessageType): number;
  add(
    check: string,
    altered: string,
    messages: SessionMessage | readonly SessionMessage[],
    code: ErrorCode | 'ignored',
    details?: Details,
  ): void;
}

/** Collects the refusals of one side and one member. */
export function collect(scene: Scene, by: RefusalVector['by'], member: number): Collector {
  const own = scene.vector.members[member] as MemberVector;
  const frozen = (by === 'member' ? own.received : own.sent).map(decodeMessageVector);
  const refusals: RefusalVector[] = [];
  const indexOf = (type: MessageType): number => frozen.findIndex((message) => message.type === type);
  const id = idOf(scene, member);
  return {
    refusals,
    frozen,
    own: (type: MessageType): SessionMessage => frozen[indexOf(type)] as SessionMessage,
    indexOf,
    add(check, altered, messages, code, { after, accused, answer, local, phase } = {}) {
      const list = (Array.isArray(messages) ? messages : [messages]) as readonly SessionMessage[];
      const [first] = list as [SessionMessage];
      const upward = phase ?? first.type;
      const silent = code === 'ignored' || (by === 'member' && first.type === 'p0' && list.length === 1);
      refusals.push({
        by,
        session: scene.session,
        member,
        check,
        altered,
        ...(local === undefined ? {} : { local }),
        ...(by === 'coordinator' ? { phase: upward } : {}),
        after: after ?? indexOf(by === 'coordinator' ? upward : first.type),
        messages: list.map((message) => alter(frozen, message)),
        code,
        accused: (accused ?? (by === 'coordinator' && code !== 'ignored' ? [id] : [])).map(toHex),
        answer: answer ?? (silent ? 'nothing' : 'abort'),
      });
    },
  };
}

export const idOf = ({ world }: Scene, member: number): Uint8Array =>
  (world.members[member] as World['members'][number]).id;

export const rankIn = ({ world }: Scene, id: Uint8Array): number => rankOf(world.members, id);

/** Signed by a member of the scene. */
export function signAs(
  { world, sid }: Scene,
  member: number,
  type: MessageType,
  body: Uint8Array,
  attachment: Uint8Array = NOTHING,
): SessionMessage {
  const { secretSeed } = world.members[member] as World['members'][number];
  return signMessage(crypto, secretSeed, type, sid, body, attachment);
}

/** Signed by the coordinator, body and attachment as they are given. */
export const say = (
  { world, sid }: Scene,
  type: MessageType,
  body: Uint8Array,
  attachment: Uint8Array = NOTHING,
): SessionMessage => signMessage(crypto, world.coordinator.secretSeed, type, sid, body, attachment);

/** A list message of the coordinator. */
export const tell = (
  { world, sid }: Scene,
  type: MessageType,
  attachment: Uint8Array,
  recipient: Uint8Array = NOTHING,
): SessionMessage => signList(crypto, world.coordinator.secretSeed, type, sid, attachment, recipient);

export const tellBodies = (scene: Scene, type: MessageType, entries: readonly Signed[]): SessionMessage =>
  tell(scene, type, encodeBodies(entries));

/** P0 with another body, under the sid of that body. */
export function offer({ world }: Scene, frozen: SessionMessage, body: Uint8Array): SessionMessage {
  const sid = hashParts(crypto, utf8(LABELS.session), body);
  return signMessage(crypto, world.coordinator.secretSeed, 'p0', sid, body, frozen.attachment);
}

/** P0 with other parameters, for the roster that the node pins. */
export function offerParams(
  scene: Scene,
  frozen: SessionMessage,
  changes: Partial<SessionParams>,
  local: LocalVector = {},
): SessionMessage {
  const roster = rosterOf(scene.vector, local);
  return offer(
    scene,
    frozen,
    encodeParams({ ...scene.world.params, rosterHash: rosterHash(crypto, roster), ...changes }),
  );
}

/** The scene under another P0. */
export const under = (scene: Scene, { sid }: SessionMessage): Scene => ({ ...scene, sid });

/** P1 of members that were offered another P0. */
export const advertised = (
  { vector }: Scene,
  members: readonly number[],
  p0: SessionMessage,
  local: LocalVector = {},
): SessionMessage[] =>
  members.map((m) => {
    const member = vector.members[m] as MemberVector;
    const { effects } = feedMember(crypto, startMember(crypto, vector, member, local), member, p0);
    const sent = effects.find((effect) => effect.type === 'send');
    if (sent?.type !== 'send') throw new Error(`member ${m} refused the parameters`);
    return sent.message;
  });

/** The machine of a member behind some frozen messages and others that it accepts. */
export function memberAfter(
  { vector }: Scene,
  m: number,
  after: number,
  messages: readonly SessionMessage[] = [],
): { readonly state: ParticipantState; readonly sent: readonly SessionMessage[] } {
  const member = vector.members[m] as MemberVector;
  const sent: SessionMessage[] = [];
  const all = [...member.received.slice(0, after).map(decodeMessageVector), ...messages];
  const state = all.reduce(
    (before, message) => {
      const step = feedMember(crypto, before, member, message);
      for (const effect of step.effects) if (effect.type === 'send') sent.push(effect.message);
      return step.state;
    },
    startMember(crypto, vector, member),
  );
  return { state, sent };
}

export function cohortOf(state: ParticipantState): Cohort {
  const progress = state.session?.progress;
  if (progress === undefined || !('cohort' in progress)) throw new Error('no cohort yet');
  return progress.cohort;
}

/** The P2 list for one holder from whole P2 messages, with entries of the holder's peers changed. */
export function delivery(
  scene: Scene,
  cohort: Cohort,
  holder: number,
  p2: readonly SessionMessage[],
  change: (entries: Uint8Array[][], dealers: readonly Uint8Array[]) => Uint8Array[][] = (entries) => entries,
): SessionMessage {
  const own = idOf(scene, holder);
  const rank = rankOf(cohort.advertisements, own);
  const dealers = p2.map(({ body }) => decodeParts(body)[0] as Uint8Array);
  const peers = p2.filter((_, i) => arePeers(cohort, rankOf(cohort.advertisements, dealers[i] as Uint8Array), rank));
  const entries = peers.map(({ body, attachment }) => {
    const at = holdersOf(cohort, rankOf(cohort.advertisements, decodeParts(body)[0] as Uint8Array)).indexOf(rank);
    return shareOf(attachment, at);
  });
  const changed = change(
    entries,
    peers.map(({ body }) => decodeParts(body)[0] as Uint8Array),
  );
  return tell(scene, 'p2-all', encodeParts([encodeBodies(p2), ...changed.map(encodeParts)]), own);
}

/** Leaf, ciphertext and path of the holder at a position. */
export function shareOf(attachment: Uint8Array, at: number): Uint8Array[] {
  const parts = decodeParts(attachment);
  const proofs = inclusionProofs(
    crypto,
    parts.filter((_, i) => i % 2 === 0),
  );
  return [parts[2 * at] as Uint8Array, parts[2 * at + 1] as Uint8Array, ...(proofs[at] as Uint8Array[])];
}

export const inOrder = (entries: readonly Signed[]): Signed[] =>
  [...entries].sort((a, b) => compareBytes(decodeParts(a.body)[0] as Uint8Array, decodeParts(b.body)[0] as Uint8Array));

export const flip = (bytes: Uint8Array, at = 0): Uint8Array => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));

/** A body with one field replaced. */
export const withField = (body: Uint8Array, field: number, value: Uint8Array): Uint8Array =>
  encodeParts(decodeParts(body).with(field, value));
