import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { type Block, createEncoder, type TermPart } from '../src/privacy/encode.ts';

const SEED = new Uint8Array(32).fill(9);
const BLOCKS: readonly Block[] = [
  { segment: 'body', realLength: 300, length: 512, rotated: true },
  { segment: 'head/0', realLength: 50, length: 64, rotated: true },
  { segment: 'head/1', realLength: 50, length: 64, rotated: true },
];
const OFFSETS = [0, 512, 576];
const LENGTH = 640;

/** Standard normal from integer arithmetic and the platform's log and cos: good enough for inputs. */
function normals(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

function record(seed: number, size: number, slot = 1): TermPart[] {
  const next = normals(seed);
  const part = (length: number): Float64Array => Float64Array.from({ length }, () => next() * size);
  return [
    { block: 0, values: part(300) },
    { block: slot, values: part(50) },
  ];
}

const squaredNorm = (x: Int32Array): bigint => x.reduce((sum, value) => sum + BigInt(value) * BigInt(value), 0n);
const encoder = (clippingNorm = 1, scale = 65_536) =>
  createEncoder(nodeCrypto, { blocks: BLOCKS, clippingNorm, scale, rotationSeed: SEED });

function encoded(term: readonly TermPart[], clippingNorm = 1, scale = 65_536): Int32Array {
  const sum = new Int32Array(LENGTH);
  encoder(clippingNorm, scale).addRecord(sum, term);
  return sum;
}

describe('record rule: what one record does to an organization’s sum', () => {
  it('leaves the encoded terms of all other records bit-identical when one is replaced', () => {
    const records = Array.from({ length: 24 }, (_, i) => record(i + 1, i % 3 === 0 ? 0.01 : 1));
    const replacement = record(999, 1e6);
    const shared = encoder();
    const termsOf = (list: readonly TermPart[][]): Int32Array[] => {
      // One encoder and one running sum, as an organization uses them: terms are differences of the sum.
      const sum = new Int32Array(LENGTH);
      return list.map((term) => {
        const before = Int32Array.from(sum);
        shared.addRecord(sum, term);
        return sum.map((value, i) => value - (before[i] as number));
      });
    };
    const before = termsOf(records);
    for (const replaced of [0, 7, 23]) {
      const after = termsOf(records.map((term, i) => (i === replaced ? replacement : term)));
      for (let i = 0; i < records.length; i++) {
        if (i === replaced) expect([...(after[i] as Int32Array)]).not.toEqual([...(before[i] as Int32Array)]);
        else expect([...(after[i] as Int32Array)]).toEqual([...(before[i] as Int32Array)]);
      }
    }
  });

  it('moves the sum by at most the charged sensitivity (zero-out), twice that (replace-one)', () => {
    const { sensitivity } = encoder();
    expect(sensitivity).toBe(65_536);
    const bound = BigInt(sensitivity) ** 2n;
    const others = new Int32Array(LENGTH);
    for (let i = 1; i < 20; i++) encoder().addRecord(others, record(i, 1));
    const huge = record(50, 1e5);
    const opposite: TermPart[] = huge.map(({ block, values }) => ({ block, values: values.map((v) => -v) }));
    const withHuge = Int32Array.from(others);
    encoder().addRecord(withHuge, huge);
    const withOpposite = Int32Array.from(others);
    encoder().addRecord(withOpposite, opposite);
    const zeroOut = squaredNorm(withHuge.map((v, i) => v - (others[i] as number)));
    const replaceOne = squaredNorm(withHuge.map((v, i) => v - (withOpposite[i] as number)));
    expect(zeroOut <= bound).toBe(true);
    expect(replaceOne <= 4n * bound).toBe(true);
    // Close to the bounds, so that a wrong factor would be seen.
    expect(Number(zeroOut) / Number(bound)).toBeGreaterThan(0.999);
    expect(Number(replaceOne) / Number(4n * bound)).toBeGreaterThan(0.999);
  });

  it('would break under a planted head that is trained on raw records: the other terms move too', () => {
    // Gradient of a body weight through a head: head * input. A head fitted to all raw inputs changes with any of them.
    const inputs = (swapped: boolean): Float64Array[] =>
      Array.from({ length: 12 }, (_, i) => {
        const next = normals(i === 0 && swapped ? 500 : 100 + i);
        return Float64Array.from({ length: 350 }, () => next());
      });
    const terms = (swapped: boolean, head: (data: readonly Float64Array[]) => number): Int32Array[] => {
      const data = inputs(swapped);
      const weight = head(data);
      return data.map((x) =>
        encoded([
          { block: 0, values: x.slice(0, 300).map((v) => (v * weight) / 50) },
          { block: 1, values: x.slice(300).map((v) => v / 50) },
        ]),
      );
    };
    const same = (a: Int32Array[], b: Int32Array[]): number =>
      a.filter((term, i) => term.every((v, j) => v === b[i]?.[j])).length;
    const released = (): number => 0.8;
    const rawTrained = (data: readonly Float64Array[]): number =>
      data.reduce((sum, x) => sum + (x[0] as number), 0) / data.length;
    expect(same(terms(false, released), terms(true, released))).toBe(11);
    expect(same(terms(false, rawTrained), terms(true, rawTrained))).toBe(0);
  });

  it('gives a non-finite term as zero and does not let it touch the sum', () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      for (const part of [0, 1]) {
        const term = record(3, 1);
        (term[part] as TermPart).values[11] = bad;
        expect(encoded(term).every((v) => v === 0)).toBe(true);
      }
    }
  });
});

describe('encoding of a record', () => {
  it('clips body and slot jointly, leaving other slots exactly zero', () => {
    for (const slot of [1, 2]) {
      const sum = encoded(record(5, 10, slot));
      const other = slot === 1 ? 2 : 1;
      const offset = OFFSETS[other] as number;
      expect(sum.subarray(offset, offset + 64).every((v) => v === 0)).toBe(true);
      expect(Math.sqrt(Number(squaredNorm(sum))) / 65_536).toBeGreaterThan(0.999);
      expect(squaredNorm(sum) <= 65_536n ** 2n).toBe(true);
    }
  });

  it('never exceeds the bound, whatever sizes, clips and scales', () => {
    for (const [clip, scale] of [
      [1, 65_536],
      [0.3, 1_000],
      [2.7, 33.3],
      [1, 1.9],
      [1, 2 ** 26],
    ] as const) {
      const bound = BigInt(encoder(clip, scale).sensitivity) ** 2n;
      for (let i = 0; i < 60; i++)
        expect(squaredNorm(encoded(record(i, 10 ** ((i % 13) - 6)), clip, scale)) <= bound).toBe(true);
    }
  });

  it('decodes a sum to the sum of the clipped terms within the rounding', () => {
    const sum = new Int32Array(LENGTH);
    const expected = [new Float64Array(300), new Float64Array(50), new Float64Array(50)];
    const shared = encoder();
    for (let i = 0; i < 30; i++) {
      const term = record(i + 70, i % 2 === 0 ? 0.02 : 0.5, 1 + (i % 2));
      const norm = Math.sqrt(term.reduce((s, { values }) => s + values.reduce((a, v) => a + v * v, 0), 0));
      const factor = Math.min(1, 1 / norm);
      for (const { block, values } of term)
        values.forEach((v, j) => {
          (expected[block] as Float64Array)[j] = ((expected[block] as Float64Array)[j] as number) + v * factor;
        });
      shared.addRecord(sum, term);
    }
    const decoded = shared.decode(sum);
    decoded.forEach((values, block) => {
      const wanted = expected[block] as Float64Array;
      expect(values.length).toBe(wanted.length);
      // Toward zero: up to one unit a coordinate and record, mixed by the rotation back.
      const error = Math.sqrt(values.reduce((s, v, j) => s + (v - (wanted[j] as number)) ** 2, 0));
      expect(error).toBeLessThan((30 * Math.sqrt(wanted.length * 2)) / 65_536);
    });
  });

  it('shrinks a term whose norm doubles cannot tell from the bound', () => {
    // (2^26)^2 + 1 is exact, its square root rounds to 2^26: the clip sees no excess, the integer check does.
    const flat: readonly Block[] = [{ segment: 'flat', realLength: 2, length: 2, rotated: false }];
    const edge = createEncoder(nodeCrypto, { blocks: flat, clippingNorm: 2 ** 26, scale: 1, rotationSeed: SEED });
    const sum = new Int32Array(2);
    edge.addRecord(sum, [{ block: 0, values: Float64Array.of(2 ** 26, 1) }]);
    expect(squaredNorm(sum) <= 2n ** 52n).toBe(true);
    expect([...sum]).toEqual([2 ** 26 - 1, 0]);
  });

  it('clips a term whose squares overflow or underflow doubles', () => {
    const big = encoded(record(5, 1e200));
    expect([...big]).toEqual([...encoded(record(5, 1e6))]);
    const tiny = record(5, 1e-180);
    expect(encoded(tiny).every((v) => v === 0)).toBe(true);
    expect(Math.sqrt(Number(squaredNorm(encoded(tiny, 1e-180, 65_536 / 1e-180)))) / 65_536).toBeGreaterThan(0.999);
  });

  it('adds modulo 2^32 without a trace in other coordinates', () => {
    const sum = new Int32Array(LENGTH).fill(2 ** 31 - 1);
    const term = record(8, 1);
    encoder().addRecord(sum, term);
    const alone = encoded(term);
    expect([...sum]).toEqual([...alone].map((v) => (2 ** 31 - 1 + v) | 0));
  });

  it('keeps unrotated blocks in place', () => {
    const counts: readonly Block[] = [{ segment: 'counts', realLength: 3, length: 3, rotated: false }];
    const plain = createEncoder(nodeCrypto, { blocks: counts, clippingNorm: 1, scale: 16, rotationSeed: SEED });
    const sum = new Int32Array(3);
    plain.addRecord(sum, [{ block: 0, values: Float64Array.of(0, 1, 0) }]);
    expect([...sum]).toEqual([0, 16, 0]);
    expect(plain.decode(sum).map((values) => [...values])).toEqual([[0, 1, 0]]);
  });

  it('refuses terms and sums of other shapes', () => {
    const sum = new Int32Array(LENGTH);
    expect(() => encoder().addRecord(sum, [{ block: 0, values: new Float64Array(299) }])).toThrow(/values/);
    expect(() => encoder().addRecord(sum, [{ block: 3, values: new Float64Array(50) }])).toThrow(/values/);
    expect(() => encoder().addRecord(new Int32Array(639), record(1, 1))).toThrow(/sum/);
    const twice = [...record(1, 1), ...record(1, 1)];
    expect(() => encoder().addRecord(sum, twice)).toThrow(/at most once/);
    expect(() => encoder(0)).toThrow(/clippingNorm/);
    expect(() => encoder(1, 2 ** 27)).toThrow(/2\^26/);
    const odd: readonly Block[] = [{ segment: 'odd', realLength: 3, length: 3, rotated: true }];
    expect(() => createEncoder(nodeCrypto, { blocks: odd, clippingNorm: 1, scale: 1, rotationSeed: SEED })).toThrow(
      /power of two/,
    );
  });
});
