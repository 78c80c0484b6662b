import { CoveyError } from '../../protocol/errors.ts';
import type { DenseShape } from '../../src/learning/manifest.ts';
import { findAlgorithm } from '../../src/learning/registry.ts';
import { type BenchmarkJob, choiceOf, jobHash } from '../benchmark.ts';
import type { ExperimentMode, ExperimentOptions } from '../experiment-config.ts';
import { algorithmOptions, checkRows, type SettingChanges, settingsWith } from '../rows.ts';
import type { DataSource } from '../scenarios/data-source.ts';
import { findScenario } from '../scenarios/registry.ts';
import { type Study, type StudyPart, type Target, valuesOf } from './schema.ts';

/** More would not be read by anybody. */
const LARGEST_STUDY = 100_000;

/** One point of a grid before its seed. */
interface Point {
  readonly algorithm: string;
  readonly changes: SettingChanges;
  readonly privacy: ExperimentOptions['privacy'];
  readonly perStep: number | null;
  readonly dropouts: number;
  readonly mode: ExperimentMode | undefined;
}

/** All combinations of the axes, the first axis slowest. */
function combine<T>(axes: readonly (readonly ((point: T) => T)[])[], start: T): T[] {
  return axes.reduce<T[]>((points, axis) => points.flatMap((point) => axis.map((step) => step(point))), [start]);
}

function privacyOf(kind: 'epsilon' | 'noiseMultiplier', target: Target | undefined): ExperimentOptions['privacy'] {
  if (target === undefined || target === 'none') return null;
  return kind === 'epsilon' ? { epsilon: target } : { noiseMultiplier: target };
}

/**
 * Drops what an algorithm does not have, so that one cell is not computed under two names. Null for a combination that
 * does not exist.
 */
function reduced(point: Point): Point | null {
  const { algorithm, changes, mode } = point;
  const { slots: _, countNoise: __, slotMean: ___, ...plain } = changes;
  if (algorithm === 'local') {
    const { rounds, unit, delta, model } = changes;
    return {
      ...point,
      changes: { rounds, unit, delta, model },
      privacy: null,
      perStep: null,
      dropouts: 0,
      mode: undefined,
    };
  }
  const { slots: use = 'none' } = findAlgorithm(algorithm.replace(/\+ft$/, '')).info;
  if (use !== 'none') return mode === 'open' ? null : point;
  return { ...point, changes: plain, mode: mode === 'open' ? mode : undefined };
}

function pointsOf(part: StudyPart, model: DenseShape | undefined): Point[] {
  const { unit, delta, countNoise, slotMean } = part;
  const changing = <K extends keyof SettingChanges>(
    key: K,
    given: SettingChanges[K] | NonNullable<SettingChanges[K]>[] | undefined,
  ): ((point: Point) => Point)[] =>
    valuesOf(given as NonNullable<SettingChanges[K]>[] | undefined).map((value) => (point) => ({
      ...point,
      changes: { ...point.changes, [key]: value },
    }));
  const kind = part.noiseMultiplier === undefined ? 'epsilon' : 'noiseMultiplier';
  const start: Point = {
    algorithm: 'fedavg',
    changes: { unit, delta, countNoise, slotMean, model },
    privacy: null,
    perStep: null,
    dropouts: 0,
    mode: undefined,
  };
  const points = combine<Point>(
    [
      valuesOf(part.algorithm).map((algorithm = 'fedavg') => (point) => ({ ...point, algorithm })),
      valuesOf(part.mode).map((mode) => (point) => ({ ...point, mode })),
      changing('slots', part.slots),
      changing('rounds', part.rounds),
      changing('clippingNorm', part.clip),
      changing('serverStep', part.serverStep),
      changing('samplingProbability', part.sampling),
      // Integers are what a run without the word has: one cell, one name.
      valuesOf(part.terms).map((kind) => (point) => {
        const terms = kind === 'float-bounded' ? kind : undefined;
        return { ...point, changes: { ...point.changes, terms } };
      }),
      valuesOf(part.perStep).map((perStep) => (point) => ({ ...point, perStep: perStep ?? null })),
      valuesOf(part.dropouts).map((dropouts = 0) => (point) => ({ ...point, dropouts })),
      valuesOf(part[kind]).map((target) => (point) => ({ ...point, privacy: privacyOf(kind, target) })),
    ],
    start,
  );
  return points.flatMap((point) => reduced(point) ?? []);
}

/**
 * The jobs of a study, seed after seed, each once. `models`: those that its parts name, by path.
 * @throws CoveyError USAGE_CONFIG, PRIVACY_POLICY before anything is computed.
 */
export function studyJobs(
  study: Study,
  source: DataSource | null,
  models: ReadonlyMap<string, DenseShape> = new Map(),
): BenchmarkJob[] {
  const { seeds = 1, firstSeed = 1, parts } = study;
  const jobs = new Map<string, BenchmarkJob>();
  const grids = parts.map((part) => {
    const found = findScenario(part.scenario, source);
    const { scenario } = found;
    if (scenario.folders.length > 0 && source === null)
      throw new CoveyError(
        'USAGE_CONFIG',
        `"--data-dir" expected a folder with ${scenario.folders.join(', ')} for ${scenario.id}, got none`,
      );
    const model = part.model === undefined ? undefined : models.get(part.model);
    if (part.model !== undefined && model === undefined)
      throw new CoveyError('USAGE_CONFIG', `"model" expected a file that was read, got ${part.model}`);
    const points = pointsOf(part, model);
    const rows = [...new Set(points.map(({ algorithm }) => algorithm))];
    if (rows.length === 0)
      throw new CoveyError('USAGE_CONFIG', '"mode" expected hidden or hybrid for clustered algorithms, got open');
    const { unit, delta, set = {}, colluders = 0 } = part;
    checkRows(rows, settingsWith(scenario.settings, { unit, delta }), set, 'set');
    return { found, points, set, colluders };
  });
  const total = seeds * grids.reduce((sum, { points }) => sum + points.length, 0);
  if (total > LARGEST_STUDY)
    throw new CoveyError('USAGE_CONFIG', `"parts" expected at most ${LARGEST_STUDY} runs, got ${total}`);
  for (let seed = firstSeed; seed < firstSeed + seeds; seed++)
    for (const { found, points, set, colluders } of grids)
      for (const { algorithm, changes, privacy, perStep, dropouts, mode } of points) {
        const settings = settingsWith(found.scenario.settings, changes);
        const job: BenchmarkJob = {
          ...choiceOf(found, source),
          protocol: 'ideal',
          experiment: {
            algorithm,
            options: algorithmOptions(algorithm, settings, set),
            settings,
            seed,
            privacy,
            perStep,
            colluders: algorithm === 'local' ? 0 : colluders,
            ...(dropouts === 0 ? {} : { dropouts }),
            ...(mode === undefined ? {} : { mode }),
          },
        };
        jobs.set(jobHash(job), job);
      }
  return [...jobs.values()];
}
