import { CoveyError } from '../../protocol/errors.ts';

/** Standard deviations of the summed noise that the ring must hold beside the largest sum. */
const MIN_NOISE_STDDEVS = 7;

/**
 * The largest possible sum and its noise. Units: integer units; `largestTerm` bounds one coordinate of one term,
 * `terms` counts the terms that may meet in it (records of all members at record level), `noiseVariance` is that of
 * all shares together.
 */
export interface RingLoad {
  readonly bits: number;
  readonly coordinates: number;
  readonly largestTerm: number;
  readonly terms: number;
  readonly noiseVariance: number;
  /** At least `MIN_NOISE_STDDEVS`, the default. */
  readonly noiseStddevs?: number;
}

/** Largest value of the centred ring: sums in [-(2^(bits-1)), 2^(bits-1) - 1] come out as they went in. */
function halfRange(bits: number): number {
  return 2 ** (bits - 1) - 1;
}

function noiseRoom({ bits, largestTerm, terms, noiseVariance }: RingLoad): number {
  return (halfRange(bits) - largestTerm * terms) / Math.sqrt(noiseVariance);
}

/**
 * Bounds the probability that any coordinate of a sum leaves the ring: d * 2 exp(-k^2 / 2), for sums of discrete
 * Gaussians are subgaussian with their variance parameter. Overflow costs accuracy, never privacy.
 * @see privacy F14; Canonne, Kamath, Steinke 2020 (tails)
 */
export function boundOverflowProbability(load: RingLoad): number {
  const room = noiseRoom(load);
  if (!(room > 0)) return 1;
  return Math.min(1, load.coordinates * 2 * Math.exp((-room * room) / 2));
}

/**
 * Refuses a ring that the largest sum and `noiseStddevs` deviations of its noise do not fit.
 * @throws CoveyError PRIVACY_RING_WIDTH; USAGE_RANGE for a load that is not a number, or less than 7 deviations.
 * @see privacy F14
 */
export function checkRingWidth(load: RingLoad): void {
  const { bits, coordinates, largestTerm, terms, noiseVariance } = load;
  const stddevs = load.noiseStddevs ?? MIN_NOISE_STDDEVS;
  const ranges: readonly (readonly [string, number, number])[] = [
    ['bits', bits, 2],
    ['coordinates', coordinates, 1],
    ['largestTerm', largestTerm, 0],
    ['terms', terms, 0],
    ['noiseVariance', noiseVariance, 0],
    ['noiseStddevs', stddevs, MIN_NOISE_STDDEVS],
  ];
  for (const [name, value, least] of ranges) {
    if (!(value >= least && value < Number.POSITIVE_INFINITY)) {
      throw new CoveyError('USAGE_RANGE', `"${name}" expected a finite number >= ${least}, got ${value}`);
    }
  }
  const needed = largestTerm * terms + stddevs * Math.sqrt(noiseVariance);
  if (needed > halfRange(bits)) {
    throw new CoveyError(
      'PRIVACY_RING_WIDTH',
      `"bits" expected a ring that holds sums up to ${Math.ceil(needed)}, got ${bits} bits (${halfRange(bits)})`,
      {
        bits,
        needed: Math.ceil(needed),
        halfRange: halfRange(bits),
      },
    );
  }
}

/**
 * What a scale is chosen for. Units: floats before scaling; `localNoiseStddev` is that of one of `members` shares;
 * `dimension` is the padded length of the smallest block (all of the clip may sit in one slot).
 */
export interface ScaleProblem {
  readonly bits: number;
  readonly members: number;
  readonly dimension: number;
  readonly clippingNorm: number;
  readonly localNoiseStddev: number;
  readonly noiseStddevs: number;
}

/**
 * Chooses the integer units per 1.0 that fill a ring of 2^bits with `noiseStddevs` deviations of a rotated sum:
 * s = sqrt(2^(2b) - n k^2) / (2 k sqrt(C^2 n^2 / d + n sigma_loc^2)).
 * A heuristic for accuracy (the rotated signal is treated as Gaussian, rho = 1); `checkRingWidth` is the safeguard.
 * @throws CoveyError PRIVACY_RING_WIDTH unless 2^(2b) > n k^2.
 * @see privacy F14; Kairouz, Liu, Steinke 2021, section 4
 */
export function chooseScale(problem: ScaleProblem): number {
  const { bits: b, members: n, dimension: d, clippingNorm: C, localNoiseStddev: sigmaLocal, noiseStddevs: k } = problem;
  const room = 2 ** (2 * b) - n * k * k;
  if (!(room > 0))
    throw new CoveyError('PRIVACY_RING_WIDTH', `"bits" expected 2^(2 bits) > ${n * k * k}, got ${b}`, { bits: b });
  return Math.sqrt(room) / (2 * k * Math.sqrt((C * C * n * n) / d + n * sigmaLocal * sigmaLocal));
}
