import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createDiscreteGaussian } from '../src/privacy/discrete-gaussian.ts';
import { sampleDiscreteGaussianExact } from '../src/privacy/discrete-gaussian-exact.ts';
import { expNegative, isBelow, rationalOf } from '../src/privacy/fixed-point.ts';
import { chiSquareScore, discreteGaussianPmf } from './support/discrete-gaussian-pmf.ts';

const seeded = (byte: number) => nodeCrypto.aes256Ctr(new Uint8Array(32).fill(byte));

describe('Canonne-Kamath-Steinke sampler (the oracle)', () => {
  for (const variance of [0.49, 2.25, 100]) {
    it(`fits the exact probabilities at variance ${variance}`, () => {
      const draws = sampleDiscreteGaussianExact(rationalOf(variance), 30_000, seeded(1)).map(Number);
      const score = chiSquareScore(draws, (x) => x, discreteGaussianPmf(variance));
      expect(score.cells).toBeGreaterThan(2);
      expect(Math.abs(score.z)).toBeLessThan(4);
    });
  }

  it('agrees with the table sampler in a two-sample test at a wide deviation', () => {
    const stddev = 8.3e4;
    const count = 20_000;
    const slow = sampleDiscreteGaussianExact(rationalOf(stddev * stddev), count, seeded(2))
      .map(Number)
      .sort((a, b) => a - b);
    const fast = new Int32Array(count);
    createDiscreteGaussian(stddev * stddev).fill(fast, seeded(3));
    fast.sort();
    // Kolmogorov-Smirnov: largest distance of the two empirical distributions.
    let distance = 0;
    for (let i = 0, j = 0; i < count && j < count; ) {
      if ((slow[i] as number) <= (fast[j] as number)) i += 1;
      else j += 1;
      distance = Math.max(distance, Math.abs(i - j) / count);
    }
    // 1.95 is the critical value of level 0.001.
    expect(distance * Math.sqrt(count / 2)).toBeLessThan(1.95);
  });

  it('takes a variance that is no double', () => {
    const draws = sampleDiscreteGaussianExact(
      { numerator: 10n ** 30n, denominator: 3n * 10n ** 30n },
      20_000,
      seeded(4),
    ).map(Number);
    expect(Math.abs(chiSquareScore(draws, (x) => x, discreteGaussianPmf(1 / 3)).z)).toBeLessThan(4);
  });

  it('refuses a variance that is not positive', () => {
    expect(() => sampleDiscreteGaussianExact({ numerator: 0n, denominator: 1n }, 1, seeded(5))).toThrow(/variance/);
  });
});

describe('fixed-point exponential', () => {
  it('agrees with known digits of exp(-1) and exp(-10)', () => {
    // OEIS A068985: 0.36787944117144232159552377016146086744581113103176783450783680...
    const scale = 10n ** 60n;
    const digits = (expNegative({ numerator: 1n, denominator: 1n }, 256) * scale) >> 256n;
    expect(digits.toString().slice(0, 59)).toBe(
      '36787944117144232159552377016146086744581113103176783450783680'.slice(0, 59),
    );
    const ten = expNegative({ numerator: 10n, denominator: 1n }, 256);
    expect(Number(ten) / 2 ** 256).toBeCloseTo(Math.exp(-10), 18);
  });

  it('keeps its error bound: more digits never contradict fewer', () => {
    for (const y of [0, 1e-9, 0.3, 1, 1.999, 2, 7.5, 300]) {
      const fine = expNegative(rationalOf(y), 1024);
      const coarse = expNegative(rationalOf(y), 256);
      const difference = coarse * (1n << 768n) - fine;
      expect(difference > -(2n << 768n) && difference < 2n << 768n).toBe(true);
    }
  });

  it('decides a comparison by the first bit that differs, however late', () => {
    const third = (bits: number): bigint => (1n << BigInt(bits)) / 3n;
    // 1/3 = .010101...: the stream repeats it for 700 bits, then falls below or rises above.
    for (const above of [true, false]) {
      const script = (1n << 700n) / 3n + (above ? 1n : -1n);
      let left = 700;
      const random = {
        bits(count: number): bigint {
          let value = 0n;
          for (let i = 0; i < count; i++) {
            left -= 1;
            value = (value << 1n) | (left >= 0 ? (script >> BigInt(left)) & 1n : 0n);
          }
          return value;
        },
      };
      expect(isBelow(0n, 0, third, random)).toBe(!above);
      expect(left).toBeLessThan(0);
    }
  });

  it('takes a double as the exact number it is', () => {
    expect(rationalOf(0.75)).toEqual({ numerator: 3n, denominator: 4n });
    expect(rationalOf(2 ** 60)).toEqual({ numerator: 2n ** 60n, denominator: 1n });
    expect(() => rationalOf(Number.NaN)).toThrow(/finite/);
  });
});
