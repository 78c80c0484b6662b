import { CoveyError } from '../../protocol/errors.ts';
import { count, type LayerSpec, sizeLayer } from './layer-sizes.ts';

/**
 * A classifier: the last layer must be dense and linear, it yields one logit a class. `sharedLayers`: layers with
 * parameters that form the body, from the input; all but the last one by default.
 */
export interface NetworkSpec {
  readonly inputShape: readonly number[];
  readonly layers: readonly LayerSpec[];
  readonly sharedLayers?: number | undefined;
}

/** A tensor of a layer and the part of the model that it belongs to. */
interface LayoutTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly group: 'body' | 'head';
}

/** One layer where it stands. `first`: its first tensor among those of the network. */
interface PlacedLayer {
  readonly layer: LayerSpec;
  readonly input: readonly number[];
  readonly first: number;
  readonly tensors: number;
}

/** A network whose sizes have been checked. Units: `activationFloats` counts the outputs of all layers for one record. */
export interface NetworkLayout {
  readonly tensors: readonly LayoutTensor[];
  readonly layers: readonly PlacedLayer[];
  readonly inputShape: readonly number[];
  readonly classes: number;
  /** Layers with parameters, and those of them that are the body. */
  readonly weighted: number;
  readonly shared: number;
  readonly activationFloats: number;
  /** Number of rows of the table that the features index, or null if they are plain numbers. */
  readonly entries: number | null;
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

/** Layers with parameters. */
export function weightedLayers({ layers }: Pick<NetworkSpec, 'layers'>): number {
  return layers.filter(({ kind }) => !UNWEIGHTED.includes(kind)).length;
}

/**
 * Checks the sizes of a network and lays out its parameters: the tensors of each layer in order, named by its name or
 * by kind and number; the shared layers are the body, the rest the head. Allocates nothing that grows with the sizes.
 * @throws CoveyError USAGE_CONFIG for layers that do not fit together, or a last layer that is not dense and linear.
 */
export function layoutNetwork(spec: NetworkSpec): NetworkLayout {
  const last = spec.layers.at(-1);
  if (last?.kind !== 'dense' || last.activation !== 'linear') {
    throw new CoveyError('USAGE_CONFIG', '"layers" expected a dense linear layer at the end');
  }
  const tensors: LayoutTensor[] = [];
  const layers: PlacedLayer[] = [];
  const numbers = new Map<string, number>();
  const weighted = weightedLayers(spec);
  const shared = spec.sharedLayers ?? weighted - 1;
  if (!Number.isInteger(shared) || shared < 0 || shared >= weighted)
    throw new CoveyError('USAGE_CONFIG', `"sharedLayers" expected 0 to ${weighted - 1}, got ${shared}`);
  let shape = spec.inputShape;
  assertSizes('inputShape', shape, shape);
  let activationFloats = count(shape);
  let weightedBefore = 0;
  spec.layers.forEach((layer, i) => {
    const sizes = sizeLayer(layer, shape, i === 0);
    assertSizes(layer.kind, sizes.output, shape);
    if (sizes.tensors.some((tensor) => count(tensor.shape) > MAX_VALUES) || count(sizes.output) > MAX_VALUES)
      throw new CoveyError('USAGE_CONFIG', `"${layer.kind}" expected at most ${MAX_VALUES} weights and outputs`);
    layers.push({ layer, input: shape, first: tensors.length, tensors: sizes.tensors.length });
    if (sizes.tensors.length > 0) {
      const number = (numbers.get(layer.kind) ?? 0) + 1;
      numbers.set(layer.kind, number);
      const group = weightedBefore < shared ? 'body' : 'head';
      weightedBefore++;
      const prefix = ('name' in layer ? layer.name : undefined) ?? `${layer.kind}_${number}`;
      for (const tensor of sizes.tensors)
        tensors.push({ name: `${prefix}/${tensor.name}`, shape: tensor.shape, group });
    }
    shape = sizes.output;
    activationFloats += count(shape);
  });
  const [first] = spec.layers;
  return {
    tensors,
    layers,
    inputShape: spec.inputShape,
    classes: last.units,
    weighted,
    shared,
    activationFloats,
    entries: first?.kind === 'embedding' ? first.entries : null,
  };
}
