import { decodeParts, encodeParts, toHex, utf8 } from '../../protocol/bytes.ts';
import type { MessageType, SessionMessage } from '../../protocol/session.ts';
import { runSession } from '../support/session-world.ts';
import { refuseCohorts, refuseReveals } from './cohort-refusals.ts';
import { bytes, dealtBy, entriesOf, relist, resigned, SELF } from './lists.ts';
import { refuseOffers } from './offer-refusals.ts';
import type { RefusalVector } from './refusals.ts';
import {
  type Collector,
  cohortOf,
  collect,
  delivery,
  flip,
  idOf,
  memberAfter,
  type Scene,
  type Signed,
  say,
  signAs,
  tell,
  tellBodies,
  withField,
} from './scene.ts';
import { refuseDealers, refuseShares } from './share-refusals.ts';
import { refuseCertificates, refuseSurvivors } from './survivor-refusals.ts';

/* Messages that the first member of a frozen session must refuse. */

/** Everything that is checked of every list, before its members are looked at. */
function refuseEnvelopes(scene: Scene, { add, own, indexOf }: Collector, type: MessageType): void {
  const message = own(type);
  add(
    'coordinator signature',
    'signed by a member',
    signAs(scene, 1, type, message.body, message.attachment),
    'AUTH_SIGNATURE',
  );
  if (indexOf(type) > 1)
    add('stage', 'before the message in front of it', message, 'PROTO_UNEXPECTED', { after: indexOf(type) - 1 });
  if (type === 'result') return;
  const recipient = type === 'p2-all' ? idOf(scene, SELF) : bytes(0);
  const { body, attachment } = message;
  add('attachment', 'attachment with one bit changed', { ...message, attachment: flip(attachment, 9) }, 'CODEC_TYPE');
  add('attachment', 'named for another member', tell(scene, type, attachment, idOf(scene, 1)), 'CODEC_TYPE');
  add(
    'attachment',
    'body with a third field',
    say(scene, type, encodeParts([...decodeParts(body), bytes(0)]), attachment),
    'CODEC_TYPE',
  );
  add(
    'list',
    'last byte missing',
    tell(scene, type, attachment.subarray(0, attachment.length - 1), recipient),
    'CODEC_TRUNCATED',
  );
  add('list', 'one byte more', tell(scene, type, Uint8Array.of(...attachment, 0), recipient), 'CODEC_TRUNCATED');
  const entries = entriesOf(message);
  const unpaired = encodeParts(entries.flatMap(({ body: b, signature }) => [b, signature]).slice(0, -1));
  const odd = type === 'p2-all' ? encodeParts(decodeParts(attachment).with(0, unpaired)) : unpaired;
  add('list', 'last signature missing', tell(scene, type, odd, recipient), 'CODEC_TRUNCATED');
  // Behind the own entry, so that the own one stays as it was.
  const at = 2;
  const last = decodeParts((entries[at] as Signed).body).length - 1;
  // P1 has one field more in the sparse profile: an advertisement of the other one is another fault.
  const isFirst = type === 'p1-all';
  const fewer = isFirst && scene.session === 'sparse' ? 2 : 1;
  const more = isFirst && scene.session === 'strict' ? 2 : 1;
  const cut =
    (n: number) =>
    (b: Uint8Array): Uint8Array =>
      encodeParts(decodeParts(b).slice(0, -n));
  const continued =
    (n: number) =>
    (b: Uint8Array): Uint8Array =>
      encodeParts([...decodeParts(b), ...Array.from({ length: n }, () => bytes(32))]);
  add('list', 'a body with too few fields', resigned(scene, message, at, cut(fewer)), 'CODEC_TRUNCATED');
  add('list end', 'a body with too many fields', resigned(scene, message, at, continued(more)), 'CODEC_TRAILING');
  if (isFirst)
    add(
      'field',
      'an advertisement of the other profile',
      resigned(scene, message, at, scene.session === 'sparse' ? cut(1) : continued(1)),
      'CODEC_TYPE',
    );
  add(
    'field',
    'a body with 31 bytes in its last field',
    resigned(scene, message, at, (b) => withField(b, last, bytes(31))),
    'CODEC_TYPE',
  );
  add(
    'member signature',
    'a body under the signature of another',
    relist(
      scene,
      message,
      entries.with(at, { body: (entries[at] as Signed).body, signature: (entries[at + 1] as Signed).signature }),
    ),
    'AUTH_SIGNATURE',
  );
  if (type !== 'p5-ask') {
    const swapped = entries.with(1, entries[at] as Signed).with(at, entries[1] as Signed);
    add(
      type === 'p1r-all' ? 'committee' : 'order',
      'two entries change places',
      relist(scene, message, swapped),
      'PROTO_COHORT',
    );
  }
  add(
    'one message',
    'another list of the type',
    tell(scene, type, encodeParts([bytes(3)]), recipient),
    'PROTO_EQUIVOCATION',
    { after: indexOf(type) + 1 },
  );
}

function refuseOthers(scene: Scene, { add, own, frozen }: Collector): void {
  const members = own('p1-all');
  const elsewhere: Scene = { ...scene, sid: flip(scene.sid) };
  add('other session', 'the list under another sid', tell(elsewhere, 'p1-all', members.attachment), 'ignored');
  add('other session', 'before any P0', members, 'ignored', { after: 0 });
  add('other session', 'behind the result', own('p5-ask'), 'ignored', { after: frozen.length });
  const ends = (text: string): SessionMessage => say(scene, 'abort', encodeParts([bytes(0), utf8(text)]));
  add('abort', 'the coordinator names weather', ends('ROUND_BELOW_THRESHOLD'), 'ROUND_BELOW_THRESHOLD', {
    after: 2,
    answer: 'nothing',
  });
  add('abort', 'the coordinator names anything else', ends('PRIVACY_BUDGET'), 'ROUND_TIMEOUT', {
    after: 2,
    answer: 'nothing',
  });
  add('field', 'an abort with an unknown code', ends('NO_SUCH_CODE'), 'CODEC_TYPE', { after: 2 });
  add(
    'coordinator signature',
    'an abort signed by a member',
    signAs(scene, 1, 'abort', encodeParts([bytes(0), utf8('ROUND_TIMEOUT')])),
    'AUTH_SIGNATURE',
    { after: 2 },
  );
  add('stage', 'a message that members send', say(scene, 'p1', bytes(0)), 'PROTO_UNEXPECTED', { after: 1 });
  if (scene.session === 'strict')
    add('stage', 'reveals in the strict profile', tellBodies(scene, 'p1r-all', []), 'PROTO_UNEXPECTED', { after: 2 });
}

/** Rules of fit that the frozen session cannot break: another P0, and everything after it. Strict, one rule for both. */
function refuseVariants(scene: Scene, { add }: Collector): void {
  const variants = [
    ['size', 'one less than minSurvivors', { minSurvivors: 5 }, 1],
    ['organizations', 'all of one organization', { minOrgs: 2 }, 4],
  ] as const;
  for (const [check, altered, params, perOrganization] of variants) {
    const world = runSession({ members: 5, coordinates: 4, lanes: 3, params, perOrganization });
    const received = world.received.filter(({ to }) => to === SELF).map(({ message }) => message);
    const other: Scene = { ...scene, world, sid: (received[0] as SessionMessage).sid };
    const local = { organizations: world.roster.entries.map(({ organization }) => organization) };
    const p2 = dealtBy(other);
    const start = received.slice(0, 2);
    const member = {
      ...scene,
      vector: {
        ...scene.vector,
        roster: {
          version: 1,
          entries: world.roster.entries.map(({ id, publicKey, organization }) => ({
            id: toHex(id),
            publicKey: toHex(publicKey),
            organization,
          })),
        },
      },
    };
    const cohort = cohortOf(memberAfter(member, SELF, 0, start).state);
    add(check, altered, [...start, delivery(other, cohort, SELF, p2.slice(0, 4))], 'PRIVACY_COHORT_TOO_SMALL', {
      after: 0,
      local,
    });
    const ask = received.find(({ type }) => type === 'p4-ask') as SessionMessage;
    const all = received.find(({ type }) => type === 'p2-all') as SessionMessage;
    add(
      check,
      altered,
      [...start, all, tellBodies(other, 'p4-ask', entriesOf(ask).slice(0, 4))],
      'PRIVACY_COHORT_TOO_SMALL',
      { after: 0, local },
    );
  }
}

/** Everything that the first member of a frozen session must refuse. */
export function memberRefusals(scene: Scene): RefusalVector[] {
  const collector = collect(scene, 'member', SELF);
  const isSparse = scene.session === 'sparse';
  refuseOffers(scene, collector);
  const lists: MessageType[] = [
    'p1-all',
    ...(isSparse ? (['p1r-all'] as const) : []),
    'p2-all',
    'p4-ask',
    'p5-ask',
    'result',
  ];
  for (const type of lists) refuseEnvelopes(scene, collector, type);
  refuseCohorts(scene, collector);
  if (isSparse) refuseReveals(scene, collector);
  refuseDealers(scene, collector);
  refuseShares(scene, collector);
  refuseSurvivors(scene, collector);
  refuseCertificates(scene, collector);
  refuseOthers(scene, collector);
  if (!isSparse) refuseVariants(scene, collector);
  return collector.refusals;
}
