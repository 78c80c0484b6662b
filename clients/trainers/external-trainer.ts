import { systemClock } from '../../platform/node/clock.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import type { ModelManifest } from '../../src/learning/manifest.ts';
import { shown } from '../../src/learning/shown.ts';
import {
  checkFinite,
  checkFitTask,
  checkRecordTask,
  type FitResult,
  type FitTask,
  layoutOf,
  type RecordGradientsResult,
  type RecordGradientsTask,
  type Trainer,
  type TrainerShape,
  zeroBrokenRows,
} from '../../src/learning/trainer.ts';
import { type LineProcess, startLineProcess } from './line-process.ts';
import { createTrainerFolder, LOSSES, type TrainerFolder } from './trainer-files.ts';

/** Version of what is spoken with a training program (docs/trainers.md). */
const PROTOCOL = 'covey-trainer/1';
const START_LIMIT_MS = 60_000;
const MAX_METRICS = 64;

/** A training program of the site. */
export interface ExternalTrainerOptions {
  readonly manifest: ModelManifest;
  /** Units: features of a record, classes of a label. */
  readonly featureLength: number;
  readonly classes: number;
  readonly crypto: CryptoProvider;
  /** Program and arguments, started as they are, without a shell. */
  readonly command: string;
  readonly args: readonly string[];
  /** Variables that the program needs; of Covey's own it sees PATH, HOME and the language only. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Where the folder with records and models is made; a disk in memory or an encrypted one. */
  readonly temporaryFolder?: string;
  /** Time until the program must have said that it is ready. */
  readonly startLimitMs?: number;
  /** Receives the program's standard error; it may show records, so it must stay at the site. */
  onLog?(line: string): void;
}

type Answer = Record<string, unknown>;
/** Time that a task has left. @throws CoveyError DEP_TRAINER_TIMEOUT if none. */
type Remaining = () => number;

function outputError(message: string): CoveyError {
  return new CoveyError('DEP_TRAINER_OUTPUT', message);
}

/** A text of the program for a message. */
const said = (value: unknown): string => shown(value, 200);

function readMetrics(value: unknown): Record<string, number> {
  const entries = typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.entries(value) : null;
  if (entries === null || entries.length > MAX_METRICS) throw outputError('"metrics" expected an object of numbers');
  for (const [name, number] of entries) {
    if (!/^[\w.-]{1,64}$/.test(name) || typeof number !== 'number')
      throw outputError(`"metrics" expected names of letters with finite numbers, got ${said(name)}`);
  }
  return Object.fromEntries(entries) as Record<string, number>;
}

/**
 * Starts a training program and returns it as a trainer. A program that fails a task (time, crash, garbage) is killed
 * and started anew for the next one. What cannot be seen from outside is named by the assurance of the results.
 * Not guaranteed: confinement. The program runs with the rights of this user and sees all records of its tasks.
 * @throws CoveyError DEP_TRAINER_START, DEP_TRAINER_EXIT, DEP_TRAINER_OUTPUT or DEP_TRAINER_TIMEOUT, USAGE_CONFIG if it
 * is made for another layout.
 */
export async function openExternalTrainer(options: ExternalTrainerOptions): Promise<Trainer> {
  const { manifest, featureLength, classes } = options;
  if (manifest.tensors.some(({ name }) => name === LOSSES || name === '__metadata__'))
    throw new CoveyError('USAGE_CONFIG', `"tensors" expected names other than ${LOSSES} and __metadata__`);
  const shape: TrainerShape = { manifest, layout: layoutOf(options.crypto, manifest), featureLength, classes };
  const folder: TrainerFolder = await createTrainerFolder(options.temporaryFolder);
  let running: LineProcess | null = null;
  let closing: Promise<void> | null = null;
  const startLimitMs = options.startLimitMs ?? START_LIMIT_MS;
  const reported = new WeakSet<CoveyError>();
  let numbers = 0;
  let last: Promise<unknown> = Promise.resolve();

  function assertOpen(): void {
    if (closing !== null) throw new CoveyError('USAGE_STATE', 'the trainer is closed');
  }

  async function start(limitMs: number): Promise<LineProcess> {
    assertOpen();
    const started = startLineProcess({
      command: options.command,
      args: options.args,
      folder: folder.path,
      environment: options.environment,
      onLog: (line) => options.onLog?.(line),
    });
    running = started;
    try {
      const { layout } = shape;
      const answer = await started.ask(
        { type: 'hello', protocol: PROTOCOL, layout, tensors: manifest.tensors, featureLength, classes },
        limitMs,
      );
      if (answer['type'] === 'failed')
        throw new CoveyError('DEP_TRAINER_START', `the training program failed: ${said(answer['message'])}`);
      if (answer['type'] !== 'ready' || answer['protocol'] !== PROTOCOL)
        throw outputError(`"ready" expected with protocol ${PROTOCOL}, got ${said(answer)}`);
      if (answer['layout'] !== layout)
        throw new CoveyError(
          'USAGE_CONFIG',
          `"layout" expected ${layout.slice(0, 16)}, got a training program made for ${said(answer['layout']).slice(0, 16)}`,
        );
      return started;
    } catch (error) {
      await started.end();
      throw error;
    }
  }

  /** The running program, or a new one; what the last one wrote without being asked is reported once. */
  async function usable(remainingMs: Remaining): Promise<LineProcess> {
    const failure = running?.failure();
    if (running !== null && failure === null) return running;
    running = null;
    if (failure?.code === 'DEP_TRAINER_OUTPUT' && !reported.has(failure)) {
      reported.add(failure);
      throw failure;
    }
    return start(Math.min(startLimitMs, remainingMs()));
  }

  /** Asks, checks who is answered, and gives the program up if the answer or its files are not as agreed. */
  async function ask<T>(
    message: object,
    type: string,
    remainingMs: Remaining,
    read: (answer: Answer) => Promise<T>,
  ): Promise<T> {
    const program = await usable(remainingMs);
    try {
      const id = ++numbers;
      const limitMs = remainingMs();
      const answer = await program.ask({ ...message, id, timeLimitMs: Math.floor(limitMs) }, limitMs);
      if (answer['id'] !== id) throw outputError(`"id" expected ${id}, got ${said(answer['id'])}`);
      // The program is in order and says so: it may keep running.
      if (answer['type'] === 'failed')
        throw new CoveyError('DEP_TRAINER_EXIT', `the training program failed: ${said(answer['message'])}`);
      if (answer['type'] !== type) throw outputError(`"type" expected ${type}, got ${said(answer['type'])}`);
      return await read(answer);
    } catch (error) {
      if (error instanceof CoveyError && error.code === 'DEP_TRAINER_OUTPUT') {
        reported.add(error);
        await program.end();
      }
      throw error;
    }
  }

  /** Runs tasks one after another; none starts once the trainer is closed. */
  function queue<T>(timeLimitMs: number, task: (remainingMs: Remaining) => Promise<T>): Promise<T> {
    const deadline = systemClock.monotonicMs() + timeLimitMs;
    const next = last.then(() => {
      assertOpen();
      return task(() => {
        const remaining = deadline - systemClock.monotonicMs();
        if (remaining > 0) return remaining;
        throw new CoveyError('DEP_TRAINER_TIMEOUT', `training expected an end within ${timeLimitMs} ms`);
      });
    });
    last = next.catch(() => undefined);
    return next;
  }

  async function train(task: FitTask, remainingMs: Remaining): Promise<FitResult> {
    checkFitTask(shape, task);
    const data = await folder.writeData(task.data);
    const parameters = await folder.writeParameters(manifest, shape.layout, task.parameters);
    const result = folder.fresh('result');
    const { layout, epochs, batchSize, optimizer, seed } = task;
    const message = { type: 'fit', layout, parameters, data, result, epochs, batchSize, optimizer, seed };
    try {
      return await ask(message, 'fitted', remainingMs, async ({ numExamples, metrics }) => {
        // More examples than it was given would be a weight out of nothing.
        if (!Number.isInteger(numExamples) || (numExamples as number) < 0 || (numExamples as number) > task.data.count)
          throw outputError(`"numExamples" expected 0 to ${task.data.count}, got ${said(numExamples)}`);
        return checkFinite({
          parameters: await folder.readParameters(result, manifest),
          numExamples: numExamples as number,
          metrics: readMetrics(metrics ?? {}),
          assurance: 'trusted trainer',
        });
      });
    } finally {
      await folder.drop(parameters, result);
    }
  }

  async function differentiate(task: RecordGradientsTask, remainingMs: Remaining): Promise<RecordGradientsResult> {
    checkRecordTask(shape, task);
    const data = await folder.writeData(task.data);
    const parameters = await folder.writeParameters(manifest, shape.layout, task.parameters);
    const records = await folder.writeRecords(task.records);
    const result = folder.fresh('result');
    const { layout } = task;
    const message = { type: 'recordGradients', layout, parameters, data, records, result };
    try {
      return await ask(message, 'gradients', remainingMs, async () => {
        const { losses, gradients } = await folder.readGradients(result, manifest, task.records.length);
        return { losses, gradients, zeroedRows: zeroBrokenRows(losses, gradients), assurance: 'trusted trainer' };
      });
    } finally {
      await folder.drop(parameters, records, result);
    }
  }

  try {
    await start(startLimitMs);
  } catch (error) {
    await folder.remove();
    throw error;
  }
  return {
    manifest,
    layout: shape.layout,
    assurance: 'trusted trainer',
    fit: (task) => queue(task.timeLimitMs, (remainingMs) => train(task, remainingMs)),
    recordGradients: (task) => queue(task.timeLimitMs, (remainingMs) => differentiate(task, remainingMs)),
    close: () => {
      closing ??= (async () => {
        await running?.end();
        // The task that was running has failed by now and has let go of its files.
        await last;
        await folder.remove();
      })();
      return closing;
    },
  };
}
