import { describe, expect, it } from 'vitest';
import { plotBudget } from '../src/budget/plots.ts';
import { type BudgetProblem, budgetProblemSchema, checkProblem } from '../src/budget/problem.ts';
import { leastCohort, planBudget } from '../src/budget/solve.ts';
import {
  colluderTable,
  dropoutTable,
  epsilonOverDelta,
  groupEpsilon,
  participationTable,
} from '../src/budget/tables.ts';
import { budgetWarnings } from '../src/budget/warnings.ts';
import { gdpAccountant, rdpAccountant } from '../src/privacy/accountant.ts';
import { gaussianEpsilon } from '../src/privacy/analytic-gaussian.ts';
import { planRun } from '../src/run/plan.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { codeOf } from './support/code-of.ts';

type Input = Partial<Omit<BudgetProblem, 'practice'>> & { readonly practice?: Record<string, unknown> };
const problem = (fields: Input): BudgetProblem => budgetProblemSchema.parse(fields);

describe('a budget plan', () => {
  it('asks for the noise that a run of the same settings calibrates', () => {
    const config = {
      ...scenarioConfig('digits', { seed: 1, steps: 40, targetEpsilon: 3, participants: 12 }),
      clusters: null,
    };
    const run = planRun(config);
    const { cohort, training, model } = config;
    const plan = planBudget(
      problem({
        epsilon: 3,
        rounds: 40,
        sampling: training.samplingProbability,
        participants: cohort.participants,
        minSurvivors: cohort.minSurvivors,
        colluders: cohort.colluders,
        parameters: (model.inputs + 1) * 48 + 49 * 10,
      }),
    );
    expect(plan.noiseMultiplier / run.noiseMultiplier).toBeCloseTo(1, 5);
    expect(plan.shareVariance / run.shareVariance).toBeCloseTo(1, 5);
    expect(plan.server).toBeLessThanOrEqual(3);
  });

  it('has one epsilon for every number of survivors where noise is exact whoever drops out', () => {
    const given = { epsilon: 4, rounds: 50, mechanism: 'skellam' } as const;
    const exact = planBudget(problem({ ...given, xnoise: true }));
    const shares = planBudget(problem(given));
    expect(exact.noiseMultiplier).toBe(shares.noiseMultiplier);
    const served = (plan: typeof exact): number[] => dropoutTable(plan).map(({ server }) => server);
    for (const epsilon of served(exact)) expect(epsilon).toBeCloseTo(exact.server, 9);
    expect(Math.min(...served(shares))).toBeLessThan(shares.server * 0.95);
    // Whoever knows a share knows less of the total the more there are.
    const [most, least] = [dropoutTable(exact)[0]?.release, dropoutTable(exact).at(-1)?.release] as [number, number];
    expect(most === least).toBe(false);
    expect(codeOf(() => checkProblem(problem({ epsilon: 4, rounds: 50, xnoise: true })))).toBe('USAGE_CONFIG');
  });

  it('solves each unknown so that the others come back, and never above the target', () => {
    const fixed = { sampling: 0.05, delta: 1e-6 };
    const { noiseMultiplier } = planBudget(problem({ ...fixed, epsilon: 2, rounds: 300 }));
    expect(planBudget(problem({ ...fixed, epsilon: 2, noiseMultiplier })).rounds).toBe(300);
    const { server } = planBudget(problem({ ...fixed, noiseMultiplier, rounds: 300 }));
    expect(server).toBeLessThanOrEqual(2);
    expect(server).toBeGreaterThan(1.9999);
    expect(planBudget(problem({ ...fixed, noiseMultiplier, rounds: 301 })).server).toBeGreaterThan(2);
    const { sampling } = planBudget(problem({ delta: 1e-6, epsilon: 2, noiseMultiplier, rounds: 300 }));
    expect(sampling).toBeCloseTo(0.05, 4);
  });

  it('gives the server no amplification by the cohort (published: 2.12, 19.42 with 10 rounds each, 649)', () => {
    const given = { noiseMultiplier: 1, rounds: 1000, delta: 1e-6, unit: 'participant', participants: 200 } as const;
    const capped = planBudget(problem({ ...given, cohortSampling: 0.01, participationCap: 10 }));
    // The RDP bound of the exact 19.42; release: one share less than the server view's 150 counts.
    expect(capped.server).toBeGreaterThan(19.42);
    expect(capped.server).toBeLessThan(20.7);
    expect(capped.release).toBeGreaterThan(2.12);
    expect(capped.release).toBeLessThan(2.5);
    expect(planBudget(problem({ ...given, cohortSampling: 0.01 })).server).toBeGreaterThan(649);
    expect(planBudget(problem({ ...given, participationCap: 10 })).release).toBeGreaterThan(capped.server);
  });

  it('pays for every tuning run and for no round above the cap', () => {
    const given = { noiseMultiplier: 2, rounds: 100, sampling: 0.1 };
    const twice = planBudget(problem({ ...given, practice: { tuningRuns: 1 } })).server;
    expect(twice).toBe(planBudget(problem({ ...given, rounds: 200 })).server);
    expect(planBudget(problem({ ...given, participationCap: 50 })).server).toBe(
      planBudget(problem({ ...given, rounds: 50 })).server,
    );
  });

  it('finds the least cohort for a noise on the mean', () => {
    const given = problem({ unit: 'participant', epsilon: 8, rounds: 50 });
    const plan = leastCohort(given, 0.1);
    const noise = (participants: number): number => {
      const { problem, shareVariance } = planBudget({ ...given, participants });
      // In clips, not in sensitivities, which hold the rounding as well.
      return Math.sqrt(shareVariance / participants) / (problem.scale * problem.clippingNorm);
    };
    expect(noise(plan.problem.participants)).toBeLessThanOrEqual(0.1);
    expect(noise(plan.problem.participants - 1)).toBeGreaterThan(0.1);
  });

  it.each([
    [{ epsilon: 1 }, 'USAGE_CONFIG'],
    [{ epsilon: 1, rounds: 5, participants: 4, minSurvivors: 5 }, 'USAGE_CONFIG'],
    [{ epsilon: 1, rounds: 5, unit: 'participant', sampling: 0.5 }, 'USAGE_CONFIG'],
    [{ epsilon: 1, rounds: 5, participants: 4, colluders: 3 }, 'USAGE_CONFIG'],
    [{ epsilon: 1e-4, noiseMultiplier: 0.5 }, 'PRIVACY_BUDGET'],
    [{ epsilon: 5, noiseMultiplier: 5, participationCap: 3 }, 'USAGE_CONFIG'],
  ] as const)('refuses %j', (fields, code) => {
    expect(codeOf(() => planBudget(problem(fields)))).toBe(code);
  });

  it('shows dropouts, colluders and caps in order: less noise or more rounds cost more', () => {
    const plan = planBudget(problem({ epsilon: 4, rounds: 100, sampling: 0.1, participants: 40, colluders: 2 }));
    const rising = (values: readonly number[]): boolean => values.every((v, i) => i === 0 || v > (values[i - 1] ?? 0));
    for (const rows of [
      dropoutTable(plan),
      colluderTable(plan),
      participationTable(plan),
      epsilonOverDelta(plan).reverse(),
    ])
      expect(rising(rows.map(({ server }) => server))).toBe(true);
    expect(dropoutTable(plan).at(-1)?.server).toBe(plan.server);
    expect(colluderTable(plan).find(({ value }) => value === 2)?.server).toBe(plan.server);
  });

  it('draws both views without scripts and the same bytes again', () => {
    const plan = planBudget(problem({ epsilon: 4, rounds: 100, sampling: 0.1 }));
    const svg = plotBudget(plan);
    expect(plotBudget(plan)).toBe(svg);
    expect(svg.match(/<path /g)).toHaveLength(4);
    expect(svg).toContain('1e-6');
    expect(svg).not.toMatch(/NaN|Infinity|<script|href/);
  });
});

describe('group privacy', () => {
  it('is never below the exact loss of a shift by all rows, and its formula holds at the split', () => {
    for (const rows of [2, 5]) {
      const accountant = gdpAccountant().compose({ kind: 'gaussian', noiseMultiplier: 10 });
      const bound = groupEpsilon(accountant, rows, 1e-6);
      expect(bound).toBeGreaterThanOrEqual(gaussianEpsilon(10 / rows, 1e-6));
      expect(bound).toBeLessThan(2 * gaussianEpsilon(10 / rows, 1e-6));
    }
    expect(groupEpsilon(rdpAccountant(), 3, 1e-5)).toBe(0);
    expect(codeOf(() => groupEpsilon(rdpAccountant(), 0, 1e-5))).toBe('USAGE_RANGE');
  });
});

describe('warnings', () => {
  const clean = { epsilon: 4, rounds: 10, sampling: 0.1, population: 1000, practice: { tuningRuns: 0 } };
  const names = (fields: Input): string[] => budgetWarnings(checkProblem(problem(fields))).map(({ name }) => name);

  it('are none for a clean plan', () => {
    expect(names({ ...clean, delta: 1e-5 })).toEqual([]);
  });

  it.each([
    ['sampling-against-server', { cohortSampling: 0.1 }, {}],
    ['delta-above-1/n', { delta: 2e-3 }, {}],
    ['participant-noise-few-participants', { unit: 'participant', sampling: 1, participants: 10 }, {}],
    ['record-claim-participant-clipping', {}, { clipping: 'participant' }],
    ['record-claim-raw-head', {}, { head: 'raw' }],
    ['record-claim-local-epochs', {}, { localEpochs: 2 }],
    ['record-claim-raw-standardization', {}, { standardization: 'raw' }],
    ['tuning-left-out', {}, { tuningRuns: undefined }],
    ['rows-per-person', {}, { rowsPerPerson: 3 }],
    ['shuffled-batches', {}, { batches: 'shuffled' }],
  ] as const)('name %s, and that alone', (name, fields, practice) => {
    expect(names({ ...clean, ...fields, practice: { tuningRuns: 0, ...practice } })).toEqual([name]);
  });

  it('a shuffled batch is charged without amplification', () => {
    const shuffled = planBudget(
      problem({ ...clean, epsilon: undefined, noiseMultiplier: 3, practice: { batches: 'shuffled' } }),
    );
    const all = planBudget(problem({ ...clean, epsilon: undefined, noiseMultiplier: 3, sampling: 1 }));
    expect(shuffled.server).toBe(all.server);
  });
});
