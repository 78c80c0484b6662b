import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { decodeParts, encodeParts, equalBytes, hashParts, toHex, utf8 } from '../../protocol/bytes.ts';
import { LABELS } from '../../protocol/labels.ts';
import { merkleRoot } from '../../protocol/merkle.ts';
import { decodeLeaf } from '../../protocol/messages.ts';
import { stepParticipant } from '../../protocol/participant.ts';
import { addWords, applyMasks, bytesToWords } from '../../protocol/ring.ts';
import type { MaskSeed, SessionMessage } from '../../protocol/session.ts';
import {
  bytesFrom,
  codeOf,
  forgeDelivery,
  idOf,
  listed,
  messagesOf,
  nothingOpened,
  relist,
  senderOf,
  sentBy,
  signAs,
  variants,
} from '../support/malice.ts';
import { plainSum, runSession, type World, type WorldOptions } from '../support/session-world.ts';

const crypto = nodeCrypto;
const MEMBERS = 7;
const VICTIM = 3;
type Hook = NonNullable<WorldOptions['toMember']>;

const without = (
  world: World,
  message: SessionMessage,
  type: 'p1' | 'p2' | 'p3' | 'p4',
  member: number,
): SessionMessage =>
  relist(
    world,
    message,
    listed(message, type).filter((entry) => !equalBytes(senderOf(entry), idOf(world, member))),
  );

describe('A1: both shares of one member', () => {
  it('opens exactly one of the two for every dealer, as U3 says', () => {
    const dropped = toHex(idOf(runSession({ members: MEMBERS }), VICTIM));
    const world = runSession({ members: MEMBERS, drops: { 'masked-input': [dropped] } });
    const replies = sentBy(world, 'p5');
    expect(replies.length).toBe(MEMBERS - 1);
    const dealings = sentBy(world, 'p2');
    for (const { from, message } of replies) {
      const openings = decodeParts(message.attachment, MEMBERS);
      dealings.forEach(({ from: dealer, message: dealing }, i) => {
        const [share, opening] = decodeParts(openings[i] as Uint8Array, 2) as [Uint8Array, Uint8Array];
        const leaf = decodeLeaf(decodeParts(dealing.attachment)[2 * from] as Uint8Array);
        const opens = (label: string): Uint8Array =>
          hashParts(
            crypto,
            utf8(label),
            world.received[0]!.message.sid,
            idOf(world, dealer),
            idOf(world, from),
            share,
            opening,
          );
        expect(equalBytes(opens(LABELS.shareB), leaf.commitmentB)).toBe(dealer !== VICTIM);
        expect(equalBytes(opens(LABELS.shareS), leaf.commitmentS)).toBe(dealer === VICTIM);
      });
    }
  });

  it('answers a second, different certificate with an abort and no second share', () => {
    const world = runSession({
      members: MEMBERS,
      toMember: (message, _to, w) =>
        message.type === 'p5-ask'
          ? [message, relist(w, message, listed(message, 'p4').slice(1)), without(w, message, 'p4', VICTIM)]
          : message,
    });
    for (let m = 0; m < MEMBERS; m++) {
      expect(variants(world, m, 'p5')).toBe(1);
      expect(codeOf(world, m)).toBe('PROTO_EQUIVOCATION');
      expect(world.memberAborts.get(m)?.evidence.length).toBe(2);
    }
  });

  it('signs one set of survivors even if asked for a second that overlaps it', () => {
    const world = runSession({
      members: MEMBERS,
      toMember: (message, _to, w) =>
        message.type === 'p4-ask' ? [message, without(w, message, 'p3', VICTIM)] : message,
    });
    expect(nothingOpened(world)).toBe(true);
    expect(world.outcome).toBeNull();
    for (let m = 0; m < MEMBERS; m++) {
      expect(variants(world, m, 'p4')).toBe(1);
      expect(codeOf(world, m)).toBe('PROTO_EQUIVOCATION');
    }
  });

  it('answers a repeated certificate and a reconnection with the same bytes', () => {
    const world = runSession({
      members: MEMBERS,
      toMember: (message) =>
        message.type === 'result' ? null : message.type === 'p5-ask' ? [message, message] : message,
    });
    for (let m = 0; m < MEMBERS; m++) {
      const before = messagesOf(world, m, 'p5');
      expect(before.length).toBe(2);
      const again = stepParticipant(crypto, world.states[m]!, { type: 'resend' }).effects;
      expect(again).toEqual([{ type: 'send', message: before[0] }]);
      expect(variants(world, m, 'p5')).toBe(1);
    }
  });

  it('opens nothing for a certificate that names another h3, a stranger or one signer many times', () => {
    const forgeries: ((w: World, message: SessionMessage) => SessionMessage)[] = [
      (w, message) =>
        relist(
          w,
          message,
          Array.from({ length: MEMBERS }, () => listed(message, 'p4')[0]!),
        ),
      (w, message) => relist(w, message, listed(message, 'p4').slice(0, -1)),
      (w, message) =>
        relist(
          w,
          message,
          listed(message, 'p4').map(({ body, signature }, i) => ({
            body,
            signature: i === 0 ? bytesFrom('signature') : signature,
          })),
        ),
      (w, message) => relist(w, message, []),
    ];
    for (const forgery of forgeries) {
      const world = runSession({
        members: MEMBERS,
        toMember: (message, _to, w) => (message.type === 'p5-ask' ? forgery(w, message) : message),
      });
      expect(nothingOpened(world)).toBe(true);
      expect(world.outcome).toBeNull();
      expect(world.memberAborts.size).toBe(MEMBERS);
    }
  });
});

describe('A2: different survivor sets to different clients', () => {
  for (const group of [1, 3, 4, 6]) {
    it(`opens nothing when ${group} of ${MEMBERS} see a smaller U3`, () => {
      const asked = new Map<number, SessionMessage>();
      const toMember: Hook = (message, to, w) => {
        if (message.type === 'p4-ask') {
          const shown = to < group && to !== VICTIM ? without(w, message, 'p3', VICTIM) : message;
          asked.set(to, shown);
          return shown;
        }
        // The coordinator does not give up: it sends everybody every signature it could collect.
        if (message.type === 'abort' || message.type === 'p5-ask') {
          const collected = sentBy(w, 'p4').map(({ message: p4 }) => p4);
          return relist(w, { ...message, type: 'p5-ask' }, collected);
        }
        return message;
      };
      const world = runSession({ members: MEMBERS, toMember });
      expect(asked.size).toBe(MEMBERS);
      expect(nothingOpened(world)).toBe(true);
      expect(world.outcome).toBeNull();
    });
  }

  it('opens nothing for either view when each gets its own certificate below the threshold', () => {
    const toMember: Hook = (message, to, w) => {
      if (message.type === 'p4-ask') return to < 3 ? without(w, message, 'p3', VICTIM) : message;
      if (message.type !== 'abort' && message.type !== 'p5-ask') return message;
      const own = messagesOf(w, to, 'p4')[0];
      if (own === undefined) return message;
      const h3 = decodeParts(own.body)[1] as Uint8Array;
      const alike = sentBy(w, 'p4').filter(({ message: p4 }) => equalBytes(decodeParts(p4.body)[1] as Uint8Array, h3));
      return relist(
        w,
        { ...message, type: 'p5-ask' },
        alike.map(({ message: p4 }) => p4),
      );
    };
    const world = runSession({ members: MEMBERS, toMember });
    expect(nothingOpened(world)).toBe(true);
    expect([...world.memberAborts.values()].some(({ code }) => code === 'PROTO_COHORT')).toBe(true);
  });
});

describe('A3: different cohorts to different clients', () => {
  it('aborts before any upload when the members saw different U1', () => {
    const toMember: Hook = (message, to, w) => {
      if (message.type === 'p1-all') return to < 3 ? without(w, message, 'p1', MEMBERS - 1) : message;
      if (message.type === 'abort' || message.type === 'p2-all') {
        const dealt = sentBy(w, 'p2');
        return dealt.length === 0 ? message : forgeDelivery(w, to, dealt);
      }
      return message;
    };
    const world = runSession({ members: MEMBERS, toMember });
    expect(sentBy(world, 'p3').length).toBe(0);
    expect(sentBy(world, 'p2').length).toBeGreaterThan(3);
    expect(world.memberAborts.size).toBeGreaterThan(0);
    expect(world.outcome).toBeNull();
  });

  /** The colluder's P2 with the same shares under another root: only the leaf of its own shares differs. */
  function secondRoot(w: World, message: SessionMessage): SessionMessage {
    const parts = decodeParts(message.attachment);
    parts[2 * VICTIM] = (parts[2 * VICTIM] as Uint8Array).map((byte, i) => (i === 4 ? byte ^ 1 : byte));
    const [id, h1] = decodeParts(message.body) as [Uint8Array, Uint8Array];
    const leaves = parts.filter((_, i) => i % 2 === 0);
    return signAs(w, VICTIM, 'p2', encodeParts([id, h1, merkleRoot(crypto, leaves)]), encodeParts(parts));
  }

  type View = (w: World, dealt: ReturnType<typeof sentBy>) => ReturnType<typeof sentBy>;
  const withoutVictim: View = (_w, dealt) => dealt.filter(({ from }) => from !== VICTIM);
  const otherRoot: View = (w, dealt) =>
    dealt.map(({ from, message }) => ({ from, message: from === VICTIM ? secondRoot(w, message) : message }));

  /** Runs a session in which members below `group` see another U2; returns the sum of all uploads without self masks. */
  function splitDealers(group: number, view: View): { world: World; bare: Uint32Array; uploads: number } {
    const selfSeeds: MaskSeed[] = [];
    let bare: Uint32Array | null = null;
    let uploads = 0;
    const world = runSession({
      members: MEMBERS,
      toMember: (message, to, w) => {
        if (message.type === 'p2-all' && to < group) return forgeDelivery(w, to, view(w, sentBy(w, 'p2')));
        if (message.type === 'abort' || message.type === 'p4-ask') {
          return relist(
            w,
            { ...message, type: 'p4-ask' },
            sentBy(w, 'p3').map(({ message: p3 }) => p3),
          );
        }
        return message;
      },
      fromMember: (message, from, w) => {
        if (message.type === 'p3') {
          // More than a coordinator ever has: the self mask of everybody.
          const mask = w.effects.filter(({ member, effect }) => member === from && effect.type === 'mask').at(-1)!
            .effect as { seeds: readonly MaskSeed[] };
          const [self] = mask.seeds as [MaskSeed];
          selfSeeds.push({ seed: self.seed.slice(), sign: -1 });
          const words = bytesToWords(message.attachment);
          if (bare === null) bare = words.slice();
          else addWords(bare, words, w.params.ring.lanes);
          uploads += 1;
        }
        return message;
      },
    });
    const sum = bare ?? new Uint32Array(0);
    applyMasks(sum, world.params.ring.lanes, selfSeeds, crypto);
    return { world, bare: sum, uploads };
  }

  for (const [name, view] of [
    ['members of U2', withoutVictim],
    ['roots of one colluding dealer', otherRoot],
  ] as const) {
    it(`gives garbage, never a sum, when the members saw different ${name}`, () => {
      const { world, bare, uploads } = splitDealers(3, view);
      expect(uploads).toBe(MEMBERS);
      const ids = world.members.map(({ id }) => id);
      // Masks of different views do not cancel: no word of the sum survives, whoever is counted.
      for (const counted of [ids, ids.filter((_, m) => m !== VICTIM), ids.slice(0, 3), ids.slice(3)]) {
        const plain = plainSum(world, counted);
        expect([...bare].filter((word, i) => word === plain[i]).length).toBe(0);
      }
      expect(nothingOpened(world)).toBe(true);
      for (let m = 0; m < MEMBERS; m++) expect(codeOf(world, m)).toMatch(/^PROTO_(EQUIVOCATION|COHORT)$/);
    });
  }

  it('control: with one view the same coalition gets the sum', () => {
    const { world, bare } = splitDealers(0, otherRoot);
    expect(bare).toEqual(
      plainSum(
        world,
        world.members.map(({ id }) => id),
      ),
    );
  });
});
