import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { createDiscreteGaussian } from '../src/privacy/discrete-gaussian.ts';
import { checkShareVariance, realisedNoise, reportSignal, shareVariance } from '../src/privacy/noise-shares.ts';

const DEMO = { noiseMultiplier: 3.11, sensitivity: 65_536, minSurvivors: 9, colluders: 3 };

function codeOf(act: () => void): string {
  try {
    act();
  } catch (error) {
    return isCoveyError(error) ? error.code : 'not ours';
  }
  return 'none';
}

describe('noise shares', () => {
  it('meet the target with the fewest survivors and without the colluders', () => {
    const variance = shareVariance(DEMO);
    expect(Math.sqrt(variance)).toBeCloseTo(83_207.6, 0);
    const session = { shareVariance: variance, sensitivity: DEMO.sensitivity, colluders: 3 };
    expect(realisedNoise(session, 9).noiseMultiplier).toBeCloseTo(3.11, 12);
    expect(realisedNoise(session, 12).noiseMultiplier).toBeCloseTo(3.11 * Math.sqrt(9 / 6), 12);
    expect(realisedNoise(session, 8).noiseMultiplier).toBeCloseTo(3.11 * Math.sqrt(5 / 6), 12);
    expect(realisedNoise(session, 12).totalVariance / variance).toBeCloseTo(12, 12);
    expect(realisedNoise(session, 12).honestVariance / variance).toBeCloseTo(9, 12);
  });

  it('are what the samplers add up to', () => {
    const target = { noiseMultiplier: 2, sensitivity: 40, minSurvivors: 5, colluders: 1 };
    const variance = shareVariance(target);
    const sum = new Int32Array(100_000);
    for (let member = 0; member < 5; member++)
      createDiscreteGaussian(variance).add(sum, nodeCrypto.aes256Ctr(new Uint8Array(32).fill(member)));
    const measured = sum.reduce((s, v) => s + v * v, 0) / sum.length;
    const { totalVariance } = realisedNoise({ ...target, shareVariance: variance }, 5);
    expect(totalVariance).toBeCloseTo(6_400 * (5 / 4), 9);
    // Relative deviation of a variance estimate: sqrt(2 / n).
    expect(Math.abs(measured / totalVariance - 1)).toBeLessThan(4 * Math.sqrt(2 / sum.length));
  });

  it('are refused where no honest share is left or a share is too small', () => {
    expect(codeOf(() => shareVariance({ ...DEMO, colluders: 9 }))).toBe('PRIVACY_NOISE');
    expect(codeOf(() => shareVariance({ ...DEMO, colluders: -1 }))).toBe('PRIVACY_NOISE');
    expect(codeOf(() => shareVariance({ ...DEMO, minSurvivors: 8.5 }))).toBe('PRIVACY_NOISE');
    expect(codeOf(() => shareVariance({ ...DEMO, noiseMultiplier: 0 }))).toBe('USAGE_RANGE');
    expect(codeOf(() => shareVariance({ ...DEMO, sensitivity: Number.NaN }))).toBe('USAGE_RANGE');
    // One unit of sensitivity, z = 3.11: 1.27 units a share.
    expect(codeOf(() => shareVariance({ ...DEMO, sensitivity: 1 }))).toBe('PRIVACY_NOISE');
    expect(codeOf(() => realisedNoise({ ...DEMO, shareVariance: 100 }, 3))).toBe('PRIVACY_NOISE');
    expect(codeOf(() => checkShareVariance(2.25))).toBe('none');
    expect(codeOf(() => checkShareVariance(2.24))).toBe('PRIVACY_NOISE');
    expect(codeOf(() => checkShareVariance(Number.NaN))).toBe('PRIVACY_NOISE');
  });

  it('report how much of a release is signal', () => {
    const sum = new Int32Array(50_000);
    createDiscreteGaussian(400).fill(sum, nodeCrypto.aes256Ctr(new Uint8Array(32).fill(9)));
    expect(reportSignal(sum, 400).ratio).toBeLessThan(0.15);
    for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (i % 2 === 0 ? 40 : -40);
    const report = reportSignal(sum, 400);
    expect(report.noiseSquaredNorm).toBe(50_000 * 400);
    expect(report.ratio).toBeCloseTo(2, 1);
  });
});
