import { CoveyError } from '../../protocol/errors.ts';
import { eventKey } from './event-json.ts';
import type { DiscreteGaussianEvent, DpEvent, Relation } from './events.ts';
import { discreteGaussianDirections, discreteLaplace, skellamDirections } from './pld-integer-noise.ts';
import { gaussianMixture, truncatedPoissonGaussian } from './pld-mixtures.ts';
import {
  approximatePair,
  atomDirections,
  boundedRangePair,
  type Directions,
  fixedSizePair,
  gaussianPair,
  laplacePair,
  poissonSampled,
  replaceOnePoissonPair,
  symmetric,
} from './pld-pairs.ts';
import { describeDiscreteGaussianSum } from './rdp-curve.ts';

/** Whether sums of discrete Gaussians over several coordinates may be accounted as plain Gaussian noise (F10). */
export type DiscreteReduction = 'refused' | 'allowed';

/** How an event is bounded: by loss pairs, or by nothing. */
export type EventLoss = Directions | 'nonPrivate';

/** Width of the rounding by which plain Gaussian noise becomes discrete, in squared integer units. */
export type RoundingVariance = number;

function unsupported(reason: string, kind: string): CoveyError {
  return new CoveyError('PRIVACY_UNSUPPORTED_EVENT', reason, { kind });
}

const made = new Map<string, Directions>();
const MAX_CACHED = 256;

/** The same object for the same key: grids and transforms are remembered by pair. */
function remember(key: string, make: () => Directions): Directions {
  const known = made.get(key);
  if (known) return known;
  const directions = make();
  if (made.size >= MAX_CACHED) made.delete(made.keys().next().value as string);
  made.set(key, directions);
  return directions;
}

/** Pair of plain Gaussian noise. */
export function gaussianDirections(noiseMultiplier: number): Directions {
  return remember(`gaussian ${noiseMultiplier}`, () => ({
    ...symmetric(gaussianPair(noiseMultiplier)),
    noiseMultiplier,
  }));
}

/** The discrete Gaussian event inside, if `event` is one, or a sample of one, that needs the reduction of F10. */
export function reducedSum(event: DpEvent): DiscreteGaussianEvent | null {
  if (event.kind === 'poissonSampled') return reducedSum(event.event);
  if (event.kind !== 'discreteGaussian') return null;
  return event.dimension === 1 && exactDiscreteGaussian(event) ? null : event;
}

/** Integer moves are at most the whole part; a sensitivity that is an integer up to rounding counts as that integer. */
function integerShift(sensitivity: number): number {
  return Math.floor(sensitivity * (1 + 1e-12));
}

function exactDiscreteGaussian(event: DiscreteGaussianEvent): Directions | null {
  const variances = [[event.shareVariance, event.shares], ...(event.otherShareVariances ?? []).map((v) => [v, 1])];
  const key = `discreteGaussian ${integerShift(event.sensitivity)} ${JSON.stringify(variances)}`;
  const known = made.get(key);
  if (known) return known;
  const directions = discreteGaussianDirections(variances as [number, number][], integerShift(event.sensitivity));
  return directions && remember(key, () => directions);
}

/**
 * kappa = 4 e^{-2 pi^2 eta^2}: the most by which, per coordinate, y + N_Z(sigma^2) differs in log probability from a fixed
 * randomised rounding of y + N(0, sigma^2 - eta^2). The margin covers the second order down to eta^2 = 1/2.
 * @see privacy F10
 */
export function roundingLoss(roundingVariance: RoundingVariance): number {
  return 4.00001 * Math.exp(-2 * Math.PI * Math.PI * roundingVariance);
}

/** eta^2 for which all roundings of a run together lose 1e-12. `coordinates` = sum of dimension times releases. */
export function chooseRoundingVariance(coordinates: number): RoundingVariance {
  return Math.max(0.5, Math.log((4.00001 * coordinates) / 1e-12) / (2 * Math.PI * Math.PI));
}

/** Least variance of a reduced sum: eta^2 stays below 4.1 for any run that can be counted. */
const MIN_REDUCED_VARIANCE = 8;

function reduceDiscreteGaussian(event: DiscreteGaussianEvent, rounding: RoundingVariance): Directions {
  const { variance, l2Sensitivity } = describeDiscreteGaussianSum(event);
  if (variance < MIN_REDUCED_VARIANCE) {
    throw unsupported(
      `"shareVariance" expected a sum of variance >= ${MIN_REDUCED_VARIANCE} for the reduction to Gaussian noise, got ${variance}`,
      event.kind,
    );
  }
  return gaussianDirections(Math.sqrt(variance - rounding) / l2Sensitivity);
}

/** 1 / z^2 of a composition of plain Gaussian noise alone, or null. */
function gaussianPrecision(event: DpEvent): number | null {
  if (event.kind === 'gaussian') return 1 / event.noiseMultiplier ** 2;
  if (event.kind === 'selfComposed') {
    const once = gaussianPrecision(event.event);
    return once === null ? null : event.count * once;
  }
  if (event.kind !== 'composed') return null;
  return event.events.reduce<number | null>((sum, part) => {
    const one = gaussianPrecision(part);
    return sum === null || one === null ? null : sum + one;
  }, 0);
}

function randomizedResponse(noiseParameter: number, buckets: number, relation: Relation): Directions {
  const other = noiseParameter / buckets;
  const truth = 1 - noiseParameter + other;
  const rest = Array.from({ length: Math.min(1, buckets - 2) }, () => (buckets - 2) * other);
  if (buckets === 1) return atomDirections([1], [1]);
  if (relation === 'replace-one') return atomDirections([truth, other, ...rest], [other, truth, ...rest]);
  return atomDirections([truth, (buckets - 1) * other], [1 / buckets, (buckets - 1) / buckets]);
}

function poissonLoss(
  { event: base, probability: q }: Extract<DpEvent, { kind: 'poissonSampled' }>,
  relation: Relation,
  reduction: DiscreteReduction,
  rounding: RoundingVariance,
): EventLoss {
  const precision = gaussianPrecision(base);
  if (base.kind === 'nonPrivate') return 'nonPrivate';
  if (base.kind === 'poissonSampled' || base.kind === 'fixedSizeSampled')
    throw unsupported('a sample of a sample expected to be given as one sampling step', base.kind);
  if (precision === null && (base.kind === 'composed' || base.kind === 'selfComposed'))
    throw unsupported('a sample expected one mechanism, or Gaussian noise only', base.kind);
  if (relation === 'replace-one') {
    if (precision === null)
      throw unsupported('Poisson sampling under replace-one is accounted for Gaussian noise only', base.kind);
    const z = 1 / Math.sqrt(precision);
    // Terms are clipped to half of the replace-one sensitivity.
    return q === 1 ? gaussianDirections(z) : symmetric(replaceOnePoissonPair(q, 2 * z));
  }
  if (base.kind === 'discreteGaussian' && !base.symmetric)
    throw unsupported('"symmetric" expected true for a sampled sum', base.kind);
  const unsampled =
    precision === null ? eventLoss(base, relation, reduction, rounding) : gaussianDirections(1 / Math.sqrt(precision));
  return unsampled === 'nonPrivate' ? unsampled : poissonSampled(q, unsampled);
}

function buildLoss(event: DpEvent, relation: Relation, reduction: DiscreteReduction, rounding: number): EventLoss {
  switch (event.kind) {
    case 'gaussian':
      return gaussianDirections(event.noiseMultiplier);
    case 'laplace':
      return symmetric(laplacePair(1 / event.noiseMultiplier));
    case 'discreteLaplace':
      return discreteLaplace(event.noiseParameter, event.sensitivity);
    case 'permuteAndFlip':
      // Selection among scores plus exponential noise. For any set R of results, let p(s) be its probability when all
      // scores of R rise by s (in units of the noise). The maxima over R and over the rest are independent with hazard
      // rates <= 1, hence p' <= p and p' <= 1 - p: no test moves faster than the best one of Laplace noise, whose
      // distribution function has p' = min(p, 1 - p). Neighbours differ by at most s = epsilon.
      return symmetric(laplacePair(event.epsilon));
    case 'exponentialMechanism':
      return symmetric(boundedRangePair(event.epsilon));
    case 'randomizedResponse':
      if (relation === 'add-remove')
        throw unsupported('randomized response is accounted under zero-out or replace-one only', event.kind);
      return randomizedResponse(event.noiseParameter, event.buckets, relation);
    case 'approximateDp': {
      if (event.delta >= 1) return 'nonPrivate';
      return symmetric(approximatePair(event.epsilon, event.delta));
    }
    case 'discreteGaussian': {
      const exact = event.dimension === 1 ? exactDiscreteGaussian(event) : null;
      if (exact) return exact;
      if (reduction === 'refused')
        throw unsupported('sums over several coordinates need the reduction to Gaussian noise allowed', event.kind);
      return reduceDiscreteGaussian(event, rounding);
    }
    case 'skellam': {
      const exact = event.dimension === 1 ? skellamDirections(event.variance, integerShift(event.sensitivity)) : null;
      if (!exact)
        throw unsupported('Skellam noise is accounted on one coordinate of moderate variance only', event.kind);
      return exact;
    }
    case 'gaussianMixture':
      return gaussianMixture(event.noiseStddev, event.sensitivities, event.probabilities);
    case 'truncatedPoissonGaussian':
      if (relation === 'replace-one')
        throw unsupported('truncated samples are accounted under add-remove or zero-out only', event.kind);
      return truncatedPoissonGaussian(event);
    case 'poissonSampled':
      return poissonLoss(event, relation, reduction, rounding);
    case 'fixedSizeSampled': {
      const { event: base, populationSize, sampleSize } = event;
      const precision = gaussianPrecision(base);
      if (relation !== 'replace-one' || precision === null || sampleSize > populationSize)
        throw unsupported('a fixed-size sample is accounted for Gaussian noise under replace-one only', event.kind);
      const z = 1 / Math.sqrt(precision);
      return sampleSize === populationSize
        ? gaussianDirections(z)
        : symmetric(fixedSizePair(sampleSize / populationSize, z));
    }
    case 'nonPrivate':
      return 'nonPrivate';
    case 'unsupported':
      throw unsupported(`the event is declared unsupported: ${event.reason}`, event.kind);
    default:
      throw unsupported(`no dominating pair is known for ${event.kind}`, event.kind);
  }
}

/**
 * The dominating pairs of an event that is not a composition.
 * @throws CoveyError PRIVACY_UNSUPPORTED_EVENT where none is proved (the labels of the accountant name the exception).
 */
export function eventLoss(
  event: DpEvent,
  relation: Relation,
  reduction: DiscreteReduction,
  rounding: RoundingVariance,
): EventLoss {
  const key = `${relation} ${reducedSum(event) ? `${reduction} ${rounding}` : ''} ${eventKey(event)}`;
  const known = made.get(key);
  if (known) return known;
  const loss = buildLoss(event, relation, reduction, rounding);
  return loss === 'nonPrivate' ? loss : remember(key, () => loss);
}
