import { describe, expect, it } from 'vitest';
import { pldAccountant } from '../src/privacy/accountant.ts';
import { calibrateNoiseMultiplier } from '../src/privacy/calibrate.ts';
import { GOLDEN_FOLDER, goldenLossEvent, goldenRelation, type Json, readGolden } from './support/golden.ts';

interface Case {
  readonly id: string;
  readonly query: 'epsilon' | 'delta' | 'noiseMultiplier';
  readonly accountant: string;
  readonly neighboring: string;
  readonly event?: Json;
  readonly mechanism?: Json;
  readonly count?: number;
  readonly valueDiscretizationInterval: number;
  readonly epsilon?: number;
  readonly delta?: number;
  readonly expected: number;
  readonly converged?: { readonly expected: number; readonly errorEstimate: number | null };
  readonly tolerance: {
    readonly rel?: number;
    readonly abs?: number;
    readonly oneSided?: true;
    readonly absBelow?: number;
    readonly relAbove?: number;
  };
}

function close(actual: number, { expected, tolerance }: Case): void {
  const { rel = 0, abs = 0, oneSided, absBelow = 0, relAbove = 0 } = tolerance;
  const width = Math.max(rel * Math.abs(expected), abs);
  expect(actual).toBeGreaterThanOrEqual(expected - (oneSided ? absBelow : width));
  expect(actual).toBeLessThanOrEqual(expected + (oneSided ? relAbove * Math.abs(expected) : width));
}

function check(test: Case): void {
  const relation = goldenRelation(test.neighboring);
  const json = (test.event ?? test.mechanism) as Json;
  const { epsilon = Number.NaN, delta = Number.NaN, count = 1 } = test;
  const empty = pldAccountant({ relation, gridStep: test.valueDiscretizationInterval });
  if (test.query === 'noiseMultiplier') {
    const build = (z: number) => [{ event: goldenLossEvent(json, relation, z), count }];
    const found = calibrateNoiseMultiplier({ epsilon, delta }, build, empty);
    close(found, test);
    expect(empty.compose(goldenLossEvent(json, relation, found), count).epsilon(delta)).toBeLessThanOrEqual(epsilon);
    return;
  }
  const composed = empty.compose(goldenLossEvent(json, relation), count);
  const actual = test.query === 'epsilon' ? composed.epsilon(delta) : composed.delta(epsilon);
  close(actual, test);
  const automatic = pldAccountant({ relation }).compose(goldenLossEvent(json, relation), count);
  const free = test.query === 'epsilon' ? automatic.epsilon(delta) : automatic.delta(epsilon);
  if (!test.converged) return;
  const { expected, errorEstimate } = test.converged;
  for (const value of [actual, free]) {
    expect(value).toBeGreaterThanOrEqual(expected * (1 - 1e-6) - (errorEstimate ?? 0));
  }
  if (test.query === 'epsilon') expect(free).toBeLessThan(expected * (1 + 1e-4));
}

const golden = readGolden('golden_accounting.json') as { readonly cases: readonly Case[] } | null;
describe.skipIf(golden === null)(
  `all published loss-distribution cases (folder ${golden ? '' : 'not found: '}${GOLDEN_FOLDER})`,
  () => {
    for (const test of golden?.cases ?? []) {
      if (test.accountant.startsWith('pld')) it(test.id, () => check(test));
    }
  },
);
