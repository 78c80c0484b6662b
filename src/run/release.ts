import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { unpackLanes } from '../../protocol/ring.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { keptSlots } from '../cluster/census.ts';
import { linearStep, publicDenominators, stepMomentum } from '../learning/server-optimizer.ts';
import { createEncoder } from '../privacy/encode.ts';
import type { RunConfig } from './config.ts';
import { groupCount } from './groups.ts';
import type { SessionOrder } from './order.ts';
import {
  COUNT_SCALE,
  groupOf,
  openAfterCensus,
  type RunPlan,
  type ScheduledSession,
  sessionBlocks,
  slotsAt,
} from './plan.ts';
import { initialModels, type ReleasedModels } from './released.ts';

/** Where a run stands: a function of the configuration and the released sums, nothing else (replay gives the same bits). */
export interface ReleaseState {
  /** Index of the next session in the schedule. */
  readonly position: number;
  readonly models: ReleasedModels;
  readonly velocity: { readonly body: Float64Array; readonly heads: readonly Float64Array[] };
  /** Original founding slots that stay, in order; null while slots are founded. */
  readonly kept: readonly number[] | null;
  /** Noisy member counts of the last choice, one for each slot that was offered. */
  readonly counts: readonly number[] | null;
  /** Slots that the last census left open; null before it and in runs without a floor. */
  readonly open: readonly number[] | null;
  /** Decoded sums of the groups of a step that have released so far, added up; null between steps. */
  readonly pending: readonly Float64Array[] | null;
}

/** Ring coordinates of a released sum, centred. */
export function sumCoordinates(params: SessionParams, sum: Uint32Array): Int32Array {
  const coordinates = params.layout.reduce((total, segment) => total + segment.length, 0);
  return unpackLanes(sum, coordinates, params.ring.lanes);
}

/** State before the first session. */
export function initialState(config: RunConfig): ReleaseState {
  const models = initialModels(config, slotsAt(config, 0));
  return {
    position: 0,
    models,
    velocity: {
      body: new Float64Array(models.body.length),
      heads: models.heads.map((head) => new Float64Array(head.length)),
    },
    kept: null,
    counts: null,
    open: null,
    pending: null,
  };
}

/** The next session to open, or null when the schedule is done. */
export function nextOrder(plan: RunPlan, state: ReleaseState): SessionOrder | null {
  const session = plan.schedule[state.position];
  return session === undefined ? null : { session, models: state.models };
}

/** Noisy counts of a choice session in members. */
export function decodeCounts(coordinates: Int32Array): number[] {
  return [...coordinates].map((value) => value / COUNT_SCALE);
}

/** Public denominators: expected records of a step, or the participants, whose updates are averaged. */
function denominatorsOf({ cohort, privacy, training }: RunConfig, slots: number): { body: number; head: number } {
  return privacy.unit === 'record'
    ? publicDenominators(training.samplingProbability, training.nominalRecords, slots)
    : publicDenominators(1, cohort.participants, slots);
}

function applyTraining(
  crypto: CryptoProvider,
  config: RunConfig,
  state: ReleaseState,
  session: ScheduledSession,
  params: SessionParams,
  sum: Int32Array,
): ReleaseState {
  const slots = state.models.heads.length;
  const blocks = sessionBlocks(config, session, slots);
  const { clippingNorm, scale, rotationSeed } = params.encoding;
  const decoded = createEncoder(crypto, { blocks, clippingNorm, scale, rotationSeed }).decode(sum);
  const group = groupOf(session);
  if (config.clusters?.open !== undefined) return applyOpenCluster(config, state, session, group, decoded);
  // Every group has a rotation of its own, so sums are added after decoding.
  const total = decoded.map((values, i) => values.map((value, k) => value + (state.pending?.[i]?.[k] ?? 0)));
  if (group + 1 < groupCount(config)) return { ...state, position: state.position + 1, pending: total };
  const [body, ...heads] = total;
  if (body === undefined || heads.length !== slots)
    throw new CoveyError('INTERNAL_INVARIANT', 'a released sum does not match its layout');
  const { momentum, stepSize, steps } = config.training;
  const denominators = denominatorsOf(config, slots);
  const step = linearStep(stepSize, session.step, steps);
  const bodyStep = stepMomentum(state.models.body, state.velocity.body, body, {
    denominator: denominators.body,
    momentum,
    step,
  });
  const trained = state.open?.length === 0 ? [0] : state.open;
  const headSteps = state.models.heads.map((head, j) => {
    const velocity = state.velocity.heads[j] ?? new Float64Array(head.length);
    // A closed slot holds nothing but noise.
    if (trained !== null && !trained.includes(j)) return { parameters: head, velocity };
    return stepMomentum(head, velocity, heads[j] ?? new Float64Array(head.length), {
      denominator: denominators.head,
      momentum,
      step,
    });
  });
  return {
    ...state,
    position: state.position + 1,
    models: { body: bodyStep.parameters, heads: headSteps.map((h) => h.parameters) },
    velocity: { body: bodyStep.velocity, heads: headSteps.map((h) => h.velocity) },
    pending: null,
  };
}

/** A session of a cluster in the open moves the model of that cluster and no other. */
function applyOpenCluster(
  config: RunConfig,
  state: ReleaseState,
  session: ScheduledSession,
  group: number,
  [, sum]: readonly Float64Array[],
): ReleaseState {
  const [head, velocity] = [state.models.heads[group], state.velocity.heads[group]];
  if (head === undefined || velocity === undefined || sum === undefined)
    throw new CoveyError('INTERNAL_INVARIANT', 'a released sum does not match its cluster');
  const { momentum, stepSize, steps } = config.training;
  const moved = stepMomentum(head, velocity, sum, {
    denominator: denominatorsOf(config, state.models.heads.length).head,
    momentum,
    step: linearStep(stepSize, session.step, steps),
  });
  const replaced = <T>(values: readonly T[], value: T): T[] => values.map((old, j) => (j === group ? value : old));
  return {
    ...state,
    position: state.position + 1,
    models: { body: state.models.body, heads: replaced(state.models.heads, moved.parameters) },
    velocity: { body: state.velocity.body, heads: replaced(state.velocity.heads, moved.velocity) },
  };
}

function applyChoice(config: RunConfig, state: ReleaseState, sum: Int32Array): ReleaseState {
  const counts = decodeCounts(sum);
  const open = openAfterCensus(config, counts);
  if (state.kept !== null || config.clusters === null) return { ...state, position: state.position + 1, counts, open };
  // The first choice ends the founding: the slots with the largest noisy counts stay, in their old order.
  const kept = keptSlots(counts, config.clusters.kept);
  return {
    position: state.position + 1,
    models: { body: state.models.body, heads: kept.map((j) => state.models.heads[j] ?? new Float32Array(0)) },
    velocity: { body: state.velocity.body, heads: kept.map((j) => state.velocity.heads[j] ?? new Float64Array(0)) },
    kept,
    counts,
    open,
    pending: null,
  };
}

/**
 * Applies a released sum: post-processing, free of privacy cost, deterministic.
 * @throws CoveyError INTERNAL_INVARIANT if the sum is not of the state's next session.
 */
export function applyRelease(
  crypto: CryptoProvider,
  config: RunConfig,
  plan: RunPlan,
  state: ReleaseState,
  params: SessionParams,
  sum: Uint32Array,
): ReleaseState {
  const session = plan.schedule[state.position];
  if (session === undefined)
    throw new CoveyError('INTERNAL_INVARIANT', 'a sum was released after the end of the schedule');
  const coordinates = sumCoordinates(params, sum);
  if (session.kind === 'train') return applyTraining(crypto, config, state, session, params, coordinates);
  if (session.kind === 'choice') return applyChoice(config, state, coordinates);
  return { ...state, position: state.position + 1 };
}

/** True if the seat lottery gave every survivor a position of its own; a clash is drawn again. */
export function seatsAreDistinct(sum: Int32Array, survivors: number): boolean {
  let occupied = 0;
  for (const value of sum) {
    if (value !== 0 && value !== 1) return false;
    occupied += value;
  }
  return occupied === survivors;
}
