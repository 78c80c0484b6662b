import { describe, expect, it } from 'vitest';
import { zcdpAccountant } from '../src/privacy/accountant.ts';
import { rdpToEpsilon } from '../src/privacy/rdp-conversion.ts';
import { discreteGaussianSumRdp, discreteGaussianSumTau, skellamRdp } from '../src/privacy/rdp-mechanisms.ts';
import { poissonGaussianLogMoment, poissonLogMoment } from '../src/privacy/rdp-sampling.ts';
import { chooseScale } from '../src/privacy/ring-width.ts';
import { contributionBound } from '../src/privacy/rounding.ts';
import { discreteGaussianPmf } from './support/discrete-gaussian-pmf.ts';
import { GOLDEN_FOLDER, readGolden } from './support/golden.ts';

type Input = Readonly<Record<string, number>>;
interface Case {
  readonly id: string;
  readonly input: Input;
  readonly expected: unknown;
}
type Values = Readonly<Record<string, number>>;

const INTEGER_ORDERS = Array.from({ length: 255 }, (_, i) => i + 2);
const value = (input: Input, key: string): number => {
  const found = input[key];
  if (found === undefined) throw new Error(`case without ${key}`);
  return found;
};

function near(actual: number, expected: number, relative = 1e-9): void {
  expect(Math.abs(actual - expected), `${actual} against ${expected}`).toBeLessThanOrEqual(
    relative * Math.abs(expected) + 1e-300,
  );
}

function sumRdp(input: Input, order: number): number {
  const get = (key: string): number => value(input, key);
  const shareVariance = get('localSigma') ** 2;
  return discreteGaussianSumRdp(order, {
    l1Sensitivity: get('l1'),
    l2Sensitivity: get('l2'),
    variance: get('numShares') * shareVariance,
    tau: discreteGaussianSumTau([[shareVariance, get('numShares')]]),
    dimension: get('dim'),
  });
}

/** Epsilon of a composed, Poisson-sampled curve by the general bound (factor 3), over orders 2 to 256. */
function sampledEpsilon(input: Input, rdp: (order: number) => number): number {
  const probability = value(input, 'samplingProbability');
  const base = INTEGER_ORDERS.reduce(
    (map, order) => map.set(order, (order - 1) * rdp(order)),
    new Map<number, number>(),
  );
  const moment = (order: number): number => base.get(order) as number;
  const curve = (order: number): number =>
    (value(input, 'steps') * Math.min(poissonLogMoment(order, probability, moment, 3), moment(order))) / (order - 1);
  return rdpToEpsilon(curve, value(input, 'delta'), { orders: INTEGER_ORDERS });
}

const CHECKS: Readonly<Record<string, (test: Case) => void>> = {
  tau: ({ input, expected }) =>
    near(discreteGaussianSumTau([[value(input, 'localSigma') ** 2, value(input, 'numShares')]]), expected as number),
  ddgRdp: ({ input, expected }) => near(sumRdp(input, value(input, 'alpha')), expected as number),
  ddgEpsilon: ({ input, expected }) =>
    near(
      sampledEpsilon(input, (order) => sumRdp(input, order)),
      (expected as Values)['epsilon'] as number,
    ),
  skellamRdp: ({ input, expected }) =>
    near(
      skellamRdp(value(input, 'alpha'), value(input, 'l1'), value(input, 'l2'), value(input, 'variance')),
      expected as number,
    ),
  skellamEpsilon: ({ input, expected }) =>
    near(
      sampledEpsilon(input, (order) =>
        skellamRdp(order, value(input, 'l1'), value(input, 'l2'), value(input, 'variance')),
      ),
      (expected as Values)['epsilon'] as number,
    ),
  zhuWangPoisson: ({ input, expected }) => near(sampledZcdp(input, 3), expected as number),
  poissonSymmetric: ({ input, expected }) => near(sampledZcdp(input, 1), expected as number),
  zcdpEpsilon: ({ input, expected }) => {
    const accountant = zcdpAccountant().compose({ kind: 'zCdp', rho: value(input, 'rho') });
    near(accountant.epsilon(value(input, 'delta')), (expected as Values)['epsilon'] as number);
  },
  roundedL2: ({ input, expected }) => {
    // Floored to one integer when squared.
    const bound = contributionBound(value(input, 'l2'), value(input, 'dim'));
    expect(bound.squaredNorm).toBe(Math.floor((expected as number) ** 2 * (1 + 1e-12)));
  },
  scaleFactor: ({ input, expected }) =>
    near(
      chooseScale({
        bits: value(input, 'bits'),
        members: value(input, 'numClients'),
        dimension: value(input, 'dim'),
        clippingNorm: value(input, 'l2Clip'),
        localNoiseStddev: value(input, 'localStddev'),
        noiseStddevs: value(input, 'kStddevs'),
      }),
      expected as number,
    ),
  discreteGaussianPmf: ({ input, expected }) => {
    const pmf = discreteGaussianPmf(value(input, 'sigma') ** 2);
    for (const x of [0, 1, 2]) near(pmf.get(x) as number, (expected as Values)[`p${x}`] as number);
  },
  rdpExactPoisson: ({ input, expected }) => {
    const order = value(input, 'alpha');
    const logA = poissonGaussianLogMoment(order, value(input, 'samplingProbability'), value(input, 'noiseMultiplier'));
    near(logA, (expected as Values)['logA'] as number);
    near(logA / (order - 1), (expected as Values)['rdp'] as number);
  },
};

function sampledZcdp(input: Input, factor: 1 | 3): number {
  const rho = value(input, 'rho');
  const order = value(input, 'alpha');
  const moment = (l: number): number => (l - 1) * l * rho;
  return poissonLogMoment(order, value(input, 'samplingProbability'), moment, factor) / (order - 1);
}

describe('formulas against hand-checked numbers', () => {
  // Published by the authors of F11 and F12 for these parameters; small enough to check with a calculator.
  it('gives the third bound of a discrete Gaussian sum', () => {
    near(sumRdp({ l1: 10, l2: 4, localSigma: 3, numShares: 10, dim: 1024 }, 2), 16 / 90, 1e-12);
  });
  it('gives the first branch of the Skellam bound', () => {
    near(skellamRdp(2, 10, 4, 100), (2 * 16) / 200 + (3 * 16 + 60) / 40_000, 1e-12);
  });
  it('gives e - 1 times q^2 for a rare record at order 2 and noise multiplier 1', () => {
    near(poissonGaussianLogMoment(2, 1e-6, 1), Math.log1p(1e-12 * Math.expm1(1)), 1e-12);
  });
  it('agrees with the integer-order sum where the trapezoid runs at a nearly integer order', () => {
    for (const [q, z, order] of [
      [0.01, 1, 8],
      [0.5, 0.7, 3],
      [0.3, 0.3, 5],
      [0.9, 4, 40],
      [1e-4, 0.5, 12],
    ] as const) {
      near(poissonGaussianLogMoment(order + 1e-9, q, z), poissonGaussianLogMoment(order, q, z), 1e-7);
    }
  });
});

const golden = readGolden('golden_formulas.json') as { readonly cases: readonly Case[] } | null;
describe.skipIf(golden === null)(
  `published formula cases (folder ${golden ? '' : 'not found: '}${GOLDEN_FOLDER})`,
  () => {
    for (const test of golden?.cases ?? []) {
      const check = CHECKS[test.id.split('-')[0] as string];
      // Rounding keeps the bound of probability 1 - exp(-1/2); the sure bound (beta 0) is not in use.
      if (check && test.input['beta'] !== 0) it(test.id, () => check(test));
    }
  },
);
