import type { Lanes } from '../protocol/session.ts';
import type { OptionInfo } from '../src/learning/algorithm.ts';
import type { Curriculum, LossThreshold } from '../src/learning/curriculum.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import type { LocalOptimizer } from '../src/learning/optimizer.ts';
import type { RunConfig } from '../src/run/config.ts';

/** How a scenario is trained unless the command says otherwise. */
export interface TrainingSettings {
  readonly rounds: number;
  readonly epochs: number;
  /** Minibatches of everybody in place of epochs. */
  readonly batches?: number;
  readonly batchSize: number;
  readonly stepSize: number;
  /** Of local training; plain SGD if absent. */
  readonly optimizer?: LocalOptimizer;
  /** Hidden layers in place of the scenario's. */
  readonly hidden?: readonly number[];
  /** A model in place of the scenario's. */
  readonly model?: DenseShape;
  /** Order in which participants take their own records up. */
  readonly curriculum?: Curriculum;
  /** In its place at unit `record`. */
  readonly lossThreshold?: LossThreshold;
  readonly serverStep: number;
  readonly momentum: number;
  readonly clippingNorm: number;
  /** Fine-tuning of rows that end with "+ft". */
  readonly tuning: { readonly epochs: number; readonly batchSize: number; readonly stepSize: number };
  readonly unit: RunConfig['privacy']['unit'];
  /**
   * `local`: record unit, noise in every local gradient instead of shares in the sum; `clippingNorm` is then a gradient's.
   * `central`: continuous Gaussian noise on exact sums by a trusted curator, a comparison that no deployment has.
   */
  readonly noise?: 'local' | 'central';
  /** Fields of a ring word pair; two of 32 bits if absent. Narrower ones take the scale of the heuristic (privacy F14). */
  readonly lanes?: Lanes;
  /** Record unit: sums of records that are rounded once; integers of each record if absent. */
  readonly terms?: 'float-bounded';
  readonly delta: number;
  readonly slots: number;
  /** Deviation of the noise on slot counts, in members; 8 if absent, next to none where counts divide and nothing is claimed. Counts are charged like everything else. */
  readonly countNoise?: number;
  /** What the sum of a chosen slot is divided by at unit participant; an even share of the cohort if absent. */
  readonly slotMean?: 'even' | 'counts';
  /** Record unit: probability that a record joins a step. */
  readonly samplingProbability: number;
  /** Numbers of algorithms that were found for this scenario. */
  readonly options?: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

const COMMON = {
  epochs: 1,
  batchSize: 16,
  stepSize: 0.1,
  serverStep: 1,
  momentum: 0,
  clippingNorm: 16,
  unit: 'participant',
  delta: 1e-5,
  slots: 4,
  samplingProbability: 0.5,
} as const;

/** Full batches: larger than any participant's data. */
const FULL = 1_000_000;

const SETTINGS: Readonly<Record<string, TrainingSettings>> = {
  digits: {
    ...COMMON,
    rounds: 40,
    epochs: 2,
    slots: 3,
    tuning: { epochs: 30, batchSize: 32, stepSize: 0.1 },
    options: { ditto: { lambda: 0.1, personalEpochs: 2 } },
  },
  'fedprox-synthetic': {
    ...COMMON,
    rounds: 50,
    epochs: 20,
    batchSize: 10,
    stepSize: 0.01,
    tuning: { epochs: 5, batchSize: 10, stepSize: 0.01 },
    options: { fedprox: { mu: 1, stragglers: 0.9 } },
  },
  'heart-4': {
    ...COMMON,
    rounds: 15,
    batches: 100,
    batchSize: 4,
    stepSize: 0.003_16,
    slots: 2,
    tuning: { epochs: 2, batchSize: 4, stepSize: 0.003_16 },
    options: { ditto: { lambda: 0.1, personalEpochs: 4 } },
  },
  'har-30': {
    ...COMMON,
    rounds: 100,
    tuning: { epochs: 10, batchSize: 16, stepSize: 0.1 },
    options: { ditto: { lambda: 0.03 } },
  },
  'qmnist-writers': {
    ...COMMON,
    rounds: 30,
    delta: 1e-4,
    tuning: { epochs: 1, batchSize: 16, stepSize: 0.1 },
    options: { ditto: { lambda: 0.1 } },
  },
  'rotated-mnist': {
    ...COMMON,
    rounds: 40,
    batches: 10,
    batchSize: FULL,
    // As IFCA is published.
    slotMean: 'counts',
    tuning: { epochs: 10, batchSize: FULL, stepSize: 0.1 },
  },
  'turned-mnist': {
    ...COMMON,
    rounds: 28,
    epochs: 2,
    batchSize: 20,
    tuning: { epochs: 10, batchSize: 20, stepSize: 0.1 },
    slots: 6,
  },
  'pfllib-mnist-dir0.1': {
    ...COMMON,
    rounds: 20,
    batchSize: 10,
    stepSize: 0.005,
    tuning: { epochs: 1, batchSize: 10, stepSize: 0.005 },
    options: { ditto: { lambda: 0.1 } },
  },
};

/** Settings where none were found: `common` suits small image data, `record` takes the place of some of it at unit record. */
export const TRAINING_DEFAULTS: {
  readonly common: TrainingSettings;
  readonly record: Pick<TrainingSettings, 'clippingNorm' | 'serverStep' | 'momentum'>;
} = {
  common: { ...COMMON, rounds: 20, tuning: { epochs: 1, batchSize: 16, stepSize: 0.1 } },
  // One gradient of each record and step: larger steps with momentum and one clip a record.
  record: { clippingNorm: 1, serverStep: 1, momentum: 0.9 },
};

/** Settings of a scenario. */
export function settingsOf(scenario: string): TrainingSettings {
  return SETTINGS[scenario] ?? TRAINING_DEFAULTS.common;
}

/** Numbers of evolving clusters that an experiment may set, beside the slots, which are the most of a probe. */
export const EVOLVING_OPTIONS: Readonly<Record<string, OptionInfo>> = {
  firstProbe: { what: 'training steps before the first probe', least: 1, most: 100_000, fallback: 5, integer: true },
  probeEvery: {
    what: 'training steps from one probe to the next',
    least: 1,
    most: 100_000,
    fallback: 6,
    integer: true,
  },
  probeSteps: { what: 'training steps of a probe', least: 1, most: 100_000, fallback: 4, integer: true },
  perturbation: { what: 'deviation of a split over that of the parameters', least: 0.001, most: 4, fallback: 0.1 },
  minGap: { what: 'mean relative gap above which halves stay apart', least: 0, most: 1, fallback: 0.12 },
  minShare: { what: 'least share of the participants in a slot', least: 0, most: 0.5, fallback: 0.08 },
  noiseShare: { what: 'noise on counts and gaps, over the participants', least: 1e-6, most: 1, fallback: 0.008 },
};
