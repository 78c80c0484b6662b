import { expect, it } from 'vitest';
import { explore } from './exploration.ts';

it('any one fault of a small world, and one pair in 400, costs time only', () => {
  const totals = explore(400);
  expect(totals.places).toBeGreaterThan(200);
  expect(totals.runs).toBeGreaterThan(400);
});
