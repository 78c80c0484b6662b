import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createFileAtomic, writeFileAtomic } from '../platform/node/atomic-file.ts';
import { openBlobFolder } from '../platform/node/blob-folder.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createKeyFile, readKeyFile } from '../platform/node/key-file.ts';
import { toHex, utf8 } from '../protocol/bytes.ts';

const folder = mkdtempSync(join(tmpdir(), 'covey-keys-'));
afterAll(() => rmSync(folder, { recursive: true }));
const onPosix = process.platform !== 'win32';
const seed = Uint8Array.from({ length: 32 }, (_, i) => 255 - i);

describe('key files', () => {
  it('come back as they were written, with mode 0600 and nothing left beside them', async () => {
    const path = join(folder, 'a', 'node.key');
    await createKeyFile(path, seed);
    expect(await readKeyFile(path)).toEqual(seed);
    if (onPosix) expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(folder, 'a'))).toEqual(['node.key']);
  });

  it('are never overwritten', async () => {
    const path = join(folder, 'b', 'node.key');
    await createKeyFile(path, seed);
    await expect(createKeyFile(path, new Uint8Array(32))).rejects.toThrow('"key" expected a new file');
    expect(await readKeyFile(path)).toEqual(seed);
    expect(readdirSync(join(folder, 'b'))).toEqual(['node.key']);
  });

  it('are refused if others may read or write them', async () => {
    const path = join(folder, 'c.key');
    await createKeyFile(path, seed);
    if (!onPosix) return;
    for (const mode of [0o644, 0o640, 0o604, 0o620, 0o660]) {
      chmodSync(path, mode);
      await expect(readKeyFile(path)).rejects.toThrow(`"key" expected mode 0600, got 0${mode.toString(8)}`);
    }
    chmodSync(path, 0o400);
    expect(await readKeyFile(path)).toEqual(seed);
  });

  it('are refused if they hold anything else, without showing it', async () => {
    const path = join(folder, 'd.key');
    const text = `covey-ed25519-seed-1 ${toHex(seed)}\n`;
    for (const wrong of ['', text.slice(0, -2), `${text}${text}`, text.toUpperCase(), ` ${text}`, 'x'.repeat(300)]) {
      writeFileSync(path, wrong, { mode: 0o600 });
      const error: unknown = await readKeyFile(path).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'USAGE_CONFIG' });
      expect(String(error)).not.toContain(toHex(seed).slice(0, 16));
    }
    await expect(readKeyFile(join(folder, 'missing.key'))).rejects.toThrow('covey keygen');
    await expect(createKeyFile(join(folder, 'short.key'), new Uint8Array(31))).rejects.toThrow(
      '"secretSeed" expected 32 bytes, got 31',
    );
  });
});

describe('atomic files', () => {
  it('replace the old content as a whole and leave nothing behind', async () => {
    const path = join(folder, 'e', 'file.json');
    await writeFileAtomic(path, 'old');
    await writeFileAtomic(path, utf8('new'));
    expect(readFileSync(path, 'utf8')).toBe('new');
    await expect(createFileAtomic(path, 'third')).rejects.toMatchObject({ code: 'EEXIST' });
    expect(readFileSync(path, 'utf8')).toBe('new');
    expect(readdirSync(join(folder, 'e'))).toEqual(['file.json']);
  });

  it('leave nothing behind when the target cannot be replaced', async () => {
    const path = join(folder, 'f');
    await writeFileAtomic(join(path, 'taken', 'file'), 'content');
    await expect(writeFileAtomic(join(path, 'taken'), 'content')).rejects.toThrow();
    expect(readdirSync(path)).toEqual(['taken']);
  });
});

describe('blob folder', () => {
  it('stores bytes under their hash, once', async () => {
    const blobs = openBlobFolder(join(folder, 'blobs'), nodeCrypto);
    const bytes = utf8('a model');
    const hash = await blobs.put(bytes);
    expect(hash).toBe(toHex(nodeCrypto.sha256(bytes)));
    expect(await blobs.put(bytes)).toBe(hash);
    expect(await blobs.get(hash)).toEqual(bytes);
    expect([await blobs.has(hash), await blobs.has('0'.repeat(64))]).toEqual([true, false]);
  });

  it('refuses changed content, unknown hashes and names that are no hash', async () => {
    const blobs = openBlobFolder(join(folder, 'changed'), nodeCrypto);
    const hash = await blobs.put(utf8('a model'));
    writeFileSync(join(folder, 'changed', hash.slice(0, 2), hash.slice(2)), 'another model');
    await expect(blobs.get(hash)).rejects.toThrow('expected the content of its hash');
    await expect(blobs.get('0'.repeat(64))).rejects.toThrow('got none');
    await expect(blobs.get('../../etc/passwd')).rejects.toThrow('expected 64 lower-case hex digits');
  });
});
