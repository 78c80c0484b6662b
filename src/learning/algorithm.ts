import type { KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import type { Dataset } from '../data/dataset.ts';
import type { DataRandom } from '../data/random.ts';
import type { Block, TermPart } from '../privacy/encode.ts';
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

/** Taxonomy of an algorithm (Tan 2022): what is shared, what stays local, what is released, what it costs. */
export interface AlgorithmInfo {
  readonly id: string;
  readonly title: string;
  readonly source: string;
  readonly shared: string;
  readonly local: string;
  readonly released: string;
  /** Cost of a round. Units: uploaded parameters of a model with this manifest and number of slots. */
  uploadLength(manifest: ModelManifest, slots: number): number;
  /** What one participant moves each release by (zero-out) at unit `participant`; replace-one doubles l2. */
  participantSensitivity(clippingNorm: number): readonly ChargedPart[];
  readonly recordLevel: RecordLevel;
}

/** The released models and what the server derives from releases alone. Shapes: one head for each slot. */
export interface ReleasedState {
  readonly body: Float32Array;
  readonly heads: readonly Float32Array[];
  /** State of the server's optimizer, segment by segment (body first, then the slots). */
  readonly velocity: readonly Float64Array[];
}

/** What a participant keeps between rounds. Secrets: all of it depends on raw records and never leaves the site. */
export interface LocalState {
  readonly slot: number;
  readonly personal: Model | null;
}

/** Settings of local work; public. */
export interface AlgorithmOptions {
  /** Local epochs between two releases, at unit `participant`. */
  readonly epochs: EpochOptions;
  /** Personal adaptation. */
  readonly personal: EpochOptions;
  /** Pull of a personal model towards the released one (Ditto). */
  readonly lambda: number;
}

/** Inputs of a participant's share of a round. */
export interface ParticipantContext {
  readonly oracle: GradientOracle;
  readonly data: Dataset;
  readonly released: ReleasedState;
  readonly local: LocalState;
  readonly options: AlgorithmOptions;
  /** Order of minibatches; protects nothing. */
  readonly random: DataRandom;
}

/** How a participant finds its slot: freely (unit `participant`, hidden slots) or by a charged mechanism (unit `record`). */
export type SlotMechanism =
  | { readonly kind: 'lowest-loss' }
  | { readonly kind: 'exponential'; readonly epsilon: number; readonly lossBound: number; readonly stream: KeyStream };

/** Public constants of a server step. */
export interface ServerFacts {
  readonly bodyDenominator: number;
  readonly headDenominator: number;
  readonly momentum: number;
  readonly step: number;
}

/**
 * A federated algorithm as functions of its inputs. A sum is always a sum of **descent directions** (gradients, or
 * broadcast minus local parameters): the server moves against it. An absent function is a part the algorithm lacks.
 */
export interface Algorithm {
  readonly info: AlgorithmInfo;
  /** Blocks of the summed vector, or none if nothing is shared. */
  layout(manifest: ModelManifest, slots: number): readonly Block[];
  /** Unit `record`: the unclipped term of one record; reads that record, released values and the charged slot only. */
  recordTerm?(context: ParticipantContext, record: number): readonly TermPart[];
  /** Unit `participant`: unclipped segments of the whole contribution, clipped once, jointly, by the encoder. */
  participantUpdate?(context: ParticipantContext): readonly Float64Array[];
  /** The slot to fill until the next choice; the planner charges it at unit `record`. */
  chooseSlot?(context: ParticipantContext, mechanism: SlotMechanism): number;
  /** Post-processing of a release: decoded sums, one for each block, to the next models. */
  serverStep?(state: ReleasedState, sums: readonly Float64Array[], facts: ServerFacts): ReleasedState;
  /** What the participant keeps for itself after a round; no shared part may read it at unit `record`. */
  updateLocal?(context: ParticipantContext): LocalState;
  /** The model that the participant uses at the end. */
  personalize(context: ParticipantContext): Model;
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
