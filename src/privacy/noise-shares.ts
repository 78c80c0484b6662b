import { CoveyError } from '../../protocol/errors.ts';

/** Least standard deviation of one share: below it sums of discrete Gaussians are no longer nearly one (privacy F11). */
const MIN_SHARE_STDDEV = 1.5;

/** What the shares of a session are calibrated to. Units: `sensitivity` in integer units (l2). */
export interface ShareTarget {
  /** Standard deviation of the noise that counts, over the sensitivity. */
  readonly noiseMultiplier: number;
  readonly sensitivity: number;
  /** Fewest survivors that the session accepts. */
  readonly minSurvivors: number;
  /** Members assumed to know, or to leave out, their own shares. */
  readonly colluders: number;
}

function assertHonest(survivors: number, colluders: number): number {
  const integers = Number.isSafeInteger(survivors) && Number.isSafeInteger(colluders) && colluders >= 0;
  if (!integers || survivors - colluders < 1) {
    throw new CoveyError('PRIVACY_NOISE', `"survivors" expected more than ${colluders} colluders, got ${survivors}`, {
      survivors,
      colluders,
    });
  }
  return survivors - colluders;
}

/**
 * Refuses shares whose sum cannot be accounted as one discrete Gaussian.
 * @throws CoveyError PRIVACY_NOISE below 1.5 integer units of standard deviation. @see privacy F11
 */
export function checkShareVariance(shareVariance: number): void {
  if (!(Math.sqrt(shareVariance) >= MIN_SHARE_STDDEV && shareVariance < Number.POSITIVE_INFINITY)) {
    throw new CoveyError(
      'PRIVACY_NOISE',
      `"shareVariance" expected a local deviation >= ${MIN_SHARE_STDDEV} integer units, got variance ${shareVariance}`,
      {
        shareVariance,
      },
    );
  }
}

/**
 * Variance of each participant's share: (z * Delta)^2 / (minSurvivors - colluders), so that the target holds with the
 * fewest accepted survivors and without the colluders' shares. Units: squared integer units per coordinate.
 * @throws CoveyError PRIVACY_NOISE if no honest share is left or a share is below 1.5 units; USAGE_RANGE
 * @see privacy F18
 */
export function shareVariance(target: ShareTarget): number {
  const { noiseMultiplier, sensitivity } = target;
  if (!(noiseMultiplier > 0 && sensitivity > 0)) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"noiseMultiplier" and "sensitivity" expected positive, got ${noiseMultiplier} and ${sensitivity}`,
    );
  }
  const honest = assertHonest(target.minSurvivors, target.colluders);
  const variance = (noiseMultiplier * sensitivity) ** 2 / honest;
  checkShareVariance(variance);
  return variance;
}

/** Noise that protects a released sum of `survivors` members. Units: squared integer units. */
export interface RealisedNoise {
  /** Variance of all shares: what blurs the released values. */
  readonly totalVariance: number;
  /** Variance of the shares that count: what is charged. */
  readonly honestVariance: number;
  /** sqrt(honestVariance) / sensitivity. */
  readonly noiseMultiplier: number;
}

/**
 * Noise of a completed session, to be charged instead of the reserve.
 * @throws CoveyError PRIVACY_NOISE if no honest share survived. @see privacy F18
 */
export function realisedNoise(
  session: { readonly shareVariance: number; readonly sensitivity: number; readonly colluders: number },
  survivors: number,
): RealisedNoise {
  const honestVariance = assertHonest(survivors, session.colluders) * session.shareVariance;
  return {
    totalVariance: survivors * session.shareVariance,
    honestVariance,
    noiseMultiplier: Math.sqrt(honestVariance) / session.sensitivity,
  };
}

/** How much of a released sum is signal; post-processing of the release, free of privacy cost. */
export interface SignalReport {
  /** Squared norm of the released sum minus the expected squared norm of its noise, at least 0. */
  readonly signalSquaredNorm: number;
  readonly noiseSquaredNorm: number;
  /** Ratio of the two norms (not squared). */
  readonly ratio: number;
}

/** Reports the signal-to-noise ratio of a released sum. Units: integer units, as `totalVariance`. */
export function reportSignal(sum: Int32Array, totalVariance: number): SignalReport {
  let squares = 0;
  for (const value of sum) squares += value * value;
  const noiseSquaredNorm = sum.length * totalVariance;
  const signalSquaredNorm = Math.max(0, squares - noiseSquaredNorm);
  return { signalSquaredNorm, noiseSquaredNorm, ratio: Math.sqrt(signalSquaredNorm / noiseSquaredNorm) };
}
