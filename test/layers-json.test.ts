import * as layersLibrary from '@tensorflow/tfjs-layers';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { createNetwork } from '../clients/trainers/tfjs-network.ts';
import { createTfjsOracle } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime, type TensorRuntime } from '../clients/trainers/tfjs-runtime.ts';
import { utf8 } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { createDataset } from '../src/data/dataset.ts';
import { readLayersNetwork } from '../src/learning/layers-json.ts';
import { splitModel } from '../src/learning/trainer.ts';
import { toWord } from './support/networks.ts';
import { sampleValues } from './tensor-samples.ts';

const { layers, sequential } = layersLibrary;
let runtime: TensorRuntime;

beforeAll(async () => {
  runtime = await loadTensorRuntime({ candidates: ['tfjs-wasm'] });
});

type Layers = readonly layersLibrary.layers.Layer[];

/** A model file as the library writes it. */
function fileOf(list: Layers, change: (text: string) => string = (text) => text): Uint8Array {
  const model = sequential({ layers: [...list] });
  const text = model.toJSON(null, false) as unknown as object;
  model.dispose();
  return utf8(change(JSON.stringify(text)));
}

function refused(act: () => unknown): string {
  try {
    act();
    return 'accepted';
  } catch (error) {
    if (isCoveyError(error)) return `${error.code} ${error.message}`;
    throw error;
  }
}

const flat = (config: object = {}): layersLibrary.layers.Layer =>
  layers.dense({ inputShape: [6], units: 3, activation: 'softmax', name: 'last', ...config });

const end = (): layersLibrary.layers.Layer => layers.dense({ units: 3, activation: 'softmax', name: 'end' });

/** Models with every layer that is read; each ends in 3 classes. */
const MODELS: readonly { name: string; inputs: number; make(): Layers; toFeature?: (value: number) => number }[] = [
  {
    name: 'a perceptron with softmax as a layer of its own',
    inputs: 6,
    make: () => [
      layers.inputLayer({ inputShape: [6] }),
      layers.dense({ units: 5, activation: 'tanh', useBias: false }),
      layers.dense({ units: 4 }),
      layers.reLU(),
      layers.dense({ units: 3 }),
      layers.softmax(),
    ],
  },
  {
    name: 'convolutions and pooling',
    inputs: 7 * 6 * 2,
    make: () => [
      layers.reshape({ inputShape: [84], targetShape: [7, 6, 2] }),
      layers.conv2d({ filters: 4, kernelSize: [2, 3], strides: [1, 2], padding: 'same', activation: 'elu' }),
      layers.averagePooling2d({ poolSize: [2, 2], strides: [1, 1], padding: 'same' }),
      layers.depthwiseConv2d({ kernelSize: 3, depthMultiplier: 2, padding: 'same', activation: 'sigmoid' }),
      layers.maxPooling2d({ poolSize: [2, 1] }),
      layers.conv2d({ filters: 3, kernelSize: 1, useBias: false }),
      layers.activation({ activation: 'relu' }),
      layers.flatten(),
      layers.dense({ units: 3, activation: 'softmax' }),
    ],
  },
  {
    name: 'means over positions',
    inputs: 4 * 5 * 2,
    make: () => [
      layers.reshape({ inputShape: [40], targetShape: [4, 5, 2] }),
      layers.conv2d({ filters: 4, kernelSize: 2, activation: 'relu' }),
      layers.globalAveragePooling2d({}),
      layers.dense({ units: 3 }),
    ],
  },
  {
    name: 'largest values over positions',
    inputs: 4 * 5 * 2,
    make: () => [
      layers.reshape({ inputShape: [40], targetShape: [4, 5, 2] }),
      layers.conv2d({ filters: 4, kernelSize: 2 }),
      layers.globalMaxPooling2d({}),
      layers.dense({ units: 3 }),
    ],
  },
  {
    name: 'embeddings and their means',
    inputs: 12,
    toFeature: toWord,
    make: () => [
      layers.embedding({ inputDim: 9, outputDim: 5, inputLength: 12 }),
      layers.globalAveragePooling1d({}),
      layers.dense({ units: 3, activation: 'softmax' }),
    ],
  },
  {
    name: 'embeddings and their largest values',
    inputs: 12,
    toFeature: toWord,
    make: () => [
      layers.embedding({ inputDim: 9, outputDim: 5, inputLength: 12 }),
      layers.globalMaxPooling1d({}),
      layers.dense({ units: 3, activation: 'softmax' }),
    ],
  },
];

describe('networks read from layers files', () => {
  it.each(MODELS)('compute what the library computes: $name', ({ inputs, make, toFeature = (value) => value }) => {
    const { tf } = runtime;
    const before = tf.memory().numTensors;
    const model = sequential({ layers: [...make()] });
    model.build([null, inputs]);
    // Weights in the order of the file; random, so that no two could be exchanged unnoticed.
    const weights = model.getWeights().map((weight, i) => {
      return tf.tensor(Float32Array.from(sampleValues(weight.size, 50 + i)), weight.shape);
    });
    model.setWeights(weights);
    const json = model.toJSON(null, false) as unknown as object;
    const { spec } = readLayersNetwork({ modelJson: utf8(JSON.stringify(json)) });
    const oracle = createTfjsOracle(runtime, spec);
    const { manifest } = oracle;
    expect(manifest.tensors.map(({ shape }) => shape)).toEqual(weights.map(({ shape }) => shape));
    expect(manifest.tensors.map(({ name }) => name)).toEqual(model.weights.map(({ originalName }) => originalName));
    const flatWeights = Float32Array.from(weights.flatMap((weight) => Array.from(weight.dataSync())));
    const { body, head } = splitModel(manifest, flatWeights);
    const features = Float32Array.from(sampleValues(20 * inputs, 1), toFeature);
    const data = createDataset(inputs, 3, features, new Uint8Array(20));
    const outputs = tf.tidy(() => {
      const y = model.predict(tf.tensor2d(features, [20, inputs])) as ReturnType<typeof tf.tensor2d>;
      const isSoftmax = Math.abs((tf.sum(y).dataSync()[0] as number) - 20) < 1e-3;
      return (isSoftmax ? y : tf.softmax(y)).dataSync();
    });
    for (let label = 0; label < 3; label++) {
      const losses = oracle.losses(body, head, { ...data, labels: data.labels.map(() => label) });
      losses.forEach((loss, i) => {
        expect(Math.abs(Math.exp(-loss) - (outputs[3 * i + label] as number))).toBeLessThan(1e-5);
      });
    }
    model.dispose();
    tf.dispose(weights);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('take the defaults of Keras for what a file leaves out', () => {
    const list = [
      layers.reshape({ inputShape: [84], targetShape: [7, 6, 2] }),
      layers.maxPooling2d({ poolSize: [3, 2], strides: [1, 1] }),
      layers.conv2d({ filters: 2, kernelSize: 2, strides: 2, useBias: false }),
      layers.flatten(),
      layers.dense({ units: 3, useBias: false }),
    ];
    const modelJson = fileOf(list, (text) =>
      text.replace(/"(strides|use_bias|padding|activation)":(\[[^\]]*\]|"[^"]*"|false),?/g, ''),
    );
    const [, pool, convolution, , dense] = readLayersNetwork({ modelJson }).spec.layers;
    expect(pool).toEqual({ kind: 'maxPool', size: [3, 2], stride: [3, 2], padding: 'valid' });
    expect(convolution).toMatchObject({ stride: [1, 1], padding: 'valid', activation: 'linear', bias: true });
    expect(dense).toMatchObject({ units: 3, activation: 'linear', bias: true });
  });

  it('read files with their weights, and cut body and head where they are told', async () => {
    const model = sequential({
      layers: [
        layers.dense({ inputShape: [4], units: 3, activation: 'relu' }),
        layers.dense({ units: 2, activation: 'softmax' }),
      ],
    });
    let saved: { topology: unknown; specs: unknown; data: ArrayBuffer } | undefined;
    await model.save({
      save: async (artifacts) => {
        saved = {
          topology: artifacts.modelTopology,
          specs: artifacts.weightSpecs,
          data: artifacts.weightData as ArrayBuffer,
        };
        return { modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: 'JSON' } };
      },
    });
    const root = {
      modelTopology: saved?.topology,
      weightsManifest: [{ paths: ['weights.bin'], weights: saved?.specs }],
    };
    const expected = model.getWeights().flatMap((weight) => Array.from(weight.dataSync()));
    const files = { modelJson: utf8(JSON.stringify(root)), weights: new Uint8Array(saved?.data ?? new ArrayBuffer(0)) };
    const read = readLayersNetwork(files, { sharedLayers: 1 });
    expect([...(read.model?.body ?? []), ...(read.model?.head ?? [])]).toEqual(expected);
    expect(read.model?.body.length).toBe(15);
    const whole = readLayersNetwork(files, { sharedLayers: 0 });
    expect([...(whole.model?.head ?? [])]).toEqual(expected);
    const cut = { ...files, weights: files.weights.subarray(4) };
    expect(refused(() => readLayersNetwork(cut))).toMatch(/^CODEC_TRUNCATED /);
    model.dispose();
  });
});

describe('refused networks', () => {
  const hidden = (layer: layersLibrary.layers.Layer): string =>
    refused(() =>
      readLayersNetwork({ modelJson: fileOf([layers.dense({ inputShape: [6], units: 4 }), layer, end()]) }),
    );

  it('are named with the reason', () => {
    const mixes = 'uses statistics of the batch, so that a record has no gradient of its own';
    const random = 'draws random numbers, so that the same task would not give the same result';
    const unchecked = 'has gradients that are not checked against finite differences here';
    expect(hidden(layers.batchNormalization({ name: 'norm' }))).toBe(
      `USAGE_CONFIG "BatchNormalization norm" is refused: it ${mixes}`,
    );
    expect(hidden(layers.dropout({ rate: 0.5, name: 'drop' }))).toBe(
      `USAGE_CONFIG "Dropout drop" is refused: it ${random}`,
    );
    expect(hidden(layers.gaussianNoise({ stddev: 1, name: 'noise' }))).toBe(
      `USAGE_CONFIG "GaussianNoise noise" is refused: it ${random}`,
    );
    expect(hidden(layers.layerNormalization({ name: 'norm' }))).toBe(
      `USAGE_CONFIG "LayerNormalization norm" is refused: it ${unchecked}`,
    );
    expect(hidden(layers.repeatVector({ n: 2, name: 'again' }))).toBe(
      'USAGE_CONFIG "RepeatVector again" is refused: it is none of the supported layers',
    );
    const recurrent = [
      layers.embedding({ inputDim: 9, outputDim: 5, inputLength: 6 }),
      layers.lstm({ units: 3, recurrentInitializer: 'zeros', name: 'memory' }),
    ];
    expect(refused(() => readLayersNetwork({ modelJson: fileOf([...recurrent, end()]) }))).toBe(
      `USAGE_CONFIG "LSTM memory" is refused: it ${unchecked}`,
    );
  });

  it('are those with settings that would be lost', () => {
    const first = (config: object): string => refused(() => readLayersNetwork({ modelJson: fileOf([flat(config)]) }));
    expect(first({})).toBe('accepted');
    expect(first({ kernelRegularizer: 'l1l2' })).toContain(
      'expected no kernel_regularizer: its penalty is the weight decay',
    );
    expect(first({ biasConstraint: 'nonNeg' })).toContain('expected no bias_constraint');
    expect(first({ trainable: false })).toContain('"Dense last" expected trainable');
    expect(first({ activation: 'sigmoid' })).toContain(
      'expected softmax or linear, got sigmoid; two classes are two units',
    );
    expect(first({ activation: 'softplus' })).toContain(
      'expected activation linear, relu, tanh, sigmoid, elu or a softmax',
    );
    expect(hidden(layers.dense({ units: 2, activation: 'softmax', name: 'middle' }))).toBe(
      'USAGE_CONFIG "Dense middle" expected softmax at the end only',
    );
    const dilated = [
      layers.conv2d({ inputShape: [8, 8, 1], filters: 2, kernelSize: 2, dilationRate: 2, name: 'wide' }),
      layers.flatten(),
      end(),
    ];
    expect(refused(() => readLayersNetwork({ modelJson: fileOf(dilated) }))).toBe(
      'USAGE_CONFIG "Conv2D wide" expected no dilation',
    );
    const masked = [
      layers.embedding({ inputDim: 9, outputDim: 5, inputLength: 6, maskZero: true, name: 'words' }),
      layers.flatten(),
      end(),
    ];
    expect(refused(() => readLayersNetwork({ modelJson: fileOf(masked) }))).toContain(
      '"Embedding words" expected mask_zero false',
    );
    const late = [
      layers.dense({ inputShape: [6], units: 4 }),
      layers.embedding({ inputDim: 9, outputDim: 5 }),
      layers.flatten(),
      end(),
    ];
    expect(refused(() => readLayersNetwork({ modelJson: fileOf(late) }))).toContain(
      '"embedding" expected to be the first layer',
    );
  });

  it('are those that do not end in logits, or that are no sequence', () => {
    expect(
      refused(() => readLayersNetwork({ modelJson: fileOf([flat({ activation: 'linear' }), layers.reLU({})]) })),
    ).toContain('"layers" expected a Dense layer with one unit a class at the end');
    const graph = fileOf([flat()], (text) => text.replace('"Sequential"', '"Model"'));
    expect(refused(() => readLayersNetwork({ modelJson: graph }))).toBe(
      'USAGE_CONFIG "class_name" expected Sequential, got Model: graphs of layers are not read',
    );
  });

  it('are those above the caps, before anything of their size exists', () => {
    const before = runtime.tf.memory().numTensors;
    const modelJson = fileOf([flat()], (text) => text.replace('"units":3', '"units":4000000000'));
    expect(refused(() => readLayersNetwork({ modelJson }))).toBe(
      'CODEC_LIMIT "layers" expected at most 16777216 parameters, got 28000000000',
    );
    const many = fileOf([flat()], (text) => text.replace('"units":3', `"units":${2 ** 52}`));
    expect(refused(() => readLayersNetwork({ modelJson: many }))).toMatch(/^USAGE_CONFIG "dense" expected at most/);
    const small = fileOf([flat()]);
    expect(refused(() => readLayersNetwork({ modelJson: small }, { caps: { parameters: 20 } }))).toMatch(
      /^CODEC_LIMIT .* 20 parameters, got 21$/,
    );
    expect(refused(() => readLayersNetwork({ modelJson: small }, { caps: { parameters: 21 } }))).toBe('accepted');
    expect(refused(() => readLayersNetwork({ modelJson: small }, { caps: { jsonBytes: small.length - 1 } }))).toMatch(
      /^CODEC_LIMIT /,
    );
    const deep = Array.from({ length: 65 }, () => layers.dense({ inputShape: [2], units: 2 }));
    expect(refused(() => readLayersNetwork({ modelJson: fileOf(deep) }))).toBe(
      'CODEC_LIMIT "layers" expected at most 64, got 65',
    );
    // A record whose activations fit in no heap: refused when the oracle is made, not when it runs.
    const huge = createNetwork({
      inputShape: [60_000, 60_000, 1],
      layers: [
        { kind: 'globalPool', mode: 'max' },
        { kind: 'dense', units: 2, activation: 'linear' },
      ],
    });
    expect(huge.activationFloats).toBeGreaterThan(3e9);
    expect(
      refused(() =>
        createTfjsOracle(runtime, {
          inputShape: huge.inputShape,
          layers: [
            { kind: 'globalPool', mode: 'max' },
            { kind: 'dense', units: 2, activation: 'linear' },
          ],
        }),
      ),
    ).toMatch(/^USAGE_RANGE "network" expected at most/);
    expect(runtime.tf.memory().numTensors).toBe(before);
  });

  it('are broken files, whatever is broken', () => {
    const text = new TextDecoder().decode(fileOf([flat()]));
    const { config } = JSON.parse(text) as { config: { layers: { class_name: string; config: object }[] } };
    const [layer] = config.layers as [{ class_name: string; config: object }];
    const file = (value: unknown): Uint8Array => utf8(JSON.stringify(value));
    const withLayers = (...list: unknown[]): Uint8Array => file({ class_name: 'Sequential', config: { layers: list } });
    expect(refused(() => readLayersNetwork({ modelJson: withLayers(layer) }))).toBe('accepted');
    for (const broken of [
      utf8('{'),
      Uint8Array.of(0xff),
      file(null),
      file([]),
      file({ class_name: 'Sequential' }),
      withLayers(),
      withLayers(null),
      withLayers({ class_name: 'Dense' }),
      withLayers({ class_name: 'Dense', config: { ...layer.config, name: 'a/b' } }),
      withLayers({ class_name: 'Dense', config: { ...layer.config, units: '3' } }),
      withLayers({ class_name: 'Dense', config: { ...layer.config, batch_input_shape: [null, -6] } }),
    ])
      expect(refused(() => readLayersNetwork({ modelJson: broken }))).toMatch(/^CODEC_TYPE /);
    const unprintable = { toString: 1, valueOf: 1 };
    for (const broken of [
      file({}),
      file({ class_name: unprintable }),
      withLayers({ class_name: 'Dense', config: { ...layer.config, activation: unprintable } }),
      withLayers({ class_name: 'constructor', config: layer.config }, layer),
      withLayers({ class_name: 'Dense', config: { ...layer.config, batch_input_shape: null } }),
      withLayers(layer, layer),
    ])
      expect(refused(() => readLayersNetwork({ modelJson: broken }))).toMatch(/^USAGE_CONFIG /);
  });

  it('are refused with a code, whatever stands anywhere in the file', () => {
    const valid = JSON.parse(
      new TextDecoder().decode(fileOf([...(MODELS.find(({ inputs }) => inputs === 84)?.make() ?? [])])),
    ) as unknown;
    /** Every place of a JSON value, as the keys that lead to it. */
    const places = (value: unknown, path: readonly string[] = []): (readonly string[])[] =>
      typeof value === 'object' && value !== null
        ? [path, ...Object.entries(value).flatMap(([key, inner]) => places(inner, [...path, key]))]
        : [path];
    const replace = (value: unknown, path: readonly string[], by: unknown): unknown => {
      const [key, ...rest] = path;
      if (key === undefined) return by;
      const inner = replace((value as Record<string, unknown>)[key], rest, by);
      return Array.isArray(value)
        ? value.map((item, i) => (String(i) === key ? inner : item))
        : { ...(value as object), [key]: inner };
    };
    const outcomes = new Set<string>();
    fc.assert(
      fc.property(fc.constantFrom(...places(valid)), fc.jsonValue({ maxDepth: 2 }), (path, by) => {
        const modelJson = utf8(JSON.stringify(replace(valid, path, by)));
        outcomes.add(refused(() => readLayersNetwork({ modelJson })).split(' ', 1)[0] ?? '');
      }),
      { numRuns: 2_000, seed: 1 },
    );
    expect(outcomes).toContain('accepted');
    expect(outcomes).toContain('CODEC_TYPE');
    expect(outcomes).toContain('USAGE_CONFIG');
  });
});
