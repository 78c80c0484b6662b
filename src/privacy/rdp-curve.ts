import { CoveyError } from '../../protocol/errors.ts';
import { eventKey } from './event-json.ts';
import type { DiscreteGaussianEvent, DpEvent, Relation } from './events.ts';
import {
  discreteGaussianSumRdp,
  discreteGaussianSumTau,
  discreteLaplaceRdp,
  exponentialMechanismRdp,
  gaussianRdp,
  integerL1Bound,
  laplaceRdp,
  randomizedResponseRdp,
  skellamRdp,
} from './rdp-mechanisms.ts';
import {
  fixedSizeLogMoment,
  interpolateLogMoment,
  poissonGaussianLogMoment,
  poissonLogMoment,
} from './rdp-sampling.ts';
import { pureDpRdp, repeatAndSelectCurve, treeAggregationRdp } from './rdp-selection.ts';

/** Renyi divergence bound of one event at every real order above 1. */
export type RdpCurve = (order: number) => number;

/** Least standard deviation of a share in a sum that is accounted as one discrete Gaussian. @see privacy F11 */
const MIN_SUM_STDDEV = 1.5;
/** Largest part of the cost that the distance tau from one discrete Gaussian may add. @see privacy F11 */
const MAX_TAU_SHARE = 1e-3;
// Curves are pure functions of (event, relation); a bound keeps calibration, which tries many events, from growing it.
const MAX_CACHED_CURVES = 512;
const curves = new Map<string, RdpCurve>();

function unsupported(reason: string, kind: string): CoveyError {
  return new CoveyError('PRIVACY_UNSUPPORTED_EVENT', reason, { kind });
}

/**
 * Checked parameters of a discrete Gaussian event.
 * @throws CoveyError PRIVACY_UNSUPPORTED_EVENT for shares below 1.5 integer units or where tau adds over 0.1 %.
 */
export function describeDiscreteGaussianSum(event: DiscreteGaussianEvent): {
  readonly l1Sensitivity: number;
  readonly l2Sensitivity: number;
  readonly variance: number;
  readonly tau: number;
  readonly dimension: number;
} {
  const others = event.otherShareVariances ?? [];
  const variances: (readonly [number, number])[] = [
    [event.shareVariance, event.shares],
    ...others.map((v) => [v, 1] as const),
  ];
  const variance = event.shares * event.shareVariance + others.reduce((sum, v) => sum + v, 0);
  const shares = event.shares + others.length;
  const { sensitivity: l2Sensitivity, dimension } = event;
  const l1Sensitivity = integerL1Bound(l2Sensitivity, dimension);
  // One share is a discrete Gaussian whatever its deviation (CKS 2020); only sums of several need wide shares.
  if (shares === 1) return { l1Sensitivity, l2Sensitivity, variance, tau: 0, dimension };
  const least = Math.sqrt(Math.min(event.shareVariance, ...others));
  if (least < MIN_SUM_STDDEV) {
    throw unsupported(
      `"shareVariance" expected a local deviation >= ${MIN_SUM_STDDEV} integer units, got ${least}`,
      event.kind,
    );
  }
  const tau = discreteGaussianSumTau(variances);
  const rho = (l2Sensitivity * l2Sensitivity) / (2 * variance);
  if (tau * dimension > MAX_TAU_SHARE * rho) {
    throw unsupported(
      `"shareVariance" expected shares wide enough for a sum over ${dimension} coordinates, got deviation ${least}`,
      event.kind,
    );
  }
  return { l1Sensitivity, l2Sensitivity, variance, tau, dimension };
}

/** True if the sampling bound with factor 1 applies: symmetric additive noise by declaration. @see privacy F9 */
function isSymmetric(event: DpEvent): boolean {
  if (event.kind === 'gaussian') return true;
  return 'symmetric' in event && event.symmetric;
}

/** Delta that an event takes off the claim, apart from its curve. */
export function slackOf(event: DpEvent): number {
  if (event.kind === 'approximateDp') return event.delta;
  if (event.kind === 'selfComposed') return event.count * slackOf(event.event);
  if (event.kind === 'composed') return event.events.reduce((sum, part) => sum + slackOf(part), 0);
  return 0;
}

function poissonCurve(event: Extract<DpEvent, { kind: 'poissonSampled' }>, relation: Relation): RdpCurve {
  const { probability, event: base } = event;
  if (relation === 'replace-one') {
    throw unsupported('Poisson sampling is accounted under add-remove or zero-out only, got replace-one', event.kind);
  }
  if (base.kind === 'poissonSampled' || base.kind === 'fixedSizeSampled') {
    throw unsupported('a sample of a sample expected to be given as one sampling step', event.kind);
  }
  if (slackOf(base) > 0) throw unsupported('a sample expected an event without a delta of its own', event.kind);
  if (base.kind === 'gaussian') {
    return (order) => poissonGaussianLogMoment(order, probability, base.noiseMultiplier) / (order - 1);
  }
  const unsampled = rdpCurve(base, relation);
  if (probability === 1) return unsampled;
  const moments: (number | undefined)[] = [];
  const logMoment = (order: number): number => {
    const known = moments[order] ?? (order - 1) * unsampled(order);
    moments[order] = known;
    return known;
  };
  const factor = isSymmetric(base) ? 1 : 3;
  const sampled: (number | undefined)[] = [];
  const sampledMoment = (order: number): number => {
    const known = sampled[order] ?? Math.min(poissonLogMoment(order, probability, logMoment, factor), logMoment(order));
    sampled[order] = known;
    return known;
  };
  // The bound is a sum over integer orders; between them (alpha - 1) eps(alpha) is convex.
  return (order) => interpolateLogMoment(order, sampledMoment) / (order - 1);
}

function buildCurve(event: DpEvent, relation: Relation): RdpCurve {
  switch (event.kind) {
    case 'gaussian':
      return (order) => gaussianRdp(order, event.noiseMultiplier);
    case 'discreteGaussian': {
      const sum = describeDiscreteGaussianSum(event);
      return (order) => discreteGaussianSumRdp(order, sum);
    }
    case 'skellam': {
      const l1Sensitivity = integerL1Bound(event.sensitivity, event.dimension);
      const moment = (order: number): number =>
        (order - 1) * skellamRdp(order, l1Sensitivity, event.sensitivity, event.variance);
      return (order) => interpolateLogMoment(order, moment) / (order - 1);
    }
    case 'laplace':
      return (order) => laplaceRdp(order, 1 / event.noiseMultiplier);
    case 'discreteLaplace':
      return (order) => discreteLaplaceRdp(order, event.noiseParameter, event.sensitivity);
    case 'gaussianMixture':
    case 'truncatedPoissonGaussian':
      throw unsupported('random moves of a sum are accounted by loss distributions only', event.kind);
    case 'exponentialMechanism':
      return (order) => exponentialMechanismRdp(order, event.epsilon);
    case 'permuteAndFlip':
      return (order) => laplaceRdp(order, event.epsilon);
    case 'randomizedResponse':
      if (relation === 'add-remove') {
        throw unsupported(
          'randomized response is accounted under zero-out or replace-one only, got add-remove',
          event.kind,
        );
      }
      return (order) => randomizedResponseRdp(order, event.noiseParameter, event.buckets, relation);
    case 'poissonSampled':
      return poissonCurve(event, relation);
    case 'fixedSizeSampled': {
      const { event: base, populationSize, sampleSize } = event;
      if (relation !== 'replace-one' || base.kind !== 'gaussian' || sampleSize > populationSize) {
        throw unsupported('a fixed-size sample is accounted for Gaussian noise under replace-one only', event.kind);
      }
      // Everybody is in the sample: no sampling at all.
      if (sampleSize === populationSize) return (order) => gaussianRdp(order, base.noiseMultiplier);
      const gamma = sampleSize / populationSize;
      return (order) => fixedSizeLogMoment(order, gamma, base.noiseMultiplier) / (order - 1);
    }
    case 'selfComposed': {
      const curve = rdpCurve(event.event, relation);
      return (order) => event.count * curve(order);
    }
    case 'composed': {
      const parts = event.events.map((part) => rdpCurve(part, relation));
      return (order) => parts.reduce((sum, curve) => sum + curve(order), 0);
    }
    case 'zCdp':
      return (order) => (event.xi ?? 0) + event.rho * order;
    case 'treeAggregation':
      if (relation !== 'zero-out' || event.stepCounts.length === 0) {
        throw unsupported('trees of partial sums are accounted under zero-out, with at least one tree', event.kind);
      }
      return (order) => treeAggregationRdp(order, event.noiseMultiplier, event.stepCounts);
    case 'repeatAndSelect': {
      // A delta inside cannot be taken off the claim: every run would have its own.
      if (slackOf(event.event) > 0)
        throw unsupported('a selection expected runs without a delta of their own', event.kind);
      if (event.mean <= 1 && event.shape !== undefined)
        throw unsupported('"mean" expected more than one run', event.kind);
      return repeatAndSelectCurve(rdpCurve(event.event, relation), event.mean, event.shape);
    }
    case 'approximateDp':
      return (order) => pureDpRdp(order, event.epsilon);
    case 'nonPrivate':
      return () => Number.POSITIVE_INFINITY;
    case 'unsupported':
      throw unsupported(`the event is declared unsupported: ${event.reason}`, event.kind);
  }
}

/**
 * True if the curve of an event never falls with the order, as true divergences never do. The general bounds on
 * sampled mechanisms do: their constant factors weigh less at higher orders.
 */
export function isMonotoneEvent(event: DpEvent): boolean {
  if (event.kind === 'selfComposed') return isMonotoneEvent(event.event);
  if (event.kind === 'composed') return event.events.every(isMonotoneEvent);
  if (event.kind === 'poissonSampled') return event.probability === 1 || isSymmetric(event.event);
  return event.kind !== 'fixedSizeSampled' && event.kind !== 'repeatAndSelect';
}

/**
 * The RDP curve of an event, remembered by the event's canonical text.
 * @throws CoveyError PRIVACY_UNSUPPORTED_EVENT for what cannot be bounded under the relation; USAGE_RANGE, CODEC_TYPE
 * or CODEC_EXTRA_KEY for malformed events.
 */
export function rdpCurve(event: DpEvent, relation: Relation): RdpCurve {
  const key = `${relation} ${eventKey(event)}`;
  const known = curves.get(key);
  if (known) return known;
  const curve = buildCurve(event, relation);
  const values = new Map<number, number>();
  const remembered: RdpCurve = (order) => {
    const value = values.get(order) ?? curve(order);
    // Refining searches ask for arbitrary orders once; integers and grid points come back.
    if (values.size < 512) values.set(order, value);
    return value;
  };
  if (curves.size >= MAX_CACHED_CURVES) curves.delete(curves.keys().next().value as string);
  curves.set(key, remembered);
  return remembered;
}
