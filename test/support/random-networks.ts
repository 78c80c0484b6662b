import type { DataRandom } from '../../src/data/random.ts';
import { ACTIVATIONS, count, type LayerSpec, sizeLayer } from '../../src/learning/layer-sizes.ts';
import type { NetworkSpec } from '../../src/learning/network.ts';

const PADDINGS = ['same', 'valid'] as const;

/** Draws a layer on an image that fits it; the sizes are small, uneven and every so often larger than the stride. */
function imageLayer([rows = 1, columns = 1]: readonly number[], random: DataRandom): LayerSpec {
  const size = (most: number): number => 1 + random.integer(Math.min(3, most));
  const windows = {
    stride: [1 + random.integer(2), 1 + random.integer(2)],
    padding: PADDINGS[random.integer(2)] as 'same' | 'valid',
  } as const;
  const both = [size(rows), size(columns)] as const;
  const convolution = {
    ...windows,
    kernelSize: both,
    activation: ACTIVATIONS[random.integer(5)] ?? 'relu',
    bias: random.integer(3) > 0,
  };
  const kind = random.integer(4);
  if (kind === 0) return { kind: 'conv2d', filters: 1 + random.integer(5), ...convolution };
  if (kind === 1) return { kind: 'depthwiseConv2d', multiplier: 1 + random.integer(2), ...convolution };
  return { kind: kind === 2 ? 'maxPool' : 'averagePool', size: both, ...windows };
}

/** Draws a network of up to three layers on an image, or of embeddings, and dense ones behind them; `entries` if it reads integers. */
export function randomNetwork(random: DataRandom): { readonly spec: NetworkSpec; readonly entries: number | null } {
  const layers: LayerSpec[] = [];
  const entries = random.integer(5) === 0 ? 7 : null;
  const inputShape = entries === null ? [60] : [8];
  let shape: readonly number[] = inputShape;
  const push = (layer: LayerSpec): void => {
    shape = sizeLayer(layer, shape, layers.length === 0).output;
    layers.push(layer);
  };
  if (entries !== null) push({ kind: 'embedding', entries, width: 1 + random.integer(4) });
  push({ kind: 'reshape', shape: entries === null ? [5, 6, 2] : [4, 2, count(shape) / 8] });
  for (let i = random.integer(4); i > 0; i--) push(imageLayer(shape, random));
  push(
    random.integer(2) === 0
      ? { kind: 'flatten' }
      : { kind: 'globalPool', mode: random.integer(2) === 0 ? 'max' : 'average' },
  );
  if (random.integer(2) === 0) push({ kind: 'activation', activation: ACTIVATIONS[random.integer(5)] ?? 'relu' });
  const dense = (units: number): LayerSpec => ({
    kind: 'dense',
    units,
    activation: ACTIVATIONS[random.integer(5)] ?? 'relu',
    bias: random.integer(3) > 0,
  });
  if (random.integer(2) === 0) push(dense(1 + random.integer(6)));
  push({ ...dense(3), activation: 'linear' } as LayerSpec);
  const weighted = layers.filter(
    (layer) => 'filters' in layer || 'multiplier' in layer || 'units' in layer || 'entries' in layer,
  );
  return { spec: { inputShape, layers, sharedLayers: random.integer(weighted.length) }, entries };
}
