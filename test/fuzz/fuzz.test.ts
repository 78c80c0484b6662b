import { expect, it } from 'vitest';
import { fuzz } from './fuzz.ts';

it('mutated inputs of every decoder and both machines end in values or coded errors', () => {
  const totals = fuzz(1, (inputs) => inputs >= 20_000);
  expect(totals.refused).toBeGreaterThan(10_000);
  expect(totals.refused).toBeLessThan(totals.inputs);
  expect(totals.sessions).toBeGreaterThan(50);
});
