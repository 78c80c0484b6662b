import type * as Core from '@tensorflow/tfjs-core';
import { CoveyError } from '../../protocol/errors.ts';
import { count } from '../../src/learning/layer-sizes.ts';
import {
  bodyLayers,
  createManifest,
  type DenseShape,
  isClassifier,
  type ModelManifest,
} from '../../src/learning/manifest.ts';
import { layoutNetwork, type NetworkLayout, type NetworkSpec } from '../../src/learning/network.ts';
import { planLayer } from './tfjs-layer-plans.ts';

/** A network and what it computes. */
export interface Network extends NetworkLayout {
  readonly manifest: ModelManifest;
  /** Logits of a batch. Shapes: `x` rows x inputShape, `parameters` as in the manifest, result rows x classes. */
  forward(tf: typeof Core, x: Core.Tensor, parameters: readonly Core.Tensor[]): Core.Tensor2D;
  /** Values that the head reads of a record. */
  readonly featureLength: number;
  /** Outputs of the body. Shapes: result rows x featureLength. */
  features(tf: typeof Core, x: Core.Tensor, parameters: readonly Core.Tensor[]): Core.Tensor2D;
}

/** The network of a model: its own layers, or a multilayer perceptron with ReLU in the layout of the dense oracle. */
export function networkOf(shape: DenseShape): NetworkSpec {
  if (shape.network !== undefined) return { ...shape.network, sharedLayers: bodyLayers(shape) };
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

/**
 * Plans what a network computes. Allocates nothing that grows with the sizes.
 * @throws CoveyError USAGE_CONFIG of `layoutNetwork`
 */
export function createNetwork(spec: NetworkSpec): Network {
  const layout = layoutNetwork(spec);
  const manifest = createManifest(layout.tensors);
  const plans = layout.layers.map(({ layer, input, first, tensors }, i) => ({
    ...planLayer(layer, input, i === 0),
    first,
    end: first + tensors,
  }));
  const bodyTensors = layout.tensors.filter(({ group }) => group === 'body').length;
  // The first layer of the head; what has no parameters before it belongs to the body.
  const cut = layout.layers.findIndex(({ first, tensors }) => tensors > 0 && first >= bodyTensors);
  const featureLength = count(layout.layers[cut]?.input ?? []);
  const run = (tf: typeof Core, x: Core.Tensor, parameters: readonly Core.Tensor[], layers: number): Core.Tensor =>
    plans.slice(0, layers).reduce((y, { apply, end, first }) => apply(tf, y, parameters.slice(first, end)), x);
  return {
    ...layout,
    manifest,
    forward: (tf, x, parameters) => run(tf, x, parameters, plans.length) as Core.Tensor2D,
    featureLength,
    features: (tf, x, parameters) => {
      const features = run(tf, x, parameters, cut);
      return tf.reshape(features, [x.shape[0] ?? 0, featureLength]) as Core.Tensor2D;
    },
  };
}
