import type { Dataset, RecordUnits } from '../data/dataset.ts';
import type { GradientOracle, Model } from './oracle.ts';

/**
 * The gradient that one unit of privacy adds to a sum before its clip: of one record, or summed over the records of a person.
 * It depends on that unit's records alone, as does the summed loss that is returned. Overwrites `term`; values that are not finite stay so, and the encoder drops them.
 */
export function unitGradient(
  oracle: GradientOracle,
  data: Dataset,
  term: Model,
): (body: Float64Array, head: Float64Array, records: readonly number[]) => number {
  const one: Model = { body: new Float64Array(term.body.length), head: new Float64Array(term.head.length) };
  return (body, head, records) => {
    const [first, ...others] = records;
    if (first === undefined) {
      term.body.fill(0);
      term.head.fill(0);
      return 0;
    }
    let loss = oracle.perRecordGradient(body, head, data, first, term.body, term.head);
    for (const record of others) {
      loss += oracle.perRecordGradient(body, head, data, record, one.body, one.head);
      for (let i = 0; i < term.body.length; i++) term.body[i] = (term.body[i] as number) + (one.body[i] as number);
      for (let i = 0; i < term.head.length; i++) term.head[i] = (term.head[i] as number) + (one.head[i] as number);
    }
    return loss;
  };
}

/** Losses summed over the records of each unit. Shapes: one value for each unit. */
export function lossesOfUnits(losses: Float64Array, units: RecordUnits): Float64Array {
  return Float64Array.from(units, (records) => records.reduce((sum, record) => sum + (losses[record] as number), 0));
}
