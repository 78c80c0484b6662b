import { describe, expect, it } from 'vitest';
import { loadTensorRuntime } from '../clients/trainers/tfjs-runtime.ts';
import { fromUtf8, utf8 } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { createDataset } from '../src/data/dataset.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { decodeLayersModel, encodeLayersModel, WEIGHTS_FILE } from '../src/learning/layers-model.ts';
import { type DenseShape, denseManifest } from '../src/learning/manifest.ts';
import { decodeModel, encodeModel, modelTensors, tensorsToModel } from '../src/learning/model-files.ts';
import type { Model } from '../src/learning/oracle.ts';
import { decodeSafetensors, encodeSafetensors } from '../src/learning/safetensors.ts';
import { sampleValues } from './tensor-samples.ts';

const shape: DenseShape = { inputs: 7, hidden: [5, 4], classes: 3 };
const manifest = denseManifest(shape);

function sampleModel(seed: number): Model {
  const round = (length: number, from: number): Float64Array =>
    Float64Array.from(sampleValues(length, from), Math.fround);
  return { body: round(manifest.bodyLength, seed), head: round(manifest.headLength, seed + 1) };
}

function code(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (isCoveyError(error)) return error.code;
    throw error;
  }
  return 'none';
}

/** A file with the given header text, padded as it stands, and `dataBytes` zero bytes. */
function file(header: string, dataBytes: number): Uint8Array {
  const json = utf8(header);
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

describe('safetensors', () => {
  it('lays out a file as the format says', () => {
    const bytes = encodeSafetensors([{ name: 'a', shape: [2], values: Float32Array.of(1, -2) }], { round: '3' });
    const header = '{"__metadata__":{"round":"3"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}';
    const padded = header.padEnd(Math.ceil(header.length / 8) * 8, ' ');
    expect(bytes.slice(0, 8)).toEqual(Uint8Array.of(padded.length, 0, 0, 0, 0, 0, 0, 0));
    expect(fromUtf8(bytes.slice(8, 8 + padded.length))).toBe(padded);
    expect(bytes.slice(8 + padded.length)).toEqual(Uint8Array.of(0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0));
  });

  it('reads back the same floats, names, shapes and metadata', () => {
    const tensors = [
      { name: 'kernel', shape: [2, 3], values: Float32Array.of(1e-40, -0, Number.NaN, Infinity, 0.1, 3) },
      { name: '__proto__', shape: [], values: Float64Array.of(Math.PI) },
      { name: '10', shape: [0], values: new Float32Array(0) },
      { name: '2', shape: [1], values: Float64Array.of(-5e-324) },
    ];
    const read = decodeSafetensors(encodeSafetensors(tensors, { run: 'x' }));
    expect(read.metadata).toEqual({ run: 'x' });
    for (const tensor of tensors) {
      const found = read.tensors.find(({ name }) => name === tensor.name);
      expect(found?.shape).toEqual(tensor.shape);
      expect(found?.values.constructor).toBe(tensor.values.constructor);
      expect(new Uint8Array(found?.values.buffer ?? new ArrayBuffer(0))).toEqual(new Uint8Array(tensor.values.buffer));
    }
  });

  it('reads a file at an odd offset of a larger buffer', () => {
    const bytes = encodeSafetensors([{ name: 'a', shape: [2], values: Float64Array.of(1.5, -2) }]);
    const larger = new Uint8Array(bytes.length + 3);
    larger.set(bytes, 3);
    expect(decodeSafetensors(larger.subarray(3)).tensors[0]?.values).toEqual(Float64Array.of(1.5, -2));
  });

  it('refuses what the format forbids', () => {
    const entry = (start: number, end: number): string =>
      `{"dtype":"F32","shape":[1],"data_offsets":[${start},${end}]}`;
    expect(code(() => decodeSafetensors(file(`{"a":${entry(0, 4)}}`, 4)))).toBe('none');
    const unprintable = '{"a":{"dtype":{"toString":1,"valueOf":1},"shape":[1],"data_offsets":[0,4]}}';
    expect(code(() => decodeSafetensors(file(unprintable, 4)))).toBe('CODEC_TYPE');
    expect(code(() => decodeSafetensors(new Uint8Array(7)))).toBe('CODEC_TRUNCATED');
    expect(code(() => decodeSafetensors(Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0, 0x7b)))).toBe('CODEC_TRUNCATED');
    expect(code(() => decodeSafetensors(Uint8Array.of(9, 0, 0, 0, 1, 0, 0, 0, 0x7b)))).toBe('CODEC_LIMIT');
    expect(code(() => decodeSafetensors(file(`{"a":${entry(0, 4)}}`, 3)))).toBe('CODEC_TRUNCATED');
    expect(code(() => decodeSafetensors(file(`{"a":${entry(0, 4)}}`, 5)))).toBe('CODEC_TRAILING');
    // A gap, an overlap, a leading space, another type, sizes that do not fit, half a header.
    expect(code(() => decodeSafetensors(file(`{"a":${entry(4, 8)}}`, 8)))).toBe('CODEC_TYPE');
    expect(code(() => decodeSafetensors(file(`{"a":${entry(0, 4)},"b":${entry(0, 4)}}`, 4)))).toBe('CODEC_TYPE');
    expect(code(() => decodeSafetensors(file(` {"a":${entry(0, 4)}}`, 4)))).toBe('CODEC_TYPE');
    expect(code(() => decodeSafetensors(file(`{"a":${entry(0, 4).replace('F32', 'I64')}}`, 4)))).toBe('CODEC_TYPE');
    expect(code(() => decodeSafetensors(file(`{"a":${entry(0, 8)}}`, 8)))).toBe('CODEC_TYPE');
    expect(code(() => decodeSafetensors(file(`{"a":${entry(0, 4)}`, 4)))).toBe('CODEC_TYPE');
    expect(code(() => decodeSafetensors(file(`{"a":null}`, 0)))).toBe('CODEC_TYPE');
    expect(code(() => decodeSafetensors(file(`{"__metadata__":{"a":1}}`, 0)))).toBe('CODEC_TYPE');
  });

  it('refuses to write names twice or values that do not fit', () => {
    const tensor = { name: 'a', shape: [1], values: Float32Array.of(1) };
    expect(code(() => encodeSafetensors([tensor, tensor]))).toBe('USAGE_RANGE');
    expect(code(() => encodeSafetensors([{ ...tensor, name: '__metadata__' }]))).toBe('USAGE_RANGE');
    expect(code(() => encodeSafetensors([{ ...tensor, shape: [2] }]))).toBe('USAGE_RANGE');
  });

  it('never fails otherwise on damaged bytes', () => {
    const bytes = encodeModel(manifest, sampleModel(1), { run: 'x' });
    for (let i = 0; i < 400; i++) {
      const damaged = Uint8Array.from(bytes);
      damaged[i % bytes.length] = (damaged[i % bytes.length] as number) ^ (1 << (i % 8));
      expect(code(() => decodeModel(manifest, damaged))).toMatch(/^(none|CODEC_)/);
      expect(code(() => decodeModel(manifest, bytes.subarray(0, i)))).toMatch(/^CODEC_/);
    }
  });
});

describe('model files', () => {
  it('keeps every bit in double precision and rounds once in single precision', () => {
    const model = { body: sampleValues(manifest.bodyLength, 5), head: sampleValues(manifest.headLength, 6) };
    expect(decodeModel(manifest, encodeModel(manifest, model, {}, 'F64')).model).toEqual(model);
    const single = decodeModel(manifest, encodeModel(manifest, model)).model;
    expect(single.body).toEqual(model.body.map(Math.fround));
    expect(single.head).toEqual(model.head.map(Math.fround));
  });

  it('joins tensors in any order and refuses other sets of them', () => {
    const model = sampleModel(2);
    const tensors = modelTensors(manifest, model, 'F32');
    expect(tensorsToModel(manifest, tensors.toReversed())).toEqual(model);
    expect(code(() => tensorsToModel(manifest, tensors.slice(1)))).toBe('CODEC_TYPE');
    expect(code(() => tensorsToModel(manifest, [...tensors, ...tensors.slice(0, 1)]))).toBe('CODEC_TYPE');
    expect(code(() => tensorsToModel(denseManifest({ ...shape, hidden: [4, 5] }), tensors))).toBe('CODEC_TYPE');
    expect(code(() => modelTensors(manifest, { body: model.head, head: model.body }, 'F32'))).toBe('USAGE_RANGE');
  });
});

describe('layers model', () => {
  it('reads back the same shape and floats, also without a hidden layer', () => {
    const model = sampleModel(3);
    expect(decodeLayersModel(encodeLayersModel(shape, model))).toEqual({ shape, model });
    const flat: DenseShape = { inputs: 4, hidden: [], classes: 2 };
    const logistic: Model = { body: new Float64Array(0), head: Float64Array.from({ length: 10 }, (_, i) => i / 4) };
    expect(decodeLayersModel(encodeLayersModel(flat, logistic))).toEqual({ shape: flat, model: logistic });
  });

  it('predicts in TensorFlow.js as the dense oracle does, and reads what TensorFlow.js saves', async () => {
    const { tf } = await loadTensorRuntime({ candidates: ['tfjs-cpu'] });
    const layers = await import('@tensorflow/tfjs-layers');
    const model = sampleModel(4);
    const { modelJson, weights } = encodeLayersModel(shape, model, { run: 'x' });
    const json = JSON.parse(fromUtf8(modelJson));
    expect(json.weightsManifest[0].paths).toEqual([WEIGHTS_FILE]);
    const artifacts = {
      modelTopology: json.modelTopology,
      weightSpecs: json.weightsManifest[0].weights,
      weightData: Uint8Array.from(weights).buffer,
    };
    const loaded = await layers.loadLayersModel(tf.io.fromMemory(artifacts));
    const count = 20;
    const labels = Uint8Array.from({ length: count }, (_, i) => i % shape.classes);
    const data = createDataset(
      shape.inputs,
      shape.classes,
      Float32Array.from(sampleValues(count * shape.inputs, 9)),
      labels,
    );
    const output = loaded.predict(tf.tensor2d(data.features, [count, shape.inputs]));
    const rows = (Array.isArray(output) ? output[0] : output)?.dataSync() ?? new Float32Array(0);
    const oracle = createDenseOracle(shape);
    const losses = oracle.losses(model.body, model.head, data);
    const predictions = oracle.predict(model.body, model.head, data);
    expect(rows.length).toBe(count * shape.classes);
    labels.forEach((label, r) => {
      const probabilities = Array.from(rows.subarray(r * shape.classes, (r + 1) * shape.classes));
      expect(Math.abs((probabilities[label] as number) - Math.exp(-(losses[r] as number)))).toBeLessThan(1e-5);
      expect(probabilities.indexOf(Math.max(...probabilities))).toBe(predictions[r]);
    });

    let saved: { modelJson: Uint8Array; weights: Uint8Array } | undefined;
    await loaded.save(
      tf.io.withSaveHandler(async ({ modelTopology, weightSpecs, weightData }) => {
        const manifestEntry = { paths: [WEIGHTS_FILE], weights: weightSpecs };
        saved = {
          modelJson: utf8(JSON.stringify({ modelTopology, weightsManifest: [manifestEntry] })),
          weights: new Uint8Array(weightData as ArrayBuffer),
        };
        return { modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: 'JSON' as const } };
      }),
    );
    if (saved === undefined) throw new Error('the model was not saved');
    expect(decodeLayersModel(saved)).toEqual({ shape, model });
  });

  it('refuses other kinds of models and weights of another length', () => {
    const { modelJson, weights } = encodeLayersModel(shape, sampleModel(5));
    const changed = (from: string, to: string): Uint8Array => {
      const text = fromUtf8(modelJson);
      expect(text).toContain(from);
      return utf8(text.replace(from, to));
    };
    const decode = (json: Uint8Array): string => code(() => decodeLayersModel({ modelJson: json, weights }));
    expect(decode(modelJson)).toBe('none');
    expect(decode(changed('"Sequential"', '"Functional"'))).toBe('CODEC_TYPE');
    expect(decode(changed('"Dense"', '"Conv2D"'))).toBe('CODEC_TYPE');
    expect(decode(changed('"relu"', '"tanh"'))).toBe('CODEC_TYPE');
    expect(decode(changed('"units": 5', '"units": 6'))).toBe('CODEC_TYPE');
    expect(decode(changed('"use_bias": true', '"use_bias": false'))).toBe('CODEC_TYPE');
    expect(decode(changed('"dtype": "float32"\n', '"dtype": "int32"\n'))).toBe('CODEC_TYPE');
    // Values that cannot be turned into text.
    const unprintable = '{"toString":1,"valueOf":1}';
    expect(decode(changed('"Sequential"', unprintable))).toBe('CODEC_TYPE');
    expect(decode(changed('"relu"', unprintable))).toBe('CODEC_TYPE');
    expect(decode(utf8(fromUtf8(modelJson).replace(/"shape": \[\s*7,/, `"shape": [${unprintable},`)))).toBe(
      'CODEC_TYPE',
    );
    expect(decode(modelJson.subarray(0, 50))).toBe('CODEC_TYPE');
    expect(code(() => decodeLayersModel({ modelJson, weights: weights.subarray(4) }))).toBe('CODEC_TRUNCATED');
    expect(code(() => decodeLayersModel({ modelJson, weights: new Uint8Array(weights.length + 4) }))).toBe(
      'CODEC_TRAILING',
    );
  });
});
