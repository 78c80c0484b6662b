import { CoveyError } from '../../protocol/errors.ts';
import {
  type EvolutionRule,
  evolveSlots,
  type ProbeHistory,
  type ProbeOutcome,
  type SlotLayout,
} from '../cluster/evolution.ts';
import { drawNormal } from '../data/draws.ts';
import { createRandom } from '../data/random.ts';
import { type ModelManifest, tensorLength } from '../learning/manifest.ts';
import type { Block } from '../privacy/encode.ts';
import type { RunConfig } from './config.ts';
import type { RunPlan, ScheduledSession } from './plan.ts';

/*
 * Evolving clusters in a run: probes on the public schedule of the choices. The slots of every session follow from the
 * releases of the probes before it (src/cluster/evolution.ts).
 */

/** Clusters that split and merge. */
export interface EvolvingConfig {
  /** Most slots that a probe may offer; the plan is made for them. */
  readonly most: number;
  /** Training steps from a choice to the gaps that decide about it. */
  readonly probeSteps: number;
  /** Deviation of what splits a model, over that of the entries of each of its tensors. */
  readonly perturbation: number;
  /** Mean relative gap above which two halves stay apart. */
  readonly minGap: number;
  /** Least noisy count of a slot that stays. Units: members. */
  readonly minMembers: number;
  /**
   * Standard deviation of the summed noise on each gap and on what it is measured against. Units: members at unit
   * `participant`, loss bounds at unit `record`.
   */
  readonly gapNoiseStddev: number;
}

/** Integer units of a gap of 1 (unit `participant`) or of one loss bound (unit `record`). */
export const GAP_SCALE = 1_024;

/** Fewest squared integer units of a share: 1.5 squared. @see privacy F11 */
const MIN_SHARE_VARIANCE = 2.25;

/** The evolving part of a configuration, null for other clusters. */
export function evolvingOf({ clusters }: Pick<RunConfig, 'clusters'>): EvolvingConfig | null {
  return clusters?.assignment === 'evolving' ? (clusters.evolving ?? null) : null;
}

/** What the slots of a run follow from beside its releases; null unless its clusters evolve. */
export function evolutionRule(config: Pick<RunConfig, 'clusters' | 'privacy'>): EvolutionRule | null {
  const evolving = evolvingOf(config);
  if (evolving === null) return null;
  const { most, minGap, minMembers } = evolving;
  return { unit: config.privacy.unit, first: config.clusters?.kept ?? 1, most, minGap, minMembers };
}

/** True for the step after which the gaps of a probe are summed. */
export function isProbeEnd(config: Pick<RunConfig, 'clusters'>, step: number): boolean {
  const evolving = evolvingOf(config);
  return evolving !== null && (config.clusters?.choiceSteps.includes(step + 1 - evolving.probeSteps) ?? false);
}

function requireEvolving(config: RunConfig): EvolvingConfig {
  const evolving = evolvingOf(config);
  if (evolving === null) throw new CoveyError('INTERNAL_INVARIANT', 'a probe of a run whose clusters do not evolve');
  return evolving;
}

/** For each slot a sum of gaps, then for each slot what it is measured against. */
export function gapsBlock(slots: number): Block {
  return { segment: 'gaps', realLength: 2 * slots, length: 2 * slots, rotated: false };
}

/**
 * l2 norm by which one unit moves the released gaps, whatever the number of slots. A participant adds a gap in [0, 1] and
 * a one, both in one slot; a record, whose slot is a charged choice, a difference in [-B, B] and a loss in [0, B]:
 * sqrt 2 in both cases. Units: integer units. @see privacy 3.4
 */
export function gapsSensitivity(): number {
  // The double above sqrt 2: the charge is never below the true distance.
  return GAP_SCALE * Math.SQRT2;
}

/** Variance that one participant adds to each gap. Units: squared integer units. */
export function gapsShareVariance(config: RunConfig): number {
  const { minSurvivors, colluders } = config.cohort;
  const stddev = requireEvolving(config).gapNoiseStddev * GAP_SCALE;
  return Math.max(MIN_SHARE_VARIANCE, stddev ** 2 / (minSurvivors - colluders));
}

const isProbe = ({ kind }: ScheduledSession): boolean => kind === 'choice' || kind === 'gaps';

/** Number of releases that a session of the schedule has before it in the history of probes. */
export function probesBefore({ schedule }: Pick<RunPlan, 'schedule'>, session: ScheduledSession): number {
  const at = schedule.findIndex((s) => s.kind === session.kind && s.step === session.step);
  return schedule.slice(0, at).filter(isProbe).length;
}

/**
 * Slots of a session: the one function that coordinator and members derive them by.
 * @throws CoveyError PRIVACY_POLICY unless the history is that of all probes before the session.
 */
export function sessionLayout(
  config: Pick<RunConfig, 'clusters' | 'privacy'>,
  plan: Pick<RunPlan, 'schedule'>,
  session: ScheduledSession,
  history: ProbeHistory,
): SlotLayout {
  const rule = evolutionRule(config);
  if (rule === null) throw new CoveyError('INTERNAL_INVARIANT', 'a layout of clusters that do not evolve');
  const before = probesBefore(plan, session);
  if (history.length !== before)
    throw new CoveyError(
      'PRIVACY_POLICY',
      `"probes" expected ${before} releases before the session, got ${history.length}`,
      {
        field: 'probes',
      },
    );
  return evolveSlots(rule, history, session.kind === 'choice').layout;
}

/** A released sum of a probe over the scale of its session: exact, for scales are powers of two. */
export function probeRelease(coordinates: Int32Array, scale: number): number[] {
  return [...coordinates].map((value) => value / scale);
}

/** Stream of the public generator that draws the directions of splits; a session adds its step. */
const SPLIT_STREAM = 0x7370_0000;

/** Standard deviation of some entries, by sums and one square root: the same bits on every engine. */
function deviation(values: Float32Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}

/** theta +- perturbation std(theta) N(0, I), std for each tensor: two halves on both sides of a model. */
function splitHead(
  manifest: ModelManifest,
  head: Float32Array,
  perturbation: number,
  draw: () => number,
): [Float32Array, Float32Array] {
  const [plus, minus] = [head.slice(), head.slice()];
  let from = 0;
  for (const tensor of manifest.tensors.filter(({ group }) => group === 'head')) {
    const to = from + tensorLength(tensor);
    const stddev = perturbation * deviation(head.subarray(from, to));
    for (let i = from; i < to; i++) {
      const moved = stddev * draw();
      plus[i] = (head[i] as number) + moved;
      minus[i] = (head[i] as number) - moved;
    }
    from = to;
  }
  return [plus, minus];
}

/**
 * Heads that a probe offers. Random: none that protects anyone; directions are drawn from the public seed of the run and
 * the step of the session, so that everybody who has the model before has the halves.
 */
export function splitHeads(
  config: RunConfig,
  manifest: ModelManifest,
  heads: readonly Float32Array[],
  { slots, trials }: SlotLayout,
  step: number,
): Float32Array[] {
  const { perturbation } = requireEvolving(config);
  const random = createRandom(config.training.initialSeed, SPLIT_STREAM + step);
  const offered = Array.from({ length: slots }, (_, slot) => heads[slot] ?? new Float32Array(manifest.headLength));
  for (const [a, b] of trials) {
    const halves = splitHead(manifest, offered[a] as Float32Array, perturbation, () => drawNormal(random));
    [offered[a], offered[b]] = halves;
  }
  return offered;
}

/** Vectors of the slots after a probe: weighted means of those before it, rounded once as the type of the vectors does. */
export function mergeVectors<T extends Float32Array | Float64Array>(
  vectors: readonly T[],
  { sources }: ProbeOutcome,
): T[] {
  return sources.map((source) => {
    const [first] = source;
    const kept = vectors[first?.slot ?? 0] as T;
    if (source.length === 1) return kept;
    const mean = kept.slice() as T;
    for (let i = 0; i < mean.length; i++)
      mean[i] = source.reduce((sum, { slot, weight }) => sum + weight * (vectors[slot]?.[i] as number), 0);
    return mean;
  });
}
