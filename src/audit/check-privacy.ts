import { rdpAccountant } from '../privacy/accountant.ts';
import { VIEWS, type View } from '../privacy/views.ts';
import { failAudit } from './failures.ts';
import { lossByPath, totalLoss } from './privacy-loss.ts';
import { type ChargedEvents, createRecomposer, type Recomposer } from './recompose.ts';
import type { RunHistory } from './replay.ts';
import { RESULTS_FILE, type RunResults } from './results.ts';

/** Rounding of doubles, never a discount: claims may be below the recomputed value by this much. */
const ROUNDING = 1e-6;
/** Largest relative gap of the two accountants; a wider one means that one of them is wrong. */
const AGREEMENT = 1e-3;

/** Recomputed loss in both accountants. */
export interface RecomposedLoss {
  readonly view: View;
  readonly epsilon: number;
  readonly secondEpsilon: number;
  /** Largest loss of any participant through each path. */
  readonly paths: readonly { readonly path: string; readonly epsilon: number }[];
}

function recomposeBoth(
  history: RunHistory,
  charges: ChargedEvents,
  recomposer: Recomposer,
): { first: number; second: number } {
  const { relation, delta } = history.open.plan;
  const accountant = charges.reduce(
    (composed, { event, count }) => composed.compose(event, count),
    rdpAccountant({ relation }),
  );
  return { first: accountant.epsilon(Number(delta)), second: recomposer.epsilon(charges, Number(delta)) };
}

function requireClaim(name: string, claimed: number | undefined, recomputed: number): void {
  const where = { file: RESULTS_FILE };
  if (claimed === undefined) failAudit('epsilon', where, `"${name}" is missing`);
  if (claimed < recomputed - ROUNDING * (1 + recomputed)) {
    failAudit('epsilon', where, `"${name}" claims epsilon ${claimed}, the charges amount to ${recomputed.toFixed(6)}`);
  }
}

/**
 * Recomposes the loss of every participant in both views with two accountants, and compares claims and budget with it.
 * @throws CoveyError AUDIT_FAILED (epsilon)
 */
export function checkPrivacy(history: RunHistory, results: RunResults): readonly RecomposedLoss[] {
  const { plan } = history.open;
  const recomposer = createRecomposer(plan.relation);
  const where = { file: RESULTS_FILE };
  const losses = lossByPath(history, recomposer);
  return VIEWS.map((view) => {
    const claim = results.claims[view];
    if (claim.delta > Number(plan.delta))
      failAudit('epsilon', where, `"claims.${view}.delta" expected at most ${plan.delta}, got ${claim.delta}`);
    const book = totalLoss(history, view);
    let epsilon = 0;
    let secondEpsilon = 0;
    for (const { id } of history.genesis.members) {
      const charges = book.chargesOf(id);
      if (charges.length === 0) continue;
      const { first, second } = recomposeBoth(history, charges, recomposer);
      if (Math.abs(first - second) > AGREEMENT * Math.max(first, second) + ROUNDING) {
        failAudit('epsilon', where, `the two accountants disagree about ${id.slice(0, 12)}: ${first} and ${second}`);
      }
      // Both are upper bounds of the same loss: the smaller one is proved, and a claim has to reach it.
      requireClaim(
        `claims.perParticipant.${id.slice(0, 12)}.${view}`,
        results.claims.perParticipant[id]?.[view],
        Math.min(first, second),
      );
      if (view === 'server' && plan.gateOrder !== undefined) {
        const gated = recomposer.epsilonAt(Number(plan.gateOrder), charges, Number(plan.delta));
        if (gated > Number(plan.targetEpsilon) * (1 + AGREEMENT))
          failAudit(
            'epsilon',
            history.openedAt,
            `the filter at order ${plan.gateOrder} had to stop ${id.slice(0, 12)}: ${gated.toFixed(6)} of epsilon ${plan.targetEpsilon}`,
          );
      }
      epsilon = Math.max(epsilon, first);
      secondEpsilon = Math.max(secondEpsilon, second);
    }
    const least = Math.min(epsilon, secondEpsilon);
    requireClaim(`claims.${view}.epsilon`, claim.epsilon, least);
    for (const row of results.table.filter(({ simulated }) => !simulated)) {
      const shown = view === 'server' ? row.epsilonServer : row.epsilonRelease;
      if (shown !== null) requireClaim(`table.${row.name} (${view} view)`, shown, least);
    }
    if (view === 'server' && least > Number(plan.targetEpsilon) * (1 + ROUNDING)) {
      failAudit(
        'epsilon',
        where,
        `the budget was epsilon ${plan.targetEpsilon}, the charges amount to ${least.toFixed(6)}`,
      );
    }
    const paths = losses.map((loss) => ({ path: loss.path, epsilon: loss.epsilon[view] }));
    return { view, epsilon, secondEpsilon, paths };
  });
}
