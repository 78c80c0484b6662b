import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** Every file below a folder, as relative paths with slashes, in order. */
export async function listFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) =>
      join(entry.parentPath, entry.name)
        .slice(join(folder, 'x').length - 1)
        .replaceAll('\\', '/'),
    )
    .sort();
}
