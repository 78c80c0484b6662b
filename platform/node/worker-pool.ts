import { availableParallelism } from 'node:os';
import { parentPort, Worker } from 'node:worker_threads';
import { CoveyError, type ErrorCode, type ErrorDetail, isCoveyError } from '../../protocol/errors.ts';

/** Settings of a pool. */
export interface WorkerPoolOptions {
  /** Threads; as many as processors by default. */
  readonly workers?: number;
  /** Largest heap of JavaScript values of one thread. Units: megabytes. */
  readonly maxHeapMegabytes?: number;
}

/** Threads that run one job after another. */
export interface WorkerPool<Input, Output> {
  readonly workers: number;
  /**
   * Runs the job of the pool on every input and returns the outputs in the order of the inputs. Inputs and outputs are
   * copied. If jobs fail, the error of the first of them in that order is thrown, however many threads there are; jobs
   * behind it may not have run.
   */
  map(inputs: readonly Input[]): Promise<Output[]>;
  close(): Promise<void>;
}

interface Request {
  readonly index: number;
  readonly input: unknown;
}

/** An error as plain values: classes do not cross threads. */
interface SentError {
  readonly code: ErrorCode | null;
  readonly message: string;
  readonly detail: ErrorDetail;
}

type Reply =
  | { readonly index: number; readonly output: unknown }
  | { readonly index: number; readonly error: SentError };

function sendError(error: unknown): SentError {
  if (isCoveyError(error)) return { code: error.code, message: error.message, detail: error.detail };
  return { code: null, message: error instanceof Error ? error.message : String(error), detail: {} };
}

function receiveError({ code, message, detail }: SentError, index: number): Error {
  return code === null
    ? new CoveyError('INTERNAL_INVARIANT', `job ${index} failed: ${message}`, { job: index })
    : new CoveyError(code, message, detail);
}

/**
 * Serves the jobs of a pool; called once, at the top of the module that the pool starts. The job must be a function of
 * its input alone (randomness from seeds in the input, nothing kept between jobs): which thread runs it, and after
 * which other jobs, is not defined.
 */
export function serveJobs<Input, Output>(job: (input: Input) => Output | Promise<Output>): void {
  const port = parentPort;
  if (port === null) throw new CoveyError('USAGE_STATE', 'jobs are served in a thread of a pool only');
  port.on('message', async ({ index, input }: Request) => {
    let reply: Reply;
    try {
      reply = { index, output: await job(input as Input) };
      port.postMessage(reply);
    } catch (error) {
      // Outputs that cannot be copied end here too.
      port.postMessage({ index, error: sendError(error) } satisfies Reply);
    }
  });
}

/** One thread and the job that it has. */
interface Slot {
  readonly thread: Worker;
  onReply: (reply: Reply) => void;
  index: number;
}

/**
 * Starts threads that run the job of a module (one that calls `serveJobs`).
 * @throws CoveyError USAGE_RANGE for a number of threads that is not positive; the `map` of the pool throws USAGE_STATE
 * while another one runs or once closed, USAGE_RANGE for an input that cannot be copied, the CoveyError of a job as it
 * was thrown, and INTERNAL_INVARIANT for any other failure of a job or a thread.
 */
export function createWorkerPool<Input, Output>(
  module: URL,
  { workers = availableParallelism(), maxHeapMegabytes }: WorkerPoolOptions = {},
): WorkerPool<Input, Output> {
  if (!Number.isInteger(workers) || workers < 1 || workers > 1_024)
    throw new CoveyError('USAGE_RANGE', `"workers" expected an integer from 1 to 1024, got ${workers}`);
  const resourceLimits = maxHeapMegabytes === undefined ? {} : { maxOldGenerationSizeMb: maxHeapMegabytes };
  const slots: (Slot | null)[] = new Array(workers).fill(null);
  let isBusy = false;
  let isClosed = false;

  /** The thread of a place, started when it is first needed and again after it was lost. */
  function slotAt(place: number): Slot {
    const existing = slots[place];
    if (existing !== null && existing !== undefined) return existing;
    const thread = new Worker(module, { resourceLimits });
    const slot: Slot = { thread, onReply: () => undefined, index: -1 };
    let cause: unknown;
    thread.on('message', (reply: Reply) => slot.onReply(reply));
    thread.on('error', (error) => {
      cause = error;
    });
    thread.on('exit', (code) => {
      if (slots[place] === slot) slots[place] = null;
      const message = cause instanceof Error ? cause.message : `exit code ${code}`;
      slot.onReply({ index: slot.index, error: { code: null, message: `its thread ended (${message})`, detail: {} } });
    });
    slots[place] = slot;
    return slot;
  }

  function run(place: number, index: number, input: Input): Promise<Reply> {
    const slot = slotAt(place);
    return new Promise((resolve, reject) => {
      slot.index = index;
      slot.onReply = (reply) => {
        slot.onReply = () => undefined;
        resolve(reply);
      };
      try {
        slot.thread.postMessage({ index, input } satisfies Request);
      } catch (cause) {
        slot.onReply = () => undefined;
        reject(
          new CoveyError('USAGE_RANGE', `"inputs" expected values that can be copied, job ${index}`, {}, { cause }),
        );
      }
    });
  }

  async function map(inputs: readonly Input[]): Promise<Output[]> {
    if (isClosed) throw new CoveyError('USAGE_STATE', 'the pool is closed');
    if (isBusy) throw new CoveyError('USAGE_STATE', 'the pool already maps');
    isBusy = true;
    const outputs = new Array<Output>(inputs.length);
    // Jobs are handed out in order, so those before a failed one have all been started: the first error is the same
    // whatever the number of threads.
    let failed = inputs.length;
    let failure: Error | null = null;
    let next = 0;
    const noteFailure = (index: number, error: Error): void => {
      if (index >= failed) return;
      failed = index;
      failure = error;
    };
    const work = async (place: number): Promise<void> => {
      while (next < failed && !isClosed) {
        const index = next++;
        try {
          const reply = await run(place, index, inputs[index] as Input);
          if ('error' in reply) noteFailure(index, receiveError(reply.error, index));
          else outputs[index] = reply.output as Output;
        } catch (error) {
          noteFailure(index, error as Error);
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(workers, inputs.length) }, (_, place) => work(place)));
    isBusy = false;
    if (isClosed) throw new CoveyError('USAGE_STATE', 'the pool was closed');
    if (failure !== null) throw failure;
    return outputs;
  }

  return {
    workers,
    map,
    async close() {
      isClosed = true;
      await Promise.all(slots.map((slot) => slot?.thread.terminate()));
    },
  };
}
