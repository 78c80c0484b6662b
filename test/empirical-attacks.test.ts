import { afterEach, describe, expect, it, vi } from 'vitest';
import { type AttackReport, runAttack } from '../experiments/attack.ts';
import { realSum } from '../experiments/real-sum.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';

/*
 * The auditor must stay below the claim of the real pipeline, and must fire when the pipeline is broken. Every fault is
 * planted around the real modules, here and nowhere else: the product has no switch for any of them.
 */
type Fault = 'none' | 'no-noise' | 'variance-as-deviation' | 'one-share' | 'no-clip' | 'reused-noise';
const planted = vi.hoisted(() => ({ fault: 'none' as string, members: 0, calls: 0, kept: [] as Int32Array[] }));

vi.mock('../src/privacy/discrete-gaussian.ts', async (load) => {
  const real = await load<typeof import('../src/privacy/discrete-gaussian.ts')>();
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

vi.mock('../src/privacy/encode.ts', async (load) => {
  const real = await load<typeof import('../src/privacy/encode.ts')>();
  return {
    ...real,
    createEncoder(crypto: Parameters<typeof real.createEncoder>[0], spec: Parameters<typeof real.createEncoder>[1]) {
      const clippingNorm = planted.fault === 'no-clip' ? 1_000 : spec.clippingNorm;
      return real.createEncoder(crypto, { ...spec, clippingNorm });
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
  it('gives the same numbers through the masked protocol', () => {
    const options = { canaries: 200, steps: 2, participants: 4, targetEpsilon: 8 };
    expect(attack('none', { ...options, secureSum: realSum(4) })).toEqual(attack('none', options));
  });
});

describe('the auditor fires', () => {
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
  it('when one member alone adds its share', () => {
    // The more members are silent, the larger the gap; a run founds at most 64 slots, which bounds the members.
    const { claim, epsilonLowerBound, verdict } = attack('one-share', { idle: 50 });
    expect(claim.epsilon).toBeLessThan(2.5);
    expect(epsilonLowerBound).toBeGreaterThan(3);
    expect(verdict).toBe('violated');
  });
  it('when clipping is skipped', () => fires(attack('no-clip')));
  it('when noise is used in two rounds', () => fires(attack('reused-noise')));
});
