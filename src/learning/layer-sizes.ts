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

/** What a layer needs and yields. Shapes of tensors and output leave out the batch. */
export interface LayerSizes {
  readonly tensors: readonly { readonly name: string; readonly shape: readonly number[] }[];
  readonly output: readonly number[];
}

/** Number of values of a shape. */
export function count(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Rows and columns of a size. */
export function pair(size: Size): [number, number] {
  return typeof size === 'number' ? [size, size] : [size[0], size[1]];
}

function windows(size: number, kernel: number, stride: number, padding: Padding): number {
  return padding === 'same' ? Math.ceil(size / stride) : Math.floor((size - kernel) / stride) + 1;
}

function image(shape: readonly number[], kind: string): [number, number, number] {
  const [rows, columns, channels] = shape;
  if (shape.length !== 3 || rows === undefined || columns === undefined || channels === undefined) {
    throw new CoveyError('USAGE_CONFIG', `"${kind}" expected rows x columns x channels, got ${shape.join(' x ')}`);
  }
  return [rows, columns, channels];
}

function kernelAndBias(
  kernel: readonly number[],
  outputs: number,
  bias: boolean | undefined,
  name = 'kernel',
): LayerSizes['tensors'] {
  const tensors = [{ name, shape: kernel }];
  return bias === false ? tensors : [...tensors, { name: 'bias', shape: [outputs] }];
}

function sizeConvolution(
  layer: LayerSpec & { kind: 'conv2d' | 'depthwiseConv2d' },
  input: readonly number[],
): LayerSizes {
  const [rows, columns, channels] = image(input, layer.kind);
  const [height, width] = pair(layer.kernelSize);
  const strides = pair(layer.stride);
  const outputs = layer.kind === 'conv2d' ? layer.filters : channels * layer.multiplier;
  const kernel = [height, width, channels, layer.kind === 'conv2d' ? layer.filters : layer.multiplier];
  const { padding } = layer;
  const output = [windows(rows, height, strides[0], padding), windows(columns, width, strides[1], padding), outputs];
  const name = layer.kind === 'conv2d' ? 'kernel' : 'depthwise_kernel';
  return { tensors: kernelAndBias(kernel, outputs, layer.bias, name), output };
}

/**
 * Works out the sizes of a layer on an input, without allocating anything.
 * @throws CoveyError USAGE_CONFIG if it does not fit the input.
 */
export function sizeLayer(layer: LayerSpec, input: readonly number[], isFirst: boolean): LayerSizes {
  switch (layer.kind) {
    case 'dense': {
      const [inputs] = input;
      if (input.length !== 1 || inputs === undefined)
        throw new CoveyError('USAGE_CONFIG', `"dense" expected a flat input, got ${input.join(' x ')}`);
      return { tensors: kernelAndBias([inputs, layer.units], layer.units, layer.bias), output: [layer.units] };
    }
    case 'conv2d':
    case 'depthwiseConv2d':
      return sizeConvolution(layer, input);
    case 'embedding':
      if (!isFirst || input.length !== 1)
        throw new CoveyError('USAGE_CONFIG', `"embedding" expected to be the first layer, on a flat input of integers`);
      return {
        tensors: [{ name: 'embeddings', shape: [layer.entries, layer.width] }],
        output: [...input, layer.width],
      };
    case 'maxPool':
    case 'averagePool': {
      const [rows, columns, channels] = image(input, layer.kind);
      const { padding } = layer;
      const size = pair(layer.size);
      const strides = pair(layer.stride);
      const output = [windows(rows, size[0], strides[0], padding), windows(columns, size[1], strides[1], padding)];
      return { tensors: [], output: [...output, channels] };
    }
    case 'globalPool':
      if (input.length < 2)
        throw new CoveyError('USAGE_CONFIG', `"globalPool" expected positions and channels, got ${input.join(' x ')}`);
      return { tensors: [], output: [input.at(-1) ?? 0] };
    case 'activation':
      return { tensors: [], output: input };
    case 'reshape':
    case 'flatten': {
      const output = layer.kind === 'flatten' ? [count(input)] : layer.shape;
      if (count(output) !== count(input))
        throw new CoveyError('USAGE_CONFIG', `"reshape" expected ${count(input)} values, got ${output.join(' x ')}`);
      return { tensors: [], output };
    }
  }
}
