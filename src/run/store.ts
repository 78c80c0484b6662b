/** One entry of an append-only stream. Units: `seq` counts from 0, without gaps. */
export interface StreamEntry {
  readonly seq: number;
  readonly payload: Uint8Array;
}

/** Reads and writes of a store. Bytes are copied at the edge: a caller may change what it passed or received. */
export interface StoreOperations {
  get(table: string, key: string): Promise<Uint8Array | undefined>;
  /** Sets a value; the old one is replaced. */
  put(table: string, key: string, value: Uint8Array): Promise<void>;
  /** Removes a value; nothing happens if there is none. */
  delete(table: string, key: string): Promise<void>;
  /** Adds to the end of a stream and returns the entry's `seq`. */
  append(stream: string, payload: Uint8Array): Promise<number>;
  /** Entries of a stream in order, from `from` (0 by default). */
  read(stream: string, from?: number): Promise<readonly StreamEntry[]>;
}

/**
 * Durable memory of a coordinator or a node: values in tables and append-only streams of bytes.
 * A write is durable when its promise resolves; operations take effect in the order in which they were called, also
 * when they were not awaited. Every implementation passes `describeStore`. @see operations, "State and recovery"
 */
export interface Store extends StoreOperations {
  /**
   * Runs `work` alone: all of its writes become durable together, or none if it rejects. `work` uses `tx` only;
   * an operation of the store itself would wait for the end of the transaction.
   */
  transaction<T>(work: (tx: StoreOperations) => Promise<T>): Promise<T>;
  /** Waits for what was called before, then gives the files free. @throws CoveyError USAGE_STATE for any later call. */
  close(): Promise<void>;
}
