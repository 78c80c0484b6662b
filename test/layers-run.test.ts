import { beforeAll, describe, expect, it } from 'vitest';
import { networkOf } from '../clients/trainers/tfjs-network.ts';
import { createTfjsOracle } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime, type TensorRuntime } from '../clients/trainers/tfjs-runtime.ts';
import { type InProcessResult, runInProcess } from '../experiments/in-process.ts';
import { realSum } from '../experiments/real-sum.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromUtf8, utf8 } from '../protocol/bytes.ts';
import { idealSum, type SecureSum } from '../protocol/ideal.ts';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createRandom } from '../src/data/random.ts';
import { accuracy } from '../src/learning/evaluation.ts';
import { initialModel } from '../src/learning/initial-model.ts';
import { createManifest, denseManifest } from '../src/learning/manifest.ts';
import { readModelDefinition } from '../src/learning/model-definition.ts';
import { ALGORITHMS } from '../src/learning/registry.ts';
import type { RunConfig } from '../src/run/config.ts';
import { initialModels } from '../src/run/released.ts';
import { type ScenarioOptions, scenarioConfig } from '../src/run/scenario.ts';
import { codeOf } from './support/code-of.ts';
import { CONVOLUTIONAL, layer, modelFile } from './support/model-files.ts';
import { repeatable } from './support/repeatable.ts';

const MEMBERS = 4;
const { shape: convolutional } = readModelDefinition({ modelJson: CONVOLUTIONAL });
let runtime: TensorRuntime;

beforeAll(async () => {
  runtime = await loadTensorRuntime({ candidates: ['tfjs-wasm'] });
});

function configOf(options: Partial<ScenarioOptions> = {}): RunConfig {
  return scenarioConfig('digits', {
    seed: 5,
    steps: 3,
    targetEpsilon: 1e6,
    participants: MEMBERS,
    unit: 'participant',
    model: convolutional,
    algorithm: { id: 'fedavg' },
    ...options,
  });
}

function run(config: RunConfig, secureSum: SecureSum = idealSum): InProcessResult {
  const oracle = createTfjsOracle(runtime, networkOf(config.model));
  return runInProcess({
    config,
    runId: '0f0e0d0c0b0a09080706050403020100',
    crypto: nodeCrypto,
    random: repeatable(4),
    organizations: Array.from({ length: MEMBERS }, (_, i) => ({ data: generateDigits(5, i).train, oracle })),
    isPresent: () => true,
    secureSum,
  });
}

/** A text classifier over eight tokens of twelve words. */
const TOKENS = 8;
const { shape: embedding } = readModelDefinition({
  modelJson: modelFile([
    layer('Embedding', { batch_input_shape: [null, TOKENS], input_dim: 12, output_dim: 4 }),
    layer('GlobalAveragePooling1D', {}),
    layer('Dense', { units: 2, activation: 'softmax' }),
  ]),
});

/** Class one reads the first half of the words more often. */
function textOf(member: number): Dataset {
  const random = createRandom(9, member);
  const labels = Uint8Array.from({ length: 60 }, (_, i) => i % 2);
  const features = Float32Array.from({ length: labels.length * TOKENS }, (_, i) => {
    const isOne = labels[Math.floor(i / TOKENS)] === 1;
    return Math.floor(random.uniform(0, 6)) + (random.uniform(0, 1) < 0.8 === isOne ? 0 : 6);
  });
  return createDataset(TOKENS, 2, features, labels);
}

describe('runs of a network of layers', () => {
  it.each([
    ['participant', 'integer'],
    ['record', 'integer'],
    ['record', 'float-bounded'],
  ] as const)('train embeddings at unit %s with %s terms', (unit, terms) => {
    const table = { features: TOKENS, classes: 2, hidden: [], nominalRecords: 240, maxRecords: 100 };
    const algorithm = { id: 'fedavg' };
    const participants = MEMBERS;
    const options = {
      seed: 5,
      steps: 25,
      targetEpsilon: 1e6,
      participants,
      unit,
      terms,
      model: embedding,
      algorithm,
      table,
    };
    const config = scenarioConfig('table', { ...options, ...(unit === 'record' ? {} : { localStep: 0.5 }) });
    const oracle = createTfjsOracle(runtime, networkOf(config.model));
    const { models } = runInProcess({
      config,
      runId: '0f0e0d0c0b0a09080706050403020100',
      crypto: nodeCrypto,
      random: repeatable(4),
      organizations: Array.from({ length: MEMBERS }, (_, i) => ({ data: textOf(i), oracle })),
      isPresent: () => true,
    }).state;
    const after = { body: Float64Array.from(models.body), head: Float64Array.from(models.heads[0] ?? []) };
    expect([after.body.length, after.head.length]).toEqual([48, 10]);
    expect(accuracy(oracle, after, textOf(77))).toBeGreaterThan(0.75);
  });

  const cut = (id: string): RunConfig =>
    configOf({ algorithm: { id }, steps: id === 'evolving' ? 6 : 2, targetEpsilon: 1e5 });

  it.each(ALGORITHMS.map(({ info }) => info.id).filter((id) => id !== 'fedavgm'))(
    'find body and head of the network: %s',
    (id) => {
      const config = cut(id);
      const { body, heads } = run(config).state.models;
      expect(body.length).toBe(3 * 3 * 6 + 6);
      expect(heads.every((head) => head.length === 4 * 4 * 6 * 10 + 10)).toBe(true);
      expect([body, ...heads].every((values) => values.every(Number.isFinite))).toBe(true);
      expect(body).not.toEqual(initialModels(config, 1).body);
    },
  );

  it.each(['fedrod', 'metavers'])('are refused before the run where a head without bias does not fit: %s', (id) => {
    const text = fromUtf8(CONVOLUTIONAL).replace('"units":10', '"units":10,"use_bias":false');
    const { shape } = readModelDefinition({ modelJson: utf8(text) });
    expect(() => configOf({ algorithm: { id }, model: shape })).toThrow(
      `"model" expected a head of one dense layer for ${id}, got 1 tensors`,
    );
    expect(codeOf(() => configOf({ algorithm: { id: 'fedavg' }, model: shape }))).toBeNull();
  });

  it('draw kernels by what an output sums, and embeddings small', () => {
    const deviation = (values: Float32Array): number =>
      Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
    const { body, heads } = initialModels(configOf(), 1);
    expect(deviation(body.subarray(0, 54)) / Math.sqrt(2 / 9)).toBeCloseTo(1, 0);
    expect(body.subarray(54)).toEqual(new Float32Array(6));
    expect(deviation((heads[0] as Float32Array).subarray(0, 960)) / (0.3 / Math.sqrt(96))).toBeCloseTo(1, 1);
    const random = createRandom(1);
    const table = initialModel(denseManifest(embedding), random);
    expect(deviation(Float32Array.from(table.body)) / 0.05).toBeCloseTo(1, 0);
    const depthwise = createManifest([
      { name: 'a/depthwise_kernel', shape: [3, 3, 40, 2], group: 'body' },
      { name: 'b/kernel', shape: [2, 2], group: 'head' },
    ]);
    expect(deviation(Float32Array.from(initialModel(depthwise, random).body)) / Math.sqrt(2 / 9)).toBeCloseTo(1, 1);
  });

  it.each([
    ['participant', 'integer'],
    ['record', 'integer'],
    ['record', 'float-bounded'],
  ] as const)(
    'release the same bits over the real protocol and over the ideal sum at unit %s with %s terms',
    (unit, terms) => {
      const config = configOf({ unit, terms, steps: 2 });
      const [real, ideal] = [run(config, realSum(MEMBERS)), run(config)];
      expect(real.state.models).toEqual(ideal.state.models);
      expect(ideal.state.models.body.length).toBe(3 * 3 * 6 + 6);
      expect(ideal.state.models.heads[0]?.length).toBe(4 * 4 * 6 * 10 + 10);
      expect(ideal.state.models).not.toEqual(initialModels(config, 1));
    },
  );

  it('learn', () => {
    const config = configOf({ steps: 30 });
    const { models } = run(config).state;
    const oracle = createTfjsOracle(runtime, networkOf(config.model));
    const { test } = generateDigits(5, 0);
    const after = { body: Float64Array.from(models.body), head: Float64Array.from(models.heads[0] ?? []) };
    const start = initialModels(config, 1);
    const before = { body: Float64Array.from(start.body), head: Float64Array.from(start.heads[0] ?? []) };
    // The members write their digits in different ways, so that one model for all of them has its limits.
    expect(accuracy(oracle, before, test)).toBeLessThan(0.2);
    expect(accuracy(oracle, after, test)).toBeGreaterThan(0.4);
  });
});
