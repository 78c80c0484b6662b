import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import { gaussianDelta, gaussianEpsilon, gaussianNoiseMultiplier } from '../src/privacy/analytic-gaussian.ts';
import { calibrateNoiseMultiplier } from '../src/privacy/calibrate.ts';
import { rdpCurve } from '../src/privacy/rdp-curve.ts';
import { GOLDEN_FOLDER, goldenEvent, goldenRelation, type Json, readGolden } from './support/golden.ts';

interface Case {
  readonly id: string;
  readonly query: 'epsilon' | 'delta' | 'noiseMultiplier' | 'sigma' | 'rdp';
  readonly accountant: string;
  readonly neighboring: string;
  readonly event?: Json;
  readonly orders?: string;
  readonly epsilon?: number;
  readonly delta?: number;
  readonly sigma?: number;
  readonly expected: number | readonly number[];
  readonly exactOrders?: { readonly expected: number | readonly number[] };
  readonly converged?: number;
  readonly tolerance: { readonly rel: number; readonly abs?: number };
}
interface Golden {
  readonly rdpOrders: Readonly<Record<string, readonly number[]>>;
  readonly cases: readonly Case[];
}

// Published at orders where the reference drops the signs of binomials (too high) or the order itself, and without
// exact numbers: an exact curve is lower, by up to the 2.2 % that this fault was measured to cost.
const OVERESTIMATED = ['rdp-heterogeneous-001', 'rdp-heterogeneous-002', 'cal-rdp-005', 'cal-rdp-009'];
const MAX_OVERESTIMATE = 0.022;

function close(actual: number, expected: number, tolerance: Case['tolerance'], id = ''): void {
  if (OVERESTIMATED.includes(id)) {
    expect(actual).toBeLessThanOrEqual(expected);
    expect(actual).toBeGreaterThan(expected * (1 - MAX_OVERESTIMATE));
    return;
  }
  const width = Math.max(tolerance.rel * Math.abs(expected), tolerance.abs ?? 0);
  expect(Math.abs(actual - expected), `${actual} against ${expected}`).toBeLessThanOrEqual(width);
}

function check(test: Case, rdpOrders: Golden['rdpOrders']): void {
  const want = test.exactOrders?.expected ?? test.expected;
  const single = typeof want === 'number' ? want : Number.NaN;
  const { epsilon = Number.NaN, delta = Number.NaN, sigma = Number.NaN } = test;
  if (test.accountant === 'analytic-gaussian') {
    if (test.query === 'epsilon') close(gaussianEpsilon(sigma, delta), single, test.tolerance);
    else if (test.query === 'delta') close(gaussianDelta(sigma, epsilon), single, test.tolerance);
    else close(gaussianNoiseMultiplier(epsilon, delta), single, test.tolerance);
    return;
  }
  const relation = goldenRelation(test.neighboring);
  const orders = rdpOrders[test.orders ?? 'default'] as readonly number[];
  const given = rdpAccountant({ relation, orders });
  const json = test.event as Json;
  if (test.query === 'noiseMultiplier') {
    const build = (noiseMultiplier: number) => [{ event: goldenEvent(json, noiseMultiplier), count: 1 }];
    const found = calibrateNoiseMultiplier({ epsilon, delta }, build, given);
    close(found, single, test.tolerance, test.id);
    expect(given.compose(goldenEvent(json, found)).epsilon(delta)).toBeLessThanOrEqual(epsilon);
    return;
  }
  const event = goldenEvent(json);
  if (test.query === 'rdp') {
    const curve = rdpCurve(event, relation);
    for (const [i, order] of orders.entries())
      close(curve(order), (want as readonly number[])[i] as number, test.tolerance);
    return;
  }
  const ask = (accountant: ReturnType<typeof rdpAccountant>): number =>
    test.query === 'epsilon' ? accountant.epsilon(delta) : accountant.delta(epsilon);
  const actual = ask(given.compose(event));
  close(actual, single, test.tolerance, test.id);
  if (test.converged !== undefined) expect(actual).toBeGreaterThanOrEqual(test.converged * (1 - 1e-9));
  // Searching all orders can only be tighter than a fixed list, except at its largest order.
  const free = ask(rdpAccountant({ relation }).compose(event));
  expect(free).toBeLessThanOrEqual(actual * (1 + 1e-7));
}

const own = JSON.parse(readFileSync(new URL('./vectors/accounting.json', import.meta.url), 'utf8')) as Golden;
describe('accounting vectors', () => {
  for (const test of own.cases) it(test.id, () => check(test, own.rdpOrders));
});

describe('trees of partial sums', () => {
  it('cost as much as the largest tree alone, because a record is in one of them', () => {
    const tree = (stepCounts: number[]) =>
      rdpCurve({ kind: 'treeAggregation', noiseMultiplier: 3, stepCounts }, 'zero-out')(4);
    expect(tree([3, 1000])).toBe(tree([1000]));
    expect(tree([3, 1000])).toBeGreaterThan(tree([3]));
  });
});

const golden = readGolden('golden_accounting.json') as Golden | null;
describe.skipIf(golden === null)(
  `all published accounting cases (folder ${golden ? '' : 'not found: '}${GOLDEN_FOLDER})`,
  () => {
    for (const test of golden?.cases ?? []) {
      if (test.accountant.startsWith('pld')) continue;
      it(test.id, () => check(test, golden?.rdpOrders ?? {}));
    }
  },
);
