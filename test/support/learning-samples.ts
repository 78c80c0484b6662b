import { createDataset, type Dataset } from '../../src/data/dataset.ts';
import { type ModelManifest, tensorLength } from '../../src/learning/manifest.ts';
import type { Model } from '../../src/learning/oracle.ts';
import { sampleValues } from '../tensor-samples.ts';

/** Records for a model; `toFeature` maps uniform draws from [-1, 1) to features. */
export function sampleData(
  { manifest }: { readonly manifest: ModelManifest },
  featureLength: number,
  count: number,
  seed: number,
  toFeature: (value: number) => number = (value) => value,
): Dataset {
  const classes = manifest.tensors.at(-1)?.shape.at(-1) ?? 0;
  const labels = Uint8Array.from(sampleValues(count, seed + 1), (value) => Math.floor(((value + 1) / 2) * classes));
  const features = Float32Array.from(sampleValues(count * featureLength, seed), toFeature);
  return createDataset(featureLength, classes, features, labels);
}

/** Kernels scaled by their inputs, so that activations stay around one; small biases. */
export function sampleModel({ manifest }: { readonly manifest: ModelManifest }, seed: number): Model {
  const values = (group: 'body' | 'head'): Float64Array => {
    const parts = manifest.tensors.map((tensor, i) => {
      const length = tensor.group === group ? tensorLength(tensor) : 0;
      const fanIn = tensor.name.includes('embedding') ? 6 : tensorLength(tensor) / (tensor.shape.at(-1) ?? 1);
      const factor = tensor.shape.length === 1 ? 0.1 : Math.sqrt(6 / fanIn);
      return Array.from(sampleValues(length, seed + i), (value) => factor * value);
    });
    return Float64Array.from(parts.flat());
  };
  return { body: values('body'), head: values('head') };
}
