import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { toHex } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createRandom } from '../src/data/random.ts';
import {
  type Algorithm,
  type ParticipantContext,
  type ReleasedState,
  requireRecordRule,
} from '../src/learning/algorithm.ts';
import { CATALOGUE } from '../src/learning/catalogue.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { accuracy } from '../src/learning/evaluation.ts';
import { initialModel } from '../src/learning/initial-model.ts';
import { createManifest, denseManifest, manifestHash } from '../src/learning/manifest.ts';
import type { Model } from '../src/learning/oracle.ts';
import { ALGORITHMS, findAlgorithm } from '../src/learning/registry.ts';
import { fineTune } from '../src/personalize/fine-tuning.ts';
import { createEncoder, type TermPart } from '../src/privacy/encode.ts';

const oracle = createDenseOracle({ inputs: 64, hidden: [12], classes: 10 });
const { manifest } = oracle;
const options = {
  epochs: { epochs: 2, batchSize: 16, stepSize: 0.05 },
  personal: { epochs: 3, batchSize: 16, stepSize: 0.05 },
  lambda: 0.5,
};

function released(slots: number, seed = 1): ReleasedState {
  const models = Array.from({ length: slots }, (_, j) => initialModel(manifest, createRandom(seed, j)));
  const body = Float32Array.from(models[0]?.body ?? []);
  const heads = models.map(({ head }) => Float32Array.from(head));
  return { body, heads, velocity: [body, ...heads].map((segment) => new Float64Array(segment.length)) };
}

function contextOf(data: Dataset, state: ReleasedState, slot = 0, personal: Model | null = null): ParticipantContext {
  return { oracle, data, released: state, local: { slot, personal }, options, random: createRandom(9) };
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
const squared = (x: Int32Array): bigint => x.reduce((sum, value) => sum + BigInt(value) * BigInt(value), 0n);

describe('every registered algorithm', () => {
  for (const algorithm of ALGORITHMS) {
    describe(algorithm.info.id, () => {
      const slots = algorithm.chooseSlot === undefined ? 1 : 3;
      const state = released(slots);
      const context = (): ParticipantContext => contextOf(train, state, slots - 1);

      it('is catalogued, and its segments fit its layout and cost', () => {
        expect(CATALOGUE).toContain(algorithm.info);
        const blocks = algorithm.layout(manifest, slots);
        const uploaded = blocks.reduce((sum, { realLength }) => sum + realLength, 0);
        expect(uploaded).toBe(algorithm.info.uploadLength(manifest, slots));
        const update = algorithm.participantUpdate?.(context());
        if (update !== undefined)
          expect(update.map(({ length }) => length)).toEqual(blocks.map(({ realLength }) => realLength));
        expect(update === undefined).toBe(algorithm.serverStep === undefined);
      });

      it('repeats for the same inputs and leaves them as they are', () => {
        const before = structuredClone({ state, features: train.features });
        const run = (): unknown => [
          algorithm.participantUpdate?.(context()),
          algorithm.recordTerm?.(context(), 3),
          algorithm.updateLocal?.(context()),
          algorithm.personalize(context()),
        ];
        expect(run()).toEqual(run());
        expect({ state, features: train.features }).toEqual(before);
      });

      it('gives record terms exactly where the record rule allows them', () => {
        const allowed = algorithm.info.recordLevel.kind !== 'local-noise-only' && algorithm.serverStep !== undefined;
        expect(algorithm.recordTerm !== undefined).toBe(allowed);
      });

      if (algorithm.recordTerm !== undefined) itKeepsTheRecordRule(algorithm, state, slots);
    });
  }
});

function itKeepsTheRecordRule(algorithm: Algorithm, state: ReleasedState, slots: number): void {
  const termsOf = (data: Dataset, personal: Model | null): Int32Array[] => {
    const blocks = algorithm.layout(manifest, slots);
    const encoder = createEncoder(nodeCrypto, {
      blocks,
      clippingNorm: 1,
      scale: 4_096,
      rotationSeed: new Uint8Array(32),
    });
    const length = blocks.reduce((sum, block) => sum + block.length, 0);
    return Array.from({ length: data.count }, (_, record) => {
      const term = new Int32Array(length);
      encoder.addRecord(term, algorithm.recordTerm?.(contextOf(data, state, slots - 1, personal), record) ?? []);
      return term;
    });
  };

  it('keeps the record rule: other records’ encoded terms stay bit-identical, whatever is personal', () => {
    const replaced = 7;
    const before = termsOf(train, null);
    const trained = algorithm.personalize(contextOf(train, state, slots - 1));
    const after = termsOf(replaceRecord(train, replaced), trained);
    const sum = new Int32Array(before[0]?.length ?? 0);
    for (let record = 0; record < train.count; record++) {
      if (record !== replaced) expect(after[record]).toEqual(before[record]);
      sum.forEach((value, i) => {
        sum[i] = value + (after[record]?.[i] as number) - (before[record]?.[i] as number);
      });
    }
    expect(after[replaced]).not.toEqual(before[replaced]);
    // Replace-one: the old and the new term, each within the charged sensitivity.
    expect(squared(sum) <= (2n * 4_096n) ** 2n).toBe(true);
    for (const term of after) expect(squared(term) <= 4_096n ** 2n).toBe(true);
  });
}

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
  const state = released(1);
  const blocks = findAlgorithm('fedrep').layout(manifest, 1);
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
  const shared = { unit: 'record', noise: 'shared' } as const;

  it('refuses at record level, with the reason, what breaks the record rule', () => {
    const refused = CATALOGUE.filter(({ recordLevel }) => recordLevel.kind === 'local-noise-only');
    expect(refused.map(({ id }) => id).toSorted()).toEqual([
      'fedavg-epochs',
      'fedper',
      'fedrep',
      'metavers',
      'per-fedavg',
      'q-fedavg',
      'reptile',
      'scaffold',
    ]);
    for (const info of refused) {
      try {
        requireRecordRule(info, shared, ['exponential-mechanism', 'histogram', 'bounded-sum']);
        expect.unreachable();
      } catch (error) {
        expect(isCoveyError(error, 'PRIVACY_POLICY')).toBe(true);
        expect((error as Error).message).toContain(info.recordLevel.reason);
      }
      requireRecordRule(info, { unit: 'record', noise: 'local' });
      requireRecordRule(info, { unit: 'participant', noise: 'shared' });
    }
  });

  it('asks for the charge that an algorithm needs', () => {
    const { info } = findAlgorithm('ifca-ft');
    expect(() => requireRecordRule(info, shared)).toThrow(/"charges" expected exponential-mechanism for ifca-ft/);
    requireRecordRule(info, shared, ['exponential-mechanism']);
    requireRecordRule(findAlgorithm('ditto').info, shared);
  });

  it('charges counts beside slots at unit participant', () => {
    expect(findAlgorithm('ifca').info.participantSensitivity(0.5)).toEqual([
      { what: 'slots', l2: 0.5 },
      { what: 'count (census only)', l2: 1 },
    ]);
    expect(findAlgorithm('local').info.participantSensitivity(0.5)).toEqual([]);
    expect(CATALOGUE.find(({ id }) => id === 'fedsoft')?.participantSensitivity(2)[0]?.l2).toBe(Math.sqrt(5));
  });

  it('says what runs and what is only catalogued', () => {
    expect(() => findAlgorithm('scaffold')).toThrow(/got scaffold \(catalogued, not part of this version\)/);
    expect(() => findAlgorithm('nothing')).toThrow(/got nothing$/);
    expect(new Set(CATALOGUE.map(({ id }) => id)).size).toBe(CATALOGUE.length);
  });
});

describe('algorithms at work, without noise', () => {
  const organizations = [0, 1, 3, 4].map((i) => generateDigits(5, i));

  function federate(algorithm: Algorithm, slots: number, rounds: number): number {
    let state = released(slots, 3);
    let locals = organizations.map((_, i): ParticipantContext['local'] => ({ slot: i % slots, personal: null }));
    for (let round = 0; round < rounds; round++) {
      const contexts = organizations.map(({ train: data }, i) =>
        contextOf(data, state, locals[i]?.slot, locals[i]?.personal ?? null),
      );
      locals = contexts.map((context) => algorithm.updateLocal?.(context) ?? context.local);
      const sums = algorithm.layout(manifest, slots).map(({ realLength }) => new Float64Array(realLength));
      for (const context of contexts) {
        algorithm.participantUpdate?.(context).forEach((segment, s) => {
          segment.forEach((value, i) => {
            const sum = sums[s] as Float64Array;
            sum[i] = (sum[i] as number) + value;
          });
        });
      }
      const facts = {
        bodyDenominator: organizations.length,
        headDenominator: organizations.length / slots,
        momentum: 0.5,
        step: 1,
      };
      state = algorithm.serverStep?.(state, sums, facts) ?? state;
    }
    const accuracies = organizations.map(({ train: data, test }, i) =>
      accuracy(
        oracle,
        algorithm.personalize(contextOf(data, state, locals[i]?.slot, locals[i]?.personal ?? null)),
        test,
      ),
    );
    return accuracies.reduce((sum, value) => sum + value, 0) / accuracies.length;
  }

  it('learn far above chance, and slots and personal models help where styles differ', () => {
    const global = federate(findAlgorithm('fedavg-epochs'), 1, 30);
    expect(global).toBeGreaterThan(0.3);
    expect(federate(findAlgorithm('fedavgm'), 1, 30)).toBeGreaterThan(0.3);
    for (const id of ['fedavg-ft', 'ditto', 'fedrep'])
      expect(federate(findAlgorithm(id), 1, 30)).toBeGreaterThan(global);
    expect(federate(findAlgorithm('ifca'), 2, 30)).toBeGreaterThan(global);
  });

  it('choose the slot whose model fits, freely or by the charged mechanism', () => {
    const ifca = findAlgorithm('ifca');
    const data = organizations[0]?.train as Dataset;
    const good = fineTune(oracle, initialModel(manifest, createRandom(3)), data, createRandom(1), {
      epochs: 40,
      batchSize: 16,
      stepSize: 0.1,
    });
    const state = { ...released(3, 3), body: Float32Array.from(good.body) };
    const heads = [state.heads[0], Float32Array.from(good.head), state.heads[2]].map(
      (head) => head ?? new Float32Array(0),
    );
    const context = contextOf(data, { ...state, heads });
    expect(ifca.chooseSlot?.(context, { kind: 'lowest-loss' })).toBe(1);
    const stream = nodeCrypto.aes256Ctr(new Uint8Array(32).fill(5));
    const chosen = Array.from({ length: 20 }, () =>
      ifca.chooseSlot?.(context, { kind: 'exponential', epsilon: 0.5, lossBound: 2, stream }),
    );
    expect(chosen).toEqual(new Array(20).fill(1));
    // A nearly free choice (tiny epsilon) tells nearly nothing.
    const blind = Array.from({ length: 60 }, () =>
      ifca.chooseSlot?.(context, { kind: 'exponential', epsilon: 1e-4, lossBound: 2, stream }),
    );
    expect(new Set(blind).size).toBe(3);
  });
});
