import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { buildSplitManifest, createDataset, datasetHash } from '../src/data/dataset.ts';
import {
  DIGITS_FEATURES,
  DIGITS_ORGANIZATIONS,
  DIGITS_TEST_RECORDS,
  digitsNominalRecords,
  generateDigits,
} from '../src/data/digits.ts';
import { createRandom } from '../src/data/random.ts';

describe('random draws for data', () => {
  it('gives the words that an independent implementation of sfc32 gives', () => {
    const random = createRandom(1, 2);
    expect([random.word(), random.word(), random.word()]).toEqual([1_003_938_855, 1_258_076_216, 1_448_011_787]);
    expect(random.uniform(-1, 1)).toBe(0.8209683038975901);
  });

  it('keeps seeds and streams apart', () => {
    const first = (seed: number, stream: number): number => createRandom(seed, stream).word();
    const words = new Set([first(1, 2), first(2, 1), first(1, 3), first(0, 0), first(3, 1), first(0, 1)]);
    expect(words.size).toBe(6);
    expect(first(-1, 0)).toBe(first(0xffff_ffff, 0));
    expect(() => createRandom(1.5)).toThrow(/"seed" expected a 32-bit integer, got 1.5/);
  });

  it('draws uniform values and integers without bias', () => {
    const random = createRandom(7);
    const draws = 60_000;
    const bins = new Float64Array(6);
    let sum = 0;
    for (let i = 0; i < draws; i++) {
      const bin = random.integer(6);
      bins[bin] = (bins[bin] ?? 0) + 1;
      const value = random.uniform(-2, 4);
      expect(value >= -2 && value < 4).toBe(true);
      sum += value;
    }
    const expected = draws / 6;
    const chiSquare = bins.reduce((total, n) => total + (n - expected) ** 2 / expected, 0);
    // 5 degrees of freedom, p = 1e-4.
    expect(chiSquare).toBeLessThan(25.7);
    // Five standard errors of a uniform mean of width 6.
    expect(Math.abs(sum / draws - 1)).toBeLessThan((5 * 6) / Math.sqrt(12 * draws));
  });

  it('shuffles every position to every place about equally often', () => {
    const random = createRandom(3);
    const counts = Array.from({ length: 4 }, () => new Float64Array(4));
    for (let i = 0; i < 8_000; i++) {
      const values = Uint32Array.of(0, 1, 2, 3);
      random.shuffle(values);
      expect([...values].sort()).toEqual([0, 1, 2, 3]);
      values.forEach((value, place) => {
        const row = counts[value] as Float64Array;
        row[place] = (row[place] ?? 0) + 1;
      });
    }
    for (const row of counts) for (const n of row) expect(Math.abs(n - 2_000)).toBeLessThan(200);
  });
});

describe('digits scenario', () => {
  const organizations = Array.from({ length: DIGITS_ORGANIZATIONS }, (_, i) => generateDigits(1, i));

  it('gives the same bits as when it was frozen', () => {
    const hashes = [0, 4, 8].map((i) => {
      const { train, test } = generateDigits(1, i);
      return [datasetHash(nodeCrypto, train), datasetHash(nodeCrypto, test)];
    });
    expect(hashes).toEqual([
      [
        '544a5c2800820addd1b63314f1b93e2883a1025066c18b3c5b723008d2d1ac98',
        '10359cd89e6e8e807120ac365c291c90ccc999eca03b537ce21157916c46d7c5',
      ],
      [
        'e9384c60236c88a5ce7cbb457129488fd46ad83341378f7b56256f70c06cb275',
        'fed811ff31d9182a93dd416c024fe161194d86497e117cbbda4f05a9ec63b81b',
      ],
      [
        'f9e82003fca4fc379d4969b44dfc2386197c59c5d3b8a4558287e14af5518ec2',
        '1632e3aedfb1860f65fadec7cdffc2ca5435da0adf80f496d1f3ee1fa78b8685',
      ],
    ]);
    const manifest = buildSplitManifest(nodeCrypto, 'digits', 1, organizations);
    expect(manifest.organizations[4]?.trainSha256).toBe(hashes[1]?.[0]);
    expect(datasetHash(nodeCrypto, { ...createDataset(1, 2, Float32Array.of(1), Uint8Array.of(1)) })).toBe(
      // SHA-256 of 00 00 80 3f 01.
      Buffer.from(nodeCrypto.sha256(Uint8Array.of(0, 0, 0x80, 0x3f, 1))).toString('hex'),
    );
  });

  it('has the published sizes, groups and public denominators', () => {
    expect(organizations.map(({ train }) => train.count)).toEqual([
      60, 70, 80, 100, 90, 90, 150, 160, 140, 1200, 1100, 1300,
    ]);
    expect(organizations.map(({ group }) => group)).toEqual([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
    for (const { test } of organizations) expect(test.count).toBe(DIGITS_TEST_RECORDS);
    expect(digitsNominalRecords(12)).toBe(4_500);
    expect(() => generateDigits(1, 12)).toThrow(/"organization" expected an integer in \[0, 12\), got 12/);
  });

  it('normalizes every record and draws every class', () => {
    for (const { train, test } of organizations) {
      for (const { features, count } of [train, test]) {
        for (let record = 0; record < count; record++) {
          const row = features.subarray(record * DIGITS_FEATURES, (record + 1) * DIGITS_FEATURES);
          const mean = row.reduce((sum, value) => sum + value, 0) / DIGITS_FEATURES;
          const deviation = Math.sqrt(row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / DIGITS_FEATURES);
          expect(Math.abs(mean)).toBeLessThan(1e-6);
          expect(deviation).toBeGreaterThan(0.48);
          expect(deviation).toBeLessThan(0.5);
        }
      }
      expect(new Set(test.labels).size).toBe(10);
    }
  });

  it('depends on the seed and the organization only', () => {
    const again = generateDigits(1, 5);
    expect(again).toEqual(organizations[5]);
    expect(datasetHash(nodeCrypto, generateDigits(2, 5).train)).not.toBe(datasetHash(nodeCrypto, again.train));
  });

  it('writes style groups that are turned and mirrored: mean images differ inside a class until turned back', () => {
    const meanImage = (i: number, digit: number): number[] => {
      const { train } = organizations[i] as (typeof organizations)[number];
      const sum = new Array<number>(DIGITS_FEATURES).fill(0);
      let n = 0;
      train.labels.forEach((label, record) => {
        if (label !== digit) return;
        n++;
        for (let k = 0; k < DIGITS_FEATURES; k++)
          sum[k] = (sum[k] ?? 0) + (train.features[record * DIGITS_FEATURES + k] ?? 0);
      });
      return sum.map((value) => value / n);
    };
    const distance = (a: number[], b: number[]): number =>
      Math.sqrt(a.reduce((sum, v, k) => sum + (v - (b[k] ?? 0)) ** 2, 0));
    const upright = meanImage(9, 7);
    const turned = meanImage(10, 7);
    const mirrored = meanImage(11, 7);
    const unmirror = (image: number[]): number[] =>
      image.map((_, k) => image[8 * Math.floor(k / 8) + 7 - (k % 8)] ?? 0);
    expect(distance(turned.toReversed(), upright)).toBeLessThan(distance(turned, upright) / 2);
    expect(distance(unmirror(mirrored), upright)).toBeLessThan(distance(mirrored, upright) / 2);
  });

  it('refuses data whose shapes do not fit', () => {
    expect(() => createDataset(2, 2, new Float32Array(3), new Uint8Array(2))).toThrow(
      /"features" expected 4 values, got 3/,
    );
    try {
      createDataset(1, 2, new Float32Array(1), Uint8Array.of(2));
      expect.unreachable();
    } catch (error) {
      expect(isCoveyError(error, 'USAGE_RANGE')).toBe(true);
    }
  });
});
