import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import type { KeyStream } from '../protocol/crypto-provider.ts';
import { type Block, createEncoder } from '../src/privacy/encode.ts';
import { contributionBound, roundContribution } from '../src/privacy/rounding.ts';

const seeded = (byte: number): KeyStream => nodeCrypto.aes256Ctr(new Uint8Array(32).fill(byte));
const SEED = new Uint8Array(32).fill(5);
const BLOCKS: readonly Block[] = [
  { segment: 'body', realLength: 200, length: 256, rotated: true },
  { segment: 'head/0', realLength: 20, length: 32, rotated: true },
  { segment: 'head/1', realLength: 20, length: 32, rotated: true },
  { segment: 'weight', realLength: 1, length: 1, rotated: false },
];
const encoder = (clippingNorm: number, scale: number) =>
  createEncoder(nodeCrypto, { blocks: BLOCKS, clippingNorm, scale, rotationSeed: SEED });
const squared = (values: Int32Array): bigint => values.reduce((sum, v) => sum + BigInt(v) * BigInt(v), 0n);

function segments(salt: number, size: number): Float64Array[] {
  let state = salt;
  const next = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state / 2 ** 31 - 1) * size;
  };
  return BLOCKS.map((block, i) => Float64Array.from({ length: block.realLength }, () => (i === 1 ? 0 : next())));
}

describe('bound of randomized rounding', () => {
  it('reproduces the published formula', () => {
    // Own evaluation of section 4 of arXiv 2102.06387 with beta = exp(-1/2): norm, dimension, norm after rounding.
    const cases: readonly (readonly [number, number, number])[] = [
      [50, 1_024, 53.1224999411737],
      [500, 1_048_576, 716.349076917113],
      [5_000, 1_048_576, 5026.694341214711],
      [80_000, 1_048_576, 80002.14157133545],
      [1, 16, 2.8284271247461903],
    ];
    for (const [norm, dimension, expected] of cases) {
      const bound = contributionBound(norm, dimension);
      expect(bound.squaredNorm).toBe(Math.floor(expected ** 2 + 1e-6));
      expect(Math.abs(bound.sensitivity / Math.sqrt(bound.squaredNorm) - 1)).toBeLessThan(1e-15);
    }
  });

  it('charges no less than the root of the integer that is checked', () => {
    for (let i = 1; i < 3_000; i += 7) {
      const { squaredNorm, sensitivity } = contributionBound(i * 1.37, i);
      // Compare in integers: (sensitivity * 2^40)^2 >= squaredNorm * 2^80.
      const scaled = BigInt(Math.floor(sensitivity * 2 ** 40));
      expect((scaled + 1n) ** 2n > BigInt(squaredNorm) << 80n).toBe(true);
    }
  });

  it('refuses a bound that doubles cannot count exactly', () => {
    expect(() => contributionBound(2 ** 27, 16)).toThrow(/2\^53/);
    expect(() => contributionBound(Number.NaN, 16)).toThrow(/scaledNorm/);
  });
});

describe('conditional rounding', () => {
  it('rounds each coordinate to a neighbour, without bias', () => {
    const dimension = 2_000;
    const scaled = Float64Array.from({ length: dimension }, (_, i) => (i % 20) / 20 - 0.5 + 10 * ((i % 3) - 1));
    const norm = Math.sqrt(scaled.reduce((s, v) => s + v * v, 0));
    const bound = contributionBound(norm, dimension);
    const totals = new Float64Array(20);
    const stream = seeded(1);
    const rounds = 200;
    let furthest = 0;
    for (let round = 0; round < rounds; round++) {
      const rounded = roundContribution(scaled, bound, stream);
      rounded.forEach((value, i) => {
        const exact = scaled[i] as number;
        furthest = Math.max(furthest, Math.abs(value - exact));
        totals[i % 20] = (totals[i % 20] as number) + value - exact;
      });
    }
    expect(furthest).toBeLessThan(1);
    // 100 coordinates a residue and 200 rounds: deviation of the mean error at most .5 / sqrt(20,000).
    for (const total of totals) expect(Math.abs(total / (100 * rounds))).toBeLessThan((0.5 / Math.sqrt(20_000)) * 4.5);
  });

  it('never leaves the bound, and keeps trying rather than giving in', () => {
    // A bound that only some roundings meet: half of 64 coordinates may go up.
    const scaled = new Float64Array(64).fill(0.5);
    const bound = { squaredNorm: 32, sensitivity: Math.sqrt(32) };
    const stream = seeded(2);
    for (let i = 0; i < 200; i++) {
      const rounded = roundContribution(scaled, bound, stream);
      expect(squared(rounded) <= 32n).toBe(true);
      // P[at most 32 of 64 go up] = .55: 64 attempts never fail, and what is accepted is no zero vector.
      expect(squared(rounded) > 8n).toBe(true);
    }
  });

  it('goes toward zero where no attempt fits, then to the zero vector', () => {
    const scaled = new Float64Array(64).fill(1.5);
    expect([...roundContribution(scaled, { squaredNorm: 64, sensitivity: 8 }, seeded(3))]).toEqual(Array(64).fill(1));
    expect([...roundContribution(scaled, { squaredNorm: 63, sensitivity: 8 }, seeded(3))]).toEqual(Array(64).fill(0));
    expect([
      ...roundContribution(
        scaled.map((v) => -v),
        { squaredNorm: 64, sensitivity: 8 },
        seeded(3),
      ),
    ]).toEqual(Array(64).fill(-1));
  });

  it('takes 64 attempts at most', () => {
    let words = 0;
    const counting: KeyStream = {
      read(target) {
        words += target.length / 4;
        target.fill(255);
      },
    };
    // All ones never round up; no rounding of this vector fits.
    roundContribution(new Float64Array(16).fill(2.5), { squaredNorm: 1, sensitivity: 1 }, counting);
    expect(words).toBe(64 * 16);
  });
});

describe('encoding of a whole contribution', () => {
  it('clips the concatenation jointly and keeps empty slots at zero', () => {
    for (const size of [1e-3, 1, 1e6]) {
      const encode = encoder(0.5, 4_000);
      const values = encode.encodeContribution(segments(3, size), seeded(4));
      expect(squared(values) <= BigInt(encode.contribution.squaredNorm)).toBe(true);
      expect(values.subarray(256, 288).every((v) => v === 0)).toBe(true);
      if (size >= 1) expect(Math.sqrt(Number(squared(values)))).toBeGreaterThan(1_995);
    }
  });

  it('decodes to the clipped values within the rounding', () => {
    const encode = encoder(1, 60_000);
    const original = segments(8, 0.01);
    const decoded = encode.decode(encode.encodeContribution(original, seeded(5)));
    decoded.forEach((values, block) => {
      values.forEach((value, i) => {
        expect(Math.abs(value - (original[block]?.[i] as number))).toBeLessThan(8 / 60_000);
      });
    });
  });

  it('is unbiased: the mean of many encodings nears the input', () => {
    const encode = encoder(1, 30);
    const original = segments(9, 0.02);
    const sum = new Int32Array(321);
    const rounds = 400;
    for (let i = 0; i < rounds; i++)
      encode.encodeContribution(original, seeded(i)).forEach((v, j) => {
        sum[j] = (sum[j] as number) + v;
      });
    const decoded = encode.decode(sum);
    // Deviation of one coordinate at most .5 / 30 / sqrt(400).
    decoded.forEach((values, block) => {
      values.forEach((value, i) => {
        expect(Math.abs(value / rounds - (original[block]?.[i] as number))).toBeLessThan((5 * 0.5) / 30 / 20);
      });
    });
  });

  it('turns a non-finite contribution into zero', () => {
    const bad = segments(10, 1);
    (bad[3] as Float64Array)[0] = Number.NaN;
    expect(
      encoder(1, 4_000)
        .encodeContribution(bad, seeded(6))
        .every((v) => v === 0),
    ).toBe(true);
  });

  it('refuses other shapes', () => {
    expect(() => encoder(1, 100).encodeContribution([], seeded(7))).toThrow(/segments/);
    const short = segments(11, 1).map((values, i) => (i === 2 ? values.subarray(1) : values));
    expect(() => encoder(1, 100).encodeContribution(short, seeded(7))).toThrow(/values/);
  });
});
