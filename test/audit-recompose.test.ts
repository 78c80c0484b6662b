import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRecomposer } from '../src/audit/recompose.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import type { DpEvent } from '../src/privacy/events.ts';

type Charged = { readonly event: DpEvent; readonly count: number };
const second = (charged: readonly Charged[], delta: number): number =>
  createRecomposer('add-remove').epsilon(charged, delta);
const first = (charged: readonly Charged[], delta: number): number =>
  charged.reduce((accountant, { event, count }) => accountant.compose(event, count), rdpAccountant()).epsilon(delta);

function trainingStep(shares: number, noiseMultiplier: number, probability: number): DpEvent {
  const event: DpEvent = {
    kind: 'discreteGaussian',
    shares,
    shareVariance: (noiseMultiplier * 65_536) ** 2 / shares,
    sensitivity: 65_536,
    dimension: 16_384,
    symmetric: true,
  };
  return probability === 1 ? event : { kind: 'poissonSampled', probability, event };
}

describe('the audit’s accountant', () => {
  // Independent numbers: the embedded scenario's plan (80 steps, q = .5, z = 3.11 at six shares, rho = .094 of choices).
  it.each([
    [6, 8.0],
    [7, 7.3],
    [9, 6.39],
  ])('gives the published epsilon of the embedded scenario with %i honest shares', (shares, expected) => {
    const steps = trainingStep(6, 3.11, 0.5) as Extract<DpEvent, { kind: 'poissonSampled' }>;
    const realised: DpEvent = { ...steps, event: { ...steps.event, shares } as DpEvent };
    const charged = [
      { event: realised, count: 80 },
      { event: { kind: 'exponentialMechanism', epsilon: 0.5, monotone: true }, count: 3 },
    ] as const;
    expect(second(charged, 1e-5)).toBeCloseTo(expected, 2);
  });

  it('gives the closed forms: plain Gaussian, zCDP, nothing, and no protection', () => {
    // golden rdp-gaussian, orders of that table; real orders may be a little lower.
    expect(second([{ event: { kind: 'gaussian', noiseMultiplier: 0.5 }, count: 1 }], 1e-5)).toBeCloseTo(10.7252, 3);
    expect(second([{ event: { kind: 'gaussian', noiseMultiplier: 0.5 }, count: 1 }], 1e-5)).toBeCloseTo(
      second([{ event: { kind: 'zCdp', rho: 2 }, count: 1 }], 1e-5),
      9,
    );
    expect(second([], 1e-5)).toBe(0);
    expect(second([{ event: { kind: 'nonPrivate' }, count: 1 }], 1e-5)).toBe(Number.POSITIVE_INFINITY);
  });

  it('agrees with the accountant of the runs on random compositions', () => {
    const step = fc
      .tuple(
        fc.integer({ min: 1, max: 20 }),
        fc.double({ min: 0.6, max: 8, noNaN: true }),
        fc.constantFrom(0.01, 0.1, 0.5, 1),
      )
      .map(([shares, z, q]) => trainingStep(shares, z, q));
    const choice = fc
      .double({ min: 0.05, max: 2, noNaN: true })
      .map((epsilon): DpEvent => ({ kind: 'exponentialMechanism', epsilon, monotone: true }));
    const gaussian = fc.double({ min: 0.6, max: 8, noNaN: true }).map(
      (noiseMultiplier): DpEvent => ({
        kind: 'poissonSampled',
        probability: 0.2,
        event: { kind: 'gaussian', noiseMultiplier },
      }),
    );
    const charges = fc.array(
      fc.record({ event: fc.oneof(step, choice, gaussian), count: fc.integer({ min: 1, max: 200 }) }),
      { minLength: 1, maxLength: 3 },
    );
    fc.assert(
      fc.property(charges, fc.constantFrom(1e-5, 1e-7), (charged, delta) => {
        const [a, b] = [first(charged, delta), second(charged, delta)];
        expect(Math.abs(a - b)).toBeLessThanOrEqual(1e-4 * Math.max(a, b) + 1e-7);
      }),
      { seed: 11, numRuns: 60 },
    );
  });

  it('takes the worse of both where shares are narrow', () => {
    const narrow: DpEvent = {
      kind: 'discreteGaussian',
      shares: 10,
      shareVariance: 2.4,
      sensitivity: 3,
      dimension: 4,
      symmetric: true,
    };
    const sampled: DpEvent = { kind: 'poissonSampled', probability: 0.2, event: narrow };
    for (const event of [narrow, sampled]) {
      expect(second([{ event, count: 10 }], 1e-5)).toBeCloseTo(first([{ event, count: 10 }], 1e-5), 6);
    }
    expect(() => second([{ event: { ...narrow, shareVariance: 2 }, count: 1 }], 1e-5)).toThrow(/1\.5 integer units/);
  });

  it.each([
    [{ kind: 'unsupported', reason: 'x' }],
    [
      {
        kind: 'poissonSampled',
        probability: 0.1,
        event: {
          kind: 'discreteGaussian',
          shares: 3,
          shareVariance: 9,
          sensitivity: 1,
          dimension: 1,
          symmetric: false,
        },
      },
    ],
    [{ kind: 'poissonSampled', probability: 0.1, event: { kind: 'zCdp', rho: 1 } }],
  ] satisfies [DpEvent][])('refuses what it cannot bound: %j', (event) => {
    expect(() => second([{ event, count: 1 }], 1e-5)).toThrow(/expected a mechanism that the audit can recompose/);
  });
});
