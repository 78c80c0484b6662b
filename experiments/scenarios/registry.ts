import { CoveyError } from '../../protocol/errors.ts';
import { digitsScenario, fedProxScenario } from './generated.ts';
import { harScenario } from './har.ts';
import { heartScenario } from './heart.ts';
import { dirichletScenario, pfllibScenario, rotatedScenario, writersScenario } from './mnist.ts';
import type { OptionValues } from './options.ts';
import type { Scenario } from './scenario-type.ts';

/** Every scenario of the benchmark that holds records, in the order in which they are listed. */
export const SCENARIOS: readonly Scenario[] = [
  digitsScenario,
  fedProxScenario,
  heartScenario,
  harScenario,
  writersScenario,
  rotatedScenario,
  pfllibScenario,
  dirichletScenario,
];

/**
 * Finds a scenario by its id; values in brackets fill its options in their order: `fedprox-synthetic(0.5,0.5)`.
 * @throws CoveyError USAGE_CONFIG for an unknown id or more values than options.
 */
export function findScenario(name: string): { readonly scenario: Scenario; readonly options: OptionValues } {
  const [, id = name, list] = /^([^()]*)\(([^()]*)\)$/.exec(name) ?? [];
  const scenario = SCENARIOS.find((known) => known.id === id);
  if (scenario === undefined) {
    const ids = SCENARIOS.map((known) => known.id).join(', ');
    throw new CoveyError('USAGE_CONFIG', `"scenario" expected one of ${ids}, got ${id}`);
  }
  const names = Object.keys(scenario.options);
  const values = list === undefined ? [] : list.split(',').map((value) => value.trim());
  if (values.length > names.length)
    throw new CoveyError('USAGE_CONFIG', `"${id}" expected at most ${names.length} values, got ${values.length}`);
  return { scenario, options: Object.fromEntries(values.map((value, i) => [names[i] as string, value])) };
}
