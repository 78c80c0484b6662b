import type { CryptoProvider } from '../protocol/crypto-provider.ts';
import { generateSineTasks, sineTasksStartMse } from '../src/data/oracles/sine-tasks.ts';
import { createRandom } from '../src/data/random.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import type { Model } from '../src/learning/oracle.ts';
import { fineTune } from '../src/personalize/fine-tuning.ts';
import { initialState } from '../src/run/release.ts';
import { datasetOf, type OracleRow, solve } from './oracle-problem.ts';

/*
 * Reptile's sine waves as a federation: every participant has one wave, a few of them take part in a round, and newcomers with
 * waves of their own and ten records adapt what was released. @see Nichol, Achiam, Schulman 2018, section 4.1
 */

const MODEL: DenseShape = { inputs: 1, hidden: [64, 64], classes: 1, loss: 'squared', activation: 'tanh' };
/** Members with 50 records of their wave, minibatches of ten. Newcomers have ten records. */
const MEMBERS = 256;
const MEMBER_RECORDS = 50;
const PER_ROUND = 10;
const EPOCHS = 4;
const NEWCOMERS = 500;
const RECORDS = 10;
/** Twice the published .02: the loss here is half of the square. */
const STEP_SIZE = 0.04;
/** Full steps of newcomers. */
const ADAPTATION = [0, 1, 8, 32] as const;
/** Rounds of a quick look, and from how many on the published curve is asked for. */
const QUICK_ROUNDS = 150;
const LONG_ROUNDS = 2_000;
/** Mean squared errors that an implementation of its own had after 1, 8 and 32 steps. */
const REFERENCE: Readonly<Record<number, number>> = { 1: 0.67, 8: 0.125, 32: 0.137 };
const NEWCOMER_SEED = 0x6e65_7763;

/** Mean squared error of newcomers on a grid, after so many steps on ten records. */
function newcomerMse(seed: number, model: Model, steps: number): number {
  const oracle = createDenseOracle(MODEL);
  const tasks = generateSineTasks((seed ^ NEWCOMER_SEED) >>> 0, { participants: NEWCOMERS, records: RECORDS });
  const errors = tasks.map(({ test, train }, i) => {
    const options = { epochs: Math.max(1, steps), batchSize: RECORDS, stepSize: STEP_SIZE };
    const own = steps === 0 ? model : fineTune(oracle, model, datasetOf(train), createRandom(seed, i), options);
    const losses = oracle.losses(own.body, own.head, datasetOf(test));
    return (2 * losses.reduce((sum, loss) => sum + loss, 0)) / test.count;
  });
  return errors.reduce((sum, error) => sum + error, 0) / errors.length;
}

/** Reptile over waves of the members, judged by newcomers; by default so short that adaptation just begins to pay. */
export function solveSine(crypto: CryptoProvider, seed: number, rounds: number = QUICK_ROUNDS): OracleRow[] {
  const members = generateSineTasks(seed, { participants: MEMBERS, records: MEMBER_RECORDS });
  const problem = {
    data: members.map(({ train }) => train),
    model: MODEL,
    algorithm: { id: 'reptile' },
    steps: rounds,
    epochs: EPOCHS,
    batchSize: RECORDS,
    perStep: PER_ROUND,
    stepSize: STEP_SIZE,
    lastStepShare: 1 / rounds,
    clippingNorm: 8,
  };
  const { config, state } = solve(crypto, problem, seed);
  const released = {
    body: Float64Array.from(state.models.body),
    head: Float64Array.from(state.models.heads[0] as Float32Array),
  };
  const { models: before } = initialState(config);
  const untrained = { body: Float64Array.from(before.body), head: Float64Array.from(before.heads[0] as Float32Array) };
  const [start = Number.NaN, ...adapted] = ADAPTATION.map((steps) => newcomerMse(seed, released, steps));
  const isLong = rounds >= LONG_ROUNDS;
  return [
    // Waves cancel over tasks: without adaptation nothing is better than the zero function.
    { name: 'reptile: MSE before adaptation', measured: start, expected: sineTasksStartMse(), tolerance: 0.6 },
    ...adapted.map((measured, i): OracleRow => {
      const steps = ADAPTATION[i + 1] as number;
      const alone = newcomerMse(seed, untrained, steps);
      const expected = isLong ? (REFERENCE[steps] as number) : 0.6 * Math.min(start, alone);
      const what = isLong ? '' : ', of 60 % of that without the run or the steps';
      return {
        name: `reptile: MSE after ${steps} ${steps === 1 ? 'step' : 'steps'}${what}`,
        measured,
        expected,
        tolerance: isLong ? 0.5 * expected : steps === 1 ? 0.25 * expected : 0,
        atMost: true,
      };
    }),
  ];
}
