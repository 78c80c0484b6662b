import { describe, expect, it } from 'vitest';
import { isCoveyError } from '../protocol/errors.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import { calibrateNoiseMultiplier } from '../src/privacy/calibrate.ts';
import type { DpEvent } from '../src/privacy/events.ts';
import { honestShares } from '../src/privacy/views.ts';

const SENSITIVITY = 65_536;
const TARGET = { epsilon: 8, delta: 1e-5 };

/** One training step of twelve organizations: shares calibrated for nine survivors of whom three collude. */
function step(noiseMultiplier: number, shares: number): DpEvent {
  return {
    kind: 'poissonSampled',
    probability: 0.5,
    event: {
      kind: 'discreteGaussian',
      shares,
      shareVariance: (noiseMultiplier * SENSITIVITY) ** 2 / honestShares('server', 9, 3),
      sensitivity: SENSITIVITY,
      dimension: 8192,
      symmetric: true,
    },
  };
}
const choice: DpEvent = { kind: 'exponentialMechanism', epsilon: 0.5, monotone: true };
const plan = (noiseMultiplier: number, shares = 6) => [
  { event: step(noiseMultiplier, shares), count: 80 },
  { event: choice, count: 3 },
];
const epsilonOf = (noiseMultiplier: number, shares: number): number =>
  plan(noiseMultiplier, shares)
    .reduce((accountant, { event, count }) => accountant.compose(event, count), rdpAccountant())
    .epsilon(TARGET.delta);

function refusal(run: () => unknown): string {
  try {
    run();
    return 'accepted';
  } catch (error) {
    return isCoveyError(error) ? error.code : String(error);
  }
}

describe('calibration', () => {
  it('finds the noise of eighty steps and three choices, and what survivors beyond the fewest save', () => {
    const noiseMultiplier = calibrateNoiseMultiplier(TARGET, plan);
    expect(noiseMultiplier).toBeCloseTo(3.11, 2);
    const [fewest, one, all] = [9, 10, 12].map((survivors) =>
      epsilonOf(noiseMultiplier, honestShares('server', survivors, 3)),
    ) as [number, number, number];
    expect(fewest).toBeLessThanOrEqual(TARGET.epsilon);
    expect(fewest).toBeGreaterThan(TARGET.epsilon * (1 - 1e-5));
    expect(one).toBeCloseTo(7.3, 2);
    expect(all).toBeCloseTo(6.39, 2);
  });

  it('is tight: a millionth less noise misses the target', () => {
    const noiseMultiplier = calibrateNoiseMultiplier(TARGET, plan);
    expect(epsilonOf(noiseMultiplier * (1 - 1.1e-6), 6)).toBeGreaterThan(TARGET.epsilon);
    for (const epsilon of [0.01, 0.3, 40]) {
      const build = (z: number) => [{ event: { kind: 'gaussian', noiseMultiplier: z } as DpEvent, count: 10 }];
      const found = calibrateNoiseMultiplier({ epsilon, delta: 1e-9 }, build);
      const at = (z: number): number =>
        rdpAccountant().compose({ kind: 'gaussian', noiseMultiplier: z }, 10).epsilon(1e-9);
      expect(at(found)).toBeLessThanOrEqual(epsilon);
      expect(at(found * (1 - 1.1e-6))).toBeGreaterThan(epsilon);
    }
  });

  it('needs few evaluations', () => {
    let evaluations = 0;
    calibrateNoiseMultiplier(TARGET, (noiseMultiplier) => {
      evaluations++;
      return plan(noiseMultiplier);
    });
    expect(evaluations).toBeLessThan(20);
  });

  it('takes noise that the mechanism refuses as too little', () => {
    // Sensitivity 1: the target needs little noise, sums of shares need 1.5 integer units each.
    const build = (z: number): { event: DpEvent; count: number }[] => [
      {
        event: {
          kind: 'discreteGaussian',
          shares: 4,
          shareVariance: (z * z) / 4,
          sensitivity: 1,
          dimension: 1,
          symmetric: true,
        },
        count: 1,
      },
    ];
    expect(calibrateNoiseMultiplier({ epsilon: 50, delta: 1e-5 }, build)).toBeCloseTo(3, 4);
  });

  it('says when no noise is enough, and when noise does not matter', () => {
    const onlyChoices = (): { event: DpEvent; count: number }[] => [{ event: choice, count: 3 }];
    expect(refusal(() => calibrateNoiseMultiplier({ epsilon: 0.1, delta: 1e-5 }, plan))).toBe('PRIVACY_BUDGET');
    expect(refusal(() => calibrateNoiseMultiplier(TARGET, onlyChoices))).toBe('USAGE_RANGE');
    expect(refusal(() => calibrateNoiseMultiplier({ epsilon: 0, delta: 1e-5 }, plan))).toBe('USAGE_RANGE');
    expect(refusal(() => calibrateNoiseMultiplier({ epsilon: 1, delta: 0 }, plan))).toBe('USAGE_RANGE');
  });
});

describe('honest shares', () => {
  it('leave out colluders, and for participants at least their own share', () => {
    expect(honestShares('server', 12, 3)).toBe(9);
    expect(honestShares('release', 12, 3)).toBe(9);
    expect(honestShares('server', 12, 0)).toBe(12);
    expect(honestShares('release', 12, 0)).toBe(11);
    expect(refusal(() => honestShares('server', 3, 3))).toBe('PRIVACY_NOISE');
    expect(refusal(() => honestShares('release', 1, 0))).toBe('PRIVACY_NOISE');
    expect(refusal(() => honestShares('server', 3.5, 0))).toBe('USAGE_RANGE');
  });
});
