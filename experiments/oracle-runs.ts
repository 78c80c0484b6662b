import type { CryptoProvider } from '../protocol/crypto-provider.ts';
import { solveLeastSquares } from '../src/data/oracles/least-squares.ts';
import { generateLinearMixture, LINEAR_MIXTURE, linearMixtureDistance } from '../src/data/oracles/linear-mixture.ts';
import {
  generatePointEstimation,
  POINT_ESTIMATION,
  type PointEstimation,
  solvePointEstimation,
} from '../src/data/oracles/point-estimation.ts';
import type { RegressionData } from '../src/data/oracles/problem.ts';
import { localStepsFixedPoint, quadraticParticipants, quadraticsOptimum } from '../src/data/oracles/quadratics.ts';
import { generateSharedSubspace, subspaceDistanceSquared } from '../src/data/oracles/shared-subspace.ts';
import { createRandom } from '../src/data/random.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import type { RunConfig } from '../src/run/config.ts';
import { personalModel } from '../src/run/home.ts';
import { NEW_MEMBER } from '../src/run/member.ts';
import { datasetOf, LINEAR, type OracleRow, solve } from './oracle-problem.ts';
import { solveSine } from './sine-run.ts';

/*
 * Problems whose answer is known, solved by runs: the algorithms of the registry, the contributions, clips, noise and decoding of
 * a deployment, summed by the ideal aggregator. The noise is of no consequence and protects nothing.
 */

/** Two participants of each function, for a cohort needs four; steps enough for every method to stand still. */
function solveQuadratics(crypto: CryptoProvider, seed: number): OracleRow[] {
  const pair = quadraticParticipants().map(({ train }) => train);
  const common = {
    data: [...pair, ...pair],
    model: { inputs: 1, hidden: [], ...LINEAR },
    steps: 120,
    batches: 10,
    stepSize: 0.1,
    clippingNorm: 2,
  };
  const rows: readonly [string, NonNullable<RunConfig['algorithm']>, number][] = [
    ['fedavg', { id: 'fedavg' }, localStepsFixedPoint({ stepSize: 0.1, steps: 10, proximal: 0 })],
    [
      'fedprox, mu 1',
      { id: 'fedprox', options: { mu: 1 } },
      localStepsFixedPoint({ stepSize: 0.1, steps: 10, proximal: 1 }),
    ],
    ['scaffold, option II', { id: 'scaffold' }, quadraticsOptimum()],
    ['scaffold, option I', { id: 'scaffold', options: { option: 1 } }, quadraticsOptimum()],
  ];
  return rows.map(([name, algorithm, expected]) => {
    const { models } = solve(crypto, { ...common, algorithm }, seed).state;
    return { name, measured: models.heads[0]?.[0] ?? Number.NaN, expected, tolerance: 1e-6 };
  });
}

/** Draws of the point estimation that are solved by runs, and draws that say what the closed form does on average. */
const DRAWS = 12;
const CLOSED_DRAWS = 4_000;

const meanTarget = ({ targets }: RegressionData): number => targets.reduce((sum, y) => sum + y, 0) / targets.length;

/** Ditto's estimates of everybody by the closed form, from the means of the participants' targets. */
function closedForm(data: readonly RegressionData[], lambda: number): number[] {
  const means = data.map(meanTarget);
  const global = means.reduce((sum, value) => sum + value, 0) / means.length;
  return means.map((own) => (own + lambda * global) / (1 + lambda));
}

/** Mean squared error of the closed form over draws that no run has. */
function closedFormMse(seed: number, problem: PointEstimation, lambda: number): number {
  let [squares, count] = [0, 0];
  for (let draw = 0; draw < CLOSED_DRAWS; draw++) {
    const { participants, points } = generatePointEstimation(1_000_000 + CLOSED_DRAWS * seed + draw, problem);
    const estimates = closedForm(
      participants.map(({ train }) => train),
      lambda,
    );
    participants.forEach(({ group }, k) => {
      if (group === 1) return;
      squares += ((estimates[k] as number) - (points[k] as number)) ** 2;
      count += 1;
    });
  }
  return squares / count;
}

function solvePoints(crypto: CryptoProvider, seed: number, problem: PointEstimation): OracleRow[] {
  const { lambda, mse } = solvePointEstimation(problem);
  let [squares, closed, count, farthest] = [0, 0, 0, 0];
  for (let draw = 0; draw < DRAWS; draw++) {
    const { participants, points } = generatePointEstimation(1_000 * seed + draw, problem);
    const data = participants.map(({ train }) => train);
    const model = { inputs: 1, hidden: [], ...LINEAR };
    const algorithm = { id: 'ditto', options: { lambda, personalEpochs: 8 } };
    // One step of size 1 leads to the own mean; the released model is the mean of the means after the first.
    const common = { data, model, algorithm, steps: 3, batches: 1, stepSize: 1, clippingNorm: 8 };
    const { config, locals, members, state } = solve(
      crypto,
      { ...common, personal: { epochs: 8, stepSize: 0.3 } },
      seed,
    );
    const estimates = closedForm(data, lambda);
    participants.forEach(({ group, train }, k) => {
      if (group === 1) return;
      const inputs = { oracle: createDenseOracle(model), data: datasetOf(train), local: locals[k] ?? {} };
      const own = personalModel(config, state.models, members[k] ?? NEW_MEMBER, inputs, createRandom(seed, k)).head[0];
      const exact = estimates[k] as number;
      farthest = Math.max(farthest, Math.abs((own ?? Number.NaN) - exact));
      squares += ((own ?? Number.NaN) - (points[k] as number)) ** 2;
      closed += (exact - (points[k] as number)) ** 2;
      count += 1;
    });
  }
  return [
    { name: 'ditto: distance from the closed form', measured: farthest, expected: 0, tolerance: 1e-6 },
    {
      name: 'ditto: MSE, of the closed form on these draws',
      measured: squares / count,
      expected: closed / count,
      tolerance: 1e-6,
    },
    // Twelve draws alone tell the mean to a sixth: their luck is that of the closed form on them, and is taken off.
    {
      name: 'ditto: MSE, expected over all draws',
      measured: (squares - closed) / count + closedFormMse(seed, problem, lambda),
      expected: mse,
      tolerance: 0.05 * mse,
    },
  ];
}

/** Starting points that are tried, and members that a slot must have in the noisy counts of the last choice. */
const STARTS = 6;
const LEAST_MEMBERS = 20;

/** Slots that IFCA finds from one start, and what the counts of the last choice say of the smallest. */
function findMixture(
  crypto: CryptoProvider,
  data: readonly RegressionData[],
  seed: number,
  initialSeed: number,
): { readonly least: number; readonly heads: readonly Float32Array[] } {
  // A start may find the clusters late; a step then halves what is left of the distance, or more.
  const steps = 40;
  const { state } = solve(
    crypto,
    {
      data,
      model: { inputs: LINEAR_MIXTURE.features, hidden: [], sharedLayers: 0, ...LINEAR },
      algorithm: { id: 'ifca' },
      steps,
      batches: 1,
      stepSize: 0.7,
      clippingNorm: 4,
      initialSeed,
      clusters: {
        assignment: 'hard',
        foundingSlots: 0,
        seatPositions: 0,
        kept: 2,
        choiceSteps: Array.from({ length: steps }, (_, step) => step),
        choiceEpsilon: 1,
        lossBound: 100,
        countNoiseStddev: 4,
      },
    },
    seed,
  );
  return { least: Math.min(...(state.counts ?? [0])), heads: state.models.heads };
}

const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Math.sqrt(Array.from(a, (value, i) => (value - (b[i] as number)) ** 2).reduce((sum, square) => sum + square, 0));

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function solveMixture(crypto: CryptoProvider, seed: number): OracleRow[] {
  const { participants, parameters } = generateLinearMixture(seed);
  const data = participants.map(({ train }) => train);
  // Some starts leave a slot without members: the first one whose released counts say otherwise is taken.
  let heads: readonly Float32Array[] = [];
  for (let start = 1; start <= STARTS && heads.length === 0; start++) {
    const found = findMixture(crypto, data, seed, start);
    if (found.least > LEAST_MEMBERS) heads = found.heads;
  }
  const clusters = parameters.map((theta, j) => {
    const members = participants.filter(({ group }) => group === j).map(({ train }) => train);
    const { estimate, inverseTrace } = solveLeastSquares(members);
    const near = heads.toSorted((a, b) => distance(a, theta) - distance(b, theta))[0] ?? theta.map(() => Number.NaN);
    const [measured, best] = [distance(near, theta), distance(estimate, theta)];
    // The noise of the targets alone moves a distance by a twentieth: its share is known and replaced by its mean.
    const square = measured ** 2 - best ** 2 + LINEAR_MIXTURE.noiseStddev ** 2 * inverseTrace;
    return { off: distance(near, estimate), measured, best, square };
  });
  const expected = linearMixtureDistance(LINEAR_MIXTURE);
  return [
    {
      name: 'ifca: distance from least squares that knows the clusters',
      measured: Math.max(...clusters.map(({ off }) => off)),
      expected: 0,
      tolerance: 1e-4,
    },
    {
      name: 'ifca: mean distance, of least squares on this draw',
      measured: mean(clusters.map(({ measured }) => measured)),
      expected: mean(clusters.map(({ best }) => best)),
      tolerance: 1e-4,
    },
    {
      name: 'ifca: distance, expected over all draws of the noise',
      measured: Math.sqrt(mean(clusters.map(({ square }) => square))),
      expected,
      tolerance: 0.01 * expected,
    },
  ];
}

/** Squared distance that an implementation of its own had after 50 rounds. */
const SUBSPACE_BOUND = 4.8e-6;

function solveSubspace(crypto: CryptoProvider, seed: number): OracleRow[] {
  const { body, participants } = generateSharedSubspace(seed);
  const { state } = solve(
    crypto,
    {
      data: participants.map(({ train }) => train),
      model: { inputs: 20, hidden: [2], ...LINEAR },
      algorithm: { id: 'fedrep', options: { headEpochs: 40 } },
      steps: 50,
      // Heads need small steps; the mean over the participants bears a longer one.
      stepSize: 0.15,
      serverStep: 14,
      clippingNorm: 2,
    },
    seed,
  );
  const measured = subspaceDistanceSquared(Float64Array.from(state.models.body), body);
  return [
    { name: 'fedrep: squared subspace distance', measured, expected: SUBSPACE_BOUND, tolerance: 0, atMost: true },
  ];
}

/** Problems that are solved by runs, by id. */
export const ORACLE_RUNS: Readonly<
  Record<string, (crypto: CryptoProvider, seed: number, rounds?: number) => OracleRow[]>
> = {
  'oracle/quadratics': solveQuadratics,
  'oracle/point-estimation': (crypto, seed) => solvePoints(crypto, seed, POINT_ESTIMATION),
  'oracle/point-estimation-malicious': (crypto, seed) =>
    solvePoints(crypto, seed, { ...POINT_ESTIMATION, participants: 16, malicious: 8 }),
  'oracle/linear-mixture': solveMixture,
  'oracle/shared-subspace': solveSubspace,
  'oracle/sine-tasks': solveSine,
};
