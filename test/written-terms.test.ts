import { describe, expect, it } from 'vitest';
import type { Dataset } from '../src/data/dataset.ts';
import { createRandom } from '../src/data/random.ts';
import { count } from '../src/learning/layer-sizes.ts';
import { createManifest } from '../src/learning/manifest.ts';
import { layoutNetwork, type NetworkSpec } from '../src/learning/network.ts';
import { createNetworkFactors, gradientsByPasses } from '../src/learning/network-factors.ts';
import type { GradientFactors, Model } from '../src/learning/oracle.ts';
import { quantizePerson, quantizeTerm, type TermFactor, type WrittenTerm } from '../src/privacy/float-terms.ts';
import { sampleData, sampleModel } from './support/learning-samples.ts';
import { NETWORKS } from './support/networks.ts';
import { randomNetwork } from './support/random-networks.ts';

/** Gradients of a unit as factors of dense layers and as what is written out, with room for their integers. */
interface Term {
  readonly rows: TermFactor[][];
  readonly written: WrittenTerm[];
}

const normOf = (values: ArrayLike<number>): number => Math.hypot(...Array.from(values));
const exactSquares = (values: ArrayLike<number>): bigint =>
  Array.from(values).reduce((sum, v) => sum + BigInt(v) ** 2n, 0n);

/** The term of some records of one unit, in a pass behind others. */
function termOf(
  factors: GradientFactors,
  { body, head }: Model,
  data: Dataset,
  unit: readonly number[],
  before: readonly number[] = [],
): Term {
  const pass = factors.pass(body, head, data, Uint32Array.from([...before, ...unit]));
  const rowOf = (i: number): TermFactor[] =>
    factors.layers.map(({ hasBias, inputs: n, outputs: m }, l) => ({
      left: (pass.inputs[l] as Float64Array).slice(i * n, (i + 1) * n),
      right: (pass.errors[l] as Float64Array).slice(i * m, (i + 1) * m),
      hasBias,
      copies: 1,
      weight: 1,
      // What an earlier record left behind.
      leftUnits: new Float64Array(n + (hasBias ? 1 : 0)).fill(7),
      rightUnits: new Float64Array(m).fill(7),
    }));
  const written = factors.written.map(({ length }, l) => {
    const values = new Float64Array(length);
    unit.forEach((_, i) => {
      const own = new Float64Array(length).fill(7);
      pass.write(l, before.length + i, own);
      own.forEach((v, k) => {
        values[k] = (values[k] as number) + v;
      });
    });
    return { values, copies: 1, weight: 1, units: new Float64Array(length).fill(7) };
  });
  return { rows: unit.map((_, i) => rowOf(before.length + i)), written };
}

/** The integers of a term in the order of the model: sums of P Q^T over its records, and what is written out. */
function unitsOf(factors: GradientFactors, { body, head }: Model, { rows, written }: Term): Float64Array {
  const all = new Float64Array(body.length + head.length);
  const start = { body: 0, head: body.length };
  factors.layers.forEach(({ group, kernel, outputs }, l) => {
    for (const row of rows)
      row[l]?.leftUnits.forEach((p, i) => {
        row[l]?.rightUnits.forEach((q, j) => {
          const at = start[group] + kernel + i * outputs + j;
          all[at] = (all[at] as number) + p * q;
        });
      });
  });
  factors.written.forEach(({ group, offset }, l) => {
    all.set(written[l]?.units ?? [], start[group] + offset);
  });
  return all;
}

function literalOf(factors: GradientFactors, model: Model, data: Dataset, records: readonly number[]): Float64Array {
  const sum = new Float64Array(model.body.length + model.head.length);
  const [body, head] = [model.body.slice(), model.head.slice()];
  const { recordGradients } = gradientsByPasses(factors);
  recordGradients(model.body, model.head, data, Uint32Array.from(records), body, head, () => {
    [...body, ...head].forEach((v, i) => {
      sum[i] = (sum[i] as number) + v;
    });
  });
  return sum;
}

const random = Array.from({ length: 12 }, (_, i) => randomNetwork(createRandom(i, 1)));
const subjects: readonly [name: string, spec: NetworkSpec, toFeature?: (value: number) => number][] = [
  ...NETWORKS.slice(1).map(({ name, spec, toFeature }) => [name, spec, toFeature] as const),
  ...random.map(({ entries, spec }, i) => {
    const toEntry = (value: number): number => Math.floor(((value + 1) / 2) * (entries ?? 0));
    return [`random network ${i}`, spec, entries === null ? undefined : toEntry] as const;
  }),
].map(([name, spec, toFeature]) => (toFeature === undefined ? [name, spec] : [name, spec, toFeature]));

describe.each(subjects)('float-bounded terms of %s', (_name, spec, toFeature) => {
  const factors = createNetworkFactors(spec);
  const manifest = createManifest(layoutNetwork(spec).tensors);
  const model = sampleModel({ manifest }, 7);
  const data = sampleData({ manifest }, count(spec.inputShape), 8, 3, toFeature);

  it('become integers that are the clipped gradient, never longer than C', () => {
    for (const bits of [24, 26, 27, 34, 48])
      for (const clippingNorm of [0.05, 1, 1e3])
        for (const records of [[0], [5], [1, 2], [0, 3, 4, 6, 7]]) {
          const term = termOf(factors, model, data, records);
          if (records.length === 1) quantizeTerm(term.rows[0] ?? [], clippingNorm, bits, term.written);
          else quantizePerson(term.rows, clippingNorm, bits, term.written);
          const units = unitsOf(factors, model, term);
          expect(units.every(Number.isSafeInteger)).toBe(true);
          const squares = exactSquares(units);
          expect(squares <= 1n << BigInt(2 * bits)).toBe(true);
          const literal = literalOf(factors, model, data, records);
          // A person is clipped by the longest of its records at most.
          const each = records.map((record) => normOf(literalOf(factors, model, data, [record])));
          const [least, most] = [Math.max(clippingNorm, normOf(literal)), Math.max(clippingNorm, ...each)];
          const dot = units.reduce((sum, v, i) => sum + v * 2 ** -bits * (literal[i] as number), 0);
          const scale = records.length === 1 ? 1 / least : dot / normOf(literal) ** 2;
          expect(scale).toBeLessThan(1.01 / least);
          // Short gradients lose some of their length when their factors are cut.
          const lost = 2 ** (3 - bits / 2) / normOf(literal);
          expect(scale).toBeGreaterThan(0.7 / Math.max(least, most) - lost);
          const wrong = units.map((v, i) => v * 2 ** -bits - scale * (literal[i] as number));
          expect(normOf(wrong)).toBeLessThan(records.length * 2 ** (4 - bits / 2));
        }
  });

  it('have the same integers whoever else is in the pass, and none of a record that is not finite', () => {
    const kept = 5;
    const broken = { ...data, features: data.features.map((v, i) => (i < data.featureLength ? Number.NaN : v)) };
    const alone = termOf(factors, model, data, [kept]);
    quantizeTerm(alone.rows[0] ?? [], 0.3, 34, alone.written);
    const units = unitsOf(factors, model, alone);
    expect(units.some((v) => v !== 0)).toBe(true);
    for (const set of [data, broken])
      for (const before of [[0], [1, 2, 0], Array.from({ length: 40 }, (_, i) => i % 5)]) {
        const among = termOf(factors, model, set, [kept], before);
        quantizeTerm(among.rows[0] ?? [], 0.3, 34, among.written);
        expect(unitsOf(factors, model, among)).toEqual(units);
      }
    for (const quantize of [
      ({ rows, written }: Term) => quantizeTerm(rows[0] ?? [], 0.3, 34, written),
      ({ rows, written }: Term) => quantizePerson(rows, 0.3, 34, written),
    ]) {
      const gone = termOf(factors, model, broken, [0]);
      quantize(gone);
      expect(unitsOf(factors, model, gone).every((v) => v === 0)).toBe(true);
    }
    const person = termOf(factors, model, broken, [1, 0, 2]);
    quantizePerson(person.rows, 0.3, 34, person.written);
    expect(unitsOf(factors, model, person).every((v) => v === 0)).toBe(true);
  });
});

describe('what is written out of a record', () => {
  const writtenOf = (values: Float64Array, changes: Partial<WrittenTerm> = {}): WrittenTerm => ({
    values,
    copies: 1,
    weight: 1,
    units: new Float64Array(values.length).fill(7),
    ...changes,
  });
  const denseOf = (left: readonly number[], right: readonly number[]): TermFactor => ({
    left: Float64Array.from(left),
    right: Float64Array.from(right),
    hasBias: false,
    copies: 1,
    weight: 1,
    leftUnits: new Float64Array(left.length).fill(7),
    rightUnits: new Float64Array(right.length).fill(7),
  });
  const squaresOf = (written: readonly WrittenTerm[], factors: readonly TermFactor[]): bigint =>
    written.reduce((sum, { copies, units }) => sum + BigInt(copies) * exactSquares(units), 0n) +
    factors.reduce(
      (sum, { copies, leftUnits, rightUnits }) =>
        sum + BigInt(copies) * exactSquares(leftUnits) * exactSquares(rightUnits),
      0n,
    );

  it('fits the clip together with the factors, for values of any size and any number of bits', () => {
    const draws = createRandom(5);
    const sizes = [5e-324, 1e-310, 1e-290, 1e-150, 1e-8, 1, 1e8, 1e150, 1e290, 1.7e308];
    const draw = (length: number, size: number): Float64Array =>
      Float64Array.from({ length }, () => Math.max(-1, Math.min(1, draws.uniform(-1.2, 1.2))) * size);
    let clipped = 0;
    for (const bits of [24, 26, 27, 34, 48])
      for (const one of sizes)
        for (const two of sizes)
          for (const quantize of ['term', 'person'] as const) {
            const written = [
              writtenOf(draw(1 + draws.integer(40), one)),
              writtenOf(draw(9, two), { copies: 3, weight: Math.sqrt(1 / 3) }),
            ];
            const factors = [denseOf([...draw(3, two)], [...draw(2, 1)])];
            if (quantize === 'term') quantizeTerm(factors, 1.5, bits, written);
            else quantizePerson([factors], 1.5, bits, written);
            const squares = squaresOf(written, factors);
            expect(squares <= 1n << BigInt(2 * bits)).toBe(true);
            for (const { units } of written) expect(units.every(Number.isSafeInteger)).toBe(true);
            if (Number(squares) > 0.9 * 4 ** bits) clipped++;
          }
    expect(clipped).toBeGreaterThan(100);
  });

  it('is zero, factors and all, where any value is not finite', () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
      for (const inFactor of [true, false])
        for (const quantize of ['term', 'person'] as const) {
          const written = [writtenOf(Float64Array.of(1, inFactor ? 0 : bad, 3))];
          const factors = [denseOf([inFactor ? bad : 1, 0], [0, 2])];
          if (quantize === 'term') quantizeTerm(factors, 1, 40, written);
          else quantizePerson([factors], 1, 40, written);
          expect(squaresOf(written, factors)).toBe(0n);
          expect(factors[0]?.leftUnits).toEqual(new Float64Array(2));
        }
  });

  it('reaches the bound exactly where nothing is cut, and is cut once more where it passes it', () => {
    const exact = [writtenOf(Float64Array.of(0, -8, 0))];
    quantizeTerm([], 1, 40, exact);
    expect(exact[0]?.units).toEqual(Float64Array.of(0, -(2 ** 40), 0));
    // Doubles find a sum of four million squares too small by 1e-11: values that are cut to just 2^15 are too long then.
    for (const [copies, weight] of [
      [1, 1],
      [4, 0.5],
    ] as const)
      for (const quantize of ['term', 'person'] as const) {
        const long = new Float64Array(2 ** 22).fill(1.069300003);
        long[0] = 1.069300003 * (1 + 3.1e-5 * Math.sqrt(copies));
        const written = writtenOf(long, { copies, weight });
        if (quantize === 'term') quantizeTerm([], 1, 48, [written]);
        else quantizePerson([], 1, 48, [written]);
        // Multiples of 2^22 at 48 bits: the sum of their squares is exact.
        const squares = copies * written.units.reduce((sum, v) => sum + (v * 2 ** -22) ** 2, 0);
        expect(squares).toBeLessThanOrEqual(2 ** 52);
        expect(squares).toBeGreaterThan((1 - 2 ** -9) * 2 ** 52);
      }
  });

  it('is never longer than its clip, by a search for the longest: BigInt finds what it moves', () => {
    const draws = createRandom(11);
    for (const bits of [24, 27, 48]) {
      let longest = 0n;
      let at = Float64Array.from({ length: 24 }, () => draws.uniform(-1, 1));
      for (let step = 0; step < 400; step++) {
        const next = at.map((v) =>
          draws.integer(4) === 0 ? v * (1 + draws.uniform(-1, 1) * 2 ** -draws.integer(30)) : v,
        );
        const written = [writtenOf(next.slice(0, 20), { copies: 2, weight: Math.SQRT1_2 })];
        const factors = [denseOf([...next.slice(20, 22)], [...next.slice(22)])];
        quantizeTerm(factors, 0.01, bits, written);
        const squares = squaresOf(written, factors);
        expect(squares <= 1n << BigInt(2 * bits)).toBe(true);
        if (squares < longest) continue;
        longest = squares;
        at = next;
      }
      // The bound is close: a charge below it would be too small.
      expect(Number(longest) / 4 ** bits).toBeGreaterThan(1 - 2 ** -10);
    }
  });
});
