import { stepDitto } from '../../personalize/ditto.ts';
import type { Algorithm } from '../algorithm.ts';
import { keptModel } from '../local-steps.ts';
import { epochsUpdate, ONE_STEP, WHOLE_UPDATE } from './fedavg.ts';

/** Ditto (Li 2021): the personal model is pulled towards the released one and never read by the shared step. */
export const ditto: Algorithm = {
  info: {
    ...WHOLE_UPDATE,
    id: 'ditto',
    title: 'Ditto',
    source: 'Li et al. 2021',
    local: 'personal model',
    recordLevel: { kind: 'as-is', reason: `${ONE_STEP.reason}; the personal model is never read by it` },
    options: {
      lambda: { what: 'pull of the personal model towards the released one', least: 0, most: 1_000, fallback: 0.1 },
      personalEpochs: {
        what: 'epochs of the personal part in a step',
        least: 0,
        most: 1_000,
        fallback: 1,
        integer: true,
      },
    },
  },
  shares: 'model',
  update: epochsUpdate,
  keep(context) {
    const { oracle, start, data, random, options, personal } = context;
    const { lambda = 0, personalEpochs: epochs = 1 } = options;
    const { body, head } = stepDitto(oracle, start, keptModel(context), data, random, { ...personal, epochs, lambda });
    return { body, head };
  },
  personal: keptModel,
};
