/** Elements of GF(2^8) with polynomial 0x11b, or little-endian ones of GF(2^16) with 0x1100b. */
export type ElementBits = 8 | 16;

/** The parts of secret sharing that touch secrets. All factors (x, weights) are public. */
export interface ShareArithmetic {
  /**
   * Values at x = 1 .. `holders` of the polynomials with constant `secret`; `drawn` holds the coefficients of x, x^2, ...
   * Shapes: `drawn` a multiple of the secret's length, each value as long as the secret. Secrets: both stay the caller's.
   */
  evaluate(bits: ElementBits, secret: Uint8Array, drawn: Uint8Array, holders: number): Uint8Array[];
  /** Sum of the rows, each times its weight. Shapes: rows of one length, as many as weights. */
  combine(bits: ElementBits, weights: readonly number[], rows: readonly Uint8Array[]): Uint8Array;
}

/*
 * Elements are packed in 32-bit words, four or two in each, and one step works on all of them. A product of a secret and a
 * public factor is the sum of the secret's doublings at the factor's bits: no table index, no branch and no loop length
 * depends on a secret. Not guaranteed: constant time of the JavaScript engine below.
 */
interface Field {
  readonly bits: ElementBits;
  readonly modulus: number;
  /** Lowest bit of every packed element. */
  readonly ones: number;
}

const fieldOf = (bits: ElementBits): Field =>
  bits === 8 ? { bits, modulus: 0x11b, ones: 0x0101_0101 } : { bits, modulus: 0x1100b, ones: 0x0001_0001 };

/** Product of two public elements. */
export function multiplyPublic(bits: ElementBits, a: number, b: number): number {
  const modulus = bits === 8 ? 0x11b : 0x1100b;
  let product = 0;
  for (let bit = bits - 1; bit >= 0; bit--) {
    product <<= 1;
    if (product >> bits !== 0) product ^= modulus;
    if (((a >> bit) & 1) !== 0) product ^= b;
  }
  return product;
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

/** The plain twins of the SIMD kernels: fallback and oracle. */
export const plainShares: ShareArithmetic = {
  evaluate(bits, secret, drawn, holders) {
    const field = fieldOf(bits);
    const constant = pack(secret);
    const degree = secret.length === 0 ? 0 : drawn.length / secret.length;
    // doublings[k * bits + b] = 2^b times the coefficient of x^(k+1).
    const doublings: Int32Array[] = [];
    for (let k = 0; k < degree; k++) {
      let row = pack(drawn.subarray(k * secret.length, (k + 1) * secret.length));
      doublings.push(row);
      for (let bit = 1; bit < bits; bit++) {
        const next = new Int32Array(row.length);
        double(field, row, next);
        doublings.push(next);
        row = next;
      }
    }
    const values: Uint8Array[] = [];
    for (let x = 1; x <= holders; x++) {
      const value = constant.slice();
      let power = 1;
      for (let k = 0; k < degree; k++) {
        power = multiplyPublic(bits, power, x);
        for (let bit = 0; bit < bits; bit++) {
          if (((power >> bit) & 1) !== 0) addTo(value, doublings[k * bits + bit] as Int32Array);
        }
      }
      values.push(unpack(value, secret.length));
      value.fill(0);
    }
    constant.fill(0);
    for (const row of doublings) row.fill(0);
    return values;
  },
  combine(bits, weights, rows) {
    const field = fieldOf(bits);
    const length = (rows[0] as Uint8Array).length;
    const sum = new Int32Array(Math.ceil(length / 4));
    rows.forEach((bytes, j) => {
      const row = pack(bytes);
      for (let bit = 0; bit < bits; bit++) {
        if ((((weights[j] as number) >> bit) & 1) !== 0) addTo(sum, row);
        double(field, row, row);
      }
      row.fill(0);
    });
    const bytes = unpack(sum, length);
    sum.fill(0);
    return bytes;
  },
};
