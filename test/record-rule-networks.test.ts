import { beforeAll, describe, expect, it } from 'vitest';
import { networkOf } from '../clients/trainers/tfjs-network.ts';
import { createTfjsOracle } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime, type TensorRuntime } from '../clients/trainers/tfjs-runtime.ts';
import { simulatedRoster } from '../experiments/in-process.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createDataset, type Dataset, selectRecords } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createRandom } from '../src/data/random.ts';
import { readModelDefinition } from '../src/learning/model-definition.ts';
import type { GradientOracle } from '../src/learning/oracle.ts';
import { createEncoder } from '../src/privacy/encode.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { contribute, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams } from '../src/run/order.ts';
import { planRun, sessionBlocks } from '../src/run/plan.ts';
import { initialState, sumCoordinates } from '../src/run/release.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { CONVOLUTIONAL } from './support/model-files.ts';

const MEMBERS = 4;
const { roster } = simulatedRoster(nodeCrypto, MEMBERS);
const { train } = generateDigits(5, 0);
let runtime: TensorRuntime;
const oracleOf = (config: RunConfig): GradientOracle => createTfjsOracle(runtime, networkOf(config.model));

/** A convolutional network on the digits, every record of them drawn. */
function configOf(changes: object = {}): RunConfig {
  const { shape: model } = readModelDefinition({ modelJson: CONVOLUTIONAL });
  const algorithm = { id: 'fedavg' };
  const options = {
    seed: 5,
    steps: 3,
    targetEpsilon: 50,
    participants: MEMBERS,
    unit: 'record',
    model,
    algorithm,
  } as const;
  const base = scenarioConfig('digits', options);
  return parseRunConfig({ ...base, training: { ...base.training, samplingProbability: 1 }, ...changes });
}

beforeAll(async () => {
  runtime = await loadTensorRuntime({ candidates: ['tfjs-wasm'] });
});

/** What a member sends in the first step, without noise. */
function vectorOf(config: RunConfig, data: Dataset, engine = oracleOf(config)): Int32Array {
  const plan = planRun(config);
  const session = plan.schedule.find(({ kind }) => kind === 'train') ?? expect.fail('no session');
  const order = { session, models: initialState(config).models };
  const facts = { runId: '0e'.repeat(16), config, plan, roster };
  const params = orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 });
  const quiet = { ...params, noise: { mechanism: 'none', shareVariance: 0 } as const };
  const inputs = { data, oracle: engine, local: {}, seed: new Uint8Array(32).fill(9) };
  return sumCoordinates(quiet, contribute(nodeCrypto, config, order, quiet, { ...NEW_MEMBER, slot: 0 }, inputs).words);
}

/** The data set with the pixels of some records changed. */
function changed(data: Dataset, isChanged: (record: number) => boolean, change: (value: number) => number): Dataset {
  const { classes, featureLength, features, labels } = data;
  const pixels = features.map((v, i) => (isChanged(Math.floor(i / featureLength)) ? change(v) : v));
  return createDataset(featureLength, classes, pixels, labels);
}

describe('the term of a record of a convolutional network, summed as integers', () => {
  /** What record `kept` adds: the sum with it, less the sum with a record of no gradient in its place. */
  const termIn = (data: Dataset, kept: number): Int32Array => {
    const config = configOf();
    const gone = vectorOf(
      config,
      changed(
        data,
        (record) => record === kept,
        () => Number.NaN,
      ),
    );
    return vectorOf(config, data).map((value, i) => value - (gone[i] as number));
  };

  it('has the same bits whoever else is there, and however many', () => {
    expect(train.count).toBeGreaterThan(32);
    for (const kept of [0, 17, train.count - 1]) {
      const term = termIn(train, kept);
      expect(term.some((value) => value !== 0)).toBe(true);
      for (const change of [() => 0, () => Number.NaN, (v: number) => 1 - v, (v: number) => 1e30 * v])
        expect(
          termIn(
            changed(train, (record) => record !== kept, change),
            kept,
          ),
        ).toEqual(term);
      const some = [1, 2, 3, 4, 5].filter((record) => record !== kept);
      for (const companions of [[], some.slice(0, 1), some]) {
        const records = Uint32Array.from([...companions, kept]);
        expect(termIn(selectRecords(train, records), companions.length)).toEqual(term);
      }
    }
  });

  it('is not longer than the charge', () => {
    const { sensitivity } = planRun(configOf());
    for (const scale of [1e-3, 1, 1e3]) {
      const data = changed(
        train,
        (record) => record === 3,
        (v) => scale * (v - 0.5),
      );
      const norm = Math.sqrt(termIn(data, 3).reduce((sum, value) => sum + value * value, 0));
      expect(norm).toBeLessThanOrEqual(sensitivity);
      expect(norm).toBeGreaterThan(0);
    }
  });
});

const floatOf = (changes: object = {}): RunConfig => {
  const config = configOf(changes);
  return parseRunConfig({ ...config, privacy: { ...config.privacy, terms: 'float-bounded' } });
};
const distance = (a: Int32Array, b: Int32Array): number =>
  Math.sqrt(a.reduce((sum, v, i) => sum + (v - (b[i] ?? 0)) ** 2, 0));
const without = (record: number): Dataset =>
  selectRecords(
    train,
    Uint32Array.from({ length: train.count - 1 }, (_, i) => (i < record ? i : i + 1)),
  );

describe('the terms of a convolutional network, float-bounded', () => {
  const config = floatOf();
  const { sensitivity } = planRun(config);

  it('have nothing of a record that is not finite, and all of every other one, in a smaller pass and in other places', () => {
    for (const record of [0, 30]) {
      const gone = vectorOf(config, without(record));
      expect(gone.some((v) => v !== 0)).toBe(true);
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, 1e38]) {
        const data = changed(
          train,
          (r) => r === record,
          () => bad,
        );
        const vector = vectorOf(config, data);
        // Pixels of 1e38 are finite in doubles: their gradient is clipped.
        if (bad === 1e38) expect(distance(vector, gone)).toBeLessThanOrEqual(sensitivity);
        else expect(vector).toEqual(gone);
      }
    }
    const spoilt = changed(
      train,
      () => true,
      () => Number.NaN,
    );
    expect(vectorOf(config, spoilt).every((v) => v === 0)).toBe(true);
  });

  it('are moved by at most the charge, by a search for the record that moves them most', () => {
    const scaled = config.encoding.scale * config.training.clippingNorm;
    expect(sensitivity).toBeGreaterThan(scaled);
    const random = createRandom(3);
    const some = selectRecords(train, Uint32Array.of(0, 1, 2, 3));
    const gone = vectorOf(config, selectRecords(train, Uint32Array.of(1, 2, 3)));
    const movedBy = (pixels: Float64Array): number =>
      distance(vectorOf(config, { ...some, features: some.features.map((v, i) => pixels[i] ?? v) }), gone);
    let at = Float64Array.from({ length: train.featureLength }, () => random.uniform(-1, 1));
    let most = 0;
    for (let step = 0; step < 80; step++) {
      const next = at.map((v) =>
        random.integer(3) === 0 ? v * random.uniform(0.5, 2) + random.uniform(-0.1, 0.1) : v,
      );
      const moved = movedBy(next);
      expect(moved).toBeLessThanOrEqual(sensitivity);
      if (moved < most) continue;
      most = moved;
      at = next;
    }
    expect(most).toBeGreaterThan(0.99 * scaled);
  });

  const soft = {
    assignment: 'soft',
    foundingSlots: 0,
    seatPositions: 0,
    kept: 3,
    choiceSteps: [],
    choiceEpsilon: 1,
    lossBound: 1,
    countNoiseStddev: 1,
  };
  const rows = [0, 1, 2].map((member) => generateDigits(5, member).train);
  const persons: Dataset = {
    ...createDataset(
      train.featureLength,
      train.classes,
      Float32Array.from(rows.flatMap(({ features }) => [...features])),
      Uint8Array.from(rows.flatMap(({ labels }) => [...labels])),
    ),
    // One person has more records than a pass, the others two or three.
    persons: Uint32Array.from({ length: rows.reduce((sum, { count }) => sum + count, 0) }, (_, i) =>
      i < 70 ? 0 : 1 + Math.floor((i - 70) / 3),
    ),
  };
  it.each<[string, object, Dataset?]>([
    ['one model', {}],
    ['the whole network in slots', { model: { ...configOf().model, sharedLayers: 0 } }],
    ['the best slot of every record', { algorithm: { id: 'fedsoft' }, clusters: soft }],
    ['persons', { privacy: { ...configOf().privacy, perPerson: true } }, persons],
  ])('agree with integer terms: %s', (_name, changes, data = train) => {
    const decoded = [floatOf(changes), configOf(changes)].map((given) => {
      const session = planRun(given).schedule.find(({ kind }) => kind === 'train') ?? expect.fail('no session');
      const { models } = initialState(given);
      const { clippingNorm } = given.training;
      const blocks = sessionBlocks(given, session, models.heads.length);
      const order = { session, models };
      const facts = { runId: '0e'.repeat(16), config: given, plan: planRun(given), roster };
      const { encoding } = orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 });
      const spec = { blocks, clippingNorm, scale: encoding.scale, rotationSeed: encoding.rotationSeed };
      return createEncoder(nodeCrypto, spec).decode(vectorOf(given, data));
    });
    const [float, integer] = decoded.map((blocks) => blocks.flatMap((values) => [...values])) as [number[], number[]];
    const units = data.persons === undefined ? data.count : new Set(data.persons).size;
    const cut = (units * Math.sqrt(integer.length)) / configOf().encoding.scale;
    expect(Math.hypot(...float.map((v, i) => v - (integer[i] as number)))).toBeLessThan(cut + units * 2 ** -10);
    expect(Math.hypot(...integer)).toBeGreaterThan(0.5);
    // Every slot that the one fills the other fills too.
    decoded[0]?.forEach((values, block) => {
      expect(values.some((v) => v !== 0)).toBe(decoded[1]?.[block]?.some((v) => v !== 0));
    });
  });
});
