// Inversion of a distribution on the integers that is symmetric about zero, on 128-bit vectors, in the memory of the
// module. A draw is a word: its upper 31 bits are compared with the ascending 31-bit thresholds at `table`, its lowest
// bit is the sign. The number of thresholds below the draw is the magnitude, which is added with its sign to `target`.
// A draw that equals a threshold needs more digits: the functions stop in front of its group and return the number of
// draws made. Compiled by scripts/build-kernels.ts; the plain twins are in sampler-plain.ts.

const ONE: v128 = i32x4.splat(1);

// (x ^ -s) + s: x for s = 0, -x for s = 1.
// @ts-ignore: decorator
@inline function signed(magnitude: v128, word: v128): v128 {
  const s = v128.and(word, ONE);
  return i32x4.add(v128.xor(magnitude, i32x4.neg(s)), s);
}

/**
 * Compares every draw with all `count` thresholds (a multiple of 2), 16 draws at a time: no address and no length
 * depends on a draw, and the one branch tells that a draw equals a threshold.
 */
export function scan(words: usize, table: usize, count: i32, target: usize, draws: i32): i32 {
  const end = table + (<usize>count << 2);
  let done = 0;
  for (; done + 16 <= draws; done += 16) {
    const w0 = v128.load(words);
    const w1 = v128.load(words, 16);
    const w2 = v128.load(words, 32);
    const w3 = v128.load(words, 48);
    const r0 = i32x4.shr_u(w0, 1);
    const r1 = i32x4.shr_u(w1, 1);
    const r2 = i32x4.shr_u(w2, 1);
    const r3 = i32x4.shr_u(w3, 1);
    let c0 = i32x4.splat(0);
    let c1 = c0;
    let c2 = c0;
    let c3 = c0;
    let e0 = c0;
    let e1 = c0;
    for (let p = table; p < end; p += 8) {
      const t = v128.load32_splat(p);
      c0 = i32x4.sub(c0, i32x4.gt_s(r0, t));
      c1 = i32x4.sub(c1, i32x4.gt_s(r1, t));
      c2 = i32x4.sub(c2, i32x4.gt_s(r2, t));
      c3 = i32x4.sub(c3, i32x4.gt_s(r3, t));
      e0 = v128.or(e0, v128.or(i32x4.eq(r0, t), i32x4.eq(r1, t)));
      e1 = v128.or(e1, v128.or(i32x4.eq(r2, t), i32x4.eq(r3, t)));
      const u = v128.load32_splat(p, 4);
      c0 = i32x4.sub(c0, i32x4.gt_s(r0, u));
      c1 = i32x4.sub(c1, i32x4.gt_s(r1, u));
      c2 = i32x4.sub(c2, i32x4.gt_s(r2, u));
      c3 = i32x4.sub(c3, i32x4.gt_s(r3, u));
      e0 = v128.or(e0, v128.or(i32x4.eq(r0, u), i32x4.eq(r1, u)));
      e1 = v128.or(e1, v128.or(i32x4.eq(r2, u), i32x4.eq(r3, u)));
    }
    if (v128.any_true(v128.or(e0, e1))) break;
    v128.store(target, i32x4.add(v128.load(target), signed(c0, w0)));
    v128.store(target, i32x4.add(v128.load(target, 16), signed(c1, w1)), 16);
    v128.store(target, i32x4.add(v128.load(target, 32), signed(c2, w2)), 32);
    v128.store(target, i32x4.add(v128.load(target, 48), signed(c3, w3)), 48);
    words += 64;
    target += 64;
  }
  return done;
}

// One halving: moves p by h bytes if the threshold before p + h is below the draw.
// @ts-ignore: decorator
@inline function step(p: usize, h: usize, r: i32): usize {
  return p + (h & <usize>((load<i32>(p + h - 4) - r) >> 31));
}

// @ts-ignore: decorator
@inline function signedOne(magnitude: i32, word: i32): i32 {
  const s = word & 1;
  return (magnitude ^ -s) + s;
}

/**
 * Halves a table of `size` thresholds (a power of two) as many times for every draw, 4 draws at a time. No branch
 * depends on a draw but the one that tells that it equals a threshold; addresses within the table do.
 */
export function search(words: usize, table: usize, size: i32, target: usize, draws: i32): i32 {
  const first = <usize>size << 1;
  let done = 0;
  for (; done + 4 <= draws; done += 4) {
    const w0 = load<i32>(words);
    const w1 = load<i32>(words, 4);
    const w2 = load<i32>(words, 8);
    const w3 = load<i32>(words, 12);
    const r0 = <i32>(<u32>w0 >> 1);
    const r1 = <i32>(<u32>w1 >> 1);
    const r2 = <i32>(<u32>w2 >> 1);
    const r3 = <i32>(<u32>w3 >> 1);
    let p0 = table;
    let p1 = table;
    let p2 = table;
    let p3 = table;
    for (let h = first; h >= 4; h >>= 1) {
      p0 = step(p0, h, r0);
      p1 = step(p1, h, r1);
      p2 = step(p2, h, r2);
      p3 = step(p3, h, r3);
    }
    const met =
      <i32>(load<i32>(p0) == r0) | <i32>(load<i32>(p1) == r1) | <i32>(load<i32>(p2) == r2) | <i32>(load<i32>(p3) == r3);
    if (met) break;
    store<i32>(target, load<i32>(target) + signedOne(<i32>((p0 - table) >> 2), w0));
    store<i32>(target, load<i32>(target, 4) + signedOne(<i32>((p1 - table) >> 2), w1), 4);
    store<i32>(target, load<i32>(target, 8) + signedOne(<i32>((p2 - table) >> 2), w2), 8);
    store<i32>(target, load<i32>(target, 12) + signedOne(<i32>((p3 - table) >> 2), w3), 12);
    words += 16;
    target += 16;
  }
  return done;
}

/**
 * `search` for cells of 2^bits magnitudes, two words a draw: the upper bits of the second are compared with `limits` of
 * the cell, its lower ones are the offset. Stops in front of a group with a draw that equals a threshold, is not below
 * its limit, or is zero.
 */
export function cells(words: usize, table: usize, size: i32, limits: usize, bits: i32, target: usize, draws: i32): i32 {
  const first = <usize>size << 1;
  const mask = (1 << bits) - 1;
  let done = 0;
  for (; done + 4 <= draws; done += 4) {
    const w0 = load<i32>(words);
    const w1 = load<i32>(words, 8);
    const w2 = load<i32>(words, 16);
    const w3 = load<i32>(words, 24);
    const r0 = <i32>(<u32>w0 >> 1);
    const r1 = <i32>(<u32>w1 >> 1);
    const r2 = <i32>(<u32>w2 >> 1);
    const r3 = <i32>(<u32>w3 >> 1);
    let p0 = table;
    let p1 = table;
    let p2 = table;
    let p3 = table;
    for (let h = first; h >= 4; h >>= 1) {
      p0 = step(p0, h, r0);
      p1 = step(p1, h, r1);
      p2 = step(p2, h, r2);
      p3 = step(p3, h, r3);
    }
    const f0 = load<i32>(words, 4);
    const f1 = load<i32>(words, 12);
    const f2 = load<i32>(words, 20);
    const f3 = load<i32>(words, 28);
    const x0 = (<i32>((p0 - table) >> 2) << bits) + (f0 & mask);
    const x1 = (<i32>((p1 - table) >> 2) << bits) + (f1 & mask);
    const x2 = (<i32>((p2 - table) >> 2) << bits) + (f2 & mask);
    const x3 = (<i32>((p3 - table) >> 2) << bits) + (f3 & mask);
    const more =
      needsMore(p0, r0, f0 >>> bits, limits - table, x0) |
      needsMore(p1, r1, f1 >>> bits, limits - table, x1) |
      needsMore(p2, r2, f2 >>> bits, limits - table, x2) |
      needsMore(p3, r3, f3 >>> bits, limits - table, x3);
    if (more) break;
    store<i32>(target, load<i32>(target) + signedOne(x0, w0));
    store<i32>(target, load<i32>(target, 4) + signedOne(x1, w1), 4);
    store<i32>(target, load<i32>(target, 8) + signedOne(x2, w2), 8);
    store<i32>(target, load<i32>(target, 12) + signedOne(x3, w3), 12);
    words += 32;
    target += 16;
  }
  return done;
}

// @ts-ignore: decorator
@inline function needsMore(p: usize, r: i32, fine: i32, toLimits: usize, x: i32): i32 {
  return <i32>(load<i32>(p) == r) | <i32>(fine >= load<i32>(p + toLimits)) | <i32>(x == 0);
}
