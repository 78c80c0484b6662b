import { CoveyError } from '../../protocol/errors.ts';
import type { Dataset } from '../data/dataset.ts';
import type { DataRandom } from '../data/random.ts';
import { initialModel } from './initial-model.ts';
import { createOptimizer, type LocalOptimizer } from './optimizer.ts';
import { copyModel, type GradientOracle, type Model } from './oracle.ts';

/** Minibatches of local training: whole epochs, or as many minibatches for everybody. Units: `stepSize` as a learning rate. */
export interface EpochOptions {
  readonly epochs: number;
  /** In place of whole epochs: this many minibatches, however many records there are. */
  readonly batches?: number | undefined;
  readonly batchSize: number;
  readonly stepSize: number;
  /** Starts anew with every training; plain SGD if absent. */
  readonly optimizer?: LocalOptimizer | undefined;
}

/** Adam with weight decay added to the gradient. */
export interface LocalOnlyOptions extends EpochOptions {
  readonly weightDecay: number;
}

/** Settings of the baseline row "Local only" of the embedded scenario. */
export const LOCAL_ONLY: LocalOnlyOptions = { epochs: 160, batchSize: 32, stepSize: 0.01, weightDecay: 1e-3 };

/** @throws CoveyError USAGE_RANGE for options that would train nothing or diverge at once. */
export function checkEpochs({ epochs, batchSize, stepSize }: EpochOptions): void {
  if (!Number.isInteger(epochs) || epochs < 0)
    throw new CoveyError('USAGE_RANGE', `"epochs" expected an integer >= 0, got ${epochs}`);
  if (!Number.isInteger(batchSize) || batchSize < 1)
    throw new CoveyError('USAGE_RANGE', `"batchSize" expected an integer >= 1, got ${batchSize}`);
  if (!(stepSize > 0)) throw new CoveyError('USAGE_RANGE', `"stepSize" expected a positive number, got ${stepSize}`);
}

/**
 * The minibatches of every epoch, each epoch in a new random order; none without records. A batch is valid until the next
 * one is asked for.
 */
export function* batchesOf(
  count: number,
  { epochs, batches, batchSize }: EpochOptions,
  random: DataRandom,
): Generator<Uint32Array, void, undefined> {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  let left = count === 0 ? 0 : (batches ?? epochs * Math.ceil(count / batchSize));
  while (left > 0) {
    random.shuffle(order);
    for (let start = 0; start < count && left > 0; start += batchSize, left--)
      yield order.subarray(start, start + batchSize);
  }
}

/** Visits the minibatches of every epoch. */
export function eachBatch(
  count: number,
  options: EpochOptions,
  random: DataRandom,
  visit: (records: Uint32Array) => void,
): void {
  for (const records of batchesOf(count, options, random)) visit(records);
}

/**
 * Trains a model on the organization's own records alone: what it can have without any federation.
 * Random: order of minibatches and starting point, both reproducible; the model never leaves the site.
 */
export function trainLocalOnly(
  oracle: GradientOracle,
  data: Dataset,
  random: DataRandom,
  options: LocalOnlyOptions = LOCAL_ONLY,
): Model {
  checkEpochs(options);
  const model = copyModel(initialModel(oracle.manifest, random));
  const bodyGradient = new Float64Array(model.body.length);
  const headGradient = new Float64Array(model.head.length);
  const adam = { kind: 'adam', stepSize: options.stepSize, weightDecay: options.weightDecay } as const;
  const stepBody = createOptimizer(adam, model.body.length);
  const stepHead = createOptimizer(adam, model.head.length);
  eachBatch(data.count, options, random, (records) => {
    oracle.meanGradient(model.body, model.head, data, records, bodyGradient, headGradient);
    stepBody(model.body, bodyGradient);
    stepHead(model.head, headGradient);
  });
  return model;
}
