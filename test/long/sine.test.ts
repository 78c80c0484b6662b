import { expect, it } from 'vitest';
import { isReached } from '../../experiments/oracle-problem.ts';
import { ORACLE_RUNS } from '../../experiments/oracle-runs.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';

it('Reptile as a run reaches the curve of an independent implementation', { timeout: 1_800_000 }, () => {
  const rows = ORACLE_RUNS['oracle/sine-tasks']?.(nodeCrypto, 1, 4_000) ?? [];
  expect(rows).toHaveLength(4);
  for (const row of rows) expect(isReached(row), JSON.stringify(row)).toBe(true);
});
