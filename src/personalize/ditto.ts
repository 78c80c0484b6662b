import { CoveyError } from '../../protocol/errors.ts';
import type { Dataset } from '../data/dataset.ts';
import type { DataRandom } from '../data/random.ts';
import { checkEpochs, type EpochOptions, eachBatch } from '../learning/local-training.ts';
import { copyModel, type GradientOracle, type Model } from '../learning/oracle.ts';

/** `lambda`: pull towards the released model; 0 is local training, large is the released model. */
export interface DittoOptions extends EpochOptions {
  readonly lambda: number;
}

/**
 * Moves the personal model of Ditto (Li 2021): v <- v - step (grad F(v) + lambda (v - w)), w the released model.
 * The personal model is kept between rounds and never read by a shared step, so it costs no privacy at any unit.
 * Secrets: the result depends on raw records and stays at the site. Leaves its arguments as they are.
 * @throws CoveyError USAGE_RANGE for a negative lambda or a step that would overshoot the pull.
 */
export function stepDitto(
  oracle: GradientOracle,
  released: { readonly body: ArrayLike<number>; readonly head: ArrayLike<number> },
  personal: Model,
  data: Dataset,
  random: DataRandom,
  options: DittoOptions,
): Model {
  checkEpochs(options);
  const { lambda, stepSize } = options;
  if (!(lambda >= 0 && stepSize * lambda <= 1)) {
    throw new CoveyError('USAGE_RANGE', `"lambda" expected 0 <= lambda <= 1 / stepSize, got ${lambda}`);
  }
  const w = copyModel(released);
  const v = copyModel(personal);
  const bodyGradient = new Float64Array(v.body.length);
  const headGradient = new Float64Array(v.head.length);
  const move = (value: Float64Array, gradient: Float64Array, anchor: Float64Array): void => {
    for (let i = 0; i < value.length; i++) {
      const at = value[i] as number;
      value[i] = at - stepSize * ((gradient[i] as number) + lambda * (at - (anchor[i] as number)));
    }
  };
  eachBatch(data.count, options, random, (records) => {
    oracle.meanGradient(v.body, v.head, data, records, bodyGradient, headGradient);
    move(v.body, bodyGradient, w.body);
    move(v.head, headGradient, w.head);
  });
  return v;
}
