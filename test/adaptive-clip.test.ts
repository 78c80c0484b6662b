import { describe, expect, it } from 'vitest';
import { openMemory } from '../clients/core/memory.ts';
import { checkRun, checkSession, type SitePolicy } from '../clients/core/policy.ts';
import { type InProcessResult, runInProcess, simulatedRoster } from '../experiments/in-process.ts';
import { realSum } from '../experiments/real-sum.ts';
import { createMemoryStore } from '../platform/memory/store.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { idealSum, type SecureSum } from '../protocol/ideal.ts';
import { coordinateCount } from '../protocol/params.ts';
import type { SessionParams } from '../protocol/session.ts';
import type { EntryBody } from '../src/audit/bodies.ts';
import { checkNoise } from '../src/audit/check-noise.ts';
import { checkClips } from '../src/audit/clips.ts';
import { deriveEvents, deriveSensitivity } from '../src/audit/derive-events.ts';
import type { RunHistory, SessionHistory } from '../src/audit/replay.ts';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createRandom } from '../src/data/random.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import { createDiscreteGaussian } from '../src/privacy/discrete-gaussian.ts';
import { eventToJson } from '../src/privacy/event-json.ts';
import {
  type ClipHistory,
  clipCount,
  decodeClipHistory,
  encodeClipHistory,
  followClip,
  portableExp,
  requireSameHistory,
} from '../src/run/adaptive-clip.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { contribute, NEW_MEMBER } from '../src/run/member.ts';
import { decodeOrder, encodeOrder, orderParams, type SessionOrder } from '../src/run/order.ts';
import { planRun, sessionEvents, trainingSensitivity } from '../src/run/plan.ts';
import { applyRelease, initialState, sumCoordinates } from '../src/run/release.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { repeatable } from './support/repeatable.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
const ADAPTIVE = { quantile: 0.5, learningRate: 0.4, countNoise: 3 };

function configOf(adaptiveClip: object | undefined, steps = 6, participants = 12, extra: object = {}): RunConfig {
  const base = scenarioConfig('digits', { seed: 5, steps, targetEpsilon: 8, participants, unit: 'participant' });
  const training = adaptiveClip === undefined ? base.training : { ...base.training, adaptiveClip };
  return parseRunConfig({ ...base, clusters: null, training, ...extra });
}

interface Released {
  readonly params: SessionParams;
  readonly sum: Uint32Array;
  readonly survivors: number;
}

function run(config: RunConfig, secureSum: SecureSum = idealSum, released: Released[] = []): InProcessResult {
  const oracle = createDenseOracle(config.model);
  return runInProcess({
    config,
    runId: RUN_ID,
    crypto: nodeCrypto,
    random: repeatable(4),
    organizations: Array.from({ length: config.cohort.participants }, (_, i) => {
      const { train, test } = generateDigits(5, i % 12);
      return { data: train, test, oracle };
    }),
    isPresent: () => true,
    secureSum,
    onRelease: (params, sum, survivors) => released.push({ params, sum: sum.slice(), survivors }),
  });
}

const codeOf = (work: () => unknown): string => {
  try {
    work();
    return 'accepted';
  } catch (error) {
    if (isCoveyError(error)) return `${error.code} ${String(error.detail['field'] ?? '')}`.trim();
    throw error;
  }
};

/** Standard normal draws from a public generator. */
function normals(seed: number): () => number {
  const random = createRandom(seed, 1);
  return () => Math.sqrt(-2 * Math.log(1 - random.uniform(0, 1))) * Math.cos(2 * Math.PI * random.uniform(0, 1));
}

describe('an adaptive clip', () => {
  it.each([
    [0.5, 0.01],
    [0.5, 40],
    [0.8, 1],
  ])('converges to the %f quantile of the norms from a first clip of %f', (quantile, clippingNorm) => {
    const base = configOf({ quantile, learningRate: 0.3, countNoise: 10 });
    const config = { ...base, training: { ...base.training, clippingNorm } };
    const units = 16;
    const normal = normals(7);
    // Log-normal norms; their quantiles are known.
    const norms = Array.from({ length: 200 }, () => Math.exp(0.5 * normal()) * 3);
    const noise = createDiscreteGaussian((10 * 2 * units) ** 2);
    const stream = nodeCrypto.aes256Ctr(new Uint8Array(32).fill(3));
    const history: { sum: number; survivors: number }[] = [];
    const clips: number[] = [];
    for (let step = 0; step < 120; step++) {
      const clip = followClip(config, history, units).clippingNorm;
      clips.push(clip);
      const sum = Int32Array.of(norms.reduce((total, norm) => total + (norm <= clip ? units : -units), 0));
      noise.add(sum, stream);
      history.push({ sum: sum[0] as number, survivors: 200 });
    }
    const late = clips.slice(60);
    const clip = Math.exp(late.reduce((total, value) => total + Math.log(value), 0) / late.length);
    const below = norms.filter((norm) => norm <= clip).length / norms.length;
    expect(Math.abs(below - quantile)).toBeLessThan(0.05);
  });

  it('keeps the product with its scale to the last bit, within its range', () => {
    const config = configOf({ ...ADAPTIVE, maxNorm: 4 }, 6);
    const product = config.encoding.scale * config.training.clippingNorm;
    const random = createRandom(3, 2);
    let history: ClipHistory = [];
    const seen = new Set<number>();
    for (let i = 0; i < 400; i++) {
      history = [...history, { sum: Math.floor((random.uniform(0, 1) - 0.5) * 2_000), survivors: 12 }];
      const { clippingNorm, scale } = followClip(config, history, 64);
      expect(scale * clippingNorm).toBe(product);
      expect(clippingNorm).toBeLessThanOrEqual(4);
      seen.add(clippingNorm);
    }
    expect(seen.size).toBeGreaterThan(300);
    const always = (sum: number): ClipHistory => Array.from({ length: 200 }, () => ({ sum, survivors: 1 }));
    expect(followClip(config, always(-1e6), 1).clippingNorm).toBeCloseTo(4, 5);
    expect(followClip(config, always(1e6), 1).clippingNorm).toBeGreaterThan(0.9 * 2 ** -16);
  });

  it('has an exponential of its own that is right to the last digits', () => {
    for (let x = -16; x <= 16; x += 0.37) expect(Math.abs(portableExp(x) / Math.exp(x) - 1)).toBeLessThan(1e-13);
  });

  it.each([
    ['adaptiveClip', { training: { adaptiveClip: { ...ADAPTIVE, quantile: 1 } } }],
    ['learningRate', { training: { adaptiveClip: { ...ADAPTIVE, learningRate: 0 } } }],
    ['maxNorm', { training: { adaptiveClip: { ...ADAPTIVE, maxNorm: 0.5 } } }],
  ])('is refused in one line that names %s', (field, { training }) => {
    const base = configOf(undefined);
    expect(() => parseRunConfig({ ...base, training: { ...base.training, ...training } })).toThrow(new RegExp(field));
  });

  it('is refused at unit record, where a count would break the record rule', () => {
    const base = scenarioConfig('digits', { seed: 5, steps: 6, targetEpsilon: 8, participants: 12 });
    expect(() => parseRunConfig({ ...base, training: { ...base.training, adaptiveClip: ADAPTIVE } })).toThrow(
      /unit record/,
    );
  });
});

describe('the charge of an adaptive clip', () => {
  it.each([12, 60])('is that of a fixed one at the same noise multiplier, %i participants', (participants) => {
    const fixedConfig = configOf(undefined, 40, participants);
    const config = configOf(ADAPTIVE, 40, participants);
    const [fixed, adaptive] = [planRun(fixedConfig), planRun(config)];
    const { minSurvivors, colluders } = config.cohort;
    // The same target asks for the same z, to the width of the calibration and the higher-order terms.
    expect(adaptive.noiseMultiplier / fixed.noiseMultiplier).toBeCloseTo(1, 5);
    // z_D = (z^-2 - (2 sigma_b)^-2)^(-1/2), and sigma_b members of noise on the count. privacy F20
    const noiseStddev = Math.sqrt((minSurvivors - colluders) * adaptive.shareVariance);
    const updates = noiseStddev / trainingSensitivity(config, 1);
    const z = adaptive.noiseMultiplier;
    expect(updates).toBeGreaterThan(z);
    expect(updates / (z ** -2 - (2 * ADAPTIVE.countNoise) ** -2) ** -0.5).toBeCloseTo(1, 4);
    expect(noiseStddev / (2 * adaptive.countUnits)).toBeCloseTo(ADAPTIVE.countNoise, 3);
    const epsilonOf = (of: RunConfig, plan: typeof fixed): number =>
      plan.schedule
        .flatMap((session) => sessionEvents(of, plan, session, 1, minSurvivors, 'server'))
        .reduce((accountant, event) => accountant.compose(event), rdpAccountant({ relation: 'zero-out' }))
        .epsilon(1e-5);
    expect(epsilonOf(config, adaptive)).toBeLessThanOrEqual(8);
    expect(epsilonOf(config, adaptive)).toBeCloseTo(epsilonOf(fixedConfig, fixed), 4);
  });

  it('needs more noise than the count alone may cost', () => {
    expect(() => planRun(configOf({ ...ADAPTIVE, countNoise: 0.05 }, 40))).toThrow(/countNoise/);
  });

  it('is derived again by the audit from the signed parameters, whatever the clip', () => {
    const config = configOf(ADAPTIVE);
    const plan = planRun(config);
    const claim = {
      unit: 'participant',
      relation: 'zero-out',
      delta: '0.00001',
      targetEpsilon: '8',
      noiseMultiplier: String(plan.noiseMultiplier),
      shareVariance: String(plan.shareVariance),
      sensitivity: String(plan.sensitivity),
      samplingProbability: '1',
      rounds: 6,
      minSurvivors: config.cohort.minSurvivors,
      colluders: config.cohort.colluders,
      choices: 0,
      choiceEpsilon: '0',
    } as const;
    const released: Released[] = [];
    run(config, idealSum, released);
    expect(new Set(released.map(({ params }) => params.encoding.clippingNorm)).size).toBe(6);
    for (const { params } of released) {
      expect(deriveSensitivity(params)).toBe(plan.sensitivity);
      expect(clipCount(params)).toBe(plan.countUnits);
      for (const view of ['server', 'release'] as const) {
        expect(deriveEvents('train', params, claim, 11, view)?.map(eventToJson)).toEqual(
          sessionEvents(config, plan, { kind: 'train', step: 0 }, 1, 11, view).map(eventToJson),
        );
      }
    }
  });
});

describe('the vector of a participant under an adaptive clip', () => {
  const NO_RECORDS: Dataset = createDataset(64, 10, new Float32Array(0), new Uint8Array(0));

  function contributionOf(config: RunConfig, data: Dataset, history: ClipHistory, seed: number) {
    const plan = planRun(config);
    const facts = { runId: RUN_ID, config, plan, roster: { version: 1, entries: [], revoked: [] } };
    const order: SessionOrder = {
      session: { kind: 'train', step: history.length },
      models: initialState(config).models,
      clip: history,
    };
    const params: SessionParams = {
      ...orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 }),
      noise: { mechanism: 'none', shareVariance: 0 },
    };
    const inputs = { data, oracle: createDenseOracle(config.model), local: {}, seed: new Uint8Array(32).fill(seed) };
    return { params, ...contribute(nodeCrypto, config, order, params, { ...NEW_MEMBER, slot: 0 }, inputs) };
  }

  function vectorOf(...inputs: Parameters<typeof contributionOf>): Int32Array {
    const { params, words } = contributionOf(...inputs);
    return sumCoordinates(params, words);
  }

  it('is what the algorithm hears of the clip: a SCAFFOLD control is kept of the update as it was clipped', () => {
    const base = configOf(ADAPTIVE, 6, 12);
    const config = {
      ...base,
      algorithm: { id: 'scaffold' },
      training: {
        ...base.training,
        clippingNorm: 0.01,
        local: { epochs: 1, batches: 4, batchSize: 16, stepSize: 0.5 },
      },
    };
    const history = [{ sum: 12 * planRun(config).countUnits, survivors: 12 }];
    const [first, second] = [[], history].map((counts) => {
      const { local, params } = contributionOf(config, generateDigits(5, 1).train, counts, 1);
      const squares = Object.values(local)
        .flatMap((values) => [...values])
        .reduce((sum, value) => sum + value ** 2, 0);
      return Math.sqrt(squares) / params.encoding.clippingNorm;
    });
    expect(first).toBeCloseTo(1 / (4 * 0.5), 6);
    expect(second).toBeCloseTo(1 / (4 * 0.5), 6);
  });

  it('moves by at most the charge when the data is taken away, count included', () => {
    const base = configOf(ADAPTIVE);
    const plan = planRun(base);
    const histories: ClipHistory[] = [[], [{ sum: 12 * plan.countUnits, survivors: 12 }]];
    const counts = new Set<number>();
    let longest = 0;
    for (const history of histories) {
      expect(Math.max(...vectorOf(base, NO_RECORDS, history, 1).map(Math.abs))).toBe(0);
      for (let i = 0; i < 4; i++) {
        // Short and long updates: within the clip and beyond it.
        for (const stepSize of [0.001, 3]) {
          const local = { epochs: 1, batchSize: 16, stepSize };
          const config = { ...base, training: { ...base.training, local } };
          const values = vectorOf(config, generateDigits(5, i).train, history, i + 1);
          const norm = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
          expect(norm).toBeLessThanOrEqual(plan.sensitivity);
          expect(values.at(-1)).toBe(stepSize < 1 ? plan.countUnits : -plan.countUnits);
          counts.add(values.at(-1) as number);
          longest = Math.max(longest, norm);
        }
      }
    }
    expect(counts.size).toBe(2);
    expect(longest).toBeGreaterThan(0.99 * plan.sensitivity);
  });
});

describe('a run with an adaptive clip', () => {
  it('releases the same bits through the real protocol, and its clip follows from them', () => {
    const config = configOf(ADAPTIVE, 4);
    const [real, ideal]: [Released[], Released[]] = [[], []];
    run(config, realSum(12), real);
    const { state, epsilon } = run(config, idealSum, ideal);
    expect(real.map(({ sum }) => sum)).toEqual(ideal.map(({ sum }) => sum));
    expect(real.map(({ params }) => params.encoding)).toEqual(ideal.map(({ params }) => params.encoding));
    expect(epsilon.server).toBeLessThanOrEqual(8);
    expect(state.clip.map(({ survivors }) => survivors)).toEqual([12, 12, 12, 12]);
    const plan = planRun(config);
    let replayed = initialState(config);
    ideal.forEach(({ params, sum, survivors }, step) => {
      expect(params.encoding.clippingNorm).toBe(
        followClip(config, replayed.clip.slice(0, step), plan.countUnits).clippingNorm,
      );
      replayed = applyRelease(nodeCrypto, config, plan, replayed, params, sum, survivors);
    });
    expect(replayed.models).toEqual(state.models);
    expect(replayed.clip).toEqual(state.clip);
  });

  it('pools the groups of a step, all under the same clip', () => {
    const { cohort } = configOf(ADAPTIVE, 3);
    const config = configOf(ADAPTIVE, 3, 12, {
      cohort: { ...cohort, groups: 2, minSurvivors: 4, minOrgs: 4, colluders: 1 },
      metrics: { every: 2, bins: 5, noiseStddev: 4 },
    });
    const released: Released[] = [];
    const { state } = run(config, idealSum, released);
    expect(state.clip.map(({ survivors }) => survivors)).toEqual([12, 12, 12]);
    const norms = released
      .filter(({ params }) => params.purpose === 'train')
      .map(({ params }) => params.encoding.clippingNorm);
    expect([norms[0], norms[2], norms[4]]).toEqual([norms[1], norms[3], norms[5]]);
    expect(new Set(norms).size).toBe(3);
    expect(state.metrics.length).toBe(2);
  });
});

describe('a coordinator that wants another clip', () => {
  const config = configOf(ADAPTIVE);
  const facts = { runId: RUN_ID, config, plan: planRun(config), roster: simulatedRoster(nodeCrypto, 12).roster };
  const units = facts.plan.countUnits;
  const told: ClipHistory = [
    { sum: -4 * units, survivors: 12 },
    { sum: 7, survivors: 11 },
  ];
  const order: SessionOrder = {
    session: { kind: 'train', step: 2 },
    models: initialState(config).models,
    clip: told,
  };
  const params = orderParams(nodeCrypto, facts, order, { round: 3, attempt: 0 });

  it('control: is believed where the clip follows from what was released', () => {
    expect(decodeOrder(facts, encodeOrder(order))).toEqual(order);
    expect(codeOf(() => checkSession(nodeCrypto, facts, order, params))).toBe('accepted');
    expect(params.encoding.clippingNorm).not.toBe(1);
    expect(params.layout.at(-1)).toEqual({ segment: `clip-count/${units}`, length: 1 });
  });

  it.each([
    ['a larger clip', 'encoding', (p: SessionParams) => ({ encoding: { ...p.encoding, clippingNorm: 2 } })],
    ['a finer scale', 'encoding', (p: SessionParams) => ({ encoding: { ...p.encoding, scale: 2 * p.encoding.scale } })],
    [
      'the first clip and scale',
      'encoding',
      (p: SessionParams) => ({ encoding: { ...p.encoding, clippingNorm: 1, scale: 65_536 } }),
    ],
    [
      'a louder count',
      'layout',
      (p: SessionParams) => ({ layout: [...p.layout.slice(0, -1), { segment: `clip-count/${2 * units}`, length: 1 }] }),
    ],
    ['no count', 'layout', (p: SessionParams) => ({ layout: p.layout.slice(0, -1) })],
    [
      'less noise',
      'noise',
      (p: SessionParams) => ({ noise: { ...p.noise, shareVariance: p.noise.shareVariance * 0.999 } }),
    ],
  ])('is refused by a member: %s', (_name, field, change) => {
    expect(codeOf(() => checkSession(nodeCrypto, facts, order, { ...params, ...change(params) }))).toBe(
      `PRIVACY_POLICY ${field}`,
    );
  });

  it('is refused with counts that were not told, too few, too many or changed', async () => {
    expect(codeOf(() => checkSession(nodeCrypto, facts, { ...order, clip: told.slice(0, 1) }, params))).toMatch(
      /PRIVACY_POLICY (modelHash|encoding)/,
    );
    for (const clip of [told.slice(0, 1), [...told, ...told]])
      expect(codeOf(() => decodeOrder(facts, encodeOrder({ ...order, clip })))).toBe('PRIVACY_POLICY clip');
    expect(codeOf(() => decodeClipHistory(encodeClipHistory(told).subarray(1), 2))).toBe('CODEC_TRUNCATED');
    // A node remembers across restarts.
    const store = createMemoryStore();
    await (await openMemory(store, RUN_ID)).saveClip(told);
    const seen = (await openMemory(store, RUN_ID)).clip();
    const next = { sum: 1, survivors: 12 };
    expect(codeOf(() => requireSameHistory(seen, [...told, next]))).toBe('accepted');
    expect(codeOf(() => requireSameHistory(seen, told.slice(0, 1)))).toBe('PRIVACY_POLICY clip');
    const [first, second] = told as [ClipHistory[0], ClipHistory[0]];
    for (const changed of [
      [{ ...first, sum: first.sum + 1 }, second, next],
      [first, { ...second, survivors: 12 }, next],
    ])
      expect(codeOf(() => requireSameHistory(seen, changed))).toBe('PRIVACY_POLICY clip');
  });

  it('is refused before the run where the clip may pass what the site accepts', () => {
    const policy: SitePolicy = {
      maxEpsilon: 8,
      maxDelta: 1e-5,
      minCohort: 3,
      minOrgs: 1,
      colluders: 0,
      minCluster: 0,
      minNoiseMultiplier: 0,
      openClusters: false,
      sparse: false,
      maxClippingNorm: 2,
    };
    expect(codeOf(() => checkRun(policy, facts))).toBe('PRIVACY_POLICY training.adaptiveClip.maxNorm');
    const capped = configOf({ ...ADAPTIVE, maxNorm: 2 });
    expect(codeOf(() => checkRun(policy, { ...facts, config: capped }))).toBe('accepted');
  });
});

describe('the audit of an adaptive clip', () => {
  const config = configOf(ADAPTIVE, 5);
  const released: Released[] = [];
  run(config, idealSum, released);
  const open = { config, plan: { rounds: 5 } } as unknown as EntryBody<'run.open'>;
  const sessionsOf = (all: readonly Released[]): SessionHistory[] =>
    all.map(
      ({ params, survivors }, step) =>
        ({
          sid: String(step),
          kind: 'train',
          params,
          opened: { at: { file: 'log.jsonl' }, body: { step } },
          release: { at: { file: 'log.jsonl' }, body: { survivors } },
        }) as unknown as SessionHistory,
    );
  const check = (all: readonly Released[]): string =>
    codeOf(() =>
      checkClips(open, sessionsOf(all), ({ sid }) => {
        const { params, sum } = released[Number(sid)] as Released;
        expect(coordinateCount(params)).toBeGreaterThan(1);
        return sumCoordinates(params, sum).at(-1) as number;
      }),
    );

  it('follows the signed clips from the released sums', () => {
    expect(check(released)).toBe('accepted');
  });

  it('finds a clip that does not follow, in any step', () => {
    for (let step = 0; step < 5; step++) {
      const changed = released.map((one, i) =>
        i === step
          ? {
              ...one,
              params: {
                ...one.params,
                encoding: { ...one.params.encoding, clippingNorm: one.params.encoding.clippingNorm * 1.001 },
              },
            }
          : one,
      );
      expect(check(changed)).toMatch(/AUDIT_FAILED/);
    }
  });

  const plan = planRun(config);
  const claim = {
    unit: config.privacy.unit,
    minSurvivors: config.cohort.minSurvivors,
    colluders: config.cohort.colluders,
    noiseMultiplier: String(plan.noiseMultiplier),
    shareVariance: String(plan.shareVariance),
    sensitivity: String(plan.sensitivity),
  };
  const noiseOf = (announced: RunConfig, change: (params: SessionParams) => SessionParams): string => {
    const sessions = sessionsOf(released.map((one) => ({ ...one, params: change(one.params) })));
    const history = { open: { config: announced, plan: claim }, openedAt: { file: 'log.jsonl' }, sessions };
    try {
      checkNoise({
        ...history,
        sessions: sessions.map((session) => ({ ...session, reserved: new Map(), settled: new Map() })),
      } as unknown as RunHistory);
      return 'accepted';
    } catch (error) {
      return (error as Error).message;
    }
  };

  it('asks for the count, its units and the constant product in the signed parameters', () => {
    expect(noiseOf(config, (params) => params)).toBe('accepted');
    const fixed = configOf(undefined, 5);
    expect(noiseOf(fixed, (params) => params)).toMatch(/with an adaptive clip and no other/);
    expect(noiseOf(config, (params) => ({ ...params, layout: params.layout.slice(0, -1) }))).toMatch(/no other/);
    const last =
      (segment: string, length = 1) =>
      (params: SessionParams) => ({
        ...params,
        layout: [...params.layout.slice(0, -1), { segment, length }],
      });
    expect(noiseOf(config, last('clip-count/x'))).toMatch(/name its units/);
    expect(noiseOf(config, last('clip-count/64', 2))).toMatch(/name its units/);
    expect(noiseOf(config, last(`clip-count/${2 * plan.countUnits}`))).toMatch(/"sensitivity"/);
    const scaled = (factor: number) => (params: SessionParams) => ({
      ...params,
      encoding: { ...params.encoding, scale: params.encoding.scale * factor },
    });
    for (const factor of [0.5, 2, 1 + 2 ** -51]) expect(noiseOf(config, scaled(factor))).toMatch(/"scale"/);
  });

  it('finds survivors that were told wrong, and a fixed clip where an adaptive one was announced', () => {
    expect(check(released.map((one, i) => (i === 1 ? { ...one, survivors: 60 } : one)))).toMatch(/AUDIT_FAILED/);
    const [first] = released as [Released, ...Released[]];
    expect(
      check(released.map((one) => ({ ...one, params: { ...one.params, encoding: first.params.encoding } }))),
    ).toMatch(/AUDIT_FAILED/);
  });
});
