import { nodeCrypto } from '../../platform/node/crypto.ts';
import { decodeParts, encodeParts, toHex, utf8 } from '../../protocol/bytes.ts';
import { arePeers, holdersOf } from '../../protocol/cohort.ts';
import type { ErrorCode } from '../../protocol/errors.ts';
import { merkleRoot } from '../../protocol/merkle.ts';
import { decodeAdvertisement, encodeAbort, encodeComplaint } from '../../protocol/messages.ts';
import { rankOf } from '../../protocol/roster.ts';
import type { MessageType, SessionMessage } from '../../protocol/session.ts';
import type { RefusalVector } from './refusals.ts';
import {
  bytesOf,
  type Collector,
  cohortOf,
  collect,
  flip,
  idOf,
  memberAfter,
  rankIn,
  type Scene,
  signAs,
  withField,
} from './scene.ts';

/* Messages of the third member of a frozen session that the coordinator must refuse. */

const crypto = nodeCrypto;
const SENDER = 2;
const bytes = (length: number): Uint8Array => new Uint8Array(length);

/** What is checked of every message of a member. */
function refuseEnvelopes(scene: Scene, { add, own, indexOf, frozen }: Collector, type: MessageType): void {
  const message = own(type);
  const { body, attachment } = message;
  const again = (other: Uint8Array): SessionMessage => signAs(scene, SENDER, type, other, attachment);
  const parts = decodeParts(body);
  add('member signature', 'signed by another member', signAs(scene, 1, type, body, attachment), 'AUTH_SIGNATURE');
  add('sender', 'in the name of another member', again(withField(body, 0, idOf(scene, 3))), 'AUTH_UNKNOWN');
  // The first message counts: nobody is dismissed for the second one.
  const second = again(withField(body, parts.length - 1, bytesOf('second')));
  add('one message', 'another message behind the first', second, 'PROTO_EQUIVOCATION', {
    after: indexOf(type) + 1,
    answer: 'nothing',
  });
  const isP1 = type === 'p1';
  const isSparse = scene.session === 'sparse';
  const more = (n: number): Uint8Array => encodeParts([...parts, ...Array.from({ length: n }, () => bytes(32))]);
  add('list', 'too few fields', again(encodeParts(parts.slice(0, isP1 && isSparse ? -2 : -1))), 'CODEC_TRUNCATED');
  add('list', 'last byte missing', again(body.subarray(0, body.length - 1)), 'CODEC_TRUNCATED');
  add('list end', 'too many fields', again(more(isP1 && !isSparse ? 2 : 1)), 'CODEC_TRAILING');
  if (isP1)
    add(
      'field',
      'an advertisement of the other profile',
      again(isSparse ? encodeParts(parts.slice(0, -1)) : more(1)),
      'CODEC_TYPE',
    );
  add('field', '31 bytes in the last field', again(withField(body, parts.length - 1, bytes(31))), 'CODEC_TYPE');
  const next = frozen[indexOf(type) + 1];
  if (next !== undefined) {
    add('stage', 'the message of the next phase', next, 'PROTO_UNEXPECTED', { phase: type });
    add('other session', 'another message of a phase that is over', second, 'ignored', { phase: next.type });
  }
  add(
    'other session',
    'under another sid',
    signAs({ ...scene, sid: flip(scene.sid) }, SENDER, type, body, attachment),
    'ignored',
  );
}

function refuseAdvertisements(scene: Scene, { add, own }: Collector): void {
  const { body } = own('p1');
  const keys = decodeAdvertisement(body);
  const first = decodeAdvertisement(memberAfter(scene, 0, 1).sent[0]?.body as Uint8Array);
  const offer = (check: string, altered: string, field: number, key: Uint8Array, code: ErrorCode): void =>
    add(check, altered, signAs(scene, SENDER, 'p1', withField(body, field, key)), code);
  offer('points', 'encryption key of low order', 1, bytes(32), 'CRYPTO_POINT');
  offer('points', 'mask key of low order', 2, Uint8Array.of(1, ...bytes(31)), 'CRYPTO_POINT');
  offer(
    'points',
    'mask key with bit 255',
    2,
    keys.maskKey.map((byte, i) => (i === 31 ? byte | 128 : byte)),
    'CRYPTO_POINT',
  );
  offer('points', 'encryption key not below p', 1, Uint8Array.of(0xf6, ...bytes(30).fill(255), 0x7f), 'CRYPTO_POINT');
  offer('distinct keys', 'the mask key of another', 2, first.maskKey, 'PROTO_COHORT');
  offer('distinct keys', 'the encryption key of another as mask key', 2, first.encryptionKey, 'PROTO_COHORT');
  offer('distinct keys', 'one key for both uses', 1, keys.maskKey, 'PROTO_COHORT');
}

function refuseDealings(scene: Scene, { add, own, indexOf }: Collector): void {
  const { body, attachment } = own('p2');
  const parts = decodeParts(attachment);
  const cohort = cohortOf(memberAfter(scene, SENDER, scene.session === 'sparse' ? 3 : 2).state);
  const rank = rankOf(cohort.advertisements, idOf(scene, SENDER));
  const holders = holdersOf(cohort, rank);
  add(
    'h1',
    'under another list',
    signAs(scene, SENDER, 'p2', withField(body, 1, bytesOf('h1')), attachment),
    'PROTO_EQUIVOCATION',
  );
  const deal = (
    check: string,
    altered: string,
    other: readonly Uint8Array[],
    code: ErrorCode,
    isCommitted = true,
  ): void => {
    const leaves = other.filter((_, i) => i % 2 === 0);
    const root = isCommitted ? merkleRoot(crypto, leaves) : (decodeParts(body)[2] as Uint8Array);
    add(check, altered, signAs(scene, SENDER, 'p2', withField(body, 2, root), encodeParts(other)), code);
  };
  const at = 2 * ((holders.indexOf(rank) + 1) % holders.length);
  const [leaf, sealed] = [parts[at] as Uint8Array, parts[at + 1] as Uint8Array];
  const hashed = (ciphertext: Uint8Array): Uint8Array => withField(leaf, 2, crypto.sha256(ciphertext));
  deal('list', 'no share for the last holder', parts.slice(0, -2), 'CODEC_TRUNCATED');
  deal('list end', 'a share too many', [...parts, leaf, sealed], 'CODEC_TRAILING');
  deal('root', 'a commitment that misses the root', parts.with(at, flip(leaf, 7)), 'CRYPTO_COMMITMENT', false);
  deal('field', 'a commitment of 31 bytes', parts.with(at, withField(leaf, 0, bytes(31))), 'CODEC_TYPE');
  deal(
    'ciphertext hash',
    'a ciphertext that misses its leaf',
    parts.with(at + 1, flip(sealed)),
    'CRYPTO_COMMITMENT',
    false,
  );
  const cut = sealed.subarray(0, 143);
  deal('ciphertext length', '143 bytes', parts.with(at, hashed(cut)).with(at + 1, cut), 'CRYPTO_COMMITMENT');
  if (scene.session === 'strict') {
    const mine = 2 * holders.indexOf(rank);
    const home = withField(parts[mine] as Uint8Array, 2, crypto.sha256(sealed));
    deal(
      'ciphertext length',
      'the own shares leave home',
      parts.with(mine, home).with(mine + 1, sealed),
      'CRYPTO_COMMITMENT',
    );
  }
  const h1 = cohort.h1;
  const complain = (
    altered: string,
    changes: Partial<Parameters<typeof encodeComplaint>[0]>,
    more: { phase?: MessageType; after?: number; answer?: 'nothing' } = {},
  ): void => {
    const claim = { id: idOf(scene, SENDER), h1, dealer: idOf(scene, peer), code: 'CRYPTO_SHARE' as const, ...changes };
    add('complaint', altered, signAs(scene, SENDER, 'complaint', encodeComplaint(claim)), 'PROTO_UNEXPECTED', {
      phase: 'p3',
      ...more,
    });
  };
  const others = cohort.advertisements.map((_, other) => other).filter((other) => other !== rank);
  const peer = rankIn(
    scene,
    (cohort.advertisements[others.find((other) => arePeers(cohort, other, rank)) as number] as { id: Uint8Array }).id,
  );
  complain('about itself', { dealer: idOf(scene, SENDER) });
  complain('about somebody who is not in U2', { dealer: bytesOf('nobody') });
  complain('under another list', { h1: bytesOf('h1') });
  complain('before there is anything to complain about', {}, { phase: 'p2' });
  // The upload counts.
  complain('behind the own upload', {}, { after: indexOf('p3') + 1, answer: 'nothing' });
  const stranger = others.find((other) => !arePeers(cohort, other, rank));
  if (stranger !== undefined)
    complain('about a dealer that is no neighbour', {
      dealer: (cohort.advertisements[stranger] as { id: Uint8Array }).id,
    });
  const unknown = encodeParts([idOf(scene, SENDER), h1, idOf(scene, peer), utf8('NO_SUCH_CODE')]);
  add('field', 'a complaint with an unknown code', signAs(scene, SENDER, 'complaint', unknown), 'CODEC_TYPE', {
    phase: 'p3',
  });
  const claim = encodeComplaint({ id: idOf(scene, SENDER), h1, dealer: idOf(scene, peer), code: 'CRYPTO_SHARE' });
  add(
    'member signature',
    'a complaint signed by another member',
    signAs(scene, 1, 'complaint', claim),
    'AUTH_SIGNATURE',
    { phase: 'p3' },
  );
  add(
    'sender',
    'a complaint in the name of another member',
    signAs(scene, SENDER, 'complaint', withField(claim, 0, idOf(scene, 3))),
    'AUTH_UNKNOWN',
    { phase: 'p3' },
  );
  const refusal = encodeAbort(idOf(scene, SENDER), 'PRIVACY_BUDGET');
  add('member signature', 'an abort signed by another member', signAs(scene, 1, 'abort', refusal), 'AUTH_SIGNATURE', {
    phase: 'p3',
  });
  const short = encodeParts([idOf(scene, SENDER), h1, bytes(31), utf8('CRYPTO_SHARE')]);
  add('field', 'a complaint about 31 bytes', signAs(scene, SENDER, 'complaint', short), 'CODEC_TYPE', { phase: 'p3' });
  add(
    'field',
    'an abort with an unknown code',
    signAs(scene, SENDER, 'abort', encodeParts([idOf(scene, SENDER), utf8('NO_SUCH_CODE')])),
    'CODEC_TYPE',
    { phase: 'p3' },
  );
  add(
    'sender',
    'an abort in the name of another member',
    signAs(scene, SENDER, 'abort', encodeAbort(idOf(scene, 3), 'PRIVACY_BUDGET')),
    'AUTH_UNKNOWN',
    { phase: 'p3' },
  );
}

function refuseUploads(scene: Scene, { add, own }: Collector): void {
  const { body, attachment } = own('p3');
  const upload = (
    check: string,
    altered: string,
    vector: Uint8Array,
    code: ErrorCode,
    digest = crypto.sha256(vector),
  ): void => add(check, altered, signAs(scene, SENDER, 'p3', withField(body, 2, digest), vector), code);
  add(
    'h2',
    'under other dealers',
    signAs(scene, SENDER, 'p3', withField(body, 1, bytesOf('h2')), attachment),
    'PROTO_EQUIVOCATION',
  );
  upload('vector length', 'one word less', attachment.subarray(0, attachment.length - 8), 'CODEC_TRUNCATED');
  upload('vector length', 'one word more', Uint8Array.of(...attachment, ...bytes(8)), 'CODEC_TRUNCATED');
  upload('digest', 'a bit changed', flip(attachment), 'CODEC_TYPE', crypto.sha256(attachment));
  upload(
    'unused bits',
    'bit 63 of a word of three lanes',
    attachment.map((byte, i) => (i === 7 ? byte | 128 : byte)),
    'CODEC_TYPE',
  );
}

function refuseOpenings(scene: Scene, { add, own, indexOf }: Collector): void {
  const p4 = own('p4');
  add('h3', 'other survivors', signAs(scene, SENDER, 'p4', withField(p4.body, 1, bytesOf('h3'))), 'PROTO_EQUIVOCATION');
  const { body, attachment } = own('p5');
  const parts = decodeParts(attachment);
  const open = (check: string, altered: string, openings: readonly Uint8Array[], code: ErrorCode): void => {
    const bundle = encodeParts(openings);
    add(check, altered, signAs(scene, SENDER, 'p5', withField(body, 2, crypto.sha256(bundle)), bundle), code);
  };
  add(
    'h3',
    'openings for other survivors',
    signAs(scene, SENDER, 'p5', withField(body, 1, bytesOf('h3')), attachment),
    'PROTO_EQUIVOCATION',
  );
  add('attachment', 'openings with one bit changed', { ...own('p5'), attachment: flip(attachment, 9) }, 'CODEC_TYPE');
  open('list', 'one opening less', parts.slice(0, -1), 'CODEC_TRUNCATED');
  open('list end', 'one opening more', [...parts, parts[0] as Uint8Array], 'CODEC_TRAILING');
  open(
    'list',
    'an opening without rho',
    parts.with(0, encodeParts(decodeParts(parts[0] as Uint8Array).slice(0, 1))),
    'CODEC_TRUNCATED',
  );
  open('field', 'a share of 31 bytes', parts.with(0, withField(parts[0] as Uint8Array, 0, bytes(31))), 'CODEC_TYPE');
  open(
    'opening',
    'a share with one bit changed',
    parts.with(0, withField(parts[0] as Uint8Array, 0, flip(decodeParts(parts[0] as Uint8Array)[0] as Uint8Array))),
    'CRYPTO_SHARE',
  );
  open(
    'opening',
    'the openings of two dealers change places',
    parts.with(0, parts[1] as Uint8Array).with(1, parts[0] as Uint8Array),
    'CRYPTO_SHARE',
  );
  // What a member must never send: the other share of a dealer.
  const { state } = memberAfter(scene, SENDER, indexOf('p5'));
  const progress = state.session?.progress;
  if (progress?.stage !== 'agreed') throw new Error('no shares');
  const { cohort, held } = progress;
  const dealers = scene.world.members
    .map(({ id }) => rankOf(cohort.advertisements, id))
    .filter((rank) => held.has(rank));
  const at = dealers.findIndex((rank) =>
    scene.vector.survivors.some((hex) => hex === toHex((cohort.advertisements[rank] as { id: Uint8Array }).id)),
  );
  const shares = held.get(dealers[at] as number);
  if (shares === undefined) throw new Error('no share');
  open(
    'opening',
    'the share of the mask key of a survivor',
    parts.with(at, encodeParts([shares.shareS, shares.openingS])),
    'CRYPTO_SHARE',
  );
}

/** Everything of the third member that the coordinator of a frozen session must refuse. */
export function coordinatorRefusals(scene: Scene): RefusalVector[] {
  const collector = collect(scene, 'coordinator', SENDER);
  const { add, own } = collector;
  const types: MessageType[] = [
    'p1',
    ...(scene.session === 'sparse' ? (['p1r'] as const) : []),
    'p2',
    'p3',
    'p4',
    'p5',
  ];
  for (const type of types) refuseEnvelopes(scene, collector, type);
  refuseAdvertisements(scene, collector);
  if (scene.session === 'sparse') {
    const { body } = own('p1r');
    add(
      'h1',
      'a reveal under another list',
      signAs(scene, SENDER, 'p1r', withField(body, 1, bytesOf('h1'))),
      'PROTO_EQUIVOCATION',
    );
    add(
      'graph commitment',
      'another part of the seed',
      signAs(scene, SENDER, 'p1r', withField(body, 2, bytesOf('r'))),
      'CRYPTO_COMMITMENT',
    );
  }
  refuseDealings(scene, collector);
  refuseUploads(scene, collector);
  refuseOpenings(scene, collector);
  return collector.refusals;
}
