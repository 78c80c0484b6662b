import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { decodeParts, encodeParts, equalBytes, hashParts, toHex, utf8 } from '../../protocol/bytes.ts';
import { neighboursOf } from '../../protocol/graph.ts';
import { LABELS } from '../../protocol/labels.ts';
import { decodeLeaf, encodeBodies, signMessage } from '../../protocol/messages.ts';
import { encodeParams, sessionId } from '../../protocol/params.ts';
import { stepParticipant } from '../../protocol/participant.ts';
import type { MessageType, SessionMessage, SessionParams } from '../../protocol/session.ts';
import {
  bytesFrom,
  codeOf,
  forge,
  idOf,
  listed,
  messagesOf,
  nothingOpened,
  relist,
  senderOf,
  sentBy,
  sidOf,
  variants,
} from '../support/malice.ts';
import { plainSum, runSession, type World, type WorldOptions } from '../support/session-world.ts';
import { SPARSE_MEMBERS as MEMBERS, SPARSE, sparseCohort } from '../support/sparse.ts';

const crypto = nodeCrypto;
const VICTIM = 3;
const everybody = Array.from({ length: MEMBERS }, (_, m) => m);
const run = (more: Partial<WorldOptions> = {}): World =>
  runSession({ members: MEMBERS, ...more, params: { ...SPARSE, ...more.params } });
const honest = run();
const hexOf = (member: number): string => toHex(idOf(honest, member));

const without = (world: World, message: SessionMessage, type: 'p1' | 'p3' | 'p4', member: number): SessionMessage =>
  relist(
    world,
    message,
    listed(message, type).filter((entry) => !equalBytes(senderOf(entry), idOf(world, member))),
  );

describe('A1: both shares of one member (sparse)', () => {
  it('opens one share of each neighbour in U2, of the kind that U3 says, and none of anybody else', () => {
    const world = run({ drops: { 'masked-input': [hexOf(VICTIM)] } });
    const { graph } = sparseCohort(world);
    const replies = sentBy(world, 'p5');
    expect(replies.length).toBe(MEMBERS - 1);
    for (const { from, message } of replies) {
      const dealers = neighboursOf(graph, from);
      const openings = decodeParts(message.attachment, dealers.length);
      dealers.forEach((dealer, i) => {
        const [share, opening] = decodeParts(openings[i] as Uint8Array, 2) as [Uint8Array, Uint8Array];
        const [dealing] = messagesOf(world, dealer, 'p2') as [SessionMessage];
        const at = neighboursOf(graph, dealer).indexOf(from);
        const leaf = decodeLeaf(decodeParts(dealing.attachment)[2 * at] as Uint8Array);
        const opens = (label: string): Uint8Array =>
          hashParts(crypto, utf8(label), sidOf(world), idOf(world, dealer), idOf(world, from), share, opening);
        expect(equalBytes(opens(LABELS.shareB), leaf.commitmentB)).toBe(dealer !== VICTIM);
        expect(equalBytes(opens(LABELS.shareS), leaf.commitmentS)).toBe(dealer === VICTIM);
      });
    }
  });

  it('answers one certificate and one U3, by the same bytes however often', () => {
    for (const [asked, answer, type] of [
      ['p4-ask', 'p4', 'p3'],
      ['p5-ask', 'p5', 'p4'],
    ] as const) {
      const world = run({
        toMember: (message, _to, w) =>
          message.type === asked ? [message, message, without(w, message, type, VICTIM)] : message,
      });
      for (const m of everybody) {
        expect(messagesOf(world, m, answer).length).toBeGreaterThan(0);
        expect(variants(world, m, answer)).toBe(1);
        expect(codeOf(world, m)).toBe('PROTO_EQUIVOCATION');
      }
    }
  });

  it('gives the same reveal, dealing and reply to a member that comes back and asks', () => {
    const world = run({ toMember: (message) => (message.type === 'result' ? null : [message, message]) });
    for (const m of everybody) {
      for (const type of ['p1', 'p1r', 'p2', 'p3', 'p4', 'p5'] as const) {
        expect(messagesOf(world, m, type).length).toBeGreaterThan(0);
        expect(variants(world, m, type)).toBe(1);
      }
      const again = stepParticipant(crypto, world.states[m]!, { type: 'resend' }).effects;
      expect(again).toEqual([{ type: 'send', message: messagesOf(world, m, 'p5')[0] }]);
    }
  });

  it('opens nothing for a certificate below q, repeated, foreign or unsigned; q signatures are enough', () => {
    const { quorum } = sparseCohort(honest);
    const asking = (change: (w: World, entries: ReturnType<typeof listed>) => Parameters<typeof relist>[2]): World =>
      run({
        toMember: (message, _to, w) =>
          message.type === 'p5-ask' ? relist(w, message, change(w, listed(message, 'p4'))) : message,
      });
    expect(asking((_w, entries) => entries.slice(0, quorum)).outcome).not.toBeNull();
    const forgeries: Parameters<typeof asking>[0][] = [
      (_w, entries) => entries.slice(0, quorum - 1),
      (_w, entries) => [...entries.slice(0, quorum - 1), entries[0]!],
      (_w, entries) =>
        entries.map(({ body }, i) => ({ body, signature: i === 0 ? bytesFrom('s') : entries[i]!.signature })),
      () => [],
    ];
    for (const forgery of forgeries) {
      const world = asking(forgery);
      expect(nothingOpened(world)).toBe(true);
      expect(world.memberAborts.size).toBe(MEMBERS);
    }
  });
});

describe('A2: different survivor sets to different clients (sparse)', () => {
  for (const group of [1, 3, 6, 8, 11]) {
    it(`one view at most is opened when ${group} of ${MEMBERS} see a smaller U3, each served every signature that fits`, () => {
      const seen = new Map<number, string>();
      const world = run({
        toMember: (message, to, w) => {
          if (message.type === 'p4-ask') {
            const shown = to < group && to !== VICTIM ? without(w, message, 'p3', VICTIM) : message;
            seen.set(to, toHex(shown.attachment));
            return shown;
          }
          if (message.type !== 'abort' && message.type !== 'p5-ask') return message;
          const own = messagesOf(w, to, 'p4')[0];
          if (own === undefined) return null;
          const h3 = decodeParts(own.body)[1] as Uint8Array;
          const alike = sentBy(w, 'p4').filter(({ message: p4 }) =>
            equalBytes(decodeParts(p4.body)[1] as Uint8Array, h3),
          );
          return relist(
            w,
            { ...message, type: 'p5-ask' },
            alike.map(({ message: p4 }) => p4),
          );
        },
      });
      expect(seen.size).toBe(MEMBERS);
      const opened = new Set(sentBy(world, 'p5').map(({ from }) => seen.get(from)));
      expect(opened.size).toBeLessThan(2);
    });
  }

  it('control: with one view everybody opens', () => {
    expect(sentBy(honest, 'p5').length).toBe(MEMBERS);
  });
});

describe('A3: different cohorts to different clients (sparse)', () => {
  for (const group of [1, 4, 8, 10, 11]) {
    const agrees = group === MEMBERS - 1;
    it(`${agrees ? 'control: all but one go on together when' : 'no share is dealt when'} ${group} members saw another U1, whichever reveals they are shown`, () => {
      const world = run({
        toMember: (message, to, w) => {
          if (message.type === 'p1-all') return to < group ? without(w, message, 'p1', MEMBERS - 1) : message;
          if (message.type !== 'abort') return message;
          const all = sentBy(w, 'p1r').map(({ message: part }) => part);
          return relist(w, { ...message, type: 'p1r-all' }, to < group ? all.slice(0, -1) : all);
        },
      });
      expect(sentBy(world, 'p1r').length).toBeGreaterThan(0);
      expect(sentBy(world, 'p2').map(({ from }) => from)).toEqual(agrees ? everybody.slice(0, group) : []);
      expect(world.outcome).toBeNull();
    });
  }

  it('equivocating reveals end the member that is shown both, with the pair as evidence', () => {
    const world = run({
      toMember: (message, to, w) =>
        message.type === 'p1r-all' && to === 1
          ? [message, relist(w, message, [...listed(message, 'p1r')].reverse())]
          : message,
    });
    expect(codeOf(world, 1)).toBe('PROTO_EQUIVOCATION');
    expect(world.memberAborts.get(1)?.evidence.map(({ type }) => type)).toEqual(['p1r-all', 'p1r-all']);
    expect(variants(world, 1, 'p2')).toBe(1);
    expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
  });

  it('masks of members with different U2 do not cancel, and no certificate comes about', () => {
    const out = MEMBERS - 1;
    const world = run({
      toMember: (message, to, w) => {
        if (message.type !== 'p2-all' || to >= 5) return message;
        const [list, ...entries] = decodeParts(message.attachment);
        const dealers = neighboursOf(sparseCohort(w).graph, to);
        const bodies = listed({ ...message, attachment: list as Uint8Array }, 'p2');
        const kept = bodies.filter((entry) => !equalBytes(senderOf(entry), idOf(w, out)));
        const shown = encodeParts([encodeBodies(kept), ...entries.filter((_, i) => dealers[i] !== out)]);
        return forge(w, 'p2-all', shown, idOf(w, to));
      },
    });
    const h2 = new Set(sentBy(world, 'p3').map(({ message }) => toHex(decodeParts(message.body)[1] as Uint8Array)));
    expect(h2.size).toBe(2);
    // The honest machine keeps those who saw the real list; of the others nothing is folded.
    for (let m = 0; m < 5; m++) expect(messagesOf(world, m, 'p5')).toEqual([]);
    if (world.outcome !== null) expect(world.outcome.sum).toEqual(plainSum(world, world.outcome.survivors));
  });
});

describe('A8 and A13: other models, replay (sparse)', () => {
  const down: readonly MessageType[] = ['p1-all', 'p1r-all', 'p2-all', 'p4-ask', 'p5-ask'];
  const up: readonly MessageType[] = ['p1', 'p1r', 'p2', 'p3', 'p4', 'p5'];
  const old = honest;

  for (const type of down) {
    it(`A13: a ${type} of an earlier round under the new session identifier is not accepted`, () => {
      const world = run({
        params: { round: 2 },
        toMember: (message, to) =>
          message.type === type
            ? { ...old.received.find((r) => r.to === to && r.message.type === type)!.message, sid: message.sid }
            : message,
      });
      for (const m of everybody) expect(codeOf(world, m)).toBe('AUTH_SIGNATURE');
      expect(world.outcome).toBeNull();
    });
  }

  for (const type of up) {
    it(`A13: a ${type} of an earlier round under the new session identifier names its sender only`, () => {
      const world = run({
        params: { round: 2 },
        fromMember: (message, from) =>
          message.type === type && from === 0 ? { ...messagesOf(old, 0, type)[0]!, sid: message.sid } : message,
      });
      const faults = (world.outcome ?? world.abort)?.faults.map(({ id, code }) => [toHex(id), code]);
      expect(faults).toEqual([[hexOf(0), 'AUTH_SIGNATURE']]);
      // Without one reveal there is no graph; without one other answer there is a sum.
      if (type === 'p1r') expect(world.abort?.excluded.map(toHex)).toEqual([hexOf(0)]);
      else expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
    });
  }

  it('A13: everything of another round, sent besides, changes nothing', () => {
    const world = run({
      params: { round: 2 },
      toMember: (message, to) => [
        message,
        ...old.received.filter((r) => r.to === to && r.message.type !== 'p0').map((r) => r.message),
      ],
      fromMember: (message, from) => [...old.sent.filter((s) => s.from === from).map((s) => s.message), message],
    });
    expect(world.outcome?.sum).toEqual(
      plainSum(
        world,
        world.members.map(({ id }) => id),
      ),
    );
    expect(world.outcome?.faults).toEqual([]);
  });

  it('A13: another session draws another graph from the same entropy', () => {
    const rings = [old, run({ params: { round: 2 } }), run({ params: { attempt: 1 } })].map((w) =>
      sparseCohort(w).graph.ring.join(),
    );
    expect(new Set(rings).size).toBe(3);
  });

  it('A8: a member with other models is in a session of its own', () => {
    const alone = 1;
    const other = (w: World): SessionMessage => {
      const params: SessionParams = { ...w.params, modelHash: bytesFrom('crafted') };
      return signMessage(crypto, w.coordinator.secretSeed, 'p0', sessionId(crypto, params), encodeParams(params));
    };
    const world = run({
      toMember: (message, to, w) => (to === alone && message.type === 'p0' ? other(w) : message),
    });
    expect(world.outcome?.survivors.map(toHex)).toEqual(everybody.filter((m) => m !== alone).map(hexOf));
    expect(messagesOf(world, alone, 'p1r')).toEqual([]);
  });
});
