import { nodeCrypto } from '../../platform/node/crypto.ts';
import { generateLinearMixture, LINEAR_MIXTURE, linearMixtureDistance } from '../../src/data/oracles/linear-mixture.ts';
import {
  generatePointEstimation,
  POINT_ESTIMATION,
  type PointEstimation,
  solvePointEstimation,
} from '../../src/data/oracles/point-estimation.ts';
import { type OracleParticipant, oracleHash } from '../../src/data/oracles/problem.ts';
import { localStepsFixedPoint, quadraticParticipants, quadraticsOptimum } from '../../src/data/oracles/quadratics.ts';
import {
  generateSharedSubspace,
  SHARED_SUBSPACE,
  sharedSubspaceLocalLoss,
} from '../../src/data/oracles/shared-subspace.ts';
import { generateSineTasks, sineTasksStartMse } from '../../src/data/oracles/sine-tasks.ts';

/** Data of an oracle problem and the exact values that a right algorithm reaches on average. */
export interface OracleData {
  readonly participants: readonly OracleParticipant[];
  readonly exact: Readonly<Record<string, number>>;
  readonly manifest: {
    readonly scenario: string;
    readonly seed: number;
    readonly records: readonly number[];
    /** SHA-256 over the little-endian doubles of all participants, hex. */
    readonly sha256: string;
  };
}

/** A problem without data files whose answer is known in closed form. */
export interface Oracle {
  readonly kind: 'oracle';
  readonly id: string;
  readonly title: string;
  readonly about: string;
  generate(seed: number): OracleData;
}

function defineOracle(
  id: string,
  title: string,
  about: string,
  exact: Readonly<Record<string, number>>,
  participantsOf: (seed: number) => readonly OracleParticipant[],
): Oracle {
  return {
    kind: 'oracle',
    id,
    title,
    about,
    generate(seed) {
      const participants = participantsOf(seed);
      const records = participants.map(({ train }) => train.count);
      const sha256 = oracleHash(nodeCrypto, participants);
      return { participants, exact, manifest: { scenario: id, seed, records, sha256 } };
    },
  };
}

/** Half of 16 participants draw their points five times as wide. */
const MALICIOUS: PointEstimation = { ...POINT_ESTIMATION, participants: 16, malicious: 8 };

/** Every oracle problem, in the order in which they are listed. */
export const ORACLES: readonly Oracle[] = [
  defineOracle(
    'oracle/point-estimation',
    "Ditto's point estimation",
    '8 participants estimate points that are alike; the best weight of the global mean and its error are known.',
    { ...solvePointEstimation() },
    (seed) => generatePointEstimation(seed).participants,
  ),
  defineOracle(
    'oracle/point-estimation-malicious',
    "Ditto's point estimation, half malicious",
    '16 participants, 8 of them far from the rest: less weight on the global mean is best.',
    { ...solvePointEstimation(MALICIOUS) },
    (seed) => generatePointEstimation(seed, MALICIOUS).participants,
  ),
  defineOracle(
    'oracle/quadratics',
    'Two quadratics of different curvature',
    'Ten local steps of .1: FedAvg and FedProx (mu 1) stand still beside the optimum, SCAFFOLD reaches it.',
    {
      optimum: quadraticsOptimum(),
      fedAvg: localStepsFixedPoint({ stepSize: 0.1, steps: 10, proximal: 0 }),
      fedProx: localStepsFixedPoint({ stepSize: 0.1, steps: 10, proximal: 1 }),
    },
    () => quadraticParticipants(),
  ),
  defineOracle(
    'oracle/shared-subspace',
    "FedRep's linear regression",
    '100 participants with 10 records of 20 inputs share a plane: too few records alone, enough together.',
    { subspaceDistance: 0, localLoss: sharedSubspaceLocalLoss(SHARED_SUBSPACE) },
    (seed) => generateSharedSubspace(seed).participants,
  ),
  defineOracle(
    'oracle/linear-mixture',
    "IFCA's clustered linear regression",
    '100 participants in two clusters, 100 records of 200 inputs each; the error of least squares that knows the clusters.',
    { distance: linearMixtureDistance(LINEAR_MIXTURE) },
    (seed) => generateLinearMixture(seed).participants,
  ),
  defineOracle(
    'oracle/sine-tasks',
    "Reptile's sine waves",
    '100 sine waves of random amplitude and phase, 10 records each: only adaptation helps.',
    { startMse: sineTasksStartMse() },
    (seed) => generateSineTasks(seed),
  ),
];
