import type { SessionParams } from '../../protocol/session.ts';
import { countNoiseMargin, openSlots } from '../cluster/census.ts';
import { hiddenLayout } from '../cluster/layout.ts';
import { calibrateNoiseMultiplier } from '../privacy/calibrate.ts';
import type { Block } from '../privacy/encode.ts';
import type { DpEvent } from '../privacy/events.ts';
import { sumEvent, unitSensitivity } from '../privacy/sum-event.ts';
import type { View } from '../privacy/views.ts';
import { clipCountUnits, jointSensitivity } from './adaptive-clip.ts';
import { algorithmOf } from './algorithm.ts';
import { mechanismOf, type RunConfig } from './config.ts';
import { evolvingOf, GAP_SCALE, gapsBlock, gapsSensitivity, gapsShareVariance, isProbeEnd } from './evolution.ts';
import { groupCount } from './groups.ts';
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
}

/** What the charge of a session depends on. */
type PlanNoise = Pick<RunPlan, 'shareVariance' | 'countUnits'>;

/** Number of a session's group; sessions of the whole cohort count as group 0. */
export function groupOf(session: ScheduledSession): number {
  return session.kind === 'train' || session.kind === 'metrics' ? (session.group ?? 0) : 0;
}

/** Scale of the unrotated slot counts: keeps the share of each participant above 1.5 integer units. */
export const COUNT_SCALE = 16;

/** The schedule: seats, then training steps, a choice before each step that the configuration names, gaps and metrics after some. */
export function buildSchedule(config: RunConfig): ScheduledSession[] {
  const founding = (config.clusters?.foundingSlots ?? 0) > 0;
  const schedule: ScheduledSession[] = founding ? [{ kind: 'seats', step: 0 }] : [];
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
  return [...models, ...(algorithmOf(config).algorithm.extra?.(manifest).blocks ?? [])];
}

/** Blocks of a session's vector: the rotated model segments, or one unrotated block of counts. */
export function sessionBlocks(config: RunConfig, session: ScheduledSession, slots: number): readonly Block[] {
  if (session.kind === 'train') return trainingBlocks(config, slots);
  if (session.kind === 'metrics') return [metricsBlock(config)];
  if (session.kind === 'gaps') return [gapsBlock(slots)];
  const length = session.kind === 'seats' ? (config.clusters?.seatPositions ?? 0) : slots;
  return [{ segment: session.kind === 'seats' ? 'seats' : 'counts', realLength: length, length, rotated: false }];
}

function dimension(config: RunConfig, slots: number): number {
  return trainingBlocks(config, slots).reduce((sum, block) => sum + block.length, 0);
}

/**
 * l2 norm by which one unit moves the integer vector of a training step: a record's term is rounded toward zero, the
 * update of a participant at random within a bound that grows with the dimension. @see privacy F13
 */
export function trainingSensitivity(config: RunConfig, slots: number, countUnits = 0): number {
  const scaledNorm = config.encoding.scale * config.training.clippingNorm;
  if (config.privacy.unit === 'participant') return jointSensitivity(scaledNorm, dimension(config, slots), countUnits);
  return unitSensitivity(config.privacy.unit, scaledNorm, dimension(config, slots));
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
  if (session.kind === 'train') {
    const { samplingProbability } = config.training;
    const sensitivity = trainingSensitivity(config, slots, plan.countUnits);
    const coordinates = dimension(config, slots) + (plan.countUnits > 0 ? 1 : 0);
    const terms = { sensitivity, dimension: coordinates, samplingProbability, colluders, mechanism };
    return [sumEvent(terms, plan.shareVariance, survivors, view)];
  }
  if (session.kind === 'metrics') {
    const dimension = metricsBlock(config).length;
    const histogram = {
      sensitivity: metricsSensitivity(config),
      dimension,
      samplingProbability: 1,
      colluders,
      mechanism,
    };
    return [sumEvent(histogram, metricsShareVariance(config), survivors, view)];
  }
  if (session.kind === 'gaps') {
    const dimension = gapsBlock(slots).length;
    const gaps = { sensitivity: gapsSensitivity(), dimension, samplingProbability: 1, colluders, mechanism };
    return [sumEvent(gaps, gapsShareVariance(config), survivors, view)];
  }
  if (config.privacy.unit === 'record') {
    // The noisy counts post-process the charged choices; a record moves every score one way. privacy 3.4, F21
    return [{ kind: 'exponentialMechanism', epsilon: config.clusters?.choiceEpsilon ?? 0, monotone: true }];
  }
  // In hidden slots the choice itself costs a participant nothing; its one in the counts is a release. privacy 3.4
  const counts = { sensitivity: COUNT_SCALE, dimension: slots, samplingProbability: 1, colluders, mechanism };
  return [sumEvent(counts, countShareVariance(config), survivors, view)];
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
  const { adaptiveClip } = config.training;
  const noiseOf = (multiplier: number): PlanNoise => ({
    shareVariance: (multiplier * updateSensitivity) ** 2 / shares,
    countUnits: adaptiveClip === undefined ? 0 : clipCountUnits(adaptiveClip, multiplier * updateSensitivity),
  });
  const build = (multiplier: number): { event: DpEvent; count: number }[] => {
    const noise = noiseOf(multiplier);
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
  const { targetEpsilon, delta } = config.privacy;
  // Of the updates alone; what the count of an adaptive clip costs is in the events.
  const updateMultiplier = calibrateNoiseMultiplier({ epsilon: targetEpsilon, delta }, build);
  const noise = noiseOf(updateMultiplier);
  const sensitivity = sensitivityOf(noise.countUnits);
  const noiseMultiplier =
    noise.countUnits === 0 ? updateMultiplier : Math.sqrt(shares * noise.shareVariance) / sensitivity;
  return { schedule, noiseMultiplier, sensitivity, ...noise };
}

/** Variance that one participant adds to each slot count. Units: squared count units (COUNT_SCALE per member). */
export function countShareVariance(config: RunConfig): number {
  const stddev = (config.clusters?.countNoiseStddev ?? 0) * COUNT_SCALE;
  // Local deviations under 1.5 integer units are refused by the mechanism (privacy F11).
  return Math.max(2.25, stddev ** 2 / (config.cohort.minSurvivors - config.cohort.colluders));
}

/** Chance that noise lets a slot pass the gate that is too small. */
const GATE_FAILURE = 1e-6;

/**
 * Slots that a census leaves open: count - noise margin - maxLoss >= minCluster (SPEC section 6). Everybody computes it
 * from the released counts, so it is free. Units: `counts` in members. Null where the run has no floor.
 */
export function openAfterCensus(config: RunConfig, counts: readonly number[]): number[] | null {
  const { maxLoss, minCluster, participants } = config.cohort;
  if (minCluster === 0) return null;
  // Every participant may add its share: more noise than that no session has.
  const noiseStddev = Math.sqrt(participants * countShareVariance(config)) / COUNT_SCALE;
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
  plan: Pick<RunPlan, 'shareVariance'>,
  session: ScheduledSession,
): { readonly scale: number; readonly shareVariance: number } {
  switch (session.kind) {
    case 'train':
      return { scale: config.encoding.scale, shareVariance: plan.shareVariance };
    case 'choice':
      return { scale: COUNT_SCALE, shareVariance: countShareVariance(config) };
    case 'metrics':
      return { scale: METRICS_SCALE, shareVariance: metricsShareVariance(config) };
    case 'gaps':
      return { scale: GAP_SCALE, shareVariance: gapsShareVariance(config) };
    case 'seats':
      return { scale: 1, shareVariance: 0 };
  }
}
