import { CoveyError } from '../../protocol/errors.ts';

/** Least weight of a cluster before the weights are brought back to a sum of one (Ruan and Joe-Wong 2022). */
export const SOFT_WEIGHT_FLOOR = 1e-4;

/**
 * Importance weights of FedSoft: the share of own records that each slot's model serves best, floored, then renormalized.
 * Shapes: `losses` one array for each slot over the same records; the weights sum to one.
 * Not private at unit `record`: one record moves the weights of the whole contribution.
 */
export function softWeights(losses: readonly Float64Array[]): Float64Array {
  const slots = losses.length;
  const records = losses[0]?.length ?? 0;
  if (slots === 0 || losses.some((values) => values.length !== records)) {
    throw new CoveyError('USAGE_RANGE', '"losses" expected one equally long list for each slot');
  }
  const weights = new Float64Array(slots);
  for (let record = 0; record < records; record++) {
    const best = bestSlotOfRecord(losses, record);
    weights[best] = (weights[best] as number) + 1 / records;
  }
  const floored = weights.map((weight) => Math.max(weight, SOFT_WEIGHT_FLOOR));
  const total = floored.reduce((sum, weight) => sum + weight, 0);
  return floored.map((weight) => weight / total);
}

/**
 * Fills every slot with the update times its weight. With weights >= 0 of l2 norm at most one the joint norm is at most
 * that of the update; the encoder clips the concatenation once, jointly, all the same (privacy 3.4).
 * @throws CoveyError USAGE_RANGE for weights that are negative or of a larger norm.
 */
export function scaleBySoftWeights(update: Float64Array, weights: Float64Array): Float64Array[] {
  const squares = weights.reduce((sum, weight) => sum + weight * weight, 0);
  if (!weights.every((weight) => weight >= 0) || squares > 1 + 1e-9) {
    throw new CoveyError('USAGE_RANGE', `"weights" expected numbers >= 0 of norm 1 at most, got ${Math.sqrt(squares)}`);
  }
  return Array.from(weights, (weight) => {
    const scaled = new Float64Array(update.length);
    for (let i = 0; i < update.length; i++) scaled[i] = weight * (update[i] as number);
    return scaled;
  });
}

/**
 * Slot that fits one record best under released models (record-level FedSoft): a function of that record and public
 * values only, so the contribution keeps the sensitivity of one clipped record and the choice is free (privacy 3.4).
 */
export function bestSlotOfRecord(losses: readonly Float64Array[], record: number): number {
  let best = 0;
  for (let slot = 1; slot < losses.length; slot++) {
    if ((losses[slot]?.[record] ?? 0) < (losses[best]?.[record] ?? 0)) best = slot;
  }
  return best;
}
