import { describe, expect, it } from 'vitest';
import { networkOf } from '../clients/trainers/tfjs-network.ts';
import { isReached } from '../experiments/oracle-problem.ts';
import { ORACLE_RUNS } from '../experiments/oracle-runs.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createDataset, type Dataset, datasetHash, selectRecords } from '../src/data/dataset.ts';
import { createRandom } from '../src/data/random.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { initialModel } from '../src/learning/initial-model.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import { createPlainOracle } from '../src/learning/plain-oracle.ts';
import { parseRunConfig } from '../src/run/config.ts';
import { scenarioConfig } from '../src/run/scenario.ts';

const random = createRandom(11);
const features = Float32Array.from({ length: 5 * 3 }, () => random.uniform(-1, 1));
const classified = createDataset(3, 4, features, Uint8Array.of(0, 3, 2, 1, 3));
const fitted: Dataset = {
  ...createDataset(3, 1, features, new Uint8Array(5)),
  targets: Float64Array.of(0.3, -1, 2, 0.1, -0.4),
};
const shapes: DenseShape[] = (['relu', 'tanh', 'linear'] as const).flatMap((activation) =>
  [true, false].flatMap((bias) => [
    { inputs: 3, hidden: [5, 4], classes: 1, sharedLayers: 1, loss: 'squared' as const, activation, bias },
    { inputs: 3, hidden: [5, 4], classes: 4, sharedLayers: 2, activation, bias },
  ]),
);

describe('the plain oracle of dense networks', () => {
  it.each(shapes)('has the gradients of its losses: $loss $activation $bias', (shape) => {
    const data = shape.loss === 'squared' ? fitted : classified;
    const oracle = createPlainOracle(shape);
    const { body, head } = initialModel(oracle.manifest, createRandom(3));
    const [atBody, atHead] = [body.map((value) => 2 * value + 0.05), head.map((value) => 4 * value - 0.05)];
    const gradient = { body: new Float64Array(body.length), head: new Float64Array(head.length) };
    const records = Uint32Array.of(0, 1, 2, 3, 4);
    const mean = oracle.meanGradient(atBody, atHead, data, records, gradient.body, gradient.head);
    const loss = (b: Float64Array, h: Float64Array): number =>
      oracle.losses(b, h, data).reduce((sum, value) => sum + value, 0) / 5;
    expect(mean).toBeCloseTo(loss(atBody, atHead), 12);
    const shifted = (values: Float64Array, i: number, by: number): Float64Array =>
      values.map((value, j) => (i === j ? value + by : value));
    gradient.body.forEach((value, i) => {
      const slope = (loss(shifted(atBody, i, 1e-6), atHead) - loss(shifted(atBody, i, -1e-6), atHead)) / 2e-6;
      expect(value).toBeCloseTo(slope, 6);
    });
    gradient.head.forEach((value, i) => {
      const slope = (loss(atBody, shifted(atHead, i, 1e-6)) - loss(atBody, shifted(atHead, i, -1e-6))) / 2e-6;
      expect(value).toBeCloseTo(slope, 6);
    });
  });

  it.each(shapes.filter(({ bias }) => bias))('agrees with the blocked oracle: $loss $activation', (shape) => {
    const [plain, blocked] = [createPlainOracle(shape), createDenseOracle(shape)];
    const { body, head } = initialModel(plain.manifest, createRandom(3));
    // More than a block of records, some of them twice.
    const records = Uint32Array.from({ length: 150 }, (_, i) => (i * i) % 5);
    const data = shape.loss === 'squared' ? fitted : classified;
    const of = (oracle: typeof plain): number[] => {
      const gradient = { body: new Float64Array(body.length), head: new Float64Array(head.length) };
      const parts = [gradient.body, gradient.head] as const;
      const values = [oracle.perRecordGradient(body, head, data, 1, ...parts), ...parts.flatMap((part) => [...part])];
      values.push(oracle.meanGradient(body, head, data, records, ...parts), ...parts.flatMap((part) => [...part]));
      const pass = oracle.factors?.pass(body, head, data, records.subarray(0, 7));
      expect(pass?.errors).toHaveLength(3);
      pass?.errors.forEach((errors, l) => {
        values.push(...errors.subarray(0, 7 * ([5, 4, shape.classes][l] as number)));
      });
      return [...values, ...(pass?.losses ?? []), ...oracle.losses(body, head, data)];
    };
    const [expected, got] = [of(plain), of(blocked)];
    expect(got).toHaveLength(expected.length);
    expected.forEach((value, i) => {
      expect(got[i]).toBeCloseTo(value, 12);
    });
    expect(plain.predict(body, head, data)).toEqual(blocked.predict(body, head, data));
  });

  it('keeps targets with their records and in the hash, and is refused where it does not fit', () => {
    expect(selectRecords(fitted, Uint32Array.of(2, 0)).targets).toEqual(Float64Array.of(2, 0.3));
    const other = { ...fitted, targets: Float64Array.of(0.3, -1, 2, 0.1, -0.5) };
    expect(datasetHash(nodeCrypto, other)).not.toBe(datasetHash(nodeCrypto, fitted));
    const squared = createDenseOracle({ inputs: 3, hidden: [], classes: 1, loss: 'squared' });
    const bare = createDataset(3, 1, features, new Uint8Array(5));
    expect(() => squared.losses(new Float64Array(0), new Float64Array(4), bare)).toThrow(/"data" expected 5 targets/);
    expect(() => networkOf({ inputs: 3, hidden: [4], classes: 2, activation: 'tanh' })).toThrow(/ReLU/);
    const base = scenarioConfig('digits', { seed: 1, steps: 2, targetEpsilon: 8, participants: 4 });
    const model = { ...base.model, loss: 'squared' };
    expect(() => parseRunConfig({ ...base, model })).toThrow(/"model.classes" expected 1 with squared error, got 10/);
    expect(() => parseRunConfig({ ...base, model: { ...base.model, classes: 1 } })).toThrow(
      /expected at least 2, got 1/,
    );
  });
});

describe('problems with a known answer', () => {
  it.each(Object.keys(ORACLE_RUNS))('%s: runs of the algorithms reach it', (id) => {
    for (const row of ORACLE_RUNS[id]?.(nodeCrypto, 1) ?? []) expect(isReached(row), JSON.stringify(row)).toBe(true);
  });

  it('miss what they do not reach', () => {
    const row = { name: '', measured: 1, expected: 0.9, tolerance: 0.01 };
    expect([isReached(row), isReached({ ...row, tolerance: 0.11 })]).toEqual([false, true]);
    expect([isReached({ ...row, atMost: true }), isReached({ ...row, expected: 2, atMost: true })]).toEqual([
      false,
      true,
    ]);
  });
});
