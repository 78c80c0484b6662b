import { describe, expect, it } from 'vitest';
import { createNetwork, networkOf } from '../clients/trainers/tfjs-network.ts';
import { createTfjsOracle, rowsPerPass } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime, type TensorEngine } from '../clients/trainers/tfjs-runtime.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { type DenseShape, denseManifest } from '../src/learning/manifest.ts';
import type { NetworkSpec } from '../src/learning/network.ts';
import type { GradientOracle } from '../src/learning/oracle.ts';
import { sampleData, sampleModel } from './support/learning-samples.ts';
import { convolutional, embedding, NETWORKS, toWord } from './support/networks.ts';
import {
  describeOracle,
  difference,
  expectClose,
  gradientOf,
  meanGradientOf,
  models,
  norm,
} from './support/oracle-contract.ts';

const shape: DenseShape = { inputs: 11, hidden: [9, 6], classes: 4 };
const single = { gradient: 1e-4, derivative: 2e-3, step: 3e-3 };
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
  for (const { name, spec, toFeature } of NETWORKS) {
    const featureLength = spec.inputShape.reduce((product, size) => product * size, 1);
    describeOracle(`${engine}, ${name}`, async () => {
      return { oracle: await tfjsOracle(engine, spec), featureLength, toFeature, accuracy: single };
    });
  }
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
        const oracle = await tfjsOracle(engine, networkOf(shape));
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

  it.each(NETWORKS)('compute the same gradients and keep no tensor: $name', async ({ spec, toFeature }) => {
    const wasm = await tfjsOracle('tfjs-wasm', spec);
    const { tf } = await loadTensorRuntime({ candidates: ['tfjs-wasm'] });
    const model = sampleModel(wasm, 3);
    const featureLength = spec.inputShape.reduce((product, size) => product * size, 1);
    const data = sampleData(wasm, featureLength, 6, 4, toFeature);
    const before = tf.memory().numTensors;
    const heldBefore = tf.backend().numDataIds();
    const engineGradient = (oracle: GradientOracle, record: number) =>
      meanGradientOf(oracle, model, data, Uint32Array.of(record));
    const gradients = Array.from({ length: 6 }, (_, record) => engineGradient(wasm, record));
    wasm.predict(...models(model), data);
    meanGradientOf(wasm, model, data, Uint32Array.of(0, 1, 2));
    // Neither does a call that fails half-way.
    expect(() => engineGradient(wasm, 6)).toThrow('"record" expected below 6, got 6');
    expect(tf.memory().numTensors).toBe(before);
    expect(tf.backend().numDataIds()).toBe(heldBefore);
    const plain = await tfjsOracle('tfjs-cpu', spec);
    gradients.forEach((gradient, record) => {
      expectClose(gradient, engineGradient(plain, record), 1e-4);
    });
    // An oracle does not compute on an engine that it was not made for.
    expect(() => engineGradient(wasm, 0)).toThrow('"runtime" expected backend wasm, got cpu');
  });

  it('give a record whose words are not in the table no number, and nothing of it to the others', async () => {
    const oracle = await tfjsOracle('tfjs-wasm', embedding);
    const model = sampleModel(oracle, 3);
    const data = sampleData(oracle, 12, 6, 4, toWord);
    for (const word of [9, -1, 0.5, Number.NaN, 4e9]) {
      const broken = { ...data, features: data.features.map((value, i) => (i === 14 ? word : value)) };
      const { loss, body, head } = gradientOf(oracle, model, broken, 1);
      expect([loss, ...body, ...head].every(Number.isNaN)).toBe(true);
      expect(gradientOf(oracle, model, broken, 2)).toEqual(gradientOf(oracle, model, data, 2));
      expect(meanGradientOf(oracle, model, broken, Uint32Array.of(0, 1)).loss).toBeNaN();
      const losses = oracle.losses(...models(model), broken);
      expect(Array.from(losses, Number.isNaN)).toEqual([false, true, false, false, false, false]);
    }
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
      'depthwiseConv2d_1/depthwise_kernel 3x3x4x2 body',
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
    const network = createNetwork(networkOf({ inputs: 1000, hidden: [1000], classes: 10 }));
    const modelBytes = 16 * (1001 * 1000 + 1001 * 10);
    const rowBytes = 24 * 2010;
    expect(rowsPerPass(network)).toBe(256);
    expect(rowsPerPass(network, modelBytes + 3 * rowBytes)).toBe(3);
    expect(() => rowsPerPass(network, modelBytes + rowBytes - 1)).toThrow('expected at most');
  });
});
