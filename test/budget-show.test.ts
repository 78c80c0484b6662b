import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { utf8 } from '../protocol/bytes.ts';
import { spentBudgets, spentLedger } from '../src/budget/spent.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import { createLedger, reserve, settle } from '../src/privacy/ledger.ts';
import { startBuilt } from './support/built-command.ts';
import { createBundle } from './support/bundle.ts';
import { codeOf } from './support/code-of.ts';

describe('spent budget of one ledger', () => {
  const gaussian = (noiseMultiplier: number) => ({ kind: 'gaussian', noiseMultiplier }) as const;
  const events = { server: [gaussian(5)], release: [gaussian(4)] };
  const opened = createLedger(nodeCrypto, {
    participant: 'ab'.repeat(32),
    budget: { epsilon: 4, delta: 1e-5 },
    budgetView: 'server',
    views: ['server', 'release'],
    unit: 'record',
    relation: 'add-remove',
    colluders: 1,
    accountant: 'rdp',
  });
  const first = reserve(nodeCrypto, opened.ledger, {
    sid: '01'.repeat(32),
    round: 1,
    purpose: 'train',
    threshold: 3,
    events,
  });
  const settled = settle(nodeCrypto, first.ledger, {
    sid: '01'.repeat(32),
    h3: '02'.repeat(32),
    survivors: 4,
    events,
  });
  const second = reserve(nodeCrypto, settled.ledger, {
    sid: '03'.repeat(32),
    round: 2,
    purpose: 'train',
    threshold: 3,
    events,
  });
  const lines = [opened, first, settled, second].map(({ line }) => line);

  it('counts settled sessions and, at their worst, reserved ones', () => {
    const spent = spentLedger(lines, nodeCrypto);
    expect(spent).toMatchObject({ settled: 1, reserved: 1, budgetEpsilon: 4, budgetView: 'server', colluders: 1 });
    const two = rdpAccountant().compose(gaussian(5), 2).epsilon(1e-5);
    expect(spent.spent.server).toBe(two);
    expect(spent.spent.release).toBeGreaterThan(two);
    expect(spent.remaining).toBe(4 - two);
  });

  it('is refused from a changed ledger', () => {
    const changed = lines.map((line) => line.replace('"survivors":4', '"survivors":5'));
    expect(codeOf(() => spentLedger(changed, nodeCrypto))).toBe('PRIVACY_LEDGER');
  });
});

describe('spent budgets', () => {
  const log = `${createBundle().lines.join('\n')}\n`;

  it('are those that the log charges, the release view never below the server view', () => {
    const { rows, targetEpsilon } = spentBudgets(utf8(log), nodeCrypto);
    expect(rows.some(({ rounds }) => rounds > 0)).toBe(true);
    for (const { rounds, spent, remaining } of rows) {
      expect(spent.server > 0).toBe(rounds > 0);
      expect(spent.release).toBeGreaterThanOrEqual(spent.server);
      expect(remaining).toBe(Math.max(0, targetEpsilon - spent.server));
    }
  });

  it('are refused from a changed log', () => {
    expect(codeOf(() => spentBudgets(utf8(log.replace('"round":1', '"round":9')), nodeCrypto))).toBe('AUDIT_FAILED');
  });
});

describe('the copy of charges in a bundle', () => {
  it('is no ledger: one line says where all participants are shown', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'covey-show-'));
    const file = join(folder, 'charges.jsonl');
    await writeFile(file, '{"body":{},"type":"client.charge","v":1}\n');
    const process = startBuilt(['budget', 'show', file], () => undefined);
    expect(await process.exited).toBe(2);
    expect(process.errorTail()).toMatch(/hint: covey budget show .* shows all participants/);
    await rm(folder, { recursive: true });
  });
});
