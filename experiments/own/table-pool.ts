import { basename } from 'node:path';
import { parseTable, tableDescriptionSchema, tableEntries } from '../../clients/node/table.ts';
import { parseConfig } from '../../platform/node/config.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { isPrintable, type TableFile, type TableRecords } from './description.ts';
import { type OwnFiles, textOf } from './files.ts';
import { joinPools, type RecordPool } from './pool.ts';

/** Longest description of columns. Units: bytes. */
const LONGEST_DESCRIPTION = 2 ** 24;

/** Longest name of an owner, as of a column. */
const MOST_LETTERS = 200;

/** Records of one table. `name`: of the participant whose they all are, null where a column says it or nobody. */
async function readOne(
  files: OwnFiles,
  distinct: OwnFiles,
  { description, owner }: TableRecords,
  file: string,
  name: string | null,
): Promise<RecordPool> {
  const columns = parseConfig(
    textOf(await files.read({ file: description }), description, LONGEST_DESCRIPTION),
    description,
    tableDescriptionSchema,
  );
  const entries = tableEntries(columns);
  // A table says whose a record is by one column: here the participant's, for experiments train on single records.
  const { person: _, ...single } = columns;
  const { data, names } = parseTable(
    await distinct.read({ file }),
    owner === undefined ? single : { ...single, person: owner },
    basename(file),
  );
  if (name !== null && data.count === 0)
    throw new CoveyError('CODEC_TYPE', `"${basename(file)}" expected records of ${name}, got none`);
  for (const owner of new Set(names))
    if (!isPrintable(owner) || owner.length > MOST_LETTERS)
      throw new CoveyError(
        'CODEC_TYPE',
        `"${basename(file)}" expected names in one line of at most ${MOST_LETTERS} letters as "owner", got another one`,
      );
  return {
    count: data.count,
    featureLength: data.featureLength,
    classes: data.classes,
    ...(entries === 0 ? {} : { entries }),
    labels: data.labels,
    owners: name === null ? names : new Array<string>(data.count).fill(name),
    write(record, target, at) {
      target.set(data.features.subarray(record * data.featureLength, (record + 1) * data.featureLength), at);
    },
  };
}

/** The records of a table, or of one table for each participant; `distinct` reads the tables. @throws CoveyError USAGE_CONFIG, CODEC_* naming the file */
export async function readTablePool(
  files: OwnFiles,
  distinct: OwnFiles,
  records: TableRecords,
  file: TableFile,
): Promise<RecordPool> {
  if (typeof file === 'string') return readOne(files, distinct, records, file, null);
  if (records.owner !== undefined)
    throw new CoveyError('USAGE_CONFIG', '"owner" expected no column where files are named by participant');
  let all: RecordPool | null = null;
  for (const [name, path] of Object.entries(file)) {
    const pool = await readOne(files, distinct, records, path, name);
    all = all === null ? pool : joinPools(all, pool);
  }
  return all as RecordPool;
}
