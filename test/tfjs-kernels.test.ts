import type { BackendWasm } from '@tensorflow/tfjs-backend-wasm';
import type { Tensor, Tensor4D } from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { guardHeap } from '../clients/trainers/tfjs-kernels.ts';
import { planLayer } from '../clients/trainers/tfjs-layer-plans.ts';
import { loadTensorRuntime, type TensorLibrary } from '../clients/trainers/tfjs-runtime.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { sampleValues } from './tensor-samples.ts';

let tf: TensorLibrary;
let leaked: () => number;

beforeAll(async () => {
  await loadTensorRuntime({ candidates: ['tfjs-cpu'] });
  ({ tf } = await loadTensorRuntime({ candidates: ['tfjs-wasm'] }));
  const before = tf.backend().numDataIds();
  leaked = () => tf.backend().numDataIds() - before;
});

afterAll(() => {
  expect(leaked()).toBe(0);
});

function sample(shape: number[], seed: number, shift = 0): Tensor {
  const length = shape.reduce((a, b) => a * b, 1);
  return tf.tensor(
    Float32Array.from(sampleValues(length, seed), (value) => value + shift),
    shape,
  );
}

/** Computes on one backend, with inputs made there. */
async function on(backend: string, compute: () => Tensor[]): Promise<Float32Array[]> {
  await tf.setBackend(backend);
  const outputs = tf.tidy(compute);
  const values = outputs.map((tensor) => Float32Array.from(tensor.dataSync()));
  tf.dispose(outputs);
  return values;
}

/** Expects equal outputs on both backends, up to `tolerance` of the largest value. */
async function expectEqual(compute: () => Tensor[], tolerance = 1e-5): Promise<void> {
  const expected = await on('cpu', compute);
  const actual = await on('wasm', compute);
  expect(actual.length).toBe(expected.length);
  expected.forEach((values, i) => {
    const largest = values.reduce((high, value) => Math.max(high, Math.abs(value)), 0);
    expect(largest).toBeGreaterThan(0);
    const worst = values.reduce(
      (high, value, k) => Math.max(high, Math.abs(value - (actual[i]?.[k] ?? Number.NaN))),
      0,
    );
    expect(worst / largest).toBeLessThan(tolerance);
    expect(actual[i]?.length).toBe(values.length);
  });
}

type Padding = 'same' | 'valid' | number;
interface Geometry {
  name: string;
  size: [number, number];
  filter: [number, number];
  strides: [number, number];
  padding: Padding;
}

const geometries: Geometry[] = [
  { name: '3x3, same', size: [8, 7], filter: [3, 3], strides: [1, 1], padding: 'same' },
  { name: '3x3, valid', size: [8, 7], filter: [3, 3], strides: [1, 1], padding: 'valid' },
  { name: '2x3, strides 2 x 1, same', size: [9, 6], filter: [2, 3], strides: [2, 1], padding: 'same' },
  {
    name: '3x3, strides 2 x 3, valid with rows left over',
    size: [10, 12],
    filter: [3, 3],
    strides: [2, 3],
    padding: 'valid',
  },
  { name: '5x5, padding 2, stride 2', size: [9, 9], filter: [5, 5], strides: [2, 2], padding: 2 },
  { name: '1x1, stride 2', size: [5, 6], filter: [1, 1], strides: [2, 2], padding: 'same' },
  { name: 'filter as large as the image', size: [4, 4], filter: [4, 4], strides: [1, 1], padding: 'valid' },
];

// Windows that lie in the padding altogether exist for convolutions only.
const widePadding: Geometry = {
  name: 'padding wider than the filter',
  size: [5, 4],
  filter: [2, 2],
  strides: [1, 1],
  padding: 3,
};

describe('gradients of convolutions equal those of the plain backend', () => {
  for (const { name, size, filter, strides, padding } of [...geometries, widePadding]) {
    it(`convolution ${name}`, async () => {
      await expectEqual(() => {
        const x = sample([3, ...size, 2], 1) as Tensor4D;
        const kernel = sample([...filter, 2, 4], 2) as Tensor4D;
        const y = tf.conv2d(x, kernel, strides, padding);
        const dy = sample(y.shape, 3);
        return tf.grads((a, b) => tf.conv2d(a as Tensor4D, b as Tensor4D, strides, padding))([x, kernel], dy);
      });
    });

    for (const multiplier of [1, 3]) {
      it(`depthwise convolution ${name}, multiplier ${multiplier}`, async () => {
        await expectEqual(() => {
          const x = sample([3, ...size, 2], 4) as Tensor4D;
          const kernel = sample([...filter, 2, multiplier], 5) as Tensor4D;
          const y = tf.depthwiseConv2d(x, kernel, strides, padding);
          const dy = sample(y.shape, 6);
          return tf.grads((a, b) => tf.depthwiseConv2d(a as Tensor4D, b as Tensor4D, strides, padding))(
            [x, kernel],
            dy,
          );
        });
      });
    }
  }
});

describe('gradient of max pooling', () => {
  // Shifted by -2 every value is negative; by 2 every value is positive.
  for (const shift of [-2, 0, 2]) {
    for (const { name, size, filter, strides, padding } of geometries) {
      it(`equals that of the plain backend: ${name}, values around ${shift}`, async () => {
        await expectEqual(() => {
          const x = sample([2, ...size, 3], 7, shift) as Tensor4D;
          const y = tf.maxPool(x, filter, strides, padding);
          return [tf.grad((a) => tf.maxPool(a as Tensor4D, filter, strides, padding))(x, sample(y.shape, 8))];
        });
      });
    }
  }

  it('goes to the first of equal values', async () => {
    const compute = (): Tensor[] => [
      tf.grad((a) => tf.maxPool(a as Tensor4D, 2, 2, 'valid'))(tf.fill([1, 2, 2, 1], -3), tf.fill([1, 1, 1, 1], 5)),
    ];
    expect(await on('wasm', compute)).toEqual([Float32Array.of(5, 0, 0, 0)]);
    expect(await on('cpu', compute)).toEqual([Float32Array.of(5, 0, 0, 0)]);
  });
});

describe('gradient of mean pooling', () => {
  for (const { name, size, filter, strides, padding } of geometries) {
    if (typeof padding === 'number') continue;
    it(`is the transpose of the forward pass, which is that of the engine: ${name}`, async () => {
      const layer = { kind: 'averagePool', size: filter, stride: strides, padding } as const;
      const { apply, output } = planLayer(layer, [...size, 3], false);
      for (const backend of ['wasm', 'cpu']) {
        const [y, expected, forward, backward] = await on(backend, () => {
          const x = sample([2, ...size, 3], 13) as Tensor4D;
          const dy = sample([2, ...output], 14);
          const pooled = apply(tf, x, []);
          const gradient = tf.grad((a) => apply(tf, a, []))(x, dy);
          // <P x, dy> = <x, P' dy> for every linear P.
          const products = [tf.sum(tf.mul(pooled, dy)), tf.sum(tf.mul(x, gradient))];
          return [pooled, tf.avgPool(x, filter, strides, padding), ...products];
        });
        expect(y?.length).toBe(2 * output.reduce((product, n) => product * n, 1));
        y?.forEach((value, i) => {
          expect(Math.abs(value - (expected?.[i] as number))).toBeLessThan(1e-6);
        });
        expect(Math.abs(forward?.[0] as number)).toBeGreaterThan(1e-3);
        expect(Math.abs((forward?.[0] as number) - (backward?.[0] as number))).toBeLessThan(1e-5);
      }
    });
  }
});

describe('gradient of looking up rows', () => {
  it('equals that of the plain backend, with rows that are asked for often and never', async () => {
    await expectEqual(() => {
      const table = sample([7, 5], 15);
      const rows = tf.tensor2d([0, 6, 6, 3, 6, 0, 2, 2], [2, 4], 'int32');
      const dy = sample([2, 4, 5], 16);
      return [tf.grad((a) => tf.gather(a, rows))(table, dy)];
    });
  });

  it('equals that of the plain backend on tables of more than two dimensions', async () => {
    await expectEqual(() => {
      const segments = tf.tensor1d([1, 0, 1, 4], 'int32');
      return [tf.unsortedSegmentSum(sample([4, 3, 2], 17), segments, 6)];
    });
  });
});

describe('transposed products', () => {
  for (const [transposeA, transposeB] of [
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ] as const) {
    it(`equal those of the plain backend (${transposeA}, ${transposeB})`, async () => {
      await expectEqual(() => {
        const a = sample(transposeA ? [2, 5, 3] : [2, 3, 5], 9);
        const b = sample(transposeB ? [2, 4, 5] : [2, 5, 4], 10);
        const flat = tf.fused.matMul({
          a: sample(transposeA ? [5, 3] : [3, 5], 11),
          b: sample(transposeB ? [4, 5] : [5, 4], 12),
          transposeA,
          transposeB,
          activation: 'relu',
        });
        return [tf.matMul(a, b, transposeA, transposeB), flat];
      });
    });
  }
});

describe('heap guard', () => {
  it('refuses tensors above its limit and keeps computing afterwards', async () => {
    await tf.setBackend('wasm');
    const backend = tf.backend() as BackendWasm;
    const { wasm } = backend;
    const kept = (wasm as unknown as { _malloc: (bytes: number) => number })._malloc;
    const before = backend.numDataIds();
    guardHeap(backend, 64 * 2 ** 20);
    let refusal: unknown;
    try {
      tf.tidy(() => tf.zeros([20_000_000]));
    } catch (error) {
      refusal = error;
    } finally {
      (wasm as unknown as { _malloc: (bytes: number) => number })._malloc = kept;
    }
    expect(isCoveyError(refusal, 'USAGE_RANGE')).toBe(true);
    expect(backend.numDataIds()).toBe(before);
    expect(await on('wasm', () => [tf.sum(tf.ones([1000]))])).toEqual([Float32Array.of(1000)]);
  });
});
