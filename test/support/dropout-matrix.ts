import { describe, expect, it } from 'vitest';
import { toHex } from '../../protocol/bytes.ts';
import { strictThreshold } from '../../protocol/roster.ts';
import type { Phase } from '../../protocol/session.ts';
import { nothingOpened } from './malice.ts';
import { createMembers, plainSum, runSession } from './session-world.ts';

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
