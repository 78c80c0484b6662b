import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { createRandom } from '../src/data/random.ts';
import { product, productSimd } from '../src/learning/kernels/matrix.ts';
import { type MatrixProduct, productPlain } from '../src/learning/kernels/matrix-plain.ts';
import { MATRIX_WASM, MATRIX_WASM_SHA256 } from '../src/learning/kernels/matrix-wasm.ts';

/** The definition, term after term. */
function definition({ m, n, k, a, aAt, ai, al, b, bAt, c, cAt }: MatrixProduct): void {
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) {
      let sum = c[cAt + i * n + j] as number;
      for (let l = 0; l < k; l++) sum += (a[aAt + i * ai + l * al] as number) * (b[bAt + l * n + j] as number);
      c[cAt + i * n + j] = sum;
    }
}

const random = createRandom(11);
const filled = (length: number): Float64Array => Float64Array.from({ length }, () => random.uniform(-1, 1));

function task(m: number, n: number, k: number, byColumns: boolean): MatrixProduct {
  const [ai, al] = byColumns ? [1, m] : [k, 1];
  const [a, b, c] = [filled(3 + m * k + 2), filled(1 + k * n + 4), filled(5 + m * n + 3)];
  return { m, n, k, a, aAt: 3, ai, al, b, bAt: 1, c, cAt: 5 };
}

function result(run: (given: MatrixProduct) => unknown, given: MatrixProduct): Float64Array {
  const c = given.c.slice();
  expect(run({ ...given, c })).not.toBe(false);
  return c;
}

const SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 16, 17, 23];

it('adds the terms in their order in every shape, with SIMD and without', () => {
  for (const m of SIZES)
    for (const n of SIZES)
      for (const k of [1, 2, 3, 19])
        for (const byColumns of [false, true]) {
          const given = task(m, n, k, byColumns);
          const expected = result(definition, given);
          const name = `${m} x ${n} x ${k}`;
          expect(result(productPlain, given), name).toEqual(expected);
          expect(result(productSimd, given), name).toEqual(expected);
        }
});

it('grows the memory of the kernel and keeps what is not finite', () => {
  const given = task(70, 300, 520, false);
  given.a[100] = Number.NaN;
  given.b[9] = Number.POSITIVE_INFINITY;
  const expected = result(definition, given);
  expect(expected.some(Number.isNaN) && expected.some((value) => Math.abs(value) === Number.POSITIVE_INFINITY)).toBe(
    true,
  );
  expect(result(product, given)).toEqual(expected);
  expect(result(productSimd, given)).toEqual(expected);
});

/** Zeros of both signs in place of most of `a`. */
function thinned(given: MatrixProduct, share: number): MatrixProduct {
  return { ...given, a: given.a.map((value) => (random.uniform(0, 1) < share ? value : random.integer(2) ? 0 : -0)) };
}

/** Tells zeros apart by their sign, which `toEqual` does too, and says so. */
const bits = (values: Float64Array): BigUint64Array => new BigUint64Array(values.slice().buffer);

it('leaves zeros out without changing a bit', () => {
  for (const m of [1, 2, 5, 8])
    for (const n of [16, 17, 19, 26])
      for (const k of [1, 3, 40])
        for (const byColumns of [false, true])
          for (const share of [0, 0.1, 0.4, 0.9]) {
            const given = thinned(task(m, n, k, byColumns), share);
            if (share < 0.2) given.c.fill(0);
            expect(bits(result(productSimd, given)), `${m} x ${n} x ${k}, ${share}`).toEqual(
              bits(result(definition, given)),
            );
          }
});

it.each([
  ['an infinite weight', (given: MatrixProduct) => given.b.fill(Number.NEGATIVE_INFINITY, -5, -4)],
  ['a weight that is no number', (given: MatrixProduct) => given.b.fill(Number.NaN, 1, 2)],
  ['a negative zero to add to', (given: MatrixProduct) => given.c.fill(-0, -4, -3)],
  ['negative zeros to add to', (given: MatrixProduct) => given.c.fill(-0)],
])('keeps zeros beside %s', (_, spoil) => {
  for (const n of [16, 17]) {
    const given = thinned(task(6, n, 9, false), 0.1);
    spoil(given);
    given.a.fill(0, 3, 3 + 54);
    expect(result(productSimd, given)).toEqual(result(definition, given));
  }
});

it('is the module that its hash names', () => {
  expect(createHash('sha256').update(Buffer.from(MATRIX_WASM, 'base64')).digest('hex')).toBe(MATRIX_WASM_SHA256);
});
