import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { loadConfig } from '../platform/node/config.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { CoveyError } from '../protocol/errors.ts';
import { type ServerConfig, serverConfigSchema } from '../server/config.ts';
import { baseOf, openRun } from '../server/index.ts';
import { budgetOfRun, type RunBudget } from '../src/budget/run-budget.ts';
import { federationFromJson } from '../src/run/roster.ts';
import { deltaText, epsilonText } from './epsilon-text.ts';
import { table } from './table.ts';

/** Flags that mean something beside a run; the run says everything else itself. */
const BESIDE = ['run', 'participants', 'json'];

type RunFlags = Readonly<Record<string, unknown>> & { readonly json: boolean };

const flagName = (key: string): string => `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** Participants of a run: as its configuration or the command says, or as many as the federation has members. */
async function participantsOf(
  { federation, run }: ServerConfig,
  at: (path: string) => string,
  given: unknown,
): Promise<number> {
  if (typeof given === 'number') return given;
  // A whole configuration has its own number, whatever comes back here.
  if ('config' in run) return 0;
  const text = await readFile(at(federation), 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"federation" expected a readable file, got ${cause.code} for ${at(federation)}; hint: --participants <n> before there is one`,
    );
  });
  return federationFromJson(nodeCrypto, JSON.parse(text)).roster.entries.length;
}

function print(run: RunBudget): void {
  const { colluders, delta, dimension, headline, minSurvivors, participants, relation, sensitivity, terms, unit } = run;
  const surplus = sensitivity / run.scaledNorm - 1;
  const sessions = Object.entries(run.sessions).map(([kind, count]) => `${count} ${kind}`);
  console.log(
    table([
      [`one ${unit}`, 'server view', 'release view'],
      ['epsilon, declared schedule', epsilonText(headline.server), epsilonText(headline.release)],
      ['  charged by ledgers (rdp)', epsilonText(run.server), epsilonText(run.release)],
    ]),
  );
  console.log(
    `\n${[
      `sessions: ${sessions.join(', ')}${run.isExact ? '' : '; slots come and go: charges are at most these'}`,
      `noise multiplier ${Number(run.noiseMultiplier.toPrecision(6))}; sensitivity ${Number(sensitivity.toPrecision(9))} integer units over ${dimension} coordinates${
        unit === 'record' ? `, ${terms} terms` : ''
      }: ${Number((100 * surplus).toPrecision(2))} % above clip x scale`,
      `${participants} participants, at least ${minSurvivors} survivors, ${colluders} colluders assumed; relation ${relation}, delta ${deltaText(delta)}; target ${run.targetEpsilon}, server view`,
      `declared schedule: accountant ${[headline.accountant, ...headline.labels].join('; ')}`,
      'sessions that are given up and repeated come on top',
    ].join('\n')}`,
  );
  const rows = run.rows.map(({ value, server, release }) => [String(value), epsilonText(server), epsilonText(release)]);
  console.log(
    `\nCharged by ledgers, by survivors of every session\n${table([['survivors', 'server view', 'release view'], ...rows])}`,
  );
}

/** Prints what the ledgers of the run of a coordinator's configuration charge. @throws CoveyError USAGE_CONFIG */
export async function planOfRun(file: string, flags: RunFlags): Promise<void> {
  const stray = Object.keys(flags).find((key) => flags[key] !== undefined && !BESIDE.includes(key));
  if (stray !== undefined)
    throw new CoveyError('USAGE_CONFIG', `"${flagName(stray)}" expected none beside --run: the run says it itself`);
  const config = await loadConfig(file, serverConfigSchema);
  const base = baseOf(file);
  const at = (path: string): string => resolve(base, path);
  const run = await openRun(config, await participantsOf(config, at, flags['participants']), at);
  const budget = budgetOfRun(run.config);
  if (flags.json) console.log(JSON.stringify(budget));
  else print(budget);
}
