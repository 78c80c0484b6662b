import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { choiceOf, jobHash } from '../experiments/benchmark.ts';
import { modelOf } from '../experiments/experiment-config.ts';
import { settingsWith } from '../experiments/rows.ts';
import type { DataSource } from '../experiments/scenarios/data-source.ts';
import { findScenario } from '../experiments/scenarios/registry.ts';
import { TRAINING_DEFAULTS, type TrainingSettings } from '../experiments/settings.ts';
import { studyJobs } from '../experiments/study/grid.ts';
import { isCoveyError } from '../protocol/errors.ts';
import type { Dataset } from '../src/data/dataset.ts';
import type { ScenarioData } from '../src/data/scenario.ts';
import type { NetworkSpec } from '../src/learning/network.ts';
import { BUILT_COMMAND } from './support/built-command.ts';
import { DATA_FOLDER, hasData, NEEDS_DATA } from './support/data-folder.ts';

/** An idx file of bytes. */
function idx(shape: readonly number[], values: readonly number[]): Uint8Array {
  const header = new DataView(new ArrayBuffer(4 + 4 * shape.length));
  header.setUint32(0, (8 << 8) | shape.length);
  shape.forEach((size, i) => {
    header.setUint32(4 + 4 * i, size);
  });
  return Uint8Array.from([...new Uint8Array(header.buffer), ...values]);
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const COUNT = 60;
const TESTED = 20;
/** Four numbers a record, of which the first says which record it is. */
const numbersOf = (count: number, first: number): number[] =>
  Array.from({ length: count }, (_, i) => [first + i, 255 - i, i % 7, 0]).flat();
const labelsOf = (count: number): number[] => Array.from({ length: count }, (_, i) => i % 3);
const ownersOf = (count: number): number[] => Array.from({ length: count }, (_, i) => i % 4);

const ROWS = Array.from({ length: COUNT }, (_, i) => [i % 3, i, 255 - i, i % 7, 0, 77]);

const floats = (values: readonly number[]): Uint8Array => {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, i) => {
    view.setFloat32(4 * i, value, true);
  });
  return new Uint8Array(view.buffer);
};

const FILES: Readonly<Record<string, Uint8Array | string>> = {
  'x.idx': idx([COUNT, 2, 2], numbersOf(COUNT, 0)),
  'x.idx.gz': new Uint8Array(gzipSync(idx([COUNT, 2, 2], numbersOf(COUNT, 0)))),
  'x.bin': floats(numbersOf(COUNT, 0)),
  // As CIFAR-10 has it: a label before every image, several files.
  'half1.bin': Uint8Array.from(ROWS.slice(0, 20).flat()),
  'half2.bin': Uint8Array.from(ROWS.slice(20).flat()),
  'y.idx': idx([COUNT], labelsOf(COUNT)),
  'long.idx': idx([2 * COUNT], labelsOf(2 * COUNT)),
  'owners.idx': idx([COUNT], ownersOf(COUNT)),
  // Label, owner and something else of every record.
  'facts.idx': idx(
    [COUNT, 3],
    labelsOf(COUNT).flatMap((label, i) => [label, i % 4, 9]),
  ),
  'tx.idx': idx([TESTED, 2, 2], numbersOf(TESTED, 100)),
  'ty.idx': idx([TESTED], labelsOf(TESTED)),
  'strangers.idx': idx([TESTED], upTo(TESTED)),
  'towners.idx': idx([TESTED], ownersOf(TESTED)),
  'counts.json': JSON.stringify([
    [5, 0, 1],
    [2, 9, 2],
  ]),
  'records.json': JSON.stringify([
    { name: 'north', group: 1, train: [0, 1, 2], test: [60, 61] },
    { train: [3, 4], test: [60] },
  ]),
  'train-only.json': JSON.stringify([{ train: [0, 1, 2, 3, 4] }, { train: [5, 6, 7, 8, 9], test: [60] }]),
  'trains-on-test.json': JSON.stringify([{ train: [0, 1, 60] }, { train: [3, 4] }]),
  'names.json': JSON.stringify([{ name: 'participant-2', train: [0, 1] }, { train: [3, 4] }]),
  'tested-twice.json': JSON.stringify([{ train: [0, 1], test: [4, 4] }]),
  'nobody.json': JSON.stringify({ 'Size of samples for labels in clients': [] }),
  'utf16.json': new Uint8Array([0xff, 0xfe, 0x5b, 0, 0x5d, 0]),
  'lines.csv': 'site,age,sick\n"a\nb",1,no\n"a\nb",2,yes\n',
  'entries.yaml':
    'label: { column: sick, values: ["no", "yes"] }\nfeatures:\n  - { column: site, entries: [s0, s1, s2] }\n',
  'head.csv': 'patient,age,sick\n',
  'same-test.json': JSON.stringify([0, 1, 2].map((i) => ({ train: [i], test: i < 2 ? [60, 61] : [61, 60] }))),
  'twice.json': JSON.stringify([{ train: [0, 1] }, { train: [1, 2] }]),
  'nan.bin': floats([...numbersOf(COUNT - 1, 0), 0, Number.NaN, 0, 0]),
  'large.bin': new Uint8Array(new Float64Array(COUNT).fill(1e300).buffer),
  'columns.yaml':
    'label: { column: sick, values: ["no", "yes"] }\nperson: patient\nfeatures:\n  - { column: age, range: [0, 100] }\n',
  'all.csv': [
    'site,patient,age,sick',
    ...Array.from({ length: 30 }, (_, i) => `s${i % 3},p${i},${i},${i % 2 ? 'yes' : 'no'}`),
  ].join('\n'),
  'a.csv': 'patient,age,sick\np1,10,no\np2,20,yes\np3,30,no\n',
  'b.csv': 'patient,age,sick\np4,40,no\np5,50,yes\n',
};

const ARRAYS = 'kind: arrays, classes: 3, train: { features: x.idx, labels: y.idx, owners: owners.idx }';
const TEST = 'test: { features: tx.idx, labels: ty.idx, owners: towners.idx }';
const SHARED_TEST = 'test: { features: tx.idx, labels: ty.idx }';

/** What a command prints, and how it ends. */
function command(...args: readonly string[]): {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
} {
  const { status, stderr, stdout } = spawnSync(process.execPath, [BUILT_COMMAND, ...args], { encoding: 'utf8' });
  return { code: status, stdout, stderr };
}

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'covey-own-'));
  for (const [name, content] of Object.entries(FILES)) await writeFile(join(folder, name), content);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function described(text: string, name = 'mine.yaml'): Promise<string> {
  const path = join(folder, name);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
  return path;
}

async function loaded(
  rest: string,
  { seed = 1, source }: { seed?: number; source?: DataSource } = {},
): Promise<ScenarioData> {
  const path = await described(`id: mine\n${rest}\n`);
  const { options, scenario } = findScenario(path, source);
  return scenario.load(seed, options, source);
}

/** Which records a data set holds, by their first number. */
const recordsOf = ({ count, featureLength, features }: Dataset): number[] =>
  Array.from({ length: count }, (_, i) => features[i * featureLength] as number);

const sorted = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);

describe('records in files of numbers', () => {
  it.each([
    ['idx', 'features: x.idx'],
    ['compressed idx', 'features: x.idx.gz'],
    ['little-endian numbers', 'features: { file: x.bin, type: float32, length: 4 }'],
    [
      'several files and some columns',
      'features: { file: [half1.bin, half2.bin], type: uint8, length: 6, columns: [1, 4] }',
    ],
  ])('reads %s with labels and owners', async (_, features) => {
    const { model, participants } = await loaded(
      `records: { kind: arrays, classes: 3, train: { ${features}, labels: { file: facts.idx, columns: 0 }, owners: { file: facts.idx, columns: 1 } } }`,
    );
    expect(model).toEqual({ inputs: 4, hidden: [], classes: 3 });
    expect(participants.map(({ name }) => name)).toEqual(['owner-0', 'owner-1', 'owner-2', 'owner-3']);
    for (const [owner, { test, train }] of participants.entries()) {
      const own = sorted([...recordsOf(train), ...recordsOf(test)]);
      expect(own).toEqual(upTo(COUNT).filter((record) => record % 4 === owner));
      expect(train.count).toBe(12);
      // Labels and the other features stay with their record.
      recordsOf(train).forEach((record, i) => {
        expect(train.labels[i]).toBe(record % 3);
        expect([...train.features.subarray(4 * i, 4 * i + 4)]).toEqual([record, 255 - record, record % 7, 0]);
      });
    }
  });

  it('puts the planes of an image behind each other pixel by pixel', async () => {
    const { participants } = await loaded(
      `records: { ${ARRAYS}, planes: 2, scale: { ranges: [[0, 59], [0, 6], [0, 255], [0, 1]] } }`,
    );
    const scaled = (value: number, most: number): number => Math.fround((2 * value) / most - 1);
    for (const { train } of participants)
      for (let i = 0; i < train.count; i++) {
        const features = [...train.features.subarray(4 * i, 4 * i + 4)];
        const record = Math.round(((features[0] as number) + 1) * 29.5);
        // Planes of two pixels each: [record, 255 - record] and [record % 7, 0].
        expect(features).toEqual([scaled(record, 59), scaled(record % 7, 6), scaled(255 - record, 255), -1]);
      }
  });

  it('reads every type of numbers without a header', async () => {
    const types = {
      uint8: Uint8Array,
      int8: Int8Array,
      uint16: Uint16Array,
      int16: Int16Array,
      uint32: Uint32Array,
      int32: Int32Array,
      float32: Float32Array,
      float64: Float64Array,
    };
    const most = { uint8: 255, int8: 127, uint16: 65_535, int16: 32_767, uint32: 4_294_967_295, int32: 2_147_483_647 };
    for (const [type, create] of Object.entries(types)) {
      const [low, high] = [type.startsWith('u') ? 3 : -3, most[type as keyof typeof most] ?? 0.5];
      const values = create.from(Array.from({ length: COUNT }, (_, i) => (i === 0 ? high : low)));
      await writeFile(join(folder, 'typed.bin'), new Uint8Array(values.buffer));
      const data = await loaded(
        `records: { kind: arrays, classes: 3, train: { features: { file: typed.bin, type: ${type} }, labels: y.idx } }\nsplit: { by: even, participants: 2 }`,
      );
      const features = data.participants.flatMap(({ test, train }) => [...recordsOf(train), ...recordsOf(test)]);
      expect(sorted(features), type).toEqual(sorted([Math.fround(high), ...new Array<number>(COUNT - 1).fill(low)]));
    }
  });

  it('takes the numbers that stand for classes, as other programs write them', async () => {
    const labels = BigInt64Array.from({ length: COUNT }, (_, i) => BigInt(2 * (i % 2) - 1));
    await writeFile(join(folder, 'signs.bin'), new Uint8Array(labels.buffer));
    const { model, participants } = await loaded(
      'records: { kind: arrays, classes: [1, -1], train: { features: x.idx, labels: { file: signs.bin, type: int64 } } }\nsplit: { by: even, participants: 2 }',
    );
    expect(model.classes).toBe(2);
    for (const { train } of participants)
      expect([...train.labels]).toEqual(recordsOf(train).map((record) => 1 - (record % 2)));
  });

  it('draws the same split for a seed, and another one for another', async () => {
    const text = `records: { ${ARRAYS} }\nsplit: { by: dirichlet, participants: 5, alpha: 0.5 }`;
    const [first, again, other] = [await loaded(text), await loaded(text), await loaded(text, { seed: 2 })];
    expect(again.manifest.sha256).toBe(first.manifest.sha256);
    expect(other.manifest.sha256).not.toBe(first.manifest.sha256);
  });

  it('scales by ranges that are public, and cuts what is outside', async () => {
    const one = await loaded(
      `records: { ${ARRAYS}, scale: { from: [10, 50], to: [-1, 1] } }\nsplit: { by: even, participants: 1 }`,
    );
    const [{ train, test } = { train: null, test: null }] = one.participants;
    const values = sorted([...recordsOf(train as Dataset), ...recordsOf(test as Dataset)]);
    expect(values).toEqual(upTo(COUNT).map((value) => Math.fround((Math.min(50, Math.max(10, value)) - 10) / 20 - 1)));
    const each = await loaded(
      `records: { ${ARRAYS}, scale: { ranges: [[0, 59], [0, 255], [0, 6], [0, 1]] } }\nsplit: { by: even, participants: 1 }`,
    );
    const features = each.participants.flatMap((part) => [...part.train.features]);
    expect(Math.min(...features)).toBe(-1);
    expect(Math.max(...features)).toBe(1);
    expect([one, each].map(({ manifest }) => manifest.recordRule)).toEqual([true, true]);
  });

  it('standardizes by the moments of training records, and says that no record-level claim holds', async () => {
    const { manifest, participants } = await loaded(
      `records: { ${ARRAYS}, scale: standardized }\nsplit: { by: even, participants: 4 }`,
    );
    expect(manifest.recordRule).toBe(false);
    const values = participants.flatMap(({ train }) => recordsOf(train));
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    expect(mean).toBeCloseTo(0, 6);
    expect(variance).toBeCloseTo(1, 6);
  });
});

describe('splits', () => {
  const trainOf = ({ participants }: ScenarioData): number[][] => participants.map(({ train }) => recordsOf(train));
  const testOf = ({ participants }: ScenarioData): number[][] => participants.map(({ test }) => recordsOf(test));

  it('takes the owners of the test files, or divides all that an owner has', async () => {
    const given = await loaded(`records: { ${ARRAYS}, ${TEST} }`);
    for (const [owner, records] of trainOf(given).entries())
      expect(records).toEqual(upTo(COUNT).filter((record) => record % 4 === owner));
    for (const [owner, records] of testOf(given).entries())
      expect(records).toEqual(upTo(TESTED).flatMap((i) => (i % 4 === owner ? [100 + i] : [])));
    const pooled = await loaded(`records: { ${ARRAYS}, ${TEST} }\nsplit: { by: owner, trainShare: 0.5 }`);
    expect(pooled.participants.map(({ train, test }) => [train.count, test.count])).toEqual(
      new Array(4).fill([10, 10]),
    );
  });

  it('lets everybody be tested on test files that are nobody’s', async () => {
    for (const split of [
      '{ by: owner }',
      '{ by: even, participants: 3 }',
      '{ by: dirichlet, participants: 3, alpha: 1 }',
    ]) {
      const data = await loaded(`records: { ${ARRAYS}, ${SHARED_TEST} }\nsplit: ${split}`);
      for (const records of testOf(data)) expect(records).toEqual(upTo(TESTED).map((i) => 100 + i));
      expect(sorted(trainOf(data).flat())).toEqual(upTo(COUNT));
    }
  });

  it('gives everybody as many records, in parts that do not overlap', async () => {
    const even = await loaded(`records: { ${ARRAYS} }\nsplit: { by: even, participants: 7 }`);
    const sizes = even.participants.map(({ train, test }) => train.count + test.count);
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
    expect(sorted([...trainOf(even).flat(), ...testOf(even).flat()])).toEqual(upTo(COUNT));
  });

  it('takes class counts, and places of records, from a file', async () => {
    const counts = await loaded(`records: { ${ARRAYS} }\nsplit: { by: counts, file: counts.json }`);
    const held = counts.manifest.participants.map(({ test, train }) =>
      train.classCounts.map((count, c) => count + (test.classCounts[c] ?? 0)),
    );
    expect(held).toEqual(JSON.parse(FILES['counts.json'] as string));
    // Published lists of training records: the test files are everybody's, as with the other splits.
    const half = await loaded(`records: { ${ARRAYS}, ${SHARED_TEST} }\nsplit: { by: records, file: train-only.json }`);
    expect(trainOf(half)).toEqual([upTo(5), upTo(5).map((i) => 5 + i)]);
    expect(testOf(half)).toEqual([upTo(TESTED).map((i) => 100 + i), [100]]);
    const same = await loaded(`records: { ${ARRAYS}, ${SHARED_TEST} }\nsplit: { by: records, file: same-test.json }`);
    const [first, second, other] = same.participants.map(({ test }) => test);
    expect(second).toBe(first);
    expect([...(other as Dataset).labels]).toEqual([...(first as Dataset).labels].reverse());
    // As other systems save it, with a byte order mark.
    await writeFile(join(folder, 'marked.json'), `\ufeff${FILES['train-only.json'] as string}`);
    const marked = await loaded(`records: { ${ARRAYS}, ${SHARED_TEST} }\nsplit: { by: records, file: marked.json }`);
    expect(trainOf(marked)).toEqual(trainOf(half));
    const places = await loaded(`records: { ${ARRAYS}, ${SHARED_TEST} }\nsplit: { by: records, file: records.json }`);
    expect(trainOf(places)).toEqual([
      [0, 1, 2],
      [3, 4],
    ]);
    expect(testOf(places)).toEqual([[100, 101], [100]]);
    expect(places.participants.map(({ name, group }) => [name, group])).toEqual([
      ['north', 1],
      ['participant-2', undefined],
    ]);
  });
});

describe('records in tables', () => {
  it('reads whose a record is from a column', async () => {
    const { model, participants } = await loaded(
      'records: { kind: table, description: columns.yaml, train: all.csv, owner: site }',
    );
    expect(model).toEqual({ inputs: 1, hidden: [], classes: 2 });
    expect(participants.map(({ name, test, train }) => [name, train.count, test.count])).toEqual([
      ['s0', 8, 2],
      ['s1', 8, 2],
      ['s2', 8, 2],
    ]);
  });

  it('reads a file of each participant', async () => {
    const { participants } = await loaded(
      'records: { kind: table, description: columns.yaml, train: { north: a.csv, south: b.csv }, test: all.csv }',
    );
    expect(participants.map(({ name, test, train }) => [name, train.count, test.count])).toEqual([
      ['north', 3, 30],
      ['south', 2, 30],
    ]);
    expect(recordsOf((participants[1] as ScenarioData['participants'][number]).train).map((x) => x.toFixed(2))).toEqual(
      ['-0.20', '0.00'],
    );
  });
});

describe('a table of entries', () => {
  it('is trained by a model that starts with an embedding of its rows alone', async () => {
    const data = await loaded(
      'records: { kind: table, description: entries.yaml, train: all.csv }\nsplit: { by: even, participants: 4 }',
    );
    expect(data.model).toEqual({ inputs: 1, hidden: [], classes: 2, entries: 4 });
    const ask = { algorithm: 'fedavg', options: {}, seed: 1, privacy: null, perStep: null, colluders: 0 };
    const { common } = TRAINING_DEFAULTS;
    expect(() => modelOf(data, { ...ask, settings: common }, null)).toThrow(
      /"model" expected an Embedding of at least 4 rows first for mine/,
    );
    const embedding = (entries: number): TrainingSettings => {
      const layers = [
        { kind: 'embedding', entries, width: 2 },
        { kind: 'flatten' },
        { kind: 'dense', units: 2, bias: true, activation: 'linear' },
      ] as unknown as NetworkSpec['layers'];
      return { ...common, model: { inputs: 1, hidden: [], classes: 2, network: { inputShape: [1], layers } } };
    };
    expect(() => modelOf(data, { ...ask, settings: embedding(3) }, null)).toThrow(/at least 4 rows/);
    expect(modelOf(data, { ...ask, settings: embedding(4) }, null)).toMatchObject({ inputs: 1, classes: 2 });
  });
});

describe('a description', () => {
  it('sets how its scenario is trained; a command changes it', async () => {
    const path = await described(
      `id: mine\nrecords: { ${ARRAYS} }\nsettings: { unit: record, clippingNorm: 0.25, rounds: 7 }\n`,
    );
    const { settings } = findScenario(path).scenario;
    expect(settings).toMatchObject({ unit: 'record', clippingNorm: 0.25, rounds: 7, momentum: 0.9, batchSize: 16 });
    expect(settingsWith(settings, { rounds: 9 })).toMatchObject({ clippingNorm: 0.25, rounds: 9 });
  });

  it('finds files in the folder of the command, too', async () => {
    const path = await described(`id: mine\nrecords: { ${ARRAYS} }\n`, 'elsewhere/mine.yaml');
    const source = { folder };
    const { options, scenario } = findScenario(path, source);
    expect((await scenario.load(1, options, source)).participants).toHaveLength(4);
    await expect(scenario.load(1, findScenario(path).options)).rejects.toMatchObject({ code: 'USAGE_STATE' });
  });

  it('does not take a row of other records for its own', async () => {
    const path = await described(`id: mine\nrecords: { ${ARRAYS} }\n`, 'changing/mine.yaml');
    for (const name of ['x.idx', 'y.idx', 'owners.idx'])
      await writeFile(join(dirname(path), name), FILES[name] as Uint8Array);
    const hashOf = (): string => {
      const [job] = studyJobs({ parts: [{ scenario: path, algorithm: 'local' }] }, null);
      return job === undefined ? '' : jobHash(job);
    };
    const before = hashOf();
    expect(hashOf()).toBe(before);
    const found = findScenario(path);
    expect(choiceOf(found, null)).toMatchObject({ scenario: 'mine', file: path });
    await writeFile(join(dirname(path), 'x.idx'), idx([COUNT, 2, 2], numbersOf(COUNT, 1)));
    expect(hashOf()).not.toBe(before);
    await expect(findScenario(path).scenario.load(1, found.options)).rejects.toMatchObject({ code: 'USAGE_STATE' });
  });

  it.each<[string, string, RegExp]>([
    ['an unknown key', `records: { ${ARRAYS} }\nsplits: {}`, /"splits" is not a known key, did you mean "split"/],
    [
      'a file that is not there',
      'records: { kind: arrays, classes: 3, train: { features: gone.idx, labels: y.idx } }',
      /expected gone.idx in .*hint: --data-dir/,
    ],
    [
      'a folder in place of a file',
      'records: { kind: arrays, classes: 3, train: { features: ., labels: y.idx } }',
      /expected a readable file, got EISDIR/,
    ],
    [
      'another content',
      `records: { kind: arrays, classes: 3, train: { features: { file: x.idx, sha256: ${'ab'.repeat(32)} }, labels: y.idx } }`,
      /expected content with SHA-256 abab/,
    ],
    [
      'other numbers of records',
      'records: { kind: arrays, classes: 3, train: { features: x.idx, labels: ty.idx } }',
      /"ty.idx" expected 60 records, got 20/,
    ],
    [
      'a label that is no class',
      'records: { kind: arrays, classes: 2, train: { features: x.idx, labels: y.idx } }',
      /"y.idx" expected classes below 2, got 2/,
    ],
    [
      'several numbers a label',
      'records: { kind: arrays, classes: 3, train: { features: x.idx, labels: facts.idx } }',
      /expected one number a record, got 3; hint: "columns"/,
    ],
    [
      'a column that is not there',
      'records: { kind: arrays, classes: 3, train: { features: x.idx, labels: { file: facts.idx, columns: 3 } } }',
      /expected columns among 3 numbers a record, got 3/,
    ],
    [
      'bytes that are no records',
      'records: { kind: arrays, classes: 3, train: { features: { file: x.bin, type: float64, length: 7 }, labels: y.idx } }',
      /expected records of 7 x float64 \(56 bytes\), got 960 bytes/,
    ],
    [
      'numbers that are not finite',
      'records: { kind: arrays, classes: 3, train: { features: { file: nan.bin, type: float32, length: 4 }, labels: y.idx } }',
      /expected finite numbers, got NaN at 237/,
    ],
    [
      'numbers that are too large for features',
      'records: { kind: arrays, classes: 3, train: { features: { file: large.bin, type: float64 }, labels: y.idx } }\nsplit: { by: even, participants: 2 }',
      /"large.bin" expected features that 32-bit floats hold, got another at record \d+; hint: "scale"/,
    ],
    [
      'features put on a range that is too large',
      `records: { ${ARRAYS}, scale: { from: [0, 1], to: [0, 1.0e39] } }`,
      /"x.idx" expected features that 32-bit floats hold/,
    ],
    [
      'a range without a width',
      `records: { ${ARRAYS}, scale: { from: [-1.0e308, 1.0e308], to: [0, 1] } }`,
      /"records.scale.from" expected a low and a higher number whose distance is a number/,
    ],
    [
      'training records as test records',
      'records: { kind: arrays, classes: 3, train: { features: x.idx, labels: y.idx }, test: { features: x.idx.gz, labels: y.idx } }\nsplit: { by: even, participants: 2 }',
      /"records" expected every record once, got those of x.idx again in x.idx.gz/,
    ],
    [
      'a file twice',
      'records: { kind: arrays, classes: 3, train: { features: { file: [x.idx, x.idx] }, labels: long.idx } }\nsplit: { by: even, participants: 2 }',
      /"records" expected every record once, got those of x.idx again in x.idx/,
    ],
    [
      'a table of two participants',
      'records: { kind: table, description: columns.yaml, train: { north: a.csv, south: a.csv } }',
      /"records" expected every record once, got those of a.csv again in a.csv/,
    ],
    [
      'test files that are for training and for testing',
      `records: { ${ARRAYS}, ${SHARED_TEST} }\nsplit: { by: records, file: trains-on-test.json }`,
      /"split" expected test records for each participant, or none of the test files for training/,
    ],
    [
      'a share beside test records',
      `records: { ${ARRAYS}, ${SHARED_TEST} }\nsplit: { by: records, file: records.json, trainShare: 0.5 }`,
      /"split.trainShare" expected none where records.json names test records/,
    ],
    [
      'one name twice',
      `records: { ${ARRAYS} }\nsplit: { by: records, file: names.json }`,
      /"split" expected another name for every participant, got participant-2 twice/,
    ],
    [
      'a test record twice',
      `records: { ${ARRAYS} }\nsplit: { by: records, file: tested-twice.json }`,
      /"tested-twice.json" expected every test record of a participant once, at 0/,
    ],
    [
      'nobody',
      `records: { ${ARRAYS} }\nsplit: { by: counts, file: nobody.json }`,
      /"split" expected participants, got none/,
    ],
    [
      'a participant without rows',
      'records: { kind: table, description: columns.yaml, train: { north: a.csv, south: head.csv } }',
      /"head.csv" expected records of south, got none/,
    ],
    [
      'a file that is no idx',
      'records: { kind: arrays, classes: 3, train: { features: all.csv, labels: y.idx } }',
      /"all.csv" expected a known magic number/,
    ],
    [
      'a split in another encoding',
      `records: { ${ARRAYS} }\nsplit: { by: records, file: utf16.json }`,
      /"utf16.json" expected text in UTF-8/,
    ],
    [
      'columns in another encoding',
      'records: { kind: table, description: utf16.json, train: all.csv, owner: site }',
      /"utf16.json" expected text in UTF-8/,
    ],
    [
      'a device',
      'records: { kind: arrays, classes: 3, train: { features: /dev/zero, labels: y.idx } }',
      /"\/dev\/zero" expected a file, got a device or a pipe/,
    ],
    [
      'a name of a file in two lines',
      'records: { kind: arrays, classes: 3, train: { features: "x\\ny", labels: y.idx } }',
      /"records.train.features" .*text without control characters/,
    ],
    [
      'a name of an owner in two lines',
      'records: { kind: table, description: columns.yaml, train: lines.csv, owner: site }',
      /"lines.csv" expected names in one line of at most 200 letters as "owner"/,
    ],
    [
      'a number that stands for no class',
      'records: { kind: arrays, classes: [1, 2], train: { features: x.idx, labels: y.idx } }',
      /"y.idx" expected one of 2 classes, got 0/,
    ],
    [
      'a number that stands for two classes',
      'records: { kind: arrays, classes: [1, 1], train: { features: x.idx, labels: y.idx } }',
      /"records.classes" expected every number once/,
    ],
    [
      'planes of unequal sizes',
      `records: { ${ARRAYS}, planes: 3 }`,
      /"planes" expected a divisor of 4 numbers a record, got 3/,
    ],
    [
      'options of no algorithm',
      `records: { ${ARRAYS} }\nsettings: { options: { dito: { lambda: 1 } } }`,
      /"settings.options.dito" expected the id of an algorithm/,
    ],
    [
      'an option that the algorithm does not have',
      `records: { ${ARRAYS} }\nsettings: { options: { ditto: { lamda: 1 } } }`,
      /of ditto expected lambda, personalEpochs, got lamda/,
    ],
    [
      'epochs and batches',
      `records: { ${ARRAYS} }\nsettings: { epochs: 1, batches: 2 }`,
      /"settings" expected "epochs" or "batches", got both/,
    ],
    [
      'hashes of other files',
      `records: { kind: arrays, classes: 3, train: { features: { file: [x.idx, tx.idx], sha256: [${'ab'.repeat(32)}] }, labels: y.idx } }`,
      /expected a "sha256" for each file/,
    ],
    [
      'files of other numbers',
      'records: { kind: arrays, classes: 3, train: { features: { file: [x.idx, owners.idx] }, labels: y.idx } }',
      /expected 4 numbers a record of one type, got 1/,
    ],
    [
      'columns that are not there',
      'records: { kind: arrays, classes: 3, train: { features: { file: x.idx, columns: [2, 4] }, labels: y.idx } }',
      /expected columns among 4 numbers a record, got 2 to 4/,
    ],
    [
      'an owner who has test records alone',
      'records: { kind: arrays, classes: 3, train: { features: x.idx, labels: y.idx, owners: owners.idx }, test: { features: tx.idx, labels: ty.idx, owners: strangers.idx } }',
      /expected training records of owner-4, got test records alone/,
    ],
    [
      'ranges for other features',
      `records: { ${ARRAYS}, scale: { ranges: [[0, 1]] } }`,
      /"scale.ranges" expected 4, one for each feature, got 1/,
    ],
    [
      'no owners',
      'records: { kind: arrays, classes: 3, train: { features: x.idx, labels: y.idx } }',
      /expected owners of all records, or another way to split/,
    ],
    [
      'test records of another length',
      'records: { kind: arrays, classes: 3, train: { features: x.idx, labels: y.idx }, test: { features: { file: x.bin, type: float32, length: 2 }, labels: long.idx } }',
      /expected featureLength 4, got 2/,
    ],
    [
      'a record that trains twice',
      `records: { ${ARRAYS} }\nsplit: { by: records, file: twice.json }`,
      /expected record 1 once, got it again at 1/,
    ],
    [
      'more participants than records',
      `records: { ${ARRAYS} }\nsplit: { by: even, participants: 61 }`,
      /expected at least 2 records of participant-1, got 0/,
    ],
    [
      'more records of a class than there are',
      `records: { kind: arrays, classes: 3, train: { features: tx.idx, labels: ty.idx } }\nsplit: { by: counts, file: counts.json }`,
      /expected at most 7 of class 1/,
    ],
    ['the id of a known scenario', `records: { ${ARRAYS} }\nid2: x`, /"id2" is not a known key/],
    [
      'an owner column and files by name',
      'records: { kind: table, description: columns.yaml, train: { north: a.csv }, owner: site }',
      /"owner" expected no column/,
    ],
    [
      'a column that the table lacks',
      'records: { kind: table, description: columns.yaml, train: all.csv, owner: region }',
      /"all.csv" expected one column "region"/,
    ],
  ])('is refused in one line with %s', async (_, text, message) => {
    const fault = await loaded(text).then(
      () => null,
      (error: unknown) => error,
    );
    expect(isCoveyError(fault)).toBe(true);
    expect((fault as Error).message).toMatch(message);
    expect((fault as Error).message).not.toContain('\n');
  });

  it('may not have the name of a scenario of the benchmark', async () => {
    const path = await described(`id: digits\nrecords: { ${ARRAYS} }\n`);
    expect(() => findScenario(path)).toThrow(/expected another name than that of a known scenario, got digits/);
    expect(() => findScenario(join(folder, 'gone.yaml'))).toThrow(/expected a readable file, got ENOENT/);
  });

  it('runs as a command, and in a study, from where the study is', async () => {
    await described(
      `id: mine\nrecords: { ${ARRAYS}, scale: { from: [0, 255], to: [0, 1] } }\nsettings: { rounds: 2 }\n`,
      'mine.yaml',
    );
    const out = join(folder, 'out');
    const run = command(
      'experiment',
      'run',
      join(folder, 'mine.yaml'),
      '--only',
      '--json',
      '--threads',
      '1',
      '--out',
      out,
    );
    expect(run.stderr).toBe('');
    const row = JSON.parse(run.stdout) as { scenario: string; personal: { mean: number } };
    expect(row).toMatchObject({
      scenario: 'mine',
      scenarioOptions: { content: expect.stringMatching(/^[0-9a-f]{16}$/) },
    });
    expect(row.personal.mean).toBeGreaterThan(0);
    await writeFile(join(folder, 'study.yaml'), 'parts:\n  - { scenario: ./mine.yaml, algorithm: fedavg }\n');
    const study = command('experiment', 'sweep', join(folder, 'study.yaml'), '--threads', '1', '--out', out);
    // The same cell: nothing is computed again.
    expect(study.stdout).toContain('mine');
    expect(study.code).toBe(0);
    const wrong = command('experiment', 'run', join(folder, 'gone.yaml'));
    expect([wrong.code, wrong.stderr.trim().split('\n').length]).toEqual([2, 1]);
  });
});

describe.runIf(hasData('mnist', 'qmnist'))(`published data through a description ${NEEDS_DATA}`, () => {
  it('gives the records that the scenario of the benchmark gives', async () => {
    const source = { folder: DATA_FOLDER };
    const known = await findScenario('qmnist-writers').scenario.load(1, {}, source);
    const own = await loaded(
      [
        'records:',
        '  kind: arrays',
        '  classes: 10',
        '  scale: { from: [0, 255], to: [0, 1] }',
        '  train:',
        '    features: mnist/train-images-idx3-ubyte.gz',
        '    labels: mnist/train-labels-idx1-ubyte.gz',
        '    owners: { file: qmnist/qmnist-train-labels-idx2-int.gz, columns: 2 }',
        'split: { by: owner, trainShare: 0.8 }',
      ].join('\n'),
      { source },
    );
    expect(own.participants).toHaveLength(known.participants.length);
    const byName = new Map(own.participants.map((part) => [part.name.replace('owner', 'writer'), part]));
    const rowsOf = ({ train, test }: ScenarioData['participants'][number]): string[] =>
      [train, test]
        .flatMap(({ count, features, labels }) =>
          Array.from(
            { length: count },
            (_, i) => `${labels[i]} ${features.subarray(784 * i, 784 * i + 784).join(' ')}`,
          ),
        )
        .sort();
    for (const part of known.participants.slice(0, 20)) {
      const same = byName.get(part.name) as typeof part;
      expect([same.train.count, same.test.count]).toEqual([part.train.count, part.test.count]);
      expect(rowsOf(same)).toEqual(rowsOf(part));
    }
  });
});
