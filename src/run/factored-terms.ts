import type { CryptoProvider, KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { product } from '../learning/kernels/matrix.ts';
import type { FactoredLayer, FactorRows, GradientFactors, GradientOracle, WrittenLayer } from '../learning/oracle.ts';
import type { EncodingSpec } from '../privacy/encode.ts';
import {
  encodeFloatSum,
  quantizePerson,
  quantizeTerm,
  type TermFactor,
  termBits,
  type WrittenTerm,
} from '../privacy/float-terms.ts';
import type { RunConfig } from './config.ts';
import type { RecordInputs, TermPlan } from './term-plan.ts';
import { chunksOf, passAll } from './unit-pass.ts';

/*
 * Unit `record`, terms `float-bounded`: the clipped gradients of a pass are summed by one product of matrices for a dense layer, and
 * one after the other where they are written out.
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

/** The slots that a head goes to, and what it is multiplied with there. */
interface Places {
  readonly slots: readonly number[];
  readonly weight: number;
}

const placesOf = (
  { group }: { readonly group: 'body' | 'head' },
  { slots, weight }: Places,
): { readonly copies: number; readonly weight: number } =>
  group === 'head' ? { copies: slots.length, weight } : { copies: 1, weight: 1 };

const leftWidth = ({ hasBias, inputs }: FactoredLayer): number => inputs + (hasBias ? 1 : 0);

function factorsOfRow(
  used: readonly number[],
  rows: readonly UnitRows[],
  pass: Pick<FactorRows, 'inputs' | 'errors'>,
  row: number,
  places: Places,
): TermFactor[] {
  return used.map((l) => {
    const { layer, left, right } = rows[l] as UnitRows;
    const [n, width, m] = [layer.inputs, leftWidth(layer), layer.outputs];
    return {
      left: (pass.inputs[l] as Float64Array).subarray(row * n, (row + 1) * n),
      right: (pass.errors[l] as Float64Array).subarray(row * m, (row + 1) * m),
      hasBias: layer.hasBias,
      ...placesOf(layer, places),
      leftUnits: left.subarray(row * width, (row + 1) * width),
      rightUnits: right.subarray(row * m, (row + 1) * m),
    };
  });
}

/** Room for the gradient of one unit by the layers that are written out. */
interface WrittenRows {
  readonly layer: WrittenLayer;
  readonly index: number;
  readonly values: Float64Array;
  readonly units: Float64Array;
}

const isUsed = (group: 'body' | 'head', { slots }: Places): boolean =>
  // Without an open slot the head is not sent, and no part of the norm.
  group === 'body' || slots.length > 0;

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
  const { layers, mostRecords, written } = factors;
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
  const writtenRows = written.map(
    (layer, index): WrittenRows => ({
      layer,
      index,
      values: new Float64Array(layer.length),
      units: new Float64Array(layer.length),
    }),
  );
  const headSum = new Float64Array(oracle.manifest.headLength);
  const sumOf = (group: 'body' | 'head'): Float64Array => (group === 'head' ? headSum : (sums[0] as Float64Array));
  for (const group of plan.groups) {
    const { head, slots, units } = group;
    const used = layers.flatMap((layer, l) => (isUsed(layer.group, group) ? [l] : []));
    const usedRows = writtenRows.filter(({ layer }) => isUsed(layer.group, group));
    const writtenTerms = usedRows.map(
      ({ layer, units, values }): WrittenTerm => ({ units, values, ...placesOf(layer, group) }),
    );
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
        if (own.length === 0) continue;
        if (plan.isLeftOut(unit, loss)) {
          for (const { leftUnits, rightUnits } of terms.flat()) {
            leftUnits.fill(0);
            rightUnits.fill(0);
          }
          continue;
        }
        for (const { index, values } of usedRows) given.sumWritten(index, own, values);
        if (terms.length === 1) quantizeTerm(terms[0] as TermFactor[], spec.clippingNorm, bits, writtenTerms);
        else quantizePerson(terms, spec.clippingNorm, bits, writtenTerms);
        for (const { layer, units: cut } of usedRows) {
          const sum = sumOf(layer.group);
          for (let i = 0, at = layer.offset; i < cut.length; i++, at++)
            sum[at] = (sum[at] as number) + (cut[i] as number);
        }
      }
      for (const l of used) {
        const { layer, left, right } = rows[l] as UnitRows;
        const [m, n, k] = [leftWidth(layer), layer.outputs, records.length];
        const c = sumOf(layer.group);
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
  for (const { units, values } of writtenRows) {
    units.fill(0);
    values.fill(0);
  }
  headSum.fill(0);
  return encodeFloatSum(crypto, spec, bits, sums, rounding);
}
