import { describe, expect, it } from 'vitest';
import { runInProcess, simulatedRoster } from '../experiments/in-process.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { budgetProblemSchema } from '../src/budget/problem.ts';
import { budgetOfRun } from '../src/budget/run-budget.ts';
import { planBudget } from '../src/budget/solve.ts';
import { dropoutTable } from '../src/budget/tables.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { createCharges, reserveCharge, settleCharge, totalCharges } from '../src/privacy/charges.ts';
import { unitSensitivity } from '../src/privacy/sum-event.ts';
import { VIEWS, type View } from '../src/privacy/views.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { planRun, sessionEvents, sessionSlots, trainingBlocks } from '../src/run/plan.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { codeOf } from './support/code-of.ts';
import { repeatable } from './support/repeatable.ts';

/* What a plan says of a concrete run is what its ledgers come to, in every digit. */

const DEMO = { seed: 1, targetEpsilon: 8, participants: 12 } as const;
/** Fewer than all, and as many as a strict session of twelve begins with. */
const SOME = 10;

const METRICS = { every: 3, bins: 4, noiseStddev: 3 };

/** The scenarios of the demo with each kind of sums, and runs that charge more than training. */
const RUNS: readonly (readonly [name: string, config: RunConfig])[] = [
  ['record, integer terms, founding and choices', scenarioConfig('digits', { ...DEMO, steps: 5 })],
  ['record, float-bounded terms', scenarioConfig('digits', { ...DEMO, steps: 5, terms: 'float-bounded' })],
  [
    'participant',
    scenarioConfig('digits', {
      ...DEMO,
      steps: 4,
      targetEpsilon: 40,
      unit: 'participant',
      algorithm: { id: 'fedavg' },
    }),
  ],
  [
    'participant, Skellam noise, metrics',
    scenarioConfig('digits', {
      ...DEMO,
      steps: 4,
      targetEpsilon: 40,
      unit: 'participant',
      algorithm: { id: 'fedavg' },
      mechanism: 'skellam',
      metrics: METRICS,
    }),
  ],
];

/** The ledger of one member: every session reserved at its worst, then settled with who survived. */
function ledgerOf(config: RunConfig, survivors: number): Record<View, number> {
  const plan = planRun(config);
  let charges = createCharges(VIEWS, config.privacy.relation);
  plan.schedule.forEach((session, i) => {
    const slots = sessionSlots(config, session);
    const events = (present: number) => ({
      server: sessionEvents(config, plan, session, slots, present, 'server'),
      release: sessionEvents(config, plan, session, slots, present, 'release'),
    });
    charges = reserveCharge(charges, String(i), events(config.cohort.minSurvivors));
    charges = settleCharge(charges, String(i), events(survivors));
  });
  const { delta } = config.privacy;
  return {
    server: totalCharges(charges, 'server').epsilon(delta),
    release: totalCharges(charges, 'release').epsilon(delta),
  };
}

describe('the budget of a concrete run', () => {
  it.each(RUNS)('is what its ledgers charge: %s', (_, config) => {
    const budget = budgetOfRun(config);
    const { minSurvivors, participants } = config.cohort;
    expect(budget.server).toBeLessThanOrEqual(config.privacy.targetEpsilon);
    expect(budget.rows.map(({ value }) => value)).toEqual([12, 11, 10, 9]);
    for (const { value, ...charged } of budget.rows) expect(charged).toEqual(ledgerOf(config, value));
    expect(budget.rows.at(-1)).toEqual({ value: minSurvivors, server: budget.server, release: budget.release });
    const present = (organization: number): boolean => organization < SOME;
    for (const isPresent of [() => true, present]) {
      const oracle = createDenseOracle(config.model);
      const { epsilon } = runInProcess({
        config,
        runId: '0e'.repeat(16),
        crypto: nodeCrypto,
        random: repeatable(3),
        organizations: simulatedRoster(nodeCrypto, participants).ids.map((_id, i) => {
          const { test, train } = generateDigits(1, i);
          return { data: train, test, oracle };
        }),
        isPresent,
      });
      const value = isPresent === present ? SOME : participants;
      expect({ value, ...epsilon }).toEqual(budget.rows.find((row) => row.value === value));
    }
  });

  it.each([
    ['record, integer terms', { terms: 'integer' }, {}],
    ['record, float-bounded terms', { terms: 'float-bounded' }, {}],
    ['participant', { unit: 'participant' }, { unit: 'participant', sampling: 1 }],
  ] as const)('is that of a plan by its numbers: %s', (_, changes, known) => {
    const config = parseRunConfig({
      ...scenarioConfig('digits', { ...DEMO, steps: 20, algorithm: { id: 'fedavg' }, ...changes }),
      encoding: { scale: 4_096, lanes: 2 },
    });
    const { cohort, encoding, privacy, training } = config;
    const run = planRun(config);
    const plan = planBudget(
      budgetProblemSchema.parse({
        noiseMultiplier: run.noiseMultiplier,
        rounds: training.steps,
        sampling: training.samplingProbability,
        participants: cohort.participants,
        minSurvivors: cohort.minSurvivors,
        colluders: cohort.colluders,
        clippingNorm: training.clippingNorm,
        scale: encoding.scale,
        dimension: trainingBlocks(config, 1).reduce((sum, { length }) => sum + length, 0),
        terms: privacy.terms,
        ...known,
      }),
    );
    expect(plan.sensitivity).toBe(run.sensitivity);
    expect(plan.shareVariance).toBe(run.shareVariance);
    expect(dropoutTable(plan)).toEqual(budgetOfRun(config).rows);
    expect(plan.headline).toEqual(budgetOfRun(config).headline);
    const isRounded = privacy.terms !== 'integer';
    expect(plan.sensitivity / (encoding.scale * training.clippingNorm) - 1).toBeGreaterThan(isRounded ? 1e-4 : -1e-9);
  });

  it('knows float-bounded terms at unit record alone, and says what it does not know of the vector', () => {
    const given = { epsilon: 4, rounds: 10 };
    const unknown = planBudget(budgetProblemSchema.parse({ ...given, terms: 'float-bounded' }));
    expect(unknown.problem.vectorBasis).toBe('nothing');
    expect(unknown.sensitivity).toBe(unitSensitivity('record', 65_536, 16_384, 'float-bounded'));
    expect(planBudget(budgetProblemSchema.parse({ ...given, parameters: 99 })).problem.vectorBasis).toBe('parameters');
    const wrong = budgetProblemSchema.parse({ ...given, terms: 'float-bounded', unit: 'participant' });
    expect(codeOf(() => planBudget(wrong))).toBe('USAGE_CONFIG');
  });
});
