import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { createDataset, datasetHash, selectRecords } from '../src/data/dataset.ts';
import { HAR_FEATURES, HAR_RANGES, parseHar } from '../src/data/har.ts';
import { harSignalReader } from '../src/data/har-signals.ts';
import { parseTestRows } from '../src/data/heart.ts';
import { parseIdx } from '../src/data/idx.ts';
import { createImageSet, imageDataset, joinImageSets, once } from '../src/data/images.ts';
import { parsePfllibCounts } from '../src/data/pfllib.ts';
import { readWriters } from '../src/data/qmnist.ts';
import { pooledMoments, scaleByRanges, standardize } from '../src/data/scaling.ts';
import { codeOf } from './support/code-of.ts';

/** An idx file. Units: `type` as in the format. */
function idx(type: number, shape: readonly number[], values: readonly number[]): Uint8Array {
  const header = [
    0,
    0,
    type,
    shape.length,
    ...shape.flatMap((n) => [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255]),
  ];
  return Uint8Array.from([...header, ...values]);
}

describe('idx format', () => {
  it('reads every element type, big-endian', () => {
    expect(parseIdx(idx(8, [2, 2], [1, 2, 3, 255]))).toEqual({ shape: [2, 2], values: Uint8Array.of(1, 2, 3, 255) });
    expect(parseIdx(idx(9, [1], [255])).values).toEqual(Int8Array.of(-1));
    expect(parseIdx(idx(11, [1], [255, 254])).values).toEqual(Int16Array.of(-2));
    expect(parseIdx(idx(12, [1, 1], [0, 1, 0, 2])).values).toEqual(Int32Array.of(65_538));
    expect(parseIdx(idx(13, [1], [0xc0, 0x20, 0, 0])).values).toEqual(Float32Array.of(-2.5));
    expect(parseIdx(idx(14, [1], [0x40, 0x04, 0, 0, 0, 0, 0, 0])).values).toEqual(Float64Array.of(2.5));
    expect(parseIdx(idx(8, [0, 3], [])).values).toHaveLength(0);
  });

  it('reads from the middle of a buffer and keeps none of it', () => {
    const outer = Uint8Array.from([9, 9, ...idx(8, [2], [4, 5])]);
    const { values } = parseIdx(outer.subarray(2));
    outer.fill(0);
    expect([...values]).toEqual([4, 5]);
  });

  it('refuses what is not the declared array', () => {
    const good = idx(8, [2, 2], [1, 2, 3, 4]);
    expect(codeOf(() => parseIdx(good.subarray(0, good.length - 1)))).toBe('CODEC_TRUNCATED');
    expect(codeOf(() => parseIdx(Uint8Array.from([...good, 0])))).toBe('CODEC_TRAILING');
    expect(codeOf(() => parseIdx(good.subarray(0, 10)))).toBe('CODEC_TRUNCATED');
    expect(codeOf(() => parseIdx(good.subarray(0, 3)))).toBe('CODEC_TRUNCATED');
    expect(codeOf(() => parseIdx(idx(10, [1], [0])))).toBe('CODEC_TYPE');
    expect(codeOf(() => parseIdx(idx(8, [], [])))).toBe('CODEC_TYPE');
    expect(codeOf(() => parseIdx(idx(8, Array(9).fill(1), [0])))).toBe('CODEC_TYPE');
    expect(codeOf(() => parseIdx(Uint8Array.from([1, 0, 8, 1, 0, 0, 0, 0])))).toBe('CODEC_TYPE');
    for (const bits of [
      [0x7f, 0x80, 0, 0],
      [0x7f, 0xc0, 0, 0],
    ])
      expect(codeOf(() => parseIdx(idx(13, [1], bits)))).toBe('CODEC_TYPE');
  });

  it('refuses sizes before it takes memory, also behind a size of zero and beyond exact integers', () => {
    const huge = 0xffff_ffff;
    for (const shape of [[huge], [0, huge], [huge, huge, huge, huge, huge, huge, huge, huge], [1 << 15, 1 << 15]])
      expect(codeOf(() => parseIdx(idx(8, shape, [])))).toBe('CODEC_LIMIT');
    expect(codeOf(() => parseIdx(idx(8, [3], [1, 2, 3]), { maxElements: 2 }))).toBe('CODEC_LIMIT');
  });

  it('answers every damaged byte with one coded error or an array that fits its header', () => {
    const good = idx(12, [2, 3], Array(24).fill(7));
    for (let at = 0; at < 12; at++) {
      for (const value of [0, 1, 2, 3, 8, 9, 11, 13, 14, 127, 128, 255]) {
        const bytes = Uint8Array.from(good);
        bytes[at] = value;
        try {
          const { shape, values } = parseIdx(bytes);
          expect(values.length).toBe(shape.reduce((product, size) => product * size, 1));
        } catch (error) {
          expect(isCoveyError(error)).toBe(true);
          expect((error as Error).message).toMatch(/^"idx" expected .*, got /);
        }
      }
    }
  });
});

describe('images', () => {
  const images = (values: readonly number[]): ReturnType<typeof parseIdx> => parseIdx(idx(8, [2, 2, 2], values));
  const labels = parseIdx(idx(8, [2], [1, 0]));

  it('turns counterclockwise and scales by public constants', () => {
    const set = createImageSet(images([0, 51, 102, 255, 9, 9, 9, 9]), labels, 2);
    const view = (turns: number): number[] =>
      [...imageDataset(set, Uint32Array.of(0), { turns, range: [0, 255] }).features].map(Math.round);
    expect(view(0)).toEqual([0, 51, 102, 255]);
    expect(view(1)).toEqual([51, 255, 0, 102]);
    expect(view(2)).toEqual([255, 102, 51, 0]);
    expect(view(3)).toEqual([102, 0, 255, 51]);
    const scaled = imageDataset(set, Uint32Array.of(0), { turns: 0, range: [-1, 1] });
    expect(scaled.features[0]).toBe(-1);
    expect(scaled.features[3]).toBe(1);
    expect(scaled.labels).toEqual(Uint8Array.of(1));
  });

  it('refuses arrays that are no images with labels', () => {
    const good = images(Array(8).fill(0));
    expect(codeOf(() => createImageSet(labels, labels, 2))).toBe('CODEC_TYPE');
    expect(codeOf(() => createImageSet(good, good, 2))).toBe('CODEC_TYPE');
    expect(codeOf(() => createImageSet(good, parseIdx(idx(8, [1], [0])), 2))).toBe('CODEC_TYPE');
    expect(codeOf(() => createImageSet(good, parseIdx(idx(8, [2], [0, 2])), 2))).toBe('CODEC_TYPE');
    expect(codeOf(() => createImageSet(parseIdx(idx(8, [2, 1, 2], [0, 0, 0, 0])), labels, 2))).toBe('CODEC_TYPE');
    const set = createImageSet(good, labels, 2);
    expect(codeOf(() => imageDataset(set, Uint32Array.of(2)))).toBe('USAGE_RANGE');
    expect(codeOf(() => imageDataset(set, Uint32Array.of(0), { turns: 4, range: [0, 1] }))).toBe('USAGE_RANGE');
    expect(codeOf(() => joinImageSets(set, { ...set, side: 3 }))).toBe('USAGE_RANGE');
    expect(joinImageSets(set, set).labels).toEqual(Uint8Array.of(1, 0, 1, 0));
  });

  it('builds what is shared once', () => {
    let built = 0;
    const shared = once(() => ++built);
    expect([shared(), shared(), built]).toEqual([1, 1, 1]);
  });

  it('reads writers only beside the images they belong to', () => {
    const set = createImageSet(images(Array(8).fill(0)), labels, 2);
    const rows = (first: number, columns = 8): ReturnType<typeof parseIdx> => {
      const row = (label: number, series: number, writer: number): number[] =>
        [label, series, writer, 0, 0, 0, 0, 0].slice(0, columns).flatMap((n) => [0, 0, n >> 8, n & 255]);
      return parseIdx(idx(12, [2, columns], [...row(first, 4, 2154), ...row(0, 0, 3)]));
    };
    const { writers, populations } = readWriters(rows(1), set);
    expect([...writers]).toEqual([2154, 3]);
    expect([...populations]).toEqual([
      [2154, 1],
      [3, 0],
    ]);
    expect(() => readWriters(rows(0), set)).toThrow(/expected class 1 in row 0, got 0/);
    expect(codeOf(() => readWriters(rows(1, 7), set))).toBe('CODEC_TYPE');
    expect(codeOf(() => readWriters(labels, set))).toBe('CODEC_TYPE');
  });
});

describe('activity windows', () => {
  const index = (blocks: readonly object[], windows: number): string => JSON.stringify({ windows, blocks });
  const blocks = [
    { subject: 2, n: 1 },
    { subject: 1, n: 2 },
    { subject: 2, n: 1 },
  ];
  const features = (windows: number, value?: number): Uint8Array => {
    const values = Float32Array.from({ length: windows * HAR_FEATURES }, (_, i) => Math.floor(i / HAR_FEATURES));
    if (value !== undefined) values[HAR_FEATURES] = value;
    const view = new DataView(new ArrayBuffer(4 * values.length));
    for (const [i, v] of values.entries()) view.setFloat32(4 * i, v, true);
    return new Uint8Array(view.buffer);
  };
  const labels = Uint8Array.of(0, 1, 2, 5);

  it('gathers the windows of every subject', () => {
    const subjects = parseHar(index(blocks, 4), features(4), labels);
    expect(subjects.map(({ subject }) => subject)).toEqual([1, 2]);
    expect(subjects.map(({ data }) => [...data.labels])).toEqual([
      [1, 2],
      [0, 5],
    ]);
    expect(subjects[1]?.data.features[HAR_FEATURES]).toBe(3);
  });

  it('refuses an index, features or labels that do not fit', () => {
    const of =
      (text: string, f = features(4), l = labels): (() => unknown) =>
      () =>
        parseHar(text, f, l);
    const text = index(blocks, 4);
    expect(codeOf(of('{'))).toBe('CODEC_TYPE');
    for (const wrong of ['[]', 'null', '{"blocks":3}', index(blocks, 5), index([null as unknown as object], 4)])
      expect(codeOf(of(wrong))).toBe('CODEC_TYPE');
    for (const block of [
      { subject: 0, n: 4 },
      { subject: 1, n: 0 },
      { subject: 1.5, n: 4 },
      { subject: '1', n: 4 },
    ])
      expect(codeOf(of(index([block], 4)))).toBe('CODEC_TYPE');
    expect(codeOf(of(index([{ subject: 1001, n: 4 }], 4)))).toBe('CODEC_LIMIT');
    expect(codeOf(of(index(Array(1025).fill({ subject: 1, n: 1024 }), 1025 * 1024)))).toBe('CODEC_LIMIT');
    expect(codeOf(of(text, features(3)))).toBe('CODEC_TRUNCATED');
    expect(codeOf(of(text, features(5)))).toBe('CODEC_TRAILING');
    expect(codeOf(of(text, features(4), Uint8Array.of(0, 1, 2)))).toBe('CODEC_TRUNCATED');
    expect(() => parseHar(text, features(4), Uint8Array.of(0, 1, 6, 0))).toThrow(/classes below 6, got 6 at 2/);
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY])
      expect(codeOf(of(text, features(4, value)))).toBe('CODEC_TYPE');
  });

  it('computes features channel by channel from samples', () => {
    // Channel 0 swings once over the window, channel 6 stands at 1 g, the rest at 0.
    const view = new DataView(new ArrayBuffer(2 * 9 * 128));
    for (let t = 0; t < 128; t++) {
      view.setInt16(2 * (9 * t), Math.round(4000 * Math.cos((2 * Math.PI * t) / 128)), true);
      view.setInt16(2 * (9 * t + 6), 4000, true);
    }
    const bytes = new Uint8Array(view.buffer);
    const features = harSignalReader('time-first')(bytes, 1);
    const kinds = (channel: number): number[] => [0, 1, 2, 3, 4].map((kind) => features[9 * kind + channel] ?? 0);
    expect(kinds(6)).toEqual([1, 0, 1, 1, 0]);
    expect(kinds(3)).toEqual([0, 0, 0, 0, 0]);
    // Mean 0, deviation sqrt(1/2), -1 to 1, a way of 4 less one step in 127 steps; amplitude 64 at frequency 1 only.
    const [mean = 0, deviation = 0, low, high, step = 0] = kinds(0);
    expect([mean, deviation, step].map((value) => value.toFixed(4).replace('-', ''))).toEqual([
      '0.0000',
      '0.7071',
      '0.0315',
    ]);
    expect([low, high]).toEqual([-1, 1]);
    expect(features[45]).toBeCloseTo(Math.log(65), 4);
    for (let f = 1; f < 8; f++) expect(features[45 + f]).toBeLessThan(0.01);
    expect(codeOf(() => harSignalReader('time-first')(bytes, 2))).toBe('CODEC_TRUNCATED');
    expect(codeOf(() => harSignalReader('time-first')(bytes, 0))).toBe('CODEC_TRAILING');
  });

  it('declares a range for each feature', () => {
    expect(HAR_RANGES).toHaveLength(HAR_FEATURES);
    expect([HAR_RANGES[8], HAR_RANGES[9], HAR_RANGES[44], HAR_RANGES[45]]).toEqual([
      [-1, 1],
      [0, 2],
      [0, 2],
      [0, 5],
    ]);
  });
});

describe('published splits', () => {
  it('reads class counts of clients', () => {
    const text = (clients: unknown): string => JSON.stringify({ 'Size of samples for labels in clients': clients });
    expect(
      parsePfllibCounts(
        text([
          [[0, 2]],
          [
            [1, 3],
            [0, 1],
          ],
        ]),
        2,
      ),
    ).toEqual([Uint32Array.of(2, 0), Uint32Array.of(1, 3)]);
    const wrong = [
      [[[2, 1]]],
      [[[0, 0]]],
      [[[0, -1]]],
      [
        [
          [0, 1],
          [0, 1],
        ],
      ],
      [[[0]]],
      [[3]],
      [null],
      [[[-1, 1]]],
      3,
    ];
    for (const clients of wrong) expect(codeOf(() => parsePfllibCounts(text(clients), 2))).toBe('CODEC_TYPE');
    expect(codeOf(() => parsePfllibCounts('null', 2))).toBe('CODEC_TYPE');
    expect(codeOf(() => parsePfllibCounts('', 2))).toBe('CODEC_TYPE');
  });

  it('reads test rows of hospitals', () => {
    const lists = { cleveland: [1], hungarian: [2], switzerland: [], va: [3, 4] };
    expect(parseTestRows(JSON.stringify(lists))).toEqual([[1], [2], [], [3, 4]]);
    for (const text of ['', 'null', '[]', JSON.stringify({ ...lists, va: ['1'] }), JSON.stringify({ ...lists, va: 1 })])
      expect(codeOf(() => parseTestRows(text))).toBe('CODEC_TYPE');
  });
});

describe('scaling', () => {
  const a = createDataset(2, 2, Float32Array.of(1, 5, 3, 5), Uint8Array.of(0, 1));
  const b = createDataset(2, 2, Float32Array.of(8, 5), Uint8Array.of(0));

  it('pools moments over participants and leaves a constant feature alone', () => {
    const moments = pooledMoments([a, b]);
    expect([...moments.means]).toEqual([4, 5]);
    expect(moments.stddevs[0]).toBeCloseTo(Math.sqrt(26 / 3), 14);
    expect(moments.stddevs[1]).toBe(1);
    expect([...standardize(b, { means: moments.means, stddevs: Float64Array.of(2, 1) }).features]).toEqual([2, 0]);
    expect(codeOf(() => pooledMoments([]))).toBe('USAGE_RANGE');
    expect(codeOf(() => pooledMoments([createDataset(2, 2, new Float32Array(0), new Uint8Array(0))]))).toBe(
      'USAGE_RANGE',
    );
    expect(codeOf(() => pooledMoments([a, createDataset(1, 2, Float32Array.of(1), Uint8Array.of(0))]))).toBe(
      'USAGE_RANGE',
    );
  });

  it('clamps to declared ranges', () => {
    expect([
      ...scaleByRanges(a, [
        [1, 2],
        [0, 10],
      ]).features,
    ]).toEqual([-1, 0, 1, 0]);
    expect(codeOf(() => scaleByRanges(a, [[0, 1]]))).toBe('USAGE_RANGE');
    expect(
      codeOf(() =>
        scaleByRanges(a, [
          [0, 1],
          [1, 1],
        ]),
      ),
    ).toBe('USAGE_RANGE');
  });

  it('selects records in the order asked for', () => {
    expect([...selectRecords(a, Uint32Array.of(1, 0)).features]).toEqual([3, 5, 1, 5]);
    expect(codeOf(() => selectRecords(a, Uint32Array.of(2)))).toBe('USAGE_RANGE');
  });
});

describe('split hashes', () => {
  it('are SHA-256 of little-endian floats and labels, wherever the values lie in memory', () => {
    const outer = Float32Array.of(9, 1, 5, 3, 5, 9);
    const data = createDataset(2, 2, outer.subarray(1, 5), Uint8Array.of(0, 1));
    const bytes = Uint8Array.from([0, 0, 0x80, 0x3f, 0, 0, 0xa0, 0x40, 0, 0, 0x40, 0x40, 0, 0, 0xa0, 0x40, 0, 1]);
    expect(datasetHash(nodeCrypto, data)).toBe(createHash('sha256').update(bytes).digest('hex'));
  });
});
