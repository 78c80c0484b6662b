import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createCharges, reserveCharge, settleCharge } from '../src/privacy/charges.ts';
import { areNeverDearer, isNeverDearer } from '../src/privacy/event-order.ts';
import type { DpEvent } from '../src/privacy/events.ts';
import { rdpCurve } from '../src/privacy/rdp-curve.ts';
import { codeOf } from './support/code-of.ts';

const noise = fc.double({ min: 0.5, max: 20, noNaN: true });
const more = fc.double({ min: 1, max: 4, noNaN: true });
const part = fc.double({ min: 0.01, max: 1, noNaN: true });
const SUM = { kind: 'discreteGaussian', sensitivity: 100, dimension: 64, symmetric: true } as const;

type Pair = readonly [DpEvent, DpEvent];

/** Pairs of which the first is the second with more of what helps. */
const bases: fc.Arbitrary<Pair> = fc.oneof(
  fc.tuple(noise, more).map(
    ([z, f]): Pair => [
      { kind: 'gaussian', noiseMultiplier: z * f },
      { kind: 'gaussian', noiseMultiplier: z },
    ],
  ),
  fc.tuple(fc.integer({ min: 2, max: 20 }), fc.integer({ min: 0, max: 20 }), noise).map(
    ([shares, extra, z]): Pair => [
      { ...SUM, shares: shares + extra, shareVariance: (100 * z) ** 2 },
      { ...SUM, shares, shareVariance: (100 * z) ** 2 },
    ],
  ),
  fc.tuple(noise, more).map(
    ([z, f]): Pair => [
      { ...SUM, kind: 'skellam', variance: (100 * z) ** 2 * f },
      { ...SUM, kind: 'skellam', variance: (100 * z) ** 2 },
    ],
  ),
  fc.tuple(noise, more, fc.boolean()).map(
    ([z, f, symmetric]): Pair => [
      { kind: 'laplace', noiseMultiplier: z * f, symmetric },
      { kind: 'laplace', noiseMultiplier: z, symmetric },
    ],
  ),
  fc.tuple(part, part, fc.boolean()).map(
    ([epsilon, f, monotone]): Pair => [
      { kind: 'exponentialMechanism', epsilon: epsilon * f, monotone },
      { kind: 'exponentialMechanism', epsilon, monotone },
    ],
  ),
  fc.tuple(part, part).map(
    ([rho, f]): Pair => [
      { kind: 'zCdp', rho: rho * f },
      { kind: 'zCdp', rho, xi: 0.1 },
    ],
  ),
);
const pairs: fc.Arbitrary<Pair> = fc.oneof(
  bases,
  fc.tuple(noise, more, part, part).map(
    ([z, f, q, r]): Pair => [
      { kind: 'poissonSampled', probability: q * r, event: { kind: 'gaussian', noiseMultiplier: z * f } },
      { kind: 'poissonSampled', probability: q, event: { kind: 'gaussian', noiseMultiplier: z } },
    ],
  ),
  fc.tuple(bases, fc.integer({ min: 1, max: 9 }), fc.nat(9)).map(
    ([[a, b], count, extra]): Pair => [
      { kind: 'selfComposed', count, event: a },
      { kind: 'selfComposed', count: count + extra, event: b },
    ],
  ),
  fc.tuple(bases, bases).map(
    ([[a, b], [c, d]]): Pair => [
      { kind: 'composed', events: [a, c] },
      { kind: 'composed', events: [b, d] },
    ],
  ),
);

describe('an event that is never dearer', () => {
  it('costs no more at any order', () => {
    fc.assert(
      fc.property(pairs, fc.double({ min: 1.001, max: 600, noNaN: true }), ([a, b], order) => {
        expect(isNeverDearer(a, b)).toBe(true);
        const [cheap, dear] = [rdpCurve(a, 'add-remove')(order), rdpCurve(b, 'add-remove')(order)];
        expect(cheap).toBeLessThanOrEqual(dear * (1 + 1e-9) + 1e-15);
        if (cheap < dear * (1 - 1e-9)) expect(isNeverDearer(b, a)).toBe(false);
      }),
      { numRuns: 400, seed: 4 },
    );
  });

  it('is of the same kind and leaves all else alone', () => {
    const gaussian = { kind: 'gaussian', noiseMultiplier: 3 } as const;
    const sum = { ...SUM, shares: 3, shareVariance: 1e4 } as const;
    expect(isNeverDearer({ kind: 'zCdp', rho: 0 }, gaussian)).toBe(false);
    expect(isNeverDearer({ ...sum, shares: 4, symmetric: false }, sum)).toBe(false);
    expect(isNeverDearer({ ...sum, shareVariance: 2e4 }, sum)).toBe(false);
    expect(isNeverDearer({ ...sum, shares: 4, sensitivity: 101 }, sum)).toBe(false);
    expect(isNeverDearer({ kind: 'nonPrivate' }, { kind: 'nonPrivate' })).toBe(true);
    expect(areNeverDearer([], [gaussian])).toBe(true);
    expect(areNeverDearer([gaussian], [gaussian, gaussian])).toBe(false);
    expect(areNeverDearer([gaussian, gaussian], [gaussian])).toBe(false);
  });

  it('is what a settlement has to be: curves that cross below any list of orders are refused', () => {
    const reserved: DpEvent = {
      kind: 'poissonSampled',
      probability: 0.01,
      event: { kind: 'gaussian', noiseMultiplier: 0.4 },
    };
    const at = (event: DpEvent, order: number): number => rdpCurve(event, 'add-remove')(order);
    const noiseMultiplier = Math.sqrt(1.25 / (2 * at(reserved, 1.25)));
    const realised: DpEvent = { kind: 'gaussian', noiseMultiplier };
    for (const order of [1.25, 1.5, 2, 4, 8, 32, 256])
      expect(at(realised, order)).toBeLessThanOrEqual(at(reserved, order) * (1 + 1e-9));
    expect(at(realised, 1.1)).toBeGreaterThan(at(reserved, 1.1) * 1.01);
    const sid = 'ab'.repeat(32);
    const charges = reserveCharge(createCharges(['server'], 'add-remove'), sid, { server: [reserved] });
    expect(codeOf(() => settleCharge(charges, sid, { server: [realised] }))).toBe('PRIVACY_LEDGER');
  });
});
