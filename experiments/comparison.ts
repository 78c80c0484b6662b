import type { CryptoProvider, RandomSource } from '../protocol/crypto-provider.ts';
import type { SplitData } from '../src/data/dataset.ts';
import { createRandom } from '../src/data/random.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { accuracy } from '../src/learning/evaluation.ts';
import { trainLocalOnly } from '../src/learning/local-training.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import type { GradientOracle } from '../src/learning/oracle.ts';
import type { RunConfig } from '../src/run/config.ts';
import { personalModel, releasedModel } from '../src/run/home.ts';
import { NEW_MEMBER } from '../src/run/member.ts';
import { runInProcess } from './in-process.ts';

/** Accuracy of every organization on its own test records, and what it cost. */
export interface ComparisonRow {
  readonly name: string;
  readonly accuracies: readonly number[];
  readonly epsilon: { readonly server: number; readonly release: number } | null;
  readonly uploadBytes: number | null;
}

/** Members of a simulated run: who is present at which training step. */
export type Presence = (organization: number, step: number) => boolean;

/** Step size of the global model, the best of those tried for it. */
const GLOBAL_STEP = 4;
/** Streams of the public generator that orders local minibatches. */
const LOCAL_STREAM = 0x6c6f_6361;
const TUNE_STREAM = 0x7475_6e65;

/** "Local only": each organization alone, without noise and without a federation. */
export function compareLocal(
  config: RunConfig,
  organizations: readonly SplitData[],
  createOracle: (model: DenseShape) => GradientOracle = createDenseOracle,
): ComparisonRow {
  const oracle = createOracle(config.model);
  const accuracies = organizations.map(({ train, test }, i) => {
    const model = trainLocalOnly(oracle, train, createRandom(config.data.seed, LOCAL_STREAM + i));
    return accuracy(oracle, model, test);
  });
  return { name: 'Local only', accuracies, epsilon: null, uploadBytes: null };
}

/** Seed of a simulated run's noise: repeatable, hence not private. */
export function simulationStream(crypto: CryptoProvider, seed: number, use: number): RandomSource {
  const key = new Uint8Array(32);
  new DataView(key.buffer).setUint32(0, seed, true);
  new DataView(key.buffer).setUint32(4, use, true);
  const stream = crypto.aes256Ctr(key);
  return (length) => {
    const bytes = new Uint8Array(length);
    stream.read(bytes);
    return bytes;
  };
}

const SIMULATED_RUN = '73696d756c6174656420617320737563';

/** Runs a configuration in this process through the ideal aggregator and evaluates released and personal models. */
export function compareFederation(
  crypto: CryptoProvider,
  config: RunConfig,
  organizations: readonly SplitData[],
  isPresent: Presence,
  names: readonly [string, string],
  createOracle: (model: DenseShape) => GradientOracle = createDenseOracle,
): ComparisonRow[] {
  const oracle = createOracle(config.model);
  const { state, members, locals, epsilon, uploadBytes } = runInProcess({
    config,
    runId: SIMULATED_RUN,
    crypto,
    random: simulationStream(crypto, config.data.seed, config.clusters === null ? 1 : 2),
    organizations: organizations.map(({ train, test }) => ({ data: train, test, oracle })),
    isPresent,
  });
  const accuraciesOf = (modelOf: typeof releasedModel | typeof personalModel): number[] =>
    organizations.map(({ train, test }, i) => {
      const inputs = { oracle, data: train, local: locals[i] ?? {} };
      const random = createRandom(config.data.seed, TUNE_STREAM + i);
      return accuracy(oracle, modelOf(config, state.models, members[i] ?? NEW_MEMBER, inputs, random), test);
    });
  const before = accuraciesOf(releasedModel);
  const after = accuraciesOf(personalModel);
  return [
    { name: names[0], accuracies: before, epsilon, uploadBytes },
    { name: names[1], accuracies: after, epsilon, uploadBytes },
  ];
}

/** The same run with one global model: no slots, no choices, its own step size. */
export function globalConfig(config: RunConfig): RunConfig {
  return { ...config, clusters: null, training: { ...config.training, stepSize: GLOBAL_STEP } };
}
