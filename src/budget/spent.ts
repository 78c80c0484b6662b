import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { announcesFloatTerms, protectsPersons } from '../audit/derive-events.ts';
import { type LossBook, releasedPaths, totalLoss } from '../audit/privacy-loss.ts';
import { readLog } from '../audit/read-log.ts';
import { replayLog } from '../audit/replay.ts';
import { rdpAccountant } from '../privacy/accountant.ts';
import { openLedger, reportLedger, reportPaths } from '../privacy/ledger.ts';
import { type Path, PERSONAL_PATH } from '../privacy/paths.ts';
import type { TermKind } from '../privacy/sum-event.ts';
import type { View } from '../privacy/views.ts';
import { ownLoss } from './individual.ts';

/** Loss by the events of each path, the personal part (always 0) among them; paths of one vector share its event. */
export type SpentPaths = readonly {
  readonly path: string;
  readonly spent: Partial<Readonly<Record<View, number>>>;
}[];

/** What one participant's unit has spent in a run. `remaining`: of the run's target, which limits the server view. */
export interface SpentRow {
  readonly organization: string;
  readonly id: string;
  readonly rounds: number;
  readonly spent: Readonly<Record<View, number>>;
  readonly paths: SpentPaths;
  readonly remaining: number;
}

/** Spent budgets of a run, from its log: signatures, chains and rules are checked on the way. */
export interface SpentBudgets {
  readonly run: string;
  /** `record`, `person` or `participant`. */
  readonly unit: string;
  readonly relation: string;
  readonly delta: number;
  readonly targetEpsilon: number;
  readonly colluders: number;
  /** What the sums of records rest on. */
  readonly sums: TermKind;
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
  /** What the sums of records rest on. */
  readonly sums: TermKind;
  readonly budgetEpsilon: number;
  readonly budgetView: View;
  readonly settled: number;
  readonly reserved: number;
  /** Views that the ledger follows. */
  readonly spent: Partial<Readonly<Record<View, number>>>;
  readonly paths: SpentPaths;
  readonly remaining: number;
  /**
   * Server view, by the norms of the own updates (F23); null where they are not known. For the site's own eyes: it depends on
   * private values, and nothing may be decided by it.
   */
  readonly ownLoss: number | null;
}

/** Reads the lines of a ledger; its chain is checked on the way. @throws CoveyError PRIVACY_LEDGER naming the broken line. */
export function spentLedger(
  lines: readonly string[],
  crypto: Pick<CryptoProvider, 'sha256'>,
  norms: ReadonlyMap<string, number> = new Map(),
): SpentLedger {
  const ledger = openLedger(crypto, lines);
  const { terms, charges } = ledger;
  const { participant, unit, relation, colluders, accountant, budget, budgetView, sums = 'integer' } = terms;
  const spent = Object.fromEntries(terms.views.map((view) => [view, reportLedger(ledger, view).epsilon]));
  const byView = terms.views.map((view) => [view, reportPaths(ledger, view)] as const);
  const paths = (byView[0]?.[1] ?? []).map(({ path }) => ({
    path,
    spent: Object.fromEntries(
      byView.map(([view, list]) => [view, list.find((found) => found.path === path)?.epsilon ?? 0]),
    ),
  }));
  return {
    participant,
    unit,
    relation,
    delta: budget.delta,
    colluders,
    accountant,
    sums,
    budgetEpsilon: budget.epsilon,
    budgetView,
    settled: [...charges.closed.values()].filter((status) => status === 'settled').length,
    reserved: charges.reserved.size,
    spent,
    paths,
    remaining: Math.max(0, budget.epsilon - (spent[budgetView] ?? Number.POSITIVE_INFINITY)),
    ownLoss: ownLoss(lines, norms),
  };
}

/** Reads `log.jsonl` of a run folder. @throws CoveyError AUDIT_FAILED where the log breaks a rule. */
export function spentBudgets(log: Uint8Array, crypto: CryptoProvider): SpentBudgets {
  const history = replayLog(readLog(log, crypto), crypto);
  const { plan } = history.open;
  const [delta, targetEpsilon] = [Number(plan.delta), Number(plan.targetEpsilon)];
  const booksOf = (path?: Path) => ({
    server: totalLoss(history, 'server', path),
    release: totalLoss(history, 'release', path),
  });
  const total = booksOf();
  const pathBooks = releasedPaths(history).map((path) => ({ path, books: booksOf(path) }));
  const epsilonOf = (book: LossBook, id: string): number =>
    book
      .chargesOf(id)
      .reduce((spent, { event, count }) => spent.compose(event, count), rdpAccountant({ relation: plan.relation }))
      .epsilon(delta);
  const spentOf = (books: Readonly<Record<View, LossBook>>, id: string): Record<View, number> => ({
    server: epsilonOf(books.server, id),
    release: epsilonOf(books.release, id),
  });
  const rows = history.genesis.members.map(({ id, organization }) => {
    const spent = spentOf(total, id);
    const paths = [
      ...pathBooks.map(({ path, books }) => ({ path, spent: spentOf(books, id) })),
      { path: PERSONAL_PATH, spent: { server: 0, release: 0 } },
    ];
    const rounds = history.sessions.filter(({ charge }) => charge?.body.survivors.includes(id)).length;
    return { organization, id, rounds, spent, paths, remaining: Math.max(0, targetEpsilon - spent.server) };
  });
  const { run } = history;
  const sums = announcesFloatTerms(history.open.config) ? 'float-bounded' : 'integer';
  const unit = protectsPersons(history.open.config) ? 'person' : plan.unit;
  return { run, unit, relation: plan.relation, delta, targetEpsilon, colluders: plan.colluders, sums, rows };
}
