import { z } from 'zod';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { toHex } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { splitByCounts, splitByDirichlet, splitTrainTest } from '../../src/data/partition.ts';
import { parsePfllibCounts } from '../../src/data/pfllib.ts';
import { createRandom } from '../../src/data/random.ts';
import { isPrintable, type Split } from './description.ts';
import { type OwnFiles, textOf } from './files.ts';
import type { RecordPool } from './pool.ts';

/** Streams that keep these draws apart from every other use of a seed; a participant adds its number. */
const STREAM = 0x6f77_0000;

/** Share of the records for training where nothing else is said. */
const TRAIN_SHARE = 0.8;

/** Places of one participant's records. */
interface Part {
  readonly name: string;
  readonly group?: number;
  readonly train: Uint32Array;
  readonly test: Uint32Array;
}

/** A participant before its own records are divided; `test`: where somebody says which they are. */
interface Owned {
  readonly name: string;
  readonly group?: number;
  readonly records: Uint32Array;
  readonly test?: Uint32Array;
}

/** What is to be split. */
export interface Splittable {
  readonly train: RecordPool;
  readonly test: RecordPool | null;
}

const place = z.number().int().min(0).max(0xffff_fffe);
const recordsSchema = z
  .array(
    z.strictObject({
      name: z.string().min(1).max(64).refine(isPrintable, 'expected a name in one line').optional(),
      group: z.number().int().min(0).max(255).optional(),
      train: z.array(place).min(1),
      test: z.array(place).min(1).optional(),
    }),
  )
  .min(1);
const countsSchema = z.array(z.array(z.number().int().min(0).max(0xffff_ffff)).min(1)).min(1);

/** Largest file of a split. Units: bytes. */
const LONGEST = 2 ** 28;

/** JSON by its schema: lists of millions of places are no configuration. */
function parseJson<T>(text: string, name: string, schema: z.ZodType<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new CoveyError('CODEC_TYPE', `"${name}" expected JSON`, {}, { cause });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new CoveyError('CODEC_TYPE', `"${name}" at ${issue?.path.join('.') || 'the top'}: ${issue?.message}`);
}

const range = (from: number, to: number): Uint32Array => Uint32Array.from({ length: to - from }, (_, i) => from + i);

function placesByOwner({ owners }: RecordPool, offset: number): Map<string, number[]> {
  if (owners === null)
    throw new CoveyError('USAGE_CONFIG', '"split" expected owners of all records, or another way to split; got none');
  const places = new Map<string, number[]>();
  owners.forEach((owner, record) => {
    const own = places.get(owner);
    if (own === undefined) places.set(owner, [offset + record]);
    else own.push(offset + record);
  });
  return places;
}

/** Owners in the order in which they are first met. */
function byOwner({ test, train }: Splittable, isPooled: boolean): Owned[] {
  const own = placesByOwner(train, 0);
  const held = test !== null && (isPooled || test.owners !== null) ? placesByOwner(test, train.count) : null;
  for (const name of held?.keys() ?? [])
    if (!own.has(name))
      throw new CoveyError('USAGE_CONFIG', `"split" expected training records of ${name}, got test records alone`);
  return [...own].map(([name, records]) => {
    const tested = held?.get(name) ?? [];
    if (isPooled) return { name, records: Uint32Array.from([...records, ...tested]) };
    return { name, records: Uint32Array.from(records), ...(held === null ? {} : { test: Uint32Array.from(tested) }) };
  });
}

const numbered = (parts: readonly Uint32Array[]): Owned[] =>
  parts.map((records, i) => ({ name: `participant-${i + 1}`, records }));

async function readCounts(
  files: OwnFiles,
  split: Extract<Split, { by: 'counts' | 'records' }>,
  classes: number,
): Promise<Uint32Array[]> {
  const text = textOf(await files.read(split), split.file, LONGEST);
  if (text.trimStart().startsWith('{')) return parsePfllibCounts(text, classes);
  return parseJson(text, split.file, countsSchema).map((row, i) => {
    if (row.length !== classes)
      throw new CoveyError(
        'CODEC_TYPE',
        `"${split.file}" expected ${classes} counts at participant ${i + 1}, got ${row.length}`,
      );
    return Uint32Array.from(row);
  });
}

async function byRecords(
  files: OwnFiles,
  split: Extract<Split, { by: 'counts' | 'records' }>,
  count: number,
): Promise<Owned[]> {
  const parts = parseJson(textOf(await files.read(split), split.file, LONGEST), split.file, recordsSchema);
  const side = new Map<number, 'train' | 'test'>();
  // Lists of the same records are one list, whose data set is put together once.
  const lists = new Map<string, Uint32Array>();
  return parts.map(({ group, name, test, train }, i) => {
    if (split.trainShare !== undefined && test !== undefined)
      throw new CoveyError('USAGE_CONFIG', `"split.trainShare" expected none where ${split.file} names test records`);
    if (new Set(test).size !== (test ?? []).length)
      throw new CoveyError('CODEC_TYPE', `"${split.file}" expected every test record of a participant once, at ${i}`);
    for (const [which, places] of [
      ['train', train],
      ['test', test ?? []],
    ] as const)
      for (const record of places) {
        if (record >= count)
          throw new CoveyError('CODEC_TYPE', `"${split.file}" expected records below ${count}, got ${record}`);
        // Test records may be everybody's; a record that trains is one participant's, or its epsilon would be paid twice.
        const known = side.get(record);
        if (known !== undefined && (known === 'train' || which === 'train'))
          throw new CoveyError('CODEC_TYPE', `"${split.file}" expected record ${record} once, got it again at ${i}`);
        side.set(record, which);
      }
    return {
      name: name ?? `participant-${i + 1}`,
      ...(group === undefined ? {} : { group }),
      records: Uint32Array.from(train),
      ...(test === undefined ? {} : { test: listOnce(lists, Uint32Array.from(test)) }),
    };
  });
}

function listOnce(lists: Map<string, Uint32Array>, places: Uint32Array): Uint32Array {
  const hash = toHex(nodeCrypto.sha256(new Uint8Array(places.buffer)));
  const list = lists.get(hash) ?? places;
  lists.set(hash, list);
  return list;
}

async function ownedParts(
  files: OwnFiles,
  from: Splittable,
  pool: RecordPool,
  split: Split,
  seed: number,
): Promise<Owned[]> {
  const isPooled = split.trainShare !== undefined;
  const { classes } = pool;
  const labels = isPooled ? pool.labels : from.train.labels;
  const random = createRandom(seed, STREAM);
  switch (split.by) {
    case 'owner':
      return byOwner(from, isPooled);
    case 'even': {
      const order = range(0, labels.length);
      random.shuffle(order);
      const cut = (i: number): number => Math.floor((i * order.length) / split.participants);
      return numbered(Array.from({ length: split.participants }, (_, i) => order.slice(cut(i), cut(i + 1))));
    }
    case 'dirichlet':
      return numbered(splitByDirichlet(random, labels, classes, split.participants, split.alpha));
    case 'counts':
      return numbered(splitByCounts(random, pool.labels, classes, await readCounts(files, split, classes)));
    case 'records':
      return byRecords(files, split, pool.count);
  }
}

/** @throws CoveyError USAGE_CONFIG unless there is somebody, and each has a name of its own. */
function checkNames(parts: readonly Owned[]): void {
  if (parts.length === 0) throw new CoveyError('USAGE_CONFIG', '"split" expected participants, got none');
  const names = new Set<string>();
  for (const { name } of parts) {
    if (names.has(name))
      throw new CoveyError('USAGE_CONFIG', `"split" expected another name for every participant, got ${name} twice`);
    names.add(name);
  }
}

/**
 * All of the test files, for whoever has no test records of its own; null where there are none or they are divided among
 * everybody. @throws CoveyError USAGE_CONFIG if one of them is a record for training.
 */
function sharedTest(from: Splittable, pool: RecordPool, split: Split, parts: readonly Owned[]): Uint32Array | null {
  if (from.test === null || split.trainShare !== undefined || split.by === 'counts') return null;
  if (
    parts.some(({ test }) => test === undefined) &&
    parts.some(({ records }) => records.some((record) => record >= from.train.count))
  )
    throw new CoveyError(
      'USAGE_CONFIG',
      '"split" expected test records for each participant, or none of the test files for training',
    );
  return range(from.train.count, pool.count);
}

/**
 * Places of every participant's records in the joined pool. Test records are, in this order: those that the split or the owners
 * name; the share of a participant's own that is left by `trainShare`; all of the test files; a fifth of its own.
 * @throws CoveyError USAGE_CONFIG, USAGE_RANGE for a split that does not fit the records, CODEC_* for its files.
 */
export async function splitPool(
  files: OwnFiles,
  from: Splittable,
  pool: RecordPool,
  split: Split,
  seed: number,
): Promise<Part[]> {
  const parts = await ownedParts(files, from, pool, split, seed);
  checkNames(parts);
  const shared = sharedTest(from, pool, split, parts);
  return parts.map(({ records, test, ...facts }, i) => {
    const named = test ?? shared ?? undefined;
    if (named === undefined && records.length < 2)
      throw new CoveyError(
        'USAGE_CONFIG',
        `"split" expected at least 2 records of ${facts.name}, got ${records.length}; hint: a split by records may leave it out`,
      );
    const parted =
      named === undefined
        ? splitTrainTest(createRandom(seed, STREAM + 1 + i), records, split.trainShare ?? TRAIN_SHARE)
        : { train: records, test: named };
    for (const side of ['train', 'test'] as const)
      if (parted[side].length === 0)
        throw new CoveyError(
          'USAGE_CONFIG',
          `"split" expected ${side === 'train' ? 'training' : 'test'} records of ${facts.name}, got none`,
        );
    return { ...facts, ...parted };
  });
}
