import { CoveyError } from '../../protocol/errors.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { digitsNominalRecords } from '../data/digits.ts';
import type { LocalOptimizer } from '../learning/optimizer.ts';
import { findAlgorithm } from '../learning/registry.ts';
import type { SumMechanism } from '../privacy/sum-event.ts';
import { type ClusterConfig, type MetricsConfig, parseRunConfig, type RunConfig } from './config.ts';

/** Scenarios with settings of their own; `table` is whatever the sites hold. */
export type ScenarioName = 'digits' | 'heart' | 'table';

/** What has to be known of the tables of all sites; public, agreed on by them. Its keys are explained in `server/config.ts`. */
export interface TableTask {
  readonly features: number;
  readonly classes: number;
  readonly hidden: readonly number[];
  readonly nominalRecords: number;
  readonly maxRecords: number;
}

/** Options of a run that a user may set; the rest of an embedded scenario is fixed by what was measured for it. */
export interface ScenarioOptions {
  /** `record` by default. A few participants cannot hide one of their own: unit `participant` needs hundreds. */
  readonly unit?: RunConfig['privacy']['unit'] | undefined;
  /** `discrete-gaussian` by default. */
  readonly mechanism?: SumMechanism | undefined;
  /** How the records of a member are summed at unit `record`; `integer` by default. */
  readonly terms?: RunConfig['privacy']['terms'];
  /** Noise of training steps that is exact whoever drops out; needs Skellam noise. */
  readonly xnoise?: RunConfig['privacy']['xnoise'];
  /** The scenario's own by default: clusters with fine-tuning. Another one brings the slots that it asks for. */
  readonly algorithm?: RunConfig['algorithm'];
  readonly seed: number;
  readonly steps: number;
  readonly targetEpsilon: number;
  readonly participants: number;
  readonly metrics?: MetricsConfig | undefined;
  /** Noise in every local gradient in place of shares in the sum; unit `record`. */
  readonly localNoise?: RunConfig['privacy']['localNoise'];
  /** Protects persons with all their records at a site, in place of single records. */
  readonly perPerson?: boolean | undefined;
  /** Of local training, at unit `participant` or with noise inside the organizations. */
  readonly optimizer?: LocalOptimizer | undefined;
  /** Learning rate of local training; the scenario's own by default, which suits plain SGD. */
  readonly localStep?: number | undefined;
  /** In place of the scenario's own model: of as many features and classes. */
  readonly model?: RunConfig['model'] | undefined;
  /** Needed for the scenario `table`, and for no other. */
  readonly table?: TableTask | undefined;
}

/** Fewest survivors and colluders that a cohort of this size can bear. */
function cohortOf(participants: number): RunConfig['cohort'] {
  const isStrict = participants <= LIMITS.cohort;
  const minSurvivors = Math.max(3, Math.ceil(participants * (isStrict ? 0.75 : 0.9)));
  // The strict profile asks for 3c < |U1|; two members may be lost for good and the rest must still satisfy it.
  const colluders = isStrict ? Math.max(0, Math.ceil((participants - 2) / 3) - 1) : Math.floor(participants / 20);
  return {
    participants,
    groups: 1,
    profile: isStrict ? 'strict' : 'sparse',
    minSurvivors,
    minOrgs: minSurvivors,
    colluders,
    maxLoss: 3,
    minCluster: 0,
  };
}

/** The founding takes 14 of 80 steps; choices before 14, 15 and 30 scale with shorter and longer runs. */
function clustersOf(participants: number, steps: number, kept: number, countNoiseStddev: number): ClusterConfig | null {
  const at = (step: number): number => Math.max(1, Math.round((step * steps) / 80));
  const first = at(14);
  const choiceSteps = [first, first + 1, Math.max(first + 2, at(30))].filter((step) => step < steps);
  if (choiceSteps.length === 0) return null;
  return {
    assignment: 'hard',
    foundingSlots: participants,
    seatPositions: 1_024,
    kept,
    choiceSteps,
    choiceEpsilon: 0.5,
    lossBound: 2,
    countNoiseStddev,
  };
}

/** Noise on gaps at unit record, over all records: a gap is a sum over them. */
const RECORD_GAP_NOISE = 0.01;

/**
 * One slot that probes split, at the steps of the choices; the run's choices without a founding. `gapNoiseStddev`: in loss
 * bounds at unit `record`, in members at unit `participant`.
 */
function evolvingClusters(own: ClusterConfig, steps: number, gapNoiseStddev: number): ClusterConfig {
  const { choiceSteps, foundingSlots: participants } = own;
  const [first = 1, last = first] = [choiceSteps[0], choiceSteps.at(-1)];
  const probeSteps = Math.max(1, Math.min(4, last - first, steps - last));
  return {
    ...own,
    assignment: 'evolving',
    foundingSlots: 0,
    seatPositions: 0,
    kept: 1,
    choiceSteps: last - first >= probeSteps ? [first, last] : [first],
    evolving: {
      most: own.kept + 1,
      probeSteps,
      perturbation: 0.1,
      minGap: 0.12,
      minMembers: Math.max(1, participants / 12),
      gapNoiseStddev,
    },
  };
}

/** Slots of another algorithm than the scenario's own: as it asks for them, none if it does not say. */
function slotsFor(
  id: string,
  own: ClusterConfig | null,
  { kept, nominalRecords }: Pick<Preset, 'kept' | 'nominalRecords'>,
  unit: RunConfig['privacy']['unit'],
  steps: number,
): ClusterConfig | null {
  const use = findAlgorithm(id).info.slots ?? 'none';
  if (use === 'none') return null;
  if (use === 'chosen' || own === null) return own;
  if (use === 'evolving')
    return evolvingClusters(own, steps, unit === 'record' ? RECORD_GAP_NOISE * nominalRecords : own.countNoiseStddev);
  const filled = use === 'several' ? { filled: Math.min(2, kept) } : {};
  // Several slots of a member are free at unit participant; at unit record they are chosen at the scenario's own times.
  const choiceSteps = use === 'several' && unit === 'record' ? [0, ...own.choiceSteps.slice(1)] : [];
  return { ...own, assignment: use, ...filled, foundingSlots: 0, seatPositions: 0, choiceSteps };
}

/** Minibatches where everybody must take as many: an epoch of the mean organization. */
const FIXED_BATCHES = 12;

/** Bound of an update that carries its noise already: it only has to fit the ring. */
const LOCAL_UPDATE_NORM = 64;

/** What differs from scenario to scenario. */
interface Preset {
  readonly model: RunConfig['model'];
  readonly nominalRecords: number;
  readonly maxRecordsPerStep: number;
  readonly kept: number;
  /** Step of the server at unit `record`, and of local training. */
  readonly serverStep: number;
  readonly localStep: number;
  readonly scale: number;
}

/** Sums of a 32-bit ring stay below half of it, even if one coordinate collects every record of everybody. */
function scaleFor(participants: number, maxRecords: number): number {
  return Math.min(65_536, 2 ** Math.floor(Math.log2(2 ** 30 / (participants * maxRecords))));
}

function presetOf(scenario: ScenarioName, { participants, table }: ScenarioOptions): Preset {
  if (scenario === 'digits')
    return {
      model: { inputs: 64, hidden: [48], classes: 10 },
      nominalRecords: digitsNominalRecords(participants),
      maxRecordsPerStep: 1_400,
      kept: 3,
      serverStep: 1.2,
      localStep: 0.1,
      scale: 65_536,
    };
  const tabular = { kept: 2, serverStep: 0.6, localStep: 0.05 };
  if (scenario === 'heart') {
    const model = { inputs: 13, hidden: [16], classes: 2 };
    return { ...tabular, model, nominalRecords: 480, maxRecordsPerStep: 1_400, scale: 65_536 };
  }
  if (table === undefined)
    throw new CoveyError('USAGE_CONFIG', '"table" expected features, classes and records of the scenario table');
  const { classes, features, hidden, maxRecords, nominalRecords } = table;
  return {
    ...tabular,
    model: { inputs: features, hidden: [...hidden], classes },
    nominalRecords,
    maxRecordsPerStep: maxRecords,
    scale: scaleFor(participants, maxRecords),
  };
}

/** The scenario's own model, or one that reads the same records. */
function modelFor(
  { model: own }: Preset,
  scenario: ScenarioName,
  { model, table }: ScenarioOptions,
): RunConfig['model'] {
  if (model === undefined) return own;
  if (table !== undefined && table.hidden.length > 0)
    throw new CoveyError(
      'USAGE_CONFIG',
      `"table.hidden" expected none beside a model, got ${table.hidden.length} layers`,
    );
  for (const size of ['inputs', 'classes'] as const)
    if (model[size] !== own[size])
      throw new CoveyError('USAGE_CONFIG', `"model" expected ${own[size]} ${size} for ${scenario}, got ${model[size]}`);
  return model;
}

/** A scenario with settings that were measured for it, or that suit tables. @throws CoveyError USAGE_CONFIG */
export function scenarioConfig(scenario: ScenarioName, options: ScenarioOptions): RunConfig {
  const { algorithm, localNoise, mechanism, metrics, participants, perPerson, seed, steps, targetEpsilon } = options;
  const { terms, unit = 'record', xnoise } = options;
  const record = unit === 'record' && localNoise === undefined;
  const preset = presetOf(scenario, options);
  const { kept, nominalRecords } = preset;
  const { localStep = preset.localStep, optimizer } = options;
  if (record && (optimizer !== undefined || options.localStep !== undefined))
    throw new CoveyError(
      'USAGE_CONFIG',
      `"${optimizer === undefined ? 'localStep' : 'optimizer'}" expected none at unit record with noise in the sum: nobody trains locally`,
    );
  // Nothing is known of a site's own data: slots are asked for, never given.
  const own =
    scenario === 'table' && algorithm === undefined
      ? null
      : clustersOf(participants, steps, kept, unit === 'record' ? 0.7 : 4);
  const fixed =
    localNoise !== undefined || (algorithm !== undefined && findAlgorithm(algorithm.id).fixedBatches === true);
  // A local gradient draws a minibatch of the mean organization.
  const drawn = localNoise === undefined ? 1 : Math.min(1, (32 * participants) / nominalRecords);
  const epochs = { epochs: 1, ...(fixed ? { batches: FIXED_BATCHES } : {}), batchSize: 32 };
  return parseRunConfig({
    federation: scenario === 'table' ? 'covey' : 'covey-demo',
    data: { scenario, seed },
    model: modelFor(preset, scenario, options),
    training: {
      steps,
      samplingProbability: record ? 0.5 : drawn,
      clippingNorm: localNoise === undefined ? 1 : LOCAL_UPDATE_NORM,
      momentum: record ? 0.9 : 0,
      stepSize: record ? preset.serverStep : 1,
      nominalRecords,
      maxRecordsPerStep: preset.maxRecordsPerStep,
      initialSeed: seed,
      local: record ? null : { ...epochs, stepSize: localStep, ...(optimizer === undefined ? {} : { optimizer }) },
    },
    clusters: algorithm === undefined ? own : slotsFor(algorithm.id, own, preset, unit, steps),
    ...(algorithm === undefined ? {} : { algorithm }),
    ...(metrics === undefined ? {} : { metrics }),
    personal: { method: 'fine-tuning', epochs: 30, batchSize: 32, stepSize: preset.localStep },
    privacy: {
      unit,
      relation: unit === 'record' ? 'add-remove' : 'zero-out',
      // Left out where nobody asked: the hash of a configuration is that of its fields.
      ...(perPerson === true ? { perPerson } : {}),
      delta: 1e-5,
      targetEpsilon,
      ...(mechanism === undefined ? {} : { mechanism }),
      ...(localNoise === undefined ? {} : { localNoise }),
      ...(terms === undefined ? {} : { terms }),
      ...(xnoise === undefined ? {} : { xnoise }),
    },
    cohort: cohortOf(participants),
    encoding: { scale: preset.scale, lanes: 2 },
    deadlineMs: 30_000,
  });
}
