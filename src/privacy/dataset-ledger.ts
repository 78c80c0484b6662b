import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import {
  type Charges,
  chargesWouldExceed,
  createCharges,
  reserveCharge,
  settleCharge,
  totalCharges,
} from './charges.ts';
import { eventFromJson, eventToJson, type JsonObject } from './event-json.ts';
import type { DpEvent, Relation } from './events.ts';
import { createFilter } from './filter.ts';
import { CHAIN_START, hashLine, MAX_LINE_LENGTH } from './ledger-entry.ts';
import { conversionTerm } from './rdp-conversion.ts';
import type { View } from './views.ts';

type Hasher = Pick<CryptoProvider, 'sha256'>;

/** Calendar periods, in UTC. */
export type BudgetPeriod = 'month' | 'quarter' | 'year';

/** A budget over all runs that read one data set: epsilon in each calendar period. */
export interface DatasetBudget {
  readonly dataset: string;
  readonly period: BudgetPeriod;
  readonly epsilon: number;
  readonly delta: number;
  readonly unit: 'record' | 'participant';
  readonly view: View;
}

/** A charge of one session. `time`: RFC 3339 in UTC; a settlement keeps the period of its reserve. */
export interface DatasetCharge {
  readonly kind: 'reserve' | 'settle';
  readonly run: string;
  readonly sid: string;
  readonly time: string;
  readonly events: readonly DpEvent[];
  /**
   * Order of the filter of a period, stored with the first reserve in it: the one at which this budget holds most runs of that
   * plan, known before anything of the period is released. Later reserves of the period keep it. @see privacy F22
   */
  readonly order?: number | undefined;
}

/** Size and head of the chain as somebody outside of it saw them last. */
export interface SeenHead {
  readonly size: number;
  readonly head: string;
}

/**
 * What all runs paid for one data set: a chain of lines, each with the hash of the one before, over the life of the data
 * set. Pure; the caller stores a line before it acts on it. Amounts live in the lines, limits in the site's policy.
 */
export interface DatasetLedger {
  readonly budget: DatasetBudget;
  readonly size: number;
  readonly head: string;
  /** Latest time of any line: a clock that was set back opens no older period. */
  readonly lastTime: string;
  readonly periods: ReadonlyMap<string, Charges>;
  /** Order of the filter of each period. */
  readonly orders: ReadonlyMap<string, number>;
  /** Period of every session. */
  readonly sessions: ReadonlyMap<string, string>;
}

const TIME = /^(\d{4})-(0[1-9]|1[0-2])-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/;

function broken(message: string): CoveyError {
  return new CoveyError('PRIVACY_LEDGER', message);
}

/** Name of the calendar period of a time: `2026-04`, `2026-Q2` or `2026`. @throws CoveyError USAGE_RANGE */
export function periodOf(time: string, period: BudgetPeriod): string {
  const [, year, month] = TIME.exec(time) ?? [];
  if (year === undefined || month === undefined)
    throw new CoveyError('USAGE_RANGE', `"time" expected RFC 3339 in UTC, got ${time.slice(0, 40)}`);
  if (period === 'year') return year;
  return period === 'month' ? `${year}-${month}` : `${year}-Q${Math.ceil(Number(month) / 3)}`;
}

/**
 * Order for a period whose first charge names none, from the budget alone: the best one for Gaussian noise that uses all of
 * it, 1 + sqrt(log(1 / delta) / rho).
 */
function orderOf(budget: DatasetBudget): number {
  const { limit } = createFilter({ budget, relation: relationOf(budget), gate: { kind: 'zcdp' } });
  return 1 + Math.sqrt(-Math.log(budget.delta) / limit);
}

/** True if the filter of the period would not admit the events on top of what was charged. */
function wouldExceed(budget: DatasetBudget, order: number, spent: Charges, events: readonly DpEvent[]): boolean {
  // Nothing fits at an order whose conversion alone passes the budget.
  if (!(conversionTerm(order, budget.delta) < budget.epsilon)) return events.length > 0;
  const filter = createFilter({ budget, relation: relationOf(budget), gate: { kind: 'rdp', order } });
  return chargesWouldExceed(spent, budget.view, filter, events);
}

const relationOf = (budget: DatasetBudget): Relation => (budget.unit === 'record' ? 'add-remove' : 'zero-out');

// Fractions would break the order of texts: seconds decide, which is finer than any period.
const laterOf = (a: string, b: string): string => (a.slice(0, 19) >= b.slice(0, 19) ? a : b);

function encode(ledger: DatasetLedger, charge: DatasetCharge): string {
  const { dataset, unit, view } = ledger.budget;
  const { events, kind, order, run, sid, time } = charge;
  const fixed = order === undefined ? {} : { order: Number.isSafeInteger(order) ? order : String(order) };
  return JSON.stringify({
    body: { dataset, events: events.map(eventToJson), ...fixed, run, sid, time, unit, view },
    kind,
    previous: ledger.head,
    sequence: ledger.size,
    v: 1,
  });
}

function apply(ledger: DatasetLedger, charge: DatasetCharge): Omit<DatasetLedger, 'size' | 'head'> {
  const { budget } = ledger;
  const { view } = budget;
  const reserving = charge.kind === 'reserve';
  const known = ledger.sessions.get(charge.sid);
  if (reserving ? known !== undefined : known === undefined)
    throw broken(`"sid" expected a session ${reserving ? 'without a' : 'with a'} reserve`);
  const period = known ?? periodOf(charge.time, budget.period);
  const charges = ledger.periods.get(period) ?? createCharges([view], relationOf(budget));
  const step = reserving ? reserveCharge : settleCharge;
  const isFirst = !ledger.orders.has(period);
  if (charge.order !== undefined && !(reserving && isFirst && charge.order > 1 && Number.isFinite(charge.order)))
    throw broken('"order" expected one above 1, with the first reserve of its period');
  return {
    budget,
    orders: isFirst ? new Map(ledger.orders).set(period, charge.order ?? orderOf(budget)) : ledger.orders,
    lastTime: laterOf(charge.time, ledger.lastTime),
    periods: new Map(ledger.periods).set(period, step(charges, charge.sid, { [view]: charge.events })),
    sessions: new Map(ledger.sessions).set(charge.sid, period),
  };
}

function decode(ledger: DatasetLedger, line: string): DatasetCharge {
  if (line.length > MAX_LINE_LENGTH) throw broken('"line" expected a shorter text');
  const { body, kind } = JSON.parse(line) as { body: Record<string, unknown>; kind: DatasetCharge['kind'] };
  const { run, sid, time, events, order } = body as {
    run: string;
    sid: string;
    time: string;
    events: JsonObject[];
    order?: number | string;
  };
  const fixed = order === undefined ? {} : { order: Number(order) };
  const charge = { kind, run, sid, time, events: events.map(eventFromJson), ...fixed };
  // Sequence, previous hash, data set, unit and view are those of this ledger, or the text is another.
  if ((kind !== 'reserve' && kind !== 'settle') || encode(ledger, charge) !== line)
    throw broken('"line" expected the next line of the chain of this data set, unit and view');
  return charge;
}

/**
 * Reads a stored ledger of a data set and compares it with the head that was seen last.
 * @throws CoveyError PRIVACY_LEDGER for a broken chain, and for one that is shorter than the seen head or does not hold
 * it: a restored backup would give budget back.
 */
export function openDatasetLedger(
  crypto: Hasher,
  budget: DatasetBudget,
  lines: readonly string[],
  seen: SeenHead | null,
): DatasetLedger {
  if (!(budget.epsilon > 0 && budget.epsilon < Number.POSITIVE_INFINITY && budget.delta > 0 && budget.delta < 1))
    throw new CoveyError('USAGE_RANGE', `"budget" expected epsilon > 0 and delta in (0, 1), got ${budget.epsilon}`);
  let ledger: DatasetLedger = {
    budget,
    size: 0,
    head: CHAIN_START,
    lastTime: '',
    periods: new Map(),
    orders: new Map(),
    sessions: new Map(),
  };
  if (seen === null && lines.length > 0)
    throw broken(`"seen" expected the last seen head of ${lines.length} stored charges, got none`);
  if (seen !== null && lines.length < seen.size)
    throw broken(
      `the ledger of data set ${budget.dataset} has ${lines.length} lines, ${seen.size} were seen: a restored backup`,
    );
  if (seen?.size === 0 && seen.head !== CHAIN_START) throw broken('"head" expected the start of the chain');
  for (const [i, line] of lines.entries()) {
    try {
      ledger = { ...apply(ledger, decode(ledger, line)), size: i + 1, head: hashLine(crypto, line) };
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new CoveyError('PRIVACY_LEDGER', `data set ledger line ${i + 1}: ${reason}`, { line: i + 1 }, { cause });
    }
    if (seen?.size === ledger.size && seen.head !== ledger.head)
      throw broken(`line ${i + 1} of data set ${budget.dataset} is not the one that was seen: another history`);
  }
  return ledger;
}

function append(crypto: Hasher, ledger: DatasetLedger, charge: DatasetCharge): { ledger: DatasetLedger; line: string } {
  const line = encode(ledger, charge);
  // A line that this version cannot read back must not be stored.
  const next = apply(ledger, decode(ledger, line));
  return { ledger: { ...next, size: ledger.size + 1, head: hashLine(crypto, line) }, line };
}

/**
 * Reserves the worst accepted case of a session in the current period, over all runs.
 * @throws CoveyError PRIVACY_BUDGET before a round that would exceed the period's budget; nothing is reserved then.
 */
export function reserveDataset(
  crypto: Hasher,
  ledger: DatasetLedger,
  charge: Omit<DatasetCharge, 'kind'>,
): { readonly ledger: DatasetLedger; readonly line: string } {
  const { budget } = ledger;
  const time = laterOf(charge.time, ledger.lastTime);
  const period = periodOf(time, budget.period);
  const spent = ledger.periods.get(period) ?? createCharges([budget.view], relationOf(budget));
  const fixed = ledger.orders.get(period);
  const order = fixed ?? charge.order ?? orderOf(budget);
  if (wouldExceed(budget, order, spent, charge.events)) {
    throw new CoveyError(
      'PRIVACY_BUDGET',
      `data set ${budget.dataset} would exceed epsilon ${budget.epsilon} at delta ${budget.delta} in ${period}`,
      { period, epsilon: budget.epsilon, delta: budget.delta },
    );
  }
  const { order: _, ...facts } = charge;
  const first = fixed === undefined ? { order } : {};
  return append(crypto, ledger, { ...facts, ...first, time, kind: 'reserve' });
}

/** Replaces a reserve by the realised cost, in the period of the reserve. @throws CoveyError PRIVACY_LEDGER */
export function settleDataset(
  crypto: Hasher,
  ledger: DatasetLedger,
  charge: Omit<DatasetCharge, 'kind'>,
): { readonly ledger: DatasetLedger; readonly line: string } {
  return append(crypto, ledger, { ...charge, time: laterOf(charge.time, ledger.lastTime), kind: 'settle' });
}

/** Epsilon of every period so far, oldest first. */
export function reportDataset(ledger: DatasetLedger): { readonly period: string; readonly epsilon: number }[] {
  const { delta, view } = ledger.budget;
  return [...ledger.periods]
    .map(([period, charges]) => ({ period, epsilon: totalCharges(charges, view).epsilon(delta) }))
    .sort((a, b) => (a.period < b.period ? -1 : 1));
}
