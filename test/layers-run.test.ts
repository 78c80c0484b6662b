import { beforeAll, describe, expect, it } from 'vitest';
import { networkOf } from '../clients/trainers/tfjs-network.ts';
import { createTfjsOracle } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime, type TensorRuntime } from '../clients/trainers/tfjs-runtime.ts';
import { type InProcessResult, runInProcess } from '../experiments/in-process.ts';
import { realSum } from '../experiments/real-sum.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { idealSum, type SecureSum } from '../protocol/ideal.ts';
import { generateDigits } from '../src/data/digits.ts';
import { accuracy } from '../src/learning/evaluation.ts';
import { readModelDefinition } from '../src/learning/model-definition.ts';
import type { RunConfig } from '../src/run/config.ts';
import { initialModels } from '../src/run/released.ts';
import { type ScenarioOptions, scenarioConfig } from '../src/run/scenario.ts';
import { CONVOLUTIONAL } from './support/model-files.ts';
import { repeatable } from './support/repeatable.ts';

const MEMBERS = 4;
const { shape: convolutional } = readModelDefinition({ modelJson: CONVOLUTIONAL });
let runtime: TensorRuntime;

beforeAll(async () => {
  runtime = await loadTensorRuntime({ candidates: ['tfjs-wasm'] });
});

function configOf(options: Partial<ScenarioOptions> = {}): RunConfig {
  return scenarioConfig('digits', {
    seed: 5,
    steps: 3,
    targetEpsilon: 1e6,
    participants: MEMBERS,
    unit: 'participant',
    model: convolutional,
    algorithm: { id: 'fedavg' },
    ...options,
  });
}

function run(config: RunConfig, secureSum: SecureSum = idealSum): InProcessResult {
  const oracle = createTfjsOracle(runtime, networkOf(config.model));
  return runInProcess({
    config,
    runId: '0f0e0d0c0b0a09080706050403020100',
    crypto: nodeCrypto,
    random: repeatable(4),
    organizations: Array.from({ length: MEMBERS }, (_, i) => ({ data: generateDigits(5, i).train, oracle })),
    isPresent: () => true,
    secureSum,
  });
}

describe('runs of a network of layers', () => {
  it.each(['participant', 'record'] as const)(
    'release the same bits over the real protocol and over the ideal sum at unit %s',
    (unit) => {
      const config = configOf({ unit, steps: 2 });
      const [real, ideal] = [run(config, realSum(MEMBERS)), run(config)];
      expect(real.state.models).toEqual(ideal.state.models);
      expect(ideal.state.models.body.length).toBe(3 * 3 * 6 + 6);
      expect(ideal.state.models.heads[0]?.length).toBe(4 * 4 * 6 * 10 + 10);
      expect(ideal.state.models).not.toEqual(initialModels(config, 1));
    },
  );

  it('learn', () => {
    const config = configOf({ steps: 30 });
    const { models } = run(config).state;
    const oracle = createTfjsOracle(runtime, networkOf(config.model));
    const { test } = generateDigits(5, 0);
    const after = { body: Float64Array.from(models.body), head: Float64Array.from(models.heads[0] ?? []) };
    const start = initialModels(config, 1);
    const before = { body: Float64Array.from(start.body), head: Float64Array.from(start.heads[0] ?? []) };
    // The members write their digits in different ways, so that one model for all of them has its limits.
    expect(accuracy(oracle, before, test)).toBeLessThan(0.2);
    expect(accuracy(oracle, after, test)).toBeGreaterThan(0.4);
  });
});
