import type { RandomSource } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';

/*
 * Shamir's secret sharing (SPEC section 3): bytes over GF(2^8) with polynomial 0x11b for up to 255 holders, above that
 * little-endian 16-bit words over GF(2^16) with 0x1100b. Share i has x = i + 1.
 *
 * Elements are packed in 32-bit words, four or two in each, and one step works on all of them. A product of a secret and a
 * public factor is the sum of the secret's doublings at the factor's bits: no table index, no branch and no loop length
 * depends on a secret. Not guaranteed: constant time of the JavaScript engine below.
 */
interface Field {
  readonly bits: 8 | 16;
  readonly modulus: number;
  /** Lowest bit of every packed element. */
  readonly ones: number;
}

const FIELD8: Field = { bits: 8, modulus: 0x11b, ones: 0x0101_0101 };
const FIELD16: Field = { bits: 16, modulus: 0x1100b, ones: 0x0001_0001 };

const fieldFor = (holders: number): Field => (holders <= 255 ? FIELD8 : FIELD16);

/** Product of two public elements. */
function times({ bits, modulus }: Field, a: number, b: number): number {
  let product = 0;
  for (let bit = bits - 1; bit >= 0; bit--) {
    product <<= 1;
    if (product >> bits !== 0) product ^= modulus;
    if (((a >> bit) & 1) !== 0) product ^= b;
  }
  return product;
}

/** Inverse of a public element: value^(2^bits - 2). */
function inverse(field: Field, value: number): number {
  let result = 1;
  let power = value;
  for (let bit = 1; bit < field.bits; bit++) {
    power = times(field, power, power);
    result = times(field, result, power);
  }
  return result;
}

/** target = 2 * row for every packed element; the two may be the same. */
function double({ bits, modulus, ones }: Field, row: Int32Array, target: Int32Array): void {
  const reduction = modulus & ((1 << bits) - 1);
  const below = ~(ones << (bits - 1));
  for (let i = 0; i < row.length; i++) {
    const word = row[i] as number;
    // An element whose top bit leaves is reduced; the multiplication copies the reduction to those elements at once.
    const overflow = (word >>> (bits - 1)) & ones;
    target[i] = ((word & below) << 1) ^ Math.imul(overflow, reduction);
  }
}

function addTo(target: Int32Array, row: Int32Array): void {
  for (let i = 0; i < target.length; i++) target[i] = (target[i] as number) ^ (row[i] as number);
}

/** Bytes as packed elements, filled up with zeros. */
function pack(bytes: Uint8Array): Int32Array {
  const words = new Int32Array(Math.ceil(bytes.length / 4));
  new Uint8Array(words.buffer).set(bytes);
  return words;
}

const unpack = (words: Int32Array, length: number): Uint8Array => new Uint8Array(words.buffer).slice(0, length);

function requireWholeElements(field: Field, name: string, length: number): void {
  if ((8 * length) % field.bits !== 0) {
    throw new CoveyError('USAGE_RANGE', `"${name}" expected whole ${field.bits}-bit elements, got ${length} bytes`);
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
  const field = fieldFor(holders);
  requireWholeElements(field, 'secret', secret.length);
  const drawn = random((threshold - 1) * secret.length);
  const constant = pack(secret);
  // doublings[k * bits + b] = 2^b times the coefficient of x^(k+1).
  const doublings: Int32Array[] = [];
  for (let k = 0; k < threshold - 1; k++) {
    let row = pack(drawn.subarray(k * secret.length, (k + 1) * secret.length));
    doublings.push(row);
    for (let bit = 1; bit < field.bits; bit++) {
      const next = new Int32Array(row.length);
      double(field, row, next);
      doublings.push(next);
      row = next;
    }
  }
  const shares: Uint8Array[] = [];
  for (let x = 1; x <= holders; x++) {
    const share = constant.slice();
    let power = 1;
    for (let k = 0; k < threshold - 1; k++) {
      power = times(field, power, x);
      for (let bit = 0; bit < field.bits; bit++) {
        if (((power >> bit) & 1) !== 0) addTo(share, doublings[k * field.bits + bit] as Int32Array);
      }
    }
    shares.push(unpack(share, secret.length));
    share.fill(0);
  }
  drawn.fill(0);
  constant.fill(0);
  for (const row of doublings) row.fill(0);
  return shares;
}

// One session reconstructs many secrets from shares of the same holders. The names are public x coordinates.
const cachedWeights = new Map<string, readonly number[]>();
const MAX_CACHED_WEIGHTS = 64;

/** Lagrange weights at 0: product over the others of other / (other - x). */
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
      denominator = times(field, denominator, other ^ x);
    }
    return times(field, numerator, inverse(field, denominator));
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
  const field = fieldFor(holders);
  const xs = shares.map(({ x }) => x);
  const areInRange = xs.every((x) => Number.isInteger(x) && x >= 1 && x <= holders);
  if (xs.length === 0 || !areInRange || new Set(xs).size !== xs.length) {
    throw new CoveyError('USAGE_RANGE', `"x" expected distinct integers from 1 to ${holders}`);
  }
  const length = (shares[0] as (typeof shares)[number]).share.length;
  if ((8 * length) % field.bits !== 0 || shares.some(({ share }) => share.length !== length)) {
    throw new CoveyError('CRYPTO_SHARE', `"share" expected the same number of whole elements, got ${length} bytes`);
  }
  const weights = lagrangeWeights(field, xs);
  const secret = new Int32Array(Math.ceil(length / 4));
  shares.forEach(({ share }, j) => {
    const row = pack(share);
    for (let bit = 0; bit < field.bits; bit++) {
      if ((((weights[j] as number) >> bit) & 1) !== 0) addTo(secret, row);
      double(field, row, row);
    }
    row.fill(0);
  });
  const bytes = unpack(secret, length);
  secret.fill(0);
  return bytes;
}
