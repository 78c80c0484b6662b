import { fromHex, toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { groupMembers } from '../../src/run/groups.ts';
import type { RunFacts, SessionOrder } from '../../src/run/order.ts';
import { groupOf } from '../../src/run/plan.ts';
import { leastSurvivors, survivorsFor } from '../../src/run/shrink.ts';
import type { Accounts } from './accounts.ts';

/** Who can still pay for the next session, and what it asks of them. */
export interface NextCohort {
  /** Members of other groups, and those whose budget is used up: nobody invites them. */
  readonly excluded: readonly Uint8Array[];
  /** Members whose budget allows the session. */
  readonly remaining: number;
  /** Fewest members that the session can start with. */
  readonly needed: number;
  /** Fewest survivors that it accepts; null if too few members can pay: the run is over. */
  readonly minSurvivors: number | null;
}

/** Members of a run, and which of them are done with paying; a function of the log, data never enter. */
export interface Cohort {
  /** Takes note of a member's signed leave. */
  leave(id: string): void;
  hasLeft(id: string): boolean;
  next(order: SessionOrder): NextCohort;
}

export function createCohort(crypto: CryptoProvider, facts: RunFacts, accounts: Accounts): Cohort {
  const { config, roster } = facts;
  const { colluders, minOrgs } = config.cohort;
  const gone = new Set<string>();
  return {
    leave: (id) => void gone.add(id),
    hasLeft: (id) => gone.has(id),
    next(order) {
      const group = groupMembers(crypto, facts, groupOf(order.session));
      // Over the run's own target, whatever the member's budget is.
      const spent = new Set([...accounts.overBudget(order, group), ...gone]);
      const paying = group.filter(({ id }) => !spent.has(toHex(id)));
      const payers = new Set(paying.map(({ id }) => toHex(id)));
      const organizations = new Set(paying.map(({ organization }) => organization)).size;
      const found = survivorsFor(config, group.length, paying.length);
      const minSurvivors = organizations < minOrgs ? null : found;
      return {
        excluded: roster.entries.map(({ id }) => toHex(id)).flatMap((id) => (payers.has(id) ? [] : [fromHex(id)])),
        remaining: paying.length,
        // 3c < |U1| and the fewest survivors: fewer cannot finish. SPEC section 4
        needed: Math.max(minSurvivors ?? leastSurvivors(config), 3 * colluders + 1),
        minSurvivors,
      };
    },
  };
}
