import type { Algorithm, LocalContext } from '../algorithm.ts';
import { epochsOf, trainEpochs, updateTo } from '../local-steps.ts';
import { copyModel } from '../oracle.ts';
import { WHOLE_UPDATE } from './fedavg.ts';

/**
 * Epochs of this step: a straggler does a part of them, drawn anew each step from 1 to all, and still counts.
 * @see Li et al. 2020, section 5.2
 */
function epochsDone(context: LocalContext): number {
  const { epochs } = epochsOf(context);
  const { stragglers = 0 } = context.options;
  const isStraggler = context.random.uniform(0, 1) < stragglers;
  return isStraggler ? 1 + context.random.integer(epochs) : epochs;
}

/** FedProx (Li 2020): every local step is also pulled towards the released model. */
export const fedProx: Algorithm = {
  info: {
    ...WHOLE_UPDATE,
    id: 'fedprox',
    title: 'FedProx',
    source: 'Li et al. 2020',
    recordLevel: {
      kind: 'as-is',
      reason: 'its one-step form is one-step FedAvg: the proximal term is zero at the released point',
    },
    options: {
      mu: { what: 'pull towards the released model', least: 0, most: 1_000, fallback: 1 },
      stragglers: { what: 'share of participants that do fewer epochs', least: 0, most: 1, fallback: 0 },
    },
  },
  shares: 'model',
  update(context) {
    const { start } = context;
    const { mu = 0 } = context.options;
    const model = copyModel(start);
    trainEpochs(context, model, { ...epochsOf(context), epochs: epochsDone(context) }, undefined, (at, gradient) => {
      for (const group of ['body', 'head'] as const) {
        const [values, anchor, slope] = [at[group], start[group], gradient[group]];
        for (let i = 0; i < slope.length; i++)
          slope[i] = (slope[i] as number) + mu * ((values[i] as number) - (anchor[i] as number));
      }
    });
    return updateTo(context, model);
  },
};
