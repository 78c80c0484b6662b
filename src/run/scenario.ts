import { LIMITS } from '../../protocol/limits.ts';
import { digitsNominalRecords } from '../data/digits.ts';
import { findAlgorithm } from '../learning/registry.ts';
import type { SumMechanism } from '../privacy/sum-event.ts';
import { type ClusterConfig, type MetricsConfig, parseRunConfig, type RunConfig } from './config.ts';

/** Options of a run that a user may set; the rest of an embedded scenario is fixed by what was measured for it. */
export interface ScenarioOptions {
  /** `record` by default. A few participants cannot hide one of their own: unit `participant` needs hundreds. */
  readonly unit?: RunConfig['privacy']['unit'] | undefined;
  /** `discrete-gaussian` by default. */
  readonly mechanism?: SumMechanism | undefined;
  /** The scenario's own by default: clusters with fine-tuning. Another one brings the slots that it asks for. */
  readonly algorithm?: RunConfig['algorithm'];
  readonly seed: number;
  readonly steps: number;
  readonly targetEpsilon: number;
  readonly participants: number;
  readonly metrics?: MetricsConfig | undefined;
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

/** One slot that probes split, at the steps of the choices; the run's choices without a founding. */
function evolvingClusters(own: ClusterConfig, steps: number): ClusterConfig {
  const { choiceSteps, foundingSlots: participants } = own;
  const [first = 1, last = first] = [choiceSteps[0], choiceSteps.at(-1)];
  const probeSteps = Math.max(1, Math.min(3, last - first, steps - last));
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
      perturbation: 0.3,
      minGap: 0.1,
      minMembers: Math.max(1, participants / 12),
      gapNoiseStddev: own.countNoiseStddev,
    },
  };
}

/** Slots of another algorithm than the scenario's own: as it asks for them, none if it does not say. */
function slotsFor(id: string, own: ClusterConfig | null, kept: number, steps: number): ClusterConfig | null {
  const use = findAlgorithm(id).info.slots ?? 'none';
  if (use === 'none') return null;
  if (use === 'chosen' || own === null) return own;
  if (use === 'evolving') return evolvingClusters(own, steps);
  const filled = use === 'several' ? { filled: Math.min(2, kept) } : {};
  return { ...own, assignment: use, ...filled, foundingSlots: 0, seatPositions: 0, choiceSteps: [] };
}

/** Minibatches where everybody must take as many: an epoch of the mean organization. */
const FIXED_BATCHES = 12;

/** An embedded scenario with the settings that were measured for it. @throws CoveyError USAGE_CONFIG */
export function scenarioConfig(scenario: 'digits' | 'heart', options: ScenarioOptions): RunConfig {
  const { algorithm, metrics, participants, steps, seed, targetEpsilon, unit = 'record', mechanism } = options;
  const record = unit === 'record';
  const digits = scenario === 'digits';
  const kept = digits ? 3 : 2;
  const own = clustersOf(participants, steps, kept, record ? 0.7 : 4);
  const fixed = algorithm !== undefined && findAlgorithm(algorithm.id).fixedBatches === true;
  const epochs = { epochs: 1, ...(fixed ? { batches: FIXED_BATCHES } : {}), batchSize: 32 };
  return parseRunConfig({
    federation: 'covey-demo',
    data: { scenario, seed },
    model: digits ? { inputs: 64, hidden: [48], classes: 10 } : { inputs: 13, hidden: [16], classes: 2 },
    training: {
      steps,
      samplingProbability: record ? 0.5 : 1,
      clippingNorm: 1,
      momentum: record ? 0.9 : 0,
      stepSize: !record ? 1 : digits ? 1.2 : 0.6,
      nominalRecords: digits ? digitsNominalRecords(participants) : 480,
      maxRecordsPerStep: 1_400,
      initialSeed: seed,
      local: record ? null : { ...epochs, stepSize: digits ? 0.1 : 0.05 },
    },
    clusters: algorithm === undefined ? own : slotsFor(algorithm.id, own, kept, steps),
    ...(algorithm === undefined ? {} : { algorithm }),
    ...(metrics === undefined ? {} : { metrics }),
    personal: { method: 'fine-tuning', epochs: 30, batchSize: 32, stepSize: digits ? 0.1 : 0.05 },
    privacy: {
      unit,
      relation: record ? 'add-remove' : 'zero-out',
      delta: 1e-5,
      targetEpsilon,
      // Left out where nobody asked: the hash of a configuration is that of its fields.
      ...(mechanism === undefined ? {} : { mechanism }),
    },
    cohort: cohortOf(participants),
    encoding: { scale: 65_536, lanes: 2 },
    deadlineMs: 30_000,
  });
}
