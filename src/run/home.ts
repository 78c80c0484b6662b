import type { DataRandom } from '../data/random.ts';
import type { ReleasedModels } from '../learning/algorithm.ts';
import type { Model } from '../learning/oracle.ts';
import { fineTune } from '../personalize/fine-tuning.ts';
import { algorithmOf } from './algorithm.ts';
import type { RunConfig } from './config.ts';
import type { MemberInputs } from './member.ts';
import { bestSlot, type MemberState, releasedModel } from './member-model.ts';
import { localContext, placeInSlot } from './update.ts';

/*
 * What an organization makes of a run for itself. All of it reads raw records and stays at the site, so it costs no
 * privacy (privacy 3.6).
 */

export { releasedModel };

export type HomeInputs = Omit<MemberInputs, 'seed' | 'test'>;

/**
 * What somebody makes of the released models who had no part in the run: the slot that fits its own training records best,
 * fine-tuned on them. It reads releases and its own records, which stay at the site, so it costs nobody any privacy and
 * asks for no new release. Random: order of minibatches.
 */
export function newcomerModel(
  config: RunConfig,
  models: ReleasedModels,
  inputs: HomeInputs,
  random: DataRandom,
): { readonly slot: number; readonly released: Model; readonly personal: Model } {
  const slot = bestSlot(models, inputs);
  const released = { body: Float64Array.from(models.body), head: Float64Array.from(models.heads[slot] ?? []) };
  return { slot, released, personal: fineTune(inputs.oracle, released, inputs.data, random, config.personal) };
}

/**
 * The model that a member ends with: what its algorithm makes of the released one and of what it kept, fine-tuned where
 * the configuration says so. Random: order of minibatches.
 */
export function personalModel(
  config: RunConfig,
  models: ReleasedModels,
  member: MemberState,
  inputs: HomeInputs,
  random: DataRandom,
): Model {
  const released = releasedModel(config, models, member, inputs);
  const placement = placeInSlot(models.heads.length, 0, released.head);
  const context = localContext(config, models, placement, config.training.steps, inputs, random);
  const start = algorithmOf(config).algorithm.personal?.(context) ?? released;
  return config.personal.method === 'none'
    ? start
    : fineTune(inputs.oracle, start, inputs.data, random, config.personal);
}
