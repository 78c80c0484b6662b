import { closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { Kysely, SqliteDialect, sql } from 'kysely';
import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import type { Store, StoreOperations } from '../../src/run/store.ts';
import { syncFolder } from './atomic-file.ts';
import { chooseSqliteEngine, openSqlite, type SqliteEngine } from './sqlite.ts';

interface Schema {
  readonly covey_values: { readonly table_name: string; readonly key: string; readonly value: Uint8Array };
  readonly covey_streams: { readonly stream: string; readonly seq: number; readonly payload: Uint8Array };
}

type Connection = Kysely<Schema>;

/** Statements that bring the schema from version i to i + 1. A released entry is never changed, only followed. */
const MIGRATIONS: readonly (readonly string[])[] = [
  [
    'CREATE TABLE covey_values (table_name TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (table_name, key)) STRICT, WITHOUT ROWID',
    'CREATE TABLE covey_streams (stream TEXT NOT NULL, seq INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (stream, seq)) STRICT, WITHOUT ROWID',
  ],
];

/** "COVY": tells our files from others'. */
const APPLICATION_ID = 0x434f5659;

/** Engines differ in the type of a blob; callers get their own `Uint8Array`. */
function toBytes(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return new Uint8Array(value);
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  throw new CoveyError('INTERNAL_INVARIANT', '"blob" expected bytes from the database');
}

function operationsOn(connection: Connection): StoreOperations {
  return {
    async get(table, key) {
      const row = await connection
        .selectFrom('covey_values')
        .select('value')
        .where('table_name', '=', table)
        .where('key', '=', key)
        .executeTakeFirst();
      return row === undefined ? undefined : toBytes(row.value);
    },
    async put(table, key, value) {
      await connection
        .insertInto('covey_values')
        .values({ table_name: table, key, value })
        .onConflict((conflict) => conflict.columns(['table_name', 'key']).doUpdateSet({ value }))
        .execute();
    },
    async delete(table, key) {
      await connection.deleteFrom('covey_values').where('table_name', '=', table).where('key', '=', key).execute();
    },
    async append(stream, payload) {
      const row = await connection
        .insertInto('covey_streams')
        .columns(['stream', 'seq', 'payload'])
        .expression((builder) =>
          builder
            .selectFrom('covey_streams')
            .select([
              sql<string>`${stream}`.as('stream'),
              sql<number>`coalesce(max(seq) + 1, 0)`.as('seq'),
              sql<Uint8Array>`${payload}`.as('payload'),
            ])
            .where('stream', '=', stream),
        )
        .returning('seq')
        .executeTakeFirstOrThrow();
      return Number(row.seq);
    },
    async read(stream, from = 0) {
      const rows = await connection
        .selectFrom('covey_streams')
        .select(['seq', 'payload'])
        .where('stream', '=', stream)
        .where('seq', '>=', from)
        .orderBy('seq')
        .execute();
      return rows.map((row) => ({ seq: Number(row.seq), payload: toBytes(row.payload) }));
    },
  };
}

async function pragma(connection: Connection, text: string): Promise<unknown> {
  const { rows } = await sql.raw<Record<string, unknown>>(`PRAGMA ${text}`).execute(connection);
  return Object.values(rows[0] ?? {})[0];
}

/** Takes the file for this process alone and brings its schema up to date. */
async function prepare(connection: Connection, path: string): Promise<void> {
  // Exclusive mode comes first: write-ahead logging then needs no shared memory, and a second process is refused.
  await pragma(connection, 'locking_mode=EXCLUSIVE');
  const version = Number(await pragma(connection, 'user_version'));
  const applicationId = Number(await pragma(connection, 'application_id'));
  const { rows } = await sql<{ tables: number }>`select count(*) as tables from sqlite_schema`.execute(connection);
  const isEmpty = version === 0 && applicationId === 0 && Number(rows[0]?.tables) === 0;
  if (!isEmpty && applicationId !== APPLICATION_ID) {
    throw new CoveyError('USAGE_STATE', `"state" expected a store of covey, got another database in ${path}`);
  }
  if (version > MIGRATIONS.length) {
    throw new CoveyError(
      'USAGE_STATE',
      `"state" expected a store of version <= ${MIGRATIONS.length}, got ${version}: use the newer covey that wrote ${path}`,
    );
  }
  const journalMode = await pragma(connection, 'journal_mode=WAL');
  if (journalMode !== 'wal') {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"state" expected a local disk for ${path}, got a file system without write-ahead logging`,
    );
  }
  // FULL: the log is synced at every commit, so that a resolved write survives a power cut.
  await pragma(connection, 'synchronous=FULL');
  await connection.transaction().execute(async (tx) => {
    for (const statements of MIGRATIONS.slice(version)) {
      for (const statement of statements) await sql.raw(statement).execute(tx);
    }
    // Written even if nothing changed: the lock is taken here and not at the first write.
    await pragma(tx, `application_id=${APPLICATION_ID}`);
    await pragma(tx, `user_version=${MIGRATIONS.length}`);
  });
}

/**
 * Gives the file free. libsql keeps it open until the last statement has been collected, so the locks are given back
 * first; a file of ours also leaves write-ahead mode and is one complete file again.
 */
async function release(connection: Connection, isOurs: boolean): Promise<void> {
  try {
    if (isOurs) await pragma(connection, 'journal_mode=DELETE');
    await pragma(connection, 'locking_mode=NORMAL');
    // The lock is given back at the end of the next read.
    await sql`select count(*) from sqlite_schema`.execute(connection);
  } finally {
    await connection.destroy();
  }
}

function openingError(error: unknown, path: string): unknown {
  if (isCoveyError(error)) return error;
  const { message } = error as Error;
  if (/locked|busy/i.test(message))
    return new CoveyError('USAGE_STATE', `"state" is in use: another process has ${path} open`);
  return new CoveyError(
    'USAGE_STATE',
    `"state" expected a readable store in ${path}: ${message}`,
    {},
    { cause: error },
  );
}

/**
 * Opens the embedded store of a coordinator or a node, one SQLite file with mode 0600. Operations that wait at the
 * same moment are committed together, one sync for all of them.
 * Cost: one sync of the disk for each group of writes.
 * @throws CoveyError USAGE_STATE if another process has it open or a newer version wrote it, DEP_STORE without an engine.
 */
export async function openStore(path: string, options: { readonly engine?: SqliteEngine } = {}): Promise<Store> {
  let connection: Connection | null = null;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    closeSync(openSync(path, 'a', 0o600));
    const database = openSqlite(path, options.engine ?? chooseSqliteEngine());
    connection = new Kysely<Schema>({ dialect: new SqliteDialect({ database }) });
    await prepare(connection, path);
    // The entry of a new file in its folder has to survive a power cut too.
    await syncFolder(dirname(path));
    return serveStore(connection);
  } catch (error) {
    // Whatever goes wrong here follows from the first error, which says more.
    if (connection !== null) await release(connection, false).catch(() => undefined);
    throw openingError(error, path);
  }
}

interface Job {
  /** A transaction of the caller, which must not share its fate with other operations. */
  readonly isTransaction: boolean;
  run(operations: StoreOperations): Promise<unknown>;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** Operations that share one commit at most; keeps a burst from holding the event loop. */
const MAX_GROUP = 64;

function nextGroup(jobs: Job[]): Job[] {
  const transaction = jobs.findIndex((job) => job.isTransaction);
  const simple = transaction < 0 ? jobs.length : transaction;
  return jobs.splice(0, Math.min(MAX_GROUP, Math.max(1, simple)));
}

/** Runs the operations of one connection strictly in order. */
function serveStore(connection: Connection): Store {
  const jobs: Job[] = [];
  let draining: Promise<void> | null = null;
  let isClosed = false;

  async function runGroup(group: readonly Job[]): Promise<void> {
    const results: unknown[] = [];
    const [only] = group;
    try {
      if (group.length === 1 && only !== undefined && !only.isTransaction) {
        results.push(await only.run(operationsOn(connection)));
      } else {
        await connection.transaction().execute(async (tx) => {
          for (const job of group) results.push(await job.run(operationsOn(tx)));
        });
      }
    } catch (error) {
      for (const job of group) job.reject(error);
      return;
    }
    // Nobody is told before the commit.
    group.forEach((job, i) => {
      job.resolve(results[i]);
    });
  }

  async function drain(): Promise<void> {
    // Whatever is called in the same turn shares the first commit.
    await Promise.resolve();
    while (jobs.length > 0) await runGroup(nextGroup(jobs));
    draining = null;
  }

  function enqueue<T>(run: (operations: StoreOperations) => Promise<T>, isTransaction: boolean = false): Promise<T> {
    if (isClosed)
      return Promise.reject(new CoveyError('USAGE_STATE', '"store" expected an open store, got a closed one'));
    return new Promise<T>((resolve, reject) => {
      jobs.push({ isTransaction, run, resolve: resolve as (value: unknown) => void, reject });
      draining ??= drain();
    });
  }

  return {
    get: (table, key) => enqueue((operations) => operations.get(table, key)),
    put(table, key, value) {
      const copy = new Uint8Array(value);
      return enqueue((operations) => operations.put(table, key, copy));
    },
    delete: (table, key) => enqueue((operations) => operations.delete(table, key)),
    append(stream, payload) {
      const copy = new Uint8Array(payload);
      return enqueue((operations) => operations.append(stream, copy));
    },
    read: (stream, from) => enqueue((operations) => operations.read(stream, from)),
    transaction: (work) => enqueue(work, true),
    async close() {
      if (isClosed) return;
      isClosed = true;
      await draining;
      await release(connection, true);
    },
  };
}
