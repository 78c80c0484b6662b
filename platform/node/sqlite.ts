import { createRequire } from 'node:module';
import type { SqliteDatabase } from 'kysely';
import { CoveyError } from '../../protocol/errors.ts';

const require = createRequire(import.meta.url);

/** The part of `node:sqlite` that is used; the module is newer than the oldest supported Node. */
interface NodeSqlite {
  readonly DatabaseSync: new (
    path: string,
  ) => { close(): void; prepare(sql: string): { all(...values: readonly unknown[]): unknown[] } };
}

/** The part of `libsql` that is used. */
type LibsqlDatabase = new (path: string, options: { readonly timeout: number }) => SqliteDatabase;

/** Which embedded database runs underneath. */
export type SqliteEngine = 'node:sqlite' | 'libsql';

/** `node:sqlite` if this Node has it, or null. Its notice that the module is young is of no use to an operator. */
function loadNodeSqlite(): NodeSqlite | null {
  const { emitWarning } = process;
  process.emitWarning = ((warning: string | Error, ...rest: unknown[]) => {
    const text = String(warning);
    if (!text.includes('SQLite')) Reflect.apply(emitWarning, process, [warning, ...rest]);
  }) as typeof process.emitWarning;
  try {
    return require('node:sqlite') as NodeSqlite;
  } catch {
    // ERR_UNKNOWN_BUILTIN_MODULE: before Node 22.13.
    return null;
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** The engine that `openSqlite` takes by default on this Node. */
export function chooseSqliteEngine(): SqliteEngine {
  return loadNodeSqlite() === null ? 'libsql' : 'node:sqlite';
}

/**
 * Opens a database file with the given engine; waits for no lock.
 * @throws CoveyError DEP_STORE if the engine cannot be loaded.
 */
export function openSqlite(path: string, engine: SqliteEngine): SqliteDatabase {
  if (engine === 'node:sqlite') {
    const sqlite = loadNodeSqlite();
    if (sqlite === null)
      throw new CoveyError('DEP_STORE', '"engine" expected a Node that has node:sqlite (22.13 or newer)');
    const database = new sqlite.DatabaseSync(path);
    return {
      close: () => database.close(),
      prepare(sql) {
        const statement = database.prepare(sql);
        // A statement without rows gives an empty list, so that one way serves for all.
        return {
          reader: true,
          all: (values) => statement.all(...values),
          run() {
            throw new CoveyError('INTERNAL_INVARIANT', 'statements are run through all');
          },
          iterate: (values) => statement.all(...values)[Symbol.iterator](),
        };
      },
    };
  }
  let Libsql: LibsqlDatabase;
  try {
    Libsql = require('libsql') as LibsqlDatabase;
  } catch (cause) {
    throw new CoveyError(
      'DEP_STORE',
      'no embedded database: run "npm ci" with optional dependencies, or use Node 22.13 or newer',
      {},
      { cause },
    );
  }
  return new Libsql(path, { timeout: 0 });
}
