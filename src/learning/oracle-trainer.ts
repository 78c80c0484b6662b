import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { createRandom } from '../data/random.ts';
import { eachBatch } from './local-training.ts';
import { createOptimizer } from './optimizer.ts';
import type { GradientOracle } from './oracle.ts';
import {
  checkFinite,
  checkFitTask,
  checkRecordTask,
  type FitResult,
  type FitTask,
  flattenModel,
  layoutOf,
  parameterCount,
  type RecordGradientsResult,
  type RecordGradientsTask,
  splitModel,
  type Trainer,
  type TrainerShape,
  zeroBrokenRows,
} from './trainer.ts';

/** What a trainer needs beside its oracle. */
export interface OracleTrainerOptions {
  readonly crypto: CryptoProvider;
  /** Units: features of a record, classes of a label. */
  readonly featureLength: number;
  readonly classes: number;
  /** Units: milliseconds on a clock that never jumps back; for the time limits of tasks. */
  monotonicMs(): number;
}

/**
 * Trains with the gradients of an oracle. The optimizer runs on flat doubles, so it is one and the same whichever
 * engine computes the gradients. Time limits are looked at between minibatches and between records.
 */
export function createOracleTrainer(oracle: GradientOracle, options: OracleTrainerOptions): Trainer {
  const { manifest } = oracle;
  const { featureLength, classes } = options;
  const shape: TrainerShape = { manifest, layout: layoutOf(options.crypto, manifest), featureLength, classes };
  let isClosed = false;

  function begin(timeLimitMs: number): () => void {
    const deadline = options.monotonicMs() + timeLimitMs;
    return () => {
      if (options.monotonicMs() > deadline) {
        throw new CoveyError('DEP_TRAINER_TIMEOUT', `training expected an end within ${timeLimitMs} ms`, {
          timeLimitMs,
        });
      }
    };
  }

  function assertOpen(): void {
    if (isClosed) throw new CoveyError('USAGE_STATE', 'the trainer is closed');
  }

  function fitNow(task: FitTask): FitResult {
    assertOpen();
    checkFitTask(shape, task);
    const checkTime = begin(task.timeLimitMs);
    const model = splitModel(manifest, task.parameters);
    const gradient = { body: new Float64Array(model.body.length), head: new Float64Array(model.head.length) };
    const stepBody = createOptimizer(task.optimizer, model.body.length);
    const stepHead = createOptimizer(task.optimizer, model.head.length);
    const { count } = task.data;
    const batches = Math.ceil(count / task.batchSize);
    let loss = 0;
    let done = 0;
    const order = { epochs: task.epochs, batchSize: task.batchSize, stepSize: task.optimizer.stepSize };
    eachBatch(count, order, createRandom(task.seed), (records) => {
      checkTime();
      const batchLoss = oracle.meanGradient(model.body, model.head, task.data, records, gradient.body, gradient.head);
      if (done % batches === 0) loss = 0;
      loss += (batchLoss * records.length) / count;
      done++;
      stepBody(model.body, gradient.body);
      stepHead(model.head, gradient.head);
    });
    const parameters = flattenModel(model);
    return checkFinite({ parameters, numExamples: count, metrics: { loss }, assurance: 'computed here' });
  }

  function gradientsNow(task: RecordGradientsTask): RecordGradientsResult {
    assertOpen();
    checkRecordTask(shape, task);
    const checkTime = begin(task.timeLimitMs);
    const { body, head } = splitModel(manifest, task.parameters);
    const length = parameterCount(manifest);
    const losses = new Float64Array(task.records.length);
    const gradients = new Float32Array(task.records.length * length);
    const bodyGradient = new Float64Array(body.length);
    const headGradient = new Float64Array(head.length);
    task.records.forEach((record, row) => {
      checkTime();
      losses[row] = oracle.perRecordGradient(body, head, task.data, record, bodyGradient, headGradient);
      gradients.set(bodyGradient, row * length);
      gradients.set(headGradient, row * length + body.length);
    });
    return { losses, gradients, zeroedRows: zeroBrokenRows(losses, gradients), assurance: 'computed here' };
  }

  return {
    manifest,
    layout: shape.layout,
    assurance: 'computed here',
    fit: async (task) => fitNow(task),
    recordGradients: async (task) => gradientsNow(task),
    close: async () => {
      isClosed = true;
    },
  };
}
