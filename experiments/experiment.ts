import type { CryptoProvider } from '../protocol/crypto-provider.ts';
import { CoveyError } from '../protocol/errors.ts';
import type { SecureSum } from '../protocol/ideal.ts';
import { LIMITS } from '../protocol/limits.ts';
import { evolveSlots } from '../src/cluster/evolution.ts';
import { createRandom } from '../src/data/random.ts';
import type { ScenarioData } from '../src/data/scenario.ts';
import { optionsOf } from '../src/learning/algorithm.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { accuracy, balancedAccuracy, type Evaluation, summarizeAccuracies } from '../src/learning/evaluation.ts';
import { initialModel } from '../src/learning/initial-model.ts';
import { copyModel, type GradientOracle, type Model } from '../src/learning/oracle.ts';
import { findAlgorithm } from '../src/learning/registry.ts';
import { fineTune } from '../src/personalize/fine-tuning.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { evolutionRule } from '../src/run/evolution.ts';
import { newcomerModel, personalModel, releasedModel } from '../src/run/home.ts';
import { NEW_MEMBER } from '../src/run/member.ts';
import { bestSlot } from '../src/run/member-model.ts';
import type { ReleaseState } from '../src/run/release.ts';
import { simulationStream } from './comparison.ts';
import { runInProcess } from './in-process.ts';
import { EVOLVING_OPTIONS, type TrainingSettings } from './settings.ts';

/** What is asked of one run. */
export interface ExperimentOptions {
  /** `local`, or an algorithm of the registry; with "+ft" its personal models are fine-tuned at the end. */
  readonly algorithm: string;
  readonly options: Readonly<Record<string, number>>;
  readonly settings: TrainingSettings;
  readonly seed: number;
  /** Noise of the sum over the sensitivity, a target epsilon, or null: noise that protects nothing, for comparison. */
  readonly privacy: { readonly noiseMultiplier: number } | { readonly epsilon: number } | null;
  /** Participants of a step, drawn anew for each; all by default. The server sees who takes part: nothing is amplified. */
  readonly perStep: number | null;
  readonly colluders: number;
  /** Participants, the last ones of the scenario, that have no part in the run and adapt its models afterwards. */
  readonly newcomers?: number;
}

/** What became of evolving clusters. `gaps`: of the trials of each probe, with what came of them. */
export interface EvolutionResult {
  /** Slots after each probe. */
  readonly slots: readonly number[];
  readonly trials: readonly (readonly { readonly gap: number | null; readonly stays: boolean }[])[];
  /** Share of participants that are with a majority of their true group at the end; null where groups are not known. */
  readonly purity: number | null;
  /** Different true groups that have a slot of their own by majority. */
  readonly groups: number | null;
}

/** Newcomers before and after they adapt a released model. */
export interface NewcomersResult {
  readonly count: number;
  readonly released: Evaluation;
  readonly personal: Evaluation;
  readonly local: Evaluation;
}

/** One row of the benchmark. Units: accuracies in [0, 1], bytes for one participant over the run, seconds of wall time. */
export interface ExperimentResult {
  readonly scenario: string;
  readonly split: string;
  readonly seed: number;
  readonly algorithm: string;
  readonly options: Readonly<Record<string, number>>;
  readonly rounds: number;
  readonly unit: 'record' | 'participant' | null;
  readonly delta: number | null;
  /** Null where nothing is released; infinite noise-free comparison runs say `none` in `protection`. */
  readonly epsilon: { readonly server: number; readonly release: number } | null;
  readonly protection: 'noise' | 'none';
  readonly bytesUp: number;
  readonly bytesDown: number;
  readonly seconds: number;
  /** Of the released model before any personal part, and of the model that participants end with. */
  readonly released: Evaluation | null;
  readonly personal: Evaluation;
  readonly balanced: number;
  /** With evolving clusters only. */
  readonly evolution?: EvolutionResult;
  /** Where some participants come after the run. */
  readonly newcomers?: NewcomersResult;
}

/** A target that leaves noise of no consequence. */
const UNPROTECTED = 1e6;
const SIMULATED_RUN = '6578706572696d656e74206f66206120';
/** Streams of the public generator. */
const PERSONAL_STREAM = 0x7065_7273;
const PRESENCE_STREAM = 0x7072_6573;
const LOCAL_STREAM = 0x6c6f_636c;
const NEWCOMER_STREAM = 0x6e65_7763;
/** Largest norm in integer units that the encoder takes. */
const LARGEST_NORM = 2 ** 20;

/** Server settings of FedAdam, FedYogi and FedAdagrad. @see Reddi et al. 2021, appendix D */
const ADAPTIVE = { momentum: 0.9, step: 0.03 };

interface Row {
  readonly id: string;
  readonly tuned: boolean;
}

function rowOf(algorithm: string): Row {
  const tuned = algorithm.endsWith('+ft');
  return { id: tuned ? algorithm.slice(0, -3) : algorithm, tuned };
}

/** Epsilon that a noise multiplier has over the rounds of a run, without sampling: the target that gives it back. */
function targetOf({ privacy, settings }: ExperimentOptions): number {
  if (privacy === null) return UNPROTECTED;
  if ('epsilon' in privacy) return privacy.epsilon;
  const { noiseMultiplier } = privacy;
  const relation = settings.unit === 'record' ? 'add-remove' : 'zero-out';
  const gaussian = { kind: 'gaussian', noiseMultiplier } as const;
  const { samplingProbability: probability } = settings;
  const event =
    settings.unit === 'record' ? ({ kind: 'poissonSampled', probability, event: gaussian } as const) : gaussian;
  return rdpAccountant({ relation }).compose(event, settings.rounds).epsilon(settings.delta);
}

/** Noise on counts and gaps that is of no consequence. Units: members. */
const UNPROTECTED_COUNTS = 0.05;

function evolvingClusters(
  { options, privacy, settings }: ExperimentOptions,
  participants: number,
): RunConfig['clusters'] {
  const { firstProbe, probeEvery, probeSteps, perturbation, minGap, minShare, noiseShare } = optionsOf(
    { ...findAlgorithm('evolving').info, options: EVOLVING_OPTIONS },
    options,
  ) as Record<
    'firstProbe' | 'probeEvery' | 'probeSteps' | 'perturbation' | 'minGap' | 'minShare' | 'noiseShare',
    number
  >;
  const { rounds, slots, unit } = settings;
  const steps = Array.from({ length: rounds }, (_, step) => step);
  const noise = privacy === null ? UNPROTECTED_COUNTS : noiseShare * participants;
  return {
    assignment: 'evolving',
    foundingSlots: 0,
    seatPositions: 0,
    kept: 1,
    choiceSteps: steps.filter(
      (step) => step >= firstProbe && (step - firstProbe) % probeEvery === 0 && step + probeSteps <= rounds,
    ),
    choiceEpsilon: 0.2,
    lossBound: 4,
    countNoiseStddev: noise,
    evolving: {
      most: slots,
      probeSteps,
      perturbation,
      minGap,
      minMembers: Math.max(1, minShare * participants),
      gapNoiseStddev: unit === 'record' && privacy !== null ? 1 : noise,
    },
  };
}

function clustersOf(id: string, experiment: ExperimentOptions, participants: number): RunConfig['clusters'] {
  const { rounds, slots, unit } = experiment.settings;
  const { slots: use } = findAlgorithm(id).info;
  if (use === undefined || use === 'none') return null;
  if (use === 'evolving') return evolvingClusters(experiment, participants);
  const everyRound = Array.from({ length: rounds }, (_, step) => step);
  return {
    assignment: use === 'chosen' ? 'hard' : use,
    ...(use === 'several' ? { filled: Math.min(2, slots) } : {}),
    foundingSlots: 0,
    seatPositions: 0,
    kept: slots,
    // Every choice at unit record is charged, so a few have to do.
    choiceSteps: use !== 'chosen' ? [] : unit === 'participant' ? everyRound : everyRound.filter((s) => s % 10 === 0),
    choiceEpsilon: 0.2,
    lossBound: 4,
    countNoiseStddev: 8,
  };
}

/** The run configuration of an experiment: the same object that a deployed coordinator would sign. */
export function experimentConfig(data: ScenarioData, experiment: ExperimentOptions): RunConfig {
  const { settings, seed, perStep, colluders } = experiment;
  const { id, tuned } = rowOf(experiment.algorithm);
  const participants = data.participants.length;
  const present = perStep ?? participants;
  const record = settings.unit === 'record';
  const records = data.participants.map(({ train }) => train.count);
  const { batchSize, curriculum, epochs, stepSize, clippingNorm, rounds } = settings;
  const all = records.reduce((sum, count) => sum + count, 0);
  const isAdaptive = findAlgorithm(id).optimizer !== undefined;
  // Where everybody must take as many steps: those of the mean participant.
  const mean = Math.max(1, Math.round((epochs * all) / participants / batchSize));
  const batches = settings.batches ?? (findAlgorithm(id).fixedBatches === true ? mean : undefined);
  const scale = 2 ** Math.floor(Math.log2(LARGEST_NORM / clippingNorm));
  return parseRunConfig({
    federation: 'covey-experiment',
    data: { scenario: data.manifest.scenario, seed },
    model: data.model,
    training: {
      steps: rounds,
      samplingProbability: record ? settings.samplingProbability : 1,
      clippingNorm,
      // Adaptive servers scale every coordinate by its own size: their steps are lengths, not shares of an update.
      momentum: isAdaptive ? ADAPTIVE.momentum : settings.momentum,
      // Updates are divided by the number of participants; those of a step count.
      stepSize: ((isAdaptive ? ADAPTIVE.step : settings.serverStep) * participants) / present,
      lastStepShare: record ? 0.1 : 1,
      nominalRecords: all,
      maxRecordsPerStep: Math.max(...records),
      initialSeed: seed,
      local: record
        ? null
        : {
            epochs,
            ...(batches === undefined ? {} : { batches }),
            batchSize,
            stepSize,
            ...(curriculum === undefined ? {} : { curriculum }),
          },
    },
    clusters: clustersOf(id, experiment, participants),
    // Numbers of evolving clusters are the run's, not the algorithm's.
    algorithm: { id, options: id === 'evolving' ? {} : experiment.options },
    personal: tuned ? { method: 'fine-tuning', ...settings.tuning } : { method: 'none', ...settings.tuning },
    privacy: {
      unit: settings.unit,
      relation: record ? 'add-remove' : 'zero-out',
      delta: settings.delta,
      targetEpsilon: targetOf(experiment),
    },
    cohort: {
      participants,
      groups: 1,
      profile: participants <= LIMITS.cohort ? 'strict' : 'sparse',
      minSurvivors: present,
      minOrgs: present,
      colluders,
      maxLoss: 0,
      minCluster: 0,
    },
    encoding: { scale, lanes: 2 },
    deadlineMs: 30_000,
  });
}

/** Who takes part in each step: all, or a fresh uniform draw. */
function presenceOf(participants: number, { perStep, seed }: ExperimentOptions): (i: number, step: number) => boolean {
  if (perStep === null) return () => true;
  const drawn = new Map<number, ReadonlySet<number>>();
  return (i, step) => {
    let present = drawn.get(step);
    if (present === undefined) {
      const order = Uint32Array.from({ length: participants }, (_, at) => at);
      createRandom(seed, PRESENCE_STREAM + step).shuffle(order);
      present = new Set(order.subarray(0, perStep));
      drawn.set(step, present);
    }
    return present.has(i);
  };
}

function summarize(data: ScenarioData, oracle: GradientOracle, models: readonly Model[]): Evaluation {
  const accuracies = data.participants.map(({ test }, i) => accuracy(oracle, models[i] as Model, test));
  return summarizeAccuracies(
    accuracies,
    data.participants.map(({ test }) => test.count),
  );
}

function meanBalanced(data: ScenarioData, oracle: GradientOracle, models: readonly Model[]): number {
  const values = data.participants.map(({ test }, i) => balancedAccuracy(oracle, models[i] as Model, test));
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Each participant alone, with as many local steps as the federation takes. */
function localModels(data: ScenarioData, oracle: GradientOracle, { seed, settings }: ExperimentOptions): Model[] {
  const { batches, epochs, rounds } = settings;
  const start = initialModel(oracle.manifest, createRandom(seed, 0));
  const schedule = {
    ...settings,
    epochs: epochs * rounds,
    ...(batches === undefined ? {} : { batches: batches * rounds }),
  };
  return data.participants.map(({ train }, i) =>
    fineTune(oracle, copyModel(start), train, createRandom(seed, LOCAL_STREAM + i), schedule),
  );
}

/**
 * Runs one row of the benchmark: the contributions, noise, ledger and decoding of a deployment, summed by the ideal
 * aggregator or by the real machines. Random: all from `seed`, so a row can be repeated; it is a simulation, not private.
 */
export function runExperiment(
  crypto: CryptoProvider,
  all: ScenarioData,
  experiment: ExperimentOptions,
  run: { readonly secureSum?: SecureSum; onStep?(step: number): void } = {},
): ExperimentResult {
  const started = performance.now();
  const oracle = createDenseOracle(all.model);
  const { settings, seed } = experiment;
  const { data, newcomers } = withoutNewcomers(all, experiment);
  const common = {
    scenario: data.manifest.scenario,
    split: data.manifest.sha256,
    seed,
    algorithm: experiment.algorithm,
    options: experiment.options,
    rounds: settings.rounds,
  };
  if (experiment.algorithm === 'local') {
    const ended = atTheEnd(data);
    const models = localModels(ended, oracle, experiment);
    return {
      ...common,
      unit: null,
      delta: null,
      epsilon: null,
      protection: 'none',
      bytesUp: 0,
      bytesDown: 0,
      seconds: (performance.now() - started) / 1_000,
      released: null,
      personal: summarize(ended, oracle, models),
      balanced: meanBalanced(ended, oracle, models),
    };
  }
  if (settings.unit === 'record' && !data.manifest.recordRule)
    throw new CoveyError(
      'PRIVACY_POLICY',
      `"scenario" expected features of one record alone at unit record, got ${data.manifest.scenario} with raw statistics`,
    );
  const config = experimentConfig(data, experiment);
  const result = runInProcess({
    config,
    runId: SIMULATED_RUN,
    crypto,
    random: simulationStream(crypto, seed, 3),
    organizations: data.participants.map(({ train, later }) => {
      const drift = { fromStep: Math.floor(settings.rounds / 2), data: later?.train ?? train };
      return { data: train, oracle, ...(later === undefined ? {} : { later: drift }) };
    }),
    isPresent: presenceOf(data.participants.length, experiment),
    ...(run.secureSum === undefined ? {} : { secureSum: run.secureSum }),
    onRelease: (params) => run.onStep?.(params.round),
  });
  const ended = atTheEnd(data);
  const modelsBy = (modelOf: typeof releasedModel | typeof personalModel): Model[] =>
    ended.participants.map(({ train }, i) => {
      const inputs = { oracle, data: train, local: result.locals[i] ?? {} };
      const random = createRandom(seed, PERSONAL_STREAM + i);
      return modelOf(config, result.state.models, result.members[i] ?? NEW_MEMBER, inputs, random);
    });
  const { body, heads, extra } = result.state.models;
  const broadcast = 4 * [body, ...heads, ...extra].reduce((sum, vector) => sum + vector.length, 0);
  const models = modelsBy(personalModel);
  return {
    ...common,
    unit: settings.unit,
    delta: settings.delta,
    epsilon: result.epsilon,
    protection: experiment.privacy === null ? 'none' : 'noise',
    bytesUp: result.uploadBytes,
    bytesDown: broadcast * result.sessions,
    seconds: (performance.now() - started) / 1_000,
    released: summarize(ended, oracle, modelsBy(releasedModel)),
    personal: summarize(ended, oracle, models),
    balanced: meanBalanced(ended, oracle, models),
    ...(evolutionRule(config) === null ? {} : { evolution: evolutionOf(config, result.state, ended, oracle) }),
    ...(newcomers.length === 0
      ? {}
      : { newcomers: adaptNewcomers(config, result.state, newcomers, all, oracle, experiment) }),
  };
}

/** The scenario as it is when a run ends: whoever drifts has drifted. */
function atTheEnd(data: ScenarioData): ScenarioData {
  return { ...data, participants: data.participants.map((participant) => ({ ...participant, ...participant.later })) };
}

function withoutNewcomers(
  data: ScenarioData,
  { newcomers = 0 }: ExperimentOptions,
): { readonly data: ScenarioData; readonly newcomers: ScenarioData['participants'] } {
  if (newcomers === 0) return { data, newcomers: [] };
  const members = data.participants.length - newcomers;
  if (members < 4)
    throw new CoveyError(
      'USAGE_CONFIG',
      `"newcomers" expected at most ${data.participants.length - 4} of ${data.participants.length} participants, got ${newcomers}`,
    );
  return {
    data: { ...data, participants: data.participants.slice(0, members) },
    newcomers: data.participants.slice(members),
  };
}

/** Slots over the run, and how the slots of the end fit the true groups: for reporting only. */
function evolutionOf(
  config: RunConfig,
  { models, probes }: ReleaseState,
  data: ScenarioData,
  oracle: GradientOracle,
): EvolutionResult {
  const rule = evolutionRule(config);
  const { ended } = rule === null ? { ended: [] } : evolveSlots(rule, probes);
  const counts = models.heads.map(() => new Map<number, number>());
  let known = 0;
  for (const { train, group } of data.participants) {
    if (group === undefined) continue;
    const inSlot = counts[bestSlot(models, { oracle, data: train })] as Map<number, number>;
    inSlot.set(group, (inSlot.get(group) ?? 0) + 1);
    known += 1;
  }
  const majorities = counts.flatMap((inSlot) => [...inSlot].toSorted((a, b) => b[1] - a[1]).slice(0, 1));
  return {
    slots: ended.map(({ next }) => next.slots),
    trials: ended.map(({ trials }) =>
      trials.map(({ gap, stays }) => ({ gap: Number.isFinite(gap) ? gap : null, stays })),
    ),
    purity: known === 0 ? null : majorities.reduce((sum, [, count]) => sum + count, 0) / known,
    groups: known === 0 ? null : new Set(majorities.map(([group]) => group)).size,
  };
}

/** Newcomers take the released model that fits them best and adapt it; beside it each alone, from nothing. */
function adaptNewcomers(
  config: RunConfig,
  { models }: ReleaseState,
  newcomers: ScenarioData['participants'],
  all: ScenarioData,
  oracle: GradientOracle,
  experiment: ExperimentOptions,
): NewcomersResult {
  const data = atTheEnd({ ...all, participants: newcomers });
  const adapted = data.participants.map(({ train }, i) =>
    newcomerModel(
      config,
      models,
      { oracle, data: train, local: {} },
      createRandom(experiment.seed, NEWCOMER_STREAM + i),
    ),
  );
  return {
    count: newcomers.length,
    released: summarize(
      data,
      oracle,
      adapted.map(({ released }) => released),
    ),
    personal: summarize(
      data,
      oracle,
      adapted.map(({ personal }) => personal),
    ),
    local: summarize(data, oracle, localModels(data, oracle, experiment)),
  };
}
