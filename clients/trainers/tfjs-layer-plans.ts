import type * as Core from '@tensorflow/tfjs-core';
import { CoveyError } from '../../protocol/errors.ts';

/** Whether a convolution or pooling keeps the size of its input (padding with zeros) or only takes whole windows. */
export type Padding = 'same' | 'valid';
/** Rows and columns; one number means both. */
export type Size = number | readonly [number, number];
export const ACTIVATIONS = ['linear', 'relu', 'tanh', 'sigmoid', 'elu'] as const;
export type Activation = (typeof ACTIVATIONS)[number];

interface Weighted {
  /** Names the tensors of the layer; kind and number by default. */
  readonly name?: string | undefined;
  /** Without a bias if false. */
  readonly bias?: boolean | undefined;
}

interface Windows {
  readonly kernelSize: Size;
  readonly stride: Size;
  readonly padding: Padding;
  readonly activation: Activation;
}

interface Pool {
  readonly size: Size;
  readonly stride: Size;
  readonly padding: Padding;
}

/** One layer of a feed-forward network; sizes of images are rows x columns x channels. */
export type LayerSpec =
  | ({ readonly kind: 'dense'; readonly units: number; readonly activation: Activation } & Weighted)
  | ({ readonly kind: 'conv2d'; readonly filters: number } & Windows & Weighted)
  | ({ readonly kind: 'depthwiseConv2d'; readonly multiplier: number } & Windows & Weighted)
  /** Rows of a table by the integers 0 to `entries` - 1 that the features hold; only as the first layer. */
  | ({ readonly kind: 'embedding'; readonly entries: number; readonly width: number } & Omit<Weighted, 'bias'>)
  | ({ readonly kind: 'maxPool' } & Pool)
  | ({ readonly kind: 'averagePool' } & Pool)
  /** Maximum or mean of each channel over all positions. */
  | { readonly kind: 'globalPool'; readonly mode: 'max' | 'average' }
  | { readonly kind: 'activation'; readonly activation: Activation }
  | { readonly kind: 'reshape'; readonly shape: readonly number[] }
  | { readonly kind: 'flatten' };

/** Applies a layer to a batch. */
export type Apply = (tf: typeof Core, x: Core.Tensor, parameters: readonly Core.Tensor[]) => Core.Tensor;

/** What a layer needs and yields, for an input of the given shape. Shapes of tensors and output leave out the batch. */
export interface Plan {
  readonly tensors: readonly { readonly name: string; readonly shape: readonly number[] }[];
  readonly output: readonly number[];
  readonly apply: Apply;
}

/** Number of values of a shape. */
export function count(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function windows(size: number, kernel: number, stride: number, padding: Padding): number {
  return padding === 'same' ? Math.ceil(size / stride) : Math.floor((size - kernel) / stride) + 1;
}

function pair(size: Size): [number, number] {
  return typeof size === 'number' ? [size, size] : [size[0], size[1]];
}

function image(shape: readonly number[], kind: string): [number, number, number] {
  const [rows, columns, channels] = shape;
  if (shape.length !== 3 || rows === undefined || columns === undefined || channels === undefined) {
    throw new CoveyError('USAGE_CONFIG', `"${kind}" expected rows x columns x channels, got ${shape.join(' x ')}`);
  }
  return [rows, columns, channels];
}

function activate(tf: typeof Core, x: Core.Tensor, activation: Activation): Core.Tensor {
  return activation === 'linear' ? x : tf[activation](x);
}

function addBias(tf: typeof Core, x: Core.Tensor, bias: Core.Tensor | undefined): Core.Tensor {
  return bias === undefined ? x : tf.add(x, bias);
}

function kernelAndBias(
  kernel: readonly number[],
  outputs: number,
  bias: boolean | undefined,
  name = 'kernel',
): Plan['tensors'] {
  const tensors = [{ name, shape: kernel }];
  return bias === false ? tensors : [...tensors, { name: 'bias', shape: [outputs] }];
}

function planDense(layer: LayerSpec & { kind: 'dense' }, input: readonly number[]): Plan {
  const [inputs] = input;
  if (input.length !== 1 || inputs === undefined) {
    throw new CoveyError('USAGE_CONFIG', `"dense" expected a flat input, got ${input.join(' x ')}`);
  }
  const apply: Apply = (tf, x, [kernel, bias]) => {
    const product = tf.matMul(x as Core.Tensor2D, kernel as Core.Tensor2D);
    return activate(tf, addBias(tf, product, bias), layer.activation);
  };
  return { tensors: kernelAndBias([inputs, layer.units], layer.units, layer.bias), output: [layer.units], apply };
}

function planConvolution(layer: LayerSpec & { kind: 'conv2d' | 'depthwiseConv2d' }, input: readonly number[]): Plan {
  const [rows, columns, channels] = image(input, layer.kind);
  const { padding, activation } = layer;
  const [height, width] = pair(layer.kernelSize);
  const strides = pair(layer.stride);
  const outputs = layer.kind === 'conv2d' ? layer.filters : channels * layer.multiplier;
  const kernel = [height, width, channels, layer.kind === 'conv2d' ? layer.filters : layer.multiplier];
  const output = [windows(rows, height, strides[0], padding), windows(columns, width, strides[1], padding), outputs];
  const apply: Apply = (tf, x, [weights, bias]) => {
    const convolve = layer.kind === 'conv2d' ? tf.conv2d : tf.depthwiseConv2d;
    const y = convolve(x as Core.Tensor4D, weights as Core.Tensor4D, strides, padding);
    return activate(tf, addBias(tf, y, bias), activation);
  };
  const name = layer.kind === 'conv2d' ? 'kernel' : 'depthwise_kernel';
  return { tensors: kernelAndBias(kernel, outputs, layer.bias, name), output, apply };
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

function planPool(layer: LayerSpec & { kind: 'maxPool' | 'averagePool' }, input: readonly number[]): Plan {
  const [rows, columns, channels] = image(input, layer.kind);
  const { padding } = layer;
  const size = pair(layer.size);
  const strides = pair(layer.stride);
  return {
    tensors: [],
    output: [windows(rows, size[0], strides[0], padding), windows(columns, size[1], strides[1], padding), channels],
    apply: (tf, x) =>
      layer.kind === 'maxPool'
        ? tf.maxPool(x as Core.Tensor4D, size, strides, padding)
        : averagePool(tf, x as Core.Tensor4D, size, strides, padding),
  };
}

function planEmbedding(layer: LayerSpec & { kind: 'embedding' }, input: readonly number[], isFirst: boolean): Plan {
  if (!isFirst || input.length !== 1) {
    throw new CoveyError('USAGE_CONFIG', `"embedding" expected to be the first layer, on a flat input of integers`);
  }
  return {
    tensors: [{ name: 'embeddings', shape: [layer.entries, layer.width] }],
    output: [...input, layer.width],
    apply: (tf, x, [table]) => tf.gather(table as Core.Tensor2D, tf.cast(x, 'int32') as Core.Tensor2D),
  };
}

function planGlobalPool(layer: LayerSpec & { kind: 'globalPool' }, input: readonly number[]): Plan {
  const channels = input.at(-1) ?? 0;
  if (input.length < 2)
    throw new CoveyError('USAGE_CONFIG', `"globalPool" expected positions and channels, got ${input.join(' x ')}`);
  const positions = count(input) / channels;
  return {
    tensors: [],
    output: [channels],
    apply: (tf, x) => {
      const rows = x.shape[0] ?? 0;
      if (layer.mode === 'average') return tf.mean(tf.reshape(x, [rows, positions, channels]), 1);
      // As a window, so that of equal values only the first one gets the gradient.
      const windowed = tf.reshape(x, [rows, positions, 1, channels]) as Core.Tensor4D;
      return tf.reshape(tf.maxPool(windowed, [positions, 1], 1, 'valid'), [rows, channels]);
    },
  };
}

/**
 * Works out the sizes of a layer on an input, without allocating anything.
 * @throws CoveyError USAGE_CONFIG if it does not fit the input.
 */
export function planLayer(layer: LayerSpec, input: readonly number[], isFirst: boolean): Plan {
  switch (layer.kind) {
    case 'dense':
      return planDense(layer, input);
    case 'conv2d':
    case 'depthwiseConv2d':
      return planConvolution(layer, input);
    case 'embedding':
      return planEmbedding(layer, input, isFirst);
    case 'maxPool':
    case 'averagePool':
      return planPool(layer, input);
    case 'globalPool':
      return planGlobalPool(layer, input);
    case 'activation':
      return { tensors: [], output: input, apply: (tf, x) => activate(tf, x, layer.activation) };
    case 'reshape':
    case 'flatten': {
      const output = layer.kind === 'flatten' ? [count(input)] : layer.shape;
      if (count(output) !== count(input))
        throw new CoveyError('USAGE_CONFIG', `"reshape" expected ${count(input)} values, got ${output.join(' x ')}`);
      return { tensors: [], output, apply: (tf, x) => tf.reshape(x, [x.shape[0] ?? 0, ...output]) };
    }
  }
}
