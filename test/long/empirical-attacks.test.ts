import { afterEach, describe, expect, it, vi } from 'vitest';
import { type AttackReport, runAttack } from '../../experiments/attack.ts';
import { oraclesFor } from '../../experiments/oracles.ts';
import { realSum } from '../../experiments/real-sum.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import type { Dataset } from '../../src/data/dataset.ts';
import { readModelDefinition } from '../../src/learning/model-definition.ts';
import type { GradientOracle } from '../../src/learning/oracle.ts';
import { CONVOLUTIONAL } from '../support/model-files.ts';

/*
 * The auditor must stay below the claim of the real pipeline, and must fire when the pipeline is broken. Every fault is
 * planted around the real modules, here and nowhere else: the product has no switch for any of them.
 */
type Fault = 'none' | 'no-noise' | 'variance-as-deviation' | 'one-share' | 'no-clip' | 'reused-noise' | 'raw-head';
const planted = vi.hoisted(() => ({ fault: 'none' as string, members: 0, calls: 0, kept: [] as Int32Array[] }));

vi.mock('../../src/privacy/discrete-gaussian.ts', async (load) => {
  const real = await load<typeof import('../../src/privacy/discrete-gaussian.ts')>();
  return {
    ...real,
    createDiscreteGaussian(variance: number) {
      const { fault } = planted;
      // A caller that takes the argument for a standard deviation and "converts" it back.
      const law = real.createDiscreteGaussian(fault === 'variance-as-deviation' ? Math.sqrt(variance) : variance);
      return {
        ...law,
        add(values: Int32Array, stream: Parameters<typeof law.add>[1]) {
          const member = planted.calls++ % planted.members;
          if (fault === 'no-noise' || (fault === 'one-share' && member > 0)) return;
          if (fault !== 'reused-noise') return law.add(values, stream);
          const drawn = planted.kept[member] ?? new Int32Array(values.length);
          if (planted.kept[member] === undefined) law.add(drawn, stream);
          planted.kept[member] = drawn;
          for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) + (drawn[i] as number);
        },
      };
    },
  };
});

vi.mock('../../src/privacy/encode.ts', async (load) => {
  const real = await load<typeof import('../../src/privacy/encode.ts')>();
  return {
    ...real,
    createEncoder(crypto: Parameters<typeof real.createEncoder>[0], spec: Parameters<typeof real.createEncoder>[1]) {
      const clippingNorm = planted.fault === 'no-clip' ? 1_000 : spec.clippingNorm;
      return real.createEncoder(crypto, { ...spec, clippingNorm });
    },
  };
});

vi.mock('../../src/learning/dense-oracle.ts', async (load) => {
  const real = await load<typeof import('../../src/learning/dense-oracle.ts')>();
  /** A few steps on the head alone, over all records of the organization: the local part of FedRep. */
  const trainHead = (oracle: GradientOracle, body: Float64Array, head: Float64Array, data: Dataset): Float64Array => {
    const trained = head.slice();
    const all = Uint32Array.from({ length: data.count }, (_, i) => i);
    const [unused, gradient] = [new Float64Array(body.length), new Float64Array(head.length)];
    for (let step = 0; step < 5; step++) {
      oracle.meanGradient(body, trained, data, all, unused, gradient);
      for (let i = 0; i < trained.length; i++) trained[i] = (trained[i] as number) - 0.1 * (gradient[i] as number);
    }
    return trained;
  };
  return {
    ...real,
    createDenseOracle(shape: Parameters<typeof real.createDenseOracle>[0]): GradientOracle {
      const oracle = real.createDenseOracle(shape);
      let at: { body: Float64Array; data: Dataset; head: Float64Array } | null = null;
      return {
        ...oracle,
        perRecordGradient(body, head, data, record, bodyGradient, headGradient) {
          if (planted.fault !== 'raw-head')
            return oracle.perRecordGradient(body, head, data, record, bodyGradient, headGradient);
          if (at?.body !== body || at.data !== data) at = { body, data, head: trainHead(oracle, body, head, data) };
          const loss = oracle.perRecordGradient(body, at.head, data, record, bodyGradient, headGradient);
          headGradient.fill(0);
          return loss;
        },
      };
    },
  };
});

function attack(fault: Fault, options: Partial<Parameters<typeof runAttack>[0]> = {}): AttackReport {
  const base = { method: 'one-run', seed: 1, canaries: 1_500, steps: 24, targetEpsilon: 2, participants: 5 } as const;
  const chosen = { ...base, crypto: nodeCrypto, ...options };
  planted.members = chosen.participants + (chosen.idle ?? 0) + (chosen.method === 'one-shot' ? chosen.canaries : 0);
  Object.assign(planted, { fault, calls: 0, kept: [] });
  return runAttack(chosen);
}

afterEach(() => {
  planted.fault = 'none';
});

describe('an honest run stays within its claim', () => {
  it.each([1, 2, 3, 4])('one-run, seed %i', (seed) => {
    const { claim, epsilonLowerBound, verdict } = attack('none', {
      seed,
      canaries: 600,
      targetEpsilon: 8,
      participants: 8,
    });
    expect(epsilonLowerBound).toBeLessThanOrEqual(claim.epsilon);
    expect(verdict).toBe('consistent');
    // A blind attack would pass as well.
    expect(epsilonLowerBound).toBeGreaterThan(0.3);
    expect(claim).toMatchObject({ unit: 'record', relation: 'add-remove', view: 'server', delta: 1e-5 });
  });
  it.each([1, 2, 3])('one-shot, seed %i', (seed) => {
    const { claim, epsilonLowerBound, verdict } = attack('none', {
      method: 'one-shot',
      seed,
      canaries: 40,
      participants: 4,
      targetEpsilon: 8,
    });
    expect(epsilonLowerBound).toBeLessThanOrEqual(claim.epsilon);
    expect(verdict).toBe('consistent');
    expect(claim).toMatchObject({ unit: 'participant', relation: 'zero-out' });
  });
  it.each([1, 2])('membership, seed %i', (seed) => {
    const { claim, epsilonLowerBound } = attack('none', {
      method: 'membership',
      seed,
      canaries: 120,
      participants: 6,
      targetEpsilon: 8,
    });
    expect(epsilonLowerBound).toBeLessThanOrEqual(claim.epsilon);
  });
  it.each([1, 2])('two-worlds, seed %i', (seed) => {
    const options = { method: 'two-worlds', seed, canaries: 400, steps: 1, targetEpsilon: 8, participants: 4 } as const;
    const { claim, epsilonLowerBound, evidence, verdict } = attack('none', options);
    expect(epsilonLowerBound).toBeLessThanOrEqual(claim.epsilon);
    expect(verdict).toBe('consistent');
    expect(epsilonLowerBound).toBeGreaterThan(0.5);
    // A record moves its own term alone, and the claim covers all that its shift can show.
    expect(evidence['shiftInClips']).toBeGreaterThan(0.99);
    expect(evidence['shiftInClips']).toBeLessThanOrEqual(1);
    expect(evidence['epsilonCeiling']).toBeLessThanOrEqual(claim.epsilon);
  });
  it('two-worlds over several releases, each at the models that the last one led to', () => {
    const options = { method: 'two-worlds', canaries: 120, steps: 3, targetEpsilon: 8, participants: 4 } as const;
    const { claim, evidence, verdict } = attack('none', options);
    expect(verdict).toBe('consistent');
    expect(evidence['shiftInClips']).toBeLessThanOrEqual(1);
    expect(evidence['epsilonCeiling']).toBeLessThanOrEqual(claim.epsilon);
  });
  it('two-worlds on a network of layers', async () => {
    const { shape: model } = readModelDefinition({ modelJson: CONVOLUTIONAL });
    const options = { method: 'two-worlds', canaries: 40, steps: 1, targetEpsilon: 8, participants: 4 } as const;
    const { claim, evidence, verdict } = attack('none', { ...options, model, createOracle: await oraclesFor(model) });
    expect(verdict).toBe('consistent');
    expect(evidence['shiftInClips']).toBeGreaterThan(0.9);
    expect(evidence['shiftInClips']).toBeLessThanOrEqual(1);
    expect(evidence['epsilonCeiling']).toBeLessThanOrEqual(claim.epsilon);
  });
  it('gives the same numbers through the masked protocol', () => {
    const options = { canaries: 200, steps: 2, participants: 4, targetEpsilon: 8 };
    expect(attack('none', { ...options, secureSum: realSum(4) })).toEqual(attack('none', options));
  });
});

// Hundreds of runs each: minutes on a busy machine.
describe('the auditor fires', { timeout: 400_000 }, () => {
  const fires = ({ claim, epsilonLowerBound, verdict }: AttackReport): void => {
    expect(claim.epsilon).toBeLessThan(2.5);
    expect(epsilonLowerBound).toBeGreaterThan(5);
    expect(verdict).toBe('violated');
  };
  it('without noise: one-run', () => fires(attack('no-noise')));
  it('without noise: one-shot', () => fires(attack('no-noise', { method: 'one-shot', canaries: 40, participants: 4 })));
  it('without noise: membership, in how many canaries it names at one false one in ten', () => {
    const options = { method: 'membership', canaries: 160, steps: 30, participants: 4 } as const;
    const rate = (report: AttackReport): number => report.evidence['lossTprAt10'] as number;
    expect(rate(attack('no-noise', options))).toBeGreaterThan(0.4);
    expect(rate(attack('none', options))).toBeLessThan(0.25);
  });
  it('when a variance is used as a deviation', () => fires(attack('variance-as-deviation')));
  // The more members are silent, the larger the gap: noise is too small by the root of the honest shares.
  it('when one member alone adds its share: one-run', () => fires(attack('one-share', { idle: 250, canaries: 3_000 })));
  it('when one member alone adds its share: one-shot', () =>
    fires(attack('one-share', { method: 'one-shot', canaries: 80, participants: 4 })));
  it('through a head trained on raw records', () => {
    const options = { method: 'two-worlds', steps: 1, canaries: 1_600, participants: 4 } as const;
    const report = attack('raw-head', options);
    fires(report);
    expect(report.evidence['shiftInClips']).toBeGreaterThan(7);
  });
  it('when clipping is skipped', () => fires(attack('no-clip')));
  it('when noise is used in two rounds', () => fires(attack('reused-noise')));
});
