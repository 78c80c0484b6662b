import { nodeCrypto } from '../../platform/node/crypto.ts';
import { decodeParts, encodeParts, equalBytes, toHex } from '../../protocol/bytes.ts';
import { hashDealers } from '../../protocol/key-schedule.ts';
import { encodeResult } from '../../protocol/messages.ts';
import { rankOf } from '../../protocol/roster.ts';
import type { SessionMessage } from '../../protocol/session.ts';
import { arcOf, bytes, dealtBy, entriesOf, refuseMisfits, relist, resigned, SELF, senderOf, without } from './lists.ts';
import {
  bytesOf,
  type Collector,
  cohortOf,
  delivery,
  idOf,
  memberAfter,
  rankIn,
  type Scene,
  type Signed,
  say,
  signAs,
  tellBodies,
  withField,
} from './scene.ts';

/* Survivor lists, certificates and results that a member must refuse. */

const crypto = nodeCrypto;
export function refuseSurvivors(scene: Scene, { add, own, indexOf }: Collector): void {
  const message = own('p4-ask');
  const entries = entriesOf(message);
  refuseMisfits(scene, { add, own } as Collector, 'p4-ask');
  add(
    'h2',
    'an upload under other dealers',
    resigned(scene, message, 2, (b) => withField(b, 1, bytesOf('h2'))),
    'PROTO_EQUIVOCATION',
  );
  add('census', '257 of a census are missing, maxLoss is 256', message, 'PRIVACY_COHORT_TOO_SMALL', {
    local: { census: 257 },
  });
  const cohort = cohortOf(memberAfter(scene, SELF, indexOf('p2-all')).state);
  const p2 = dealtBy(scene);
  if (cohort.graph === null)
    add('size', 'one less than t', relist(scene, message, entries.slice(0, 3)), 'PRIVACY_COHORT_TOO_SMALL');
  else {
    const { positions } = cohort.graph;
    const parity = (positions[SELF] as number) % 2;
    const half = entries.filter(
      (entry) => (positions[rankOf(cohort.advertisements, senderOf(entry))] as number) % 2 === parity,
    );
    add('size', 'less than q', relist(scene, message, half), 'PRIVACY_COHORT_TOO_SMALL');
    add(
      'ring',
      'three neighbouring positions are missing',
      relist(scene, message, without(entries, arcOf(scene, cohort))),
      'PRIVACY_COHORT_TOO_SMALL',
    );
  }
  // U2 without its last member, which then uploads all the same.
  const fewer = delivery(scene, cohort, SELF, p2.slice(0, -1));
  const dealt = p2.slice(0, -1).map(({ body }) => decodeParts(body) as [Uint8Array, Uint8Array, Uint8Array]);
  const h2 = hashDealers(
    crypto,
    scene.sid,
    cohort.h1,
    dealt.map(([id, , root]) => [id, root]),
  );
  const { sent } = memberAfter(scene, SELF, indexOf('p2-all'), [fewer]);
  const uploads = entries.map((entry) =>
    equalBytes(senderOf(entry), idOf(scene, SELF))
      ? (sent.find(({ type }) => type === 'p3') as SessionMessage)
      : signAs(scene, rankIn(scene, senderOf(entry)), 'p3', withField(entry.body, 1, h2)),
  );
  add(
    'subset',
    'an upload of a member that is not in U2',
    [fewer, tellBodies(scene, 'p4-ask', uploads)],
    'PROTO_COHORT',
  );
}

export function refuseCertificates(scene: Scene, { add, own }: Collector): void {
  const message = own('p5-ask');
  const entries = entriesOf(message);
  const lost = scene.world.members.findIndex(({ id }) => !scene.vector.survivors.includes(toHex(id)));
  const h3 = decodeParts((entries[0] as Signed).body)[1] as Uint8Array;
  add(
    'h3',
    'a signer of other survivors',
    resigned(scene, message, 2, (b) => withField(b, 1, bytesOf('h3'))),
    'PROTO_EQUIVOCATION',
  );
  add('signers', 'a signer twice', relist(scene, message, entries.with(3, entries[2] as Signed)), 'PROTO_COHORT');
  const outsider = signAs(scene, lost, 'p4', encodeParts([idOf(scene, lost), h3]));
  add('signers', 'a signer that is not in U3', relist(scene, message, entries.with(3, outsider)), 'PROTO_COHORT');
  add('quorum', 'one less than q', relist(scene, message, entries.slice(0, -1)), 'PROTO_COHORT');
  const result = own('result');
  const [, sumHash, count] = decodeParts(result.body) as [Uint8Array, Uint8Array, Uint8Array];
  add(
    'h3',
    'a result of other survivors',
    say(scene, 'result', withField(result.body, 0, bytesOf('h3'))),
    'PROTO_EQUIVOCATION',
  );
  add(
    'count',
    'one survivor more',
    say(scene, 'result', encodeResult(h3, sumHash, (count[0] as number) + 1)),
    'PROTO_EQUIVOCATION',
  );
  add('list', 'two fields', say(scene, 'result', encodeParts([h3, sumHash])), 'CODEC_TRUNCATED');
  add('list end', 'four fields', say(scene, 'result', encodeParts([h3, sumHash, count, bytes(0)])), 'CODEC_TRAILING');
  add('field', 'a sum hash of 31 bytes', say(scene, 'result', withField(result.body, 1, bytes(31))), 'CODEC_TYPE');
}
