import type { TermFactor } from './float-terms.ts';

/*
 * Squared norm of the summed gradient of some records, given as factors: by the dot products of all pairs of records, or by the
 * sum itself where records are many, so that the time that a person takes grows with its records and not with their square.
 */

type Rows = readonly (readonly TermFactor[])[];

/** Layer l of every row. */
const layerOf = (rows: Rows, l: number): TermFactor[] => rows.map((row) => row[l] as TermFactor);

/** Whether the sum of `count` outer products takes fewer multiplications than the dot products of all their pairs. */
const isLong = (count: number, n: number, m: number): boolean => (count + 1) * (n + m) > 2 * n * m;

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}

/** Adds the outer product of `left`, from row `at` on, and `right`. */
function addOuter(sum: Float64Array, left: Float64Array, right: Float64Array, at = 0): void {
  const m = right.length;
  for (let i = 0; i < left.length; i++) {
    const a = left[i] as number;
    const to = (at + i) * m;
    for (let j = 0; j < m; j++) sum[to + j] = (sum[to + j] as number) + a * (right[j] as number);
  }
}

const ONE = Float64Array.of(1);

/** Squared norm of a layer of the summed gradient without copies and weight, in doubles. */
function layerNorm(layer: readonly TermFactor[], { hasBias, left: { length: n }, right: { length: m } }: TermFactor) {
  if (isLong(layer.length, n, m)) {
    const sum = new Float64Array((n + (hasBias ? 1 : 0)) * m);
    for (const { left, right } of layer) {
      addOuter(sum, left, right);
      if (hasBias) addOuter(sum, ONE, right, n);
    }
    const squares = dot(sum, sum);
    sum.fill(0);
    return squares;
  }
  let squares = 0;
  layer.forEach((one, r) => {
    for (let s = 0; s <= r; s++) {
      const other = layer[s] as TermFactor;
      const pair = (dot(one.left, other.left) + (hasBias ? 1 : 0)) * dot(one.right, other.right);
      squares += (s < r ? 2 : 1) * pair;
    }
  });
  return squares;
}

/** Squared norm of the summed gradient of some records, in doubles; may come out below zero where they cancel. */
export function gramNorm(rows: Rows): number {
  let squares = 0;
  rows[0]?.forEach((first, l) => {
    squares += first.copies * first.weight * first.weight * layerNorm(layerOf(rows, l), first);
  });
  return squares;
}

/**
 * Exact squared norm of the summed integers. Each dot product of a pair is at most 2^52 by their norms, or each coordinate of the
 * sum at most `count` 2^T: the records are checked one by one before their sum.
 * Units: `bits` T, for which no record's P Q^T is longer than 2^T.
 */
export function exactGramNorm(rows: Rows, bits: number): bigint {
  let squares = 0n;
  rows[0]?.forEach(({ copies, leftUnits: { length: n }, rightUnits: { length: m } }, l) => {
    const layer = layerOf(rows, l);
    let own = 0n;
    if (rows.length * 2 ** bits <= 2 ** 53 && isLong(rows.length, n, m)) {
      const sum = new Float64Array(n * m);
      for (const { leftUnits, rightUnits } of layer) addOuter(sum, leftUnits, rightUnits);
      for (const value of sum) if (value !== 0) own += BigInt(value) ** 2n;
      sum.fill(0);
    } else
      layer.forEach((one, r) => {
        for (let s = 0; s <= r; s++) {
          const other = layer[s] as TermFactor;
          const pair = BigInt(dot(one.leftUnits, other.leftUnits)) * BigInt(dot(one.rightUnits, other.rightUnits));
          own += (s < r ? 2n : 1n) * pair;
        }
      });
    squares += BigInt(copies) * own;
  });
  return squares;
}
