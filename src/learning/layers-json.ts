import { CoveyError } from '../../protocol/errors.ts';
import { ACTIVATIONS, type Activation, type LayerSpec, type Padding } from './layer-sizes.ts';
import { decodeLayersWeights, type LayersModelFiles, parseModelJson } from './layers-model.ts';
import { createManifest } from './manifest.ts';
import { layoutNetwork, type NetworkSpec } from './network.ts';
import type { Model } from './oracle.ts';
import { shown } from './shown.ts';

/** Largest model that is accepted. Units: bytes of the model file, layers, parameters. */
export interface LayersCaps {
  readonly jsonBytes: number;
  readonly layers: number;
  readonly parameters: number;
}

/** Caps of a site that sets none: sixteen million parameters are 64 MiB, of which training holds several copies. */
export const LAYERS_CAPS: LayersCaps = { jsonBytes: 2 ** 20, layers: 64, parameters: 2 ** 24 };

/** Why well-known layers are refused. */
const MIXES_RECORDS = 'uses statistics of the batch, so that a record has no gradient of its own';
const IS_RANDOM = 'draws random numbers, so that the same task would not give the same result';
const IS_UNCHECKED = 'has gradients that are not checked against finite differences here';
const REFUSED: readonly (readonly [reason: string, layers: readonly string[]])[] = [
  [MIXES_RECORDS, ['BatchNormalization']],
  [IS_RANDOM, ['Dropout', 'SpatialDropout1D', 'AlphaDropout', 'GaussianDropout', 'GaussianNoise']],
  [
    IS_UNCHECKED,
    [
      'LayerNormalization',
      'LSTM',
      'GRU',
      'SimpleRNN',
      'RNN',
      'ConvLSTM2D',
      'Bidirectional',
      'TimeDistributed',
      'Conv1D',
      'Conv2DTranspose',
      'Conv3D',
      'SeparableConv2D',
    ],
  ],
];

type Json = Record<string, unknown>;

function unsupported(message: string): never {
  throw new CoveyError('USAGE_CONFIG', message);
}

function object(value: unknown, name: string): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new CoveyError('CODEC_TYPE', `"${name}" expected an object`);
  return value as Json;
}

function positive(value: unknown, name: string): number {
  if (!Number.isSafeInteger(value) || (value as number) < 1)
    throw new CoveyError('CODEC_TYPE', `"${name}" expected a positive integer`);
  return value as number;
}

function sizes(value: unknown, name: string): number[] {
  if (!Array.isArray(value)) throw new CoveyError('CODEC_TYPE', `"${name}" expected a list of sizes`);
  return value.map((size) => positive(size, name));
}

/** Reads one layer; names in messages are those of the file. */
class LayerReader {
  readonly className: string;
  readonly name: string;
  readonly #config: Json;

  constructor(layer: unknown) {
    const { class_name: className, config } = object(layer, 'layer');
    this.className = typeof className === 'string' ? className.slice(0, 64) : '';
    this.#config = object(config, `${this.className} config`);
    const name = this.#config['name'];
    // Names become names of tensors in files, of metadata and of messages.
    if (typeof name !== 'string' || !/^[\w.-]{1,64}$/.test(name))
      throw new CoveyError('CODEC_TYPE', `"${this.className}" expected a name of letters, digits, _ . -`);
    this.name = name;
  }

  get label(): string {
    return `${this.className} ${this.name}`;
  }

  get(key: string): unknown {
    return this.#config[key];
  }

  positive(key: string): number {
    return positive(this.get(key), `${this.label} ${key}`);
  }

  pair(key: string, fallback?: readonly [number, number]): readonly [number, number] {
    const value = this.get(key) ?? fallback;
    const [rows, columns, ...rest] = sizes(typeof value === 'number' ? [value, value] : value, `${this.label} ${key}`);
    if (rows === undefined || columns === undefined || rest.length > 0)
      throw new CoveyError('CODEC_TYPE', `"${this.label} ${key}" expected two sizes`);
    return [rows, columns];
  }

  padding(): Padding {
    const padding = this.get('padding') ?? 'valid';
    if (padding !== 'same' && padding !== 'valid') unsupported(`"${this.label}" expected padding same or valid`);
    return padding;
  }

  activation(): Activation | 'softmax' {
    const activation = this.get('activation') ?? 'linear';
    if (activation === 'softmax' || ACTIVATIONS.includes(activation as Activation)) return activation as Activation;
    return unsupported(
      `"${this.label}" expected activation ${ACTIVATIONS.join(', ')} or a softmax at the end, got ${shown(activation)}`,
    );
  }

  hidden(): Activation {
    const activation = this.activation();
    return activation === 'softmax' ? unsupported(`"${this.label}" expected softmax at the end only`) : activation;
  }

  /** Whether the layer has a bias. */
  bias(): boolean {
    return this.get('use_bias') !== false;
  }

  /** Refuses settings that would change the gradient behind the back of the trainer. */
  refuseExtras(): void {
    for (const [key, value] of Object.entries(this.#config)) {
      if (value === null || value === undefined) continue;
      if (key.endsWith('_regularizer'))
        unsupported(`"${this.label}" expected no ${key}: its penalty is the weight decay of the optimizer`);
      if (key.endsWith('_constraint'))
        unsupported(`"${this.label}" expected no ${key}: parameters come back from a sum that keeps none`);
      if (key === 'trainable' && value !== true)
        unsupported(`"${this.label}" expected trainable: every parameter of the layout is trained`);
      if (key === 'mask_zero' && value !== false) unsupported(`"${this.label}" expected mask_zero false`);
      if (key === 'data_format' && value !== 'channels_last' && value !== 'channelsLast')
        unsupported(`"${this.label}" expected channels last`);
      if (key === 'dilation_rate' && ![value].flat().every((rate) => rate === 1))
        unsupported(`"${this.label}" expected no dilation`);
      if (key === 'groups' && value !== 1) unsupported(`"${this.label}" expected one group`);
      if (key === 'dtype' && value !== 'float32' && this.className !== 'InputLayer')
        unsupported(`"${this.label}" expected dtype float32`);
    }
  }
}

function readLayer(layer: LayerReader): LayerSpec {
  const { name } = layer;
  switch (layer.className) {
    case 'Dense':
      return { kind: 'dense', name, units: layer.positive('units'), activation: layer.hidden(), bias: layer.bias() };
    case 'Conv2D':
    case 'DepthwiseConv2D': {
      const windows = {
        kernelSize: layer.pair('kernel_size'),
        stride: layer.pair('strides', [1, 1]),
        padding: layer.padding(),
        activation: layer.hidden(),
        bias: layer.bias(),
        name,
      };
      return layer.className === 'Conv2D'
        ? { kind: 'conv2d', filters: layer.positive('filters'), ...windows }
        : { kind: 'depthwiseConv2d', multiplier: layer.positive('depth_multiplier'), ...windows };
    }
    case 'Embedding':
      return { kind: 'embedding', name, entries: layer.positive('input_dim'), width: layer.positive('output_dim') };
    case 'MaxPooling2D':
    case 'AveragePooling2D': {
      const size = layer.pair('pool_size', [2, 2]);
      const kind = layer.className === 'MaxPooling2D' ? 'maxPool' : 'averagePool';
      return { kind, size, stride: layer.pair('strides', size), padding: layer.padding() };
    }
    case 'GlobalMaxPooling1D':
    case 'GlobalMaxPooling2D':
      return { kind: 'globalPool', mode: 'max' };
    case 'GlobalAveragePooling1D':
    case 'GlobalAveragePooling2D':
      return { kind: 'globalPool', mode: 'average' };
    case 'Flatten':
      return { kind: 'flatten' };
    case 'Reshape':
      return { kind: 'reshape', shape: sizes(layer.get('target_shape'), `${layer.label} target_shape`) };
    case 'Activation':
      return { kind: 'activation', activation: layer.hidden() };
    case 'ReLU':
      return { kind: 'activation', activation: 'relu' };
    default:
      return unsupported(
        `"${layer.label}" is refused: it ${REFUSED.find(([, layers]) => layers.includes(layer.className))?.[0] ?? 'is none of the supported layers'}`,
      );
  }
}

/** Features of a record: the first layer says it, or the input layer before it. */
function readInputShape(first: LayerReader): number[] {
  const declared = first.get('batch_input_shape') ?? first.get('batch_shape');
  if (Array.isArray(declared)) return sizes(declared.slice(1), `${first.label} batch_input_shape`);
  // Keras leaves the sequence length of embeddings open unless it is told.
  const length = first.get('input_length');
  if (first.className === 'Embedding' && length !== undefined && length !== null)
    return [positive(length, `${first.label} input_length`)];
  return unsupported(`"${first.label}" expected a batch_input_shape`);
}

/** Softmax belongs to the loss: the network ends in logits. */
function splitSoftmax(layers: readonly LayerReader[]): { hidden: readonly LayerReader[]; last: LayerSpec } {
  const end = layers.at(-1);
  const standsAlone =
    end !== undefined &&
    (end.className === 'Softmax' || (end.className === 'Activation' && end.activation() === 'softmax'));
  const hidden = layers.slice(0, standsAlone ? -2 : -1);
  const last = layers.at(standsAlone ? -2 : -1);
  if (last?.className !== 'Dense')
    return unsupported('"layers" expected a Dense layer with one unit a class at the end, linear or with softmax');
  const activation = last.activation();
  if (activation !== 'linear' && (standsAlone || activation !== 'softmax'))
    return unsupported(
      `"${last.label}" expected softmax or linear, got ${activation}; two classes are two units with softmax`,
    );
  const units = last.positive('units');
  return { hidden, last: { kind: 'dense', name: last.name, units, activation: 'linear', bias: last.bias() } };
}

/** A network read from a file, and its weights if the file has them. */
export interface LayersNetwork {
  readonly spec: NetworkSpec;
  readonly model: Model | null;
}

/**
 * Reads a sequential tfjs-layers (Keras) model: the file of `model.save` or the text of `model.toJSON`. The network is
 * computed by Covey's own functions of the parameters; initializers are ignored, since parameters come with each task.
 * `sharedLayers`: layers with weights that form the shared body, all but the last one by default.
 * @throws CoveyError USAGE_CONFIG for a layer or setting that is refused, with its name and the reason; CODEC_LIMIT for
 * more than the caps, before anything is allocated; CODEC_TYPE, CODEC_TRUNCATED or CODEC_TRAILING for broken files.
 */
export function readLayersNetwork(
  files: { readonly modelJson: Uint8Array } & Partial<LayersModelFiles>,
  options: { readonly sharedLayers?: number; readonly caps?: Partial<LayersCaps> } = {},
): LayersNetwork {
  const caps = { ...LAYERS_CAPS, ...options.caps };
  if (files.modelJson.length > caps.jsonBytes)
    throw new CoveyError('CODEC_LIMIT', `"modelJson" expected at most ${caps.jsonBytes} bytes`);
  const root = parseModelJson(files.modelJson);
  const outer = 'modelTopology' in root ? object(root['modelTopology'], 'modelTopology') : root;
  const topology = 'model_config' in outer ? object(outer['model_config'], 'model_config') : outer;
  if (topology['class_name'] !== 'Sequential')
    unsupported(
      `"class_name" expected Sequential, got ${shown(topology['class_name'])}: graphs of layers are not read`,
    );
  const config = topology['config'];
  const list = Array.isArray(config) ? config : object(config, 'config')['layers'];
  if (!Array.isArray(list) || list.length === 0)
    throw new CoveyError('CODEC_TYPE', '"layers" expected a list with at least one layer');
  if (list.length > caps.layers)
    throw new CoveyError('CODEC_LIMIT', `"layers" expected at most ${caps.layers}, got ${list.length}`);
  const layers = list.map((layer) => new LayerReader(layer));
  for (const layer of layers) layer.refuseExtras();
  const inputShape = readInputShape(layers[0] as LayerReader);
  const { hidden, last } = splitSoftmax(layers.filter((layer, i) => !(i === 0 && layer.className === 'InputLayer')));
  const { sharedLayers } = options;
  const spec: NetworkSpec = {
    inputShape,
    layers: [...hidden.map(readLayer), last],
    ...(sharedLayers === undefined ? {} : { sharedLayers }),
  };
  const manifest = createManifest(layoutNetwork(spec).tensors);
  const parameters = manifest.bodyLength + manifest.headLength;
  if (parameters > caps.parameters)
    throw new CoveyError('CODEC_LIMIT', `"layers" expected at most ${caps.parameters} parameters, got ${parameters}`);
  return { spec, model: files.weights === undefined ? null : decodeLayersWeights(root, manifest, files.weights) };
}
