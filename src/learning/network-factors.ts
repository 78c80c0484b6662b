import { CoveyError } from '../../protocol/errors.ts';
import type { Dataset } from '../data/dataset.ts';
import { outerGradient } from './dense-kernels.ts';
import { type LayerPass, planPass } from './layer-passes.ts';
import { count, sizeLayer } from './layer-sizes.ts';
import { tensorLength } from './manifest.ts';
import { layoutNetwork, type NetworkSpec } from './network.ts';
import type { FactoredLayer, FactorRows, GradientFactors, GradientOracle, WrittenLayer } from './oracle.ts';
import { softmaxErrors } from './softmax.ts';

/** Most records of a pass, and bytes of activations and errors that it may hold; one record is always taken. */
const MOST_ROWS = 64;
const MOST_BYTES = 2 ** 26;

interface Stage {
  readonly pass: LayerPass | null;
  readonly group: 'body' | 'head';
  /** Values of a record. */
  readonly outputs: number;
  /** Where its gradient is: among the factored layers, among those that are written out, or nowhere. */
  readonly gradient: FactoredLayer | WrittenLayer | null;
}

interface Plan {
  readonly stages: readonly Stage[];
  readonly classes: number;
  /** Parameters of each group. */
  readonly lengths: { readonly body: number; readonly head: number };
}

function planStages(spec: NetworkSpec): Plan {
  const { classes, layers, tensors } = layoutNetwork(spec);
  const offsets = { body: 0, head: 0 };
  const stages = layers.map(({ first, input, layer, tensors: own }, l): Stage => {
    const { output } = sizeLayer(layer, input, l === 0);
    const weights = tensors.slice(first, first + own);
    const group = weights[0]?.group ?? 'body';
    const offset = offsets[group];
    const length = weights.reduce((sum, tensor) => sum + tensorLength(tensor), 0);
    offsets[group] += length;
    const dense = { group, kernel: offset, inputs: count(input), outputs: count(output), hasBias: own > 1 };
    const gradient = own === 0 ? null : layer.kind === 'dense' ? dense : { group, offset, length };
    return { pass: planPass(layer, input, output, offset), group, outputs: count(output), gradient };
  });
  return { stages, classes, lengths: offsets };
}

interface Passed {
  readonly activations: readonly Float64Array[];
  readonly errors: readonly Float64Array[];
  readonly rows: number;
}

/** Inputs and outputs of the layers for the rows of a pass, and the errors by them; layers that reshape share both. */
function allocate(stages: readonly Stage[], inputs: number, rows: number): [Float64Array[], Float64Array[]] {
  const activations: Float64Array[] = [new Float64Array(rows * inputs)];
  const errors: Float64Array[] = [new Float64Array(rows * inputs)];
  stages.forEach(({ outputs, pass }, l) => {
    const isLast = l + 1 === stages.length;
    const y = pass === null ? (activations[l] as Float64Array) : new Float64Array(rows * outputs);
    activations.push(y);
    // The logits become their errors.
    errors.push(isLast ? y : pass === null ? (errors[l] as Float64Array) : new Float64Array(rows * outputs));
  });
  return [activations, errors];
}

/** Writes out the gradient of one row of a pass. */
function writeGradient(
  { layers, written }: GradientFactors,
  rows: FactorRows,
  row: number,
  bodyGradient: Float64Array,
  headGradient: Float64Array,
): void {
  const target = { body: bodyGradient, head: headGradient };
  layers.forEach(({ group, hasBias, inputs: n, kernel, outputs: m }, l) => {
    const x = (rows.inputs[l] as Float64Array).subarray(row * n, (row + 1) * n);
    const d = (rows.errors[l] as Float64Array).subarray(row * m, (row + 1) * m);
    outerGradient(x, n, d, m, target[group], kernel, hasBias);
  });
  written.forEach(({ group, length, offset }, l) => {
    rows.write(l, row, target[group].subarray(offset, offset + length));
  });
}

/** Gradients of single records by passes over many of them. */
export function gradientsByPasses(
  factors: GradientFactors,
): Required<Pick<GradientOracle, 'perRecordGradient' | 'recordGradients'>> {
  const recordGradients: GradientOracle['recordGradients'] = (body, head, data, records, onBody, onHead, visit) => {
    for (let start = 0; start < records.length; start += factors.mostRecords) {
      const part = records.subarray(start, start + factors.mostRecords);
      const rows = factors.pass(body, head, data, part);
      for (let row = 0; row < part.length; row++) {
        writeGradient(factors, rows, row, onBody, onHead);
        visit(start + row, rows.losses[row] as number);
      }
    }
  };
  return {
    recordGradients,
    perRecordGradient(body, head, data, record, onBody, onHead) {
      const rows = factors.pass(body, head, data, Uint32Array.of(record));
      writeGradient(factors, rows, 0, onBody, onHead);
      return rows.losses[0] as number;
    },
  };
}

const isWritten = (layer: Stage['gradient']): layer is WrittenLayer => layer !== null && 'offset' in layer;
const isFactored = (layer: Stage['gradient']): layer is FactoredLayer => layer !== null && 'kernel' in layer;

/** Losses and gradients of single records, with no bit of the others in them. */
export type NetworkFactors = GradientFactors & Pick<GradientOracle, 'losses'>;

/**
 * Gradients of single records of a network of layers (softmax cross entropy), many records a pass, in plain double arithmetic.
 * Dense layers give factors; the gradients of convolutions and embeddings are written out on demand.
 * Keeps scratch memory, allocated at the first pass, no state.
 * @throws CoveyError USAGE_CONFIG of `layoutNetwork`
 */
export function createNetworkFactors(spec: NetworkSpec): NetworkFactors {
  const { classes, lengths, stages } = planStages(spec);
  const inputs = count(spec.inputShape);
  const rowValues = stages.reduce((sum, { outputs }) => sum + outputs, inputs);
  const mostRecords = Math.max(1, Math.min(MOST_ROWS, Math.floor(MOST_BYTES / (16 * rowValues))));
  const factored = stages.flatMap(({ gradient }, l) => (isFactored(gradient) ? [{ layer: gradient, l }] : []));
  const written = stages.flatMap(({ gradient }, l) => (isWritten(gradient) ? [{ layer: gradient, l }] : []));
  // Below the first layer with parameters nobody asks for errors.
  const lowest = stages.findIndex(({ gradient }) => gradient !== null);
  let scratch: [Float64Array[], Float64Array[]] | undefined;

  function load(data: Dataset, records: Uint32Array, x: Float64Array): void {
    if (data.featureLength !== inputs || data.classes > classes)
      throw new CoveyError(
        'USAGE_RANGE',
        `"data" expected ${inputs} features and at most ${classes} classes, got ${data.featureLength} and ${data.classes}`,
      );
    records.forEach((record, row) => {
      if (record >= data.count)
        throw new CoveyError('USAGE_RANGE', `"record" expected below ${data.count}, got ${record}`);
      x.set(data.features.subarray(record * inputs, (record + 1) * inputs), row * inputs);
    });
  }

  /** Runs records forward; returns what a pass back needs, with the logits in the last activations. */
  function forward(body: Float64Array, head: Float64Array, data: Dataset, records: Uint32Array): Passed {
    const rows = records.length;
    if (rows > mostRecords)
      throw new CoveyError('USAGE_RANGE', `"records" expected at most ${mostRecords}, got ${rows}`);
    if (body.length !== lengths.body || head.length !== lengths.head)
      throw new CoveyError(
        'USAGE_RANGE',
        `"model" expected ${lengths.body} + ${lengths.head} parameters, got ${body.length} + ${head.length}`,
      );
    scratch ??= allocate(stages, inputs, mostRecords);
    const [activations, errors] = scratch;
    load(data, records, activations[0] as Float64Array);
    stages.forEach(({ group, pass }, l) => {
      const [x, y] = [activations[l] as Float64Array, activations[l + 1] as Float64Array];
      pass?.forward(group === 'body' ? body : head, x, y, rows);
    });
    return { activations, errors, rows };
  }

  function lossesOf(logits: Float64Array, data: Dataset, records: Uint32Array): Float64Array {
    return Float64Array.from(records, (record, row) =>
      softmaxErrors(logits, row * classes, classes, data.labels[record] as number),
    );
  }

  return {
    layers: factored.map(({ layer }) => layer),
    written: written.map(({ layer }) => layer),
    mostRecords,
    pass(body, head, data, records): FactorRows {
      const { activations, errors, rows } = forward(body, head, data, records);
      const losses = lossesOf(activations.at(-1) as Float64Array, data, records);
      for (let l = stages.length - 1; l >= lowest; l--) {
        const { group, pass } = stages[l] as Stage;
        const [x, dx] = [activations[l] as Float64Array, errors[l] as Float64Array];
        const [y, dy] = [activations[l + 1] as Float64Array, errors[l + 1] as Float64Array];
        pass?.settle(y, dy, rows);
        if (l > lowest) pass?.back(group === 'body' ? body : head, x, dy, dx, rows);
      }
      return {
        inputs: factored.map(({ l }) => activations[l] as Float64Array),
        errors: factored.map(({ l }) => errors[l + 1] as Float64Array),
        losses,
        write(index, row, gradient) {
          const { l } = written[index] as (typeof written)[number];
          stages[l]?.pass?.write?.(activations[l] as Float64Array, errors[l + 1] as Float64Array, row, gradient);
        },
      };
    },
    losses(body, head, data) {
      const losses = new Float64Array(data.count);
      for (let start = 0; start < data.count; start += mostRecords) {
        const length = Math.min(mostRecords, data.count - start);
        const records = Uint32Array.from({ length }, (_, i) => start + i);
        const { activations } = forward(body, head, data, records);
        losses.set(lossesOf(activations.at(-1) as Float64Array, data, records), start);
      }
      return losses;
    },
  };
}
