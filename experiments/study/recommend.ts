import { CoveyError } from '../../protocol/errors.ts';
import type { View } from '../../src/privacy/views.ts';
import { type Cell, epsilonOf, METRICS, type Metric, measure } from './cells.ts';
import { type Estimate, estimateMean } from './interval.ts';

/** What is wanted: the best value under a budget, or the smallest epsilon that reaches a value. */
export type Goal =
  | { readonly kind: 'budget'; readonly maxEpsilon: number }
  | { readonly kind: 'utility'; readonly minValue: number };

/** A cell with what it costs and what it reaches. */
export interface Candidate {
  readonly cell: Cell;
  readonly epsilon: number;
  readonly value: Estimate;
}

export interface Recommendation {
  /** Candidates that no other one beats in both, by rising epsilon. */
  readonly front: readonly Candidate[];
  readonly winner: Candidate;
  /** Other candidates that meet the goal and whose value the runs cannot tell from the winner's. */
  readonly ties: readonly Candidate[];
  /**
   * Mean value over the seeds if for each seed the cell is chosen by all the others: what choosing the best of many adds
   * to the winner's own number is not in it. Null with fewer than two common seeds.
   */
  readonly heldOut: number | null;
}

/** Cells as candidates; those without the metric are left out. */
export function candidatesOf(cells: readonly Cell[], metric: Metric, view: View): Candidate[] {
  return cells.flatMap((cell) => {
    const value = measure(cell, metric);
    return value === null ? [] : [{ cell, epsilon: epsilonOf(cell, view), value }];
  });
}

/** Least epsilon first; of those with the same, the best. */
function byEpsilon(a: Candidate, b: Candidate): number {
  return a.epsilon === b.epsilon ? b.value.mean - a.value.mean : a.epsilon < b.epsilon ? -1 : 1;
}

/** Candidates that no other one equals or beats in epsilon and value. */
export function paretoFront(candidates: readonly Candidate[]): Candidate[] {
  const front: Candidate[] = [];
  for (const candidate of [...candidates].sort(byEpsilon)) {
    if (candidate.value.mean > (front.at(-1)?.value.mean ?? Number.NEGATIVE_INFINITY)) front.push(candidate);
  }
  return front;
}

/** Candidates that meet the goal, the one to take first. */
function ranked(candidates: readonly Candidate[], goal: Goal): Candidate[] {
  if (goal.kind === 'budget')
    return (
      candidates
        // Targets are met from below; the margin covers the last bits of a calibration.
        .filter(({ epsilon }) => epsilon <= goal.maxEpsilon * (1 + 1e-9))
        .sort((a, b) => b.value.mean - a.value.mean || a.epsilon - b.epsilon)
    );
  return candidates.filter(({ value }) => value.mean >= goal.minValue).sort(byEpsilon);
}

/** Welch's two-sample test at 95 % cannot tell the means apart, roughly: intervals around the difference hold 0. */
function isTie(a: Candidate, b: Candidate): boolean {
  if (a.value.halfWidth === null || b.value.halfWidth === null) return false;
  return Math.abs(a.value.mean - b.value.mean) <= Math.hypot(a.value.halfWidth, b.value.halfWidth);
}

/** Value of a seed in a cell, or null. */
function valueAt({ cell }: Candidate, metric: Metric, seed: number): number | null {
  const run = cell.runs.find((result) => result.seed === seed);
  return run === undefined ? null : METRICS[metric].of(run);
}

function heldOutValue(candidates: readonly Candidate[], goal: Goal, metric: Metric): number | null {
  const seeds = [...new Set(candidates.flatMap(({ cell }) => cell.runs.map(({ seed }) => seed)))];
  // Only cells with a run of every seed can be compared without one of them.
  const complete = candidates.filter((candidate) => seeds.every((seed) => valueAt(candidate, metric, seed) !== null));
  if (seeds.length < 2 || complete.length === 0) return null;
  const values: number[] = [];
  for (const seed of seeds) {
    const others = complete.map((candidate) => ({
      ...candidate,
      value: estimateMean(
        seeds.filter((other) => other !== seed).map((other) => valueAt(candidate, metric, other) ?? 0),
      ),
    }));
    const [chosen] = ranked(others, goal);
    if (chosen === undefined) return null;
    values.push(valueAt(chosen, metric, seed) ?? 0);
  }
  return estimateMean(values).mean;
}

/**
 * Chooses among recorded cells.
 * @throws CoveyError USAGE_CONFIG if no cell meets the goal, with the nearest that was recorded.
 */
export function recommend(candidates: readonly Candidate[], goal: Goal, metric: Metric): Recommendation {
  const front = paretoFront(candidates);
  const [winner, ...others] = ranked(candidates, goal);
  if (winner === undefined) {
    const least = front[0]?.epsilon ?? Number.POSITIVE_INFINITY;
    const best = front.at(-1)?.value.mean ?? 0;
    throw new CoveyError(
      'USAGE_CONFIG',
      goal.kind === 'budget'
        ? `"--max-epsilon" expected at least ${least.toPrecision(3)}, the smallest recorded, got ${goal.maxEpsilon}`
        : `"--min-value" expected at most ${best.toFixed(4)}, the best recorded, got ${goal.minValue}`,
    );
  }
  return {
    front,
    winner,
    ties: others.filter((other) => isTie(winner, other)),
    heldOut: heldOutValue(candidates, goal, metric),
  };
}
