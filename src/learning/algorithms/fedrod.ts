import { CoveyError } from '../../../protocol/errors.ts';
import type { Algorithm, LocalContext } from '../algorithm.ts';
import { addScaled, biasOffset, epochsOf, gradientOf, sgdStep, trainEpochs, updateTo } from '../local-steps.ts';
import { eachBatch } from '../local-training.ts';
import { copyModel, type Model } from '../oracle.ts';
import { WHOLE_UPDATE } from './fedavg.ts';

/** log of the smoothed number of records of each class. */
function logCounts({ data }: LocalContext): Float64Array {
  const counts = new Float64Array(data.classes).fill(1);
  for (const label of data.labels) counts[label] = (counts[label] as number) + 1;
  return counts.map(Math.log);
}

/**
 * FedRoD (Chen and Chao 2021): the shared model learns by the balanced softmax (logits plus log n_k(y)), which is a shift of
 * the biases; a personal head on stopped features is added to its logits, which for a linear head is a sum of heads.
 */
export const fedRod: Algorithm = {
  info: {
    ...WHOLE_UPDATE,
    id: 'fedrod',
    title: 'FedRoD',
    source: 'Chen and Chao 2021',
    shared: 'body and generic head',
    local: 'personal head, label counts',
    released: 'body and generic head',
    recordLevel: {
      kind: 'with-charge',
      charge: 'histogram',
      reason:
        'the balanced softmax shifts every gradient by label counts: "algorithm.labels" sums those of the cohort under charged noise, or gives a public prior',
    },
    options: {
      personalEpochs: {
        what: 'epochs of the personal part in a step',
        least: 0,
        most: 1_000,
        fallback: 1,
        integer: true,
      },
    },
    slots: 'none',
  },
  shares: 'model',
  readsBias: true,
  recordHead(head, labels, manifest) {
    if (labels === null) throw new CoveyError('INTERNAL_INVARIANT', 'fedrod at unit record without label counts');
    const at = biasOffset(manifest, 'fedrod');
    const shifted = head.slice();
    addScaled(shifted.subarray(at, at + labels.length), 1, labels.map(Math.log));
    return shifted;
  },
  update(context) {
    const at = biasOffset(context.oracle.manifest, 'fedrod');
    const shift = logCounts(context);
    const model = copyModel(context.start);
    const shifted = (sign: number): void => addScaled(model.head.subarray(at, at + shift.length), sign, shift);
    shifted(1);
    trainEpochs(context, model, epochsOf(context));
    shifted(-1);
    return updateTo(context, model);
  },
  keep(context) {
    const { options, personal: settings, start } = context;
    const { personalEpochs = 1 } = options;
    const epochs = { ...settings, epochs: personalEpochs };
    const { head = new Float64Array(start.head.length) } = context.local;
    const personal = head.slice();
    const sum = copyModel(start);
    const gradient = gradientOf(sum);
    eachBatch(context.data.count, epochs, context.random, (records) => {
      start.head.forEach((value, i) => {
        sum.head[i] = value + (personal[i] as number);
      });
      sgdStep(context, sum, gradient, records, epochs.stepSize, []);
      addScaled(personal, -epochs.stepSize, gradient.head);
    });
    return { head: personal };
  },
  personal({ local, start }): Model {
    const model = copyModel(start);
    const { head } = local;
    if (head !== undefined) addScaled(model.head, 1, head);
    return model;
  },
};
