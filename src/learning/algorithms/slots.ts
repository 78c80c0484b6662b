import type { Algorithm, LocalContext, RecordLevel } from '../algorithm.ts';
import { addScaled, epochsOf, keptModel, trainEpochs, updateTo } from '../local-steps.ts';
import { copyModel, type Model } from '../oracle.ts';
import { fedAvg, WHOLE_UPDATE } from './fedavg.ts';

const CHOICE: RecordLevel = {
  kind: 'with-charge',
  charge: 'exponential-mechanism',
  reason: 'the choice of a slot moves the whole contribution: exponential mechanism on the summed clipped losses',
};

/** IFCA (Ghosh 2020): every participant trains the slot whose model fits it best, hidden among the others. */
export const ifca: Algorithm = {
  ...fedAvg,
  info: {
    ...WHOLE_UPDATE,
    id: 'ifca',
    title: 'IFCA in hidden slots',
    source: 'Ghosh et al. 2020',
    shared: 'body and the head of the own slot',
    local: 'slot, losses',
    released: 'body, one head for each slot, noisy counts at a census',
    participantSensitivity: (clippingNorm) => [
      { what: 'slots', l2: clippingNorm },
      { what: 'count (census only)', l2: 1 },
    ],
    recordLevel: CHOICE,
    slots: 'chosen',
  },
};

/** Clusters that split and merge by what probes release: every participant trains the slot that fits it best. */
export const evolving: Algorithm = {
  ...fedAvg,
  info: {
    ...ifca.info,
    id: 'evolving',
    title: 'Evolving clusters in hidden slots',
    source: 'Ghosh et al. 2020, with splits and merges from aggregates',
    local: 'slot, losses, gap',
    released: 'body, one head for each slot, noisy counts and gaps of each probe',
    participantSensitivity: (clippingNorm) => [
      { what: 'slots', l2: clippingNorm },
      { what: 'count (probes only)', l2: 1 },
      { what: 'gap and its count (probes only)', l2: Math.SQRT2 },
    ],
    slots: 'evolving',
  },
};

/** FLSC (Li, Li, Varshney 2021): the n slots of lowest loss; their mean is trained once and sent to all of them. */
export const flsc: Algorithm = {
  ...fedAvg,
  info: {
    ...ifca.info,
    id: 'flsc',
    title: 'FLSC in hidden slots',
    source: 'Li, Li and Varshney 2021',
    shared: 'body and the heads of n slots, each scaled by 1 / sqrt(n)',
    local: 'slots, losses',
    participantSensitivity: (clippingNorm) => [
      { what: 'slots', l2: clippingNorm },
      { what: 'counts (census only), n slots', l2: 1 },
    ],
    recordLevel: { ...CHOICE, reason: `${CHOICE.reason}, n draws and n charges` },
    slots: 'several',
  },
};

/** Pulls a personal model towards every slot's model by the weight of the slot, in place of the gradient's own step. */
function pullToSlots({ released, weights }: LocalContext, lambda: number): (model: Model, gradient: Model) => void {
  return (model, gradient) => {
    addScaled(gradient.body, lambda, model.body);
    addScaled(gradient.body, -lambda, released.body);
    released.heads.forEach((head, j) => {
      const pull = lambda * (weights[j] as number);
      addScaled(gradient.head, pull, model.head);
      addScaled(gradient.head, -pull, head);
    });
  };
}

/**
 * FedSoft (Ruan and Joe-Wong 2022): one personal model, pulled towards every slot by the share u_ks of own records that the
 * slot serves best, h_k(w) = f_k(w) + lambda/2 sum_s u_ks ||w - c_s||^2; slots receive u_ks of its update, whose norm stays
 * that of one clip. At unit `record` each record fills the slot that fits it best.
 */
export const fedSoft: Algorithm = {
  info: {
    ...WHOLE_UPDATE,
    id: 'fedsoft',
    title: 'FedSoft in hidden slots',
    source: 'Ruan and Joe-Wong 2022',
    shared: 'all slots, weighted',
    local: 'personal model, weights',
    released: 'body and one head for each slot',
    recordLevel: { kind: 'as-is', reason: 'each record fills the slot that fits it best under released models' },
    options: { lambda: { what: 'pull towards the slots', least: 0, most: 1_000, fallback: 0.1 } },
    slots: 'soft',
  },
  shares: 'model',
  update(context) {
    const { lambda = 0 } = context.options;
    const model = copyModel(context.start);
    trainEpochs(context, model, epochsOf(context), undefined, pullToSlots(context, lambda));
    return { ...updateTo(context, model), local: { body: model.body, head: model.head } };
  },
  personal: keptModel,
};
