import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nodeCrypto, nodeRandom } from '../platform/node/crypto.ts';
import { toHex } from '../protocol/bytes.ts';
import type { RandomSource } from '../protocol/crypto-provider.ts';
import { combineShares, splitSecret } from '../protocol/shamir.ts';
import { codeOf } from './support/code-of.ts';

// The oracle: polynomials over GF(2) as BigInt, reduced by long division.
function product(a: bigint, b: bigint, bits: number, modulus: bigint): bigint {
  let result = 0n;
  for (let i = 0n; b >> i !== 0n; i++) if (((b >> i) & 1n) === 1n) result ^= a << i;
  for (let i = 2n * BigInt(bits); i >= BigInt(bits); i--)
    if (((result >> i) & 1n) === 1n) result ^= modulus << (i - BigInt(bits));
  return result;
}

const elementsOf = (bytes: Uint8Array, width: 1 | 2): bigint[] =>
  Array.from({ length: bytes.length / width }, (_, i) =>
    width === 1 ? BigInt(bytes[i] as number) : BigInt((bytes[2 * i] as number) | ((bytes[2 * i + 1] as number) << 8)),
  );

/** Random bytes of a seeded keystream, remembered so that a test knows the polynomial. */
function recordedRandom(seed: number): { readonly random: RandomSource; readonly drawn: Uint8Array[] } {
  const stream = nodeCrypto.aes256Ctr(new Uint8Array(32).fill(seed));
  const drawn: Uint8Array[] = [];
  const random: RandomSource = (length) => {
    const bytes = new Uint8Array(length);
    stream.read(bytes);
    drawn.push(bytes.slice());
    return bytes;
  };
  return { random, drawn };
}

const at = (shares: readonly Uint8Array[], xs: readonly number[]): { x: number; share: Uint8Array }[] =>
  xs.map((x) => ({ x, share: shares[x - 1] as Uint8Array }));

describe('shares', () => {
  it.each([
    ['GF(2^8), polynomial 0x11b', 9, 4, 1, 8, 0x11bn],
    ['GF(2^8) at 255 holders', 255, 3, 1, 8, 0x11bn],
    ['GF(2^16), polynomial 0x1100b', 256, 3, 2, 16, 0x1100bn],
    ['GF(2^16) with large x', 1_000, 2, 2, 16, 0x1100bn],
  ] as const)('are values of the drawn polynomial: %s', (_, holders, threshold, width, bits, modulus) => {
    const secret = Uint8Array.from({ length: 32 }, (_, i) => 37 * i + 11);
    const { random, drawn } = recordedRandom(holders & 255);
    const shares = splitSecret(secret, holders, threshold, random);
    expect(drawn.map(({ length }) => length)).toEqual([(threshold - 1) * 32]);
    const size = 32 / width;
    const coefficients = elementsOf(drawn[0] as Uint8Array, width);
    const constants = elementsOf(secret, width);
    expect(shares.length).toBe(holders);
    shares.forEach((share, index) => {
      const x = BigInt(index + 1);
      const expected = constants.map((constant, i) => {
        let value = 0n;
        for (let k = threshold - 2; k >= 0; k--)
          value = product(value ^ (coefficients[k * size + i] as bigint), x, bits, modulus);
        return value ^ constant;
      });
      expect(elementsOf(share, width)).toEqual(expected);
    });
  });

  it('give the secret back from any threshold of them, in any order', () => {
    const world = fc
      .record({
        holders: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.constantFrom(100, 255, 256, 300)),
        portion: fc.double({ min: 0, max: 1, noNaN: true }),
        secret: fc.oneof(fc.constantFrom(2, 4, 6, 32).chain((n) => fc.uint8Array({ minLength: n, maxLength: n }))),
        seed: fc.nat(255),
      })
      .chain((world) => {
        const threshold = Math.max(1, Math.min(40, Math.ceil(world.portion * world.holders)));
        const xs = Array.from({ length: world.holders }, (_, i) => i + 1);
        return fc.record({
          world: fc.constant({ ...world, threshold }),
          chosen: fc.shuffledSubarray(xs, { minLength: threshold, maxLength: threshold }),
        });
      });
    fc.assert(
      fc.property(world, ({ world: { holders, threshold, secret, seed }, chosen }) => {
        const shares = splitSecret(secret, holders, threshold, recordedRandom(seed).random);
        expect(combineShares(at(shares, chosen), holders)).toEqual(secret);
      }),
      { numRuns: 60 },
    );
  });

  it('of two fields do not share the weights of equal x coordinates', () => {
    const secret = Uint8Array.from({ length: 32 }, (_, i) => i + 1);
    const xs = [3, 7, 11];
    for (const holders of [20, 300, 20]) {
      const shares = splitSecret(secret, holders, xs.length, recordedRandom(holders & 255).random);
      expect(combineShares(at(shares, xs), holders)).toEqual(secret);
    }
  });

  it('give another value from fewer than the threshold, and after a change of any one share', () => {
    const secret = nodeRandom(32);
    const shares = splitSecret(secret, 10, 7, nodeRandom);
    expect(toHex(combineShares(at(shares, [1, 2, 3, 4, 5, 6]), 10))).not.toBe(toHex(secret));
    for (let x = 1; x <= 7; x++) {
      const changed = at(shares, [1, 2, 3, 4, 5, 6, 7]).map((entry) =>
        entry.x === x ? { x, share: entry.share.map((byte, i) => (i === 5 ? byte ^ 1 : byte)) } : entry,
      );
      expect(toHex(combineShares(changed, 10))).not.toBe(toHex(secret));
    }
  });

  it('say nothing below the threshold: one share of two is the same distribution for every secret', () => {
    // All 256 polynomials of degree 1 for each of a few secrets: the share takes every value once.
    for (const constant of [0, 1, 0x80, 0xff]) {
      for (const x of [1, 2, 255]) {
        const seen = new Set<number>();
        for (let coefficient = 0; coefficient < 256; coefficient++) {
          const shares = splitSecret(Uint8Array.of(constant), 255, 2, () => Uint8Array.of(coefficient));
          seen.add((shares[x - 1] as Uint8Array)[0] as number);
        }
        expect(seen.size).toBe(256);
      }
    }
  });

  it('fit elements of every multiple of x (no zero divisors): each x gives another share of a line', () => {
    const shares = splitSecret(Uint8Array.of(0, 0), 65_535, 2, () => Uint8Array.of(1, 0));
    expect(new Set(shares.map(toHex)).size).toBe(65_535);
  });

  it('are the secret itself for a threshold of one, without randomness', () => {
    const secret = Uint8Array.of(1, 2);
    const { random, drawn } = recordedRandom(1);
    expect(splitSecret(secret, 3, 1, random)).toEqual([secret, secret, secret]);
    expect(drawn.every(({ length }) => length === 0)).toBe(true);
  });

  it('wipe the drawn coefficients and leave the secret alone', () => {
    const secret = Uint8Array.of(5, 6);
    let kept: Uint8Array | undefined;
    splitSecret(secret, 5, 3, (length) => {
      kept = nodeRandom(length).fill(9);
      return kept;
    });
    expect([...(kept as Uint8Array)]).toEqual([0, 0, 0, 0]);
    expect([...secret]).toEqual([5, 6]);
  });
});

describe('refusals', () => {
  it.each([
    [0, 1],
    [3, 0],
    [3, 4],
    [3, 1.5],
    [65_536, 2],
    [2.5, 2],
  ])('no sharing among %d with threshold %d', (holders, threshold) => {
    expect(codeOf(() => splitSecret(new Uint8Array(2), holders, threshold, nodeRandom))).toBe('USAGE_RANGE');
  });

  it('no odd length over 16-bit elements', () => {
    expect(codeOf(() => splitSecret(new Uint8Array(3), 256, 2, nodeRandom))).toBe('USAGE_RANGE');
    expect(splitSecret(new Uint8Array(3), 255, 2, nodeRandom).length).toBe(255);
  });

  it.each([[[]], [[1, 1]], [[0, 1]], [[1, 6]], [[1, 1.5]]])('no combination at x = %j', (xs) => {
    const shares = xs.map((x) => ({ x, share: new Uint8Array(2) }));
    expect(codeOf(() => combineShares(shares, 5))).toBe('USAGE_RANGE');
  });

  it('no shares of different length, or of half an element', () => {
    const share = (length: number, x: number) => ({ x, share: new Uint8Array(length) });
    expect(codeOf(() => combineShares([share(2, 1), share(4, 2)], 5))).toBe('CRYPTO_SHARE');
    expect(codeOf(() => combineShares([share(3, 1), share(3, 2)], 300))).toBe('CRYPTO_SHARE');
  });
});
