import type { RandomSource } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';

/*
 * Shamir's secret sharing (SPEC section 3): bytes over GF(2^8) with polynomial 0x11b for up to 255 holders, above that
 * little-endian 16-bit words over GF(2^16) with 0x1100b. Share i has x = i + 1.
 * Products never index a table by a secret: shift-and-add runs over the public factor.
 */

interface Field {
  readonly bits: 8 | 16;
  readonly modulus: number;
}

const FIELD8: Field = { bits: 8, modulus: 0x11b };
const FIELD16: Field = { bits: 16, modulus: 0x1100b };

const fieldFor = (holders: number): Field => (holders <= 255 ? FIELD8 : FIELD16);

function times({ bits, modulus }: Field, secret: number, factor: number): number {
  let product = 0;
  let shifted = secret;
  for (let bit = 0; bit < bits; bit++) {
    // Masks instead of branches: the secret decides no branch and no index.
    product ^= shifted & -((factor >> bit) & 1);
    shifted <<= 1;
    shifted ^= modulus & -(shifted >> bits);
  }
  return product;
}

function inverse(field: Field, value: number): number {
  // value^(2^bits - 2); x coordinates are public.
  let result = 1;
  let power = value;
  for (let bit = 1; bit < field.bits; bit++) {
    power = times(field, power, power);
    result = times(field, result, power);
  }
  return result;
}

function toElements({ bits }: Field, bytes: Uint8Array): Uint16Array {
  if (bits === 8) return Uint16Array.from(bytes);
  return Uint16Array.from({ length: bytes.length / 2 }, (_, i) => (bytes[2 * i] as number) | ((bytes[2 * i + 1] as number) << 8));
}

function fromElements({ bits }: Field, elements: Uint16Array): Uint8Array {
  if (bits === 8) return Uint8Array.from(elements);
  return Uint8Array.from({ length: 2 * elements.length }, (_, i) => (elements[i >> 1] as number) >> (8 * (i & 1)));
}

/**
 * Splits a secret into one share for each holder; any `threshold` of them give it back, fewer say nothing.
 * Random: threshold - 1 uniform coefficients for each element, zero allowed. Units: secret of an even number of bytes.
 * Secrets: the polynomial is wiped. @throws CoveyError USAGE_RANGE
 */
export function splitSecret(secret: Uint8Array, holders: number, threshold: number, random: RandomSource): Uint8Array[] {
  if (!(threshold >= 1 && threshold <= holders && holders <= 65_535) || secret.length % 2 !== 0) {
    throw new CoveyError('USAGE_RANGE', `"threshold" expected 1 to ${holders} holders, got ${threshold}`);
  }
  const field = fieldFor(holders);
  const constant = toElements(field, secret);
  const coefficients = toElements(field, random((threshold - 1) * secret.length));
  const size = constant.length;
  const shares: Uint8Array[] = [];
  const share = new Uint16Array(size);
  // Multiples of x by every power of two of a secret element: times() unrolled over whole rows for speed.
  for (let x = 1; x <= holders; x++) {
    share.fill(0);
    for (let k = threshold - 2; k >= 0; k--) {
      for (let i = 0; i < size; i++) share[i] = times(field, (share[i] as number) ^ (coefficients[k * size + i] as number), x);
    }
    for (let i = 0; i < size; i++) share[i] = (share[i] as number) ^ (constant[i] as number);
    shares.push(fromElements(field, share));
  }
  coefficients.fill(0);
  constant.fill(0);
  share.fill(0);
  return shares;
}

const cachedWeights = new Map<string, readonly number[]>();

/** Lagrange weights at 0 for the given x coordinates, cached: one session reconstructs many secrets from one set. */
function lagrangeWeights(field: Field, xs: readonly number[]): readonly number[] {
  const name = `${field.bits}:${xs.join(',')}`;
  const cached = cachedWeights.get(name);
  if (cached !== undefined) return cached;
  const weights = xs.map((x) => {
    let numerator = 1;
    let denominator = 1;
    for (const other of xs) {
      if (other === x) continue;
      numerator = times(field, numerator, other);
      denominator = times(field, denominator, x ^ other);
    }
    return times(field, numerator, inverse(field, denominator));
  });
  if (cachedWeights.size >= 64) cachedWeights.clear();
  cachedWeights.set(name, weights);
  return weights;
}

/**
 * Gives the secret back from exactly `threshold` shares with distinct x.
 * `holders`: number of shares that were made; it decides the field.
 * @throws CoveyError USAGE_RANGE for repeated or impossible x, CRYPTO_SHARE for lengths that differ.
 */
export function combineShares(shares: readonly { readonly x: number; readonly share: Uint8Array }[], holders: number): Uint8Array {
  const field = fieldFor(holders);
  const xs = shares.map(({ x }) => x);
  if (xs.length === 0 || new Set(xs).size !== xs.length || xs.some((x) => !Number.isInteger(x) || x < 1 || x > holders)) {
    throw new CoveyError('USAGE_RANGE', `"x" expected distinct integers from 1 to ${holders}`);
  }
  const weights = lagrangeWeights(field, xs);
  const length = shares[0]?.share.length ?? 0;
  const secret = new Uint16Array(field.bits === 8 ? length : length / 2);
  shares.forEach(({ share }, j) => {
    if (share.length !== length) throw new CoveyError('CRYPTO_SHARE', `"share" expected ${length} bytes, got ${share.length}`);
    const elements = toElements(field, share);
    for (let i = 0; i < secret.length; i++) secret[i] = (secret[i] as number) ^ times(field, elements[i] as number, weights[j] as number);
  });
  return fromElements(field, secret);
}
