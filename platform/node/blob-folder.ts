import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { writeFileAtomic } from './atomic-file.ts';

/** A folder of files named by the SHA-256 of their content: models and tiles of the log. */
export interface BlobFolder {
  /** Stores bytes and returns their hash in hex; durable when it resolves. */
  put(bytes: Uint8Array): Promise<string>;
  /** @throws CoveyError USAGE_STATE if there is none or its content does not have that hash. */
  get(hashHex: string): Promise<Uint8Array>;
  has(hashHex: string): Promise<boolean>;
}

/** Opens a content-addressed folder; it is created with the first blob. */
export function openBlobFolder(path: string, crypto: Pick<CryptoProvider, 'sha256'>): BlobFolder {
  // Two hex digits as a folder keep any one folder small.
  const fileOf = (hashHex: string): string => {
    if (!/^[0-9a-f]{64}$/.test(hashHex))
      throw new CoveyError('USAGE_RANGE', '"hash" expected 64 lower-case hex digits');
    return join(path, hashHex.slice(0, 2), hashHex.slice(2));
  };
  const has = async (hashHex: string): Promise<boolean> =>
    access(fileOf(hashHex)).then(
      () => true,
      () => false,
    );
  return {
    has,
    async put(bytes) {
      const hashHex = toHex(crypto.sha256(bytes));
      if (!(await has(hashHex))) await writeFileAtomic(fileOf(hashHex), bytes);
      return hashHex;
    },
    async get(hashHex) {
      const bytes = await readFile(fileOf(hashHex)).catch((cause: unknown) => {
        throw new CoveyError(
          'USAGE_STATE',
          `"blob" expected ${hashHex.slice(0, 12)} in ${path}, got none`,
          {},
          { cause },
        );
      });
      if (toHex(crypto.sha256(bytes)) !== hashHex) {
        throw new CoveyError(
          'USAGE_STATE',
          `"blob" ${hashHex.slice(0, 12)} expected the content of its hash, got other bytes`,
        );
      }
      return new Uint8Array(bytes);
    },
  };
}
