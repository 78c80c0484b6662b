import { CoveyError } from '../../protocol/errors.ts';

/** One server step. Units: `denominator` in records (a public constant, never a private number), `step` as a learning rate. */
export interface ServerStep {
  readonly denominator: number;
  readonly momentum: number;
  readonly step: number;
}

/**
 * Moves a segment of the released model along a noisy sum of gradients (SGD with momentum, FedAvgM of Hsu 2019):
 * v <- momentum v + sum / denominator, w <- w - step v. Post-processing of a release, free of privacy cost.
 * Only + - * / on doubles, rounded to single precision once: every engine replays the same bits.
 * Leaves its arguments as they are.
 * @throws CoveyError USAGE_RANGE if the lengths differ or the denominator is not positive.
 */
export function stepMomentum(
  parameters: Float32Array,
  velocity: Float64Array,
  sum: Float64Array,
  { denominator, momentum, step }: ServerStep,
): { parameters: Float32Array; velocity: Float64Array } {
  if (velocity.length !== parameters.length || sum.length !== parameters.length) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"sum" expected ${parameters.length} values, got ${sum.length} with ${velocity.length} of velocity`,
    );
  }
  if (!(denominator > 0))
    throw new CoveyError('USAGE_RANGE', `"denominator" expected a positive number, got ${denominator}`);
  const moved = new Float32Array(parameters.length);
  const faster = new Float64Array(parameters.length);
  for (let i = 0; i < parameters.length; i++) {
    const v = momentum * (velocity[i] as number) + (sum[i] as number) / denominator;
    faster[i] = v;
    moved[i] = (parameters[i] as number) - step * v;
  }
  return { parameters: moved, velocity: faster };
}

/** Step size that falls linearly from `first` to a tenth of it over the run. */
export function linearStep(first: number, round: number, rounds: number): number {
  return first * (1 - (0.9 * round) / rounds);
}

/**
 * Public denominators of a step: the expected number of sampled records, shared among the slots for a head.
 * The drawn batch size and the private number of records never enter (record rule, privacy section 1).
 */
export function publicDenominators(
  samplingProbability: number,
  nominalRecords: number,
  slots: number,
): { body: number; head: number } {
  const body = samplingProbability * nominalRecords;
  return { body, head: body / slots };
}
