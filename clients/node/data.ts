import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CoveyError } from '../../protocol/errors.ts';
import type { SplitData } from '../../src/data/dataset.ts';
import { withDigitCanaries } from '../../src/data/digit-canaries.ts';
import { generateDigits } from '../../src/data/digits.ts';
import { HEART_HOSPITALS, parseHeart } from '../../src/data/heart.ts';
import type { NodeConfig } from './config.ts';
import { loadTable } from './table.ts';

/** Reads the four hospitals' processed files from a folder. @throws CoveyError USAGE_CONFIG naming the missing file */
export async function loadHeart(folder: string, hospital: number): Promise<SplitData> {
  const name = HEART_HOSPITALS[hospital];
  if (name === undefined)
    throw new CoveyError('USAGE_CONFIG', `"hospital" expected 0 to ${HEART_HOSPITALS.length - 1}, got ${hospital}`);
  const path = join(folder, name.file);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"folder" expected the file ${name.file} of the UCI heart disease data; hint: --data-dir`,
      {},
      { cause },
    );
  }
  return parseHeart(hospital, text);
}

/** The records of a node, as `node.yaml` names them; `at` finds its files. */
export async function loadNodeData(data: NodeConfig['data'], at: (path: string) => string): Promise<SplitData> {
  switch (data.kind) {
    case 'digits': {
      const { canaries, organization, seed } = data;
      const { train, test } = generateDigits(seed, organization);
      if (canaries === undefined) return { train, test };
      return { train: withDigitCanaries(train, seed, organization, Uint32Array.from(canaries)), test };
    }
    case 'heart':
      return loadHeart(at(data.folder), data.hospital);
    case 'table':
      return loadTable({
        ...data,
        description: at(data.description),
        train: at(data.train),
        test: data.test === undefined ? undefined : at(data.test),
      });
  }
}
