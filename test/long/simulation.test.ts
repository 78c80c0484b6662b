import { expect, it } from 'vitest';
import { simulate } from '../simulation/simulate.ts';

it('10,000 simulated worlds keep every invariant', () => {
  const totals = simulate(1_000_000, 10_000);
  process.stdout.write(`${JSON.stringify(totals)}\n`);
  expect(totals.worlds).toBe(10_000);
});
