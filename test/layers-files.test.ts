import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as layersLibrary from '@tensorflow/tfjs-layers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTfjsOracle } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime, type TensorRuntime } from '../clients/trainers/tfjs-runtime.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { loadModelFile } from '../platform/node/model-file.ts';
import { fromUtf8, utf8 } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { serverConfigSchema } from '../server/config.ts';
import { openRun } from '../server/index.ts';
import { readLayersNetwork } from '../src/learning/layers-json.ts';
import { encodeLayersModel } from '../src/learning/layers-model.ts';
import { denseManifest } from '../src/learning/manifest.ts';
import { modelOfNetwork, readModelDefinition } from '../src/learning/model-definition.ts';
import { encodeModel } from '../src/learning/model-files.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { requireStart } from '../src/run/layout.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { sampleData, sampleModel } from './support/learning-samples.ts';
import { CONVOLUTIONAL, layer, modelFile } from './support/model-files.ts';
import { NETWORKS } from './support/networks.ts';

let runtime: TensorRuntime;
let folder: string;

beforeAll(async () => {
  runtime = await loadTensorRuntime({ candidates: ['tfjs-wasm'] });
  folder = await mkdtemp(join(tmpdir(), 'covey-models-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Code and message of what is refused. */
function refusal(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (isCoveyError(error)) return `${error.code} ${error.message}`;
    throw error;
  }
  return 'accepted';
}

const { shape } = readModelDefinition({ modelJson: CONVOLUTIONAL });

describe('models that runs export', () => {
  it.each(NETWORKS)('are read again, and computed by tfjs-layers as here: $name', async ({ spec, toFeature }) => {
    const oracle = createTfjsOracle(runtime, spec);
    const model = sampleModel(oracle, 6);
    const single = { body: model.body.map(Math.fround), head: model.head.map(Math.fround) };
    const own = modelOfNetwork(spec);
    const named = { ...own, hidden: [], network: { inputShape: spec.inputShape, layers: spec.layers } };
    const { modelJson, weights } = encodeLayersModel(named, single);
    const cut = spec.sharedLayers === undefined ? {} : { sharedLayers: spec.sharedLayers };
    const again = readLayersNetwork({ modelJson, weights }, cut);
    expect(again.model).toEqual(single);
    const { tf } = runtime;
    const parsed = JSON.parse(fromUtf8(modelJson));
    const loaded = await layersLibrary.loadLayersModel(
      tf.io.fromMemory({
        modelTopology: parsed.modelTopology,
        weightSpecs: parsed.weightsManifest[0].weights,
        weightData: Uint8Array.from(weights).buffer,
      }),
    );
    const inputs = spec.inputShape.reduce((product, size) => product * size, 1);
    const data = sampleData(oracle, inputs, 8, 3, toFeature);
    const losses = oracle.losses(single.body, single.head, data);
    const output = loaded.predict(tf.tensor(data.features, [8, ...spec.inputShape]));
    const rows = (Array.isArray(output) ? output[0] : output)?.dataSync() ?? new Float32Array(0);
    const classes = rows.length / 8;
    data.labels.forEach((label, r) => {
      expect(Math.abs((rows[r * classes + label] as number) - Math.exp(-(losses[r] as number)))).toBeLessThan(1e-4);
    });
    loaded.dispose();
  });
});

describe('model files', () => {
  const write = async (name: string, bytes: Uint8Array): Promise<string> => {
    await writeFile(join(folder, name), bytes);
    return join(folder, name);
  };

  it('become perceptrons where they are stacks of dense layers with ReLU', () => {
    const dense = (units: number, config: object = {}): unknown =>
      layer('Dense', { name: `d${units}`, units, activation: 'relu', ...config });
    const last = dense(3, { activation: 'softmax' });
    const read = (...layers: unknown[]): unknown => readModelDefinition({ modelJson: modelFile(layers) }).shape;
    const first = dense(7, { batch_input_shape: [null, 6] });
    expect(read(first, last)).toEqual({ inputs: 6, hidden: [7], classes: 3 });
    for (const layers of [
      [dense(7, { batch_input_shape: [null, 6], activation: 'tanh' }), last],
      [dense(7, { batch_input_shape: [null, 6], use_bias: false }), last],
      [first, dense(5), dense(4), dense(9), dense(8), last],
    ])
      expect(read(...layers)).toMatchObject({ inputs: 6, hidden: [], classes: 3, network: { inputShape: [6] } });
  });

  it('bring weights as safetensors or as those of tfjs-layers', async () => {
    const manifest = denseManifest(shape);
    const model = sampleModel({ manifest }, 4);
    const single = { body: model.body.map(Math.fround), head: model.head.map(Math.fround) };
    const files = encodeLayersModel(shape, single);
    const path = await write('saved.json', files.modelJson);
    const tensors = await write('start.safetensors', encodeModel(manifest, single));
    const weights = await write('weights.bin', files.weights);
    const alone = await loadModelFile(path);
    expect([alone.weights, alone.shape.network?.layers.length]).toEqual([null, 4]);
    for (const given of [tensors, weights])
      expect((await loadModelFile(path, { weights: given })).weights).toEqual(single);
    expect((await loadModelFile(path, { sharedLayers: 0 })).shape.sharedLayers).toBe(0);
    const other = await write('other.safetensors', encodeModel(manifest, single).slice(0, -4));
    await expect(loadModelFile(path, { weights: other })).rejects.toThrow('other.safetensors: ');
    await expect(loadModelFile(path, { weights: tensors, sharedLayers: 0 })).resolves.toMatchObject({
      weights: { body: new Float64Array(0) },
    });
    await expect(loadModelFile(join(folder, 'none.json'))).rejects.toThrow('"model.file" expected a readable file');
    const large = await write('large.json', new Uint8Array(2 ** 20 + 1));
    await expect(loadModelFile(large)).rejects.toThrow('"model.file" expected at most 1048576 bytes, got 1048577');
  });

  it.each<[string, string, string]>([
    ['batch norm', '"MaxPooling2D"', '"BatchNormalization"'],
    ['a layer of code', '"MaxPooling2D"', '"Lambda"'],
    ['a hidden softmax', '"activation":"relu"', '"activation":"softmax"'],
    ['units without end', '"units":10', '"units":1e300'],
    ['units as text', '"units":10', '"units":"10"'],
    ['a path for a name', '"name":"conv2d"', '"name":"../../etc"'],
    ['a name that is a key of objects', '"name":"conv2d"', '"name":{"toString":1}'],
    ['a window beyond the image', '"pool_size":[2,2]', '"pool_size":[9,9]'],
    ['broken text', '"Sequential"', '"Sequential'],
    ['nesting without end', '"units":10', `"units":${'['.repeat(100_000)}${']'.repeat(100_000)}`],
  ])('are refused in one line: %s', (_, from, to) => {
    const text = fromUtf8(CONVOLUTIONAL);
    expect(text).toContain(from);
    const line = refusal(() => readModelDefinition({ modelJson: utf8(text.replace(from, to)) }));
    expect(line).toMatch(/^(USAGE_CONFIG|CODEC_TYPE|CODEC_LIMIT) /);
    expect(line).not.toContain('\n');
    expect(line.length).toBeLessThan(300);
  });

  it('change nothing outside of themselves', () => {
    const text = fromUtf8(CONVOLUTIONAL).replace('"units":10', '"units":10,"__proto__":{"polluted":1},"constructor":1');
    expect(readModelDefinition({ modelJson: utf8(text) }).shape).toEqual(shape);
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });
});

describe('runs of a coordinator', () => {
  const at = (path: string): string => join(folder, path);
  const open = (run: object): ReturnType<typeof openRun> =>
    openRun(serverConfigSchema.parse({ federation: 'f', key: 'k', state: 's', run }), 4, at);
  const digits = { scenario: 'digits', steps: 2, algorithm: { id: 'fedavg' } };

  it('take model and weights from files, whether they name a scenario or a whole configuration', async () => {
    await writeFile(at('conv.json'), CONVOLUTIONAL);
    const named = await open({ ...digits, model: { file: 'conv.json' } });
    expect([named.config.model, named.start, named.config.training.initialWeights]).toEqual([
      shape,
      undefined,
      undefined,
    ]);
    const plain = await open(digits);
    const whole = await open({ config: plain.config, model: { file: 'conv.json', sharedLayers: 0 } });
    expect(whole.config).toEqual({ ...named.config, model: { ...shape, sharedLayers: 0 } });
    const manifest = denseManifest(shape);
    const model = sampleModel({ manifest }, 4);
    await writeFile(at('conv.safetensors'), encodeModel(manifest, model));
    const { config, start } = await open({ ...digits, model: { file: 'conv.json', weights: 'conv.safetensors' } });
    expect(start).toEqual({ body: Float32Array.from(model.body), head: Float32Array.from(model.head) });
    expect(() => requireStart(nodeCrypto, config, start)).not.toThrow();
    expect(config.training.initialWeights).toMatch(/^[0-9a-f]{64}$/);
  });

  it('pass optimizers on, and refuse what does not fit in one line', async () => {
    const optimizer = { kind: 'sgd', momentum: 0.9, weightDecay: 0.001 };
    const { config } = await open({ ...digits, unit: 'participant', optimizer, localStep: 0.02 });
    expect(config.training.local).toMatchObject({ stepSize: 0.02, optimizer });
    await writeFile(at('conv.json'), CONVOLUTIONAL);
    const refused: readonly (readonly [object, string])[] = [
      [{ ...digits, scenario: 'heart', model: { file: 'conv.json' } }, '"model" expected 13 inputs for heart, got 64'],
      [{ ...digits, model: { file: 'conv.json', sharedLayers: 2 } }, '"sharedLayers" expected 0 to 1, got 2'],
      [{ ...digits, model: { file: 'lost.json' } }, '"model.file" expected a readable file'],
      [{ ...digits, optimizer }, '"optimizer" expected none at unit record'],
      [
        {
          scenario: 'table',
          table: { features: 64, classes: 10, hidden: [4], nominalRecords: 9 },
          model: { file: 'conv.json' },
        },
        '"table.hidden" expected none beside a model, got 1 layers',
      ],
    ];
    for (const [run, line] of refused) await expect(open(run)).rejects.toThrow(line);
  });
});

describe('networks in configurations', () => {
  const config = scenarioConfig('digits', {
    seed: 5,
    steps: 2,
    targetEpsilon: 8,
    participants: 4,
    model: shape,
    algorithm: { id: 'fedavg' },
  });
  /** A configuration as it comes from a signed log: JSON of somebody else. */
  const withText = (from: string, to: string): string => {
    const text = JSON.stringify(config);
    expect(text).toContain(from);
    return refusal(() => parseRunConfig(JSON.parse(text.replace(from, to))));
  };

  it('are accepted as they were made', () => {
    expect(withText('{', '{')).toBe('accepted');
    expect(parseRunConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
  });

  it.each<[string, string, string, RegExp]>([
    ['an unknown layer', '"kind":"conv2d"', '"kind":"batchNorm"', /^USAGE_CONFIG "model\.network\.layers\.0/],
    ['an unknown key', '"kind":"flatten"', '"kind":"flatten","code":"x"', /^USAGE_CONFIG "model\.network\.layers\.2/],
    ['a prototype', '"kind":"flatten"', '"kind":"flatten","__proto__":{"x":1}', /^USAGE_CONFIG "model\.network/],
    ['a path', '"name":"conv2d"', '"name":"a/b"', /^USAGE_CONFIG "model\.network\.layers\.0/],
    ['two tensors of one name', '"name":"dense"', '"name":"conv2d"', /^USAGE_CONFIG "tensors" expected distinct names/],
    ['huge sizes', '"filters":6', '"filters":1e12', /^USAGE_CONFIG "model\.network\.layers\.0/],
    [
      'too many parameters',
      '"filters":6',
      '"filters":1000000',
      /^CODEC_LIMIT "model\.network\.layers" expected at most/,
    ],
    [
      'other features',
      '"inputShape":[8,8,1]',
      '"inputShape":[8,9,1]',
      /^USAGE_CONFIG "model.network.inputShape" expected 64 features of a record, got 72/,
    ],
    [
      'other classes',
      '"classes":10',
      '"classes":9',
      /^USAGE_CONFIG "model.network.layers" expected 9 units at the end, got 10/,
    ],
    ['hidden layers beside it', '"hidden":[]', '"hidden":[4]', /^USAGE_CONFIG "model.hidden" expected none/],
    ['a loss beside it', '"hidden":[]', '"hidden":[],"loss":"squared"', /^USAGE_CONFIG "model.loss" expected none/],
    [
      'a cut beyond it',
      '"hidden":[]',
      '"hidden":[],"sharedLayers":2',
      /^USAGE_CONFIG "sharedLayers" expected 0 to 1, got 2/,
    ],
    ['no layer at the end', '"kind":"flatten"', '"kind":"globalPool","mode":"max"', /^accepted$/],
  ])('are refused in one line: %s', (_, from, to, expected) => {
    expect(withText(from, to)).toMatch(expected);
  });

  it('are refused for activations that no engine holds', () => {
    const wide = {
      ...config.model,
      inputs: 2 ** 22,
      network: {
        inputShape: [2 ** 22],
        layers: [
          { kind: 'reshape', shape: [2 ** 11, 2 ** 11, 1] },
          { kind: 'globalPool', mode: 'max' },
          { kind: 'dense', units: 10, activation: 'linear' },
        ],
      },
    };
    expect(refusal(() => parseRunConfig({ ...config, model: wide }))).toMatch(
      /^CODEC_LIMIT .* activations of a record/,
    );
    const many = Array.from({ length: 65 }, () => ({ kind: 'flatten' }));
    const deep = { ...config.model, network: { inputShape: [64], layers: many } } as unknown as RunConfig['model'];
    expect(refusal(() => parseRunConfig({ ...config, model: deep }))).toMatch(/^USAGE_CONFIG "model\.network\.layers"/);
  });

  it('have to read the records of the scenario', () => {
    const other = readModelDefinition({ modelJson: utf8(fromUtf8(CONVOLUTIONAL).replace('8,8,1', '9,9,1')) }).shape;
    const options = { seed: 1, steps: 2, targetEpsilon: 8, participants: 4, model: other, algorithm: { id: 'fedavg' } };
    expect(refusal(() => scenarioConfig('digits', options))).toBe(
      'USAGE_CONFIG "model" expected 64 inputs for digits, got 81',
    );
  });
});
