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
