import { z } from 'zod';
import type { SeenHead } from '../../src/privacy/dataset-ledger.ts';
import type { SitePolicy } from '../core/policy.ts';
import type { TableFiles } from './table.ts';

/** Where a node's records come from. */
export type NodeData =
  /** Generated handwriting of one organization of the embedded scenario. */
  | {
      readonly kind: 'digits';
      readonly seed: number;
      readonly organization: number;
      /** Canaries of an audit that are trained on as well, by number. */
      readonly canaries?: readonly number[] | undefined;
    }
  /** One hospital of the UCI heart disease data; `folder` holds the four processed files. */
  | { readonly kind: 'heart'; readonly folder: string; readonly hospital: number }
  /** The site's own table. */
  | ({ readonly kind: 'table' } & TableFiles);

/** A training program, started without a shell. Units: `timeLimitMs` for all that a step asks of it. */
export interface TrainerProgram {
  readonly command: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly timeLimitMs: number;
}

/** `node.yaml`: what the site owns. Relative paths are relative to the file. */
export interface NodeConfig {
  /** `wss://` or, on loopback only, `ws://`. */
  readonly coordinator: string;
  /** Federation file: coordinator key and roster, given out of band and pinned. */
  readonly federation: string;
  readonly key: string;
  /** Folder of ledger, records and personal model. */
  readonly state: string;
  readonly data: NodeData;
  /**
   * `dense`: Covey's own gradients, fastest for perceptrons; `tfjs`: the first tensor engine that works; or a program of the
   * site (docs/trainers.md), which the others have to trust.
   */
  readonly trainer: 'dense' | 'tfjs' | TrainerProgram;
  /** Threads that mask one large vector; 1 starts none. The bytes are the same. */
  readonly maskThreads: number;
  /** Certificate authority of the coordinator (PEM file), if not a public one. */
  readonly ca?: string | undefined;
  /** Allows plain text to another machine, behind a proxy that encrypts. */
  readonly insecure: boolean;
  /** File that keeps the last head of the data set's ledger: on a disk that is not restored with `state`. */
  readonly datasetHead: string;
  readonly policy: SitePolicy;
}

export const nodeConfigSchema: z.ZodType<NodeConfig> = z.strictObject({
  coordinator: z.string().min(1),
  federation: z.string().min(1),
  key: z.string().min(1),
  state: z.string().min(1),
  data: z.discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('digits'),
      seed: z.number().int().min(0),
      organization: z.number().int().min(0).max(11),
      canaries: z.array(z.number().int().min(0)).optional(),
    }),
    z.strictObject({ kind: z.literal('heart'), folder: z.string().min(1), hospital: z.number().int().min(0).max(3) }),
    z.strictObject({
      kind: z.literal('table'),
      description: z.string().min(1),
      train: z.string().min(1),
      test: z.string().min(1).optional(),
      testShare: z.number().min(0.01).max(0.9).default(0.2),
    }),
  ]),
  trainer: z
    .union([
      z.enum(['dense', 'tfjs']),
      z.strictObject({
        command: z.string().min(1),
        args: z.array(z.string()).max(64).default([]),
        environment: z.record(z.string(), z.string()).default({}),
        timeLimitMs: z.number().int().min(100).max(3_600_000).default(20_000),
      }),
    ])
    .default('dense'),
  maskThreads: z.number().int().min(1).max(64).default(2),
  ca: z.string().min(1).optional(),
  insecure: z.boolean().default(false),
  datasetHead: z.string().min(1).default('dataset-head.json'),
  policy: z
    .strictObject({
      maxEpsilon: z.number().positive().default(8),
      budget: z
        .strictObject({ epsilon: z.number().positive(), delta: z.number().gt(0).lt(1).default(1e-5) })
        .optional(),
      maxDelta: z.number().gt(0).lt(1).default(1e-5),
      minCohort: z.number().int().min(3).default(3),
      minOrgs: z.number().int().min(1).default(3),
      colluders: z.number().int().min(0).default(0),
      minCluster: z.number().int().min(0).default(0),
      minNoiseMultiplier: z.number().min(0).default(0.3),
      openClusters: z.boolean().default(false),
      maxClippingNorm: z.number().positive().default(1),
      perPerson: z.boolean().default(false),
      integerTerms: z.boolean().default(false),
      maxParameters: z
        .number()
        .int()
        .min(1)
        .default(2 ** 24),
      layouts: z
        .array(z.string().regex(/^[0-9a-f]{64}$/))
        .min(1)
        .optional(),
      sparse: z.boolean().default(false),
      maxRuns: z.number().int().min(1).max(1_000_000).optional(),
      datasetBudget: z
        .strictObject({
          dataset: z.string().min(1).max(64),
          period: z.enum(['month', 'quarter', 'year']),
          epsilon: z.number().positive(),
          delta: z.number().gt(0).lt(1).default(1e-5),
          unit: z.enum(['record', 'participant']).default('record'),
          view: z.enum(['server', 'release']).default('server'),
        })
        .optional(),
    })
    .prefault({}),
});

/** Content of the file that keeps the head of a data set's ledger. */
export const seenHeadSchema: z.ZodType<SeenHead> = z.strictObject({
  size: z.number().int().min(0),
  head: z.string().regex(/^[0-9a-f]{64}$/),
});
