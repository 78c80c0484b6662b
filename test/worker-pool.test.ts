import { afterEach, describe, expect, it } from 'vitest';
import { createWorkerPool, serveJobs, type WorkerPool, type WorkerPoolOptions } from '../platform/node/worker-pool.ts';
import { CoveyError } from '../protocol/errors.ts';
import type { PoolAnswer, PoolJob } from './support/pool-worker.ts';

/** The jobs as the build leaves them: threads run JavaScript. */
const JOBS = new URL('../dist/test/support/pool-worker.js', import.meta.url);

const opened: WorkerPool<PoolJob, PoolAnswer>[] = [];
afterEach(async () => {
  for (const pool of opened.splice(0)) await pool.close();
});

function open(options: WorkerPoolOptions = {}, module: URL = JOBS): WorkerPool<PoolJob, PoolAnswer> {
  const pool = createWorkerPool<PoolJob, PoolAnswer>(module, options);
  opened.push(pool);
  return pool;
}

const square = (value: number): PoolJob => ({ kind: 'square', value });
const refuse = (value: number): PoolJob => ({ kind: 'refuse', value });

async function failure(pool: WorkerPool<PoolJob, PoolAnswer>, jobs: readonly PoolJob[]): Promise<CoveyError> {
  const error = await pool.map(jobs).catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(CoveyError);
  return error as CoveyError;
}

describe('a pool of threads', () => {
  it('gives the outputs in the order of the inputs, with any number of threads', async () => {
    const inputs = Array.from({ length: 40 }, (_, i) => square(i));
    const expected = inputs.map((_, i) => i * i);
    for (const workers of [1, 2, 7]) expect(await open({ workers }).map(inputs)).toEqual(expected);
    const pool = open();
    expect(pool.workers).toBeGreaterThanOrEqual(1);
    expect(await pool.map([])).toEqual([]);
    // A pool is used again and again.
    expect(await pool.map(inputs)).toEqual(expected);
    expect(await pool.map(inputs.slice(0, 1))).toEqual([0]);
  });

  it.each(['dense', 'tfjs-wasm'] as const)(
    'trains participants to the same bits with any number of threads: %s',
    async (engine) => {
      const inputs = [0, 1, 2, 3].map((organization) => ({ kind: 'fit', engine, organization }) as const);
      const alone = await open({ workers: 1 }).map(inputs);
      expect(new Set(alone.map((answer) => (answer as { loss: number }).loss)).size).toBe(inputs.length);
      for (const workers of engine === 'dense' ? [2, 3] : [2]) {
        const pool = open({ workers });
        expect(await pool.map(inputs)).toEqual(alone);
        // What a thread did before does not show.
        expect(await pool.map([...inputs].reverse())).toEqual([...alone].reverse());
      }
    },
  );

  it('throws the error of the first job that fails, with its code and facts, with any number of threads', async () => {
    const jobs = [square(1), square(2), refuse(3), square(4), refuse(5), refuse(6)];
    for (const workers of [1, 2, 6]) {
      const pool = open({ workers });
      const { code, message, detail } = await failure(pool, jobs);
      expect([code, message, detail]).toEqual(['PRIVACY_BUDGET', '"epsilon" expected less, got 3', { value: 3 }]);
      // The pool survives.
      expect(await pool.map([square(9)])).toEqual([81]);
    }
  });

  it('names the job of any other failure, and replaces a thread that was lost', async () => {
    const pool = open({ workers: 2, maxHeapMegabytes: 64 });
    const cases: readonly (readonly [PoolJob, RegExp])[] = [
      [{ kind: 'throw', value: 'a text' }, /^job 1 failed: a text$/],
      [{ kind: 'uncopyable' }, /^job 1 failed: .* could not be cloned/],
      [{ kind: 'end' }, /^job 1 failed: its thread ended \(exit code 5\)$/],
      [{ kind: 'reject-later' }, /^job 1 failed: its thread ended \(nobody waits\)$/],
      [{ kind: 'overflow' }, /^job 1 failed: its thread ended \(.*memory limit/],
    ];
    for (const [job, message] of cases) {
      const error = await failure(pool, [square(1), job, square(2)]);
      expect([error.code, error.detail]).toEqual(['INTERNAL_INVARIANT', { job: 1 }]);
      expect(error.message).toMatch(message);
      expect(await pool.map([square(3), square(4)])).toEqual([9, 16]);
    }
  });

  it('refuses inputs that cannot be copied, numbers of threads that are none, and modules that are not there', async () => {
    const pool = open({ workers: 2 });
    expect((await failure(pool, [{ kind: 'throw', value: () => 0 }])).code).toBe('USAGE_RANGE');
    for (const workers of [0, -1, 1.5, Number.NaN, 5_000])
      expect(() => open({ workers })).toThrow('"workers" expected');
    const missing = open({ workers: 1 }, new URL('file:///no-such-module.js'));
    expect((await failure(missing, [square(1)])).message).toMatch(
      /^job 0 failed: its thread ended \(Cannot find module/,
    );
    expect(() => serveJobs(() => 0)).toThrow('jobs are served in a thread of a pool only');
  });

  it('maps one list at a time, and none once it is closed', async () => {
    const pool = open({ workers: 2 });
    const first = pool.map([square(2)]);
    expect((await failure(pool, [square(3)])).code).toBe('USAGE_STATE');
    expect(await first).toEqual([4]);
    const running = failure(
      pool,
      Array.from({ length: 1_000 }, (_, i) => square(i)),
    );
    await pool.close();
    expect((await running).code).toBe('USAGE_STATE');
    expect((await failure(pool, [square(3)])).code).toBe('USAGE_STATE');
  });
});
