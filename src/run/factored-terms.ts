import type { CryptoProvider, KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import type { Dataset, RecordUnits } from '../data/dataset.ts';
import { product } from '../learning/kernels/matrix.ts';
import type { FactoredLayer, FactorRows, GradientFactors, GradientOracle, Model } from '../learning/oracle.ts';
import type { EncodingSpec } from '../privacy/encode.ts';
import { encodeFloatSum, quantizePerson, quantizeTerm, type TermFactor, termBits } from '../privacy/float-terms.ts';
import type { RunConfig } from './config.ts';
import type { RecordInputs, TermPlan } from './term-plan.ts';

/*
 * Unit `record`, terms `float-bounded`: the clipped gradients of a pass are summed by one product of matrices a layer.
 * @see src/privacy/float-terms.ts for what makes that sum exact
 */

/** Longest block of a vector, padding included. */
export function longestBlock({ blocks }: Pick<EncodingSpec, 'blocks'>): number {
  return Math.max(1, ...blocks.map(({ length }) => length));
}

/**
 * The factors of an oracle that has them. @throws CoveyError USAGE_CONFIG if it has none.
 */
export function requireFactors({ factors }: Pick<GradientOracle, 'factors'>): GradientFactors {
  if (factors === undefined)
    throw new CoveyError(
      'USAGE_CONFIG',
      '"trainer" expected dense or tfjs in a run with float-bounded terms: norms need the inputs and errors of every layer',
    );
  return factors;
}

/** Integers of a chunk, row after row. */
interface UnitRows {
  readonly layer: FactoredLayer;
  readonly left: Float64Array;
  readonly right: Float64Array;
}

const leftWidth = ({ hasBias, inputs }: FactoredLayer): number => inputs + (hasBias ? 1 : 0);

function factorsOfRow(
  used: readonly number[],
  rows: readonly UnitRows[],
  pass: FactorRows,
  row: number,
  { slots, weight }: { readonly slots: readonly number[]; readonly weight: number },
): TermFactor[] {
  return used.map((l) => {
    const { layer, left, right } = rows[l] as UnitRows;
    const [n, width, m] = [layer.inputs, leftWidth(layer), layer.outputs];
    return {
      left: (pass.inputs[l] as Float64Array).subarray(row * n, (row + 1) * n),
      right: (pass.errors[l] as Float64Array).subarray(row * m, (row + 1) * m),
      hasBias: layer.hasBias,
      copies: layer.group === 'head' ? slots.length : 1,
      weight: layer.group === 'head' ? weight : 1,
      leftUnits: left.subarray(row * width, (row + 1) * width),
      rightUnits: right.subarray(row * m, (row + 1) * m),
    };
  });
}

/** Units one after the other, as many as have no more records than a pass; one that has more comes alone. */
function* chunksOf(units: readonly number[], records: RecordUnits, mostRecords: number): Generator<readonly number[]> {
  let chunk: number[] = [];
  let rows = 0;
  for (const unit of units) {
    const count = records[unit]?.length ?? 0;
    if (chunk.length > 0 && rows + count > mostRecords) {
      yield chunk;
      [chunk, rows] = [[], 0];
    }
    chunk.push(unit);
    rows += count;
  }
  if (chunk.length > 0) yield chunk;
}

/** The factors of any number of records. */
function passAll(
  { layers, mostRecords, pass }: GradientFactors,
  model: Model,
  data: Dataset,
  records: Uint32Array,
): FactorRows {
  if (records.length <= mostRecords) return pass(model.body, model.head, data, records);
  const inputs = layers.map((layer) => new Float64Array(records.length * layer.inputs));
  const errors = layers.map((layer) => new Float64Array(records.length * layer.outputs));
  const losses = new Float64Array(records.length);
  for (let start = 0; start < records.length; start += mostRecords) {
    const part = records.subarray(start, start + mostRecords);
    const given = pass(model.body, model.head, data, part);
    layers.forEach(({ inputs: n, outputs: m }, l) => {
      inputs[l]?.set((given.inputs[l] as Float64Array).subarray(0, part.length * n), start * n);
      errors[l]?.set((given.errors[l] as Float64Array).subarray(0, part.length * m), start * m);
    });
    losses.set(given.losses, start);
  }
  return { inputs, errors, losses, write: () => {} };
}

/**
 * Sum of the clipped gradients of the drawn records, or persons, encoded. Random: `rounding`, of this contribution alone.
 * Secrets: the records, the result before noise.
 * @throws CoveyError USAGE_CONFIG for an oracle without factors or more records than the run sums.
 */
export function factoredTerms(
  crypto: CryptoProvider,
  config: RunConfig,
  spec: EncodingSpec,
  plan: TermPlan,
  { data, oracle }: RecordInputs,
  rounding: KeyStream,
): Int32Array {
  const factors = requireFactors(oracle);
  const { layers, mostRecords } = factors;
  const { maxRecordsPerStep } = config.training;
  // Whatever is drawn of them, the sum is exact.
  if (data.count > maxRecordsPerStep)
    throw new CoveyError('USAGE_CONFIG', `"data" expected at most ${maxRecordsPerStep} records, got ${data.count}`);
  const bits = termBits(longestBlock(spec), maxRecordsPerStep);
  const sums = spec.blocks.map(({ realLength }) => new Float64Array(realLength));
  const capacity = plan.units.reduce((most, { length }) => Math.max(most, length), mostRecords);
  const rows = layers.map(
    (layer): UnitRows => ({
      layer,
      left: new Float64Array(capacity * leftWidth(layer)),
      right: new Float64Array(capacity * layer.outputs),
    }),
  );
  const headSum = new Float64Array(oracle.manifest.headLength);
  for (const group of plan.groups) {
    const { head, slots, units } = group;
    // Without an open slot the head is not sent, and no part of the norm.
    const used = layers.flatMap((layer, l) => (layer.group === 'body' || slots.length > 0 ? [l] : []));
    headSum.fill(0);
    for (const chunk of chunksOf(units, plan.units, mostRecords)) {
      const records = Uint32Array.from(chunk.flatMap((unit) => plan.units[unit] ?? []));
      const given = passAll(factors, { body: plan.body, head }, data, records);
      let row = 0;
      for (const unit of chunk) {
        const own = (plan.units[unit] ?? []).map((_, i) => row + i);
        const terms = own.map((at) => factorsOfRow(used, rows, given, at, group));
        const loss = own.reduce((sum, at) => sum + (given.losses[at] as number), 0);
        row += own.length;
        if (plan.isLeftOut(unit, loss)) {
          for (const { leftUnits, rightUnits } of terms.flat()) {
            leftUnits.fill(0);
            rightUnits.fill(0);
          }
        } else if (terms.length === 1) quantizeTerm(terms[0] as TermFactor[], spec.clippingNorm, bits);
        else quantizePerson(terms, spec.clippingNorm, bits);
      }
      for (const l of used) {
        const { layer, left, right } = rows[l] as UnitRows;
        const [m, n, k] = [leftWidth(layer), layer.outputs, records.length];
        const c = layer.group === 'head' ? headSum : (sums[0] as Float64Array);
        // The row of ones behind the inputs makes the biases behind the weights.
        product({ m, n, k, a: left, aAt: 0, ai: 1, al: m, b: right, bAt: 0, c, cAt: layer.kernel });
      }
    }
    for (const slot of slots) {
      const sum = sums[1 + slot] as Float64Array;
      for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (headSum[i] as number);
    }
  }
  for (const { left, right } of rows) {
    left.fill(0);
    right.fill(0);
  }
  headSum.fill(0);
  return encodeFloatSum(crypto, spec, bits, sums, rounding);
}
