import { CoveyError } from '../../protocol/errors.ts';

/** Moments of the server's optimizer for one segment: the first, and the second where the method is adaptive. */
export type Moments = readonly Float64Array[];

/** One server step. Units: `step` as a learning rate. */
export interface ServerStep {
  readonly method: 'momentum' | 'adam' | 'yogi' | 'adagrad';
  readonly momentum: number;
  readonly step: number;
}

/** Decay of the second moment and the size below which it is not trusted. @see Reddi et al. 2021, section 5 */
const SECOND_DECAY = 0.99;
const ADAPTIVITY = 1e-3;

/** Moments before the first step. Shapes: as the segment. */
export function initialMoments(method: ServerStep['method'], length: number): Moments {
  const first = new Float64Array(length);
  return method === 'momentum' ? [first] : [first, new Float64Array(length).fill(ADAPTIVITY ** 2)];
}

/** Second moment after a mean direction d. */
function nextSecond(method: ServerStep['method'], second: number, squared: number): number {
  if (method === 'adagrad') return second + squared;
  if (method === 'adam') return SECOND_DECAY * second + (1 - SECOND_DECAY) * squared;
  const sign = second > squared ? 1 : second < squared ? -1 : 0;
  return second - (1 - SECOND_DECAY) * squared * sign;
}

/**
 * Moves a segment of the released model along a noisy mean of descent directions d.
 * `momentum` (FedAvgM of Hsu 2019): v <- beta v + d, w <- w - step v. The adaptive methods of Reddi 2021 (Algorithm 2):
 * m <- beta m + (1 - beta) d, v by the method, w <- w - step m / (sqrt(v) + tau).
 * Post-processing of a release, free of privacy cost. Only + - * / and square roots on doubles, rounded to single precision
 * once: every engine replays the same bits. Leaves its arguments as they are.
 * @throws CoveyError USAGE_RANGE if the lengths differ.
 */
export function stepServer(
  parameters: Float32Array,
  moments: Moments,
  direction: Float64Array,
  { method, momentum, step }: ServerStep,
): { parameters: Float32Array; moments: Moments } {
  const [first, second] = moments;
  if (first?.length !== parameters.length || direction.length !== parameters.length) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"direction" expected ${parameters.length} values, got ${direction.length} with ${first?.length ?? 0} of moments`,
    );
  }
  const moved = new Float32Array(parameters.length);
  const nextFirst = new Float64Array(parameters.length);
  if (method === 'momentum') {
    for (let i = 0; i < parameters.length; i++) {
      const v = momentum * (first[i] as number) + (direction[i] as number);
      nextFirst[i] = v;
      moved[i] = (parameters[i] as number) - step * v;
    }
    return { parameters: moved, moments: [nextFirst] };
  }
  const seconds = new Float64Array(parameters.length);
  for (let i = 0; i < parameters.length; i++) {
    const d = direction[i] as number;
    const m = momentum * (first[i] as number) + (1 - momentum) * d;
    const v = nextSecond(method, second?.[i] ?? 0, d * d);
    nextFirst[i] = m;
    seconds[i] = v;
    moved[i] = (parameters[i] as number) - (step * m) / (Math.sqrt(v) + ADAPTIVITY);
  }
  return { parameters: moved, moments: [nextFirst, seconds] };
}

/** Step size that falls linearly from `first` to a share of it over the run: a tenth, or 1 for a constant step. */
export function linearStep(first: number, round: number, rounds: number, lastShare = 0.1): number {
  return first * (1 - ((1 - lastShare) * round) / rounds);
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
