import { describe, expect, it } from 'vitest';
import { runInProcess } from '../experiments/in-process.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { countNoiseMargin } from '../src/cluster/census.ts';
import type { Dataset } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { contribute, missChoice, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams, type SessionOrder } from '../src/run/order.ts';
import { buildSchedule, COUNT_SCALE, countShareVariance, openAfterCensus, planRun } from '../src/run/plan.ts';
import { initialState, type ReleaseState, sumCoordinates } from '../src/run/release.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { repeatable } from './support/repeatable.ts';

const PARTICIPANTS = 40;

/** A run without a founding: every member chooses among three slots before the first step. */
function gatedConfig(minCluster: number, sharedLayers?: number): RunConfig {
  const base = scenarioConfig('digits', { seed: 5, steps: 4, targetEpsilon: 8, participants: PARTICIPANTS });
  return parseRunConfig({
    ...base,
    model: sharedLayers === undefined ? base.model : { ...base.model, sharedLayers },
    clusters: {
      ...base.clusters,
      foundingSlots: 0,
      seatPositions: 0,
      kept: 3,
      choiceSteps: [0, 2],
    },
    cohort: { ...base.cohort, maxLoss: 1, minCluster },
  });
}

function run(config: RunConfig): ReturnType<typeof runInProcess> {
  const oracle = createDenseOracle(config.model);
  return runInProcess({
    config,
    runId: '0f0e0d0c0b0a09080706050403020100',
    crypto: nodeCrypto,
    random: repeatable(9),
    organizations: Array.from({ length: PARTICIPANTS }, (_, i) => ({ data: generateDigits(5, i % 12).train, oracle })),
    isPresent: () => true,
  });
}

/** A data set without one record. */
function without(data: Dataset, gone: number): Dataset {
  const { featureLength: length } = data;
  const keep = <T>(values: ArrayLike<T>, width: number): T[] =>
    Array.from(values).filter((_, i) => Math.floor(i / width) !== gone);
  return {
    ...data,
    count: data.count - 1,
    features: Float32Array.from(keep(data.features, length)),
    labels: Uint8Array.from(keep(data.labels, 1)),
  };
}

const headsMoved = (config: RunConfig, state: ReleaseState): boolean[] =>
  initialState(config).models.heads.map((head, j) => head.some((value, i) => value !== state.models.heads[j]?.[i]));

describe('a run without founding slots', () => {
  it('starts with a choice and keeps its slots', () => {
    const config = gatedConfig(0);
    expect(buildSchedule(config).map(({ kind }) => kind)).toEqual([
      'choice',
      'train',
      'train',
      'choice',
      'train',
      'train',
    ]);
    const { state, members } = run(config);
    expect(state.models.heads.length).toBe(3);
    expect(state.open).toBeNull();
    expect(members.every(({ slot, seat }) => slot !== null && seat === null)).toBe(true);
  });

  it.each([
    ['choiceSteps', { choiceSteps: [1, 2] }],
    ['seatPositions', { seatPositions: 64 }],
    ['kept', { kept: 5_000 }],
  ])('refuses %s that do not fit in one line', (field, change) => {
    const config = gatedConfig(0);
    expect(() => parseRunConfig({ ...config, clusters: { ...config.clusters, ...change } })).toThrow(field);
  });
});

describe('the gate of noisy counts', () => {
  it('opens a slot only if noise and losses leave the floor', () => {
    const config = gatedConfig(3);
    const stddev = Math.sqrt(PARTICIPANTS * countShareVariance(config)) / COUNT_SCALE;
    const least = 3 + 1 + countNoiseMargin(stddev, 3, 1e-6);
    expect(openAfterCensus(config, [least + 1e-9, least - 1e-9, 40])).toEqual([0, 2]);
    expect(openAfterCensus(gatedConfig(0), [0, 0, 40])).toBeNull();
  });

  it('trains open slots only; members of closed ones fall back to the cohort-wide model', () => {
    const config = gatedConfig(8);
    const { state, members } = run(config);
    const { open, counts } = state;
    expect(open).toEqual(openAfterCensus(config, counts ?? []));
    // The scenario of this seed has slots on both sides of the gate.
    expect(open?.length).toBeGreaterThan(0);
    expect(open?.length).toBeLessThan(3);
    for (const { choices, slot } of members) expect(slot).toBe(open?.includes(choices[1] ?? -1) ? choices[1] : null);
    const moved = headsMoved(config, state);
    for (const slot of open ?? []) expect(moved[slot]).toBe(true);
  });

  it('keeps a member out of every slot that it was not counted in', () => {
    const config = gatedConfig(3);
    const sum = Int32Array.of(30 * COUNT_SCALE, 2 * COUNT_SCALE, 20 * COUNT_SCALE);
    const member = { ...NEW_MEMBER, slot: 2, choices: [2], open: [2] };
    expect(missChoice(config, member, sum)).toMatchObject({ slot: null, open: [0, 2] });
    expect(missChoice(gatedConfig(30), member, sum)).toMatchObject({ slot: 0, open: [] });
    expect(missChoice(gatedConfig(0), member, sum)).toBe(member);
  });

  it('lets everybody train one slot while none is open', () => {
    const config = gatedConfig(39);
    const { state, members } = run(config);
    expect(state.open).toEqual([]);
    expect(members.every(({ slot }) => slot === 0)).toBe(true);
    expect(headsMoved(config, state)).toEqual([true, false, false]);
  });
});

describe('soft assignment', () => {
  const config = (): RunConfig => {
    const base = gatedConfig(0);
    return parseRunConfig({ ...base, clusters: { ...base.clusters, assignment: 'soft', choiceSteps: [] } });
  };

  it('needs no choice, charges none, and trains every slot', () => {
    const soft = config();
    expect(buildSchedule(soft).map(({ kind }) => kind)).toEqual(['train', 'train', 'train', 'train']);
    const { state, members, epsilon } = run(soft);
    expect(members.every(({ slot, choices }) => slot === null && choices.length === 0)).toBe(true);
    expect(headsMoved(soft, state)).toEqual([true, true, true]);
    expect(epsilon.server).toBeLessThanOrEqual(8);
  });

  it('moves the integer vector by at most one clipped record when a record is removed', () => {
    const soft = config();
    const plan = planRun(soft);
    const oracle = createDenseOracle(soft.model);
    const { train } = generateDigits(5, 0);
    const order: SessionOrder = { session: { kind: 'train', step: 0 }, models: initialState(soft).models };
    const facts = { runId: '00'.repeat(16), config: soft, plan, roster: { version: 1, entries: [], revoked: [] } };
    // Without noise and with every record drawn, so that the two vectors differ by that record alone.
    const all = { ...soft, training: { ...soft.training, samplingProbability: 1 } };
    const params = orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 });
    const quiet = { ...params, noise: { mechanism: 'none', shareVariance: 0 } as const };
    const vector = (data: typeof train): Int32Array => {
      const inputs = { data, oracle, local: {}, seed: new Uint8Array(32) };
      const { words } = contribute(nodeCrypto, all, order, quiet, NEW_MEMBER, inputs);
      return sumCoordinates(quiet, words);
    };
    const whole = vector(train);
    const few = Array.from({ length: 12 }, (_, i) => i * 7);
    for (const gone of few) {
      const less = vector(without(train, gone));
      const moved = Math.sqrt(whole.reduce((sum, value, i) => sum + (value - (less[i] as number)) ** 2, 0));
      expect(moved).toBeGreaterThan(0);
      expect(moved).toBeLessThanOrEqual(plan.sensitivity);
    }
  });

  it('refuses choices, a founding and a floor', () => {
    const soft = config();
    for (const change of [{ choiceSteps: [0] }, { foundingSlots: 40, seatPositions: 64 }])
      expect(() => parseRunConfig({ ...soft, clusters: { ...soft.clusters, ...change } })).toThrow('assignment');
    expect(() => parseRunConfig({ ...soft, cohort: { ...soft.cohort, minCluster: 2 } })).toThrow('minCluster');
  });
});

describe('mode hidden', () => {
  it('repeats the whole model in every slot', () => {
    const config = gatedConfig(0, 0);
    const { state } = run(config);
    expect(state.models.body.length).toBe(0);
    expect(state.models.heads.map((head) => head.length)).toEqual([64 * 48 + 48 + 48 * 10 + 10, 3_610, 3_610]);
    expect(headsMoved(config, state)).toEqual([true, true, true]);
    const plan = planRun(config);
    const session = { kind: 'train', step: 0 } as const;
    const facts = { runId: '00'.repeat(16), config, plan, roster: { version: 1, entries: [], revoked: [] } };
    const modeOf = (facts_: typeof facts, of: ReleaseState): string =>
      orderParams(nodeCrypto, facts_, { session, models: of.models }, { round: 1, attempt: 0 }).mode;
    expect(modeOf(facts, state)).toBe('hidden');
    const hybrid = gatedConfig(0);
    expect(modeOf({ ...facts, config: hybrid, plan: planRun(hybrid) }, initialState(hybrid))).toBe('hybrid');
  });

  it('refuses a body that leaves no head', () => {
    expect(() => gatedConfig(0, 2)).toThrow('"sharedLayers" expected 0 to 1, got 2');
  });
});
