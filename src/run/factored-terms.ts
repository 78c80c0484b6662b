import type { CryptoProvider, KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { product } from '../learning/kernels/matrix.ts';
import type { FactoredLayer, FactorRows, GradientFactors, GradientOracle } from '../learning/oracle.ts';
import type { EncodingSpec } from '../privacy/encode.ts';
import { encodeFloatSum, quantizeTerm, type TermFactor, termBits } from '../privacy/float-terms.ts';
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

/** Integers of a pass, row after row. */
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

/**
 * Sum of the clipped gradients of the drawn records, encoded. Random: `rounding`, of this contribution alone.
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
  const { layers, mostRecords, pass } = requireFactors(oracle);
  const { maxRecordsPerStep } = config.training;
  // Whatever is drawn of them, the sum is exact.
  if (data.count > maxRecordsPerStep)
    throw new CoveyError('USAGE_CONFIG', `"data" expected at most ${maxRecordsPerStep} records, got ${data.count}`);
  const bits = termBits(longestBlock(spec), maxRecordsPerStep);
  const sums = spec.blocks.map(({ realLength }) => new Float64Array(realLength));
  const rows = layers.map(
    (layer): UnitRows => ({
      layer,
      left: new Float64Array(mostRecords * leftWidth(layer)),
      right: new Float64Array(mostRecords * layer.outputs),
    }),
  );
  const headSum = new Float64Array(oracle.manifest.headLength);
  for (const group of plan.groups) {
    const { head, slots, units } = group;
    // Without an open slot the head is not sent, and no part of the norm.
    const used = layers.flatMap((layer, l) => (layer.group === 'body' || slots.length > 0 ? [l] : []));
    headSum.fill(0);
    for (let start = 0; start < units.length; start += mostRecords) {
      const drawn = units.slice(start, start + mostRecords);
      const records = Uint32Array.from(drawn, (unit) => plan.units[unit]?.[0] ?? 0);
      const given = pass(plan.body, head, data, records);
      drawn.forEach((unit, row) => {
        const term = factorsOfRow(used, rows, given, row, group);
        if (plan.isLeftOut(unit, given.losses[row] as number))
          for (const { leftUnits, rightUnits } of term) {
            leftUnits.fill(0);
            rightUnits.fill(0);
          }
        else quantizeTerm(term, spec.clippingNorm, bits);
      });
      for (const l of used) {
        const { layer, left, right } = rows[l] as UnitRows;
        const [m, n, k] = [leftWidth(layer), layer.outputs, drawn.length];
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
