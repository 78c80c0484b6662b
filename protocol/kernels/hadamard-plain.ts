/** Two stages at once; `Math.fround` after each sum makes it the sum of floats. */
function stage4(x: Float32Array, quarter: number): void {
  for (let base = 0; base < x.length; base += 4 * quarter) {
    for (let i = base; i < base + quarter; i++) {
      const i1 = i + quarter;
      const i2 = i1 + quarter;
      const i3 = i2 + quarter;
      const a = x[i] as number;
      const b = x[i1] as number;
      const c = x[i2] as number;
      const d = x[i3] as number;
      const ab = Math.fround(a + b);
      const ba = Math.fround(a - b);
      const cd = Math.fround(c + d);
      const dc = Math.fround(c - d);
      x[i] = ab + cd;
      x[i1] = ba + dc;
      x[i2] = ab - cd;
      x[i3] = ba - dc;
    }
  }
}

/**
 * Walsh-Hadamard transform of floats, in place, unnormalized: stages h = 1, 2, 4, ... over the pairs that are h apart. The
 * twin of the SIMD kernel: fallback and oracle. A double holds the sum of two floats well enough that rounding it once
 * more gives the correctly rounded float (53 >= 2 * 24 + 2), hence the same bits on every engine.
 * Shapes: a power of two.
 */
export function transformPlain(x: Float32Array): void {
  let half = 1;
  for (; 4 * half <= x.length; half *= 4) stage4(x, half);
  if (2 * half === x.length) {
    for (let i = 0; i < half; i++) {
      const a = x[i] as number;
      const b = x[i + half] as number;
      x[i] = a + b;
      x[i + half] = a - b;
    }
  }
}
