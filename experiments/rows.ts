import { CoveyError } from '../protocol/errors.ts';
import { optionsOf, requireRecordRule } from '../src/learning/algorithm.ts';
import { findAlgorithm } from '../src/learning/registry.ts';
import { rowOf } from './experiment-config.ts';
import { EVOLVING_OPTIONS, TRAINING_DEFAULTS, type TrainingSettings } from './settings.ts';

/** What a command or a study changes in the settings of a scenario. */
export type SettingChanges = {
  readonly [K in
    | 'rounds'
    | 'clippingNorm'
    | 'unit'
    | 'noise'
    | 'lanes'
    | 'terms'
    | 'delta'
    | 'slots'
    | 'countNoise'
    | 'slotMean'
    | 'serverStep'
    | 'samplingProbability'
    | 'hidden'
    | 'model'
    | 'optimizer'
    | 'stepSize'
    | 'lossThreshold'
    | 'curriculum']?: TrainingSettings[K] | undefined;
};

/** Settings of a scenario with changes; absent ones keep the scenario's value, or that of unit record. */
export function settingsWith(settings: TrainingSettings, changes: SettingChanges): TrainingSettings {
  const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  const isRecord = (changes.unit ?? settings.unit) === 'record';
  if (changes.noise === 'local' && !isRecord)
    throw new CoveyError('USAGE_CONFIG', '"noise" expected shared at unit participant, got local');
  if (isRecord && changes.noise !== 'local' && (changes.optimizer ?? changes.stepSize) !== undefined)
    throw new CoveyError(
      'USAGE_CONFIG',
      '"optimizer" and "local step" expected none at unit record with shared noise: nobody trains locally',
    );
  // Momentum is for one gradient a step, not for updates of many.
  const { momentum, ...local } = TRAINING_DEFAULTS.record;
  const record = changes.noise === 'local' ? local : { ...local, momentum };
  // Counts divide at unit participant alone; a key that is not there is no part of a job's hash.
  const { slotMean, ...rest } = settings;
  const kept = slotMean === undefined || isRecord ? rest : settings;
  return { ...kept, ...(isRecord && settings.unit !== 'record' ? record : {}), ...given };
}

/** The given options where the algorithm has them, else those that were found for the scenario. */
export function algorithmOptions(
  row: string,
  settings: TrainingSettings,
  given: Readonly<Record<string, number>>,
): Record<string, number> {
  if (row === 'local') return {};
  const id = rowOf(row).id;
  const found = findAlgorithm(id).info;
  // Numbers of evolving clusters are the run's; here they are set like those of an algorithm.
  const info = id === 'evolving' ? { ...found, options: EVOLVING_OPTIONS } : found;
  const names = Object.keys(info.options ?? {});
  const own = Object.fromEntries(Object.entries(given).filter(([name]) => names.includes(name)));
  return optionsOf(info, { ...settings.options?.[id], ...own });
}

/**
 * Refuses rows before any is computed.
 * @throws CoveyError USAGE_CONFIG for an unknown algorithm or an option that none of them has, PRIVACY_POLICY for a row
 * that breaks the record rule.
 */
export function checkRows(
  rows: readonly string[],
  settings: TrainingSettings,
  given: Readonly<Record<string, number>>,
  field: string,
): void {
  for (const row of rows) {
    if (row === 'local') continue;
    const { info } = findAlgorithm(rowOf(row).id);
    const charges = info.recordLevel.kind === 'with-charge' ? [info.recordLevel.charge] : [];
    requireRecordRule(info, { unit: settings.unit, noise: settings.noise === 'local' ? 'local' : 'shared' }, charges);
  }
  const known = new Set(rows.flatMap((row) => Object.keys(algorithmOptions(row, settings, {}))));
  const stray = Object.keys(given).find((option) => !known.has(option));
  if (stray !== undefined)
    throw new CoveyError(
      'USAGE_CONFIG',
      `"${field}" expected ${[...known].join(', ') || 'nothing'} for these rows, got ${stray}`,
    );
}
