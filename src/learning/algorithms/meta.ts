import type { Algorithm, LocalContext } from '../algorithm.ts';
import { addScaled, epochsOf, GROUPS, gradientOf, trainEpochs, updateTo } from '../local-steps.ts';
import { eachBatch } from '../local-training.ts';
import { copyModel, type Model } from '../oracle.ts';
import { epochsUpdate, WHOLE_UPDATE } from './fedavg.ts';

/** Half of a Hessian's step in the difference quotient of the Hessian-free form. */
const QUOTIENT = 1e-3;

function gradientAt({ oracle, data }: LocalContext, model: Model, records: Uint32Array): Model {
  const gradient = gradientOf(model);
  oracle.meanGradient(model.body, model.head, data, records, gradient.body, gradient.head);
  return gradient;
}

/** The model a step along the direction away; the argument stays. */
function moved(model: Model, factor: number, direction: Model): Model {
  const next = copyModel(model);
  for (const group of GROUPS) addScaled(next[group], factor, direction[group]);
  return next;
}

/** A few epochs from the meta-parameters: what fast adaptation is for. */
function adapted(context: LocalContext): Model {
  const model = copyModel(context.start);
  trainEpochs(context, model, context.personal);
  return model;
}

/**
 * Per-FedAvg (Fallah 2020; MAML of Finn 2017): w~ = w - alpha grad(w; D1), then w <- w - beta (I - alpha H) grad(w~; D2),
 * D1 and D2 the halves of a minibatch. First-order: without H. Hessian-free: H grad by a difference of gradients on D1.
 */
export const perFedAvg: Algorithm = {
  info: {
    ...WHOLE_UPDATE,
    id: 'per-fedavg',
    title: 'Per-FedAvg',
    source: 'Finn et al. 2017, Fallah et al. 2020',
    local: 'adapted model',
    recordLevel: { kind: 'local-noise-only', reason: 'the inner step runs on other raw records' },
    options: {
      alpha: { what: 'step of the inner update', least: 0, most: 100, fallback: 0.05 },
      hessianFree: {
        what: '1: with the product of the Hessian, 0: first-order',
        least: 0,
        most: 1,
        fallback: 0,
        integer: true,
      },
    },
  },
  shares: 'model',
  plainSteps: 'its steps are gradients of what an inner step leads to',
  update(context) {
    const { alpha = 0, hessianFree } = context.options;
    const epochs = epochsOf(context);
    const model = copyModel(context.start);
    eachBatch(context.data.count, epochs, context.random, (records) => {
      // A record alone is both halves.
      const half = records.length < 2 ? records.length : records.length >> 1;
      const [inner, outer] = [records.subarray(0, half), records.subarray(records.length < 2 ? 0 : half)];
      const gradient = gradientAt(context, moved(model, -alpha, gradientAt(context, model, inner)), outer);
      if (hessianFree === 1) {
        const ahead = gradientAt(context, moved(model, QUOTIENT, gradient), inner);
        const behind = gradientAt(context, moved(model, -QUOTIENT, gradient), inner);
        for (const group of GROUPS) {
          addScaled(gradient[group], -alpha / (2 * QUOTIENT), ahead[group]);
          addScaled(gradient[group], alpha / (2 * QUOTIENT), behind[group]);
        }
      }
      for (const group of GROUPS) addScaled(model[group], -epochs.stepSize, gradient[group]);
    });
    return updateTo(context, model);
  },
  personal: adapted,
};

/** Reptile (Nichol 2018): the server moves towards where a number of plain SGD steps lead. */
export const reptile: Algorithm = {
  info: {
    ...WHOLE_UPDATE,
    id: 'reptile',
    title: 'Reptile',
    source: 'Nichol et al. 2018',
    local: 'adapted model',
    recordLevel: {
      kind: 'local-noise-only',
      reason: 'later local steps run through a model that other raw records have moved',
    },
  },
  shares: 'model',
  update: epochsUpdate,
  personal: adapted,
};
