import { modelCrypto } from './model-crypto.ts';
import { type Fault, runWorld, Violation, type WorldReport, type WorldSettings } from './world.ts';

/*
 * A small world - three members, two rounds, everything in order - with every fault at every place, and every pair of them.
 * Deliveries to different processes commute (a step reads and writes one process), so one order of them stands for all; what
 * is left to choose is where a process dies and which packet is lost or repeated. Each run must keep every invariant, end,
 * and release both rounds: no two faults may cost more than time.
 */

const SMALL: WorldSettings = {
  seed: 1,
  crypto: modelCrypto,
  members: 3,
  rounds: 2,
  crash: 0,
  lose: 0,
  repeat: 0,
  malicious: false,
  faults: [],
};

function run(faults: readonly Fault[]): WorldReport {
  try {
    const report = runWorld({ ...SMALL, faults });
    if (report.releases !== SMALL.rounds)
      throw new Violation(`only ${report.releases} of ${SMALL.rounds} rounds were released`, report.trace);
    return report;
  } catch (error) {
    const trace = error instanceof Violation ? error.trace.slice(-40) : [];
    throw new Violation(`${JSON.stringify(faults)}: ${(error as Error).message}\n${trace.join('\n')}`, trace);
  }
}

/** Every place of one fault in a run that has `before` already. */
function places({ actions, packets }: WorldReport): Fault[] {
  const crashes = actions.flatMap((count, index): Fault[] => {
    const actor = index === SMALL.members ? 'coordinator' : index;
    return Array.from({ length: count }, (_, at) => ({ kind: 'crash', actor, at }));
  });
  const losses = Array.from({ length: packets }, (_, at): Fault[] => [
    { kind: 'lose', at },
    { kind: 'repeat', at },
  ]);
  return [...crashes, ...losses.flat()];
}

const placeOf = (fault: Fault): string => (fault.kind === 'crash' ? `${fault.actor}` : 'packet');

export interface ExplorationTotals {
  readonly places: number;
  readonly runs: number;
  readonly steps: number;
}

/**
 * Explores all single faults, and with `every` >= 1 the pairs: every first fault with each `every`-th of the places that the
 * run with it has (1: all). Pairs on one process or on packets are kept in order, others are symmetric and run once.
 * @throws Violation naming the faults.
 */
export function explore(every: number): ExplorationTotals {
  const first = places(run([]));
  let runs = 1;
  let steps = 0;
  for (const [i, fault] of first.entries()) {
    const report = run([fault]);
    runs += 1;
    steps += report.steps;
    if (every === 0) continue;
    for (const [j, second] of places(report).entries()) {
      if ((i + j) % every !== 0) continue;
      // What happened before the first fault was explored with that one as the first.
      if (placeOf(second) === placeOf(fault) && second.at <= fault.at) continue;
      steps += run([fault, second]).steps;
      runs += 1;
    }
  }
  return { places: first.length, runs, steps };
}

/** `npm run explore -- [--every N]`: all pairs by default. */
function main(): void {
  const at = process.argv.indexOf('--every');
  const every = at < 0 ? 1 : Number(process.argv[at + 1]);
  if (!Number.isSafeInteger(every) || every < 0) {
    process.stderr.write(`"every" expected an integer >= 0, got ${process.argv[at + 1]}\n`);
    process.exitCode = 2;
    return;
  }
  const started = performance.now();
  try {
    const { places: single, runs, steps } = explore(every);
    const seconds = ((performance.now() - started) / 1_000).toFixed(1);
    process.stdout.write(
      `${runs} worlds, ${single} places of a first fault, ${steps} steps in ${seconds} s: every invariant held\n`,
    );
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}

if (process.argv[1]?.endsWith('exploration.js') === true) main();
