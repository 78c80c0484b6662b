import { readFileSync, statSync } from 'node:fs';
import { basename, dirname, extname, resolve } from 'node:path';
import { parseConfig } from '../../platform/node/config.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { toHex, utf8 } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';
import type { Dataset } from '../../src/data/dataset.ts';
import { once } from '../../src/data/images.ts';
import { pooledMoments, standardize } from '../../src/data/scaling.ts';
import { buildScenarioManifest, type ScenarioData, type ScenarioParticipant } from '../../src/data/scenario.ts';
import type { DataSource } from '../scenarios/data-source.ts';
import type { FoundScenario, Scenario } from '../scenarios/scenario-type.ts';
import { readArrayPool } from './array-pool.ts';
import {
  describedSettings,
  partsOf,
  type ScenarioDescription,
  scenarioDescriptionSchema,
  type TableFile,
} from './description.ts';
import { distinctFiles, type OwnFiles, ownFiles, textOf } from './files.ts';
import { joinPools, poolDataset, type RecordPool } from './pool.ts';
import { type Splittable, splitPool } from './split.ts';
import { readTablePool } from './table-pool.ts';

/** Digits of the hash of a description and its files: enough to tell rows apart, and to be read in a table. */
const CONTENT_DIGITS = 16;

/** Longest description. Units: bytes. */
const LONGEST_DESCRIPTION = 2 ** 20;

/** Features of all participants up to this many are kept; more are built each time they are read. 256 MiB. */
const MOST_KEPT = 2 ** 26;

/** Whether the name of a scenario is that of a file that describes one. */
export function isDescription(name: string): boolean {
  return ['.yaml', '.yml', '.json'].includes(extname(name));
}

async function readRecords(files: OwnFiles, { records }: ScenarioDescription): Promise<Splittable> {
  const distinct = distinctFiles(files);
  if (records.kind === 'arrays')
    return {
      train: await readArrayPool(files, distinct, records, records.train),
      test: records.test === undefined ? null : await readArrayPool(files, distinct, records, records.test),
    };
  return {
    train: await readTablePool(files, distinct, records, records.train),
    test: records.test === undefined ? null : await readTablePool(files, distinct, records, records.test),
  };
}

async function participantsOf(
  files: OwnFiles,
  description: ScenarioDescription,
  pool: RecordPool,
  from: Splittable,
  seed: number,
): Promise<ScenarioParticipant[]> {
  const parts = await splitPool(files, from, pool, description.split, seed);
  const { records } = description;
  const moments =
    records.kind === 'arrays' && records.scale === 'standardized'
      ? pooledMoments(parts.map(({ train }) => poolDataset(pool, train)))
      : null;
  const build = (places: Uint32Array): Dataset => {
    const data = poolDataset(pool, places);
    return moments === null ? data : standardize(data, moments);
  };
  // Test records may be those of several participants, in lists of their own.
  const held = new Set(parts.flatMap(({ test, train }) => [train, test]));
  const isKept = [...held].reduce((sum, { length }) => sum + length, 0) * pool.featureLength <= MOST_KEPT;
  // A test set that several participants share is put together once.
  const shared = new Map<Uint32Array, () => Dataset>();
  const reader = (places: Uint32Array, share: boolean): (() => Dataset) => {
    const known = shared.get(places);
    if (known !== undefined) return known;
    const read = isKept || share ? once(() => build(places)) : () => build(places);
    shared.set(places, read);
    return read;
  };
  const uses = new Map<Uint32Array, number>();
  for (const { test } of parts) uses.set(test, (uses.get(test) ?? 0) + 1);
  return parts.map(({ test, train, ...facts }) => {
    const readTrain = reader(train, false);
    const readTest = reader(test, (uses.get(test) ?? 0) > 1);
    return {
      ...facts,
      get train() {
        return readTrain();
      },
      get test() {
        return readTest();
      },
    };
  });
}

function readDescription(path: string): Uint8Array {
  try {
    const info = statSync(path);
    const { size } = info;
    // A pipe would be waited for without end.
    if (!info.isFile() && !info.isDirectory())
      throw new CoveyError('USAGE_CONFIG', `"scenario" expected a file, got something else at ${path}`);
    if (size > LONGEST_DESCRIPTION)
      throw new CoveyError('USAGE_CONFIG', `"scenario" expected at most ${LONGEST_DESCRIPTION} bytes, got ${size}`);
    return readFileSync(path);
  } catch (cause) {
    if (cause instanceof CoveyError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code ?? 'an error';
    throw new CoveyError('USAGE_CONFIG', `"scenario" expected a readable file, got ${code} for ${path}`, {}, { cause });
  }
}

const filesOfTable = (file: TableFile | undefined): string[] =>
  file === undefined ? [] : typeof file === 'string' ? [file] : Object.values(file);

/** Every file that a description names. */
function filesOf({
  records,
  split,
}: ScenarioDescription): { readonly file: string; readonly sha256?: string | undefined }[] {
  const own =
    records.kind === 'arrays'
      ? [records.train, records.test].flatMap((part) =>
          part === undefined
            ? []
            : [part.features, part.labels, ...(part.owners === undefined ? [] : [part.owners])].flatMap(partsOf),
        )
      : [records.description, ...filesOfTable(records.train), ...filesOfTable(records.test)].map((file) => ({ file }));
  return 'file' in split ? [...own, split] : own;
}

/**
 * A scenario of somebody's own records: files of numbers or tables, a way to split them, a model and settings. Its option
 * `content` is the hash of the description and its files, so that a row is not taken for that of other records.
 * @throws CoveyError USAGE_CONFIG for a description that does not fit; `load` as any scenario, and USAGE_STATE for files that
 * changed since.
 */
export function describedScenario(path: string, source: DataSource | undefined): FoundScenario {
  const bytes = readDescription(path);
  const description = parseConfig(
    textOf(bytes, basename(path), LONGEST_DESCRIPTION),
    basename(path),
    scenarioDescriptionSchema,
  );
  const files = ownFiles(dirname(resolve(path)), source);
  const hashes = filesOf(description).map((file) => files.hashOf(file));
  const content = toHex(nodeCrypto.sha256(utf8([toHex(nodeCrypto.sha256(bytes)), ...hashes].join(' ')))).slice(
    0,
    CONTENT_DIGITS,
  );
  const { about, id, licence, model, records } = description;
  const scenario: Scenario = {
    kind: 'records',
    id,
    title: about,
    about,
    licence,
    folders: [],
    options: {},
    settings: describedSettings(description),
    async load(seed, options = {}): Promise<ScenarioData> {
      if (options['content'] !== content)
        throw new CoveyError('USAGE_STATE', `"${basename(path)}" expected the files that the run began with`);
      const from = await readRecords(files, description);
      const pool = from.test === null ? from.train : joinPools(from.train, from.test);
      const participants = await participantsOf(files, description, pool, from, seed);
      const recordRule = !(records.kind === 'arrays' && records.scale === 'standardized');
      const facts = { scenario: id, seed, options: { content }, recordRule, licence };
      const { hidden, sharedLayers } = model;
      return {
        participants,
        model: {
          inputs: pool.featureLength,
          hidden,
          classes: pool.classes,
          ...(sharedLayers === undefined ? {} : { sharedLayers }),
          ...(pool.entries === undefined ? {} : { entries: pool.entries }),
        },
        manifest: buildScenarioManifest(nodeCrypto, facts, participants),
      };
    },
  };
  return { scenario, options: { content }, file: resolve(path) };
}
