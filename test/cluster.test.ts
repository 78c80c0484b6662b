import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import type { KeyStream } from '../protocol/crypto-provider.ts';
import { countNoiseMargin, keptSlots, openSlots } from '../src/cluster/census.ts';
import {
  chooseByExponentialMechanism,
  chooseLowestLoss,
  chooseSeveralByExponentialMechanism,
  clippedLossScore,
} from '../src/cluster/choice.ts';
import { drawSeat, seatRank } from '../src/cluster/founding.ts';
import { hiddenLayout } from '../src/cluster/layout.ts';
import { bestSlotOfRecord, scaleBySoftWeights, softWeights } from '../src/cluster/soft.ts';

function stream(seed: number): KeyStream {
  const key = new Uint8Array(32);
  new DataView(key.buffer).setUint32(0, seed);
  return nodeCrypto.aes256Ctr(key);
}

/** Shares of the choices over many streams. */
function frequencies(
  scores: readonly number[],
  epsilon: number,
  sensitivity: number,
  monotone: boolean,
  draws: number,
): number[] {
  const counts = scores.map(() => 0);
  for (let i = 0; i < draws; i++) {
    const chosen = chooseByExponentialMechanism(Float64Array.from(scores), epsilon, sensitivity, monotone, stream(i));
    counts[chosen] = (counts[chosen] ?? 0) + 1;
  }
  return counts;
}

function expectDistribution(counts: readonly number[], weights: readonly number[]): void {
  const draws = counts.reduce((sum, n) => sum + n, 0);
  const total = weights.reduce((sum, w) => sum + w, 0);
  const chiSquare = counts.reduce((sum, n, j) => {
    const expected = (draws * (weights[j] ?? 0)) / total;
    return sum + (n - expected) ** 2 / expected;
  }, 0);
  // At most 3 degrees of freedom here, p = 1e-4.
  expect(chiSquare).toBeLessThan(21.1);
}

describe('private choice of a slot', () => {
  const scores = [-10, -12, -9.5, -20];

  it('draws with probability proportional to exp(epsilon q / B) for monotone scores', () => {
    expectDistribution(
      frequencies(scores, 0.8, 2, true, 4_000),
      scores.map((q) => Math.exp((0.8 * q) / 2)),
    );
  });

  it('draws several slots one after another among those that are left, with the probabilities of the ordered draws', () => {
    const weights = scores.slice(0, 3).map((q) => Math.exp((0.8 * q) / 2));
    const pairs = [
      [0, 1],
      [0, 2],
      [1, 0],
      [1, 2],
      [2, 0],
      [2, 1],
    ] as const;
    const counts = pairs.map(() => 0);
    for (let i = 0; i < 4_000; i++) {
      const of = (draw: number): KeyStream => stream(2 * i + draw);
      const [a, b] = chooseSeveralByExponentialMechanism(Float64Array.from(scores.slice(0, 3)), 2, 0.8, 2, true, of);
      const at = pairs.findIndex(([x, y]) => x === a && y === b);
      counts[at] = (counts[at] ?? Number.NaN) + 1;
    }
    const total = weights.reduce((sum, w) => sum + w, 0);
    const chance = ([a, b]: (typeof pairs)[number]): number =>
      ((weights[a] as number) / total) * ((weights[b] as number) / (total - (weights[a] as number)));
    // 5 degrees of freedom, p = 1e-4.
    const chiSquare = counts.reduce((sum, n, i) => {
      const expected = 4_000 * chance(pairs[i] as (typeof pairs)[number]);
      return sum + (n - expected) ** 2 / expected;
    }, 0);
    expect(chiSquare).toBeLessThan(25.8);
  });

  it('halves the exponent when a record may move scores both ways', () => {
    expectDistribution(
      frequencies(scores, 0.8, 2, false, 4_000),
      scores.map((q) => Math.exp((0.8 * q) / 4)),
    );
  });

  it('is not thrown by sums far from zero, and takes the best one when all else is hopeless', () => {
    expectDistribution(frequencies([-100_000, -100_001], 1, 2, true, 2_000), [1, Math.exp(-0.5)]);
    expect(frequencies([-1e6, -3, -1e6], 1, 2, true, 50)).toEqual([0, 50, 0]);
    expect(frequencies([-5], 1, 2, true, 3)).toEqual([3]);
  });

  it('clips losses, counts what is no number as the bound, and moves by at most the bound, downward', () => {
    const losses = Float64Array.of(0.5, 3, Number.NaN, Number.POSITIVE_INFINITY, -0.25);
    expect(clippedLossScore(losses, 2)).toBe(-6.5);
    for (const added of [0, 1.5, 2, 900, Number.NaN, Number.NEGATIVE_INFINITY]) {
      const moved = clippedLossScore(Float64Array.of(...losses, added), 2) - clippedLossScore(losses, 2);
      expect(moved <= 0 && moved >= -2).toBe(true);
    }
  });

  it('sums losses on the grid without an error, whatever their number and order', () => {
    const bound = 0.3;
    const steps = (losses: Float64Array): number => Math.round((clippedLossScore(losses, bound) / bound) * 2 ** 20);
    const random = new Uint32Array(200_001);
    stream(3).read(new Uint8Array(random.buffer));
    const losses = Float64Array.from(random, (word) => word / 2 ** 33);
    const whole = clippedLossScore(losses, bound);
    for (const order of [losses.toReversed(), losses.toSorted()]) expect(clippedLossScore(order, bound)).toBe(whole);
    for (const record of [0, 77, 200_000]) {
      const without = steps(losses.filter((_, i) => i !== record));
      expect(without - steps(losses)).toBe(-steps(losses.subarray(record, record + 1)));
    }
  });

  it('refuses what it cannot charge', () => {
    const choose = (q: number[], epsilon: number, bound: number): number =>
      chooseByExponentialMechanism(Float64Array.from(q), epsilon, bound, true, stream(1));
    expect(() => choose([], 1, 1)).toThrow(/"scores"/);
    expect(() => choose([Number.NaN, 1], 1, 1)).toThrow(/"scores"/);
    expect(() => choose([1], 0, 1)).toThrow(/"epsilon"/);
    expect(() => choose([1], 1, 0)).toThrow(/"epsilon"/);
  });

  it('chooses the lowest training loss where the choice is free', () => {
    expect(chooseLowestLoss([Float64Array.of(1, 2), Float64Array.of(0.5, 2), Float64Array.of(2.5, 0)])).toBe(1);
    expect(chooseLowestLoss([Float64Array.of(1), Float64Array.of(1)])).toBe(0);
  });
});

describe('founding seats', () => {
  it('draws every position about equally often, also where 2^32 is no multiple', () => {
    const bins = new Float64Array(12);
    const source = stream(99);
    for (let i = 0; i < 24_000; i++) {
      const seat = drawSeat(12, source);
      bins[seat] = (bins[seat] ?? 0) + 1;
    }
    // 11 degrees of freedom, p = 1e-4.
    expect(bins.reduce((sum, n) => sum + (n - 2_000) ** 2 / 2_000, 0)).toBeLessThan(37.4);
    for (const positions of [0, 70_000, 1.5]) expect(() => drawSeat(positions, source)).toThrow(/"positions"/);
  });

  it('rejects the words that would favour low positions', () => {
    // 2^32 mod 65535 = 1: only the highest word is refused.
    const words = [0xffff_ffff, 3];
    const source: KeyStream = {
      read: (target) => new DataView(target.buffer).setUint32(0, words.shift() ?? 0, true),
    };
    expect(drawSeat(65_535, source)).toBe(3);
  });

  it('ranks occupied positions and gives no slot for a seat that is lost or shared', () => {
    const sum = Int32Array.of(0, 1, 0, 2, 0, 1, 1);
    expect([1, 5, 6].map((position) => seatRank(sum, position))).toEqual([0, 2, 3]);
    expect(seatRank(sum, 3)).toBeNull();
    expect(seatRank(sum, 4)).toBeNull();
  });
});

describe('census', () => {
  it('keeps the slots with the largest noisy counts in their old order', () => {
    expect(keptSlots([0.2, 4.1, -1, 3.9, 4.1, 0], 3)).toEqual([1, 3, 4]);
    expect(keptSlots([1, 1, 1], 2)).toEqual([0, 1]);
  });

  it('opens a slot only if its count less noise and losses passes the floor', () => {
    const rule = { noiseMargin: 1.5, maxLoss: 1, minCluster: 3 };
    expect(openSlots([5.5, 5.49, 9, 0], rule)).toEqual([true, false, true, false]);
    expect(openSlots([0, 9], { ...rule, minCluster: 0 })).toEqual([true, true]);
  });

  it('bounds the noise on the counts by a Gaussian tail over all slots', () => {
    expect(countNoiseMargin(0, 3, 1e-3)).toBe(0);
    // sqrt(2 ln 3000) = 4.0016...
    expect(countNoiseMargin(2, 3, 1e-3)).toBeCloseTo(2 * 4.00164, 3);
    expect(() => countNoiseMargin(1, 3, 0)).toThrow(/"failure"/);
  });
});

describe('hidden slots', () => {
  it('lays out a padded body and one padded block for each slot', () => {
    const blocks = hiddenLayout({ bodyLength: 3_120, headLength: 490, slots: 3 });
    expect(blocks.map(({ realLength, length, rotated }) => [realLength, length, rotated])).toEqual([
      [3_120, 4_096, true],
      [490, 512, true],
      [490, 512, true],
      [490, 512, true],
    ]);
    expect(new Set(blocks.map(({ segment }) => segment)).size).toBe(4);
    expect(hiddenLayout({ bodyLength: 0, headLength: 28, slots: 1 }).map(({ length }) => length)).toEqual([1, 32]);
  });
});

describe('soft clusters', () => {
  const losses = [Float64Array.of(1, 5, 1, 1), Float64Array.of(2, 1, 2, 2), Float64Array.of(9, 9, 9, 9)];

  it('weighs slots by the share of records that they serve best, floored before the sum is made one', () => {
    const weights = softWeights(losses);
    expect(weights[0]).toBeCloseTo(0.75 / 1.0001, 12);
    expect(weights[1]).toBeCloseTo(0.25 / 1.0001, 12);
    expect(weights[2]).toBeCloseTo(1e-4 / 1.0001, 12);
    expect(weights.reduce((sum, w) => sum + w, 0)).toBeCloseTo(1, 14);
    expect([0, 1, 2].map((record) => bestSlotOfRecord(losses, record))).toEqual([0, 1, 0]);
    expect(() => softWeights([])).toThrow(/"losses"/);
  });

  it('keeps the norm of the update over all slots together', () => {
    const update = Float64Array.of(3, -4);
    const slots = scaleBySoftWeights(update, softWeights(losses));
    const norm = Math.sqrt(slots.flatMap((slot) => [...slot]).reduce((sum, v) => sum + v * v, 0));
    expect(norm).toBeLessThanOrEqual(5);
    expect(scaleBySoftWeights(update, Float64Array.of(0, 1))).toEqual([Float64Array.of(0, -0), Float64Array.of(3, -4)]);
    expect(() => scaleBySoftWeights(update, Float64Array.of(0.9, 0.9))).toThrow(/"weights"/);
    expect(() => scaleBySoftWeights(update, Float64Array.of(1.5, -0.5))).toThrow(/"weights"/);
  });
});
