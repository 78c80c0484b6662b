const SQRT_PI = Math.sqrt(Math.PI);

/**
 * erfcx(x) = e^{x^2} erfc(x) for x >= 0, to about 1e-14.
 * @see Abramowitz, Stegun 1964, 7.1.6 (series) and 7.1.14 (continued fraction)
 */
export function erfcx(x: number): number {
  if (x < 2) {
    // erf(x) = 2/sqrt(pi) e^{-x^2} sum 2^n x^{2n+1} / (1*3*...*(2n+1)): all terms positive.
    let term = x;
    let sum = x;
    for (let n = 1; term > 1e-18 * sum; n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return Math.exp(x * x) - (2 / SQRT_PI) * sum;
  }
  let tail = 0;
  for (let n = 120; n >= 1; n--) tail = n / 2 / (x + tail);
  return 1 / (SQRT_PI * (x + tail));
}

/** log of the standard normal distribution function, with relative accuracy in both tails. */
export function logPhi(x: number): number {
  const y = Math.abs(x) / Math.SQRT2;
  const logTail = Math.log(erfcx(y) / 2) - y * y;
  return x < 0 ? logTail : Math.log1p(-Math.exp(logTail));
}
