import { describe, expect, it } from 'vitest';
import { simulate } from './simulate.ts';

describe('simulated worlds', () => {
  it('keep every invariant over 300 seeds, some with the real primitives', () => {
    const totals = simulate(0, 300);
    // The worlds are not trivial: rounds end well and badly, processes die, coordinators lie.
    expect(totals.releases).toBeGreaterThan(200);
    expect(totals.sparseReleases).toBeGreaterThan(20);
    expect(totals.crashes).toBeGreaterThan(200);
    expect(totals.lies).toBeGreaterThan(200);
    for (const code of [
      'PROTO_EQUIVOCATION',
      'PROTO_DEADLINE',
      'ROUND_TIMEOUT',
      'coordinator ROUND_BELOW_THRESHOLD',
      'coordinator ROUND_REVEAL',
    ])
      expect(totals.aborts[code] ?? 0, code).toBeGreaterThan(0);
  });
});
