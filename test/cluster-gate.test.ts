import { describe, expect, it } from 'vitest';
import { runInProcess } from '../experiments/in-process.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { countNoiseMargin } from '../src/cluster/census.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { parseRunConfig, type RunConfig, scenarioConfig } from '../src/run/config.ts';
import { orderParams } from '../src/run/order.ts';
import { buildSchedule, COUNT_SCALE, countShareVariance, openAfterCensus, planRun } from '../src/run/plan.ts';
import { initialState, type ReleaseState } from '../src/run/release.ts';

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

function repeatable(): (length: number) => Uint8Array {
  const stream = nodeCrypto.aes256Ctr(new Uint8Array(32).fill(9));
  return (length) => {
    const bytes = new Uint8Array(length);
    stream.read(bytes);
    return bytes;
  };
}

function run(config: RunConfig): ReturnType<typeof runInProcess> {
  const oracle = createDenseOracle(config.model);
  return runInProcess({
    config,
    runId: '0f0e0d0c0b0a09080706050403020100',
    crypto: nodeCrypto,
    random: repeatable(),
    organizations: Array.from({ length: PARTICIPANTS }, (_, i) => ({ data: generateDigits(5, i % 12).train, oracle })),
    isPresent: () => true,
  });
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

  it('lets everybody train one slot while none is open', () => {
    const config = gatedConfig(39);
    const { state, members } = run(config);
    expect(state.open).toEqual([]);
    expect(members.every(({ slot }) => slot === 0)).toBe(true);
    expect(headsMoved(config, state)).toEqual([true, false, false]);
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
