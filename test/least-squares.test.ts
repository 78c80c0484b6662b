import { expect, it } from 'vitest';
import { solveLeastSquares } from '../src/data/oracles/least-squares.ts';
import type { RegressionData } from '../src/data/oracles/problem.ts';

const data = (rows: readonly (readonly number[])[], targets: readonly number[]): RegressionData => ({
  count: rows.length,
  featureLength: rows[0]?.length ?? 0,
  features: Float64Array.from(rows.flat()),
  targets: Float64Array.from(targets),
});

it('solves least squares over the records of everybody', () => {
  // X^T X = [[14, 6], [6, 3]] of determinant 6, X^T y = [17, 9]: (51 - 54) / 6 and (126 - 102) / 6; trace 17 / 6.
  const parts = [
    data(
      [
        [1, 1],
        [2, 1],
      ],
      [4, 2],
    ),
    data([[3, 1]], [3]),
  ];
  const { estimate, inverseTrace } = solveLeastSquares(parts);
  expect(estimate[0]).toBeCloseTo(-0.5, 12);
  expect(estimate[1]).toBeCloseTo(4, 12);
  expect(inverseTrace).toBeCloseTo(17 / 6, 12);
});

it('refuses records that do not tell the parameters', () => {
  const flat = data(
    [
      [1, 2],
      [2, 4],
    ],
    [1, 2],
  );
  expect(() => solveLeastSquares([flat])).toThrow(/"records" expected 2 independent features/);
});
