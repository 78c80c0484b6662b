// Lane rings on 128-bit vectors, in the memory of the module. A word of the ring is 64 bits, little-endian; fields never
// carry into each other. `k` streams lie `stride` bytes apart from `base`; every one is added to, or taken off, the
// accumulator in one sweep. `bytes` is a multiple of 16. Compiled by scripts/build-kernels.ts; the plain twins are in ring.ts.

// Top bit of each 21-bit field, and the fields without it. Bit 63 belongs to no field.
const TOP: v128 = i64x2.splat(0x4000020000100000);
const LOW: v128 = i64x2.splat(0x3ffffdffffefffff);

export function add32(acc: usize, base: usize, stride: i32, k: i32, bytes: i32): void {
  const end = acc + bytes;
  while (acc < end) {
    let x = v128.load(acc);
    let p = base;
    for (let j = 0; j < k; j++) {
      x = i32x4.add(x, v128.load(p));
      p += stride;
    }
    v128.store(acc, x);
    acc += 16;
    base += 16;
  }
}

export function sub32(acc: usize, base: usize, stride: i32, k: i32, bytes: i32): void {
  const end = acc + bytes;
  while (acc < end) {
    let x = v128.load(acc);
    let p = base;
    for (let j = 0; j < k; j++) {
      x = i32x4.sub(x, v128.load(p));
      p += stride;
    }
    v128.store(acc, x);
    acc += 16;
    base += 16;
  }
}

export function add16(acc: usize, base: usize, stride: i32, k: i32, bytes: i32): void {
  const end = acc + bytes;
  while (acc < end) {
    let x = v128.load(acc);
    let p = base;
    for (let j = 0; j < k; j++) {
      x = i16x8.add(x, v128.load(p));
      p += stride;
    }
    v128.store(acc, x);
    acc += 16;
    base += 16;
  }
}

export function sub16(acc: usize, base: usize, stride: i32, k: i32, bytes: i32): void {
  const end = acc + bytes;
  while (acc < end) {
    let x = v128.load(acc);
    let p = base;
    for (let j = 0; j < k; j++) {
      x = i16x8.sub(x, v128.load(p));
      p += stride;
    }
    v128.store(acc, x);
    acc += 16;
    base += 16;
  }
}

// Fields without their top bits add up without a carry between fields; the top bit is the sum of three without its carry.
export function add21(acc: usize, base: usize, stride: i32, k: i32, bytes: i32): void {
  const end = acc + bytes;
  while (acc < end) {
    let x = v128.load(acc);
    let p = base;
    for (let j = 0; j < k; j++) {
      const y = v128.load(p);
      const top = v128.and(v128.xor(x, y), TOP);
      x = v128.xor(i64x2.add(v128.and(x, LOW), v128.and(y, LOW)), top);
      p += stride;
    }
    v128.store(acc, x);
    acc += 16;
    base += 16;
  }
}

// With the top bits set in x no field borrows from the next one; they are put right afterwards.
export function sub21(acc: usize, base: usize, stride: i32, k: i32, bytes: i32): void {
  const end = acc + bytes;
  while (acc < end) {
    let x = v128.load(acc);
    let p = base;
    for (let j = 0; j < k; j++) {
      const y = v128.load(p);
      const top = v128.and(v128.xor(v128.xor(x, y), TOP), TOP);
      x = v128.xor(i64x2.sub(v128.or(v128.and(x, LOW), TOP), v128.and(y, LOW)), top);
      p += stride;
    }
    v128.store(acc, x);
    acc += 16;
    base += 16;
  }
}
