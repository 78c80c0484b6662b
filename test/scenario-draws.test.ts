import { describe, expect, it } from 'vitest';
import { createDataset } from '../src/data/dataset.ts';
import { drawDirichlet, drawLogNormalFloor, drawNormal } from '../src/data/draws.ts';
import { FEDPROX_FEATURES, generateFedProxSynthetic } from '../src/data/fedprox-synthetic.ts';
import {
  drawClass,
  splitByCounts,
  splitByDirichlet,
  splitByOwner,
  splitDatasetByDirichlet,
  splitTrainTest,
} from '../src/data/partition.ts';
import { portableExp, portableLog, portableSin } from '../src/data/portable.ts';
import { createRandom } from '../src/data/random.ts';
import { codeOf } from './support/code-of.ts';

/** Distance in units of the last place of the larger value. */
function ulps(a: number, b: number): number {
  return Math.abs(a - b) / (Math.max(Math.abs(a), Math.abs(b)) * Number.EPSILON || Number.EPSILON);
}

describe('portable functions', () => {
  it('agree with those of the engine to a few units in the last place', () => {
    const random = createRandom(5);
    const worst = { exp: 0, expNear: 0, log: 0, logNear: 0, sin: 0 };
    for (let i = 0; i < 20_000; i++) {
      const x = random.uniform(-700, 700);
      worst.exp = Math.max(worst.exp, ulps(portableExp(x), Math.exp(x)));
      const small = random.uniform(-1, 1);
      worst.expNear = Math.max(worst.expNear, ulps(portableExp(small), Math.exp(small)));
      const positive = portableExp(random.uniform(-600, 600));
      worst.log = Math.max(worst.log, ulps(portableLog(positive), Math.log(positive)));
      const near = 1 + random.uniform(-1e-3, 1e-3);
      worst.logNear = Math.max(worst.logNear, ulps(portableLog(near), Math.log(near)));
      const angle = random.uniform(-20, 20);
      worst.sin = Math.max(worst.sin, Math.abs(portableSin(angle) - Math.sin(angle)));
    }
    expect(worst.exp).toBeLessThan(6);
    expect(worst.expNear).toBeLessThan(4);
    expect(worst.log).toBeLessThan(4);
    expect(worst.logNear).toBeLessThan(4);
    expect(worst.sin).toBeLessThan(2e-15);
  });

  it('are exact where it matters and defined at the ends', () => {
    expect([portableExp(0), portableExp(-1000), portableExp(1000)]).toEqual([1, 0, Number.POSITIVE_INFINITY]);
    expect(portableExp(Number.NaN)).toBeNaN();
    expect([portableLog(1), portableLog(0)]).toEqual([0, Number.NEGATIVE_INFINITY]);
    expect(portableLog(Number.POSITIVE_INFINITY)).toBe(Number.POSITIVE_INFINITY);
    expect(portableLog(-1)).toBeNaN();
    expect(portableLog(8)).toBe(3 * Math.LN2);
    expect(portableLog(5e-324)).toBeCloseTo(-744.44, 2);
    expect(portableSin(0)).toBe(0);
    expect(portableSin(Math.PI / 2)).toBeCloseTo(1, 15);
  });

  it('give frozen bits', () => {
    expect([portableExp(1.5), portableLog(3), portableSin(2)]).toEqual([
      4.4816890703380645, 1.0986122886681098, 0.9092974268256816,
    ]);
  });
});

/** Distribution function of N(0, 1) by the series of Marsaglia 2004; for tests. */
function normalCdf(x: number): number {
  if (Math.abs(x) > 8) return x < 0 ? 0 : 1;
  let term = x;
  let sum = x;
  for (let n = 3; Math.abs(term) > 1e-17; n += 2) {
    term = (term * x * x) / n;
    sum += term;
  }
  return 0.5 + sum * Math.exp(-0.5 * x * x) * 0.3989422804014327;
}

describe('draws', () => {
  it('are normal: every bin of N(0, 1) and the tails hold their share', () => {
    const random = createRandom(11);
    const draws = 400_000;
    const edges = Array.from({ length: 37 }, (_, i) => -3.6 + 0.2 * i);
    const bins = new Float64Array(edges.length + 1);
    let sum = 0;
    let squares = 0;
    for (let i = 0; i < draws; i++) {
      const x = drawNormal(random);
      const bin = edges.findIndex((edge) => x < edge);
      const at = bin < 0 ? edges.length : bin;
      bins[at] = (bins[at] ?? 0) + 1;
      sum += x;
      squares += x * x;
    }
    const cdf = [0, ...edges.map(normalCdf), 1];
    const chiSquare = bins.reduce((total, n, i) => {
      const expected = draws * ((cdf[i + 1] ?? 0) - (cdf[i] ?? 0));
      return total + (n - expected) ** 2 / expected;
    }, 0);
    // 37 degrees of freedom, p = 1e-4.
    expect(chiSquare).toBeLessThan(76.4);
    // Five standard errors.
    expect(Math.abs(sum / draws)).toBeLessThan(5 / Math.sqrt(draws));
    expect(Math.abs(squares / draws - 1)).toBeLessThan(5 * Math.sqrt(2 / draws));
  });

  it('are lognormal integers', () => {
    const random = createRandom(12);
    const values = Array.from({ length: 20_001 }, () => drawLogNormalFloor(random, 4, 2)).sort((a, b) => a - b);
    // Median e^4 = 54.6 and quartiles e^(4 -+ 1.349); standard error of the median about 1.8 %.
    expect(Math.abs((values[10_000] ?? 0) / 54.6 - 1)).toBeLessThan(0.08);
    expect(Math.abs((values[15_000] ?? 0) / 210.4 - 1)).toBeLessThan(0.1);
    expect(values.every(Number.isInteger)).toBe(true);
  });

  it('are Dirichlet: shares sum to 1 with the right mean and variance, also for tiny concentrations', () => {
    const random = createRandom(13);
    for (const concentrations of [
      [0.2, 0.5, 1.3],
      [4, 1, 2],
      [0.01, 0.01, 0.01],
    ]) {
      const total = concentrations.reduce((sum, a) => sum + a, 0);
      const n = 20_000;
      const first = new Float64Array(3);
      const second = new Float64Array(3);
      let worst = 0;
      for (let i = 0; i < n; i++) {
        const shares = drawDirichlet(random, concentrations);
        worst = Math.max(worst, Math.abs(shares.reduce((sum, share) => sum + share, 0) - 1));
        shares.forEach((share, c) => {
          first[c] = (first[c] ?? 0) + share / n;
          second[c] = (second[c] ?? 0) + (share * share) / n;
        });
      }
      expect(worst).toBeLessThan(1e-12);
      concentrations.forEach((a, c) => {
        const mean = a / total;
        const variance = (mean * (1 - mean)) / (total + 1);
        expect(Math.abs((first[c] ?? 0) - mean)).toBeLessThan(5 * Math.sqrt(variance / n));
        expect(Math.abs((second[c] ?? 0) - mean * mean - variance)).toBeLessThan(5 * Math.sqrt(mean / n));
      });
    }
    expect([...drawDirichlet(random, [0, 3])]).toEqual([0, 1]);
    for (const wrong of [[], [0], [-1, 2], [Number.NaN], [Number.POSITIVE_INFINITY]])
      expect(codeOf(() => drawDirichlet(random, wrong))).toBe('USAGE_RANGE');
  });
});

describe('partitions', () => {
  const labels = Uint8Array.from({ length: 3000 }, (_, i) => i % 10);
  const all = (parts: readonly Uint32Array[]): number[] => parts.flatMap((part) => [...part]);

  it('splits records once each into training and test', () => {
    const records = Uint32Array.from({ length: 11 }, (_, i) => 5 * i);
    const { train, test } = splitTrainTest(createRandom(1), records, 0.8);
    expect([train.length, test.length]).toEqual([8, 3]);
    expect(all([train, test]).sort((a, b) => a - b)).toEqual([...records]);
    expect(splitTrainTest(createRandom(1), records.subarray(0, 2), 0.01).train).toHaveLength(1);
    expect(codeOf(() => splitTrainTest(createRandom(1), records.subarray(0, 1), 0.8))).toBe('USAGE_RANGE');
    for (const share of [0, 1, Number.NaN])
      expect(codeOf(() => splitTrainTest(createRandom(1), records, share))).toBe('USAGE_RANGE');
  });

  it('splits by a Dirichlet draw: one class each for small alpha, equal shares for a large one', () => {
    /** Mean share of a participant's most frequent class. */
    const skew = (alpha: number): number => {
      const parts = splitByDirichlet(createRandom(2), labels, 10, 30, alpha);
      expect(parts.map((part) => part.length)).toEqual(Array(30).fill(100));
      expect(new Set(all(parts)).size).toBe(3000);
      const tops = parts.map((part) => {
        const counts = new Uint32Array(10);
        for (const place of part) counts[labels[place] ?? 0] = (counts[labels[place] ?? 0] ?? 0) + 1;
        return Math.max(...counts) / 100;
      });
      return tops.reduce((sum, top) => sum + top, 0) / 30;
    };
    expect(skew(0.001)).toBeGreaterThan(0.85);
    const middle = skew(1);
    expect(middle > 0.35 && middle < 0.8).toBe(true);
    expect(skew(100_000)).toBeLessThan(0.2);
    expect(splitByDirichlet(createRandom(3), labels, 10, 7, 1).map((part) => part.length)).toEqual(Array(7).fill(428));
    for (const [participants, alpha] of [
      [0, 1],
      [3001, 1],
      [2.5, 1],
      [3, 0],
      [3, Number.NaN],
    ] as const)
      expect(codeOf(() => splitByDirichlet(createRandom(2), labels, 10, participants, alpha))).toBe('USAGE_RANGE');
  });

  it('draws a class by its share among those that are left', () => {
    const random = createRandom(7);
    const counts = [0, 0, 0];
    for (let i = 0; i < 10_000; i++) {
      const label = drawClass(random, Float64Array.of(0.6, 0.3, 0.1), [0, 5, 5]);
      counts[label] = (counts[label] ?? 0) + 1;
    }
    expect(counts[0]).toBe(0);
    // Three quarters; five standard errors.
    expect(Math.abs((counts[1] ?? 0) / 10_000 - 0.75)).toBeLessThan(0.022);
    expect(drawClass(random, Float64Array.of(1, 0, 0), [0, 0, 3])).toBe(2);
  });

  it('splits any data set', () => {
    const features = Float32Array.from(labels, (_, i) => i);
    const parts = splitDatasetByDirichlet(createRandom(6), createDataset(1, 10, features, labels), 5, {
      alpha: 0.3,
      trainShare: 0.75,
    });
    expect(parts.map(({ train, test }) => [train.count, test.count])).toEqual(Array(5).fill([450, 150]));
    const records = parts.flatMap(({ train, test }) => [...train.features, ...test.features]);
    expect(records.sort((a, b) => a - b)).toEqual([...features]);
    for (const { train } of parts) expect(train.labels).toEqual(Uint8Array.from(train.features, (i) => i % 10));
  });

  it('splits by counts', () => {
    const counts = [Uint32Array.of(2, 0, 1), Uint32Array.of(298, 3, 0)];
    const parts = splitByCounts(createRandom(4), labels, 10, counts);
    expect(parts.map((part) => [0, 1, 2].map((c) => part.filter((place) => labels[place] === c).length))).toEqual([
      [2, 0, 1],
      [298, 3, 0],
    ]);
    expect(new Set(all(parts)).size).toBe(304);
    expect(codeOf(() => splitByCounts(createRandom(4), labels, 10, [Uint32Array.of(301)]))).toBe('USAGE_RANGE');
    const eleven = new Uint32Array(11).fill(1);
    expect(codeOf(() => splitByCounts(createRandom(4), labels, 10, [eleven]))).toBe('USAGE_RANGE');
  });

  it('groups by owner', () => {
    expect(splitByOwner([7, 3, 7]).map(({ owner, records }) => [owner, ...records])).toEqual([
      [3, 1],
      [7, 0, 2],
    ]);
  });
});

describe('Synthetic(alpha, beta)', () => {
  const deviation = (values: readonly number[]): number => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
  };

  it('draws inputs with variances j^-1.2 around centers of deviation beta', () => {
    const users = generateFedProxSynthetic(3, 0, 5);
    const spreads = [0, 1, 9, 59].map((feature) => {
      const all = users.flatMap(({ train: { features, count } }) => {
        const own = Array.from({ length: count }, (_, i) => features[i * FEDPROX_FEATURES + feature] ?? 0);
        const mean = own.reduce((sum, value) => sum + value, 0) / count;
        return own.map((value) => value - mean);
      });
      return deviation(all) ** 2 * (feature + 1) ** 1.2;
    });
    // Variance estimates of some 10,000 records.
    for (const spread of spreads) expect(Math.abs(spread - 1)).toBeLessThan(0.08);
    const centers = users.map(({ train: { features, count } }) => {
      return features.reduce((sum, value) => sum + value, 0) / (count * FEDPROX_FEATURES);
    });
    // 30 users: standard error of a deviation about 13 %.
    expect(Math.abs(deviation(centers) / 5 - 1)).toBeLessThan(0.45);
  });

  it('refuses impossible settings', () => {
    for (const [alpha, beta] of [
      [-1, 1],
      [1, Number.NaN],
      [101, 0],
    ] as const)
      expect(codeOf(() => generateFedProxSynthetic(1, alpha, beta))).toBe('USAGE_RANGE');
  });
});
