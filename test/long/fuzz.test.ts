import { expect, it } from 'vitest';
import { fuzz } from '../fuzz/fuzz.ts';

it('a minute of mutated inputs ends in values or coded errors, within bounded memory', () => {
  const started = performance.now();
  const totals = fuzz(20_261, () => performance.now() - started > 60_000);
  process.stdout.write(`${JSON.stringify(totals)}\n`);
  expect(totals.refused).toBeGreaterThan(1_000);
  expect(totals.heapGrowthBytes).toBeLessThan(300e6);
});
