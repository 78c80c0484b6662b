import { chooseLowestLoss } from '../cluster/choice.ts';
import type { DataRandom } from '../data/random.ts';
import type { ReleasedModels } from '../learning/algorithm.ts';
import type { Model } from '../learning/oracle.ts';
import { fineTune } from '../personalize/fine-tuning.ts';
import { algorithmOf } from './algorithm.ts';
import type { RunConfig } from './config.ts';
import { type MemberInputs, type MemberState, memberHead } from './member.ts';
import { localContext, placeInSlot } from './update.ts';

/*
 * What an organization makes of a run for itself. All of it reads raw records and stays at the site, so it costs no
 * privacy (privacy 3.6).
 */

export type HomeInputs = Omit<MemberInputs, 'seed'>;

/** Slot whose released model a member uses: its own, or where nobody has one that of least training loss. */
function homeSlot(
  config: RunConfig,
  models: ReleasedModels,
  member: MemberState,
  { oracle, data }: HomeInputs,
): number | null {
  if (config.clusters === null || config.clusters.assignment === 'hard') return member.slot;
  const body = Float64Array.from(models.body);
  return chooseLowestLoss(models.heads.map((head) => oracle.losses(body, Float64Array.from(head), data)));
}

/** The released model that a member uses: of its slot, the cohort-wide one if that is closed, the first before any. */
export function releasedModel(
  config: RunConfig,
  models: ReleasedModels,
  member: MemberState,
  inputs: HomeInputs,
): Model {
  const slot = homeSlot(config, models, member, inputs);
  const head = memberHead(models, slot, member.open) ?? models.heads[0] ?? new Float32Array(0);
  return { body: Float64Array.from(models.body), head: Float64Array.from(head) };
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
