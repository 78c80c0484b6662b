import { toHex } from '../../protocol/bytes.ts';
import type { Roster } from '../../protocol/session.ts';
import { type Accountant, rdpAccountant } from '../../src/privacy/accountant.ts';
import { eventFromJson } from '../../src/privacy/event-json.ts';
import type { DpEvent } from '../../src/privacy/events.ts';
import { admitsAll, createFilter } from '../../src/privacy/filter.ts';
import { VIEWS, type View } from '../../src/privacy/views.ts';
import type { RunConfig } from '../../src/run/config.ts';
import type { SessionOrder } from '../../src/run/order.ts';
import { type RunPlan, sessionEvents } from '../../src/run/plan.ts';
import { atSurvivors } from '../../src/run/shrink.ts';

export type MemberEpsilons = Readonly<Record<View, number>>;

/** The coordinator's ledgers: one for each member and view, and what members hold against themselves. */
export interface Accounts {
  /** Charges the survivors of a session with the noise that they realised; `minSurvivors` of its parameters tells a share's. */
  charge(sid: string, order: SessionOrder, survivors: readonly string[], minSurvivors?: number): void;
  /** Takes note of a member's own charge from its signed log entry. */
  note(entry: {
    readonly actor: string;
    readonly body: { readonly sid: string; readonly events: readonly unknown[] };
  }): void;
  /** Hex ids of those members whose budget of the run the worst accepted outcome of a session would pass. */
  overBudget(order: SessionOrder, members: Roster['entries']): readonly string[];
  /** Largest epsilon of any member. */
  worst(view: View): number;
  /** By hex id. */
  perMember(): Readonly<Record<string, MemberEpsilons>>;
}

type MemberAccounts = Readonly<Record<View, Accountant>>;

export function createAccounts(config: RunConfig, plan: RunPlan, roster: Roster): Accounts {
  const { delta, relation, targetEpsilon } = config.privacy;
  // Realised survivors make later charges depend on the run: the gate is a filter at the plan's order. privacy F22
  const filter = createFilter({
    budget: { epsilon: targetEpsilon, delta },
    relation,
    gate: { kind: 'rdp', order: plan.gateOrder },
  });
  const ids = roster.entries.map(({ id }) => toHex(id));
  const ledgers = new Map<string, MemberAccounts>();
  /** Pairs sid/id: a member that vanished keeps its reserve although the others were charged. */
  const charged = new Set<string>();
  const reserves = new Map<string, Map<string, readonly DpEvent[]>>();

  const ledgerOf = (id: string): MemberAccounts =>
    ledgers.get(id) ?? { server: rdpAccountant({ relation }), release: rdpAccountant({ relation }) };
  const eventsOf = (order: SessionOrder, survivors: number, view: View, minSurvivors: number): DpEvent[] => {
    const at = atSurvivors({ config, plan }, minSurvivors);
    return sessionEvents(at.config, at.plan, order.session, order.models.heads.length, survivors, view);
  };
  const composeAll = (accountant: Accountant, events: readonly DpEvent[]): Accountant =>
    events.reduce((composed, event) => composed.compose(event), accountant);

  /** Members keep what they reserved in rounds that were lost; those charges count although nothing was released. */
  const lostCharges = (id: string): DpEvent[] =>
    [...(reserves.get(id) ?? [])].filter(([sid]) => !charged.has(`${sid}/${id}`)).flatMap(([, events]) => events);

  return {
    charge(sid, order, survivors, minSurvivors = config.cohort.minSurvivors) {
      for (const id of survivors) charged.add(`${sid}/${id}`);
      for (const view of VIEWS) {
        const events = eventsOf(order, survivors.length, view, minSurvivors);
        for (const id of survivors) {
          const ledger = ledgerOf(id);
          ledgers.set(id, { ...ledger, [view]: composeAll(ledger[view], events) });
        }
      }
    },
    note({ actor, body }) {
      const own = reserves.get(actor) ?? new Map<string, readonly DpEvent[]>();
      own.set(body.sid, body.events.map(eventFromJson));
      reserves.set(actor, own);
    },
    overBudget(order, members) {
      const { minSurvivors } = config.cohort;
      const worst = eventsOf(order, minSurvivors, 'server', minSurvivors);
      // What costs nothing exceeds nothing.
      if (worst.length === 0) return [];
      return members
        .map(({ id }) => toHex(id))
        .filter((id) => !admitsAll(filter, composeAll(ledgerOf(id).server, [...lostCharges(id), ...worst])));
    },
    worst: (view) => Math.max(0, ...[...ledgers.values()].map((ledger) => ledger[view].epsilon(delta))),
    perMember: () =>
      Object.fromEntries(
        ids.map((id) => {
          const { server, release } = ledgerOf(id);
          return [id, { server: server.epsilon(delta), release: release.epsilon(delta) }];
        }),
      ),
  };
}
