import { expect, it } from 'vitest';
import { explore } from '../simulation/exploration.ts';

it('two faults of a small world cost time only (every twentieth pair; npm run explore takes all)', () => {
  const totals = explore(20);
  process.stdout.write(`explored: ${JSON.stringify(totals)}\n`);
  expect(totals.runs).toBeGreaterThan(5_000);
});
