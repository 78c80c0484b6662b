import { CoveyError } from '../../protocol/errors.ts';
import type { Dataset } from '../data/dataset.ts';
import type { DataRandom } from '../data/random.ts';
import type { Block } from '../privacy/encode.ts';
import type { EpochOptions } from './local-training.ts';
import type { ModelManifest } from './manifest.ts';
import type { GradientOracle, Model } from './oracle.ts';

/**
 * Whether an algorithm may run at unit `record` with shared noise: a term may depend on one record, public values and
 * values already released or charged (the record rule, privacy section 1).
 */
export type RecordLevel =
  | { readonly kind: 'as-is'; readonly reason: string }
  | {
      readonly kind: 'with-charge';
      readonly reason: string;
      readonly charge: 'exponential-mechanism' | 'histogram' | 'bounded-sum';
    }
  | { readonly kind: 'local-noise-only'; readonly reason: string };

/** One separately charged part of a release. Units: `l2` in the units of the clipping norm C. */
export interface ChargedPart {
  readonly what: string;
  readonly l2: number;
}

/** A public number of an algorithm; the configuration may set it within its range. */
export interface OptionInfo {
  readonly what: string;
  readonly least: number;
  readonly most: number;
  readonly fallback: number;
  readonly integer?: true;
}

/** How slots are filled, for algorithms that ask for one way: no slots, one chosen slot, also of a number that changes, several, or all by weights. */
export type SlotUse = 'none' | 'chosen' | 'evolving' | 'several' | 'soft';

/** Taxonomy of an algorithm (Tan 2022): what is shared, what stays local, what is released, what it costs. */
export interface AlgorithmInfo {
  readonly id: string;
  readonly title: string;
  readonly source: string;
  readonly shared: string;
  readonly local: string;
  readonly released: string;
  /** What one participant moves each release by (zero-out) at unit `participant`; replace-one doubles l2. */
  participantSensitivity(clippingNorm: number): readonly ChargedPart[];
  readonly recordLevel: RecordLevel;
  readonly options?: Readonly<Record<string, OptionInfo>>;
  /** Absent: with or without slots, however they are filled. */
  readonly slots?: SlotUse;
}

/** Vectors that a participant keeps between rounds, by name. Secrets: all depend on raw records and never leave the site. */
export type LocalVectors = Readonly<Record<string, Float64Array>>;

/** Everything that is broadcast: a shared body, a head for each slot, vectors beside the models that releases lead to. */
export interface ReleasedModels {
  readonly body: Float32Array;
  readonly heads: readonly Float32Array[];
  readonly extra: readonly Float32Array[];
}

/** Local training by somebody else: the model after these epochs. `seed` (32 bits) orders the minibatches. */
export type LocalFit = (data: Dataset, start: Model, epochs: EpochOptions, seed: number) => Model;

/** Inputs of a participant's local work in a step. */
export interface LocalContext {
  readonly oracle: GradientOracle;
  readonly data: Dataset;
  /** Released model that local work starts from: the own slot's, a mixture, or the cohort-wide one. */
  readonly start: Model;
  readonly released: ReleasedModels;
  /** Share of the update that each slot receives. */
  readonly weights: Float64Array;
  readonly local: LocalVectors;
  /** The algorithm's own numbers, all of them. */
  readonly options: Readonly<Record<string, number>>;
  /** Minibatches between two releases; null at unit `record`. */
  readonly epochs: EpochOptions | null;
  /** Minibatches of personal models. */
  readonly personal: EpochOptions;
  readonly clippingNorm: number;
  /** Training steps done and planned; public. */
  readonly step: number;
  readonly steps: number;
  /** Order of minibatches; protects nothing. */
  readonly random: DataRandom;
  /** Trains in place of the oracle's gradients, where a site trains with a program of its own. */
  readonly fit?: LocalFit | undefined;
}

/** Descent directions (broadcast minus local parameters) of a participant; clipped once, jointly, by the encoder. */
export interface LocalUpdate {
  readonly body: Float64Array;
  readonly head: Float64Array;
  readonly extra?: readonly Float64Array[];
  /** What the participant keeps if it is among the survivors of the step. */
  readonly local?: LocalVectors;
}

/** Decoded sums of a step over its survivors. Shapes: as the released models; `extra` as the algorithm's blocks. */
export interface StepSums {
  readonly body: Float64Array;
  readonly heads: readonly Float64Array[];
  readonly extra: readonly Float64Array[];
}

/** Public facts of a step. */
export interface StepFacts {
  readonly manifest: ModelManifest;
  readonly released: ReleasedModels;
  readonly survivors: number;
  readonly participants: number;
  /** Public constants that sums are divided by; a head's is its share of the cohort. */
  readonly denominators: { readonly body: number; readonly head: number };
  readonly options: Readonly<Record<string, number>>;
  readonly epochs: EpochOptions | null;
  readonly clippingNorm: number;
}

/** Mean descent directions for the server's optimizer and the next vectors beside the models. */
export interface StepDirections {
  readonly body: Float64Array;
  readonly heads: readonly Float64Array[];
  readonly extra: readonly Float32Array[];
}

/**
 * A federated algorithm as functions of its inputs. Slots, the server's optimizer and the units of privacy are the run's;
 * an algorithm says what a participant computes, what it keeps and what a sum means.
 */
export interface Algorithm {
  readonly info: AlgorithmInfo;
  /** `body`: heads stay with the participants, nobody sends one. */
  readonly shares: 'model' | 'body';
  /** Second moments of the server's optimizer, where the algorithm is named after one. */
  readonly optimizer?: 'adam' | 'yogi' | 'adagrad';
  /** Why its local steps are plain ones of SGD; absent: any optimizer of local training. */
  readonly plainSteps?: string;
  /** Reads the bias of a head that is one dense layer. */
  readonly readsBias?: true;
  /** Needs the same number of minibatches from everybody. */
  readonly fixedBatches?: true;
  /** Clips parts of its vector by themselves within C, so that the norm of the whole says nothing about a clip. */
  clipsParts?(options: Readonly<Record<string, number>>): boolean;
  /** Blocks that are summed beside the models, and lengths of the vectors released beside them. */
  extra?(
    manifest: ModelManifest,
    options: Readonly<Record<string, number>>,
  ): { readonly blocks: readonly Block[]; readonly released: readonly number[] };
  /** Unit `participant`: the whole contribution. Absent: nothing is shared. */
  update?(context: LocalContext): LocalUpdate;
  /**
   * Unit `record`: the head at which the gradient of a record is taken, from released and public values alone; its gradient is
   * sent as that of the released head. `labels`: records of each class, released or public. Absent: the released head.
   */
  recordHead?(head: Float64Array, labels: Float64Array | null, manifest: ModelManifest): Float64Array;
  /** What a participant keeps after its part of a step, at either unit; no shared part reads it at unit `record`. */
  keep?(context: LocalContext): LocalVectors;
  /** Post-processing of a release. Absent: means over the public denominators. */
  server?(sums: StepSums, facts: StepFacts): StepDirections;
  /** The model that the participant uses. Absent: the released one. */
  personal?(context: LocalContext): Model;
}

/** Unit of privacy and where noise is added. */
export interface PrivacyPlan {
  readonly unit: 'record' | 'participant';
  readonly noise: 'shared' | 'local';
}

/**
 * Refuses an algorithm that would break the claim of the plan.
 * @throws CoveyError PRIVACY_POLICY with the reason: a record's term would depend on other raw records, or a charge that
 *   the algorithm needs is not planned.
 */
export function requireRecordRule(info: AlgorithmInfo, plan: PrivacyPlan, charges: readonly string[] = []): void {
  if (plan.unit === 'participant' || plan.noise === 'local') return;
  const { recordLevel } = info;
  if (recordLevel.kind === 'local-noise-only') {
    throw new CoveyError(
      'PRIVACY_POLICY',
      `"algorithm" expected one that keeps the record rule, got ${info.id}: ${recordLevel.reason}`,
      {
        algorithm: info.id,
      },
    );
  }
  if (recordLevel.kind === 'with-charge' && !charges.includes(recordLevel.charge)) {
    throw new CoveyError(
      'PRIVACY_POLICY',
      `"charges" expected ${recordLevel.charge} for ${info.id}: ${recordLevel.reason}`,
      {
        algorithm: info.id,
        charge: recordLevel.charge,
      },
    );
  }
}

/**
 * All numbers of an algorithm, the given ones and the defaults of the others.
 * @throws CoveyError USAGE_CONFIG for a name that it does not have or a number outside its range.
 */
export function optionsOf(info: AlgorithmInfo, given: Readonly<Record<string, number>>): Record<string, number> {
  const known = info.options ?? {};
  for (const [name, value] of Object.entries(given)) {
    const option = known[name];
    if (option === undefined) {
      const names = Object.keys(known).join(', ') || 'no options';
      throw new CoveyError('USAGE_CONFIG', `"algorithm.options" of ${info.id} expected ${names}, got ${name}`);
    }
    const { least, most, integer } = option;
    const fits = value >= least && value <= most && (integer === undefined || Number.isInteger(value));
    if (!fits) {
      const kind = integer === undefined ? 'a number' : 'an integer';
      throw new CoveyError(
        'USAGE_CONFIG',
        `"algorithm.options.${name}" expected ${kind} from ${least} to ${most}, got ${value}`,
      );
    }
  }
  return Object.fromEntries(Object.entries(known).map(([name, { fallback }]) => [name, given[name] ?? fallback]));
}
