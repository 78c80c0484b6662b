import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import type { DataSource } from '../experiments/scenarios/data-source.ts';
import { CoveyError } from '../protocol/errors.ts';

/** Where the data sets of scenarios are. */
export interface DataFlags {
  readonly dataDir?: string;
  readonly dataUrl?: string;
}

/** Adds `--data-dir` and `--data-url`. */
export function addDataOptions(command: Command): Command {
  return command
    .option('--data-dir <folder>', 'folder of data sets (or COVEY_DATA)')
    .option('--data-url <address>', 'address of data sets, fetched once and checked by hash');
}

/** The source that the flags or COVEY_DATA name, if any. @throws CoveyError USAGE_CONFIG */
export function sourceOf({ dataDir, dataUrl }: DataFlags): DataSource | null {
  if (dataDir !== undefined && dataUrl !== undefined)
    throw new CoveyError('USAGE_CONFIG', '"--data-dir" and "--data-url" expected one of them, got both');
  if (dataUrl !== undefined) return { url: dataUrl, cacheFolder: '.covey-data' };
  const folder = dataDir ?? process.env['COVEY_DATA'];
  if (folder === undefined) return null;
  if (!existsSync(folder)) throw new CoveyError('USAGE_CONFIG', `"--data-dir" expected a folder, got ${folder}`);
  return { folder };
}
