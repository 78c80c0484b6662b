import { nodeCrypto } from '../../platform/node/crypto.ts';
import { decodeParts, encodeParts, equalBytes } from '../../protocol/bytes.ts';
import { holdersOf } from '../../protocol/cohort.ts';
import type { ErrorCode } from '../../protocol/errors.ts';
import { neighboursOf } from '../../protocol/graph.ts';
import { encryptionKey, expandEntropy, hashAdvertisements } from '../../protocol/key-schedule.ts';
import { merkleRoot } from '../../protocol/merkle.ts';
import type { SessionMessage } from '../../protocol/session.ts';
import { arcOf, bytes, dealtBy, entriesOf, refuseMisfits, relist, resigned, SELF, senderOf } from './lists.ts';
import {
  bytesOf,
  type Collector,
  cohortOf,
  delivery,
  flip,
  idOf,
  memberAfter,
  rankIn,
  type Scene,
  shareOf,
  signAs,
  tellBodies,
  withField,
} from './scene.ts';

/* P2 lists that a member must refuse. */

const crypto = nodeCrypto;
export function refuseDealers(scene: Scene, { add, own, indexOf }: Collector): void {
  const message = own('p2-all');
  const cohort = cohortOf(memberAfter(scene, SELF, indexOf('p2-all')).state);
  const { members } = scene.vector;
  const p2 = dealtBy(scene);
  refuseMisfits(scene, { add, own } as Collector, 'p2-all');
  const byRank = (ranks: readonly number[]): SessionMessage =>
    delivery(
      scene,
      cohort,
      SELF,
      ranks.map((rank) => p2[rank] as SessionMessage),
    );
  if (cohort.graph === null) add('size', 'one less than t', byRank([0, 1, 2]), 'PRIVACY_COHORT_TOO_SMALL');
  else {
    // Every other position of the ring, and the member itself: half of them, spread so that the ring is not cut.
    const { ring, positions } = cohort.graph;
    const parity = (positions[SELF] as number) % 2;
    const half = [...ring].filter((_, position) => position % 2 === parity).sort((a, b) => a - b);
    add('size', 'one less than q', byRank(half), 'PRIVACY_COHORT_TOO_SMALL');
    const arc = arcOf(scene, cohort);
    add(
      'ring',
      'three neighbouring positions are missing',
      delivery(
        scene,
        cohort,
        SELF,
        p2.filter(({ body }) => !arc.some((id) => equalBytes(id, decodeParts(body)[0] as Uint8Array))),
      ),
      'PRIVACY_COHORT_TOO_SMALL',
    );
  }
  add(
    'h1',
    'a dealer signed another list',
    resigned(scene, message, 2, (b) => withField(b, 1, bytesOf('h1'))),
    'PROTO_EQUIVOCATION',
  );
  // U1 without its last member, which then deals all the same.
  const lastMember = members.length - 1;
  const shorter = relist(scene, own('p1-all'), entriesOf(own('p1-all')).slice(0, -1));
  const cut: SessionMessage[] = [shorter];
  const h1 = hashAdvertisements(
    crypto,
    scene.sid,
    entriesOf(shorter).map(({ body }) => body),
  );
  if (scene.session === 'sparse') {
    const reveals = entriesOf(own('p1r-all')).slice(0, -1);
    cut.push(
      tellBodies(
        scene,
        'p1r-all',
        reveals.map((entry) => signAs(scene, rankIn(scene, senderOf(entry)), 'p1r', withField(entry.body, 1, h1))),
      ),
    );
  }
  const dealt = members.slice(0, -1).map((_, m) => memberAfter(scene, m, 1, cut));
  const outsider = signAs(scene, lastMember, 'p2', encodeParts([idOf(scene, lastMember), h1, bytesOf('root')]));
  const honest = delivery(
    scene,
    cohortOf(dealt[SELF]?.state as never),
    SELF,
    dealt.map(({ sent }) => sent.find(({ type }) => type === 'p2') as SessionMessage),
  );
  add(
    'subset',
    'a dealer that is not in U1',
    [...cut, relist(scene, honest, [...entriesOf(honest), outsider])],
    'PROTO_COHORT',
  );
}

export function refuseShares(scene: Scene, { add, indexOf }: Collector): void {
  const cohort = cohortOf(memberAfter(scene, SELF, indexOf('p2-all')).state);
  const p2 = dealtBy(scene);
  const dealer = cohort.graph === null ? 2 : (neighboursOf(cohort.graph, SELF)[2] as number);
  const dealerId = (cohort.advertisements[dealer] as { id: Uint8Array }).id;
  const holders = holdersOf(cohort, dealer);
  const at = holders.indexOf(SELF);
  const attachment = (p2[dealer] as SessionMessage).attachment;
  /** The share of that dealer replaced in the own entry. */
  const swapped = (share: readonly Uint8Array[]): SessionMessage =>
    delivery(scene, cohort, SELF, p2, (all, dealers) =>
      all.map((entry, i) => (equalBytes(dealers[i] as Uint8Array, dealerId) ? [...share] : entry)),
    );
  const [leaf, ciphertext, ...path] = shareOf(attachment, at) as [Uint8Array, Uint8Array, ...Uint8Array[]];
  add(
    'shares',
    'the share of the last dealer is missing',
    delivery(scene, cohort, SELF, p2, (all) => all.slice(0, -1)),
    'CODEC_TRUNCATED',
  );
  add(
    'shares',
    'a share too many',
    delivery(scene, cohort, SELF, p2, (all) => [...all, all[0] as Uint8Array[]]),
    'CODEC_TRUNCATED',
  );
  add('list', 'a share without its ciphertext', swapped([leaf]), 'CODEC_TRUNCATED');
  const other = (at + 1) % holders.length;
  add('path', 'the share of another holder', swapped(shareOf(attachment, other)), 'CRYPTO_COMMITMENT');
  add('path', 'the path cut', swapped([leaf, ciphertext, ...path.slice(0, -1)]), 'CRYPTO_COMMITMENT');
  add('path', 'the path continued', swapped([leaf, ciphertext, ...path, bytes(32)]), 'CRYPTO_COMMITMENT');
  add('path', 'a commitment of the leaf altered', swapped([flip(leaf, 7), ciphertext, ...path]), 'CRYPTO_COMMITMENT');
  add(
    'ciphertext hash',
    'the ciphertext altered on its way',
    swapped([leaf, flip(ciphertext), ...path]),
    'CRYPTO_COMMITMENT',
  );
  /** The dealer deals this member something else, under a root that it signs. */
  const redealt = (
    change: (leafParts: Uint8Array[], sealed: Uint8Array) => [Uint8Array, Uint8Array],
  ): SessionMessage => {
    const parts: Uint8Array[] = decodeParts(attachment);
    const [newLeaf, sealed] = change(decodeParts(leaf), ciphertext);
    parts[2 * at] = newLeaf;
    parts[2 * at + 1] = sealed;
    const root = merkleRoot(
      crypto,
      parts.filter((_, i) => i % 2 === 0),
    );
    const again = signAs(
      scene,
      rankIn(scene, dealerId),
      'p2',
      withField((p2[dealer] as SessionMessage).body, 2, root),
      encodeParts(parts),
    );
    return delivery(scene, cohort, SELF, p2.with(dealer, again));
  };
  const committed = (leafParts: readonly Uint8Array[], sealed: Uint8Array): [Uint8Array, Uint8Array] => [
    encodeParts([...leafParts.slice(0, 2), crypto.sha256(sealed)]),
    sealed,
  ];
  add(
    'list',
    'a leaf of two fields under the signed root',
    redealt(([b, s], sealed) => [encodeParts([b as Uint8Array, s as Uint8Array]), sealed]),
    'CODEC_TRUNCATED',
  );
  add(
    'field',
    'a leaf with a commitment of 31 bytes under the signed root',
    redealt(([, s, hash], sealed) => [encodeParts([bytes(31), s as Uint8Array, hash as Uint8Array]), sealed]),
    'CODEC_TYPE',
  );
  const secrets = expandEntropy(crypto, scene.world.entropies[rankIn(scene, dealerId)] as Uint8Array, scene.sid);
  const ownKey = (cohort.advertisements[SELF] as { encryptionKey: Uint8Array }).encryptionKey;
  const key = encryptionKey(
    crypto,
    crypto.x25519Agree(secrets.encryptionSecret, ownKey),
    scene.sid,
    dealerId,
    idOf(scene, SELF),
  );
  const plain = crypto.aes256GcmOpen(key, bytes(12), cohort.h1, ciphertext);
  const seal = (text: Uint8Array, aad = cohort.h1): Uint8Array => crypto.aes256GcmSeal(key, bytes(12), aad, text);
  const complain = (check: string, altered: string, sealed: Uint8Array, code: ErrorCode): void =>
    add(
      check,
      altered,
      redealt((leafParts) => committed(leafParts, sealed)),
      code,
      { accused: [dealerId], answer: 'complaint' },
    );
  complain('ciphertext', 'dealt with one bit changed', flip(ciphertext, 3), 'CRYPTO_TAG');
  complain('ciphertext', 'sealed under another h1', seal(plain, bytesOf('h1')), 'CRYPTO_TAG');
  complain('ciphertext', 'shorter than a tag', ciphertext.subarray(0, 15), 'CRYPTO_TAG');
  complain('share length', '127 bytes sealed', seal(plain.subarray(0, 127)), 'CRYPTO_SHARE');
  complain('share length', '129 bytes sealed', seal(Uint8Array.of(...plain, 0)), 'CRYPTO_SHARE');
  for (const [name, byte] of [
    ['shareB', 0],
    ['rhoB', 32],
    ['shareS', 64],
    ['rhoS', 96],
  ] as const)
    complain('share commitment', `${name} altered`, seal(flip(plain, byte)), 'CRYPTO_SHARE');
}
