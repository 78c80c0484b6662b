import type * as Core from '@tensorflow/tfjs-core';
import {
  type Activation,
  count,
  type LayerSizes,
  type LayerSpec,
  type Padding,
  pair,
  sizeLayer,
} from '../../src/learning/layer-sizes.ts';

/** Applies a layer to a batch. */
export type Apply = (tf: typeof Core, x: Core.Tensor, parameters: readonly Core.Tensor[]) => Core.Tensor;

/** The sizes of a layer and what it computes. */
export interface Plan extends LayerSizes {
  readonly apply: Apply;
}

function activate(tf: typeof Core, x: Core.Tensor, activation: Activation): Core.Tensor {
  return activation === 'linear' ? x : tf[activation](x);
}

function addBias(tf: typeof Core, x: Core.Tensor, bias: Core.Tensor | undefined): Core.Tensor {
  return bias === undefined ? x : tf.add(x, bias);
}

/** How many values each window of a padded pooling holds. Shapes: 1 x rows x columns x 1. */
function windowCounts(tf: typeof Core, info: Core.backend_util.Conv2DInfo): Core.Tensor {
  const along = (out: number, stride: number, start: number, size: number, filter: number): number[] =>
    Array.from({ length: out }, (_, i) => {
      const first = i * stride - start;
      return Math.min(first + filter, size) - Math.max(first, 0);
    });
  const { padInfo } = info;
  const rows = along(info.outHeight, info.strideHeight, padInfo.top, info.inHeight, info.filterHeight);
  const columns = along(info.outWidth, info.strideWidth, padInfo.left, info.inWidth, info.filterWidth);
  const counts = rows.flatMap((row) => columns.map((column) => row * column));
  return tf.tensor(counts, [1, info.outHeight, info.outWidth, 1], 'float32');
}

/**
 * Mean pooling. With padding, a window at the border is divided by the values that it holds; the engines' own gradient
 * divides by the size of the window, which contradicts their forward pass. So: pad with zeros, pool whole windows, and
 * correct the divisor by a constant.
 */
function averagePool(
  tf: typeof Core,
  x: Core.Tensor4D,
  size: [number, number],
  strides: [number, number],
  padding: Padding,
): Core.Tensor {
  const info = tf.backend_util.computePool2DInfo(x.shape, size, strides, 1, padding);
  const { top, bottom, left, right } = info.padInfo;
  if (top + bottom + left + right === 0) return tf.avgPool(x, size, strides, 'valid');
  const padded: Core.Tensor4D = tf.pad(x, [
    [0, 0],
    [top, bottom],
    [left, right],
    [0, 0],
  ]);
  const means = tf.avgPool(padded, size, strides, 'valid');
  return tf.mul(means, tf.div(size[0] * size[1], windowCounts(tf, info)));
}

/**
 * Pads an image by hand where `same` windows leave out rows or columns (strides beyond the kernel): the WebAssembly engine takes
 * the negative padding for a huge one and reads elsewhere. Returns the padding that is left to the engine.
 */
function padImage(
  tf: typeof Core,
  x: Core.Tensor4D,
  size: readonly [number, number],
  strides: readonly [number, number],
  padding: Padding,
): readonly [Core.Tensor4D, Padding] {
  const totals = [0, 1].map((axis) => {
    const [length, step] = [x.shape[axis + 1] as number, strides[axis] as number];
    return (Math.ceil(length / step) - 1) * step + (size[axis] as number) - length;
  });
  if (padding === 'valid' || totals.every((total) => total >= 0)) return [x, padding];
  const [rows = [0, 0], columns = [0, 0]] = totals.map((total): [number, number] => {
    const before = Math.floor(Math.max(0, total) / 2);
    return [before, Math.max(0, total) - before];
  });
  return [tf.pad(x, [[0, 0], rows, columns, [0, 0]]), 'valid'];
}

/** What a layer computes on an input of this shape. */
function applyOf(layer: LayerSpec, input: readonly number[], output: readonly number[]): Apply {
  switch (layer.kind) {
    case 'dense':
      return (tf, x, [kernel, bias]) => {
        const product = tf.matMul(x as Core.Tensor2D, kernel as Core.Tensor2D);
        return activate(tf, addBias(tf, product, bias), layer.activation);
      };
    case 'conv2d':
    case 'depthwiseConv2d': {
      const { activation } = layer;
      const [size, strides] = [pair(layer.kernelSize), pair(layer.stride)];
      return (tf, x, [weights, bias]) => {
        const convolve = layer.kind === 'conv2d' ? tf.conv2d : tf.depthwiseConv2d;
        const [image, padding] = padImage(tf, x as Core.Tensor4D, size, strides, layer.padding);
        const y = convolve(image, weights as Core.Tensor4D, strides, padding);
        return activate(tf, addBias(tf, y, bias), activation);
      };
    }
    case 'embedding':
      return (tf, x, [table]) => tf.gather(table as Core.Tensor2D, tf.cast(x, 'int32') as Core.Tensor2D);
    case 'maxPool':
    case 'averagePool': {
      const [size, strides] = [pair(layer.size), pair(layer.stride)];
      return (tf, x) =>
        layer.kind === 'maxPool'
          ? tf.maxPool(x as Core.Tensor4D, size, strides, layer.padding)
          : averagePool(tf, x as Core.Tensor4D, size, strides, layer.padding);
    }
    case 'globalPool': {
      const channels = input.at(-1) ?? 0;
      const positions = count(input) / channels;
      return (tf, x) => {
        const rows = x.shape[0] ?? 0;
        if (layer.mode === 'average') return tf.mean(tf.reshape(x, [rows, positions, channels]), 1);
        // As a window, so that of equal values only the first one gets the gradient.
        const windowed = tf.reshape(x, [rows, positions, 1, channels]) as Core.Tensor4D;
        return tf.reshape(tf.maxPool(windowed, [positions, 1], 1, 'valid'), [rows, channels]);
      };
    }
    case 'activation':
      return (tf, x) => activate(tf, x, layer.activation);
    case 'reshape':
    case 'flatten':
      return (tf, x) => tf.reshape(x, [x.shape[0] ?? 0, ...output]);
  }
}

/**
 * Works out the sizes of a layer on an input and what it computes there, without allocating anything.
 * @throws CoveyError USAGE_CONFIG if it does not fit the input.
 */
export function planLayer(layer: LayerSpec, input: readonly number[], isFirst: boolean): Plan {
  const sizes = sizeLayer(layer, input, isFirst);
  return { ...sizes, apply: applyOf(layer, input, sizes.output) };
}
