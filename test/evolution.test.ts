import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { simulatedRoster } from '../experiments/in-process.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { isCoveyError } from '../protocol/errors.ts';
import type { SessionParams } from '../protocol/session.ts';
import { deriveEvents } from '../src/audit/derive-events.ts';
import { beginProbe, type EvolutionRule, endProbe, evolveSlots, renamedSlot } from '../src/cluster/evolution.ts';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import { eventToJson } from '../src/privacy/event-json.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { GAP_SCALE, gapsSensitivity, mergeVectors, sessionLayout, splitHeads } from '../src/run/evolution.ts';
import { contribute, type MemberState, NEW_MEMBER, takeGaps } from '../src/run/member.ts';
import { decodeOrder, encodeOrder, orderParams, type SessionOrder } from '../src/run/order.ts';
import { buildSchedule, planRun, type ScheduledSession, sessionEvents } from '../src/run/plan.ts';
import { sumCoordinates } from '../src/run/release.ts';
import { initialModels, modelManifest } from '../src/run/released.ts';
import { scenarioConfig } from '../src/run/scenario.ts';

const RULE: EvolutionRule = { unit: 'participant', first: 1, most: 6, minGap: 0.1, minMembers: 10 };
const RUN_ID = '0f0e0d0c0b0a09080706050403020100';

const EVOLVING = { most: 4, probeSteps: 2, perturbation: 0.3, minGap: 0.1, minMembers: 1, gapNoiseStddev: 3 };

function configOf(unit: RunConfig['privacy']['unit'], changes: object = {}, evolving: object = {}): RunConfig {
  const base = scenarioConfig('digits', { seed: 5, steps: 8, targetEpsilon: 20, participants: 12, unit });
  return parseRunConfig({
    ...base,
    clusters: {
      assignment: 'evolving',
      foundingSlots: 0,
      seatPositions: 0,
      kept: 1,
      choiceSteps: [2, 5],
      choiceEpsilon: 0.5,
      lossBound: 2,
      countNoiseStddev: 3,
      ...changes,
      evolving: { ...EVOLVING, ...evolving },
    },
  });
}

const codeOf = (work: () => unknown): string => {
  try {
    work();
    return 'none';
  } catch (error) {
    return isCoveyError(error) ? `${error.code} ${error.message}` : 'other';
  }
};

describe('the layout of a probe', () => {
  it('splits what is large enough, the largest first, as far as there is room', () => {
    expect(beginProbe(RULE, { slots: 1, trials: [], counts: null })).toEqual({
      slots: 2,
      trials: [[0, 1]],
      counts: null,
    });
    const layout = { slots: 4, trials: [], counts: [25, 60, 19.9, 40] };
    expect(beginProbe(RULE, layout).trials).toEqual([
      [1, 4],
      [3, 5],
    ]);
    expect(beginProbe({ ...RULE, most: 9 }, layout).trials).toEqual([
      [0, 4],
      [1, 5],
      [3, 6],
    ]);
    expect(beginProbe({ ...RULE, most: 4 }, layout)).toMatchObject({ slots: 4, trials: [] });
  });

  it('keeps a trial with a gap between large halves and merges every other by the noisy counts', () => {
    const trial = { slots: 3, trials: [[0, 2] as const], counts: null };
    const end = (gaps: number[], counts: number[]) => endProbe(RULE, trial, [...gaps, ...counts]);
    const kept = end([8, 0, 6], [40, 30, 20]);
    expect(kept.trials).toEqual([{ slots: [0, 2], gap: 14 / 60, stays: true }]);
    expect(kept.next).toEqual({ slots: 3, trials: [], counts: [40, 30, 20] });
    for (const merged of [end([2, 0, 3], [40, 30, 20]), end([30, 0, 6], [51, 30, 9])]) {
      expect(merged.trials[0]?.stays).toBe(false);
      expect(merged.next).toEqual({ slots: 2, trials: [], counts: [60, 30] });
    }
    expect(end([2, 0, 3], [45, 30, 15]).sources).toEqual([
      [
        { slot: 0, weight: 0.75 },
        { slot: 2, weight: 0.25 },
      ],
      [{ slot: 1, weight: 1 }],
    ]);
    // Noise below zero is no weight, and no gap at all.
    expect(end([2, 0, 3], [-4, 30, 15]).sources[0]).toEqual([
      { slot: 0, weight: 0 },
      { slot: 2, weight: 1 },
    ]);
    const nobody = end([2, 0, 3], [-4, 30, -2]);
    expect(nobody.trials[0]).toEqual({ slots: [0, 2], gap: Number.NaN, stays: false });
    expect(nobody.retired).toEqual([0]);
    expect(nobody.next).toEqual({ slots: 1, trials: [], counts: [30] });
  });

  it('gives up slots of too few members, never the last one, and renumbers the others', () => {
    const outcome = endProbe(RULE, { slots: 4, trials: [[1, 3]], counts: null }, [0, 9, 0, 9, 4, 30, 25, 30]);
    expect(outcome.retired).toEqual([0]);
    expect(outcome.next.counts).toEqual([30, 25, 30]);
    expect([0, 1, 2, 3].map((slot) => renamedSlot(outcome, slot))).toEqual([null, 0, 1, 2]);
    const all = endProbe(RULE, { slots: 2, trials: [], counts: null }, [0, 0, 3, 4]);
    expect(all.next).toEqual({ slots: 1, trials: [], counts: [4] });
    expect(all.retired).toEqual([0]);
  });

  it('at unit record measures gaps against losses and takes the counts of the choice', () => {
    const rule = { ...RULE, unit: 'record' as const };
    const layout = { slots: 2, trials: [[0, 1] as const], counts: [12, 11] };
    expect(endProbe(rule, layout, [30, 20, 100, 300]).trials[0]).toEqual({
      slots: [0, 1],
      gap: 0.125,
      stays: true,
    });
    expect(endProbe(rule, { ...layout, counts: [12, 9] }, [30, 20, 100, 300]).trials[0]?.stays).toBe(false);
  });

  it('follows a history of any noise to a layout that is whole', () => {
    const noisy = fc.array(fc.array(fc.double({ min: -50, max: 200, noNaN: true }), { minLength: 24, maxLength: 24 }), {
      maxLength: 7,
    });
    fc.assert(
      fc.property(noisy, fc.constantFrom('participant' as const, 'record' as const), (rows, unit) => {
        const rule = { ...RULE, unit };
        const history: number[][] = [];
        for (const row of rows) {
          const { slots } = evolveSlots(rule, history, history.length % 2 === 0).layout;
          history.push(row.slice(0, history.length % 2 === 0 ? slots : 2 * slots));
        }
        const { layout, ended } = evolveSlots(rule, history);
        expect(layout.slots).toBeGreaterThanOrEqual(1);
        expect(layout.slots).toBeLessThanOrEqual(rule.most);
        expect(ended.length).toBe(Math.floor(history.length / 2));
        for (const { sources, next } of ended) {
          expect(sources.length).toBe(next.slots);
          for (const source of sources) {
            expect(source.reduce((sum, { weight }) => sum + weight, 0)).toBeCloseTo(1, 12);
            expect(source.every(({ weight }) => weight >= 0)).toBe(true);
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  it('refuses releases of another length', () => {
    expect(codeOf(() => evolveSlots(RULE, [[1, 2, 3]]))).toMatch(/^PRIVACY_POLICY .*"counts" expected 2/);
    expect(codeOf(() => evolveSlots(RULE, [[1, 2], [1]]))).toMatch(/^PRIVACY_POLICY .*"gaps" expected 4/);
  });
});

describe('the models of a probe', () => {
  const config = configOf('participant');
  const manifest = modelManifest(config);
  const { heads } = initialModels(config, 2);

  it('are two halves around what they come from, the same for everybody, others for another step', () => {
    const layout = { slots: 3, trials: [[1, 2] as const], counts: null };
    const offered = splitHeads(config, manifest, heads, layout, 2);
    expect(offered[0]).toBe(heads[0]);
    const [whole, plus, minus] = [heads[1], offered[1], offered[2]] as [Float32Array, Float32Array, Float32Array];
    whole.forEach((value, i) => {
      expect(((plus[i] as number) + (minus[i] as number)) / 2).toBeCloseTo(value, 5);
    });
    // The kernel comes first: its entries move by 0.3 of their own deviation.
    const kernel = whole.subarray(0, 480);
    const stddev = Math.sqrt(kernel.reduce((sum, v) => sum + v * v, 0) / 480);
    const moved = Math.sqrt(kernel.reduce((sum, v, i) => sum + ((plus[i] as number) - v) ** 2, 0) / 480);
    expect(moved / stddev).toBeGreaterThan(0.27);
    expect(moved / stddev).toBeLessThan(0.33);
    expect(splitHeads(config, manifest, heads, layout, 2)).toEqual(offered);
    expect(splitHeads(config, manifest, heads, layout, 5)[1]).not.toEqual(plus);
  });

  it('merge to the weighted mean and leave the others as they are', () => {
    const outcome = endProbe(RULE, { slots: 3, trials: [[0, 2]], counts: null }, [0, 0, 0, 30, 20, 10]);
    const three = [Float32Array.of(4, 8), Float32Array.of(1, 1), Float32Array.of(8, 0)];
    expect(mergeVectors(three, outcome)).toEqual([Float32Array.of(5, 6), Float32Array.of(1, 1)]);
  });
});

describe('a configuration of evolving clusters', () => {
  it('is refused in one line that names the field', () => {
    for (const [changes, evolving, line] of [
      [{ evolving: undefined }, null, /"clusters.evolving" expected its numbers/],
      [{ assignment: 'hard', choiceSteps: [0] }, {}, /"clusters.evolving" expected evolving assignment, got hard/],
      [{}, { most: 1 }, /"clusters.evolving.most" expected 2 to 1024, got 1/],
      [{}, { minMembers: 7 }, /"clusters.evolving.minMembers" expected at most half of 12 participants, got 7/],
      [{}, { probeSteps: 4 }, /"clusters.evolving.probeSteps" expected at most 3 steps after step 2, got 4/],
      [{ choiceSteps: [2, 7] }, {}, /"clusters.evolving.probeSteps" expected at most 1 steps after step 7/],
      [{ choiceSteps: [0, 4] }, {}, /"clusters.choiceSteps" expected a probe after the first step, got 0/],
      [{ choiceSteps: [] }, {}, /"clusters.choiceSteps" expected a probe after the first step, got none/],
      [{ foundingSlots: 12 }, {}, /"clusters.assignment" expected no founding/],
      [{}, { perturbation: 0 }, /"clusters.evolving.perturbation"/],
      [{}, { gapNoiseStddev: 0 }, /"clusters.evolving.gapNoiseStddev"/],
    ] as const) {
      const work = (): unknown => {
        const config = configOf('participant');
        const clusters = { ...config.clusters, ...changes };
        return parseRunConfig({
          ...config,
          clusters: evolving === null ? clusters : { ...clusters, evolving: { ...EVOLVING, ...evolving } },
        });
      };
      expect(codeOf(work)).toMatch(line);
      expect(codeOf(work)).toMatch(/^USAGE_CONFIG [^\n]*$/);
    }
    const config = configOf('participant');
    expect(codeOf(() => parseRunConfig({ ...config, cohort: { ...config.cohort, minCluster: 2 } }))).toMatch(
      /"cohort.minCluster" expected 0 with evolving clusters/,
    );
  });

  it.each(['record', 'participant'] as const)(
    'of an embedded scenario leaves most of the budget to training at unit %s',
    (unit) => {
      const options = { seed: 1, steps: 80, targetEpsilon: 8, participants: 12, unit };
      const multiplierOf = (id: string): number =>
        planRun(scenarioConfig('digits', { ...options, algorithm: { id } })).noiseMultiplier;
      expect(multiplierOf('evolving')).toBeLessThan(1.2 * multiplierOf('fedavg'));
    },
  );

  it('has a choice before each probe and gaps after its last step', () => {
    const schedule = buildSchedule(configOf('participant'));
    expect(schedule.filter(({ kind }) => kind !== 'train').map(({ kind, step }) => [kind, step])).toEqual([
      ['choice', 2],
      ['gaps', 3],
      ['choice', 5],
      ['gaps', 6],
    ]);
  });
});

describe('an order', () => {
  const config = configOf('participant');
  const plan = planRun(config);
  const facts = { config, plan };
  const at = (kind: ScheduledSession['kind'], step: number): ScheduledSession =>
    plan.schedule.find((s) => s.kind === kind && s.step === step) as ScheduledSession;
  const taken = (session: ScheduledSession, slots: number, probes: number[][]): string =>
    codeOf(() => decodeOrder(facts, encodeOrder({ session, models: initialModels(config, slots) }), probes));

  it('is taken with the slots that the releases lead to and no others', () => {
    const first = [5, 7];
    const gaps = [3, 3, 5, 7];
    expect(taken(at('train', 1), 1, [])).toBe('none');
    expect(taken(at('choice', 2), 2, [])).toBe('none');
    expect(taken(at('train', 3), 2, [first])).toBe('none');
    expect(taken(at('gaps', 3), 2, [first])).toBe('none');
    expect(taken(at('train', 4), 2, [first, gaps])).toBe('none');
    expect(taken(at('train', 4), 1, [first, [0, 0, 5, 7]])).toBe('none');
    expect(taken(at('train', 4), 2, [first, [0, 0, 5, 7]])).toMatch(
      /PRIVACY_POLICY .*"slots" expected 1 of the released probes, got 2/,
    );
    expect(taken(at('choice', 5), 4, [first, gaps])).toBe('none');
    expect(taken(at('choice', 2), 1, [])).toMatch(/PRIVACY_POLICY/);
    // A coordinator that leaves a release out, or tells of one too many, gets no contribution.
    expect(taken(at('train', 4), 2, [first])).toMatch(/PRIVACY_POLICY .*"probes" expected 2 releases/);
    expect(taken(at('train', 1), 1, [first])).toMatch(/PRIVACY_POLICY .*"probes" expected 0 releases/);
    const order = { session: at('gaps', 3), models: initialModels(config, 2) };
    expect(decodeOrder(facts, encodeOrder(order), [first]).trials).toEqual([[0, 1]]);
    expect(sessionLayout(config, plan, at('train', 4), [first, gaps]).counts).toEqual([5, 7]);
  });
});

/** A member's released numbers before noise, in integer units. */
function gapsOf(config: RunConfig, data: Dataset, member: MemberState, models = startingModels(config)): Int32Array {
  const plan = planRun(config);
  const session = plan.schedule.find(({ kind }) => kind === 'gaps') as ScheduledSession;
  const order: SessionOrder = { session, models, trials: [[0, 1]] };
  const { roster } = simulatedRoster(nodeCrypto, 12);
  const params: SessionParams = {
    ...orderParams(nodeCrypto, { runId: RUN_ID, config, plan, roster }, order, { round: 1, attempt: 0 }),
    noise: { mechanism: 'none', shareVariance: 0 },
  };
  const oracle = createDenseOracle(config.model);
  const inputs = { data, oracle, local: {}, seed: new Uint8Array(32).fill(3) };
  return sumCoordinates(params, contribute(nodeCrypto, config, order, params, member, inputs).words);
}
const startingModels = (config: RunConfig) => initialModels(config, 3);
const norm = (values: Iterable<number>): number => Math.hypot(...values);
const difference = (a: Int32Array, b: Int32Array): Int32Array => a.map((value, i) => value - (b[i] as number));

function rowsOf(data: Dataset, rows: readonly number[], far: readonly number[] = []): Dataset {
  const { classes, featureLength } = data;
  const features = rows.flatMap((row) => {
    const own = [...data.features.subarray(row * featureLength, (row + 1) * featureLength)];
    return far.includes(row) ? own.map((value) => 40 * value) : own;
  });
  const labels = rows.map((row) => ((data.labels[row] as number) + (far.includes(row) ? 3 : 0)) % classes);
  return createDataset(featureLength, classes, Float32Array.from(features), Uint8Array.from(labels));
}

describe('what a member adds to the gaps', () => {
  const { train } = generateDigits(5, 1);
  const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

  it('moves by at most the charge when a participant comes or goes, whatever it holds', () => {
    const config = configOf('participant');
    const nobody = rowsOf(train, []);
    expect([...gapsOf(config, nobody, NEW_MEMBER)].every((value) => value === 0)).toBe(true);
    const seen: number[] = [];
    for (let i = 0; i < 20; i++) {
      const models = initialModels({ ...config, training: { ...config.training, initialSeed: i } }, 3);
      const far = { ...models, heads: models.heads.map((head, j) => head.map((value) => value * (1 + 30 * j))) };
      for (const of of [models, far]) {
        const values = gapsOf(config, rowsOf(train, upTo(9), i % 2 === 0 ? [3] : []), NEW_MEMBER, of);
        expect(values.filter((value) => value !== 0).length).toBeLessThanOrEqual(2);
        expect(Math.max(...values)).toBe(GAP_SCALE);
        seen.push(norm(values));
      }
    }
    expect(Math.max(...seen)).toBeLessThanOrEqual(gapsSensitivity());
    // A gap of one in full does occur: the charge is not larger than it has to be.
    expect(Math.max(...seen)).toBeGreaterThan(0.99 * gapsSensitivity());
    expect(Math.min(...seen)).toBeLessThan(0.9 * gapsSensitivity());
  });

  it('at unit record moves by at most the charge with a record, and the terms of the others stay what they are', () => {
    const config = configOf('record');
    const member = { ...NEW_MEMBER, slot: 1 };
    const all = gapsOf(config, rowsOf(train, upTo(12)), member);
    expect(norm(all)).toBeGreaterThan(2 * gapsSensitivity());
    for (let record = 0; record < 12; record++) {
      const others = upTo(12).filter((i) => i !== record);
      const without = gapsOf(config, rowsOf(train, others), member);
      const replaced = gapsOf(config, rowsOf(train, upTo(12), [record]), member);
      // Its own term, alone: what it adds beside eleven others is what it adds alone.
      const alone = gapsOf(config, rowsOf(train, [record]), member);
      expect(difference(all, without)).toEqual(alone);
      expect(difference(replaced, without)).toEqual(gapsOf(config, rowsOf(train, [record], [record]), member));
      expect(norm(difference(all, without))).toBeLessThanOrEqual(gapsSensitivity());
      expect(norm(difference(replaced, without))).toBeLessThanOrEqual(gapsSensitivity());
    }
    expect([...gapsOf(config, train, { ...NEW_MEMBER, slot: null })].every((value) => value === 0)).toBe(true);
  });

  it('gives the own slot its new number after a probe, or none', () => {
    const config = configOf('record');
    const probes = [
      [6, 6],
      [9, 9, 10, 10],
    ];
    expect(takeGaps(config, { ...NEW_MEMBER, slot: 1 }, probes).slot).toBe(1);
    const merged = [
      [6, 6],
      [0, 0, 10, 10],
    ];
    expect(takeGaps(config, { ...NEW_MEMBER, slot: 1 }, merged).slot).toBe(0);
    expect(takeGaps(config, NEW_MEMBER, merged)).toBe(NEW_MEMBER);
  });
});

describe.each(['participant', 'record'] as const)('the charges of probes at unit %s', (unit) => {
  const config = configOf(unit);
  const plan = planRun(config);
  const { minSurvivors, colluders } = config.cohort;

  it('are events of their own, derived again by the audit, within the target with the most slots', () => {
    const claim = {
      unit,
      relation: config.privacy.relation,
      delta: '0.00001',
      targetEpsilon: '20',
      noiseMultiplier: String(plan.noiseMultiplier),
      shareVariance: String(plan.shareVariance),
      sensitivity: String(plan.sensitivity),
      samplingProbability: String(config.training.samplingProbability),
      rounds: 8,
      minSurvivors,
      colluders,
      choices: 2,
      choiceEpsilon: '0.5',
    } as const;
    const { roster } = simulatedRoster(nodeCrypto, 12);
    const total = (slots: number): number =>
      plan.schedule
        .flatMap((session) => sessionEvents(config, plan, session, slots, minSurvivors, 'server'))
        .reduce((accountant, event) => accountant.compose(event), rdpAccountant())
        .epsilon(1e-5);
    expect(total(4)).toBeLessThanOrEqual(20);
    expect(total(4)).toBeGreaterThan(19.9);
    // Fewer slots than were planned for never cost more.
    for (const slots of [1, 2, 3]) expect(total(slots)).toBeLessThanOrEqual(total(4));
    for (const session of plan.schedule) {
      for (const slots of [1, 3]) {
        const order = { session, models: initialModels(config, slots) };
        const params = orderParams(nodeCrypto, { runId: RUN_ID, config, plan, roster }, order, {
          round: 3,
          attempt: 0,
        });
        for (const view of ['server', 'release'] as const)
          expect(deriveEvents(session.kind, params, claim, 11, view)?.map(eventToJson)).toEqual(
            sessionEvents(config, plan, session, slots, 11, view).map(eventToJson),
          );
      }
    }
    const gaps = plan.schedule.find(({ kind }) => kind === 'gaps') as ScheduledSession;
    expect(sessionEvents(config, plan, gaps, 3, minSurvivors, 'server')).toMatchObject([
      { kind: 'discreteGaussian', sensitivity: GAP_SCALE * Math.SQRT2, dimension: 6, shares: minSurvivors - colluders },
    ]);
    const quiet = configOf(unit, {}, { gapNoiseStddev: 30 });
    expect(planRun(quiet).noiseMultiplier).toBeLessThan(plan.noiseMultiplier);
  });
});
