import { describe, expect, it } from 'vitest';
import { runInProcess } from '../experiments/in-process.ts';
import { realSum } from '../experiments/real-sum.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { toHex } from '../protocol/bytes.ts';
import { idealSum, type SecureSum } from '../protocol/ideal.ts';
import type { SessionParams } from '../protocol/session.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { planRun, sessionEvents, slotsAt } from '../src/run/plan.ts';
import { applyRelease, initialState } from '../src/run/release.ts';
import { modelsHash } from '../src/run/released.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { repeatable } from './support/repeatable.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';

interface Release {
  readonly params: SessionParams;
  readonly sum: Uint32Array;
  readonly survivors: number;
}

function tinyConfig(participants: number, steps: number): RunConfig {
  return scenarioConfig('digits', { seed: 5, steps, targetEpsilon: 8, participants });
}

function run(config: RunConfig, secureSum: SecureSum, releases: Release[] = []) {
  const oracle = createDenseOracle(config.model);
  const organizations = Array.from({ length: config.cohort.participants }, (_, i) => ({
    data: generateDigits(5, i).train,
    oracle,
  }));
  return runInProcess({
    config,
    runId: RUN_ID,
    crypto: nodeCrypto,
    random: repeatable(7),
    organizations,
    isPresent: (organization, step) => organization !== 0 || step < 3,
    secureSum,
    onRelease: (params, sum, survivors) => releases.push({ params, sum: sum.slice(), survivors }),
  });
}

describe('a run on the embedded scenario', () => {
  it('releases the same bits through the real protocol and the ideal aggregator', () => {
    const config = tinyConfig(12, 4);
    const real: Release[] = [];
    const ideal: Release[] = [];
    const first = run(config, realSum(12), real);
    const second = run(config, idealSum, ideal);
    expect(real.length).toBe(ideal.length);
    expect(real.map(({ sum }) => sum)).toEqual(ideal.map(({ sum }) => sum));
    expect(toHex(modelsHash(nodeCrypto, first.state.models))).toBe(toHex(modelsHash(nodeCrypto, second.state.models)));
  });

  it('is replayed from its released sums to the same bits', () => {
    const config = tinyConfig(5, 6);
    const releases: Release[] = [];
    const { state } = run(config, idealSum, releases);
    const plan = planRun(config);
    let replayed = initialState(config);
    for (const { params, sum, survivors } of releases)
      replayed = applyRelease(nodeCrypto, config, plan, replayed, params, sum, survivors);
    expect(toHex(modelsHash(nodeCrypto, replayed.models))).toBe(toHex(modelsHash(nodeCrypto, state.models)));
    expect(replayed.kept).toEqual(state.kept);
    expect(replayed.position).toBe(plan.schedule.length);
  });

  it('stays within the target if every session has the fewest accepted survivors', () => {
    const config = tinyConfig(12, 80);
    const plan = planRun(config);
    const total = (survivors: number) =>
      plan.schedule
        .flatMap((session) => sessionEvents(config, plan, session, slotsAt(config, session.step), survivors, 'server'))
        .reduce((accountant, event) => accountant.compose(event), rdpAccountant())
        .epsilon(1e-5);
    expect(plan.noiseMultiplier).toBeCloseTo(3.11, 2);
    expect(total(9)).toBeLessThanOrEqual(8);
    expect(total(9)).toBeCloseTo(8, 2);
    expect(total(10)).toBeCloseTo(7.3, 2);
    expect(total(12)).toBeCloseTo(6.39, 2);
  });

  it('charges every choice of a slot with an event of its own', () => {
    const config = tinyConfig(12, 80);
    const plan = planRun(config);
    const choices = plan.schedule.filter(({ kind }) => kind === 'choice');
    expect(choices.map(({ step }) => step)).toEqual([14, 15, 30]);
    for (const choice of choices) {
      expect(sessionEvents(config, plan, choice, 12, 12, 'server')).toEqual([
        { kind: 'exponentialMechanism', epsilon: 0.5, monotone: true },
      ]);
    }
    expect(sessionEvents(config, plan, { kind: 'seats', step: 0 }, 12, 12, 'server')).toEqual([]);
  });
});

describe('a run configuration', () => {
  const config = tinyConfig(12, 80);

  it.each([
    ['cohort.colluders', { ...config, cohort: { ...config.cohort, colluders: 4 } }],
    ['cohort.minCluster', { ...config, cohort: { ...config.cohort, minCluster: 2 } }],
    ['cohort.minSurvivors', { ...config, cohort: { ...config.cohort, minSurvivors: 13 } }],
    ['clusters.foundingSlots', { ...config, clusters: { ...config.clusters, foundingSlots: 11 } }],
    ['privacy.delta', { ...config, privacy: { ...config.privacy, delta: 1 } }],
    ['training.samplingProbability', { ...config, training: { ...config.training, samplingProbability: 0 } }],
    ['extra', { ...config, extra: 1 }],
  ])('is refused in one line that names %s', (field, value) => {
    expect(() => parseRunConfig(value)).toThrow(new RegExp(field.split('.').at(-1) ?? field));
  });
});
