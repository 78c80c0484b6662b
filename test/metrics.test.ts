import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type InProcessResult, runInProcess } from '../experiments/in-process.ts';
import { realSum } from '../experiments/real-sum.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { idealSum, type SecureSum } from '../protocol/ideal.ts';
import type { SessionParams } from '../protocol/session.ts';
import { canonicalJson } from '../src/audit/canonical-json.ts';
import { deriveEvents } from '../src/audit/derive-events.ts';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import {
  accuracyBin,
  meanNoiseStddev,
  projectHistogram,
  summarizeHistogram,
} from '../src/learning/accuracy-histogram.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { accuracy, summarizeAccuracies } from '../src/learning/evaluation.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import { createDiscreteGaussian } from '../src/privacy/discrete-gaussian.ts';
import { eventToJson } from '../src/privacy/event-json.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { releasedModel } from '../src/run/home.ts';
import { contribute, NEW_MEMBER } from '../src/run/member.ts';
import { METRICS_SCALE, metricsSensitivity } from '../src/run/metrics.ts';
import { decodeOrder, encodeOrder, orderParams, type SessionOrder } from '../src/run/order.ts';
import { planRun, type ScheduledSession, sessionEvents, sessionSlots } from '../src/run/plan.ts';
import { initialModels } from '../src/run/released.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { repeatable } from './support/repeatable.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
type Unit = RunConfig['privacy']['unit'];

function configOf(unit: Unit, metrics: object | null = { every: 2, bins: 10, noiseStddev: 3 }, steps = 5): RunConfig {
  const base = scenarioConfig('digits', { seed: 5, steps, targetEpsilon: 8, participants: 12, unit });
  return parseRunConfig({ ...base, clusters: null, metrics });
}

const NO_RECORDS: Dataset = createDataset(64, 10, new Float32Array(0), new Uint8Array(0));
const isMetrics = (session: ScheduledSession): boolean => session.kind === 'metrics';

function run(config: RunConfig, secureSum: SecureSum = idealSum, sums: Uint32Array[] = []): InProcessResult {
  const oracle = createDenseOracle(config.model);
  return runInProcess({
    config,
    runId: RUN_ID,
    crypto: nodeCrypto,
    random: repeatable(4),
    organizations: Array.from({ length: 12 }, (_, i) => {
      const { train, test } = generateDigits(5, i);
      return { data: train, test, oracle };
    }),
    isPresent: (organization) => organization !== 3,
    secureSum,
    onRelease: (_, sum) => sums.push(sum.slice()),
  });
}

/** Integer histogram that one member adds, without noise. */
function vectorOf(config: RunConfig, test: Dataset, train: Dataset = generateDigits(5, 1).train): Int32Array {
  const plan = planRun(config);
  const facts = { runId: RUN_ID, config, plan, roster: { version: 1, entries: [], revoked: [] } };
  const session = plan.schedule.find(isMetrics) as ScheduledSession;
  const order: SessionOrder = { session, models: initialModels(config, sessionSlots(config, session)) };
  const params: SessionParams = {
    ...orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 }),
    noise: { mechanism: 'none', shareVariance: 0 },
  };
  const oracle = createDenseOracle(config.model);
  const inputs = { data: train, test, oracle, local: {}, seed: new Uint8Array(32) };
  const { words } = contribute(nodeCrypto, config, order, params, { ...NEW_MEMBER, slot: 0 }, inputs);
  return Int32Array.from(words.subarray(0, 10), (word) => word | 0);
}

const distance = (a: Int32Array, b: Int32Array): number =>
  Math.sqrt(a.reduce((sum, value, i) => sum + (value - (b[i] as number)) ** 2, 0));

/** The first records of a data set, one of them left out or relabelled. */
function firstRecords(data: Dataset, count: number, without = -1, relabelled = -1): Dataset {
  const rows = Array.from({ length: count }, (_, i) => i).filter((i) => i !== without);
  return createDataset(
    data.featureLength,
    data.classes,
    Float32Array.from(
      rows.flatMap((i) => [...data.features.subarray(i * data.featureLength, (i + 1) * data.featureLength)]),
    ),
    Uint8Array.from(rows.map((i) => ((data.labels[i] as number) + (i === relabelled ? 1 : 0)) % data.classes)),
  );
}

describe('the schedule of metrics', () => {
  it('follows every other step and the last one, and is off by default', () => {
    const steps = planRun(configOf('record')).schedule.filter(isMetrics);
    expect(steps.map(({ step }) => step)).toEqual([1, 3, 4]);
    const plain = scenarioConfig('digits', { seed: 5, steps: 5, targetEpsilon: 8, participants: 12 });
    expect(planRun(plain).schedule.some(isMetrics)).toBe(false);
    expect(canonicalJson(plain)).not.toContain('metrics');
    expect(planRun(configOf('record', null)).schedule.some(isMetrics)).toBe(false);
  });

  it('is what a member accepts and nothing else', () => {
    const config = configOf('record');
    const facts = { config, plan: planRun(config) };
    const models = initialModels(config, 1);
    const codeOf = (asked: typeof facts, session: ScheduledSession): string => {
      try {
        return decodeOrder(asked, encodeOrder({ session, models })).session.kind;
      } catch (error) {
        return isCoveyError(error) ? error.code : 'other';
      }
    };
    expect(codeOf(facts, { kind: 'metrics', step: 1 })).toBe('metrics');
    for (const step of [0, 2, 5, 6]) expect(codeOf(facts, { kind: 'metrics', step })).toBe('PRIVACY_POLICY');
    expect(codeOf(facts, { kind: 'metrics', step: 1, group: 1 })).toBe('PRIVACY_POLICY');
    const plain = configOf('record', null);
    expect(codeOf({ config: plain, plan: planRun(plain) }, { kind: 'metrics', step: 1 })).toBe('PRIVACY_POLICY');
  });

  it.each([
    ['every', { every: 0, bins: 10, noiseStddev: 1 }],
    ['bins', { every: 1, bins: 1, noiseStddev: 1 }],
    ['noiseStddev', { every: 1, bins: 10, noiseStddev: 0 }],
  ])('is refused in one line that names %s', (field, metrics) => {
    expect(() => configOf('record', metrics)).toThrow(new RegExp(`metrics\\.${field}`));
  });
});

describe('the vector of a member', () => {
  const { test } = generateDigits(5, 1);

  it('moves by one (zero-out) when a participant holds nothing', () => {
    const config = configOf('participant');
    const full = vectorOf(config, test);
    const empty = vectorOf(config, NO_RECORDS, NO_RECORDS);
    expect([...empty].every((value) => value === 0)).toBe(true);
    expect(distance(full, empty)).toBe(metricsSensitivity(config));
  });

  it('moves by at most sqrt 2 when a record comes, goes or changes, and by all of it at a border', () => {
    const config = configOf('record');
    const bound = metricsSensitivity(config);
    expect(bound ** 2).toBeGreaterThanOrEqual(2 * METRICS_SCALE ** 2);
    const moves: number[] = [];
    for (let count = 1; count <= 12; count++) {
      const before = vectorOf(config, firstRecords(test, count));
      for (let i = 0; i < count; i++) {
        moves.push(distance(before, vectorOf(config, firstRecords(test, count, i))));
        moves.push(distance(before, vectorOf(config, firstRecords(test, count, -1, i))));
      }
    }
    expect(Math.max(...moves)).toBeLessThanOrEqual(bound);
    expect(Math.max(...moves)).toBeGreaterThan(METRICS_SCALE);
  });

  it('is a single one for every model, also one that is not a number', () => {
    for (const value of [Number.NaN, Number.NEGATIVE_INFINITY, -0.1, 0, 0.0999, 0.1, 0.95, 1, 1.5]) {
      const bin = accuracyBin(value, 10);
      expect(Number.isInteger(bin) && bin >= 0 && bin < 10).toBe(true);
    }
    expect([0, 0.0999, 0.1, 0.95, 1].map((value) => accuracyBin(value, 10))).toEqual([0, 0, 1, 9, 9]);
  });

  it('needs test records', () => {
    const config = configOf('record');
    expect(() => vectorOf(config, undefined as unknown as Dataset)).toThrow(/"test"/);
  });
});

describe.each(['record', 'participant'] as const)('the charge of metrics at unit %s', (unit) => {
  const config = configOf(unit);
  const plan = planRun(config);

  it('is an event of its own, part of the calibration, within the target', () => {
    const { minSurvivors, colluders } = config.cohort;
    const metrics = plan.schedule.find(isMetrics) as ScheduledSession;
    const [event, ...others] = sessionEvents(config, plan, metrics, 1, minSurvivors, 'server');
    expect(others).toEqual([]);
    expect(event).toMatchObject({
      kind: 'discreteGaussian',
      shares: minSurvivors - colluders,
      sensitivity: unit === 'record' ? 16 * Math.SQRT2 : 16,
      dimension: 10,
    });
    const total = (sessions: readonly ScheduledSession[]): number =>
      sessions
        .flatMap((session) => sessionEvents(config, plan, session, 1, minSurvivors, 'server'))
        .reduce((accountant, charged) => accountant.compose(charged), rdpAccountant())
        .epsilon(1e-5);
    expect(total(plan.schedule)).toBeLessThanOrEqual(8);
    expect(total(plan.schedule)).toBeGreaterThan(7.99);
    expect(total(plan.schedule.filter((session) => !isMetrics(session)))).toBeLessThan(7.9);
    expect(plan.noiseMultiplier).toBeGreaterThan(planRun(configOf(unit, null)).noiseMultiplier);
    // Noise that alone costs more than the target leaves nothing to calibrate.
    expect(() => planRun(configOf(unit, { every: 1, bins: 10, noiseStddev: 0.3 }, 40))).toThrow(/epsilon/);
  });

  it('is derived again by the audit from the signed parameters', () => {
    const claim = {
      unit,
      relation: config.privacy.relation,
      delta: '0.00001',
      targetEpsilon: '8',
      noiseMultiplier: String(plan.noiseMultiplier),
      shareVariance: String(plan.shareVariance),
      sensitivity: String(plan.sensitivity),
      samplingProbability: String(config.training.samplingProbability),
      rounds: 5,
      minSurvivors: config.cohort.minSurvivors,
      colluders: config.cohort.colluders,
      choices: 0,
      choiceEpsilon: '0',
    } as const;
    const facts = { runId: RUN_ID, config, plan, roster: { version: 1, entries: [], revoked: [] } };
    const session = plan.schedule.find(isMetrics) as ScheduledSession;
    const order = { session, models: initialModels(config, 1) };
    const params = orderParams(nodeCrypto, facts, order, { round: 3, attempt: 0 });
    expect(params.purpose).toBe('metrics');
    for (const view of ['server', 'release'] as const) {
      expect(deriveEvents('metrics', params, claim, 11, view)?.map(eventToJson)).toEqual(
        sessionEvents(config, plan, session, 1, 11, view).map(eventToJson),
      );
    }
    const replaced = deriveEvents('metrics', params, { ...claim, relation: 'replace-one' }, 11, 'server');
    expect(replaced?.[0]).toMatchObject({ sensitivity: 16 * Math.SQRT2 });
    // Whatever law the noise of the run has.
    const skellam = parseRunConfig({ ...config, privacy: { ...config.privacy, mechanism: 'skellam' } });
    const drawn = orderParams(nodeCrypto, { ...facts, config: skellam, plan: planRun(skellam) }, order, {
      round: 3,
      attempt: 0,
    });
    expect(drawn.noise.mechanism).toBe('skellam');
    expect(sessionEvents(skellam, planRun(skellam), session, 1, 11, 'server').map(eventToJson)).toEqual(
      deriveEvents('metrics', drawn, claim, 11, 'server')?.map(eventToJson),
    );
  });
});

describe('a run with metrics', () => {
  const config = configOf('record');

  it('releases the same bits through the real protocol, and histograms that follow from them', () => {
    const [real, ideal]: [Uint32Array[], Uint32Array[]] = [[], []];
    run(config, realSum(12), real);
    const { state, epsilon } = run(config, idealSum, ideal);
    expect(real).toEqual(ideal);
    expect(state.metrics.map(({ step }) => step)).toEqual([1, 3, 4]);
    expect(state.metrics.every(({ survivors }) => survivors === 11)).toBe(true);
    expect(epsilon.server).toBeLessThan(8);
    expect(epsilon.server).toBeGreaterThan(run(configOf('record', null)).epsilon.server * 0.8);
  });

  it('pools the groups of a step, each charged once', () => {
    const grouped = parseRunConfig({
      ...config,
      cohort: { ...config.cohort, groups: 2, minSurvivors: 4, minOrgs: 4, colluders: 1 },
    });
    const { state } = run(grouped);
    expect(planRun(grouped).schedule.filter(isMetrics).length).toBe(6);
    expect(state.metrics.map(({ survivors, groups }) => [survivors, groups])).toEqual([
      [11, 2],
      [11, 2],
      [11, 2],
    ]);
  });

  it('tells the accuracy that the members have, to the noise and half a bin', () => {
    const many = configOf('record', { every: 5, bins: 10, noiseStddev: 0.2 });
    const wide = { ...many, privacy: { ...many.privacy, targetEpsilon: 200 } };
    const { state, members } = run(wide);
    const oracle = createDenseOracle(wide.model);
    const truth = summarizeAccuracies(
      members.flatMap((member, i) => {
        if (i === 3) return [];
        const { train, test } = generateDigits(5, i);
        return [accuracy(oracle, releasedModel(wide, state.models, member, { oracle, data: train }), test)];
      }),
    );
    const [last] = state.metrics;
    const summary = summarizeHistogram(last?.histogram ?? [], last?.survivors ?? 0);
    // Half a bin, and four deviations of the noise of eleven shares where six give 0.2.
    const slack = 0.05 + 4 * meanNoiseStddev(0.2 * Math.sqrt(11 / 6), 10, 11);
    expect(Math.abs(summary.mean - truth.mean)).toBeLessThan(slack);
    expect(Math.abs(summary.stddev - truth.stddev)).toBeLessThan(2 * slack);
  });
});

describe('statistics of a noisy histogram', () => {
  it('are exact without noise for accuracies in the middle of their bins', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 60 }), (bins) => {
        const histogram = Array.from({ length: 10 }, (_, bin) => bins.filter((b) => b === bin).length);
        const exact = summarizeAccuracies(bins.map((bin) => (bin + 0.5) / 10));
        const { mean, stddev, worstTenth } = summarizeHistogram(histogram, bins.length);
        expect(mean).toBeCloseTo(exact.mean, 9);
        expect(stddev).toBeCloseTo(exact.stddev, 6);
        expect(worstTenth).toBeCloseTo(exact.worstTenth, 9);
      }),
      { seed: 3, numRuns: 100 },
    );
  });

  it('come from the nearest histogram: no negative count, the public total, no other one nearer', () => {
    const noisyBins = fc.array(fc.double({ min: -20, max: 40, noNaN: true }), { minLength: 2, maxLength: 12 });
    fc.assert(
      fc.property(noisyBins, fc.integer({ min: 1, max: 50 }), (noisy, total) => {
        const counts = projectHistogram(noisy, total);
        expect(counts.reduce((sum, count) => sum + count, 0)).toBeCloseTo(total, 6);
        expect(Math.min(...counts)).toBeGreaterThanOrEqual(0);
        const far = (other: readonly number[]): number =>
          other.reduce((sum, count, i) => sum + (count - (noisy[i] as number)) ** 2, 0);
        // Moving a little mass between any two bins never comes nearer (first-order condition).
        counts.forEach((_, from) => {
          counts.forEach((__, to) => {
            const mass = Math.min(1e-3, counts[from] as number);
            if (from === to || mass === 0) return;
            const moved = counts.map((count, i) => count + (i === to ? mass : 0) - (i === from ? mass : 0));
            expect(far(moved)).toBeGreaterThanOrEqual(far(counts) - 1e-9);
          });
        });
      }),
      { seed: 4, numRuns: 60 },
    );
  });

  it('have the error that is printed beside the mean', () => {
    const stream = nodeCrypto.aes256Ctr(new Uint8Array(32).fill(9));
    const noise = createDiscreteGaussian((2 * METRICS_SCALE) ** 2);
    const truth = [0, 0, 0, 0, 10, 20, 40, 20, 10, 0];
    const errors = Array.from({ length: 2_000 }, () => {
      const sum = Int32Array.from(truth, (count) => METRICS_SCALE * count);
      noise.add(sum, stream);
      const { mean } = summarizeHistogram(
        [...sum].map((value) => value / METRICS_SCALE),
        100,
      );
      return mean - summarizeHistogram(truth, 100).mean;
    });
    const bias = errors.reduce((sum, error) => sum + error, 0) / errors.length;
    const stddev = Math.sqrt(errors.reduce((sum, error) => sum + (error - bias) ** 2, 0) / errors.length);
    const printed = meanNoiseStddev(2, 10, 100);
    expect(stddev).toBeLessThan(printed * 1.1);
    expect(stddev).toBeGreaterThan(printed * 0.4);
    expect(Math.abs(bias)).toBeLessThan(printed);
  });
});
