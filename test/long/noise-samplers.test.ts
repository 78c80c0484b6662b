import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { loadSamplerKernels, type SamplerKernels } from '../../protocol/kernels/sampler.ts';
import { scanPlain } from '../../protocol/kernels/sampler-plain.ts';
import { sampleDiscreteGaussianExact } from '../../src/privacy/discrete-gaussian-exact.ts';
import { discreteGaussianLaw } from '../../src/privacy/discrete-gaussian-law.ts';
import { rationalOf } from '../../src/privacy/fixed-point.ts';
import { skellamLaw } from '../../src/privacy/skellam-law.ts';
import { buildThresholdTable } from '../../src/privacy/threshold-table.ts';
import { chiSquareScore, discreteGaussianPmf } from '../support/discrete-gaussian-pmf.ts';
import { countDraws, DEVIATIONS, LAWS, momentScores, scoreCounts } from '../support/noise-laws.ts';

/** Seeds 1 to 8, as many draws from each: enough to see a relative error of 1e-3 in any probability above 1 %. */
const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8];
const DRAWS_PER_SEED = 12_500_000;

/** Beside the six deviations both ends of the scan, of unit cells and of wide cells. */
const MORE = [64, 64.1, 127.9, 1_024, 1_025];

for (const { name, create, pmf } of LAWS) {
  describe(`${name}, 100 million draws`, () => {
    for (const stddev of [...DEVIATIONS, ...MORE]) {
      it(`fit every probability and both moments at deviation ${stddev}`, () => {
        const expected = pmf(stddev * stddev);
        const drawn = countDraws(create(stddev * stddev), SEEDS, DRAWS_PER_SEED);
        expect(drawn.total).toBe(100_000_000);
        expect(Math.abs(scoreCounts(drawn, expected, 1))).toBeLessThan(4);
        const { mean, second } = momentScores(drawn, expected);
        expect(Math.max(Math.abs(mean), Math.abs(second))).toBeLessThan(4);
      }, 600_000);
    }

    for (const stddev of DEVIATIONS) {
      it(`miss the probabilities of a deviation of ${stddev} that is wrong by 1 %`, () => {
        const planted = countDraws(create((1.01 * stddev) ** 2), SEEDS, DRAWS_PER_SEED);
        expect(scoreCounts(planted, pmf(stddev * stddev), 1)).toBeGreaterThan(30);
      }, 600_000);
    }
  });
}

describe('one wrong threshold', () => {
  const kernels = loadSamplerKernels() as SamplerKernels;

  /** 100 million draws from a table whose threshold `k` is off by a part of its cell. */
  function scoreOf(
    law: ReturnType<typeof skellamLaw>,
    pmf: ReadonlyMap<number, number>,
    k: number,
    part: number,
  ): number {
    const prefix = buildThresholdTable(law, 1, true).prefix.slice();
    const cell = (prefix[k] as number) - (prefix[k - 1] as number);
    prefix[k] = (prefix[k] as number) + Math.round(part * cell);
    const inversion = kernels.inversion('scan', prefix) ?? scanPlain(prefix);
    const reach = 1_000;
    const counts = new Float64Array(2 * reach + 1);
    const draws = new Int32Array(kernels.words.length);
    const bytes = new Uint8Array(kernels.words.buffer, 0, kernels.words.byteLength);
    let total = 0;
    for (const seed of SEEDS) {
      const stream = nodeCrypto.aes256Ctr(new Uint8Array(32).fill(seed));
      for (let left = DRAWS_PER_SEED; left > 0; left -= draws.length) {
        stream.read(bytes);
        draws.fill(0);
        // Draws that meet a threshold (3 in 100 million) are left at zero.
        for (let from = 0; from < draws.length; )
          from = inversion.run(kernels.words, from, draws, from, draws.length) + 1;
        for (const x of draws) counts[x + reach] = (counts[x + reach] as number) + 1;
        total += draws.length;
      }
    }
    kernels.words.fill(0);
    return scoreCounts({ counts, reach, total }, pmf, 1);
  }

  it.each(LAWS.map((law) => [law.name, law] as const))(
    'of 1 % of its cell is seen in 100 million draws: %s',
    (name, { pmf }) => {
      const law = (name === 'Skellam' ? skellamLaw : discreteGaussianLaw)(rationalOf(100));
      expect(Math.abs(scoreOf(law, pmf(100), 7, 0))).toBeLessThan(4);
      for (const k of [1, 7, 15]) expect(scoreOf(law, pmf(100), k, 0.01)).toBeGreaterThan(10);
    },
    600_000,
  );
});

it('the exact sampler fits as well, 300,000 draws at deviation 3', () => {
  const stream = nodeCrypto.aes256Ctr(new Uint8Array(32).fill(99));
  const draws = sampleDiscreteGaussianExact(rationalOf(9), 300_000, stream).map(Number);
  expect(Math.abs(chiSquareScore(draws, (x) => x, discreteGaussianPmf(9)).z)).toBeLessThan(4);
}, 300_000);
