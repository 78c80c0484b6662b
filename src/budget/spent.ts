import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { totalLoss } from '../audit/privacy-loss.ts';
import { readLog } from '../audit/read-log.ts';
import { replayLog } from '../audit/replay.ts';
import { rdpAccountant } from '../privacy/accountant.ts';
import { openLedger, reportLedger } from '../privacy/ledger.ts';
import { VIEWS, type View } from '../privacy/views.ts';

/** What one participant's unit has spent in a run. `remaining`: of the run's target, which limits the server view. */
export interface SpentRow {
  readonly organization: string;
  readonly id: string;
  readonly rounds: number;
  readonly spent: Readonly<Record<View, number>>;
  readonly remaining: number;
}

/** Spent budgets of a run, from its log: signatures, chains and rules are checked on the way. */
export interface SpentBudgets {
  readonly run: string;
  readonly unit: string;
  readonly relation: string;
  readonly delta: number;
  readonly targetEpsilon: number;
  readonly colluders: number;
  readonly rows: readonly SpentRow[];
}

/** What one participant's own ledger of a run says. `reserved`: sessions without a settlement, charged at their worst. */
export interface SpentLedger {
  readonly participant: string;
  readonly unit: string;
  readonly relation: string;
  readonly delta: number;
  readonly colluders: number;
  readonly accountant: string;
  readonly budgetEpsilon: number;
  readonly budgetView: View;
  readonly settled: number;
  readonly reserved: number;
  /** Views that the ledger follows. */
  readonly spent: Partial<Readonly<Record<View, number>>>;
  readonly remaining: number;
}

/** Reads the lines of a ledger; its chain is checked on the way. @throws CoveyError PRIVACY_LEDGER naming the broken line. */
export function spentLedger(lines: readonly string[], crypto: Pick<CryptoProvider, 'sha256'>): SpentLedger {
  const ledger = openLedger(crypto, lines);
  const { terms, charges } = ledger;
  const { participant, unit, relation, colluders, accountant, budget, budgetView } = terms;
  const spent = Object.fromEntries(terms.views.map((view) => [view, reportLedger(ledger, view).epsilon]));
  return {
    participant,
    unit,
    relation,
    delta: budget.delta,
    colluders,
    accountant,
    budgetEpsilon: budget.epsilon,
    budgetView,
    settled: [...charges.closed.values()].filter((status) => status === 'settled').length,
    reserved: charges.reserved.size,
    spent,
    remaining: Math.max(0, budget.epsilon - (spent[budgetView] ?? Number.POSITIVE_INFINITY)),
  };
}

/** Reads `log.jsonl` of a run folder. @throws CoveyError AUDIT_FAILED where the log breaks a rule. */
export function spentBudgets(log: Uint8Array, crypto: CryptoProvider): SpentBudgets {
  const history = replayLog(readLog(log, crypto), crypto);
  const { plan } = history.open;
  const [delta, targetEpsilon] = [Number(plan.delta), Number(plan.targetEpsilon)];
  const books = { server: totalLoss(history, 'server'), release: totalLoss(history, 'release') };
  const epsilonOf = (view: View, id: string): number =>
    books[view]
      .chargesOf(id)
      .reduce((spent, { event, count }) => spent.compose(event, count), rdpAccountant({ relation: plan.relation }))
      .epsilon(delta);
  const rows = history.genesis.members.map(({ id, organization }) => {
    const [server = 0, release = 0] = VIEWS.map((view) => epsilonOf(view, id));
    const rounds = history.sessions.filter(({ charge }) => charge?.body.survivors.includes(id)).length;
    return { organization, id, rounds, spent: { server, release }, remaining: Math.max(0, targetEpsilon - server) };
  });
  const { run } = history;
  return { run, unit: plan.unit, relation: plan.relation, delta, targetEpsilon, colluders: plan.colluders, rows };
}
