import { rdpToDelta } from './rdp-conversion.ts';

type Curve = (order: number) => number;

/**
 * Orders at which the second divergence of a selection is taken: tenths, integers and powers of two. Any order gives a
 * valid bound; a list keeps the value reproducible.
 */
const INNER_ORDERS: readonly number[] = [
  ...Array.from({ length: 99 }, (_, i) => 1 + (i + 1) / 10),
  ...Array.from({ length: 53 }, (_, i) => 11 + i),
  128,
  256,
  512,
  1024,
];

/** Mean of the truncated negative binomial with stopping parameter `gamma`; falls from infinity to 1. */
function meanRepetitions(gamma: number, shape: number): number {
  if (shape === 0) return (1 / gamma - 1) / Math.log(1 / gamma);
  return (shape * (1 - gamma)) / (gamma * -Math.expm1(shape * Math.log(gamma)));
}

function stoppingParameter(mean: number, shape: number): number {
  let [low, high] = [Number.MIN_VALUE, 1];
  for (let step = 0; step < 1_100 && high / low > 1 + 1e-15; step++) {
    // Geometric bisection: the parameter of a large mean is tiny.
    const middle = Math.sqrt(low) * Math.sqrt(high);
    if (meanRepetitions(middle, shape) > mean) low = middle;
    else high = middle;
  }
  return high;
}

/**
 * RDP of running a mechanism K times, K from a truncated negative binomial distribution (`shape` 0: logarithmic, 1:
 * geometric) with the given mean, and publishing the best result.
 * @see Papernot, Steinke 2021, Theorem 2
 */
function negativeBinomialSelection(base: Curve, mean: number, shape: number): Curve {
  const logInverse = -Math.log(stoppingParameter(mean, shape));
  const inner = Math.min(...INNER_ORDERS.map((order) => (1 - 1 / order) * base(order) + logInverse / order));
  return (order) => base(order) + (1 + shape) * inner + Math.log(mean) / (order - 1);
}

/** The same with K Poisson, whose mean counts runs that publish nothing too. @see Papernot, Steinke 2021, Theorem 6 */
function poissonSelection(base: Curve, mean: number): Curve {
  return (order) => {
    const delta = rdpToDelta(base, Math.log1p(1 / (order - 1)), { orders: INNER_ORDERS });
    return base(order) + mean * delta + Math.log(mean) / (order - 1);
  };
}

/** RDP of repeat-and-select; without a shape the number of runs is Poisson. */
export function repeatAndSelectCurve(base: Curve, mean: number, shape: number | undefined): Curve {
  return shape === undefined ? poissonSelection(base, mean) : negativeBinomialSelection(base, mean, shape);
}

/**
 * RDP of binary trees of partial sums with one participation of each record: it is in every node above it, once in one of
 * the trees. Units: `stepCounts` in leaves of each tree.
 * @see Kairouz et al. 2021 (DP-FTRL); privacy F24
 */
export function treeAggregationRdp(order: number, noiseMultiplier: number, stepCounts: readonly number[]): number {
  const height = Math.max(...stepCounts.map((steps) => Math.ceil(Math.log2(steps + 1))));
  return (order * height) / (2 * noiseMultiplier ** 2);
}

/** RDP of any epsilon-DP mechanism: randomized response is the worst of them. @see Kairouz, Oh, Viswanath 2015 */
export function pureDpRdp(order: number, epsilon: number): number {
  // log(p^a q^(1-a) + q^a p^(1-a)) with p = e^epsilon q, by the larger term.
  const logQ = -epsilon - Math.log1p(Math.exp(-epsilon));
  return (logQ + order * epsilon + Math.log1p(Math.exp(epsilon - 2 * order * epsilon))) / (order - 1);
}
