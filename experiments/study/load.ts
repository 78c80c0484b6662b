import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CoveyError } from '../../protocol/errors.ts';
import { RESULTS_FILE, readResults } from '../benchmark.ts';
import { type Cell, cellsOf } from './cells.ts';
import { parseStudy, STUDY_FILE } from './schema.ts';

/** Cells of a folder of results and the title of the study that they are from. @throws CoveyError USAGE_CONFIG without any. */
export async function loadCells(folder: string): Promise<{ readonly title: string | null; readonly cells: Cell[] }> {
  const cells = cellsOf(await readResults(folder));
  if (cells.length === 0)
    throw new CoveyError('USAGE_CONFIG', `"folder" expected recorded runs in ${RESULTS_FILE}, got none in ${folder}`);
  const text = await readFile(join(folder, STUDY_FILE), 'utf8').catch(() => null);
  return { title: text === null ? null : (parseStudy(text, STUDY_FILE).title ?? null), cells };
}
