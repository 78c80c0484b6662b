import type { Dataset, RecordUnits } from '../data/dataset.ts';
import type { GradientOracle, Model } from './oracle.ts';

/** Overwrites `gradient` with that of one record after the other and calls `visit` for each, many records a pass if it can. */
function eachRecord(
  oracle: GradientOracle,
  { body, head }: Model,
  data: Dataset,
  records: Uint32Array,
  gradient: Model,
  visit: (index: number, loss: number) => void,
): void {
  if (oracle.recordGradients !== undefined)
    oracle.recordGradients(body, head, data, records, gradient.body, gradient.head, visit);
  else
    records.forEach((record, i) => {
      visit(i, oracle.perRecordGradient(body, head, data, record, gradient.body, gradient.head));
    });
}

function add(sum: Float64Array, values: Float64Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (values[i] as number);
}

/**
 * The gradients that units of privacy add to a sum before their clip: of one record, or summed over the records of a person.
 * Calls `visit` for one unit after the other, in their order, with its place and its summed loss, and its gradient in `term`:
 * both depend on that unit's records alone. Values that are not finite stay so, and the encoder drops them.
 */
export function eachUnitGradient(
  oracle: GradientOracle,
  data: Dataset,
  model: Model,
  units: RecordUnits,
  term: Model,
  visit: (index: number, loss: number) => void,
): void {
  const isSummed = units.some(({ length }) => length > 1);
  const gradient = isSummed
    ? { body: new Float64Array(term.body.length), head: new Float64Array(term.head.length) }
    : term;
  const records = Uint32Array.from(units.flat());
  let [at, done, loss] = [0, 0, 0];
  /** Hands out units that are complete, those without records included. */
  const finish = (): void => {
    for (; at < units.length && units[at]?.length === done; at++, [done, loss] = [0, 0]) {
      if (done === 0) for (const values of [term.body, term.head]) values.fill(0);
      visit(at, loss);
    }
  };
  finish();
  eachRecord(oracle, model, data, records, gradient, (_i, own) => {
    loss += own;
    if (isSummed && done === 0) {
      term.body.set(gradient.body);
      term.head.set(gradient.head);
    } else if (isSummed) {
      add(term.body, gradient.body);
      add(term.head, gradient.head);
    }
    done++;
    finish();
  });
}

/** Losses summed over the records of each unit. Shapes: one value for each unit. */
export function lossesOfUnits(losses: Float64Array, units: RecordUnits): Float64Array {
  return Float64Array.from(units, (records) => records.reduce((sum, record) => sum + (losses[record] as number), 0));
}
