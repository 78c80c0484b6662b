import { readdirSync, readFileSync } from 'node:fs';

/**
 * Lets a few turns of the event loop pass: only then are buffers given back at once on Node 20
 * (platform/node/release-buffer.ts). One timer is not enough; on a busy machine it is due before the first turn ends.
 */
export async function settleLoop(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setTimeout(resolve, 5));
}

const TASKS = '/proc/self/task';

/** CPU time of every thread of this process so far, or null where the system does not tell. Units: clock ticks. */
function threadTicks(): Map<string, number> | null {
  try {
    return new Map(
      readdirSync(TASKS).map((id) => {
        // The name, in parentheses, may hold spaces; user and system time are the 12th and 13th fields after it.
        const fields = readFileSync(`${TASKS}/${id}/stat`, 'utf8')
          .replace(/^.*\) /s, '')
          .split(' ');
        return [id, Number(fields[11]) + Number(fields[12])];
      }),
    );
  } catch {
    return null;
  }
}

/**
 * CPU time of the busiest thread while `work` runs: the wall time on a machine with nothing else to do, whatever else runs
 * on this one. Null where the system does not tell. Units: clock ticks, 10 ms on Linux.
 */
export async function busiestThread(work: () => Promise<void>): Promise<number | null> {
  const before = threadTicks();
  await work();
  const after = threadTicks();
  if (before === null || after === null) return null;
  return Math.max(...[...after].map(([id, ticks]) => ticks - (before.get(id) ?? 0)));
}
