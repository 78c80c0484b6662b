import { describe, expect, it } from 'vitest';
import { simulationStream } from '../experiments/comparison.ts';
import { type ExperimentOptions, experimentConfig } from '../experiments/experiment-config.ts';
import { runInProcess } from '../experiments/in-process.ts';
import { settingsOf } from '../experiments/settings.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { createRandom } from '../src/data/random.ts';
import { buildScenarioManifest, type ScenarioData } from '../src/data/scenario.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { bestSlot } from '../src/run/member-model.ts';
import { countNoiseOf } from '../src/run/plan.ts';
import type { ReleaseState } from '../src/run/release.ts';
import { initialModels } from '../src/run/released.ts';

const PARTICIPANTS = 24;
const RECORDS = 40;
const STEP_SIZE = 0.3;

/** Two participants call 0 what the others call 1. */
function lopsided(): ScenarioData {
  const participants = Array.from({ length: PARTICIPANTS }, (_, i) => {
    const random = createRandom(5, i);
    const features = Float32Array.from({ length: RECORDS }, () => random.uniform(-1, 1));
    const labels = Uint8Array.from({ length: RECORDS }, (_, k) => ((features[k] as number) > 0 === i < 2 ? 0 : 1));
    const data = createDataset(1, 2, features, labels);
    return { name: `site-${i}`, train: data, test: data };
  });
  const facts = { scenario: 'lopsided', seed: 5, options: {}, recordRule: true, licence: 'none' };
  const manifest = buildScenarioManifest(nodeCrypto, facts, participants);
  return { participants, model: { inputs: 1, hidden: [], classes: 2 }, manifest };
}

/** State after one round of IFCA with full batches. */
function afterOneRound(data: ScenarioData, ask: ExperimentOptions): ReleaseState {
  const config = experimentConfig(data, ask);
  const oracle = createDenseOracle(config.model);
  const organizations = data.participants.map(({ train }) => ({ data: train, oracle }));
  const random = simulationStream(nodeCrypto, 1, 3);
  const run = { config, runId: '00'.repeat(16), crypto: nodeCrypto, random, organizations, isPresent: () => true };
  return runInProcess(run).state;
}

describe('a slot divided by the members that were counted', () => {
  const data = lopsided();
  const ask: ExperimentOptions = {
    algorithm: 'ifca',
    options: {},
    settings: {
      ...settingsOf('lopsided'),
      rounds: 1,
      batchSize: 1_000,
      stepSize: STEP_SIZE,
      slots: 2,
      slotMean: 'counts',
    },
    seed: 2,
    privacy: null,
    perStep: null,
    colluders: 0,
  };
  const config = experimentConfig(data, ask);
  const oracle = createDenseOracle(config.model);
  const models = initialModels(config, 2);
  const chosen = data.participants.map(({ train }) => bestSlot(models, { oracle, data: train }));

  /** Sum over the members of a slot of how far one full step leads them. */
  function summed(slot: number): Float64Array {
    const head = Float64Array.from(models.heads[slot] as Float32Array);
    const gradient = new Float64Array(head.length);
    const total = new Float64Array(head.length);
    const everyRecord = Uint32Array.from({ length: RECORDS }, (_, i) => i);
    data.participants.forEach(({ train }: { readonly train: Dataset }, i) => {
      if (chosen[i] !== slot) return;
      oracle.meanGradient(new Float64Array(0), head, train, everyRecord, new Float64Array(0), gradient);
      for (let k = 0; k < total.length; k++) total[k] = (total[k] as number) - STEP_SIZE * (gradient[k] as number);
    });
    return total;
  }

  /** What the sum of a slot was divided by, from how far the slot moved. */
  function divisor(state: ReleaseState, slot: number): number {
    const sum = summed(slot);
    const [after, before] = [state.models.heads[slot], models.heads[slot]] as [Float32Array, Float32Array];
    const moved = sum.map((_, k) => (after[k] as number) - (before[k] as number));
    const dot = (a: Float64Array, b: Float64Array): number =>
      a.reduce((all, value, k) => all + value * (b[k] as number), 0);
    return dot(sum, sum) / dot(sum, moved);
  }

  it('is the mean of their models, however few they are (IFCA, Ghosh 2020, model averaging)', () => {
    const sizes = [0, 1].map((slot) => chosen.filter((one) => one === slot).length);
    // Far below an even share of twelve.
    expect(sizes.toSorted((a, b) => a - b)).toEqual([2, 22]);
    const state = afterOneRound(data, ask);
    for (const slot of [0, 1]) {
      const count = state.counts?.[slot] as number;
      expect(Math.abs(count - (sizes[slot] as number))).toBeLessThan(5 * countNoiseOf(config));
      expect(divisor(state, slot)).toBeCloseTo(count, 1);
    }
  });

  it('never takes a count for less than the deviation of its noise', () => {
    const loud = { ...ask, settings: { ...ask.settings, countNoise: 12 } };
    const [noisy, state] = [experimentConfig(data, loud), afterOneRound(data, loud)];
    expect(countNoiseOf(noisy)).toBeCloseTo(12, 9);
    [0, 1].forEach((slot) => {
      expect(divisor(state, slot)).toBeCloseTo(Math.max(state.counts?.[slot] as number, countNoiseOf(noisy)), 1);
    });
    expect(Math.min(...(state.counts ?? []))).toBeLessThan(12);
  });
});
