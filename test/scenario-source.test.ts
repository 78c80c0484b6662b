import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { gunzipBounded, type KnownFile, readKnownFile } from '../experiments/scenarios/data-source.ts';
import { CoveyError } from '../protocol/errors.ts';
import { codeOf } from './support/code-of.ts';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const CONTENT = Uint8Array.from({ length: 5000 }, (_, i) => (i * i) & 255);
const PLAIN: KnownFile = { path: 'set/plain.bin', bytes: CONTENT.length, sha256: sha256(CONTENT) };
const PACKED: KnownFile = { ...PLAIN, path: 'set/packed.bin.gz' };
const packed = new Uint8Array(gzipSync(CONTENT));

async function codeOfAsync(act: Promise<unknown>): Promise<string | null> {
  try {
    await act;
  } catch (error) {
    if (error instanceof CoveyError) return error.code;
    throw error;
  }
  return null;
}

describe('gzip', () => {
  it('returns the content up to the limit', () => {
    expect(gunzipBounded(packed, CONTENT.length)).toEqual(CONTENT);
    expect(codeOf(() => gunzipBounded(packed, CONTENT.length - 1))).toBe('CODEC_LIMIT');
    // A megabyte of zeros in a kilobyte.
    expect(codeOf(() => gunzipBounded(new Uint8Array(gzipSync(new Uint8Array(1 << 20))), 5000))).toBe('CODEC_LIMIT');
  });

  it('refuses other bytes, an early end and a late one', () => {
    expect(codeOf(() => gunzipBounded(CONTENT, 5000))).toBe('CODEC_TYPE');
    expect(codeOf(() => gunzipBounded(new Uint8Array(0), 5000))).toBe('CODEC_TYPE');
    expect(codeOf(() => gunzipBounded(packed.subarray(0, packed.length - 1), 5000))).toBe('CODEC_TYPE');
    expect(codeOf(() => gunzipBounded(Uint8Array.from([...packed, 0, 0]), 5000))).toBe('CODEC_TRAILING');
    expect(codeOf(() => gunzipBounded(Uint8Array.from([...packed, 1]), 5000))).toBe('CODEC_TYPE');
    const flipped = Uint8Array.from(packed, (byte, i) => (i === packed.length - 6 ? byte ^ 1 : byte));
    expect(codeOf(() => gunzipBounded(flipped, 5000))).toBe('CODEC_TYPE');
  });
});

describe('sources of scenario files', () => {
  let server: Server;
  let url: string;
  let folder: string;
  let cacheFolder: string;
  let requests: string[];
  let answer: (path: string, response: ServerResponse) => void;

  const serveGood = (path: string, response: ServerResponse): void => {
    response.end(path.endsWith('.gz') ? packed : CONTENT);
  };

  beforeAll(async () => {
    server = createServer((request, response) => {
      requests.push(request.url ?? '');
      answer(request.url ?? '', response);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/base`;
  });
  afterAll(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  beforeEach(async () => {
    requests = [];
    answer = serveGood;
    folder = await mkdtemp(join(tmpdir(), 'covey-source-'));
    cacheFolder = join(folder, 'cache');
    await mkdir(join(folder, 'set'));
    return () => rm(folder, { recursive: true });
  });

  it('reads a folder and checks the content', async () => {
    await writeFile(join(folder, PLAIN.path), CONTENT);
    await writeFile(join(folder, PACKED.path), packed);
    expect(await readKnownFile({ folder }, PLAIN)).toEqual(CONTENT);
    expect(await readKnownFile({ folder }, PACKED)).toEqual(CONTENT);
    await writeFile(
      join(folder, PLAIN.path),
      CONTENT.map((byte, i) => (i === 4999 ? byte ^ 1 : byte)),
    );
    await expect(readKnownFile({ folder }, PLAIN)).rejects.toThrow(/"set\/plain.bin" expected content with SHA-256/);
    await writeFile(join(folder, PLAIN.path), new Uint8Array(20_000));
    expect(await codeOfAsync(readKnownFile({ folder }, PLAIN))).toBe('CODEC_LIMIT');
    await rm(join(folder, PLAIN.path));
    await expect(readKnownFile({ folder }, PLAIN)).rejects.toThrow(/expected the file set\/plain.bin; hint/);
  });

  it('fetches once, keeps what has the hash and repairs a damaged copy', async () => {
    const source = { url, cacheFolder };
    expect(await readKnownFile(source, PACKED)).toEqual(CONTENT);
    expect(await readKnownFile(source, PACKED)).toEqual(CONTENT);
    expect(requests).toEqual(['/base/set/packed.bin.gz']);
    await writeFile(join(cacheFolder, PACKED.path), packed.subarray(0, 100));
    expect(await readKnownFile({ ...source, url: `${url}/` }, PACKED)).toEqual(CONTENT);
    expect(requests).toHaveLength(2);
    expect(new Uint8Array(await readFile(join(cacheFolder, PACKED.path)))).toEqual(packed);
  });

  it('refuses and does not keep another content', async () => {
    answer = (_, response) => response.end(CONTENT.map((byte) => byte ^ 1));
    await expect(readKnownFile({ url, cacheFolder }, PLAIN)).rejects.toThrow(/expected content with SHA-256/);
    expect(existsSync(join(cacheFolder, PLAIN.path))).toBe(false);
  });

  it('stops an answer without end', async () => {
    let closed: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => {
      closed = resolve;
    });
    let sent = 0;
    const send = (response: ServerResponse): boolean => {
      sent += 4096;
      return response.write(new Uint8Array(4096));
    };
    answer = (_, response) => {
      response.on('close', closed);
      const more = (): void => {
        while (!response.destroyed && send(response));
        if (!response.destroyed) response.once('drain', more);
      };
      more();
    };
    expect(await codeOfAsync(readKnownFile({ url, cacheFolder }, PLAIN))).toBe('CODEC_LIMIT');
    await ended;
    // What the buffers between the two hold, not what patience would.
    expect(sent).toBeLessThan(1 << 26);
    expect(existsSync(join(cacheFolder, PLAIN.path))).toBe(false);
  });

  it('names what went wrong with an address', async () => {
    answer = (_, response) => response.writeHead(404).end();
    await expect(readKnownFile({ url, cacheFolder }, PLAIN)).rejects.toThrow(
      /"set\/plain.bin" expected status 200, got 404/,
    );
    // No answer at all: the time limit ends it.
    answer = () => undefined;
    const silent = readKnownFile({ url, cacheFolder, timeoutMs: 50 }, PLAIN);
    await expect(silent).rejects.toThrow(/could not be fetched from http:\/\/127/);
    answer = (_, response) => response.destroy();
    expect(await codeOfAsync(readKnownFile({ url, cacheFolder }, PLAIN))).toBe('USAGE_CONFIG');
    for (const wrong of ['file:///data', 'ftp://127.0.0.1/'])
      await expect(readKnownFile({ url: wrong, cacheFolder }, PLAIN)).rejects.toThrow(
        /"url" expected http or https, got f/,
      );
    await expect(readKnownFile({ url: 'nowhere', cacheFolder }, PLAIN)).rejects.toThrow(
      /expected an address, got nowhere/,
    );
  });

  it('stays inside its folder', async () => {
    for (const path of ['../plain.bin', 'set/../../x', '/etc/x', 'set//x', '', 'set/.hidden', 'a\\b'])
      await expect(readKnownFile({ folder }, { ...PLAIN, path })).rejects.toThrow(/"path" expected names/);
  });
});
