import { describe, expect, it } from 'vitest';
import { clopperPearsonLower, clopperPearsonUpper, logBinomialTail } from '../src/audit/empirical/binomial.ts';
import { auditMembership, epsilonOfRates, rocCurve, truePositiveRateAt } from '../src/audit/empirical/membership.ts';
import { auditOneRun, oneRunLowerBound, oneRunPValue } from '../src/audit/empirical/one-run.ts';
import { auditOneShot, epsilonBetween, hockeyStick } from '../src/audit/empirical/one-shot.ts';
import { createRandom } from '../src/data/random.ts';
import { gaussianDelta, gaussianEpsilon } from '../src/privacy/analytic-gaussian.ts';
import { codeOf } from './support/code-of.ts';
import { GOLDEN_FOLDER, readGolden } from './support/golden.ts';

/** Standard normal draws (Box-Muller) from the public generator. */
function normals(seed: number): () => number {
  const random = createRandom(seed, 7);
  return () => Math.sqrt(-2 * Math.log(random.uniform(2 ** -53, 1))) * Math.cos(2 * Math.PI * random.uniform(0, 1));
}

interface Case {
  readonly id: string;
  readonly input: { m: number; guesses: number; correct: number; delta: number; significance: number };
  readonly expected: { epsilonLowerBound: number; pValueAtEps1?: number };
}

const golden = readGolden('golden_formulas.json') as { readonly cases: readonly Case[] } | null;
describe.skipIf(golden === null)(`published one-run audits (${golden ? '' : 'not found: '}${GOLDEN_FOLDER})`, () => {
  const cases = (golden?.cases ?? []).filter(({ id }) => /^(auditExternal|oneRunAudit)-/.test(id));
  it('finds them', () => expect(cases.length).toBe(10));
  it.each(cases)('$id', ({ input, expected }) => {
    const outcome = { canaries: input.m, guesses: input.guesses, correct: input.correct };
    const bound = oneRunLowerBound(outcome, input.delta, input.significance);
    expect(Math.abs(bound - expected.epsilonLowerBound)).toBeLessThan(3e-9);
    if (expected.pValueAtEps1 === undefined) return;
    const p = oneRunPValue(outcome, 1, input.delta);
    expect(Math.abs(p - expected.pValueAtEps1)).toBeLessThan(1e-9 * expected.pValueAtEps1);
  });
});

describe('binomial tails', () => {
  it('are exact far out and near one', () => {
    const half = { trials: 1_000, logSuccess: -Math.LN2, logFailure: -Math.LN2 };
    expect(logBinomialTail(half, 1_000)).toBeCloseTo(-1_000 * Math.LN2, 9);
    expect(logBinomialTail(half, 0)).toBeCloseTo(0, 12);
    // P[X >= 501] = (1 - P[X = 500]) / 2; Stirling gives P[X = 500] = .025225018178...
    expect(Math.exp(logBinomialTail(half, 501))).toBeCloseTo((1 - 0.02522501817836) / 2, 11);
  });
  it('give the Clopper-Pearson limits that have a closed form', () => {
    expect(clopperPearsonLower(50, 50, 0.05)).toBeCloseTo(0.05 ** (1 / 50), 12);
    expect(clopperPearsonUpper(0, 50, 0.05)).toBeCloseTo(1 - 0.05 ** (1 / 50), 12);
    // Beta(5, 6) at 2.5 % and Beta(6, 5) at 97.5 %
    expect(clopperPearsonLower(5, 10, 0.025)).toBeCloseTo(0.187086, 5);
    expect(clopperPearsonUpper(5, 10, 0.025)).toBeCloseTo(0.812914, 5);
    expect(codeOf(() => clopperPearsonLower(3, 2, 0.05))).toBe('USAGE_RANGE');
    expect(codeOf(() => clopperPearsonLower(1, 2, 0))).toBe('USAGE_RANGE');
  });
});

describe('one-run audit', () => {
  it('covers: the bound of randomized response exceeds its epsilon in at most the allowed share of runs', () => {
    const random = createRandom(11, 1);
    const epsilon = 1.5;
    const keep = 1 / (1 + Math.exp(-epsilon));
    let above = 0;
    let best = 0;
    for (let run = 0; run < 300; run++) {
      const included = Array.from({ length: 200 }, () => random.uniform(0, 1) < 0.5);
      const scores = included.map((isIn) => (random.uniform(0, 1) < keep === isIn ? 1 : -1));
      const { epsilonLowerBound } = auditOneRun(scores, included, 0, 0.2);
      if (epsilonLowerBound > epsilon) above++;
      best = Math.max(best, epsilonLowerBound);
    }
    // 0.2 of 300 plus three deviations; the bound is also close, so it is no constant zero.
    expect(above).toBeLessThan(60 + 3 * Math.sqrt(300 * 0.2 * 0.8));
    expect(best).toBeGreaterThan(1.2);
  });
  it('grows with what is right, falls with delta and refuses impossible counts', () => {
    const outcome = { canaries: 500, guesses: 100, correct: 90 };
    const bound = oneRunLowerBound(outcome, 1e-5, 0.05);
    expect(oneRunLowerBound({ ...outcome, correct: 95 }, 1e-5, 0.05)).toBeGreaterThan(bound);
    expect(oneRunLowerBound(outcome, 1e-3, 0.05)).toBeLessThan(bound);
    expect(codeOf(() => oneRunPValue({ ...outcome, correct: 101 }, 1, 0))).toBe('USAGE_RANGE');
    expect(codeOf(() => auditOneRun([1], [], 0, 0.05))).toBe('USAGE_RANGE');
  });
});

describe('one-shot audit', () => {
  it('finds the root of the exact Gaussian curve where the deviations are equal', () => {
    for (const mu of [0.3, 1, 4]) {
      const laws = [
        { mean: mu, stddev: 1 },
        { mean: 0, stddev: 1 },
      ] as const;
      expect(hockeyStick(laws[0], laws[1], 1)).toBeCloseTo(gaussianDelta(1 / mu, 1), 12);
      expect(epsilonBetween(laws[0], laws[1], 1e-5)).toBeCloseTo(gaussianEpsilon(1 / mu, 1e-5), 8);
    }
  });
  it('takes the worse of both directions where they differ, as an integral on a grid does', () => {
    const [p, q] = [
      { mean: 1, stddev: 1.5 },
      { mean: 0, stddev: 1 },
    ];
    const density = (x: number, { mean, stddev }: typeof p): number =>
      Math.exp(-(((x - mean) / stddev) ** 2) / 2) / (stddev * Math.sqrt(2 * Math.PI));
    const integral = (a: typeof p, b: typeof p): number => {
      let sum = 0;
      for (let x = -20; x < 20; x += 1e-3) sum += 1e-3 * Math.max(0, density(x, a) - Math.E * density(x, b));
      return sum;
    };
    expect(hockeyStick(p, q, 1)).toBeCloseTo(integral(p, q), 6);
    expect(hockeyStick(q, p, 1)).toBeCloseTo(integral(q, p), 6);
    const root = epsilonBetween(p, q, 1e-5);
    expect(epsilonBetween(q, p, 1e-5)).toBe(root);
    expect(Math.max(hockeyStick(p, q, root), hockeyStick(q, p, root))).toBeCloseTo(1e-5, 9);
  });
  it('estimates the shift of its cosines and stays at zero without one', () => {
    const next = normals(3);
    const dimension = 10_000;
    const cosines = (shift: number): number[] =>
      Array.from({ length: 200 }, () => (shift + next()) / Math.sqrt(dimension));
    const found = auditOneShot(cosines(2), dimension, 1e-5, 0.05);
    const exact = gaussianEpsilon(0.5, 1e-5);
    expect(Math.abs(found.epsilonEstimate - exact)).toBeLessThan(0.4 * exact);
    expect(found.epsilonLowerBound).toBeLessThan(exact);
    expect(found.epsilonLowerBound).toBeGreaterThan(0.5 * exact);
    expect(auditOneShot(cosines(0), dimension, 1e-5, 0.05).epsilonLowerBound).toBe(0);
    expect(codeOf(() => auditOneShot([1, 2], 10, 1e-5, 0.05))).toBe('USAGE_RANGE');
  });
});

describe('membership inference', () => {
  it('gives ROC points by hand', () => {
    const roc = rocCurve([3, 2, 1], [2, 0, -1]);
    expect(roc.map(({ truePositiveRate, falsePositiveRate }) => [truePositiveRate, falsePositiveRate])).toEqual([
      [1 / 3, 0],
      [2 / 3, 1 / 3],
      [1, 1 / 3],
      [1, 2 / 3],
      [1, 1],
    ]);
    expect(truePositiveRateAt(roc, 0.01)).toBe(1 / 3);
    expect(truePositiveRateAt(roc, 0.4)).toBe(1);
  });
  it('turns perfect rates into the bound of Clopper and Pearson, in both directions', () => {
    const limit = 0.025 ** (1 / 400);
    const expected = Math.log((limit - 1e-5) / (1 - limit));
    const perfect = { truePositives: 400, inside: 400, falsePositives: 0, outside: 400 };
    expect(epsilonOfRates(perfect, 1e-5, 0.05)).toBeCloseTo(expected, 9);
    // Half of those inside are missed: the first direction says all there is.
    expect(epsilonOfRates({ ...perfect, truePositives: 200 }, 1e-5, 0.05)).toBeGreaterThan(3.5);
    // Half of those outside are taken: only the opposite test is sure.
    expect(epsilonOfRates({ ...perfect, falsePositives: 200 }, 1e-5, 0.05)).toBeGreaterThan(3.5);
  });
  it('finds what is there and nothing where there is nothing', () => {
    const next = normals(5);
    const included = Array.from({ length: 2_000 }, (_, j) => j % 3 === 0);
    const audit = (shift: number): number =>
      auditMembership(
        included.map((isIn) => next() + (isIn ? shift : 0)),
        included,
        1e-5,
        0.05,
      ).epsilonLowerBound;
    expect(audit(0)).toBeLessThan(0.3);
    expect(audit(2)).toBeGreaterThan(1.5);
    expect(audit(2)).toBeLessThan(gaussianEpsilon(0.5, 1e-5));
    expect(codeOf(() => auditMembership([1, 2], [true, true], 0, 0.05))).toBe('USAGE_RANGE');
  });
});
