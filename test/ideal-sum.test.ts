import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toHex } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { idealSum, type SecureSumResult, type SessionDrops } from '../protocol/ideal.ts';
import type { Lanes, Phase } from '../protocol/session.ts';
import { createMembers, runSession } from './support/session-world.ts';

const PHASES: readonly Phase[] = ['advertise', 'share-keys', 'masked-input', 'consistency', 'unmask'];
const IDS = createMembers(9).members.map(({ id }) => toHex(id));

function idealOf(...args: Parameters<typeof idealSum>): SecureSumResult | null {
  try {
    return idealSum(...args);
  } catch (error) {
    if (!isCoveyError(error, 'ROUND_BELOW_THRESHOLD')) throw error;
    return null;
  }
}

/** Where each of 9 members is lost: a phase, or 5 for never. Mostly never, so that many sessions complete. */
const fates = fc.array(
  fc.oneof({ weight: 5, arbitrary: fc.constant(5) }, { weight: 2, arbitrary: fc.nat({ max: 4 }) }),
  {
    minLength: 9,
    maxLength: 9,
  },
);

describe('the ideal aggregator', () => {
  it('equals the real protocol, bit for bit, for random cohorts and losses: same sum, same survivors, same refusals', () => {
    let completed = 0;
    let refused = 0;
    fc.assert(
      fc.property(
        fates,
        fc.constantFrom<Lanes>(2, 3, 4),
        fc.integer({ min: 1, max: 13 }),
        fc.integer({ min: 3, max: 7 }),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 0, max: 2 }),
        (fate, lanes, coordinates, minSurvivors, minOrgs, colluders) => {
          const drops: SessionDrops = Object.fromEntries(
            PHASES.map((phase, i) => [phase, IDS.filter((_, m) => fate[m] === i)]),
          );
          const params = { minSurvivors, minOrgs, colluders };
          const world = runSession({ members: 9, perOrganization: 3, lanes, coordinates, drops, params });
          const ideal = idealOf(world.params, world.contributions, drops, world.roster);
          expect(world.outcome?.sum ?? null).toEqual(ideal?.sum ?? null);
          expect((world.outcome?.survivors ?? []).map(toHex)).toEqual((ideal?.survivors ?? []).map(toHex));
          if (ideal === null) {
            refused += 1;
            expect(world.abort?.code).toBe('ROUND_BELOW_THRESHOLD');
          } else completed += 1;
        },
      ),
      { numRuns: 40, seed: 20_260_101 },
    );
    expect(completed).toBeGreaterThan(5);
    expect(refused).toBeGreaterThan(5);
  });

  it('refuses cohorts in which the colluders reach a third', () => {
    const world = runSession({ members: 6 });
    const params = { ...world.params, minSurvivors: 3, colluders: 2 };
    expect(idealOf(params, world.contributions, {})).toBeNull();
    expect(idealOf({ ...params, colluders: 1 }, world.contributions, {})?.survivors.length).toBe(6);
  });
});
