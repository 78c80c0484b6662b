import { CoveyError } from '../../protocol/errors.ts';
import type { Store, StoreOperations } from '../../src/run/store.ts';

interface Contents {
  readonly values: Map<string, Uint8Array>;
  readonly streams: Map<string, readonly Uint8Array[]>;
}

const keyOf = (table: string, key: string): string => JSON.stringify([table, key]);

function operationsOn({ values, streams }: Contents): StoreOperations {
  return {
    get: async (table, key) => values.get(keyOf(table, key))?.slice(),
    async put(table, key, value) {
      values.set(keyOf(table, key), value);
    },
    async delete(table, key) {
      values.delete(keyOf(table, key));
    },
    async append(stream, payload) {
      const entries = streams.get(stream) ?? [];
      streams.set(stream, [...entries, payload]);
      return entries.length;
    },
    read: async (stream, from = 0) =>
      (streams.get(stream) ?? []).slice(from).map((payload, i) => ({ seq: from + i, payload: payload.slice() })),
  };
}

/** A store that lasts as long as the process: for tests and federations in one process. */
export function createMemoryStore(): Store {
  let contents: Contents = { values: new Map(), streams: new Map() };
  let queue: Promise<unknown> = Promise.resolve();
  let isClosed = false;

  function enqueue<T>(work: (operations: StoreOperations) => Promise<T>): Promise<T> {
    if (isClosed)
      return Promise.reject(new CoveyError('USAGE_STATE', '"store" expected an open store, got a closed one'));
    const result = queue.then(() => work(operationsOn(contents)));
    queue = result.catch(() => undefined);
    return result;
  }

  return {
    get: (table, key) => enqueue((operations) => operations.get(table, key)),
    put(table, key, value) {
      const copy = new Uint8Array(value);
      return enqueue((operations) => operations.put(table, key, copy));
    },
    delete: (table, key) => enqueue((operations) => operations.delete(table, key)),
    append(stream, payload) {
      const copy = new Uint8Array(payload);
      return enqueue((operations) => operations.append(stream, copy));
    },
    read: (stream, from) => enqueue((operations) => operations.read(stream, from)),
    transaction: (work) =>
      enqueue(async () => {
        const draft: Contents = { values: new Map(contents.values), streams: new Map(contents.streams) };
        const tx = operationsOn(draft);
        const result = await work({
          ...tx,
          put: (table, key, value) => tx.put(table, key, new Uint8Array(value)),
          append: (stream, payload) => tx.append(stream, new Uint8Array(payload)),
        });
        contents = draft;
        return result;
      }),
    async close() {
      const last = queue;
      isClosed = true;
      await last;
    },
  };
}
