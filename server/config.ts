import { z } from 'zod';
import type { LocalOptimizer } from '../src/learning/optimizer.ts';
import type { MetricsConfig, RunConfig } from '../src/run/config.ts';
import {
  algorithmSchema,
  localNoiseSchema,
  metricsSchema,
  optimizerSchema,
  termsSchema,
  xnoiseSchema,
} from '../src/run/config-schema.ts';
import type { ScenarioName, TableTask } from '../src/run/scenario.ts';

/** A model file in the place of the model that the scenario or the configuration names. */
export interface ModelChoice {
  readonly file: string;
  readonly sharedLayers?: number | undefined;
  readonly weights?: string | undefined;
}

/** A run: an embedded scenario with its options, or a whole run configuration. */
export type RunChoice =
  | {
      readonly scenario: ScenarioName;
      readonly seed: number;
      readonly steps: number;
      readonly targetEpsilon: number;
      readonly unit: 'record' | 'participant';
      readonly mechanism?: 'discrete-gaussian' | 'skellam' | undefined;
      readonly terms?: RunConfig['privacy']['terms'];
      readonly xnoise?: RunConfig['privacy']['xnoise'];
      readonly algorithm?: RunConfig['algorithm'];
      readonly metrics?: MetricsConfig | undefined;
      readonly localNoise?: RunConfig['privacy']['localNoise'];
      readonly perPerson: boolean;
      readonly table?: TableTask | undefined;
      readonly model?: ModelChoice | undefined;
      readonly optimizer?: LocalOptimizer | undefined;
      readonly localStep?: number | undefined;
    }
  | { readonly config: unknown; readonly model?: ModelChoice | undefined };

/** `covey.yaml`: the coordinator. The schema below says what each key means, and `covey server --help` prints it. */
export interface ServerConfig {
  readonly host: string;
  readonly port: number;
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
  readonly insecure: boolean;
  readonly federation: string;
  readonly key: string;
  readonly state: string;
  readonly graceMs: number;
  readonly joinMs: number;
  readonly gatherMs: number;
  readonly transcripts: boolean;
  readonly maskThreads: number;
  readonly run: RunChoice;
}

const modelSchema: z.ZodType<ModelChoice> = z.strictObject({
  file: z.string().min(1).describe('Sequential layers model of tfjs-layers or Keras (docs/models.md)'),
  sharedLayers: z
    .number()
    .int()
    .min(0)
    .optional()
    .describe('layers with weights that form the shared body; all but the last one by default'),
  weights: z
    .string()
    .min(1)
    .optional()
    .describe(
      'weights to start from: a safetensors file, or the weights file of the model; draws from the seed by default',
    ),
});

const MODEL = 'a model file in the place of the model that the scenario or the configuration names';

const tableSchema: z.ZodType<TableTask> = z.strictObject({
  features: z
    .number()
    .int()
    .min(1)
    .max(65_536)
    .describe('numbers that a record becomes by the description of the table'),
  classes: z.number().int().min(2).max(256).describe('classes of the label'),
  hidden: z.array(z.number().int().min(1)).max(4).default([]).describe('widths of hidden layers'),
  nominalRecords: z
    .number()
    .positive()
    .describe(
      'about how many records there are in all, persons with perPerson: a public denominator, never the private sum',
    ),
  maxRecords: z.number().int().min(1).default(10_000).describe('most records that one site may hold'),
});

const scenarioSchema = z.strictObject({
  scenario: z
    .enum(['digits', 'heart', 'table'])
    .describe('embedded scenario with its measured settings; table is whatever the sites hold'),
  seed: z.number().int().min(0).max(0xffffffff).default(1).describe('public seed of the starting point'),
  steps: z.number().int().min(1).max(100_000).default(80).describe('training steps'),
  targetEpsilon: z.number().positive().default(8).describe('what one unit pays at most, server view'),
  unit: z.enum(['record', 'participant']).default('record').describe('what one epsilon protects'),
  mechanism: z
    .enum(['discrete-gaussian', 'skellam'])
    .optional()
    .describe('law of the noise shares; discrete-gaussian if left out'),
  terms: termsSchema
    .optional()
    .describe('sums of records: integer (each rounded by itself, if left out), or float-bounded (all of them once)'),
  xnoise: xnoiseSchema
    .optional()
    .describe('noise of training steps that is exact whoever drops out; needs mechanism skellam'),
  algorithm: algorithmSchema.optional().describe("algorithm of the run; the scenario's own clusters if left out"),
  metrics: metricsSchema
    .optional()
    .describe('accuracies that are released while the run goes on; they cost a part of the budget'),
  localNoise: localNoiseSchema
    .optional()
    .describe('noise in every local gradient in place of shares in the sum; unit record'),
  perPerson: z.boolean().default(false).describe('protects persons with all their records at a site'),
  table: tableSchema.optional().describe("what the sites' tables have in common; scenario table"),
  model: modelSchema.optional().describe(MODEL),
  optimizer: optimizerSchema.optional().describe('of local training; plain SGD if left out'),
  localStep: z.number().positive().optional().describe("learning rate of local training; the scenario's if left out"),
});

/** Reads `covey.yaml`; its descriptions are the help of `covey server`. */
export const serverConfigSchema: z.ZodType<ServerConfig> = z.strictObject({
  host: z.string().min(1).default('127.0.0.1').describe('interface to listen on'),
  port: z.number().int().min(0).max(65_535).default(7_400).describe('port to listen on'),
  tls: z
    .strictObject({
      cert: z.string().min(1).describe('certificate (PEM file)'),
      key: z.string().min(1).describe('its key (PEM file)'),
    })
    .optional()
    .describe('without it the coordinator listens on loopback only'),
  insecure: z.boolean().default(false).describe('allows plain text on other interfaces, behind a proxy that encrypts'),
  federation: z.string().min(1).describe('federation file of covey roster; paths start at covey.yaml'),
  key: z.string().min(1).describe('key file of covey keygen, the one that the federation names'),
  state: z.string().min(1).describe('folder of the durable store and the exported run'),
  graceMs: z
    .number()
    .int()
    .min(0)
    .max(600_000)
    .default(5_000)
    .describe('how long a member may be away before a session goes on without it'),
  joinMs: z
    .number()
    .int()
    .min(0)
    .max(600_000)
    .default(20_000)
    .describe('how long to wait for the rest once enough members are connected'),
  gatherMs: z
    .number()
    .int()
    .min(1_000)
    .max(604_800_000)
    .default(86_400_000)
    .describe('how long to wait for enough members before the coordinator stops; a restart goes on'),
  transcripts: z
    .boolean()
    .default(false)
    .describe('keeps a transcript of every released session: as much disk as all uploads take'),
  maskThreads: z
    .number()
    .int()
    .min(1)
    .max(64)
    .default(2)
    .describe('threads that unmask one large sum; 1 starts none; the bytes are the same'),
  run: z
    .union([
      scenarioSchema,
      z.strictObject({
        config: z.unknown().describe('a whole run configuration, in place of a scenario and its options'),
        model: modelSchema.optional().describe(MODEL),
      }),
    ])
    .describe('the run: a scenario with its options, or a whole configuration'),
});
