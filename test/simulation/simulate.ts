import { parseArgs } from 'node:util';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { modelCrypto } from './model-crypto.ts';
import { runWorld, settingsOf, Violation } from './world.ts';

/** One seed in so many runs with the real primitives. */
const REAL_EVERY = 50;

export interface SimulationTotals {
  readonly worlds: number;
  readonly releases: number;
  /** Releases of sparse worlds, which are among all. */
  readonly sparseReleases: number;
  readonly crashes: number;
  readonly lies: number;
  readonly steps: number;
  readonly aborts: Readonly<Record<string, number>>;
}

/** Runs the worlds of consecutive seeds. @throws Violation of the first that breaks an invariant, with its seed. */
export function simulate(
  first: number,
  count: number,
  onWorld: (done: number) => void = () => undefined,
): SimulationTotals {
  const aborts: Record<string, number> = {};
  let [releases, sparseReleases, crashes, lies, steps] = [0, 0, 0, 0, 0];
  for (let seed = first; seed < first + count; seed++) {
    try {
      const settings = settingsOf(seed, seed % REAL_EVERY === 0 ? nodeCrypto : modelCrypto);
      const report = runWorld(settings);
      releases += report.releases;
      if (settings.profile === 'sparse') sparseReleases += report.releases;
      crashes += report.crashes;
      lies += report.lies;
      steps += report.steps;
      for (const [code, n] of Object.entries(report.aborts)) aborts[code] = (aborts[code] ?? 0) + n;
      const isCalm = settings.crash + settings.lose + settings.repeat === 0 && !settings.malicious;
      if (isCalm && report.releases !== settings.rounds)
        throw new Violation('a world in which nothing goes wrong did not release every round', report.trace);
    } catch (error) {
      const trace = error instanceof Violation ? error.trace.slice(-60) : [];
      throw new Violation(
        `seed ${seed}: ${(error as Error).message}\nreplay: npm run simulate -- --seed ${seed} --seeds 1`,
        trace,
      );
    }
    onWorld(seed - first + 1);
  }
  return { worlds: count, releases, sparseReleases, crashes, lies, steps, aborts };
}

/** `npm run simulate -- --seeds N [--seed FIRST]`. */
function main(): void {
  const { values } = parseArgs({
    options: { seeds: { type: 'string', default: '1000' }, seed: { type: 'string', default: '0' } },
  });
  const [count, first] = [Number(values.seeds), Number(values.seed)];
  if (!Number.isSafeInteger(count) || count < 1 || !Number.isSafeInteger(first) || first < 0) {
    process.stderr.write(
      `"seeds" expected an integer >= 1 and "seed" one >= 0, got ${values.seeds} and ${values.seed}\n`,
    );
    process.exitCode = 2;
    return;
  }
  const started = performance.now();
  try {
    const totals = simulate(first, count, (done) => {
      if (process.stderr.isTTY && done % 100 === 0) process.stderr.write(`\r${done} of ${count} worlds`);
    });
    const seconds = ((performance.now() - started) / 1_000).toFixed(1);
    const codes = Object.entries(totals.aborts)
      .sort(([, a], [, b]) => b - a)
      .map(([code, n]) => `  ${String(n).padStart(8)} ${code}`);
    process.stdout.write(
      `${totals.worlds} worlds in ${seconds} s: ${totals.releases} releases (${totals.sparseReleases} sparse), ${totals.crashes} crashes, ${totals.lies} lies, ${totals.steps} steps; every invariant held\nends other than a release:\n${codes.join('\n')}\n`,
    );
  } catch (error) {
    const { message, trace } = error as Violation;
    process.stderr.write(`${message}\nlast steps:\n${trace.join('\n')}\n`);
    process.exitCode = 1;
  }
}

if (process.argv[1]?.endsWith('simulate.js') === true) main();
