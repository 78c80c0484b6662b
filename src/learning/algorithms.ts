import { chooseByExponentialMechanism, chooseLowestLoss, clippedLossScore } from '../cluster/choice.ts';
import { stepDitto } from '../personalize/ditto.ts';
import { fineTune } from '../personalize/fine-tuning.ts';
import type { Algorithm, ParticipantContext, SlotMechanism } from './algorithm.ts';
import { algorithmInfo } from './catalogue.ts';
import { trainLocalOnly } from './local-training.ts';
import { copyModel } from './oracle.ts';
import {
  averageStep,
  descent,
  epochsUpdate,
  gradientTerm,
  momentumStep,
  releasedModel,
  slotLayout,
  trainEpochs,
} from './shared-steps.ts';

/** FedAvg in its one-step form (FedSGD, McMahan 2017): one gradient of each sampled record, at the released point. */
export const fedAvg: Algorithm = {
  info: algorithmInfo('fedavg'),
  layout: slotLayout,
  recordTerm: gradientTerm,
  participantUpdate: epochsUpdate,
  serverStep: averageStep,
  personalize: ({ released, local }) => releasedModel(released, local.slot),
};

/** FedAvg with several local epochs (McMahan 2017): the local model sees all records between two releases. */
export const fedAvgEpochs: Algorithm = {
  info: algorithmInfo('fedavg-epochs'),
  layout: slotLayout,
  participantUpdate: epochsUpdate,
  serverStep: averageStep,
  personalize: fedAvg.personalize,
};

/** FedAvg with server momentum (Hsu 2019); the momentum post-processes releases. */
export const fedAvgM: Algorithm = { ...fedAvg, info: algorithmInfo('fedavgm'), serverStep: momentumStep };

/** Local fine-tuning of the released model at the end (Collins 2022). */
export const fedAvgFineTuning: Algorithm = {
  ...fedAvgM,
  info: algorithmInfo('fedavg-ft'),
  personalize: ({ oracle, released, local, data, random, options }) =>
    fineTune(oracle, releasedModel(released, local.slot), data, random, options.personal),
};

/** Ditto (Li 2021): the personal model is pulled towards the released one and never read by the shared step. */
export const ditto: Algorithm = {
  ...fedAvgM,
  info: algorithmInfo('ditto'),
  updateLocal: (context) => {
    const { oracle, released, local, data, random, options } = context;
    const model = releasedModel(released, local.slot);
    const personal = stepDitto(oracle, model, local.personal ?? copyModel(model), data, random, {
      ...options.personal,
      lambda: options.lambda,
    });
    return { ...local, personal };
  },
  personalize: ({ released, local }) => local.personal ?? releasedModel(released, local.slot),
};

function chooseSlot({ oracle, released, data }: ParticipantContext, mechanism: SlotMechanism): number {
  const losses = released.heads.map((_, slot) => {
    const { body, head } = releasedModel(released, slot);
    return oracle.losses(body, head, data);
  });
  if (mechanism.kind === 'lowest-loss') return chooseLowestLoss(losses);
  const { epsilon, lossBound, stream } = mechanism;
  const scores = Float64Array.from(losses, (values) => clippedLossScore(values, lossBound));
  return chooseByExponentialMechanism(scores, epsilon, lossBound, true, stream);
}

/** IFCA (Ghosh 2020) in hybrid hidden slots: shared body, the head of the own slot, zeros in the others. */
export const ifca: Algorithm = { ...fedAvgM, info: algorithmInfo('ifca'), chooseSlot };

/** IFCA with fine-tuning of the whole model at the end: the embedded scenario. */
export const ifcaFineTuning: Algorithm = {
  ...ifca,
  info: algorithmInfo('ifca-ft'),
  personalize: fedAvgFineTuning.personalize,
};

/**
 * FedRep (Collins 2021): head epochs on a frozen body, then body epochs through that head; only the body is shared.
 * The body's update runs through a head trained on raw records: unit `participant`, or local noise.
 */
export const fedRep: Algorithm = {
  info: algorithmInfo('fedrep'),
  layout: (manifest) => slotLayout(manifest, 0),
  participantUpdate: (context) => {
    const model = fedRepHead(context);
    const before = Float64Array.from(model.body);
    trainEpochs(context, model, ['body']);
    return [descent(before, model.body)];
  },
  serverStep: averageStepOfBody,
  updateLocal: (context) => ({ ...context.local, personal: fedRepHead(context) }),
  personalize: (context) => fedRepHead(context),
};

/** The released body with the own head trained on it. */
function fedRepHead(context: ParticipantContext): ReturnType<typeof copyModel> {
  const { released, local } = context;
  const head = local.personal?.head ?? released.heads[local.slot] ?? new Float32Array(0);
  const model = copyModel({ body: released.body, head });
  trainEpochs(context, model, ['head']);
  return model;
}

function averageStepOfBody(...[state, sums, facts]: Parameters<typeof averageStep>): ReturnType<typeof averageStep> {
  const stepped = averageStep({ ...state, heads: [] }, sums, facts);
  return { ...state, body: stepped.body };
}

/** No federation at all: the baseline row that every comparison shows. */
export const localOnly: Algorithm = {
  info: algorithmInfo('local'),
  layout: () => [],
  personalize: ({ oracle, data, random }) => trainLocalOnly(oracle, data, random),
};
