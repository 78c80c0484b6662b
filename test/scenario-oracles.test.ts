import { describe, expect, it } from 'vitest';
import { ORACLES } from '../experiments/scenarios/oracles.ts';
import { generateLinearMixture, LINEAR_MIXTURE, linearMixtureDistance } from '../src/data/oracles/linear-mixture.ts';
import {
  generatePointEstimation,
  POINT_ESTIMATION,
  pointEstimationMse,
  solvePointEstimation,
} from '../src/data/oracles/point-estimation.ts';
import type { RegressionData } from '../src/data/oracles/problem.ts';
import {
  localStepsFixedPoint,
  QUADRATICS,
  quadraticParticipants,
  quadraticsOptimum,
} from '../src/data/oracles/quadratics.ts';
import {
  generateSharedSubspace,
  orthonormalColumns,
  SHARED_SUBSPACE,
  sharedSubspaceLocalLoss,
  subspaceDistanceSquared,
} from '../src/data/oracles/shared-subspace.ts';
import { generateSineTasks, sineTasksStartMse } from '../src/data/oracles/sine-tasks.ts';
import { codeOf } from './support/code-of.ts';

const mean = (values: ArrayLike<number>): number => Array.from(values).reduce((sum, v) => sum + v, 0) / values.length;

/** Solves A x = b for a symmetric positive matrix by elimination; both are overwritten. Shapes: n x n, n. */
function solve(matrix: Float64Array, right: Float64Array): Float64Array {
  const n = right.length;
  const at = (i: number, j: number): number => matrix[i * n + j] as number;
  for (let p = 0; p < n; p++) {
    for (let i = p + 1; i < n; i++) {
      const factor = at(i, p) / at(p, p);
      for (let j = p; j < n; j++) matrix[i * n + j] = at(i, j) - factor * at(p, j);
      right[i] = (right[i] as number) - factor * (right[p] as number);
    }
  }
  for (let i = n - 1; i >= 0; i--) {
    let left = right[i] as number;
    for (let j = i + 1; j < n; j++) left -= at(i, j) * (right[j] as number);
    right[i] = left / at(i, i);
  }
  return right;
}

function leastSquares(parts: readonly RegressionData[], d: number): Float64Array {
  const gram = new Float64Array(d * d);
  const right = new Float64Array(d);
  for (const { count, features, targets } of parts) {
    for (let r = 0; r < count; r++) {
      for (let i = 0; i < d; i++) {
        const x = features[r * d + i] as number;
        right[i] = (right[i] as number) + x * (targets[r] as number);
        for (let j = 0; j < d; j++) gram[i * d + j] = (gram[i * d + j] as number) + x * (features[r * d + j] as number);
      }
    }
  }
  return solve(gram, right);
}

const distance = (a: Float64Array, b: Float64Array): number =>
  Math.sqrt(a.reduce((sum, value, i) => sum + (value - (b[i] as number)) ** 2, 0));

describe('point estimation', () => {
  const malicious = { ...POINT_ESTIMATION, participants: 16, malicious: 8 };

  it('has the published optimum, with and without malicious participants', () => {
    const honest = solvePointEstimation();
    expect(honest.lambda).toBeCloseTo(2.1333, 4);
    expect(honest.mse).toBeCloseTo(0.008624, 6);
    expect([honest.localMse, honest.globalMse].map((v) => v.toFixed(5))).toEqual(['0.02133', '0.01142']);
    expect(solvePointEstimation(malicious).lambda).toBeCloseTo(1.1852, 4);
    expect(solvePointEstimation(malicious).mse).toBeCloseTo(0.010486, 6);
    for (const problem of [POINT_ESTIMATION, malicious]) {
      const { lambda, mse, localMse, globalMse } = solvePointEstimation(problem);
      for (const other of [0.9, 1.1]) expect(pointEstimationMse(problem, other * lambda)).toBeGreaterThan(mse);
      expect(pointEstimationMse(problem, 0)).toBeCloseTo(localMse, 12);
      expect(pointEstimationMse(problem, 1e9)).toBeCloseTo(globalMse, 8);
    }
    expect(codeOf(() => solvePointEstimation({ ...POINT_ESTIMATION, malicious: 8 }))).toBe('USAGE_RANGE');
    expect(codeOf(() => solvePointEstimation({ ...POINT_ESTIMATION, pointStddev: 0 }))).toBe('USAGE_RANGE');
  });

  it('draws data whose estimates have these errors', () => {
    for (const problem of [POINT_ESTIMATION, malicious]) {
      const { lambda, mse, localMse } = solvePointEstimation(problem);
      const errors: number[] = [];
      const local: number[] = [];
      for (let seed = 0; seed < 600; seed++) {
        const { participants, points } = generatePointEstimation(seed, problem);
        const means = participants.map(({ train }) => mean(train.targets));
        const global = mean(means);
        participants.forEach(({ group }, k) => {
          if (group === 1) return;
          const point = points[k] as number;
          errors.push((((means[k] as number) + lambda * global) / (1 + lambda) - point) ** 2);
          local.push(((means[k] as number) - point) ** 2);
        });
      }
      // 4,800 squared errors, partly dependent: five standard errors of an independent mean, doubled.
      expect(Math.abs(mean(errors) / mse - 1)).toBeLessThan(10 * Math.sqrt(2 / errors.length));
      expect(Math.abs(mean(local) / localMse - 1)).toBeLessThan(5 * Math.sqrt(2 / local.length));
    }
  });
});

describe('quadratics', () => {
  it('has the published fixed points', () => {
    expect(quadraticsOptimum()).toBe(-0.6);
    expect(localStepsFixedPoint({ stepSize: 0.1, steps: 10, proximal: 0 })).toBeCloseTo(-0.20825202, 8);
    expect(localStepsFixedPoint({ stepSize: 0.1, steps: 10, proximal: 1 })).toBeCloseTo(-0.28334, 5);
    expect(localStepsFixedPoint({ stepSize: 0.1, steps: 1, proximal: 3 })).toBeCloseTo(-0.6, 12);
    expect(codeOf(() => localStepsFixedPoint({ stepSize: 0.5, steps: 1, proximal: 0 }))).toBe('USAGE_RANGE');
    expect(codeOf(() => localStepsFixedPoint({ stepSize: 0.1, steps: 0, proximal: 0 }))).toBe('USAGE_RANGE');
  });

  it('is where local training on the records stands still', () => {
    for (const proximal of [0, 1, 0.3]) {
      let w = 5;
      for (let round = 0; round < 400; round++) {
        w = mean(
          quadraticParticipants().map(({ train: { features, targets } }) => {
            const [a, b] = [features[0] as number, targets[0] as number];
            let x = w;
            for (let step = 0; step < 10; step++) x -= 0.1 * (a * (a * x - b) + proximal * (x - w));
            return x;
          }),
        );
      }
      expect(w).toBeCloseTo(localStepsFixedPoint({ stepSize: 0.1, steps: 10, proximal }), 12);
    }
    expect(QUADRATICS).toHaveLength(2);
  });
});

describe('shared subspace', () => {
  it('measures the angle between subspaces', () => {
    const axes = (...picked: number[]): Float64Array => {
      const matrix = new Float64Array(8);
      picked.forEach((row, column) => {
        matrix[2 * row + column] = 1;
      });
      return matrix;
    };
    expect(subspaceDistanceSquared(axes(0, 1), axes(0, 1))).toBe(0);
    expect(subspaceDistanceSquared(axes(1, 0), axes(0, 1))).toBe(0);
    expect(subspaceDistanceSquared(axes(0, 2), axes(0, 1))).toBe(1);
    // A direction 1e-6 off: no cancellation.
    const tilted = Float64Array.from([1, 0, 0, 1, 1e-6, 0, 0, 0]);
    expect(subspaceDistanceSquared(tilted, axes(0, 1))).toBeCloseTo(1e-12, 20);
    expect(codeOf(() => orthonormalColumns(Float64Array.of(1, 1, 1, 1), 2))).toBe('USAGE_RANGE');
    expect(codeOf(() => subspaceDistanceSquared(axes(0), new Float64Array(6)))).toBe('USAGE_RANGE');
  });

  it('cannot be solved alone and is solved by alternating heads and body', () => {
    const { participants, body, heads } = generateSharedSubspace(1);
    const d = SHARED_SUBSPACE.features;
    // 200 squares of variance 1 / 2: five standard errors.
    expect(Math.abs(mean(heads.map((w) => w * w)) - 0.5)).toBeLessThan(0.25);
    expect(sharedSubspaceLocalLoss()).toBe(0.25);
    const estimateOf = (seed: number): Float64Array => generateSharedSubspace(seed).body;
    let estimate = estimateOf(2);
    const start = subspaceDistanceSquared(estimate, body);
    expect(start).toBeGreaterThan(0.5);
    for (let t = 0; t < 50; t++) {
      const gradient = new Float64Array(2 * d);
      for (const { train } of participants) {
        const { count, features, targets } = train;
        const latent = new Float64Array(2 * count);
        for (let r = 0; r < count; r++)
          for (let j = 0; j < d; j++)
            for (const c of [0, 1])
              latent[2 * r + c] =
                (latent[2 * r + c] as number) + (features[r * d + j] as number) * (estimate[2 * j + c] as number);
        const head = leastSquares([{ count, featureLength: 2, features: latent, targets }], 2);
        for (let r = 0; r < count; r++) {
          const [h0, h1] = [head[0] as number, head[1] as number];
          const residual = (latent[2 * r] as number) * h0 + (latent[2 * r + 1] as number) * h1 - (targets[r] as number);
          for (let j = 0; j < d; j++) {
            const g = (residual * (features[r * d + j] as number)) / (count * participants.length);
            gradient[2 * j] = (gradient[2 * j] as number) + g * h0;
            gradient[2 * j + 1] = (gradient[2 * j + 1] as number) + g * h1;
          }
        }
      }
      estimate = orthonormalColumns(
        estimate.map((value, i) => value - (gradient[i] as number)),
        2,
      );
    }
    expect(subspaceDistanceSquared(estimate, body)).toBeLessThan(1e-3 * start);
  });
});

describe('linear mixture', () => {
  it('has the published distance, and least squares that knows the clusters reaches it', () => {
    expect(linearMixtureDistance().toFixed(4)).toBe('0.0204');
    const { participants, parameters } = generateLinearMixture(1);
    expect(parameters.map((theta) => theta.reduce((sum, v) => sum + v * v, 0).toFixed(12))).toEqual([
      '1.000000000000',
      '1.000000000000',
    ]);
    const own = participants.filter(({ group }) => group === 1).map(({ train }) => train);
    expect(own).toHaveLength(50);
    const found = distance(leastSquares(own, 200), parameters[1] ?? new Float64Array(200));
    // The square of the distance has relative deviation sqrt(2 / 200).
    expect(Math.abs(found / linearMixtureDistance() - 1)).toBeLessThan(0.25);
    expect(codeOf(() => linearMixtureDistance({ ...LINEAR_MIXTURE, records: 4 }))).toBe('USAGE_RANGE');
  });
});

describe('sine tasks', () => {
  it('starts at the published error and holds exact values', () => {
    expect(sineTasksStartMse()).toBeCloseTo(4.2517, 4);
    const tasks = generateSineTasks(1, { participants: 4000, records: 10 });
    const errors = tasks.map(({ test }) => mean(test.targets.map((y) => y * y)));
    expect(Math.abs(mean(errors) / sineTasksStartMse() - 1)).toBeLessThan(0.08);
    for (const { train, amplitude, phase } of tasks.slice(0, 20)) {
      expect(train.count).toBe(10);
      train.targets.forEach((y, i) => {
        expect(y).toBeCloseTo(amplitude * Math.sin((train.features[i] as number) + phase), 13);
      });
    }
  });
});

/** Frozen: other bytes mean other data. Seed 1. An independent implementation of the first gives the same hash. */
const FROZEN: Readonly<Record<string, string>> = {
  'oracle/point-estimation': 'edc21dc951b8343284d3e055d9383f5f7dd7c64c808fc7c0f292576aed9677b1',
  'oracle/point-estimation-malicious': '17ced48091e3a1bd65e98ba4a4b720e9b5cd93cecc4cd0ecdc3028758fa6444b',
  'oracle/quadratics': 'd13c4a6e78ff1ba69f1f7af0f4eae45ded0d4bc0501c74714eea8f21fb7dc9ef',
  'oracle/shared-subspace': '8721e2a1f392bc241f0d518c2677802757fc11d96bb0c03fbf623802c660b859',
  'oracle/linear-mixture': '5c4fc08ad346269df30c14b817b41389ce37cc9ed0c361268566b7decc45ce7b',
  'oracle/sine-tasks': '62b661af7066299e5f274bb18ada0e3c1a55d1bfc6831a540142890351337dc9',
};

describe('oracle problems', () => {
  it('are the same everywhere', () => {
    const hashes = Object.fromEntries(ORACLES.map(({ id, generate }) => [id, generate(1).manifest.sha256]));
    expect(hashes).toEqual(FROZEN);
    const { exact, manifest, participants } = ORACLES[0]?.generate(2) ?? expect.fail('no oracle');
    expect(manifest.records).toEqual(participants.map(({ train }) => train.count));
    expect([manifest.scenario, manifest.seed]).toEqual([ORACLES[0]?.id, 2]);
    expect(manifest.sha256).not.toBe(FROZEN[manifest.scenario]);
    expect(exact['lambda']).toBeCloseTo(2.1333, 4);
  });
});
