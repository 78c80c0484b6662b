import { describe, expect, it } from 'vitest';
import { openMemory } from '../../clients/core/memory.ts';
import { checkRun, checkSession, type SitePolicy } from '../../clients/core/policy.ts';
import { createMemoryStore } from '../../platform/memory/store.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { type CoveyError, isCoveyError } from '../../protocol/errors.ts';
import { decodeParams, encodeParams, sessionId } from '../../protocol/params.ts';
import { strictThreshold } from '../../protocol/roster.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { parseRunConfig, type RunConfig } from '../../src/run/config.ts';
import { decodeOrder, encodeOrder, orderParams, type RunFacts, type SessionOrder } from '../../src/run/order.ts';
import { planRun, slotsAt } from '../../src/run/plan.ts';
import { initialModels } from '../../src/run/released.ts';
import { scenarioConfig } from '../../src/run/scenario.ts';
import { bytesFrom } from '../support/malice.ts';
import { createMembers } from '../support/session-world.ts';

const crypto = nodeCrypto;
const { roster } = createMembers(8);
const RUN = '0123456789abcdef0123456789abcdef';

const metrics = { every: 3, bins: 8, noiseStddev: 3 };
const config: RunConfig = scenarioConfig('heart', { participants: 8, steps: 6, seed: 7, targetEpsilon: 8, metrics });
const facts: RunFacts = { runId: RUN, config, plan: planRun(config), roster };

const orderOf = (kind: 'seats' | 'choice' | 'train' | 'metrics'): SessionOrder => {
  const session = facts.plan.schedule.find((scheduled) => scheduled.kind === kind);
  if (session === undefined) throw new Error(`no ${kind} session`);
  const slots =
    kind === 'train' || kind === 'metrics' ? slotsAt(config, session.step) : (config.clusters?.foundingSlots ?? 1);
  return { session, models: initialModels(config, slots) };
};

const faultOf = (work: () => unknown): CoveyError | null => {
  try {
    work();
    return null;
  } catch (error) {
    if (isCoveyError(error)) return error;
    throw error;
  }
};

type Change = [field: keyof SessionParams, what: string, change: (p: SessionParams) => Partial<SessionParams>];

/** Every field of the parameters, changed in every way that a coordinator could want. */
const CHANGES: readonly Change[] = [
  ['runId', 'another run', () => ({ runId: 'ffffffffffffffffffffffffffffffff' })],
  ['purpose', 'another purpose', (p) => ({ purpose: p.purpose === 'train' ? 'metrics' : 'train' })],
  ['groupId', 'another group', () => ({ groupId: 'alone' })],
  ['mode', 'an open cluster', () => ({ mode: 'open' })],
  ['slots', 'one slot more', (p) => ({ slots: p.slots + 1 })],
  [
    'layout',
    'one coordinate less',
    (p) => ({ layout: p.layout.map((s, i) => (i === 0 ? { ...s, length: s.length - 1 } : s)) }),
  ],
  [
    'layout',
    'another segment name',
    (p) => ({ layout: p.layout.map((s, i) => (i === 0 ? { ...s, segment: 'x' } : s)) }),
  ],
  ['layout', 'another segment', (p) => ({ layout: [...p.layout, { segment: 'more', length: 3 }] })],
  ['modelHash', 'other models', () => ({ modelHash: bytesFrom('models') })],
  ['taskHash', 'another task', () => ({ taskHash: bytesFrom('task') })],
  ['rosterHash', 'another roster', () => ({ rosterHash: bytesFrom('roster') })],
  ['rosterVersion', 'an older roster', (p) => ({ rosterVersion: p.rosterVersion - 1 })],
  ['ring', 'a narrower ring', () => ({ ring: { lanes: 4, bits: 16 } })],
  ['ring', 'a ring of 21 bits', () => ({ ring: { lanes: 3, bits: 21 } })],
  [
    'encoding',
    'a larger clipping norm',
    (p) => ({ encoding: { ...p.encoding, clippingNorm: 100 * p.encoding.clippingNorm } }),
  ],
  ['encoding', 'a finer scale', (p) => ({ encoding: { ...p.encoding, scale: 2 * p.encoding.scale } })],
  ['encoding', 'a chosen rotation', (p) => ({ encoding: { ...p.encoding, rotationSeed: bytesFrom('rotation') } })],
  ['encoding', 'another rounding', (p) => ({ encoding: { ...p.encoding, rounding: 'conditional' } })],
  ['noise', 'no noise', () => ({ noise: { mechanism: 'none', shareVariance: 0 } })],
  [
    'noise',
    'half the noise',
    (p) => ({ noise: { mechanism: 'discrete-gaussian', shareVariance: p.noise.shareVariance / 2 } }),
  ],
  [
    'noise',
    'a little less noise',
    (p) => ({ noise: { mechanism: 'discrete-gaussian', shareVariance: p.noise.shareVariance * (1 - 2 ** -52) } }),
  ],
  ['noise', 'noise of another law', (p) => ({ noise: { ...p.noise, mechanism: 'skellam' } })],
  ['minSurvivors', 'fewer survivors', (p) => ({ minSurvivors: p.minSurvivors - 1 })],
  ['minOrgs', 'fewer organizations', () => ({ minOrgs: 1 })],
  ['colluders', 'fewer colluders', (p) => ({ colluders: p.colluders - 1 })],
  ['dropoutFraction', 'more dropouts', () => ({ dropoutFraction: 0.9 })],
  ['maxLoss', 'a larger loss', (p) => ({ maxLoss: p.maxLoss + 1 })],
  ['profile', 'a sparse graph', () => ({ profile: 'sparse' })],
  ['deadlineMs', 'another deadline', (p) => ({ deadlineMs: p.deadlineMs + 1 })],
];

describe('A6: lowered parameters', () => {
  for (const kind of ['train', 'choice', 'seats', 'metrics'] as const) {
    const order = orderOf(kind);
    const params = orderParams(crypto, facts, order, { round: 3, attempt: 0 });

    it(`control: the ${kind} session that the configuration says is accepted`, () => {
      expect(faultOf(() => checkSession(crypto, facts, order, params))).toBeNull();
      expect(faultOf(() => checkSession(crypto, facts, order, { ...params, attempt: 3 }))).toBeNull();
    });

    for (const [field, what, change] of CHANGES) {
      const changed = { ...params, ...change(params) };
      if (kind === 'seats' && field === 'noise') continue;
      it(`refuses a ${kind} session with ${what} and names "${field}"`, () => {
        const fault = faultOf(() => checkSession(crypto, facts, order, changed));
        expect([fault?.code, fault?.detail['field']]).toEqual(['PRIVACY_POLICY', field]);
        expect(fault?.message).toContain(`"${field}"`);
      });
    }

    it(`refuses a ${kind} session of another round under the rotation of this one`, () => {
      const fault = faultOf(() => checkSession(crypto, facts, order, { ...params, round: 4 }));
      expect([fault?.code, fault?.detail['field']]).toEqual(['PRIVACY_POLICY', 'encoding']);
    });
  }

  it('covers every field: those that are free are ordered by the memory or fixed by the format', () => {
    const params = orderParams(crypto, facts, orderOf('train'), { round: 3, attempt: 0 });
    const changed = new Set<string>(CHANGES.map(([field]) => field));
    expect(
      Object.keys(params)
        .filter((field) => !changed.has(field))
        .sort(),
    ).toEqual(['attempt', 'protocol', 'round']);
    const bytes = encodeParams(params);
    for (const [field, value] of [
      ['protocol', 'covey/0'],
      ['profile', 'loose'],
    ] as const) {
      expect(
        faultOf(() => decodeParams(encodeParams({ ...params, [field]: value } as unknown as SessionParams)))?.name,
      ).toMatch(/^(Codec|Protocol)Error$/);
    }
    expect(encodeParams(decodeParams(bytes))).toEqual(bytes);
  });

  it('gives every changed field another session identifier', () => {
    const params = orderParams(crypto, facts, orderOf('train'), { round: 3, attempt: 0 });
    const all = [
      params,
      { ...params, round: 4 },
      { ...params, attempt: 1 },
      ...CHANGES.map(([, , change]) => ({ ...params, ...change(params) })),
    ];
    expect(new Set(all.map((p) => sessionId(crypto, p).join())).size).toBe(all.length);
  });

  it('A8: refuses models that do not hash to the signed value', () => {
    const order = orderOf('train');
    const params = orderParams(crypto, facts, order, { round: 3, attempt: 0 });
    const crafted = {
      ...order,
      models: { ...order.models, body: order.models.body.map((value, i) => (i === 0 ? value + 1 : value)) },
    };
    const fault = faultOf(() => checkSession(crypto, facts, crafted, params));
    expect([fault?.code, fault?.detail['field']]).toEqual(['PRIVACY_POLICY', 'modelHash']);
    expect(decodeOrder(facts, encodeOrder(order))).toEqual(order);
  });

  it('refuses a session that the schedule does not contain', () => {
    const order = orderOf('train');
    for (const session of [
      { kind: 'train', step: 6 },
      { kind: 'choice', step: 5, choice: 0 },
      { kind: 'metrics', step: 1 },
      { kind: 'metrics', step: 6 },
    ] as const) {
      expect(faultOf(() => decodeOrder(facts, encodeOrder({ ...order, session })))?.code).toBe('PRIVACY_POLICY');
    }
  });

  it('no parameter carries the threshold: with it, nobody can be split or cut off by c colluders', () => {
    for (let members = 1; members <= 256; members++) {
      const threshold = strictThreshold(members);
      const colluders = Math.ceil(members / 3) - 1;
      expect(2 * threshold).toBeGreaterThan(members + colluders);
      expect(threshold).toBeLessThanOrEqual(members);
    }
  });
});

describe('A6: a run below the policy of a site', () => {
  const policy: SitePolicy = {
    maxEpsilon: 8,
    maxDelta: 1e-5,
    minCohort: config.cohort.minSurvivors,
    minOrgs: config.cohort.minOrgs,
    colluders: config.cohort.colluders,
    minCluster: 0,
    minNoiseMultiplier: facts.plan.noiseMultiplier,
    openClusters: false,
    sparse: false,
    maxClippingNorm: 1,
  };

  it('control: accepts a run at its limits', () => {
    expect(faultOf(() => checkRun(policy, facts))).toBeNull();
  });

  const stricter: [string, Partial<SitePolicy>][] = [
    ['privacy.targetEpsilon', { maxEpsilon: 7.99 }],
    ['privacy.delta', { maxDelta: 9e-6 }],
    ['cohort.minSurvivors', { minCohort: policy.minCohort + 1 }],
    ['cohort.minOrgs', { minOrgs: policy.minOrgs + 1 }],
    ['cohort.colluders', { colluders: policy.colluders + 1 }],
    ['cohort.minCluster', { minCluster: 1 }],
    ['privacy.perPerson', { perPerson: true }],
    ['training.clippingNorm', { maxClippingNorm: 0.99 }],
    ['noiseMultiplier', { minNoiseMultiplier: policy.minNoiseMultiplier * 1.0001 }],
  ];
  for (const [field, change] of stricter) {
    it(`refuses a run that asks for less than the site in ${field}`, () => {
      const fault = faultOf(() => checkRun({ ...policy, ...change }, facts));
      expect([fault?.code, fault?.detail['field']]).toEqual(['PRIVACY_POLICY', field]);
    });
  }

  it('accepts runs that protect persons, or the whole site, where it asks for persons', () => {
    const strict = { ...policy, perPerson: true };
    const persons = { ...config, privacy: { ...config.privacy, perPerson: true } };
    expect(faultOf(() => checkRun(strict, { ...facts, config: persons }))).toBeNull();
    const whole = { ...config, privacy: { ...config.privacy, unit: 'participant' as const } };
    expect(faultOf(() => checkRun(strict, { ...facts, config: whole }))).toBeNull();
  });

  it('refuses clusters in the open unless the site accepts them', () => {
    const open = { ...config, clusters: { ...config.clusters, open: [['a'], ['b']] } } as typeof config;
    expect(faultOf(() => checkRun(policy, { ...facts, config: open }))?.detail['field']).toBe('clusters.open');
    expect(faultOf(() => checkRun({ ...policy, openClusters: true }, { ...facts, config: open }))).toBeNull();
  });

  it('A26: refuses a configuration in which the colluders are a third of the participants', () => {
    expect(
      faultOf(() => parseRunConfig({ ...config, cohort: { ...config.cohort, participants: 6, colluders: 2 } }))?.code,
    ).toBe('USAGE_CONFIG');
  });
});

describe('A13: the memory of a node', () => {
  const params = orderParams(crypto, facts, orderOf('train'), { round: 5, attempt: 2 });
  const sid = sessionId(crypto, params);
  const { round, purpose, attempt } = params;

  it('refuses what is not newer, whatever the group and after a restart', async () => {
    const store = createMemoryStore();
    const codeAfter = async (changes: Partial<SessionParams>): Promise<string> => {
      // A restart: everything that counts is read from the store.
      const memory = await openMemory(store, RUN);
      return faultOf(() => memory.requireNewer({ ...params, ...changes }))?.code ?? 'accepted';
    };
    expect(await codeAfter({})).toBe('accepted');
    await (await openMemory(store, RUN)).persist({ kind: 'entered', runId: RUN, sid, round, purpose, attempt });
    expect(await codeAfter({})).toBe('PROTO_ROUND');
    expect(await codeAfter({ groupId: 'other' })).toBe('PROTO_ROUND');
    expect(await codeAfter({ attempt: 1 })).toBe('PROTO_ROUND');
    expect(await codeAfter({ round: 4, attempt: 9 })).toBe('PROTO_ROUND');
    expect(await codeAfter({ purpose: 'census', attempt: 9 })).toBe('PROTO_ROUND');
    expect(await codeAfter({ attempt: 3 })).toBe('accepted');
    expect(await codeAfter({ round: 6, purpose: 'census', attempt: 0 })).toBe('accepted');
    await (await openMemory(store, RUN)).persist({
      kind: 'uploaded',
      runId: RUN,
      sid,
      round,
      purpose,
      digest: bytesFrom('digest'),
    });
    expect(await codeAfter({ attempt: 3 })).toBe('PROTO_ROUND');
    expect(await codeAfter({ purpose: 'metrics', attempt: 0 })).toBe('accepted');
    expect(await codeAfter({ round: 6, attempt: 0 })).toBe('accepted');
  });

  it('keeps runs apart', async () => {
    const store = createMemoryStore();
    await (await openMemory(store, RUN)).persist({ kind: 'entered', runId: RUN, sid, round, purpose, attempt });
    const other = await openMemory(store, 'ffffffffffffffffffffffffffffffff');
    expect(faultOf(() => other.requireNewer(params))).toBeNull();
  });
});
