// Walsh-Hadamard transform of floats, in place in the memory of the module. Every stage adds and subtracts the pairs that
// are h = 1, 2, 4, ... apart, in this order of h: the same sums, hence the same bits, as the plain twin in hadamard-plain.ts,
// however the work is grouped. Lengths are in bytes, powers of two, at least 128. Compiled by scripts/build-kernels.ts.

// Bytes that are finished, stage after stage, before the next ones are touched: half of a usual first-level cache.
const BLOCK: usize = 16384;

// Strides 1 and 2 within one vector; b * -1 + a is a - b in all bits.
// @ts-ignore: decorator
@inline function within(v: v128): v128 {
  const odd = f32x4(1, -1, 1, -1);
  const high = f32x4(1, 1, -1, -1);
  v = f32x4.add(v128.shuffle<f32>(v, v, 0, 0, 2, 2), f32x4.mul(v128.shuffle<f32>(v, v, 1, 1, 3, 3), odd));
  return f32x4.add(v128.shuffle<f32>(v, v, 0, 1, 0, 1), f32x4.mul(v128.shuffle<f32>(v, v, 2, 3, 2, 3), high));
}

// Three stages over eight vectors `s` bytes apart; the first five stages of 32 values if `first`.
// @ts-ignore: decorator
@inline function eight(p: usize, s: usize, first: bool): void {
  let x0 = v128.load(p);
  let x1 = v128.load(p + s);
  let x2 = v128.load(p + 2 * s);
  let x3 = v128.load(p + 3 * s);
  let x4 = v128.load(p + 4 * s);
  let x5 = v128.load(p + 5 * s);
  let x6 = v128.load(p + 6 * s);
  let x7 = v128.load(p + 7 * s);
  if (first) {
    x0 = within(x0);
    x1 = within(x1);
    x2 = within(x2);
    x3 = within(x3);
    x4 = within(x4);
    x5 = within(x5);
    x6 = within(x6);
    x7 = within(x7);
  }
  const a0 = f32x4.add(x0, x1);
  const a1 = f32x4.sub(x0, x1);
  const a2 = f32x4.add(x2, x3);
  const a3 = f32x4.sub(x2, x3);
  const a4 = f32x4.add(x4, x5);
  const a5 = f32x4.sub(x4, x5);
  const a6 = f32x4.add(x6, x7);
  const a7 = f32x4.sub(x6, x7);
  const b0 = f32x4.add(a0, a2);
  const b1 = f32x4.add(a1, a3);
  const b2 = f32x4.sub(a0, a2);
  const b3 = f32x4.sub(a1, a3);
  const b4 = f32x4.add(a4, a6);
  const b5 = f32x4.add(a5, a7);
  const b6 = f32x4.sub(a4, a6);
  const b7 = f32x4.sub(a5, a7);
  v128.store(p, f32x4.add(b0, b4));
  v128.store(p + s, f32x4.add(b1, b5));
  v128.store(p + 2 * s, f32x4.add(b2, b6));
  v128.store(p + 3 * s, f32x4.add(b3, b7));
  v128.store(p + 4 * s, f32x4.sub(b0, b4));
  v128.store(p + 5 * s, f32x4.sub(b1, b5));
  v128.store(p + 6 * s, f32x4.sub(b2, b6));
  v128.store(p + 7 * s, f32x4.sub(b3, b7));
}

function stage8(p: usize, s: usize): void {
  for (const end = p + s; p < end; p += 16) eight(p, s, false);
}

function stage4(p: usize, s: usize): void {
  for (const end = p + s; p < end; p += 16) {
    const a = v128.load(p);
    const b = v128.load(p + s);
    const c = v128.load(p + 2 * s);
    const d = v128.load(p + 3 * s);
    const ab = f32x4.add(a, b);
    const ba = f32x4.sub(a, b);
    const cd = f32x4.add(c, d);
    const dc = f32x4.sub(c, d);
    v128.store(p, f32x4.add(ab, cd));
    v128.store(p + s, f32x4.add(ba, dc));
    v128.store(p + 2 * s, f32x4.sub(ab, cd));
    v128.store(p + 3 * s, f32x4.sub(ba, dc));
  }
}

function stage2(p: usize, s: usize): void {
  for (const end = p + s; p < end; p += 16) {
    const a = v128.load(p);
    const b = v128.load(p + s);
    v128.store(p, f32x4.add(a, b));
    v128.store(p + s, f32x4.sub(a, b));
  }
}

export function transform(p: usize, bytes: usize): void {
  const end = p + bytes;
  if (bytes > BLOCK) {
    // Eighths first: whatever size of cache holds one finishes it before its last three stages.
    const s = bytes >> 3;
    for (let q = p; q < end; q += s) transform(q, s);
    stage8(p, s);
    return;
  }
  for (let q = p; q < end; q += 128) eight(q, 16, true);
  let s: usize = 128;
  for (; s << 3 <= bytes; s <<= 3) for (let q = p; q < end; q += s << 3) stage8(q, s);
  if (s << 2 == bytes) stage4(p, s);
  else if (s << 1 == bytes) stage2(p, s);
}
