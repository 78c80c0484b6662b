import { describe, expect, it } from 'vitest';
import { decodeParts, encodeParts } from '../../protocol/bytes.ts';
import { neighboursOf } from '../../protocol/graph.ts';
import { decodeReveal, encodeBodies, type SignedBody } from '../../protocol/messages.ts';
import type { SessionMessage } from '../../protocol/session.ts';
import { bytesFrom, codeOf, forge, idOf, listed, messagesOf, relist, signAs, variants } from '../support/malice.ts';
import { runSession, type World } from '../support/session-world.ts';
import { SPARSE_MEMBERS as MEMBERS, SPARSE, sparseCohort } from '../support/sparse.ts';

const COLLUDER = 3;
const everybody = Array.from({ length: MEMBERS }, (_, m) => m);
const types = (world: World, type: SessionMessage['type']): number =>
  world.sent.filter(({ message }) => message.type === type).length;

describe('A7 and A28: a graph that the server chose or grinds', () => {
  const showing = (change: (entries: SignedBody[], world: World) => readonly SignedBody[]): World =>
    runSession({
      members: MEMBERS,
      params: SPARSE,
      toMember: (message, _to, w) =>
        message.type === 'p1r-all' ? relist(w, message, change(listed(message, 'p1r'), w)) : message,
    });
  const refusedByAll = (world: World, code: string): void => {
    for (const m of everybody) expect(codeOf(world, m)).toBe(code);
    expect(types(world, 'p2')).toBe(0);
  };

  it('control: the honest reveals are accepted', () => {
    const world = showing((entries) => entries);
    expect(world.outcome?.survivors.length).toBe(MEMBERS);
  });

  it('is refused with a part that its member did not commit to, however well it is signed', () => {
    const world = showing((entries, w) => {
      const { id, h1 } = decodeReveal((entries[COLLUDER] as SignedBody).body);
      const chosen = signAs(w, COLLUDER, 'p1r', encodeParts([id, h1, bytesFrom('chosen')]));
      return entries.map((entry, i) => (i === COLLUDER ? chosen : entry));
    });
    refusedByAll(world, 'CRYPTO_COMMITMENT');
  });

  it('is refused with a part left out, repeated, out of order, or signed by another', () => {
    for (const change of [
      (entries: SignedBody[]) => entries.slice(1),
      // A prefix in order: nothing but the number is wrong.
      (entries: SignedBody[]) => entries.slice(0, -1),
      () => [],
      (entries: SignedBody[]) => [...entries.slice(0, -1), entries[0] as SignedBody],
      (entries: SignedBody[]) => [...entries, entries[0] as SignedBody],
      (entries: SignedBody[]) => [...entries].reverse(),
    ])
      refusedByAll(showing(change), 'PROTO_COHORT');
    refusedByAll(
      showing((entries, w) => entries.map((entry, i) => (i === 0 ? signAs(w, COLLUDER, 'p1r', entry.body) : entry))),
      'AUTH_SIGNATURE',
    );
  });

  it('is refused with a part that was given under another U1', () => {
    // The server shows one member a smaller U1 to learn its part, and then tries to use that part for the real one.
    let stolen: SessionMessage | null = null;
    const world = runSession({
      members: MEMBERS,
      params: SPARSE,
      toMember: (message, to, w) => {
        if (message.type === 'p1-all' && to === 0)
          return relist(
            w,
            message,
            listed(message, 'p1').filter((_, i) => i !== MEMBERS - 1),
          );
        return message;
      },
      fromMember: (message, from) => {
        if (message.type === 'p1r' && from === 0) stolen = message;
        return message;
      },
    });
    expect(stolen).not.toBeNull();
    // The honest aggregator refuses the part; a malicious one that passes it on is refused by every member.
    expect(world.abort?.code).toBe('ROUND_REVEAL');
    expect(types(world, 'p2')).toBe(0);
    const passedOn = showing((entries) =>
      entries.map((entry, i) => (i === 0 ? (stolen as unknown as SessionMessage) : entry)),
    );
    refusedByAll(passedOn, 'PROTO_EQUIVOCATION');
  });

  it('cannot be tried twice: a member gives its part once, under one U1', () => {
    const world = runSession({
      members: MEMBERS,
      params: SPARSE,
      toMember: (message, to, w) =>
        message.type === 'p1-all' && to === 1
          ? [relist(w, message, listed(message, 'p1').slice(0, -1)), message]
          : message,
    });
    expect(variants(world, 1, 'p1r')).toBe(1);
    expect(codeOf(world, 1)).toBe('PROTO_EQUIVOCATION');
  });

  it('gives no part to a server that asks before U1 is fixed', () => {
    const world = runSession({
      members: MEMBERS,
      params: SPARSE,
      toMember: (message, _to, w) => (message.type === 'p1-all' ? forge(w, 'p1r-all', encodeBodies([])) : message),
    });
    for (const m of everybody) expect(codeOf(world, m)).toBe('PROTO_UNEXPECTED');
    expect(types(world, 'p1r')).toBe(0);
  });

  it('does not decide who gets shares: a delivery for other neighbours is refused', () => {
    for (const change of [
      (entries: Uint8Array[]) => entries.slice(1),
      (entries: Uint8Array[]) => [...entries, entries[0] as Uint8Array],
      (entries: Uint8Array[]) => [...entries].reverse(),
    ]) {
      const world = runSession({
        members: MEMBERS,
        params: SPARSE,
        toMember: (message, to, w) => {
          if (message.type !== 'p2-all' || to !== 0) return message;
          const [list, ...entries] = decodeParts(message.attachment);
          return forge(w, 'p2-all', encodeParts([list as Uint8Array, ...change(entries)]), idOf(w, to));
        },
      });
      expect(codeOf(world, 0)).toMatch(/^(CODEC_TRUNCATED|CRYPTO_COMMITMENT)$/);
      expect(messagesOf(world, 0, 'p3')).toEqual([]);
    }
  });

  it('does not let a member pose as the committee, or deal to whom it likes', () => {
    const world = runSession({
      members: 40,
      params: { ...SPARSE, dropoutFraction: 0.1 },
      fromMember: (message, from, w) => {
        if (message.type !== 'p1') return message;
        return [message, signAs(w, from, 'p1r', encodeParts([idOf(w, from), bytesFrom('h1'), bytesFrom('part')]))];
      },
    });
    // Too early for everybody; nobody's later part counts after that.
    expect(world.outcome).toBeNull();
    const short = runSession({
      members: MEMBERS,
      params: SPARSE,
      fromMember: (message, from) =>
        message.type === 'p2' && from === COLLUDER
          ? { ...message, attachment: encodeParts(decodeParts(message.attachment).slice(2)) }
          : message,
    });
    expect(short.outcome?.survivors.length).toBe(MEMBERS - 1);
  });
});

describe('A28: a neighbourhood or an arc of the ring is dropped', () => {
  /** A world whose coordinator leaves some members out of a list, chosen once the graph is known. */
  const cutting = (type: 'p2-all' | 'p4-ask', count: (world: World) => readonly number[]): World => {
    let out: readonly number[] | null = null;
    return runSession({
      members: MEMBERS,
      params: SPARSE,
      toMember: (message, to, w) => {
        if (message.type !== type) return message;
        out ??= count(w);
        if (out.includes(to)) return null;
        const keeps = (entry: SignedBody): boolean => {
          const [id] = decodeParts(entry.body);
          return !(out ?? []).some((m) => idOf(w, m).every((byte, i) => byte === id?.[i]));
        };
        if (type === 'p4-ask') return relist(w, message, listed(message, 'p3').filter(keeps));
        const [list, ...entries] = decodeParts(message.attachment);
        const bodies = listed({ ...message, attachment: list as Uint8Array }, 'p2');
        const { graph } = sparseCohort(w);
        const dealers = neighboursOf(graph, to);
        const kept = entries.filter((_, i) => !(out ?? []).includes(dealers[i] as number));
        const shown = encodeParts([encodeBodies(bodies.filter(keeps)), ...kept]);
        return forge(w, type, shown, idOf(w, to));
      },
    });
  };
  const arc =
    (length: number, start = 5) =>
    (world: World) =>
      Array.from(sparseCohort(world).graph.ring.subarray(start, start + length));

  for (const [type, answer] of [
    ['p2-all', 'p3'],
    ['p4-ask', 'p4'],
  ] as const) {
    it(`is refused in ${type}, although enough members are left for a certificate`, () => {
      const world = cutting(type, arc(3));
      expect(MEMBERS - 3).toBeGreaterThanOrEqual(sparseCohort(world).quorum);
      const left = everybody.filter((m) => !arc(3)(world).includes(m));
      for (const m of left) {
        expect(codeOf(world, m)).toBe('PRIVACY_COHORT_TOO_SMALL');
        expect(messagesOf(world, m, answer)).toEqual([]);
      }
      expect(world.outcome).toBeNull();
    });

    it(`control: in ${type} as many that are spread over the ring, or one less in a row, may be missing`, () => {
      const spread = (world: World): number[] => [0, 4, 8].map((at) => sparseCohort(world).graph.ring[at] as number);
      for (const choose of [spread, arc(2)]) {
        const world = cutting(type, choose);
        const left = everybody.filter((m) => !choose(world).includes(m));
        for (const m of left) expect(messagesOf(world, m, answer).length).toBe(1);
      }
    });
  }

  it('is refused for the whole neighbourhood of a victim', () => {
    const victim = 2;
    const world = cutting('p4-ask', (w) => neighboursOf(sparseCohort(w).graph, victim).slice(0, 5));
    expect(messagesOf(world, victim, 'p4')).toEqual([]);
    expect(codeOf(world, victim)).toBe('PRIVACY_COHORT_TOO_SMALL');
  });
});
