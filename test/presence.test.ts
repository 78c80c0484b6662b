import { afterEach, describe, expect, it, vi } from 'vitest';
import { simulatedRoster } from '../experiments/in-process.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { createPresence } from '../server/coordinator/presence.ts';

const { roster, ids } = simulatedRoster(nodeCrypto, 4);

afterEach(() => {
  vi.useRealTimers();
});

function start(connected: Uint8Array[]): ReturnType<typeof createPresence> {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  return createPresence({
    roster,
    connected: () => connected,
    graceMs: 1_000,
    joinMs: 2_000,
    gatherMs: 60_000,
    onLost: () => undefined,
  });
}

describe('waiting for members', () => {
  it('ends with one line when too few come in time', async () => {
    const presence = start(ids.slice(0, 2));
    const waiting: number[] = [];
    const end = presence.gather(3, [], (count) => waiting.push(count)).catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(59_000);
    expect(waiting.length).toBeGreaterThan(5);
    await vi.advanceTimersByTimeAsync(2_000);
    const error = await end;
    expect(isCoveyError(error) && [error.code, error.message]).toEqual([
      'ROUND_TIMEOUT',
      '"members" expected at least 3 connected within 60 s, got 2; the run goes on when the coordinator is started again',
    ]);
  });

  it('takes who is there once the rest had its time, and everybody at once if all are there', async () => {
    const three = start(ids.slice(0, 3));
    const few = three.gather(3, [], () => undefined);
    await vi.advanceTimersByTimeAsync(2_100);
    expect(await few).toHaveLength(3);
    const all = start([...ids]);
    expect(await all.gather(3, [], () => undefined)).toHaveLength(4);
  });

  it('tells a member that was given up from one that was only away', async () => {
    const presence = start([...ids]);
    const [id = new Uint8Array(0)] = ids;
    presence.closed(id);
    expect(presence.opened(id)).toBe(false);
    presence.closed(id);
    await vi.advanceTimersByTimeAsync(1_001);
    expect(presence.opened(id)).toBe(true);
  });
});
