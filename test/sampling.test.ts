import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import type { KeyStream } from '../protocol/crypto-provider.ts';
import { poissonSample } from '../src/learning/sampling.ts';

const stream = (seed: number): KeyStream => nodeCrypto.aes256Ctr(new Uint8Array(32).fill(seed));

/** A stream of given 32-bit words, then zeros. */
function wordStream(words: readonly number[]): KeyStream {
  let at = 0;
  return {
    read: (target) => {
      const view = new DataView(target.buffer, target.byteOffset, target.byteLength);
      for (let i = 0; i + 4 <= target.length; i += 4) view.setUint32(i, words[at++] ?? 0, true);
    },
  };
}

describe('Poisson sampling', () => {
  it('draws each record with its probability, independently', () => {
    for (const probability of [0.5, 0.1, 0.93]) {
      const count = 200;
      const rounds = 1_000;
      const hits = new Float64Array(count);
      let squares = 0;
      for (let round = 0; round < rounds; round++) {
        const key = new Uint8Array(32);
        new DataView(key.buffer).setFloat64(0, round + probability);
        const drawn = poissonSample(count, probability, nodeCrypto.aes256Ctr(key));
        for (const record of drawn) hits[record] = (hits[record] ?? 0) + 1;
        squares += (drawn.length - count * probability) ** 2;
        expect([...drawn]).toEqual([...new Set(drawn)].sort((a, b) => a - b));
      }
      const variance = probability * (1 - probability);
      const chiSquare = hits.reduce((sum, n) => sum + (n - rounds * probability) ** 2 / (rounds * variance), 0);
      // 200 degrees of freedom: mean 200, deviation 20.
      expect(Math.abs(chiSquare - 200)).toBeLessThan(100);
      // Batch sizes are binomial: a fixed-size draw has no spread, a clustered one too much.
      expect(squares / rounds / (count * variance)).toBeGreaterThan(0.8);
      expect(squares / rounds / (count * variance)).toBeLessThan(1.2);
    }
  });

  it('compares exactly with the binary digits of the probability', () => {
    const half = 0x8000_0000;
    expect([...poissonSample(3, 0.5, wordStream([half - 1, half, 0]))]).toEqual([0, 2]);
    // A probability of 2^-33 has a zero first word: only a draw of 0 goes on, and then the second word decides.
    const tiny = 2 ** -33;
    expect([...poissonSample(1, tiny, wordStream([1]))]).toEqual([]);
    expect([...poissonSample(1, tiny, wordStream([0, half - 1]))]).toEqual([0]);
    expect([...poissonSample(1, tiny, wordStream([0, half]))]).toEqual([]);
    // 0.1 = 0x19999999.9999a...: a tie of the first word is decided by the next.
    expect([...poissonSample(1, 0.1, wordStream([0x1999_9999, 0x9999_9999]))]).toEqual([0]);
    expect([...poissonSample(1, 0.1, wordStream([0x1999_9999, 0x9999_a000]))]).toEqual([]);
    expect([...poissonSample(1, 0.1, wordStream([0x1999_999a]))]).toEqual([]);
  });

  it('takes all records at probability 1, none of nothing, and refuses other numbers', () => {
    expect([...poissonSample(4, 1, stream(1))]).toEqual([0, 1, 2, 3]);
    expect(poissonSample(0, 0.5, stream(1)).length).toBe(0);
    for (const probability of [0, -0.1, 1.1, Number.NaN]) {
      expect(() => poissonSample(3, probability, stream(1))).toThrow(/"probability" expected 0 < q <= 1/);
    }
  });

  it('draws beyond one block of the keystream and repeats for one key only', () => {
    const a = poissonSample(5_000, 0.5, stream(3));
    expect([...a]).toEqual([...poissonSample(5_000, 0.5, stream(3))]);
    expect([...a]).not.toEqual([...poissonSample(5_000, 0.5, stream(4))]);
    expect(Math.abs(a.filter((record) => record >= 2_500).length - 1_250)).toBeLessThan(150);
  });
});
