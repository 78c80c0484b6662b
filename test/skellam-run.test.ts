import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { runInProcess } from '../experiments/in-process.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { hashParts, toHex, utf8 } from '../protocol/bytes.ts';
import { idealSum } from '../protocol/ideal.ts';
import { LABELS } from '../protocol/labels.ts';
import { decodeParams, encodeParams } from '../protocol/params.ts';
import { packLanes } from '../protocol/ring.ts';
import type { SessionParams } from '../protocol/session.ts';
import { serverConfigSchema } from '../server/config.ts';
import { deriveEvents } from '../src/audit/derive-events.ts';
import { createRecomposer } from '../src/audit/recompose.ts';
import { budgetProblemSchema } from '../src/budget/problem.ts';
import { planBudget } from '../src/budget/solve.ts';
import { countNoiseMargin } from '../src/cluster/census.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import { createDiscreteGaussian } from '../src/privacy/discrete-gaussian.ts';
import type { DpEvent } from '../src/privacy/events.ts';
import { reportSignal } from '../src/privacy/noise-shares.ts';
import { createSkellam } from '../src/privacy/skellam.ts';
import { sumEvent } from '../src/privacy/sum-event.ts';
import { configHash, parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { contribute, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams } from '../src/run/order.ts';
import { COUNT_SCALE, countShareVariance, openAfterCensus, planRun, sessionEvents, slotsAt } from '../src/run/plan.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { repeatable } from './support/repeatable.ts';
import { skellamPmf } from './support/skellam-pmf.ts';

const options = { seed: 5, steps: 4, targetEpsilon: 8, participants: 12 } as const;
const gaussian = scenarioConfig('digits', options);
const skellam = scenarioConfig('digits', { ...options, mechanism: 'skellam' });

function releasesOf(config: RunConfig): { params: SessionParams; sum: Int32Array }[] {
  const oracle = createDenseOracle(config.model);
  const releases: { params: SessionParams; sum: Int32Array }[] = [];
  runInProcess({
    config,
    runId: '0f0e0d0c0b0a09080706050403020100',
    crypto: nodeCrypto,
    random: repeatable(7),
    organizations: Array.from({ length: 12 }, (_, i) => ({ data: generateDigits(5, i).train, oracle })),
    isPresent: () => true,
    secureSum: idealSum,
    onRelease: (params, sum) => releases.push({ params, sum: Int32Array.from(sum) }),
  });
  return releases;
}

describe('a run with Skellam noise', () => {
  it('is chosen in the configuration, which keeps its hash where nothing is chosen', () => {
    expect(skellam.privacy.mechanism).toBe('skellam');
    expect('mechanism' in gaussian.privacy).toBe(false);
    expect(toHex(configHash(nodeCrypto, skellam))).not.toBe(toHex(configHash(nodeCrypto, gaussian)));
    const laplace = { ...skellam, privacy: { ...skellam.privacy, mechanism: 'laplace' } };
    expect(() => parseRunConfig(laplace)).toThrow(/"privacy.mechanism"/);
  });

  it('names its law in the parameters of every session that carries noise, in bytes too', () => {
    const releases = releasesOf(skellam);
    const mechanisms = releases.map(({ params }) => params.noise.mechanism);
    expect(mechanisms).toEqual(['none', ...Array(mechanisms.length - 1).fill('skellam')]);
    for (const { params } of releases) expect(decodeParams(encodeParams(params)).noise).toEqual(params.noise);
    const last = releases.at(-1) as { params: SessionParams; sum: Int32Array };
    const totalVariance = 12 * last.params.noise.shareVariance;
    // Signal-to-noise ratio of the release, as for any law: it reads the variance only.
    const { noiseSquaredNorm, ratio } = reportSignal(last.sum, totalVariance);
    expect(noiseSquaredNorm).toBe(last.sum.length * totalVariance);
    expect(ratio).toBeGreaterThan(0);
    const energy = last.sum.reduce((total, x) => total + x * x, 0);
    expect(energy / noiseSquaredNorm).toBeGreaterThan(1 - 8 * Math.sqrt(2 / last.sum.length));
  });

  it('draws the share of the noise from the Skellam sampler, in the stream of its purpose', () => {
    // A coarse scale: where the deviation is large the two laws draw the same from almost every word.
    const config: RunConfig = { ...skellam, encoding: { scale: 8, lanes: 2 } };
    const facts = {
      runId: '00'.repeat(16),
      config,
      plan: planRun(config),
      roster: { version: 1, entries: [], revoked: [] },
    };
    const session = facts.plan.schedule.find(({ kind }) => kind === 'train');
    if (session === undefined) throw new Error('no training step');
    const models = {
      body: new Float32Array(64 * 48 + 48),
      heads: Array.from({ length: 12 }, () => new Float32Array(490)),
      extra: [],
    };
    const order = { session, models };
    const params = orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 });
    const seed = new Uint8Array(32).fill(3);
    // Without a seat a member sends zeros and its share.
    const inputs = { data: generateDigits(5, 0).train, oracle: createDenseOracle(skellam.model), local: {}, seed };
    const { words } = contribute(nodeCrypto, config, order, params, NEW_MEMBER, inputs);
    const expected = new Int32Array(params.layout.reduce((sum, { length }) => sum + length, 0));
    const stream = nodeCrypto.aes256Ctr(hashParts(nodeCrypto, utf8(LABELS.contribution), utf8('noise'), seed));
    createSkellam(params.noise.shareVariance).fill(expected, stream);
    expect(words).toEqual(packLanes(expected, params.ring.lanes));
    const other = new Int32Array(expected.length);
    createDiscreteGaussian(params.noise.shareVariance).fill(
      other,
      nodeCrypto.aes256Ctr(hashParts(nodeCrypto, utf8(LABELS.contribution), utf8('noise'), seed)),
    );
    expect(other).not.toEqual(expected);
  });

  it('meets its target by the bound of F12, with a little more noise than the discrete Gaussian where units are few', () => {
    for (const config of [
      skellam,
      scenarioConfig('digits', { ...options, participants: 60, unit: 'participant', mechanism: 'skellam' }),
    ]) {
      const plan = planRun(config);
      const total = (survivors: number): number =>
        plan.schedule
          .flatMap((s) => sessionEvents(config, plan, s, slotsAt(config, s.step), survivors, 'server'))
          .reduce(
            (accountant, event) => accountant.compose(event),
            rdpAccountant({ relation: config.privacy.relation }),
          )
          .epsilon(1e-5);
      const events = plan.schedule.flatMap((s) =>
        sessionEvents(config, plan, s, slotsAt(config, s.step), 58, 'server'),
      );
      const sums = events.map((event) => (event.kind === 'poissonSampled' ? event.event : event));
      expect(new Set(sums.map(({ kind }) => kind))).toEqual(
        new Set(config.privacy.unit === 'record' ? ['skellam', 'exponentialMechanism'] : ['skellam']),
      );
      const { minSurvivors } = config.cohort;
      expect(total(minSurvivors)).toBeLessThanOrEqual(8);
      expect(total(minSurvivors)).toBeGreaterThan(7.9);
      expect(total(minSurvivors + 1)).toBeLessThan(total(minSurvivors));
    }
    const { noiseMultiplier } = planRun(skellam);
    expect(noiseMultiplier / planRun(gaussian).noiseMultiplier).toBeCloseTo(1, 4);
    const coarse = (config: RunConfig): RunConfig => ({ ...config, encoding: { scale: 8, lanes: 2 } });
    expect(planRun(coarse(skellam)).noiseMultiplier).toBeGreaterThan(
      planRun(coarse(gaussian)).noiseMultiplier * 1.0001,
    );
  });

  it('charges accuracies for the law that their noise has', () => {
    const metrics = { every: 2, bins: 5, noiseStddev: 4 };
    for (const [mechanism, kind] of [
      ['skellam', 'skellam'],
      ['discrete-gaussian', 'discreteGaussian'],
    ] as const) {
      const config = scenarioConfig('digits', { ...options, mechanism, metrics });
      const plan = planRun(config);
      const measured = plan.schedule.find((session) => session.kind === 'metrics') as (typeof plan.schedule)[number];
      const facts = { runId: '00'.repeat(16), config, plan, roster: { version: 1, entries: [], revoked: [] } };
      const models = { body: new Float32Array(0), heads: [new Float32Array(0)], extra: [] };
      const params = orderParams(nodeCrypto, facts, { session: measured, models }, { round: 1, attempt: 0 });
      expect(params.noise.mechanism).toBe(mechanism);
      const events = sessionEvents(config, plan, measured, 1, 12, 'server');
      expect(events.map((event) => event.kind)).toEqual([kind]);
      const { minSurvivors, colluders } = config.cohort;
      const claim = { unit: 'record', relation: 'add-remove', samplingProbability: '0.5', minSurvivors, colluders };
      expect(deriveEvents('metrics', params, claim as never, 12, 'server')).toEqual(events);
    }
  });

  it('is offered by the file of the coordinator', () => {
    const file = { key: 'k', federation: 'f', state: 's', run: { scenario: 'digits', mechanism: 'skellam' } };
    expect(serverConfigSchema.parse(file).run).toMatchObject({ mechanism: 'skellam' });
    expect(() => serverConfigSchema.parse({ ...file, run: { ...file.run, mechanism: 'none' } })).toThrow(/run/);
  });
});

describe('one sum of Skellam shares', () => {
  const terms = { sensitivity: 64, dimension: 256, samplingProbability: 0.5, colluders: 2 };

  it('is one event of the honest variance', () => {
    expect(sumEvent({ ...terms, mechanism: 'skellam' }, 100, 9, 'server')).toEqual({
      kind: 'poissonSampled',
      probability: 0.5,
      event: { kind: 'skellam', variance: 700, sensitivity: 64, dimension: 256, symmetric: true },
    });
  });

  it('is planned as it is run', () => {
    const problem = { noiseMultiplier: 2, rounds: 40, sampling: 0.5, scale: 8, parameters: 1_000 };
    const plan = (mechanism?: string) => planBudget(budgetProblemSchema.parse({ ...problem, mechanism }));
    const event: DpEvent = {
      kind: 'skellam',
      variance: 9 * plan('skellam').shareVariance,
      sensitivity: 8,
      dimension: 1_024,
      symmetric: true,
    };
    const sampled: DpEvent = { kind: 'poissonSampled', probability: 0.5, event };
    expect(plan('skellam').server).toBeCloseTo(rdpAccountant().compose(sampled, 40).epsilon(1e-5), 9);
    expect(plan('skellam').server).toBeGreaterThan(plan('discrete-gaussian').server);
    expect(plan()).toEqual({ ...plan('discrete-gaussian'), problem: plan().problem });
    expect(() => plan('none')).toThrow(/mechanism/);
  });

  it('shares add up to the law of the sum: two of variance 8 to one of 16', () => {
    const [one, whole] = [skellamPmf(8), skellamPmf(16)];
    for (let x = 0; x < 12; x++) {
      let sum = 0;
      for (const [y, p] of one) sum += p * (one.get(x - y) ?? 0);
      expect(sum / (whole.get(x) as number)).toBeCloseTo(1, 10);
    }
  });

  it('costs the same in the accountant of runs and in that of the audit', () => {
    const event = fc
      .record({
        z: fc.double({ min: 0.6, max: 8, noNaN: true }),
        sensitivity: fc.constantFrom(1, 4, 64, 65_536),
        dimension: fc.constantFrom(1, 4_096),
        q: fc.constantFrom(0.01, 0.1, 0.5, 1),
      })
      .map(({ z, sensitivity, dimension, q }): DpEvent => {
        const sum: DpEvent = {
          kind: 'skellam',
          variance: (z * sensitivity) ** 2,
          sensitivity,
          dimension,
          symmetric: true,
        };
        return q === 1 ? sum : { kind: 'poissonSampled', probability: q, event: sum };
      });
    fc.assert(
      fc.property(event, fc.integer({ min: 1, max: 100 }), (one, count) => {
        const first = rdpAccountant().compose(one, count).epsilon(1e-5);
        const second = createRecomposer('add-remove').epsilon([{ event: one, count }], 1e-5);
        expect(Math.abs(first - second)).toBeLessThanOrEqual(1e-4 * Math.max(first, second) + 1e-7);
      }),
      { seed: 12, numRuns: 80 },
    );
  });

  it('never costs less than the discrete Gaussian of its variance', () => {
    for (const variance of [16, 400, 1e6]) {
      const cost = (event: DpEvent): number => rdpAccountant().compose(event, 20).epsilon(1e-5);
      const common = { sensitivity: 4, dimension: 64, symmetric: true };
      const gaussianCost = cost({ kind: 'discreteGaussian', shares: 1, shareVariance: variance, ...common });
      expect(cost({ kind: 'skellam', variance, ...common })).toBeGreaterThanOrEqual(gaussianCost * (1 - 1e-9));
    }
  });
});

describe('the gate of counts under Skellam noise', () => {
  it('bounds the tail of the exact law where the Gaussian margin does not', () => {
    // One count a unit: noise of variance 1/2, tails of Poisson counts.
    const [variance, failure] = [0.5, 1e-6];
    const beyond = (margin: number): number =>
      [...skellamPmf(variance)].reduce((sum, [x, p]) => (x >= margin ? sum + p : sum), 0);
    expect(beyond(countNoiseMargin(Math.sqrt(variance), 1, failure))).toBeGreaterThan(failure);
    expect(beyond(countNoiseMargin(Math.sqrt(variance), 1, failure, 1))).toBeLessThan(failure);
  });

  it('leaves a slot open only above the wider margin', () => {
    const withFloor = (config: RunConfig): RunConfig => ({ ...config, cohort: { ...config.cohort, minCluster: 3 } });
    const config = withFloor(skellam);
    const stddev = Math.sqrt(12 * countShareVariance(config)) / COUNT_SCALE;
    const least = 3 + 3 + countNoiseMargin(stddev, 3, 1e-6, 1 / COUNT_SCALE);
    expect(openAfterCensus(config, [least + 1e-9, least - 1e-9, 40])).toEqual([0, 2]);
    expect(openAfterCensus(withFloor(gaussian), [least + 1e-9, least - 1e-9, 40])).toEqual([0, 1, 2]);
    expect(() => countNoiseMargin(1, 3, 1e-6, -1)).toThrow(/"failure"/);
  });
});
