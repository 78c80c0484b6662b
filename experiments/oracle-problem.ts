import type { CryptoProvider } from '../protocol/crypto-provider.ts';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import type { RegressionData } from '../src/data/oracles/problem.ts';
import { createRandom } from '../src/data/random.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { simulationStream } from './comparison.ts';
import { type InProcessResult, runInProcess } from './in-process.ts';

/** What a run measured beside what is known. `atMost`: expected is a bound. Units: `tolerance` as that of `measured`. */
export interface OracleRow {
  readonly name: string;
  readonly measured: number;
  readonly expected: number;
  readonly tolerance: number;
  readonly atMost?: boolean;
}

/** True if a row is what it should be. */
export function isReached({ atMost = false, expected, measured, tolerance }: OracleRow): boolean {
  return atMost ? measured <= expected + tolerance : Math.abs(measured - expected) <= tolerance;
}

/** A linear model without biases under squared error. */
export const LINEAR: Pick<DenseShape, 'classes' | 'loss' | 'bias' | 'activation'> = {
  classes: 1,
  loss: 'squared',
  bias: false,
  activation: 'linear',
};

/** A regression that a run solves. */
export interface Problem {
  readonly data: readonly RegressionData[];
  readonly model: DenseShape;
  readonly algorithm: NonNullable<RunConfig['algorithm']>;
  readonly steps: number;
  /** Minibatches of everybody; without them one step over all own records. */
  readonly batches?: number;
  readonly stepSize: number;
  readonly serverStep?: number;
  /** Of the first server step. */
  readonly lastStepShare?: number;
  readonly epochs?: number;
  /** Records of a minibatch; all of the fullest participant if absent. */
  readonly batchSize?: number;
  /** Participants of a step, drawn anew; everybody if absent. */
  readonly perStep?: number;
  /** Longest update that is not cut short; small ones are encoded more finely. */
  readonly clippingNorm: number;
  readonly clusters?: RunConfig['clusters'];
  readonly initialSeed?: number;
  readonly personal?: { readonly epochs: number; readonly stepSize: number };
}

/** Records with targets as a data set. */
export function datasetOf({ count, featureLength, features, targets }: RegressionData): Dataset {
  return { ...createDataset(featureLength, 1, Float32Array.from(features), new Uint8Array(count)), targets };
}

/** Norms in integer units that a sum of this many still holds in a ring of 32 bits. */
const normOf = (participants: number): number => 2 ** Math.floor(30 - Math.log2(participants));

function configOf(problem: Problem, seed: number): RunConfig {
  const { algorithm, batches, clippingNorm, data, epochs = 1, model, personal, stepSize, steps } = problem;
  const participants = data.length;
  const { perStep = participants } = problem;
  const most = Math.max(...data.map(({ count }) => count));
  const { batchSize = most } = problem;
  return parseRunConfig({
    federation: 'covey-oracle',
    data: { scenario: 'oracle', seed },
    model,
    training: {
      steps,
      samplingProbability: 1,
      clippingNorm,
      momentum: 0,
      // Updates are divided by the number of participants; those of a step count.
      stepSize: ((problem.serverStep ?? 1) * participants) / perStep,
      lastStepShare: problem.lastStepShare ?? 1,
      nominalRecords: participants,
      maxRecordsPerStep: most,
      initialSeed: problem.initialSeed ?? seed,
      local: { epochs, ...(batches === undefined ? {} : { batches }), batchSize, stepSize },
    },
    clusters: problem.clusters ?? null,
    algorithm,
    personal: { method: 'none', epochs: personal?.epochs ?? 1, batchSize, stepSize: personal?.stepSize ?? stepSize },
    privacy: { unit: 'participant', relation: 'zero-out', delta: 1e-5, targetEpsilon: 1e17 },
    cohort: {
      participants,
      groups: 1,
      profile: 'strict',
      minSurvivors: perStep,
      minOrgs: perStep,
      colluders: 0,
      maxLoss: 0,
      minCluster: 0,
    },
    encoding: { scale: Math.min(2 ** 25, normOf(perStep)) / clippingNorm, lanes: 2 },
    deadlineMs: 30_000,
  });
}

const PRESENCE_STREAM = 0x7072_6573;

/** Everybody, or a fresh draw of each step. */
function presenceOf({ data, perStep }: Problem, seed: number): (participant: number, step: number) => boolean {
  if (perStep === undefined) return () => true;
  const order = Uint32Array.from(data, (_, i) => i);
  let [at, present] = [-1, new Set<number>()];
  return (participant, step) => {
    if (step !== at) {
      createRandom(seed, PRESENCE_STREAM + step).shuffle(order);
      [at, present] = [step, new Set(order.subarray(0, perStep))];
    }
    return present.has(participant);
  };
}

const SIMULATED_RUN = '6f7261636c65206f6620612072756e20';

/** Runs a problem. Random: everything from `seed`. */
export function solve(
  crypto: CryptoProvider,
  problem: Problem,
  seed: number,
): InProcessResult & { readonly config: RunConfig } {
  const config = configOf(problem, seed);
  const oracle = createDenseOracle(problem.model);
  const result = runInProcess({
    config,
    runId: SIMULATED_RUN,
    crypto,
    random: simulationStream(crypto, seed, 5),
    organizations: problem.data.map((data) => ({ data: datasetOf(data), oracle })),
    isPresent: presenceOf(problem, seed),
  });
  return { ...result, config };
}
