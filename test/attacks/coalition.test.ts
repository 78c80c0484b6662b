import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { isPublishedSecret } from '../../protocol/aggregator-unmask.ts';
import { decodeParts, toHex } from '../../protocol/bytes.ts';
import type { HeldShares } from '../../protocol/participant-share.ts';
import { strictThreshold } from '../../protocol/roster.ts';
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
import { idOf, sidOf } from '../support/malice.ts';
import type { World } from '../support/session-world.ts';

const crypto = nodeCrypto;
const MEMBERS = 7;
const THRESHOLD = 5;
const VICTIM = 0;
const COORDINATES = 4_096;

const options = { members: MEMBERS, coordinates: COORDINATES };

function shareOf(memories: Memories, holder: number, kind: 'shareB' | 'shareS'): { x: number; share: Uint8Array } {
  const { held } = memories.agreed.get(holder) as At<'agreed'>;
  return { x: holder + 1, share: (held.get(VICTIM) as HeldShares)[kind] };
}

describe('a coalition with a coordinator that only listens', () => {
  const { world, memories } = runWatched(options);
  // P5 has given the victim's self seed to the coordinator.
  const holders = Array.from({ length: THRESHOLD }, (_, m) => shareOf(memories, m, 'shareB'));
  const b = combineShares(holders, MEMBERS);

  it('of t - 1 members sees an honest vector as uniform bytes', () => {
    const coalition = Array.from({ length: THRESHOLD - 1 }, (_, i) => MEMBERS - 1 - i);
    const rest = strip(world, VICTIM, [
      selfSeed(world, memories, VICTIM, b),
      ...seedsWith(world, memories, VICTIM, coalition),
    ]);
    expect(byteStatistic(rest)).toBeLessThan(LIMIT);
    expect(rest).not.toEqual(world.contributions.get(toHex(idOf(world, VICTIM))));
  });

  it('of all others sees it bare: the statistic can tell', () => {
    const everybody = Array.from({ length: MEMBERS - 1 }, (_, i) => i + 1);
    const rest = strip(world, VICTIM, [
      selfSeed(world, memories, VICTIM, b),
      ...seedsWith(world, memories, VICTIM, everybody),
    ]);
    expect(rest).toEqual(world.contributions.get(toHex(idOf(world, VICTIM))));
    expect(byteStatistic(rest)).toBeGreaterThan(100 * LIMIT);
  });

  it('cannot rebuild any secret from t - 1 shares', () => {
    const { cohort } = memories.agreed.get(1) as At<'agreed'>;
    const victim = idOf(world, VICTIM);
    for (const [kind, survived] of [
      ['shareB', true],
      ['shareS', false],
    ] as const) {
      const shares = Array.from({ length: MEMBERS }, (_, m) => shareOf(memories, m, kind));
      const isSecret = (count: number): boolean =>
        isPublishedSecret(
          crypto,
          sidOf(world),
          cohort,
          victim,
          survived,
          combineShares(shares.slice(0, count), MEMBERS),
        );
      expect(isSecret(THRESHOLD)).toBe(true);
      expect(isSecret(THRESHOLD - 1)).toBe(false);
    }
  });
});

/** Shares of the victim's two secrets that the honest members opened and the colluders held. */
function harvest(
  { world, memories }: { world: World; memories: Memories },
  apart: readonly number[],
  colluders: readonly number[],
): Record<'shareB' | 'shareS', { x: number; share: Uint8Array }[]> {
  const found: Record<'shareB' | 'shareS', { x: number; share: Uint8Array }[]> = { shareB: [], shareS: [] };
  for (const { from, message } of world.sent) {
    if (message.type !== 'p5' || colluders.includes(from)) continue;
    const [share] = decodeParts(decodeParts(message.attachment)[VICTIM] as Uint8Array, 2);
    found[apart.includes(from) ? 'shareS' : 'shareB'].push({ x: from + 1, share: share as Uint8Array });
  }
  for (const m of colluders) {
    for (const kind of ['shareB', 'shareS'] as const) found[kind].push(shareOf(memories, m, kind));
  }
  return found;
}

describe('an active coordinator with colluders', () => {
  it('2t > |U1| + c for every strict cohort with 3c < |U1|: no two certificates', () => {
    const broken: [number, number][] = [];
    for (let members = 1; members <= 256; members++) {
      for (let c = 0; 3 * c < members; c++) if (2 * strictThreshold(members) <= members + c) broken.push([members, c]);
    }
    expect(broken).toEqual([]);
  });

  const colluders = [5, 6];
  for (const apart of [[4], [3, 4], [2, 3, 4], [1, 2, 3, 4]]) {
    it(`c = 2 of 7, ${apart.length} of 5 honest members shown another U3: at most one kind of share reaches t`, () => {
      const attack = splitSurvivors(options, VICTIM, apart, colluders);
      const { shareB, shareS } = harvest(attack, apart, colluders);
      expect(shareB.length >= THRESHOLD && shareS.length >= THRESHOLD).toBe(false);
      // The one kind alone: with b the pair masks of the honest members remain, with the mask key the self mask.
      const { world, memories } = attack;
      const known = seedsWith(world, memories, VICTIM, colluders);
      const rest =
        shareB.length >= THRESHOLD
          ? strip(world, VICTIM, [
              selfSeed(world, memories, VICTIM, combineShares(shareB.slice(0, THRESHOLD), MEMBERS)),
              ...known,
            ])
          : strip(world, VICTIM, known);
      expect(byteStatistic(rest)).toBeLessThan(LIMIT);
    });
  }

  it('control: 2t - |U1| = 3 colluders get both shares and the bare vector, so that the attack above is a real one', () => {
    const three = [4, 5, 6];
    const apart = [2, 3];
    const attack = splitSurvivors(options, VICTIM, apart, three);
    const { world, memories } = attack;
    const { shareB, shareS } = harvest(attack, apart, three);
    expect([shareB.length, shareS.length]).toEqual([THRESHOLD, THRESHOLD]);
    const maskSecret = combineShares(shareS, MEMBERS);
    const others = Array.from({ length: MEMBERS - 1 }, (_, i) => i + 1);
    const pairs = seedsOf(world, memories, VICTIM, maskSecret, others);
    const bare = strip(world, VICTIM, [selfSeed(world, memories, VICTIM, combineShares(shareB, MEMBERS)), ...pairs]);
    expect(bare).toEqual(world.contributions.get(toHex(idOf(world, VICTIM))));
  });
});
