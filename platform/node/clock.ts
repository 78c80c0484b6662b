/** Time as drivers see it; the one home of the wall clock. */
export interface Clock {
  /** Wall clock in RFC 3339 and UTC; for entries of logs, never for a deadline. */
  now(): string;
  /** Time that never jumps back. Units: milliseconds since an arbitrary start. */
  monotonicMs(): number;
}

/** The operating system's clock. */
export const systemClock: Clock = {
  now: () => new Date().toISOString(),
  monotonicMs: () => performance.now(),
};
