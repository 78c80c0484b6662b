import { CoveyError } from '../../protocol/errors.ts';

/*
 * Clusters that split and merge. How many slots a session has follows from the public rule and from what the probes
 * before it released, by the functions of this file alone: coordinator, members and audit all call them. Everything here
 * is post-processing of charged releases.
 *
 * A probe is two releases. The choice: members of each offered slot. The gaps, some steps later: for each slot a sum of
 * how much worse the other half of its trial serves those who are in it, and what that sum is measured against.
 */

/** Public constants of a run. Units: members, relative losses. */
export interface EvolutionRule {
  readonly unit: 'record' | 'participant';
  /** Slots before the first probe. */
  readonly first: number;
  /** Most slots that a probe may offer. */
  readonly most: number;
  /** Mean relative gap above which the two halves of a trial stay apart. */
  readonly minGap: number;
  /** Least noisy count of a slot that stays. */
  readonly minMembers: number;
}

/** What the probes so far released, choice and gaps in turn, each over the scale of its session. */
export type ProbeHistory = readonly (readonly number[])[];

/** Slots of a session. */
export interface SlotLayout {
  readonly slots: number;
  /** Trials: a slot and the one that holds the other half of it; empty between probes. */
  readonly trials: readonly (readonly [number, number])[];
  /** Noisy members of each slot; null before any count. */
  readonly counts: readonly number[] | null;
}

/** What became of a trial. Units: `gap` as a relative loss, not finite where nobody was counted. */
export interface TrialOutcome {
  readonly slots: readonly [number, number];
  readonly gap: number;
  readonly stays: boolean;
}

/** The end of a probe. */
export interface ProbeOutcome {
  readonly trials: readonly TrialOutcome[];
  /** Offered slots with too few members, whose models are given up. */
  readonly retired: readonly number[];
  /** Offered slots that each slot from now on is the mean of, and their weights, which sum to one. */
  readonly sources: readonly (readonly { readonly slot: number; readonly weight: number }[])[];
  readonly next: SlotLayout;
}

/**
 * Layout of a probe: trials for the slots with the largest counts, as many as there is room for. The second halves stand
 * behind the slots of before, so that nobody has to be told a new number. Slots too small for two halves are left alone.
 */
export function beginProbe(rule: EvolutionRule, { slots, counts }: SlotLayout): SlotLayout {
  const countOf = (slot: number): number => counts?.[slot] ?? Number.POSITIVE_INFINITY;
  const split = Array.from({ length: slots }, (_, slot) => slot)
    .filter((slot) => countOf(slot) >= 2 * rule.minMembers)
    .sort((a, b) => (countOf(a) === countOf(b) ? a - b : countOf(b) - countOf(a)))
    .slice(0, rule.most - slots)
    .sort((a, b) => a - b);
  return {
    slots: slots + split.length,
    trials: split.map((slot, i) => [slot, slots + i] as const),
    counts: null,
  };
}

/**
 * Ends a probe. A trial stays if the summed gaps of its halves over what they are measured against pass `minGap` and both
 * noisy counts pass `minMembers`; else its halves become their mean, weighted by the noisy counts. Slots without a trial
 * that hold too few members are given up, all but the largest.
 */
export function endProbe(rule: EvolutionRule, layout: SlotLayout, released: readonly number[]): ProbeOutcome {
  const { slots, trials } = layout;
  requireLength('gaps', released, 2 * slots);
  const at = (values: readonly number[], slot: number): number => values[slot] as number;
  const [gaps, bases] = [released.slice(0, slots), released.slice(slots)];
  // A participant's gap is measured against a one, a record's against its own loss: only the former counts members.
  const counts = rule.unit === 'participant' ? bases : (layout.counts ?? []);
  requireLength('counts', counts, slots);
  const outcomes = trials.map(([a, b]): TrialOutcome => {
    const base = at(bases, a) + at(bases, b);
    const gap = base > 0 ? (at(gaps, a) + at(gaps, b)) / base : Number.NaN;
    const large = at(counts, a) >= rule.minMembers && at(counts, b) >= rule.minMembers;
    return { slots: [a, b], gap, stays: large && gap > rule.minGap };
  });
  const merged = new Map(outcomes.filter(({ stays }) => !stays).map(({ slots: [a, b] }) => [a, b]));
  const gone = new Set(merged.values());
  const left = Array.from({ length: slots }, (_, slot) => slot).filter((slot) => !gone.has(slot));
  const membersOf = (slot: number): number => {
    const other = merged.get(slot);
    return at(counts, slot) + (other === undefined ? 0 : at(counts, other));
  };
  const largest = left.reduce((best, slot) => (membersOf(slot) > membersOf(best) ? slot : best), left[0] as number);
  const kept = left.filter((slot) => slot === largest || membersOf(slot) >= rule.minMembers);
  return {
    trials: outcomes,
    retired: left.filter((slot) => !kept.includes(slot)),
    sources: kept.map((slot) => {
      const other = merged.get(slot);
      return other === undefined ? [{ slot, weight: 1 }] : weighted([slot, other], counts);
    }),
    next: { slots: kept.length, trials: [], counts: kept.map(membersOf) },
  };
}

/** Weights by counts, of which noise may make any negative; equal ones where all of them are. */
function weighted(slots: readonly number[], counts: readonly number[]): { slot: number; weight: number }[] {
  const sizes = slots.map((slot) => Math.max(0, counts[slot] ?? 0));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  return slots.map((slot, i) => ({ slot, weight: total > 0 ? (sizes[i] as number) / total : 1 / slots.length }));
}

function requireLength(field: string, values: readonly number[], length: number): void {
  if (values.length !== length)
    throw new CoveyError('PRIVACY_POLICY', `"${field}" expected ${length} released numbers, got ${values.length}`, {
      field,
    });
}

/** Where a run stands after the releases of its probes. */
export interface Evolution {
  readonly layout: SlotLayout;
  /** How every probe that is over ended. */
  readonly ended: readonly ProbeOutcome[];
}

/**
 * Layout after a history of releases; with `probing` the one that the next choice offers.
 * @throws CoveyError PRIVACY_POLICY for a release of another length than its session had.
 */
export function evolveSlots(rule: EvolutionRule, history: ProbeHistory, probing = false): Evolution {
  let layout: SlotLayout = { slots: rule.first, trials: [], counts: null };
  const ended: ProbeOutcome[] = [];
  history.forEach((released, i) => {
    if (i % 2 === 0) {
      const offered = beginProbe(rule, layout);
      requireLength('counts', released, offered.slots);
      layout = { ...offered, counts: released };
    } else {
      const outcome = endProbe(rule, layout, released);
      ended.push(outcome);
      layout = outcome.next;
    }
  });
  return { layout: probing && history.length % 2 === 0 ? beginProbe(rule, layout) : layout, ended };
}

/** Number that a slot of a probe has after it: null if its model was given up. */
export function renamedSlot({ sources }: ProbeOutcome, slot: number): number | null {
  const found = sources.findIndex((source) => source.some((part) => part.slot === slot));
  return found < 0 ? null : found;
}
