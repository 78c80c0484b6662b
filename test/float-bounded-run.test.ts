import { describe, expect, it } from 'vitest';
import { checkRun, checkSession } from '../clients/core/policy.ts';
import { runInProcess, simulatedRoster } from '../experiments/in-process.ts';
import { realSum } from '../experiments/real-sum.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromUtf8, toHex, utf8 } from '../protocol/bytes.ts';
import { idealSum, type SecureSum } from '../protocol/ideal.ts';
import { decodeParams, encodeParams } from '../protocol/params.ts';
import type { SessionParams } from '../protocol/session.ts';
import { serverConfigSchema } from '../server/config.ts';
import { checkNoise } from '../src/audit/check-noise.ts';
import { deriveEvents, deriveSensitivity } from '../src/audit/derive-events.ts';
import { readLog } from '../src/audit/read-log.ts';
import { replayLog } from '../src/audit/replay.ts';
import { checkRounding } from '../src/audit/rounding.ts';
import { verifyBundle } from '../src/audit/verifier.ts';
import { spentBudgets, spentLedger } from '../src/budget/spent.ts';
import { createDataset, type Dataset, selectRecords } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { createEncoder } from '../src/privacy/encode.ts';
import { eventToJson } from '../src/privacy/event-json.ts';
import type { DiscreteGaussianEvent } from '../src/privacy/events.ts';
import { floatSensitivity } from '../src/privacy/float-terms.ts';
import { createLedger, openLedger, reportLedger } from '../src/privacy/ledger.ts';
import { configHash, parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { contribute, type MemberState, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams, type RunFacts, type SessionOrder } from '../src/run/order.ts';
import { checkOutside } from '../src/run/outside.ts';
import { planRun, sessionBlocks, sessionEvents, trainingSensitivity } from '../src/run/plan.ts';
import { initialState, sumCoordinates } from '../src/run/release.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { type BundleChanges, createBundle } from './support/bundle.ts';
import { codeOf } from './support/code-of.ts';
import { deploy, OPEN_POLICY } from './support/deployment.ts';
import { repeatable } from './support/repeatable.ts';

const MEMBERS = 4;
const { roster } = simulatedRoster(nodeCrypto, MEMBERS);
const { train } = generateDigits(5, 0);
const options = { seed: 5, steps: 4, targetEpsilon: 20, participants: MEMBERS } as const;
const plain = scenarioConfig('digits', options);

/** The scenario with every record drawn, unless the changes say otherwise. */
const floatOf = (changes: object = {}, training: object = {}, privacy: object = {}): RunConfig =>
  parseRunConfig({
    ...plain,
    clusters: null,
    training: { ...plain.training, samplingProbability: 1, ...training },
    privacy: { ...plain.privacy, terms: 'float-bounded', ...privacy },
    ...changes,
  });
const integerOf = (config: RunConfig): RunConfig => ({ ...config, privacy: { ...config.privacy, terms: 'integer' } });

interface Step {
  readonly facts: RunFacts;
  readonly order: SessionOrder;
  readonly params: SessionParams;
}

function firstStep(config: RunConfig, step = 0): Step {
  const plan = planRun(config);
  const session = plan.schedule.find((s) => s.kind === 'train' && s.step === step) ?? expect.fail('no session');
  const order: SessionOrder = { session, models: initialState(config).models };
  const facts = { runId: '0e'.repeat(16), config, plan, roster };
  return { facts, order, params: orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 }) };
}

/** What a member sends in a step, without noise. */
function vectorOf(config: RunConfig, data: Dataset, member: MemberState = { ...NEW_MEMBER, slot: 0 }): Int32Array {
  const { order, params } = firstStep(config);
  const quiet = { ...params, noise: { mechanism: 'none', shareVariance: 0 } as const };
  const inputs = { data, oracle: createDenseOracle(config.model), local: {}, seed: new Uint8Array(32).fill(9) };
  return sumCoordinates(quiet, contribute(nodeCrypto, config, order, quiet, member, inputs).words);
}

function decoded(config: RunConfig, vector: Int32Array): Float64Array[] {
  const { order, params } = firstStep(config);
  const { clippingNorm, scale, rotationSeed } = params.encoding;
  const blocks = sessionBlocks(config, order.session, order.models.heads.length);
  return createEncoder(nodeCrypto, { blocks, clippingNorm, scale, rotationSeed }).decode(vector);
}

const distance = (a: Int32Array, b: Int32Array): number =>
  Math.sqrt(a.reduce((s, v, i) => s + (v - (b[i] ?? 0)) ** 2, 0));

function withRecord(record: number, change: (value: number, k: number) => number, label?: number): Dataset {
  const { classes, featureLength, features, labels } = train;
  const changed = features.map((v, i) => (Math.floor(i / featureLength) === record ? change(v, i % featureLength) : v));
  return createDataset(
    featureLength,
    classes,
    changed,
    labels.map((old, i) => (i === record ? (label ?? old) : old)),
  );
}

const without = (record: number): Dataset =>
  selectRecords(
    train,
    Uint32Array.from({ length: train.count - 1 }, (_, i) => (i < record ? i : i + 1)),
  );

describe('the configuration of float-bounded terms', () => {
  const messageOf = (config: () => unknown): string => {
    try {
      config();
      return 'accepted';
    } catch (error) {
      return (error as Error).message;
    }
  };

  it('leaves every other configuration as it was', () => {
    expect('terms' in plain.privacy).toBe(false);
    const config = scenarioConfig('digits', { ...options, terms: 'float-bounded' });
    expect(config.privacy).toEqual({ ...plain.privacy, terms: 'float-bounded' });
    expect(toHex(configHash(nodeCrypto, config))).not.toBe(toHex(configHash(nodeCrypto, plain)));
    const file = { key: 'k', federation: 'f', state: 's', run: { scenario: 'digits', terms: 'float-bounded' } };
    expect(serverConfigSchema.parse(file).run).toMatchObject({ terms: 'float-bounded' });
    expect(() => serverConfigSchema.parse({ ...file, run: { ...file.run, terms: 'float' } })).toThrow(/run/);
  });

  it('is refused in one line where no such sum exists', () => {
    expect(messageOf(() => floatOf())).toBe('accepted');
    expect(messageOf(() => floatOf({}, {}, { terms: 'double' }))).toMatch(/^"privacy.terms" /);
    expect(messageOf(() => floatOf({}, {}, { perPerson: true }))).toBe('accepted');
    const local = { epochs: 1, batches: 2, batchSize: 8, stepSize: 0.1 };
    expect(messageOf(() => floatOf({}, { local }, { localNoise: { clippingNorm: 1 } }))).toBe(
      '"privacy.terms" expected integer with noise inside the organizations: their gradients are summed as integers',
    );
    expect(messageOf(() => scenarioConfig('digits', { ...options, unit: 'participant', terms: 'float-bounded' }))).toBe(
      '"privacy.terms" expected integer at unit participant: its one update is rounded within a bound of its own',
    );
    // The other kind is accepted everywhere.
    expect(messageOf(() => scenarioConfig('digits', { ...options, unit: 'participant', terms: 'integer' }))).toBe(
      'accepted',
    );
    expect(messageOf(() => planRun(floatOf({}, { maxRecordsPerStep: 2 ** 20 + 1 })))).toBe(
      '"training.maxRecordsPerStep" expected at most 1048576 with float-bounded terms, got 1048577',
    );
  });

  it('can be refused by a site, and is where its trainer gives no factors or it holds too many records', () => {
    const { facts, order, params } = firstStep(floatOf());
    const { facts: integer } = firstStep(integerOf(floatOf()));
    expect(codeOf(() => checkRun(OPEN_POLICY, facts))).toBeNull();
    expect(codeOf(() => checkRun({ ...OPEN_POLICY, integerTerms: true }, facts))).toBe('PRIVACY_POLICY');
    expect(codeOf(() => checkRun({ ...OPEN_POLICY, integerTerms: true }, integer))).toBeNull();
    expect(codeOf(() => checkOutside(facts.config))).toBe('USAGE_CONFIG');
    expect(codeOf(() => checkOutside(integer.config))).toBeNull();
    const given = (config: RunConfig, oracle: ReturnType<typeof createDenseOracle>): string | null =>
      codeOf(() =>
        contribute(
          nodeCrypto,
          config,
          order,
          params,
          { ...NEW_MEMBER, slot: 0 },
          {
            data: train,
            oracle,
            local: {},
            seed: new Uint8Array(32),
          },
        ),
      );
    const { factors: _, ...literal } = createDenseOracle(facts.config.model);
    expect(given(facts.config, literal)).toBe('USAGE_CONFIG');
    expect(given(integer.config, literal)).toBeNull();
    const few = floatOf({}, { maxRecordsPerStep: train.count - 1 });
    expect(given(few, createDenseOracle(few.model))).toBe('USAGE_CONFIG');
    expect(given(floatOf({}, { maxRecordsPerStep: train.count }), createDenseOracle(few.model))).toBeNull();
  });
});

describe('parameters and charge of float-bounded terms', () => {
  const config = floatOf({}, { samplingProbability: 0.5 });
  const { facts, order, params } = firstStep(config);
  const dimension = params.layout.reduce((sum, { length }) => sum + length, 0);

  it('name the rounding in training steps only; a site refuses another one', () => {
    expect(params.encoding.rounding).toBe('float-bounded');
    expect(decodeParams(encodeParams(params))).toEqual(params);
    expect(firstStep(integerOf(config)).params.encoding.rounding).toBe('toward-zero');
    const founded = scenarioConfig('digits', { ...options, terms: 'float-bounded' });
    const seats = { session: { kind: 'seats', step: 0 } as const, models: initialState(founded).models };
    const plan = planRun(founded);
    expect(
      orderParams(nodeCrypto, { ...facts, config: founded, plan }, seats, { round: 1, attempt: 0 }).encoding.rounding,
    ).toBe('none');
    const accepts = (rounding: SessionParams['encoding']['rounding']): string | null =>
      codeOf(() => checkSession(nodeCrypto, facts, order, { ...params, encoding: { ...params.encoding, rounding } }));
    expect(accepts('float-bounded')).toBeNull();
    for (const rounding of ['toward-zero', 'conditional', 'none'] as const)
      expect(accepts(rounding)).toBe('PRIVACY_POLICY');
  });

  it('charge the clip, the bound on floats and the rounding; the audit derives the same number', () => {
    const scaled = config.encoding.scale * config.training.clippingNorm;
    expect(trainingSensitivity(config, 1)).toBe(floatSensitivity(scaled, dimension));
    expect(trainingSensitivity(config, 1)).toBe(deriveSensitivity(params));
    expect(trainingSensitivity(config, 1)).toBeGreaterThan(scaled + Math.sqrt(dimension));
    expect(trainingSensitivity(config, 1) - scaled - Math.sqrt(dimension)).toBeLessThan(1e-3);
    const { plan } = facts;
    expect(plan.sensitivity).toBe(trainingSensitivity(config, 1));
    const events = sessionEvents(config, plan, order.session, 1, MEMBERS, 'server');
    const claim = { unit: 'record', relation: 'add-remove', samplingProbability: '0.5' } as never;
    const derived = deriveEvents('train', params, claim, MEMBERS, 'server') ?? [];
    expect(derived.map(eventToJson)).toEqual(events.map(eventToJson));
    const [event] = events;
    const sum = (event?.kind === 'poissonSampled' ? event.event : event) as DiscreteGaussianEvent;
    expect(sum).toMatchObject({ sensitivity: plan.sensitivity, dimension, symmetric: true });
    // The same target with as many shares: noise grows with the sensitivity.
    const integer = firstStep(integerOf(config)).facts.plan;
    const ratio = Math.sqrt(plan.shareVariance / integer.shareVariance);
    expect(ratio).toBeCloseTo(plan.sensitivity / integer.sensitivity, 6);
    expect(ratio).toBeGreaterThan(1);
  });

  it('cost an audit twice as much where a log claims that records are replaced', () => {
    for (const unit of ['record', 'participant'] as const) {
      const claim = { unit, relation: 'replace-one', samplingProbability: '1' } as never;
      expect(deriveEvents('train', params, claim, MEMBERS, 'server')).toMatchObject([
        { sensitivity: 2 * trainingSensitivity(config, 1) },
      ]);
    }
  });

  it('are named in the ledger of a site and in what is reported from it', () => {
    const terms = {
      participant: 'ab'.repeat(32),
      budget: { epsilon: 8, delta: 1e-5 },
      budgetView: 'server',
      views: ['server'],
      unit: 'record',
      relation: 'add-remove',
      colluders: 0,
      accountant: 'rdp',
    } as const;
    const { ledger, line } = createLedger(nodeCrypto, { ...terms, sums: 'float-bounded' });
    expect(reportLedger(ledger).sums).toBe('float-bounded');
    expect(openLedger(nodeCrypto, [line]).terms.sums).toBe('float-bounded');
    expect(codeOf(() => openLedger(nodeCrypto, [line.replace('float-bounded', 'float')]))).toBe('PRIVACY_LEDGER');
    expect('sums' in reportLedger(createLedger(nodeCrypto, terms).ledger)).toBe(false);
  });
});

describe('the sum of a member with float-bounded terms', () => {
  const config = floatOf();
  const before = vectorOf(config, train);
  const { sensitivity } = planRun(config);

  it('is the sum of the clipped literal gradients', () => {
    const oracle = createDenseOracle(config.model);
    const { body, heads } = initialState(config).models;
    const model = [Float64Array.from(body), Float64Array.from(heads[0] ?? [])] as const;
    const sums = model.map((values) => new Float64Array(values.length));
    const { clippingNorm } = config.training;
    for (let record = 0; record < train.count; record++) {
      const gradient = model.map((values) => new Float64Array(values.length));
      oracle.perRecordGradient(...model, train, record, ...(gradient as [Float64Array, Float64Array]));
      const clip = Math.min(1, clippingNorm / Math.hypot(...gradient.flatMap((values) => [...values])));
      gradient.forEach((values, b) => {
        values.forEach((v, i) => {
          (sums[b] as Float64Array)[i] = (sums[b]?.[i] as number) + clip * v;
        });
      });
    }
    const error = decoded(config, before).flatMap((values, b) => [
      ...values.map((v, i) => v - (sums[b]?.[i] as number)),
    ]);
    // One rounding of every coordinate, and what each record lost when its factors were cut.
    const rounded = Math.sqrt(before.length) / config.encoding.scale;
    expect(Math.hypot(...error)).toBeLessThan(rounded + train.count * 2 ** -12);
    expect(Math.hypot(...sums.flatMap((values) => [...values]))).toBeGreaterThan(1);
  });

  it('moves by at most the charged sensitivity when a record leaves, twice that when it is replaced by a far one', () => {
    for (const record of [0, 1, 17, train.count - 1]) {
      const moved = distance(vectorOf(config, without(record)), before);
      expect(moved).toBeLessThanOrEqual(sensitivity);
      expect(moved).toBeGreaterThan(0);
      for (const size of [1e-6, 1, 1e3, 1e30]) {
        const replaced = withRecord(record, (_, k) => size * Math.sin(k + record), 9);
        expect(distance(vectorOf(config, replaced), before)).toBeLessThanOrEqual(2 * sensitivity);
      }
    }
    const far = withRecord(3, (_, k) => 50 * Math.cos(k), 9);
    expect(distance(vectorOf(config, far), vectorOf(config, without(3)))).toBeGreaterThan(0.99 * sensitivity);
  });

  it('has nothing of a record that is not finite, and all of every other one: as if it were not there', () => {
    for (const record of [0, 30]) {
      const gone = vectorOf(config, without(record));
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
        expect(
          vectorOf(
            config,
            withRecord(record, (v, k) => (k === 5 ? bad : v)),
          ),
        ).toEqual(gone);
    }
    const spoilt = { ...train, features: train.features.map(() => Number.NaN) };
    expect(vectorOf(config, spoilt).every((v) => v === 0)).toBe(true);
    expect(vectorOf(config, selectRecords(train, new Uint32Array(0))).every((v) => v === 0)).toBe(true);
  });

  it('is one draw of the same sample as integer terms', () => {
    const half = floatOf({}, { samplingProbability: 0.5 });
    const [float, integer] = [half, integerOf(half)].map((c) => decoded(c, vectorOf(c, train)).flatMap((v) => [...v]));
    const all = decoded(config, before).flatMap((v) => [...v]);
    const apart = (a: readonly number[] = [], b: readonly number[] = []): number =>
      Math.hypot(...a.map((v, i) => v - (b[i] ?? 0)));
    expect(apart(float, integer)).toBeLessThan(0.3);
    expect(apart(float, all)).toBeGreaterThan(2);
  });
});

const clusters = {
  foundingSlots: 0,
  seatPositions: 0,
  kept: 3,
  choiceSteps: [],
  choiceEpsilon: 0.5,
  lossBound: 2,
  countNoiseStddev: 0.7,
};
const rule = { order: 'easy', pacing: 'linear', from: 2.3, to: 9, fullAt: 1 };
describe.each<[string, RunConfig, Partial<MemberState>?]>([
  ['logistic regression', floatOf({ model: { inputs: 64, hidden: [], classes: 10 } })],
  [
    'tanh layers without biases',
    floatOf({ model: { inputs: 64, hidden: [9], classes: 10, activation: 'tanh', bias: false } }),
  ],
  ['the whole model in slots', floatOf({ model: { inputs: 64, hidden: [9], classes: 10, sharedLayers: 0 } })],
  ['founding slots', floatOf({ clusters: plain.clusters }), { slot: 3 }],
  ['a closed slot', floatOf({ clusters: plain.clusters }), { slot: null, open: [0, 1] }],
  ['the best slot of every record', floatOf({ clusters: { ...clusters, assignment: 'soft' } })],
  [
    'several slots',
    floatOf({
      clusters: { ...clusters, assignment: 'several', filled: 2, choiceSteps: [0] },
      algorithm: { id: 'flsc' },
    }),
    { filled: [2, 0] },
  ],
  ['released classes', floatOf({ algorithm: { id: 'fedrod', labels: { prior: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] } } })],
  ['records below a threshold', floatOf({}, { lossThreshold: rule })],
  ['records by lot', floatOf({}, { lossThreshold: { ...rule, order: 'random', from: 0.3, to: 1 } })],
  ['Skellam noise', floatOf({}, {}, { mechanism: 'skellam' })],
])('float-bounded terms with %s', (_name, config, member = {}) => {
  it('agree with integer terms, slot by slot', () => {
    const state = { ...NEW_MEMBER, slot: 0, ...member };
    const [float, integer] = [config, integerOf(config)].map((c) => vectorOf(c, train, state)) as [
      Int32Array,
      Int32Array,
    ];
    const [a, b] = [decoded(config, float), decoded(integerOf(config), integer)];
    const error = a.flatMap((values, block) => [...values.map((v, i) => v - (b[block]?.[i] as number))]);
    // Each record is cut toward zero in every coordinate by the one, in its factors by the other.
    const cut = (train.count * Math.sqrt(integer.length)) / config.encoding.scale;
    expect(Math.hypot(...error)).toBeLessThan(cut + train.count * 2 ** -11);
    expect(Math.hypot(...b.flatMap((values) => [...values]))).toBeGreaterThan(2 * cut);
    a.forEach((values, block) => {
      if (b[block]?.every((v) => v === 0)) expect(values.every((v) => v === 0)).toBe(true);
    });
    // A record that is not finite is none; without it the lot of the others would be drawn anew.
    const gone = vectorOf(
      config,
      withRecord(4, () => Number.NaN),
      state,
    );
    expect(distance(gone, float)).toBeLessThanOrEqual(planRun(config).sensitivity);
  });
});

describe('persons in float-bounded terms', () => {
  const config = floatOf({}, {}, { perPerson: true });
  // One person has more records than a pass, the others two or three.
  const sites = [0, 1, 2].map((i) => generateDigits(5, i).train);
  const rows = createDataset(
    train.featureLength,
    train.classes,
    Float32Array.from(sites.flatMap(({ features }) => [...features])),
    Uint8Array.from(sites.flatMap(({ labels }) => [...labels])),
  );
  const persons = Uint32Array.from({ length: rows.count }, (_, i) => (i < 70 ? 0 : 1 + Math.floor((i - 70) / 3)));
  const owned: Dataset = { ...rows, persons };
  const before = vectorOf(config, owned);
  const { sensitivity } = planRun(config);

  it('are summed before their clip, as with integer terms', () => {
    expect(rows.count).toBeGreaterThan(100);
    const integer = integerOf(config);
    const [a, b] = [decoded(config, before), decoded(integer, vectorOf(integer, owned))];
    const error = a.flatMap((values, block) => [...values.map((v, i) => v - (b[block]?.[i] as number))]);
    const units = new Set(persons).size;
    expect(Math.hypot(...error)).toBeLessThan((units * Math.sqrt(before.length)) / config.encoding.scale + 0.05);
    expect(Math.hypot(...b.flatMap((values) => [...values]))).toBeGreaterThan(0.5);
    // Single records would be clipped each.
    expect(distance(before, vectorOf(floatOf(), rows))).toBeGreaterThan(10 * sensitivity);
  });

  it('move the sum by at most the charged sensitivity, all their records together', () => {
    for (const person of [0, 1, 3]) {
      const spoilt = owned.features.map((v, i) =>
        persons[Math.floor(i / train.featureLength)] === person ? Number.NaN : v,
      );
      const gone = vectorOf(config, { ...owned, features: spoilt });
      expect(distance(gone, before)).toBeLessThanOrEqual(sensitivity);
      expect(distance(gone, before)).toBeGreaterThan(0.5 * sensitivity);
      // One record that is not finite takes its person along and nobody else.
      const one = owned.features.map((v, i) =>
        Math.floor(i / train.featureLength) === persons.lastIndexOf(person) ? Number.NaN : v,
      );
      expect(vectorOf(config, { ...owned, features: one })).toEqual(gone);
    }
  });
});

it('gives the same bits by the real protocol and by the ideal sum', () => {
  const config = scenarioConfig('digits', { ...options, terms: 'float-bounded' });
  const run = (secureSum: SecureSum): { readonly sums: Uint32Array[]; readonly epsilon: number } => {
    const sums: Uint32Array[] = [];
    const { epsilon } = runInProcess({
      config,
      runId: '0f0e0d0c0b0a09080706050403020100',
      crypto: nodeCrypto,
      random: repeatable(7),
      organizations: Array.from({ length: MEMBERS }, (_, i) => ({
        data: generateDigits(5, i).train,
        oracle: createDenseOracle(config.model),
      })),
      isPresent: () => true,
      secureSum,
      onRelease: (_params, sum) => sums.push(sum.slice()),
    });
    return { sums, epsilon: epsilon.server };
  };
  const [real, ideal] = [run(realSum(MEMBERS)), run(idealSum)];
  expect(real.sums.length).toBeGreaterThan(4);
  expect(real).toEqual(ideal);
  expect(real.epsilon).toBeLessThanOrEqual(20);
});

describe('the audit of float-bounded terms', () => {
  // The body of 128 and slots of 32 coordinates; the founding has four of them.
  const derived = (slots: number): number => 1_024 * (1 + 2 ** -30) + Math.sqrt(128 + 32 * slots);
  const audit = (floatTerms: NonNullable<BundleChanges['floatTerms']>) => {
    const { reader, files } = createBundle({ floatTerms });
    return verifyBundle(reader, nodeCrypto).then((report) => ({
      ...report,
      html: fromUtf8(files.get('report.html') as Uint8Array),
    }));
  };

  it('derives the charge from the signed parameters and names what it rests on', async () => {
    const report = await audit({ announced: true, used: true });
    expect(report.failure).toBeNull();
    expect(report.html).toContain(
      'float-bounded: clipped gradients are cut to integers, summed exactly and rounded once',
    );
    expect(report.assumed.join()).toContain('sums of records are float-bounded');
    const integer = await audit({});
    expect(integer.html).not.toContain('float-bounded');
    expect(integer.assumed.join()).not.toContain('float-bounded');
  });

  it('catches a sensitivity without the rounding or without the bound on floats, and sums that were not announced', async () => {
    const used = { announced: true, used: true };
    for (const less of [1_024, 1_024 + Math.sqrt(256), derived(4) * (1 - 1e-12)]) {
      expect((await audit({ ...used, charged: less })).failure?.message).toMatch(/"events" .* expected/);
      expect((await audit({ ...used, planned: less })).failure?.message).toMatch(/"sensitivity" expected/);
    }
    for (const terms of [{ announced: true }, { used: true }])
      expect((await audit(terms)).failure?.message).toMatch(/"rounding" expected/);
  });
});

describe('the rounding that an audit accepts', () => {
  const at = { file: 'log.jsonl' };
  const { params } = firstStep(floatOf());
  const withEncoding = (encoding: Partial<SessionParams['encoding']>, changes: Partial<SessionParams> = {}) => ({
    params: { ...params, ...changes, encoding: { ...params.encoding, ...encoding } },
  });
  const open = (unit: 'record' | 'participant', terms?: string, maxRecordsPerStep?: number) =>
    ({
      config: { privacy: terms === undefined ? {} : { terms }, training: { maxRecordsPerStep } },
      plan: { unit },
    }) as never;

  it('is the one of the unit, and no other', () => {
    const names = ['toward-zero', 'conditional', 'none', 'float-bounded'] as const;
    for (const [unit, terms, expected] of [
      ['record', undefined, 'toward-zero'],
      ['record', 'integer', 'toward-zero'],
      ['record', 'float-bounded', 'float-bounded'],
      ['participant', undefined, 'conditional'],
    ] as const)
      for (const rounding of names)
        expect(codeOf(() => checkRounding(withEncoding({ rounding }), open(unit, terms, 100), at))).toBe(
          rounding === expected ? null : 'AUDIT_FAILED',
        );
    const update = open('participant', 'float-bounded', 100);
    expect(codeOf(() => checkRounding({ params }, update, at))).toBe('AUDIT_FAILED');
  });

  it('is within the bound that float-bounded terms are charged by', () => {
    const check = (records: number | undefined, session = { params }): string | null =>
      codeOf(() => checkRounding(session, open('record', 'float-bounded', records), at));
    for (const records of [1, 2 ** 20]) expect(check(records)).toBeNull();
    for (const records of [undefined, 0, 1.5, 2 ** 20 + 1]) expect(check(records)).toBe('AUDIT_FAILED');
    for (const scale of [2 ** 27, 0.5, Number.NaN])
      expect(check(1, withEncoding({ scale, clippingNorm: 1 }))).toBe('AUDIT_FAILED');
    const long = (length: number) => withEncoding({}, { layout: [{ segment: 'body', length }] });
    expect(check(2 ** 16, long(2 ** 26))).toBeNull();
    expect(check(2 ** 16 + 1, long(2 ** 26))).toBe('AUDIT_FAILED');
    expect(check(1, long(2 ** 27))).toBe('AUDIT_FAILED');
  });

  it('is looked at in a whole bundle', async () => {
    const { reader } = createBundle({ floatTerms: { announced: true, used: true, records: 2 ** 20 + 1 } });
    const { failure } = await verifyBundle(reader, nodeCrypto);
    expect(failure?.message).toMatch(/"maxRecordsPerStep" expected/);
  });
});

describe('a deployed run with float-bounded terms', () => {
  const RUN_ID = '0a0b0c0d0e0f00010203040506070809';
  const base = scenarioConfig('digits', { ...options, steps: 2, terms: 'float-bounded' });
  const config = parseRunConfig({ ...base, model: { inputs: 64, hidden: [8], classes: 10 }, clusters: null });
  const policies = Array.from({ length: MEMBERS }, () => OPEN_POLICY);

  it('is charged by every node and by the coordinator alike, and ledgers say what the sums rest on', async () => {
    const { lines, stores } = await deploy({ config, runId: RUN_ID, policies });
    const log = utf8(`${lines.join('\n')}\n`);
    expect(checkNoise(replayLog(readLog(log, nodeCrypto), nodeCrypto))).toBe(2 * (1 + 2 * MEMBERS));
    const { rows, sums } = spentBudgets(log, nodeCrypto);
    expect(sums).toBe('float-bounded');
    for (const store of stores) {
      const ledger = (await store.read(`ledger/${RUN_ID}`)).map(({ payload }) => fromUtf8(payload));
      const spent = spentLedger(ledger, nodeCrypto);
      expect(spent).toMatchObject({ sums: 'float-bounded', settled: 2, reserved: 0 });
      expect(spent.spent.server).toBeCloseTo(rows[0]?.spent.server ?? Number.NaN, 9);
    }
  });

  it('is not joined by a site that asks for integers, or whose engine gives no factors', async () => {
    const refusal = async (changes: Partial<Parameters<typeof deploy>[0]>): Promise<unknown[]> => {
      const errors: unknown[] = [];
      const onNodeError = (member: number, error: unknown): void =>
        void errors.push([member, (error as Error).message]);
      const done = await deploy({ config, runId: RUN_ID, policies, joinMs: 1, onNodeError, ...changes });
      // The others go on.
      expect(done.log.filter(({ type }) => type === 'round.release').length).toBe(2);
      return errors;
    };
    const strict = policies.map((policy, i) => (i === 2 ? { ...policy, integerTerms: true } : policy));
    expect(await refusal({ policies: strict })).toEqual([[2, '"privacy.terms" expected integer, got float-bounded']]);
    const createOracle = (member: number): typeof createDenseOracle => {
      if (member !== 1) return createDenseOracle;
      return (model) => {
        const { factors, ...rest } = createDenseOracle(model);
        expect(factors).toBeDefined();
        return rest;
      };
    };
    expect(await refusal({ createOracle })).toEqual([
      [1, expect.stringMatching(/^"trainer" expected dense or tfjs in a run with float-bounded terms/)],
    ]);
  });
});
