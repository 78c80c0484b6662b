import { CoveyError } from '../../protocol/errors.ts';
import { canonicalJson } from '../../src/audit/canonical-json.ts';
import { type DenseShape, denseManifest } from '../../src/learning/manifest.ts';
import { findAlgorithm } from '../../src/learning/registry.ts';
import type { View } from '../../src/privacy/views.ts';
import type { RecordedResult } from '../benchmark.ts';
import { type Estimate, estimateMean } from './interval.ts';

/** What is compared; accuracies are of the models that participants end with, `released` of the shared one. */
export const METRICS = {
  mean: { title: 'mean accuracy', of: ({ personal }: RecordedResult): number | null => personal.mean },
  weighted: {
    title: 'accuracy over records',
    of: ({ personal }: RecordedResult): number | null => personal.weightedMean,
  },
  worst: {
    title: 'accuracy of the worst 10 %',
    of: ({ personal }: RecordedResult): number | null => personal.worstTenth,
  },
  released: {
    title: 'mean accuracy of the released model',
    of: ({ released }: RecordedResult): number | null => released?.mean ?? null,
  },
  balanced: { title: 'balanced accuracy', of: ({ balanced }: RecordedResult): number | null => balanced },
} as const;
export type Metric = keyof typeof METRICS;

/** Settings that tell cells of one scenario apart, as text; absent where they do not apply. */
export interface CellSettings {
  readonly algorithm: string;
  readonly mode?: string;
  readonly slots?: string;
  readonly model?: string;
  readonly clip?: string;
  readonly rounds: string;
  readonly step?: string;
  readonly sampling?: string;
  readonly terms?: string;
  readonly cohort?: string;
  readonly dropouts?: string;
  readonly colluders?: string;
  readonly options?: string;
  readonly unit?: string;
  readonly delta?: string;
}
export type Axis = keyof CellSettings;

/** All runs of one setting. */
export interface Cell {
  /** Scenario with its options: `fedprox-synthetic(1,1)`. */
  readonly scenario: string;
  readonly settings: CellSettings;
  /** Of the target: cells that differ in it alone lie on one curve. */
  readonly curve: string;
  readonly target: string;
  readonly runs: readonly RecordedResult[];
}

/** What the scenario of a result is called, with options. */
function scenarioName({ scenario, scenarioOptions = {} }: RecordedResult): string {
  const values = Object.values(scenarioOptions);
  return values.length === 0 ? scenario : `${scenario}(${values.join(',')})`;
}

/** A model that took the place of the scenario's, in words. */
function modelText(model: DenseShape): string {
  const { bodyLength, headLength } = denseManifest(model);
  const layers = model.network?.layers.length ?? model.hidden.length + 1;
  return `${layers} layers with ${bodyLength + headLength} parameters`;
}

function settingsText(result: RecordedResult): CellSettings {
  const { algorithm, colluders, dropouts, mode, options, perStep, settings, unit, delta } = result;
  const { clippingNorm, rounds, samplingProbability, serverStep, slots, terms = 'integer' } = settings;
  const own = settings.model === undefined ? {} : { model: modelText(settings.model) };
  if (algorithm === 'local') return { algorithm, ...own, rounds: String(rounds) };
  const { slots: use = 'none' } = findAlgorithm(algorithm.replace(/\+ft$/, '')).info;
  const numbers = Object.entries(options).map(([name, value]) => `${name}=${value}`);
  return {
    algorithm,
    ...(mode === undefined ? {} : { mode }),
    ...(use === 'none' ? {} : { slots: String(slots) }),
    ...own,
    clip: String(clippingNorm),
    rounds: String(rounds),
    step: String(serverStep),
    ...(unit === 'record' ? { sampling: String(samplingProbability), terms } : {}),
    cohort: perStep === null ? 'all' : String(perStep),
    dropouts: `${Number((100 * (dropouts ?? 0)).toPrecision(3))} %`,
    colluders: String(colluders),
    ...(numbers.length === 0 ? {} : { options: numbers.join(' ') }),
    ...(unit === null ? {} : { unit }),
    ...(delta === null ? {} : { delta: String(delta) }),
  };
}

/** What was asked of the noise; results without a record of it are told apart by what they spent. */
function targetText({ epsilon, privacy, protection }: RecordedResult): string {
  if (epsilon === null || protection === 'none') return 'none';
  if (privacy === undefined || privacy === null) return `epsilon ${epsilon.server.toPrecision(3)}`;
  return 'epsilon' in privacy ? `epsilon ${privacy.epsilon}` : `noise ${privacy.noiseMultiplier}`;
}

/** Groups results into cells, in the order of their first runs. */
export function cellsOf(results: readonly RecordedResult[]): Cell[] {
  const cells = new Map<string, Cell & { runs: RecordedResult[] }>();
  for (const result of results) {
    const scenario = scenarioName(result);
    const settings = settingsText(result);
    const { slots: _, clippingNorm: __, options: ___, ...rest } = result.settings;
    const curve = canonicalJson({
      scenario,
      settings,
      rest: result.algorithm === 'local' ? (rest.model ?? null) : rest,
    });
    const target = targetText(result);
    const key = `${curve} ${target}`;
    const cell = cells.get(key) ?? { scenario, settings, curve, target, runs: [] };
    cell.runs.push(result);
    cells.set(key, cell);
  }
  return [...cells.values()].map((cell) => ({ ...cell, runs: cell.runs.toSorted((a, b) => a.seed - b.seed) }));
}

/** Largest epsilon of the runs of a cell: 0 where nothing is released, infinite where nothing protects. */
export function epsilonOf({ runs }: Cell, view: View): number {
  return Math.max(
    ...runs.map(({ epsilon, protection }) =>
      epsilon === null ? 0 : protection === 'none' ? Number.POSITIVE_INFINITY : epsilon[view],
    ),
  );
}

/** Order of their settings, whatever order the runs ended in. */
export function bySettings(a: Cell, b: Cell): number {
  const [first, second] = [`${a.curve} ${a.target}`, `${b.curve} ${b.target}`];
  return first === second ? 0 : first < second ? -1 : 1;
}

/** Order by epsilon in the server view; two cells without a claim are equal. */
export function byEpsilon(a: Cell, b: Cell): number {
  const [first, second] = [epsilonOf(a, 'server'), epsilonOf(b, 'server')];
  return first === second ? 0 : first < second ? -1 : 1;
}

/** A metric of a cell over its runs; null where its algorithm has no such value. */
export function measure(cell: Cell, metric: Metric): Estimate | null {
  const values = cell.runs.flatMap((run) => METRICS[metric].of(run) ?? []);
  return values.length === 0 ? null : estimateMean(values);
}

/** Axes on which cells differ, `local` aside. */
export function varyingAxes(cells: readonly Cell[]): Axis[] {
  const others = cells.filter(({ settings }) => settings.algorithm !== 'local');
  const axes = new Set(others.flatMap(({ settings }) => Object.keys(settings) as Axis[]));
  const differs = (axis: Axis, among: readonly Cell[]): boolean =>
    new Set(among.map(({ settings }) => settings[axis])).size > 1;
  const algorithms = [...new Set(others.map(({ settings }) => settings.algorithm))];
  return [...axes].filter((axis) => {
    if (axis !== 'options') return differs(axis, others);
    // Every algorithm has options of its own: they say something where one has them in two ways.
    return algorithms.some((algorithm) =>
      differs(
        axis,
        others.filter(({ settings }) => settings.algorithm === algorithm),
      ),
    );
  });
}

const AXIS_TEXT: Readonly<Record<Axis, (value: string) => string>> = {
  algorithm: (value) => value,
  mode: (value) => value,
  slots: (value) => `K ${value}`,
  model: (value) => value,
  clip: (value) => `clip ${value}`,
  rounds: (value) => `${value} rounds`,
  step: (value) => `step ${value}`,
  sampling: (value) => `sampling ${value}`,
  terms: (value) => `${value} terms`,
  cohort: (value) => `cohort ${value}`,
  dropouts: (value) => `${value} lost`,
  colluders: (value) => `${value} colluders`,
  options: (value) => value,
  unit: (value) => `unit ${value}`,
  delta: (value) => `delta ${value}`,
};

/** The settings of a cell on the given axes, in words. */
export function describeSettings({ settings }: Pick<Cell, 'settings'>, axes: readonly Axis[]): string {
  return axes
    .flatMap((axis) => {
      const value = settings[axis];
      return value === undefined ? [] : [AXIS_TEXT[axis](value)];
    })
    .join(', ');
}

/**
 * Keeps the cells with the given settings; `local`, which has few of them, stays where its own fit.
 * @throws CoveyError USAGE_CONFIG for an unknown axis or if nothing is left.
 */
export function filterCells(cells: readonly Cell[], where: Readonly<Record<string, string>>): Cell[] {
  const axes = Object.keys(AXIS_TEXT);
  for (const axis of Object.keys(where)) {
    if (!axes.includes(axis))
      throw new CoveyError('USAGE_CONFIG', `"--where" expected names among ${axes.join(', ')}, got ${axis}`);
  }
  const kept = cells.filter(({ settings }) =>
    Object.entries(where).every(([axis, value]) => {
      const own = settings[axis as Axis];
      return own === value || (own === undefined && settings.algorithm === 'local');
    }),
  );
  if (kept.some(({ settings }) => settings.algorithm !== 'local') || Object.keys(where).length === 0) return kept;
  const asked = Object.entries(where).map(([axis, value]) => `${axis}=${value}`);
  throw new CoveyError('USAGE_CONFIG', `"--where" expected settings of a recorded run, got ${asked.join(' ')}`);
}
