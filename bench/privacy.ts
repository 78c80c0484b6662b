import {
  calibrateNoiseMultiplier,
  type DpEvent,
  type PldOptions,
  pldAccountant,
  rdpAccountant,
} from '../src/privacy/index.ts';
import { cpuMs, median } from './session.ts';

/*
 * Accounting: CPU time of the loss-distribution accountant and of one ledger update. Every repetition asks for another
 * noise multiplier, so that nothing remembered from an earlier one helps.
 */

const DELTA = 1e-6;
let salt = 0;

function release(probability: number, noiseMultiplier: number): DpEvent {
  return { kind: 'poissonSampled', probability, event: { kind: 'gaussian', noiseMultiplier } };
}

/** Unused so far, and within a relative 1e-9 of z. */
function fresh(z: number): number {
  salt += 1;
  return z * (1 + salt * 1e-12);
}

function timed(work: () => void, repeats = 9): number {
  work();
  return median(
    Array.from({ length: repeats }, () => {
      const before = cpuMs();
      work();
      return cpuMs() - before;
    }),
  );
}

function epsilon(options: PldOptions, count: number): number {
  return pldAccountant(options)
    .compose(release(0.01, fresh(1)), count)
    .epsilon(DELTA);
}

console.log(`Node ${process.version}, one thread, CPU time, medians; q = 0.01, z = 1, delta = ${DELTA}.\n`);
console.log('| task | time | goal | over-estimate against grid 1e-5 |');
console.log('|---|---|---|---|');
for (const count of [1000, 10_000]) {
  const fine = epsilon({ gridStep: 1e-5 }, count);
  const rows = [
    ['grid 1e-4', { gridStep: 1e-4 }, 100],
    ['automatic grid', {}, 20],
  ] as const;
  for (const [name, options, goal] of rows) {
    const over = epsilon(options, count) / fine - 1;
    const ms = timed(() => epsilon(options, count));
    console.log(`| ${count} steps, ${name} | ${ms.toFixed(1)} ms | ${goal} ms | ${over.toExponential(1)} |`);
  }
}
const calibration = timed(() => {
  calibrateNoiseMultiplier(
    { epsilon: 1, delta: DELTA },
    (z) => [{ event: release(0.01, fresh(z)), count: 1000 }],
    pldAccountant(),
  );
}, 5);
console.log(`| calibration to epsilon 1, 1000 steps | ${calibration.toFixed(0)} ms | 300 ms | - |`);
const rounds = timed(() => {
  let accountant = pldAccountant();
  for (let i = 0; i < 20; i++) {
    accountant = accountant.compose(release(0.01 + 0.002 * i, fresh(1 + 0.05 * i)));
    accountant.epsilon(DELTA);
  }
}, 5);
console.log(`| 20 different rounds, epsilon after each | ${rounds.toFixed(0)} ms | 300 ms | - |`);
const ledger = rdpAccountant().compose(release(0.01, 1), 100);
const update = timed(() => void ledger.compose(release(0.01, fresh(1))).epsilon(DELTA), 25);
console.log(`| ledger update, Renyi | ${update.toFixed(1)} ms | 5 ms | - |`);
