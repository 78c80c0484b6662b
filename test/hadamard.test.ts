import { describe, expect, it } from 'vitest';
import { nobleCrypto } from '../platform/noble/crypto.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { toHex } from '../protocol/bytes.ts';
import {
  paddedLength,
  rotateBlock,
  rotationSigns,
  transformWalshHadamard,
  unrotateBlock,
} from '../src/privacy/hadamard.ts';

const SEED = Uint8Array.from({ length: 32 }, (_, i) => i);

/** Numbers with all mantissa bits in use, from integer arithmetic only. */
function numbers(length: number, salt: number): Float64Array {
  let state = 88_172_645 + salt;
  return Float64Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state / 2 ** 31 - 1) / 3;
  });
}

/** The definition, stage by stage over pairs. */
function plainTransform(x: Float64Array): void {
  for (let half = 1; half < x.length; half *= 2) {
    for (let i = 0; i < x.length; i++) {
      if ((i & half) !== 0) continue;
      const a = x[i] as number;
      const b = x[i + half] as number;
      x[i] = a + b;
      x[i + half] = a - b;
    }
  }
}

const squaredNorm = (x: Float64Array): number => x.reduce((sum, value) => sum + value * value, 0);

describe('Walsh-Hadamard transform', () => {
  it('multiplies by the matrix of signs (-1)^popcount(i & j)', () => {
    for (const length of [1, 2, 4, 8, 16, 32]) {
      const popcount = (n: number): number => n.toString(2).replaceAll('0', '').length;
      const x = Float64Array.from({ length }, (_, i) => (i * i) % 7);
      const expected = Array.from({ length }, (_, i) =>
        x.reduce((sum, value, j) => sum + (popcount(i & j) % 2 === 0 ? value : -value), 0),
      );
      transformWalshHadamard(x);
      expect([...x]).toEqual(expected);
    }
  });

  it('gives the bits of the plain radix-2 transform at every length', () => {
    for (let length = 1; length <= 8192; length *= 2) {
      const x = numbers(length, length);
      const y = Float64Array.from(x);
      transformWalshHadamard(x);
      plainTransform(y);
      expect(toHex(new Uint8Array(x.buffer)) === toHex(new Uint8Array(y.buffer))).toBe(true);
    }
  });

  it('refuses lengths that are no power of two', () => {
    for (const length of [0, 3, 12])
      expect(() => transformWalshHadamard(new Float64Array(length))).toThrow(/power of two/);
  });
});

describe('rotation of a block', () => {
  it('has frozen bits', () => {
    const x = numbers(16, 1);
    rotateBlock(x, rotationSigns(nodeCrypto, SEED, 'body', 16));
    expect(toHex(nodeCrypto.sha256(new Uint8Array(x.buffer)))).toBe(
      'fc8dbc4ecd86dae1de381478681cc3532db2ad73541f6c5273bb14f4ba133c29',
    );
    const y = numbers(512, 2);
    rotateBlock(y, rotationSigns(nodeCrypto, SEED, 'head/0', 512));
    expect(toHex(nodeCrypto.sha256(new Uint8Array(y.buffer)))).toBe(
      '0ca99df9f5a19e4a37f0177496cc664014e0fd8df670017844b82991e9489785',
    );
  });

  it('keeps the norm and is undone by its inverse', () => {
    for (const length of [1, 2, 64, 4096]) {
      const signs = rotationSigns(nodeCrypto, SEED, 'body', length);
      const x = numbers(length, 3);
      const y = Float64Array.from(x);
      rotateBlock(y, signs);
      expect(squaredNorm(y) / squaredNorm(x)).toBeCloseTo(1, 13);
      unrotateBlock(y, signs);
      for (let i = 0; i < length; i++) expect(Math.abs((y[i] as number) - (x[i] as number))).toBeLessThan(1e-14);
    }
  });

  it('spreads a spike evenly over all coordinates', () => {
    const x = new Float64Array(1024);
    x[77] = 32;
    rotateBlock(x, rotationSigns(nodeCrypto, SEED, 'body', 1024));
    expect(new Set(x.map(Math.abs))).toEqual(new Set([1]));
  });

  it('draws signs that differ by seed and segment, agree across providers and are balanced', () => {
    const signs = rotationSigns(nodeCrypto, SEED, 'body', 4096);
    expect([...rotationSigns(nobleCrypto, SEED, 'body', 4096)]).toEqual([...signs]);
    const agree = (other: Int8Array): number =>
      signs.reduce((count, sign, i) => count + (sign === other[i] ? 1 : 0), 0);
    const otherSeed = Uint8Array.from(SEED, (byte, i) => (i === 0 ? 255 : byte));
    for (const other of [
      rotationSigns(nodeCrypto, SEED, 'head/0', 4096),
      rotationSigns(nodeCrypto, otherSeed, 'body', 4096),
      new Int8Array(4096).fill(1),
    ]) {
      // 2,048 expected, standard deviation 32.
      expect(Math.abs(agree(other) - 2048)).toBeLessThan(160);
    }
    expect(new Set(signs)).toEqual(new Set([1, -1]));
    // A shorter block of the same name starts with the same signs.
    expect([...rotationSigns(nodeCrypto, SEED, 'body', 100)]).toEqual([...signs.subarray(0, 100)]);
  });

  it('pads to the next power of two', () => {
    expect([1, 2, 3, 490, 512, 513, 3120].map(paddedLength)).toEqual([1, 2, 4, 512, 512, 1024, 4096]);
  });

  it('refuses signs of another length', () => {
    expect(() => rotateBlock(new Float64Array(4), new Int8Array(8))).toThrow(/signs/);
  });
});
