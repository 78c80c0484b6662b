import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { componentCount } from '../protocol/noise-seeds.ts';
import { packLanes } from '../protocol/ring.ts';
import type { NoiseComponent } from '../protocol/session.ts';
import {
  addDropoutNoise,
  baseVariance,
  checkComponents,
  componentVariance,
  removeDropoutNoise,
  totalForColluders,
} from '../src/privacy/dropout-noise.ts';
import { createSkellam } from '../src/privacy/skellam.ts';
import { codeOf } from './support/code-of.ts';
import { GOLDEN_FOLDER, readGolden } from './support/golden.ts';
import { baseParams, createMembers } from './support/session-world.ts';

const crypto = nodeCrypto;
const { roster } = createMembers(4);

interface Case {
  readonly id: string;
  readonly input: { readonly numClients: number; readonly dropoutTolerance: number; readonly targetVariance: number };
  readonly expected: {
    readonly base: number;
    readonly components: readonly number[];
    readonly check: readonly { readonly dropped: number; readonly keptPerSurvivor: number; readonly total: number }[];
  };
}

/** What a survivor keeps of S = 1 when `dropped` of `members` are lost, as an exact fraction. */
function keptExactly(members: bigint, dropped: bigint): readonly [bigint, bigint] {
  let [numerator, denominator] = [1n, members];
  for (let k = 1n; k <= dropped; k++) {
    const other = (members - k + 1n) * (members - k);
    [numerator, denominator] = [numerator * other + denominator, denominator * other];
  }
  return [numerator, denominator];
}

const golden = readGolden('golden_formulas.json') as { readonly cases: readonly Case[] } | null;
describe.skipIf(golden === null)(`published dropout-exact noise (folder ${GOLDEN_FOLDER})`, () => {
  for (const { id, input, expected } of golden?.cases.filter((c) => c.id.startsWith('xnoise')) ?? []) {
    it(id, () => {
      const { numClients: n, dropoutTolerance, targetVariance: total } = input;
      expect(baseVariance(n, total) / expected.base).toBeCloseTo(1, 12);
      const components = Array.from({ length: dropoutTolerance }, (_, i) => componentVariance(n, i + 1, total));
      expect(components.length).toBe(expected.components.length);
      components.forEach((variance, i) => {
        expect(variance / (expected.components[i] as number)).toBeCloseTo(1, 12);
      });
      for (const { dropped, keptPerSurvivor, total: kept } of expected.check) {
        const own = components.slice(0, dropped).reduce((sum, v) => sum + v, baseVariance(n, total));
        expect(own / keptPerSurvivor).toBeCloseTo(1, 12);
        expect(((n - dropped) * own) / kept).toBeCloseTo(1, 12);
      }
    });
  }
});

describe('dropout-exact noise', () => {
  it('leaves the same variance whoever drops out, exactly', () => {
    for (const n of [4n, 7n, 10n, 255n]) {
      for (let dropped = 0n; dropped < n; dropped++) {
        const [numerator, denominator] = keptExactly(n, dropped);
        expect(numerator * (n - dropped)).toBe(denominator);
      }
    }
  });

  it('never leaves less than is charged for rounding the variances to doubles', () => {
    // A double as a whole number of units of 2^-200; these have no bits below.
    const exact = (x: number): bigint => {
      let [mantissa, shift] = [x, 0n];
      while (!Number.isInteger(mantissa)) {
        mantissa *= 2;
        shift += 1n;
      }
      return (BigInt(mantissa) << 200n) >> shift;
    };
    for (const [n, minSurvivors, shareVariance] of [
      [7, 3, 1_234.567],
      [13, 5, 98_765.4321 / 3],
      [10, 7, 1e9 / 7],
    ] as const) {
      const total = minSurvivors * shareVariance;
      for (let dropped = 0; dropped <= n - minSurvivors; dropped++) {
        const used = [baseVariance(n, total)];
        for (let k = 1; k <= dropped; k++) used.push(componentVariance(n, k, total));
        const kept = used.reduce((sum, v) => sum + exact(v), 0n) * BigInt(n - dropped);
        // S = t times the share of the parameters, in exact arithmetic.
        const owed = exact(shareVariance) * BigInt(minSurvivors);
        expect(kept >= owed).toBe(true);
        expect(Number(kept - owed) / Number(owed)).toBeLessThan(2 ** -49);
      }
    }
  });

  it('scales for colluders so that the fewest survivors keep the target among the honest ones, and more keep more', () => {
    for (const [t, c] of [
      [3, 0],
      [7, 2],
      [20, 6],
    ] as const) {
      const total = totalForColluders(100, t, c);
      const honest = (survivors: number): number => (total * (survivors - c)) / survivors;
      expect(honest(t)).toBeCloseTo(100, 10);
      for (let u = t; u < t + 20; u++) expect(honest(u + 1)).toBeGreaterThanOrEqual(honest(u));
    }
    expect(codeOf(() => totalForColluders(100, 3, 3))).toBe('PRIVACY_NOISE');
    expect(codeOf(() => totalForColluders(100, 3, -1))).toBe('PRIVACY_NOISE');
    expect(codeOf(() => totalForColluders(100, 2.5, 1))).toBe('PRIVACY_NOISE');
  });

  it('refuses components that do not exist or cannot be drawn', () => {
    for (const k of [0, 5, 6, 1.5]) expect(codeOf(() => componentVariance(5, k, 1))).toBe('USAGE_RANGE');
    expect(codeOf(() => baseVariance(0, 1))).toBe('USAGE_RANGE');
    expect(codeOf(() => checkComponents(10, 22.4))).toBe('PRIVACY_NOISE');
    expect(codeOf(() => checkComponents(10, 22.5))).toBeNull();
    expect(codeOf(() => checkComponents(10, Number.NaN))).toBe('PRIVACY_NOISE');
  });

  for (const lanes of [2, 3, 4] as const) {
    it(`takes off what it added, word for word (${lanes} lanes)`, () => {
      const params = baseParams(roster, 1_001, lanes, {
        noise: { mechanism: 'skellam', shareVariance: 300, tolerance: 3 },
      });
      const members = 7;
      const seeds = Array.from({ length: componentCount(params, members) }, (_, i): NoiseComponent => {
        return { number: i + 1, seed: new Uint8Array(32).fill(i + 1) };
      });
      expect(seeds.length).toBe(3);
      const base = (): ReturnType<typeof crypto.aes256Ctr> => crypto.aes256Ctr(new Uint8Array(32).fill(99));
      const values = new Int32Array(1_001).fill(-5);
      addDropoutNoise(crypto, values, params, members, seeds, base());
      const sum = packLanes(values, lanes);
      removeDropoutNoise(crypto, sum, params, members, seeds.slice(1));
      const kept = new Int32Array(1_001).fill(-5);
      const total = 3 * 300;
      createSkellam(baseVariance(members, total)).add(kept, base());
      const [first] = seeds as [NoiseComponent];
      createSkellam(componentVariance(members, 1, total)).add(kept, crypto.aes256Ctr(first.seed));
      expect(sum).toEqual(packLanes(kept, lanes));
      expect(kept.some((value) => value !== -5)).toBe(true);
    });
  }

  it('refuses to add fewer components than are charged', () => {
    const params = baseParams(roster, 10, 2, { noise: { mechanism: 'skellam', shareVariance: 300, tolerance: 3 } });
    const seed = new Uint8Array(32);
    const add = (numbers: readonly number[], members = 7): string | null =>
      codeOf(() =>
        addDropoutNoise(
          crypto,
          new Int32Array(10),
          params,
          members,
          numbers.map((number) => ({ number, seed })),
          crypto.aes256Ctr(seed),
        ),
      );
    expect(add([1, 2, 3])).toBeNull();
    expect(add([1, 2])).toBe('PRIVACY_NOISE');
    expect(add([2, 1, 3])).toBe('PRIVACY_NOISE');
    expect(add([1, 2, 3], 5)).toBe('PRIVACY_NOISE');
    expect(add([1, 2], 5)).toBeNull();
  });
});
