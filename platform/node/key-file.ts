import { open } from 'node:fs/promises';
import { fromHex, toHex } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { createFileAtomic } from './atomic-file.ts';

const HEADER = 'covey-ed25519-seed-1';
const LONGEST = 256;

/**
 * Creates a key file with mode 0600 that holds a 32-byte Ed25519 secret seed; an existing file is never replaced.
 * Secrets: `secretSeed` stays the caller's to wipe.
 * @throws CoveyError USAGE_STATE if the file exists, USAGE_RANGE for a seed of another length.
 */
export async function createKeyFile(path: string, secretSeed: Uint8Array): Promise<void> {
  if (secretSeed.length !== 32)
    throw new CoveyError('USAGE_RANGE', `"secretSeed" expected 32 bytes, got ${secretSeed.length}`);
  try {
    await createFileAtomic(path, `${HEADER} ${toHex(secretSeed)}\n`, 0o600);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
    throw new CoveyError('USAGE_STATE', `"key" expected a new file, got the existing ${path}`, {}, { cause });
  }
}

/**
 * Reads the secret seed of a key file.
 * Not guaranteed: on Windows the access list of the file is not looked at.
 * @throws CoveyError USAGE_CONFIG if the file is missing, readable by others, another user's, or not a key file.
 */
export async function readKeyFile(path: string): Promise<Uint8Array> {
  const file = await open(path, 'r').catch((cause: NodeJS.ErrnoException) => {
    const hint = cause.code === 'ENOENT' ? ' (make one with: covey keygen)' : '';
    throw new CoveyError(
      'USAGE_CONFIG',
      `"key" expected a readable file, got ${cause.code} for ${path}${hint}`,
      {},
      { cause },
    );
  });
  try {
    // The open file is asked, not the path: between two looks at a path it may lead elsewhere.
    const { mode, uid, size } = await file.stat();
    if (process.platform !== 'win32') {
      const permissions = (mode & 0o777).toString(8).padStart(4, '0');
      if ((mode & 0o077) !== 0)
        throw new CoveyError('USAGE_CONFIG', `"key" expected mode 0600, got ${permissions}: chmod 600 ${path}`);
      if (uid !== process.getuid?.())
        throw new CoveyError('USAGE_CONFIG', `"key" expected a file of this user, got one of user ${uid}: ${path}`);
    }
    if (size > LONGEST) throw new CoveyError('USAGE_CONFIG', `"key" expected a key file, got ${size} bytes in ${path}`);
    const match = new RegExp(`^${HEADER} ([0-9a-f]{64})\\n?$`).exec(await file.readFile('utf8'));
    if (match?.[1] === undefined)
      throw new CoveyError('USAGE_CONFIG', `"key" expected a key file of covey keygen, got something else in ${path}`);
    return fromHex(match[1]);
  } finally {
    await file.close();
  }
}
