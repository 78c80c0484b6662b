import { cohortHead } from '../cluster/census.ts';
import { chooseLowestLoss } from '../cluster/choice.ts';
import type { Dataset } from '../data/dataset.ts';
import type { ReleasedModels } from '../learning/algorithm.ts';
import type { GradientOracle, Model } from '../learning/oracle.ts';
import type { RunConfig } from './config.ts';

/** What an organization remembers of its hidden slot; it never leaves the site. */
export interface MemberState {
  /** Position drawn in the seat lottery. */
  readonly seat: number | null;
  /** Slot the organization trains; null: it sends zeros and its noise share. */
  readonly slot: number | null;
  /** Slots chosen so far, draw after draw of each choice. A retried session repeats the choice: it was charged once. */
  readonly choices: readonly number[];
  /** Slots of the last choice where a member fills several; absent elsewhere and before it. */
  readonly filled?: readonly number[];
  /** Slots that the last census left open; null in runs without a floor. */
  readonly open: readonly number[] | null;
}

/** Released head that a member works with: its slot's, the cohort-wide one if that is closed, or none yet. */
export function memberHead(
  models: ReleasedModels,
  slot: number | null,
  open: readonly number[] | null,
): Float32Array | null {
  if (slot !== null) return models.heads[slot] ?? null;
  return open === null ? null : cohortHead(models.heads, open);
}

/** Training records of a site and the model that reads them. */
export interface SiteInputs {
  readonly oracle: GradientOracle;
  readonly data: Dataset;
}

/** What losses that choose slots are computed by: the engine of the factors, if there is one, whose bits turn on no other record. */
export function lossEngine(oracle: GradientOracle): Pick<GradientOracle, 'losses'> {
  return oracle.factors ?? oracle;
}

/** Slot of least training loss. */
export function bestSlot(models: ReleasedModels, { oracle, data }: SiteInputs): number {
  const body = Float64Array.from(models.body);
  return chooseLowestLoss(models.heads.map((head) => oracle.losses(body, Float64Array.from(head), data)));
}

/** Slot whose released model a member uses: its own, or where nobody has one that of least training loss. */
function homeSlot(config: RunConfig, models: ReleasedModels, member: MemberState, inputs: SiteInputs): number | null {
  if (config.clusters === null || config.clusters.assignment === 'hard') return member.slot;
  return bestSlot(models, inputs);
}

/** The released model that a member uses: of its slot, the cohort-wide one if that is closed, the first before any. */
export function releasedModel(
  config: RunConfig,
  models: ReleasedModels,
  member: MemberState,
  inputs: SiteInputs,
): Model {
  const slot = homeSlot(config, models, member, inputs);
  const head = memberHead(models, slot, member.open) ?? models.heads[0] ?? new Float32Array(0);
  return { body: Float64Array.from(models.body), head: Float64Array.from(head) };
}
