import type { Algorithm, AlgorithmInfo, LocalContext, LocalUpdate, RecordLevel } from '../algorithm.ts';
import { epochsOf, trainEpochs, updateTo } from '../local-steps.ts';
import { copyModel } from '../oracle.ts';

/** Local epochs on the whole model from the released point. */
export function epochsUpdate(context: LocalContext): LocalUpdate {
  const model = copyModel(context.start);
  trainEpochs(context, model, epochsOf(context));
  return updateTo(context, model);
}

export const ONE_STEP: RecordLevel = {
  kind: 'as-is',
  reason: 'at this unit a step is one gradient of each sampled record at the released point',
};

/** Metadata that most algorithms share: one clipped update of the whole model. */
export const WHOLE_UPDATE: Pick<
  AlgorithmInfo,
  'shared' | 'local' | 'released' | 'participantSensitivity' | 'recordLevel'
> = {
  shared: 'whole model',
  local: 'nothing',
  released: 'whole model',
  participantSensitivity: (clippingNorm) => [{ what: 'update', l2: clippingNorm }],
  recordLevel: ONE_STEP,
};

/** FedAvg (McMahan 2017): local epochs at unit `participant`, its one-step form (FedSGD) at unit `record`. */
export const fedAvg: Algorithm = {
  info: { ...WHOLE_UPDATE, id: 'fedavg', title: 'FedAvg', source: 'McMahan et al. 2017' },
  shares: 'model',
  update: epochsUpdate,
};

const serverSide = (id: string, title: string, source: string): AlgorithmInfo => ({
  ...WHOLE_UPDATE,
  id,
  title,
  source,
});

/** FedAvg whose server keeps momentum over the releases (Hsu 2019); the run's `momentum` says how much. */
export const fedAvgM: Algorithm = {
  ...fedAvg,
  info: serverSide('fedavgm', 'FedAvg with server momentum', 'Hsu et al. 2019'),
};

/** FedAvg whose server moves by an adaptive method: post-processing of the same release. */
export const fedAdam: Algorithm = {
  ...fedAvg,
  info: serverSide('fedadam', 'FedAdam', 'Reddi et al. 2021'),
  optimizer: 'adam',
};
export const fedYogi: Algorithm = {
  ...fedAvg,
  info: serverSide('fedyogi', 'FedYogi', 'Reddi et al. 2021'),
  optimizer: 'yogi',
};
export const fedAdagrad: Algorithm = {
  ...fedAvg,
  info: serverSide('fedadagrad', 'FedAdagrad', 'Reddi et al. 2021'),
  optimizer: 'adagrad',
};
