import { CoveyError } from '../../protocol/errors.ts';
import { describedScenario, isDescription } from '../own/scenario.ts';
import type { DataSource } from './data-source.ts';
import { digitsScenario, fedProxScenario, GENERATED } from './generated.ts';
import { harScenario } from './har.ts';
import { heartScenario } from './heart.ts';
import { dirichletScenario, pfllibScenario, rotatedScenario, writersScenario } from './mnist.ts';
import type { OptionSpecs, OptionValues } from './options.ts';
import { ORACLES } from './oracles.ts';
import type { FoundScenario, Scenario } from './scenario-type.ts';
import { turnedScenario } from './turned.ts';

/** Every scenario of the benchmark that holds records, in the order in which they are listed. */
export const SCENARIOS: readonly Scenario[] = [
  digitsScenario,
  fedProxScenario,
  heartScenario,
  harScenario,
  writersScenario,
  rotatedScenario,
  turnedScenario,
  pfllibScenario,
  dirichletScenario,
];

/** One line of `covey experiment list`. */
export interface ScenarioLine {
  readonly id: string;
  readonly title: string;
  readonly about: string;
  readonly licence: string;
  /** Folders below the data folder that it needs; none if it is generated. */
  readonly folders: readonly string[];
  readonly defaults: OptionValues;
}

const defaultsOf = (options: OptionSpecs): OptionValues =>
  Object.fromEntries(Object.entries(options).map(([name, { byDefault }]) => [name, byDefault]));

/** Describes every scenario, oracle problems first. */
export function listScenarios(): readonly ScenarioLine[] {
  return [
    ...ORACLES.map(({ id, title, about }) => ({ id, title, about, licence: GENERATED, folders: [], defaults: {} })),
    ...SCENARIOS.map(({ id, title, about, licence, folders, options }) => {
      return { id, title, about, licence, folders, defaults: defaultsOf(options) };
    }),
  ];
}

/**
 * Finds a scenario by its id; values in brackets fill its options in their order: `fedprox-synthetic(0.5,0.5)`. The name of a
 * YAML or JSON file is a scenario of one's own records; `source` has files of it that are not beside the description.
 * @throws CoveyError USAGE_CONFIG for an unknown id, more values than options or a description that does not fit.
 */
export function findScenario(name: string, source?: DataSource | null): FoundScenario {
  if (isDescription(name)) {
    const found = describedScenario(name, source ?? undefined);
    const { id } = found.scenario;
    if (SCENARIOS.some((known) => known.id === id))
      throw new CoveyError('USAGE_CONFIG', `"id" expected another name than that of a known scenario, got ${id}`);
    return found;
  }
  const [, id = name, list] = /^([^()]*)\(([^()]*)\)$/.exec(name) ?? [];
  const scenario = SCENARIOS.find((known) => known.id === id);
  if (scenario === undefined) {
    const ids = SCENARIOS.map((known) => known.id).join(', ');
    throw new CoveyError('USAGE_CONFIG', `"scenario" expected one of ${ids}, or a file that describes one, got ${id}`);
  }
  const names = Object.keys(scenario.options);
  const values = list === undefined ? [] : list.split(',').map((value) => value.trim());
  if (values.length > names.length)
    throw new CoveyError('USAGE_CONFIG', `"${id}" expected at most ${names.length} values, got ${values.length}`);
  return { scenario, options: Object.fromEntries(values.map((value, i) => [names[i] as string, value])) };
}
