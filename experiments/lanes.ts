import { CoveyError } from '../protocol/errors.ts';
import { laneBits } from '../protocol/ring.ts';
import type { Lanes } from '../protocol/session.ts';
import { chooseScale } from '../src/privacy/ring-width.ts';
import { type RunConfig, sendsUpdates } from '../src/run/config.ts';
import { trainingBlocks } from '../src/run/plan.ts';
import { centralNoise } from './central-run.ts';

/** Deviations of a rotated sum that a narrow ring has room for. */
const NOISE_STDDEVS = 6;

/**
 * Norm of a sum of clipped gradients over their number, which are far from parallel: at most 0.075 on the digits, in the first
 * step. More than this costs accuracy alone.
 */
const ALIGNMENT = 1 / 8;

/**
 * The same run in narrower lanes: integers as fine as sums of this many terms leave room for. Overflow costs accuracy alone.
 * @throws CoveyError USAGE_CONFIG with noise inside the organizations. @see privacy F14
 */
export function withLanes(config: RunConfig, lanes: Lanes): RunConfig {
  const { clusters, cohort, privacy, training } = config;
  if (privacy.localNoise !== undefined)
    throw new CoveyError('USAGE_CONFIG', `"lanes" expected 2 with noise inside the organizations, got ${lanes}`);
  const { clippingNorm, nominalRecords, samplingProbability } = training;
  const members = sendsUpdates(config) ? cohort.participants : ALIGNMENT * samplingProbability * nominalRecords;
  const lengths = trainingBlocks(config, clusters?.kept ?? 1).flatMap(({ length, realLength }) =>
    realLength > 0 ? [length] : [],
  );
  const scale = chooseScale({
    bits: laneBits(lanes),
    members,
    dimension: Math.min(...lengths),
    clippingNorm,
    localNoiseStddev: (centralNoise(config).noiseMultiplier * clippingNorm) / Math.sqrt(members),
    noiseStddevs: NOISE_STDDEVS,
  });
  return { ...config, encoding: { scale, lanes } };
}
