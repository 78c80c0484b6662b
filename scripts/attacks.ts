import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What each attack tries and what stops it, in the numbering of threat-model.md. */
export const ATTACKS: readonly (readonly [number: number, tried: string, stopped: string])[] = [
  [1, 'ask one member for both shares of another', 'partition derived from one signed U3; one reply ever'],
  [2, 'show members different survivor sets', 'certificate of t signatures over the own h3'],
  [3, 'show members different cohorts or dealers', 'h1 in every dealing, masks bound to h2'],
  [4, 'substitute keys', 'signatures by enrolled keys; own advertisement byte for byte'],
  [5, 'surround a member with Sybils', 'pinned roster, organizations, distinct ids'],
  [6, 'lower the threshold, cohort, ring, clip or noise', 'every byte derived again from the run configuration'],
  [7, 'choose the graph', 'complete graph; sparse: drawn by a committee that committed'],
  [8, 'give members different models', 'modelHash in sid: masks do not cancel'],
  [9, 'leave one member alone in a cluster', 'every slot carries the noise of the whole cohort'],
  [10, 'release just below the fewest survivors', 'fit(U) checked by every member on U1, U2 and U3'],
  [11, 'abort after the reveal, rerun without the victim', 'a number is spent by its upload'],
  [12, 'difference rounds with changing membership', 'fresh noise of every round, charged each time'],
  [13, 'replay messages across rounds, groups and runs', 'every signature bound to sid and type'],
  [14, 'make a restarted member mask twice', 'durable records; masks bound to sid and h2'],
  [15, 'deal or open wrong shares', 'separate commitments under a signed root; the party is named'],
  [16, 'use the late upload of a dropped member', 'discarded unread, self mask never opened'],
  [17, 'wrap the ring', 'largest sum and seven deviations must fit'],
  [18, 'predict or correlate masks', 'AES-256-CTR from 256-bit seeds'],
  [19, 'send low-order, non-canonical or duplicate keys', 'refused before a charge, the signer named'],
  [20, 'alter a signature that stays valid', 'S < L'],
  [21, 'read the wire', 'nothing but masked words, ciphertexts and public facts'],
  [22, 'tell members apart by message lengths', 'equal lengths'],
  [23, 'break decoders with damaged messages', 'coded errors only'],
  [24, 'poison the sum', 'not prevented (documented): the sum moves, nothing is learned'],
  [25, 'lie about the sum', 'recomputed from the transcript'],
  [26, 'crop the cohort so that colluders reach a third', '3c < |U1|, 2t > k + t1 with an absolute c'],
  [27, 'upload in part, twice or late', 'folded only when complete and verified'],
  [28, 'grind the graph seed, cut an arc', 'reveals after U1 is fixed; no window without an honest one'],
  [29, 'lie about a census', 'every member recomputes the counts'],
  [30, 'restore a node from a backup or clone it', 'its charges must continue the chain it signed'],
  [31, 'sign with torsion', 'one verification rule on every provider'],
  [32, 'have noise taken off that protects', 'D from one signed U3, one root opened, no way back in its chain'],
];

export type Profile = 'strict' | 'sparse';

/** Attacks that need no test in a profile, and why. */
export const UNTRIED: readonly (readonly [number: number, profile: Profile, reason: string])[] = [
  [7, 'strict', 'the graph is complete: nobody draws it'],
  [28, 'strict', 'no seed, no ring'],
];

interface Assertion {
  readonly status: string;
  readonly title: string;
  readonly ancestorTitles: readonly string[];
}

/** Numbers of the attacks that a name begins with: `A7 and A28: ...`. */
function numbersOf(name: string): number[] {
  const [head = ''] = /^A\d+\b[^:]*:/.exec(name) ?? [];
  return [...head.matchAll(/\bA(\d{1,2})\b/g)].map(([, number]) => Number(number));
}

/** Attacks that a test tries: those of its own name, or those of its suite where it names none. */
export function attacksOf(suite: string, title: string): number[] {
  const own = numbersOf(title);
  return own.length > 0 ? own : numbersOf(suite);
}

/** Tests of the sparse profile have files of their own. */
export const profileOf = (file: string): Profile => (/(^|[\\/])sparse-[^\\/]*$/.test(file) ? 'sparse' : 'strict');

/** What is wrong with the registry: attacks without a test in a profile, or excused although there is one. */
export function registryFaults(counts: (attack: number, profile: Profile) => number): string[] {
  return ATTACKS.flatMap(([number]) =>
    (['strict', 'sparse'] as const).flatMap((profile) => {
      const isExcused = UNTRIED.some(([attack, where]) => attack === number && where === profile);
      const isTried = counts(number, profile) > 0;
      if (isTried !== isExcused) return [];
      return [`A${number} expected ${isTried ? 'no excuse' : 'a test or a reason'} in the ${profile} profile`];
    }),
  );
}

/** One line for each attack: tests in the strict and in the sparse profile, their verdict, and what stops it. */
function main(): void {
  const folder = mkdtempSync(join(tmpdir(), 'covey-attacks-'));
  const report = join(folder, 'report.json');
  const run = ['run', 'test/attacks', '--reporter', 'json', '--outputFile', report];
  spawnSync(process.execPath, ['node_modules/vitest/vitest.mjs', ...run], { stdio: ['ignore', 'ignore', 'inherit'] });
  const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as {
    testResults: { name: string; assertionResults: Assertion[] }[];
  };
  rmSync(folder, { recursive: true });
  const tests = testResults.flatMap(({ name, assertionResults }) =>
    assertionResults.map(({ status, title, ancestorTitles }) => ({
      passed: status === 'passed',
      profile: profileOf(name),
      attacks: attacksOf(ancestorTitles.join(' '), title),
    })),
  );
  const of = (attack: number, profile: Profile): typeof tests =>
    tests.filter((test) => test.attacks.includes(attack) && test.profile === profile);
  let failed = 0;
  process.stdout.write(`${'tests of the strict and of the sparse profile'.padEnd(58)}  st  sp\n`);
  for (const [number, tried, stopped] of ATTACKS) {
    const own = (['strict', 'sparse'] as const).map((profile) => of(number, profile));
    const bad = own.flat().filter(({ passed }) => !passed).length;
    const counts = own.map(({ length }) => (length === 0 ? '-' : String(length)).padStart(4)).join('');
    if (bad > 0) failed += 1;
    process.stdout.write(
      `${`A${number}`.padEnd(4)}${tried.padEnd(54)}${counts}  ${(bad === 0 ? 'ok' : `${bad} FAILED`).padEnd(10)}${stopped}\n`,
    );
  }
  const rest = tests.filter(({ attacks }) => attacks.length === 0);
  const restBad = rest.filter(({ passed }) => !passed).length;
  process.stdout.write(
    `    ${"coalitions, other frameworks' faults, messages out of order".padEnd(58)}${String(rest.length).padStart(4)}  ${restBad === 0 ? 'ok' : `${restBad} FAILED`}\n`,
  );
  for (const [number, profile, reason] of UNTRIED)
    process.stdout.write(`    A${number} is not tried in the ${profile} profile: ${reason}\n`);
  const faults = registryFaults((attack, profile) => of(attack, profile).length);
  for (const fault of faults) process.stdout.write(`    ${fault}\n`);
  process.exitCode = failed + restBad + faults.length === 0 ? 0 : 1;
}

if (process.argv[1]?.endsWith('attacks.js') === true) main();
