import { CoveyError } from '../../protocol/errors.ts';
import type { Dataset } from '../data/dataset.ts';
import { bodyLayers, type DenseShape, denseManifest } from './manifest.ts';
import type { FactorRows, GradientFactors, GradientOracle, Model } from './oracle.ts';

/** One dense layer. Units: `kernel` and `bias` are offsets in the parameters of its group; `bias` is -1 without one. */
interface Layer {
  readonly inputs: number;
  readonly outputs: number;
  readonly kernel: number;
  readonly bias: number;
  readonly group: 'body' | 'head';
}

/** Records of one pass for factors. */
const ROWS = 64;

function layersOf(shape: DenseShape): Layer[] {
  const widths = [shape.inputs, ...shape.hidden, shape.classes];
  const offsets = { body: 0, head: 0 };
  const shared = bodyLayers(shape);
  return widths.slice(1).map((outputs, l) => {
    const inputs = widths[l] as number;
    const group = l < shared ? 'body' : 'head';
    const kernel = offsets[group];
    const hasBias = shape.bias !== false;
    offsets[group] += (inputs + (hasBias ? 1 : 0)) * outputs;
    return { inputs, outputs, kernel, bias: hasBias ? kernel + inputs * outputs : -1, group };
  });
}

/** Activations of hidden layers, and their derivatives by the input as a function of the output. */
const ACTIVATIONS = {
  relu: { of: (x: number): number => Math.max(0, x), slope: (y: number): number => (y > 0 ? 1 : 0) },
  tanh: { of: Math.tanh, slope: (y: number): number => 1 - y * y },
  linear: { of: (x: number): number => x, slope: (): number => 1 },
} as const;

/** Replaces the outputs of a record by the errors of its cross entropy (softmax minus one-hot); returns the loss. */
function crossEntropy(outputs: Float64Array, label: number): number {
  const highest = Math.max(...outputs);
  const own = outputs[label] as number;
  const weights = outputs.map((logit) => Math.exp(logit - highest));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  outputs.set(weights.map((weight, c) => weight / total - (c === label ? 1 : 0)));
  return Math.log(total) + highest - own;
}

/** Replaces the output of a record by its error under (f(x) - y)^2 / 2; returns the loss. */
function squaredError(outputs: Float64Array, target: number): number {
  const error = (outputs[0] as number) - target;
  outputs[0] = error;
  return (error * error) / 2;
}

/**
 * Creates the oracle of any dense network of the configuration - squared error or cross entropy, any activation, with or
 * without biases - record after record in plain loops. The blocked oracle of ReLU and cross entropy is faster.
 * Keeps scratch memory, no state.
 * @throws CoveyError USAGE_CONFIG for a network of other layers
 */
export function createPlainOracle(shape: DenseShape): GradientOracle {
  if (shape.network !== undefined)
    throw new CoveyError(
      'USAGE_CONFIG',
      '"model" expected a perceptron for this trainer, got a network of layers, which a tensor engine trains',
    );
  const manifest = denseManifest(shape);
  const layers = layersOf(shape);
  const { of, slope } = ACTIVATIONS[shape.activation ?? 'relu'];
  const isSquared = shape.loss === 'squared';
  const rows = [shape.inputs, ...shape.hidden, shape.classes].map((width) => new Float64Array(width));

  function check(body: Float64Array, head: Float64Array, data: Dataset): void {
    if (body.length !== manifest.bodyLength || head.length !== manifest.headLength)
      throw new CoveyError(
        'USAGE_RANGE',
        `"model" expected ${manifest.bodyLength} + ${manifest.headLength} parameters, got ${body.length} + ${head.length}`,
      );
    if (data.featureLength !== shape.inputs || data.classes > shape.classes)
      throw new CoveyError(
        'USAGE_RANGE',
        `"data" expected ${shape.inputs} features and at most ${shape.classes} classes, got ${data.featureLength} and ${data.classes}`,
      );
    if (isSquared && data.targets?.length !== data.count)
      throw new CoveyError(
        'USAGE_RANGE',
        `"data" expected ${data.count} targets for squared error, got ${data.targets?.length ?? 0}`,
      );
  }

  /** Runs a record through the layers; the last row holds the outputs. */
  function forward(body: Float64Array, head: Float64Array, data: Dataset, record: number): Float64Array {
    const { featureLength } = data;
    rows[0]?.set(data.features.subarray(record * featureLength, (record + 1) * featureLength));
    layers.forEach(({ inputs, outputs, kernel, bias, group }, l) => {
      const [x, y] = [rows[l] as Float64Array, rows[l + 1] as Float64Array];
      const parameters = group === 'body' ? body : head;
      for (let j = 0; j < outputs; j++) {
        let sum = bias < 0 ? 0 : (parameters[bias + j] as number);
        for (let i = 0; i < inputs; i++) sum += (x[i] as number) * (parameters[kernel + i * outputs + j] as number);
        y[j] = l + 1 === layers.length ? sum : of(sum);
      }
    });
    return rows.at(-1) as Float64Array;
  }

  function lossOf(outputs: Float64Array, data: Dataset, record: number): number {
    return isSquared
      ? squaredError(outputs, data.targets?.[record] as number)
      : crossEntropy(outputs, data.labels[record] as number);
  }

  /** Adds the gradient of a record and returns its loss. */
  function addGradient(
    body: Float64Array,
    head: Float64Array,
    data: Dataset,
    record: number,
    bodyGradient: Float64Array,
    headGradient: Float64Array,
  ): number {
    const loss = lossOf(forward(body, head, data, record), data, record);
    for (let l = layers.length - 1; l >= 0; l--) {
      const { inputs, outputs, kernel, bias, group } = layers[l] as Layer;
      const [x, d] = [rows[l] as Float64Array, rows[l + 1] as Float64Array];
      const [parameters, gradient] = group === 'body' ? [body, bodyGradient] : [head, headGradient];
      for (let j = 0; bias >= 0 && j < outputs; j++)
        gradient[bias + j] = (gradient[bias + j] as number) + (d[j] as number);
      for (let i = 0; i < inputs; i++) {
        let back = 0;
        const from = kernel + i * outputs;
        for (let j = 0; j < outputs; j++) {
          gradient[from + j] = (gradient[from + j] as number) + (x[i] as number) * (d[j] as number);
          back += (d[j] as number) * (parameters[from + j] as number);
        }
        // The input of this layer is read for the last time: its place takes the error behind it.
        if (l > 0) x[i] = back * slope(x[i] as number);
      }
    }
    return loss;
  }

  /** Inputs and errors of every layer for one record, as row `at` of the given arrays; returns its loss. */
  function writeFactors(
    { body, head }: Model,
    data: Dataset,
    record: number,
    at: number,
    { inputs, errors }: Pick<FactorRows, 'inputs' | 'errors'>,
  ): number {
    const loss = lossOf(forward(body, head, data, record), data, record);
    for (let l = layers.length - 1; l >= 0; l--) {
      const { inputs: n, outputs: m, kernel, group } = layers[l] as Layer;
      const [x, d] = [rows[l] as Float64Array, rows[l + 1] as Float64Array];
      inputs[l]?.set(x, at * n);
      errors[l]?.set(d, at * m);
      if (l === 0) break;
      const parameters = group === 'body' ? body : head;
      for (let i = 0; i < n; i++) {
        let back = 0;
        for (let j = 0; j < m; j++) back += (d[j] as number) * (parameters[kernel + i * m + j] as number);
        x[i] = back * slope(x[i] as number);
      }
    }
    return loss;
  }

  const factors: GradientFactors = {
    layers: layers.map(({ bias, ...layer }) => ({ ...layer, hasBias: bias >= 0 })),
    written: [],
    mostRecords: ROWS,
    pass(body, head, data, records) {
      check(body, head, data);
      if (records.length > ROWS)
        throw new CoveyError('USAGE_RANGE', `"records" expected at most ${ROWS}, got ${records.length}`);
      const given = {
        inputs: layers.map(({ inputs }) => new Float64Array(records.length * inputs)),
        errors: layers.map(({ outputs }) => new Float64Array(records.length * outputs)),
      };
      const losses = Float64Array.from(records, (record, at) => writeFactors({ body, head }, data, record, at, given));
      return { ...given, losses, write: () => {} };
    },
  };

  function losses(body: Float64Array, head: Float64Array, data: Dataset): Float64Array {
    check(body, head, data);
    return Float64Array.from({ length: data.count }, (_, record) =>
      lossOf(forward(body, head, data, record), data, record),
    );
  }

  return {
    manifest,
    perRecordGradient(body, head, data, record, bodyGradient, headGradient) {
      check(body, head, data);
      bodyGradient.fill(0);
      headGradient.fill(0);
      return addGradient(body, head, data, record, bodyGradient, headGradient);
    },
    meanGradient(body, head, data, records, bodyGradient, headGradient) {
      check(body, head, data);
      bodyGradient.fill(0);
      headGradient.fill(0);
      let loss = 0;
      for (const record of records) loss += addGradient(body, head, data, record, bodyGradient, headGradient);
      const scale = 1 / Math.max(1, records.length);
      for (const gradient of [bodyGradient, headGradient])
        for (let i = 0; i < gradient.length; i++) gradient[i] = (gradient[i] as number) * scale;
      return loss * scale;
    },
    losses,
    factors,
    predict(body, head, data) {
      check(body, head, data);
      return Uint8Array.from({ length: data.count }, (_, record) => {
        const outputs = forward(body, head, data, record);
        return outputs.indexOf(Math.max(...outputs));
      });
    },
  };
}
