// Product of matrices of doubles in the memory of the module: c[i, j] += sum over l of a[i, l] b[l, j], added for l = 0, 1, 2, ...
// one after the other, whatever the tile: the same sums, hence the same bits, as the plain twin in matrix-plain.ts. `b` and `c`
// have their columns side by side; `a` may be stored either way, which makes one loop do for a layer, its weight gradient and
// the way back. Strides and addresses are in bytes. Where most of `a` is zero (pixels), its other entries are listed once for each
// pair of rows: adding 0 * b changes no bit of a sum that is not -0 if b is finite. Compiled by scripts/build-kernels.ts.

// An entry of a list: offset of the row of b, then the entries of both rows of a.
const ENTRY: usize = 24;

// One or two rows of c by eight columns, or by two: the running sums stay in registers. `listed`: `a` is a list of k entries.
// @ts-ignore: decorator
@inline function tile(
  k: usize, a: usize, ai: usize, al: usize, b: usize, bl: usize, c: usize, ci: usize, both: bool, wide: bool,
  listed: bool,
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
  const top = b;
  for (const end = a + k * (listed ? ENTRY : al); a < end; a += listed ? ENTRY : al) {
    const x = v128.load_splat<f64>(listed ? a + 8 : a);
    const y = v128.load_splat<f64>(listed ? a + 16 : a + next);
    if (listed) b = top + load<u32>(a);
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
    if (!listed) b += bl;
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
  for (; i + 2 <= m; i += 2) tile(k, a + i * ai, ai, al, b, bl, c + i * ci, ci, true, wide, false);
  if (i < m) tile(k, a + i * ai, ai, al, b, bl, c + i * ci, ci, false, wide, false);
}

// The same from lists, `counts` entries for each pair of rows.
// @ts-ignore: decorator
@inline function columnsListed(
  m: usize, counts: usize, entries: usize, b: usize, c: usize, ci: usize, wide: bool,
): void {
  let i: usize = 0;
  for (; i + 2 <= m; i += 2, counts += 4) {
    const k: usize = load<u32>(counts);
    tile(k, entries, 0, 0, b, 0, c + i * ci, ci, true, wide, true);
    entries += k * ENTRY;
  }
  if (i < m) tile(load<u32>(counts), entries, 0, 0, b, 0, c + i * ci, ci, false, wide, true);
}

// The last column of an odd number of them.
// @ts-ignore: decorator
@inline function lastColumn(
  m: usize, k: usize, a: usize, ai: usize, al: usize, b: usize, bl: usize, c: usize, ci: usize,
): void {
  for (let i: usize = 0; i < m; i++) {
    const to = c + i * ci;
    let sum = load<f64>(to);
    let at = a + i * ai;
    for (let l: usize = 0, from = b; l < k; l++, at += al, from += bl) sum += load<f64>(at) * load<f64>(from);
    store<f64>(to, sum);
  }
}

// Lists what is not zero, for each pair of rows; returns the entries of all lists together.
export function list(
  m: usize, k: usize, a: usize, ai: usize, al: usize, bl: usize, counts: usize, entries: usize,
): usize {
  let to = entries;
  for (let i: usize = 0; i < m; i += 2, counts += 4) {
    const next = i + 1 < m ? ai : 0;
    const start = to;
    let at = a + i * ai;
    for (let l: usize = 0; l < k; l++, at += al) {
      const x = load<f64>(at);
      const y = load<f64>(at + next);
      // Written in any case and kept or not: strokes are no pattern that a branch could be guessed by.
      store<u32>(to, <u32>(l * bl));
      store<f64>(to, x, 8);
      store<f64>(to, y, 16);
      to += ENTRY * <usize>(x != 0) | ENTRY * <usize>(y != 0);
    }
    store<u32>(counts, <u32>((to - start) / ENTRY));
  }
  return (to - entries) / ENTRY;
}

// 1 if zeros may be left out: nothing of b is infinite or no number, nothing of c is -0. Lengths in doubles.
export function mayLeaveOut(b: usize, bLength: usize, c: usize, cLength: usize): bool {
  let finite: f64 = 0;
  let sums = f64x2.splat(0);
  const zero = f64x2.splat(0);
  let i: usize = 0;
  for (; i + 2 <= bLength; i += 2) sums = f64x2.add(sums, f64x2.mul(v128.load(b + 8 * i), zero));
  if (i < bLength) finite += load<f64>(b + 8 * i) * 0;
  finite += f64x2.extract_lane(sums, 0) + f64x2.extract_lane(sums, 1);
  if (finite != 0) return false;
  const negative = i64x2.splat(i64.MIN_VALUE);
  let found = i64x2.splat(0);
  for (i = 0; i + 2 <= cLength; i += 2) found = v128.or(found, i64x2.eq(v128.load(c + 8 * i), negative));
  if (i < cLength && load<i64>(c + 8 * i) == i64.MIN_VALUE) return false;
  return !v128.any_true(found);
}

export function productListed(
  m: usize, n: usize, k: usize, a: usize, ai: usize, al: usize, b: usize, bl: usize, c: usize, ci: usize,
  counts: usize, entries: usize,
): void {
  let j: usize = 0;
  for (; j + 8 <= n; j += 8) columnsListed(m, counts, entries, b + 8 * j, c + 8 * j, ci, true);
  for (; j + 2 <= n; j += 2) columnsListed(m, counts, entries, b + 8 * j, c + 8 * j, ci, false);
  if (j < n) lastColumn(m, k, a, ai, al, b + 8 * j, bl, c + 8 * j, ci);
}

export function product(
  m: usize, n: usize, k: usize, a: usize, ai: usize, al: usize, b: usize, bl: usize, c: usize, ci: usize,
): void {
  let j: usize = 0;
  for (; j + 8 <= n; j += 8) columns(m, k, a, ai, al, b + 8 * j, bl, c + 8 * j, ci, true);
  for (; j + 2 <= n; j += 2) columns(m, k, a, ai, al, b + 8 * j, bl, c + 8 * j, ci, false);
  if (j < n) lastColumn(m, k, a, ai, al, b + 8 * j, bl, c + 8 * j, ci);
}
