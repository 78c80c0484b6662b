import type { RandomSource } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import { loadShareKernels } from './kernels/shamir.ts';
import { type ElementBits, multiplyPublic, plainShares, type ShareArithmetic } from './kernels/shamir-plain.ts';

/*
 * Shamir's secret sharing (SPEC section 3): bytes over GF(2^8) with polynomial 0x11b for up to 255 holders, above that
 * little-endian 16-bit words over GF(2^16) with 0x1100b. Share i has x = i + 1. Here are the checks and everything public;
 * secrets are worked on by the SIMD kernels, or by their plain twins where the engine has none.
 */
const elementBits = (holders: number): ElementBits => (holders <= 255 ? 8 : 16);

const arithmetic = (): ShareArithmetic => loadShareKernels() ?? plainShares;

/** Inverse of a public element: value^(2^bits - 2). */
function inverse(bits: ElementBits, value: number): number {
  let result = 1;
  let power = value;
  for (let bit = 1; bit < bits; bit++) {
    power = multiplyPublic(bits, power, power);
    result = multiplyPublic(bits, result, power);
  }
  return result;
}

function requireWholeElements(bits: ElementBits, name: string, length: number): void {
  if ((8 * length) % bits !== 0) {
    throw new CoveyError('USAGE_RANGE', `"${name}" expected whole ${bits}-bit elements, got ${length} bytes`);
  }
}

/**
 * Splits a secret into one share for each holder; any `threshold` of them give it back, fewer say nothing.
 * Shapes: each share is as long as the secret; share i has x = i + 1. Random: threshold - 1 uniform coefficients for each
 * element, zero allowed. Secrets: the polynomial is wiped, the caller's `secret` is not.
 * @throws CoveyError USAGE_RANGE @see Shamir, "How to Share a Secret", 1979
 */
export function splitSecret(
  secret: Uint8Array,
  holders: number,
  threshold: number,
  random: RandomSource,
): Uint8Array[] {
  if (!(Number.isInteger(holders) && holders >= 1 && holders <= 65_535)) {
    throw new CoveyError('USAGE_RANGE', `"holders" expected 1 to 65535, got ${holders}`);
  }
  if (!(Number.isInteger(threshold) && threshold >= 1 && threshold <= holders)) {
    throw new CoveyError('USAGE_RANGE', `"threshold" expected 1 to ${holders}, got ${threshold}`);
  }
  const bits = elementBits(holders);
  requireWholeElements(bits, 'secret', secret.length);
  const drawn = random((threshold - 1) * secret.length);
  const shares = arithmetic().evaluate(bits, secret, drawn, holders);
  drawn.fill(0);
  return shares;
}

// One session reconstructs many secrets from shares of the same holders. The names are public x coordinates.
const cachedWeights = new Map<string, readonly number[]>();
const MAX_CACHED_WEIGHTS = 64;

/** Lagrange weights at 0: product over the others of other / (other - x). */
function lagrangeWeights(bits: ElementBits, xs: readonly number[]): readonly number[] {
  const name = `${bits}:${xs.join(',')}`;
  const cached = cachedWeights.get(name);
  if (cached !== undefined) return cached;
  // Product of all x, once; each weight divides it by its own x as well.
  const numerator = xs.reduce((product, x) => multiplyPublic(bits, product, x), 1);
  const weights = xs.map((x) => {
    let denominator = x;
    for (const other of xs) if (other !== x) denominator = multiplyPublic(bits, denominator, other ^ x);
    return multiplyPublic(bits, numerator, inverse(bits, denominator));
  });
  if (cachedWeights.size >= MAX_CACHED_WEIGHTS) cachedWeights.clear();
  cachedWeights.set(name, weights);
  return weights;
}

/**
 * Gives the secret back from exactly `threshold` shares with distinct x.
 * `holders`: number of shares that were made; it decides the field. Not guaranteed: that the shares are right; whoever
 * needs that opens their commitments first.
 * @throws CoveyError USAGE_RANGE for repeated or impossible x, CRYPTO_SHARE for shares of different or impossible length.
 */
export function combineShares(
  shares: readonly { readonly x: number; readonly share: Uint8Array }[],
  holders: number,
): Uint8Array {
  const bits = elementBits(holders);
  const xs: number[] = [];
  const bytes: Uint8Array[] = [];
  let areInRange = true;
  let areEqual = true;
  const length = shares[0]?.share.length ?? 0;
  for (const { x, share } of shares) {
    areInRange &&= Number.isInteger(x) && x >= 1 && x <= holders;
    areEqual &&= share.length === length;
    xs.push(x);
    bytes.push(share);
  }
  if (xs.length === 0 || !areInRange || new Set(xs).size !== xs.length) {
    throw new CoveyError('USAGE_RANGE', `"x" expected distinct integers from 1 to ${holders}`);
  }
  if ((8 * length) % bits !== 0 || !areEqual) {
    throw new CoveyError('CRYPTO_SHARE', `"share" expected the same number of whole elements, got ${length} bytes`);
  }
  return arithmetic().combine(bits, lagrangeWeights(bits, xs), bytes);
}
