import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { utf8 } from '../protocol/bytes.ts';
import { spentBudgets } from '../src/budget/spent.ts';
import { createBundle } from './support/bundle.ts';
import { codeOf } from './support/code-of.ts';

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
