import { algorithmChecks } from './checks/algorithms.ts';
import { documentChecks } from './checks/documents.ts';
import { lockFileChecks } from './checks/lock-file.ts';
import type { Check } from './checks/run.ts';
import { sourceChecks } from './checks/sources.ts';
import { toolChecks } from './checks/tools.ts';

/** Everything that continuous integration asks besides the tests: one line a check, exit code 1 if any fails. */
const checks: readonly Check[] = [
  ...toolChecks,
  ...lockFileChecks,
  ...sourceChecks,
  ...documentChecks,
  ...algorithmChecks,
];

let failed = 0;
for (const { name, run } of checks) {
  const started = performance.now();
  const faults = run();
  const elapsedMs = Math.round(performance.now() - started);
  if (faults.length === 0) {
    console.log(`ok ${name} (${elapsedMs} ms)`);
  } else {
    failed += 1;
    console.log(`FAILED ${name} (${elapsedMs} ms)\n${faults.map((fault) => `  ${fault}`).join('\n')}`);
  }
}
console.log(
  failed === 0 ? `verify: ${checks.length} checks ok` : `verify: ${failed} of ${checks.length} checks failed`,
);
process.exitCode = failed === 0 ? 0 : 1;
