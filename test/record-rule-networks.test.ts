import { beforeAll, describe, expect, it } from 'vitest';
import { networkOf } from '../clients/trainers/tfjs-network.ts';
import { createTfjsOracle } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime } from '../clients/trainers/tfjs-runtime.ts';
import { simulatedRoster } from '../experiments/in-process.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createDataset, type Dataset, selectRecords } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { readModelDefinition } from '../src/learning/model-definition.ts';
import type { GradientOracle } from '../src/learning/oracle.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { contribute, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams } from '../src/run/order.ts';
import { planRun } from '../src/run/plan.ts';
import { initialState, sumCoordinates } from '../src/run/release.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { CONVOLUTIONAL } from './support/model-files.ts';

const MEMBERS = 4;
const { roster } = simulatedRoster(nodeCrypto, MEMBERS);
const { train } = generateDigits(5, 0);
let oracle: GradientOracle;

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
  const runtime = await loadTensorRuntime({ candidates: ['tfjs-wasm'] });
  oracle = createTfjsOracle(runtime, networkOf(configOf().model));
});

/** What a member sends in the first step, without noise. */
function vectorOf(config: RunConfig, data: Dataset): Int32Array {
  const plan = planRun(config);
  const session = plan.schedule.find(({ kind }) => kind === 'train') ?? expect.fail('no session');
  const order = { session, models: initialState(config).models };
  const facts = { runId: '0e'.repeat(16), config, plan, roster };
  const params = orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 });
  const quiet = { ...params, noise: { mechanism: 'none', shareVariance: 0 } as const };
  const inputs = { data, oracle, local: {}, seed: new Uint8Array(32).fill(9) };
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
