import { hashParts, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { layoutNetwork, type NetworkSpec, weightedLayers } from './network.ts';

/** A tensor and the part of the model it belongs to: the shared body or the head that is repeated in slots. */
export interface TensorSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly group: 'body' | 'head';
}

/** Ordered tensors of a model. Units: lengths in parameters; body and head are flattened in this order, rows first. */
export interface ModelManifest {
  readonly tensors: readonly TensorSpec[];
  readonly bodyLength: number;
  readonly headLength: number;
}

/**
 * Sizes of a multilayer perceptron, or a network of other layers; no hidden layer makes it a logistic regression, all of which is the head.
 * `sharedLayers`: layers of the body, counted from the input; the others are the head. All but the last one by default;
 * 0 repeats the whole model in every slot.
 */
export interface DenseShape {
  readonly inputs: number;
  readonly hidden: readonly number[];
  readonly classes: number;
  readonly sharedLayers?: number | undefined;
  /** Of hidden layers; ReLU by default. */
  readonly activation?: 'relu' | 'tanh' | 'linear' | undefined;
  /** `squared`: one output is fitted to the targets of the records, with (f(x) - y)^2 / 2; cross entropy by default. */
  readonly loss?: 'cross-entropy' | 'squared' | undefined;
  /** False: layers without biases. */
  readonly bias?: boolean | undefined;
  /** Layers of any kind in the place of the hidden ones, of which there are none then. */
  readonly network?: Omit<NetworkSpec, 'sharedLayers'> | undefined;
}

/** True for a perceptron of ReLU layers with biases under cross entropy, which every engine computes. */
export function isClassifier({
  activation = 'relu',
  bias = true,
  loss = 'cross-entropy',
  network,
}: DenseShape): boolean {
  return network === undefined && activation === 'relu' && bias && loss === 'cross-entropy';
}

/** Number of layers in the body. @throws CoveyError USAGE_CONFIG unless at least one layer is left for the head. */
export function bodyLayers({ hidden, network, sharedLayers }: DenseShape): number {
  const most = network === undefined ? hidden.length : weightedLayers(network) - 1;
  const layers = sharedLayers ?? most;
  if (!Number.isInteger(layers) || layers < 0 || layers > most)
    throw new CoveyError('USAGE_CONFIG', `"sharedLayers" expected 0 to ${most}, got ${layers}`);
  return layers;
}

/** Number of parameters of a tensor. */
export function tensorLength(tensor: TensorSpec): number {
  return tensor.shape.reduce((product, size) => product * size, 1);
}

/**
 * Builds a manifest with the lengths of its groups.
 * @throws CoveyError USAGE_CONFIG for a repeated name or a size that is not a positive integer.
 */
export function createManifest(tensors: readonly TensorSpec[]): ModelManifest {
  const names = new Set<string>();
  let bodyLength = 0;
  let headLength = 0;
  for (const tensor of tensors) {
    if (names.has(tensor.name))
      throw new CoveyError('USAGE_CONFIG', `"tensors" expected distinct names, got ${tensor.name} twice`);
    names.add(tensor.name);
    if (!tensor.shape.every((size) => Number.isInteger(size) && size > 0)) {
      throw new CoveyError('USAGE_CONFIG', `"${tensor.name}" expected positive sizes, got ${tensor.shape.join(' x ')}`);
    }
    if (tensor.group === 'body') bodyLength += tensorLength(tensor);
    else headLength += tensorLength(tensor);
  }
  return { tensors, bodyLength, headLength };
}

/**
 * Manifest of a model: of a perceptron kernels (inputs x outputs) and biases, of a network the tensors of its layers; body
 * layers first, then the head.
 */
export function denseManifest(shape: DenseShape): ModelManifest {
  if (shape.network !== undefined)
    return createManifest(layoutNetwork({ ...shape.network, sharedLayers: bodyLayers(shape) }).tensors);
  const widths = [shape.inputs, ...shape.hidden, shape.classes];
  const tensors: TensorSpec[] = [];
  const shared = bodyLayers(shape);
  for (let layer = 0; layer + 1 < widths.length; layer++) {
    const inputs = widths[layer] ?? 0;
    const outputs = widths[layer + 1] ?? 0;
    const group = layer < shared ? 'body' : 'head';
    tensors.push({ name: `dense_${layer + 1}/kernel`, shape: [inputs, outputs], group });
    if (shape.bias !== false) tensors.push({ name: `dense_${layer + 1}/bias`, shape: [outputs], group });
  }
  return createManifest(tensors);
}

/** Hash of names, shapes and groups in order, 32 bytes. */
export function manifestHash(crypto: CryptoProvider, manifest: ModelManifest): Uint8Array {
  return hashParts(
    crypto,
    ...manifest.tensors.map(({ name, shape, group }) => utf8(`${name}|${shape.join(',')}|${group}`)),
  );
}
