import { compareBytes, equalBytes, toHex } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';
import type { Roster } from '../../protocol/session.ts';

/** Who is connected, who is expected back and who is given up. */
export interface Presence {
  /** True if the member had been given up. */
  opened(id: Uint8Array): boolean;
  /** Starts the grace of a member that is away; when it ends the member is lost. */
  closed(id: Uint8Array): void;
  /** Wakes whoever waits for a change. */
  wake(): void;
  /** Resolves at the next change or when the time is up. */
  changed(ms: number): Promise<void>;
  /**
   * Waits for enough members, and a while longer for the rest; in order of id.
   * @throws CoveyError ROUND_TIMEOUT if not enough have come in time.
   */
  gather(
    needed: number,
    excluded: readonly Uint8Array[],
    onWaiting: (connected: number) => void,
  ): Promise<Uint8Array[]>;
}

/** Pause between two looks at who is there. Units: milliseconds. */
const LONGEST_WAIT_MS = 5_000;
const SHORTEST_WAIT_MS = 50;

export function createPresence(options: {
  readonly roster: Roster;
  connected(): readonly Uint8Array[];
  /** How long a member may be away before it counts as lost. */
  readonly graceMs: number;
  /** How long to wait for members that are not connected once enough are. */
  readonly joinMs: number;
  /** How long to wait for enough members. */
  readonly gatherMs: number;
  onLost(id: Uint8Array): void;
}): Presence {
  const away = new Map<string, NodeJS.Timeout>();
  const lost = new Set<string>();
  let wake: () => void = () => undefined;

  const changed = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  const isExcluded = (excluded: readonly Uint8Array[], id: Uint8Array): boolean =>
    excluded.some((e) => equalBytes(e, id));

  return {
    opened(id) {
      const key = toHex(id);
      clearTimeout(away.get(key));
      away.delete(key);
      const wasLost = lost.delete(key);
      wake();
      return wasLost;
    },
    closed(id) {
      const key = toHex(id);
      if (!away.has(key)) {
        const timer = setTimeout(() => {
          away.delete(key);
          lost.add(key);
          options.onLost(id);
          wake();
        }, options.graceMs);
        away.set(key, timer);
      }
      wake();
    },
    wake: () => wake(),
    changed,
    async gather(needed, excluded, onWaiting) {
      const started = performance.now();
      for (;;) {
        const here = options.connected().filter((id) => !isExcluded(excluded, id));
        const expected = options.roster.entries.filter(
          ({ id }) => !lost.has(toHex(id)) && !isExcluded(excluded, id),
        ).length;
        const waited = performance.now() - started;
        if (here.length >= needed && (here.length >= expected || waited >= options.joinMs))
          return [...here].sort(compareBytes);
        if (here.length < needed && waited >= options.gatherMs) {
          throw new CoveyError(
            'ROUND_TIMEOUT',
            `"members" expected at least ${needed} connected within ${Math.round(options.gatherMs / 1_000)} s, got ${here.length}; the run goes on when the coordinator is started again`,
          );
        }
        onWaiting(here.length);
        const restMs = here.length >= needed ? options.joinMs - waited : options.gatherMs - waited;
        await changed(Math.min(LONGEST_WAIT_MS, Math.max(SHORTEST_WAIT_MS, restMs)));
      }
    },
  };
}
