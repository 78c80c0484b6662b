import { canonicalJson } from '../src/audit/canonical-json.ts';
import type { RecordedResult } from './benchmark.ts';

/** Rows of the same settings and seeds, with the noise of a deployment and with that of a trusted curator. */
export interface NoiseComparison {
  readonly scenario: string;
  readonly algorithm: string;
  readonly unit: string;
  readonly epsilon: number;
  readonly lanes: number;
  readonly terms: string;
  readonly central: readonly number[];
  /** Mean accuracies of the same seeds. */
  readonly deployed: readonly number[];
}

const isComparable = ({ protection, unit }: RecordedResult): boolean => protection === 'noise' && unit !== null;

/** Everything that both sides have in common. */
function keyOf({ algorithm, options, perStep, privacy, scenario, seed, settings, split }: RecordedResult): string {
  const { lanes: _, noise: __, terms: ___, ...rest } = settings;
  return canonicalJson({
    algorithm,
    options,
    perStep,
    privacy: privacy ?? null,
    scenario,
    seed,
    settings: rest,
    split,
  });
}

/** Pairs every recorded row with the row of the same seed under central noise, where there is one. */
export function compareNoise(results: readonly RecordedResult[]): NoiseComparison[] {
  const central = new Map<string, RecordedResult>();
  for (const result of results) if (result.settings.noise === 'central') central.set(keyOf(result), result);
  const rows = new Map<
    string,
    { row: Omit<NoiseComparison, 'central' | 'deployed'>; pairs: Map<string, readonly [number, number]> }
  >();
  for (const result of results) {
    const { algorithm, epsilon, personal, scenario, settings, unit } = result;
    const other = central.get(keyOf(result));
    if (settings.noise !== undefined || !isComparable(result) || other === undefined) continue;
    const { lanes = 2, terms = 'integer' } = settings;
    const kind = unit === 'record' ? terms : 'update';
    const row = { scenario, algorithm, unit: unit ?? '', epsilon: epsilon?.server ?? 0, lanes, terms: kind };
    const key = canonicalJson([scenario, algorithm, lanes, kind, result.privacy ?? null]);
    const { pairs } = rows.get(key) ?? { pairs: new Map() };
    // A row that several folders hold counts once.
    rows.set(key, { row, pairs: new Map([...pairs, [keyOf(result), [other.personal.mean, personal.mean]]]) });
  }
  return [...rows.values()].map(({ row, pairs }) => ({
    ...row,
    central: [...pairs.values()].map(([of]) => of),
    deployed: [...pairs.values()].map(([, of]) => of),
  }));
}
