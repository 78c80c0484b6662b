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
  /** Sequential layers model of tfjs-layers or Keras. Relative to the configuration file, as `weights` is. */
  readonly file: string;
  /** Layers with weights that form the shared body; all but the last one by default. */
  readonly sharedLayers?: number | undefined;
  /** Weights to start from: a safetensors file, or the weights file of the model. Draws from the public seed by default. */
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
      /** Law of the noise shares; discrete Gaussian where it is left out. */
      readonly mechanism?: 'discrete-gaussian' | 'skellam' | undefined;
      /** Sums of records: each rounded to integers by itself (default), or all of them once. */
      readonly terms?: RunConfig['privacy']['terms'];
      /** Noise of training steps that is exact whoever drops out; needs Skellam noise. */
      readonly xnoise?: RunConfig['privacy']['xnoise'];
      /** The scenario's own clusters where it is left out. */
      readonly algorithm?: RunConfig['algorithm'];
      /** Accuracies that are released while the run goes on; they cost a part of the budget. */
      readonly metrics?: MetricsConfig | undefined;
      /** Noise in every local gradient in place of shares in the sum; unit `record`. */
      readonly localNoise?: RunConfig['privacy']['localNoise'];
      /** Protects persons with all their records at a site. */
      readonly perPerson: boolean;
      /** What the sites' tables have in common, for the scenario `table`. */
      readonly table?: TableTask | undefined;
      readonly model?: ModelChoice | undefined;
      /** Of local training: plain SGD by default. */
      readonly optimizer?: LocalOptimizer | undefined;
      readonly localStep?: number | undefined;
    }
  | { readonly config: unknown; readonly model?: ModelChoice | undefined };

/** `covey.yaml`: the coordinator. Relative paths are relative to the file. */
export interface ServerConfig {
  readonly host: string;
  readonly port: number;
  /** Certificate and key (PEM files); without them the coordinator listens on loopback only. */
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
  /** Allows plain text on other interfaces, behind a proxy that encrypts. */
  readonly insecure: boolean;
  readonly federation: string;
  readonly key: string;
  /** Folder of the durable store and the exported run. */
  readonly state: string;
  /** How long a member may be away before a session goes on without it. */
  readonly graceMs: number;
  /** How long to wait for the rest once enough members are connected. */
  readonly joinMs: number;
  /** How long to wait for enough members before the coordinator stops; a restart goes on. */
  readonly gatherMs: number;
  /** Keeps a transcript of every released session: as much disk as all uploads take. */
  readonly transcripts: boolean;
  /** Threads that unmask one large sum; 1 starts none. The bytes are the same. */
  readonly maskThreads: number;
  readonly run: RunChoice;
}

const modelSchema: z.ZodType<ModelChoice> = z.strictObject({
  file: z.string().min(1),
  sharedLayers: z.number().int().min(0).optional(),
  weights: z.string().min(1).optional(),
});

export const serverConfigSchema: z.ZodType<ServerConfig> = z.strictObject({
  host: z.string().min(1).default('127.0.0.1'),
  port: z.number().int().min(0).max(65_535).default(7_400),
  tls: z.strictObject({ cert: z.string().min(1), key: z.string().min(1) }).optional(),
  insecure: z.boolean().default(false),
  federation: z.string().min(1),
  key: z.string().min(1),
  state: z.string().min(1),
  graceMs: z.number().int().min(0).max(600_000).default(5_000),
  joinMs: z.number().int().min(0).max(600_000).default(20_000),
  gatherMs: z.number().int().min(1_000).max(604_800_000).default(86_400_000),
  transcripts: z.boolean().default(false),
  maskThreads: z.number().int().min(1).max(64).default(2),
  run: z.union([
    z.strictObject({
      scenario: z.enum(['digits', 'heart', 'table']),
      seed: z.number().int().min(0).max(0xffffffff).default(1),
      steps: z.number().int().min(1).max(100_000).default(80),
      targetEpsilon: z.number().positive().default(8),
      unit: z.enum(['record', 'participant']).default('record'),
      mechanism: z.enum(['discrete-gaussian', 'skellam']).optional(),
      terms: termsSchema.optional(),
      xnoise: xnoiseSchema.optional(),
      algorithm: algorithmSchema.optional(),
      metrics: metricsSchema.optional(),
      localNoise: localNoiseSchema.optional(),
      perPerson: z.boolean().default(false),
      table: z
        .strictObject({
          features: z.number().int().min(1).max(65_536),
          classes: z.number().int().min(2).max(256),
          hidden: z.array(z.number().int().min(1)).max(4).default([]),
          nominalRecords: z.number().positive(),
          maxRecords: z.number().int().min(1).default(10_000),
        })
        .optional(),
      model: modelSchema.optional(),
      optimizer: optimizerSchema.optional(),
      localStep: z.number().positive().optional(),
    }),
    z.strictObject({ config: z.unknown(), model: modelSchema.optional() }),
  ]),
});
