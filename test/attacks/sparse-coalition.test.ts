import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { decodeParts, encodeParts, toHex } from '../../protocol/bytes.ts';
import { neighboursOf } from '../../protocol/graph.ts';
import type { HeldShares } from '../../protocol/participant-share.ts';
import { applyMasks, packLanes, wordsToBytes } from '../../protocol/ring.ts';
import { sparseQuorum } from '../../protocol/roster.ts';
import type { MaskSeed } from '../../protocol/session.ts';
import { combineShares } from '../../protocol/shamir.ts';
import {
  type At,
  byteStatistic,
  LIMIT,
  type Memories,
  runWatched,
  seedsOf,
  seedsWith,
  selfSeed,
  splitSurvivors,
  strip,
} from '../support/coalition.ts';
import { idOf, messagesOf, signAs } from '../support/malice.ts';
import type { World } from '../support/session-world.ts';
import { SPARSE_MEMBERS as MEMBERS, SPARSE, sparseCohort } from '../support/sparse.ts';

const VICTIM = 0;
const optionsOf = (round: number) => ({ members: MEMBERS, coordinates: 4_096, params: { ...SPARSE, round } });
const bareOf = (world: World): Uint32Array => world.contributions.get(toHex(idOf(world, VICTIM))) as Uint32Array;

interface View {
  readonly world: World;
  readonly memories: Memories;
  readonly holders: readonly number[];
  readonly threshold: number;
}

function viewOf(watched: { world: World; memories: Memories }): View {
  const { graph, threshold } = sparseCohort(watched.world);
  return { ...watched, holders: neighboursOf(graph, VICTIM), threshold };
}

/** What a member holds of the victim; x is its place among the victim's neighbours. */
function shareOf(
  { memories, holders }: View,
  holder: number,
  kind: 'shareB' | 'shareS',
): { x: number; share: Uint8Array } {
  const { held } = memories.agreed.get(holder) as At<'agreed'>;
  return { x: holders.indexOf(holder) + 1, share: (held.get(VICTIM) as HeldShares)[kind] };
}

describe('a coalition of neighbours with a coordinator that only listens (sparse)', () => {
  const rounds = [1, 2, 3, 4];
  const views = rounds.map((round) => viewOf(runWatched(optionsOf(round))));
  /** P5 has given the victim's self seed to the coordinator. */
  const known = (view: View, coalition: readonly number[]): MaskSeed[] => {
    const shares = view.holders.slice(0, view.threshold).map((m) => shareOf(view, m, 'shareB'));
    const b = combineShares(shares, view.holders.length);
    return [selfSeed(view.world, view.memories, VICTIM, b), ...seedsWith(view.world, view.memories, VICTIM, coalition)];
  };

  it('t - 1 of them see an honest vector as uniform bytes, in every round', () => {
    for (const view of views) {
      const { world, holders, threshold } = view;
      for (const coalition of [holders.slice(0, threshold - 1), holders.slice(1 - threshold)]) {
        const rest = strip(world, VICTIM, known(view, coalition));
        expect(byteStatistic(rest)).toBeLessThan(LIMIT);
        expect(rest).not.toEqual(bareOf(world));
      }
    }
    expect(new Set(views.map(({ holders }) => holders.join())).size).toBeGreaterThan(1);
  });

  it('not even all but one of them, with everybody who is no neighbour, see more', () => {
    for (const view of views)
      expect(byteStatistic(strip(view.world, VICTIM, known(view, view.holders.slice(1))))).toBeLessThan(LIMIT);
  });

  it('t - 1 shares rebuild neither secret', () => {
    for (const view of views) {
      const { holders, threshold } = view;
      for (const kind of ['shareB', 'shareS'] as const) {
        const shares = holders.map((m) => shareOf(view, m, kind));
        const whole = combineShares(shares.slice(0, threshold), holders.length);
        expect(combineShares(shares.slice(-threshold), holders.length)).toEqual(whole);
        expect(combineShares(shares.slice(0, threshold - 1), holders.length)).not.toEqual(whole);
      }
    }
  });

  it('control: all neighbours see it bare, and a machine that masks with colluders alone is found', () => {
    for (const view of views) {
      const { world, holders, threshold } = view;
      const rest = strip(world, VICTIM, known(view, holders));
      expect(rest).toEqual(bareOf(world));
      expect(byteStatistic(rest)).toBeGreaterThan(100 * LIMIT);
      // Planted: the upload carries no mask with an honest neighbour.
      const seeds = known(view, holders.slice(0, threshold - 1));
      const words = packLanes(world.values[VICTIM] as Int32Array, 2);
      applyMasks(words, 2, seeds, nodeCrypto);
      const [real] = messagesOf(world, VICTIM, 'p3');
      const upload = signAs(world, VICTIM, 'p3', encodeParts([]), wordsToBytes(words));
      const planted: World = { ...world, sent: [{ from: VICTIM, message: upload }] };
      expect(byteStatistic(strip(planted, VICTIM, seeds))).toBeGreaterThan(100 * LIMIT);
      expect(real?.attachment).not.toEqual(upload.attachment);
    }
  });
});

/** Shares of the victim's two secrets that honest members opened and colluders held. */
function harvest(view: View, apart: readonly number[], colluders: readonly number[]) {
  const { world, holders } = view;
  const found: Record<'shareB' | 'shareS', { x: number; share: Uint8Array }[]> = { shareB: [], shareS: [] };
  const { graph } = sparseCohort(world);
  for (const { from, message } of world.sent) {
    if (message.type !== 'p5' || colluders.includes(from) || !holders.includes(from)) continue;
    const opening = decodeParts(message.attachment)[neighboursOf(graph, from).indexOf(VICTIM)] as Uint8Array;
    const [share] = decodeParts(opening, 2) as [Uint8Array];
    found[apart.includes(from) ? 'shareS' : 'shareB'].push({ x: holders.indexOf(from) + 1, share });
  }
  for (const m of colluders.filter((c) => holders.includes(c)))
    for (const kind of ['shareB', 'shareS'] as const) found[kind].push(shareOf(view, m, kind));
  return found;
}

const strangersOf = ({ world, holders }: View): number[] =>
  world.members.map((_, m) => m).filter((m) => m !== VICTIM && !holders.includes(m));

describe('an active coordinator with colluders (sparse)', () => {
  const honest = viewOf(runWatched(optionsOf(1)));
  const { holders, threshold } = honest;
  const strangers = strangersOf(honest);

  const attack = (apart: readonly number[], colluders: readonly number[]) => {
    const view = viewOf(splitSurvivors(optionsOf(1), VICTIM, apart, colluders));
    return { view, ...harvest(view, apart, colluders) };
  };

  it('2 q > |U1| + c for every cohort: no two certificates', () => {
    for (let members = 3; members <= 65_535; members += members < 300 ? 1 : 997)
      for (let c = 0; c < members; c += members < 300 ? 1 : 613)
        expect(2 * sparseQuorum(members, c)).toBeGreaterThan(members + c);
  });

  const colluder = [holders[7] as number];
  const honestOnes = [...holders.slice(0, 7), ...strangers];
  for (const count of [1, 3, 5, 6, 8, 10]) {
    it(`c = 1 of 12, ${count} honest members shown another U3: at most one kind of share reaches t`, () => {
      // Neighbours and strangers alternate, so that both views hold some of each.
      const apart = honestOnes.filter((_, i) => (i * 7) % 10 < count);
      const { view, shareB, shareS } = attack(apart.slice(0, count), colluder);
      expect(shareB.length >= threshold && shareS.length >= threshold).toBe(false);
      const pairs = seedsWith(view.world, view.memories, VICTIM, colluder);
      const b = shareB.length >= threshold ? combineShares(shareB.slice(0, threshold), holders.length) : null;
      const seeds = b === null ? pairs : [selfSeed(view.world, view.memories, VICTIM, b), ...pairs];
      expect(byteStatistic(strip(view.world, VICTIM, seeds))).toBeLessThan(LIMIT);
    });
  }

  it('control: two corrupt neighbours, one more than c, get both certificates, both secrets and the bare vector', () => {
    const two = holders.slice(6);
    const apart = [...holders.slice(3, 6), ...strangers.slice(0, 2)];
    const { view, shareB, shareS } = attack(apart, two);
    expect(Math.min(shareB.length, shareS.length)).toBeGreaterThanOrEqual(threshold);
    const secret = combineShares(shareS.slice(0, threshold), holders.length);
    const b = combineShares(shareB.slice(0, threshold), holders.length);
    const seeds = [
      selfSeed(view.world, view.memories, VICTIM, b),
      ...seedsOf(view.world, view.memories, VICTIM, secret, holders),
    ];
    expect(strip(view.world, VICTIM, seeds)).toEqual(bareOf(view.world));
  });
});

/*
 * One more than c corrupt members make two certificates, so that q stops nothing here: what a neighbour opens depends on the
 * view it was shown. The threshold is then all that is left, for as many corrupt neighbours as the graph allows for.
 */
describe('A1 and A26: both kinds of shares of one member under two certificates (sparse)', () => {
  // k = 14, t = 10, q = 23: six corrupt members sign two views of 17 honest ones each.
  const COHORT = 40;
  const CORRUPT = 4;
  const options = {
    members: COHORT,
    coordinates: 4_096,
    params: { ...SPARSE, colluders: CORRUPT, dropoutFraction: 0.05, minSurvivors: COHORT / 2 },
  };
  const honest = viewOf(runWatched(options));
  const { holders } = honest;
  const strangers = strangersOf(honest);
  const coalition = 2 * sparseQuorum(COHORT, CORRUPT) - COHORT;

  /** So many of the coalition are neighbours of the victim, and so many honest neighbours see U3 without it. */
  function attack(corruptNeighbours: number, neighboursApart: number) {
    const colluders = [...holders.slice(0, corruptNeighbours), ...strangers.slice(0, coalition - corruptNeighbours)];
    const apart = [
      ...holders.slice(corruptNeighbours, corruptNeighbours + neighboursApart),
      ...strangers.slice(coalition).slice(0, (COHORT - coalition) / 2 - neighboursApart),
    ];
    const view = viewOf(splitSurvivors(options, VICTIM, apart, colluders));
    return { view, colluders, ...harvest(view, apart, colluders) };
  }
  type Attack = ReturnType<typeof attack>;
  /** What is left of the upload after everything that the coalition can take off it. */
  function best({ view, colluders, shareB, shareS }: Attack): Uint32Array {
    const { world, memories, threshold } = view;
    const has = (shares: Attack['shareB']): boolean => shares.length >= threshold;
    const rebuilt = (shares: Attack['shareB']): Uint8Array => combineShares(shares.slice(0, threshold), holders.length);
    const corrupt = colluders.filter((m) => holders.includes(m));
    return strip(world, VICTIM, [
      ...(has(shareB) ? [selfSeed(world, memories, VICTIM, rebuilt(shareB))] : []),
      ...(has(shareS)
        ? seedsOf(world, memories, VICTIM, rebuilt(shareS), holders)
        : seedsWith(world, memories, VICTIM, corrupt)),
    ]);
  }

  it('colluders that only listen rebuild nothing from the shares that they were dealt', () => {
    const { world, memories, threshold } = honest;
    const own = holders.slice(0, CORRUPT).map((m) => shareOf(honest, m, 'shareS'));
    const secret = combineShares(own.slice(0, threshold), holders.length);
    const b = holders.slice(0, threshold).map((m) => shareOf(honest, m, 'shareB'));
    const rest = strip(world, VICTIM, [
      selfSeed(world, memories, VICTIM, combineShares(b, holders.length)),
      ...seedsOf(world, memories, VICTIM, secret, holders),
    ]);
    expect(rest).not.toEqual(bareOf(world));
    expect(byteStatistic(rest)).toBeLessThan(LIMIT);
  });

  for (const part of [0.2, 0.5, 0.8]) {
    it(`c corrupt neighbours and two certificates, ${part} of the honest neighbours shown another U3: never both kinds`, () => {
      const attacked = attack(CORRUPT, Math.round(part * (holders.length - CORRUPT)));
      const { view, shareB, shareS } = attacked;
      // Both views were certified: every honest neighbour opened, of one kind or the other.
      expect(shareB.length + shareS.length).toBe(holders.length + CORRUPT);
      expect(Math.min(shareB.length, shareS.length)).toBeGreaterThan(CORRUPT);
      expect(Math.min(shareB.length, shareS.length)).toBeLessThan(view.threshold);
      expect(byteStatistic(best(attacked))).toBeLessThan(LIMIT);
    });
  }

  it('control: with the whole coalition around the victim both kinds reach t, and the vector is bare', () => {
    const attacked = attack(coalition, (holders.length - coalition) / 2);
    const { view, shareB, shareS } = attacked;
    expect(Math.min(shareB.length, shareS.length)).toBeGreaterThanOrEqual(view.threshold);
    expect(best(attacked)).toEqual(bareOf(view.world));
  });
});
