// Product of matrices of doubles in the memory of the module: c[i, j] += sum over l of a[i, l] b[l, j], added for l = 0, 1, 2, ...
// one after the other, whatever the tile: the same sums, hence the same bits, as the plain twin in matrix-plain.ts. `b` and `c`
// have their columns side by side; `a` may be stored either way, which makes one loop do for a layer, its weight gradient and
// the way back. Strides and addresses are in bytes. Compiled by scripts/build-kernels.ts.

// One or two rows of c by eight columns, or by two: the running sums stay in registers.
// @ts-ignore: decorator
@inline function tile(
  k: usize, a: usize, ai: usize, al: usize, b: usize, bl: usize, c: usize, ci: usize, both: bool, wide: bool,
): void {
  const d = both ? c + ci : c;
  const next = both ? ai : 0;
  let s0 = v128.load(c);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  let t0 = v128.load(d);
  let t1 = t0;
  let t2 = t0;
  let t3 = t0;
  if (wide) {
    s1 = v128.load(c, 16);
    s2 = v128.load(c, 32);
    s3 = v128.load(c, 48);
    if (both) {
      t1 = v128.load(d, 16);
      t2 = v128.load(d, 32);
      t3 = v128.load(d, 48);
    }
  }
  for (const end = a + k * al; a < end; a += al, b += bl) {
    const x = v128.load_splat<f64>(a);
    const y = v128.load_splat<f64>(a + next);
    const b0 = v128.load(b);
    s0 = f64x2.add(s0, f64x2.mul(x, b0));
    if (both) t0 = f64x2.add(t0, f64x2.mul(y, b0));
    if (wide) {
      const b1 = v128.load(b, 16);
      const b2 = v128.load(b, 32);
      const b3 = v128.load(b, 48);
      s1 = f64x2.add(s1, f64x2.mul(x, b1));
      s2 = f64x2.add(s2, f64x2.mul(x, b2));
      s3 = f64x2.add(s3, f64x2.mul(x, b3));
      if (both) {
        t1 = f64x2.add(t1, f64x2.mul(y, b1));
        t2 = f64x2.add(t2, f64x2.mul(y, b2));
        t3 = f64x2.add(t3, f64x2.mul(y, b3));
      }
    }
  }
  v128.store(c, s0);
  if (wide) {
    v128.store(c, s1, 16);
    v128.store(c, s2, 32);
    v128.store(c, s3, 48);
  }
  if (both) {
    v128.store(d, t0);
    if (wide) {
      v128.store(d, t1, 16);
      v128.store(d, t2, 32);
      v128.store(d, t3, 48);
    }
  }
}

// All rows of `c` in eight columns, or in two.
// @ts-ignore: decorator
@inline function columns(
  m: usize, k: usize, a: usize, ai: usize, al: usize, b: usize, bl: usize, c: usize, ci: usize, wide: bool,
): void {
  let i: usize = 0;
  for (; i + 2 <= m; i += 2) tile(k, a + i * ai, ai, al, b, bl, c + i * ci, ci, true, wide);
  if (i < m) tile(k, a + i * ai, ai, al, b, bl, c + i * ci, ci, false, wide);
}

export function product(
  m: usize, n: usize, k: usize, a: usize, ai: usize, al: usize, b: usize, bl: usize, c: usize, ci: usize,
): void {
  let j: usize = 0;
  for (; j + 8 <= n; j += 8) columns(m, k, a, ai, al, b + 8 * j, bl, c + 8 * j, ci, true);
  for (; j + 2 <= n; j += 2) columns(m, k, a, ai, al, b + 8 * j, bl, c + 8 * j, ci, false);
  if (j == n) return;
  for (let i: usize = 0; i < m; i++) {
    const to = c + i * ci + 8 * j;
    let sum = load<f64>(to);
    let at = a + i * ai;
    for (let l: usize = 0, from = b + 8 * j; l < k; l++, at += al, from += bl) sum += load<f64>(at) * load<f64>(from);
    store<f64>(to, sum);
  }
}
