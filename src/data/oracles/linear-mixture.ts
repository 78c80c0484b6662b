import { CoveyError } from '../../../protocol/errors.ts';
import { drawNormal } from '../draws.ts';
import { createRandom } from '../random.ts';
import type { OracleParticipant } from './problem.ts';

/** Separates the streams of this problem from every other use of the same seed. */
const STREAM = 0x6c6d_0000;

/** Clustered linear regression. */
export interface LinearMixture {
  /** p, true clusters; participant i belongs to cluster i mod p. */
  readonly clusters: number;
  /** m. */
  readonly participants: number;
  /** n, at every participant. */
  readonly records: number;
  /** d. */
  readonly features: number;
  /** Norm of every cluster's parameters. */
  readonly radius: number;
  /** sigma of the targets. */
  readonly noiseStddev: number;
}

/** The setting of the IFCA simulation with two clusters. */
export const LINEAR_MIXTURE: LinearMixture = {
  clusters: 2,
  participants: 100,
  records: 100,
  features: 200,
  radius: 1,
  noiseStddev: 0.1,
};

/**
 * Draws parameters with entries 0 or 1 by a fair coin, scaled to the radius, and records y = <theta_j, x> + noise,
 * x ~ N(0, I). Shapes: `parameters` clusters of `features` values. @see Ghosh et al. 2020 (IFCA), section 6.1
 */
export function generateLinearMixture(
  seed: number,
  problem: LinearMixture = LINEAR_MIXTURE,
): { readonly participants: readonly OracleParticipant[]; readonly parameters: readonly Float64Array[] } {
  const { clusters, records, features: d, radius, noiseStddev } = problem;
  const parameters = Array.from({ length: clusters }, (_, j) => {
    const random = createRandom(seed, STREAM + j);
    const coins = Float64Array.from({ length: d }, () => random.integer(2));
    const norm = Math.sqrt(coins.reduce((sum, coin) => sum + coin, 0));
    if (norm === 0) throw new CoveyError('USAGE_RANGE', `"features" expected more than ${d}: no coin fell on 1`);
    return coins.map((coin) => (radius * coin) / norm);
  });
  const participants = Array.from({ length: problem.participants }, (_, i): OracleParticipant => {
    const random = createRandom(seed, STREAM + clusters + i);
    const group = i % clusters;
    const theta = parameters[group] as Float64Array;
    const features = Float64Array.from({ length: records * d }, () => drawNormal(random));
    const targets = Float64Array.from({ length: records }, (_, record) => {
      let sum = noiseStddev * drawNormal(random);
      for (let k = 0; k < d; k++) sum += (features[record * d + k] as number) * (theta[k] as number);
      return sum;
    });
    return { group, train: { count: records, featureLength: d, features, targets } };
  });
  return { participants, parameters };
}

/**
 * Distance ||estimate - theta|| of least squares that knows the clusters: sigma sqrt(d / (N - d - 1)), N records a cluster
 * (the root of the exact mean square for Gaussian inputs).
 * @throws CoveyError USAGE_RANGE unless N > d + 1.
 */
export function linearMixtureDistance(problem: LinearMixture = LINEAR_MIXTURE): number {
  const { clusters, participants, records, features: d, noiseStddev } = problem;
  const inCluster = (participants / clusters) * records;
  if (!(inCluster > d + 1)) throw new CoveyError('USAGE_RANGE', `"records" expected over ${d + 1}, got ${inCluster}`);
  return noiseStddev * Math.sqrt(d / (inCluster - d - 1));
}
