import { CoveyError } from '../../protocol/errors.ts';

/** cos and sin of -2 pi k / n for k < 3n/4, each to about one unit in the last place: angles stay within an octant. */
interface Roots {
  readonly cos: Float64Array;
  readonly sin: Float64Array;
}

const MAX_CACHED_SIZES = 12;
const tables = new Map<number, Roots>();

function roots(n: number): Roots {
  const known = tables.get(n);
  if (known) return known;
  const length = Math.max(1, (3 * n) / 4);
  const cos = new Float64Array(length);
  const sin = new Float64Array(length);
  for (let k = 0; k < length; k++) {
    // k = quarter * n/4 + rest; the rest is mirrored at n/8.
    const quarter = Math.floor((4 * k) / n);
    const rest = k - (quarter * n) / 4;
    const mirrored = 8 * rest > n;
    const angle = (2 * Math.PI * (mirrored ? n / 4 - rest : rest)) / n;
    const c = mirrored ? Math.sin(angle) : Math.cos(angle);
    const s = mirrored ? Math.cos(angle) : Math.sin(angle);
    cos[k] = quarter === 0 ? c : quarter === 1 ? -s : -c;
    sin[k] = quarter === 0 ? -s : quarter === 1 ? -c : s;
  }
  if (tables.size >= MAX_CACHED_SIZES) tables.delete(tables.keys().next().value as number);
  tables.set(n, { cos, sin });
  return { cos, sin };
}

type Lane = Float64Array;

/** Work arrays of short transforms, which come in numbers: allocating them took longer than the transform. */
const MAX_SCRATCH = 2 ** 14;
const scratch: [Lane, Lane] = [new Float64Array(MAX_SCRATCH), new Float64Array(MAX_SCRATCH)];

function workLanes(n: number): [Lane, Lane] {
  return n <= MAX_SCRATCH ? scratch : [new Float64Array(n), new Float64Array(n)];
}

/** One radix-4 pass over sub-transforms of length n at stride s; `table` is that of the whole transform. */
function radix4(n: number, s: number, xr: Lane, xi: Lane, yr: Lane, yi: Lane, table: Roots): void {
  const { cos, sin } = table;
  const m = n >> 2;
  const quarter = m * s;
  for (let p = 0; p < m; p++) {
    const t = p * s;
    const c1 = cos[t] as number;
    const s1 = sin[t] as number;
    const c2 = cos[2 * t] as number;
    const s2 = sin[2 * t] as number;
    const c3 = cos[3 * t] as number;
    const s3 = sin[3 * t] as number;
    const end = t + s;
    for (let i = t, o = 4 * t; i < end; i++, o++) {
      const ar = xr[i] as number;
      const ai = xi[i] as number;
      const br = xr[i + quarter] as number;
      const bi = xi[i + quarter] as number;
      const cr = xr[i + 2 * quarter] as number;
      const ci = xi[i + 2 * quarter] as number;
      const dr = xr[i + 3 * quarter] as number;
      const di = xi[i + 3 * quarter] as number;
      const pr = ar + cr;
      const pi = ai + ci;
      const mr = ar - cr;
      const mi = ai - ci;
      const qr = br + dr;
      const qi = bi + di;
      const jr = bi - di;
      const ji = dr - br;
      yr[o] = pr + qr;
      yi[o] = pi + qi;
      const u1 = mr + jr;
      const v1 = mi + ji;
      yr[o + s] = u1 * c1 - v1 * s1;
      yi[o + s] = u1 * s1 + v1 * c1;
      const u2 = pr - qr;
      const v2 = pi - qi;
      yr[o + 2 * s] = u2 * c2 - v2 * s2;
      yi[o + 2 * s] = u2 * s2 + v2 * c2;
      const u3 = mr - jr;
      const v3 = mi - ji;
      yr[o + 3 * s] = u3 * c3 - v3 * s3;
      yi[o + 3 * s] = u3 * s3 + v3 * c3;
    }
  }
}

/** The last radix-4 pass: all factors are 1. */
function lastRadix4(s: number, xr: Lane, xi: Lane, yr: Lane, yi: Lane): void {
  for (let i = 0; i < s; i++) {
    const ar = xr[i] as number;
    const ai = xi[i] as number;
    const br = xr[i + s] as number;
    const bi = xi[i + s] as number;
    const cr = xr[i + 2 * s] as number;
    const ci = xi[i + 2 * s] as number;
    const dr = xr[i + 3 * s] as number;
    const di = xi[i + 3 * s] as number;
    const pr = ar + cr;
    const pi = ai + ci;
    const mr = ar - cr;
    const mi = ai - ci;
    const qr = br + dr;
    const qi = bi + di;
    const jr = bi - di;
    const ji = dr - br;
    yr[i] = pr + qr;
    yi[i] = pi + qi;
    yr[i + s] = mr + jr;
    yi[i + s] = mi + ji;
    yr[i + 2 * s] = pr - qr;
    yi[i + 2 * s] = pi - qi;
    yr[i + 3 * s] = mr - jr;
    yi[i + 3 * s] = mi - ji;
  }
}

function radix2(s: number, xr: Lane, xi: Lane, yr: Lane, yi: Lane): void {
  for (let i = 0; i < s; i++) {
    const ar = xr[i] as number;
    const ai = xi[i] as number;
    const br = xr[i + s] as number;
    const bi = xi[i + s] as number;
    yr[i] = ar + br;
    yi[i] = ai + bi;
    yr[i + s] = ar - br;
    yi[i + s] = ai - bi;
  }
}

/**
 * Forward discrete Fourier transform sum_j x_j e^{-2 pi i j k / n} in place: Stockham's self-sorting form, radix 4, real
 * and imaginary parts in separate arrays. The inverse is this transform of the conjugate, conjugated, over n.
 *
 * Every input reaches every output along one path of log4(n) multiplications and log2(n) additions, so each output is
 * off by at most FFT_ROUNDING log2(n) sum |x_j|.
 * Shapes: both arrays of the same length n, a power of two. Cost: O(n log n); two work arrays of length n.
 * @throws CoveyError USAGE_RANGE for another length.
 * @see Van Loan 1992, Computational Frameworks for the Fast Fourier Transform, 1.7 and 2.4
 */
export function transformFourier(re: Float64Array, im: Float64Array): void {
  const n = re.length;
  if (n === 0 || n > 2 ** 28 || (n & (n - 1)) !== 0 || im.length !== n) {
    throw new CoveyError('USAGE_RANGE', `"re" expected a power of two as length, got ${n} and ${im.length}`);
  }
  const table = roots(n);
  let [xr, xi]: [Lane, Lane] = [re, im];
  let [yr, yi] = workLanes(n);
  let length = n;
  let stride = 1;
  for (; length > 4; length /= 4, stride *= 4) {
    radix4(length, stride, xr, xi, yr, yi, table);
    [xr, xi, yr, yi] = [yr, yi, xr, xi];
  }
  if (length > 1) {
    if (length === 4) lastRadix4(stride, xr, xi, yr, yi);
    else radix2(stride, xr, xi, yr, yi);
    [xr, xi] = [yr, yi];
  }
  if (xr !== re) {
    re.set(xr.subarray(0, n));
    im.set(xi.subarray(0, n));
  }
}

/** Frequencies 0..n/2 of a real sequence of even length n; the others are their conjugates. */
export interface RealSpectrum {
  readonly re: Float64Array;
  readonly im: Float64Array;
}

/**
 * Transform of a real sequence x by one of half the length: with z_j = x_{2j} + i x_{2j+1}, m = n/2 and
 * w = e^{-2 pi i k / n}, X_k = (Z_k + Z*_{m-k}) / 2 - i w (Z_k - Z*_{m-k}) / 2.
 * Every entry is off by at most realRounding(n) sum |x_j|. Shapes: `x` of length n >= 2, a power of two.
 * @throws CoveyError USAGE_RANGE for another length.
 */
export function transformReal(x: Float64Array): RealSpectrum {
  const m = x.length / 2;
  const [re, im] = [new Float64Array(m + 1), new Float64Array(m + 1)];
  for (let j = 0; j < m; j++) {
    re[j] = x[2 * j] as number;
    im[j] = x[2 * j + 1] as number;
  }
  transformFourier(re.subarray(0, m), im.subarray(0, m));
  re[m] = re[0] as number;
  im[m] = im[0] as number;
  const { cos, sin } = roots(2 * m);
  for (let k = 0; 2 * k <= m; k++) {
    const ar = re[k] as number;
    const ai = im[k] as number;
    const br = re[m - k] as number;
    const bi = im[m - k] as number;
    const er = (ar + br) / 2;
    const ei = (ai - bi) / 2;
    const or = (ai + bi) / 2;
    const oi = (br - ar) / 2;
    const c = cos[k] as number;
    const s = sin[k] as number;
    const wr = or * c - oi * s;
    const wi = or * s + oi * c;
    // Of m - k: the conjugate of the even part minus that of the odd part.
    re[k] = er + wr;
    im[k] = ei + wi;
    re[m - k] = er - wr;
    im[m - k] = wi - ei;
  }
  return { re, im };
}

/**
 * The real sequence with these frequencies, n = 2m: Z_k = (X_k + X*_{m-k}) + i w* (X_k - X*_{m-k}) and back.
 * Every entry is off by at most realRounding(n) / n times the sum of |X_k| over all n frequencies.
 */
export function invertReal({ re, im }: RealSpectrum): Float64Array {
  const m = re.length - 1;
  const [zr, zi] = [new Float64Array(m), new Float64Array(m)];
  const { cos, sin } = roots(2 * m);
  for (let k = 0; k < m; k++) {
    const er = (re[k] as number) + (re[m - k] as number);
    const ei = (im[k] as number) - (im[m - k] as number);
    const dr = (re[k] as number) - (re[m - k] as number);
    const di = (im[k] as number) + (im[m - k] as number);
    const c = cos[k] as number;
    const s = sin[k] as number;
    const or = dr * c + di * s;
    const oi = di * c - dr * s;
    // The conjugate of Z: the inverse is a forward transform of it, conjugated.
    zr[k] = er - oi;
    zi[k] = -(ei + or);
  }
  transformFourier(zr, zi);
  const x = new Float64Array(2 * m);
  for (let j = 0; j < m; j++) {
    x[2 * j] = (zr[j] as number) / (2 * m);
    x[2 * j + 1] = -(zi[j] as number) / (2 * m);
  }
  return x;
}

/**
 * Bound on the error of `transformFourier`, per level and unit of sum |x_j|: a radix-4 pass (two levels) costs a complex
 * multiplication, sqrt(5) u, its twiddle, sqrt(2) u, and two additions, 2 u; u = 2^-53.
 * @see Brent, Percival, Zimmermann 2007 (complex multiplication)
 */
const FFT_ROUNDING = 3 * 2 ** -53;

/**
 * Bound on the error of the real transforms: |1 - i w| + |1 + i w| <= 2 sqrt(2) passes the error of Z on by a factor of
 * sqrt(2); the last step adds 3 additions, a multiplication and its twiddle, below 7 u, of which one level is saved.
 */
export function realRounding(n: number): number {
  return Math.SQRT2 * FFT_ROUNDING * Math.log2(n) + 3 * 2 ** -53;
}
