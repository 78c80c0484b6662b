import { describe, expect, it } from 'vitest';
import { checkSession } from '../clients/core/policy.ts';
import { type InProcessResult, runInProcess, simulatedRoster } from '../experiments/in-process.ts';
import { realSum } from '../experiments/real-sum.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromBase64, fromUtf8, toBase64, toHex } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { idealSum, type SecureSum } from '../protocol/ideal.ts';
import { decodeParams, encodeParams, sessionId } from '../protocol/params.ts';
import type { SessionParams } from '../protocol/session.ts';
import { deriveEvents } from '../src/audit/derive-events.ts';
import type { AUDIT_EXIT_CODES } from '../src/audit/failures.ts';
import { verifyBundle } from '../src/audit/verifier.ts';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createRandom } from '../src/data/random.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { initialModel } from '../src/learning/initial-model.ts';
import { findAlgorithm } from '../src/learning/registry.ts';
import { eventToJson } from '../src/privacy/event-json.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import type { LabelSource } from '../src/run/labels.ts';
import { contribute, NEW_MEMBER } from '../src/run/member.ts';
import { decodeOrder, encodeOrder, orderParams, type SessionOrder } from '../src/run/order.ts';
import { planRun, sessionEvents } from '../src/run/plan.ts';
import { initialState, sumCoordinates } from '../src/run/release.ts';
import { decodeModels, encodeModels, modelsHash } from '../src/run/released.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { createBundle, type EntrySpec, renameSums } from './support/bundle.ts';
import { repeatable } from './support/repeatable.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
const MEMBERS = 4;
const NOISE: LabelSource = { noiseStddev: 6 };
const SHAPE = { inputs: 64, hidden: [12], classes: 10 };
const oracle = createDenseOracle(SHAPE);

function configOf(labels: LabelSource | undefined, changes: Partial<RunConfig['privacy']> = {}): RunConfig {
  const base = scenarioConfig('digits', { seed: 5, steps: 3, targetEpsilon: 20, participants: MEMBERS });
  return parseRunConfig({
    ...base,
    model: SHAPE,
    clusters: null,
    algorithm: { id: 'fedrod', ...(labels === undefined ? {} : { labels }) },
    privacy: { ...base.privacy, ...changes },
    personal: { ...base.personal, method: 'none', epochs: 1 },
  });
}

function run(config: RunConfig, secureSum: SecureSum, sums: Int32Array[] = []): InProcessResult {
  return runInProcess({
    config,
    runId: RUN_ID,
    crypto: nodeCrypto,
    random: repeatable(7),
    organizations: Array.from({ length: MEMBERS }, (_, i) => ({ data: generateDigits(5, i).train, oracle })),
    isPresent: (organization) => organization !== 3,
    secureSum,
    onRelease: (params, sum) => sums.push(sumCoordinates(params, sum)),
  });
}

const { roster } = simulatedRoster(nodeCrypto, MEMBERS);
const { train } = generateDigits(2, 0);

/** A member's vector without noise, of the session at a place of the schedule. */
function vectorOf(config: RunConfig, place: number, data: Dataset, counts?: Float32Array): Int32Array {
  const plan = planRun(config);
  const session = plan.schedule[place];
  if (session === undefined) throw new Error('no session');
  const { models } = initialState(config);
  const order = { session, models: counts === undefined ? models : { ...models, extra: [counts] } };
  const params = orderParams(nodeCrypto, { runId: RUN_ID, config, plan, roster }, order, { round: 1, attempt: 0 });
  const quiet = { ...params, noise: { mechanism: 'none', shareVariance: 0 } as const };
  const inputs = { data, oracle, local: {}, seed: new Uint8Array(32).fill(9) };
  return sumCoordinates(quiet, contribute(nodeCrypto, config, order, quiet, { ...NEW_MEMBER, slot: 0 }, inputs).words);
}

const labelled = (labels: Uint8Array): Dataset => createDataset(64, 10, train.features.slice(), labels);
const relabelled = (record: number, label: number): Dataset =>
  labelled(train.labels.map((own, i) => (i === record ? label : own)));
const squares = (a: Int32Array, b: Int32Array): number => a.reduce((sum, x, i) => sum + (x - (b[i] as number)) ** 2, 0);

describe('label counts', () => {
  const config = configOf(NOISE);
  const plan = planRun(config);

  it('are one session before everything else, only where noise was asked for', () => {
    expect(plan.schedule[0]).toEqual({ kind: 'labels', step: 0 });
    expect(plan.schedule.filter(({ kind }) => kind === 'labels')).toHaveLength(1);
    expect(planRun(configOf({ prior: new Array(10).fill(1) })).schedule[0]?.kind).toBe('train');
  });

  it('count every record once: one that goes moves them by 1, one that is replaced by sqrt 2', () => {
    const whole = vectorOf(config, 0, train);
    expect([...whole]).toEqual(
      Array.from({ length: 10 }, (_, c) => train.labels.filter((label) => label === c).length),
    );
    const last = train.count - 1;
    const without = createDataset(64, 10, train.features.slice(0, last * 64), train.labels.slice(0, last));
    expect(squares(whole, vectorOf(config, 0, without))).toBe(1);
    const other = ((train.labels[3] as number) + 1) % 10;
    expect(squares(whole, vectorOf(config, 0, relabelled(3, other)))).toBe(2);
  });

  it('are charged as a sum of sensitivity 1 without sampling, the same by plan and audit, for either law of noise', () => {
    for (const mechanism of ['discrete-gaussian', 'skellam'] as const) {
      const own = configOf(NOISE, { mechanism });
      const ownPlan = planRun(own);
      const session = ownPlan.schedule[0] ?? expect.fail('no session');
      const order = { session, models: initialState(own).models };
      const facts = { runId: RUN_ID, config: own, plan: ownPlan, roster };
      const params = orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 });
      const claim = {
        unit: 'record',
        relation: 'add-remove',
        delta: '0.00001',
        targetEpsilon: '20',
        noiseMultiplier: String(ownPlan.noiseMultiplier),
        shareVariance: String(ownPlan.shareVariance),
        sensitivity: String(ownPlan.sensitivity),
        samplingProbability: String(own.training.samplingProbability),
        rounds: 3,
        minSurvivors: own.cohort.minSurvivors,
        colluders: own.cohort.colluders,
        choices: 0,
        choiceEpsilon: '0',
      } as const;
      for (const view of ['server', 'release'] as const) {
        const events = sessionEvents(own, ownPlan, session, 1, 4, view);
        expect(events).toMatchObject([{ sensitivity: 1, dimension: 10 }]);
        expect(deriveEvents('labels', params, claim, 4, view)?.map(eventToJson)).toEqual(events.map(eventToJson));
      }
      const replaced = deriveEvents('labels', params, { ...claim, relation: 'replace-one' }, 4, 'server');
      expect(replaced).toMatchObject([{ sensitivity: Math.SQRT2 }]);
      expect(() => checkSession(nodeCrypto, facts, order, params)).not.toThrow();
      const quieter = { ...params, noise: { ...params.noise, shareVariance: params.noise.shareVariance / 2 } };
      expect(() => checkSession(nodeCrypto, facts, order, quieter)).toThrow(/"noise"/);
    }
  });

  it('leave less noise to the rest of the budget and keep the target', () => {
    const prior = planRun(configOf({ prior: new Array(10).fill(1) }));
    expect(plan.noiseMultiplier).toBeGreaterThan(prior.noiseMultiplier);
    const { epsilon } = run(config, idealSum);
    expect(epsilon.server).toBeLessThanOrEqual(20 * (1 + 1e-9));
    // Noise so small that the counts alone are over the target.
    const fine = configOf({ noiseStddev: 0.1 }, { targetEpsilon: 0.2 });
    expect(() => planRun(fine)).toThrow(/epsilon/);
  });

  it('are released through the real protocol bit for bit, and every later order brings them', () => {
    const [real, ideal]: [Int32Array[], Int32Array[]] = [[], []];
    const through = run(config, realSum(MEMBERS), real);
    const plain = run(config, idealSum, ideal);
    expect(real).toEqual(ideal);
    expect(toHex(modelsHash(nodeCrypto, through.state.models))).toBe(toHex(modelsHash(nodeCrypto, plain.state.models)));
    const counts = plain.state.models.extra.at(-1) as Float32Array;
    expect([...counts]).toEqual([...(ideal[0] as Int32Array)]);
    // 3 organizations; deviation of the noise with 3 shares where 2 and more are planned for.
    const truth = [0, 1, 2].map((i) => vectorOf(config, 0, generateDigits(5, i).train));
    counts.forEach((count, label) => {
      const exact = truth.reduce((sum, vector) => sum + (vector[label] as number), 0);
      expect(Math.abs(count - exact)).toBeLessThan(6 * 6 * Math.sqrt(3));
    });
    expect(decodeModels(config, encodeModels(plain.state.models)).extra).toEqual(plain.state.models.extra);
    const session = plan.schedule[1] ?? expect.fail('no step');
    const order: SessionOrder = { session, models: plain.state.models };
    expect(decodeOrder({ config, plan }, encodeOrder(order))).toEqual(order);
  });
});

describe('the balanced softmax at unit record', () => {
  const all = (labels: LabelSource): RunConfig => {
    const config = configOf(labels);
    return { ...config, training: { ...config.training, samplingProbability: 1 } };
  };

  it('reads the released counts or the public prior, and never the own ones', () => {
    const counts = Float32Array.from({ length: 10 }, (_, c) => 10 + 30 * c);
    const summed = vectorOf(all(NOISE), 1, train, counts);
    expect(vectorOf(all({ prior: [...counts] }), 0, train)).toEqual(summed);
    expect(
      vectorOf(
        all(NOISE),
        1,
        train,
        counts.map((count) => 2 * count + 1),
      ),
    ).not.toEqual(summed);
    // One record alone: its term is the same, however many records of each class the site holds beside it.
    const last = train.count - 1;
    const [features, labels] = [train.features.slice(0, last * 64), train.labels.slice(0, last)];
    const termAmong = (others: Uint8Array): Int32Array => {
      const own = labelled(Uint8Array.of(...others, train.labels[last] as number));
      const rest = createDataset(64, 10, features, others);
      const [a, b] = [vectorOf(all(NOISE), 1, own, counts), vectorOf(all(NOISE), 1, rest, counts)];
      return a.map((value, i) => value - (b[i] as number));
    };
    expect(termAmong(labels)).toEqual(termAmong(labels.map((label) => (label + 1) % 10)));
  });

  it('is the gradient of the cross entropy of the logits plus the log counts', () => {
    const fedRod = findAlgorithm('fedrod');
    const { body, head } = initialModel(oracle.manifest, createRandom(3));
    const counts = Float64Array.from({ length: 10 }, (_, c) => 1 + c * c);
    const shifted = fedRod.recordHead?.(head, counts, oracle.manifest) ?? expect.fail('no head');
    const one = createDataset(64, 10, train.features.slice(0, 64), train.labels.slice(0, 1));
    const bodyGradient = new Float64Array(body.length);
    const headGradient = new Float64Array(head.length);
    oracle.perRecordGradient(body, shifted, one, 0, bodyGradient, headGradient);
    const features = oracle.extractor?.features(body, one, Uint32Array.of(0)) ?? new Float64Array(0);
    const loss = (at: Float64Array): number => {
      const logits = [...counts].map(
        (count, c) =>
          features.reduce((sum, f, i) => sum + f * (at[i * 10 + c] as number), at[120 + c] as number) + Math.log(count),
      );
      const highest = Math.max(...logits);
      const total = logits.reduce((sum, logit) => sum + Math.exp(logit - highest), 0);
      return Math.log(total) + highest - (logits[one.labels[0] as number] as number);
    };
    for (const i of [0, 17, 63, 119, 120, 125, 129]) {
      const at = (shift: number): number => loss(head.map((value, j) => (i === j ? value + shift : value)));
      expect(headGradient[i]).toBeCloseTo((at(1e-5) - at(-1e-5)) / 2e-5, 7);
    }
  });

  it('is refused without counts, where nothing reads them, and with a prior of another length', () => {
    const codeOf = (work: () => unknown): readonly [string, string] => {
      try {
        work();
      } catch (error) {
        if (isCoveyError(error)) return [error.code, error.message];
        throw error;
      }
      return expect.fail('nothing was refused');
    };
    const [code, message] = codeOf(() => configOf(undefined));
    expect(code).toBe('PRIVACY_POLICY');
    expect(message).toMatch(/"charges" expected histogram for fedrod: .*"algorithm.labels"/);
    expect(codeOf(() => configOf({ prior: [1, 2] }))[1]).toMatch(
      /"algorithm.labels.prior" expected 10 numbers, one for each class, got 2/,
    );
    expect(codeOf(() => configOf({ prior: new Array(10).fill(0) }))[1]).toMatch(/algorithm.labels/);
    const config = configOf(NOISE);
    expect(codeOf(() => parseRunConfig({ ...config, algorithm: { id: 'ditto', labels: NOISE } }))[1]).toMatch(
      /"algorithm.labels" expected none for ditto at unit record: nothing reads them/,
    );
    const participant = scenarioConfig('digits', {
      seed: 5,
      steps: 3,
      targetEpsilon: 20,
      participants: 12,
      unit: 'participant',
    });
    const asked = { ...participant, clusters: null, algorithm: { id: 'fedrod', labels: NOISE } };
    expect(codeOf(() => parseRunConfig(asked))[1]).toMatch(/none for fedrod at unit participant/);
  });
});

describe('a bundle with label counts', () => {
  type Change = (specs: EntrySpec[]) => EntrySpec[];
  const isOpen = (spec: EntrySpec): boolean => spec.type === 'round.open' && spec.body['kind'] === 'labels';
  const audit = (specs?: Change) =>
    verifyBundle(
      createBundle({ labels: true, files: renameSums, ...(specs === undefined ? {} : { specs }) }).reader,
      nodeCrypto,
    );

  /** Other parameters of the session, under their own session number, with charges to match. */
  const reparametrized =
    (change: (params: SessionParams) => Partial<SessionParams>, rewrite: (events: string) => string): Change =>
    (specs) => {
      const opened = specs.find(isOpen) as EntrySpec;
      const params = decodeParams(fromBase64(opened.body['params'] as string));
      const changed = { ...params, ...change(params) };
      const sid = toHex(sessionId(nodeCrypto, changed));
      return specs.map((spec) => {
        if (spec.body['sid'] !== opened.body['sid']) return spec;
        const events = spec.body['events'];
        return {
          ...spec,
          body: {
            ...spec.body,
            sid,
            ...(spec === opened ? { params: toBase64(encodeParams(changed)) } : {}),
            ...(events === undefined ? {} : { events: JSON.parse(rewrite(JSON.stringify(events))) }),
          },
        };
      });
    };

  it('verifies', async () => {
    const report = await audit();
    expect(report.failure).toBeNull();
    expect(report.proved.join()).toMatch(/7 releases/);
    const page = fromUtf8(createBundle({ labels: true }).files.get('report.html') as Uint8Array);
    expect(page).toContain('records of each of 5 classes');
    expect(fromUtf8(createBundle().files.get('report.html') as Uint8Array)).not.toContain('Label counts');
  });

  const FORGERIES: readonly [string, keyof typeof AUDIT_EXIT_CODES, RegExp, Change][] = [
    [
      'half the noise, charged as such',
      'noise',
      /noise of 4 records/,
      reparametrized(
        ({ noise }) => ({ noise: { ...noise, shareVariance: 4 } }),
        (events) => events.replaceAll('"shareVariance":8', '"shareVariance":4'),
      ),
    ],
    [
      'a record that counts ten times',
      'noise',
      /a single one/,
      reparametrized(
        ({ encoding }) => ({ encoding: { ...encoding, clippingNorm: 10 } }),
        (events) => events,
      ),
    ],
    [
      'features under the name of labels',
      'noise',
      /histogram of 5 classes/,
      reparametrized(
        () => ({ layout: [{ segment: 'features', length: 6 }] }),
        (events) => events,
      ),
    ],
    [
      'a charge for half a record',
      'noise',
      /"events"/,
      reparametrized(
        () => ({}),
        (events) => events.replaceAll(/"sensitivity":1(?!\d)/g, '"sensitivity":"0.5"'),
      ),
    ],
    [
      'counts that were asked for later',
      'rules',
      /once, before everything else/,
      (specs) => specs.map((spec) => (isOpen(spec) ? { ...spec, body: { ...spec.body, step: 1 } } : spec)),
    ],
    [
      'counts in a run that announces none',
      'rules',
      /announces none/,
      (specs) => {
        const plain = createBundle();
        const { body } = JSON.parse(plain.lines[1] as string) as { body: Record<string, unknown> };
        return specs
          .filter((spec) => spec.type === 'genesis' || spec.type === 'run.open' || isOpen(spec))
          .map((spec) => (spec.type === 'run.open' ? { ...spec, body } : spec));
      },
    ],
  ];

  it.each(FORGERIES)('fails: %s', async (_name, expected, message, specs) => {
    const report = await audit(specs);
    expect(report.failure?.message).toMatch(message);
    expect(report.failure?.class).toBe(expected);
  });
});
