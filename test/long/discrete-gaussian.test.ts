import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { createDiscreteGaussian } from '../../src/privacy/discrete-gaussian.ts';
import { sampleDiscreteGaussianExact } from '../../src/privacy/discrete-gaussian-exact.ts';
import { rationalOf } from '../../src/privacy/fixed-point.ts';
import { chiSquareScore, discreteGaussianPmf, expectedMoments } from '../support/discrete-gaussian-pmf.ts';

/** Seeds 1 to SEEDS, DRAWS draws each: enough to see a relative error of 1e-3 in any probability above 1 %. */
const SEEDS = 8;
const DRAWS = 12_500_000;

const seeded = (seed: number) => nodeCrypto.aes256Ctr(new Uint8Array(32).fill(seed));

/** Counts of all draws, by value. */
function countDraws(stddev: number): Map<number, number> {
  const sampler = createDiscreteGaussian(stddev * stddev);
  const reach = Math.ceil(40 * stddev);
  const counts = new Float64Array(2 * reach + 1);
  const block = new Int32Array(1 << 20);
  for (let seed = 1; seed <= SEEDS; seed++) {
    const stream = seeded(seed);
    for (let left = DRAWS; left > 0; left -= block.length) {
      const part = block.subarray(0, Math.min(left, block.length));
      sampler.fill(part, stream);
      for (const value of part) counts[value + reach] = (counts[value + reach] as number) + 1;
    }
  }
  return new Map(Array.from(counts, (count, i) => [i - reach, count]));
}

function scoreCounts(counts: ReadonlyMap<number, number>, probabilities: ReadonlyMap<number, number>): number {
  const total = SEEDS * DRAWS;
  let statistic = 0;
  let cells = 0;
  let restCount = total;
  let restExpected = total;
  for (const [x, probability] of probabilities) {
    const expected = total * probability;
    if (expected < 20) continue;
    const count = counts.get(x) ?? 0;
    statistic += (count - expected) ** 2 / expected;
    cells += 1;
    restCount -= count;
    restExpected -= expected;
  }
  if (restExpected > 0.5) {
    statistic += (restCount - restExpected) ** 2 / restExpected;
    cells += 1;
  }
  return (statistic - (cells - 1)) / Math.sqrt(2 * (cells - 1));
}

describe('discrete Gaussian, 100 million draws', () => {
  for (const stddev of [0.7, 1.5, 2, 10, 100, 127.9, 128, 1_000]) {
    it(`fits the exact probabilities and moments at standard deviation ${stddev}`, () => {
      const counts = countDraws(stddev);
      const pmf = discreteGaussianPmf(stddev * stddev);
      expect(Math.abs(scoreCounts(counts, pmf))).toBeLessThan(4);
      const total = SEEDS * DRAWS;
      const { second, fourth } = expectedMoments(pmf);
      let mean = 0;
      let square = 0;
      for (const [x, count] of counts) {
        mean += (x * count) / total;
        square += (x * x * count) / total;
      }
      expect(Math.abs(mean) / Math.sqrt(second / total)).toBeLessThan(4);
      expect(Math.abs(square - second) / Math.sqrt((fourth - second ** 2) / total)).toBeLessThan(4);
    }, 300_000);
  }

  it('agrees with the exact sampler, 300,000 draws, at standard deviation 3', () => {
    const draws = sampleDiscreteGaussianExact(rationalOf(9), 300_000, seeded(99)).map(Number);
    expect(Math.abs(chiSquareScore(draws, (x) => x, discreteGaussianPmf(9)).z)).toBeLessThan(4);
  }, 300_000);
});
