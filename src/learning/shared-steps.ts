import { hiddenLayout } from '../cluster/layout.ts';
import type { Block, TermPart } from '../privacy/encode.ts';
import type { Algorithm, ParticipantContext, ReleasedState, ServerFacts } from './algorithm.ts';
import { eachBatch } from './local-training.ts';
import type { ModelManifest } from './manifest.ts';
import { copyModel, type Model } from './oracle.ts';
import { stepMomentum } from './server-optimizer.ts';

/** The released model of a slot, in doubles of its own. */
export function releasedModel(released: ReleasedState, slot: number): Model {
  return copyModel({ body: released.body, head: released.heads[slot] ?? new Float32Array(0) });
}

/** One shared body and a slot for every head. */
export function slotLayout(manifest: ModelManifest, slots: number): Block[] {
  return hiddenLayout({ bodyLength: manifest.bodyLength, headLength: manifest.headLength, slots });
}

/** One gradient at the released point, in the body and the own slot: keeps the record rule. */
export function gradientTerm({ oracle, data, released, local }: ParticipantContext, record: number): TermPart[] {
  const { body, head } = releasedModel(released, local.slot);
  const bodyGradient = new Float64Array(body.length);
  const headGradient = new Float64Array(head.length);
  oracle.perRecordGradient(body, head, data, record, bodyGradient, headGradient);
  return [
    { block: 0, values: bodyGradient },
    { block: 1 + local.slot, values: headGradient },
  ];
}

/** Plain SGD on the groups that move; the model is changed in place. */
export function trainEpochs(context: ParticipantContext, model: Model, groups: readonly ('body' | 'head')[]): void {
  const { oracle, data, options, random } = context;
  const gradients = { body: new Float64Array(model.body.length), head: new Float64Array(model.head.length) };
  eachBatch(data.count, options.epochs, random, (records) => {
    oracle.meanGradient(model.body, model.head, data, records, gradients.body, gradients.head);
    for (const group of groups) {
      const values = model[group];
      const gradient = gradients[group];
      for (let i = 0; i < values.length; i++) {
        values[i] = (values[i] as number) - options.epochs.stepSize * (gradient[i] as number);
      }
    }
  });
}

/** Broadcast minus local parameters: the direction in which a server step descends. */
export function descent(before: Float64Array, after: Float64Array): Float64Array {
  return before.map((value, i) => value - (after[i] as number));
}

/** Segments of the slot layout with the own slot filled and zeros in the others. */
export function fillSlot(
  released: ReleasedState,
  slot: number,
  body: Float64Array,
  head: Float64Array,
): Float64Array[] {
  return [body, ...released.heads.map((other, j) => (j === slot ? head : new Float64Array(other.length)))];
}

/** Local epochs on the whole model from the released point of the own slot. */
export function epochsUpdate(context: ParticipantContext): Float64Array[] {
  const { released, local } = context;
  const before = releasedModel(released, local.slot);
  const after = copyModel(before);
  trainEpochs(context, after, ['body', 'head']);
  return fillSlot(released, local.slot, descent(before.body, after.body), descent(before.head, after.head));
}

/** Momentum step on the body and every slot. */
export function momentumStep(state: ReleasedState, sums: readonly Float64Array[], facts: ServerFacts): ReleasedState {
  const { bodyDenominator, headDenominator, momentum, step } = facts;
  const segments = [state.body, ...state.heads].map((parameters, i) =>
    stepMomentum(parameters, state.velocity[i] ?? new Float64Array(parameters.length), sums[i] ?? new Float64Array(0), {
      denominator: i === 0 ? bodyDenominator : headDenominator,
      momentum,
      step,
    }),
  );
  const [body, ...heads] = segments.map((segment) => segment.parameters);
  return { body: body ?? new Float32Array(0), heads, velocity: segments.map((segment) => segment.velocity) };
}

/** The same step without momentum (FedAvg). */
export const averageStep: NonNullable<Algorithm['serverStep']> = (state, sums, facts) =>
  momentumStep(state, sums, { ...facts, momentum: 0 });
