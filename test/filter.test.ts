import { describe, expect, it } from 'vitest';
import { isCoveyError } from '../protocol/errors.ts';
import { individualEpsilon } from '../src/budget/individual.ts';
import { rdpAccountant, zcdpAccountant } from '../src/privacy/accountant.ts';
import type { DiscreteGaussianEvent, DpEvent } from '../src/privacy/events.ts';
import {
  admit,
  createFilter,
  type Filter,
  type FilterDeclaration,
  readOdometer,
  redeclare,
} from '../src/privacy/filter.ts';
import { codeOf } from './support/code-of.ts';

const BUDGET = { epsilon: 3, delta: 1e-6 };
const RDP: FilterDeclaration = { budget: BUDGET, relation: 'add-remove', gate: { kind: 'rdp', order: 10 } };
const ZCDP: FilterDeclaration = { budget: BUDGET, relation: 'zero-out', gate: { kind: 'zcdp' } };

/** Events that an adversary picks from what was spent so far: less noise the more budget is left. */
function runAdaptively(
  declaration: FilterDeclaration,
  isSampled: boolean,
): { filter: Filter; events: DpEvent[]; refused: DpEvent } {
  let filter = createFilter(declaration);
  const events: DpEvent[] = [];
  for (;;) {
    const noiseMultiplier = 2 + 8 * (filter.spent / filter.limit) + (events.length % 3);
    const base: DpEvent = { kind: 'gaussian', noiseMultiplier };
    const event: DpEvent = isSampled ? { kind: 'poissonSampled', probability: 0.3, event: base } : base;
    try {
      filter = admit(filter, event);
    } catch (error) {
      if (!isCoveyError(error, 'PRIVACY_BUDGET')) throw error;
      return { filter, events, refused: event };
    }
    events.push(event);
  }
}

describe('the filter', () => {
  it.each([
    ['rdp at one order', RDP, true],
    ['zcdp', ZCDP, false],
  ] as const)('halts before adaptively chosen events overspend: %s', (_, declaration, isSampled) => {
    const { filter, events, refused } = runAdaptively(declaration, isSampled);
    expect(events.length).toBeGreaterThan(10);
    const { gate, relation } = declaration;
    const empty =
      gate.kind === 'rdp' ? rdpAccountant({ relation, orders: [gate.order] }) : zcdpAccountant({ relation });
    const spent = events.reduce((accountant, event) => accountant.compose(event), empty);
    expect(spent.epsilon(BUDGET.delta)).toBeLessThanOrEqual(BUDGET.epsilon + 1e-9);
    expect(spent.compose(refused).epsilon(BUDGET.delta)).toBeGreaterThan(BUDGET.epsilon);
    // Refused for good: the filter itself did not move.
    expect(codeOf(() => admit(filter, refused))).toBe('PRIVACY_BUDGET');
  });

  it('refuses an order that is picked after the run started', () => {
    const other: FilterDeclaration = { ...RDP, gate: { kind: 'rdp', order: 20 } };
    const filter = createFilter(RDP);
    expect(redeclare(filter, other).declaration.gate).toEqual(other.gate);
    const started = admit(filter, { kind: 'gaussian', noiseMultiplier: 9 });
    expect(codeOf(() => redeclare(started, other))).toBe('USAGE_STATE');
  });

  it('refuses budgets, orders and events that it cannot gate', () => {
    expect(codeOf(() => createFilter({ ...RDP, gate: { kind: 'rdp', order: 1 } }))).toBe('USAGE_RANGE');
    expect(codeOf(() => createFilter({ ...RDP, gate: { kind: 'rdp', order: 1.5 } }))).toBe('USAGE_RANGE');
    expect(codeOf(() => createFilter({ ...RDP, budget: { epsilon: Number.NaN, delta: 1e-6 } }))).toBe('USAGE_RANGE');
    const sampled: DpEvent = {
      kind: 'poissonSampled',
      probability: 0.1,
      event: { kind: 'gaussian', noiseMultiplier: 3 },
    };
    expect(codeOf(() => admit(createFilter(ZCDP), sampled))).toBe('PRIVACY_UNSUPPORTED_EVENT');
    expect(codeOf(() => admit(createFilter(ZCDP), { kind: 'zCdp', rho: 0.1, xi: 0.1 }))).toBe(
      'PRIVACY_UNSUPPORTED_EVENT',
    );
    const approximate: DpEvent = { kind: 'approximateDp', epsilon: 0.1, delta: 1e-7 };
    expect(codeOf(() => admit(createFilter(RDP), approximate))).toBe('PRIVACY_UNSUPPORTED_EVENT');
    expect(codeOf(() => admit(createFilter(RDP), { kind: 'nonPrivate' }))).toBe('PRIVACY_BUDGET');
  });

  it('shows an odometer that never falls and never shows less than the loss so far', () => {
    let filter = createFilter(ZCDP);
    expect(readOdometer(filter)).toBe(0);
    let spent = zcdpAccountant({ relation: 'zero-out' });
    let last = 0;
    for (let i = 0; i < 20; i++) {
      const event: DpEvent = { kind: 'gaussian', noiseMultiplier: 10 };
      [filter, spent] = [admit(filter, event), spent.compose(event)];
      const shown = readOdometer(filter);
      expect(shown).toBeGreaterThanOrEqual(Math.max(last, spent.epsilon(BUDGET.delta)));
      last = shown;
    }
    expect(last).toBeLessThanOrEqual(2 * BUDGET.epsilon);
  });
});

describe('individual accounting', () => {
  const event: DiscreteGaussianEvent = {
    kind: 'discreteGaussian',
    shares: 50,
    shareVariance: 1e8,
    sensitivity: 65_536,
    dimension: 1_024,
    symmetric: true,
  };
  it('charges a round by the own norm, at most by the bound, and nothing for nothing', () => {
    const epsilon = (norm: number): number => individualEpsilon([{ event, norm }], 1e-5);
    expect(epsilon(65_536)).toBe(zcdpAccountant({ relation: 'zero-out' }).compose(event).epsilon(1e-5));
    expect(epsilon(1e9)).toBe(epsilon(65_536));
    expect(epsilon(30_000)).toBeLessThan(epsilon(65_536));
    expect(epsilon(0)).toBe(0);
    expect(individualEpsilon([], 1e-5)).toBe(0);
  });
});
