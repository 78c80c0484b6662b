import { constants, open } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { writeFileAtomic } from '../../platform/node/atomic-file.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { toHex } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';

/** Where files come from: a folder, or a base address with a folder that keeps what was fetched. */
export type DataSource =
  | { readonly folder: string }
  | { readonly url: string; readonly cacheFolder: string; readonly timeoutMs?: number };

/**
 * A file and the content it may have. The path ends in `.gz` if the file is compressed; size and hash are those of the
 * content, because mirrors compress differently.
 */
interface DataFile {
  readonly path: string;
  /** Most bytes of content. */
  readonly bytes: number;
  readonly sha256?: string;
}

/** A file whose content is known. */
export interface KnownFile extends DataFile {
  readonly sha256: string;
}

/** Time for one file, unless the source says otherwise. */
const TIMEOUT_MS = 120_000;

/** gzip adds at most 5 bytes to each 16 KiB and a header; with room for a file name. */
const packedLimit = (bytes: number): number => bytes + Math.ceil(bytes / 1024) + 4096;

/** Decompresses gzip data to at most `maxBytes`. @throws CoveyError CODEC_TYPE, CODEC_TRAILING or CODEC_LIMIT */
export function gunzipBounded(packed: Uint8Array, maxBytes: number, name: string = 'gz'): Uint8Array {
  try {
    // With `info` Node also returns the engine, which tells how much it read: zeros after the end pass unseen otherwise.
    const { buffer, engine } = gunzipSync(packed, {
      maxOutputLength: Math.max(1, maxBytes),
      info: true,
    }) as unknown as {
      readonly buffer: Uint8Array;
      readonly engine: { readonly bytesWritten: number };
    };
    if (engine.bytesWritten !== packed.length) {
      throw new CoveyError(
        'CODEC_TRAILING',
        `"${name}" expected to end after ${engine.bytesWritten} bytes, got ${packed.length}`,
      );
    }
    return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  } catch (cause) {
    if (cause instanceof CoveyError) throw cause;
    if (cause instanceof Error && 'code' in cause && cause.code === 'ERR_BUFFER_TOO_LARGE')
      throw new CoveyError('CODEC_LIMIT', `"${name}" expected at most ${maxBytes} bytes of content`, {}, { cause });
    throw new CoveyError('CODEC_TYPE', `"${name}" expected gzip data`, {}, { cause });
  }
}

/** The content of a file if it is the known one. */
function checkContent(file: DataFile, packed: Uint8Array): Uint8Array {
  const content = file.path.endsWith('.gz') ? gunzipBounded(packed, file.bytes, file.path) : packed;
  if (file.sha256 === undefined) return content;
  const sha256 = toHex(nodeCrypto.sha256(content));
  if (sha256 !== file.sha256) {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"${file.path}" expected content with SHA-256 ${file.sha256}, got ${sha256} (${content.length} bytes)`,
    );
  }
  return content;
}

async function readBounded(path: string, limit: number, name: string): Promise<Uint8Array> {
  // Without waiting for the other end of a pipe.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const info = await file.stat();
    const { size } = info;
    if (!info.isFile() && !info.isDirectory())
      throw new CoveyError('USAGE_CONFIG', `"${name}" expected a file, got a device or a pipe`);
    if (size > limit) throw new CoveyError('CODEC_LIMIT', `"${name}" expected at most ${limit} bytes, got ${size}`);
    const bytes = await file.readFile();
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  } finally {
    await file.close();
  }
}

/** Reads a response to its end, or to the limit. */
async function readResponse(response: Response, limit: number, name: string): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of response.body ?? []) {
    length += (part as Uint8Array).length;
    // Leaving the loop cancels the stream: an endless answer costs no more than the limit.
    if (length > limit) throw new CoveyError('CODEC_LIMIT', `"${name}" expected at most ${limit} bytes`);
    parts.push(part as Uint8Array);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

async function download(base: string, file: KnownFile, timeoutMs: number): Promise<Uint8Array> {
  let url: URL;
  try {
    url = new URL(file.path, base.endsWith('/') ? base : `${base}/`);
  } catch (cause) {
    throw new CoveyError('USAGE_CONFIG', `"url" expected an address, got ${base}`, {}, { cause });
  }
  // The hash decides what is taken, not the transport; other schemes could read local files.
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw new CoveyError('USAGE_CONFIG', `"url" expected http or https, got ${url.protocol}`);
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(timeoutMs), credentials: 'omit' });
    if (!response.ok)
      throw new CoveyError('USAGE_CONFIG', `"${file.path}" expected status 200, got ${response.status}`);
    return await readResponse(response, packedLimit(file.bytes), file.path);
  } catch (cause) {
    if (cause instanceof CoveyError) throw cause;
    throw new CoveyError('USAGE_CONFIG', `"${file.path}" could not be fetched from ${url.origin}`, {}, { cause });
  }
}

const isMissing = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT';

/**
 * The content of the file at `path`, or null if there is none.
 * @throws CoveyError USAGE_CONFIG for another content or a file that cannot be read, CODEC_LIMIT for a larger one, CODEC_TYPE
 * or CODEC_TRAILING for a broken gzip file.
 */
export async function readFileOf(path: string, file: DataFile): Promise<Uint8Array | null> {
  try {
    return checkContent(file, await readBounded(path, packedLimit(file.bytes), file.path));
  } catch (cause) {
    if (isMissing(cause)) return null;
    if (cause instanceof CoveyError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code ?? 'an error';
    throw new CoveyError('USAGE_CONFIG', `"${file.path}" expected a readable file, got ${code}`, {}, { cause });
  }
}

/**
 * Reads the content of a known file, from a folder or from its cache, else fetches it into the cache.
 * Nothing with another hash is returned or kept; a damaged cache entry is fetched again.
 * @throws CoveyError USAGE_CONFIG for a file that is missing, cannot be fetched or has another content, CODEC_LIMIT for one
 * that is larger, CODEC_TYPE or CODEC_TRAILING for a broken gzip file.
 */
export async function readKnownFile(source: DataSource, file: KnownFile): Promise<Uint8Array> {
  // A path that climbs would read or write outside the folder.
  if (!/^\w[\w.-]*(\/\w[\w.-]*)*$/.test(file.path))
    throw new CoveyError('USAGE_CONFIG', `"path" expected names separated by slashes, got ${file.path}`);
  const limit = packedLimit(file.bytes);
  if ('folder' in source) {
    const content = await readFileOf(join(source.folder, file.path), file);
    if (content !== null) return content;
    throw new CoveyError('USAGE_CONFIG', `"folder" expected the file ${file.path}; hint: --data-dir or COVEY_DATA`);
  }
  const cached = join(source.cacheFolder, file.path);
  try {
    return checkContent(file, await readBounded(cached, limit, file.path));
  } catch (error) {
    if (!isMissing(error) && !(error instanceof CoveyError)) throw error;
  }
  const packed = await download(source.url, file, source.timeoutMs ?? TIMEOUT_MS);
  const content = checkContent(file, packed);
  await writeFileAtomic(cached, packed);
  return content;
}
