import { toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import type { Dataset } from '../data/dataset.ts';
import { type ModelManifest, manifestHash } from './manifest.ts';
import { checkOptimizer, type OptimizerSpec } from './optimizer.ts';
import type { Model } from './oracle.ts';

/**
 * Who vouches for a result. `computed here`: Covey's own gradients. `trusted trainer`: a program of the site, of which
 * Covey checks shapes, lengths and finite numbers only; that a record's row depends on this record alone, or that the
 * parameters were trained on these records at all, rests on that program. Ledgers and reports print this word.
 */
export type Assurance = 'computed here' | 'trusted trainer';

/**
 * What every task of a trainer names. Shapes: `parameters` body, then head, each flattened in the order of the manifest.
 * `layout`: hash of the manifest that the parameters follow, so that models of equal length are not mixed up.
 * `timeLimitMs`: time from the call until the trainer must have answered.
 */
export interface TrainerTask {
  readonly layout: string;
  readonly parameters: Float32Array;
  readonly data: Dataset;
  readonly timeLimitMs: number;
}

/** Local training from the given parameters. `seed` (32 bits) orders the minibatches. */
export interface FitTask extends TrainerTask {
  readonly epochs: number;
  readonly batchSize: number;
  readonly optimizer: OptimizerSpec;
  readonly seed: number;
}

/** Units: `numExamples` in records, local knowledge that must not leave the site in clear; `metrics` are finite. */
export interface FitResult {
  readonly parameters: Float32Array;
  readonly numExamples: number;
  readonly metrics: Readonly<Record<string, number>>;
  readonly assurance: Assurance;
}

/** Gradients of single records at the given parameters, for the unit record. */
export interface RecordGradientsTask extends TrainerTask {
  readonly records: Uint32Array;
}

/**
 * Shapes: `losses` rows, `gradients` rows x parameters; row i belongs to `records[i]`.
 * A row that was not finite is all zeros and counted in `zeroedRows`: to refuse it would tell something about the record.
 */
export interface RecordGradientsResult {
  readonly losses: Float64Array;
  readonly gradients: Float32Array;
  readonly zeroedRows: number;
  readonly assurance: Assurance;
}

/**
 * Trains models of one layout; no type of a tensor library crosses it. Every answer is a function of the task alone:
 * nothing is remembered from one task to the next, nor shared by tasks that are open at a time.
 * @throws CoveyError USAGE_RANGE or USAGE_CONFIG for a task that does not fit, USAGE_DIVERGED if training leaves the
 * finite numbers, DEP_TRAINER_TIMEOUT after the time limit, USAGE_STATE once closed. All of these depend on the data:
 * whoever releases the result sends a zero update instead, at the usual time (privacy section 3.5).
 */
export interface Trainer {
  readonly manifest: ModelManifest;
  /** Hash of the manifest in hex. */
  readonly layout: string;
  readonly assurance: Assurance;
  fit(task: FitTask): Promise<FitResult>;
  recordGradients(task: RecordGradientsTask): Promise<RecordGradientsResult>;
  close(): Promise<void>;
}

/** Most values that one answer with gradients of records may hold; more records are asked for in blocks. */
export const MAX_GRADIENT_VALUES: number = 2 ** 26;

/** Number of parameters of a model. */
export function parameterCount(manifest: ModelManifest): number {
  return manifest.bodyLength + manifest.headLength;
}

/** Hash of a manifest in hex, as tasks name it. */
export function layoutOf(crypto: CryptoProvider, manifest: ModelManifest): string {
  return toHex(manifestHash(crypto, manifest));
}

/** Joins body and head into the parameters of a task. */
export function flattenModel(model: {
  readonly body: ArrayLike<number>;
  readonly head: ArrayLike<number>;
}): Float32Array {
  const flat = new Float32Array(model.body.length + model.head.length);
  flat.set(model.body);
  flat.set(model.head, model.body.length);
  return flat;
}

/** Cuts the parameters of a task into body and head, in doubles of their own. @throws CoveyError USAGE_RANGE */
export function splitModel(manifest: ModelManifest, parameters: Float32Array): Model {
  if (parameters.length !== parameterCount(manifest)) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"parameters" expected ${parameterCount(manifest)} values, got ${parameters.length}`,
    );
  }
  return {
    body: Float64Array.from(parameters.subarray(0, manifest.bodyLength)),
    head: Float64Array.from(parameters.subarray(manifest.bodyLength)),
  };
}

function checkInteger(name: string, value: number, low: number, high: number): void {
  if (!Number.isInteger(value) || value < low || value > high)
    throw new CoveyError('USAGE_RANGE', `"${name}" expected an integer from ${low} to ${high}, got ${value}`);
}

/** What a trainer knows of the tasks that it takes. */
export interface TrainerShape {
  readonly manifest: ModelManifest;
  readonly layout: string;
  readonly featureLength: number;
  readonly classes: number;
}

function checkTask({ manifest, layout, featureLength, classes }: TrainerShape, task: TrainerTask): void {
  if (task.layout !== layout) {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"layout" expected parameters of ${layout.slice(0, 16)}, got those of ${task.layout.slice(0, 16)}`,
    );
  }
  splitModel(manifest, task.parameters);
  const { data } = task;
  if (data.featureLength !== featureLength || data.classes > classes) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"data" expected ${featureLength} features and at most ${classes} classes, got ${data.featureLength} and ${data.classes}`,
    );
  }
  if (!(task.timeLimitMs > 0 && task.timeLimitMs <= 0x7fff_ffff))
    throw new CoveyError('USAGE_RANGE', `"timeLimitMs" expected a positive number, got ${task.timeLimitMs}`);
}

/** Refuses a training task that does not fit the model, before anything is allocated or sent. */
export function checkFitTask(shape: TrainerShape, task: FitTask): void {
  checkTask(shape, task);
  checkInteger('epochs', task.epochs, 1, 1_000_000);
  checkInteger('batchSize', task.batchSize, 1, 1_000_000);
  checkInteger('seed', task.seed, 0, 0xffff_ffff);
  checkInteger('data.count', task.data.count, 1, 0xffff_ffff);
  checkOptimizer(task.optimizer);
}

/** Refuses a task for gradients of records that does not fit the model and the data. */
export function checkRecordTask(shape: TrainerShape, task: RecordGradientsTask): void {
  checkTask(shape, task);
  for (const record of task.records) {
    if (record >= task.data.count)
      throw new CoveyError('USAGE_RANGE', `"records" expected numbers below ${task.data.count}, got ${record}`);
  }
  const values = task.records.length * parameterCount(shape.manifest);
  if (values > MAX_GRADIENT_VALUES) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"records" expected at most ${MAX_GRADIENT_VALUES} values of gradients, got ${values}; ask in blocks`,
    );
  }
}

function isFiniteArray(values: ArrayLike<number>, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (!Number.isFinite(values[i])) return false;
  return true;
}

/** Checks trained parameters and metrics. @throws CoveyError USAGE_DIVERGED if one is not finite. */
export function checkFinite(result: FitResult): FitResult {
  const values = Object.values(result.metrics);
  if (!isFiniteArray(result.parameters, 0, result.parameters.length) || !isFiniteArray(values, 0, values.length))
    throw new CoveyError('USAGE_DIVERGED', '"parameters" expected finite numbers after training');
  return result;
}

/** Turns rows that are not finite into zeros, in place, and returns their number. */
export function zeroBrokenRows(losses: Float64Array, gradients: Float32Array): number {
  const length = losses.length === 0 ? 0 : gradients.length / losses.length;
  let zeroed = 0;
  for (let row = 0; row < losses.length; row++) {
    if (Number.isFinite(losses[row]) && isFiniteArray(gradients, row * length, (row + 1) * length)) continue;
    gradients.fill(0, row * length, (row + 1) * length);
    zeroed++;
  }
  return zeroed;
}
