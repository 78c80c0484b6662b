import { CoveyError } from '../../../protocol/errors.ts';
import { drawNormal } from '../draws.ts';
import { createRandom } from '../random.ts';
import type { OracleParticipant } from './problem.ts';

/** Separates the streams of this problem from every other use of the same seed. */
const STREAM = 0x7065_0000;

/** Federated point estimation. Units: standard deviations. */
export interface PointEstimation {
  /** K, malicious ones included. */
  readonly participants: number;
  /** n, at every participant. */
  readonly records: number;
  /** sigma of a record around its participant's point. */
  readonly recordStddev: number;
  /** tau of an honest participant's point around theta. */
  readonly pointStddev: number;
  /** K_a participants whose points are drawn with `maliciousStddev` (tau_a). They are the last ones. */
  readonly malicious: number;
  readonly maliciousStddev: number;
}

/** The problem with 8 participants of the Ditto analysis. */
export const POINT_ESTIMATION: PointEstimation = {
  participants: 8,
  records: 30,
  recordStddev: 0.8,
  pointStddev: 0.1,
  malicious: 0,
  maliciousStddev: 0.5,
};

function check({ participants, records, malicious, recordStddev, pointStddev }: PointEstimation): void {
  if (!(participants >= 2 && records >= 1 && malicious >= 0 && malicious < participants))
    throw new CoveyError('USAGE_RANGE', `"participants" expected 2 or more, not all malicious, got ${participants}`);
  if (!(recordStddev > 0 && pointStddev > 0))
    throw new CoveyError('USAGE_RANGE', `"stddev" expected positive numbers, got ${recordStddev} and ${pointStddev}`);
}

/**
 * Draws theta ~ U(-1, 1), points w_k ~ N(theta, tau^2) and records x_ki ~ N(w_k, sigma^2): targets of the constant
 * feature 1. @throws CoveyError USAGE_RANGE for sizes that make no problem. @see Li et al. 2021 (Ditto), section 3.3
 */
export function generatePointEstimation(
  seed: number,
  problem: PointEstimation = POINT_ESTIMATION,
): { readonly participants: readonly OracleParticipant[]; readonly points: Float64Array; readonly theta: number } {
  check(problem);
  const { records, recordStddev, pointStddev, malicious, maliciousStddev } = problem;
  const theta = createRandom(seed, STREAM).uniform(-1, 1);
  const points = new Float64Array(problem.participants);
  const participants = Array.from(points, (_, k): OracleParticipant => {
    const random = createRandom(seed, STREAM + 1 + k);
    const group = k >= problem.participants - malicious ? 1 : 0;
    const point = theta + (group === 1 ? maliciousStddev : pointStddev) * drawNormal(random);
    points[k] = point;
    const targets = Float64Array.from({ length: records }, () => point + recordStddev * drawNormal(random));
    return { group, train: { count: records, featureLength: 1, features: new Float64Array(records).fill(1), targets } };
  });
  return { participants, points, theta };
}

/** Expected squared errors of an honest participant's estimate. */
export interface PointEstimationOptimum {
  /** lambda*, the best weight of the global mean. */
  readonly lambda: number;
  readonly mse: number;
  /** Own mean alone (lambda 0) and mean of all the means (lambda to infinity). */
  readonly localMse: number;
  readonly globalMse: number;
}

/**
 * Mean squared error of Ditto's v_k = (mean_k + lambda w) / (1 + lambda), w the mean of the participants' means:
 * [s (1 + (2 lambda + lambda^2) / K) + lambda^2 D] / (1 + lambda)^2 with s = sigma^2 / n and D = E|mean of points - w_k|^2.
 */
export function pointEstimationMse(problem: PointEstimation, lambda: number): number {
  const { s, d, k } = terms(problem);
  return (s * (1 + (2 * lambda + lambda * lambda) / k) + lambda * lambda * d) / ((1 + lambda) * (1 + lambda));
}

function terms(problem: PointEstimation): { s: number; d: number; k: number } {
  check(problem);
  const { participants: k, records, recordStddev, pointStddev, malicious, maliciousStddev } = problem;
  const own = pointStddev * pointStddev;
  const foreign = maliciousStddev * maliciousStddev;
  // Own point with weight (1 - 1/K), the other honest and the malicious points with 1/K each.
  const d = ((k - 1) * (k - 1) * own + (k - malicious - 1) * own + malicious * foreign) / (k * k);
  return { s: (recordStddev * recordStddev) / records, d, k };
}

/**
 * The minimum over lambda: lambda* = s (K - 1) / (K D), which is sigma^2 / (n tau^2) without malicious participants.
 * @see Li et al. 2021 (Ditto), theorems 10 and 11
 */
export function solvePointEstimation(problem: PointEstimation = POINT_ESTIMATION): PointEstimationOptimum {
  const { s, d, k } = terms(problem);
  const lambda = (s * (k - 1)) / (k * d);
  return { lambda, mse: pointEstimationMse(problem, lambda), localMse: s, globalMse: s / k + d };
}
