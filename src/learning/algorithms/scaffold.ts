import type { Algorithm, LocalContext, LocalUpdate } from '../algorithm.ts';
import { addScaled, epochsOf, GROUPS, trainEpochs, updateTo } from '../local-steps.ts';
import type { EpochOptions } from '../local-training.ts';
import { copyModel, type Model } from '../oracle.ts';
import { WHOLE_UPDATE } from './fedavg.ts';

/** Distance that everybody's K steps cover: K eta. */
const reachOf = ({ batches = 1, stepSize }: EpochOptions): number => batches * stepSize;

/** Factor that the encoder's clip will apply to the update; the control variate must see the same vector. */
function clipFactor({ body, head }: LocalUpdate, clippingNorm: number): number {
  let squares = 0;
  for (const value of body) squares += value * value;
  for (const value of head) squares += value * value;
  const norm = Math.sqrt(squares);
  return norm > clippingNorm ? clippingNorm / norm : 1;
}

/** The server's control variate c, or a participant's own c_k; zero at first. */
function controlsOf({ released, local, start }: LocalContext): { server: Model; own: Model } {
  const [body = [], head = []] = released.extra;
  const { controlBody = new Float64Array(start.body.length), controlHead = new Float64Array(start.head.length) } =
    local;
  return { server: copyModel({ body, head }), own: { body: controlBody, head: controlHead } };
}

/**
 * SCAFFOLD (Karimireddy 2020), option II: y <- y - eta (g - c_k + c), the same number K of steps and the same eta for
 * everybody. c_k+ = c_k - c + D_k / (K eta), D_k the clipped update, so that the sum of the updates alone gives the server
 * the sum of the new controls: no second upload, no extra cost (privacy 3.5). A participant advances c_k only if it survived.
 */
export const scaffold: Algorithm = {
  info: {
    ...WHOLE_UPDATE,
    id: 'scaffold',
    title: 'SCAFFOLD',
    source: 'Karimireddy et al. 2020',
    local: 'control variate',
    released: 'whole model and, derived from the same sums, the mean control variate',
    recordLevel: {
      kind: 'local-noise-only',
      reason: 'the local control variate depends on raw records and enters every step',
    },
    slots: 'none',
  },
  shares: 'model',
  fixedBatches: true,
  extra: ({ bodyLength, headLength }) => ({ blocks: [], released: [bodyLength, headLength] }),
  update(context) {
    const epochs = epochsOf(context);
    const { server, own } = controlsOf(context);
    const model = copyModel(context.start);
    trainEpochs(context, model, epochs, GROUPS, (_, slope) => {
      for (const group of GROUPS) {
        addScaled(slope[group], 1, server[group]);
        addScaled(slope[group], -1, own[group]);
      }
    });
    const update = updateTo(context, model);
    const factor = clipFactor(update, context.clippingNorm) / reachOf(epochs);
    const advance = (group: 'body' | 'head'): Float64Array => {
      const next = own[group].slice();
      addScaled(next, -1, server[group]);
      addScaled(next, factor, update[group]);
      return next;
    };
    return { ...update, local: { controlBody: advance('body'), controlHead: advance('head') } };
  },
  server({ body, heads }, { denominators, epochs, participants, released, survivors }) {
    const head = heads[0] ?? new Float64Array(0);
    const mean = (sum: Float64Array, denominator: number): Float64Array => sum.map((value) => value / denominator);
    // Sum over the survivors of c_k+ - c_k = -c + D_k / (K eta); c is the mean over all participants.
    const reach = epochs === null ? 1 : reachOf(epochs);
    const next = (control: Float32Array, sum: Float64Array): Float32Array =>
      control.map((value, i) => value + ((sum[i] as number) / reach - survivors * value) / participants);
    const [controlBody, controlHead] = released.extra;
    return {
      body: mean(body, denominators.body),
      heads: [mean(head, denominators.head)],
      extra: [next(controlBody ?? new Float32Array(0), body), next(controlHead ?? new Float32Array(0), head)],
    };
  },
};
