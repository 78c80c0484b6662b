import type { Dataset } from '../data/dataset.ts';
import type { DataRandom } from '../data/random.ts';
import { checkEpochs, type EpochOptions, eachBatch } from '../learning/local-training.ts';
import { copyModel, type GradientOracle, type Model } from '../learning/oracle.ts';

/** `part`: what moves; the whole model is the default of the embedded scenario. */
export interface FineTuneOptions extends EpochOptions {
  readonly part?: 'whole' | 'head';
}

/** Settings of the embedded scenario. */
export const FINE_TUNING: FineTuneOptions = { epochs: 30, batchSize: 32, stepSize: 0.1, part: 'whole' };

/**
 * Tunes a copy of a released model on own records by plain SGD (FedAvg + fine-tuning, Collins 2022).
 * Costs no privacy as long as the result stays at the site and no release is computed through it (privacy 3.6).
 * Secrets: the tuned model depends on raw records.
 */
export function fineTune(
  oracle: GradientOracle,
  released: { readonly body: ArrayLike<number>; readonly head: ArrayLike<number> },
  data: Dataset,
  random: DataRandom,
  options: FineTuneOptions = FINE_TUNING,
): Model {
  checkEpochs(options);
  const model = copyModel(released);
  const bodyGradient = new Float64Array(model.body.length);
  const headGradient = new Float64Array(model.head.length);
  const { stepSize, part = 'whole' } = options;
  eachBatch(data.count, options, random, (records) => {
    oracle.meanGradient(model.body, model.head, data, records, bodyGradient, headGradient);
    for (let i = 0; i < headGradient.length; i++)
      model.head[i] = (model.head[i] as number) - stepSize * (headGradient[i] as number);
    if (part === 'head') return;
    for (let i = 0; i < bodyGradient.length; i++)
      model.body[i] = (model.body[i] as number) - stepSize * (bodyGradient[i] as number);
  });
  return model;
}
