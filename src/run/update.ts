import type { CryptoProvider, KeyStream } from '../../protocol/crypto-provider.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { scaleBySoftWeights, softWeights } from '../cluster/soft.ts';
import type { Dataset } from '../data/dataset.ts';
import { createRandom } from '../data/random.ts';
import { type EpochOptions, eachBatch } from '../learning/local-training.ts';
import { copyModel, type GradientOracle, type Model } from '../learning/oracle.ts';
import { type Block, createEncoder } from '../privacy/encode.ts';
import type { ReleasedModels } from './released.ts';

/*
 * Unit `participant`: a member trains on its own and sends the whole update under one clip. Everything that depends on
 * its data - the number of its records, its slot, its soft weights - is inside that one bounded vector (privacy 3.4).
 */

/** Head that a member starts from and the share of its update that each slot receives. */
export interface Placement {
  readonly head: Float64Array;
  /** Weights >= 0 with sum one; all zero where the own slot is closed and the body alone learns. */
  readonly weights: Float64Array;
}

/** One slot, or none of them: the head of the slot's model or the cohort-wide one. */
export function placeInSlot(slots: number, slot: number | null, head: Float32Array): Placement {
  const weights = new Float64Array(slots);
  if (slot !== null) weights[slot] = 1;
  return { head: Float64Array.from(head), weights };
}

/** Soft weights (FedSoft): the starting head is the mixture of the heads with the importance weights of the own records. */
export function placeSoftly(models: ReleasedModels, oracle: GradientOracle, data: Dataset): Placement {
  const body = Float64Array.from(models.body);
  const heads = models.heads.map((head) => Float64Array.from(head));
  const weights = softWeights(heads.map((head) => oracle.losses(body, head, data)));
  const head = new Float64Array(heads[0]?.length ?? 0);
  heads.forEach((values, j) => {
    for (let i = 0; i < head.length; i++)
      head[i] = (head[i] as number) + (weights[j] as number) * (values[i] as number);
  });
  return { head, weights };
}

/** Plain SGD from the released point. Random: the order of minibatches. */
function trainLocally(
  oracle: GradientOracle,
  start: Model,
  data: Dataset,
  options: EpochOptions,
  stream: KeyStream,
): Model {
  const model = copyModel(start);
  const gradient = { body: new Float64Array(model.body.length), head: new Float64Array(model.head.length) };
  const seeds = new Uint8Array(8);
  stream.read(seeds);
  const view = new DataView(seeds.buffer);
  eachBatch(data.count, options, createRandom(view.getUint32(0, true), view.getUint32(4, true)), (records) => {
    oracle.meanGradient(model.body, model.head, data, records, gradient.body, gradient.head);
    for (const group of ['body', 'head'] as const) {
      const [values, slope] = [model[group], gradient[group]];
      for (let i = 0; i < values.length; i++)
        values[i] = (values[i] as number) - options.stepSize * (slope[i] as number);
    }
  });
  return model;
}

/**
 * Trains locally and encodes broadcast minus result - the direction in which the server descends - in the body and the
 * weighted slots, clipped jointly. A member without records sends zeros: the zero-out neighbour of every other one.
 * Secrets: `data`, the result before noise. @see privacy F13, 3.4; SPEC section 6
 */
export function encodeUpdate(
  crypto: CryptoProvider,
  params: SessionParams,
  blocks: readonly Block[],
  models: ReleasedModels,
  placement: Placement,
  inputs: { readonly oracle: GradientOracle; readonly data: Dataset; readonly local: EpochOptions },
  streams: { readonly order: KeyStream; readonly rounding: KeyStream },
): Int32Array {
  const { clippingNorm, scale, rotationSeed } = params.encoding;
  const encoder = createEncoder(crypto, { blocks, clippingNorm, scale, rotationSeed });
  const { data, local, oracle } = inputs;
  if (data.count === 0) return new Int32Array(blocks.reduce((sum, block) => sum + block.length, 0));
  const start = { body: Float64Array.from(models.body), head: placement.head };
  const end = trainLocally(oracle, start, data, local, streams.order);
  const descent = (group: 'body' | 'head'): Float64Array =>
    start[group].map((value, i) => value - (end[group][i] as number));
  const head = descent('head');
  const slots = placement.weights.some((weight) => weight > 0)
    ? scaleBySoftWeights(head, placement.weights)
    : Array.from(placement.weights, () => new Float64Array(head.length));
  return encoder.encodeContribution([descent('body'), ...slots], streams.rounding);
}
