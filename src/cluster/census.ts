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
 * Slots that members may fill until the next census: count - noise margin - maxLoss >= minCluster (threat-model.md).
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
 * Bernstein's bound exp(-m^2 / (2 (variance + step m / 3))) for Skellam noise on multiples of `step`, whose tails are
 * those of Poisson counts; with step 0 the Gaussian bound, which discrete Gaussians and their sums obey too
 * (sub-Gaussian, CKS 2020).
 * Units: members, as `noiseStddev` of the summed noise. @throws CoveyError USAGE_RANGE
 */
export function countNoiseMargin(noiseStddev: number, slots: number, failure: number, step: number = 0): number {
  if (!(noiseStddev >= 0 && slots >= 1 && failure > 0 && failure < 1 && step >= 0)) {
    throw new CoveyError('USAGE_RANGE', `"failure" expected a probability in (0, 1), got ${failure}`);
  }
  const digits = Math.log(slots / failure);
  if (step === 0) return noiseStddev * Math.sqrt(2 * digits);
  const linear = (step * digits) / 3;
  return linear + Math.sqrt(linear ** 2 + 2 * digits * noiseStddev ** 2);
}

/**
 * Slot that a member trains after a census: its own if it is open. While no slot is open everybody trains slot 0, which
 * holds the whole cohort then. Null: the own slot is closed, the member falls back to the cohort-wide model.
 */
export function placeMember(chosen: number, open: readonly number[]): number | null {
  if (open.length === 0) return 0;
  return open.includes(chosen) ? chosen : null;
}

/** Head of the cohort-wide model: the mean of the heads of the open slots. Post-processing of releases. */
export function cohortHead(heads: readonly Float32Array[], open: readonly number[]): Float32Array {
  const mean = new Float32Array(heads[0]?.length ?? 0);
  for (let i = 0; i < mean.length; i++) {
    let sum = 0;
    for (const slot of open) sum += heads[slot]?.[i] ?? 0;
    mean[i] = sum / open.length;
  }
  return mean;
}
