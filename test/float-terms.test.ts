import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { createRandom } from '../src/data/random.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { product } from '../src/learning/kernels/matrix.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import type { GradientOracle, Model } from '../src/learning/oracle.ts';
import { createEncoder, type EncodingSpec } from '../src/privacy/encode.ts';
import type { DpEvent } from '../src/privacy/events.ts';
import {
  encodeFloatSum,
  floatSensitivity,
  MOST_TERMS,
  quantizePerson,
  quantizeTerm,
  type TermFactor,
  termBits,
} from '../src/privacy/float-terms.ts';
import { transformWalshHadamard } from '../src/privacy/hadamard.ts';
import { rdpCurve } from '../src/privacy/rdp-curve.ts';
import { codeOf } from './support/code-of.ts';
import { discreteGaussianPmf } from './support/discrete-gaussian-pmf.ts';
import { sampleData, sampleModel } from './support/learning-samples.ts';

const SHAPES: readonly DenseShape[] = [
  { inputs: 11, hidden: [], classes: 4 },
  { inputs: 11, hidden: [9, 6], classes: 4 },
  { inputs: 40, hidden: [32], classes: 3, sharedLayers: 0 },
  { inputs: 7, hidden: [5], classes: 3, activation: 'tanh' },
  { inputs: 7, hidden: [5, 4], classes: 3, activation: 'linear', bias: false },
  { inputs: 6, hidden: [4], classes: 1, loss: 'squared' },
];
const COUNT = 20;

function recordsOf(oracle: GradientOracle, shape: DenseShape): Dataset {
  const data = sampleData(oracle, shape.inputs, COUNT, 3);
  return shape.loss === 'squared' ? { ...data, targets: Float64Array.from(data.labels, (_, i) => i / 7) } : data;
}

function literalGradient(oracle: GradientOracle, { body, head }: Model, data: Dataset, record: number): Float64Array {
  const gradient = { body: new Float64Array(body.length), head: new Float64Array(head.length) };
  oracle.perRecordGradient(body, head, data, record, gradient.body, gradient.head);
  return Float64Array.from([...gradient.body, ...gradient.head]);
}

const normOf = (values: ArrayLike<number>): number => Math.hypot(...Array.from(values));

interface Term {
  readonly factors: TermFactor[];
  units(): Float64Array;
}

/** Factors of one row of a pass, with room for their integers. */
function termOf(oracle: GradientOracle, model: Model, data: Dataset, record: number, rowsBefore: number[] = []): Term {
  const { factors } = oracle;
  if (factors === undefined) throw new Error('no factors');
  const pass = factors.pass(model.body, model.head, data, Uint32Array.from([...rowsBefore, record]));
  const row = rowsBefore.length;
  const terms = factors.layers.map(
    ({ hasBias, inputs, outputs }, l): TermFactor => ({
      left: (pass.inputs[l] as Float64Array).slice(row * inputs, (row + 1) * inputs),
      right: (pass.errors[l] as Float64Array).slice(row * outputs, (row + 1) * outputs),
      hasBias,
      copies: 1,
      weight: 1,
      leftUnits: new Float64Array(inputs + (hasBias ? 1 : 0)),
      rightUnits: new Float64Array(outputs),
    }),
  );
  return { factors: terms, units: () => termUnits(oracle, model, terms) };
}

/** P Q^T of all layers, in the order of the model. */
function termUnits({ factors }: GradientOracle, model: Model, terms: readonly TermFactor[]): Float64Array {
  const all = new Float64Array(model.body.length + model.head.length);
  factors?.layers.forEach(({ group, kernel, outputs }, l) => {
    const { leftUnits, rightUnits } = terms[l] as TermFactor;
    const at = (group === 'body' ? 0 : model.body.length) + kernel;
    leftUnits.forEach((p, i) => {
      rightUnits.forEach((q, j) => {
        all[at + i * outputs + j] = p * q;
      });
    });
  });
  return all;
}

const exactSquares = (values: Float64Array): bigint => values.reduce((sum, v) => sum + BigInt(v) ** 2n, 0n);

describe.each(SHAPES)('factors of the gradients of %j', (shape) => {
  const oracle = createDenseOracle(shape);
  const model = sampleModel(oracle, 2);
  const data = recordsOf(oracle, shape);

  it('give each record its literal gradient, and the norm of it in closed form', () => {
    for (let record = 0; record < COUNT; record++) {
      const { factors } = termOf(oracle, model, data, record);
      const literal = literalGradient(oracle, model, data, record);
      const outer = oracle.factors?.layers.flatMap(({ hasBias }, l) => {
        const { left, right } = factors[l] as TermFactor;
        return [...left, ...(hasBias ? [1] : [])].flatMap((a) => [...right].map((d) => a * d));
      });
      // Zeros of either sign.
      expect(Float64Array.from(outer ?? [], (v) => v + 0)).toEqual(literal.map((v) => v + 0));
      const closed = Math.sqrt(
        factors.reduce(
          (sum, { left, right, hasBias }) => sum + (normOf(left) ** 2 + (hasBias ? 1 : 0)) * normOf(right) ** 2,
          0,
        ),
      );
      expect(Math.abs(closed / normOf(literal) - 1)).toBeLessThan(1e-12);
    }
  });

  it('do not depend on the other records of a pass nor on the place in it, to the last bit', () => {
    const spoilt = { ...data, features: data.features.map((v, i) => (i < shape.inputs ? Number.NaN : v)) };
    const huge = { ...data, features: data.features.map((v, i) => (i < shape.inputs ? v * 1e38 : v)) };
    for (const record of [1, 7, 19]) {
      const alone = termOf(oracle, model, data, record).factors;
      for (const others of [[0], [3, 4, 5], Array.from({ length: 63 }, (_, i) => i % COUNT)])
        for (const set of [data, spoilt, huge]) {
          const among = termOf(oracle, model, set, record, others).factors;
          expect(among).toEqual(alone);
        }
    }
  });

  it('become integers whose products are the clipped gradient, never longer than C', () => {
    const bits = 34;
    for (const clippingNorm of [0.05, 1, 1e3])
      for (let record = 0; record < COUNT; record++) {
        const term = termOf(oracle, model, data, record);
        quantizeTerm(term.factors, clippingNorm, bits);
        const units = term.units();
        expect(units.every(Number.isSafeInteger)).toBe(true);
        expect(exactSquares(units) <= 1n << BigInt(2 * bits)).toBe(true);
        const literal = literalGradient(oracle, model, data, record);
        const clip = Math.min(1, clippingNorm / normOf(literal));
        const wrong = units.map((v, i) => v * clippingNorm * 2 ** -bits - clip * (literal[i] as number));
        expect(normOf(wrong)).toBeLessThan(clippingNorm * 2 ** -13);
        if (clip < 1) expect(normOf(units)).toBeGreaterThan(0.999 * 2 ** bits);
      }
  });
});

describe('integers of a single record', () => {
  const factorOf = (
    left: readonly number[],
    right: readonly number[],
    changes: Partial<TermFactor> = {},
  ): TermFactor => {
    const hasBias = changes.hasBias ?? false;
    return {
      left: Float64Array.from(left),
      right: Float64Array.from(right),
      hasBias,
      copies: 1,
      weight: 1,
      // What an earlier record left behind.
      leftUnits: new Float64Array(left.length + (hasBias ? 1 : 0)).fill(7),
      rightUnits: new Float64Array(right.length).fill(7),
      ...changes,
    };
  };
  const squaresOf = (factors: readonly TermFactor[]): bigint =>
    factors.reduce(
      (sum, { leftUnits, rightUnits, copies }) =>
        sum + BigInt(copies) * exactSquares(leftUnits) * exactSquares(rightUnits),
      0n,
    );
  const isZero = ({ leftUnits, rightUnits }: TermFactor): boolean =>
    leftUnits.every((v) => v === 0) && rightUnits.every((v) => v === 0);

  it('are zero in every layer where any value is not finite, or the norm is no number', () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
      for (const place of [0, 1, 2, 3]) {
        const values = [1, 2, 3, 4].map((v, i) => (i === place ? bad : v));
        const [a = 0, b = 0, c = 0, d = 0] = values;
        // A zero on the other side does not hide it: 0 times infinity is no number either.
        for (const other of [1, 0]) {
          const factors = [factorOf([a, other], [b, other]), factorOf([c, other], [d, other], { hasBias: true })];
          quantizeTerm(factors, 1, 40);
          expect(factors.every(isZero)).toBe(true);
        }
      }
    const overflow = [factorOf([1e300], [1e300])];
    quantizeTerm(overflow, 1, 40);
    expect(overflow.every(isZero)).toBe(true);
  });

  it('fit the clip for factors of any size, denormal ones included, and any number of bits', () => {
    const random = createRandom(5);
    const sizes = [5e-324, 1e-310, 1e-290, 1e-150, 1e-8, 1, 1e8, 1e150, 1e290, 1.7e308];
    let clipped = 0;
    for (const bits of [24, 25, 27, 34, 48])
      for (const one of sizes)
        for (const two of sizes)
          for (const [n, m] of [
            [1, 1],
            [3, 1],
            [1, 9],
            [30, 20],
          ] as const) {
            const draw = (length: number, size: number): number[] =>
              Array.from({ length }, () => Math.max(-1, Math.min(1, random.uniform(-1.2, 1.2))) * size);
            const factors = [
              factorOf(draw(n, one), draw(m, two), { hasBias: n === 3 }),
              factorOf(draw(m, two), draw(2, 1), { copies: 2, weight: Math.SQRT1_2 }),
            ];
            quantizeTerm(factors, 1.5, bits);
            const squares = squaresOf(factors);
            expect(squares <= 1n << BigInt(2 * bits)).toBe(true);
            for (const { leftUnits, rightUnits } of factors)
              expect([...leftUnits, ...rightUnits].every(Number.isSafeInteger)).toBe(true);
            if (Number(squares) > 0.9 * 4 ** bits) clipped++;
          }
    expect(clipped).toBeGreaterThan(100);
  });

  it('reach the bound exactly where nothing is cut, and are cut once more where they pass it', () => {
    const exact = [factorOf([3], [5])];
    quantizeTerm(exact, 1, 40);
    expect(squaresOf(exact)).toBe(1n << 80n);
    // A sum of four million squares that doubles find too small by 1e-11, of values that are cut to just 2^15.
    const long = new Float64Array(2 ** 22).fill(1.069300003);
    long[0] = 1.069300003 * (1 + 3.1e-5);
    for (const [copies, weight] of [
      [1, 1],
      [4, 0.5],
    ] as const) {
      const factors = [factorOf([], [5], { left: long, leftUnits: new Float64Array(long.length), copies, weight })];
      quantizeTerm(factors, 1, 48);
      const [{ leftUnits, rightUnits } = expect.fail('no factor')] = factors;
      const cut = leftUnits.reduce((sum, v) => sum + v * v, 0);
      // The inputs alone are longer than 2^26: the errors gave way.
      expect(cut).toBeGreaterThan(2 ** 52);
      const squares = BigInt(copies) * BigInt(cut) * exactSquares(rightUnits);
      expect(squares <= 1n << 96n).toBe(true);
      expect(Number(squares) / 2 ** 96).toBeGreaterThan(1 - 2 ** -20);
    }
  });
});

describe('integers of a person', () => {
  const shape = SHAPES[1] as DenseShape;
  const oracle = createDenseOracle(shape);
  const model = sampleModel(oracle, 2);
  const data = recordsOf(oracle, shape);
  const sumOf = (terms: readonly Term[]): Float64Array => {
    const all = terms.map((term) => term.units());
    return (all[0] as Float64Array).map((_, i) => all.reduce((sum, units) => sum + (units[i] as number), 0));
  };
  const fits = (terms: readonly Term[], bits: number): boolean =>
    [sumOf(terms), ...terms.map((term) => term.units())].every(
      (units) => units.every(Number.isSafeInteger) && exactSquares(units) <= 1n << BigInt(2 * bits),
    );

  it('sum to the clipped sum of the gradients, never longer than C, nor is one of them', () => {
    for (const bits of [24, 34, 48])
      for (const records of [[3], [1, 2], [0, 4, 5, 9], Array.from({ length: COUNT }, (_, i) => i)])
        for (const clippingNorm of [0.05, 1, 1e3]) {
          const terms = records.map((record) => termOf(oracle, model, data, record));
          quantizePerson(
            terms.map(({ factors }) => factors),
            clippingNorm,
            bits,
          );
          expect(fits(terms, bits)).toBe(true);
          const literal = records.map((record) => literalGradient(oracle, model, data, record));
          const sum = (literal[0] as Float64Array).map((_, i) => literal.reduce((s, g) => s + (g[i] as number), 0));
          const limit = Math.max(clippingNorm, normOf(sum), ...literal.map(normOf));
          const wrong = sumOf(terms).map((v, i) => v * 2 ** -bits - (sum[i] as number) / limit);
          expect(normOf(wrong)).toBeLessThan(records.length * 2 ** (4 - bits / 2));
        }
  });

  it('fit where records cancel, almost or exactly, and where they all point one way', () => {
    for (const bits of [24, 34, 48])
      for (const copies of [2, 3, 40])
        for (const flip of [1, -1, -0.999, -1e-3]) {
          const terms = Array.from({ length: copies }, (_, i) => {
            const term = termOf(oracle, model, data, 7);
            const factors = term.factors.map((f) => ({
              ...f,
              right: f.right.map((d) => d * (i % 2 === 0 ? 1 : flip)),
            }));
            return { factors, units: () => termUnits(oracle, model, factors) };
          });
          quantizePerson(
            terms.map(({ factors }) => factors),
            0.01,
            bits,
          );
          expect(fits(terms, bits)).toBe(true);
          const [longest] = terms.map((term) => normOf(term.units()));
          if (flip < 0 && copies === 2) expect(longest).toBeGreaterThan(0.9 * 2 ** bits);
          if (flip === 1) expect(normOf(sumOf(terms))).toBeGreaterThan(0.9 * 2 ** bits);
        }
  });

  const layerOf = (left: Float64Array, right: readonly number[]): TermFactor => ({
    left,
    right: Float64Array.from(right),
    hasBias: false,
    copies: 1,
    weight: 1,
    leftUnits: new Float64Array(left.length),
    rightUnits: new Float64Array(right.length),
  });

  it('are cut shorter where what is cut off would have shortened the sum', () => {
    // Two records one way, many against them of which nothing is left at this number of bits.
    const one = Float64Array.of(1);
    const rows = Array.from({ length: 102 }, (_, i) => [layerOf(one, [i < 2 ? 1 : -(2 ** -12.1)])]);
    quantizePerson(rows, 0.1, 24);
    const sum = rows.reduce((s, [f]) => s + (f?.leftUnits[0] ?? 0) * (f?.rightUnits[0] ?? 0), 0);
    expect(rows.slice(2).every(([f]) => f?.rightUnits[0] === 0)).toBe(true);
    expect(sum).toBeLessThanOrEqual(2 ** 24);
    expect(sum).toBeGreaterThan(0.9 * 2 ** 24);
  });

  it('are bounded one by one where the sum vanishes: exact sums need it', () => {
    const long = new Float64Array(2 ** 22).fill(1.069300003);
    long[0] = 1.069300003 * (1 + 3.1e-5);
    const rows = [5, -5].map((error) => [layerOf(long, [error])]);
    quantizePerson(rows, 1, 48);
    for (const [factor] of rows) {
      const { leftUnits, rightUnits } = factor as TermFactor;
      const cut = leftUnits.reduce((s, v) => s + v * v, 0);
      expect(cut).toBeGreaterThan(2 ** 52);
      expect(BigInt(cut) * exactSquares(rightUnits) <= 1n << 96n).toBe(true);
      expect(rightUnits[0]).not.toBe(0);
    }
  });

  it('are zero for all records where one is not finite or the sum passes the range of doubles', () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, 1e200]) {
      const terms = [1, 2, 3].map((record) => termOf(oracle, model, data, record));
      (terms[1] as Term).factors.forEach(({ left }) => {
        left[0] = bad;
      });
      // What an earlier person left behind.
      for (const { leftUnits, rightUnits } of terms.flatMap(({ factors }) => factors))
        for (const units of [leftUnits, rightUnits]) units.fill(7);
      quantizePerson(
        terms.map(({ factors }) => factors),
        1,
        34,
      );
      for (const term of terms) expect(term.units().every((v) => v === 0)).toBe(true);
    }
  });
});

describe('a sum of terms', () => {
  it('is exact in doubles up to its rotation for the most terms that the bits are chosen for, and not for one bit more', () => {
    for (const [length, terms] of [
      [1, 1],
      [64, 1_400],
      [4_096, 1_400],
      [131_072, 60],
      [2 ** 20, 10_000],
      [2, MOST_TERMS],
    ] as const) {
      const bits = termBits(length, terms);
      const squared = BigInt(terms) ** 2n * BigInt(length);
      expect(squared << BigInt(2 * bits) <= 1n << 106n).toBe(true);
      expect(bits === 48 || squared << BigInt(2 * bits + 2) > 1n << 106n).toBe(true);
    }
    // All of it in one coordinate after the rotation: B terms of norm 2^T, all alike.
    const [length, terms] = [64, 2 ** 9];
    const bits = termBits(length, terms);
    const each = 2 ** (bits - 3) - 1;
    const sum = new Float64Array(length).fill(each * terms);
    const changed = sum.slice();
    changed[5] = (changed[5] as number) - 1;
    for (const x of [sum, changed]) transformWalshHadamard(x);
    expect(BigInt(sum[0] as number)).toBe(BigInt(each) * BigInt(terms) * 64n);
    expect((sum[0] as number) - (changed[0] as number)).toBe(1);
    expect(codeOf(() => termBits(1, MOST_TERMS + 1))).toBe('PRIVACY_POLICY');
    expect(codeOf(() => termBits(1, 0))).toBe('PRIVACY_POLICY');
    expect(codeOf(() => termBits(2 ** 26, MOST_TERMS))).toBe('PRIVACY_POLICY');
  });

  it('is the exact sum of what each record adds, whatever the others are, by the kernel and by integers', () => {
    const shape = SHAPES[2] as DenseShape;
    const oracle = createDenseOracle(shape);
    const model = sampleModel(oracle, 2);
    const data = recordsOf(oracle, shape);
    const records = Array.from({ length: COUNT }, (_, i) => {
      const term = termOf(oracle, model, data, i);
      quantizeTerm(term.factors, 0.3, 34);
      return term;
    });
    oracle.factors?.layers.forEach(({ outputs }, l) => {
      const all = records.map(({ factors }) => factors[l] as TermFactor);
      const m = all[0]?.leftUnits.length ?? 0;
      const c = new Float64Array(m * outputs);
      const a = Float64Array.from(all.flatMap(({ leftUnits }) => [...leftUnits]));
      const b = Float64Array.from(all.flatMap(({ rightUnits }) => [...rightUnits]));
      product({ m, n: outputs, k: COUNT, a, aAt: 0, ai: 1, al: m, b, bAt: 0, c, cAt: 0 });
      for (let i = 0; i < m; i++)
        for (let j = 0; j < outputs; j++) {
          const exact = all.reduce(
            (sum, { leftUnits, rightUnits }) => sum + BigInt(leftUnits[i] as number) * BigInt(rightUnits[j] as number),
            0n,
          );
          expect(BigInt(c[i * outputs + j] as number)).toBe(exact);
        }
    });
  });

  const specOf = (realLength: number, length: number, scale: number): EncodingSpec => ({
    blocks: [
      { segment: 'body', realLength, length, rotated: true },
      { segment: 'flat', realLength: 8, length: 8, rotated: false },
    ],
    clippingNorm: 1.25,
    scale,
    rotationSeed: new Uint8Array(32).fill(4),
  });
  const stream = (seed: number) => nodeCrypto.aes256Ctr(new Uint8Array(32).fill(seed));
  const distance = (a: Int32Array, b: Int32Array): number =>
    Math.sqrt(a.reduce((s, v, i) => s + (v - (b[i] ?? 0)) ** 2, 0));

  it.each([
    [500, 512, 65_536],
    [500, 512, 2],
    [4_000, 4_096, 0.9],
  ])('moves by at most the charged sensitivity for equal random words: %d of %d at scale %d', (real, length, scale) => {
    const spec = specOf(real, length, scale);
    const bits = termBits(length, 100);
    const charged = floatSensitivity(spec.scale * spec.clippingNorm, length + 8);
    const random = createRandom(6);
    let most = 0;
    for (let seed = 1; seed <= 12; seed++) {
      const others = [real, 8].map((n) =>
        Float64Array.from({ length: n }, () => Math.round(random.uniform(-1, 1) * 2 ** (bits - 9))),
      );
      // One record with all of its clip: spread over the coordinates, in one of them, or in the block without rotation.
      for (const kind of ['spread', 'single', 'flat'] as const) {
        const worst = [real, 8].map((n) => new Float64Array(n));
        if (kind === 'spread') worst[0]?.fill(Math.floor(2 ** bits / Math.sqrt(real)));
        else (worst[kind === 'single' ? 0 : 1] as Float64Array)[3] = 2 ** bits;
        const sums = (sign: number): Float64Array[] =>
          others.map((values, b) => values.map((v, i) => v + sign * (worst[b]?.[i] as number)));
        const [base, added, removed] = [0, 1, -1].map((sign) =>
          encodeFloatSum(nodeCrypto, spec, bits, sums(sign), stream(seed)),
        ) as [Int32Array, Int32Array, Int32Array];
        for (const other of [added, removed]) {
          const moved = distance(base, other);
          expect(moved).toBeLessThanOrEqual(charged);
          most = Math.max(most, moved);
        }
        expect(distance(added, removed)).toBeLessThanOrEqual(2 * charged);
      }
    }
    const scaled = spec.scale * spec.clippingNorm;
    // Close to the bound where the clip rules it; above the clip alone where rounding does: it has to be charged.
    expect(most).toBeGreaterThan(scale > 1_000 ? 0.999 * scaled : 1.2 * scaled);
  });

  it('is rounded without bias and decodes to what was summed; sums are wiped', () => {
    const spec = specOf(100, 128, 50);
    const bits = termBits(128, 100);
    const values = [100, 8].map((n, b) =>
      Float64Array.from({ length: n }, (_, i) => Math.round(Math.sin(i + b) * 2 ** (bits - 3))),
    );
    const mean = [100, 8].map((n) => new Float64Array(n));
    const runs = 400;
    for (let seed = 0; seed < runs; seed++) {
      const words = nodeCrypto.aes256Ctr(new Uint8Array(32).fill(seed % 256).fill(seed >> 8, 0, 1));
      const given = values.map((v) => v.slice());
      const decoded = createEncoder(nodeCrypto, spec).decode(encodeFloatSum(nodeCrypto, spec, bits, given, words));
      for (const sum of given) expect(sum.every((v) => v === 0)).toBe(true);
      decoded.forEach((block, b) => {
        block.forEach((v, i) => {
          (mean[b] as Float64Array)[i] = ((mean[b] as Float64Array)[i] as number) + v / runs;
        });
      });
    }
    // A coordinate is off by at most half a unit of deviation: 1/50 / 2 / sqrt(runs), six times that.
    const unit = spec.clippingNorm * 2 ** -bits;
    mean.forEach((block, b) => {
      block.forEach((v, i) => {
        expect(Math.abs(v - (values[b]?.[i] as number) * unit)).toBeLessThan((6 * 0.5) / 50 / Math.sqrt(runs));
      });
    });
  });

  it('is not charged for a clip, or over coordinates, that the bound does not cover', () => {
    for (const [scaled, dimension] of [
      [0.99, 1],
      [2 ** 26 + 1, 1],
      [Number.NaN, 1],
      [1, 2 ** 26 + 1],
    ] as const)
      expect(codeOf(() => floatSensitivity(scaled, dimension))).toBe('USAGE_RANGE');
    expect(floatSensitivity(2 ** 26, 2 ** 26)).toBe(2 ** 26 + 2 ** -4 + 2 ** 13);
  });

  it('refuses sums of another shape', () => {
    const spec = specOf(100, 128, 50);
    expect(codeOf(() => encodeFloatSum(nodeCrypto, spec, 30, [new Float64Array(100)], stream(1)))).toBe('USAGE_RANGE');
  });
});

describe('the charge of a sum that is rounded as a whole', () => {
  /** Law of the released coordinate: the draw of the other records, the rounding, the noise; the record itself with `q`. */
  const releaseOf = (
    others: ReadonlyMap<number, number>,
    term: number,
    q: number,
    noise: ReadonlyMap<number, number>,
  ) => {
    const law = new Map<number, number>();
    for (const [sum, chance] of others)
      for (const [value, share] of [
        [sum, 1 - q],
        [sum + term, q],
      ] as const) {
        const below = Math.floor(value);
        for (const [integer, rounding] of [
          [below, 1 - (value - below)],
          [below + 1, value - below],
        ] as const)
          for (const [k, p] of noise) law.set(integer + k, (law.get(integer + k) ?? 0) + chance * share * rounding * p);
      }
    return law;
  };
  const renyi = (upper: ReadonlyMap<number, number>, lower: ReadonlyMap<number, number>, order: number): number => {
    let moment = 0;
    for (const [x, p] of upper) {
      // Beyond 12 deviations nothing is listed, and nothing is missed.
      const q = lower.get(x) ?? 0;
      if (p > 0 && q > 0) moment += p * (p / q) ** (order - 1);
    }
    return Math.log(moment) / (order - 1);
  };

  it('bounds both directions of the exact divergence, sampled or not, for every fraction of the others', () => {
    const scaled = 1.1;
    for (const variance of [2.25, 9])
      for (const probability of [0.1, 1]) {
        const noise = discreteGaussianPmf(variance);
        const event: DpEvent = {
          kind: 'discreteGaussian',
          shares: 1,
          shareVariance: variance,
          sensitivity: floatSensitivity(scaled, 1),
          dimension: 1,
          symmetric: true,
        };
        const charged = rdpCurve(
          probability === 1 ? event : { kind: 'poissonSampled', probability, event },
          'add-remove',
        );
        let largest = 0;
        for (let fraction = 0; fraction < 1; fraction += 1 / 16)
          for (const term of [scaled, -scaled, scaled / 3]) {
            // Two records of others that come and go, and a fraction that decides which of them carry over.
            const others = new Map([0, 0.45, -0.7, -0.25].map((v) => [v + fraction, 0.25] as const));
            const [without, within] = [0, probability].map((q) => releaseOf(others, term, q, noise)) as [
              Map<number, number>,
              Map<number, number>,
            ];
            for (const order of [2, 4, 8])
              for (const exact of [renyi(within, without, order), renyi(without, within, order)]) {
                expect(exact).toBeLessThanOrEqual(charged(order));
                largest = Math.max(largest, exact / charged(order));
              }
          }
        expect(largest).toBeGreaterThan(0.05);
      }
  });
});

it('refuses more records than a pass holds', () => {
  const data = createDataset(7, 3, new Float32Array(7 * 65), new Uint8Array(65));
  for (const activation of ['relu', 'tanh'] as const) {
    const oracle = createDenseOracle({ inputs: 7, hidden: [5], classes: 3, activation });
    const { body, head } = sampleModel(oracle, 1);
    expect(codeOf(() => oracle.factors?.pass(body, head, data, new Uint32Array(65)))).toBe('USAGE_RANGE');
  }
});
