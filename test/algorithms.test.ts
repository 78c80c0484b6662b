import { describe, expect, it } from 'vitest';
import { type InProcessResult, runInProcess, simulatedRoster } from '../experiments/in-process.ts';
import { realSum } from '../experiments/real-sum.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { toHex } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { idealSum, type SecureSum } from '../protocol/ideal.ts';
import { hiddenLayout } from '../src/cluster/layout.ts';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createRandom } from '../src/data/random.ts';
import { type Algorithm, type LocalVectors, requireRecordRule } from '../src/learning/algorithm.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { accuracy } from '../src/learning/evaluation.ts';
import { initialModel } from '../src/learning/initial-model.ts';
import { createManifest, denseManifest, manifestHash } from '../src/learning/manifest.ts';
import { ALGORITHMS, findAlgorithm } from '../src/learning/registry.ts';
import { fineTune } from '../src/personalize/fine-tuning.ts';
import { createEncoder, type TermPart } from '../src/privacy/encode.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { personalModel } from '../src/run/home.ts';
import { contribute, type MemberState, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams } from '../src/run/order.ts';
import { planRun, trainingBlocks, trainingSensitivity } from '../src/run/plan.ts';
import { initialState, sumCoordinates } from '../src/run/release.ts';
import { modelsHash } from '../src/run/released.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { repeatable } from './support/repeatable.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
const MEMBERS = 4;
const oracle = createDenseOracle({ inputs: 64, hidden: [12], classes: 10 });
const { manifest } = oracle;

/** Slots as the algorithm asks for them. */
function clustersFor({ info }: Algorithm, unit: 'record' | 'participant'): RunConfig['clusters'] {
  if (info.slots === undefined || info.slots === 'none') return null;
  const chosen = info.slots === 'chosen';
  const evolves = info.slots === 'evolving';
  return {
    assignment: info.slots === 'chosen' ? 'hard' : info.slots,
    ...(info.slots === 'several' ? { filled: 2 } : {}),
    foundingSlots: 0,
    seatPositions: 0,
    kept: evolves ? 1 : 3,
    choiceSteps: chosen || (info.slots === 'several' && unit === 'record') ? [0] : evolves ? [1] : [],
    ...(evolves
      ? {
          evolving: { most: 3, probeSteps: 1, perturbation: 0.3, minGap: 0, minMembers: 1, gapNoiseStddev: 1 },
        }
      : {}),
    choiceEpsilon: 0.5,
    lossBound: 2,
    countNoiseStddev: unit === 'record' ? 0.7 : 4,
  };
}

/** Label counts where an algorithm needs them charged. */
function labelsFor({ info: { recordLevel } }: Algorithm, unit: 'record' | 'participant'): object {
  const reads = unit === 'record' && recordLevel.kind === 'with-charge' && recordLevel.charge === 'histogram';
  return reads ? { labels: { noiseStddev: 10 } } : {};
}

function configFor(
  algorithm: Algorithm,
  unit: 'record' | 'participant',
  steps = 2,
  options: Readonly<Record<string, number>> = {},
): RunConfig {
  const base = scenarioConfig('digits', { seed: 5, steps, targetEpsilon: 200, participants: MEMBERS, unit });
  return parseRunConfig({
    ...base,
    model: { inputs: 64, hidden: [12], classes: 10 },
    training: {
      ...base.training,
      momentum: 0.5,
      ...(unit === 'participant' ? { local: { epochs: 1, batches: 6, batchSize: 16, stepSize: 0.05 } } : {}),
    },
    clusters: clustersFor(algorithm, unit),
    algorithm: { id: algorithm.info.id, options, ...labelsFor(algorithm, unit) },
    personal: { ...base.personal, method: 'none', epochs: 1 },
  });
}

function run(config: RunConfig, secureSum: SecureSum, isPresent = (_: number): boolean => true): InProcessResult {
  return runInProcess({
    config,
    runId: RUN_ID,
    crypto: nodeCrypto,
    random: repeatable(7),
    organizations: Array.from({ length: MEMBERS }, (_, i) => ({ data: generateDigits(5, i).train, oracle })),
    isPresent,
    secureSum,
  });
}

/** The data with one record replaced by a far outlier of another class. */
function replaceRecord(data: Dataset, record: number): Dataset {
  const features = Float32Array.from(data.features);
  const labels = Uint8Array.from(data.labels);
  for (let k = 0; k < data.featureLength; k++) {
    features[record * data.featureLength + k] = 100 * (data.features[record * data.featureLength + k] as number);
  }
  labels[record] = ((labels[record] as number) + 5) % data.classes;
  return createDataset(data.featureLength, data.classes, features, labels);
}

const { train } = generateDigits(2, 0);
const nobody = createDataset(64, 10, new Float32Array(0), new Uint8Array(0));
const squared = (x: Int32Array): bigint => x.reduce((sum, value) => sum + BigInt(value) * BigInt(value), 0n);
const difference = (a: Int32Array, b: Int32Array): Int32Array => a.map((value, i) => value - (b[i] as number));

/** A member's vector without noise, as it is before masking. */
function vectorOf(config: RunConfig, data: Dataset, local: LocalVectors = {}): Int32Array {
  const plan = planRun(config);
  const session = plan.schedule.find(({ kind }) => kind === 'train');
  if (session === undefined) throw new Error('no training step');
  const order = { session, models: initialState(config).models };
  const { roster } = simulatedRoster(nodeCrypto, MEMBERS);
  const params = orderParams(nodeCrypto, { runId: RUN_ID, config, plan, roster }, order, { round: 1, attempt: 0 });
  const quiet = { ...params, noise: { mechanism: 'none', shareVariance: 0 } as const };
  const member: MemberState = { ...NEW_MEMBER, slot: 0, filled: [0, 2] };
  const inputs = { data, oracle, local, seed: new Uint8Array(32).fill(9) };
  return sumCoordinates(quiet, contribute(nodeCrypto, config, order, quiet, member, inputs).words);
}

/** Local vectors that a participant of the algorithm could have kept, after a run on other data. */
function keptVectors(config: RunConfig): LocalVectors {
  return run(config, idealSum).locals[1] ?? {};
}

/** Every algorithm as it is, and those whose options change what is sent. */
const CASES: readonly { readonly algorithm: Algorithm; readonly options: Readonly<Record<string, number>> }[] = [
  ...ALGORITHMS.map((algorithm) => ({ algorithm, options: {} })),
  { algorithm: findAlgorithm('scaffold'), options: { option: 1 } },
];

describe('every registered algorithm', () => {
  it('has an id of its own', () => {
    expect(new Set(ALGORITHMS.map(({ info }) => info.id)).size).toBe(ALGORITHMS.length);
  });

  for (const { algorithm, options } of CASES) {
    describe(`${algorithm.info.id} ${JSON.stringify(options)}`, () => {
      const config = configFor(algorithm, 'participant', 2, options);

      it('releases the same bits through the real protocol and the ideal aggregator, with a member lost', () => {
        const isPresent = (organization: number): boolean => organization !== 3;
        const real = run(config, realSum(MEMBERS), isPresent);
        const ideal = run(config, idealSum, isPresent);
        expect(toHex(modelsHash(nodeCrypto, real.state.models))).toBe(
          toHex(modelsHash(nodeCrypto, ideal.state.models)),
        );
        expect(real.locals).toEqual(ideal.locals);
        // Whoever was lost keeps what it had.
        expect(ideal.locals[3]).toEqual({});
        expect(ideal.state.models.body).not.toEqual(initialState(config).models.body);
      });

      it('moves the vector by no more than the charge, whatever the participant holds or kept', () => {
        const slots = initialState(config).models.heads.length;
        const bound = BigInt(Math.floor(trainingSensitivity(config, slots) ** 2));
        const kept = keptVectors(config);
        expect(squared(vectorOf(config, nobody, kept))).toBe(0n);
        for (const data of [train, replaceRecord(train, 7)]) {
          for (const local of [{}, kept]) {
            const vector = vectorOf(config, data, local);
            expect(squared(vector)).toBeGreaterThan(0n);
            expect(squared(vector) <= bound).toBe(true);
          }
        }
      });

      it('repeats for the same inputs and leaves them as they are', () => {
        const kept = keptVectors(config);
        const before = structuredClone({ kept, features: train.features });
        expect(vectorOf(config, train, kept)).toEqual(vectorOf(config, train, kept));
        expect({ kept, features: train.features }).toEqual(before);
      });

      if (algorithm.info.recordLevel.kind === 'local-noise-only') itIsRefusedAtRecordLevel(algorithm);
      else itKeepsTheRecordRule(algorithm);
    });
  }
});

function itIsRefusedAtRecordLevel(algorithm: Algorithm): void {
  it('is refused at unit record, with the reason', () => {
    try {
      configFor(algorithm, 'record');
      expect.unreachable();
    } catch (error) {
      expect(isCoveyError(error, 'PRIVACY_POLICY')).toBe(true);
      expect((error as Error).message).toContain(algorithm.info.recordLevel.reason);
    }
  });
}

function itKeepsTheRecordRule(algorithm: Algorithm): void {
  const config = configFor(algorithm, 'record');
  // Every record is drawn, so that two vectors differ by the changed record alone.
  const all = { ...config, training: { ...config.training, samplingProbability: 1 } };

  it('keeps the record rule: one record moves the sum by its own terms, whatever is kept at the site', () => {
    const before = vectorOf(all, train);
    const after = vectorOf(all, replaceRecord(train, 7));
    const clip = BigInt(all.encoding.scale * all.training.clippingNorm);
    // Replace-one: the old and the new term, each within one clip.
    expect(squared(difference(after, before))).toBeGreaterThan(0n);
    expect(squared(difference(after, before)) <= (2n * clip) ** 2n).toBe(true);
    const last = train.count - 1;
    const without = createDataset(64, 10, train.features.slice(0, last * 64), train.labels.slice(0, last));
    expect(squared(difference(before, vectorOf(all, without))) <= clip ** 2n).toBe(true);
    // The others' terms are bit-identical: what the last record adds does not depend on record 7.
    const changed = replaceRecord(train, 7);
    const changedWithout = createDataset(64, 10, changed.features.slice(0, last * 64), changed.labels.slice(0, last));
    expect(difference(after, vectorOf(all, changedWithout))).toEqual(difference(before, vectorOf(all, without)));
    expect(vectorOf(all, train, keptVectors(config))).toEqual(before);
  });
}

describe('control variates that are sent', () => {
  const scaffold = findAlgorithm('scaffold');

  it('keep update and controls within clips of their own whose squares add up to C^2', () => {
    for (const controlShare of [0.2, 0.5, 0.8]) {
      const config = configFor(scaffold, 'participant', 2, { option: 1, controlShare });
      const blocks = trainingBlocks(config, 1);
      expect(blocks.map(({ segment }) => segment)).toEqual(['body', 'slot-0', 'control-body', 'control-slot-0']);
      const vector = vectorOf(config, replaceRecord(train, 7));
      const half = (blocks[0]?.length ?? 0) + (blocks[1]?.length ?? 0);
      const norms = [vector.slice(0, half), vector.slice(half)].map((part) => Math.sqrt(Number(squared(part))));
      const wanted = [Math.sqrt(1 - controlShare ** 2), controlShare];
      // An outlier fills both clips; rounding adds less than one unit a coordinate.
      norms.forEach((norm, i) => {
        expect(norm / config.encoding.scale / (wanted[i] as number)).toBeCloseTo(1, 2);
      });
    }
  });

  it('advance what a participant keeps by what was sent', () => {
    const base = configFor(scaffold, 'participant', 1, { option: 1 });
    const config = { ...base, training: { ...base.training, clippingNorm: 0.01 } };
    const { locals } = run(config, idealSum);
    const [reach, share] = [6 * 0.05, 0.5];
    for (const { controlBody = new Float64Array(0), controlHead = new Float64Array(0) } of locals) {
      const norm = Math.hypot(...controlBody, ...controlHead);
      expect(norm).toBeCloseTo((share * 0.01) / reach, 12);
    }
  });

  it('refuse a clip that follows the norms', () => {
    const config = configFor(scaffold, 'participant', 2, { option: 1 });
    const adaptiveClip = { quantile: 0.5, learningRate: 0.2, countNoise: 20 };
    const changed = { ...config, training: { ...config.training, adaptiveClip } };
    expect(() => parseRunConfig(changed)).toThrow(/"training.adaptiveClip" expected a fixed clip for scaffold/);
    expect(parseRunConfig({ ...changed, algorithm: { id: 'scaffold' } }).algorithm?.id).toBe('scaffold');
  });
});

describe('the manifest of a model', () => {
  it('lays out body and head and hashes names, shapes and groups', () => {
    expect(denseManifest({ inputs: 64, hidden: [48], classes: 10 })).toMatchObject({
      bodyLength: 3_120,
      headLength: 490,
    });
    expect(denseManifest({ inputs: 13, hidden: [], classes: 2 })).toMatchObject({ bodyLength: 0, headLength: 28 });
    const hashes = [
      manifest,
      denseManifest({ inputs: 64, hidden: [13], classes: 10 }),
      { ...manifest, tensors: manifest.tensors.toReversed() },
      { ...manifest, tensors: manifest.tensors.map((tensor) => ({ ...tensor, group: 'head' as const })) },
    ].map((m) => toHex(manifestHash(nodeCrypto, m)));
    expect(new Set(hashes).size).toBe(4);
    expect(toHex(manifestHash(nodeCrypto, denseManifest({ inputs: 64, hidden: [12], classes: 10 })))).toBe(hashes[0]);
    const twice = { name: 'a', shape: [2], group: 'body' } as const;
    expect(() => createManifest([twice, twice])).toThrow(/"tensors" expected distinct names, got a twice/);
    expect(() => createManifest([{ ...twice, shape: [0] }])).toThrow(/"a" expected positive sizes, got 0/);
  });
});

describe('a planted head trained on raw records', () => {
  const start = initialModel(manifest, createRandom(1));
  const state = { body: Float32Array.from(start.body), heads: [Float32Array.from(start.head)] };
  const blocks = hiddenLayout({ bodyLength: manifest.bodyLength, headLength: manifest.headLength, slots: 0 });
  const SCALE = 4_096;
  const CLIP = 0.01;

  /** Encoded sum of clipped body gradients, computed through the head that `headOf` gives for the data. */
  function bodySum(data: Dataset, headOf: (data: Dataset) => Float64Array): Int32Array {
    const encoder = createEncoder(nodeCrypto, {
      blocks,
      clippingNorm: CLIP,
      scale: SCALE / CLIP,
      rotationSeed: new Uint8Array(32),
    });
    const sum = new Int32Array(blocks.reduce((total, block) => total + block.length, 0));
    const body = Float64Array.from(state.body);
    const head = headOf(data);
    const term = { body: new Float64Array(manifest.bodyLength), head: new Float64Array(manifest.headLength) };
    for (let record = 0; record < data.count; record++) {
      oracle.perRecordGradient(body, head, data, record, term.body, term.head);
      const parts: TermPart[] = [{ block: 0, values: term.body }];
      encoder.addRecord(sum, parts);
    }
    return sum;
  }
  const rawHead = (data: Dataset): Float64Array =>
    fineTune(oracle, { body: state.body, head: state.heads[0] ?? [] }, data, createRandom(4), {
      epochs: 40,
      batchSize: 16,
      stepSize: 0.5,
      part: 'head',
    }).head;
  const releasedHead = (): Float64Array => Float64Array.from(state.heads[0] ?? []);
  const movedBy = (headOf: (data: Dataset) => Float64Array): number => {
    const before = bodySum(train, headOf);
    const after = bodySum(replaceRecord(train, 7), headOf);
    return Math.sqrt(Number(squared(after.map((value, i) => value - (before[i] as number))))) / SCALE;
  };

  it('moves the shared sum by more than the replace-one sensitivity of two clips; a released head does not', () => {
    expect(movedBy(releasedHead)).toBeLessThanOrEqual(2);
    expect(movedBy(releasedHead)).toBeGreaterThan(0);
    expect(movedBy(rawHead)).toBeGreaterThan(4);
  });
});

describe('the planner', () => {
  it('knows what breaks the record rule and what a charge allows', () => {
    const refused = ALGORITHMS.filter(({ info }) => info.recordLevel.kind === 'local-noise-only');
    expect(refused.map(({ info }) => info.id).toSorted()).toEqual([
      'fedper',
      'fedrep',
      'metavers',
      'per-fedavg',
      'q-fedavg',
      'reptile',
      'scaffold',
    ]);
    for (const { info } of refused) {
      requireRecordRule(info, { unit: 'record', noise: 'local' });
      requireRecordRule(info, { unit: 'participant', noise: 'shared' });
    }
    const { info } = findAlgorithm('ifca');
    const shared = { unit: 'record', noise: 'shared' } as const;
    expect(() => requireRecordRule(info, shared)).toThrow(/"charges" expected exponential-mechanism for ifca/);
    requireRecordRule(info, shared, ['exponential-mechanism']);
  });

  it('gives an embedded scenario the slots and minibatches that an algorithm asks for', () => {
    for (const { info, fixedBatches } of ALGORITHMS) {
      if (info.id === 'fedavgm') continue;
      const options = { seed: 1, steps: 20, targetEpsilon: 8, participants: 12, unit: 'participant' } as const;
      const { clusters, training } = scenarioConfig('digits', { ...options, algorithm: { id: info.id } });
      const { slots = 'none' } = info;
      expect(clusters === null ? 'none' : clusters.assignment).toBe(slots === 'chosen' ? 'hard' : slots);
      expect(training.local?.batches !== undefined).toBe(fixedBatches === true);
    }
    expect(
      scenarioConfig('digits', { seed: 1, steps: 20, targetEpsilon: 8, participants: 12 }).algorithm,
    ).toBeUndefined();
  });

  it('refuses what does not compose, with one line', () => {
    const change = (id: string, changes: Partial<RunConfig>): void => {
      parseRunConfig({ ...configFor(findAlgorithm('fedavg'), 'participant'), algorithm: { id }, ...changes });
    };
    const slots = clustersFor(findAlgorithm('fedsoft'), 'participant');
    const { training } = configFor(findAlgorithm('fedavg'), 'participant');
    expect(() => change('nothing', {})).toThrow(/"algorithm.id" expected one of fedavg, .*, got nothing$/);
    expect(() => change('scaffold', { clusters: slots })).toThrow(
      /"clusters" expected none slots for scaffold, got soft/,
    );
    const { cohort } = configFor(findAlgorithm('fedavg'), 'participant');
    expect(() => change('scaffold', { cohort: { ...cohort, participants: 8, groups: 2 } })).toThrow(
      /"cohort.groups" expected 1 for scaffold, got 2/,
    );
    expect(() => change('ifca', {})).toThrow(/"clusters" expected chosen slots for ifca, got none/);
    expect(() => change('fedavgm', { training: { ...training, momentum: 0 } })).toThrow(/"training.momentum"/);
    expect(() => change('fedrep', { model: { inputs: 64, hidden: [], classes: 10 } })).toThrow(
      /"model.sharedLayers" expected at least 1 for fedrep, got 0/,
    );
    expect(() => change('', { algorithm: { id: 'ditto', options: { mu: 1 } } })).toThrow(
      /"algorithm.options" of ditto expected lambda, personalEpochs, got mu/,
    );
    expect(() => change('', { algorithm: { id: 'ditto', options: { lambda: -1 } } })).toThrow(
      /"algorithm.options.lambda" expected a number from 0 to 1000, got -1/,
    );
    expect(() => change('', { algorithm: { id: 'fedrep', options: { headEpochs: 1.5 } } })).toThrow(/an integer from/);
  });
});

describe('algorithms at work, almost without noise', () => {
  const meanAccuracy = (id: string, options: Readonly<Record<string, number>> = {}): number => {
    const base = configFor(findAlgorithm('fedavg'), 'participant', 25);
    const config = parseRunConfig({
      ...base,
      training: {
        ...base.training,
        clippingNorm: 8,
        momentum: 0.5,
        local: { epochs: 2, batches: 16, batchSize: 16, stepSize: 0.1 },
      },
      privacy: { ...base.privacy, targetEpsilon: 1e6 },
      algorithm: { id, options },
    });
    const sites = [0, 1, 3, 4].map((i) => generateDigits(5, i));
    const { state, members, locals } = runInProcess({
      config,
      runId: RUN_ID,
      crypto: nodeCrypto,
      random: repeatable(3),
      organizations: sites.map(({ train: data }) => ({ data, oracle })),
      isPresent: () => true,
    });
    const accuracies = sites.map(({ train: data, test }, i) => {
      const inputs = { oracle, data, local: locals[i] ?? {} };
      return accuracy(
        oracle,
        personalModel(config, state.models, members[i] ?? NEW_MEMBER, inputs, createRandom(4)),
        test,
      );
    });
    return accuracies.reduce((sum, value) => sum + value, 0) / accuracies.length;
  };

  it('learn far above chance, and personal parts and slots help where styles differ', () => {
    const global = meanAccuracy('fedavg');
    expect(global).toBeGreaterThan(0.3);
    const shared = { fedprox: { mu: 0.01 }, scaffold: {} };
    for (const [id, options] of Object.entries(shared)) expect(meanAccuracy(id, options), id).toBeGreaterThan(0.3);
    const personal = { ditto: { personalEpochs: 5 }, fedrep: {}, fedper: {}, fedrod: { personalEpochs: 5 } };
    for (const [id, options] of Object.entries(personal)) expect(meanAccuracy(id, options), id).toBeGreaterThan(global);
  });
});
