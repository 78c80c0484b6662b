import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseNumericCsv } from '../src/data/csv.ts';
import { HEART_FEATURES, HEART_HOSPITALS, parseHeart } from '../src/data/heart.ts';

const FOLDER = join(process.env['COVEY_DATA'] ?? join(import.meta.dirname, '..', '..', 'shared', 'data'), 'uci-heart');
const hasData = existsSync(join(FOLDER, HEART_HOSPITALS[0]?.file ?? ''));

/** 46 complete rows, as many as Switzerland has; the first is chosen by the caller. */
function switzerland(first: string): string {
  const other = '50,1,4,120,0,0,0,130,1,1.0,2,?,?,1';
  return [first, ...Array.from({ length: 45 }, () => other)].join('\n');
}

describe('numeric csv', () => {
  it('reads numbers, marks what is missing and skips empty lines', () => {
    const rows = parseNumericCsv('1,?,.5\r\n\n-2.0, 3e2 ,0\n', 3);
    expect(rows.map((row) => [...row])).toEqual([
      [1, Number.NaN, 0.5],
      [-2, 300, 0],
    ]);
  });

  it('names the line that is wrong, not its content', () => {
    expect(() => parseNumericCsv('1,2\n1,2,3\n', 2)).toThrow(/expected 2 columns in line 2, got 3/);
    for (const cell of ['0x10', '', 'Infinity', 'secret', '1 2', '--1']) {
      expect(() => parseNumericCsv(`1,${cell}`, 2)).toThrow(/expected numbers in line 1$/);
    }
  });
});

describe('heart disease records', () => {
  it('scales by public ranges, clamps, and marks categories', () => {
    const text = switzerland('50,1,3,140,250,?,2,130,0,1.5,1,?,?,3\n20,0,2,80,600,1,1,60,1,-9,1,?,?,0');
    // The first row lacks blood sugar and is dropped; the second leaves 46.
    const { train } = parseHeart(
      2,
      text,
      Array.from({ length: 16 }, (_, i) => i + 30),
    );
    const row = [...train.features.subarray(0, HEART_FEATURES)];
    expect(row).toEqual([-1, -1, -1, 1, 1, -1, 1, -1, 1, 0, 0, 1, 0]);
    expect(train.labels[0]).toBe(0);
    expect(train.labels[1]).toBe(1);
  });

  it('gives a record the same features whatever the other records are (record rule)', () => {
    const row = '63,1,1,145,233,1,2,150,0,2.3,3,0,6,0';
    const test = Array.from({ length: 16 }, (_, i) => i + 30);
    const a = parseHeart(2, switzerland(row), test).train.features.subarray(0, HEART_FEATURES);
    const other = switzerland(row).replaceAll('50,1,4,120', '79,0,2,199');
    const b = parseHeart(2, other, test).train.features.subarray(0, HEART_FEATURES);
    expect([...a]).toEqual([...b]);
  });

  it('refuses other files, hospitals and splits', () => {
    expect(() => parseHeart(4, '')).toThrow(/"hospital" expected 0 to 3, got 4/);
    expect(() => parseHeart(2, '50,1,4,120,0,0,0,130,1,1.0,2,?,?,1')).toThrow(/expected 46 complete rows, got 1/);
    const text = switzerland('50,1,4,120,0,0,0,130,1,1.0,2,?,?,0');
    for (const indices of [[1, 1], [46], [-1], [0.5]])
      expect(() => parseHeart(2, text, indices)).toThrow(/"testIndices"/);
  });

  it.skipIf(!hasData)('reads the four hospitals (needs the data folder: COVEY_DATA or ../shared/data)', () => {
    const published = JSON.parse(readFileSync(join(FOLDER, 'flamby_test_indices.json'), 'utf8')) as Record<
      string,
      number[]
    >;
    const keys = ['cleveland', 'hungarian', 'switzerland', 'va'];
    HEART_HOSPITALS.forEach((facts, hospital) => {
      const text = readFileSync(join(FOLDER, facts.file), 'utf8');
      for (const indices of [undefined, published[keys[hospital] ?? '']]) {
        const { train, test } = parseHeart(hospital, text, indices);
        expect([train.count, test.count]).toEqual([facts.trainRecords, facts.testRecords]);
        for (const value of [...train.features, ...test.features]) expect(value >= -1 && value <= 1).toBe(true);
        const sick = [...train.labels, ...test.labels].filter((label) => label === 1).length;
        // UCI publishes 139 of Cleveland's 303; Switzerland is nearly one class.
        if (hospital === 0) expect(sick).toBe(139);
        if (hospital === 2) expect(sick).toBeGreaterThan(40);
      }
      expect(parseHeart(hospital, text)).toEqual(parseHeart(hospital, text));
    });
  });
});
