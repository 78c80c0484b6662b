import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { createMemoryStore } from '../platform/memory/store.ts';
import { chooseSqliteEngine, openSqlite } from '../platform/node/sqlite.ts';
import { openStore } from '../platform/node/store.ts';
import { fromUtf8, utf8 } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import type { Store } from '../src/run/store.ts';

const folder = mkdtempSync(join(tmpdir(), 'covey-store-'));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;
const newPath = (): string => join(folder, `${++files}`, 'store.sqlite');

const codeOf = async (action: Promise<unknown>): Promise<string> =>
  action.then(
    () => 'no error',
    (error: unknown) => (isCoveyError(error) ? error.code : String(error)),
  );

/** The contract of `Store`. */
function describeStore(name: string, make: () => Promise<Store>): void {
  describe(`Store: ${name}`, () => {
    it('puts, replaces, gets and deletes values by table and key', async () => {
      const store = await make();
      await store.put('a', 'key', Uint8Array.of(1, 2));
      await store.put('a', 'key', Uint8Array.of(3));
      await store.put('b', 'key', Uint8Array.of(4));
      await store.put('a', '', new Uint8Array(0));
      expect(await store.get('a', 'key')).toEqual(Uint8Array.of(3));
      expect(await store.get('b', 'key')).toEqual(Uint8Array.of(4));
      expect(await store.get('a', '')).toEqual(new Uint8Array(0));
      expect(await store.get('c', 'key')).toBeUndefined();
      await store.delete('a', 'key');
      await store.delete('a', 'never there');
      expect(await store.get('a', 'key')).toBeUndefined();
      expect(await store.get('b', 'key')).toEqual(Uint8Array.of(4));
      await store.close();
    });

    it('appends to streams without gaps and reads from any entry', async () => {
      const store = await make();
      expect(await store.append('log', utf8('zero'))).toBe(0);
      expect(await store.append('log', utf8('one'))).toBe(1);
      expect(await store.append('other', utf8('alone'))).toBe(0);
      expect(await store.append('log', utf8('two'))).toBe(2);
      const text = async (stream: string, from?: number): Promise<string[]> =>
        (await store.read(stream, from)).map(({ seq, payload }) => `${seq} ${fromUtf8(payload)}`);
      expect(await text('log')).toEqual(['0 zero', '1 one', '2 two']);
      expect(await text('log', 1)).toEqual(['1 one', '2 two']);
      expect(await text('log', 3)).toEqual([]);
      expect(await text('other')).toEqual(['0 alone']);
      expect(await text('none')).toEqual([]);
      await store.close();
    });

    it('keeps the order of calls that are not awaited', async () => {
      const store = await make();
      const appended = Array.from({ length: 200 }, (_, i) => store.append('log', utf8(String(i))));
      const put = store.put('t', 'k', utf8('first'));
      const seen = store.get('t', 'k');
      const again = store.put('t', 'k', utf8('second'));
      const last = store.get('t', 'k');
      expect(await Promise.all(appended)).toEqual(Array.from({ length: 200 }, (_, i) => i));
      await Promise.all([put, again]);
      expect(fromUtf8((await seen) ?? new Uint8Array(0))).toBe('first');
      expect(fromUtf8((await last) ?? new Uint8Array(0))).toBe('second');
      const entries = await store.read('log');
      expect(entries.map(({ payload }) => Number(fromUtf8(payload)))).toEqual(Array.from({ length: 200 }, (_, i) => i));
      await store.close();
    });

    it('commits a transaction as a whole and shows its own writes to it', async () => {
      const store = await make();
      await store.append('log', utf8('before'));
      const seq = await store.transaction(async (tx) => {
        await tx.put('t', 'k', Uint8Array.of(7));
        expect(await tx.get('t', 'k')).toEqual(Uint8Array.of(7));
        await tx.append('log', utf8('within'));
        expect(await tx.read('log')).toHaveLength(2);
        return tx.append('log', utf8('last'));
      });
      expect(seq).toBe(2);
      expect(await store.get('t', 'k')).toEqual(Uint8Array.of(7));
      await store.close();
    });

    it('undoes a transaction that fails, and nothing else', async () => {
      const store = await make();
      await store.put('t', 'k', Uint8Array.of(1));
      const before = store.append('log', utf8('before'));
      const failed = store.transaction(async (tx) => {
        await tx.put('t', 'k', Uint8Array.of(2));
        await tx.delete('t', 'other');
        await tx.append('log', utf8('lost'));
        throw new Error('gives up');
      });
      const after = store.append('log', utf8('after'));
      await expect(failed).rejects.toThrow('gives up');
      expect([await before, await after]).toEqual([0, 1]);
      expect(await store.get('t', 'k')).toEqual(Uint8Array.of(1));
      expect((await store.read('log')).map(({ payload }) => fromUtf8(payload))).toEqual(['before', 'after']);
      await store.close();
    });

    it('copies bytes at the edge, also parts of larger buffers', async () => {
      const store = await make();
      // The slice() of a Buffer is a view; a store that relied on it would see later changes.
      const buffer = Buffer.from([9, 1, 2, 3, 9]);
      const part = buffer.subarray(1, 4);
      const put = store.put('t', 'k', part);
      const appended = store.append('log', part);
      buffer.fill(0);
      await Promise.all([put, appended]);
      const first = (await store.get('t', 'k')) as Uint8Array;
      expect(first).toEqual(Uint8Array.of(1, 2, 3));
      expect(first.constructor).toBe(Uint8Array);
      first.fill(0);
      const [entry] = await store.read('log');
      expect(entry?.payload.constructor).toBe(Uint8Array);
      entry?.payload.fill(0);
      expect(await store.get('t', 'k')).toEqual(Uint8Array.of(1, 2, 3));
      expect((await store.read('log'))[0]?.payload).toEqual(Uint8Array.of(1, 2, 3));
      await store.close();
    });

    it('holds every byte of a value of some megabytes', async () => {
      const store = await make();
      const value = Uint8Array.from({ length: 3_000_001 }, (_, i) => i * 7);
      await store.put('t', 'large', value);
      expect(Buffer.compare((await store.get('t', 'large')) as Uint8Array, value)).toBe(0);
      await store.close();
    });

    it('finishes what was called before close and refuses what comes after', async () => {
      const store = await make();
      const appended = store.append('log', utf8('last'));
      await store.close();
      expect(await appended).toBe(0);
      expect(await codeOf(store.get('t', 'k'))).toBe('USAGE_STATE');
      expect(await codeOf(store.transaction(async () => 1))).toBe('USAGE_STATE');
      await store.close();
    });
  });
}

describeStore('memory', async () => createMemoryStore());
describeStore(`embedded, ${chooseSqliteEngine()}`, () => openStore(newPath()));
if (chooseSqliteEngine() !== 'libsql')
  describeStore('embedded, libsql', () => openStore(newPath(), { engine: 'libsql' }));

describe('openStore', () => {
  it('finds everything again after it is opened anew', async () => {
    const path = newPath();
    const store = await openStore(path);
    await store.append('log', utf8('one'));
    await store.put('t', 'k', utf8('value'));
    await store.close();
    const again = await openStore(path);
    expect(await again.append('log', utf8('two'))).toBe(1);
    expect(fromUtf8((await again.get('t', 'k')) as Uint8Array)).toBe('value');
    await again.close();
  });

  it('keeps what resolved when its process is killed', async () => {
    const path = newPath();
    const module = new URL('../dist/platform/node/store.js', import.meta.url).href;
    const program = `
      const { openStore } = await import(${JSON.stringify(module)});
      const store = await openStore(process.argv[1]);
      for (let i = 0; i < 20; i++) await store.append('log', Uint8Array.of(i));
      process.stdout.write('appended');
      process.kill(process.pid, 'SIGKILL');`;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', program, path], { encoding: 'utf8' });
    expect(child.stdout).toBe('appended');
    expect(child.signal).toBe('SIGKILL');
    const store = await openStore(path);
    expect((await store.read('log')).map(({ payload }) => payload[0])).toEqual(Array.from({ length: 20 }, (_, i) => i));
    await store.close();
  });

  it('refuses a second process with one line', async () => {
    const path = newPath();
    const store = await openStore(path);
    const module = new URL('../dist/platform/node/store.js', import.meta.url).href;
    const program = `
      const { openStore } = await import(${JSON.stringify(module)});
      await openStore(process.argv[1]).then(() => process.stdout.write('opened'), (error) => process.stdout.write(error.code + ' ' + error.message));`;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', program, path], { encoding: 'utf8' });
    expect(child.stdout).toBe(`USAGE_STATE "state" is in use: another process has ${path} open`);
    await store.close();
    const again = await openStore(path);
    await again.close();
  });

  it('makes a file that only its owner can read', async () => {
    const path = newPath();
    const store = await openStore(path);
    await store.append('log', Uint8Array.of(1));
    if (process.platform !== 'win32') {
      expect(statSync(path).mode & 0o777).toBe(0o600);
      expect(statSync(`${path}-wal`).mode & 0o777).toBe(0o600);
    }
    await store.close();
  });

  it('syncs every commit in exclusive write-ahead mode', async () => {
    const path = newPath();
    const store = await openStore(path);
    await store.append('log', Uint8Array.of(1));
    expect(existsSync(`${path}-wal`)).toBe(true);
    // Shared memory exists only where several processes may open the file.
    expect(existsSync(`${path}-shm`)).toBe(false);
    await store.close();
  });

  it('refuses a store of a newer version, a foreign database and other files', async () => {
    const newer = newPath();
    await (await openStore(newer)).close();
    const database = openSqlite(newer, chooseSqliteEngine());
    database.prepare('PRAGMA user_version=99').all([]);
    database.close();
    await expect(openStore(newer)).rejects.toThrow('"state" expected a store of version <= 1, got 99');

    const foreign = join(folder, 'foreign.sqlite');
    const other = openSqlite(foreign, chooseSqliteEngine());
    other.prepare('CREATE TABLE t (x INTEGER)').all([]);
    other.close();
    const bytes = readFileSync(foreign);
    await expect(openStore(foreign)).rejects.toThrow('got another database');
    expect(readFileSync(foreign).equals(bytes)).toBe(true);

    const text = join(folder, 'text.sqlite');
    writeFileSync(text, 'not a database at all, but longer than a header would be '.repeat(20));
    expect(await codeOf(openStore(text))).toBe('USAGE_STATE');
  });

  it('opens the stored file of version 1 for ever', async () => {
    const path = join(folder, 'v1.sqlite');
    writeFileSync(path, readFileSync(fileURLToPath(new URL('vectors/store-v1.sqlite', import.meta.url))));
    const store = await openStore(path);
    expect((await store.read('log')).map(({ payload }) => fromUtf8(payload))).toEqual(['first', 'second']);
    expect(await store.get('member', 'run')).toEqual(Uint8Array.of(0, 1, 254, 255));
    await store.close();
  });

  it('takes node:sqlite where this Node has it, and says which Node does', () => {
    const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
    const hasModule = major > 22 || (major === 22 && minor >= 13);
    expect(chooseSqliteEngine()).toBe(hasModule ? 'node:sqlite' : 'libsql');
    const open = (): void => openSqlite(join(folder, 'engine.sqlite'), 'node:sqlite').close();
    if (hasModule) expect(open).not.toThrow();
    else expect(open).toThrow('22.13');
  });
});
