// Math.exp, Math.log and Math.sin may differ between engines in the last bit; data must not. Everything below is + - * /
// on doubles in a fixed order. Errors are a few units in the last place.

/** ln 2 in two parts: the first has 20 zero bits at its end, so that its product with an exponent is exact. */
const LN2_HIGH = 0.6931471803691238;
const LN2_LOW = 1.9082149292705877e-10;

/** Multiplies by 2^exponent, step by step so that nothing overflows before the result does. */
function scaleByPower(value: number, exponent: number): number {
  let result = value;
  for (let e = exponent; e > 0; e--) result *= 2;
  for (let e = exponent; e < 0; e++) result /= 2;
  return result;
}

/** e^x with the same bits on every engine; 0 or infinity outside the range of doubles. */
export function portableExp(x: number): number {
  if (!(x > -746)) return Number.isNaN(x) ? Number.NaN : 0;
  if (x > 710) return Number.POSITIVE_INFINITY;
  const exponent = Math.floor(x / Math.LN2 + 0.5);
  const rest = x - exponent * LN2_HIGH - exponent * LN2_LOW;
  // Taylor series by Horner; |rest| <= .35, the 18th term is below 1e-22.
  let sum = 1;
  for (let n = 17; n >= 1; n--) sum = 1 + (rest / n) * sum;
  return scaleByPower(sum, exponent);
}

/** Natural logarithm of a finite x > 0 with the same bits on every engine; -infinity at 0, NaN below. */
export function portableLog(x: number): number {
  if (x === 0) return Number.NEGATIVE_INFINITY;
  if (!(x > 0) || x === Number.POSITIVE_INFINITY) return x > 0 ? x : Number.NaN;
  let mantissa = x;
  let exponent = 0;
  for (; mantissa > Math.SQRT2; exponent++) mantissa /= 2;
  for (; mantissa < Math.SQRT1_2; exponent--) mantissa *= 2;
  // ln m = 2 artanh((m - 1) / (m + 1)); the argument is at most .172, the 13th term below 1e-19.
  const t = (mantissa - 1) / (mantissa + 1);
  const square = t * t;
  let sum = 0;
  for (let n = 23; n >= 1; n -= 2) sum = sum * square + 1 / n;
  return exponent * LN2_HIGH + (2 * t * sum + exponent * LN2_LOW);
}

/** Sine with the same bits on every engine. Units: radians; meant for |x| below a thousand. */
export function portableSin(x: number): number {
  let angle = x - 2 * Math.PI * Math.floor(x / (2 * Math.PI) + 0.5);
  if (angle > Math.PI / 2) angle = Math.PI - angle;
  if (angle < -Math.PI / 2) angle = -Math.PI - angle;
  const square = angle * angle;
  // Horner on 1 - a^2/(2 3) (1 - a^2/(4 5) (...)); the term of order 23 is below 1e-17.
  let sum = 1;
  for (let n = 22; n >= 2; n -= 2) sum = 1 - (square / (n * (n + 1))) * sum;
  return angle * sum;
}
