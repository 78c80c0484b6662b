import type * as Core from '@tensorflow/tfjs-core';
import { CoveyError } from '../../protocol/errors.ts';
import type { Dataset } from '../../src/data/dataset.ts';
import { type ModelManifest, tensorLength } from '../../src/learning/manifest.ts';
import type { NetworkSpec } from '../../src/learning/network.ts';
import { createNetworkFactors, gradientsByPasses } from '../../src/learning/network-factors.ts';
import type { FeatureExtractor, GradientOracle } from '../../src/learning/oracle.ts';
import { createNetwork, type Network } from './tfjs-network.ts';
import { BACKENDS, type TensorRuntime } from './tfjs-runtime.ts';

/** Most records of one pass; more do not run faster. */
const MAX_ROWS = 256;
/** Tensor memory of one pass, far below what the WebAssembly heap holds (its guard refuses the rest). */
const MAX_PASS_BYTES = 512 * 2 ** 20;
/** Copies of activations (outputs, gradients, transposed and padded ones) and of parameters that live at a time. */
const ACTIVATION_COPIES = 6;
const PARAMETER_COPIES = 4;

/**
 * Largest number of records of one pass.
 * @throws CoveyError USAGE_RANGE if a single record does not fit.
 */
export function rowsPerPass(network: Network, maxBytes: number = MAX_PASS_BYTES): number {
  const { bodyLength, headLength } = network.manifest;
  const rowBytes = 4 * ACTIVATION_COPIES * network.activationFloats;
  const modelBytes = 4 * PARAMETER_COPIES * (bodyLength + headLength);
  const rows = Math.min(MAX_ROWS, Math.floor((maxBytes - modelBytes) / rowBytes));
  if (rows < 1) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"network" expected at most ${maxBytes} bytes for one record, got ${modelBytes + rowBytes}`,
    );
  }
  return rows;
}

/** Uploads the parameters in the order of the manifest, in single precision. */
function upload(tf: typeof Core, manifest: ModelManifest, body: Float64Array, head: Float64Array): Core.Tensor[] {
  const offsets = { body: 0, head: 0 };
  return manifest.tensors.map((spec) => {
    const start = offsets[spec.group];
    offsets[spec.group] += tensorLength(spec);
    const source = spec.group === 'body' ? body : head;
    return tf.tensor(new Float32Array(source.subarray(start, offsets[spec.group])), [...spec.shape], 'float32');
  });
}

/** Adds `weight` times the gradients to the flattened ones, which are zeros if the weight is one. */
function download(
  manifest: ModelManifest,
  gradients: readonly Core.Tensor[],
  weight: number,
  body: Float64Array,
  head: Float64Array,
): void {
  const offsets = { body: 0, head: 0 };
  manifest.tensors.forEach(({ group }, i) => {
    const values = (gradients[i] as Core.Tensor).dataSync();
    const target = group === 'body' ? body : head;
    const at = offsets[group];
    // A single pass needs no sum; copying as a whole is several times faster.
    if (weight === 1) target.set(values, at);
    else
      for (let k = 0; k < values.length; k++)
        target[at + k] = (target[at + k] as number) + weight * (values[k] as number);
    offsets[group] += values.length;
  });
}

/** Adds tensors to a vector that holds them one after another. */
function addTo(target: Float64Array, tensors: readonly Core.Tensor[]): void {
  let at = 0;
  for (const tensor of tensors) {
    const values = tensor.dataSync();
    for (let k = 0; k < values.length; k++) target[at + k] = (target[at + k] as number) + (values[k] as number);
    at += values.length;
  }
}

/** Place of the largest value, the first of equal ones. */
function highest(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i;
  return best;
}

/**
 * Creates the oracle of a feed-forward network (softmax cross entropy) on a tensor engine, in single precision.
 * Losses and gradients of single records come from kernels of our own, in double precision: an engine does not say whether
 * the bits of a row depend on the others of its batch.
 * @throws CoveyError USAGE_CONFIG for a network whose layers do not fit, USAGE_RANGE for one that is too large.
 */
export function createTfjsOracle(runtime: TensorRuntime, spec: NetworkSpec): GradientOracle {
  const { tf } = runtime;
  const network = createNetwork(spec);
  const { manifest, classes, inputShape, entries } = network;
  const inputs = inputShape.reduce((product, size) => product * size, 1);
  const maxRows = rowsPerPass(network);

  function check(body: Float64Array, head: Float64Array, data: Dataset): void {
    if (tf.getBackend() !== BACKENDS[runtime.runtime]) {
      throw new CoveyError(
        'USAGE_STATE',
        `"runtime" expected backend ${BACKENDS[runtime.runtime]}, got ${tf.getBackend()}`,
      );
    }
    const { bodyLength, headLength } = manifest;
    if (body.length !== bodyLength || head.length !== headLength) {
      throw new CoveyError(
        'USAGE_RANGE',
        `"model" expected ${bodyLength} + ${headLength} parameters, got ${body.length} + ${head.length}`,
      );
    }
    if (data.featureLength !== inputs || data.classes > classes) {
      throw new CoveyError(
        'USAGE_RANGE',
        `"data" expected ${inputs} features and at most ${classes} classes, got ${data.featureLength} and ${data.classes}`,
      );
    }
  }

  /**
   * Whether the features of a record are rows of the table of embeddings. The engine would read outside of the table,
   * and an error would let one record stop the gradients of all: its loss and gradient are not a number instead.
   */
  function isReadable(data: Dataset, record: number): boolean {
    if (entries === null) return true;
    for (let i = record * inputs; i < (record + 1) * inputs; i++) {
      const value = data.features[i] as number;
      if (!(Number.isInteger(value) && value >= 0 && value < entries)) return false;
    }
    return true;
  }

  /** Copies records into a batch. */
  function batch(
    data: Dataset,
    records: ArrayLike<number>,
    start: number,
    end: number,
  ): { x: Core.Tensor; oneHot: Core.Tensor } {
    const rows = end - start;
    const features = new Float32Array(rows * inputs);
    const oneHot = new Float32Array(rows * classes);
    for (let r = 0; r < rows; r++) {
      const record = records[start + r] as number;
      if (!(record >= 0 && record < data.count))
        throw new CoveyError('USAGE_RANGE', `"record" expected below ${data.count}, got ${record}`);
      if (isReadable(data, record))
        features.set(data.features.subarray(record * inputs, (record + 1) * inputs), r * inputs);
      oneHot[r * classes + (data.labels[record] as number)] = 1;
    }
    return {
      x: tf.tensor(features, [rows, ...inputShape], 'float32'),
      oneHot: tf.tensor2d(oneHot, [rows, classes], 'float32'),
    };
  }

  /** Overwrites the gradients with their mean over the records, one pass after another; returns the mean loss. */
  function meanGradient(
    body: Float64Array,
    head: Float64Array,
    data: Dataset,
    records: Uint32Array,
    bodyGradient: Float64Array,
    headGradient: Float64Array,
  ): number {
    check(body, head, data);
    bodyGradient.fill(0);
    headGradient.fill(0);
    let loss = 0;
    for (let start = 0; start < records.length; start += maxRows) {
      const end = Math.min(records.length, start + maxRows);
      const weight = (end - start) / records.length;
      tf.tidy(() => {
        const { x, oneHot } = batch(data, records, start, end);
        const lossOf = (...parameters: Core.Tensor[]): Core.Scalar => {
          const logProbabilities = tf.logSoftmax(network.forward(tf, x, parameters));
          return tf.div(tf.sum(tf.mul(logProbabilities, oneHot)), start - end);
        };
        const { value, grads } = tf.valueAndGrads(lossOf)(upload(tf, manifest, body, head));
        loss += weight * (value.dataSync()[0] as number);
        download(manifest, grads, weight, bodyGradient, headGradient);
      });
    }
    for (let r = 0; r < records.length; r++) {
      if (isReadable(data, records[r] as number)) continue;
      bodyGradient.fill(Number.NaN);
      headGradient.fill(Number.NaN);
      return Number.NaN;
    }
    return loss;
  }

  /** Calls `visit` within a scope of tensors with the batches of a pass over these records, all of them readable. */
  function eachPass(
    body: Float64Array,
    data: Dataset,
    records: Uint32Array,
    visit: (x: Core.Tensor, parameters: readonly Core.Tensor[], start: number, end: number) => void,
  ): void {
    check(body, noHead, data);
    tf.tidy(() => {
      const parameters = upload(tf, manifest, body, noHead).slice(0, bodyTensors);
      for (let start = 0; start < records.length; start += maxRows) {
        const end = Math.min(records.length, start + maxRows);
        tf.tidy(() => visit(batch(data, records, start, end).x, parameters, start, end));
      }
    });
  }

  const bodyTensors = manifest.tensors.filter(({ group }) => group === 'body').length;
  const noHead = new Float64Array(manifest.headLength);
  const { featureLength } = network;
  const extractor: FeatureExtractor = {
    featureLength,
    features(body, data, records) {
      const features = new Float64Array(records.length * featureLength);
      eachPass(body, data, records, (x, parameters, start) => {
        features.set(network.features(tf, x, parameters).dataSync(), start * featureLength);
      });
      for (const [row, record] of records.entries())
        if (!isReadable(data, record)) features.fill(Number.NaN, row * featureLength, (row + 1) * featureLength);
      return features;
    },
    gradient(body, data, records, errors, bodyGradient) {
      bodyGradient.fill(0);
      eachPass(body, data, records, (x, parameters, start, end) => {
        const given = Float32Array.from(errors.subarray(start * featureLength, end * featureLength));
        const dy = tf.tensor2d(given, [end - start, featureLength]);
        const gradients = tf.grads((...tensors: Core.Tensor[]) => network.features(tf, x, tensors))(
          [...parameters],
          dy,
        );
        addTo(bodyGradient, gradients);
      });
      if (records.some((record) => !isReadable(data, record))) bodyGradient.fill(Number.NaN);
    },
  };

  const { losses, ...factors } = createNetworkFactors(spec);
  const oracle: GradientOracle = {
    manifest,
    meanGradient,
    ...gradientsByPasses(factors),
    factors,
    losses,
    predict: (body, head, data) => {
      check(body, head, data);
      const predictions = new Uint8Array(data.count);
      const records = Uint32Array.from({ length: data.count }, (_, record) => record);
      tf.tidy(() => {
        const parameters = upload(tf, manifest, body, head);
        for (let start = 0; start < data.count; start += maxRows) {
          const end = Math.min(data.count, start + maxRows);
          const logits = tf.tidy(() => network.forward(tf, batch(data, records, start, end).x, parameters).dataSync());
          for (let r = start; r < end; r++) {
            if (isReadable(data, r))
              predictions[r] = highest(logits.subarray((r - start) * classes, (r - start + 1) * classes));
          }
        }
      });
      return predictions;
    },
  };
  return bodyTensors === 0 ? oracle : { ...oracle, extractor };
}
