// Lane rings on 128-bit vectors, in the memory of the module. A word of the ring is 64 bits, little-endian; fields never
// carry into each other. `k` streams lie `stride` bytes apart from `base`; every one is added to, or taken off, the
// accumulator in one sweep, 64 bytes at a time in registers. `bytes` is a multiple of 64. Compiled by
// scripts/build-kernels.ts; the plain twins are in ring.ts.

// Top bit of each 21-bit field, and the fields without it. Bit 63 belongs to no field.
const TOP: v128 = i64x2.splat(0x4000020000100000);
const LOW: v128 = i64x2.splat(0x3ffffdffffefffff);

// Fields without their top bits add up without a carry between fields; the top bit is the sum of three without its carry.
// @ts-ignore: decorator
@inline function plus21(x: v128, y: v128): v128 {
  return v128.xor(i64x2.add(v128.and(x, LOW), v128.and(y, LOW)), v128.and(v128.xor(x, y), TOP));
}

// With the top bits set in x no field borrows from the next one; they are put right afterwards.
// @ts-ignore: decorator
@inline function minus21(x: v128, y: v128): v128 {
  const top = v128.andnot(TOP, v128.xor(x, y));
  return v128.xor(i64x2.sub(v128.or(v128.and(x, LOW), TOP), v128.and(y, LOW)), top);
}

// Fields 0 and 2 of a word, which lie too far apart for a carry of the lower to reach the upper.
const EVEN: v128 = i64x2.splat(0x7ffffc00001fffff);

// Fieldwise sum of words from their plain sum and the sum of their even fields. The plain sum differs from it only by carries
// out of even fields, so what is left without them is the sum of field 1 (and of bit 63, which the callers cut off).
// @ts-ignore: decorator
@inline function join21(all: v128, even: v128): v128 {
  return v128.bitselect(even, i64x2.sub(all, even), EVEN);
}

export function add32(acc: usize, base: usize, stride: i32, k: i32, bytes: i32): void {
  const end = acc + bytes;
  while (acc < end) {
    let x0 = v128.load(acc);
    let x1 = v128.load(acc, 16);
    let x2 = v128.load(acc, 32);
    let x3 = v128.load(acc, 48);
    let p = base;
    for (let j = 0; j < k; j++) {
      x0 = i32x4.add(x0, v128.load(p));
      x1 = i32x4.add(x1, v128.load(p, 16));
      x2 = i32x4.add(x2, v128.load(p, 32));
      x3 = i32x4.add(x3, v128.load(p, 48));
      p += stride;
    }
    v128.store(acc, x0);
    v128.store(acc, x1, 16);
    v128.store(acc, x2, 32);
    v128.store(acc, x3, 48);
    acc += 64;
    base += 64;
  }
}

export function sub32(acc: usize, base: usize, stride: i32, k: i32, bytes: i32): void {
  const end = acc + bytes;
  while (acc < end) {
    let x0 = v128.load(acc);
    let x1 = v128.load(acc, 16);
    let x2 = v128.load(acc, 32);
    let x3 = v128.load(acc, 48);
    let p = base;
    for (let j = 0; j < k; j++) {
      x0 = i32x4.sub(x0, v128.load(p));
      x1 = i32x4.sub(x1, v128.load(p, 16));
      x2 = i32x4.sub(x2, v128.load(p, 32));
      x3 = i32x4.sub(x3, v128.load(p, 48));
      p += stride;
    }
    v128.store(acc, x0);
    v128.store(acc, x1, 16);
    v128.store(acc, x2, 32);
    v128.store(acc, x3, 48);
    acc += 64;
    base += 64;
  }
}

export function add16(acc: usize, base: usize, stride: i32, k: i32, bytes: i32): void {
  const end = acc + bytes;
  while (acc < end) {
    let x0 = v128.load(acc);
    let x1 = v128.load(acc, 16);
    let x2 = v128.load(acc, 32);
    let x3 = v128.load(acc, 48);
    let p = base;
    for (let j = 0; j < k; j++) {
      x0 = i16x8.add(x0, v128.load(p));
      x1 = i16x8.add(x1, v128.load(p, 16));
      x2 = i16x8.add(x2, v128.load(p, 32));
      x3 = i16x8.add(x3, v128.load(p, 48));
      p += stride;
    }
    v128.store(acc, x0);
    v128.store(acc, x1, 16);
    v128.store(acc, x2, 32);
    v128.store(acc, x3, 48);
    acc += 64;
    base += 64;
  }
}

export function sub16(acc: usize, base: usize, stride: i32, k: i32, bytes: i32): void {
  const end = acc + bytes;
  while (acc < end) {
    let x0 = v128.load(acc);
    let x1 = v128.load(acc, 16);
    let x2 = v128.load(acc, 32);
    let x3 = v128.load(acc, 48);
    let p = base;
    for (let j = 0; j < k; j++) {
      x0 = i16x8.sub(x0, v128.load(p));
      x1 = i16x8.sub(x1, v128.load(p, 16));
      x2 = i16x8.sub(x2, v128.load(p, 32));
      x3 = i16x8.sub(x3, v128.load(p, 48));
      p += stride;
    }
    v128.store(acc, x0);
    v128.store(acc, x1, 16);
    v128.store(acc, x2, 32);
    v128.store(acc, x3, 48);
    acc += 64;
    base += 64;
  }
}

export function add21(acc: usize, base: usize, stride: i32, k: i32, bytes: i32): void {
  const end = acc + bytes;
  while (acc < end) {
    let all0 = i64x2.splat(0);
    let all1 = all0;
    let all2 = all0;
    let all3 = all0;
    let even0 = all0;
    let even1 = all0;
    let even2 = all0;
    let even3 = all0;
    let p = base;
    for (let j = 0; j < k; j++) {
      const x0 = v128.load(p);
      const x1 = v128.load(p, 16);
      const x2 = v128.load(p, 32);
      const x3 = v128.load(p, 48);
      all0 = i64x2.add(all0, x0);
      all1 = i64x2.add(all1, x1);
      all2 = i64x2.add(all2, x2);
      all3 = i64x2.add(all3, x3);
      even0 = i64x2.add(even0, v128.and(x0, EVEN));
      even1 = i64x2.add(even1, v128.and(x1, EVEN));
      even2 = i64x2.add(even2, v128.and(x2, EVEN));
      even3 = i64x2.add(even3, v128.and(x3, EVEN));
      p += stride;
    }
    v128.store(acc, plus21(v128.load(acc), join21(all0, even0)));
    v128.store(acc, plus21(v128.load(acc, 16), join21(all1, even1)), 16);
    v128.store(acc, plus21(v128.load(acc, 32), join21(all2, even2)), 32);
    v128.store(acc, plus21(v128.load(acc, 48), join21(all3, even3)), 48);
    acc += 64;
    base += 64;
  }
}

export function sub21(acc: usize, base: usize, stride: i32, k: i32, bytes: i32): void {
  const end = acc + bytes;
  while (acc < end) {
    let all0 = i64x2.splat(0);
    let all1 = all0;
    let all2 = all0;
    let all3 = all0;
    let even0 = all0;
    let even1 = all0;
    let even2 = all0;
    let even3 = all0;
    let p = base;
    for (let j = 0; j < k; j++) {
      const x0 = v128.load(p);
      const x1 = v128.load(p, 16);
      const x2 = v128.load(p, 32);
      const x3 = v128.load(p, 48);
      all0 = i64x2.add(all0, x0);
      all1 = i64x2.add(all1, x1);
      all2 = i64x2.add(all2, x2);
      all3 = i64x2.add(all3, x3);
      even0 = i64x2.add(even0, v128.and(x0, EVEN));
      even1 = i64x2.add(even1, v128.and(x1, EVEN));
      even2 = i64x2.add(even2, v128.and(x2, EVEN));
      even3 = i64x2.add(even3, v128.and(x3, EVEN));
      p += stride;
    }
    v128.store(acc, minus21(v128.load(acc), join21(all0, even0)));
    v128.store(acc, minus21(v128.load(acc, 16), join21(all1, even1)), 16);
    v128.store(acc, minus21(v128.load(acc, 32), join21(all2, even2)), 32);
    v128.store(acc, minus21(v128.load(acc, 48), join21(all3, even3)), 48);
    acc += 64;
    base += 64;
  }
}
