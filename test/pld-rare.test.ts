import { describe, expect, it } from 'vitest';
import { pldAccountant } from '../src/privacy/accountant.ts';
import type { Accountant } from '../src/privacy/accountant-core.ts';

/*
 * Rare records under little noise: a release tells nothing, or, with probability q, nearly everything. Beside the accountant,
 * with no code of it: the sum over the number of steps that tell, each term an integral over a Gaussian loss.
 */

/** Integral of f over [from, to], Simpson. */
function integrate(f: (x: number) => number, from: number, to: number, cells = 600): number {
  const h = (to - from) / cells;
  let sum = f(from) + f(to);
  for (let i = 1; i < cells; i++) sum += (i % 2 === 1 ? 4 : 2) * f(from + i * h);
  return (sum * h) / 3;
}

const density = (x: number): number => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
const upperTail = (x: number): number => (x < 0 ? 1 - upperTail(-x) : integrate(density, x, x + 12));

/**
 * delta(eps) of T steps, remove direction, for losses before sampling far above -log q: each of the k ~ Bin(T, q) steps
 * that draw the record has loss l + log q, l ~ N(1/(2 z^2), 1/z^2), the others log(1 - q).
 */
function deltaOfReveals(epsilon: number, q: number, z: number, steps: number): number {
  let delta = 0;
  let logWeight = steps * Math.log1p(-q);
  for (let k = 1; k <= 16; k++) {
    logWeight += Math.log((steps - k + 1) / k) + Math.log(q) - Math.log1p(-q);
    const mean = k * (1 / (2 * z * z) + Math.log(q)) + (steps - k) * Math.log1p(-q);
    const deviation = Math.sqrt(k) / z;
    // E[(1 - e^{eps - L})+] over x = (L - mean) / deviation; 1 - e^{...} is 1 beyond 40.
    const start = Math.max(-12, (epsilon - mean) / deviation);
    const edge = Math.max(start, Math.min(12, (epsilon + 40 - mean) / deviation));
    const kept = (x: number): number => density(x) * -Math.expm1(epsilon - mean - deviation * x);
    if (start < 12) delta += Math.exp(logWeight) * (integrate(kept, start, edge) + upperTail(edge));
  }
  return delta;
}

function epsilonOf(delta: (epsilon: number) => number, target: number, most: number): number {
  let [low, high] = [0, most];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (delta(middle) > target) low = middle;
    else high = middle;
  }
  return low;
}

const spent = (q: number, z: number, steps: number): Accountant =>
  pldAccountant().compose(
    { kind: 'poissonSampled', probability: q, event: { kind: 'gaussian', noiseMultiplier: z } },
    steps,
  );

describe('rare total losses', () => {
  it.each([
    [1e-9, 0.01, 1_000_000, 1e-6],
    [1e-9, 0.01, 1_000_000, 1e-4],
    [1e-9, 0.01, 1_000_000, 1e-10],
    [1e-9, 0.005, 1_000_000, 1e-6],
    [1e-9, 0.001, 1_000_000, 1e-6],
    [1e-9, 0.02, 1_000_000, 1e-6],
    [1e-9, 0.05, 1_000_000, 1e-6],
    [1e-10, 0.01, 1_000_000, 1e-6],
    [1e-8, 0.01, 1_000_000, 1e-6],
    [1e-7, 0.01, 1_000_000, 1e-6],
    [1e-11, 0.0035, 500_000, 1e-9],
    [1.5e-9, 0.0174, 1_400_000, 4e-6],
    [5e-7, 0.0189, 4_000, 2e-11],
  ])('q %d, z %d, %d steps, delta %d: within 1e-4 of the truth, and never below', (q, z, steps, delta) => {
    const truth = epsilonOf((epsilon) => deltaOfReveals(epsilon, q, z, steps), delta, 20 / (z * z));
    const found = spent(q, z, steps).epsilon(delta);
    expect(found).toBeGreaterThan(truth * (1 - 1e-8));
    expect(found).toBeLessThan(truth * (1 + 1e-4));
  });

  it.each([1e-9, 1e-8, 1e-7])('without noise a step tells with probability q = %d: delta = 1 - (1 - q)^T', (q) => {
    const steps = 1_000_000;
    const truth = -Math.expm1(steps * Math.log1p(-q));
    for (const z of [0.01, 0.002]) {
      const found = spent(q, z, steps).delta(1 / (8 * z * z));
      expect(found).toBeGreaterThan(truth * (1 - 1e-9));
      expect(found).toBeLessThan(truth * (1 + 1e-4));
      // Above the certain loss of a few steps there is next to nothing.
      expect(spent(q, z, steps).delta(10 / (z * z))).toBeLessThan(1e-20);
    }
  });

  it.each([
    [1e-9, 0.3, 1_000_000, 1e-10, 1e-3],
    [1e-9, 0.2, 1_000_000, 1e-8, 1e-3],
    [1e-9, 0.1, 1_000_000, 1e-6, 2e-2],
  ])('q %d, z %d: above the best threshold test, and close to it', (q, z, steps, delta, slack) => {
    // Any event E bounds from below: delta >= P(E) - e^eps Q(E); here that some step is above t.
    let least = 0;
    for (let t = 0.5; t < 1 + 6 * z; t += 0.002) {
      const noise = upperTail(t / z);
      const drawn = noise + q * (upperTail((t - 1) / z) - noise);
      const p = -Math.expm1(steps * Math.log1p(-drawn));
      if (p > delta) least = Math.max(least, Math.log((p - delta) / -Math.expm1(steps * Math.log1p(-noise))));
    }
    const found = spent(q, z, steps).epsilon(delta);
    expect(found).toBeGreaterThan(least * (1 - 1e-6));
    expect(found).toBeLessThan(least * (1 + slack));
  });

  it('has one loss of any size but for rare lies: randomized response, by enumeration', () => {
    for (const [noiseParameter, steps, target] of [
      [0.001, 1_000, 0.75],
      [0.002, 300, 0.9],
      [1e-4, 3_000, 0.95],
    ] as const) {
      const lie = noiseParameter / 2;
      const loss = Math.log((1 - lie) / lie);
      const exact = (epsilon: number): number => {
        let delta = 0;
        let logWeight = steps * Math.log1p(-lie);
        for (let k = 0; k <= steps; k++) {
          if (k > 0) logWeight += Math.log((steps - k + 1) / k) + Math.log(lie) - Math.log1p(-lie);
          const sum = (steps - 2 * k) * loss;
          if (sum > epsilon) delta += Math.exp(logWeight) * -Math.expm1(epsilon - sum);
        }
        return delta;
      };
      const truth = epsilonOf(exact, target, steps * loss);
      const event = { kind: 'randomizedResponse', buckets: 2, noiseParameter } as const;
      for (const options of [{}, { gridStep: 0.01 }] as const) {
        const found = pldAccountant({ relation: 'replace-one', ...options })
          .compose(event, steps)
          .epsilon(target);
        expect(found).toBeGreaterThan(truth * (1 - 1e-9));
        expect(found).toBeLessThan(truth * (1 + 1e-4));
      }
    }
  });
});
