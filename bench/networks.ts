import type { NetworkSpec } from '../src/learning/network.ts';

/** 106,419 parameters on images of 28 x 28. */
export const CNN: NetworkSpec = {
  inputShape: [28, 28, 1],
  layers: [
    { kind: 'conv2d', filters: 16, kernelSize: 5, stride: 1, padding: 'same', activation: 'relu' },
    { kind: 'maxPool', size: 2, stride: 2, padding: 'valid' },
    { kind: 'conv2d', filters: 32, kernelSize: 5, stride: 1, padding: 'same', activation: 'relu' },
    { kind: 'maxPool', size: 2, stride: 2, padding: 'valid' },
    { kind: 'flatten' },
    { kind: 'dense', units: 59, activation: 'relu' },
    { kind: 'dense', units: 10, activation: 'linear' },
  ],
};

/** 80,170 parameters on texts of 40 words. */
export const TEXT: NetworkSpec = {
  inputShape: [40],
  layers: [
    { kind: 'embedding', entries: 5_000, width: 16 },
    { kind: 'globalPool', mode: 'average' },
    { kind: 'dense', units: 10, activation: 'linear' },
  ],
};
