import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { scanPlain, searchPlain } from '../protocol/kernels/sampler-plain.ts';
import { createDiscreteGaussian } from '../src/privacy/discrete-gaussian.ts';
import { sampleDiscreteGaussianExact } from '../src/privacy/discrete-gaussian-exact.ts';
import { discreteGaussianLaw } from '../src/privacy/discrete-gaussian-law.ts';
import { rationalOf } from '../src/privacy/fixed-point.ts';
import { createSkellam } from '../src/privacy/skellam.ts';
import { skellamLaw } from '../src/privacy/skellam-law.ts';
import { buildThresholdTable } from '../src/privacy/threshold-table.ts';
import { countDraws, DEVIATIONS, LAWS, momentScores, scoreCounts } from './support/noise-laws.ts';

const DRAWS = 1_000_000;
/** Bins of an eighth of a deviation: a deviation that is wrong by 1 % stands out of the scatter of a million draws. */
const binOf = (stddev: number): number => Math.max(1, Math.floor(stddev / 8));

for (const { name, create, pmf } of LAWS) {
  describe(`${name}, a million draws`, () => {
    for (const stddev of DEVIATIONS) {
      it(`fit the probabilities and moments at deviation ${stddev}, and miss those of 1 % more or less`, () => {
        const expected = pmf(stddev * stddev);
        const drawn = countDraws(create(stddev * stddev), [71], DRAWS);
        expect(Math.abs(scoreCounts(drawn, expected, binOf(stddev)))).toBeLessThan(4);
        const { mean, second } = momentScores(drawn, expected);
        expect(Math.max(Math.abs(mean), Math.abs(second))).toBeLessThan(4);
        for (const factor of [0.99, 1.01]) {
          const planted = countDraws(create((factor * stddev) ** 2), [71], DRAWS);
          expect(scoreCounts(planted, expected, binOf(stddev))).toBeGreaterThan(6);
        }
      });
    }
  });
}

describe('against slower samplers', () => {
  /** Chi-square of two samples of equal size, as a standard score; values beyond `reach` are joined. */
  function compare(a: readonly number[], b: readonly number[], reach: number): number {
    const cellOf = (x: number): number => Math.max(-reach, Math.min(reach, x)) + reach;
    const [left, right] = [new Float64Array(2 * reach + 1), new Float64Array(2 * reach + 1)];
    for (const x of a) left[cellOf(x)] = (left[cellOf(x)] as number) + 1;
    for (const x of b) right[cellOf(x)] = (right[cellOf(x)] as number) + 1;
    let statistic = 0;
    left.forEach((n, cell) => {
      const m = right[cell] as number;
      if (n + m > 0) statistic += (n - m) ** 2 / (n + m);
    });
    return (statistic - 2 * reach) / Math.sqrt(4 * reach);
  }
  const drawn = (sampler: ReturnType<typeof createSkellam>, count: number): number[] => {
    const values = new Int32Array(count);
    sampler.fill(values, nodeCrypto.aes256Ctr(new Uint8Array(32).fill(72)));
    return [...values];
  };
  const stream = () => nodeCrypto.aes256Ctr(new Uint8Array(32).fill(73));

  it.each([
    [0.7, 3],
    [2, 7],
    [10, 30],
  ])('the discrete Gaussian agrees with Canonne, Kamath and Steinke at deviation %d', (stddev, reach) => {
    const exact = sampleDiscreteGaussianExact(rationalOf(stddev ** 2), 40_000, stream()).map(Number);
    expect(Math.abs(compare(drawn(createDiscreteGaussian(stddev ** 2), 40_000), exact, reach))).toBeLessThan(4);
    const wrong = drawn(createDiscreteGaussian((1.05 * stddev) ** 2), 40_000);
    expect(compare(wrong, exact, reach)).toBeGreaterThan(4);
  });

  it.each([
    [0.7, 3],
    [2, 7],
  ])('Skellam noise agrees with differences of Poisson counts at deviation %d', (stddev, reach) => {
    const words = new Uint32Array(1 << 21);
    stream().read(new Uint8Array(words.buffer));
    let at = 0;
    // Knuth: arrivals until the product of uniforms falls below exp(-mean).
    const poisson = (mean: number): number => {
      let [count, product] = [-1, 1];
      for (; product > Math.exp(-mean); count++) product *= ((words[at++] as number) + 0.5) / 2 ** 32;
      return count;
    };
    const counts = Array.from({ length: 40_000 }, () => poisson(stddev ** 2 / 2) - poisson(stddev ** 2 / 2));
    expect(at).toBeLessThan(words.length);
    expect(Math.abs(compare(drawn(createSkellam(stddev ** 2), 40_000), counts, reach))).toBeLessThan(4);
    expect(compare(drawn(createSkellam((1.05 * stddev) ** 2), 40_000), counts, reach)).toBeGreaterThan(4);
  });
});

describe('Skellam weights', () => {
  /** sum_j (v/2)^(2j+k) / (j! (j+k)!) in fixed point: the definition of I_k(v), for dyadic v. */
  function besselSeries(halfVariance: bigint, scale: bigint, k: number, bits: number): bigint {
    let term = 1n << BigInt(bits);
    for (let i = 1n; i <= BigInt(k); i++) term = (term * halfVariance) / (scale * i);
    let sum = 0n;
    for (let j = 1n; term > 0n; j++) {
      sum += term;
      term = (term * halfVariance * halfVariance) / (scale * scale * j * (j + BigInt(k)));
    }
    return sum;
  }

  it.each([0.25, 0.5, 4, 100, 400])(
    'are the series of the Bessel functions at variance %d, to 250 bits',
    (variance) => {
      const [bits, work] = [256, 2_400];
      const sums = skellamLaw(rationalOf(variance)).cumulativeWeights(1, true, bits);
      const weights = sums.map((_, k) => besselSeries(BigInt(variance * 8), 16n, k, work));
      const total = weights.reduce((sum, weight, k) => sum + (k === 0 ? weight : 2n * weight), 0n);
      let cumulative = 0n;
      weights.forEach((weight, k) => {
        cumulative += k === 0 ? weight : 2n * weight;
        const difference = (sums[k] as bigint) - (cumulative << BigInt(bits)) / total;
        expect(difference >= -2n && difference <= 2n).toBe(true);
      });
      // Nothing that 256 bits could name lies beyond the last weight.
      expect((sums.at(-1) as bigint) >= (1n << BigInt(bits)) - 2n).toBe(true);
    },
  );

  it('of wide cells, by the expansion in 1 / variance, are those of unit cells, by the recurrence', () => {
    const [bits, width] = [256, 16];
    const law = skellamLaw(rationalOf(1_100 ** 2));
    const unit = law.cumulativeWeights(1, false, bits + 64);
    const picked = law.cumulativeWeights(width, false, bits).map((_, k) => {
      const [above, below] = [unit[k * width] ?? 0n, k === 0 ? 0n : (unit[k * width - 1] ?? 0n)];
      return above === 0n ? 0n : above - below;
    });
    const total = picked.reduce((a, b) => a + b, 0n);
    let cumulative = 0n;
    law.cumulativeWeights(width, false, bits).forEach((sum, k) => {
      cumulative += picked[k] as bigint;
      const difference = sum - (cumulative << BigInt(bits)) / total;
      expect(difference >= -2n && difference <= 2n).toBe(true);
    });
  });

  it.each([1_100, 8.3e4, 1e6])('change as the expansion in doubles says, at deviation %d', (stddev) => {
    const law = skellamLaw(rationalOf(stddev ** 2));
    const width = 2 ** Math.floor(Math.log2(stddev / 64));
    for (let k = 0; (k + 1) * width < law.fastReach; k += 7) {
      for (const offset of [1, Math.floor(width / 2), width - 1]) {
        const ratio = Number(law.ratio(k * width, offset, 100) >> 40n) / 2 ** 60;
        expect(Math.abs(Math.exp(-law.exponent(k * width, offset)) - ratio)).toBeLessThan(law.slack / 8);
      }
    }
    expect(law.fastReach / stddev).toBeCloseTo(9, 6);
  });
});

describe('which thresholds a draw reads', () => {
  /** Positions read by `one`, in order. */
  function readsOf(make: typeof scanPlain, thresholds: Int32Array, draw: number): number[] {
    const reads: number[] = [];
    const recorded = new Proxy(thresholds, {
      get(target, key) {
        if (typeof key === 'string' && /^\d+$/.test(key)) reads.push(Number(key));
        const value = Reflect.get(target, key, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    make(recorded).one(draw);
    return reads;
  }
  const draws = [0, 1, 12_345, 2 ** 30, 2 ** 31 - 2, 2 ** 31 - 1];

  it('the scan reads all of them in order, whatever the draw', () => {
    for (const stddev of [0.7, 10, 64]) {
      const { prefix } = buildThresholdTable(discreteGaussianLaw(rationalOf(stddev ** 2)), 1, true);
      for (const draw of [...draws, prefix[0] as number, prefix[2] as number])
        expect(readsOf(scanPlain, prefix, draw)).toEqual(Array.from(prefix, (_, k) => k));
    }
  });

  it('scan and search find the same magnitudes, and the same draws that meet a threshold', () => {
    const { prefix } = buildThresholdTable(skellamLaw(rationalOf(20 ** 2)), 1, true);
    const [scan, search] = [scanPlain(prefix), searchPlain(prefix)];
    const near = [...prefix].flatMap((t) => [t - 1, t, t + 1]).filter((t) => t >= 0 && t < 2 ** 31);
    for (const draw of [...draws, ...near]) {
      const below = prefix.filter((t) => t < draw).length;
      const expected = prefix.includes(draw) ? -1 : below;
      expect([scan.one(draw), search.one(draw)]).toEqual([expected, expected]);
    }
  });
});

describe('arguments of Skellam noise', () => {
  it.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY, 0.2, 2 ** 51])('refuses variance %d', (variance) => {
    try {
      createSkellam(variance);
      expect.unreachable();
    } catch (error) {
      expect(isCoveyError(error, 'USAGE_RANGE')).toBe(true);
    }
  });

  it('gives one sampler for one law and variance, another for another', () => {
    expect(createSkellam(9)).toBe(createSkellam(9));
    expect(createSkellam(9)).not.toBe(createDiscreteGaussian(9));
    expect(createSkellam(9)).not.toBe(createSkellam(16));
  });
});
