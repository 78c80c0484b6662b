import { describe, expect, it } from 'vitest';
import { systemClock } from '../platform/node/clock.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { createOracleTrainer, type OracleTrainerOptions } from '../src/learning/oracle-trainer.ts';
import { type FitTask, flattenModel, type Trainer } from '../src/learning/trainer.ts';
import { sampleData, sampleModel } from './support/learning-samples.ts';

const shape = { inputs: 6, hidden: [5], classes: 3 };
const oracle = createDenseOracle(shape);

function trainer(changes: Partial<OracleTrainerOptions> = {}): Trainer {
  return createOracleTrainer(oracle, {
    crypto: nodeCrypto,
    featureLength: shape.inputs,
    classes: shape.classes,
    monotonicMs: systemClock.monotonicMs,
    ...changes,
  });
}

const task: FitTask = {
  layout: trainer().layout,
  parameters: flattenModel(sampleModel(oracle, 3)),
  data: sampleData(oracle, shape.inputs, 40, 1),
  epochs: 2,
  batchSize: 8,
  optimizer: { kind: 'adam', stepSize: 0.01, weightDecay: 0 },
  seed: 1,
  timeLimitMs: 1_000,
};

/** A clock that a step of work moves by the given time. */
function ticking(ms: number): () => number {
  let now = 0;
  return () => {
    now += ms;
    return now;
  };
}

describe('a trainer in this process', () => {
  it('ends at the time limit, which is looked at between minibatches and between records', async () => {
    const slow = trainer({ monotonicMs: ticking(100) });
    // One look at the start and one for each of ten minibatches.
    expect((await slow.fit(task)).numExamples).toBe(40);
    await expect(slow.fit({ ...task, timeLimitMs: 999 })).rejects.toMatchObject({ code: 'DEP_TRAINER_TIMEOUT' });
    const records = Uint32Array.of(0, 1, 2);
    await expect(slow.recordGradients({ ...task, records, timeLimitMs: 299 })).rejects.toThrow('within 299 ms');
    expect((await slow.recordGradients({ ...task, records, timeLimitMs: 300 })).losses.length).toBe(3);
  });

  it('lets others run from time to time, and never otherwise', async () => {
    const pauses = async (ms: number): Promise<number> => {
      let count = 0;
      const pause = async (): Promise<void> => {
        count++;
      };
      await trainer({ monotonicMs: ticking(ms), pause }).fit(task);
      return count;
    };
    // Ten minibatches: a pause before each, before every third, before none.
    expect([await pauses(25), await pauses(10), await pauses(2)]).toEqual([10, 3, 0]);
  });

  it('gives the same bits when tasks take turns', async () => {
    const alone = await trainer().fit(task);
    const record = { ...task, records: Uint32Array.of(3, 1, 2) };
    const rows = await trainer().recordGradients(record);
    const shared = trainer({
      monotonicMs: ticking(25),
      pause: () => new Promise((resolve) => setImmediate(resolve)),
    });
    const others = { ...task, seed: 9, parameters: task.parameters.map((value) => -value) };
    const results = await Promise.all([shared.fit(task), shared.fit(others), shared.recordGradients(record)]);
    expect(results[0]).toEqual(alone);
    expect(results[2]).toEqual(rows);
  });

  it('gives up a task when it is closed', async () => {
    const closing = trainer({ monotonicMs: ticking(25), pause: () => new Promise((resolve) => setImmediate(resolve)) });
    const running = closing.fit(task);
    await closing.close();
    await expect(running).rejects.toMatchObject({ code: 'USAGE_STATE' });
  });
});
