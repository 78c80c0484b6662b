import type { HeadKeeper } from '../../clients/core/dataset-book.ts';
import type { Store, StoreOperations } from '../../src/run/store.ts';

/**
 * Where a process dies: before a write reaches the disk, inside of a transaction whose writes were all made but not
 * committed, or right after the write, before anybody hears of it.
 */
export const MOMENTS = ['before', 'inside', 'after'] as const;
export type Moment = (typeof MOMENTS)[number];

export interface Crash {
  /** A view of the store that is gone once the process is dead; what was written stays in `inner`. */
  store(inner: Store): Store;
  /** A store of somebody who dies with it: its writes do not count. */
  shadow(inner: Store): Store;
  heads(inner: HeadKeeper): HeadKeeper;
  /** Writes so far. */
  writes(): number;
  isDead(): boolean;
  /** Resolves when the process dies. */
  readonly died: Promise<void>;
}

/** Dies at write number `at`, counted from 1 over everything that is wrapped. */
export function createCrash(at: number, moment: Moment): Crash {
  let count = 0;
  let dead = false;
  let die: () => void = () => undefined;
  const died = new Promise<void>((resolve) => {
    die = resolve;
  });
  const gone = (): Error => new Error('the process is dead');
  const kill = (): never => {
    dead = true;
    die();
    throw gone();
  };
  async function write<T>(work: (inside: boolean) => Promise<T>): Promise<T> {
    if (dead) throw gone();
    count += 1;
    if (count !== at) return work(false);
    if (moment === 'before') return kill();
    await work(moment === 'inside').catch((error: unknown) => {
      if (!dead) throw error;
    });
    return kill();
  }
  const read = <T>(work: () => Promise<T>): Promise<T> => (dead ? Promise.reject(gone()) : work());
  return {
    store: (inner) => ({
      get: (table, key) => read(() => inner.get(table, key)),
      read: (stream, from) => read(() => inner.read(stream, from)),
      put: (table, key, value) => write(async (inside) => (inside ? undefined : inner.put(table, key, value))),
      delete: (table, key) => write(async (inside) => (inside ? undefined : inner.delete(table, key))),
      append: (stream, payload) => write(async (inside) => (inside ? 0 : inner.append(stream, payload))),
      transaction: <T>(work: (tx: StoreOperations) => Promise<T>) =>
        write((inside) =>
          inner.transaction(async (tx) => {
            const result = await work(tx);
            // Everything was written, nothing is committed.
            if (inside) kill();
            return result;
          }),
        ),
      close: () => inner.close(),
    }),
    shadow: (inner) => ({
      get: (table, key) => read(() => inner.get(table, key)),
      read: (stream, from) => read(() => inner.read(stream, from)),
      put: (table, key, value) => read(() => inner.put(table, key, value)),
      delete: (table, key) => read(() => inner.delete(table, key)),
      append: (stream, payload) => read(() => inner.append(stream, payload)),
      transaction: (work) => read(() => inner.transaction(work)),
      close: () => inner.close(),
    }),
    heads: (inner) => ({
      load: () => read(() => inner.load()),
      save: (head) => write(async (inside) => (inside ? undefined : inner.save(head))),
    }),
    writes: () => count,
    isDead: () => dead,
    died,
  };
}

/** Heads in memory, which outlive a process as a file does. */
export function createHeads(): HeadKeeper {
  let kept: Awaited<ReturnType<HeadKeeper['load']>> = null;
  return {
    load: async () => kept,
    async save(head) {
      kept = head;
    },
  };
}
