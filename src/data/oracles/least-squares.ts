import { CoveyError } from '../../../protocol/errors.ts';
import type { RegressionData } from './problem.ts';

/** Least squares over records, and how far off it is on average over the noise of the targets. */
export interface LeastSquares {
  readonly estimate: Float64Array;
  /** Trace of (X^T X)^-1: times the variance of the targets' noise, the mean squared distance given the features. */
  readonly inverseTrace: number;
}

/** L of X^T X = L L^T, rows first. @throws CoveyError USAGE_RANGE if the features do not span their space. */
function factor(gram: Float64Array, d: number): Float64Array {
  const lower = gram.slice();
  for (let i = 0; i < d; i++)
    for (let j = 0; j <= i; j++) {
      let sum = lower[i * d + j] as number;
      for (let k = 0; k < j; k++) sum -= (lower[i * d + k] as number) * (lower[j * d + k] as number);
      if (i === j && !(sum > 0)) throw new CoveyError('USAGE_RANGE', `"records" expected ${d} independent features`);
      lower[i * d + j] = i === j ? Math.sqrt(sum) : sum / (lower[j * d + j] as number);
    }
  return lower;
}

/** x of L x = b, in place. */
function forwardSolve(lower: Float64Array, d: number, b: Float64Array): void {
  for (let i = 0; i < d; i++) {
    let sum = b[i] as number;
    for (let k = 0; k < i; k++) sum -= (lower[i * d + k] as number) * (b[k] as number);
    b[i] = sum / (lower[i * d + i] as number);
  }
}

/** x of L^T x = b, in place. */
function backwardSolve(lower: Float64Array, d: number, b: Float64Array): void {
  for (let i = d - 1; i >= 0; i--) {
    let sum = b[i] as number;
    for (let k = i + 1; k < d; k++) sum -= (lower[k * d + i] as number) * (b[k] as number);
    b[i] = sum / (lower[i * d + i] as number);
  }
}

/** Solves least squares over all records of these participants, by the normal equations and Cholesky. */
export function solveLeastSquares(data: readonly RegressionData[]): LeastSquares {
  const d = data[0]?.featureLength ?? 0;
  const gram = new Float64Array(d * d);
  const estimate = new Float64Array(d);
  for (const { count, features, targets } of data)
    for (let r = 0; r < count; r++)
      for (let i = 0; i < d; i++) {
        const x = features[r * d + i] as number;
        estimate[i] = (estimate[i] as number) + x * (targets[r] as number);
        for (let j = 0; j <= i; j++)
          gram[i * d + j] = (gram[i * d + j] as number) + x * (features[r * d + j] as number);
      }
  const lower = factor(gram, d);
  forwardSolve(lower, d, estimate);
  backwardSolve(lower, d, estimate);
  // The trace of (L L^T)^-1 is the sum of the squares of L^-1.
  let inverseTrace = 0;
  for (let j = 0; j < d; j++) {
    const column = new Float64Array(d);
    column[j] = 1;
    forwardSolve(lower, d, column);
    inverseTrace += column.reduce((sum, value) => sum + value * value, 0);
  }
  return { estimate, inverseTrace };
}
