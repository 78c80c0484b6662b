import { Worker } from 'node:worker_threads';
import { CoveyError } from '../../protocol/errors.ts';
import { applyMasks, type MaskVector } from '../../protocol/ring.ts';
import { nodeCrypto } from './crypto.ts';
import { createMaskJob, type MaskJob, runMaskJob } from './mask-job.ts';

export interface MaskPoolOptions {
  /** Threads that work on one vector, the calling one included; 1 starts none. */
  readonly threads: number;
  /** Vectors that need less keystream are masked in the calling thread. */
  readonly minKeystreamBytes?: number | undefined;
  /** A thread that takes longer is ended and its part done in the calling thread. */
  readonly patienceMs?: number | undefined;
  /** Program of a thread. */
  readonly entry?: URL | undefined;
}

/** Threads that mask large vectors, each a range of coordinates: AES-CTR starts at any block. */
export interface MaskPool {
  /**
   * `applyMasks` with the same bytes. Threads are started by the first large vector and serve from the next one on. The
   * part of a thread that fails is done here; only a whole result is ever resolved with, and an error wipes `words`.
   * Secrets: threads get copies of the seeds and wipe them; a thread that dies leaves its copy to the system.
   */
  readonly mask: MaskVector;
  /** Starts the threads; resolves with how many serve once each has started or failed. */
  start(): Promise<number>;
  close(): Promise<void>;
}

/** About 3 ms of one thread's work: less is not worth the messages. */
const MIN_KEYSTREAM_BYTES = 2 ** 24;
const PATIENCE_MS = 30_000;
/** Ranges start at whole cache lines, hence at blocks of AES and at words. Units: 32-bit halves. */
const RANGE_STEP = 16;
const MAX_THREADS = 64;

interface Thread {
  readonly worker: Worker;
  /** Resolves when the thread serves or has failed. */
  readonly started: Promise<void>;
  isReady: boolean;
  /** Takes the answer to the job in hand, or null when the thread is lost. */
  answer: ((job: MaskJob | null) => void) | null;
}

/** @throws CoveyError USAGE_RANGE for a number of threads that is no integer from 1 to 64. */
export function createMaskPool(options: MaskPoolOptions): MaskPool {
  const { threads: wanted, minKeystreamBytes = MIN_KEYSTREAM_BYTES, patienceMs = PATIENCE_MS } = options;
  const { entry = new URL('./mask-worker.js', import.meta.url) } = options;
  if (!Number.isInteger(wanted) || wanted < 1 || wanted > MAX_THREADS)
    throw new CoveyError('USAGE_RANGE', `"threads" expected an integer from 1 to ${MAX_THREADS}, got ${wanted}`);
  let threads: Thread[] | null = null;
  let isClosed = false;

  function startThread(): Thread {
    const worker = new Worker(entry);
    let settle: () => void = () => undefined;
    const started = new Promise<void>((resolve) => {
      settle = resolve;
    });
    const thread: Thread = { worker, started, isReady: false, answer: null };
    // A lost thread is not replaced: what broke it would break the next one, and one thread is enough.
    const lose = (): void => {
      threads = threads?.filter((other) => other !== thread) ?? null;
      settle();
      thread.answer?.(null);
    };
    worker.on('message', (message: 'ready' | MaskJob) => {
      if (message === 'ready') {
        thread.isReady = true;
        // An idle thread keeps no process alive.
        worker.unref();
        settle();
      } else thread.answer?.(message);
    });
    worker.on('error', lose);
    worker.on('exit', lose);
    return thread;
  }

  const startAll = (): readonly Thread[] => {
    threads ??= isClosed ? [] : Array.from({ length: wanted - 1 }, startThread);
    return threads;
  };

  /** The masked range, or null if the thread failed. */
  function delegate(thread: Thread, job: MaskJob): Promise<Uint32Array | null> {
    const { length } = job.words;
    return new Promise((resolve) => {
      const timer = setTimeout(() => void thread.worker.terminate(), patienceMs);
      thread.answer = (done) => {
        clearTimeout(timer);
        thread.answer = null;
        thread.worker.unref();
        resolve(done !== null && done.words.length === length ? done.words : null);
      };
      thread.worker.ref();
      thread.worker.postMessage(job, [job.words.buffer, job.seeds.buffer]);
    });
  }

  const mask: MaskVector = async (words, lanes, seeds) => {
    const isLarge = wanted > 1 && words.byteLength * seeds.length >= minKeystreamBytes;
    const idle = isLarge ? startAll().filter(({ isReady, answer }) => isReady && answer === null) : [];
    try {
      if (idle.length === 0) {
        applyMasks(words, lanes, seeds, nodeCrypto);
        return;
      }
      const share = RANGE_STEP * Math.ceil(words.length / (idle.length + 1) / RANGE_STEP);
      const parts = idle
        .map((thread, i) => ({ thread, from: share * (i + 1), to: Math.min(share * (i + 2), words.length) }))
        .filter(({ from, to }) => from < to)
        .map(({ thread, from, to }) => {
          const job = createMaskJob(words, from, to, lanes, seeds);
          return { from, to, masked: delegate(thread, job) };
        });
      applyMasks(words.subarray(0, share), lanes, seeds, nodeCrypto);
      for (const { from, to, masked } of parts) {
        const range = await masked;
        if (range !== null) {
          words.set(range, from);
          continue;
        }
        // The vector still holds this range unmasked: a lost thread changed a copy.
        const job = createMaskJob(words, from, to, lanes, seeds);
        runMaskJob(job);
        words.set(job.words, from);
      }
    } catch (error) {
      words.fill(0);
      throw error;
    }
  };

  return {
    mask,
    async start() {
      await Promise.all(startAll().map(({ started }) => started));
      return threads?.length ?? 0;
    },
    async close() {
      isClosed = true;
      const open = threads ?? [];
      threads = [];
      await Promise.all(open.map(({ worker }) => worker.terminate()));
    },
  };
}
