import type { Algorithm, AlgorithmInfo, LocalContext } from '../algorithm.ts';
import { descent, epochsOf, trainEpochs } from '../local-steps.ts';
import { copyModel, type Model } from '../oracle.ts';
import { WHOLE_UPDATE } from './fedavg.ts';

const BODY_ONLY: Omit<AlgorithmInfo, 'id' | 'title' | 'source'> = {
  ...WHOLE_UPDATE,
  shared: 'body',
  local: 'head',
  released: 'body',
  recordLevel: {
    kind: 'local-noise-only',
    reason: 'the gradient of the body runs through a head trained on raw records',
  },
  slots: 'none',
};

/** The released body with the participant's own head. */
function withOwnHead({ local, start }: LocalContext): Model {
  const { head = start.head } = local;
  return copyModel({ body: start.body, head });
}

/** The released body with the own head trained on it. */
function withTrainedHead(context: LocalContext): Model {
  const model = withOwnHead(context);
  const { headEpochs } = context.options;
  trainEpochs(context, model, { ...epochsOf(context), epochs: headEpochs ?? epochsOf(context).epochs }, ['head']);
  return model;
}

/** FedRep (Collins 2021): head epochs on a frozen body, then body epochs through that head; only the body is shared. */
export const fedRep: Algorithm = {
  info: {
    ...BODY_ONLY,
    id: 'fedrep',
    title: 'FedRep',
    source: 'Collins et al. 2021',
    options: {
      headEpochs: { what: 'epochs of the head in a step', least: 1, most: 1_000, fallback: 5, integer: true },
    },
  },
  shares: 'body',
  update(context) {
    const model = withTrainedHead(context);
    trainEpochs(context, model, epochsOf(context), ['body']);
    return {
      body: descent(context.start.body, model.body),
      head: new Float64Array(0),
      local: { head: model.head },
    };
  },
  personal: withTrainedHead,
};

/** FedPer (Arivazhagan 2019): body and own head are trained together; only the body is shared. */
export const fedPer: Algorithm = {
  info: { ...BODY_ONLY, id: 'fedper', title: 'FedPer', source: 'Arivazhagan et al. 2019' },
  shares: 'body',
  update(context) {
    const model = withOwnHead(context);
    trainEpochs(context, model, epochsOf(context));
    return {
      body: descent(context.start.body, model.body),
      head: new Float64Array(0),
      local: { head: model.head },
    };
  },
  personal: withOwnHead,
};

/**
 * Shared lower layers (Yosinski 2014): as many layers as the model's cut says are federated, the others stay local. At unit
 * `record` the shared layers learn through the public starting head, never through a trained one.
 */
export const layerSharing: Algorithm = {
  ...fedPer,
  info: {
    ...BODY_ONLY,
    id: 'layer-sharing',
    title: 'Shared lower layers',
    source: 'Yosinski et al. 2014',
    shared: 'layers below the cut',
    local: 'layers above the cut',
    released: 'layers below the cut',
    recordLevel: { kind: 'as-is', reason: 'one gradient of each sampled record, through released layers only' },
  },
};
