import { CoveyError } from '../../protocol/errors.ts';
import { type Algorithm, optionsOf, requireRecordRule, type SlotUse } from '../learning/algorithm.ts';
import { findAlgorithm } from '../learning/registry.ts';
import type { RunConfig } from './config.ts';

/** The algorithm of a run with all its numbers; FedAvg where the configuration names none. */
export function algorithmOf({ algorithm }: Pick<RunConfig, 'algorithm'>): {
  readonly algorithm: Algorithm;
  readonly options: Readonly<Record<string, number>>;
} {
  const found = findAlgorithm(algorithm?.id ?? 'fedavg');
  return { algorithm: found, options: optionsOf(found.info, algorithm?.options ?? {}) };
}

/** How the slots of a run are filled. */
function slotUse({ clusters }: RunConfig): SlotUse {
  if (clusters === null) return 'none';
  return clusters.assignment === 'hard' ? 'chosen' : clusters.assignment;
}

/**
 * Refuses a combination of algorithm, slots and unit of privacy that does not make sense or breaks a promise.
 * @throws CoveyError USAGE_CONFIG, or PRIVACY_POLICY where the record rule would be broken, with the reason.
 */
export function checkAlgorithm(config: RunConfig): void {
  const { extra, fixedBatches, info, shares } = algorithmOf(config).algorithm;
  // The counts of a choice are charged wherever slots are chosen at unit record.
  const isChosen = config.clusters?.assignment === 'hard' || config.clusters?.assignment === 'evolving';
  const charges = isChosen ? ['exponential-mechanism'] : [];
  requireRecordRule(info, { unit: config.privacy.unit, noise: 'shared' }, charges);
  const use = slotUse(config);
  const require = (holds: boolean, line: string): void => {
    if (!holds) throw new CoveyError('USAGE_CONFIG', line);
  };
  if (info.slots !== undefined)
    require(info.slots === use, `"clusters" expected ${info.slots} slots for ${info.id}, got ${use}`);
  require(use !== 'several' ||
    info.id === 'flsc', `"algorithm.id" expected flsc with slots that are filled by several, got ${info.id}`);
  require(info.id !== 'fedavgm' ||
    config.training.momentum > 0, '"training.momentum" expected above 0 for fedavgm, got 0');
  require(fixedBatches === undefined ||
    config.training.local?.batches !==
      undefined, `"training.local.batches" expected a number for ${info.id}: everybody takes as many steps`);
  // What a server derives from the number of survivors needs them in one sum.
  require(extra === undefined ||
    config.cohort.groups === 1, `"cohort.groups" expected 1 for ${info.id}, got ${config.cohort.groups}`);
  if (shares === 'body') {
    const cut = config.model.sharedLayers ?? config.model.hidden.length;
    require(cut > 0, `"model.sharedLayers" expected at least 1 for ${info.id}, got ${cut}: nothing would be shared`);
  }
}
