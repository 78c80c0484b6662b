import { nodeCrypto } from '../../platform/node/crypto.ts';
import { CoveyError } from '../../protocol/errors.ts';
import {
  buildScenarioManifest,
  type ModelSuggestion,
  type ScenarioData,
  type ScenarioParticipant,
} from '../../src/data/scenario.ts';
import { settingsOf, type TrainingSettings } from '../settings.ts';
import type { DataSource } from './data-source.ts';
import { type OptionSpecs, type Options, type OptionValues, readOptions } from './options.ts';

/** A scenario with records: what `covey experiment list` shows and an experiment loads. */
export interface Scenario {
  readonly kind: 'records';
  readonly id: string;
  readonly title: string;
  /** One sentence: participants, records, what differs between them. */
  readonly about: string;
  readonly licence: string;
  /** Folders below the data folder that it reads; none if it is generated. */
  readonly folders: readonly string[];
  readonly options: OptionSpecs;
  /** How it is trained unless somebody says otherwise. */
  readonly settings: TrainingSettings;
  /**
   * Loads or generates the data.
   * @throws CoveyError USAGE_CONFIG for options that do not fit or a missing source, CODEC_* for broken files.
   */
  load(seed: number, options?: OptionValues, source?: DataSource): Promise<ScenarioData>;
}

/** A scenario with the options that its name gives. */
export interface FoundScenario {
  readonly scenario: Scenario;
  readonly options: OptionValues;
  /** The file that describes it, where it is one's own. */
  readonly file?: string;
}

/** What the definition of a scenario adds to its description. */
interface Definition<S extends OptionSpecs> extends Omit<Scenario, 'kind' | 'load' | 'options' | 'settings'> {
  readonly options: S;
  build(
    seed: number,
    options: Options<S>,
    source: DataSource,
  ): Promise<{
    readonly participants: readonly ScenarioParticipant[];
    readonly model: ModelSuggestion;
    /** See `ScenarioManifest.recordRule`. */
    readonly recordRule: boolean;
    /** See `ScenarioManifest.participantRule`. */
    readonly participantRule?: boolean;
  }>;
}

/** Turns a definition into a scenario: options checked first, manifest built last. */
export function defineScenario<const S extends OptionSpecs>(definition: Definition<S>): Scenario {
  const { id, title, about, licence, folders, options: specs, build } = definition;
  return {
    kind: 'records',
    id,
    title,
    about,
    licence,
    folders,
    options: specs,
    settings: settingsOf(id),
    async load(seed, given = {}, source) {
      const options = readOptions(specs, given);
      if (folders.length > 0 && source === undefined) {
        throw new CoveyError('USAGE_CONFIG', `"${id}" expected a data folder or address with ${folders.join(', ')}`);
      }
      const { participants, model, ...rules } = await build(seed, options, source ?? { folder: '' });
      const facts = { scenario: id, seed, options: options as OptionValues, ...rules, licence };
      return { participants, model, manifest: buildScenarioManifest(nodeCrypto, facts, participants) };
    },
  };
}
