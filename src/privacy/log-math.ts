/** log(e^a + e^b) without overflow; -Infinity stands for the logarithm of zero. */
export function logAddExp(a: number, b: number): number {
  const high = Math.max(a, b);
  if (high === Number.NEGATIVE_INFINITY || high === Number.POSITIVE_INFINITY) return high;
  return high + Math.log1p(Math.exp(Math.min(a, b) - high));
}

/** log(sum of e^x); -Infinity for an empty list. */
export function logSumExp(values: readonly number[]): number {
  let high = Number.NEGATIVE_INFINITY;
  for (const x of values) if (x > high) high = x;
  if (high === Number.NEGATIVE_INFINITY || high === Number.POSITIVE_INFINITY) return high;
  let sum = 0;
  for (const x of values) sum += Math.exp(x - high);
  return high + Math.log(sum);
}

/** log(e^x - 1) for x >= 0, accurate near 0 and without overflow. */
export function logExpm1(x: number): number {
  return x > 1 ? x + Math.log1p(-Math.exp(-x)) : Math.log(Math.expm1(x));
}

/** log(1 + e^x), accurate for x of any size. */
export function log1pExp(x: number): number {
  return x > 0 ? x + Math.log1p(Math.exp(-x)) : Math.log1p(Math.exp(x));
}
