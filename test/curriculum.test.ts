import { describe, expect, it } from 'vitest';
import { runExperiment } from '../experiments/experiment.ts';
import { simulatedRoster } from '../experiments/in-process.ts';
import { findScenario } from '../experiments/scenarios/registry.ts';
import { settingsOf } from '../experiments/settings.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createDataset, type Dataset, selectRecords } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createRandom } from '../src/data/random.ts';
import {
  type Curriculum,
  isWithin,
  type LossThreshold,
  pacedRecords,
  paceShare,
  thresholdAt,
} from '../src/learning/curriculum.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { contribute, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams } from '../src/run/order.ts';
import { planRun } from '../src/run/plan.ts';
import { initialState, sumCoordinates } from '../src/run/release.ts';
import { scenarioConfig } from '../src/run/scenario.ts';

const base: Curriculum = { expert: 'global', pacing: 'linear', order: 'easy', startShare: 0.2, fullAt: 0.5 };

describe('the pace of a curriculum', () => {
  for (const pacing of ['linear', 'step', 'exponential', 'log'] as const) {
    it(`${pacing}: starts with its share, never falls, uses everything at its end and after`, () => {
      const shares = Array.from({ length: 101 }, (_, i) => paceShare({ ...base, pacing }, i / 100));
      expect(shares[0]).toBeCloseTo(0.2, 12);
      expect(shares.every((share, i) => i === 0 || share >= (shares[i - 1] as number))).toBe(true);
      expect(shares.slice(50)).toEqual(new Array(51).fill(1));
      expect(shares[49]).toBeLessThan(1);
    });
  }

  it('differ in the middle as their names say', () => {
    const at = (pacing: Curriculum['pacing']): number => paceShare({ ...base, pacing }, 0.25);
    expect(at('linear')).toBeCloseTo(0.6, 12);
    expect(at('step')).toBeCloseTo(0.2 + 0.8 / 3, 12);
    expect(at('exponential')).toBeLessThan(0.3);
    expect(at('log')).toBeGreaterThan(0.75);
  });
});

describe('the records of a step', () => {
  const scores = Float64Array.of(5, 1, 4, 1, 3);
  const pick = (order: Curriculum['order'], progress: number): number[] => [
    ...pacedRecords({ ...base, order, startShare: 0.4 }, scores, progress, createRandom(1)),
  ];

  it('are the easiest, the hardest or as many at random, and all of them later', () => {
    expect(pick('easy', 0)).toEqual([1, 3]);
    expect(pick('hard', 0)).toEqual([0, 2]);
    expect(pick('random', 0).length).toBe(2);
    for (const order of ['easy', 'hard', 'random'] as const) expect(pick(order, 0.5)).toEqual([0, 1, 2, 3, 4]);
    expect([...pacedRecords({ ...base, startShare: 0.01 }, scores, 0, createRandom(1))]).toEqual([1]);
  });
});

describe('a curriculum around any algorithm', () => {
  it('changes what is learned by its order and expert, for plain and personalized methods', async () => {
    const data = await findScenario('digits').scenario.load(3);
    const settings = { ...settingsOf('digits'), rounds: 3, epochs: 1 };
    const meanOf = (algorithm: string, curriculum?: Curriculum): number => {
      const asked = { algorithm, options: {}, seed: 3, privacy: null, perStep: null, colluders: 0 };
      const changed = curriculum === undefined ? settings : { ...settings, curriculum };
      return runExperiment(nodeCrypto, data, { ...asked, settings: changed }).personal.mean;
    };
    for (const algorithm of ['fedavg', 'fedrep']) {
      const means = [
        meanOf(algorithm),
        meanOf(algorithm, base),
        meanOf(algorithm, { ...base, order: 'hard' }),
        meanOf(algorithm, { ...base, expert: 'local' }),
      ];
      expect(new Set(means).size, `${algorithm}: ${means.join(', ')}`).toBe(means.length);
    }
  });
});

describe('a curriculum at unit record', () => {
  const rule: LossThreshold = { order: 'easy', pacing: 'linear', from: 1, to: 3, fullAt: 0.5 };
  const base = scenarioConfig('digits', { seed: 5, steps: 4, targetEpsilon: 20, participants: 4 });
  const SHAPE = { inputs: 64, hidden: [12], classes: 10 };
  const oracle = createDenseOracle(SHAPE);
  const { train } = generateDigits(5, 0);
  const configOf = (lossThreshold?: object, changes: object = {}): RunConfig =>
    parseRunConfig({
      ...base,
      model: SHAPE,
      clusters: null,
      training: {
        ...base.training,
        samplingProbability: 1,
        ...(lossThreshold === undefined ? {} : { lossThreshold }),
        ...changes,
      },
    });
  const { roster } = simulatedRoster(nodeCrypto, 4);
  /** What a member sends in a step, without noise. */
  const vectorOf = (config: RunConfig, data: Dataset, step = 0): Int32Array => {
    const plan = planRun(config);
    const session = { kind: 'train', step } as const;
    const order = { session, models: initialState(config).models };
    const facts = { runId: '00'.repeat(16), config, plan, roster };
    const params = orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 });
    const quiet = { ...params, noise: { mechanism: 'none', shareVariance: 0 } as const };
    const inputs = { data, oracle, local: {}, seed: new Uint8Array(32).fill(9) };
    return sumCoordinates(quiet, contribute(nodeCrypto, config, order, quiet, NEW_MEMBER, inputs).words);
  };
  const { body, heads } = initialState(configOf()).models;
  const losses = oracle.losses(Float64Array.from(body), Float64Array.from(heads[0] ?? []), train);
  const middle = losses.toSorted()[losses.length >> 1] as number;
  const only = (keep: (loss: number) => boolean): Dataset =>
    selectRecords(train, Uint32Array.from([...losses.keys()].filter((i) => keep(losses[i] as number))));

  it('moves its threshold by the schedule alone and ends it', () => {
    expect([0, 0.25, 0.49].map((at) => thresholdAt(rule, at))).toEqual([1, 2, 2.96]);
    expect([0.5, 0.9].map((at) => thresholdAt(rule, at))).toEqual([null, null]);
    expect(thresholdAt({ ...rule, order: 'hard', from: 3, to: 1 }, 0.25)).toBe(2);
    expect([1, 2, 3, Number.NaN].map((loss) => isWithin(rule, 2, loss))).toEqual([true, true, false, false]);
    expect([1, 2, 3].map((loss) => isWithin({ ...rule, order: 'hard' }, 2, loss))).toEqual([false, true, true]);
  });

  it('sends the records on its side of the threshold and no others, all of them at the end', () => {
    const easy = { ...rule, from: middle, to: 9 };
    const hard = { ...rule, order: 'hard', from: middle, to: 0 };
    const every = configOf();
    expect(vectorOf(configOf(easy), train)).toEqual(
      vectorOf(
        every,
        only((loss) => loss <= middle),
      ),
    );
    expect(vectorOf(configOf(hard), train)).toEqual(
      vectorOf(
        every,
        only((loss) => loss >= middle),
      ),
    );
    expect(vectorOf(configOf(easy), train)).not.toEqual(vectorOf(every, train));
    expect(vectorOf(configOf(easy), train, 2)).toEqual(vectorOf(every, train, 2));
    // The control draws from the generator of the contribution, whatever the losses are.
    const random = vectorOf(configOf({ ...rule, order: 'random', from: 0.5, to: 1 }), train);
    expect(random).not.toEqual(vectorOf(every, train));
    expect(random.some((value) => value !== 0)).toBe(true);
  });

  it('keeps the record rule: what a record adds does not depend on the others', () => {
    const config = configOf({ ...rule, from: middle, to: 9 });
    const last = train.count - 1;
    const without = Uint32Array.from({ length: last }, (_, i) => i);
    const termAmong = (data: Dataset): Int32Array => {
      const rest = vectorOf(config, selectRecords(data, without));
      return vectorOf(config, data).map((value, i) => value - (rest[i] as number));
    };
    const features = train.features.map((value, i) => (i < last * 64 ? 50 * value : value));
    const labels = train.labels.map((label, i) => (i < last ? (label + 3) % 10 : label));
    expect(termAmong(createDataset(64, 10, features, labels))).toEqual(termAmong(train));
  });

  it('refuses ranks, experts of own records and thresholds that run backwards, with the reason', () => {
    const local = { epochs: 1, batchSize: 16, stepSize: 0.1 };
    const ranked = (expert: string): (() => RunConfig) => {
      const curriculum = { expert, pacing: 'linear', order: 'easy', startShare: 0.3, fullAt: 0.6 };
      return () => configOf(undefined, { local: { ...local, curriculum } });
    };
    expect(ranked('global')).toThrow(/expected "training.lossThreshold" at unit record: which records have the lowest/);
    for (const expert of ['local', 'hybrid'])
      expect(ranked(expert)).toThrow(/losses an expert of the own records gives depends on other raw records/);
    expect(() => configOf({ ...rule, to: 0.5 })).toThrow(/expected a rising threshold, got 1 to 0.5/);
    expect(() => configOf({ ...rule, order: 'hard' })).toThrow(/expected a falling threshold, got 1 to 3/);
    expect(() => configOf({ ...rule, order: 'random' })).toThrow(/expected shares in \(0, 1\] with random order/);
    const participant = scenarioConfig('digits', {
      seed: 5,
      steps: 4,
      targetEpsilon: 20,
      participants: 4,
      unit: 'participant',
    });
    const asked = { ...participant, training: { ...participant.training, lossThreshold: rule } };
    expect(() => parseRunConfig(asked)).toThrow(/"training.lossThreshold" expected "training.local.curriculum"/);
  });
});
