import { z } from 'zod';
import { CoveyError } from '../../protocol/errors.ts';
import { count } from '../learning/layer-sizes.ts';
import { LAYERS_CAPS } from '../learning/layers-json.ts';
import { bodyLayers, type DenseShape, denseManifest } from '../learning/manifest.ts';
import { layoutNetwork, type NetworkSpec } from '../learning/network.ts';

/** Far above what fits the caps on parameters and activations, and small enough that products are exact. */
const size: z.ZodNumber = z
  .number()
  .int()
  .min(1)
  .max(2 ** 24);
const sizes = z.union([size, z.tuple([size, size])]);
const activation = z.enum(['linear', 'relu', 'tanh', 'sigmoid', 'elu']);
// Names become names of tensors in files and messages.
const name = z
  .string()
  .regex(/^[\w.-]{1,64}$/)
  .optional();
const bias = z.boolean().optional();
const padding = z.enum(['same', 'valid']);
const windows = { kernelSize: sizes, stride: sizes, padding, activation, name, bias };
const pool = { size: sizes, stride: sizes, padding };

/** Reads the `network` of a model: layers of known kinds and their sizes, no code and no paths. */
export const networkSchema: z.ZodType<Omit<NetworkSpec, 'sharedLayers'>> = z.strictObject({
  inputShape: z.array(size).min(1).max(4),
  layers: z
    .array(
      z.discriminatedUnion('kind', [
        z.strictObject({ kind: z.literal('dense'), units: size, activation, name, bias }),
        z.strictObject({ kind: z.literal('conv2d'), filters: size, ...windows }),
        z.strictObject({ kind: z.literal('depthwiseConv2d'), multiplier: size, ...windows }),
        z.strictObject({ kind: z.literal('embedding'), entries: size, width: size, name }),
        z.strictObject({ kind: z.literal('maxPool'), ...pool }),
        z.strictObject({ kind: z.literal('averagePool'), ...pool }),
        z.strictObject({ kind: z.literal('globalPool'), mode: z.enum(['max', 'average']) }),
        z.strictObject({ kind: z.literal('activation'), activation }),
        z.strictObject({ kind: z.literal('reshape'), shape: z.array(size).min(1).max(4) }),
        z.strictObject({ kind: z.literal('flatten') }),
      ]),
    )
    .min(1)
    .max(LAYERS_CAPS.layers),
});

/** Values that one record's pass may compute: beside it the engine holds several copies in a heap of 2 GiB. */
const MAX_ACTIVATIONS = 2 ** 22;

/**
 * Checks the sizes of a model before anything is allocated: the cut, the classes, and of a network the caps.
 * @throws CoveyError USAGE_CONFIG, or CODEC_LIMIT for more than the caps.
 */
export function checkModel(model: DenseShape): void {
  const require = (holds: boolean, line: string): void => {
    if (!holds) throw new CoveyError('USAGE_CONFIG', line);
  };
  const { activation: hiddenActivation, bias: hasBias, classes, hidden, inputs, loss, network } = model;
  if (network === undefined) bodyLayers(model);
  else {
    require(hidden.length === 0, '"model.hidden" expected none with a network: its layers stand in their place');
    for (const [key, value] of Object.entries({ activation: hiddenActivation, bias: hasBias, loss }))
      require(value === undefined, `"model.${key}" expected none with a network, got ${value}`);
    const layout = layoutNetwork({ ...network, sharedLayers: bodyLayers(model) });
    const features = count(layout.inputShape);
    require(features === inputs, `"model.network.inputShape" expected ${inputs} features of a record, got ${features}`);
    require(layout.classes ===
      classes, `"model.network.layers" expected ${classes} units at the end, got ${layout.classes}`);
    const { bodyLength, headLength } = denseManifest(model);
    const parameters = bodyLength + headLength;
    const limits = [
      ['parameters', parameters, LAYERS_CAPS.parameters],
      ['activations of a record', layout.activationFloats, MAX_ACTIVATIONS],
    ] as const;
    for (const [what, got, most] of limits)
      if (got > most)
        throw new CoveyError('CODEC_LIMIT', `"model.network.layers" expected at most ${most} ${what}, got ${got}`);
  }
  require(loss === 'squared'
    ? classes === 1
    : classes >=
        2, `"model.classes" expected ${loss === 'squared' ? '1 with squared error' : 'at least 2'}, got ${classes}`);
}
