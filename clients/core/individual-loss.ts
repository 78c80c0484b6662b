import { zcdpAccountant } from '../../src/privacy/accountant.ts';
import type { DiscreteGaussianEvent } from '../../src/privacy/events.ts';

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
