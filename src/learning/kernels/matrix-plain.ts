/**
 * `c[i, j] += sum over l of a[i, l] b[l, j]` for `m` rows, `n` columns and `k` terms. `b` and `c` are rows-first; element
 * `(i, l)` of `a` is at `aAt + i * ai + l * al`; `a` is dense, stored by rows (`al` 1) or by columns (`ai` 1). Terms are added for l = 0, 1, 2, ... one after the other.
 */
export interface MatrixProduct {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: Float64Array;
  readonly aAt: number;
  readonly ai: number;
  readonly al: number;
  readonly b: Float64Array;
  readonly bAt: number;
  readonly c: Float64Array;
  readonly cAt: number;
}

/** Plain twin of the kernel: blocks of 4 x 2 sums keep eight running sums in registers. */
export function productPlain({ m, n, k, a, aAt, ai, al, b, bAt, c, cAt }: MatrixProduct): void {
  let i = 0;
  for (; i + 4 <= m; i += 4) {
    const row = aAt + i * ai;
    let j = 0;
    for (; j + 2 <= n; j += 2) {
      const o = cAt + i * n + j;
      let s00 = c[o] as number;
      let s01 = c[o + 1] as number;
      let s10 = c[o + n] as number;
      let s11 = c[o + n + 1] as number;
      let s20 = c[o + 2 * n] as number;
      let s21 = c[o + 2 * n + 1] as number;
      let s30 = c[o + 3 * n] as number;
      let s31 = c[o + 3 * n + 1] as number;
      for (let l = 0, p = row, q = bAt + j; l < k; l++, p += al, q += n) {
        const b0 = b[q] as number;
        const b1 = b[q + 1] as number;
        const a0 = a[p] as number;
        s00 += a0 * b0;
        s01 += a0 * b1;
        const a1 = a[p + ai] as number;
        s10 += a1 * b0;
        s11 += a1 * b1;
        const a2 = a[p + 2 * ai] as number;
        s20 += a2 * b0;
        s21 += a2 * b1;
        const a3 = a[p + 3 * ai] as number;
        s30 += a3 * b0;
        s31 += a3 * b1;
      }
      c[o] = s00;
      c[o + 1] = s01;
      c[o + n] = s10;
      c[o + n + 1] = s11;
      c[o + 2 * n] = s20;
      c[o + 2 * n + 1] = s21;
      c[o + 3 * n] = s30;
      c[o + 3 * n + 1] = s31;
    }
    for (; j < n; j++)
      for (let r = 0; r < 4; r++) c[cAt + (i + r) * n + j] = sumOf(c[cAt + (i + r) * n + j] as number, row + r * ai, j);
  }
  for (; i < m; i++)
    for (let j = 0; j < n; j++) c[cAt + i * n + j] = sumOf(c[cAt + i * n + j] as number, aAt + i * ai, j);

  function sumOf(start: number, row: number, j: number): number {
    let sum = start;
    for (let l = 0, p = row, q = bAt + j; l < k; l++, p += al, q += n) sum += (a[p] as number) * (b[q] as number);
    return sum;
  }
}
