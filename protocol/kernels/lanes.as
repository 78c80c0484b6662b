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
    let x0 = v128.load(acc);
    let x1 = v128.load(acc, 16);
    let x2 = v128.load(acc, 32);
    let x3 = v128.load(acc, 48);
    let p = base;
    for (let j = 0; j < k; j++) {
      x0 = plus21(x0, v128.load(p));
      x1 = plus21(x1, v128.load(p, 16));
      x2 = plus21(x2, v128.load(p, 32));
      x3 = plus21(x3, v128.load(p, 48));
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

export function sub21(acc: usize, base: usize, stride: i32, k: i32, bytes: i32): void {
  const end = acc + bytes;
  while (acc < end) {
    let x0 = v128.load(acc);
    let x1 = v128.load(acc, 16);
    let x2 = v128.load(acc, 32);
    let x3 = v128.load(acc, 48);
    let p = base;
    for (let j = 0; j < k; j++) {
      x0 = minus21(x0, v128.load(p));
      x1 = minus21(x1, v128.load(p, 16));
      x2 = minus21(x2, v128.load(p, 32));
      x3 = minus21(x3, v128.load(p, 48));
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
