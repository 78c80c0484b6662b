import type * as Core from '@tensorflow/tfjs-core';
import { CoveyError } from '../../protocol/errors.ts';
import {
  bodyLayers,
  createManifest,
  type DenseShape,
  isClassifier,
  type ModelManifest,
  type TensorSpec,
} from '../../src/learning/manifest.ts';
import { count, type LayerSpec, type Plan, planLayer } from './tfjs-layer-plans.ts';

/**
 * A classifier: the last layer must be dense and linear, it yields one logit a class. `sharedLayers`: layers with
 * parameters that form the body, from the input; all but the last one by default.
 */
export interface NetworkSpec {
  readonly inputShape: readonly number[];
  readonly layers: readonly LayerSpec[];
  readonly sharedLayers?: number | undefined;
}

/** A network whose sizes have been checked. Units: `activationFloats` counts the outputs of all layers for one record. */
export interface Network {
  readonly manifest: ModelManifest;
  readonly inputShape: readonly number[];
  readonly classes: number;
  readonly activationFloats: number;
  /** Number of rows of the table that the features index, or null if they are plain numbers. */
  readonly entries: number | null;
  /** Logits of a batch. Shapes: `x` rows x inputShape, `parameters` as in the manifest, result rows x classes. */
  forward(tf: typeof Core, x: Core.Tensor, parameters: readonly Core.Tensor[]): Core.Tensor2D;
}

/** The network of a multilayer perceptron with ReLU, with the same manifest as the dense oracle of that shape. */
export function denseNetwork(shape: DenseShape): NetworkSpec {
  if (!isClassifier(shape))
    throw new CoveyError(
      'USAGE_CONFIG',
      '"model" expected ReLU, biases and cross entropy for this trainer, got others',
    );
  const hidden = shape.hidden.map((units) => ({ kind: 'dense', units, activation: 'relu' }) as const);
  return {
    inputShape: [shape.inputs],
    layers: [...hidden, { kind: 'dense', units: shape.classes, activation: 'linear' }],
    sharedLayers: bodyLayers(shape),
  };
}

const UNWEIGHTED: readonly LayerSpec['kind'][] = [
  'maxPool',
  'averagePool',
  'globalPool',
  'activation',
  'reshape',
  'flatten',
];

function assertSizes(name: string, sizes: readonly number[], shape: readonly number[]): void {
  if (sizes.every((size) => Number.isSafeInteger(size) && size > 0)) return;
  throw new CoveyError(
    'USAGE_CONFIG',
    `"${name}" expected windows within ${shape.join(' x ')}, got ${sizes.join(' x ')} of them`,
  );
}

/** Largest number of weights or of outputs of a layer that is worked out at all: beyond it sums are no longer exact. */
const MAX_VALUES = 2 ** 40;

/**
 * Checks the sizes of a network and lays out its parameters: the tensors of each layer in order, named by its name or
 * by kind and number; the shared layers are the body, the rest the head. Allocates nothing that grows with the sizes.
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
  const weighted = spec.layers.filter(({ kind }) => !UNWEIGHTED.includes(kind)).length;
  const shared = spec.sharedLayers ?? weighted - 1;
  if (!Number.isInteger(shared) || shared < 0 || shared >= weighted)
    throw new CoveyError('USAGE_CONFIG', `"sharedLayers" expected 0 to ${weighted - 1}, got ${shared}`);
  let shape = spec.inputShape;
  assertSizes('inputShape', shape, shape);
  let activationFloats = count(shape);
  let weightedBefore = 0;
  spec.layers.forEach((layer, i) => {
    const plan = planLayer(layer, shape, i === 0);
    assertSizes(layer.kind, plan.output, shape);
    if (plan.tensors.some((tensor) => count(tensor.shape) > MAX_VALUES) || count(plan.output) > MAX_VALUES)
      throw new CoveyError('USAGE_CONFIG', `"${layer.kind}" expected at most ${MAX_VALUES} weights and outputs`);
    plans.push({ plan, first: tensors.length });
    if (plan.tensors.length > 0) {
      const number = (numbers.get(layer.kind) ?? 0) + 1;
      numbers.set(layer.kind, number);
      const group = weightedBefore < shared ? 'body' : 'head';
      weightedBefore++;
      const prefix = ('name' in layer ? layer.name : undefined) ?? `${layer.kind}_${number}`;
      for (const tensor of plan.tensors) tensors.push({ name: `${prefix}/${tensor.name}`, shape: tensor.shape, group });
    }
    shape = plan.output;
    activationFloats += count(shape);
  });
  const [first] = spec.layers;
  return {
    manifest: createManifest(tensors),
    inputShape: spec.inputShape,
    classes: last.units,
    activationFloats,
    entries: first?.kind === 'embedding' ? first.entries : null,
    forward: (tf, x, parameters) => {
      const logits = plans.reduce(
        (y, { plan, first: at }) => plan.apply(tf, y, parameters.slice(at, at + plan.tensors.length)),
        x,
      );
      return logits as Core.Tensor2D;
    },
  };
}
