import { beforeAll, describe, expect, it } from 'vitest';
import { createNetwork, denseNetwork, type NetworkSpec } from '../clients/trainers/tfjs-network.ts';
import { createTfjsOracle, rowsPerPass } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime, type TensorEngine } from '../clients/trainers/tfjs-runtime.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { type DenseShape, denseManifest } from '../src/learning/manifest.ts';
import type { GradientOracle, Model } from '../src/learning/oracle.ts';
import { sampleData, sampleModel } from './support/learning-samples.ts';

interface Gradient {
  readonly loss: number;
  readonly body: Float64Array;
  readonly head: Float64Array;
}

function empty(oracle: GradientOracle): { body: Float64Array; head: Float64Array } {
  // Left-overs of earlier calls must not show.
  return {
    body: new Float64Array(oracle.manifest.bodyLength).fill(7),
    head: new Float64Array(oracle.manifest.headLength).fill(7),
  };
}

function gradientOf(oracle: GradientOracle, model: Model, data: Dataset, record: number): Gradient {
  const { body, head } = empty(oracle);
  return { loss: oracle.perRecordGradient(model.body, model.head, data, record, body, head), body, head };
}

function meanGradientOf(oracle: GradientOracle, model: Model, data: Dataset, records: Uint32Array): Gradient {
  const { body, head } = empty(oracle);
  return { loss: oracle.meanGradient(model.body, model.head, data, records, body, head), body, head };
}

function norm(values: Float64Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

function difference(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value - (b[i] as number));
}

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);
}

function expectClose(actual: Gradient, expected: Gradient, tolerance: number): void {
  expect(Math.abs(actual.loss - expected.loss)).toBeLessThan(tolerance * (1 + expected.loss));
  for (const group of ['body', 'head'] as const) {
    if (expected[group].length === 0) continue;
    expect(norm(expected[group])).toBeGreaterThan(0);
    expect(norm(difference(actual[group], expected[group])) / norm(expected[group])).toBeLessThan(tolerance);
  }
}

function move(model: Model, direction: Model, step: number): Model {
  return {
    body: model.body.map((value, i) => value + step * (direction.body[i] as number)),
    head: model.head.map((value, i) => value + step * (direction.head[i] as number)),
  };
}

interface Subject {
  readonly oracle: GradientOracle;
  readonly featureLength: number;
  /** Relative accuracy of gradients, of finite differences, and the step of the latter. */
  readonly accuracy: { readonly gradient: number; readonly derivative: number; readonly step: number };
}

/** What every gradient oracle must do, whatever computes. */
function describeOracle(name: string, make: () => Promise<Subject>): void {
  describe(name, () => {
    let subject: Subject;
    let oracle: GradientOracle;
    let data: Dataset;
    let model: Model;

    beforeAll(async () => {
      subject = await make();
      oracle = subject.oracle;
      data = sampleData(oracle, subject.featureLength, 12, 100);
      model = sampleModel(oracle, 200);
    });

    it('agrees with finite differences in random directions', () => {
      const { step, derivative } = subject.accuracy;
      for (let record = 0; record < 4; record++) {
        const { body, head } = gradientOf(oracle, model, data, record);
        for (const group of ['body', 'head'] as const) {
          const random = sampleModel(oracle, 300 + record);
          const direction = {
            body: group === 'body' ? random.body : new Float64Array(random.body.length),
            head: group === 'head' ? random.head : new Float64Array(random.head.length),
          };
          const at = (sign: number): number =>
            oracle.losses(...models(move(model, direction, sign * step)), data)[record] as number;
          const slope = (at(1) - at(-1)) / (2 * step);
          const expected = group === 'body' ? dot(body, direction.body) : dot(head, direction.head);
          const gradientNorm = group === 'body' ? norm(body) : norm(head);
          expect(gradientNorm).toBeGreaterThan(0);
          expect(Math.abs(slope - expected)).toBeLessThan(derivative * gradientNorm * norm(direction[group]));
        }
      }
    });

    it('reports the loss of each record as in the list of losses, and predicts the class of least loss', () => {
      const losses = oracle.losses(model.body, model.head, data);
      const predictions = oracle.predict(model.body, model.head, data);
      const everyClass = Array.from({ length: data.classes }, (_, label) =>
        oracle.losses(model.body, model.head, { ...data, labels: data.labels.map(() => label) }),
      );
      for (let record = 0; record < data.count; record++) {
        expect(Math.abs(gradientOf(oracle, model, data, record).loss - (losses[record] as number))).toBeLessThan(1e-5);
        const byClass = everyClass.map((values) => values[record] as number);
        expect(byClass.indexOf(Math.min(...byClass))).toBe(predictions[record]);
        // Softmax sums to one.
        expect(Math.abs(byClass.reduce((sum, loss) => sum + Math.exp(-loss), 0) - 1)).toBeLessThan(1e-5);
      }
      const other = Array.from({ length: 8 }, (_, i) =>
        Array.from(oracle.predict(...models(sampleModel(oracle, 10 * i)), data)),
      );
      expect(new Set(other.flat()).size).toBe(data.classes);
    });

    it('averages the gradients of records, also of repeated ones', () => {
      const records = Uint32Array.of(3, 1, 4, 1, 5, 9, 2, 6);
      const sum = { loss: 0, body: new Float64Array(model.body.length), head: new Float64Array(model.head.length) };
      for (const record of records) {
        const { loss, body, head } = gradientOf(oracle, model, data, record);
        sum.loss += loss / records.length;
        for (const [target, source] of [
          [sum.body, body],
          [sum.head, head],
        ] as const) {
          source.forEach((value, i) => {
            target[i] = (target[i] as number) + value / records.length;
          });
        }
      }
      expectClose(meanGradientOf(oracle, model, data, records), sum, subject.accuracy.gradient);
      const none = meanGradientOf(oracle, model, data, new Uint32Array(0));
      expect(none.loss).toBe(0);
      expect(norm(none.body) + norm(none.head)).toBe(0);
    });

    it('gives a record the same bits whatever the other records are and whatever was computed before', () => {
      const alone = gradientOf(oracle, model, data, 5);
      const others = Float32Array.from(data.features, (value, i) =>
        Math.floor(i / data.featureLength) === 5 ? value : -3 * value,
      );
      const replaced: Dataset = {
        ...data,
        features: others,
        labels: data.labels.map((label, r) => (r === 5 ? label : (label + 1) % data.classes)),
      };
      meanGradientOf(oracle, model, replaced, Uint32Array.of(0, 1, 2));
      gradientOf(oracle, sampleModel(oracle, 999), replaced, 7);
      expect(gradientOf(oracle, model, replaced, 5)).toEqual(alone);
    });

    it('leaves models and data as they were', () => {
      const before = structuredClone({ model, data });
      gradientOf(oracle, model, data, 0);
      meanGradientOf(oracle, model, data, Uint32Array.of(0, 1));
      oracle.losses(model.body, model.head, data);
      oracle.predict(model.body, model.head, data);
      expect({ model, data }).toEqual(before);
    });

    it('survives parameters that overflow', () => {
      const huge = { body: model.body.map((value) => value * 1e300), head: model.head.map((value) => value * 1e300) };
      const { body, head } = gradientOf(oracle, huge, data, 0);
      expect([body.length, head.length]).toEqual([model.body.length, model.head.length]);
    });

    it('refuses models and data of another shape', () => {
      const refused = (run: () => unknown): boolean => {
        try {
          run();
          return false;
        } catch (error) {
          return isCoveyError(error, 'USAGE_RANGE');
        }
      };
      const { body, head } = empty(oracle);
      expect(refused(() => oracle.perRecordGradient(model.head, model.body, data, 0, body, head))).toBe(true);
      expect(refused(() => oracle.losses(model.body.subarray(1), model.head, data))).toBe(true);
      const short = createDataset(
        data.featureLength - 1,
        data.classes,
        new Float32Array(data.featureLength - 1),
        Uint8Array.of(0),
      );
      expect(refused(() => oracle.predict(model.body, model.head, short))).toBe(true);
    });
  });
}

function models(model: Model): [Float64Array, Float64Array] {
  return [model.body, model.head];
}

const shape: DenseShape = { inputs: 11, hidden: [9, 6], classes: 4 };
const single = { gradient: 1e-4, derivative: 2e-3, step: 3e-3 };
const convolutional: NetworkSpec = {
  inputShape: [8, 8, 2],
  layers: [
    { kind: 'conv2d', filters: 4, kernelSize: 3, stride: 1, padding: 'same', activation: 'relu' },
    { kind: 'maxPool', size: 2, stride: 2, padding: 'valid' },
    { kind: 'depthwiseConv2d', multiplier: 2, kernelSize: 3, stride: 1, padding: 'valid', activation: 'linear' },
    { kind: 'conv2d', filters: 6, kernelSize: 1, stride: 1, padding: 'valid', activation: 'relu' },
    { kind: 'flatten' },
    { kind: 'dense', units: 8, activation: 'relu' },
    { kind: 'dense', units: 3, activation: 'linear' },
  ],
};

async function tfjsOracle(engine: TensorEngine, network: NetworkSpec): Promise<GradientOracle> {
  return createTfjsOracle(await loadTensorRuntime({ candidates: [engine] }), network);
}

describeOracle('dense oracle', async () => {
  return {
    oracle: createDenseOracle(shape),
    featureLength: shape.inputs,
    accuracy: { gradient: 1e-10, derivative: 1e-6, step: 1e-5 },
  };
});
for (const engine of ['tfjs-wasm', 'tfjs-cpu'] as const) {
  describeOracle(`${engine}, multilayer perceptron`, async () => {
    return { oracle: await tfjsOracle(engine, denseNetwork(shape)), featureLength: shape.inputs, accuracy: single };
  });
  describeOracle(`${engine}, convolutional network`, async () => {
    return { oracle: await tfjsOracle(engine, convolutional), featureLength: 128, accuracy: single };
  });
}

describe('the cut between body and head', () => {
  it('moves parameters from one group to the other and changes nothing else', () => {
    const data = sampleData(createDenseOracle(shape), shape.inputs, 3, 2);
    const flat = sampleModel(createDenseOracle(shape), 1);
    const values = [...flat.body, ...flat.head];
    const gradients = [0, 1, 2].map((sharedLayers) => {
      const oracle = createDenseOracle({ ...shape, sharedLayers });
      const { bodyLength } = oracle.manifest;
      const model = {
        body: Float64Array.from(values.slice(0, bodyLength)),
        head: Float64Array.from(values.slice(bodyLength)),
      };
      const { loss, body, head } = gradientOf(oracle, model, data, 1);
      return [loss, ...body, ...head];
    });
    expect(gradients[0]).toEqual(gradients[2]);
    expect(gradients[1]).toEqual(gradients[2]);
  });
});

describe('tensor engines', () => {
  it.each([shape, { ...shape, sharedLayers: 0 }, { ...shape, sharedLayers: 1 }])(
    'compute the gradients of the dense oracle, from the same flattened parameters: $sharedLayers shared',
    async (shape) => {
      const dense = createDenseOracle(shape);
      const model = sampleModel(dense, 1);
      const data = sampleData(dense, shape.inputs, 600, 2);
      for (const engine of ['tfjs-wasm', 'tfjs-cpu'] as const) {
        const oracle = await tfjsOracle(engine, denseNetwork(shape));
        expect(oracle.manifest).toEqual(denseManifest(shape));
        for (let record = 0; record < 10; record++) {
          expectClose(gradientOf(oracle, model, data, record), gradientOf(dense, model, data, record), 1e-4);
        }
        // More records than one pass takes.
        const all = Uint32Array.from({ length: data.count }, (_, i) => i);
        expectClose(meanGradientOf(oracle, model, data, all), meanGradientOf(dense, model, data, all), 1e-4);
        expect(
          norm(difference(oracle.losses(...models(model), data), dense.losses(...models(model), data))),
        ).toBeLessThan(1e-4);
        expect(oracle.predict(...models(model), data)).toEqual(dense.predict(...models(model), data));
      }
    },
  );

  it('compute the same convolutional gradients and keep no tensor', async () => {
    const wasm = await tfjsOracle('tfjs-wasm', convolutional);
    const { tf } = await loadTensorRuntime({ candidates: ['tfjs-wasm'] });
    const model = sampleModel(wasm, 3);
    const data = sampleData(wasm, 128, 6, 4);
    const before = tf.memory().numTensors;
    const heldBefore = tf.backend().numDataIds();
    const gradients = Array.from({ length: 6 }, (_, record) => gradientOf(wasm, model, data, record));
    wasm.predict(...models(model), data);
    expect(tf.memory().numTensors).toBe(before);
    expect(tf.backend().numDataIds()).toBe(heldBefore);
    const plain = await tfjsOracle('tfjs-cpu', convolutional);
    gradients.forEach((gradient, record) => {
      expectClose(gradient, gradientOf(plain, model, data, record), 1e-4);
    });
    // An oracle does not compute on an engine that it was not made for.
    expect(() => gradientOf(wasm, model, data, 0)).toThrow('"runtime" expected backend wasm, got cpu');
  });
});

describe('networks', () => {
  const dense = { kind: 'dense', units: 2, activation: 'linear' } as const;
  const refused = (spec: NetworkSpec): string => {
    try {
      createNetwork(spec);
      return 'accepted';
    } catch (error) {
      return isCoveyError(error, 'USAGE_CONFIG') ? error.message : 'another error';
    }
  };

  it('lay out kernels and biases in order, with the last layer as head', () => {
    const { manifest } = createNetwork(convolutional);
    expect(manifest.tensors.map(({ name, shape: sizes, group }) => `${name} ${sizes.join('x')} ${group}`)).toEqual([
      'conv2d_1/kernel 3x3x2x4 body',
      'conv2d_1/bias 4 body',
      'depthwiseConv2d_1/kernel 3x3x4x2 body',
      'depthwiseConv2d_1/bias 8 body',
      'conv2d_2/kernel 1x1x8x6 body',
      'conv2d_2/bias 6 body',
      'dense_1/kernel 24x8 body',
      'dense_1/bias 8 body',
      'dense_2/kernel 8x3 head',
      'dense_2/bias 3 head',
    ]);
  });

  it('refuse layers that do not fit', () => {
    expect(refused({ inputShape: [4], layers: [] })).toBe('"layers" expected a dense linear layer at the end');
    expect(refused({ inputShape: [4], layers: [{ ...dense, activation: 'relu' }] })).toBe(
      '"layers" expected a dense linear layer at the end',
    );
    expect(refused({ inputShape: [4, 4, 1], layers: [dense] })).toBe('"dense" expected a flat input, got 4 x 4 x 1');
    const pool = { kind: 'maxPool', size: 5, stride: 2, padding: 'valid' } as const;
    expect(refused({ inputShape: [16], layers: [pool, dense] })).toBe(
      '"maxPool" expected rows x columns x channels, got 16',
    );
    expect(refused({ inputShape: [4, 4, 1], layers: [pool, { kind: 'flatten' }, dense] })).toBe(
      '"maxPool" expected windows within 4 x 4 x 1, got 0 x 0 x 1 of them',
    );
  });

  it('run in passes that fit into memory, and not at all if one record does not', () => {
    const network = createNetwork(denseNetwork({ inputs: 1000, hidden: [1000], classes: 10 }));
    const modelBytes = 16 * (1001 * 1000 + 1001 * 10);
    const rowBytes = 24 * 2010;
    expect(rowsPerPass(network)).toBe(256);
    expect(rowsPerPass(network, modelBytes + 3 * rowBytes)).toBe(3);
    expect(() => rowsPerPass(network, modelBytes + rowBytes - 1)).toThrow('expected at most');
  });
});
