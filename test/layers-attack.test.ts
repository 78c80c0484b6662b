import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type AttackOptions, type AttackReport, runAttack } from '../experiments/attack.ts';
import { oraclesFor } from '../experiments/oracles.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import { modelOfNetwork, readModelDefinition } from '../src/learning/model-definition.ts';
import type { GradientOracle } from '../src/learning/oracle.ts';
import { CONVOLUTIONAL } from './support/model-files.ts';

/** Noise is taken out around the real modules, here and nowhere else. */
const planted = vi.hoisted(() => ({ isSilent: false }));
vi.mock('../src/privacy/discrete-gaussian.ts', async (load) => {
  const real = await load<typeof import('../src/privacy/discrete-gaussian.ts')>();
  return {
    ...real,
    createDiscreteGaussian: (variance: number) => {
      const law = real.createDiscreteGaussian(variance);
      const add: typeof law.add = (...given) => (planted.isSilent ? undefined : law.add(...given));
      return { ...law, add };
    },
  };
});

afterEach(() => {
  planted.isSilent = false;
});

describe('attacks on a network of layers', () => {
  const shape = modelOfNetwork({
    inputShape: [64],
    layers: [
      { kind: 'reshape', shape: [8, 8, 1] },
      { kind: 'conv2d', filters: 8, kernelSize: 3, stride: 1, padding: 'same', activation: 'relu' },
      { kind: 'maxPool', size: 2, stride: 2, padding: 'valid' },
      { kind: 'flatten' },
      { kind: 'dense', units: 16, activation: 'tanh' },
      { kind: 'dense', units: 10, activation: 'linear' },
    ],
  });
  let createOracle: (model: DenseShape) => GradientOracle;
  beforeAll(async () => {
    createOracle = await oraclesFor(shape);
  });
  const attack = (options: Partial<AttackOptions> = {}): AttackReport =>
    runAttack({
      method: 'one-run',
      seed: 1,
      canaries: 900,
      steps: 4,
      targetEpsilon: 8,
      participants: 4,
      crypto: nodeCrypto,
      model: shape,
      createOracle,
      ...options,
    });

  it('one-run stays within the claim of an honest run, and sees something', () => {
    const { claim, epsilonLowerBound, verdict } = attack();
    expect(epsilonLowerBound).toBeLessThanOrEqual(claim.epsilon);
    expect(epsilonLowerBound).toBeGreaterThan(0.3);
    expect([verdict, claim.unit]).toEqual(['consistent', 'record']);
  });

  it('one-run fires without noise', () => {
    planted.isSilent = true;
    const { claim, epsilonLowerBound, verdict } = attack({ targetEpsilon: 1, steps: 16 });
    expect(claim.epsilon).toBeLessThan(1.3);
    expect(epsilonLowerBound).toBeGreaterThan(4);
    expect(verdict).toBe('violated');
  });

  it('one-shot fires without noise and stays within the claim with it', () => {
    const options = { method: 'one-shot', canaries: 40, steps: 3 } as const;
    const honest = attack(options);
    expect([honest.verdict, honest.claim.unit]).toEqual(['consistent', 'participant']);
    planted.isSilent = true;
    const silent = attack(options);
    expect(silent.epsilonLowerBound).toBeGreaterThan(3 * silent.claim.epsilon);
    expect(silent.verdict).toBe('violated');
  });

  it('membership reads it as well', () => {
    const { claim, epsilonLowerBound, evidence } = attack({ method: 'membership', canaries: 24, steps: 1 });
    expect(epsilonLowerBound).toBeLessThanOrEqual(claim.epsilon);
    expect(evidence['guesses']).toBeGreaterThan(0);
  });

  it('hang canaries on the head where the body is too short for them', () => {
    const { shape: small } = readModelDefinition({ modelJson: CONVOLUTIONAL });
    planted.isSilent = true;
    expect(attack({ model: small, targetEpsilon: 1, steps: 8 }).verdict).toBe('violated');
    expect(() => attack({ model: small, canaries: 1_031 })).toThrow('"canaries" expected at most 1030 for one-run');
  });

  it('are refused for models of other records', () => {
    expect(() => attack({ model: { ...shape, classes: 3 } })).toThrow('"model" expected 10 classes for digits, got 3');
  });
});
