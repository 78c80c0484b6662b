import { CoveyError } from '../../protocol/errors.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { countNoiseMargin, openSlots } from '../cluster/census.ts';
import { hiddenLayout } from '../cluster/layout.ts';
import { bodyLayers } from '../learning/manifest.ts';
import { type Budget, rdpAccountant } from '../privacy/accountant.ts';
import { calibrateNoiseMultiplier, type Schedule } from '../privacy/calibrate.ts';
import { checkComponents } from '../privacy/dropout-noise.ts';
import type { Block } from '../privacy/encode.ts';
import type { DpEvent, Relation } from '../privacy/events.ts';
import { createFilter, totalCost } from '../privacy/filter.ts';
import { termBits } from '../privacy/float-terms.ts';
import { optimumOf } from '../privacy/gate-order.ts';
import { type Path, pathsOfSegments } from '../privacy/paths.ts';
import { sumEvent, unitSensitivity } from '../privacy/sum-event.ts';
import type { View } from '../privacy/views.ts';
import { clipCountUnits, jointSensitivity } from './adaptive-clip.ts';
import { algorithmOf } from './algorithm.ts';
import { isFloatBounded, mechanismOf, type RunConfig, sendsUpdates, toleratedDrops } from './config.ts';
import { evolvingOf, GAP_SCALE, gapsBlock, gapsSensitivity, gapsShareVariance, isProbeEnd } from './evolution.ts';
import { groupCount, largestGroup } from './groups.ts';
import { LABEL_SCALE, labelsBlock, labelsShareVariance, sumsLabels } from './labels.ts';
import { checkLocalSums, type LocalNoise, localEvents, localNoiseOf } from './local-noise.ts';
import { localQueries } from './local-queries.ts';
import { isMeasured, METRICS_SCALE, metricsBlock, metricsSensitivity, metricsShareVariance } from './metrics.ts';
import { modelManifest } from './released.ts';

/** One session of the public schedule. `step` counts training steps; `choice` counts choices from 0. */
export type ScheduledSession =
  | { readonly kind: 'seats'; readonly step: 0 }
  | { readonly kind: 'choice'; readonly step: number; readonly choice: number }
  /** `group`: the one that trains where a step is spread over several sessions. */
  | { readonly kind: 'train'; readonly step: number; readonly group?: number }
  /** Accuracies after training step `step`. */
  | { readonly kind: 'metrics'; readonly step: number; readonly group?: number }
  /** Records of each class, before everything else. */
  | { readonly kind: 'labels'; readonly step: 0 }
  /** Gaps of evolving clusters after the last step of a probe. */
  | { readonly kind: 'gaps'; readonly step: number };

/** What follows from a configuration alone; every participant derives it anew and compares. */
export interface RunPlan {
  readonly schedule: readonly ScheduledSession[];
  /** Noise standard deviation over sensitivity that meets the target with the fewest accepted honest shares. */
  readonly noiseMultiplier: number;
  /** Largest l2 norm that one unit adds to a training step: a record's term or a participant's update. Units: integer units. */
  readonly sensitivity: number;
  /** Variance that one participant adds to each coordinate. Units: squared integer units. */
  readonly shareVariance: number;
  /** What a member adds to or takes off the count of updates within an adaptive clip; 0 with a fixed one. Units: integer units. */
  readonly countUnits: number;
  /** Noise inside the organizations; `sensitivity` and `shareVariance` are then those of one local gradient. */
  readonly local: LocalNoise | null;
  /** Order of the filter that gates the budget: the optimum of this plan, fixed before the run. @see privacy F22 */
  readonly gateOrder: number;
}

/** What the charge of a session depends on. */
type PlanNoise = Pick<RunPlan, 'shareVariance' | 'countUnits' | 'local'>;

/** Number of a session's group; sessions of the whole cohort count as group 0. */
export function groupOf(session: ScheduledSession): number {
  return session.kind === 'train' || session.kind === 'metrics' ? (session.group ?? 0) : 0;
}

/** Scale of the unrotated slot counts: keeps the share of each participant above 1.5 integer units. */
export const COUNT_SCALE = 16;

/** The schedule: label counts, seats, then training steps, a choice before each step that the configuration names, gaps and metrics after some. */
export function buildSchedule(config: RunConfig): ScheduledSession[] {
  const founding = (config.clusters?.foundingSlots ?? 0) > 0;
  const schedule: ScheduledSession[] = sumsLabels(config) ? [{ kind: 'labels', step: 0 }] : [];
  if (founding) schedule.push({ kind: 'seats', step: 0 });
  for (let step = 0; step < config.training.steps; step++) {
    const choice = config.clusters?.choiceSteps.indexOf(step) ?? -1;
    if (choice >= 0) schedule.push({ kind: 'choice', step, choice });
    const groups = groupCount(config);
    for (const kind of isMeasured(config, step) ? (['train', 'metrics'] as const) : (['train'] as const)) {
      if (groups === 1) schedule.push({ kind, step });
      else for (let group = 0; group < groups; group++) schedule.push({ kind, step, group });
    }
    if (isProbeEnd(config, step)) schedule.push({ kind: 'gaps', step });
  }
  return schedule;
}

/** Heads in the vector of a training step: of all slots, of the own cluster in the open, or none that is shared. */
export function summedHeads(config: RunConfig, slots: number): number {
  if (algorithmOf(config).algorithm.shares === 'body') return 0;
  return config.clusters?.open === undefined ? slots : 1;
}

/** Padded ring coordinates of the vector of a training step: body, heads, what the algorithm sums beside them. */
export function trainingBlocks(config: RunConfig, slots: number): readonly Block[] {
  const manifest = modelManifest(config);
  const { bodyLength, headLength } = manifest;
  const models = hiddenLayout({ bodyLength, headLength, slots: summedHeads(config, slots) });
  const { algorithm, options } = algorithmOf(config);
  return [...models, ...(algorithm.extra?.(manifest, options).blocks ?? [])];
}

/** Blocks of a session's vector: the rotated model segments, or one unrotated block of counts. */
export function sessionBlocks(config: RunConfig, session: ScheduledSession, slots: number): readonly Block[] {
  if (session.kind === 'train') return trainingBlocks(config, slots);
  if (session.kind === 'metrics') return [metricsBlock(config)];
  if (session.kind === 'labels') return [labelsBlock(config)];
  if (session.kind === 'gaps') return [gapsBlock(slots)];
  const length = session.kind === 'seats' ? (config.clusters?.seatPositions ?? 0) : slots;
  return [{ segment: session.kind === 'seats' ? 'seats' : 'counts', realLength: length, length, rotated: false }];
}

function dimension(config: RunConfig, slots: number): number {
  return trainingBlocks(config, slots).reduce((sum, block) => sum + block.length, 0);
}

/**
 * l2 norm by which one unit moves the integer vector of a training step: a record's term is rounded toward zero, the
 * update of a participant at random within a bound that grows with the dimension; float-bounded terms are rounded at random
 * all together. @see privacy F13
 */
export function trainingSensitivity(config: RunConfig, slots: number, countUnits = 0): number {
  const scaledNorm = config.encoding.scale * config.training.clippingNorm;
  if (sendsUpdates(config)) return jointSensitivity(scaledNorm, dimension(config, slots), countUnits);
  return unitSensitivity(config.privacy.unit, scaledNorm, dimension(config, slots), config.privacy.terms);
}

/** Slots that a member chooses in one choice, each by a draw of its own. */
export function choiceDraws({ clusters }: RunConfig): number {
  return clusters?.assignment === 'several' ? (clusters.filled ?? 1) : 1;
}

/** What one unit of a participant pays for a session with `survivors` members. Seats depend on no data: no event. */
export function sessionEvents(
  config: RunConfig,
  plan: PlanNoise,
  session: ScheduledSession,
  slots: number,
  survivors: number,
  view: View,
): DpEvent[] {
  if (session.kind === 'seats') return [];
  const { colluders } = config.cohort;
  const mechanism = mechanismOf(config);
  if (session.kind === 'train' && plan.local !== null) return localEvents(config, plan.local);
  if (session.kind === 'train') {
    const { samplingProbability } = config.training;
    const sensitivity = trainingSensitivity(config, slots, plan.countUnits);
    const coordinates = dimension(config, slots) + (plan.countUnits > 0 ? 1 : 0);
    const exactFor = toleratedDrops(config, 'train') === undefined ? undefined : config.cohort.minSurvivors;
    const terms = { sensitivity, dimension: coordinates, samplingProbability, colluders, mechanism, exactFor };
    return [sumEvent(terms, plan.shareVariance, survivors, view)];
  }
  if (session.kind === 'metrics') {
    const dimension = metricsBlock(config).length;
    const sensitivity = metricsSensitivity(config);
    const histogram = { sensitivity, dimension, samplingProbability: 1, colluders, mechanism };
    return [sumEvent(histogram, metricsShareVariance(config), survivors, view)];
  }
  if (session.kind === 'labels') {
    const dimension = config.model.classes;
    const counts = { sensitivity: LABEL_SCALE, dimension, samplingProbability: 1, colluders, mechanism };
    return [sumEvent(counts, labelsShareVariance(config), survivors, view)];
  }
  if (session.kind === 'gaps') {
    const dimension = gapsBlock(slots).length;
    const gaps = { sensitivity: gapsSensitivity(), dimension, samplingProbability: 1, colluders, mechanism };
    return [sumEvent(gaps, gapsShareVariance(config), survivors, view)];
  }
  if (config.privacy.unit === 'record') {
    // The noisy counts post-process the charged choices; a record moves every score one way. privacy 3.4, F21
    const { choiceEpsilon: epsilon = 0 } = config.clusters ?? {};
    return Array.from({ length: choiceDraws(config) }, () => ({
      kind: 'exponentialMechanism' as const,
      epsilon,
      monotone: true,
    }));
  }
  // In hidden slots the choice itself costs a participant nothing; its one in the counts is a release. privacy 3.4
  const counts = { sensitivity: COUNT_SCALE, dimension: slots, samplingProbability: 1, colluders, mechanism };
  return [sumEvent(counts, countShareVariance(config), survivors, view)];
}

/** Parts of the release that the events of a session pay for, all together. Seats depend on no data: none. */
export function sessionPaths(
  config: RunConfig,
  plan: Pick<RunPlan, 'countUnits'>,
  session: ScheduledSession,
  slots: number,
): readonly Path[] {
  if (session.kind === 'seats') return [];
  if (session.kind === 'choice' || session.kind === 'gaps') return ['selection'];
  if (session.kind === 'metrics' || session.kind === 'labels') return [session.kind];
  const segments = trainingBlocks(config, slots).map(({ segment }) => segment);
  const cluster = config.clusters?.open === undefined ? null : groupOf(session);
  return pathsOfSegments(
    plan.countUnits > 0 ? [...segments, 'clip-count'] : segments,
    bodyLayers(config.model) > 0,
    cluster,
  );
}

/** Slots of the vector before and after the founding ends. */
export function slotsAt(config: RunConfig, step: number): number {
  if (config.clusters === null) return 1;
  const { choiceSteps, foundingSlots, kept } = config.clusters;
  const founded = choiceSteps[0];
  return foundingSlots > 0 && (founded === undefined || step < founded) ? foundingSlots : kept;
}

/**
 * Derives schedule, sensitivity and noise from the configuration: epsilon is met if every step has only the fewest
 * accepted survivors, of whom the assumed colluders add no noise that counts (privacy F18).
 */
export function planRun(config: RunConfig): RunPlan {
  const schedule = buildSchedule(config);
  const shares = config.cohort.minSurvivors - config.cohort.colluders;
  const trained = schedule.filter(({ kind }) => kind === 'train');
  const sensitivityOf = (countUnits: number): number =>
    Math.max(...trained.map((session) => trainingSensitivity(config, sessionSlots(config, session), countUnits)));
  const updateSensitivity = sensitivityOf(0);
  if (isFloatBounded(config))
    for (const session of trained) {
      const longest = trainingBlocks(config, sessionSlots(config, session)).map(({ length }) => length);
      // Refused before the run, not by the records of a site.
      termBits(Math.max(1, ...longest), config.training.maxRecordsPerStep);
    }
  const { adaptiveClip } = config.training;
  const queries = config.privacy.localNoise === undefined ? 0 : localQueries(config);
  const noiseOf = (multiplier: number): PlanNoise => ({
    shareVariance: (multiplier * updateSensitivity) ** 2 / shares,
    countUnits: adaptiveClip === undefined ? 0 : clipCountUnits(adaptiveClip, multiplier * updateSensitivity),
    local: queries === 0 ? null : localNoiseOf(config, queries, multiplier),
  });
  const eventsOf = (noise: PlanNoise): { event: DpEvent; count: number }[] => {
    // Founding and later steps differ in the dimension of the vector only.
    const groups = new Map<string, { event: DpEvent; count: number }>();
    for (const session of schedule) {
      // Groups are disjoint: nobody pays for more than one.
      if (groupOf(session) !== 0) continue;
      const slots = sessionSlots(config, session);
      for (const event of sessionEvents(config, noise, session, slots, config.cohort.minSurvivors, 'server')) {
        const key = `${session.kind}/${slots}`;
        const group = groups.get(key);
        groups.set(key, { event, count: (group?.count ?? 0) + 1 });
      }
    }
    return [...groups.values()];
  };
  const { relation, targetEpsilon, delta } = config.privacy;
  // Of the updates alone; what the count of an adaptive clip costs is in the events.
  const budget = { epsilon: targetEpsilon, delta };
  const calibrated = calibrateNoiseMultiplier(budget, (multiplier) => eventsOf(noiseOf(multiplier)));
  const { gateOrder, multiplier: updateMultiplier } = fitGate(budget, relation, calibrated, (multiplier) =>
    eventsOf(noiseOf(multiplier)),
  );
  const noise = noiseOf(updateMultiplier);
  if (noise.local !== null) {
    checkLocalSums(config, noise.local);
    const { sensitivity, variance } = noise.local;
    return { schedule, noiseMultiplier: updateMultiplier, sensitivity, ...noise, shareVariance: variance, gateOrder };
  }
  const sensitivity = sensitivityOf(noise.countUnits);
  if (config.privacy.xnoise !== undefined)
    checkComponents(largestGroup(config), config.cohort.minSurvivors * noise.shareVariance);
  const noiseMultiplier =
    noise.countUnits === 0 ? updateMultiplier : Math.sqrt(shares * noise.shareVariance) / sensitivity;
  return { schedule, noiseMultiplier, sensitivity, gateOrder, ...noise };
}

/** Room below the limit of the gate for other orders of summing. */
const GATE_ROOM = 1e-12;
const MAX_GATE_STEPS = 60;

/**
 * The optimum of a calibrated schedule as order of the gate, and noise under which the gate admits all of it: calibration
 * and gate use the same bound at this order, so that only the last bits ever differ.
 * @throws CoveyError PRIVACY_BUDGET if no noise makes the schedule fit.
 */
function fitGate(
  budget: Budget,
  relation: Relation,
  calibrated: number,
  build: (multiplier: number) => Schedule,
): { readonly gateOrder: number; readonly multiplier: number } {
  let multiplier = calibrated;
  for (let step = 0; step < MAX_GATE_STEPS; step++) {
    const composed = build(multiplier).reduce(
      (total, { event, count }) => total.compose(event, count),
      rdpAccountant({ relation }),
    );
    const { order, epsilon } = optimumOf(composed, budget.delta);
    const gate = { kind: 'rdp', order } as const;
    // Above it the order may leave no room at all.
    if (epsilon <= budget.epsilon) {
      const filter = createFilter({ budget, relation, gate });
      if (totalCost(filter.declaration, composed) * (1 + GATE_ROOM) <= filter.limit)
        return { gateOrder: order, multiplier };
    }
    multiplier *= 1 + GATE_ROOM * 2 ** step;
  }
  throw new CoveyError('PRIVACY_BUDGET', `"epsilon" expected a target that noise can reach, got ${budget.epsilon}`);
}

/** Variance that one participant adds to each slot count. Units: squared count units (COUNT_SCALE per member). */
export function countShareVariance(config: RunConfig): number {
  const stddev = (config.clusters?.countNoiseStddev ?? 0) * COUNT_SCALE;
  // Local deviations under 1.5 integer units are refused by the mechanism (privacy F11).
  return Math.max(2.25, stddev ** 2 / (config.cohort.minSurvivors - config.cohort.colluders));
}

/** Deviation of the noise on a slot count if every participant adds its share: more no session has. Units: members. */
export function countNoiseOf(config: RunConfig): number {
  return Math.sqrt(config.cohort.participants * countShareVariance(config)) / COUNT_SCALE;
}

/** Chance that noise lets a slot pass the gate that is too small. */
const GATE_FAILURE = 1e-6;

/**
 * Slots that a census leaves open: count - noise margin - maxLoss >= minCluster (threat-model.md). Everybody computes it
 * from the released counts, so it is free. Units: `counts` in members. Null where the run has no floor.
 */
export function openAfterCensus(config: RunConfig, counts: readonly number[]): number[] | null {
  const { maxLoss, minCluster } = config.cohort;
  if (minCluster === 0) return null;
  const noiseStddev = countNoiseOf(config);
  const steps = mechanismOf(config) === 'skellam' ? 1 / COUNT_SCALE : 0;
  const noiseMargin = countNoiseMargin(noiseStddev, counts.length, GATE_FAILURE, steps);
  return openSlots(counts, { noiseMargin, maxLoss, minCluster }).flatMap((open, slot) => (open ? [slot] : []));
}

/**
 * Slots that a session of the schedule offers, the most of them where clusters evolve; the first choice is still made
 * among the founding slots.
 */
export function sessionSlots(config: RunConfig, session: ScheduledSession): number {
  const evolving = evolvingOf(config);
  if (evolving !== null) return evolving.most;
  const { foundingSlots, kept } = config.clusters ?? { foundingSlots: 0, kept: 1 };
  if (session.kind === 'choice' && session.choice === 0) return foundingSlots > 0 ? foundingSlots : kept;
  return slotsAt(config, session.step);
}

/** Purpose of a scheduled session on the wire. */
export function purposeOf(session: ScheduledSession): SessionParams['purpose'] {
  return session.kind === 'train' || session.kind === 'metrics' ? session.kind : 'census';
}

/** Scale of a session's vector and the noise that one participant adds to it. Units: `shareVariance` in squared integer units. */
export function sessionNoise(
  config: RunConfig,
  plan: Pick<RunPlan, 'shareVariance' | 'local'>,
  session: ScheduledSession,
): { readonly scale: number; readonly shareVariance: number } {
  switch (session.kind) {
    case 'train':
      return { scale: config.encoding.scale, shareVariance: plan.local === null ? plan.shareVariance : 0 };
    case 'choice':
      return { scale: COUNT_SCALE, shareVariance: countShareVariance(config) };
    case 'metrics':
      return { scale: METRICS_SCALE, shareVariance: metricsShareVariance(config) };
    case 'labels':
      return { scale: LABEL_SCALE, shareVariance: labelsShareVariance(config) };
    case 'gaps':
      return { scale: GAP_SCALE, shareVariance: gapsShareVariance(config) };
    case 'seats':
      return { scale: 1, shareVariance: 0 };
  }
}
