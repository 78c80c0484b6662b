import { beforeAll, describe, expect, it } from 'vitest';
import { runExperiment } from '../experiments/experiment.ts';
import { type ExperimentOptions, experimentConfig } from '../experiments/experiment-config.ts';
import { settingsWith } from '../experiments/rows.ts';
import { findScenario } from '../experiments/scenarios/registry.ts';
import { settingsOf } from '../experiments/settings.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createRandom } from '../src/data/random.ts';
import type { ScenarioData } from '../src/data/scenario.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { accuracy } from '../src/learning/evaluation.ts';
import { newcomerModel, personalModel } from '../src/run/home.ts';
import { NEW_MEMBER } from '../src/run/member.ts';
import { planRun } from '../src/run/plan.ts';
import { initialModels } from '../src/run/released.ts';

const ask = (changes: Partial<ExperimentOptions> = {}, rounds = 8): ExperimentOptions => ({
  algorithm: 'evolving',
  options: { firstProbe: 2, probeEvery: 3, probeSteps: 2 },
  settings: { ...settingsOf('digits'), rounds, epochs: 1, slots: 4 },
  seed: 3,
  privacy: null,
  perStep: null,
  colluders: 0,
  ...changes,
});

describe('a row of evolving clusters', () => {
  let data: ScenarioData;
  beforeAll(async () => {
    data = await findScenario('digits').scenario.load(3);
  });

  it('probes on its schedule and tells what became of every trial', () => {
    const { clusters } = experimentConfig(data, ask());
    expect(clusters?.choiceSteps).toEqual([2, 5]);
    expect(clusters?.evolving).toMatchObject({ most: 4, probeSteps: 2, perturbation: 0.1 });
    const { evolution } = runExperiment(nodeCrypto, data, ask());
    expect(evolution?.slots.length).toBe(2);
    expect(evolution?.trials[0]?.length).toBe(1);
    // Generated digits do not tell their style here: without true groups there is nothing to compare with.
    expect(evolution?.purity === null).toBe(data.participants[0]?.group === undefined);
    expect(runExperiment(nodeCrypto, data, ask()).evolution).toEqual(evolution);
    expect(runExperiment(nodeCrypto, data, ask({ algorithm: 'fedavg', options: {} }, 1)).evolution).toBeUndefined();
  });

  it('takes noise for its counts and gaps from the participants, and next to none without protection', () => {
    const quiet = experimentConfig(data, ask()).clusters;
    const loud = experimentConfig(
      data,
      ask({ privacy: { epsilon: 30 }, options: { ...ask().options, noiseShare: 0.25 } }),
    ).clusters;
    expect([quiet?.countNoiseStddev, quiet?.evolving?.gapNoiseStddev]).toEqual([0.05, 0.05]);
    expect([loud?.countNoiseStddev, loud?.evolving?.gapNoiseStddev]).toEqual([3, 3]);
    expect(() => experimentConfig(data, ask({ options: { ...ask().options, perturbation: 5 } }))).toThrow(
      /"algorithm.options.perturbation" expected a number from 0.001 to 4, got 5/,
    );
  });

  it('takes noise for gaps from the records at unit record, so that a budget can be met', () => {
    const records = data.participants.reduce((sum, { train }) => sum + train.count, 0);
    const config = experimentConfig(
      data,
      ask({
        settings: settingsWith(settingsOf('digits'), { unit: 'record', rounds: 12, slots: 4 }),
        privacy: { epsilon: 8 },
        options: { ...ask().options, noiseShare: 0.06 },
      }),
    );
    expect(config.clusters?.evolving?.gapNoiseStddev).toBeCloseTo(0.01 * records, 9);
    expect(() => planRun(config)).not.toThrow();
  });

  it('divides slots by exact counts where nothing is claimed', () => {
    const settings = settingsWith(settingsOf('digits'), { slotMean: 'counts' });
    const noiseOf = (changes: Partial<ExperimentOptions>): number | undefined =>
      experimentConfig(data, ask({ algorithm: 'ifca', options: {}, settings, ...changes })).clusters?.countNoiseStddev;
    expect(noiseOf({})).toBe(0.05);
    expect(noiseOf({ privacy: { epsilon: 1_000 } })).toBe(8);
    expect(noiseOf({ settings: settingsWith(settingsOf('digits'), {}) })).toBe(8);
    const byScenario = (unit: 'record' | 'participant') => settingsWith(settingsOf('rotated-mnist'), { unit }).slotMean;
    expect([byScenario('participant'), byScenario('record')]).toEqual(['counts', undefined]);
  });

  it('goes on with other records where a participant drifts, and is judged by them', () => {
    const last = data.participants.map(({ name, train, test }, i) => {
      const { train: later, test: tested } = generateDigits(3, (i + 1) % 12);
      return i < 6 ? { name, train, test, later: { train: later, test: tested, group: 1 } } : { name, train, test };
    });
    const options = ask({ algorithm: 'fedavg', options: {} }, 2);
    const still = runExperiment(nodeCrypto, data, options);
    const drifted = runExperiment(nodeCrypto, { ...data, participants: last }, options);
    const after = data.participants.map((participant, i) => ({ ...participant, ...last[i]?.later }));
    const always = runExperiment(nodeCrypto, { ...data, participants: after }, options);
    expect(drifted.released?.mean).not.toBe(still.released?.mean);
    expect(drifted.released?.mean).not.toBe(always.released?.mean);
  });

  it('keeps newcomers out of the run and lets them adapt its models', () => {
    const options = ask({ newcomers: 4, settings: { ...settingsOf('digits'), rounds: 7, epochs: 1, slots: 3 } });
    const { newcomers, released } = runExperiment(nodeCrypto, data, options);
    expect(newcomers?.count).toBe(4);
    // Not better than models of all of it: the last four had no part in the rows of the others.
    const eight = runExperiment(
      nodeCrypto,
      { ...data, participants: data.participants.slice(0, 8) },
      { ...options, newcomers: 0 },
    );
    expect(released).toEqual(eight.released);
    expect(newcomers?.personal.mean).toBeGreaterThan(newcomers?.released.mean as number);
    expect(() => runExperiment(nodeCrypto, data, ask({ newcomers: 10 }))).toThrow(
      /"newcomers" expected at most 9 of 12 participants, got 10/,
    );
  });
});

describe('a newcomer', () => {
  it('takes the released model that fits its training records best and adapts it, at home', async () => {
    const data = await findScenario('digits').scenario.load(3);
    const config = experimentConfig(data, ask());
    const oracle = createDenseOracle(config.model);
    const { train, test } = generateDigits(3, 0);
    const start = initialModels(config, 3);
    // Slot 1 was trained on such records, the others were not.
    const trained = personalModel(
      { ...config, personal: { method: 'fine-tuning', epochs: 20, batchSize: 16, stepSize: 0.1 } },
      start,
      NEW_MEMBER,
      { oracle, data: train, local: {} },
      createRandom(2),
    );
    const models = {
      ...start,
      body: Float32Array.from(trained.body),
      heads: start.heads.map((head, j) => (j === 1 ? Float32Array.from(trained.head) : head)),
    };
    const before = structuredClone(models);
    const joined = newcomerModel(config, models, { oracle, data: train, local: {} }, createRandom(5));
    expect(joined.slot).toBe(1);
    expect(joined.released.head).toEqual(Float64Array.from(models.heads[1] as Float32Array));
    expect(models).toEqual(before);
    expect(joined.personal.head).not.toEqual(joined.released.head);
    expect(accuracy(oracle, joined.personal, test)).toBeGreaterThan(0.5);
  });
});
