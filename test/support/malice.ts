import { nodeCrypto } from '../../platform/node/crypto.ts';
import { decodeParts, encodeParts, equalBytes, hashParts, toHex, u32le, utf8 } from '../../protocol/bytes.ts';
import { inclusionProofs } from '../../protocol/merkle.ts';
import { decodeBodies, encodeBodies, type SignedBody, signList, signMessage } from '../../protocol/messages.ts';
import type { MessageType, SessionMessage } from '../../protocol/session.ts';
import type { World } from './session-world.ts';

const crypto = nodeCrypto;

/** Id of a member of the world. */
export const idOf = (world: World, member: number): Uint8Array =>
  (world.members[member] as World['members'][number]).id;

/** The coordinator's message over other bytes, signed with its real key: what a malicious coordinator can always send. */
export function forge(world: World, type: MessageType, attachment: Uint8Array, recipient?: Uint8Array): SessionMessage {
  return signList(crypto, world.coordinator.secretSeed, type, sidOf(world), attachment, recipient);
}

/** Session identifier of the first message that the coordinator sent. */
export function sidOf(world: World): Uint8Array {
  return (world.received[0] as World['received'][number]).message.sid;
}

/** Signs a body with the key of a member: what a malicious member can always send. */
export function signAs(
  world: World,
  member: number,
  type: MessageType,
  body: Uint8Array,
  attachment: Uint8Array = new Uint8Array(0),
): SessionMessage {
  return signMessage(
    crypto,
    (world.members[member] as World['members'][number]).secretSeed,
    type,
    sidOf(world),
    body,
    attachment,
  );
}

/** Signed bodies in a list message (p1-all, p4-ask, p5-ask). */
export const listed = (message: SessionMessage, type: MessageType): SignedBody[] =>
  decodeBodies(type, message.attachment);

/** A list message with other entries, signed again. */
export const relist = (
  world: World,
  message: SessionMessage,
  entries: readonly Pick<SignedBody, 'body' | 'signature'>[],
): SessionMessage => forge(world, message.type, encodeBodies(entries));

/** Id in the first field of a member's body. */
export const senderOf = (entry: Pick<SignedBody, 'body'>): Uint8Array => decodeParts(entry.body)[0] as Uint8Array;

/** Messages of one type that members sent, in order of id. */
export function sentBy(world: World, type: MessageType): { from: number; message: SessionMessage }[] {
  return world.sent.filter(({ message }) => message.type === type).sort((a, b) => a.from - b.from);
}

/** P2 list for one holder, built from the members' real P2 messages, with the dealers that the coordinator likes. */
export function forgeDelivery(
  world: World,
  holder: number,
  dealers: readonly { from: number; message: SessionMessage }[],
): SessionMessage {
  const own = idOf(world, holder);
  // Rank of the holder among the members that advertised.
  const rank = sentBy(world, 'p1').findIndex(({ from }) => from === holder);
  const entries = dealers
    .filter(({ message }) => !equalBytes(senderOf(message), own))
    .map(({ message }) => {
      const parts = decodeParts(message.attachment);
      const leaves = parts.filter((_, i) => i % 2 === 0);
      // A dealer that saw fewer members has nothing for the last ones.
      const nothing = new Uint8Array(0);
      return encodeParts([
        leaves[rank] ?? nothing,
        parts[2 * rank + 1] ?? nothing,
        ...(inclusionProofs(crypto, leaves)[rank] ?? []),
      ]);
    });
  return forge(world, 'p2-all', encodeParts([encodeBodies(dealers.map(({ message }) => message)), ...entries]), own);
}

export const messagesOf = (world: World, member: number, type: MessageType): SessionMessage[] =>
  world.sent.filter(({ from, message }) => from === member && message.type === type).map(({ message }) => message);

export const codeOf = (world: World, member: number): string | undefined => world.memberAborts.get(member)?.code;

export const accusedBy = (world: World, member: number): string[] =>
  (world.memberAborts.get(member)?.accused ?? []).map(toHex);

/** Number of different byte strings of one type that a member sent. */
export function variants(world: World, member: number, type: MessageType): number {
  return new Set(
    messagesOf(world, member, type).map(({ body, signature, attachment }) =>
      [toHex(body), toHex(signature), toHex(attachment)].join(),
    ),
  ).size;
}

/** Nobody answered a certificate: no share of any secret left any member. */
export const nothingOpened = (world: World): boolean => !world.sent.some(({ message }) => message.type === 'p5');

/** Deterministic bytes for a test. */
export const bytesFrom = (name: string, n = 0): Uint8Array => hashParts(crypto, utf8('malice'), utf8(name), u32le(n));

/** Deterministic 32-bit numbers for mutations. */
export function numbersFrom(name: string): (below: number) => number {
  const stream = crypto.aes256Ctr(bytesFrom(name));
  const bytes = new Uint8Array(4);
  return (below) => {
    stream.read(bytes);
    return new DataView(bytes.buffer).getUint32(0, true) % below;
  };
}
