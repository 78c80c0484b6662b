import type { DataRandom } from '../data/random.ts';
import { type ModelManifest, type TensorSpec, tensorLength } from './manifest.ts';
import type { Model } from './oracle.ts';

/** Large enough that mean embeddings tell records apart, small beside the kernels. */
const EMBEDDING_STDDEV = 0.05;

/** Close to a normal draw (sum of twelve uniform ones: mean 0, variance 1), with the same bits on every engine. */
function normalLike(random: DataRandom): number {
  let sum = -6;
  for (let i = 0; i < 12; i++) sum += random.uniform(0, 1);
  return sum;
}

function fill(
  tensors: readonly TensorSpec[],
  length: number,
  random: DataRandom,
  stddev: (tensor: TensorSpec) => number,
): Float64Array {
  const values = new Float64Array(length);
  let at = 0;
  for (const tensor of tensors) {
    const size = tensorLength(tensor);
    // Biases (one dimension) start at zero.
    if (tensor.shape.length > 1) for (let i = 0; i < size; i++) values[at + i] = normalLike(random) * stddev(tensor);
    at += size;
  }
  return values;
}

/** Values that one output of a kernel sums: all but its last size, of a depthwise one the positions of its window alone. */
function fanIn({ name, shape }: TensorSpec): number {
  const summed = name.endsWith('/depthwise_kernel') ? shape.slice(0, 2) : shape.slice(0, -1);
  return summed.reduce((product, size) => product * size, 1);
}

/**
 * Draws a starting point: kernels of variance 2 / inputs (He 2015), small ones in the last layer, zero biases, embeddings
 * as normal draws of standard deviation 0.05.
 */
export function initialModel(manifest: ModelManifest, random: DataRandom): Model {
  const of = (group: TensorSpec['group']): TensorSpec[] => manifest.tensors.filter((tensor) => tensor.group === group);
  const lastKernel = manifest.tensors.findLast((tensor) => tensor.shape.length > 1);
  const stddev = (tensor: TensorSpec): number =>
    tensor.name.endsWith('/embeddings')
      ? EMBEDDING_STDDEV
      : (tensor === lastKernel ? 0.3 : Math.SQRT2) / Math.sqrt(fanIn(tensor));
  const body = fill(of('body'), manifest.bodyLength, random, stddev);
  return { body, head: fill(of('head'), manifest.headLength, random, stddev) };
}
