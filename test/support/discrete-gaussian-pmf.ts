/** Probabilities of N_Z(0, variance) out to 12 deviations, by direct summation of the definition. */
export function discreteGaussianPmf(variance: number): Map<number, number> {
  const reach = Math.ceil(12 * Math.sqrt(variance)) + 4;
  const pmf = new Map<number, number>();
  let total = 0;
  for (let x = reach; x >= 0; x--) total += Math.exp(-(x * x) / (2 * variance)) * (x === 0 ? 1 : 2);
  for (let x = -reach; x <= reach; x++) pmf.set(x, Math.exp(-(x * x) / (2 * variance)) / total);
  return pmf;
}

export function expectedMoments(pmf: ReadonlyMap<number, number>): { second: number; fourth: number } {
  let second = 0;
  let fourth = 0;
  for (const [x, p] of pmf) {
    second += p * x ** 2;
    fourth += p * x ** 4;
  }
  return { second, fourth };
}

/**
 * Pearson's chi-square of counted values against probabilities, as a standard score (0 expected, deviation about 1).
 * Cells expected less than 20 times are joined into one.
 */
export function chiSquareScore(
  values: Iterable<number>,
  cellOf: (value: number) => number,
  probabilities: ReadonlyMap<number, number>,
): { readonly z: number; readonly cells: number } {
  const counts = new Map<number, number>();
  let total = 0;
  for (const value of values) {
    const cell = cellOf(value);
    counts.set(cell, (counts.get(cell) ?? 0) + 1);
    total += 1;
  }
  let statistic = 0;
  let cells = 0;
  let restExpected = total;
  let restCount = total;
  for (const [cell, probability] of probabilities) {
    const expected = total * probability;
    if (expected < 20) continue;
    const count = counts.get(cell) ?? 0;
    statistic += (count - expected) ** 2 / expected;
    cells += 1;
    restExpected -= expected;
    restCount -= count;
  }
  if (restExpected > 0.5) {
    statistic += (restCount - restExpected) ** 2 / restExpected;
    cells += 1;
  }
  const freedom = cells - 1;
  return { z: (statistic - freedom) / Math.sqrt(2 * freedom), cells };
}
