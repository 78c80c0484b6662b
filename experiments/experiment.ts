import type { CryptoProvider } from '../protocol/crypto-provider.ts';
import { CoveyError } from '../protocol/errors.ts';
import type { SecureSum } from '../protocol/ideal.ts';
import { evolveSlots } from '../src/cluster/evolution.ts';
import { createRandom } from '../src/data/random.ts';
import type { ScenarioData } from '../src/data/scenario.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { accuracy, balancedAccuracy, type Evaluation, summarizeAccuracies } from '../src/learning/evaluation.ts';
import { initialModel } from '../src/learning/initial-model.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import { copyModel, type GradientOracle, type Model } from '../src/learning/oracle.ts';
import { fineTune } from '../src/personalize/fine-tuning.ts';
import type { JsonObject } from '../src/privacy/event-json.ts';
import type { View } from '../src/privacy/views.ts';
import type { RunConfig } from '../src/run/config.ts';
import { evolutionRule } from '../src/run/evolution.ts';
import { newcomerModel, personalModel, releasedModel } from '../src/run/home.ts';
import { type MemberState, NEW_MEMBER } from '../src/run/member.ts';
import { bestSlot } from '../src/run/member-model.ts';
import { checkModel } from '../src/run/network-schema.ts';
import type { ReleaseState } from '../src/run/release.ts';
import { runCentral } from './central-run.ts';
import { simulationStream } from './comparison.ts';
import { type ExperimentOptions, experimentConfig, lostOf, modelOf } from './experiment-config.ts';
import { runInProcess } from './in-process.ts';
import { rememberPredictions } from './remembered-predictions.ts';

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

const SIMULATED_RUN = '6578706572696d656e74206f66206120';
/** Streams of the public generator. */
const PERSONAL_STREAM = 0x7065_7273;
const PRESENCE_STREAM = 0x7072_6573;
const LOCAL_STREAM = 0x6c6f_636c;
const NEWCOMER_STREAM = 0x6e65_7763;

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
  run: {
    readonly secureSum?: SecureSum;
    readonly createOracle?: (model: DenseShape) => GradientOracle;
    onStep?(step: number): void;
  } = {},
): ExperimentResult {
  const started = performance.now();
  const { createOracle = createDenseOracle } = run;
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
    const oracle = createOracle(checkedModel(data, experiment));
    const ended = atTheEnd(data);
    const models = localModels(ended, oracle, experiment);
    const judge = rememberPredictions(oracle);
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
      personal: summarize(ended, judge, models),
      balanced: meanBalanced(ended, judge, models),
    };
  }
  if (settings.unit === 'record' && !data.manifest.recordRule)
    throw new CoveyError(
      'PRIVACY_POLICY',
      `"scenario" expected features of one record alone at unit record, got ${data.manifest.scenario} with raw statistics`,
    );
  const { participantRule = false, recordRule, scenario } = data.manifest;
  if (experiment.privacy !== null && !recordRule && !participantRule)
    throw new CoveyError(
      'PRIVACY_POLICY',
      `"scenario" expected features of one participant's records alone for a claim, got ${scenario} with raw statistics of all`,
    );
  const config = experimentConfig(data, experiment);
  const oracle = createOracle(config.model);
  const kept = config.clusters?.kept ?? 0;
  const sizes: SlotRecord['sizes'][number][] = [];
  const result = (settings.noise === 'central' ? runCentral : runInProcess)({
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
  const judge = rememberPredictions(oracle);
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
    released: summarize(ended, judge, modelsBy(releasedModel)),
    personal: summarize(ended, judge, models),
    balanced: meanBalanced(ended, judge, models),
    ...(evolutionRule(config) === null ? {} : { evolution: evolutionOf(config, result.state, ended, oracle) }),
    ...(newcomers.length === 0
      ? {}
      : { newcomers: adaptNewcomers(config, result.state, newcomers, all, oracle, experiment) }),
  };
}

/** The model of participants that train alone, checked as that of a run. */
function checkedModel(data: ScenarioData, experiment: ExperimentOptions): DenseShape {
  const model = modelOf(data, experiment, null);
  checkModel(model);
  return model;
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
  if (members < 3)
    throw new CoveyError(
      'USAGE_CONFIG',
      `"newcomers" expected at most ${data.participants.length - 3} of ${data.participants.length} participants, got ${newcomers}`,
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
