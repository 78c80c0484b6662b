import { CoveyError } from '../../protocol/errors.ts';
import type { Algorithm } from './algorithm.ts';
import {
  ditto,
  fedAvg,
  fedAvgEpochs,
  fedAvgFineTuning,
  fedAvgM,
  fedRep,
  ifca,
  ifcaFineTuning,
  localOnly,
} from './algorithms.ts';
import { CATALOGUE } from './catalogue.ts';

/** Algorithms that run; to add one, add a file and a line here. */
export const ALGORITHMS: readonly Algorithm[] = [
  fedAvg,
  fedAvgEpochs,
  fedAvgM,
  fedAvgFineTuning,
  ditto,
  ifca,
  ifcaFineTuning,
  fedRep,
  localOnly,
];

/**
 * Finds an algorithm by its id.
 * @throws CoveyError USAGE_CONFIG for an unknown id, and for one that is catalogued but does not run.
 */
export function findAlgorithm(id: string): Algorithm {
  const found = ALGORITHMS.find(({ info }) => info.id === id);
  if (found !== undefined) return found;
  const known = CATALOGUE.some((info) => info.id === id) ? ' (catalogued, not part of this version)' : '';
  throw new CoveyError(
    'USAGE_CONFIG',
    `"algorithm" expected one of ${ALGORITHMS.map(({ info }) => info.id).join(', ')}, got ${id}${known}`,
  );
}
