import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createRandom } from '../src/data/random.ts';
import { pldAccountant, rdpAccountant } from '../src/privacy/accountant.ts';
import type { DpEvent, Relation } from '../src/privacy/events.ts';
import { rdpCurve } from '../src/privacy/rdp-curve.ts';

/* Divergences of random mechanisms by plain quadrature and plain sums, written without a line of what they check. */

type Law = readonly number[];

/** log sum exp(a_i). */
function logSum(terms: readonly number[]): number {
  const high = Math.max(...terms);
  return high === Number.NEGATIVE_INFINITY
    ? high
    : high + Math.log(terms.reduce((sum, x) => sum + Math.exp(x - high), 0));
}

/** Renyi divergence of two laws on the same points, given as logarithms. */
function divergence(order: number, p: Law, q: Law, logStep = 0): number {
  const terms = p.map((x, i) => order * x + (1 - order) * (q[i] as number) + logStep);
  return logSum(terms) / (order - 1);
}

/** The larger of both directions. */
const worst = (order: number, p: Law, q: Law, logStep = 0): number =>
  Math.max(divergence(order, p, q, logStep), divergence(order, q, p, logStep));

const mix = (rate: number, moved: Law, still: Law): Law =>
  moved.map((x, i) => logSum([Math.log(rate) + x, Math.log1p(-rate) + (still[i] as number)]));

/** Logarithms of a law on integers or on a fine line, moved by `shift` points. */
function laws(logDensity: (x: number) => number, from: number, to: number, step: number, shift: number): [Law, Law] {
  const points = Array.from({ length: Math.ceil((to - from) / step) + 1 }, (_, i) => from + i * step);
  return [points.map((x) => logDensity(x - shift)), points.map(logDensity)];
}

/** Logarithms of an unnormalised law on integers, normalised over [-half, half], as a function. */
function normalised(weight: (x: number) => number, half: number): (x: number) => number {
  const total = logSum(Array.from({ length: 2 * half + 1 }, (_, i) => weight(i - half)));
  return (x) => (Math.abs(x) > half ? Number.NEGATIVE_INFINITY : weight(x) - total);
}

/** The law of the sum of two independent integers. */
function sumOf(law: (x: number) => number, other: (x: number) => number, half: number): (x: number) => number {
  const values = Array.from({ length: 4 * half + 1 }, (_, i) => {
    const x = i - 2 * half;
    return logSum(
      Array.from({ length: 2 * half + 1 }, (__, j) => law(j - half) + other(x - (j - half))).filter((t) => t > -1e300),
    );
  });
  return (x) => values[x + 2 * half] ?? Number.NEGATIVE_INFINITY;
}

describe('Renyi divergences, against direct integration', () => {
  const random = createRandom(31, 7);
  const scaled = (low: number, high: number): number => Math.exp(random.uniform(Math.log(low), Math.log(high)));
  const orderOf = (): number => 1 + scaled(0.1, 30);

  it('of sampled Gaussian noise are exact at real orders', () => {
    let compared = 0;
    for (let i = 0; i < 60; i++) {
      const [rate, z, order] = [scaled(0.003, 0.999), scaled(0.4, 8), orderOf()];
      const step = z / 40;
      const [moved, still] = laws(
        (x) => -(x * x) / (2 * z * z) - Math.log(z * Math.sqrt(2 * Math.PI)),
        -14 * z - order,
        order + 1 + 14 * z,
        step,
        1,
      );
      const direct = worst(order, mix(rate, moved, still), still, Math.log(step));
      // The direct sum loses the digits that 1 has more than it.
      if (direct * (order - 1) < 1e-5) continue;
      compared += 1;
      const event: DpEvent = {
        kind: 'poissonSampled',
        probability: rate,
        event: { kind: 'gaussian', noiseMultiplier: z },
      };
      const ours = rdpCurve(event, 'add-remove')(order);
      expect(ours / direct).toBeGreaterThan(1 - 1e-8);
      expect(ours / direct).toBeLessThan(1 + 1e-8);
    }
    expect(compared).toBeGreaterThan(40);
  });

  it('of integer noise, sampled or not, are never above what is charged, in either direction (factor 1)', () => {
    let near = 0;
    for (let i = 0; i < 60; i++) {
      const [sensitivity, rate, order] = [1 + random.integer(3), i % 3 === 0 ? 1 : scaled(0.003, 0.9), orderOf()];
      const law = { sensitivity, dimension: 1, symmetric: true } as const;
      const kind = (['discreteGaussian', 'skellam'] as const)[i % 2] as 'discreteGaussian' | 'skellam';
      const variance = random.uniform(3, 20);
      let base: DpEvent;
      let logLaw: (x: number) => number;
      const half = Math.ceil(8 * Math.sqrt(2 * variance) + order * sensitivity + 40);
      if (kind === 'discreteGaussian') {
        base = { kind, shares: 2, shareVariance: variance, ...law };
        const one = normalised((x) => -(x * x) / (2 * variance), half);
        logLaw = sumOf(one, one, half);
      } else {
        base = { kind, variance: 2 * variance, ...law };
        // Difference of two Poisson counts of mean v each.
        const logFactorials = [0];
        for (let k = 1; k <= 4 * half; k++) logFactorials.push((logFactorials[k - 1] as number) + Math.log(k));
        logLaw = normalised((x) => {
          const a = Math.abs(x);
          return logSum(
            Array.from(
              { length: half },
              (_, k) =>
                (2 * k + a) * Math.log(variance) - (logFactorials[k] as number) - (logFactorials[k + a] as number),
            ),
          );
        }, half);
      }
      const reach = Math.ceil(half * 0.9);
      const [moved, still] = laws(logLaw, -reach, reach, 1, sensitivity);
      const direct = worst(order, rate === 1 ? moved : mix(rate, moved, still), still);
      const event: DpEvent = rate === 1 ? base : { kind: 'poissonSampled', probability: rate, event: base };
      const ours = rdpCurve(event, 'add-remove')(order);
      expect(ours).toBeGreaterThanOrEqual(direct * (1 - 1e-9));
      if (ours < direct * 1.05) near += 1;
    }
    // Integer orders are exact; chords between them, and the bound on Skellam noise, are above.
    expect(near).toBeGreaterThan(20);
  });
});

describe('compositions, against a second implementation', () => {
  // Random compositions, heterogeneous, sampled, of fixed size and in both relations: tilted convolution of mean-preserving
  // grids of 1e-4 and 5e-5, extrapolated; double precision, tails by complementary functions.
  const cases = JSON.parse(readFileSync(new URL('./vectors/compositions.json', import.meta.url), 'utf8')) as readonly {
    readonly relation: Relation;
    readonly delta: number;
    readonly epsilon: number;
    readonly terms: readonly { readonly count: number; readonly event: DpEvent }[];
  }[];

  it.each(cases)(
    '$terms.length terms at delta $delta: epsilon $epsilon, from above',
    ({ relation, delta, epsilon, terms }) => {
      const [pld, rdp] = [pldAccountant({ relation }), rdpAccountant({ relation })];
      const ours = terms.reduce((sum, { event, count }) => sum.compose(event, count), pld).epsilon(delta);
      expect(ours).toBeGreaterThan(epsilon * (1 - 3e-6));
      expect(ours).toBeLessThan(epsilon * (1 + 1.5e-4));
      if (!terms.every(({ event }) => rdp.supports(event))) return;
      const bound = terms.reduce((sum, { event, count }) => sum.compose(event, count), rdp).epsilon(delta);
      expect(bound).toBeGreaterThanOrEqual(ours * (1 - 1e-9));
    },
  );
});
