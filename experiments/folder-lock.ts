import { mkdir, open, readFile, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { CoveyError } from '../protocol/errors.ts';

const LOCK_FILE = '.lock';

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // A process of another user cannot be signalled, but runs.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * Makes this process the only writer of a folder. A lock that a killed process left behind is taken over.
 * @returns what gives the folder back.
 * @throws CoveyError USAGE_STATE while another process writes.
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  await mkdir(folder, { recursive: true });
  const path = join(folder, LOCK_FILE);
  for (let attempt = 0; attempt < 2; attempt++) {
    const file = await open(path, 'wx').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'EEXIST') return null;
      throw error;
    });
    if (file !== null) {
      await file.writeFile(`${process.pid}\n`);
      await file.close();
      return () => unlink(path);
    }
    const holder = Number(await readFile(path, 'utf8').catch(() => ''));
    if (holder > 0 && isRunning(holder)) break;
    await unlink(path).catch(() => undefined);
  }
  throw new CoveyError(
    'USAGE_STATE',
    `"--out" expected a folder that no other process writes, got ${folder} (${path})`,
  );
}
