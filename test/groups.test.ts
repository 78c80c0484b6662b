import { describe, expect, it } from 'vitest';
import { type InProcessResult, runInProcess, simulatedRoster } from '../experiments/in-process.ts';
import { realSum } from '../experiments/real-sum.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { toHex } from '../protocol/bytes.ts';
import type { SessionParams } from '../protocol/session.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { groupMembers } from '../src/run/groups.ts';
import { buildSchedule, groupOf, planRun } from '../src/run/plan.ts';
import { initialState } from '../src/run/release.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { repeatable } from './support/repeatable.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
const base = scenarioConfig('digits', { seed: 5, steps: 3, targetEpsilon: 8, participants: 12 });
const cohort = { ...base.cohort, minSurvivors: 4, minOrgs: 4, colluders: 1 };

/** Twelve members in two groups of six, without clusters. */
const grouped = parseRunConfig({ ...base, clusters: null, cohort: { ...cohort, groups: 2 } });

/** Twelve organizations in two clusters that everybody may know. */
function openConfig(): RunConfig {
  const names = Array.from({ length: 12 }, (_, i) => `org-${i + 1}`);
  return parseRunConfig({
    ...base,
    model: { ...base.model, sharedLayers: 0 },
    clusters: {
      ...base.clusters,
      open: [names.filter((_, i) => i % 3 === 0).concat('org-2'), names.filter((_, i) => i % 3 !== 0 && i !== 1)],
      foundingSlots: 0,
      seatPositions: 0,
      kept: 2,
      choiceSteps: [],
    },
    cohort,
  });
}

function run(
  config: RunConfig,
  secureSum?: ReturnType<typeof realSum>,
): InProcessResult & { sessions_: SessionParams[] } {
  const oracle = createDenseOracle(config.model);
  const sessions_: SessionParams[] = [];
  const result = runInProcess({
    config,
    runId: RUN_ID,
    crypto: nodeCrypto,
    random: repeatable(3),
    organizations: Array.from({ length: 12 }, (_, i) => ({ data: generateDigits(5, i).train, oracle })),
    isPresent: () => true,
    onRelease: (params) => sessions_.push(params),
    ...(secureSum === undefined ? {} : { secureSum }),
  });
  return { ...result, sessions_ };
}

describe('independent groups', () => {
  const { roster } = simulatedRoster(nodeCrypto, 12);

  it('are disjoint, cover the roster and differ by at most one member', () => {
    for (const groups of [1, 2, 3, 5]) {
      const config = { ...grouped, cohort: { ...grouped.cohort, groups } };
      const parts = Array.from({ length: groups }, (_, g) =>
        groupMembers(nodeCrypto, { config, roster, runId: RUN_ID }, g),
      );
      const ids = parts.flat().map(({ id }) => toHex(id));
      expect(new Set(ids).size).toBe(12);
      const sizes = parts.map(({ length }) => length);
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
    }
    const of = (runId: string): string[] =>
      groupMembers(nodeCrypto, { config: grouped, roster, runId }, 0).map(({ id }) => toHex(id));
    expect(of(RUN_ID)).not.toEqual(of('11'.repeat(16)));
  });

  it('train one model from one session each, and nobody pays for more than one', () => {
    expect(buildSchedule(grouped).map(groupOf)).toEqual([0, 1, 0, 1, 0, 1]);
    const { state, sessions_, epsilon, uploadBytes } = run(grouped);
    expect(sessions_.map(({ groupId }) => groupId)).toEqual([
      'group-0',
      'group-1',
      'group-0',
      'group-1',
      'group-0',
      'group-1',
    ]);
    expect(state.models.body.some((value, i) => value !== initialState(grouped).models.body[i])).toBe(true);
    expect(state.pending).toBeNull();
    // The noise of every group alone meets the target.
    expect(epsilon.server).toBeLessThanOrEqual(8);
    const whole = parseRunConfig({ ...grouped, cohort: { ...grouped.cohort, groups: 1 } });
    expect(planRun(grouped).shareVariance).toBe(planRun(whole).shareVariance);
    expect(uploadBytes).toBe(run(whole).uploadBytes);
  });

  it('release the same bits through the real protocol', () => {
    expect(run(grouped, realSum(12)).state.models).toEqual(run(grouped).state.models);
  });

  it.each([
    ['participants of a group', { ...grouped, cohort: { ...grouped.cohort, groups: 3, minSurvivors: 5 } }],
    ['colluders', { ...grouped, cohort: { ...grouped.cohort, colluders: 2 } }],
    ['clusters', { ...base, cohort: { ...cohort, groups: 2 } }],
  ])('that are too small or choose slots are refused: %s', (line, config) => {
    expect(() => parseRunConfig(config)).toThrow(line);
  });
});

describe('clusters in the open', () => {
  it('train a model each, in sessions of their own', () => {
    const config = openConfig();
    const { state, sessions_, members } = run(config, realSum(12));
    expect(sessions_.map(({ mode, groupId }) => `${mode}/${groupId}`).slice(0, 2)).toEqual([
      'open/cluster-0',
      'open/cluster-1',
    ]);
    expect(sessions_[0]?.layout.map(({ segment }) => segment)).toEqual(['body', 'slot-0']);
    expect(members.map(({ slot }) => slot)).toEqual([0, 0, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1]);
    const first = initialState(config).models.heads;
    state.models.heads.forEach((head, j) => {
      expect(head.some((value, i) => value !== first[j]?.[i])).toBe(true);
    });
  });

  it('are refused if a model is shared or an organization stands in two', () => {
    const config = openConfig();
    expect(() => parseRunConfig({ ...config, model: { ...config.model, sharedLayers: 1 } })).toThrow('sharedLayers');
    const [one = [], two = []] = config.clusters?.open ?? [];
    const twice = [[...one, two[0] as string], two];
    expect(() => parseRunConfig({ ...config, clusters: { ...config.clusters, open: twice } })).toThrow('clusters.open');
  });
});
