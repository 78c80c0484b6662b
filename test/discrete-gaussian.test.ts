import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import type { KeyStream } from '../protocol/crypto-provider.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { createDiscreteGaussian } from '../src/privacy/discrete-gaussian.ts';
import { discreteGaussianLaw } from '../src/privacy/discrete-gaussian-law.ts';
import { expNegative, rationalOf } from '../src/privacy/fixed-point.ts';
import { createSkellam } from '../src/privacy/skellam.ts';
import { skellamLaw } from '../src/privacy/skellam-law.ts';
import { cellWidthOf } from '../src/privacy/table-sampler.ts';
import { buildThresholdTable, type ThresholdTable } from '../src/privacy/threshold-table.ts';
import { chiSquareScore, discreteGaussianPmf, expectedMoments } from './support/discrete-gaussian-pmf.ts';

const lawOf = (variance: number) => discreteGaussianLaw(rationalOf(variance));
const unitTable = (variance: number): ThresholdTable => buildThresholdTable(lawOf(variance), 1, true);

const seeded = (byte: number): KeyStream => nodeCrypto.aes256Ctr(new Uint8Array(32).fill(byte));

function draw(stddev: number, count: number, byte: number): Int32Array {
  const values = new Int32Array(count);
  createDiscreteGaussian(stddev * stddev).fill(values, seeded(byte));
  return values;
}

/** A stream that gives these words (little-endian) first, then those of a seeded stream. */
function wordsThen(words: readonly number[], rest: KeyStream): KeyStream {
  let pending = words.flatMap((w) => [w & 255, (w >>> 8) & 255, (w >>> 16) & 255, w >>> 24]);
  return {
    read(target) {
      rest.read(target);
      target.set(pending.slice(0, target.length));
      pending = pending.slice(target.length);
    },
  };
}

describe('discrete Gaussian: distribution', () => {
  it('has cells with the probabilities of the definition, computed independently', () => {
    const cases = [
      [0.5, 0.7865707070419479, 0.1064507694231447, 0.0002638650764154288],
      [1, 0.39894227826686174, 0.24197072322446062, 0.05399096622430529],
      [2, 0.19947114020071632, 0.17603266338214973, 0.12098536225957167],
      [10, 0.03989422804014328, 0.03969525474770119, 0.0391042693975456],
    ] as const;
    for (const [stddev, ...expected] of cases) {
      const sums = lawOf(stddev * stddev).cumulativeWeights(1, true, 256);
      expected.forEach((probability, k) => {
        const cell = (sums[k] as bigint) - (k === 0 ? 0n : (sums[k - 1] as bigint));
        const exact = Number(cell >> 192n) / 2 ** 64 / (k === 0 ? 1 : 2);
        expect(Math.abs(exact / probability - 1)).toBeLessThan(1e-14);
      });
    }
  });

  for (const stddev of [0.7, 1.5, 2, 10, 100]) {
    it(`fits the exact probabilities and moments at standard deviation ${stddev}`, () => {
      const count = 2_000_000;
      const values = draw(stddev, count, 11);
      const pmf = discreteGaussianPmf(stddev * stddev);
      const score = chiSquareScore(values, (x) => x, pmf);
      expect(score.cells).toBeGreaterThan(4);
      expect(Math.abs(score.z)).toBeLessThan(4);
      const moments = expectedMoments(pmf);
      const mean = values.reduce((a, b) => a + b, 0) / count;
      const second = values.reduce((a, b) => a + b * b, 0) / count;
      expect(Math.abs(mean) / Math.sqrt(moments.second / count)).toBeLessThan(4);
      expect(
        Math.abs(second - moments.second) / Math.sqrt((moments.fourth - moments.second ** 2) / count),
      ).toBeLessThan(4);
    });
  }

  it('fits the exact probabilities of wide cells, seen at every residue', () => {
    const stddev = 1_100;
    const width = cellWidthOf(stddev * stddev);
    expect(width).toBe(16);
    const values = draw(stddev, 4_000_000, 12);
    expect(Math.abs(chiSquareScore(values, (x) => x, discreteGaussianPmf(stddev * stddev)).z)).toBeLessThan(4);
  });

  it('fits the binned probabilities of the deviation of the demo', () => {
    const stddev = 8.3e4;
    const bin = 2_000;
    const values = draw(stddev, 2_000_000, 13);
    const pmf = discreteGaussianPmf(stddev * stddev);
    const bins = new Map<number, number>();
    for (const [x, p] of pmf) bins.set(Math.floor(x / bin), (bins.get(Math.floor(x / bin)) ?? 0) + p);
    const score = chiSquareScore(values, (x) => Math.floor(x / bin), bins);
    expect(score.cells).toBeGreaterThan(200);
    expect(Math.abs(score.z)).toBeLessThan(4);
  });

  it('tells a deviation that is wrong by a half percent', () => {
    const values = draw(10.05, 2_000_000, 14);
    expect(chiSquareScore(values, (x) => x, discreteGaussianPmf(100)).z).toBeGreaterThan(6);
  });
});

describe('discrete Gaussian: determinism', () => {
  it('gives the frozen draws of a fixed seed', () => {
    expect([...draw(0.7, 12, 21)]).toEqual(KNOWN.narrow);
    expect([...draw(10, 12, 21)]).toEqual(KNOWN.ten);
    expect([...draw(8.3e4, 12, 21)]).toEqual(KNOWN.wide);
  });

  it('adds the draws that fill writes', () => {
    for (const stddev of [2, 500, 5_000]) {
      const sampler = createDiscreteGaussian(stddev * stddev);
      const filled = new Int32Array(1000);
      sampler.fill(filled, seeded(22));
      const added = Int32Array.from({ length: 1000 }, (_, i) => 7 * i - 3000);
      sampler.add(added, seeded(22));
      expect([...added]).toEqual([...filled].map((x, i) => x + 7 * i - 3000));
    }
  });

  it('goes on at the next word across refills', () => {
    // 16,384 words are one refill; unit cells take one word a draw (none of these hits a threshold).
    const table = unitTable(100);
    const bytes = new Uint8Array(4 * 3 * 16_384);
    seeded(23).read(bytes);
    const words = new Uint32Array(bytes.buffer);
    const expected = Array.from(words, (word) => {
      const k = table.prefix.findIndex((threshold) => word >>> 1 < threshold);
      return word % 2 === 1 && k > 0 ? -k : k;
    });
    expect(expected).not.toContain(-1 - table.prefix.length);
    expect([...draw(10, 3 * 16_384, 23)]).toEqual(expected);
  });

  it('draws the same whatever the size of the refills is', () => {
    // Short vectors are drawn with short refills, and wide cells take an odd number of words now and then.
    for (let seed = 40; seed < 60; seed++) {
      const long = draw(1_300, 10_000, seed);
      for (const count of [1, 7, 100, 1_000])
        expect([...draw(1_300, count, seed)]).toEqual([...long.subarray(0, count)]);
    }
  });

  it('gives equal bits for readers that deliver byte by byte', () => {
    const whole = seeded(24);
    const slow: KeyStream = {
      read(target) {
        for (let i = 0; i < target.length; i++) whole.read(target.subarray(i, i + 1));
      },
    };
    const sampler = createDiscreteGaussian(100);
    const values = new Int32Array(500);
    sampler.fill(values, slow);
    expect([...values]).toEqual([...draw(10, 500, 24)]);
  });
});

describe('discrete Gaussian: draws that hit a threshold', () => {
  const variance = 4;
  const bits = 512;
  const sums = lawOf(variance).cumulativeWeights(1, true, bits);
  const table = unitTable(variance);

  /** One draw from a stream whose first bits are those of `u` (`bits` long), then the sign. */
  function drawAt(u: bigint, sign = 0): number {
    // 31 bits and the sign, then 225 more (1 + 7 * 32), then 256 more: whole words, most significant first.
    const words = [Number(u >> BigInt(bits - 31)) * 2 + sign, Number((u >> BigInt(bits - 32)) & 1n)];
    for (let at = bits - 64; at >= 0; at -= 32) words.push(Number((u >> BigInt(at)) & 0xffff_ffffn));
    const value = new Int32Array(1);
    createDiscreteGaussian(variance).fill(value, wordsThen(words, seeded(31)));
    return value[0] as number;
  }

  it('agrees with the digits of the exact cumulative weights on both sides, 64 and 190 digits behind the draw', () => {
    for (const k of [0, 1, 2, 5, 9]) {
      const threshold = sums[k] as bigint;
      expect(Number(threshold >> BigInt(bits - 31))).toBe(table.prefix[k]);
      for (const digits of [64, 190]) {
        const near = 1n << BigInt(bits - 31 - digits);
        expect(drawAt(threshold - near)).toBe(k);
        expect(drawAt(threshold + near)).toBe(k + 1);
        expect(drawAt(threshold + near, 1)).toBe(-k - 1);
      }
    }
  });

  it('takes as many digits as it needs where 256 leave it open', () => {
    for (const k of [0, 3]) {
      const threshold = sums[k] as bigint;
      // Bits beyond the 256th differ only: the first comparison must not guess.
      const near = 1n << BigInt(bits - 300);
      expect(drawAt(threshold - near)).toBe(k);
      expect(drawAt(threshold + near)).toBe(k + 1);
    }
  });

  it('reaches the tail: a draw of ones only is decided far outside the table', () => {
    // 31 + 225 ones: the cell is beyond all that 256 bits can name.
    const far = drawAt((1n << BigInt(bits)) - (1n << BigInt(bits - 290)));
    const tail = sums.findIndex((c) => c > (1n << BigInt(bits)) - (1n << BigInt(bits - 290)));
    expect(far).toBe(tail);
    expect(far).toBeGreaterThan(36);
    expect(lawOf(variance).cumulativeWeights(1, true, 256).length).toBeLessThan(sums.length);
  });

  it('computes more digits of a threshold where 128 leave its first 31 bits open', () => {
    const asked: number[] = [];
    // The first threshold lies 2^-200 below 3/4.
    const law = {
      ...lawOf(4),
      cumulativeWeights(_: number, __: boolean, digits: number) {
        asked.push(digits);
        const whole = 1n << BigInt(digits);
        return [(whole * 3n) / 4n - (whole >> 200n), whole];
      },
    };
    expect([...buildThresholdTable(law, 1, true).prefix]).toEqual([3 * 2 ** 29 - 1, 2 ** 31 - 1]);
    expect(asked).toEqual([128, 256]);
  });

  it('never scans past the table', () => {
    for (const stddev of [0.5, 0.7, 3, 77, 128, 1_024, 8.3e4, 1e7]) {
      const width = cellWidthOf(stddev * stddev);
      const { prefix } = buildThresholdTable(lawOf(stddev * stddev), width, width === 1);
      expect(prefix[prefix.length - 1]).toBe(2 ** 31 - 1);
      expect(prefix.indexOf(2 ** 31 - 1)).toBe(prefix.length - 1);
    }
  });
});

describe('draws of wide cells at the edge of acceptance', () => {
  const stddev = 1_300;
  const variance = rationalOf(stddev * stddev);
  const width = cellWidthOf(stddev * stddev);
  const offset = width - 1;
  const bits = 512;

  /** exp(-offset (2 * 16 k + offset) / (2 variance)). */
  const gaussianRatio = (k: number): bigint =>
    expNegative(
      {
        numerator: BigInt(offset * (2 * width * k + offset)) * variance.denominator,
        denominator: 2n * variance.numerator,
      },
      bits,
    );

  /** From the recurrence of unit cells: it shares nothing with the series of wide ones. */
  const skellamSums = skellamLaw(variance).cumulativeWeights(1, false, 700);
  const skellamWeight = (x: number): bigint =>
    (skellamSums[x] as bigint) - (x === 0 ? 0n : (skellamSums[x - 1] as bigint));
  const skellamRatio = (k: number): bigint =>
    (skellamWeight(width * k + offset) << BigInt(bits)) / skellamWeight(width * k);

  const cases = [
    {
      name: 'discrete Gaussian',
      law: discreteGaussianLaw(variance),
      create: createDiscreteGaussian,
      acceptance: gaussianRatio,
      depths: [
        [20, 2],
        [38, 2],
        [45, 9],
        [70, 9],
        [200, 9],
        [300, 17],
      ],
    },
    {
      name: 'Skellam',
      law: skellamLaw(variance),
      create: createSkellam,
      acceptance: skellamRatio,
      depths: [
        [20, 2],
        [29, 2],
        [33, 9],
        [70, 9],
        [200, 9],
        [300, 17],
      ],
    },
  ] as const;

  for (const { name, law, create, acceptance, depths } of cases) {
    describe(name, () => {
      const table = buildThresholdTable(law, width, false);

      /** A word whose draw falls inside cell k, clear of its thresholds. */
      const insideCell = (k: number, sign = 0): number => {
        const below = k === 0 ? 0 : (table.prefix[k - 1] as number);
        return 2 * Math.floor((below + (table.prefix[k] as number)) / 2) + sign;
      };

      /** A draw of cell k, last offset, whose acceptance bits start as `u`; it reads `used` words. If refused, 112. */
      function drawWith(k: number, u: bigint, used: number): number {
        // 28 bits beside the offset and 32 more for doubles, then 196 (4 + 6 * 32) and 256 for integers.
        const words = [
          Number(u >> BigInt(bits - 28)) * width + offset,
          Number((u >> BigInt(bits - 60)) & 0xffff_ffffn),
        ];
        words.push(Number((u >> BigInt(bits - 64)) & 15n));
        for (let at = bits - 96; at >= 0; at -= 32) words.push(Number((u >> BigInt(at)) & 0xffff_ffffn));
        const value = new Int32Array(1);
        const script = [insideCell(k), ...words.slice(0, used), insideCell(7), 0];
        create(stddev * stddev).fill(value, wordsThen(script, seeded(32)));
        return value[0] as number;
      }

      for (const [digits, used] of depths) {
        it(`decides bits within 2^-${digits} of the ratio exactly, with ${used} words`, () => {
          for (let k = 0; k < 420; k += digits > 40 && name === 'Skellam' ? 20 : 3) {
            const near = 1n << BigInt(bits - digits);
            expect(drawWith(k, acceptance(k) - near, used)).toBe(width * k + offset);
            expect(drawWith(k, acceptance(k) + near, used)).toBe(112);
          }
        });
      }

      it('decides by the ratio alone where only a resolved draw can lead', () => {
        // 31 + 225 bits that name a cell beyond 13 deviations, where no double knows the exponent of Skellam noise.
        const sums = law.cumulativeWeights(width, false, 256);
        const far = sums.findIndex((sum) => sum > (1n << 256n) - (1n << 110n));
        expect((far * width) / stddev).toBeGreaterThan(13);
        const inside = ((sums[far] as bigint) + (sums[far - 1] as bigint)) / 2n;
        const digits: number[] = [];
        for (let at = 192; at >= 0; at -= 32) digits.push(Number((inside >> BigInt(at)) & 0xffff_ffffn));
        const ratio = law.ratio(far * width, offset, bits);
        const near = 1n << BigInt(bits - 40);
        for (const [u, expected] of [
          [ratio - near, far * width + offset],
          [ratio + near, 112],
        ] as const) {
          const fine = Number(u >> BigInt(bits - 28)) * width + offset;
          const rest: number[] = [
            Number((u >> BigInt(bits - 60)) & 0xffff_ffffn),
            Number((u >> BigInt(bits - 64)) & 15n),
          ];
          for (let at = bits - 96; at >= 256; at -= 32) rest.push(Number((u >> BigInt(at)) & 0xffff_ffffn));
          // The cell is resolved first: one bit beside 2^31 - 1 and seven words.
          const script = [0xffff_fffe, fine, Number((inside >> 224n) & 1n), ...digits, ...rest, insideCell(7), 0];
          const value = new Int32Array(1);
          create(stddev * stddev).fill(value, wordsThen(script, seeded(34)));
          expect(value[0]).toBe(expected);
        }
      });

      it('draws "-0" again', () => {
        const value = new Int32Array(1);
        const sampler = create(stddev * stddev);
        sampler.fill(value, wordsThen([insideCell(0, 0), 0, insideCell(7), 0], seeded(33)));
        expect(value[0]).toBe(0);
        sampler.fill(value, wordsThen([insideCell(0, 1), 0, insideCell(7, 1), 0], seeded(33)));
        expect(value[0]).toBe(-112);
      });
    });
  }
});

describe('discrete Gaussian: arguments', () => {
  it('refuses variances that its error bounds do not cover', () => {
    for (const variance of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 0.2, 2 ** 51]) {
      expect(() => createDiscreteGaussian(variance)).toThrow(/variance/);
    }
    try {
      createDiscreteGaussian(0);
      expect.unreachable();
    } catch (error) {
      expect(isCoveyError(error, 'USAGE_RANGE')).toBe(true);
    }
  });
});

const KNOWN = {
  narrow: [0, 0, -1, -1, 0, -1, 0, -1, 1, 1, 1, -1],
  ten: [-1, 0, -10, -15, 7, -9, -3, -13, 11, 18, 15, -15],
  wide: [-7689, -79229, 54937, -22899, 95174, 119921, 9837, 106932, -54859, -65214, -58645, 38614],
};
