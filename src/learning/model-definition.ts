import { count } from './layer-sizes.ts';
import { type LayersCaps, readLayersNetwork } from './layers-json.ts';
import type { DenseShape } from './manifest.ts';
import type { NetworkSpec } from './network.ts';
import type { Model } from './oracle.ts';

/** Hidden layers of a perceptron in a configuration; more are a network. */
const MOST_HIDDEN = 4;

/** Hidden widths of a stack of dense layers with ReLU and biases; null for any other network. */
function perceptronWidths({ inputShape, layers }: NetworkSpec): number[] | null {
  if (inputShape.length !== 1 || layers.length > MOST_HIDDEN + 1) return null;
  const hidden: number[] = [];
  for (const [i, layer] of layers.entries()) {
    if (layer.kind !== 'dense' || layer.bias === false) return null;
    if (i + 1 === layers.length) return hidden;
    if (layer.activation !== 'relu') return null;
    hidden.push(layer.units);
  }
  return null;
}

/**
 * The model of a run that a network describes. A stack of dense layers with ReLU and biases becomes a perceptron, which
 * every trainer computes; anything else stays a network of layers, which a tensor engine computes.
 */
export function modelOfNetwork(spec: NetworkSpec): DenseShape {
  const { inputShape, layers, sharedLayers } = spec;
  const last = layers.at(-1);
  const sizes = { inputs: count(inputShape), classes: last?.kind === 'dense' ? last.units : 0 };
  const cut = sharedLayers === undefined ? {} : { sharedLayers };
  const hidden = perceptronWidths(spec);
  return hidden === null
    ? { ...sizes, hidden: [], ...cut, network: { inputShape, layers } }
    : { ...sizes, hidden, ...cut };
}

/** A model that a file describes, and its weights if they were given. */
export interface ModelDefinition {
  readonly shape: DenseShape;
  readonly model: Model | null;
}

/**
 * Reads the definition of a model from a tfjs layers file.
 * @throws CoveyError of `readLayersNetwork`: a layer or setting that is refused, more than the caps, a broken file.
 */
export function readModelDefinition(
  files: { readonly modelJson: Uint8Array; readonly weights?: Uint8Array },
  options: { readonly sharedLayers?: number; readonly caps?: Partial<LayersCaps> } = {},
): ModelDefinition {
  const { model, spec } = readLayersNetwork(files, options);
  return { shape: modelOfNetwork(spec), model };
}
