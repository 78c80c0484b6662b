import { describe, expect, it } from 'vitest';
import { stepAggregator } from '../../protocol/aggregator.ts';
import { decodeParts, encodeParts, equalBytes, toHex, utf8 } from '../../protocol/bytes.ts';
import { committeeSize, neighboursOf } from '../../protocol/graph.ts';
import { decodeParams, encodeParams } from '../../protocol/params.ts';
import type { AggregatorEvent, SessionMessage, SessionParams } from '../../protocol/session.ts';
import { bytesFrom, codeOf, idOf, listed, messagesOf, relist, senderOf, sentBy, signAs } from '../support/malice.ts';
import { plainSum, runSession, type World, type WorldOptions } from '../support/session-world.ts';
import { SPARSE_MEMBERS as MEMBERS, plannedCohort, SPARSE, sparseCohort } from '../support/sparse.ts';

const run = (more: Partial<WorldOptions> = {}): World =>
  runSession({ members: MEMBERS, ...more, params: { ...SPARSE, ...more.params } });
/** More members than committee: m = 12 of 40. */
const LARGE = 40;
const large = (more: Partial<WorldOptions> = {}): World =>
  runSession({ members: LARGE, ...more, params: { ...SPARSE, dropoutFraction: 0.1, ...more.params } });
const drawn = sparseCohort(large());
const { committee } = drawn.graph;
const outsiders = Array.from({ length: LARGE }, (_, m) => m).filter((m) => !committee.includes(m));

describe('A1 and A7: members that come and go while the graph is drawn', () => {
  /** The coordinator's machine is told something at its n-th reveal. */
  const disturbed = (
    after: number,
    events: (w: { idOf(m: number): Uint8Array }) => readonly AggregatorEvent[],
    more: Partial<WorldOptions> = {},
  ) => {
    let reveals = 0;
    const sends: { to: string; message: SessionMessage }[] = [];
    const world = large({
      ...more,
      aggregatorStep: (provider, state, event) => {
        const step = stepAggregator(provider, state, event);
        if (event.type !== 'message' || event.message.type !== 'p1r' || ++reveals !== after) return step;
        const ids = state.roster.entries.map(({ id }) => id);
        return events({ idOf: (m) => ids[m] as Uint8Array }).reduce((before, next) => {
          const then = stepAggregator(provider, before.state, next);
          for (const effect of then.effects)
            if (effect.type === 'send') sends.push({ to: toHex(effect.to), message: effect.message });
          return {
            state: then.state,
            effects: [...before.effects, ...then.effects],
            consumed: [...before.consumed, ...then.consumed],
          };
        }, step);
      },
    });
    return { world, sends };
  };
  const [away] = outsiders as [number];
  const [first] = committee as [number];

  it('a member that was away during the reveals gets U1 with them and goes on', () => {
    // Both lists were lost; it is back when the shares are being dealt.
    const missed = new Set<string>();
    const { world, sends } = disturbed(committee.length, (w) => [{ type: 'reconnected', id: w.idOf(away) }], {
      toMember: (message, to) => {
        const isMissed = to === away && /^p1(r)?-all$/.test(message.type) && !missed.has(message.type);
        if (isMissed) missed.add(message.type);
        return isMissed ? null : message;
      },
    });
    expect(sends.map(({ message }) => message.type)).toEqual(['p1-all', 'p1r-all']);
    expect(world.outcome?.survivors.length).toBe(LARGE);
    expect(codeOf(world, away)).toBeUndefined();
  });

  it('a committee member that is lost before its reveal and back in time costs nothing', () => {
    const { world } = disturbed(1, (w) => [
      { type: 'lost', id: w.idOf(committee.at(-1) as number) },
      { type: 'reconnected', id: w.idOf(committee.at(-1) as number) },
    ]);
    expect(world.outcome?.survivors.length).toBe(LARGE);
  });

  it('a committee member that reveals and vanishes has given its part: the graph is drawn, it is a dropped member', () => {
    const world = large({ drops: { 'share-keys': [toHex(idOf(large(), first))] } });
    expect(messagesOf(world, first, 'p1r').length).toBe(1);
    expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
    expect(world.outcome?.survivors.length).toBe(LARGE - 1);
  });

  it('one that reveals and then gives up is not waited for, and its part counts', () => {
    const world = large({
      fromMember: (message, from, w) =>
        message.type === 'p1r' && from === first
          ? [message, signAs(w, from, 'abort', encodeParts([idOf(w, from), utf8('PROTO_DEADLINE')]))]
          : message,
    });
    expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
    expect(world.outcome?.survivors.map(toHex)).not.toContain(toHex(idOf(world, first)));
    expect(sparseCohort(world).graph.ring).toEqual(drawn.graph.ring);
  });

  it('one that gives up instead of revealing, sends another part or two parts: it alone is left out', () => {
    const part = (w: World, message: SessionMessage, seed: Uint8Array): SessionMessage => {
      const [id, h1] = decodeParts(message.body) as [Uint8Array, Uint8Array];
      return signAs(w, first, 'p1r', encodeParts([id, h1, seed]));
    };
    const worlds = [
      (w: World) => signAs(w, first, 'abort', encodeParts([idOf(w, first), utf8('PROTO_DEADLINE')])),
      (w: World, message: SessionMessage) => part(w, message, bytesFrom('another part')),
    ].map((change) =>
      large({
        fromMember: (message, from, w) => (message.type === 'p1r' && from === first ? change(w, message) : message),
      }),
    );
    for (const world of worlds) {
      expect(world.abort).toMatchObject({ code: 'ROUND_REVEAL', uploadBegun: false });
      expect(world.abort?.excluded.map(toHex)).toEqual([toHex(idOf(world, first))]);
      expect(sentBy(world, 'p2')).toEqual([]);
    }
    // The first part counts; the second is evidence.
    const twice = large({
      fromMember: (message, from, w) =>
        message.type === 'p1r' && from === first ? [message, part(w, message, bytesFrom('another part'))] : message,
    });
    expect(twice.outcome?.faults.map(({ id, code }) => [toHex(id), code])).toEqual([
      [toHex(idOf(twice, first)), 'PROTO_EQUIVOCATION'],
    ]);
    expect(sparseCohort(twice).graph.ring).toEqual(drawn.graph.ring);
  });

  it('a reveal of somebody outside the committee removes that member and changes nothing of the graph', () => {
    const world = large({
      aggregatorStep: (provider, state, event) => {
        const step = stepAggregator(provider, state, event);
        if (event.type !== 'message' || event.message.type !== 'p1r' || state.session?.received.size !== 0) return step;
        const entry = state.roster.entries[away] as { id: Uint8Array };
        const body = encodeParts([entry.id, state.session.cohort.h1, bytesFrom('part')]);
        const forged = signAs(honestLarge, away, 'p1r', body);
        const next = stepAggregator(provider, step.state, { type: 'message', from: entry.id, message: forged });
        return { ...next, effects: [...step.effects, ...next.effects], consumed: [...step.consumed, ...next.consumed] };
      },
    });
    expect(world.outcome?.faults.map(({ id, code }) => [toHex(id), code])).toEqual([
      [toHex(idOf(world, away)), 'PROTO_UNEXPECTED'],
    ]);
    expect(world.outcome?.survivors.length).toBe(LARGE - 1);
    expect(sparseCohort(world).graph.ring).toEqual(drawn.graph.ring);
  });
  const honestLarge = large();
});

describe('A28: how many graphs a coordinator can look at', () => {
  /**
   * It shows each of several cohorts to the committee of that cohort alone, sees the graph that they would have, and goes on
   * with the one it likes. A member reveals once, so every look costs it the honest members of one committee.
   */
  const lookAround = (tries: number): { rings: Set<string>; burned: Set<number>; world: World } => {
    const rings = new Set<string>();
    const burned = new Set<number>();
    const world = runSession({
      members: 200,
      params: { ...SPARSE, dropoutFraction: 0.05, minSurvivors: 60 },
      toMember: (message, to, w) => {
        if (message.type === 'p0') return message;
        // Nothing is said of the others.
        if (message.type !== 'p1-all') return null;
        return shownTo(w, message, tries).get(to) ?? null;
      },
      fromMember: (message, from) => {
        if (message.type === 'p1r') burned.add(from);
        return message;
      },
    });
    // Parts by cohort: the coordinator can compute the seed of each cohort whose committee has spoken.
    for (const { message } of sentBy(world, 'p1r')) rings.add(toHex(decodeParts(message.body)[1] as Uint8Array));
    return { rings, burned, world };
  };
  let plan: Map<number, SessionMessage> | null = null;
  function shownTo(w: World, message: SessionMessage, tries: number): Map<number, SessionMessage> {
    if (plan !== null) return plan;
    plan = new Map();
    for (let k = 0; k < tries; k++) {
      // Cohorts without anybody who has revealed already.
      const free = listed(message, 'p1').filter(
        (entry) => !plan?.has(w.members.findIndex(({ id }) => equalBytes(id, senderOf(entry)))),
      );
      const shown = relist(w, message, free);
      const members = free.map((entry) => w.members.findIndex(({ id }) => equalBytes(id, senderOf(entry))));
      for (const rank of plannedCohort(w, shown).plan?.committee ?? []) plan.set(members[rank] as number, shown);
    }
    return plan;
  }

  it('is bounded by the committees that fit into the invited members: no member speaks for two cohorts', () => {
    const tries = 6;
    const { rings, burned, world } = lookAround(tries);
    expect(rings.size).toBe(tries);
    const least = committeeSize(200, 1);
    expect(burned.size).toBeGreaterThanOrEqual(tries * least);
    for (const m of burned) expect(messagesOf(world, m, 'p1r').length).toBe(1);
    // Nobody deals anything for a cohort that was only looked at.
    expect(sentBy(world, 'p2')).toEqual([]);
  });
});

describe('A6 and A23: parameters that cost time or memory', () => {
  const params = run().params;
  const offered = (changes: Partial<SessionParams>): string => {
    try {
      decodeParams(encodeParams({ ...params, ...changes }));
      return 'accepted';
    } catch (error) {
      return (error as Error).message;
    }
  };
  it('are refused by themselves: too many members, a fraction that is none, colluders that are everybody', () => {
    expect(offered({})).toBe('accepted');
    expect(offered({ minSurvivors: 65_535 })).toBe('accepted');
    expect(offered({ minSurvivors: 65_536 })).toContain('minSurvivors');
    for (const dropoutFraction of [Number.NaN, Number.POSITIVE_INFINITY, -0.1, 1.01])
      expect(offered({ dropoutFraction })).not.toBe('accepted');
    expect(offered({ colluders: 3 })).toContain('colluders');
    expect(offered({ colluders: 2 ** 32 - 1 })).toContain('colluders');
  });

  it('end in a refusal when no graph exists, and neighbours stay distinct at every size that has one', () => {
    for (const changes of [
      { dropoutFraction: 1 },
      { dropoutFraction: 0.999 },
      { colluders: 3, minSurvivors: 4, dropoutFraction: 0.4 },
    ]) {
      const world = run({ params: changes });
      expect([world.abort?.code, sentBy(world, 'p2').length]).toEqual(['ROUND_BELOW_THRESHOLD', 0]);
    }
    const { graph } = sparseCohort(run());
    for (let rank = 0; rank < MEMBERS; rank++) {
      const neighbours = neighboursOf(graph, rank);
      expect(new Set(neighbours).size).toBe(graph.degree);
      expect(neighbours).not.toContain(rank);
    }
  });
});
