import { compareBytes, equalBytes, toHex } from '../../protocol/bytes.ts';
import type { Roster } from '../../protocol/session.ts';

/** Who is connected, who is expected back and who is given up. */
export interface Presence {
  opened(id: Uint8Array): void;
  /** Starts the grace of a member that is away; when it ends the member is lost. */
  closed(id: Uint8Array): void;
  /** Wakes whoever waits for a change. */
  wake(): void;
  /** Resolves at the next change or when the time is up. */
  changed(ms: number): Promise<void>;
  /** Waits for enough members, and a while longer for the rest; in order of id. */
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
      lost.delete(key);
      wake();
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
        onWaiting(here.length);
        await changed(here.length >= needed ? Math.max(SHORTEST_WAIT_MS, options.joinMs - waited) : LONGEST_WAIT_MS);
      }
    },
  };
}
