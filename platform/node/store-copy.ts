import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CoveyError } from '../../protocol/errors.ts';
import { chooseSqliteEngine, openSqlite } from './sqlite.ts';

/** Copies that are tried while the owner of a store writes to it. */
const ATTEMPTS = 20;
/** Bytes of the header of a write-ahead log: its salts change whenever the log starts anew. */
const LOG_HEADER = 32;

async function signatureOf(path: string): Promise<string> {
  const { size, mtimeNs } = await stat(path, { bigint: true });
  return `${size} ${mtimeNs}`;
}

async function readIfThere(path: string): Promise<Buffer | null> {
  return readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
}

/**
 * Bytes of a database and of its log that belong together: nothing went from the log to the database while both were read.
 * What was appended to the log meanwhile is a later commit, whole or without its checksum.
 */
async function snapshot(path: string): Promise<{ readonly main: Buffer; readonly log: Buffer | null }> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const before = await signatureOf(path);
    const first = await readIfThere(`${path}-wal`);
    const main = await readFile(path);
    const log = await readIfThere(`${path}-wal`);
    const sameLog =
      (first?.subarray(0, LOG_HEADER).toString('hex') ?? '') === (log?.subarray(0, LOG_HEADER).toString('hex') ?? '');
    if (before === (await signatureOf(path)) && sameLog) return { main, log };
  }
  throw new CoveyError('USAGE_STATE', `"path" expected a store that rests for a moment, got changes in ${path}`);
}

/**
 * Reads entries of streams whose names begin with `prefix` from a copy of a store: also while a node runs, which holds the
 * lock of its store, and without ever writing to it. Not guaranteed: the very last commit of a running node.
 * @throws CoveyError USAGE_STATE for a file that is no store, or one that never rests.
 */
export async function readStreamsOfCopy(path: string, prefix: string): Promise<ReadonlyMap<string, Uint8Array[]>> {
  const folder = await mkdtemp(join(tmpdir(), 'covey-store-'));
  let database: ReturnType<typeof openSqlite> | undefined;
  try {
    const { main, log } = await snapshot(path);
    const copy = join(folder, 'copy.sqlite');
    await writeFile(copy, main);
    if (log !== null) await writeFile(`${copy}-wal`, log);
    database = openSqlite(copy, chooseSqliteEngine());
    const rows = database.prepare('SELECT stream, payload FROM covey_streams ORDER BY stream, seq').all([]) as {
      stream: string;
      payload: Uint8Array | ArrayBuffer;
    }[];
    const streams = new Map<string, Uint8Array[]>();
    for (const { stream, payload } of rows) {
      if (!stream.startsWith(prefix)) continue;
      const entries = streams.get(stream) ?? [];
      streams.set(stream, entries);
      entries.push(new Uint8Array(payload));
    }
    return streams;
  } catch (cause) {
    if (cause instanceof CoveyError) throw cause;
    throw new CoveyError('USAGE_STATE', `"path" expected the store of a node, got ${path}`, {}, { cause });
  } finally {
    database?.close();
    await rm(folder, { recursive: true, force: true });
  }
}
