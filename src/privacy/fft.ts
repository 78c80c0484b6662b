import { CoveyError } from '../../protocol/errors.ts';

/** cos and sin of -2 pi k / n for k < 3n/4, each to about one unit in the last place: angles stay within an octant. */
interface Twiddles {
  readonly cos: Float64Array;
  readonly sin: Float64Array;
}

const MAX_CACHED_SIZES = 8;
const tables = new Map<number, Twiddles>();

function twiddles(n: number): Twiddles {
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

/** One radix-4 pass over sub-transforms of length n at stride s; `table` is that of the whole transform. */
function radix4(n: number, s: number, xr: Lane, xi: Lane, yr: Lane, yi: Lane, table: Twiddles): void {
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
  const table = twiddles(n);
  let [xr, xi]: [Lane, Lane] = [re, im];
  let [yr, yi]: [Lane, Lane] = [new Float64Array(n), new Float64Array(n)];
  let length = n;
  let stride = 1;
  for (; length >= 4; length /= 4, stride *= 4) {
    radix4(length, stride, xr, xi, yr, yi, table);
    [xr, xi, yr, yi] = [yr, yi, xr, xi];
  }
  if (length === 2) {
    radix2(stride, xr, xi, yr, yi);
    [xr, xi] = [yr, yi];
  }
  if (xr !== re) {
    re.set(xr);
    im.set(xi);
  }
}

/**
 * Bound on the error of `transformFourier`, per level and unit of sum |x_j|: a radix-4 pass (two levels) costs a complex
 * multiplication, sqrt(5) u, its twiddle, sqrt(2) u, and two additions, 2 u; u = 2^-53.
 * @see Brent, Percival, Zimmermann 2007 (complex multiplication)
 */
export const FFT_ROUNDING: number = 3 * 2 ** -53;
