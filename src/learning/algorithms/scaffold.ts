import { hiddenLayout } from '../../cluster/layout.ts';
import type { Algorithm, LocalContext, LocalUpdate, StepFacts } from '../algorithm.ts';
import { addScaled, epochsOf, GROUPS, gradientOf, trainEpochs, updateTo } from '../local-steps.ts';
import type { EpochOptions } from '../local-training.ts';
import { copyModel, type Model } from '../oracle.ts';
import { WHOLE_UPDATE } from './fedavg.ts';

/** Distance that everybody's K steps cover: K eta. */
const reachOf = ({ batches = 1, stepSize }: EpochOptions): number => batches * stepSize;

/** Factor that brings two parts of a vector within a norm. */
function clipFactor({ body, head }: Model, norm: number): number {
  let squares = 0;
  for (const value of body) squares += value * value;
  for (const value of head) squares += value * value;
  const length = Math.sqrt(squares);
  return length > norm ? norm / length : 1;
}

function scaled({ body, head }: Model, factor: number): Model {
  return { body: body.map((value) => factor * value), head: head.map((value) => factor * value) };
}

/** The server's control variate c, or a participant's own c_k; zero at first. */
function controlsOf({ released, local, start }: LocalContext): { server: Model; own: Model } {
  const [body = [], head = []] = released.extra;
  const { controlBody = new Float64Array(start.body.length), controlHead = new Float64Array(start.head.length) } =
    local;
  return { server: copyModel({ body, head }), own: { body: controlBody, head: controlHead } };
}

/** The controls are sent beside the update, under a clip of their own. */
const sendsControls = ({ option }: Readonly<Record<string, number>>): boolean => option === 1;

/** Option II: c_k+ = c_k - c + D_k / (K eta), D_k as the encoder will clip it, so that the server's sum is the same. */
function derivedControl(context: LocalContext, update: LocalUpdate, server: Model, own: Model): LocalUpdate {
  const factor = clipFactor(update, context.clippingNorm) / reachOf(epochsOf(context));
  const advance = (group: 'body' | 'head'): Float64Array => {
    const next = own[group].slice();
    addScaled(next, -1, server[group]);
    addScaled(next, factor, update[group]);
    return next;
  };
  return { ...update, local: { controlBody: advance('body'), controlHead: advance('head') } };
}

/**
 * Option I: c_k+ is the gradient of all own records at the released model. Sent are D_k within C1 and K eta (c_k+ - c_k)
 * within C2, C1^2 + C2^2 = C^2; K eta brings both to the size of an update. c_k moves by what was sent and no more.
 */
function sentControl(context: LocalContext, update: LocalUpdate, own: Model): LocalUpdate {
  const { clippingNorm, data, options, oracle, start } = context;
  const { controlShare = 0 } = options;
  const reach = reachOf(epochsOf(context));
  const records = Uint32Array.from({ length: data.count }, (_, i) => i);
  const change = gradientOf(start);
  oracle.meanGradient(start.body, start.head, data, records, change.body, change.head);
  for (const group of GROUPS) addScaled(change[group], -1, own[group]);
  const wide = scaled(change, reach);
  const sent = scaled(wide, clipFactor(wide, controlShare * clippingNorm));
  const advance = (group: 'body' | 'head'): Float64Array => {
    const next = own[group].slice();
    addScaled(next, 1 / reach, sent[group]);
    return next;
  };
  return {
    ...scaled(update, clipFactor(update, Math.sqrt(1 - controlShare ** 2) * clippingNorm)),
    extra: [sent.body, sent.head],
    local: { controlBody: advance('body'), controlHead: advance('head') },
  };
}

/** The next control c of a group: its mean change over all participants, sent or derived from the sum of the updates. */
function nextControl(
  control: Float32Array,
  update: Float64Array,
  sent: Float64Array | undefined,
  { epochs, participants, survivors }: StepFacts,
): Float32Array {
  const reach = epochs === null ? 1 : reachOf(epochs);
  // Derived: the sum over the survivors of c_k+ - c_k = -c + D_k / (K eta).
  return control.map((value, i) => {
    const change = sent === undefined ? (update[i] as number) / reach - survivors * value : (sent[i] as number) / reach;
    return value + change / participants;
  });
}

/**
 * SCAFFOLD (Karimireddy 2020): y <- y - eta (g - c_k + c), the same number K of steps and the same eta for everybody.
 * Option II derives the controls from the updates, so that the sum of the updates alone gives the server the sum of the new
 * controls: no second upload, no extra cost (privacy 3.5). Option I sends them too. c_k advances only if it survived.
 */
export const scaffold: Algorithm = {
  info: {
    ...WHOLE_UPDATE,
    id: 'scaffold',
    title: 'SCAFFOLD',
    source: 'Karimireddy et al. 2020',
    shared: 'whole model; option 1: and the change of the control variate',
    local: 'control variate',
    released: 'whole model and the mean control variate',
    participantSensitivity: (clippingNorm) => [
      { what: 'update (option 1: with the control, sqrt(C1^2 + C2^2))', l2: clippingNorm },
    ],
    recordLevel: {
      kind: 'local-noise-only',
      reason: 'the local control variate depends on raw records and enters every step',
    },
    options: {
      option: {
        what: '1: control variates are gradients at the released model and are sent, 2: derived from the updates',
        least: 1,
        most: 2,
        fallback: 2,
        integer: true,
      },
      controlShare: {
        what: 'clip C2 of the sent controls over C; that of the update is the rest, sqrt(1 - share^2)',
        least: 0.01,
        most: 0.99,
        fallback: 0.5,
      },
    },
    slots: 'none',
  },
  shares: 'model',
  plainSteps: 'control variates are the means of plain steps',
  fixedBatches: true,
  clipsParts: sendsControls,
  extra({ bodyLength, headLength }, options) {
    const layout = hiddenLayout({ bodyLength, headLength, slots: 1 });
    const blocks = layout.map((block) => ({ ...block, segment: `control-${block.segment}` }));
    return { blocks: sendsControls(options) ? blocks : [], released: [bodyLength, headLength] };
  },
  update(context) {
    const { server, own } = controlsOf(context);
    const model = copyModel(context.start);
    trainEpochs(context, model, epochsOf(context), GROUPS, (_, slope) => {
      for (const group of GROUPS) {
        addScaled(slope[group], 1, server[group]);
        addScaled(slope[group], -1, own[group]);
      }
    });
    const update = updateTo(context, model);
    return sendsControls(context.options)
      ? sentControl(context, update, own)
      : derivedControl(context, update, server, own);
  },
  server({ body, heads, extra }, facts) {
    const { denominators, released } = facts;
    const head = heads[0] ?? new Float64Array(0);
    const mean = (sum: Float64Array, denominator: number): Float64Array => sum.map((value) => value / denominator);
    const [controlBody, controlHead] = released.extra;
    return {
      body: mean(body, denominators.body),
      heads: [mean(head, denominators.head)],
      extra: [
        nextControl(controlBody ?? new Float32Array(0), body, extra[0], facts),
        nextControl(controlHead ?? new Float32Array(0), head, extra[1], facts),
      ],
    };
  },
};
