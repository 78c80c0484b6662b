import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { unpackLanes } from '../../protocol/ring.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { keptSlots } from '../cluster/census.ts';
import { evolveSlots, type ProbeHistory, type SlotLayout } from '../cluster/evolution.ts';
import type { ReleasedModels, StepDirections, StepFacts, StepSums } from '../learning/algorithm.ts';
import {
  initialMoments,
  linearStep,
  type Moments,
  publicDenominators,
  type ServerStep,
  stepServer,
} from '../learning/server-optimizer.ts';
import { createEncoder } from '../privacy/encode.ts';
import type { ClipCount, ClipHistory } from './adaptive-clip.ts';
import { clipCount, clipSteps } from './adaptive-clip.ts';
import { algorithmOf } from './algorithm.ts';
import { type RunConfig, sendsUpdates } from './config.ts';
import { evolutionRule, mergeVectors, probeRelease, sessionLayout, splitHeads } from './evolution.ts';
import { groupCount } from './groups.ts';
import { LABEL_SCALE } from './labels.ts';
import type { StartingWeights } from './layout.ts';
import { addMetrics, type MetricsRelease } from './metrics.ts';
import type { SessionOrder } from './order.ts';
import {
  COUNT_SCALE,
  countNoiseOf,
  groupOf,
  openAfterCensus,
  type RunPlan,
  type ScheduledSession,
  sessionBlocks,
  slotsAt,
  summedHeads,
} from './plan.ts';
import { initialModels, modelManifest } from './released.ts';
import { atSurvivors } from './shrink.ts';

/** Where a run stands: a function of the configuration and the released sums, nothing else (replay gives the same bits). */
export interface ReleaseState {
  /** Index of the next session in the schedule. */
  readonly position: number;
  readonly models: ReleasedModels;
  /** Of the server's optimizer. */
  readonly moments: { readonly body: Moments; readonly heads: readonly Moments[] };
  /** Original founding slots that stay, in order; null while slots are founded. */
  readonly kept: readonly number[] | null;
  /** Noisy member counts of the last choice, one for each slot that was offered. */
  readonly counts: readonly number[] | null;
  /** Slots that the last census left open; null before it and in runs without a floor. */
  readonly open: readonly number[] | null;
  /** What the probes of evolving clusters released so far; empty with other clusters. */
  readonly probes: ProbeHistory;
  /** Trials of the probe that goes on, none between probes; null with other clusters. */
  readonly trials: SlotLayout['trials'] | null;
  /** Decoded sums of the groups of a step that have released so far, added up; null between steps. */
  readonly pending: readonly Float64Array[] | null;
  /** Counts of updates within the clip of every step so far; the last one may still lack groups. Empty with a fixed clip. */
  readonly clip: ClipHistory;
  /** Noisy histograms of accuracies so far, oldest first. */
  readonly metrics: readonly MetricsRelease[];
}

/** Ring coordinates of a released sum, centred. */
export function sumCoordinates(params: SessionParams, sum: Uint32Array): Int32Array {
  const coordinates = params.layout.reduce((total, segment) => total + segment.length, 0);
  return unpackLanes(sum, coordinates, params.ring.lanes);
}

/** State before the first session. `start`: the weights that the configuration names, if it does. */
export function initialState(config: RunConfig, start?: StartingWeights): ReleaseState {
  const models = initialModels(config, slotsAt(config, 0), start);
  const method = algorithmOf(config).algorithm.optimizer ?? 'momentum';
  return {
    position: 0,
    models,
    moments: {
      body: initialMoments(method, models.body.length),
      heads: models.heads.map((head) => initialMoments(method, head.length)),
    },
    kept: null,
    counts: null,
    open: null,
    probes: [],
    trials: evolutionRule(config) === null ? null : [],
    pending: null,
    clip: [],
    metrics: [],
  };
}

/** The next session to open, or null when the schedule is done. */
export function nextOrder(plan: RunPlan, state: ReleaseState): SessionOrder | null {
  const session = plan.schedule[state.position];
  if (session === undefined) return null;
  const { clip, models, trials } = state;
  return {
    session,
    models,
    // All groups of a step are under the clip of that step, whatever the first of them have released.
    ...(plan.countUnits === 0 ? {} : { clip: clip.slice(0, clipSteps(session)) }),
    ...(trials === null ? {} : { trials }),
  };
}

/** Noisy counts of a choice session in members. */
export function decodeCounts(coordinates: Int32Array): number[] {
  return [...coordinates].map((value) => value / COUNT_SCALE);
}

/** Public denominators: expected records of a step, or the participants, whose updates are averaged. */
function denominatorsOf(config: RunConfig, slots: number): { readonly body: number; readonly head: number } {
  const { clusters, cohort, training } = config;
  if (!sendsUpdates(config)) return publicDenominators(training.samplingProbability, training.nominalRecords, slots);
  const { body, head } = publicDenominators(1, cohort.participants, slots);
  // With n filled slots each receives n times as many updates, scaled by 1 / sqrt(n).
  return { body, head: head * Math.sqrt(clusters?.filled ?? 1) };
}

/**
 * Denominators of the heads: an even share of the cohort, or the members of the last choice. Evolving clusters differ in size and change it: a slot's share of the cohort is its last noisy
 * count, at least the floor of a slot that stays, so that no slot takes longer steps than the others.
 */
function headDenominators(config: RunConfig, state: ReleaseState): number[] {
  const { models, probes } = state;
  const slots = models.heads.length;
  const { body, head } = denominatorsOf(config, slots);
  const rule = evolutionRule(config);
  const counts = rule === null ? null : evolveSlots(rule, probes).layout.counts;
  if (config.clusters?.denominator === 'counts') {
    // A count below the deviation of its noise is no count: it must not blow a nearly empty slot up.
    const least = Math.max(1, countNoiseOf(config));
    return models.heads.map((_, j) => Math.max(state.counts?.[j] ?? head, least));
  }
  if (rule === null || counts === null) return models.heads.map(() => head);
  const { participants } = config.cohort;
  return counts.map((count) => (body * Math.min(participants, Math.max(rule.minMembers, count))) / participants);
}

/** The server's step on one segment. */
function serverStep(config: RunConfig, step: number): ServerStep {
  const { momentum, stepSize, steps, lastStepShare } = config.training;
  const method = algorithmOf(config).algorithm.optimizer ?? 'momentum';
  return { method, momentum, step: linearStep(stepSize, step, steps, lastStepShare) };
}

/** Means over the public denominators, or what the algorithm makes of the sums. */
function directionsOf(
  config: RunConfig,
  state: ReleaseState,
  sums: StepSums,
  survivors: number,
  clippingNorm: number,
): StepDirections {
  const { models } = state;
  const { algorithm, options } = algorithmOf(config);
  const denominators = denominatorsOf(config, models.heads.length);
  const facts: StepFacts = {
    manifest: modelManifest(config),
    released: models,
    survivors,
    participants: config.cohort.participants,
    denominators,
    options,
    epochs: config.training.local,
    clippingNorm,
  };
  if (algorithm.server !== undefined) return algorithm.server(sums, facts);
  const heads = headDenominators(config, state);
  const mean = (sum: Float64Array, denominator: number): Float64Array => sum.map((value) => value / denominator);
  return {
    body: mean(sums.body, denominators.body),
    heads: sums.heads.map((head, j) => mean(head, heads[j] as number)),
    extra: models.extra,
  };
}

function applyTraining(
  crypto: CryptoProvider,
  config: RunConfig,
  before: ReleaseState,
  session: ScheduledSession,
  params: SessionParams,
  coordinates: Int32Array,
  survivors: number,
): ReleaseState {
  const isCounted = clipCount(params) > 0;
  const sum = isCounted ? coordinates.subarray(0, -1) : coordinates;
  const counted = { sum: coordinates.at(-1) ?? 0, survivors };
  const state = isCounted ? { ...before, clip: countClip(before.clip, session.step, counted) } : before;
  const slots = state.models.heads.length;
  const blocks = sessionBlocks(config, session, slots);
  const { clippingNorm, scale, rotationSeed } = params.encoding;
  const decoded = createEncoder(crypto, { blocks, clippingNorm, scale, rotationSeed }).decode(sum);
  return applyDecodedSums(config, state, session, decoded, { survivors, clippingNorm });
}

/** Applies sums of a training step that are decoded already. Shapes: one array of `realLength` for each block. */
export function applyDecodedSums(
  config: RunConfig,
  state: ReleaseState,
  session: ScheduledSession,
  decoded: readonly Float64Array[],
  { survivors, clippingNorm }: Pick<StepFacts, 'survivors' | 'clippingNorm'>,
): ReleaseState {
  const group = groupOf(session);
  if (config.clusters?.open !== undefined) return applyOpenCluster(config, state, session, group, decoded);
  // Every group has a rotation of its own, so sums are added after decoding.
  const total = decoded.map((values, i) => values.map((value, k) => value + (state.pending?.[i]?.[k] ?? 0)));
  if (group + 1 < groupCount(config)) return { ...state, position: state.position + 1, pending: total };
  const [body, ...others] = total;
  const slots = state.models.heads.length;
  const heads = summedHeads(config, slots);
  if (body === undefined || others.length < heads)
    throw new CoveyError('INTERNAL_INVARIANT', 'a released sum does not match its layout');
  const sums = { body, heads: others.slice(0, heads), extra: others.slice(heads) };
  const directions = directionsOf(config, state, sums, survivors, clippingNorm);
  const server = serverStep(config, session.step);
  const bodyStep = stepServer(state.models.body, state.moments.body, directions.body, server);
  const trained = state.open?.length === 0 ? [0] : state.open;
  const headSteps = state.models.heads.map((head, j) => {
    const moments = state.moments.heads[j] as Moments;
    const direction = directions.heads[j];
    // A closed slot holds nothing but noise, and heads that stay with the participants are in no sum.
    if (direction === undefined || (trained !== null && !trained.includes(j))) return { parameters: head, moments };
    return stepServer(head, moments, direction, server);
  });
  return {
    ...state,
    position: state.position + 1,
    models: { body: bodyStep.parameters, heads: headSteps.map((h) => h.parameters), extra: directions.extra },
    moments: { body: bodyStep.moments, heads: headSteps.map((h) => h.moments) },
    pending: null,
  };
}

/** Adds the count of a group to that of its step. */
function countClip(history: ClipHistory, step: number, count: ClipCount): ClipHistory {
  const { sum, survivors } = history[step] ?? { sum: 0, survivors: 0 };
  return [...history.slice(0, step), { sum: sum + count.sum, survivors: survivors + count.survivors }];
}

/** A session of a cluster in the open moves the model of that cluster and no other. */
function applyOpenCluster(
  config: RunConfig,
  state: ReleaseState,
  session: ScheduledSession,
  group: number,
  [, sum]: readonly Float64Array[],
): ReleaseState {
  const [head, moments] = [state.models.heads[group], state.moments.heads[group]];
  if (head === undefined || moments === undefined || sum === undefined)
    throw new CoveyError('INTERNAL_INVARIANT', 'a released sum does not match its cluster');
  const denominator = denominatorsOf(config, state.models.heads.length).head;
  const direction = sum.map((value) => value / denominator);
  const moved = stepServer(head, moments, direction, serverStep(config, session.step));
  const replaced = <T>(values: readonly T[], value: T): T[] => values.map((old, j) => (j === group ? value : old));
  return {
    ...state,
    position: state.position + 1,
    models: { ...state.models, heads: replaced(state.models.heads, moved.parameters) },
    moments: { body: state.moments.body, heads: replaced(state.moments.heads, moved.moments) },
  };
}

function applyChoice(config: RunConfig, state: ReleaseState, sum: Int32Array): ReleaseState {
  const counts = decodeCounts(sum);
  const open = openAfterCensus(config, counts);
  if (evolutionRule(config) !== null)
    return {
      ...state,
      position: state.position + 1,
      counts,
      probes: [...state.probes, probeRelease(sum, COUNT_SCALE)],
    };
  if (state.kept !== null || config.clusters === null) return { ...state, position: state.position + 1, counts, open };
  // The first choice ends the founding: the slots with the largest noisy counts stay, in their old order.
  const kept = keptSlots(counts, config.clusters.kept);
  return {
    ...state,
    position: state.position + 1,
    models: { ...state.models, heads: kept.map((j) => state.models.heads[j] as Float32Array) },
    moments: { body: state.moments.body, heads: kept.map((j) => state.moments.heads[j] as Moments) },
    kept,
    counts,
    open,
  };
}

/** The end of a probe: trials that stay, the means of the others, and no slots of too few members. */
function applyGaps(config: RunConfig, state: ReleaseState, params: SessionParams, sum: Int32Array): ReleaseState {
  const rule = evolutionRule(config);
  const probes = [...state.probes, probeRelease(sum, params.encoding.scale)];
  const outcome = rule === null ? undefined : evolveSlots(rule, probes).ended.at(-1);
  if (outcome === undefined) throw new CoveyError('INTERNAL_INVARIANT', 'gaps of clusters that do not evolve');
  const { heads } = state.moments;
  return {
    ...state,
    position: state.position + 1,
    models: { ...state.models, heads: mergeVectors(state.models.heads, outcome) },
    moments: {
      body: state.moments.body,
      heads: merged(heads, (moment) => mergeVectors(moment, outcome)),
    },
    counts: outcome.next.counts,
    probes,
    trials: [],
  };
}

/** Applies a change of the slots to every moment of an optimizer. */
function merged(heads: readonly Moments[], change: (moment: readonly Float64Array[]) => Float64Array[]): Moments[] {
  const orders = heads[0]?.length ?? 0;
  const byOrder = Array.from({ length: orders }, (_, order) =>
    change(heads.map((moments) => moments[order] as Float64Array)),
  );
  return (byOrder[0] ?? []).map((_, j) => byOrder.map((moment) => moment[j] as Float64Array));
}

/** Splits models where the next session is the choice of a probe; both halves take the moments of the whole. */
function startProbe(config: RunConfig, plan: RunPlan, state: ReleaseState): ReleaseState {
  const session = plan.schedule[state.position];
  if (session?.kind !== 'choice' || evolutionRule(config) === null) return state;
  const layout = sessionLayout(config, plan, session, state.probes);
  const heads = splitHeads(config, modelManifest(config), state.models.heads, layout, session.step);
  const whole = new Map(layout.trials.map(([a, b]) => [b, a]));
  return {
    ...state,
    models: { ...state.models, heads },
    trials: layout.trials,
    moments: {
      body: state.moments.body,
      heads: heads.map((_, j) => state.moments.heads[whole.get(j) ?? j] as Moments),
    },
  };
}

/**
 * Applies a released sum over `survivors` members: post-processing, free of privacy cost, deterministic.
 * @throws CoveyError INTERNAL_INVARIANT if the sum is not of the state's next session.
 */
export function applyRelease(
  crypto: CryptoProvider,
  config: RunConfig,
  plan: RunPlan,
  state: ReleaseState,
  params: SessionParams,
  sum: Uint32Array,
  survivors: number,
): ReleaseState {
  const session = plan.schedule[state.position];
  if (session === undefined)
    throw new CoveyError('INTERNAL_INVARIANT', 'a sum was released after the end of the schedule');
  const coordinates = sumCoordinates(params, sum);
  return startProbe(config, plan, applySum(crypto, config, plan, state, session, params, coordinates, survivors));
}

function applySum(
  crypto: CryptoProvider,
  config: RunConfig,
  plan: RunPlan,
  state: ReleaseState,
  session: ScheduledSession,
  params: SessionParams,
  coordinates: Int32Array,
  survivors: number,
): ReleaseState {
  if (session.kind === 'train') return applyTraining(crypto, config, state, session, params, coordinates, survivors);
  if (session.kind === 'choice')
    return applyChoice(atSurvivors({ config, plan }, params.minSurvivors).config, state, coordinates);
  if (session.kind === 'gaps') return applyGaps(config, state, params, coordinates);
  if (session.kind === 'metrics') {
    const metrics = addMetrics(state.metrics, session.step, coordinates, survivors);
    return { ...state, position: state.position + 1, metrics };
  }
  if (session.kind === 'labels') {
    // In the place of the zeros that the run started with: every later order brings the counts.
    const extra = [...state.models.extra.slice(0, -1), Float32Array.from(coordinates, (count) => count / LABEL_SCALE)];
    return { ...state, position: state.position + 1, models: { ...state.models, extra } };
  }
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
