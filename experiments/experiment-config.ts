import { CoveyError } from '../protocol/errors.ts';
import { LIMITS } from '../protocol/limits.ts';
import type { ScenarioData } from '../src/data/scenario.ts';
import { optionsOf, type SlotUse } from '../src/learning/algorithm.ts';
import { LAYERS_CAPS } from '../src/learning/layers-json.ts';
import { type DenseShape, denseManifest } from '../src/learning/manifest.ts';
import { findAlgorithm } from '../src/learning/registry.ts';
import { parameterCount } from '../src/learning/trainer.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { withLanes } from './lanes.ts';
import { EVOLVING_OPTIONS, type TrainingSettings } from './settings.ts';

/** Fewest participants of a run, whose sum hides the terms of each. */
const LEAST_PARTICIPANTS = 3;

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
/**
 * `hidden`: whole models in secret slots. `hybrid`: one shared body, heads in secret slots. `open`: declared clusters, each
 * with a session of its own; here the scenario's true groups, the best that a declaration can know.
 */
export type ExperimentMode = 'hidden' | 'hybrid' | 'open';
/** Noise on label counts that is small beside the classes of the scenarios and cheap beside their training. Units: records. */
const LABEL_NOISE = 10;
/** A target that leaves noise of no consequence: at 1e6 the noise of a wide clip still cost FedAvg points. */
const UNPROTECTED = 1e9;

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

/** The scenario's model or the one that takes its place, with other hidden layers and the row's cut where they are asked for. */
export function modelOf(
  data: ScenarioData,
  { algorithm, mode, settings: { hidden, model } }: ExperimentOptions,
  clusters: RunConfig['clusters'],
): DenseShape {
  const { cut } = rowOf(algorithm);
  const isWhole = clusters !== null && (mode === 'hidden' || mode === 'open');
  const { entries, sharedLayers, ...alone } = data.model;
  // What clusters share says nothing about the other algorithms.
  const suggested = clusters === null || sharedLayers === undefined ? alone : { ...alone, sharedLayers };
  const own: DenseShape = model ?? suggested;
  const first = own.network?.layers[0];
  if (entries !== undefined && !(first?.kind === 'embedding' && first.entries >= entries))
    throw new CoveyError(
      'USAGE_CONFIG',
      `"model" expected an Embedding of at least ${entries} rows first for ${data.manifest.scenario}, whose features are entries; hint: --model`,
    );
  for (const size of ['inputs', 'classes'] as const)
    if (own[size] !== data.model[size])
      throw new CoveyError(
        'USAGE_CONFIG',
        `"model" expected ${data.model[size]} ${size} for ${data.manifest.scenario}, got ${own[size]}`,
      );
  const shape = {
    ...own,
    ...(hidden === undefined ? {} : { hidden }),
    ...(isWhole ? { sharedLayers: 0 } : cut === null ? {} : { sharedLayers: cut }),
  };
  // Networks have the same limit where they are read.
  const parameters = parameterCount(denseManifest(shape));
  if (parameters > LAYERS_CAPS.parameters)
    throw new CoveyError(
      'USAGE_CONFIG',
      `"model.hidden" expected at most ${LAYERS_CAPS.parameters} parameters, got ${parameters}`,
    );
  return shape;
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
/** Noise on gaps at unit record, over all records. */
const RECORD_GAP_NOISE = 0.01;

function evolvingClusters(
  { options, privacy, settings }: ExperimentOptions,
  { participants: members }: ScenarioData,
): RunConfig['clusters'] {
  const participants = members.length;
  const records = members.reduce((sum, { train }) => sum + train.count, 0);
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
      gapNoiseStddev: unit === 'record' && privacy !== null ? RECORD_GAP_NOISE * records : noise,
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
  const { algorithm, mode, privacy, settings } = experiment;
  const { rounds, slotMean, slots, unit } = settings;
  // Where sums are divided by the counts, noise on them is felt.
  const { countNoise = privacy === null && slotMean === 'counts' ? UNPROTECTED_COUNTS : 8 } = settings;
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
  if (use === 'evolving') return evolvingClusters(experiment, data);
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
  if (participants < LEAST_PARTICIPANTS)
    throw new CoveyError(
      'USAGE_CONFIG',
      `"participants" expected at least ${LEAST_PARTICIPANTS} in a sum of ${data.manifest.scenario}, got ${participants}; hint: --algorithm local --only`,
    );
  const present = perStep ?? participants;
  const clusters = clustersOf(data, experiment);
  const smallest = Math.min(present, ...(clusters?.open?.map((names) => names.length) ?? []));
  const survivors = smallest - lostOf(smallest, experiment);
  const record = settings.unit === 'record';
  const records = data.participants.map(({ train }) => train.count);
  const { batchSize, curriculum, lossThreshold, epochs, stepSize, clippingNorm, optimizer, rounds } = settings;
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
  const config = parseRunConfig({
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
              ...(optimizer === undefined ? {} : { optimizer }),
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
      ...(settings.terms === undefined ? {} : { terms: settings.terms }),
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
  return settings.lanes === undefined ? config : withLanes(config, settings.lanes);
}

/** Participants of `present` that a step loses. */
export function lostOf(present: number, { dropouts = 0 }: ExperimentOptions): number {
  return Math.round(dropouts * present);
}
