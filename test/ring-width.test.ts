import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { packLanes, unpackLanes } from '../protocol/ring.ts';
import { createDiscreteGaussian } from '../src/privacy/discrete-gaussian.ts';
import { boundOverflowProbability, checkRingWidth, chooseScale } from '../src/privacy/ring-width.ts';

function codeOf(act: () => void): string {
  try {
    act();
  } catch (error) {
    return isCoveyError(error) ? error.code : 'not ours';
  }
  return 'none';
}

const DEMO = { bits: 32, coordinates: 10_240, largestTerm: 65_536, terms: 12 * 1_300, noiseVariance: 12 * 8.3e4 ** 2 };

describe('ring width', () => {
  it('accepts the demo on 32 bits and refuses it on 21 and 16', () => {
    expect(codeOf(() => checkRingWidth(DEMO))).toBe('none');
    expect(codeOf(() => checkRingWidth({ ...DEMO, bits: 21 }))).toBe('PRIVACY_RING_WIDTH');
    expect(codeOf(() => checkRingWidth({ ...DEMO, bits: 16 }))).toBe('PRIVACY_RING_WIDTH');
  });

  it('counts the sum and seven deviations of the noise to the unit', () => {
    // 2^15 - 1 = 32,767 = 100 * 300 + 7 * 395 + 2
    const load = { bits: 16, coordinates: 100, largestTerm: 300, terms: 100, noiseVariance: 395 ** 2 };
    expect(codeOf(() => checkRingWidth(load))).toBe('none');
    expect(codeOf(() => checkRingWidth({ ...load, noiseVariance: 396 ** 2 }))).toBe('PRIVACY_RING_WIDTH');
    expect(codeOf(() => checkRingWidth({ ...load, terms: 101 }))).toBe('PRIVACY_RING_WIDTH');
    expect(codeOf(() => checkRingWidth({ ...load, noiseStddevs: 8 }))).toBe('PRIVACY_RING_WIDTH');
    expect(codeOf(() => checkRingWidth({ ...load, noiseStddevs: 6 }))).toBe('USAGE_RANGE');
  });

  it('refuses numbers that are none', () => {
    for (const field of ['bits', 'coordinates', 'largestTerm', 'terms', 'noiseVariance'] as const) {
      expect(codeOf(() => checkRingWidth({ ...DEMO, [field]: Number.NaN }))).toBe('USAGE_RANGE');
      expect(codeOf(() => checkRingWidth({ ...DEMO, [field]: -1 }))).toBe('USAGE_RANGE');
      expect(codeOf(() => checkRingWidth({ ...DEMO, [field]: Number.POSITIVE_INFINITY }))).toBe('USAGE_RANGE');
    }
  });

  it('bounds the probability of an overflow from above', () => {
    // Room for 2.5 deviations: P[|X| > 2.5 sigma] = .0124 a coordinate; the subgaussian bound says .0879.
    const stddev = 2_000;
    const load = { bits: 16, coordinates: 1, largestTerm: 27_767, terms: 1, noiseVariance: stddev ** 2 };
    const bound = boundOverflowProbability(load);
    expect(bound).toBeCloseTo(2 * Math.exp(-3.125), 10);
    const values = new Int32Array(200_000);
    createDiscreteGaussian(stddev ** 2).fill(values, nodeCrypto.aes256Ctr(new Uint8Array(32).fill(1)));
    for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) + 27_767;
    const lifted = unpackLanes(packLanes(values, 4), values.length, 4);
    const lost = lifted.filter((value, i) => value !== values[i]).length / values.length;
    // One side overflows only: half of both tails.
    expect(lost).toBeGreaterThan(0.0124 / 2 - 0.001);
    expect(lost).toBeLessThan(bound);
    expect(boundOverflowProbability({ ...DEMO, bits: 21 })).toBe(1);
    expect(boundOverflowProbability(DEMO)).toBe(0);
  });
});

describe('choice of the scale', () => {
  it('reproduces values computed independently', () => {
    // Own evaluation of the heuristic of arXiv 2102.06387, section 4: local deviation, clip, bits, members, dimension, k.
    const cases = [
      [0.1, 1, 16, 100, 1_048_576, 4, 8153.213176042804],
      [0.1, 1, 20, 100, 1_048_576, 4, 130451.43502024449],
      [0.03, 1, 18, 1_000, 1_048_576, 4, 24067.621232148183],
      [0.05, 0.03, 14, 100, 65_536, 3, 5459.824798263963],
      [0.5, 1, 12, 10, 1_024, 4, 317.670619598966],
    ] as const;
    for (const [localNoiseStddev, clippingNorm, bits, members, dimension, noiseStddevs, expected] of cases) {
      const scale = chooseScale({ bits, members, dimension, clippingNorm, localNoiseStddev, noiseStddevs });
      expect(Math.abs(scale / expected - 1)).toBeLessThan(1e-13);
    }
  });

  it('fills the ring: the deviations asked for fit, and not many more', () => {
    for (const bits of [16, 21]) {
      for (const members of [12, 100]) {
        const problem = { bits, members, dimension: 4_096, clippingNorm: 1, localNoiseStddev: 0.3, noiseStddevs: 7 };
        const scale = chooseScale(problem);
        // Rotated signal of norm n C spread over d coordinates, and n shares of noise.
        const stddev = scale * Math.sqrt(members ** 2 / 4_096 + members * 0.09);
        const deviations = 2 ** (bits - 1) / stddev;
        expect(deviations).toBeGreaterThan(7);
        expect(deviations).toBeLessThan(7.001);
      }
    }
  });

  it('refuses a ring narrower than its rounding noise', () => {
    const problem = { bits: 4, members: 100, dimension: 16, clippingNorm: 1, localNoiseStddev: 1, noiseStddevs: 4 };
    expect(codeOf(() => chooseScale(problem))).toBe('PRIVACY_RING_WIDTH');
  });
});
