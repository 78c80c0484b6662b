import { CoveyError } from '../../protocol/errors.ts';
import type { LocalContext, LocalUpdate } from './algorithm.ts';
import { type EpochOptions, eachBatch } from './local-training.ts';
import type { ModelManifest } from './manifest.ts';
import { createOptimizer, optimizerOf } from './optimizer.ts';
import { copyModel, type Model } from './oracle.ts';

/** The groups of a model, in the order of its parameters. */
export const GROUPS = ['body', 'head'] as const;

/** Changes a minibatch's gradient in place, at the current model, before the step along it. */
export type GradientHook = (model: Model, gradient: Model) => void;

/** Buffers for the gradient of a model. */
export function gradientOf(model: Model): Model {
  return { body: new Float64Array(model.body.length), head: new Float64Array(model.head.length) };
}

/** values <- values + factor * direction. */
export function addScaled(values: Float64Array, factor: number, direction: ArrayLike<number>): void {
  for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) + factor * (direction[i] as number);
}

/** One step of SGD along the gradient of a minibatch; the model is changed in place. */
export function sgdStep(
  { oracle, data }: LocalContext,
  model: Model,
  gradient: Model,
  records: Uint32Array,
  stepSize: number,
  groups: readonly ('body' | 'head')[] = GROUPS,
  hook?: GradientHook,
): void {
  oracle.meanGradient(model.body, model.head, data, records, gradient.body, gradient.head);
  hook?.(model, gradient);
  for (const group of groups) addScaled(model[group], -stepSize, gradient[group]);
}

/** Minibatch steps of an optimizer that remembers nothing of any earlier training; the model is changed in place. */
function optimize(
  { data, oracle, random }: LocalContext,
  model: Model,
  epochs: EpochOptions,
  groups: readonly ('body' | 'head')[],
  hook: GradientHook | undefined,
): void {
  const spec = optimizerOf(epochs.stepSize, epochs.optimizer);
  const gradient = gradientOf(model);
  const steps = groups.map((group) => ({ group, step: createOptimizer(spec, model[group].length) }));
  eachBatch(data.count, epochs, random, (records) => {
    oracle.meanGradient(model.body, model.head, data, records, gradient.body, gradient.head);
    hook?.(model, gradient);
    for (const { group, step } of steps) step(model[group], gradient[group]);
  });
}

/** SGD, or the optimizer of the epochs, on the groups that move; the model is changed in place. */
export function trainEpochs(
  context: LocalContext,
  model: Model,
  epochs: EpochOptions,
  groups: readonly ('body' | 'head')[] = GROUPS,
  hook?: GradientHook,
): void {
  if (context.fit !== undefined) {
    // A program is given a start and gives back an end: nothing can be changed on the way.
    if (hook !== undefined || groups !== GROUPS)
      throw new CoveyError(
        'USAGE_CONFIG',
        'expected local training of the whole model without changes to its gradients',
      );
    const fitted = context.fit(context.data, model, epochs, context.random.word());
    for (const group of GROUPS) model[group].set(fitted[group]);
    return;
  }
  if (epochs.optimizer !== undefined) {
    optimize(context, model, epochs, groups, hook);
    return;
  }
  const gradient = gradientOf(model);
  eachBatch(context.data.count, epochs, context.random, (records) => {
    sgdStep(context, model, gradient, records, epochs.stepSize, groups, hook);
  });
}

/** Broadcast minus local parameters: the direction in which a server step descends. */
export function descent(before: ArrayLike<number>, after: Float64Array): Float64Array {
  const direction = new Float64Array(after.length);
  for (let i = 0; i < after.length; i++) direction[i] = (before[i] as number) - (after[i] as number);
  return direction;
}

/** What a participant sends that moved from the released model to `after`. */
export function updateTo({ start }: LocalContext, after: Model): LocalUpdate {
  return { body: descent(start.body, after.body), head: descent(start.head, after.head) };
}

/** Minibatches of the step; a run at unit `participant` always has them. */
export function epochsOf({ epochs }: LocalContext): EpochOptions {
  return epochs ?? { epochs: 1, batchSize: Number.MAX_SAFE_INTEGER, stepSize: 1 };
}

/** A model that a participant kept, or the one to start with. */
export function keptModel({ local, start }: LocalContext): Model {
  const { body = start.body, head = start.head } = local;
  return copyModel({ body, head });
}

/** Offset of the bias in a head of one dense layer. @throws CoveyError USAGE_CONFIG for a head of another form */
export function biasOffset({ tensors }: ModelManifest, algorithm: string): number {
  const head = tensors.filter(({ group }) => group === 'head');
  const [kernel, bias] = head;
  if (head.length !== 2 || kernel?.shape.length !== 2 || bias?.shape.length !== 1)
    throw new CoveyError(
      'USAGE_CONFIG',
      `"model" expected a head of one dense layer for ${algorithm}, got ${head.length} tensors`,
    );
  return (kernel.shape[0] as number) * (kernel.shape[1] as number);
}
