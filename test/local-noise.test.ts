import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type InProcessResult, runInProcess, simulatedRoster } from '../experiments/in-process.ts';
import { realSum } from '../experiments/real-sum.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { toHex } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { idealSum, type SecureSum } from '../protocol/ideal.ts';
import { createDataset, type Dataset, selectRecords, withPersons } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import type { LocalVectors } from '../src/learning/algorithm.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import type { GradientOracle } from '../src/learning/oracle.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { type LocalNoise, localEvents, privateInputs } from '../src/run/local-noise.ts';
import { localQueries } from '../src/run/local-queries.ts';
import { contribute, type MemberState, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams } from '../src/run/order.ts';
import { planRun, sessionEvents } from '../src/run/plan.ts';
import { initialState } from '../src/run/release.ts';
import { modelsHash } from '../src/run/released.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { repeatable } from './support/repeatable.ts';

const MEMBERS = 4;
const BATCHES = 5;
const oracle = createDenseOracle({ inputs: 64, hidden: [12], classes: 10 });
const { bodyLength, headLength } = oracle.manifest;
const { train } = generateDigits(2, 0);
const nobody = createDataset(64, 10, new Float32Array(0), new Uint8Array(0));

type Changes = {
  readonly training?: Partial<RunConfig['training']>;
  readonly privacy?: Partial<RunConfig['privacy']>;
  readonly options?: Readonly<Record<string, number>>;
  readonly clusters?: RunConfig['clusters'];
};

function configFor(id: string, { training, privacy, options = {}, clusters = null }: Changes = {}): RunConfig {
  const base = scenarioConfig('digits', { seed: 5, steps: 2, targetEpsilon: 4, participants: MEMBERS });
  return parseRunConfig({
    ...base,
    model: { inputs: 64, hidden: [12], classes: 10 },
    training: {
      ...base.training,
      samplingProbability: 0.1,
      clippingNorm: 8,
      momentum: id === 'fedavgm' ? 0.5 : 0,
      stepSize: 1,
      nominalRecords: 1_200,
      local: { epochs: 1, batches: BATCHES, batchSize: 16, stepSize: 0.3 },
      ...training,
    },
    clusters,
    algorithm: { id, options },
    personal: { ...base.personal, method: 'none', epochs: 1 },
    privacy: { ...base.privacy, localNoise: { clippingNorm: 1 }, ...privacy },
  });
}

function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (isCoveyError(error)) return `${error.code} ${error.message}`;
    throw error;
  }
  return 'accepted';
}

function run(config: RunConfig, secureSum: SecureSum = idealSum, datas?: readonly Dataset[]): InProcessResult {
  return runInProcess({
    config,
    runId: '0f0e0d0c0b0a09080706050403020100',
    crypto: nodeCrypto,
    random: repeatable(7),
    organizations: Array.from({ length: MEMBERS }, (_, i) => ({
      data: datas?.[i] ?? generateDigits(5, i).train,
      oracle,
    })),
    isPresent: () => true,
    secureSum,
  });
}

const stream = (key: number) => nodeCrypto.aes256Ctr(new Uint8Array(32).fill(key));

/** One private gradient in integer units. */
function gradient(config: RunConfig, data: Dataset, noise: LocalNoise, key: number, from = train): Int32Array {
  const inputs = privateInputs(nodeCrypto, config, noise, { oracle, data }, { sample: stream(key), noise: stream(99) });
  const body = Float64Array.from({ length: bodyLength }, (_, i) => Math.sin(i) / 4);
  const head = Float64Array.from({ length: headLength }, (_, i) => Math.cos(i) / 4);
  const [bodyGradient, headGradient] = [new Float64Array(bodyLength), new Float64Array(headLength)];
  // What is asked for does not matter: the sample is drawn anew.
  inputs.oracle.meanGradient(body, head, from, Uint32Array.of(3), bodyGradient, headGradient);
  const { cohort, encoding, training } = config;
  const units = (encoding.scale * training.samplingProbability * training.nominalRecords) / cohort.participants;
  return Int32Array.from([...bodyGradient, ...headGradient], (value) => {
    expect(Math.abs(value * units - Math.round(value * units))).toBeLessThan(1e-6);
    return Math.round(value * units);
  });
}

describe('what may run with noise inside the organizations', () => {
  // Gradients of five minibatches; MAML asks for two each, its Hessian-free form for four, FedRep trains head and body.
  const QUERIES: readonly (readonly [string, number, Readonly<Record<string, number>>?])[] = [
    ['fedavg', 5],
    ['fedavgm', 5],
    ['fedadam', 5],
    ['fedprox', 5],
    ['scaffold', 5],
    ['ditto', 5],
    ['fedper', 5],
    ['fedrep', 10],
    ['reptile', 5],
    ['per-fedavg', 10],
    ['per-fedavg', 20, { hessianFree: 1 }],
  ];
  for (const [id, queries, options = {}] of QUERIES) {
    it(`${id} asks for ${queries} gradients a step and runs`, () => {
      const config = configFor(id, { options });
      expect(localQueries(config)).toBe(queries);
      const real = run(config, realSum(MEMBERS));
      const ideal = run(config);
      expect(toHex(modelsHash(nodeCrypto, real.state.models))).toBe(toHex(modelsHash(nodeCrypto, ideal.state.models)));
      expect(real.locals).toEqual(ideal.locals);
      const { event, count } = { event: localEvents(config, planRun(config).local as LocalNoise)[0], count: 2 };
      if (event === undefined) throw new Error('no event');
      const epsilon = rdpAccountant({ relation: 'add-remove' }).compose(event, count).epsilon(1e-5);
      expect(ideal.epsilon.server).toBeCloseTo(epsilon, 12);
      expect(epsilon).toBeLessThanOrEqual(4);
      expect(epsilon).toBeGreaterThan(3.9);
      expect(event.kind === 'selfComposed' && event.count).toBe(queries);
    });
  }

  for (const [id, reason] of [
    ['metavers', /got none/],
    ['q-fedavg', /losses/],
    ['fedrod', /labels/],
  ] as const)
    it(`${id} is refused: it reads records in another way`, () => {
      expect(codeOf(() => configFor(id))).toMatch(/^PRIVACY_POLICY .*gradients alone/);
      expect(codeOf(() => configFor(id))).toMatch(reason);
    });

  it('refuses what leaves the number of gradients open or looks at losses', () => {
    const local = { epochs: 1, batchSize: 16, stepSize: 0.3 };
    expect(codeOf(() => configFor('fedavg', { training: { local } }))).toMatch(/"training.local.batches"/);
    const curriculum = { expert: 'global', pacing: 'linear', order: 'easy', startShare: 0.2, fullAt: 0.5 } as const;
    expect(codeOf(() => configFor('fedavg', { training: { local: { ...local, batches: 5, curriculum } } }))).toMatch(
      /"training.local.curriculum"/,
    );
    expect(codeOf(() => configFor('fedavg', { training: { local: null } }))).toMatch(/"training.local.batches"/);
    // Sites count the gradients out: no coordinator may make them count for ever.
    const many = { ...local, batches: 100_001 };
    expect(codeOf(() => configFor('fedavg', { training: { local: many } }))).toMatch(
      /"training.local.batches" .*100000/,
    );
    expect(
      codeOf(() =>
        configFor('fedavg', {
          privacy: { unit: 'participant', relation: 'zero-out' },
          training: { samplingProbability: 1 },
        }),
      ),
    ).toMatch(/"privacy.localNoise" expected unit record/);
    expect(codeOf(() => configFor('fedavg', { privacy: { localNoise: { clippingNorm: 1e-6 } } }))).toMatch(
      /"privacy.localNoise.clippingNorm"/,
    );
    const soft = {
      assignment: 'soft',
      foundingSlots: 0,
      seatPositions: 0,
      kept: 2,
      choiceSteps: [],
      choiceEpsilon: 1,
      lossBound: 1,
      countNoiseStddev: 1,
    } as const;
    expect(codeOf(() => configFor('fedavg', { clusters: soft }))).toMatch(/"clusters.assignment" expected hard/);
  });
});

describe('the integers of a local gradient', () => {
  it('fit the sampler and the sum, or the plan is refused before any record is read', () => {
    const planOf = (clippingNorm: number, scale = 65_536, targetEpsilon = 4) => {
      const base = configFor('fedavg', { privacy: { localNoise: { clippingNorm }, targetEpsilon } });
      return codeOf(() => planRun({ ...base, encoding: { ...base.encoding, scale } }));
    };
    expect(planOf(1)).toBe('accepted');
    // Least noise of a record that moves the sum by one unit, at a target that asks for next to none.
    expect(planOf(1, 1, 1_000)).toMatch(/^PRIVACY_NOISE "privacy.localNoise.clippingNorm".* got 0\.\d+/);
    expect(planOf(600, 65_536, 0.05)).toMatch(/^PRIVACY_NOISE /);
    expect(planOf(600, 65_536, 1_000)).toMatch(/^PRIVACY_RING_WIDTH /);
  });
});

describe('a gradient with noise inside the organization', () => {
  const config = configFor('fedavg', { training: { samplingProbability: 1 } });
  const noise = planRun(config).local as LocalNoise;

  it('moves by no more than the charge when a record comes or goes', () => {
    const all = gradient(config, train, noise, 1);
    for (const lost of [0, 7, train.count - 1]) {
      const kept = Uint32Array.from({ length: train.count - 1 }, (_, i) => (i < lost ? i : i + 1));
      const apart = gradient(config, selectRecords(train, kept), noise, 1).map(
        (value, i) => value - (all[i] as number),
      );
      const squares = apart.reduce((sum, value) => sum + value * value, 0);
      expect(squares).toBeGreaterThan(0);
      expect(squares).toBeLessThanOrEqual(noise.sensitivity ** 2);
    }
  });

  it('carries the noise of the plan where there are no records, anew each time', () => {
    const empty = gradient(config, nobody, noise, 1);
    const energy = empty.reduce((sum, value) => sum + value * value, 0) / noise.variance;
    // Chi-square with as many degrees of freedom: five deviations.
    expect(Math.abs(energy - noise.dimension)).toBeLessThan(5 * Math.sqrt(2 * noise.dimension));
    const inputs = privateInputs(
      nodeCrypto,
      config,
      noise,
      { oracle, data: nobody },
      { sample: stream(1), noise: stream(2) },
    );
    const [a, b] = [0, 1].map(() => {
      const [body, head] = [new Float64Array(bodyLength), new Float64Array(headLength)];
      inputs.oracle.meanGradient(body, head, nobody, new Uint32Array(0), body, head);
      return body;
    }) as [Float64Array, Float64Array];
    const [dot, norms] = [
      a.reduce((sum, value, i) => sum + value * (b[i] as number), 0),
      Math.hypot(...a) * Math.hypot(...b),
    ];
    expect(Math.abs(dot / norms)).toBeLessThan(5 / Math.sqrt(bodyLength));
  });

  it('draws its own records with the probability of the plan', () => {
    const sampled = { ...config, training: { ...config.training, samplingProbability: 0.25 } };
    let asked = 0;
    const counting = {
      ...oracle,
      perRecordGradient: (...args: Parameters<typeof oracle.perRecordGradient>) => {
        asked++;
        return oracle.perRecordGradient(...args);
      },
    };
    const many = { ...noise, queries: 200 };
    const raw = { oracle: counting, data: train };
    const inputs = privateInputs(nodeCrypto, sampled, many, raw, { sample: stream(3), noise: stream(4) });
    const [body, head] = [new Float64Array(bodyLength), new Float64Array(headLength)];
    for (let i = 0; i < 200; i++)
      inputs.oracle.meanGradient(body, head, train, new Uint32Array(0), body.slice(), head.slice());
    const trials = 200 * train.count;
    expect(Math.abs(asked - trials / 4)).toBeLessThan(5 * Math.sqrt(trials * 0.25 * 0.75));
  });

  it('is not given once more than was charged, and nothing else is given at all', () => {
    const raw = { oracle, data: train };
    const inputs = privateInputs(nodeCrypto, config, noise, raw, { sample: stream(1), noise: stream(2) });
    const [body, head] = [new Float64Array(bodyLength), new Float64Array(headLength)];
    const ask = (): number =>
      inputs.oracle.meanGradient(body, head, train, new Uint32Array(0), body.slice(), head.slice());
    for (let i = 0; i < noise.queries; i++) expect(ask()).toBeNaN();
    expect(codeOf(ask)).toMatch(/^INTERNAL_INVARIANT/);
    expect(codeOf(() => inputs.oracle.losses(body, head, train))).toMatch(/^PRIVACY_POLICY/);
    expect(codeOf(() => inputs.oracle.predict(body, head, train))).toMatch(/^PRIVACY_POLICY/);
    expect(codeOf(() => inputs.data.features)).toMatch(/^PRIVACY_POLICY/);
    expect(codeOf(() => inputs.data.labels)).toMatch(/^PRIVACY_POLICY/);
    const features = (): unknown => inputs.oracle.extractor?.features(body, train, new Uint32Array(1));
    expect(codeOf(features)).toMatch(/^PRIVACY_POLICY/);
  });
});

describe('an update under noise inside the organization', () => {
  const hidden = {
    assignment: 'hard',
    foundingSlots: 0,
    seatPositions: 0,
    kept: 2,
    choiceSteps: [0],
    choiceEpsilon: 1,
    lossBound: 1,
    countNoiseStddev: 1,
  } as const;
  /** Words of two steps in a row, what was kept in the first one included, where no gradient tells anything. */
  const silent = (config: RunConfig, data: Dataset, member: MemberState): readonly string[] => {
    const plan = planRun(config);
    const { roster } = simulatedRoster(nodeCrypto, MEMBERS);
    const facts = { runId: '0f0e0d0c0b0a09080706050403020100', config, plan, roster };
    const mute: GradientOracle = {
      ...oracle,
      perRecordGradient(_body, _head, _data, _record, bodyGradient, headGradient) {
        for (const part of [bodyGradient, headGradient]) part.fill(Number.NaN);
        return Number.NaN;
      },
    };
    let local: LocalVectors = {};
    return plan.schedule
      .filter(({ kind }) => kind === 'train')
      .map((session, i) => {
        const order = { session, models: initialState(config).models };
        const params = orderParams(nodeCrypto, facts, order, { round: i, attempt: 0 });
        const seed = new Uint8Array(32).fill(i + 1);
        const inputs = { data, oracle: mute, local, seed, localNoise: plan.local };
        const sent = contribute(nodeCrypto, config, order, params, member, inputs);
        local = sent.local;
        return toHex(nodeCrypto.sha256(new Uint8Array(sent.words.buffer.slice(0))));
      });
  };

  it.each([
    ['fedavg', {}],
    ['fedprox', {}],
    ['scaffold', {}],
    ['ditto', {}],
    ['fedper', {}],
    ['fedrep', {}],
    ['reptile', {}],
    ['per-fedavg', {}],
    ['ifca', { clusters: hidden }],
  ] as const)('of %s is the same bits for any records whose gradients are dropped', (id, changes) => {
    const config = configFor(id, changes);
    for (const slot of [0, 1, null]) {
      const member: MemberState = { ...NEW_MEMBER, slot };
      const expected = silent(config, nobody, member);
      fc.assert(
        fc.property(
          fc.array(fc.nat(train.count - 1), { maxLength: 40 }),
          fc.integer({ min: 1, max: 5 }),
          fc.boolean(),
          (records, rows, perPerson) => {
            const chosen = selectRecords(train, Uint32Array.from(records));
            const data = withPersons(
              chosen,
              records.map((_, i) => `person ${Math.floor(i / rows)}`),
            );
            const who = { ...config, privacy: { ...config.privacy, perPerson } };
            expect(silent(who, data, member)).toEqual(perPerson ? silent(who, nobody, member) : expected);
          },
        ),
        { numRuns: 6 },
      );
    }
  });
});

describe('a run with noise inside the organizations', () => {
  it('costs the same in every view, however many survive', () => {
    const config = configFor('fedrep');
    const plan = planRun(config);
    const [session] = plan.schedule;
    if (session === undefined) throw new Error('no session');
    const events = sessionEvents(config, plan, session, 1, 4, 'server');
    for (const [survivors, view] of [
      [3, 'server'],
      [4, 'release'],
      [3, 'release'],
    ] as const)
      expect(sessionEvents(config, plan, session, 1, survivors, view)).toEqual(events);
  });

  it('sends the same noised steps where an organization has no records', () => {
    const config = configFor('fedavg');
    const without = run(config, idealSum, [train, train, train, nobody]).state.models.body;
    const initial = run({ ...config, training: { ...config.training, stepSize: 1e-30 } }).state.models.body;
    expect(without).not.toEqual(initial);
    const alone = run(config, idealSum, [nobody, nobody, nobody, nobody]).state.models.body;
    expect(alone).not.toEqual(initial);
  });

  it('never lets the shared part read what a personal model left behind', () => {
    // The personal model of Ditto is trained on raw records; with another one the update must be the same bits.
    const config = configFor('ditto');
    const once = run(config);
    expect(Object.keys(once.locals[0] ?? {})).not.toEqual([]);
    const others = { ...config, personal: { ...config.personal, stepSize: 7 } };
    const again = run(others);
    expect(again.locals).not.toEqual(once.locals);
    expect(again.state.models.body).toEqual(once.state.models.body);
  });
});
