import { describe, expect, it } from 'vitest';
import { type InProcessResult, runInProcess, simulatedRoster } from '../experiments/in-process.ts';
import { realSum } from '../experiments/real-sum.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { toHex } from '../protocol/bytes.ts';
import { idealSum, type SecureSum } from '../protocol/ideal.ts';
import { announcedDraws, deriveEvents } from '../src/audit/derive-events.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import { createEncoder } from '../src/privacy/encode.ts';
import { eventToJson } from '../src/privacy/event-json.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { contribute, type MemberState, NEW_MEMBER, takeChoice } from '../src/run/member.ts';
import { orderParams, type SessionOrder } from '../src/run/order.ts';
import { COUNT_SCALE, planRun, type ScheduledSession, sessionEvents, trainingBlocks } from '../src/run/plan.ts';
import { initialState, sumCoordinates } from '../src/run/release.ts';
import { modelsHash } from '../src/run/released.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { repeatable } from './support/repeatable.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
const MEMBERS = 4;
const oracle = createDenseOracle({ inputs: 64, hidden: [12], classes: 10 });

function configOf(filled: number, changes: Partial<NonNullable<RunConfig['clusters']>> = {}): RunConfig {
  const base = scenarioConfig('digits', { seed: 5, steps: 4, targetEpsilon: 20, participants: MEMBERS });
  return parseRunConfig({
    ...base,
    model: { inputs: 64, hidden: [12], classes: 10 },
    clusters: {
      assignment: 'several',
      filled,
      foundingSlots: 0,
      seatPositions: 0,
      kept: 4,
      choiceSteps: [0, 2],
      choiceEpsilon: 0.5,
      lossBound: 2,
      countNoiseStddev: 0.7,
      ...changes,
    },
    algorithm: { id: 'flsc' },
    personal: { ...base.personal, method: 'none' },
  });
}

const config = configOf(2);
const plan = planRun(config);
const { roster } = simulatedRoster(nodeCrypto, MEMBERS);
const { train } = generateDigits(5, 0);

/** What a member sends in the first session of a kind, without noise. */
function contributed(kind: ScheduledSession['kind'], member: MemberState, seed = 9) {
  const session = plan.schedule.find((scheduled) => scheduled.kind === kind) ?? expect.fail('no session');
  const order: SessionOrder = { session, models: initialState(config).models };
  const params = orderParams(nodeCrypto, { runId: RUN_ID, config, plan, roster }, order, { round: 1, attempt: 0 });
  const quiet = { ...params, noise: { mechanism: 'none', shareVariance: 0 } as const };
  const inputs = { data: train, oracle, local: {}, seed: new Uint8Array(32).fill(seed) };
  const { words, member: next } = contribute(nodeCrypto, config, order, quiet, member, inputs);
  return { vector: sumCoordinates(quiet, words), params: quiet, next };
}

function run(secureSum: SecureSum): InProcessResult {
  return runInProcess({
    config,
    runId: RUN_ID,
    crypto: nodeCrypto,
    random: repeatable(7),
    organizations: Array.from({ length: MEMBERS }, (_, i) => ({ data: generateDigits(5, i).train, oracle })),
    isPresent: (organization, step) => organization !== 3 || step < 2,
    secureSum,
  });
}

describe('FLSC at unit record', () => {
  it('charges a choice as often as it draws, in the plan, the ledger and the audit', () => {
    const choices = plan.schedule.filter(({ kind }) => kind === 'choice');
    expect(choices).toHaveLength(2);
    const draw = { kind: 'exponentialMechanism', epsilon: 0.5, monotone: true };
    for (const filled of [1, 2, 3]) {
      const own = configOf(filled);
      const ownPlan = planRun(own);
      const session = choices[0] as ScheduledSession;
      const events = sessionEvents(own, ownPlan, session, 4, 4, 'server');
      expect(events).toEqual(Array.from({ length: filled }, () => draw));
      const order = { session, models: initialState(own).models };
      const facts = { runId: RUN_ID, config: own, plan: ownPlan, roster };
      const params = orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 });
      const claim = {
        unit: 'record',
        relation: 'add-remove',
        delta: '0.00001',
        targetEpsilon: '20',
        noiseMultiplier: '1',
        shareVariance: '1',
        sensitivity: '1',
        samplingProbability: '0.5',
        rounds: 4,
        minSurvivors: own.cohort.minSurvivors,
        colluders: own.cohort.colluders,
        choices: 2,
        choiceEpsilon: '0.5',
      } as const;
      const announced = announcedDraws({ clusters: { assignment: 'several', filled } });
      expect(deriveEvents('choice', params, claim, 4, 'server', announced)?.map(eventToJson)).toEqual(
        events.map(eventToJson),
      );
    }
    // rho = epsilon^2 / 8 for each of the four draws.
    const accountant = rdpAccountant({ relation: 'add-remove' });
    const four = [...Array(4)].reduce((spent) => spent.compose(draw), accountant).epsilon(1e-5);
    expect(four).toBeGreaterThan(accountant.compose(draw as never, 2).epsilon(1e-5));
    expect(planRun(configOf(3)).noiseMultiplier).toBeGreaterThan(planRun(configOf(1)).noiseMultiplier);
    expect(announcedDraws({ clusters: { assignment: 'hard', filled: 3 } })).toBe(1);
  });

  it('counts a member in each slot that it drew, and repeats the draws when a session is held again', () => {
    const { vector, next } = contributed('choice', NEW_MEMBER);
    expect([...vector].toSorted()).toEqual([0, 0, COUNT_SCALE, COUNT_SCALE]);
    expect(next.choices).toHaveLength(2);
    expect(contributed('choice', next, 10).next.choices).toEqual(next.choices);
    const drawn = new Set(
      [...Array(12).keys()].map((seed) => contributed('choice', NEW_MEMBER, seed).next.choices.join()),
    );
    expect(drawn.size).toBeGreaterThan(1);
    const placed = takeChoice(config, next, 0, vector);
    expect(placed.filled).toEqual(next.choices);
    // A second choice has draws of its own.
    const later = takeChoice(config, { ...placed, choices: [...placed.choices, 3, 1] }, 1, vector);
    expect(later.filled).toEqual([3, 1]);
    expect(takeChoice(config, placed, 1, vector)).toEqual(placed);
  });

  it('trains the mean of the drawn slots; a record fills each by 1 / sqrt(n) under one clip, and no other slot', () => {
    const member: MemberState = { ...NEW_MEMBER, filled: [1, 3], choices: [1, 3] };
    const { vector, params } = contributed('train', member);
    const blocks = trainingBlocks(config, 4);
    const { clippingNorm, scale, rotationSeed } = params.encoding;
    const decoded = createEncoder(nodeCrypto, { blocks, clippingNorm, scale, rotationSeed }).decode(vector);
    const [body, ...slots] = decoded as [Float64Array, ...Float64Array[]];
    for (const empty of [0, 2]) expect(slots[empty]?.every((value) => value === 0)).toBe(true);
    const [first, second] = [slots[1], slots[3]] as [Float64Array, Float64Array];
    // Rounded by themselves toward zero: one unit a record and rotated coordinate is what may lie between them.
    expect(Math.max(...first.map((value, i) => Math.abs(value - (second[i] as number))))).toBeLessThan(0.01);
    // The same term in one slot is sqrt(2) as long in it, with the same body, where both slots hold the same head.
    const models = initialState(config).models;
    const heads = models.heads.map(() => models.heads[1] as Float32Array);
    const sentBy = (filled: readonly number[]): readonly Float64Array[] => {
      const session = plan.schedule.find(({ kind }) => kind === 'train') ?? expect.fail('no step');
      const order = { session, models: { ...models, heads } };
      const inputs = { data: train, oracle, local: {}, seed: new Uint8Array(32).fill(9) };
      const { words } = contribute(nodeCrypto, config, order, params, { ...member, filled }, inputs);
      const sum = sumCoordinates(params, words);
      return createEncoder(nodeCrypto, { blocks, clippingNorm, scale, rotationSeed }).decode(sum);
    };
    const norm = (values: ArrayLike<number> = []): number => Math.hypot(...Array.from(values));
    const [one, two] = [sentBy([1]), sentBy([1, 3])];
    expect(norm(two[2]) / norm(one[2])).toBeCloseTo(Math.SQRT1_2, 3);
    expect(norm(two[0]) / norm(one[0])).toBeCloseTo(1, 3);
    expect(norm(body)).toBeGreaterThan(0);
  });

  it('sends zeros before its first choice', () => {
    expect(contributed('train', NEW_MEMBER).vector.every((value) => value === 0)).toBe(true);
  });

  it('releases the same bits through the real protocol, a member lost before the second choice, within its target', () => {
    const [real, ideal] = [run(realSum(MEMBERS)), run(idealSum)];
    expect(toHex(modelsHash(nodeCrypto, real.state.models))).toBe(toHex(modelsHash(nodeCrypto, ideal.state.models)));
    expect(real.members).toEqual(ideal.members);
    expect(ideal.members.every(({ filled }) => filled?.length === 2)).toBe(true);
    expect(ideal.members[3]?.choices).toHaveLength(2);
    expect(ideal.members[0]?.choices).toHaveLength(4);
    expect(ideal.epsilon.server).toBeLessThanOrEqual(20 * (1 + 1e-9));
  });

  it('is refused without a charged choice first, with more slots than there are, and with a founding', () => {
    expect(() => configOf(2, { choiceSteps: [] })).toThrow(
      /"clusters.choiceSteps" expected 0 first with several at unit record, got 0 founding slots and 0 choices/,
    );
    expect(() => configOf(5)).toThrow(/"clusters.filled" expected 1 to 4, got 5/);
    expect(() => configOf(2, { foundingSlots: 4, seatPositions: 64, kept: 3 })).toThrow(/got 4 founding slots/);
  });
});
