import { describe, expect, it } from 'vitest';
import { pldAccountant, rdpAccountant } from '../src/privacy/accountant.ts';
import type { DpEvent } from '../src/privacy/events.ts';
import { rdpCurve } from '../src/privacy/rdp-curve.ts';

/*
 * Truncated Poisson samples and Skellam noise on several coordinates, composed a second time: sums over all outcomes, without
 * a grid, a transform or a line of what they check.
 */

/** Losses log P - log Q with their mass under P: quadrature nodes of a line, or points of a lattice. */
interface Outcomes {
  readonly losses: Float64Array;
  readonly masses: Float64Array;
}

/** Outcomes by rising loss, with the sums of P and of Q from each on. */
function tailSums({ losses, masses }: Outcomes): { at: Float64Array; upper: Float64Array; lower: Float64Array } {
  const order = [...losses.keys()].sort((a, b) => (losses[a] as number) - (losses[b] as number));
  const at = Float64Array.from(order, (i) => losses[i] as number);
  const [upper, lower] = [new Float64Array(order.length + 1), new Float64Array(order.length + 1)];
  for (let k = order.length - 1; k >= 0; k--) {
    const mass = masses[order[k] as number] as number;
    upper[k] = (upper[k + 1] as number) + mass;
    lower[k] = (lower[k + 1] as number) + mass * Math.exp(-(at[k] as number));
  }
  return { at, upper, lower };
}

/** delta(eps) of the product of two independent parts: over the outcomes of one, those of the other above what is left. */
function deltaOfProduct(first: Outcomes, second: Outcomes, epsilon: number): number {
  const { at, lower, upper } = tailSums(second);
  let delta = 0;
  first.losses.forEach((loss, i) => {
    let [a, b] = [0, at.length];
    while (a < b) {
      const middle = (a + b) >> 1;
      if ((at[middle] as number) > epsilon - loss) b = middle;
      else a = middle + 1;
    }
    // (1 - e^{eps - l - l'})+ summed over l' > eps - l.
    const kept = (upper[a] as number) - Math.exp(epsilon - loss) * (lower[a] as number);
    delta += (first.masses[i] as number) * kept;
  });
  return delta;
}

const ONE: Outcomes = { losses: Float64Array.of(0), masses: Float64Array.of(1) };

function product(a: Outcomes, b: Outcomes): Outcomes {
  const size = a.losses.length * b.losses.length;
  const [losses, masses] = [new Float64Array(size), new Float64Array(size)];
  let at = 0;
  a.losses.forEach((loss, i) => {
    b.losses.forEach((other, j) => {
      losses[at] = loss + other;
      masses[at++] = (a.masses[i] as number) * (b.masses[j] as number);
    });
  });
  return { losses, masses };
}

/** delta of so many equal releases. */
const deltaOf = (steps: number, one: Outcomes, epsilon: number): number =>
  steps === 1
    ? deltaOfProduct(ONE, one, epsilon)
    : steps === 2
      ? deltaOfProduct(one, one, epsilon)
      : deltaOfProduct(product(one, one), one, epsilon);

/** Densities on a line as outcomes, by the trapezoid rule. */
function onLine(upper: (x: number) => number, lower: (x: number) => number, reach: number, nodes: number): Outcomes {
  const h = (2 * reach) / (nodes - 1);
  const points = Array.from({ length: nodes }, (_, i) => i * h - reach);
  return {
    losses: Float64Array.from(points, (x) => Math.log(upper(x) / lower(x))),
    masses: Float64Array.from(points, (x) => upper(x) * h),
  };
}

function together(...parts: readonly (readonly [weight: number, outcomes: Outcomes])[]): Outcomes {
  return {
    losses: Float64Array.from(parts.flatMap(([, { losses }]) => [...losses])),
    masses: Float64Array.from(parts.flatMap(([weight, { masses }]) => [...masses].map((mass) => weight * mass))),
  };
}

/** A Gaussian mixture: weights by mean. */
const mixtureOf =
  (deviation: number, weights: ReadonlyMap<number, number>) =>
  (x: number): number => {
    let sum = 0;
    for (const [mean, weight] of weights) sum += weight * Math.exp(-((x - mean) ** 2) / (2 * deviation ** 2));
    return sum / (deviation * Math.sqrt(2 * Math.PI));
  };

/** P[Bin(n, q) = k] for all k, by Pascal's rule. */
function binomialLaw(n: number, q: number): number[] {
  let law = [1];
  for (let i = 0; i < n; i++)
    law = Array.from({ length: law.length + 1 }, (_, k) => (law[k] ?? 0) * (1 - q) + (law[k - 1] ?? 0) * q);
  return law;
}

const above = (law: readonly number[], most: number): number => law.slice(most + 1).reduce((sum, p) => sum + p, 0);

interface Truncated {
  readonly populationSize: number;
  readonly probability: number;
  readonly maxBatchSize: number;
  readonly noiseMultiplier: number;
}

/** The published pair, written out: plain samples, or a full batch, out of which the record pushes another one. */
function publishedPair(event: Truncated, side: 'remove' | 'add', nodes: number): Outcomes {
  const { maxBatchSize: most, noiseMultiplier: z, populationSize: n, probability: q } = event;
  const full = above(binomialLaw(n - 1, q), most - 1);
  const seen = full === 0 ? 0 : (above(binomialLaw(n, q), most) * most) / (full * n);
  const gaussian = (deviation: number, ...means: readonly (readonly [number, number])[]) =>
    mixtureOf(deviation, new Map(means));
  const drawn = gaussian(z, [0, 1 - q], [1, q]);
  const still = gaussian(z, [0, 1]);
  const reach = 1 + 10 * z;
  const plain = side === 'remove' ? onLine(drawn, still, reach, nodes) : onLine(still, drawn, reach, nodes);
  const pushedIn = gaussian(z / 2, [0, 1 - seen], [-1, seen]);
  const pushedOut = gaussian(z / 2, [0, 1 - seen], [1, seen]);
  return together([1 - full, plain], [full, onLine(pushedIn, pushedOut, reach, nodes)]);
}

/** Sums of a truncated Poisson sample: every set of drawn records, cut to `most` by every set of that size. */
function truncatedSums(values: readonly number[], q: number, most: number): Map<number, number> {
  const law = new Map<number, number>();
  const add = (sum: number, p: number): void => void law.set(sum, (law.get(sum) ?? 0) + p);
  for (let set = 0; set < 1 << values.length; set++) {
    const drawn = values.filter((_, i) => (set >> i) & 1);
    const p = q ** drawn.length * (1 - q) ** (values.length - drawn.length);
    if (drawn.length <= most) {
      add(
        drawn.reduce((a, b) => a + b, 0),
        p,
      );
      continue;
    }
    const kept: number[] = [];
    for (let part = 0; part < 1 << drawn.length; part++) {
      const chosen = drawn.filter((_, i) => (part >> i) & 1);
      if (chosen.length === most) kept.push(chosen.reduce((a, b) => a + b, 0));
    }
    for (const sum of kept) add(sum, p / kept.length);
  }
  return law;
}

const TRUNCATED: readonly Truncated[] = [
  { populationSize: 5, probability: 0.5, maxBatchSize: 2, noiseMultiplier: 1.5 },
  { populationSize: 6, probability: 0.3, maxBatchSize: 3, noiseMultiplier: 0.9 },
  { populationSize: 4, probability: 0.7, maxBatchSize: 1, noiseMultiplier: 3 },
  { populationSize: 40, probability: 0.1, maxBatchSize: 6, noiseMultiplier: 1 },
];

describe('truncated Poisson samples', () => {
  const spent = (event: Truncated, steps: number) =>
    pldAccountant().compose({ kind: 'truncatedPoissonGaussian', ...event }, steps);

  it.each(TRUNCATED)('compose to what direct integration of the pair gives: %j', (event) => {
    for (const [steps, nodes] of [
      [1, 30_001],
      [2, 6_001],
      [3, 401],
    ] as const) {
      const sides = (['remove', 'add'] as const).map((side) => publishedPair(event, side, nodes));
      for (const epsilon of [0.1, 0.5, 1, 2, 4]) {
        const direct = Math.max(...sides.map((one) => deltaOf(steps, one, epsilon)));
        if (direct < 1e-9) continue;
        const found = spent(event, steps).delta(epsilon);
        expect(found / direct).toBeGreaterThan(1 - 2e-4);
        expect(found / direct).toBeLessThan(1 + 1e-3);
      }
    }
  });

  it.each(TRUNCATED.slice(0, 3))('are never below the mechanism itself, on any data set of +-1: %j', (event) => {
    const { maxBatchSize, noiseMultiplier: z, populationSize: n, probability: q } = event;
    let tightest = 0;
    for (let plus = 0; plus < n; plus++) {
      const others = Array.from({ length: n - 1 }, (_, i) => (i < plus ? 1 : -1));
      const densityOf = (values: readonly number[]) => mixtureOf(z, truncatedSums(values, q, maxBatchSize));
      const [without, reach] = [densityOf(others), maxBatchSize + 10 * z];
      for (const record of [1, -1]) {
        const with_ = densityOf([...others, record]);
        for (const one of [onLine(with_, without, reach, 1_201), onLine(without, with_, reach, 1_201)])
          for (const steps of [1, 2])
            for (const epsilon of [0.05, 0.3, 1, 2]) {
              const exact = deltaOf(steps, one, epsilon);
              const found = spent(event, steps).delta(epsilon);
              expect(found).toBeGreaterThanOrEqual(exact * (1 - 1e-4) - 1e-12);
              if (exact > 1e-6) tightest = Math.max(tightest, exact / found);
            }
      }
    }
    // A bound that no data set comes near would hide a wrong one.
    expect(tightest).toBeGreaterThan(0.2);
  });
});

const FRACTION = 400n;

/** Skellam probabilities on -half..half: sum over m of (v/2)^{2m+k} / (m! (m+k)!) in 400-bit fixed point, over their sum. */
function skellamLaw(variance: number, half: number): number[] {
  const mean = BigInt(Math.round(variance * 500));
  const scaled = (k: number): bigint => {
    let term = 1n << FRACTION;
    for (let i = 1; i <= k; i++) term = (term * mean) / (1000n * BigInt(i));
    let sum = 0n;
    for (let m = 1; term > 0n; m++) {
      sum += term;
      term = (term * mean * mean) / (1_000_000n * BigInt(m) * BigInt(m + k));
    }
    return sum;
  };
  const masses = Array.from({ length: half + 1 }, (_, k) => scaled(k));
  const total = masses.reduce((sum, mass, k) => sum + (k === 0 ? mass : 2n * mass), 0n);
  return Array.from({ length: 2 * half + 1 }, (_, i) => Number(masses[Math.abs(i - half)]) / Number(total));
}

/** One coordinate, moved by `shift` under P. */
function movedSkellam(law: readonly number[], shift: number): Outcomes {
  const points = [...law.keys()].filter((i) => law[i - shift] !== undefined);
  return {
    losses: Float64Array.from(points, (i) => Math.log((law[i - shift] as number) / (law[i] as number))),
    masses: Float64Array.from(points, (i) => law[i - shift] as number),
  };
}

/** Moves of all coordinates with a norm of at most `sensitivity`, one of each orbit: whole numbers, falling, not all 0. */
function movesWithin(sensitivity: number, dimension: number): number[][] {
  const extend = (move: number[]): number[][] => {
    if (move.length === dimension) return [move];
    const most = move.at(-1) ?? Math.floor(sensitivity);
    return Array.from({ length: most + 1 }, (_, x) => [...move, x])
      .filter((next) => next.reduce((sum, x) => sum + x * x, 0) <= sensitivity ** 2 + 1e-9)
      .flatMap(extend);
  };
  return extend([]).filter(([first = 0]) => first > 0);
}

const SKELLAM = [
  { variance: 4, sensitivity: 2, dimension: 2 },
  { variance: 9, sensitivity: 3, dimension: 2 },
  { variance: 12.5, sensitivity: Math.sqrt(3), dimension: 3 },
  { variance: 30, sensitivity: 2, dimension: 4 },
] as const;

describe('Skellam noise on several coordinates', () => {
  const eventOf = (numbers: (typeof SKELLAM)[number]): DpEvent => ({ kind: 'skellam', ...numbers, symmetric: true });
  const lawOf = (variance: number): number[] => skellamLaw(variance, Math.ceil(14 * Math.sqrt(variance) + 20));

  it.each(SKELLAM)('has no Renyi divergence above its curve, whatever moves: %j', (numbers) => {
    const { dimension, sensitivity, variance } = numbers;
    const law = lawOf(variance);
    const curve = rdpCurve(eventOf(numbers), 'add-remove');
    for (const order of [2, 3, 5, 8]) {
      const one = Array.from({ length: Math.floor(sensitivity) + 1 }, (_, shift) => {
        const { losses, masses } = movedSkellam(law, shift);
        return Math.log(masses.reduce((sum, p, i) => sum + p * Math.exp((order - 1) * (losses[i] as number)), 0));
      });
      const exact = movesWithin(sensitivity, dimension).map(
        (move) => move.reduce((sum, shift) => sum + (one[shift] as number), 0) / (order - 1),
      );
      expect(curve(order)).toBeGreaterThanOrEqual(Math.max(...exact) * (1 - 1e-9));
      // The Gaussian part is exact; what the bound adds to it is small beside it.
      expect(Math.max(...exact)).toBeGreaterThan(0.4 * curve(order));
    }
  });

  it.each(SKELLAM)('has no delta above what is charged, once and twice: %j', (numbers) => {
    const { dimension, sensitivity, variance } = numbers;
    const law = lawOf(variance);
    const shifted = Array.from({ length: Math.floor(sensitivity) + 1 }, (_, shift) => movedSkellam(law, shift));
    for (const move of movesWithin(sensitivity, dimension)) {
      const moved = move.filter((shift) => shift > 0).map((shift) => shifted[shift] as Outcomes);
      if (moved.length > 2) continue;
      const [first, second = ONE] = moved as [Outcomes, Outcomes?];
      const twice = moved.length === 1 ? [first, first] : null;
      for (const epsilon of [0.2, 1, 2.5]) {
        const spent = rdpAccountant().compose(eventOf(numbers));
        expect(spent.delta(epsilon)).toBeGreaterThanOrEqual(deltaOfProduct(first, second, epsilon) * (1 - 1e-9));
        if (twice !== null)
          expect(spent.compose(eventOf(numbers)).delta(epsilon)).toBeGreaterThanOrEqual(
            deltaOfProduct(first, first, epsilon) * (1 - 1e-9),
          );
      }
    }
  });

  it.each([
    [SKELLAM[0], 0.1],
    [SKELLAM[1], 0.3],
    [SKELLAM[2], 0.02],
  ] as const)('sampled: neither direction is above its curve: %j at %d', (numbers, q) => {
    const { dimension, sensitivity, variance } = numbers;
    const law = lawOf(variance);
    const event: DpEvent = { kind: 'poissonSampled', probability: q, event: eventOf(numbers) };
    const curve = rdpCurve(event, 'add-remove');
    const moves = movesWithin(sensitivity, dimension).filter((move) => move.filter((x) => x > 0).length <= 2);
    for (const move of moves) {
      const [first, second = ONE] = move.filter((x) => x > 0).map((shift) => movedSkellam(law, shift)) as Outcomes[];
      const { losses, masses } = product(first as Outcomes, second);
      for (const order of [2, 4, 7]) {
        let [removed, added] = [0, 0];
        losses.forEach((loss, i) => {
          // P is the moved noise; under the noise that stays, the point weighs e^{-loss} of that.
          const still = (masses[i] as number) * Math.exp(-loss);
          const ratio = 1 - q + q * Math.exp(loss);
          removed += still * ratio ** order;
          added += still * ratio ** (1 - order);
        });
        const exact = Math.log(Math.max(removed, added)) / (order - 1);
        expect(curve(order)).toBeGreaterThanOrEqual(exact * (1 - 1e-9) - 1e-13);
      }
    }
  });
});
