import { nodeCrypto } from '../../platform/node/crypto.ts';
import { decodeParts, encodeParts, equalBytes, toHex } from '../../protocol/bytes.ts';
import type { Cohort } from '../../protocol/cohort.ts';
import { decodeBodies, encodeBodies } from '../../protocol/messages.ts';
import type { SessionMessage } from '../../protocol/session.ts';
import {
  bytesOf,
  type Collector,
  idOf,
  inOrder,
  rankIn,
  type Scene,
  type Signed,
  signAs,
  tell,
  tellBodies,
  withField,
} from './scene.ts';

/* What the writers of the first member's refusals share: lists of members, and how to alter them. */

const crypto = nodeCrypto;
/** Who refuses. */
export const SELF = 0;
export const bytes = (length: number): Uint8Array => new Uint8Array(length);

/** What stands in each list, by the type of the bodies. */
export const LISTED = { 'p1-all': 'p1', 'p1r-all': 'p1r', 'p2-all': 'p2', 'p4-ask': 'p3', 'p5-ask': 'p4' } as const;
export type ListType = keyof typeof LISTED;

/** Members' signed bodies in a list; those of a P2 list are its first part. */
export function entriesOf(message: SessionMessage): Signed[] {
  const type = message.type as ListType;
  const bodies = type === 'p2-all' ? (decodeParts(message.attachment)[0] as Uint8Array) : message.attachment;
  return decodeBodies(LISTED[type], bodies);
}

/** The list with other entries; the shares of a P2 list stay. */
export function relist(scene: Scene, message: SessionMessage, entries: readonly Signed[]): SessionMessage {
  if (message.type !== 'p2-all') return tellBodies(scene, message.type, entries);
  const parts = decodeParts(message.attachment).with(0, encodeBodies(entries));
  return tell(scene, 'p2-all', encodeParts(parts), idOf(scene, SELF));
}

export const senderOf = ({ body }: Signed): Uint8Array => decodeParts(body)[0] as Uint8Array;

/** One entry replaced by what its member signs instead. */
export function resigned(
  scene: Scene,
  message: SessionMessage,
  at: number,
  change: (body: Uint8Array) => Uint8Array,
): SessionMessage {
  const entries = entriesOf(message);
  const entry = entries[at] as Signed;
  const again = signAs(scene, rankIn(scene, senderOf(entry)), LISTED[message.type as ListType], change(entry.body));
  return relist(scene, message, entries.with(at, again));
}

/** What every list of members is checked for: fit(U). */
export function refuseMisfits(scene: Scene, { add, own }: Collector, type: 'p1-all' | 'p2-all' | 'p4-ask'): void {
  const message = own(type);
  const entries = entriesOf(message);
  if (type !== 'p1-all')
    add(
      'order',
      'an entry twice',
      relist(scene, message, entries.toSpliced(2, 0, entries[2] as Signed)),
      'PROTO_COHORT',
    );
  const mine = entries.findIndex((entry) => equalBytes(senderOf(entry), idOf(scene, SELF)));
  // Another upload makes up for the own one, so that enough are left.
  const lost = scene.world.members.findIndex(({ id }) => !scene.vector.survivors.includes(toHex(id)));
  const more =
    type === 'p4-ask' ? [signAs(scene, lost, 'p3', withField((entries[2] as Signed).body, 0, idOf(scene, lost)))] : [];
  const others = inOrder([...entries.toSpliced(mine, 1), ...more]);
  add('own entry', 'the member itself is missing', relist(scene, message, others), 'PROTO_COHORT');
  const another = type === 'p1-all' ? crypto.x25519PublicKey(bytesOf('stolen')) : bytesOf('stolen');
  const changed = resigned(scene, message, mine, (body) => withField(body, 2, another));
  add('own entry', 'an entry that the own key signed elsewhere', changed, 'PROTO_COHORT');
}

/** Ranks of the ring that leave a window of k/2 positions with one member, none of them the own rank. */
export function arcOf(scene: Scene, cohort: Cohort): Uint8Array[] {
  if (cohort.graph === null) throw new Error('no graph');
  const { ring } = cohort.graph;
  for (let start = 0; ; start++) {
    const arc = [0, 1, 2].map((step) => ring[(start + step) % ring.length] as number);
    const ids = arc.map((rank) => (cohort.advertisements[rank] as { id: Uint8Array }).id);
    // Those that stay must still hold an upload of everybody else.
    if (!ids.some((id) => rankIn(scene, id) <= 1)) return ids;
  }
}

export const without = (entries: readonly Signed[], ids: readonly Uint8Array[]): Signed[] =>
  entries.filter((entry) => !ids.some((id) => equalBytes(id, senderOf(entry))));

/** Whole P2 messages of all members, in order. */
export const dealtBy = ({ world }: Scene): SessionMessage[] =>
  world.sent
    .filter(({ message }) => message.type === 'p2')
    .sort((a, b) => a.from - b.from)
    .map(({ message }) => message);
