import type { CryptoProvider, KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { coordinateCount } from '../../protocol/params.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { scaleBySoftWeights, softWeights } from '../cluster/soft.ts';
import type { Dataset } from '../data/dataset.ts';
import { createRandom, type DataRandom } from '../data/random.ts';
import type { LocalContext, LocalVectors, ReleasedModels } from '../learning/algorithm.ts';
import { keepExpert, pacedContext } from '../learning/curriculum.ts';
import type { GradientOracle, Model } from '../learning/oracle.ts';
import { type Block, createEncoder, jointNorm } from '../privacy/encode.ts';
import { algorithmOf } from './algorithm.ts';
import type { RunConfig } from './config.ts';
import { summedHeads } from './plan.ts';

/*
 * Unit `participant`: a member trains on its own and sends the whole update under one clip. Everything that depends on
 * its data - the number of its records, its slot, its soft weights - is inside that one bounded vector (privacy 3.4).
 */

/** Head that a member starts from and the share of its update that each slot receives. */
export interface Placement {
  readonly head: Float64Array;
  /** Weights >= 0 of l2 norm at most one; all zero where the own slot is closed and the body alone learns. */
  readonly weights: Float64Array;
}

/** One slot, or none of them: the head of the slot's model or the cohort-wide one. */
export function placeInSlot(slots: number, slot: number | null, head: ArrayLike<number>): Placement {
  const weights = new Float64Array(slots);
  if (slot !== null) weights[slot] = 1;
  return { head: Float64Array.from(head), weights };
}

function lossesOf(models: ReleasedModels, oracle: GradientOracle, data: Dataset): Float64Array[] {
  const body = Float64Array.from(models.body);
  return models.heads.map((head) => oracle.losses(body, Float64Array.from(head), data));
}

/** The mixture of the heads with these weights. */
function mixtureOf(models: ReleasedModels, weights: Float64Array): Float64Array {
  const head = new Float64Array(models.heads[0]?.length ?? 0);
  models.heads.forEach((values, j) => {
    for (let i = 0; i < head.length; i++)
      head[i] = (head[i] as number) + (weights[j] as number) * (values[i] as number);
  });
  return head;
}

/** Soft weights (FedSoft): the starting head is the mixture of the heads with the importance weights of the own records. */
export function placeSoftly(models: ReleasedModels, oracle: GradientOracle, data: Dataset): Placement {
  const weights = softWeights(lossesOf(models, oracle, data));
  return { head: mixtureOf(models, weights), weights };
}

/** The `filled` slots of lowest mean loss (FLSC): their mean is trained, each receives the update scaled by 1 / sqrt(n). */
export function placeInSeveral(
  models: ReleasedModels,
  oracle: GradientOracle,
  data: Dataset,
  filled: number,
): Placement {
  const means = lossesOf(models, oracle, data).map((losses) => losses.reduce((sum, loss) => sum + loss, 0));
  const best = means.map((_, j) => j).toSorted((a, b) => (means[a] as number) - (means[b] as number) || a - b);
  return placeInThese(models, best.slice(0, filled));
}

/** These slots: start from their mean, each receives the update scaled by 1 / sqrt(n), so that the norm stays one clip. */
export function placeInThese(models: ReleasedModels, slots: readonly number[]): Placement {
  const among = (value: number): Float64Array =>
    Float64Array.from(models.heads, (_, j) => (slots.includes(j) ? value : 0));
  return { head: mixtureOf(models, among(1 / slots.length)), weights: among(1 / Math.sqrt(slots.length)) };
}

/** The public generator of minibatch orders, seeded from the contribution's own stream. */
export function orderRandom(stream: KeyStream): DataRandom {
  const seeds = new Uint8Array(8);
  stream.read(seeds);
  const view = new DataView(seeds.buffer);
  return createRandom(view.getUint32(0, true), view.getUint32(4, true));
}

/** What an algorithm is told of a member's part of a step. */
export function localContext(
  config: RunConfig,
  models: ReleasedModels,
  placement: Placement,
  step: number,
  inputs: { readonly oracle: GradientOracle; readonly data: Dataset; readonly local: LocalVectors },
  random: DataRandom,
): LocalContext {
  const start: Model = { body: Float64Array.from(models.body), head: placement.head };
  const { clippingNorm, local: epochs, steps } = config.training;
  return {
    oracle: inputs.oracle,
    data: inputs.data,
    start,
    released: models,
    weights: placement.weights,
    local: inputs.local,
    options: algorithmOf(config).options,
    epochs,
    personal: config.personal,
    clippingNorm,
    step,
    steps,
    random,
  };
}

/**
 * What the integers of an update of this norm cannot exceed, whatever the rounding draws: every coordinate moves by less than
 * one unit. A part in 2^16 covers the float rotation (F16). Units: integer units.
 */
function longestRounded(
  norm: number,
  { clippingNorm, scale }: Pick<SessionParams['encoding'], 'clippingNorm' | 'scale'>,
  coordinates: number,
): number {
  // An update that is not finite is a zero term.
  if (!Number.isFinite(norm)) return 0;
  return norm === 0 ? 0 : scale * Math.min(norm, clippingNorm) * (1 + 2 ** -16) + Math.sqrt(coordinates);
}

/**
 * Trains locally and encodes what the algorithm sends: body, weighted slots and its own blocks, clipped jointly, and with
 * an adaptive clip whether the clip was long enough. A member
 * without records sends zeros: the zero-out neighbour of every other one.
 * Secrets: the records, the result before noise. @see privacy F13, 3.4
 */
export function encodeUpdate(
  crypto: CryptoProvider,
  config: RunConfig,
  params: SessionParams,
  blocks: readonly Block[],
  context: LocalContext,
  countUnits: number,
  rounding: KeyStream,
): { readonly values: Int32Array; readonly local: LocalVectors; readonly ownNorm: number } {
  const { clippingNorm, scale, rotationSeed } = params.encoding;
  const encoder = createEncoder(crypto, { blocks, clippingNorm, scale, rotationSeed });
  const { algorithm } = algorithmOf(config);
  if (context.data.count === 0 || algorithm.update === undefined)
    return { values: new Int32Array(coordinateCount(params)), local: context.local, ownNorm: 0 };
  const { curriculum } = config.training.local ?? {};
  const update = algorithm.update(curriculum === undefined ? context : pacedContext(curriculum, context));
  const { body, head, extra = [] } = update;
  const keepsExpert = curriculum !== undefined && curriculum.expert !== 'global';
  const kept = keepsExpert ? keepExpert(context, update) : update.local;
  const local = kept === undefined ? context.local : { ...context.local, ...kept };
  const slots =
    summedHeads(config, context.released.heads.length) === 0 ? [] : scaleBySoftWeights(head, context.weights);
  const segments = [body, ...slots, ...extra];
  if (segments.length !== blocks.length)
    throw new CoveyError('INTERNAL_INVARIANT', `"segments" expected ${blocks.length}, got ${segments.length}`);
  const values = new Int32Array(coordinateCount(params));
  values.set(encoder.encodeContribution(segments, rounding));
  // An update that is not finite is a zero term and counts as too long.
  const norm = jointNorm(segments);
  if (countUnits > 0) values[values.length - 1] = norm <= clippingNorm ? countUnits : -countUnits;
  const longest = longestRounded(norm, { clippingNorm, scale }, values.length);
  return { values, local, ownNorm: Math.hypot(longest, countUnits) };
}
