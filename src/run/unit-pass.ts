import type { Dataset, RecordUnits } from '../data/dataset.ts';
import type { FactorRows, GradientFactors, Model } from '../learning/oracle.ts';

/** Units one after the other, as many as have no more records than a pass; one that has more comes alone. */
export function* chunksOf(
  units: readonly number[],
  records: RecordUnits,
  mostRecords: number,
): Generator<readonly number[]> {
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

/** A pass over the records of some units, or of one that has more of them than a pass takes. */
interface UnitPass extends Omit<FactorRows, 'write'> {
  /** Overwrites `target` with the sum of a written layer over all records of one unit, by their rows. */
  sumWritten(layer: number, unit: readonly number[], target: Float64Array): void;
}

/** Adds the rows `first` to `end` - 1 of a written layer to `target`. */
function addWritten(rows: FactorRows, layer: number, first: number, end: number, target: Float64Array): void {
  if (first >= end) return;
  const own = new Float64Array(target.length);
  for (let row = first; row < end; row++) {
    rows.write(layer, row, own);
    for (let i = 0; i < target.length; i++) target[i] = (target[i] as number) + (own[i] as number);
  }
  own.fill(0);
}

/** Passes over the records of a chunk. */
export function passAll(
  { layers, mostRecords, pass, written }: GradientFactors,
  model: Model,
  data: Dataset,
  records: Uint32Array,
): UnitPass {
  if (records.length <= mostRecords) {
    const given = pass(model.body, model.head, data, records);
    return {
      ...given,
      sumWritten(layer, [first = 0, ...others], target) {
        given.write(layer, first, target);
        addWritten(given, layer, first + 1, first + 1 + others.length, target);
      },
    };
  }
  const inputs = layers.map((layer) => new Float64Array(records.length * layer.inputs));
  const errors = layers.map((layer) => new Float64Array(records.length * layer.outputs));
  const sums = written.map(({ length }) => new Float64Array(length));
  const losses = new Float64Array(records.length);
  for (let start = 0; start < records.length; start += mostRecords) {
    const part = records.subarray(start, start + mostRecords);
    const given = pass(model.body, model.head, data, part);
    layers.forEach(({ inputs: n, outputs: m }, l) => {
      inputs[l]?.set((given.inputs[l] as Float64Array).subarray(0, part.length * n), start * n);
      errors[l]?.set((given.errors[l] as Float64Array).subarray(0, part.length * m), start * m);
    });
    sums.forEach((sum, l) => {
      addWritten(given, l, 0, part.length, sum);
    });
    losses.set(given.losses, start);
  }
  // So many records are those of one unit.
  return { inputs, errors, losses, sumWritten: (l, _unit, target) => target.set(sums[l] as Float64Array) };
}
