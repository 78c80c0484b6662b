import { describe, expect, it } from 'vitest';
import { isCoveyError } from '../protocol/errors.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import type { DiscreteGaussianEvent } from '../src/privacy/events.ts';
import { describeDiscreteGaussianSum, rdpCurve } from '../src/privacy/rdp-curve.ts';
import {
  discreteGaussianSumRdp,
  discreteGaussianSumTau,
  laplaceRdp,
  skellamRdp,
} from '../src/privacy/rdp-mechanisms.ts';
import { poissonLogMoment } from '../src/privacy/rdp-sampling.ts';
import { discreteGaussianPmf } from './support/discrete-gaussian-pmf.ts';

/** Probabilities of the integers `from`, `from + 1`, ... */
interface Pmf {
  readonly from: number;
  readonly mass: Float64Array;
}

function convolve(a: Pmf, b: Pmf): Pmf {
  const mass = new Float64Array(a.mass.length + b.mass.length - 1);
  for (const [i, p] of a.mass.entries()) {
    for (const [j, q] of b.mass.entries()) mass[i + j] = (mass[i + j] as number) + p * q;
  }
  return { from: a.from + b.from, mass };
}

/** Probabilities of a sum of independent discrete Gaussians, by direct convolution; exact to 11 deviations. */
function sumPmf(variances: readonly number[]): Pmf {
  const whole = variances
    .map((variance): Pmf => {
      const pmf = discreteGaussianPmf(variance);
      return { from: Math.min(...pmf.keys()), mass: Float64Array.from(pmf.values()) };
    })
    .reduce(convolve);
  // Beyond, the cut-off of the narrowest share would show in the ratios of tiny masses.
  const reach = Math.ceil(11 * Math.sqrt(variances.reduce((a, b) => a + b, 0)));
  if (reach >= -whole.from) return whole;
  return { from: -reach, mass: whole.mass.slice(-reach - whole.from, reach - whole.from + 1) };
}

/** Difference of two Poisson(mu/2) counts, by direct convolution. */
function skellamPmf(variance: number): Pmf {
  const mean = variance / 2;
  const mass = new Float64Array(Math.ceil(mean + 40 * Math.sqrt(mean) + 40));
  mass[0] = Math.exp(-mean);
  for (let k = 1; k < mass.length; k++) mass[k] = ((mass[k - 1] as number) * mean) / k;
  return convolve({ from: 0, mass }, { from: 1 - mass.length, mass: mass.slice().reverse() });
}

const shift = (pmf: Pmf, by: number): Pmf => ({ from: pmf.from + by, mass: pmf.mass });
const massAt = ({ from, mass }: Pmf, x: number): number => mass[x - from] ?? 0;

function mix(base: Pmf, other: Pmf, probability: number): Pmf {
  const from = Math.min(base.from, other.from);
  const length = Math.max(base.from + base.mass.length, other.from + other.mass.length) - from;
  const at = (_: unknown, i: number): number =>
    (1 - probability) * massAt(base, from + i) + probability * massAt(other, from + i);
  return { from, mass: Float64Array.from({ length }, at) };
}

/** (order - 1) times the exact Renyi divergence of P from Q, on the points where both have mass. */
function exactMoment(p: Pmf, q: Pmf, order: number): number {
  let sum = 0;
  for (const [i, mass] of p.mass.entries()) {
    const other = massAt(q, p.from + i);
    // What is cut off has mass below 1e-25.
    if (mass > 0 && other > 0) sum += other * Math.exp(order * Math.log(mass / other));
  }
  return Math.log(sum);
}

function refusal(run: () => unknown): string {
  try {
    run();
    return 'accepted';
  } catch (error) {
    return isCoveyError(error) ? error.code : String(error);
  }
}

describe('sum of discrete Gaussians, one coordinate, against exact divergences (F11)', () => {
  const sets: readonly (readonly number[])[] = [
    [2.25, 2.25],
    [2.25, 2.25, 2.25, 2.25],
    [4, 4, 4],
    [9, 2.25, 4],
    [2.25, 25],
    [2.25, 6.25, 12.25],
    [16, 2.25, 2.25, 9],
    [3, 40],
    [25, 4, 2.25, 2.25, 7],
  ];
  for (const variances of sets) {
    it(`bounds shares of variance ${variances.join(', ')}, and is tight to 0.1 %`, () => {
      const pmf = sumPmf(variances);
      const variance = variances.reduce((a, b) => a + b, 0);
      const tau = discreteGaussianSumTau(variances.map((v) => [v, 1]));
      for (const delta of [1, 2, 3]) {
        const shifted = shift(pmf, delta);
        for (const order of [1.5, 2, 3, 8]) {
          const exact = exactMoment(shifted, pmf, order) / (order - 1);
          const bound = discreteGaussianSumRdp(order, {
            l1Sensitivity: delta,
            l2Sensitivity: delta,
            variance,
            tau,
            dimension: 1,
          });
          expect(exact).toBeLessThanOrEqual(bound * (1 + 1e-9));
          // Fractional orders of an integer shift are below the zCDP line; where the mass of the moment, around
          // order times shift, is cut off, there is nothing to compare with.
          if (Number.isInteger(order) && order * delta < 6 * Math.sqrt(variance))
            expect(exact).toBeGreaterThan(bound * 0.999);
        }
      }
    });
  }

  it('would be wrong without tau for narrow shares: the refused range is refused for a reason', () => {
    const variances = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1];
    const pmf = sumPmf(variances);
    const exact = exactMoment(shift(pmf, 1), pmf, 2);
    const gaussian = 2 / (2 * 0.6);
    expect(exact).toBeGreaterThan(gaussian * 1.9);
    const tau = discreteGaussianSumTau([[0.1, 6]]);
    expect(exact).toBeLessThanOrEqual(
      discreteGaussianSumRdp(2, { l1Sensitivity: 1, l2Sensitivity: 1, variance: 0.6, tau, dimension: 1 }),
    );
  });
});

describe('Skellam noise, one coordinate, against exact divergences (F12)', () => {
  it('bounds every integer order', () => {
    for (const variance of [16, 50]) {
      const pmf = skellamPmf(variance);
      for (const delta of [1, 2]) {
        for (const order of [2, 3, 5]) {
          const exact = exactMoment(shift(pmf, delta), pmf, order) / (order - 1);
          expect(exact).toBeLessThanOrEqual(skellamRdp(order, delta * delta, delta, variance));
        }
      }
    }
  });
});

describe('Poisson sampling of symmetric additive noise (F9 with factor 1)', () => {
  const noises: readonly (readonly [string, Pmf])[] = [
    ['three discrete Gaussians', sumPmf([2.25, 2.25, 2.25])],
    ['unequal discrete Gaussians', sumPmf([9, 2.25])],
    ['Skellam', skellamPmf(25)],
  ];
  for (const [name, pmf] of noises) {
    it(`${name}: the binomial sum is the exact forward divergence, and the reverse is below it`, () => {
      for (const delta of [1, 3]) {
        const shifted = shift(pmf, delta);
        const base = (l: number): number => exactMoment(shifted, pmf, l);
        for (const q of [0.001, 0.1, 0.5]) {
          const sampled = mix(pmf, shifted, q);
          for (const order of [2, 3, 6]) {
            const forward = exactMoment(sampled, pmf, order);
            const reverse = exactMoment(pmf, sampled, order);
            const bound = poissonLogMoment(order, q, base, 1);
            expect(Math.abs(forward - bound)).toBeLessThan(2e-8 * Math.max(1, bound));
            expect(reverse).toBeLessThanOrEqual(forward + 1e-12);
            expect(poissonLogMoment(order, q, base, 3)).toBeGreaterThanOrEqual(bound);
          }
        }
      }
    });
  }

  it('asymmetric noise breaks it: there the reverse is worse, so symmetry must be declared', () => {
    // A geometric distribution on a cycle of 30: all masses positive, one direction steep.
    const weights = Float64Array.from({ length: 30 }, (_, i) => 0.8 ** i);
    const total = weights.reduce((a, b) => a + b, 0);
    const noise: Pmf = { from: 0, mass: weights.map((w) => w / total) };
    const shifted: Pmf = { from: 0, mass: noise.mass.map((_, i) => noise.mass[(i + 29) % 30] as number) };
    const sampled = mix(noise, shifted, 0.5);
    const forward = exactMoment(sampled, noise, 2);
    expect(Math.abs(forward - poissonLogMoment(2, 0.5, (l) => exactMoment(shifted, noise, l), 1))).toBeLessThan(1e-12);
    expect(exactMoment(noise, sampled, 2)).toBeGreaterThan(forward * 1.7);
  });

  it('never exceeds the cost without sampling', () => {
    const base = (l: number): number => (l - 1) * laplaceRdp(l, 1);
    for (const order of [2, 10, 100]) {
      expect(poissonLogMoment(order, 0.99, base, 1)).toBeLessThanOrEqual(base(order));
    }
  });
});

describe('discrete Gaussian events', () => {
  const event = (
    shareVariance: number,
    shares: number,
    dimension = 4096,
    others?: readonly number[],
  ): DiscreteGaussianEvent => ({
    kind: 'discreteGaussian',
    shares,
    shareVariance,
    ...(others ? { otherShareVariances: others } : {}),
    sensitivity: 8,
    dimension,
    symmetric: true,
  });

  it('refuse narrow shares and a tau that would add more than 0.1 %', () => {
    expect(refusal(() => rdpAccountant().compose(event(2.2, 4, 1)))).toBe('PRIVACY_UNSUPPORTED_EVENT');
    expect(refusal(() => rdpAccountant().compose(event(4, 4, 1, [2.2])))).toBe('PRIVACY_UNSUPPORTED_EVENT');
    expect(refusal(() => rdpAccountant().compose(event(2.3, 4, 100)))).toBe('accepted');
    expect(refusal(() => rdpAccountant().compose(event(2.3, 4, 10 ** 9)))).toBe('PRIVACY_UNSUPPORTED_EVENT');
    // A single share is one discrete Gaussian, however narrow.
    expect(refusal(() => rdpAccountant().compose(event(0.25, 1)))).toBe('accepted');
  });

  it('add the variances of unequal shares', () => {
    const { variance, tau } = describeDiscreteGaussianSum(event(16, 3, 4096, [9, 25]));
    expect(variance).toBe(16 * 3 + 9 + 25);
    expect(tau).toBe(
      discreteGaussianSumTau([
        [16, 3],
        [9, 1],
        [25, 1],
      ]),
    );
    const curve = rdpCurve(event(16, 3, 4096, [9, 25]), 'add-remove');
    expect(curve(4)).toBeCloseTo((4 * 64) / (2 * 82), 9);
  });

  it('cost the same whether equal shares are listed or counted', () => {
    const counted = rdpCurve(event(16, 5), 'add-remove')(7);
    const listed = rdpCurve(event(16, 2, 4096, [16, 16, 16]), 'add-remove')(7);
    expect(Math.abs(listed / counted - 1)).toBeLessThan(1e-14);
  });
});
