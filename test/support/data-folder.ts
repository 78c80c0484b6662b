import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Where the data of scenarios lie, if they are there: COVEY_DATA or ../shared/data beside the repository. */
export const DATA_FOLDER: string =
  process.env['COVEY_DATA'] ?? join(import.meta.dirname, '..', '..', '..', 'shared', 'data');

/** True if every folder is there; say so in the title of what is skipped otherwise. */
export function hasData(...folders: readonly string[]): boolean {
  return folders.every((folder) => existsSync(join(DATA_FOLDER, folder)));
}

/** Ending for the title of a test that real data decide about. */
export const NEEDS_DATA = '(needs the data folder: COVEY_DATA or ../shared/data)';
