import { describe, expect, it } from 'vitest';
import { type InProcessResult, runInProcess } from '../experiments/in-process.ts';
import { realSum } from '../experiments/real-sum.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { idealSum, type SecureSum } from '../protocol/ideal.ts';
import type { SessionParams } from '../protocol/session.ts';
import { deriveEvents, deriveSensitivity } from '../src/audit/derive-events.ts';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { accuracy } from '../src/learning/evaluation.ts';
import { createEncoder } from '../src/privacy/encode.ts';
import { eventToJson } from '../src/privacy/event-json.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { contribute, type MemberState, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams, type SessionOrder } from '../src/run/order.ts';
import {
  COUNT_SCALE,
  planRun,
  sessionBlocks,
  sessionEvents,
  sessionSlots,
  trainingSensitivity,
} from '../src/run/plan.ts';
import { initialState, sumCoordinates } from '../src/run/release.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { repeatable } from './support/repeatable.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';

function configOf(steps: number, targetEpsilon: number, participants = 12): RunConfig {
  return scenarioConfig('digits', { seed: 5, steps, targetEpsilon, participants, unit: 'participant' });
}

function run(config: RunConfig, secureSum: SecureSum = idealSum): InProcessResult {
  const oracle = createDenseOracle(config.model);
  return runInProcess({
    config,
    runId: RUN_ID,
    crypto: nodeCrypto,
    random: repeatable(4),
    organizations: Array.from({ length: config.cohort.participants }, (_, i) => ({
      data: generateDigits(5, i % 12).train,
      oracle,
    })),
    isPresent: () => true,
    secureSum,
  });
}

const NO_RECORDS: Dataset = createDataset(64, 10, new Float32Array(0), new Uint8Array(0));

/** The integer vector of one member without noise. */
function vectorOf(
  config: RunConfig,
  data: Dataset,
  order: SessionOrder,
  member: MemberState,
  seed: number,
): Int32Array {
  const plan = planRun(config);
  const facts = { runId: RUN_ID, config, plan, roster: { version: 1, entries: [], revoked: [] } };
  const params: SessionParams = {
    ...orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 }),
    noise: { mechanism: 'none', shareVariance: 0 },
  };
  const inputs = { data, oracle: createDenseOracle(config.model), local: {}, seed: new Uint8Array(32).fill(seed) };
  return sumCoordinates(params, contribute(nodeCrypto, config, order, params, member, inputs).words);
}

const normOf = (values: Int32Array): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));

describe('unit participant', () => {
  const config = configOf(80, 8, 60);
  const plan = planRun(config);

  it('stays within the target with the fewest survivors and without amplification by the cohort', () => {
    const { minSurvivors, colluders } = config.cohort;
    const training = plan.schedule.filter(({ kind }) => kind === 'train');
    expect(training.length).toBe(80);
    for (const session of plan.schedule) {
      const events = sessionEvents(config, plan, session, sessionSlots(config, session), minSurvivors, 'server');
      if (session.kind === 'seats') expect(events).toEqual([]);
      else
        expect(events).toEqual([
          expect.objectContaining({ kind: 'discreteGaussian', shares: minSurvivors - colluders, symmetric: true }),
        ]);
    }
    expect(plan.sensitivity).toBeGreaterThan(config.encoding.scale * config.training.clippingNorm);
  });

  it('charges the counts of a choice by the one of a participant and the noise on them', () => {
    const choice = plan.schedule.find(({ kind }) => kind === 'choice');
    if (choice === undefined) throw new Error('no choice');
    const [event] = sessionEvents(config, plan, choice, 3, 50, 'server');
    expect(event).toMatchObject({ sensitivity: COUNT_SCALE, dimension: 3 });
    expect(() =>
      planRun(parseRunConfig({ ...config, clusters: { ...config.clusters, countNoiseStddev: 0.2 } })),
    ).toThrow(/epsilon|noise/i);
  });

  it('is charged by the audit with the same events', () => {
    const claim = {
      unit: 'participant',
      relation: 'zero-out',
      delta: '0.00001',
      targetEpsilon: '8',
      noiseMultiplier: String(plan.noiseMultiplier),
      shareVariance: String(plan.shareVariance),
      sensitivity: String(plan.sensitivity),
      samplingProbability: '1',
      rounds: 80,
      minSurvivors: config.cohort.minSurvivors,
      colluders: config.cohort.colluders,
      choices: 3,
      choiceEpsilon: '0.5',
    } as const;
    const facts = { runId: RUN_ID, config, plan, roster: { version: 1, entries: [], revoked: [] } };
    const models = initialState(config).models;
    for (const session of plan.schedule) {
      const slots = sessionSlots(config, session);
      const heads = Array.from({ length: slots }, () => new Float32Array(490));
      const params = orderParams(
        nodeCrypto,
        facts,
        { session, models: { body: models.body, heads, extra: [] } },
        { round: 1, attempt: 0 },
      );
      for (const view of ['server', 'release'] as const) {
        const derived = deriveEvents(session.kind, params, claim, 50, view);
        expect(derived?.map(eventToJson)).toEqual(
          sessionEvents(config, plan, session, slots, 50, view).map(eventToJson),
        );
      }
      if (session.kind === 'train') {
        expect(deriveSensitivity(params)).toBe(trainingSensitivity(config, slots));
        expect(deriveSensitivity(params)).toBeLessThanOrEqual(plan.sensitivity);
      }
    }
  });
});

describe('the vector of a participant', () => {
  const base = configOf(6, 8);
  const models = initialState(base).models;
  const order: SessionOrder = { session: { kind: 'train', step: 0 }, models };
  const member: MemberState = { ...NEW_MEMBER, slot: 2 };

  it('moves by at most the charge when the data is taken away, for every organization and seed', () => {
    const bound = trainingSensitivity(base, models.heads.length);
    expect(normOf(vectorOf(base, NO_RECORDS, order, member, 1))).toBe(0);
    for (let i = 0; i < 8; i++) {
      // Large local steps: the update is longer than the clip, so that the bound is met and not only kept.
      const config = {
        ...base,
        training: { ...base.training, local: { epochs: 1, batchSize: 16, stepSize: 3 + i } },
      };
      const norm = normOf(vectorOf(config, generateDigits(5, i).train, order, member, i + 1));
      expect(norm).toBeLessThanOrEqual(bound);
      expect(norm).toBeGreaterThan(0.97 * config.encoding.scale);
    }
  });

  it('would move by more without the clip: the same update under a norm that is not charged', () => {
    const unclipped = {
      ...base,
      training: { ...base.training, clippingNorm: 50, local: { epochs: 1, batchSize: 16, stepSize: 2 } },
    };
    const norm = normOf(vectorOf(unclipped, generateDigits(5, 1).train, order, member, 1));
    expect(norm).toBeGreaterThan(trainingSensitivity(base, models.heads.length));
  });

  it('fills the body and the own slot only; soft weights fill all, under the same bound', () => {
    const decode = (config: RunConfig, who: MemberState): Float64Array[] => {
      const plan = planRun(config);
      const facts = { runId: RUN_ID, config, plan, roster: { version: 1, entries: [], revoked: [] } };
      const { encoding } = orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 });
      const blocks = sessionBlocks(config, order.session, models.heads.length);
      return createEncoder(nodeCrypto, { blocks, ...encoding }).decode(
        vectorOf(config, generateDigits(5, 1).train, order, who, 1),
      );
    };
    const size = (values: Float64Array): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
    const [body, ...heads] = decode(base, member);
    expect(size(body as Float64Array)).toBeGreaterThan(0.01);
    expect(heads.map((head) => size(head) > 0.01)).toEqual(heads.map((_, j) => j === 2));
    const soft = parseRunConfig({
      ...base,
      clusters: { ...base.clusters, assignment: 'soft', foundingSlots: 0, seatPositions: 0, choiceSteps: [], kept: 3 },
    });
    const softOrder: SessionOrder = { session: order.session, models: initialState(soft).models };
    const vector = vectorOf(soft, generateDigits(5, 1).train, softOrder, NEW_MEMBER, 1);
    expect(normOf(vector)).toBeLessThanOrEqual(trainingSensitivity(soft, 3));
    expect(normOf(vector)).toBeGreaterThan(0);
  });

  it('counts nobody who has no records', () => {
    const choice: SessionOrder = { session: { kind: 'choice', step: 1, choice: 0 }, models };
    expect(normOf(vectorOf(base, NO_RECORDS, choice, member, 1))).toBe(0);
    expect(normOf(vectorOf(base, generateDigits(5, 1).train, choice, member, 1))).toBe(COUNT_SCALE);
  });
});

describe('a run at unit participant', () => {
  it('releases the same bits through the real protocol, and charges within the budget', () => {
    const config = configOf(4, 8);
    const real = run(config, realSum(12));
    expect(real.state.models).toEqual(run(config).state.models);
    expect(real.epsilon.server).toBeLessThanOrEqual(8);
    expect(real.epsilon.server).toBeGreaterThan(1);
  });

  it('learns where the budget allows it', () => {
    const config = configOf(20, 20_000);
    const { state, members } = run(config);
    const oracle = createDenseOracle(config.model);
    const { test } = generateDigits(5, 0);
    const of = (models: { body: Float32Array; heads: readonly Float32Array[] }, slot: number): number =>
      accuracy(
        oracle,
        { body: Float64Array.from(models.body), head: Float64Array.from(models.heads[slot] ?? new Float32Array(0)) },
        test,
      );
    const slot = members[0]?.slot ?? 0;
    expect(of(state.models, slot)).toBeGreaterThan(of(initialState(config).models, slot) + 0.2);
  });

  it.each([
    ['privacy.relation', { privacy: { relation: 'add-remove' } }],
    ['training.local', { training: { local: null } }],
    ['training.samplingProbability', { training: { samplingProbability: 0.5 } }],
  ])('refuses %s that does not fit the unit', (field, change) => {
    const config = configOf(4, 8);
    const changed = Object.fromEntries(
      Object.entries(change).map(([key, value]) => [key, { ...config[key as 'privacy' | 'training'], ...value }]),
    );
    expect(() => parseRunConfig({ ...config, ...changed })).toThrow(field);
  });

  it('refuses local epochs at unit record', () => {
    const config = scenarioConfig('digits', { seed: 5, steps: 4, targetEpsilon: 8, participants: 12 });
    const local = { epochs: 1, batchSize: 32, stepSize: 0.1 };
    expect(() => parseRunConfig({ ...config, training: { ...config.training, local } })).toThrow('training.local');
  });
});
