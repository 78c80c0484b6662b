import { CoveyError } from '../../protocol/errors.ts';

/**
 * Slots that stay after the founding: those with the largest noisy counts, in their old order; ties go to the lower slot.
 * Everybody computes the same from the released counts.
 */
export function keptSlots(counts: readonly number[], kept: number): number[] {
  return counts
    .map((count, slot) => ({ count, slot }))
    .sort((a, b) => b.count - a.count || a.slot - b.slot)
    .slice(0, kept)
    .map(({ slot }) => slot)
    .sort((a, b) => a - b);
}

/**
 * Slots that members may fill until the next census: count - noise margin - maxLoss >= minCluster (SPEC section 6).
 * Units: counts and margin in members. A floor of 0 leaves every slot open.
 */
export function openSlots(
  counts: readonly number[],
  rule: { readonly noiseMargin: number; readonly maxLoss: number; readonly minCluster: number },
): boolean[] {
  return counts.map((count) => rule.minCluster === 0 || count - rule.noiseMargin - rule.maxLoss >= rule.minCluster);
}

/**
 * Margin by which a noisy count may exceed the true one in any of `slots` slots, except with probability `failure`.
 * Gaussian tail bound exp(-m^2 / (2 variance)), which discrete Gaussians and their sums obey too (sub-Gaussian, CKS 2020).
 * Units: members, as `noiseStddev` of the summed noise. @throws CoveyError USAGE_RANGE
 */
export function countNoiseMargin(noiseStddev: number, slots: number, failure: number): number {
  if (!(noiseStddev >= 0 && slots >= 1 && failure > 0 && failure < 1)) {
    throw new CoveyError('USAGE_RANGE', `"failure" expected a probability in (0, 1), got ${failure}`);
  }
  return noiseStddev * Math.sqrt(2 * Math.log(slots / failure));
}
