import { CoveyError } from '../../protocol/errors.ts';
import { type Algorithm, optionsOf, requireRecordRule, type SlotUse } from '../learning/algorithm.ts';
import { biasOffset } from '../learning/local-steps.ts';
import { bodyLayers, denseManifest } from '../learning/manifest.ts';
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

/** Charges beside those of the sums of training: the choices of slots, label counts. */
function plannedCharges({ algorithm, clusters }: RunConfig): ('exponential-mechanism' | 'histogram')[] {
  return [
    ...(clusters?.assignment === 'hard' || clusters?.assignment === 'several' || clusters?.assignment === 'evolving'
      ? (['exponential-mechanism'] as const)
      : []),
    // A public prior stands for the charge: it depends on no record.
    ...(algorithm?.labels === undefined ? [] : (['histogram'] as const)),
  ];
}

/** Label counts are for an algorithm that reads them, at the unit at which its own would break the record rule. */
function checkLabels(config: RunConfig, { info }: Algorithm): void {
  const { labels } = config.algorithm ?? {};
  if (labels === undefined) return;
  const { unit } = config.privacy;
  const reads = info.recordLevel.kind === 'with-charge' && info.recordLevel.charge === 'histogram';
  if (!reads || unit !== 'record')
    throw new CoveyError(
      'USAGE_CONFIG',
      `"algorithm.labels" expected none for ${info.id} at unit ${unit}: nothing reads them`,
    );
  const { localNoise, perPerson } = config.privacy;
  if (localNoise !== undefined)
    throw new CoveyError('USAGE_CONFIG', '"algorithm.labels" expected none with noise inside the organizations');
  // A person with several rows would move several counts.
  if (perPerson === true && !('prior' in labels))
    throw new CoveyError('USAGE_CONFIG', '"algorithm.labels" expected a prior in a run that protects persons');
  const { classes } = config.model;
  if ('prior' in labels && labels.prior.length !== classes)
    throw new CoveyError(
      'USAGE_CONFIG',
      `"algorithm.labels.prior" expected ${classes} numbers, one for each class, got ${labels.prior.length}`,
    );
}

/**
 * Refuses a combination of algorithm, slots and unit of privacy that does not make sense or breaks a promise.
 * @throws CoveyError USAGE_CONFIG, or PRIVACY_POLICY where the record rule would be broken, with the reason.
 */
export function checkAlgorithm(config: RunConfig): void {
  const { algorithm, options } = algorithmOf(config);
  const { extra, fixedBatches, info, shares } = algorithm;
  const { localNoise, unit } = config.privacy;
  requireRecordRule(info, { unit, noise: localNoise === undefined ? 'shared' : 'local' }, plannedCharges(config));
  checkLabels(config, algorithm);
  const use = slotUse(config);
  const require = (holds: boolean, line: string): void => {
    if (!holds) throw new CoveyError('USAGE_CONFIG', line);
  };
  if (info.slots !== undefined)
    require(info.slots === use, `"clusters" expected ${info.slots} slots for ${info.id}, got ${use}`);
  require(info.slots !== 'chosen' ||
    config.clusters?.open === undefined, `"clusters.open" expected none for ${info.id}: its slots are chosen`);
  require(use !== 'several' ||
    info.id === 'flsc', `"algorithm.id" expected flsc with slots that are filled by several, got ${info.id}`);
  require(info.id !== 'fedavgm' ||
    config.training.momentum > 0, '"training.momentum" expected above 0 for fedavgm, got 0');
  require(fixedBatches === undefined ||
    config.training.local?.batches !==
      undefined, `"training.local.batches" expected a number for ${info.id}: everybody takes as many steps`);
  require(algorithm.plainSteps === undefined ||
    config.training.local?.optimizer ===
      undefined, `"training.local.optimizer" expected none for ${info.id}: ${algorithm.plainSteps}`);
  if (algorithm.readsBias) biasOffset(denseManifest(config.model), info.id);
  // What a server derives from the number of survivors needs them in one sum.
  require(extra === undefined ||
    config.cohort.groups === 1, `"cohort.groups" expected 1 for ${info.id}, got ${config.cohort.groups}`);
  require(config.training.adaptiveClip === undefined ||
    algorithm.clipsParts?.(options) !==
      true, `"training.adaptiveClip" expected a fixed clip for ${info.id} with parts that are clipped by themselves`);
  if (shares === 'body') {
    const cut = bodyLayers(config.model);
    require(cut > 0, `"model.sharedLayers" expected at least 1 for ${info.id}, got ${cut}: nothing would be shared`);
  }
}
