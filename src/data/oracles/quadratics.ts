import { CoveyError } from '../../../protocol/errors.ts';
import type { OracleParticipant } from './problem.ts';

/** F_k(x) = (a x - b)^2 / 2 of one participant. */
export interface Quadratic {
  readonly a: number;
  readonly b: number;
}

/** f1 = (x - 1)^2 / 2 and f2 = 2 (x + 1)^2: different curvatures, so local steps drift. */
export const QUADRATICS: readonly Quadratic[] = [
  { a: 1, b: 1 },
  { a: 2, b: -2 },
];

/** One record a participant: feature a, target b. */
export function quadraticParticipants(quadratics: readonly Quadratic[] = QUADRATICS): OracleParticipant[] {
  return quadratics.map(({ a, b }) => ({
    train: { count: 1, featureLength: 1, features: Float64Array.of(a), targets: Float64Array.of(b) },
  }));
}

/** Minimum of the mean of the functions, where SCAFFOLD ends. */
export function quadraticsOptimum(quadratics: readonly Quadratic[] = QUADRATICS): number {
  return quadratics.reduce((sum, { a, b }) => sum + a * b, 0) / quadratics.reduce((sum, { a }) => sum + a * a, 0);
}

/** Local training of the fixed point. Units: `proximal` is mu of FedProx, 0 for FedAvg. */
export interface LocalSteps {
  readonly stepSize: number;
  readonly steps: number;
  readonly proximal: number;
}

/**
 * Where FedAvg and FedProx stand still: after E steps from w, participant k is at y_k + r_k (w - y_k) with
 * r_k = (1 - eta (a^2 + mu))^E and y_k = (a b + mu w) / (a^2 + mu); the mean of these equals w at the result.
 * @throws CoveyError USAGE_RANGE for steps with which a participant diverges.
 */
export function localStepsFixedPoint(
  { stepSize, steps, proximal }: LocalSteps,
  quadratics: readonly Quadratic[] = QUADRATICS,
): number {
  let numerator = 0;
  let denominator = 0;
  for (const { a, b } of quadratics) {
    const curvature = a * a + proximal;
    if (!(stepSize > 0 && stepSize * curvature < 2 && Number.isInteger(steps) && steps >= 1))
      throw new CoveyError('USAGE_RANGE', `"stepSize" expected a number in (0, ${2 / curvature}), got ${stepSize}`);
    let left = 1;
    for (let i = 0; i < steps; i++) left *= 1 - stepSize * curvature;
    numerator += ((1 - left) * a * b) / curvature;
    denominator += ((1 - left) * a * a) / curvature;
  }
  return numerator / denominator;
}
