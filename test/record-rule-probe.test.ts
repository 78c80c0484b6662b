import { describe, expect, it } from 'vitest';
import { systemClock } from '../platform/node/clock.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { CoveyError, type ErrorCode } from '../protocol/errors.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { createOracleTrainer } from '../src/learning/oracle-trainer.ts';
import { fitOrKeep, probeRecordRule } from '../src/learning/record-rule-probe.ts';
import { type FitTask, flattenModel, type RecordGradientsResult, type Trainer } from '../src/learning/trainer.ts';
import { sampleData, sampleModel } from './support/learning-samples.ts';

const shape = { inputs: 6, hidden: [5], classes: 3 };
const oracle = createDenseOracle(shape);
const data = sampleData(oracle, shape.inputs, 40, 1);

function trainer(): Trainer {
  return createOracleTrainer(oracle, {
    crypto: nodeCrypto,
    featureLength: shape.inputs,
    classes: shape.classes,
    monotonicMs: systemClock.monotonicMs,
  });
}

const { layout } = trainer();
const task: FitTask = {
  layout,
  parameters: flattenModel(sampleModel(oracle, 3)),
  data,
  epochs: 2,
  batchSize: 8,
  optimizer: { kind: 'adam', stepSize: 0.01, weightDecay: 0 },
  seed: 1,
  timeLimitMs: 1_000,
};

/** A trainer whose rows are changed. */
function tampered(change: (result: RecordGradientsResult, features: Float32Array, call: number) => void): Trainer {
  const honest = trainer();
  let calls = 0;
  return {
    ...honest,
    async recordGradients(asked) {
      const result = await honest.recordGradients(asked);
      change(result, asked.data.features, calls++);
      return result;
    },
  };
}

async function probed(subject: Trainer, changes: Partial<FitTask> = {}): Promise<ErrorCode | 'kept'> {
  try {
    await probeRecordRule(subject, { ...task, ...changes });
    return 'kept';
  } catch (error) {
    if (!(error instanceof CoveyError)) throw error;
    return error.code;
  }
}

describe('the probe of the record rule', () => {
  it('passes a trainer that keeps it, with many records, one or none', async () => {
    expect(await probed(trainer())).toBe('kept');
    for (const count of [1, 0]) expect(await probed(trainer(), { data: sampleData(oracle, 6, count, 1) })).toBe('kept');
  });

  it('finds rows that show the other rows, the other records or an earlier task', async () => {
    const mean = tampered(({ gradients, losses }) => {
      for (let i = 0; i < gradients.length; i++) gradients[i] = (gradients[i] as number) / losses.length;
    });
    const statistics = tampered(({ gradients }, features) => {
      const scale = features.reduce((sum, value) => sum + value * value, 0);
      // The exchange keeps most records; their sum still differs.
      for (let i = 0; i < gradients.length; i++) gradients[i] = (gradients[i] as number) * scale;
    });
    const state = tampered(({ gradients }, _, call) => {
      gradients[0] = (gradients[0] as number) + 1e-3 * call;
    });
    for (const subject of [mean, statistics, state]) expect(await probed(subject)).toBe('PRIVACY_POLICY');
  });
});

describe('training that fails', () => {
  it('keeps the parameters, and says why at the site only', async () => {
    const good = await fitOrKeep(trainer(), task);
    expect(good.failure).toBe(null);
    expect(good.parameters).not.toEqual(task.parameters);
    const broken = task.parameters.map((value, i) => (i === 2 ? Number.NaN : value));
    const kept = await fitOrKeep(trainer(), { ...task, parameters: broken });
    expect([kept.failure?.code, kept.numExamples, kept.metrics]).toEqual(['USAGE_DIVERGED', 0, {}]);
    expect(kept.parameters).toEqual(broken);
    expect(kept.parameters).not.toBe(broken);
  });

  it('throws faults of the caller', async () => {
    await expect(fitOrKeep(trainer(), { ...task, epochs: 0 })).rejects.toThrow('"epochs"');
    const closed = trainer();
    await closed.close();
    await expect(fitOrKeep(closed, task)).rejects.toThrow('closed');
  });
});
