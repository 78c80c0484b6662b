import type * as Core from '@tensorflow/tfjs-core';
import { CoveyError } from '../../protocol/errors.ts';
import {
  bodyLayers,
  createManifest,
  type DenseShape,
  type ModelManifest,
  type TensorSpec,
} from '../../src/learning/manifest.ts';

/** Whether a convolution or pooling keeps the size of its input (padding with zeros) or only takes whole windows. */
export type Padding = 'same' | 'valid';

/** One layer of a feed-forward network; sizes of images are rows x columns x channels. */
export type LayerSpec =
  | { readonly kind: 'dense'; readonly units: number; readonly activation: 'relu' | 'linear' }
  | {
      readonly kind: 'conv2d';
      readonly filters: number;
      readonly kernelSize: number;
      readonly stride: number;
      readonly padding: Padding;
      readonly activation: 'relu' | 'linear';
    }
  | {
      readonly kind: 'depthwiseConv2d';
      readonly multiplier: number;
      readonly kernelSize: number;
      readonly stride: number;
      readonly padding: Padding;
      readonly activation: 'relu' | 'linear';
    }
  | { readonly kind: 'maxPool'; readonly size: number; readonly stride: number; readonly padding: Padding }
  | { readonly kind: 'flatten' };

/**
 * A classifier: the last layer must be dense and linear, it yields one logit a class. `sharedLayers`: layers with
 * parameters that form the body, from the input; all but the last one by default.
 */
export interface NetworkSpec {
  readonly inputShape: readonly number[];
  readonly layers: readonly LayerSpec[];
  readonly sharedLayers?: number | undefined;
}

/** Applies a layer to a batch. */
type Apply = (tf: typeof Core, x: Core.Tensor, parameters: readonly Core.Tensor[]) => Core.Tensor;

/** A network whose sizes have been checked. Units: `activationFloats` counts the outputs of all layers for one record. */
export interface Network {
  readonly manifest: ModelManifest;
  readonly inputShape: readonly number[];
  readonly classes: number;
  readonly activationFloats: number;
  /** Logits of a batch. Shapes: `x` rows x inputShape, `parameters` as in the manifest, result rows x classes. */
  forward(tf: typeof Core, x: Core.Tensor, parameters: readonly Core.Tensor[]): Core.Tensor2D;
}

/** The network of a multilayer perceptron with ReLU, with the same manifest as the dense oracle of that shape. */
export function denseNetwork(shape: DenseShape): NetworkSpec {
  const hidden = shape.hidden.map((units) => ({ kind: 'dense', units, activation: 'relu' }) as const);
  return {
    inputShape: [shape.inputs],
    layers: [...hidden, { kind: 'dense', units: shape.classes, activation: 'linear' }],
    sharedLayers: bodyLayers(shape),
  };
}

function count(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
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

function activate(tf: typeof Core, x: Core.Tensor, activation: 'relu' | 'linear'): Core.Tensor {
  return activation === 'relu' ? tf.relu(x) : x;
}

/** What a layer needs and yields, for an input of the given shape. */
interface Plan {
  readonly kernel?: readonly number[];
  readonly bias?: number;
  readonly output: readonly number[];
  readonly apply: Apply;
}

function planDense(layer: LayerSpec & { kind: 'dense' }, input: readonly number[]): Plan {
  const [inputs] = input;
  if (input.length !== 1 || inputs === undefined) {
    throw new CoveyError('USAGE_CONFIG', `"dense" expected a flat input, got ${input.join(' x ')}`);
  }
  const apply: Apply = (tf, x, [kernel, bias]) => {
    return activate(
      tf,
      tf.add(tf.matMul(x as Core.Tensor2D, kernel as Core.Tensor2D), bias as Core.Tensor),
      layer.activation,
    );
  };
  return { kernel: [inputs, layer.units], bias: layer.units, output: [layer.units], apply };
}

function planConvolution(layer: LayerSpec & { kind: 'conv2d' | 'depthwiseConv2d' }, input: readonly number[]): Plan {
  const [rows, columns, channels] = image(input, layer.kind);
  const { kernelSize, stride, padding, activation } = layer;
  const outputs = layer.kind === 'conv2d' ? layer.filters : channels * layer.multiplier;
  const kernel = [kernelSize, kernelSize, channels, outputs / (layer.kind === 'conv2d' ? 1 : channels)];
  const output = [windows(rows, kernelSize, stride, padding), windows(columns, kernelSize, stride, padding), outputs];
  const apply: Apply = (tf, x, [weights, bias]) => {
    const convolve = layer.kind === 'conv2d' ? tf.conv2d : tf.depthwiseConv2d;
    const y = convolve(x as Core.Tensor4D, weights as Core.Tensor4D, stride, padding);
    return activate(tf, tf.add(y, bias as Core.Tensor), activation);
  };
  return { kernel, bias: outputs, output, apply };
}

function planLayer(layer: LayerSpec, input: readonly number[]): Plan {
  switch (layer.kind) {
    case 'dense':
      return planDense(layer, input);
    case 'conv2d':
    case 'depthwiseConv2d':
      return planConvolution(layer, input);
    case 'maxPool': {
      const { size, stride, padding } = layer;
      const [rows, columns, channels] = image(input, layer.kind);
      const output = [windows(rows, size, stride, padding), windows(columns, size, stride, padding), channels];
      return { output, apply: (tf, x) => tf.maxPool(x as Core.Tensor4D, size, stride, padding) };
    }
    case 'flatten':
      return { output: [count(input)], apply: (tf, x) => tf.reshape(x, [x.shape[0] ?? 0, count(input)]) };
  }
}

/**
 * Checks the sizes of a network and lays out its parameters: kernel and bias of each layer in order, named by kind and
 * number; the shared layers are the body, the rest the head.
 * @throws CoveyError USAGE_CONFIG for layers that do not fit together, or a last layer that is not dense and linear.
 */
export function createNetwork(spec: NetworkSpec): Network {
  const last = spec.layers.at(-1);
  if (last?.kind !== 'dense' || last.activation !== 'linear') {
    throw new CoveyError('USAGE_CONFIG', '"layers" expected a dense linear layer at the end');
  }
  const tensors: TensorSpec[] = [];
  const plans: { plan: Plan; first: number }[] = [];
  const numbers = new Map<string, number>();
  const weighted = spec.layers.filter(({ kind }) => kind !== 'maxPool' && kind !== 'flatten').length;
  const shared = spec.sharedLayers ?? weighted - 1;
  if (!Number.isInteger(shared) || shared < 0 || shared >= weighted)
    throw new CoveyError('USAGE_CONFIG', `"sharedLayers" expected 0 to ${weighted - 1}, got ${shared}`);
  let shape = spec.inputShape;
  let activationFloats = count(shape);
  for (const layer of spec.layers) {
    const plan = planLayer(layer, shape);
    if (!plan.output.every((size) => Number.isInteger(size) && size > 0)) {
      throw new CoveyError(
        'USAGE_CONFIG',
        `"${layer.kind}" expected windows within ${shape.join(' x ')}, got ${plan.output.join(' x ')} of them`,
      );
    }
    plans.push({ plan, first: tensors.length });
    if (plan.kernel !== undefined && plan.bias !== undefined) {
      const number = (numbers.get(layer.kind) ?? 0) + 1;
      numbers.set(layer.kind, number);
      const group = tensors.length / 2 < shared ? 'body' : 'head';
      tensors.push({ name: `${layer.kind}_${number}/kernel`, shape: plan.kernel, group });
      tensors.push({ name: `${layer.kind}_${number}/bias`, shape: [plan.bias], group });
    }
    shape = plan.output;
    activationFloats += count(shape);
  }
  return {
    manifest: createManifest(tensors),
    inputShape: spec.inputShape,
    classes: last.units,
    activationFloats,
    forward: (tf, x, parameters) => {
      const logits = plans.reduce((y, { plan, first }) => plan.apply(tf, y, parameters.slice(first, first + 2)), x);
      return logits as Core.Tensor2D;
    },
  };
}
