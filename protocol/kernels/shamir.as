// Shamir's polynomials on 128-bit vectors, in the memory of the module. A row is 32 bytes: 32 elements of GF(2^8) with
// polynomial 0x11b, or 16 little-endian elements of GF(2^16) with 0x1100b. A product by a public factor m is linear in
// the secret: one table of 16 bytes for each nibble of an element, built from m alone and read by a byte shuffle in a
// register. No address, branch or loop length depends on a secret. Compiled by scripts/build-kernels.ts; the plain twins
// are in shamir-plain.ts.

// Bit b of the index, spread over a byte: the entries of a nibble table to which the image of bit b belongs.
const BIT0: v128 = i8x16(0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1);
const BIT1: v128 = i8x16(0, 0, -1, -1, 0, 0, -1, -1, 0, 0, -1, -1, 0, 0, -1, -1);
const BIT2: v128 = i8x16(0, 0, 0, 0, -1, -1, -1, -1, 0, 0, 0, 0, -1, -1, -1, -1);
const BIT3: v128 = i8x16(0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1);
const NIBBLE: v128 = i8x16.splat(15);

// @ts-ignore: decorator
@inline function double8(m: u32): u32 {
  return ((m << 1) ^ (0x11b & (0 - (m >> 7)))) & 0xff;
}

// @ts-ignore: decorator
@inline function double16(m: u32): u32 {
  return ((m << 1) ^ (0x1100b & (0 - (m >> 15)))) & 0xffff;
}

// @ts-ignore: decorator
@inline function nibbleTable(m0: u32, m1: u32, m2: u32, m3: u32): v128 {
  return v128.xor(
    v128.xor(v128.and(BIT0, i8x16.splat(<i8>m0)), v128.and(BIT1, i8x16.splat(<i8>m1))),
    v128.xor(v128.and(BIT2, i8x16.splat(<i8>m2)), v128.and(BIT3, i8x16.splat(<i8>m3))),
  );
}

// @ts-ignore: decorator
@inline function times8(low: v128, high: v128, x: v128): v128 {
  return v128.xor(v128.swizzle(low, v128.and(x, NIBBLE)), v128.swizzle(high, i8x16.shr_u(x, 4)));
}

// @ts-ignore: decorator
@inline function lookUp4(t0: v128, t1: v128, t2: v128, t3: v128, n0: v128, n1: v128, n2: v128, n3: v128): v128 {
  return v128.xor(
    v128.xor(v128.swizzle(t0, n0), v128.swizzle(t1, n1)),
    v128.xor(v128.swizzle(t2, n2), v128.swizzle(t3, n3)),
  );
}

// Low and high bytes of the 16 elements of a row, and back.
// @ts-ignore: decorator
@inline function lowBytes(a: v128, b: v128): v128 {
  return i8x16.shuffle(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}

// @ts-ignore: decorator
@inline function highBytes(a: v128, b: v128): v128 {
  return i8x16.shuffle(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

/** Splits rows of 16-bit elements in place into 16 low and 16 high bytes. */
export function split16(at: usize, rows: i32): void {
  const end = at + (<usize>rows << 5);
  for (; at < end; at += 32) {
    const a = v128.load(at);
    const b = v128.load(at, 16);
    v128.store(at, lowBytes(a, b));
    v128.store(at, highBytes(a, b), 16);
  }
}

/** Undoes `split16`. */
export function join16(at: usize, rows: i32): void {
  const end = at + (<usize>rows << 5);
  for (; at < end; at += 32) {
    const low = v128.load(at);
    const high = v128.load(at, 16);
    v128.store(at, i8x16.shuffle(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
    v128.store(at, i8x16.shuffle(low, high, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), 16);
  }
}

/** Horner's rule at x, x + 1, ...: every value goes through `rows` coefficients, highest power last in memory. */
export function evaluate8(coefficients: usize, rows: i32, x: u32, values: usize, count: i32): void {
  const end = values + (<usize>count << 5);
  for (; values < end; values += 32, x++) {
    const m1 = double8(x);
    const m2 = double8(m1);
    const m3 = double8(m2);
    const m4 = double8(m3);
    const m5 = double8(m4);
    const m6 = double8(m5);
    const m7 = double8(m6);
    const low = nibbleTable(x, m1, m2, m3);
    const high = nibbleTable(m4, m5, m6, m7);
    let a = v128.load(values);
    let b = v128.load(values, 16);
    let p = coefficients + (<usize>rows << 5);
    while (p > coefficients) {
      p -= 32;
      a = v128.xor(times8(low, high, a), v128.load(p));
      b = v128.xor(times8(low, high, b), v128.load(p, 16));
    }
    v128.store(values, a);
    v128.store(values, b, 16);
  }
}

/** Adds the sum of the rows, each times its 16-bit little-endian public weight, to `sum`. */
export function combine8(weights: usize, rows: usize, count: i32, sum: usize): void {
  const end = rows + (<usize>count << 5);
  let a = v128.load(sum);
  let b = v128.load(sum, 16);
  for (; rows < end; rows += 32, weights += 2) {
    const m0 = <u32>load<u16>(weights);
    const m1 = double8(m0);
    const m2 = double8(m1);
    const m3 = double8(m2);
    const m4 = double8(m3);
    const m5 = double8(m4);
    const m6 = double8(m5);
    const m7 = double8(m6);
    const low = nibbleTable(m0, m1, m2, m3);
    const high = nibbleTable(m4, m5, m6, m7);
    a = v128.xor(a, times8(low, high, v128.load(rows)));
    b = v128.xor(b, times8(low, high, v128.load(rows, 16)));
  }
  v128.store(sum, a);
  v128.store(sum, b, 16);
}

// The eight tables of a 16-bit factor: for nibble k the low bytes of the product at 32 k, the high bytes behind them.
function tables16(m: u32, tables: usize): void {
  for (let k = 0; k < 4; k++) {
    const m1 = double16(m);
    const m2 = double16(m1);
    const m3 = double16(m2);
    v128.store(tables, nibbleTable(m, m1, m2, m3));
    v128.store(tables, nibbleTable(m >> 8, m1 >> 8, m2 >> 8, m3 >> 8), 16);
    m = double16(m3);
    tables += 32;
  }
}

/** `evaluate8` over 16-bit elements in split rows. `tables`: 128 bytes of scratch, functions of x alone. */
export function evaluate16(coefficients: usize, rows: i32, x: u32, values: usize, count: i32, tables: usize): void {
  const end = values + (<usize>count << 5);
  for (; values < end; values += 32, x++) {
    tables16(x, tables);
    const l0 = v128.load(tables);
    const h0 = v128.load(tables, 16);
    const l1 = v128.load(tables, 32);
    const h1 = v128.load(tables, 48);
    const l2 = v128.load(tables, 64);
    const h2 = v128.load(tables, 80);
    const l3 = v128.load(tables, 96);
    const h3 = v128.load(tables, 112);
    let a = v128.load(values);
    let b = v128.load(values, 16);
    let p = coefficients + (<usize>rows << 5);
    while (p > coefficients) {
      p -= 32;
      const n0 = v128.and(a, NIBBLE);
      const n1 = i8x16.shr_u(a, 4);
      const n2 = v128.and(b, NIBBLE);
      const n3 = i8x16.shr_u(b, 4);
      a = v128.xor(lookUp4(l0, l1, l2, l3, n0, n1, n2, n3), v128.load(p));
      b = v128.xor(lookUp4(h0, h1, h2, h3, n0, n1, n2, n3), v128.load(p, 16));
    }
    v128.store(values, a);
    v128.store(values, b, 16);
  }
}

/** `combine8` over 16-bit elements in split rows. */
export function combine16(weights: usize, rows: usize, count: i32, sum: usize, tables: usize): void {
  const end = rows + (<usize>count << 5);
  let a = v128.load(sum);
  let b = v128.load(sum, 16);
  for (; rows < end; rows += 32, weights += 2) {
    tables16(<u32>load<u16>(weights), tables);
    const low = v128.load(rows);
    const high = v128.load(rows, 16);
    const n0 = v128.and(low, NIBBLE);
    const n1 = i8x16.shr_u(low, 4);
    const n2 = v128.and(high, NIBBLE);
    const n3 = i8x16.shr_u(high, 4);
    const t = tables;
    a = v128.xor(a, lookUp4(v128.load(t), v128.load(t, 32), v128.load(t, 64), v128.load(t, 96), n0, n1, n2, n3));
    b = v128.xor(b, lookUp4(v128.load(t, 16), v128.load(t, 48), v128.load(t, 80), v128.load(t, 112), n0, n1, n2, n3));
  }
  v128.store(sum, a);
  v128.store(sum, b, 16);
}
