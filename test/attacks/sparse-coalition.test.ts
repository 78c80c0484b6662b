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

describe('an active coordinator with colluders (sparse)', () => {
  const honest = viewOf(runWatched(optionsOf(1)));
  const { holders, threshold } = honest;
  const strangers = Array.from({ length: MEMBERS }, (_, m) => m).filter((m) => m !== VICTIM && !holders.includes(m));

  /** Shares of the victim's two secrets that honest members opened and colluders held. */
  function harvest(view: View, apart: readonly number[], colluders: readonly number[]) {
    const found: Record<'shareB' | 'shareS', { x: number; share: Uint8Array }[]> = { shareB: [], shareS: [] };
    const { graph } = sparseCohort(view.world);
    for (const { from, message } of view.world.sent) {
      if (message.type !== 'p5' || colluders.includes(from) || !holders.includes(from)) continue;
      const opening = decodeParts(message.attachment)[neighboursOf(graph, from).indexOf(VICTIM)] as Uint8Array;
      const [share] = decodeParts(opening, 2) as [Uint8Array];
      found[apart.includes(from) ? 'shareS' : 'shareB'].push({ x: holders.indexOf(from) + 1, share });
    }
    for (const m of colluders.filter((c) => holders.includes(c)))
      for (const kind of ['shareB', 'shareS'] as const) found[kind].push(shareOf(view, m, kind));
    return found;
  }
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
    expect([shareB.length, shareS.length]).toEqual([threshold, threshold]);
    const secret = combineShares(shareS, holders.length);
    const b = combineShares(shareB, holders.length);
    const seeds = [
      selfSeed(view.world, view.memories, VICTIM, b),
      ...seedsOf(view.world, view.memories, VICTIM, secret, holders),
    ];
    expect(strip(view.world, VICTIM, seeds)).toEqual(bareOf(view.world));
  });
});
