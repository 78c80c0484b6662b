import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { createRandom } from '../data/random.ts';
import { batchesOf } from './local-training.ts';
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
  /** Lets others run, called between minibatches and records at most every `PAUSE_MS`; never if it is left out. */
  pause?(): Promise<void>;
}

/** Longest time without a pause, short beside the deadlines of a round. */
const PAUSE_MS = 25;

/**
 * Trains with the gradients of an oracle. The optimizer runs on flat doubles, so it is one and the same whichever
 * engine computes the gradients. Time limits are looked at between minibatches and between records.
 */
export function createOracleTrainer(oracle: GradientOracle, options: OracleTrainerOptions): Trainer {
  const { manifest } = oracle;
  const { featureLength, classes } = options;
  const shape: TrainerShape = { manifest, layout: layoutOf(options.crypto, manifest), featureLength, classes };
  let isClosed = false;

  /** Checks the time limit and pauses, between units of work. */
  function begin(timeLimitMs: number): () => Promise<void> | undefined {
    const started = options.monotonicMs();
    let lastPause = started;
    return () => {
      const now = options.monotonicMs();
      if (isClosed) throw new CoveyError('USAGE_STATE', 'the trainer is closed');
      if (now - started > timeLimitMs) {
        throw new CoveyError('DEP_TRAINER_TIMEOUT', `training expected an end within ${timeLimitMs} ms`, {
          timeLimitMs,
        });
      }
      if (options.pause === undefined || now - lastPause < PAUSE_MS) return undefined;
      lastPause = now;
      return options.pause();
    };
  }

  function assertOpen(): void {
    if (isClosed) throw new CoveyError('USAGE_STATE', 'the trainer is closed');
  }

  async function train(task: FitTask): Promise<FitResult> {
    assertOpen();
    checkFitTask(shape, task);
    const next = begin(task.timeLimitMs);
    const model = splitModel(manifest, task.parameters);
    const gradient = { body: new Float64Array(model.body.length), head: new Float64Array(model.head.length) };
    const stepBody = createOptimizer(task.optimizer, model.body.length);
    const stepHead = createOptimizer(task.optimizer, model.head.length);
    const { count } = task.data;
    const batches = Math.ceil(count / task.batchSize);
    let loss = 0;
    let done = 0;
    const order = { epochs: task.epochs, batchSize: task.batchSize, stepSize: task.optimizer.stepSize };
    for (const records of batchesOf(count, order, createRandom(task.seed))) {
      await next();
      const batchLoss = oracle.meanGradient(model.body, model.head, task.data, records, gradient.body, gradient.head);
      if (done % batches === 0) loss = 0;
      loss += (batchLoss * records.length) / count;
      done++;
      stepBody(model.body, gradient.body);
      stepHead(model.head, gradient.head);
    }
    const parameters = flattenModel(model);
    return checkFinite({ parameters, numExamples: count, metrics: { loss }, assurance: 'computed here' });
  }

  async function differentiate(task: RecordGradientsTask): Promise<RecordGradientsResult> {
    assertOpen();
    checkRecordTask(shape, task);
    const next = begin(task.timeLimitMs);
    const { body, head } = splitModel(manifest, task.parameters);
    const length = parameterCount(manifest);
    const losses = new Float64Array(task.records.length);
    const gradients = new Float32Array(task.records.length * length);
    const bodyGradient = new Float64Array(body.length);
    const headGradient = new Float64Array(head.length);
    for (const [row, record] of task.records.entries()) {
      await next();
      losses[row] = oracle.perRecordGradient(body, head, task.data, record, bodyGradient, headGradient);
      gradients.set(bodyGradient, row * length);
      gradients.set(headGradient, row * length + body.length);
    }
    return { losses, gradients, zeroedRows: zeroBrokenRows(losses, gradients), assurance: 'computed here' };
  }

  return {
    manifest,
    layout: shape.layout,
    assurance: 'computed here',
    fit: train,
    recordGradients: differentiate,
    close: async () => {
      isClosed = true;
    },
  };
}
