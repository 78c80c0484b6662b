/** Mean over runs and its two-sided 95 % confidence interval; no interval for one run. */
export interface Estimate {
  readonly mean: number;
  /** Half the width of the interval; null for one run. */
  readonly halfWidth: number | null;
  readonly stddev: number | null;
  readonly runs: number;
}

/** Quantiles .975 of Student's t for 1 to 30 degrees of freedom. */
const T_975: readonly number[] = [
  12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.306, 2.2622, 2.2281, 2.201, 2.1788, 2.1604, 2.1448, 2.1314,
  2.1199, 2.1098, 2.1009, 2.093, 2.086, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
];
const Z_975 = 1.959_964;

/** The quantile .975 of Student's t; above 30 by expansion. @see Abramowitz, Stegun 26.7.5 */
export function studentQuantile(degrees: number): number {
  const z = Z_975;
  return (
    T_975[degrees - 1] ??
    z +
      (z ** 3 + z) / (4 * degrees) +
      (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * degrees ** 2) +
      (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / (384 * degrees ** 3)
  );
}

/** Estimates the mean of the law that runs with different seeds are drawn from. */
export function estimateMean(values: readonly number[]): Estimate {
  const runs = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / runs;
  if (runs < 2) return { mean, halfWidth: null, stddev: null, runs };
  const stddev = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (runs - 1));
  return { mean, halfWidth: (studentQuantile(runs - 1) * stddev) / Math.sqrt(runs), stddev, runs };
}
