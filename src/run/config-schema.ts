import { z } from 'zod';
import { LIMITS } from '../../protocol/limits.ts';
import type { LocalOptimizer } from '../learning/optimizer.ts';
import type { MetricsConfig, RunConfig } from './config.ts';
import { networkSchema } from './network-schema.ts';

const positive: z.ZodNumber = z.number().positive();
const count: z.ZodNumber = z.number().int().min(1);
const seed: z.ZodNumber = z.number().int().min(0).max(0xffffffff);

/** Reads the `metrics` of a configuration. */
export const metricsSchema: z.ZodType<MetricsConfig> = z.strictObject({
  every: count.describe('training steps from one histogram to the next; there is one after the last step in any case'),
  bins: z.number().int().min(2).max(64).describe('equal parts of [0, 1]'),
  noiseStddev: positive.describe(
    'standard deviation of the summed noise in each bin with the fewest accepted honest shares, in members',
  ),
});

/** Reads the `localNoise` of a configuration. */
export const localNoiseSchema: z.ZodType<NonNullable<RunConfig['privacy']['localNoise']>> = z.strictObject({
  clippingNorm: positive.describe("l2 norm that a record's gradient is clipped to"),
});

/** Reads the `algorithm` of a configuration. */
export const algorithmSchema: z.ZodType<NonNullable<RunConfig['algorithm']>> = z.strictObject({
  id: z.string().describe('name of the algorithm (docs/algorithms.md)'),
  options: z.record(z.string(), z.number()).optional().describe('its numbers; those it has by default if left out'),
  labels: z
    .union([
      z.strictObject({ prior: z.array(positive).min(2).describe('public shares of the classes') }),
      z.strictObject({
        noiseStddev: positive.describe(
          'standard deviation of the noise on counts that are summed and charged, in records',
        ),
      }),
    ])
    .optional()
    .describe('records of each class, for an algorithm that reads them at unit record'),
});

const decay = z.number().min(0).max(10).optional().describe('L2 penalty; 0 if left out');

/** Reads the `optimizer` of local training. */
export const optimizerSchema: z.ZodType<LocalOptimizer> = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('sgd').describe('gradient steps'),
    momentum: z.number().min(0).lt(1).optional().describe('0 if left out'),
    weightDecay: decay,
  }),
  z.strictObject({ kind: z.literal('adam').describe('Adam'), weightDecay: decay }),
]);

/** Reads the `xnoise` of a configuration. */
export const xnoiseSchema: z.ZodType<NonNullable<RunConfig['privacy']['xnoise']>> = z.strictObject({
  tolerance: z
    .number()
    .int()
    .min(1)
    .max(LIMITS.tolerance)
    .describe('most members of a session that may be lost between their shares and their uploads'),
});

/** Reads the `terms` of a configuration. */
export const termsSchema: z.ZodType<NonNullable<RunConfig['privacy']['terms']>> = z.enum(['integer', 'float-bounded']);

/** Shape of a configuration; the rules that tie its fields together are those of `parseRunConfig`. */
export const runConfigSchema: z.ZodType<RunConfig> = z.strictObject({
  federation: z.string().min(1).max(64),
  data: z.strictObject({ scenario: z.string().min(1).max(64), seed }),
  model: z.strictObject({
    inputs: count,
    hidden: z.array(count).max(4),
    classes: count,
    sharedLayers: z.number().int().min(0).optional(),
    activation: z.enum(['relu', 'tanh', 'linear']).optional(),
    loss: z.enum(['cross-entropy', 'squared']).optional(),
    bias: z.boolean().optional(),
    network: networkSchema.optional(),
  }),
  training: z.strictObject({
    steps: z.number().int().min(1).max(100_000),
    samplingProbability: z.number().gt(0).max(1),
    clippingNorm: positive,
    momentum: z.number().min(0).lt(1),
    stepSize: positive,
    lastStepShare: z.number().min(0).max(1).optional(),
    nominalRecords: positive,
    maxRecordsPerStep: count,
    initialSeed: seed,
    initialWeights: z
      .string()
      .regex(/^[0-9a-f]{64}$/)
      .optional(),
    local: z
      .strictObject({
        epochs: count,
        // Counted out by every site before the run.
        batches: count.max(100_000).optional(),
        batchSize: count,
        stepSize: positive,
        optimizer: optimizerSchema.optional(),
        curriculum: z
          .strictObject({
            expert: z.enum(['global', 'local', 'hybrid']),
            pacing: z.enum(['linear', 'step', 'exponential', 'log']),
            order: z.enum(['easy', 'hard', 'random']),
            startShare: z.number().gt(0).max(1),
            fullAt: z.number().gt(0).max(1),
          })
          .optional(),
      })
      .nullable(),
    lossThreshold: z
      .strictObject({
        order: z.enum(['easy', 'hard', 'random']),
        pacing: z.enum(['linear', 'step', 'exponential', 'log']),
        from: z.number().min(0),
        to: z.number().min(0),
        fullAt: z.number().gt(0).max(1),
      })
      .optional(),
    adaptiveClip: z
      .strictObject({
        quantile: z.number().gt(0).lt(1),
        learningRate: z.number().gt(0).max(4),
        countNoise: positive,
        maxNorm: positive.optional(),
      })
      .optional(),
  }),
  clusters: z
    .strictObject({
      assignment: z.enum(['hard', 'soft', 'several', 'evolving']),
      filled: count.optional(),
      denominator: z.enum(['even', 'counts']).optional(),
      evolving: z
        .strictObject({
          most: count,
          probeSteps: count,
          perturbation: z.number().gt(0).max(4),
          minGap: z.number().min(0).max(1),
          minMembers: z.number().min(1),
          gapNoiseStddev: positive,
        })
        .optional(),
      open: z
        .array(z.array(z.string().min(1)).min(1))
        .min(2)
        .optional(),
      foundingSlots: z.number().int().min(0).max(64),
      seatPositions: z.number().int().min(0).max(65_536),
      kept: count,
      choiceSteps: z.array(z.number().int().min(0)),
      choiceEpsilon: positive,
      lossBound: positive,
      countNoiseStddev: positive,
    })
    .nullable(),
  algorithm: algorithmSchema.optional(),
  metrics: metricsSchema.nullable().optional(),
  personal: z.strictObject({
    method: z.enum(['fine-tuning', 'none']),
    epochs: count,
    batchSize: count,
    stepSize: positive,
  }),
  privacy: z.strictObject({
    unit: z.enum(['record', 'participant']),
    relation: z.enum(['add-remove', 'zero-out']),
    perPerson: z.boolean().optional(),
    delta: z.number().gt(0).lt(1),
    targetEpsilon: positive,
    mechanism: z.enum(['discrete-gaussian', 'skellam']).optional(),
    localNoise: localNoiseSchema.optional(),
    terms: termsSchema.optional(),
    xnoise: xnoiseSchema.optional(),
  }),
  cohort: z.strictObject({
    participants: z.number().int().min(3).max(65_536),
    groups: z.number().int().min(1).max(1_024),
    profile: z.enum(['strict', 'sparse']),
    minSurvivors: z.number().int().min(3),
    leastSurvivors: z.number().int().min(3).optional(),
    minOrgs: count,
    colluders: z.number().int().min(0),
    maxLoss: z.number().int().min(0),
    minCluster: z.number().int().min(0),
  }),
  encoding: z.strictObject({ scale: positive, lanes: z.union([z.literal(2), z.literal(3), z.literal(4)]) }),
  deadlineMs: z.number().int().min(1_000).max(3_600_000),
});
