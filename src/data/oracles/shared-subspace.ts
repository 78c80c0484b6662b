import { CoveyError } from '../../../protocol/errors.ts';
import { drawNormal } from '../draws.ts';
import { createRandom, type DataRandom } from '../random.ts';
import type { OracleParticipant } from './problem.ts';

/** Separates the streams of this problem from every other use of the same seed. */
const STREAM = 0x7373_0000;

/** Linear regression through a shared subspace. */
export interface SharedSubspace {
  readonly participants: number;
  /** m, at every participant. */
  readonly records: number;
  /** d, inputs. */
  readonly features: number;
  /** k, dimensions of the subspace. */
  readonly latent: number;
}

/** The setting of the FedRep simulation. */
export const SHARED_SUBSPACE: SharedSubspace = { participants: 100, records: 10, features: 20, latent: 2 };

/** Makes the columns of a matrix orthonormal (modified Gram-Schmidt). Shapes: rows x columns, row after row. */
export function orthonormalColumns(matrix: Float64Array, columns: number): Float64Array {
  const result = Float64Array.from(matrix);
  const rows = matrix.length / columns;
  const dot = (p: number, q: number): number => {
    let sum = 0;
    for (let i = 0; i < rows; i++) sum += (result[i * columns + p] as number) * (result[i * columns + q] as number);
    return sum;
  };
  for (let q = 0; q < columns; q++) {
    for (let p = 0; p < q; p++) {
      const along = dot(p, q);
      for (let i = 0; i < rows; i++)
        result[i * columns + q] = (result[i * columns + q] as number) - along * (result[i * columns + p] as number);
    }
    const norm = Math.sqrt(dot(q, q));
    if (!(norm > 1e-12)) throw new CoveyError('USAGE_RANGE', `"matrix" expected independent columns, got rank ${q}`);
    for (let i = 0; i < rows; i++) result[i * columns + q] = (result[i * columns + q] as number) / norm;
  }
  return result;
}

/**
 * Draws a subspace B (orthonormal columns), heads w_i ~ N(0, I / k) and records y = <B w_i, x>, x ~ N(0, I), without
 * noise: with the subspace known, k records determine a head.
 * Shapes: `body` features x latent, row after row; `heads` participants x latent.
 * @see Collins et al. 2021 (FedRep), section 6.1
 */
export function generateSharedSubspace(
  seed: number,
  problem: SharedSubspace = SHARED_SUBSPACE,
): { readonly participants: readonly OracleParticipant[]; readonly body: Float64Array; readonly heads: Float64Array } {
  const { records, features: d, latent } = problem;
  const normals = (random: DataRandom, length: number): Float64Array =>
    Float64Array.from({ length }, () => drawNormal(random));
  const body = orthonormalColumns(normals(createRandom(seed, STREAM), d * latent), latent);
  const heads = new Float64Array(problem.participants * latent);
  const participants = Array.from({ length: problem.participants }, (_, i): OracleParticipant => {
    const random = createRandom(seed, STREAM + 1 + i);
    const head = normals(random, latent).map((value) => value / Math.sqrt(latent));
    heads.set(head, i * latent);
    const features = normals(random, records * d);
    const weights = Float64Array.from({ length: d }, (_, row) => {
      let sum = 0;
      for (let c = 0; c < latent; c++) sum += (body[row * latent + c] as number) * (head[c] as number);
      return sum;
    });
    const targets = Float64Array.from({ length: records }, (_, record) => {
      let sum = 0;
      for (let j = 0; j < d; j++) sum += (features[record * d + j] as number) * (weights[j] as number);
      return sum;
    });
    return { train: { count: records, featureLength: d, features, targets } };
  });
  return { participants, body, heads };
}

/**
 * Expected loss of the shortest exact fit to own records alone, on new records: half of what m of d directions leave.
 * The zero model has half the mean square of the targets, .5.
 */
export function sharedSubspaceLocalLoss({ records, features }: SharedSubspace = SHARED_SUBSPACE): number {
  return Math.max(0, 1 - records / features) / 2;
}

/**
 * Squared principal-angle distance of two subspaces: the largest eigenvalue of I - M^T M, M = A^T B, for orthonormal A
 * and B. 0 for the same subspace, 1 if some direction of B is orthogonal to A.
 * Shapes: two matrices d x 2, row after row; the first need not be orthonormal.
 */
export function subspaceDistanceSquared(estimate: Float64Array, body: Float64Array): number {
  if (estimate.length !== body.length || body.length % 2 !== 0)
    throw new CoveyError('USAGE_RANGE', `"estimate" expected ${body.length} entries, got ${estimate.length}`);
  const a = orthonormalColumns(estimate, 2);
  // B minus its part in A, then the 2 x 2 Gram matrix of what is left: no cancellation near 0.
  const m = [0, 0, 0, 0];
  for (let i = 0; i < a.length; i += 2)
    for (let p = 0; p < 2; p++)
      for (let q = 0; q < 2; q++)
        m[2 * p + q] = (m[2 * p + q] as number) + (a[i + p] as number) * (body[i + q] as number);
  const [m00 = 0, m01 = 0, m10 = 0, m11 = 0] = m;
  let [g00, g01, g11] = [0, 0, 0];
  for (let i = 0; i < a.length; i += 2) {
    const left0 = (body[i] as number) - (a[i] as number) * m00 - (a[i + 1] as number) * m10;
    const left1 = (body[i + 1] as number) - (a[i] as number) * m01 - (a[i + 1] as number) * m11;
    g00 += left0 * left0;
    g01 += left0 * left1;
    g11 += left1 * left1;
  }
  const half = (g00 - g11) / 2;
  return (g00 + g11) / 2 + Math.sqrt(half * half + g01 * g01);
}
