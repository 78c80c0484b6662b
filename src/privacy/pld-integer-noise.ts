import { atomDirections, type Directions, U } from './pld-pairs.ts';

/*
 * Integer noise on one coordinate, by its probabilities. Noise with log-concave probabilities moved by v dominates the
 * same noise moved by less, in both directions: its likelihood ratios are monotone, so the best tests are thresholds and
 * reveal more the larger the move. Discrete Gaussians and Skellam noise are log-concave, and so are sums of them.
 */

/** Probabilities on -half..half. */
export interface IntegerNoise {
  readonly half: number;
  readonly masses: Float64Array;
}

/** Tail left out of a table of probabilities, as a power of e: far below any delta of interest. */
const LOG_TAIL = 160 * Math.LN10;
/** Widest tables: of one distribution, and of sums, whose convolution costs the square. */
const MAX_HALF = 2 ** 15;
const MAX_SUM_HALF = 2 ** 12;

/** N_Z(0, variance): probabilities proportional to e^{-x^2 / (2 variance)}. @see privacy F10 */
function discreteGaussianNoise(variance: number, half: number): IntegerNoise {
  const masses = Float64Array.from({ length: 2 * half + 1 }, (_, i) => Math.exp(-((i - half) ** 2) / (2 * variance)));
  return normalise(masses, half);
}

function normalise(masses: Float64Array, half: number): IntegerNoise {
  let sum = 0;
  for (let i = 0; i < half; i++) sum += 2 * (masses[i] as number);
  sum += masses[half] as number;
  return { half, masses: masses.map((x) => x / sum) };
}

/** Table half-width for noise whose tails fall at least like a Gaussian's, or an exponential's of rate 1/sd. */
function tableHalf(variance: number): number {
  const gaussian = Math.sqrt(2 * variance * LOG_TAIL);
  // Poisson tails are heavier than Gaussian ones far out: x log(x / variance) instead of x^2 / (2 variance).
  const poisson = LOG_TAIL / Math.asinh(Math.max(1, gaussian / variance / 2));
  return Math.ceil(Math.max(gaussian, poisson)) + 2;
}

/** Distribution of the sum of two independent noises, cut to the wider half-width asked for. */
function addNoise(a: IntegerNoise, b: IntegerNoise, half: number): IntegerNoise {
  const masses = new Float64Array(2 * half + 1);
  for (let x = -half; x <= half; x++) {
    let sum = 0;
    const low = Math.max(-a.half, x - b.half);
    const high = Math.min(a.half, x + b.half);
    for (let y = low; y <= high; y++) sum += (a.masses[y + a.half] as number) * (b.masses[x - y + b.half] as number);
    masses[x + half] = sum;
  }
  return normalise(masses, half);
}

/**
 * Difference of two Poisson variables of mean variance/2: e^{-variance} I_|x|(variance), by Miller's downward recurrence
 * I_{k-1} = I_{k+1} + (2k / variance) I_k.
 * @see privacy F12; Abramowitz, Stegun 1964, 9.6.26
 */
function skellamTable(variance: number, half: number): IntegerNoise {
  const masses = new Float64Array(2 * half + 1);
  let [next, current] = [0, 1e-280];
  for (let k = 2 * half + 40; k >= 1; k--) {
    const before = next + ((2 * k) / variance) * current;
    next = current;
    current = before;
    if (k - 1 <= half) {
      masses[half + k - 1] = current;
      masses[half - k + 1] = current;
    }
    if (current > 1e280) {
      // Only ratios matter; what becomes zero is beyond the tail.
      for (let i = 0; i < masses.length; i++) masses[i] = (masses[i] as number) * 1e-280;
      next *= 1e-280;
      current *= 1e-280;
    }
  }
  return normalise(masses, half);
}

/** Outcomes less likely than this count as impossible under the other side: their probabilities may be rounded away. */
const LEAST_MASS = 1e-160;

/** The noise against the noise moved by `shift`, both ways; `error` bounds the relative error of the table. */
export function shiftedNoise({ masses, half }: IntegerNoise, shift: number, error: number): Directions {
  const side = (at: number): number[] =>
    Array.from({ length: 2 * half + 1 + shift }, (_, i) => {
      const mass = masses[i - at] ?? 0;
      return mass < LEAST_MASS ? 0 : mass;
    });
  // What both sides lack is far below 1e-150 and is charged as an infinite loss.
  return atomDirections([...side(0), 1e-150], [...side(shift), 0], error);
}

/** The sum of `count` independent copies, by repeated squaring. */
function repeatNoise(noise: IntegerNoise, count: number, half: number): IntegerNoise {
  let result: IntegerNoise | null = null;
  let power = noise;
  for (let rest = count; ; ) {
    if (rest % 2 === 1) result = result ? addNoise(result, power, half) : power;
    rest = Math.floor(rest / 2);
    if (rest === 0) return result as IntegerNoise;
    power = addNoise(power, power, half);
  }
}

/**
 * Discrete Laplace noise, probabilities proportional to e^{-a |x|}, moved by v: losses a (v - 2j) for j = 0..v, of which
 * the first and the last collect a whole tail.
 * @see Ghosh, Roughgarden, Sundararajan 2012 (geometric mechanism)
 */
export function discreteLaplace(a: number, shift: number): Directions {
  const tail = 1 / (1 + Math.exp(-a));
  const centre = -Math.expm1(-a) * tail;
  const upper: number[] = [];
  for (let j = 0; j <= shift; j++) {
    if (j === 0) upper.push(tail);
    else if (j === shift) upper.push(tail * Math.exp(-a * shift));
    else upper.push(centre * Math.exp(-a * j));
  }
  return atomDirections(upper, [...upper].reverse(), (16 + 8 * a * shift) * U);
}

/** Skellam noise on one coordinate moved by `shift`, or null where the table would be too wide. */
export function skellamDirections(variance: number, shift: number): Directions | null {
  const half = tableHalf(variance) + shift;
  return half > MAX_HALF ? null : shiftedNoise(skellamTable(variance, half), shift, 1e-11);
}

/**
 * The sum of discrete Gaussians on one coordinate moved by `shift`, exactly: `variances` lists [variance, how many].
 * Null where the table would be too wide.
 */
export function discreteGaussianDirections(
  variances: readonly (readonly [variance: number, count: number])[],
  shift: number,
): Directions | null {
  const variance = variances.reduce((sum, [v, count]) => sum + v * count, 0);
  const shares = variances.reduce((sum, [, count]) => sum + count, 0);
  const half = tableHalf(variance) + shift;
  if (half > (shares === 1 ? MAX_HALF : MAX_SUM_HALF)) return null;
  const noise = variances
    .map(([v, count]) => repeatNoise(discreteGaussianNoise(v, Math.min(half, tableHalf(v) + shift)), count, half))
    .reduce((a, b) => addNoise(a, b, half));
  return shiftedNoise(noise, shift, 1e-11);
}
