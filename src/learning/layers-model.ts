import { fromUtf8, utf8 } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { encodeLayers } from './layers-encode.ts';
import { type DenseShape, denseManifest, type ModelManifest } from './manifest.ts';
import { modelTensors, tensorsToModel } from './model-files.ts';
import type { Model } from './oracle.ts';
import { readFloats, writeFloats } from './safetensors.ts';
import { shown } from './shown.ts';

/** A sequential model in the files that `tf.loadLayersModel` reads. */
export interface LayersModelFiles {
  readonly modelJson: Uint8Array;
  readonly weights: Uint8Array;
}

/** Name of the weights file that the model file refers to. */
export const WEIGHTS_FILE = 'weights.bin';

function denseLayer(index: number, inputs: number, units: number, activation: string): unknown {
  return {
    class_name: 'Dense',
    config: {
      name: `dense_${index}`,
      trainable: true,
      ...(index === 1 ? { batch_input_shape: [null, inputs] } : {}),
      dtype: 'float32',
      units,
      activation,
      use_bias: true,
      kernel_initializer: { class_name: 'GlorotUniform', config: { seed: null } },
      bias_initializer: { class_name: 'Zeros', config: {} },
      kernel_regularizer: null,
      bias_regularizer: null,
      activity_regularizer: null,
      kernel_constraint: null,
      bias_constraint: null,
    },
  };
}

function denseLayers(shape: DenseShape): unknown[] {
  const widths = [shape.inputs, ...shape.hidden, shape.classes];
  return widths.slice(1).map((units, i) => {
    return denseLayer(i + 1, widths[i] ?? 0, units, i + 2 === widths.length ? 'softmax' : 'relu');
  });
}

/**
 * Encodes a model (a perceptron of ReLU layers, or a network; softmax output) as a TensorFlow.js layers model in single
 * precision.
 * @throws CoveyError USAGE_RANGE if the model does not have the lengths of its shape.
 */
export function encodeLayersModel(
  shape: DenseShape,
  model: Model,
  metadata: Readonly<Record<string, string>> = {},
): LayersModelFiles {
  const layers = shape.network === undefined ? denseLayers(shape) : encodeLayers(shape.network);
  const tensors = modelTensors(denseManifest(shape), model, 'F32');
  const modelJson = {
    format: 'layers-model',
    generatedBy: 'covey',
    convertedBy: null,
    modelTopology: {
      class_name: 'Sequential',
      config: { name: 'covey', layers },
      keras_version: 'tfjs-layers 4.22.0',
      backend: 'tensor_flow.js',
    },
    weightsManifest: [
      {
        paths: [WEIGHTS_FILE],
        weights: tensors.map(({ name, shape: sizes }) => ({ name, shape: sizes, dtype: 'float32' })),
      },
    ],
    ...(Object.keys(metadata).length > 0 ? { userDefinedMetadata: metadata } : {}),
  };
  const weights = new Uint8Array(tensors.reduce((bytes, { values }) => bytes + values.byteLength, 0));
  let at = 0;
  for (const { values } of tensors) {
    writeFloats(values, weights, at);
    at += values.byteLength;
  }
  return { modelJson: utf8(`${JSON.stringify(modelJson, null, 1)}\n`), weights };
}

function refuse(message: string): never {
  throw new CoveyError('CODEC_TYPE', message);
}

function record(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(`"${name}" expected an object`);
  return value as Record<string, unknown>;
}

function list(value: unknown, name: string): unknown[] {
  if (!Array.isArray(value)) refuse(`"${name}" expected a list`);
  return value;
}

function positive(value: unknown, name: string): number {
  if (!Number.isSafeInteger(value) || (value as number) < 1)
    refuse(`"${name}" expected a positive integer, got ${shown(value)}`);
  return value as number;
}

/** Reads the widths of a sequential stack of dense layers; an input layer may stand before them. */
function parseShape(topology: Record<string, unknown>): DenseShape {
  if (topology['class_name'] !== 'Sequential')
    refuse(`"class_name" expected Sequential, got ${shown(topology['class_name'])}`);
  const config = topology['config'];
  const layers = list(Array.isArray(config) ? config : record(config, 'config')['layers'], 'layers').map((layer) =>
    record(layer, 'layer'),
  );
  const configs = layers.map((layer) => record(layer['config'], 'layer config'));
  const first = list(configs[0]?.['batch_input_shape'], 'batch_input_shape');
  if (first.length !== 2) refuse(`"batch_input_shape" expected 2 sizes, got ${first.length}`);
  const dense = configs.filter((_, i) => !(i === 0 && layers[0]?.['class_name'] === 'InputLayer'));
  const widths = dense.map((layer, i) => {
    const name = `layer ${shown(layer['name'])}`;
    if (layers.at(i - dense.length)?.['class_name'] !== 'Dense') refuse(`"${name}" expected a Dense layer`);
    const activation = i + 1 === dense.length ? 'softmax' : 'relu';
    if (layer['activation'] !== activation)
      refuse(`"${name}" expected activation ${activation}, got ${shown(layer['activation'])}`);
    if (layer['use_bias'] === false) refuse(`"${name}" expected a bias`);
    return positive(layer['units'], `${name} units`);
  });
  const classes = widths.pop();
  if (classes === undefined) refuse('"layers" expected at least one Dense layer');
  return { inputs: positive(first[1], 'batch_input_shape'), hidden: widths, classes };
}

/** Parses the model file of a layers model. @throws CoveyError CODEC_TYPE unless it is a JSON object in UTF-8. */
export function parseModelJson(modelJson: Uint8Array): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(fromUtf8(modelJson));
  } catch (cause) {
    throw new CoveyError('CODEC_TYPE', '"modelJson" expected JSON in UTF-8', {}, { cause });
  }
  return record(json, 'modelJson');
}

/**
 * Reads the weights that a parsed model file describes, which must be the tensors of the manifest in its order.
 * @throws CoveyError CODEC_TYPE for other tensors, CODEC_TRUNCATED or CODEC_TRAILING for bytes of another length.
 */
export function decodeLayersWeights(root: Record<string, unknown>, manifest: ModelManifest, bytes: Uint8Array): Model {
  const groups = list(root['weightsManifest'], 'weightsManifest').map((group) => record(group, 'weightsManifest'));
  const weights = groups
    .flatMap((group) => list(group['weights'], 'weights'))
    .map((weight) => record(weight, 'weight'));
  if (weights.length !== manifest.tensors.length)
    refuse(`"weights" expected ${manifest.tensors.length} tensors, got ${weights.length}`);
  let at = 0;
  const tensors = manifest.tensors.map(({ name, shape: sizes }, i) => {
    const { shape: stored, dtype, quantization } = weights[i] as Record<string, unknown>;
    if (dtype !== 'float32' || quantization !== undefined) refuse(`"${name}" expected float32 without quantization`);
    if (JSON.stringify(list(stored, name)) !== JSON.stringify(sizes))
      refuse(`"${name}" expected shape ${sizes.join(' x ')}, got ${shown(stored)}`);
    const end = at + 4 * sizes.reduce((product, size) => product * size, 1);
    if (end > bytes.length)
      throw new CoveyError('CODEC_TRUNCATED', `"weights" expected ${end} bytes or more, got ${bytes.length}`);
    const values = readFloats('F32', bytes, at, end);
    at = end;
    return { name, shape: sizes, values };
  });
  if (at !== bytes.length)
    throw new CoveyError('CODEC_TRAILING', `"weights" expected ${at} bytes, got ${bytes.length}`);
  return tensorsToModel(manifest, tensors);
}

/**
 * Decodes the files of `encodeLayersModel`, or of `model.save` of an equal model; its layers may have other names.
 * @throws CoveyError CODEC_TYPE for another kind of model, CODEC_TRUNCATED or CODEC_TRAILING for weights of another length.
 */
export function decodeLayersModel(files: LayersModelFiles): { readonly shape: DenseShape; readonly model: Model } {
  const root = parseModelJson(files.modelJson);
  const topology = record(root['modelTopology'], 'modelTopology');
  const shape = parseShape('model_config' in topology ? record(topology['model_config'], 'model_config') : topology);
  return { shape, model: decodeLayersWeights(root, denseManifest(shape), files.weights) };
}
