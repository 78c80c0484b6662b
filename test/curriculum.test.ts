import { describe, expect, it } from 'vitest';
import { runExperiment } from '../experiments/experiment.ts';
import { findScenario } from '../experiments/scenarios/registry.ts';
import { settingsOf } from '../experiments/settings.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createRandom } from '../src/data/random.ts';
import { type Curriculum, pacedRecords, paceShare } from '../src/learning/curriculum.ts';

const base: Curriculum = { expert: 'global', pacing: 'linear', order: 'easy', startShare: 0.2, fullAt: 0.5 };

describe('the pace of a curriculum', () => {
  for (const pacing of ['linear', 'step', 'exponential', 'log'] as const) {
    it(`${pacing}: starts with its share, never falls, uses everything at its end and after`, () => {
      const shares = Array.from({ length: 101 }, (_, i) => paceShare({ ...base, pacing }, i / 100));
      expect(shares[0]).toBeCloseTo(0.2, 12);
      expect(shares.every((share, i) => i === 0 || share >= (shares[i - 1] as number))).toBe(true);
      expect(shares.slice(50)).toEqual(new Array(51).fill(1));
      expect(shares[49]).toBeLessThan(1);
    });
  }

  it('differ in the middle as their names say', () => {
    const at = (pacing: Curriculum['pacing']): number => paceShare({ ...base, pacing }, 0.25);
    expect(at('linear')).toBeCloseTo(0.6, 12);
    expect(at('step')).toBeCloseTo(0.2 + 0.8 / 3, 12);
    expect(at('exponential')).toBeLessThan(0.3);
    expect(at('log')).toBeGreaterThan(0.75);
  });
});

describe('the records of a step', () => {
  const scores = Float64Array.of(5, 1, 4, 1, 3);
  const pick = (order: Curriculum['order'], progress: number): number[] => [
    ...pacedRecords({ ...base, order, startShare: 0.4 }, scores, progress, createRandom(1)),
  ];

  it('are the easiest, the hardest or as many at random, and all of them later', () => {
    expect(pick('easy', 0)).toEqual([1, 3]);
    expect(pick('hard', 0)).toEqual([0, 2]);
    expect(pick('random', 0).length).toBe(2);
    for (const order of ['easy', 'hard', 'random'] as const) expect(pick(order, 0.5)).toEqual([0, 1, 2, 3, 4]);
    expect([...pacedRecords({ ...base, startShare: 0.01 }, scores, 0, createRandom(1))]).toEqual([1]);
  });
});

describe('a curriculum around any algorithm', () => {
  it('changes what is learned by its order and expert, for plain and personalized methods', async () => {
    const data = await findScenario('digits').scenario.load(3);
    const settings = { ...settingsOf('digits'), rounds: 3, epochs: 1 };
    const meanOf = (algorithm: string, curriculum?: Curriculum): number => {
      const asked = { algorithm, options: {}, seed: 3, privacy: null, perStep: null, colluders: 0 };
      const changed = curriculum === undefined ? settings : { ...settings, curriculum };
      return runExperiment(nodeCrypto, data, { ...asked, settings: changed }).personal.mean;
    };
    for (const algorithm of ['fedavg', 'fedrep']) {
      const means = [
        meanOf(algorithm),
        meanOf(algorithm, base),
        meanOf(algorithm, { ...base, order: 'hard' }),
        meanOf(algorithm, { ...base, expert: 'local' }),
      ];
      expect(new Set(means).size, `${algorithm}: ${means.join(', ')}`).toBe(means.length);
    }
  });
});
