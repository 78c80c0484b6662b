import { CoveyError } from '../../protocol/errors.ts';
import { type Dataset, type SplitData, selectRecords } from './dataset.ts';
import { drawDirichlet } from './draws.ts';
import type { DataRandom } from './random.ts';

/** Records of one participant as places in a shared data set. */
export interface IndexSplit {
  readonly train: Uint32Array;
  readonly test: Uint32Array;
}

/**
 * Cuts records in random order into floor(share n) training records, at least one, and the rest.
 * @throws CoveyError USAGE_RANGE for a share outside (0, 1) or fewer than two records.
 */
export function splitTrainTest(random: DataRandom, records: Uint32Array, trainShare: number): IndexSplit {
  if (!(trainShare > 0 && trainShare < 1))
    throw new CoveyError('USAGE_RANGE', `"trainShare" expected a number in (0, 1), got ${trainShare}`);
  if (records.length < 2)
    throw new CoveyError('USAGE_RANGE', `"records" expected at least 2 to split, got ${records.length}`);
  const order = Uint32Array.from(records);
  random.shuffle(order);
  const cut = Math.max(1, Math.floor(trainShare * order.length));
  return { train: order.slice(0, cut), test: order.slice(cut) };
}

/** The places of every class, each in random order. */
function placesByClass(random: DataRandom, labels: Uint8Array, classes: number): Uint32Array[] {
  const byLabel = new Map(splitByOwner(labels).map(({ owner, records }) => [owner, records]));
  return Array.from({ length: classes }, (_, label) => {
    const places = byLabel.get(label) ?? new Uint32Array(0);
    random.shuffle(places);
    return places;
  });
}

/** Draws a class by its share among the classes that have records left. Shapes: a share and a count for each class. */
export function drawClass(random: DataRandom, shares: Float64Array, left: readonly number[]): number {
  let total = 0;
  for (let c = 0; c < shares.length; c++) if ((left[c] as number) > 0) total += shares[c] as number;
  let point = random.uniform(0, 1) * total;
  let last = -1;
  for (let c = 0; c < shares.length; c++) {
    if (!((left[c] as number) > 0)) continue;
    last = c;
    point -= shares[c] as number;
    if (point < 0) return c;
  }
  // Rounding, or only classes of share 0 are left: the last class that has records.
  return last;
}

/**
 * Splits records by label: every participant draws class shares q ~ Dirichlet(alpha p), p the shares of the whole set,
 * then the same number of records by those shares without replacement; a class that is used up drops out of q.
 * alpha toward infinity gives equal participants, toward 0 one class each.
 * Shapes: floor(records / participants) places each. @see Hsu, Qi, Brown 2019, section 3
 * @throws CoveyError USAGE_RANGE for alpha <= 0 or more participants than records.
 */
export function splitByDirichlet(
  random: DataRandom,
  labels: Uint8Array,
  classes: number,
  participants: number,
  alpha: number,
): Uint32Array[] {
  if (!(alpha > 0 && alpha < 1e6))
    throw new CoveyError('USAGE_RANGE', `"alpha" expected a number in (0, 1e6), got ${alpha}`);
  if (!Number.isInteger(participants) || participants < 1 || participants > labels.length)
    throw new CoveyError('USAGE_RANGE', `"participants" expected 1 to ${labels.length}, got ${participants}`);
  const places = placesByClass(random, labels, classes);
  const left = places.map((of) => of.length);
  const prior = left.map((n) => n / labels.length);
  const each = Math.floor(labels.length / participants);
  return Array.from({ length: participants }, () => {
    const shares = drawDirichlet(
      random,
      prior.map((p) => alpha * p),
    );
    return Uint32Array.from({ length: each }, () => {
      const label = drawClass(random, shares, left);
      const rest = (left[label] as number) - 1;
      left[label] = rest;
      return (places[label] as Uint32Array)[rest] as number;
    });
  });
}

/**
 * Splits any data set by label over participants (see `splitByDirichlet`) and each part into training and test records.
 * @throws CoveyError USAGE_RANGE for alpha <= 0, a share outside (0, 1) or fewer than two records a participant.
 */
export function splitDatasetByDirichlet(
  random: DataRandom,
  data: Dataset,
  participants: number,
  { alpha, trainShare }: { readonly alpha: number; readonly trainShare: number },
): SplitData[] {
  return splitByDirichlet(random, data.labels, data.classes, participants, alpha).map((records) => {
    const { train, test } = splitTrainTest(random, records, trainShare);
    return { train: selectRecords(data, train), test: selectRecords(data, test) };
  });
}

/**
 * Splits records by published counts: which records of a class go where is drawn, how many is given.
 * Shapes: `counts` participants x classes.
 * @throws CoveyError USAGE_RANGE if more records of a class are asked for than there are.
 */
export function splitByCounts(
  random: DataRandom,
  labels: Uint8Array,
  classes: number,
  counts: readonly Uint32Array[],
): Uint32Array[] {
  const places = placesByClass(random, labels, classes);
  const used = new Uint32Array(classes);
  return counts.map((row) => {
    const own: number[] = [];
    row.forEach((count, label) => {
      const of = places[label] ?? new Uint32Array(0);
      const start = used[label] ?? 0;
      if (start + count > of.length)
        throw new CoveyError('USAGE_RANGE', `"counts" expected at most ${of.length} of class ${label}`);
      for (const place of of.subarray(start, start + count)) own.push(place);
      used[label] = start + count;
    });
    return Uint32Array.from(own);
  });
}

/** Places of the records of every owner, owners in rising order of their number. */
export function splitByOwner(owners: ArrayLike<number>): { readonly owner: number; readonly records: Uint32Array }[] {
  const places = new Map<number, number[]>();
  for (let i = 0; i < owners.length; i++) {
    const owner = owners[i] as number;
    const own = places.get(owner);
    if (own === undefined) places.set(owner, [i]);
    else own.push(i);
  }
  return [...places]
    .sort(([a], [b]) => a - b)
    .map(([owner, records]) => ({ owner, records: Uint32Array.from(records) }));
}
