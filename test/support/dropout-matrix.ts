import { describe, expect, it } from 'vitest';
import { toHex } from '../../protocol/bytes.ts';
import { neighboursOf } from '../../protocol/graph.ts';
import { strictThreshold } from '../../protocol/roster.ts';
import type { Phase } from '../../protocol/session.ts';
import { nothingOpened } from './malice.ts';
import { createMembers, plainSum, runSession, type World } from './session-world.ts';
import { SPARSE, SPARSE_MEMBERS, sparseCohort } from './sparse.ts';

const PHASES: readonly Phase[] = ['advertise', 'share-keys', 'masked-input', 'consistency', 'unmask'];
const MIN_SURVIVORS = 3;

/** Most members that may be lost in a phase: those who advertised set the threshold for all later phases. */
function mostLost(phase: Phase, members: number): number {
  return phase === 'advertise' ? members - MIN_SURVIVORS : members - Math.max(strictThreshold(members), MIN_SURVIVORS);
}

/** Members whose vectors are in the sum: whoever uploaded, also if it was lost afterwards. */
const summed = (phase: Phase, members: number, lost: number): number =>
  phase === 'consistency' || phase === 'unmask' ? members : members - lost;

/** Every phase x the numbers of lost members that `choose` picks from 0 to n - t, and one more, which must reveal nothing. */
export function describeDropouts(members: number, choose: (most: number) => readonly number[]): void {
  const ids = createMembers(members).members.map(({ id }) => toHex(id));
  describe(`${members} members`, () => {
    for (const phase of PHASES) {
      const most = mostLost(phase, members);
      it(`${phase}: ${choose(most).join(', ')} lost give the exact sum, ${most + 1} end the session`, () => {
        for (const lost of choose(most)) {
          // Spread over the cohort, so that first and last ranks are among them.
          const gone = ids.filter((_, i) => (i * 7) % members < lost);
          const drops = { [phase]: gone.length === lost ? gone : ids.slice(0, lost) };
          const world = runSession({ members, coordinates: 3, lanes: 3, drops });
          expect(world.outcome?.survivors.length, `${lost} lost`).toBe(summed(phase, members, lost));
          expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
        }
        const world = runSession({ members, coordinates: 3, lanes: 3, drops: { [phase]: ids.slice(0, most + 1) } });
        expect(world.outcome).toBeNull();
        expect(world.abort?.code).toBe('ROUND_BELOW_THRESHOLD');
        // In the last phase fewer than t members have answered: no secret can be rebuilt from what they opened.
        if (phase === 'unmask') expect(members - most - 1).toBeLessThan(strictThreshold(members));
        else expect(nothingOpened(world)).toBe(true);
      });
    }
  });
}

export const everyNumber = (most: number): number[] => Array.from({ length: most + 1 }, (_, i) => i);

const sumIsExact = (world: World, survivors: number, about: string): void => {
  expect(world.abort?.reason, about).toBeUndefined();
  expect(world.outcome?.survivors.length, about).toBe(survivors);
  expect(world.outcome?.sum, about).toEqual(plainSum(world, world.outcome?.survivors ?? []));
};

/**
 * The sparse profile: in every phase all subsets of each size that `choose` draws, in positions of the ring, either leave the
 * exact sum or end the session before anything is revealed - as the rule of the ring says, computed here once more.
 */
export function describeSparseDropouts(choose: (size: number) => readonly (readonly number[])[]): void {
  const options = { members: SPARSE_MEMBERS, coordinates: 3, lanes: 3, params: SPARSE } as const;
  const honest = runSession(options);
  const { graph, quorum, threshold } = sparseCohort(honest);
  const idAt = (position: number): string =>
    toHex((honest.members[graph.ring[position] as number] as World['members'][number]).id);
  const width = graph.degree / 2;
  const isUncut = (gone: readonly number[]): boolean =>
    graph.ring.every((_, start) => {
      const inside = Array.from({ length: width }, (_v, i) => (start + i) % SPARSE_MEMBERS);
      return inside.filter((position) => !gone.includes(position)).length > graph.windowCorrupt;
    });
  const isCovered = (gone: readonly number[]): boolean => {
    const lost = gone.map((position) => graph.ring[position] as number);
    return honest.members.every(
      (_, m) => neighboursOf(graph, m).filter((rank) => !lost.includes(rank)).length >= threshold,
    );
  };

  describe(`${SPARSE_MEMBERS} members on a ring`, () => {
    for (const phase of ['share-keys', 'masked-input', 'consistency', 'unmask'] as const) {
      it(`${phase}: the sum is exact where the ring allows, and nothing is revealed where it does not`, () => {
        const ends = { sum: 0, abort: 0 };
        for (let size = 0; size <= SPARSE_MEMBERS - quorum + 1; size++) {
          for (const gone of choose(size)) {
            const about = `${phase} without positions ${gone.join(', ')}`;
            const world = runSession({ ...options, drops: { [phase]: gone.map(idAt) } });
            const isListed = phase === 'share-keys' || phase === 'masked-input';
            const works = size <= SPARSE_MEMBERS - quorum && (isListed ? isUncut(gone) : true);
            // A secret needs t live holders, whoever was lost first; signatures alone are not enough.
            const covered = phase === 'share-keys' ? coveredAmong(gone) : isCovered(gone);
            if (phase === 'unmask' ? covered : works && covered) {
              sumIsExact(world, isListed ? SPARSE_MEMBERS - size : SPARSE_MEMBERS, about);
              ends.sum += 1;
            } else {
              expect(world.outcome, about).toBeNull();
              expect(world.abort?.code, about).toBe('ROUND_BELOW_THRESHOLD');
              if (phase !== 'unmask' && !works) expect(nothingOpened(world), about).toBe(true);
              ends.abort += 1;
            }
          }
        }
        expect(Math.min(ends.sum, ends.abort)).toBeGreaterThan(0);
      });
    }

    /** Members lost before U2 deal nothing: only those who stay need live holders. */
    function coveredAmong(gone: readonly number[]): boolean {
      const lost = gone.map((position) => graph.ring[position] as number);
      return honest.members.every(
        (_, m) => lost.includes(m) || neighboursOf(graph, m).filter((rank) => !lost.includes(rank)).length >= threshold,
      );
    }

    it('advertise: whoever is left draws its own ring, or there is none', () => {
      for (let size = 0; size <= 4; size++) {
        const world = runSession({ ...options, drops: { advertise: Array.from({ length: size }, (_, i) => idAt(i)) } });
        if (world.outcome === null) {
          expect(world.abort?.reason).toContain('sparse graph');
          expect(world.sent.every(({ message }) => message.type === 'p1')).toBe(true);
        } else sumIsExact(world, SPARSE_MEMBERS - size, `${size} lost`);
      }
    });

    it('reveal: one silent member of the committee ends the session before any share is dealt', () => {
      for (let position = 0; position < SPARSE_MEMBERS; position++) {
        const world = runSession({ ...options, drops: { reveal: [idAt(position)] } });
        expect(world.abort).toMatchObject({ code: 'ROUND_REVEAL', uploadBegun: false });
        expect(world.abort?.excluded.map(toHex)).toEqual([idAt(position)]);
        expect(world.sent.some(({ message }) => message.type === 'p2')).toBe(false);
      }
    });
  });
}

/** Arcs of neighbouring positions, and as many positions spread evenly. */
export const arcsAndSpread = (size: number): number[][] => [
  Array.from({ length: size }, (_, i) => (i + 3) % SPARSE_MEMBERS),
  Array.from({ length: size }, (_, i) => Math.floor((i * SPARSE_MEMBERS) / Math.max(size, 1))),
];

/** Every subset of a size. */
export function everySubset(size: number): number[][] {
  const grow = (from: number, left: number): number[][] =>
    left === 0
      ? [[]]
      : Array.from({ length: SPARSE_MEMBERS - from }, (_, i) => from + i).flatMap((first) =>
          grow(first + 1, left - 1).map((rest) => [first, ...rest]),
        );
  return grow(0, size);
}
