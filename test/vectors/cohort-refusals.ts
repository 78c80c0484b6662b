import { nodeCrypto } from '../../platform/node/crypto.ts';
import { toHex } from '../../protocol/bytes.ts';
import { hashAdvertisements } from '../../protocol/key-schedule.ts';
import { decodeAdvertisement, encodeAdvertisement, signedBytes } from '../../protocol/messages.ts';
import type { SessionMessage } from '../../protocol/session.ts';
import { bytes, entriesOf, refuseMisfits, relist, resigned, SELF, senderOf } from './lists.ts';
import {
  advertised,
  bytesOf,
  type Collector,
  idOf,
  inOrder,
  memberAfter,
  offerParams,
  rankIn,
  type Scene,
  type Signed,
  STRANGER_SEED,
  signAs,
  tellBodies,
  under,
  withField,
} from './scene.ts';

/* P1 lists and reveals that a member must refuse. */

const crypto = nodeCrypto;
const STRANGER = crypto.sha256(crypto.ed25519PublicKey(STRANGER_SEED));

export function refuseCohorts(scene: Scene, { add, own }: Collector): void {
  const isSparse = scene.session === 'sparse';
  const message = own('p1-all');
  const p0 = own('p0');
  const entries = entriesOf(message);
  refuseMisfits(scene, { add, own } as Collector, 'p1-all');
  const p1 = encodeAdvertisement({
    id: STRANGER,
    encryptionKey: crypto.x25519PublicKey(bytesOf('stranger encryption')),
    maskKey: crypto.x25519PublicKey(bytesOf('stranger mask')),
    seedCommitment: bytesOf('stranger self'),
    graphCommitment: isSparse ? bytesOf('stranger graph') : null,
  });
  const stranger = { body: p1, signature: crypto.ed25519Sign(signedBytes(crypto, 'p1', scene.sid, p1), STRANGER_SEED) };
  add(
    'enrolled',
    'a member that the roster does not hold',
    relist(scene, message, inOrder([...entries, stranger])),
    'AUTH_UNKNOWN',
  );
  const local = { revoked: [toHex(idOf(scene, 2))] };
  const everybody = scene.world.members.map((_, m) => m);
  const revoking = offerParams(scene, p0, {}, local);
  const others = everybody.filter((m) => m !== 2);
  // A revoked node takes part in no session: its machine signs as if it were not.
  const honest = advertised(scene, others, revoking, local);
  const body = withField((entries[2] as Signed).body, 0, idOf(scene, 2));
  const lists = [
    revoking,
    tellBodies(under(scene, revoking), 'p1-all', inOrder([...honest, signAs(under(scene, revoking), 2, 'p1', body)])),
  ];
  add('revoked', 'a member that the roster revokes', lists, 'AUTH_REVOKED', { after: 0, local });
  const keysOf = (at: number) => decodeAdvertisement((entries[at] as Signed).body);
  add(
    'distinct keys',
    'the mask key of another',
    resigned(scene, message, 2, (b) => withField(b, 2, keysOf(3).maskKey)),
    'PROTO_COHORT',
  );
  add(
    'distinct keys',
    'one key for both uses',
    resigned(scene, message, 2, (b) => withField(b, 1, keysOf(2).maskKey)),
    'PROTO_COHORT',
  );
  add(
    'distinct keys',
    'the encryption key of another as mask key',
    resigned(scene, message, 2, (b) => withField(b, 2, keysOf(3).encryptionKey)),
    'PROTO_COHORT',
  );
  /** P0 with other parameters, then the P1 list of some members. */
  const offered = (
    check: string,
    altered: string,
    members: readonly number[],
    changes: Parameters<typeof offerParams>[2],
    at: Parameters<typeof offerParams>[3] = {},
  ): void => {
    const open = offerParams(scene, p0, changes, at);
    const list = tellBodies(under(scene, open), 'p1-all', inOrder(advertised(scene, members, open, at)));
    add(check, altered, [open, list], 'PRIVACY_COHORT_TOO_SMALL', { after: 0, local: at });
  };
  const organizations = everybody.map(() => 'one');
  offered(
    'organizations',
    'all of one organization',
    isSparse ? everybody : [0, 1, 2],
    { minOrgs: 2 },
    { organizations },
  );
  if (isSparse) {
    offered('size', 'one less than minSurvivors', everybody.slice(0, -1), { minSurvivors: 12 });
    offered('graph', 'everybody may vanish', everybody, { dropoutFraction: 1 });
    add('graph', 'five members', relist(scene, message, entries.slice(0, 5)), 'PRIVACY_COHORT_TOO_SMALL');
    refusePoints(scene, { add, own } as Collector);
    return;
  }
  add('size', 'one less than minSurvivors', relist(scene, message, entries.slice(0, 2)), 'PRIVACY_COHORT_TOO_SMALL');
  offered('colluders', 'three members, one colluder', [0, 1, 2], { colluders: 1 });
  const bad = (altered: string, field: number, key: Uint8Array): void =>
    add(
      'points',
      altered,
      resigned(scene, message, 2, (b) => withField(b, field, key)),
      'CRYPTO_POINT',
      { accused: [idOf(scene, 2)] },
    );
  bad('encryption key of low order', 1, bytes(32));
  bad('mask key of low order', 2, Uint8Array.of(1, ...bytes(31)));
  bad(
    'mask key with bit 255',
    2,
    keysOf(2).maskKey.map((byte, i) => (i === 31 ? byte | 128 : byte)),
  );
  bad('encryption key not below p', 1, Uint8Array.of(0xf6, ...bytes(30).fill(255), 0x7f));
}

/** Sparse: keys of a neighbour, which is known once the graph is drawn. */
function refusePoints(scene: Scene, { add, own }: Collector): void {
  const members = own('p1-all');
  const reveals = entriesOf(own('p1r-all'));
  const revealed = (list: SessionMessage): SessionMessage => {
    const h1 = hashAdvertisements(
      crypto,
      scene.sid,
      entriesOf(list).map(({ body }) => body),
    );
    const again = reveals.map((entry) =>
      signAs(scene, rankIn(scene, senderOf(entry)), 'p1r', withField(entry.body, 1, h1)),
    );
    return tellBodies(scene, 'p1r-all', again);
  };
  for (const [altered, field, key] of [
    ['encryption key of low order', 1, bytes(32)],
    ['mask key not below p', 2, Uint8Array.of(0xf6, ...bytes(30).fill(255), 0x7f)],
  ] as const) {
    // Every bad key draws another graph: the first member whose bad key makes it a neighbour.
    const found = scene.world.members.findIndex((_, m) => {
      if (m === SELF) return false;
      const list = resigned(scene, members, m, (body) => withField(body, field, key));
      const { state } = memberAfter(scene, SELF, 1, [list, revealed(list)]);
      return state.session?.progress.stage === 'closed';
    });
    const list = resigned(scene, members, found, (body) => withField(body, field, key));
    add('points', altered, [list, revealed(list)], 'CRYPTO_POINT', { accused: [idOf(scene, found)] });
  }
}

export function refuseReveals(scene: Scene, { add, own }: Collector): void {
  const message = own('p1r-all');
  const entries = entriesOf(message);
  add('committee', 'one reveal is missing', relist(scene, message, entries.slice(0, -1)), 'PROTO_COHORT');
  add('committee', 'one reveal twice', relist(scene, message, [...entries, entries[2] as Signed]), 'PROTO_COHORT');
  add(
    'committee',
    'one reveal in place of another',
    relist(scene, message, entries.with(3, entries[2] as Signed)),
    'PROTO_COHORT',
  );
  add(
    'h1',
    'a reveal under another list',
    resigned(scene, message, 2, (b) => withField(b, 1, bytesOf('h1'))),
    'PROTO_EQUIVOCATION',
  );
  add(
    'graph commitment',
    'another part of the seed',
    resigned(scene, message, 2, (b) => withField(b, 2, bytesOf('r'))),
    'CRYPTO_COMMITMENT',
  );
}
