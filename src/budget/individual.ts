import { zcdpAccountant } from '../privacy/accountant.ts';
import type { DiscreteGaussianEvent, DpEvent } from '../privacy/events.ts';
import { decodeLine } from '../privacy/ledger-entry.ts';

/** A round that this participant took part in. `sensitivity` of the event is the bound C; `norm` bounds the own vector. */
export interface OwnRound {
  readonly event: DiscreteGaussianEvent;
  /** l2 norm that the own integer vector cannot exceed. Units: integer units. */
  readonly norm: number;
}

/**
 * Epsilon that this participant itself pays, by its own norms: rho = sum norm^2 / (2 variance) over its rounds.
 * Secrets: the value depends on private norms; it is for the site's own eyes and never decides anything: leaving by it
 * would make the visible cohort a function of private data.
 * @see Feldman, Zrnic 2021; privacy F23
 */
export function individualEpsilon(rounds: readonly OwnRound[], delta: number): number {
  return rounds
    .filter(({ norm }) => norm > 0)
    .reduce(
      (spent, { event, norm }) => spent.compose({ ...event, sensitivity: Math.min(norm, event.sensitivity) }),
      zcdpAccountant({ relation: 'zero-out' }),
    )
    .epsilon(delta);
}

/**
 * Epsilon that a participant itself pays in a run, by the norms of its own updates; sessions without one count in full.
 * Null where that is not known: at unit record, without norms, or with noise that this accountant does not bound.
 */
export function ownLoss(lines: readonly string[], norms: ReadonlyMap<string, number>): number | null {
  const entries = lines.map((line) => decodeLine(line).entry);
  const [opened] = entries;
  if (opened?.kind !== 'open' || opened.terms.unit !== 'participant' || norms.size === 0) return null;
  const charged = new Map<string, readonly DpEvent[]>();
  // A settlement takes the place of its reserve; what was given back costs nothing.
  for (const entry of entries) {
    if (entry.kind === 'reserve' || entry.kind === 'settle') charged.set(entry.sid, entry.events.server ?? []);
    if (entry.kind === 'restore') charged.delete(entry.sid);
  }
  const rounds: OwnRound[] = [];
  for (const [sid, events] of charged)
    for (const event of events) {
      if (event.kind !== 'discreteGaussian') return null;
      rounds.push({ event, norm: norms.get(sid) ?? event.sensitivity });
    }
  return individualEpsilon(rounds, opened.terms.budget.delta);
}
