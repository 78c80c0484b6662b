import { z } from 'zod';
import type { SeenHead } from '../../src/privacy/dataset-ledger.ts';
import type { SitePolicy } from '../core/policy.ts';
import type { TableFiles } from './table.ts';

/** Where a node's records come from. */
export type NodeData =
  | {
      readonly kind: 'digits';
      readonly seed: number;
      readonly organization: number;
      readonly canaries?: readonly number[] | undefined;
    }
  | { readonly kind: 'heart'; readonly folder: string; readonly hospital: number }
  | ({ readonly kind: 'table' } & TableFiles);

/** A training program, started without a shell. */
export interface TrainerProgram {
  readonly command: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly timeLimitMs: number;
}

/** `node.yaml`: what the site owns. The schema below says what each key means, and `covey node --help` prints it. */
export interface NodeConfig {
  readonly coordinator: string;
  readonly federation: string;
  readonly key: string;
  readonly state: string;
  readonly data: NodeData;
  readonly trainer: 'dense' | 'tfjs' | TrainerProgram;
  readonly maskThreads: number;
  readonly ca?: string | undefined;
  readonly insecure: boolean;
  readonly datasetHead: string;
  readonly policy: SitePolicy;
}

const dataSchema = z
  .discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('digits').describe('generated handwriting of one organization of the embedded scenario'),
      seed: z.number().int().min(0).describe('seed of the handwriting'),
      organization: z.number().int().min(0).max(11).describe('which of the twelve organizations'),
      canaries: z
        .array(z.number().int().min(0))
        .optional()
        .describe('canaries of an audit that are trained on as well, by number'),
    }),
    z.strictObject({
      kind: z.literal('heart').describe('one hospital of the UCI heart disease data'),
      folder: z.string().min(1).describe('folder of its four processed files'),
      hospital: z.number().int().min(0).max(3).describe('which of the four hospitals'),
    }),
    z.strictObject({
      kind: z.literal('table').describe("the site's own table"),
      description: z.string().min(1).describe('file that says what the columns mean, the same at every site'),
      train: z.string().min(1).describe('CSV file of the records to train on'),
      test: z.string().min(1).optional().describe('CSV file of held-out records'),
      testShare: z
        .number()
        .min(0.01)
        .max(0.9)
        .default(0.2)
        .describe('share that is held out where there is no test file'),
    }),
  ])
  .describe("where the node's records come from");

const trainerSchema = z
  .union([
    z.enum(['dense', 'tfjs']),
    z.strictObject({
      command: z.string().min(1).describe('training program of the site, started without a shell'),
      args: z.array(z.string()).max(64).default([]).describe('its arguments'),
      environment: z.record(z.string(), z.string()).default({}).describe('its environment variables'),
      timeLimitMs: z
        .number()
        .int()
        .min(100)
        .max(3_600_000)
        .default(20_000)
        .describe('milliseconds for all that a step asks of it'),
    }),
  ])
  .default('dense')
  .describe(
    "dense: Covey's own gradients, fastest for perceptrons; tfjs: the first tensor engine that works; or a program of the site (docs/trainers.md), which the others have to trust",
  );

const datasetBudgetSchema = z
  .strictObject({
    dataset: z.string().min(1).max(64).describe('name of the data set, one for all its runs'),
    period: z
      .enum(['month', 'quarter', 'year'])
      .describe('calendar period, in UTC, after which the budget is whole again'),
    epsilon: z.number().positive().describe('most that all runs of a period may cost together'),
    delta: z.number().gt(0).lt(1).default(1e-5).describe('delta of that epsilon'),
    unit: z
      .enum(['record', 'participant'])
      .default('record')
      .describe('what the epsilon protects; runs of another unit are refused'),
    view: z.enum(['server', 'release']).default('server').describe('against whom'),
  })
  .optional()
  .describe('budget of the data set over all runs in each calendar period; none if left out');

const policySchema = z
  .strictObject({
    maxEpsilon: z
      .number()
      .positive()
      .default(8)
      .describe('most epsilon (server view) that one record of this site, or the whole site, may pay in a run'),
    budget: z
      .strictObject({
        epsilon: z.number().positive().describe('of one unit in a run, server view'),
        delta: z.number().gt(0).lt(1).default(1e-5).describe('delta of that epsilon'),
      })
      .optional()
      .describe(
        "what one unit of this site pays at most in a run, after which the site leaves it and the others go on: for a site whose budget is below the target of the run; maxEpsilon at the run's delta if left out",
      ),
    maxDelta: z.number().gt(0).lt(1).default(1e-5).describe('largest delta of a run'),
    minCohort: z.number().int().min(3).default(3).describe('fewest survivors, counting colluders'),
    minOrgs: z.number().int().min(1).default(3).describe('fewest organizations'),
    colluders: z
      .number()
      .int()
      .min(0)
      .default(0)
      .describe('members that this site assumes to collude with the coordinator'),
    minCluster: z
      .number()
      .int()
      .min(0)
      .default(0)
      .describe(
        'fewest members of a hidden slot; 0 accepts slots of one, whose only cover is the noise of the whole cohort',
      ),
    minNoiseMultiplier: z
      .number()
      .min(0)
      .default(0.3)
      .describe("least noise deviation over sensitivity, after dropouts and without the colluders' shares"),
    openClusters: z
      .boolean()
      .default(false)
      .describe('whether the server may know in which cluster the site is (mode open)'),
    maxClippingNorm: z.number().positive().default(1).describe('largest clipping norm of a run'),
    perPerson: z
      .boolean()
      .default(false)
      .describe('whether one epsilon must protect persons with all their records here; unit participant does anyway'),
    integerTerms: z
      .boolean()
      .default(false)
      .describe(
        'whether every record must be rounded to integers by itself: no charge then rests on a bound of float errors',
      ),
    maxParameters: z
      .number()
      .int()
      .min(1)
      .default(2 ** 24)
      .describe('most parameters of a model'),
    layouts: z
      .array(z.string().regex(/^[0-9a-f]{64}$/))
      .min(1)
      .optional()
      .describe('layouts, as hashes of their manifests in hex, that the site trains and no other; any if left out'),
    sparse: z
      .boolean()
      .default(false)
      .describe('whether secrets may be shared among random neighbours instead of the whole cohort (profile sparse)'),
    maxRuns: z
      .number()
      .int()
      .min(1)
      .max(1_000_000)
      .optional()
      .describe(
        'most runs that this site pays in, each up to its own budget; one, or any number within datasetBudget, if left out; a run that goes on after a restart is the same run',
      ),
    datasetBudget: datasetBudgetSchema,
  })
  .prefault({})
  .describe('what the site asks of every session; the coordinator can never lower it');

/** Reads `node.yaml`; its descriptions are the help of `covey node`. */
export const nodeConfigSchema: z.ZodType<NodeConfig> = z.strictObject({
  coordinator: z.string().min(1).describe('address: wss://, or ws:// on loopback only'),
  federation: z
    .string()
    .min(1)
    .describe('federation file: coordinator key and roster, given out of band and pinned; paths start at node.yaml'),
  key: z.string().min(1).describe('key file of covey keygen'),
  state: z.string().min(1).describe('folder of ledger, records and personal model'),
  data: dataSchema,
  trainer: trainerSchema,
  maskThreads: z
    .number()
    .int()
    .min(1)
    .max(64)
    .default(2)
    .describe('threads that mask one large vector; 1 starts none; the bytes are the same'),
  ca: z.string().min(1).optional().describe('certificate authority of the coordinator (PEM file), if not a public one'),
  insecure: z.boolean().default(false).describe('allows plain text to another machine, behind a proxy that encrypts'),
  datasetHead: z
    .string()
    .min(1)
    .default('dataset-head.json')
    .describe("file that keeps the last head of the data set's ledger: on a disk that is not restored with state"),
  policy: policySchema,
});

/** Content of the file that keeps the head of a data set's ledger. */
export const seenHeadSchema: z.ZodType<SeenHead> = z.strictObject({
  size: z.number().int().min(0),
  head: z.string().regex(/^[0-9a-f]{64}$/),
});
