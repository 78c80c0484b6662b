import { nodeCrypto } from '../../platform/node/crypto.ts';
import { createDiscreteGaussian } from '../../src/privacy/discrete-gaussian.ts';
import { createSkellam } from '../../src/privacy/skellam.ts';
import type { NoiseSampler } from '../../src/privacy/table-sampler.ts';
import { discreteGaussianPmf } from './discrete-gaussian-pmf.ts';
import { skellamPmf } from './skellam-pmf.ts';

/** Deviations at which both laws are tested: narrow and wide scans, both sides of 64, a table of thousands. */
export const DEVIATIONS: readonly number[] = [0.7, 1, 2, 10, 100, 1_000];

/** A law with its sampler and its probabilities, computed apart from it. */
export interface TestedLaw {
  readonly name: string;
  readonly create: (variance: number) => NoiseSampler;
  readonly pmf: (variance: number) => ReadonlyMap<number, number>;
}

export const LAWS: readonly TestedLaw[] = [
  { name: 'discrete Gaussian', create: createDiscreteGaussian, pmf: discreteGaussianPmf },
  { name: 'Skellam', create: createSkellam, pmf: skellamPmf },
];

/** How often each value was drawn; value x is at x + reach. */
export interface DrawCounts {
  readonly counts: Float64Array;
  readonly reach: number;
  readonly total: number;
}

/** Draws from keystreams of the seeds, as many from each. */
export function countDraws(sampler: NoiseSampler, seeds: readonly number[], drawsPerSeed: number): DrawCounts {
  const reach = Math.ceil(40 * Math.sqrt(sampler.variance)) + 40;
  const counts = new Float64Array(2 * reach + 1);
  const block = new Int32Array(1 << 20);
  for (const seed of seeds) {
    const stream = nodeCrypto.aes256Ctr(new Uint8Array(32).fill(seed));
    for (let left = drawsPerSeed; left > 0; left -= block.length) {
      const part = block.subarray(0, Math.min(left, block.length));
      sampler.fill(part, stream);
      for (let i = 0; i < part.length; i++) {
        const at = (part[i] as number) + reach;
        counts[at] = (counts[at] as number) + 1;
      }
    }
  }
  return { counts, reach, total: drawsPerSeed * seeds.length };
}

/**
 * Pearson's chi-square as a standard score. Values are joined into bins of `width`, and bins expected less than 20
 * times into one.
 */
export function scoreCounts(drawn: DrawCounts, pmf: ReadonlyMap<number, number>, width: number): number {
  const { counts, reach, total } = drawn;
  const bins = new Map<number, { expected: number; count: number }>();
  for (const [x, probability] of pmf) {
    const bin = bins.get(Math.round(x / width)) ?? { expected: 0, count: 0 };
    bin.expected += total * probability;
    bin.count += counts[x + reach] as number;
    bins.set(Math.round(x / width), bin);
  }
  const rest = { expected: total, count: total };
  let statistic = 0;
  let cells = 0;
  for (const { expected, count } of bins.values()) {
    if (expected < 20) continue;
    statistic += (count - expected) ** 2 / expected;
    cells += 1;
    rest.expected -= expected;
    rest.count -= count;
  }
  if (rest.expected > 0.5) {
    statistic += (rest.count - rest.expected) ** 2 / rest.expected;
    cells += 1;
  }
  return (statistic - (cells - 1)) / Math.sqrt(2 * (cells - 1));
}

/** Mean and mean square as standard scores, with the moments of the law for their errors. */
export function momentScores(
  { counts, reach, total }: DrawCounts,
  pmf: ReadonlyMap<number, number>,
): { readonly mean: number; readonly second: number } {
  let [second, fourth] = [0, 0];
  for (const [x, probability] of pmf) {
    second += probability * x ** 2;
    fourth += probability * x ** 4;
  }
  let [mean, square] = [0, 0];
  counts.forEach((count, at) => {
    mean += ((at - reach) * count) / total;
    square += ((at - reach) ** 2 * count) / total;
  });
  return {
    mean: mean / Math.sqrt(second / total),
    second: (square - second) / Math.sqrt((fourth - second ** 2) / total),
  };
}
