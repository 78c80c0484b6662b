import { describe, expect, it } from 'vitest';
import { createRandom } from '../src/data/random.ts';
import { quantizePerson, type TermFactor } from '../src/privacy/float-terms.ts';
import { exactGramNorm, gramNorm } from '../src/privacy/gram-norm.ts';

const random = createRandom(8);
const values = (length: number, size = 1): Float64Array =>
  Float64Array.from({ length }, () => random.uniform(-1, 1) * size);

function factorOf(inputs: number, outputs: number, hasBias: boolean, copies: number, bits: number): TermFactor {
  const n = inputs + (hasBias ? 1 : 0);
  const whole = (length: number): Float64Array =>
    values(length, 2 ** (bits / 2) / Math.sqrt(length)).map((v) => Math.trunc(v));
  return {
    left: values(inputs),
    right: values(outputs),
    hasBias,
    copies,
    weight: 1 / Math.sqrt(copies),
    leftUnits: whole(n),
    rightUnits: whole(outputs),
  };
}

/** Squared norm of the sum of P Q^T over the records, written out in exact integers. */
function literalUnits(rows: readonly (readonly TermFactor[])[]): bigint {
  let squares = 0n;
  rows[0]?.forEach(({ copies, leftUnits, rightUnits }, l) => {
    for (let i = 0; i < leftUnits.length; i++)
      for (let j = 0; j < rightUnits.length; j++) {
        const sum = rows.reduce(
          (s, row) => s + BigInt(row[l]?.leftUnits[i] ?? 0) * BigInt(row[l]?.rightUnits[j] ?? 0),
          0n,
        );
        squares += BigInt(copies) * sum * sum;
      }
  });
  return squares;
}

/** As above of the gradients themselves, in doubles. */
function literalNorm(rows: readonly (readonly TermFactor[])[]): number {
  let squares = 0;
  rows[0]?.forEach(({ hasBias, left, right }, l) => {
    for (let i = 0; i < left.length + (hasBias ? 1 : 0); i++)
      for (let j = 0; j < right.length; j++) {
        const sum = rows.reduce((s, row) => s + (row[l]?.left[i] ?? 1) * (row[l]?.right[j] ?? 0), 0);
        // Copies times the square of the weight.
        squares += sum * sum;
      }
  });
  return squares;
}

describe('the norm of a sum of outer products', () => {
  it.each([
    [1, 34],
    [3, 34],
    [40, 34],
    [200, 40],
    // So many at so many bits could pass 2^53 as a sum: all pairs, however many.
    [40, 48],
  ])('is exact for integers, and close in doubles, by pairs or by the sum: %d records of %d bits', (count, bits) => {
    const rows = Array.from({ length: count }, () => [
      factorOf(30, 20, true, 1, bits),
      factorOf(5, 1, false, 2, bits),
      factorOf(1, 3, true, 3, bits),
    ]);
    expect(exactGramNorm(rows, bits)).toBe(literalUnits(rows));
    expect(Math.abs(gramNorm(rows) / literalNorm(rows) - 1)).toBeLessThan(1e-9);
  });

  it('is exact where the sum itself would pass 2^53', () => {
    const whole = Float64Array.of(2 ** 24 - 1);
    const rows = Array.from({ length: 41 }, () => [
      { ...factorOf(1, 1, false, 1, 48), leftUnits: whole, rightUnits: whole },
    ]);
    expect(exactGramNorm(rows, 48)).toBe(literalUnits(rows));
  });

  it('is no number where a value of any record is none, and zero without records', () => {
    for (const count of [2, 60])
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const rows = Array.from({ length: count }, () => [factorOf(4, 3, true, 1, 30)]);
        for (const { left } of rows[1] ?? []) left[2] = bad;
        expect(gramNorm(rows) < Number.POSITIVE_INFINITY).toBe(false);
        quantizePerson(rows, 1, 30);
        for (const [factor] of rows) expect(factor?.leftUnits.every((v) => v === 0)).toBe(true);
      }
    expect([gramNorm([]), exactGramNorm([], 30)]).toEqual([0, 0n]);
  });

  it('takes work that grows with the records of a person, not with their square', () => {
    // Reads of the errors: one of each record for each input where the sum is written out, one for each pair otherwise.
    const readsOf = (count: number): number => {
      let reads = 0;
      const rows = Array.from({ length: count }, () => {
        const factor = factorOf(3, 2, false, 1, 20);
        const counted = new Proxy(factor.right, {
          get(target, key) {
            if (key === '0') reads++;
            return Reflect.get(target, key, target);
          },
        });
        return [{ ...factor, right: counted }];
      });
      gramNorm(rows);
      return reads;
    };
    expect(readsOf(400)).toBeLessThanOrEqual(2 * readsOf(200));
  });
});
