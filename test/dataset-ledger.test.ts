import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { toHex, utf8 } from '../protocol/bytes.ts';
import {
  type DatasetBudget,
  type DatasetLedger,
  openDatasetLedger,
  periodOf,
  reportDataset,
  reserveDataset,
  settleDataset,
} from '../src/privacy/dataset-ledger.ts';
import type { DpEvent } from '../src/privacy/events.ts';
import { codeOf } from './support/code-of.ts';

const BUDGET: DatasetBudget = {
  dataset: 'cardiology',
  period: 'quarter',
  epsilon: 2,
  delta: 1e-5,
  unit: 'record',
  view: 'server',
};
const sid = (n: number): string => toHex(nodeCrypto.sha256(utf8(`session ${n}`)));
// Two fit in epsilon 2 at delta 1e-5 (1.83), three do not (2.29).
const EVENT: DpEvent = { kind: 'gaussian', noiseMultiplier: 3.5 };
const charge = (n: number, time: string, events: readonly DpEvent[] = [EVENT]) => ({
  run: n < 2 ? 'run-a' : 'run-b',
  sid: sid(n),
  time,
  events,
});

/** A ledger with a reserve for each time, and its lines. */
function ledgerOf(times: readonly string[]): { ledger: DatasetLedger; lines: string[] } {
  let ledger = openDatasetLedger(nodeCrypto, BUDGET, [], null);
  const lines: string[] = [];
  times.forEach((time, n) => {
    const step = reserveDataset(nodeCrypto, ledger, charge(n, time));
    ledger = step.ledger;
    lines.push(step.line);
  });
  return { ledger, lines };
}

const MARCH = '2026-03-31T23:59:59Z';
const APRIL = '2026-04-01T00:00:00Z';

describe('the ledger of a data set', () => {
  it('names calendar periods in UTC', () => {
    expect(periodOf(MARCH, 'quarter')).toBe('2026-Q1');
    expect(periodOf(APRIL, 'quarter')).toBe('2026-Q2');
    expect(periodOf('2026-12-31T23:59:59.999Z', 'quarter')).toBe('2026-Q4');
    expect(periodOf(MARCH, 'month')).toBe('2026-03');
    expect(periodOf(MARCH, 'year')).toBe('2026');
    expect(codeOf(() => periodOf('2026-13-01T00:00:00Z', 'year'))).toBe('USAGE_RANGE');
  });

  it('refuses the round that would exceed the period over all runs, and reserves nothing then', () => {
    const { ledger } = ledgerOf([MARCH, MARCH]);
    expect(codeOf(() => reserveDataset(nodeCrypto, ledger, charge(2, MARCH)))).toBe('PRIVACY_BUDGET');
    expect(ledger.size).toBe(2);
    expect(reportDataset(ledger)[0]?.epsilon).toBeLessThanOrEqual(2);
  });

  it('starts anew with the next period, in its first second, and settles in the period of the reserve', () => {
    const { ledger } = ledgerOf([MARCH, MARCH]);
    const next = reserveDataset(nodeCrypto, ledger, charge(2, APRIL)).ledger;
    const settled = settleDataset(
      nodeCrypto,
      next,
      charge(0, APRIL, [{ kind: 'gaussian', noiseMultiplier: 7 }]),
    ).ledger;
    const [before, after] = [reportDataset(next), reportDataset(settled)];
    expect(after.map(({ period }) => period)).toEqual(['2026-Q1', '2026-Q2']);
    expect(after[0]?.epsilon).toBeLessThan(before[0]?.epsilon ?? 0);
    expect(after[1]).toEqual(before[1]);
  });

  it('opens no older period for a clock that was set back', () => {
    const { ledger } = ledgerOf([APRIL, APRIL]);
    expect(codeOf(() => reserveDataset(nodeCrypto, ledger, charge(2, MARCH)))).toBe('PRIVACY_BUDGET');
  });

  it('refuses a settlement above its reserve or without one, and a second reserve', () => {
    const { ledger } = ledgerOf([APRIL]);
    const louder: DpEvent = { kind: 'gaussian', noiseMultiplier: 3 };
    expect(codeOf(() => settleDataset(nodeCrypto, ledger, charge(0, APRIL, [louder])))).toBe('PRIVACY_LEDGER');
    expect(codeOf(() => settleDataset(nodeCrypto, ledger, charge(1, APRIL)))).toBe('PRIVACY_LEDGER');
    expect(codeOf(() => reserveDataset(nodeCrypto, ledger, charge(0, APRIL)))).toBe('PRIVACY_LEDGER');
  });

  it('reads back what it wrote', () => {
    const { ledger, lines } = ledgerOf([MARCH, APRIL]);
    const read = openDatasetLedger(nodeCrypto, BUDGET, lines, { size: 2, head: ledger.head });
    expect(reportDataset(read)).toEqual(reportDataset(ledger));
    expect(read.head).toBe(ledger.head);
  });

  it('refuses a restored backup, another history, a lost head, a changed line and another unit', () => {
    const { ledger, lines } = ledgerOf([MARCH, APRIL]);
    const seen = { size: ledger.size, head: ledger.head };
    const open = (given: readonly string[], head: typeof seen | null, budget = BUDGET) =>
      codeOf(() => openDatasetLedger(nodeCrypto, budget, given, head));
    expect(open(lines, seen)).toBeNull();
    // The store may be one step ahead of a head that a crash kept from being written.
    const first = openDatasetLedger(nodeCrypto, BUDGET, lines.slice(0, 1), { size: 0, head: '0'.repeat(64) });
    expect(open(lines, { size: 1, head: first.head })).toBeNull();
    expect(open(lines.slice(0, 1), seen)).toBe('PRIVACY_LEDGER');
    expect(open([], seen)).toBe('PRIVACY_LEDGER');
    expect(open(lines, null)).toBe('PRIVACY_LEDGER');
    expect(open(ledgerOf([APRIL, APRIL]).lines, seen)).toBe('PRIVACY_LEDGER');
    expect(open([lines[0]?.replace('03-31', '02-28') ?? '', lines[1] ?? ''], seen)).toBe('PRIVACY_LEDGER');
    expect(open(lines, seen, { ...BUDGET, unit: 'participant' })).toBe('PRIVACY_LEDGER');
    expect(open(['{', lines[1] ?? ''], seen)).toBe('PRIVACY_LEDGER');
  });
});
