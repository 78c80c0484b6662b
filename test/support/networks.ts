import { networkOf } from '../../clients/trainers/tfjs-network.ts';
import type { NetworkSpec } from '../../src/learning/network.ts';

/** Convolutions and pooling of every kind, square and not. */
export const convolutional: NetworkSpec = {
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

/** The other layers: uneven windows, mean pooling with padding, smooth activations, no bias. */
export const uneven: NetworkSpec = {
  inputShape: [84],
  layers: [
    { kind: 'reshape', shape: [6, 7, 2] },
    {
      kind: 'conv2d',
      filters: 5,
      kernelSize: [2, 3],
      stride: [1, 2],
      padding: 'same',
      activation: 'tanh',
      bias: false,
    },
    { kind: 'averagePool', size: [2, 3], stride: [1, 2], padding: 'same' },
    { kind: 'depthwiseConv2d', multiplier: 1, kernelSize: [3, 1], stride: 1, padding: 'same', activation: 'sigmoid' },
    { kind: 'globalPool', mode: 'average' },
    { kind: 'dense', units: 7, activation: 'linear', bias: false },
    { kind: 'activation', activation: 'elu' },
    { kind: 'dense', units: 4, activation: 'linear' },
  ],
  sharedLayers: 2,
};

/** A text classifier over 12 tokens of 9 words. */
export const embedding: NetworkSpec = {
  inputShape: [12],
  layers: [
    { kind: 'embedding', entries: 9, width: 5 },
    { kind: 'globalPool', mode: 'max' },
    { kind: 'dense', units: 6, activation: 'tanh' },
    { kind: 'dense', units: 3, activation: 'linear' },
  ],
};

/** Maps a uniform draw from [-1, 1) to a word of `embedding`. */
export const toWord = (value: number): number => Math.floor(((value + 1) / 2) * 9);

/** What single precision allows: largest errors of gradients and of finite differences. */
export const SINGLE_PRECISION = { gradient: 1e-4, derivative: 1e-2, step: 3e-3, rounding: 1e-6 } as const;

export const NETWORKS: readonly {
  readonly name: string;
  readonly spec: NetworkSpec;
  readonly toFeature?: (value: number) => number;
}[] = [
  { name: 'multilayer perceptron', spec: networkOf({ inputs: 11, hidden: [9, 6], classes: 4 }) },
  { name: 'convolutional network', spec: convolutional },
  { name: 'uneven network', spec: uneven },
  { name: 'embeddings', spec: embedding, toFeature: toWord },
];
