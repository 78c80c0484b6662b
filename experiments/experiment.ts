import type { CryptoProvider } from '../protocol/crypto-provider.ts';
import { CoveyError } from '../protocol/errors.ts';
import type { SecureSum } from '../protocol/ideal.ts';
import { LIMITS } from '../protocol/limits.ts';
import { evolveSlots } from '../src/cluster/evolution.ts';
import { createRandom } from '../src/data/random.ts';
import type { ScenarioData } from '../src/data/scenario.ts';
import { optionsOf, type SlotUse } from '../src/learning/algorithm.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { accuracy, balancedAccuracy, type Evaluation, summarizeAccuracies } from '../src/learning/evaluation.ts';
import { initialModel } from '../src/learning/initial-model.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import { copyModel, type GradientOracle, type Model } from '../src/learning/oracle.ts';
import { findAlgorithm } from '../src/learning/registry.ts';
import { fineTune } from '../src/personalize/fine-tuning.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import type { JsonObject } from '../src/privacy/event-json.ts';
import type { View } from '../src/privacy/views.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { evolutionRule } from '../src/run/evolution.ts';
import { newcomerModel, personalModel, releasedModel } from '../src/run/home.ts';
import { type MemberState, NEW_MEMBER } from '../src/run/member.ts';
import { bestSlot } from '../src/run/member-model.ts';
import type { ReleaseState } from '../src/run/release.ts';
import { simulationStream } from './comparison.ts';
import { runInProcess } from './in-process.ts';
import { EVOLVING_OPTIONS, type TrainingSettings } from './settings.ts';

/** What is asked of one run. */
export interface ExperimentOptions {
  /**
   * `local`, or an algorithm of the registry; "@n" behind it: with the n lowest layers as the body; "+ft": with fine-tuning
   * of the personal models at the end.
   */
  readonly algorithm: string;
  readonly options: Readonly<Record<string, number>>;
  readonly settings: TrainingSettings;
  readonly seed: number;
  /** Noise of the sum over the sensitivity, a target epsilon, or null: noise that protects nothing, for comparison. */
  readonly privacy: { readonly noiseMultiplier: number } | { readonly epsilon: number } | null;
  /** Participants of a step, drawn anew for each; all by default. The server sees who takes part: nothing is amplified. */
  readonly perStep: number | null;
  readonly colluders: number;
  /** Share of the participants of a step that are lost before their upload, drawn anew for each; none by default. */
  readonly dropouts?: number;
  /** What slots hold, or clusters in the open; as the scenario's model says by default. */
  readonly mode?: ExperimentMode;
  /** Noise on the label counts of an algorithm that reads them at unit `record`. Units: records. */
  readonly labelNoise?: number | undefined;
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

/**
 * `hidden`: whole models in secret slots. `hybrid`: one shared body, heads in secret slots. `open`: declared clusters, each
 * with a session of its own; here the scenario's true groups, the best that a declaration can know.
 */
export type ExperimentMode = 'hidden' | 'hybrid' | 'open';

/** Members of the slots of a simulation. In hidden slots a deployment shows nobody more than `released`. */
export interface SlotRecord {
  /** Of every choice: training step, members of each slot, noisy counts. */
  readonly sizes: readonly {
    readonly step: number;
    readonly members: readonly number[];
    readonly released: readonly number[];
  }[];
  /** Members at the end by slot (rows) and true group (columns); none in a scenario without groups. */
  readonly byGroup: readonly (readonly number[])[] | null;
}

/** Noise on label counts that is small beside the classes of the scenarios and cheap beside their training. Units: records. */
const LABEL_NOISE = 10;

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
  /** Everything that the ledger charged, as states of accountants: what a search over settings composes. */
  readonly charges?: Readonly<Record<View, JsonObject>> | null;
  readonly slots?: SlotRecord;
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

/** A target that leaves noise of no consequence: at 1e6 the noise of a wide clip still cost FedAvg points. */
const UNPROTECTED = 1e9;
const SIMULATED_RUN = '6578706572696d656e74206f66206120';
/** Streams of the public generator. */
const PERSONAL_STREAM = 0x7065_7273;
const PRESENCE_STREAM = 0x7072_6573;
const LOCAL_STREAM = 0x6c6f_636c;
const NEWCOMER_STREAM = 0x6e65_7763;
/** Largest norm in integer units that the encoder takes. */
const LARGEST_NORM = 2 ** 20;

/** Bound of an update that carries its noise already: it only has to fit the ring. */
const UPDATE_NORM = 64;

/** Server settings of FedAdam, FedYogi and FedAdagrad. @see Reddi et al. 2021, appendix D */
const ADAPTIVE = { momentum: 0.9, step: 0.03 };

/** What the name of a row says. `cut`: layers of the body; all but the last if null. */
export interface Row {
  readonly id: string;
  readonly cut: number | null;
  readonly tuned: boolean;
}

/** Reads the name of a row: id, "@" and a cut, "+ft". */
export function rowOf(algorithm: string): Row {
  const [, id = algorithm, cut, tuned] = /^(.*?)(?:@(\d+))?(\+ft)?$/.exec(algorithm) ?? [];
  return { id, cut: cut === undefined ? null : Number(cut), tuned: tuned !== undefined };
}

/** The scenario's model, with other hidden layers and the row's cut where they are asked for. */
function modelOf(
  data: ScenarioData,
  { algorithm, mode, settings: { hidden } }: ExperimentOptions,
  clusters: RunConfig['clusters'],
): DenseShape {
  const { cut } = rowOf(algorithm);
  const isWhole = clusters !== null && (mode === 'hidden' || mode === 'open');
  return {
    ...data.model,
    ...(hidden === undefined ? {} : { hidden }),
    ...(isWhole ? { sharedLayers: 0 } : cut === null ? {} : { sharedLayers: cut }),
  };
}

/** Epsilon that a noise multiplier has over the rounds of a run, without sampling: the target that gives it back. */
function targetOf({ privacy, settings }: ExperimentOptions): number {
  if (privacy === null) return UNPROTECTED;
  if ('epsilon' in privacy) return privacy.epsilon;
  if (settings.noise === 'local')
    throw new CoveyError(
      'USAGE_CONFIG',
      '"noise multiplier" expected a target epsilon with local noise: the number of gradients is the algorithm\'s',
    );
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

/** Steps before which slots are chosen: where the choice is free in every one, where it is charged in every tenth. */
function choiceSteps(use: SlotUse, unit: TrainingSettings['unit'], rounds: readonly number[]): number[] {
  if (use === 'soft' || (use === 'several' && unit === 'participant')) return [];
  return rounds.filter((step) => unit === 'participant' || step % 10 === 0);
}

/** The scenario's true groups as declared clusters. @throws CoveyError USAGE_CONFIG for a scenario without them. */
function openClusters({ manifest, participants }: ScenarioData): string[][] {
  const clusters: string[][] = [];
  participants.forEach(({ group }, i) => {
    if (group !== undefined) clusters[group] = [...(clusters[group] ?? []), `org-${i + 1}`];
  });
  if (clusters.length < 2)
    throw new CoveyError('USAGE_CONFIG', `"mode" expected hidden or hybrid in ${manifest.scenario}: it has no groups`);
  return clusters;
}

function clustersOf(data: ScenarioData, experiment: ExperimentOptions): RunConfig['clusters'] {
  const { algorithm, mode, settings } = experiment;
  const { countNoise = 8, rounds, slotMean, slots, unit } = settings;
  const { slots: use } = findAlgorithm(rowOf(algorithm).id).info;
  if (mode === 'open') {
    const open = openClusters(data);
    return {
      assignment: 'hard',
      open,
      foundingSlots: 0,
      seatPositions: 0,
      kept: open.length,
      choiceSteps: [],
      choiceEpsilon: 0.2,
      lossBound: 4,
      countNoiseStddev: countNoise,
    };
  }
  if (use === undefined || use === 'none') return null;
  if (use === 'evolving') return evolvingClusters(experiment, data.participants.length);
  const everyRound = Array.from({ length: rounds }, (_, step) => step);
  return {
    assignment: use === 'chosen' ? 'hard' : use,
    ...(slotMean === undefined || use !== 'chosen' ? {} : { denominator: slotMean }),
    ...(use === 'several' ? { filled: Math.min(2, slots) } : {}),
    foundingSlots: 0,
    seatPositions: 0,
    kept: slots,
    choiceSteps: choiceSteps(use, unit, everyRound),
    choiceEpsilon: 0.2,
    lossBound: 4,
    countNoiseStddev: countNoise,
  };
}

/** Label counts for an algorithm that reads them at unit `record`. */
function labelsOf(id: string, { labelNoise = LABEL_NOISE, settings }: ExperimentOptions): object {
  const { recordLevel } = findAlgorithm(id).info;
  const reads = recordLevel.kind === 'with-charge' && recordLevel.charge === 'histogram';
  return reads && settings.unit === 'record' ? { labels: { noiseStddev: labelNoise } } : {};
}

/** The run configuration of an experiment: the same object that a deployed coordinator would sign. */
export function experimentConfig(data: ScenarioData, experiment: ExperimentOptions): RunConfig {
  const { settings, seed, perStep, colluders } = experiment;
  const { id, tuned } = rowOf(experiment.algorithm);
  const participants = data.participants.length;
  const present = perStep ?? participants;
  const clusters = clustersOf(data, experiment);
  const smallest = Math.min(present, ...(clusters?.open?.map((names) => names.length) ?? []));
  const survivors = smallest - lostOf(smallest, experiment);
  const record = settings.unit === 'record';
  const records = data.participants.map(({ train }) => train.count);
  const { batchSize, curriculum, lossThreshold, epochs, stepSize, clippingNorm, rounds } = settings;
  const all = records.reduce((sum, count) => sum + count, 0);
  const isAdaptive = findAlgorithm(id).optimizer !== undefined;
  const isLocal = record && settings.noise === 'local';
  // Where everybody must take as many steps: those of the mean participant.
  const mean = Math.max(1, Math.round((epochs * all) / participants / batchSize));
  const batches = settings.batches ?? (isLocal || findAlgorithm(id).fixedBatches === true ? mean : undefined);
  const updateNorm = isLocal ? UPDATE_NORM : clippingNorm;
  const scale = 2 ** Math.floor(Math.log2(LARGEST_NORM / updateNorm));
  // A local gradient draws the records of a minibatch of the mean participant.
  const drawn = isLocal ? Math.min(1, (batchSize * participants) / all) : settings.samplingProbability;
  return parseRunConfig({
    federation: 'covey-experiment',
    data: { scenario: data.manifest.scenario, seed },
    model: modelOf(data, experiment, clusters),
    training: {
      steps: rounds,
      samplingProbability: record ? drawn : 1,
      clippingNorm: updateNorm,
      // Adaptive servers scale every coordinate by its own size: their steps are lengths, not shares of an update.
      momentum: isAdaptive ? ADAPTIVE.momentum : settings.momentum,
      // Updates are divided by the number of participants; those of a step count.
      stepSize: ((isAdaptive ? ADAPTIVE.step : settings.serverStep) * participants) / present,
      lastStepShare: record && !isLocal ? 0.1 : 1,
      nominalRecords: all,
      maxRecordsPerStep: Math.max(...records),
      initialSeed: seed,
      ...(lossThreshold === undefined ? {} : { lossThreshold }),
      local:
        record && !isLocal
          ? null
          : {
              epochs,
              ...(batches === undefined ? {} : { batches }),
              batchSize,
              stepSize,
              ...(curriculum === undefined ? {} : { curriculum }),
            },
    },
    clusters,
    // Numbers of evolving clusters are the run's, not the algorithm's.
    algorithm: { id, options: id === 'evolving' ? {} : experiment.options, ...labelsOf(id, experiment) },
    personal: tuned ? { method: 'fine-tuning', ...settings.tuning } : { method: 'none', ...settings.tuning },
    privacy: {
      unit: settings.unit,
      relation: record ? 'add-remove' : 'zero-out',
      delta: settings.delta,
      targetEpsilon: targetOf(experiment),
      ...(isLocal ? { localNoise: { clippingNorm } } : {}),
    },
    cohort: {
      participants,
      groups: 1,
      profile: participants <= LIMITS.cohort ? 'strict' : 'sparse',
      minSurvivors: survivors,
      minOrgs: survivors,
      colluders,
      maxLoss: 0,
      minCluster: 0,
    },
    encoding: { scale, lanes: 2 },
    deadlineMs: 30_000,
  });
}

/** Participants of `present` that a step loses. */
function lostOf(present: number, { dropouts = 0 }: ExperimentOptions): number {
  return Math.round(dropouts * present);
}

/** Who uploads in each step: all, or a fresh uniform draw of those who are asked and not lost; of each cluster its own. */
function presenceOf(config: RunConfig, experiment: ExperimentOptions): (participant: number, step: number) => boolean {
  const { perStep, seed } = experiment;
  const { participants } = config.cohort;
  if (perStep === null && lostOf(participants, experiment) === 0) return () => true;
  const everybody = Array.from({ length: participants }, (_, i) => i);
  const cohorts = config.clusters?.open?.map((names) => everybody.filter((i) => names.includes(`org-${i + 1}`))) ?? [
    everybody,
  ];
  const drawn = new Map<number, ReadonlySet<number>>();
  return (i, step) => {
    let present = drawn.get(step);
    if (present === undefined) {
      const random = createRandom(seed, PRESENCE_STREAM + step);
      const uploads = cohorts.flatMap((cohort) => {
        const order = Uint32Array.from(cohort);
        random.shuffle(order);
        const asked = Math.min(perStep ?? order.length, order.length);
        return [...order.subarray(0, asked - lostOf(asked, experiment))];
      });
      present = new Set(uploads);
      drawn.set(step, present);
    }
    return present.has(i);
  };
}

/** Members of each slot, of all or of one group. */
function countMembers(members: readonly MemberState[], slots: number, isCounted: (i: number) => boolean): number[] {
  const counts = new Array<number>(slots).fill(0);
  members.forEach(({ slot }, i) => {
    if (slot !== null && isCounted(i)) counts[slot] = (counts[slot] ?? 0) + 1;
  });
  return counts;
}

/** Members by slot and group; null without groups. */
function membersByGroup(
  { participants }: ScenarioData,
  members: readonly MemberState[],
  slots: number,
): SlotRecord['byGroup'] {
  const groups = [...new Set(participants.flatMap(({ group }) => (group === undefined ? [] : [group])))].sort(
    (a, b) => a - b,
  );
  if (groups.length < 2) return null;
  const columns = groups.map((group) => countMembers(members, slots, (i) => participants[i]?.group === group));
  return Array.from({ length: slots }, (_, slot) => columns.map((column) => column[slot] ?? 0));
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
    const oracle = createDenseOracle(modelOf(data, experiment, null));
    const ended = atTheEnd(data);
    const models = localModels(ended, oracle, experiment);
    return {
      ...common,
      unit: null,
      delta: null,
      epsilon: null,
      charges: null,
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
  const oracle = createDenseOracle(config.model);
  const kept = config.clusters?.kept ?? 0;
  const sizes: SlotRecord['sizes'][number][] = [];
  const result = runInProcess({
    config,
    runId: SIMULATED_RUN,
    crypto,
    random: simulationStream(crypto, seed, 3),
    organizations: data.participants.map(({ train, later }) => {
      const drift = { fromStep: Math.floor(settings.rounds / 2), data: later?.train ?? train };
      return { data: train, oracle, ...(later === undefined ? {} : { later: drift }) };
    }),
    isPresent: presenceOf(config, experiment),
    ...(run.secureSum === undefined ? {} : { secureSum: run.secureSum }),
    onRelease: (params) => run.onStep?.(params.round),
    onState({ kind, step }, { counts }, members) {
      if (kind === 'choice')
        sizes.push({ step, members: countMembers(members, kept, () => true), released: counts ?? [] });
    },
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
    charges: result.charges,
    ...(sizes.length === 0 ? {} : { slots: { sizes, byGroup: membersByGroup(data, result.members, kept) } }),
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
