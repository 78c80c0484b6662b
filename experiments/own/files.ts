import { existsSync, readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { toHex } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { type DataSource, readFileOf, readKnownFile } from '../scenarios/data-source.ts';

/** Largest content that is read. Units: bytes. */
const MAX_BYTES = 2 ** 30;

interface OwnFile {
  readonly file: string;
  readonly sha256?: string | undefined;
}

/** Files of a description: looked for beside it, then where the command says. */
export interface OwnFiles {
  /** @throws CoveyError USAGE_CONFIG for a file that is nowhere, has another hash, or is to be fetched without one. */
  read(file: OwnFile): Promise<Uint8Array>;
  /** Hash of the bytes of a file, or the declared one: what tells two runs on the same description apart. */
  hashOf(file: OwnFile): string;
}

/**
 * Files of records, each of which counts once: in a second file with the same content every record would train or be tested
 * twice, at two participants even, whose epsilon says nothing of it.
 */
export function distinctFiles(files: OwnFiles): OwnFiles {
  const known = new Map<string, string>();
  return {
    ...files,
    async read(part) {
      const content = await files.read(part);
      const hash = toHex(nodeCrypto.sha256(content));
      const before = known.get(hash);
      if (before !== undefined)
        throw new CoveyError(
          'USAGE_CONFIG',
          `"records" expected every record once, got those of ${before} again in ${part.file}`,
        );
      known.set(hash, part.file);
      return content;
    },
  };
}

/** Text in UTF-8, with or without a byte order mark. Units: `most` in bytes. @throws CoveyError CODEC_TYPE, CODEC_LIMIT */
export function textOf(bytes: Uint8Array, name: string, most: number): string {
  if (bytes.length > most)
    throw new CoveyError('CODEC_LIMIT', `"${name}" expected at most ${most} bytes, got ${bytes.length}`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new CoveyError('CODEC_TYPE', `"${name}" expected text in UTF-8`, {}, { cause });
  }
}

/** The files beside a description, or in a folder, or at an address. */
export function ownFiles(folder: string, source: DataSource | undefined): OwnFiles {
  const folders = [folder, ...(source !== undefined && 'folder' in source ? [source.folder] : [])];
  const pathOf = (file: string): string | undefined =>
    folders.map((place) => resolve(place, file)).find((path) => existsSync(path));
  return {
    async read({ file, sha256 }) {
      const known = { path: file, bytes: MAX_BYTES, ...(sha256 === undefined ? {} : { sha256 }) };
      const path = pathOf(file);
      const content = path === undefined ? null : await readFileOf(path, known);
      if (content !== null) return content;
      if (source === undefined || 'folder' in source)
        throw new CoveyError('USAGE_CONFIG', `"file" expected ${file} in ${folders.join(' or ')}; hint: --data-dir`);
      if (sha256 === undefined)
        throw new CoveyError(
          'USAGE_CONFIG',
          `"sha256" expected beside ${file}: what is fetched is checked by its hash`,
        );
      return readKnownFile(source, { ...known, sha256 });
    },
    hashOf({ file, sha256 }) {
      const path = pathOf(file);
      if (sha256 !== undefined || path === undefined) return sha256 ?? '';
      const info = statSync(path);
      // What cannot be read is named when it is read.
      return info.isFile() && info.size <= MAX_BYTES ? toHex(nodeCrypto.sha256(readFileSync(path))) : '';
    },
  };
}
