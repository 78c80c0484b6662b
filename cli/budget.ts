import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { writeFileAtomic } from '../platform/node/atomic-file.ts';
import { loadConfig, parseConfig } from '../platform/node/config.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { readStreamsOfCopy } from '../platform/node/store-copy.ts';
import { fromUtf8 } from '../protocol/bytes.ts';
import { CoveyError } from '../protocol/errors.ts';
import { plotBudget } from '../src/budget/plots.ts';
import { type BudgetProblem, budgetProblemSchema } from '../src/budget/problem.ts';
import { type BudgetPlan, leastCohort, planBudget } from '../src/budget/solve.ts';
import { type SpentLedger, type SpentPaths, spentBudgets, spentLedger } from '../src/budget/spent.ts';
import {
  colluderTable,
  dropoutTable,
  type EffectRow,
  participationTable,
  personEpsilon,
} from '../src/budget/tables.ts';
import { type BudgetWarning, budgetWarnings } from '../src/budget/warnings.ts';
import { integerIn, numberIn } from './options.ts';
import { table } from './table.ts';

type PlanFlags = Readonly<Record<string, string | number | undefined>> & {
  readonly config?: string;
  readonly json: boolean;
  readonly xnoise?: boolean;
  readonly svg?: string;
  readonly meanNoise?: number;
};

const PRACTICE = ['clipping', 'head', 'localEpochs', 'standardization', 'batches', 'rowsPerPerson', 'tuningRuns'];
const OUTPUT = ['config', 'json', 'svg', 'meanNoise'];

const defined = (entries: readonly (readonly [string, unknown])[]): Record<string, unknown> =>
  Object.fromEntries(entries.filter(([, value]) => value !== undefined));

/** The file's problem, overridden by flags; the schema fills in and checks the rest. */
async function readProblem(flags: PlanFlags): Promise<BudgetProblem> {
  const given = defined(Object.entries(flags).filter(([key]) => !PRACTICE.includes(key) && !OUTPUT.includes(key)));
  const practice = defined(PRACTICE.map((key) => [key, flags[key]] as const));
  const file: BudgetProblem | null =
    flags.config === undefined ? null : await loadConfig(flags.config, budgetProblemSchema);
  return parseConfig(
    JSON.stringify({ ...file, ...given, practice: { ...file?.practice, ...practice } }),
    'options',
    budgetProblemSchema,
  );
}

/** Three significant digits, rounded up: a printed epsilon never promises more than the exact one. */
function epsilonText(epsilon: number): string {
  if (!Number.isFinite(epsilon)) return 'infinite';
  if (epsilon === 0) return '0';
  const step = 10 ** (Math.floor(Math.log10(epsilon)) - 2);
  return String(Number((Math.ceil(epsilon / step - 1e-9) * step).toPrecision(3)));
}

/** Named where a claim rests on more than integers. */
const sumsText = (sums: SpentLedger['sums']): string => (sums === 'integer' ? '' : `, sums of records ${sums}`);
const deltaText = (delta: number): string => delta.toExponential();
const short = (value: number): string => String(Number(value.toPrecision(4)));

function effects(title: string, head: string, rows: readonly EffectRow[]): string {
  const body = rows.map(({ value, server, release }) => [String(value), epsilonText(server), epsilonText(release)]);
  return `${title}\n${table([[head, 'server view', 'release view'], ...body])}`;
}

const SOLVED_TEXT: Readonly<Record<BudgetPlan['solved'], string>> = {
  noiseMultiplier: 'noise multiplier',
  rounds: 'rounds',
  epsilon: 'epsilon',
  sampling: 'largest record sampling rate',
};

function printPlan(plan: BudgetPlan, warnings: readonly BudgetWarning[]): void {
  const { problem } = plan;
  const { unit, delta, participants, minSurvivors, colluders, practice, xnoise } = problem;
  const answer = plan.solved === 'epsilon' ? epsilonText(plan.headline.server) : short(plan[plan.solved]);
  console.log(`${SOLVED_TEXT[plan.solved]}: ${answer}\n`);
  console.log(
    table([
      [`one ${unit}`, 'server view', 'release view'],
      ['epsilon, declared schedule', epsilonText(plan.headline.server), epsilonText(plan.headline.release)],
      ['  charged by ledgers (rdp)', epsilonText(plan.server), epsilonText(plan.release)],
      ...plan.planning
        .filter(({ view, epsilon }) => view === 'server' && epsilon !== null)
        .map(({ accountant }) => [
          `  by ${accountant} (planning only)`,
          ...(['server', 'release'] as const).map((view) => {
            const found = plan.planning.find((number) => number.accountant === accountant && number.view === view);
            return typeof found?.epsilon === 'number' ? epsilonText(found.epsilon) : '-';
          }),
        ]),
    ]),
  );
  const cap = problem.participationCap === undefined ? '' : `, at most ${problem.participationCap} by one participant`;
  const lines = [
    `${plan.rounds} rounds${cap}, noise multiplier ${short(plan.noiseMultiplier)}, records drawn with probability ${short(plan.sampling)}`,
    ...(xnoise === true ? ['Skellam noise of one total variance, whoever of the cohort survives (xnoise)'] : []),
    `${participants} participants, at least ${minSurvivors} survivors, ${colluders} colluders assumed; relation ${plan.relation}, delta ${deltaText(delta)}`,
    `declared schedule: accountant ${[plan.headline.accountant, ...plan.headline.labels].join('; ')}`,
    'server view: the coordinator, who sees who takes part; release view: a member or whoever gets the models',
  ];
  if (unit === 'record' && practice.rowsPerPerson > 1)
    lines.push(`one person (${practice.rowsPerPerson} rows): epsilon ${epsilonText(personEpsilon(plan))}, server view`);
  console.log(`\n${lines.join('\n')}`);
  console.log(`\n${effects('By survivors of every round', 'survivors', dropoutTable(plan))}`);
  console.log(`\n${effects('If others collude than the plan assumes', 'colluders', colluderTable(plan))}`);
  console.log(`\n${effects('If a participant joins at most', 'rounds', participationTable(plan))}`);
  if (warnings.length > 0) console.log('\nWarnings');
  for (const { name, severity, text } of warnings)
    console.log(`  ${severity === 'void' ? 'NO CLAIM' : 'caution'}  ${name}: ${text}`);
}

async function plan(flags: PlanFlags): Promise<void> {
  const problem = await readProblem(flags);
  const result = flags.meanNoise === undefined ? planBudget(problem) : leastCohort(problem, flags.meanNoise);
  const warnings = budgetWarnings(result.problem);
  if (flags.svg !== undefined) await writeFileAtomic(flags.svg, plotBudget(result));
  if (flags.json) {
    const tables = {
      dropouts: dropoutTable(result),
      colluders: colluderTable(result),
      participation: participationTable(result),
    };
    console.log(JSON.stringify({ ...result, person: personEpsilon(result), tables, warnings }));
  } else printPlan(result, warnings);
  // A void claim is no plan: scripts must not go on with it.
  if (warnings.some(({ severity }) => severity === 'void')) process.exitCode = 3;
}

/** Ledgers in the store of a node, one of every run, as lines; from a copy, so that the node may be running. */
async function nodeLedgers(path: string): Promise<string[][]> {
  const streams = await readStreamsOfCopy(path, 'ledger/');
  return [...streams.values()].map((payloads) => payloads.map(fromUtf8));
}

/** A row of every payer and path: what that part of the releases tells by itself. */
function printPaths(head: string, payers: readonly { readonly name: string; readonly paths: SpentPaths }[]): void {
  const cell = (epsilon: number | undefined): string => (epsilon === undefined ? '-' : epsilonText(epsilon));
  const rows = payers.flatMap(({ name, paths }) =>
    paths.map(({ path, spent }, i) => [i === 0 ? name : '', path, cell(spent.server), cell(spent.release)]),
  );
  console.log(`\nBy path, each part alone\n${table([[head, 'path', 'server view', 'release view'], ...rows])}`);
  console.log(
    '\nParts of one vector share one event: it is in each of their rows and once in the total, never added up.',
  );
}

function printLedgers(ledgers: readonly SpentLedger[]): void {
  const percent = (part: number, whole: number): string => `${Math.ceil((100 * part) / whole)} %`;
  const body = ledgers.map(({ participant, settled, reserved, spent, budgetEpsilon, budgetView, remaining }) => [
    participant.slice(0, 12),
    String(settled),
    String(reserved),
    ...(['server', 'release'] as const).map((view) => (spent[view] === undefined ? '-' : epsilonText(spent[view]))),
    (Math.floor(100 * remaining) / 100).toFixed(2),
    percent(spent[budgetView] ?? 0, budgetEpsilon),
  ]);
  console.log(table([['node', 'settled', 'reserved', 'server view', 'release view', 'remaining', 'used'], ...body]));
  printPaths(
    'node',
    ledgers.map(({ participant, paths }) => ({ name: participant.slice(0, 12), paths })),
  );
  for (const { unit, delta, relation, colluders, accountant, sums, budgetEpsilon, budgetView } of ledgers.slice(0, 1)) {
    console.log(
      `\nepsilon of one ${unit} at delta ${deltaText(delta)}, relation ${relation}, ${colluders} colluders assumed, accountant ${accountant}${sumsText(sums)}; budget ${budgetEpsilon} (${budgetView} view)`,
    );
  }
}

/** Ledgers that a path names: one in a file, or those in a node's folder; null for the folder of a run. */
async function ledgersAt(path: string): Promise<string[][] | null> {
  const isFile = async (name: string): Promise<boolean> => (await stat(name).catch(() => null))?.isFile() === true;
  if (await isFile(path)) {
    return path.endsWith('.sqlite')
      ? nodeLedgers(path)
      : [(await readFile(path, 'utf8')).split('\n').filter((line) => line !== '')];
  }
  return (await isFile(join(path, 'node.sqlite'))) ? nodeLedgers(join(path, 'node.sqlite')) : null;
}

async function show(folder: string, flags: { readonly json: boolean }): Promise<void> {
  const ledgers = await ledgersAt(folder);
  if (ledgers !== null) {
    // A bundle's ledgers/<id>.jsonl holds signed log entries, not the ledger of a node's own store.
    if (ledgers[0]?.[0]?.includes('"type":"client.charge"'))
      throw new CoveyError(
        'USAGE_CONFIG',
        `"folder" expected a node's own ledger, got a bundle's copy of its charges; hint: covey budget show ${dirname(dirname(folder))} shows all participants`,
      );
    const spent = ledgers.map((lines) => spentLedger(lines, nodeCrypto));
    if (flags.json) console.log(JSON.stringify(spent));
    else printLedgers(spent);
    return;
  }
  const log = await readFile(join(folder, 'log.jsonl')).catch((cause: unknown) => {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"folder" expected a run folder with log.jsonl, a node's folder with node.sqlite, or a ledger file, got ${folder}`,
      {},
      { cause },
    );
  });
  const spent = spentBudgets(new Uint8Array(log), nodeCrypto);
  if (flags.json) {
    console.log(JSON.stringify(spent));
    return;
  }
  const { rows, unit, relation, delta, sums, targetEpsilon, colluders } = spent;
  const byName = [...rows].sort((a, b) => a.organization.localeCompare(b.organization, 'en', { numeric: true }));
  const body = byName.map(({ organization, rounds, spent: { server, release }, remaining }) => [
    organization,
    String(rounds),
    epsilonText(server),
    epsilonText(release),
    (Math.floor(100 * remaining) / 100).toFixed(2),
  ]);
  console.log(table([['organization', 'sessions', 'server view', 'release view', 'remaining'], ...body]));
  printPaths(
    'organization',
    byName.map(({ organization, paths }) => ({ name: organization, paths })),
  );
  console.log(
    `\nepsilon of one ${unit} at delta ${deltaText(delta)}, relation ${relation}, ${colluders} colluders assumed, accountant rdp${sumsText(sums)}; budget ${targetEpsilon} (server view)`,
  );
}

export function addBudgetCommand(program: Command): void {
  const budget = program.command('budget').description('Plan privacy budgets and show what is spent');
  budget
    .command('plan')
    .description('Solve for what a budget leaves open: give two of --epsilon, --noise-multiplier, --rounds')
    .option('--config <file>', 'the same fields in YAML; flags override them')
    .option('--epsilon <x>', 'target, server view', numberIn(1e-6, 1e6))
    .option('--noise-multiplier <x>', 'noise deviation over sensitivity', numberIn(1e-6, 1e9))
    .option('--rounds <n>', 'training rounds', integerIn(1, 10_000_000))
    .option('--delta <x>', 'delta of the claim (1e-5)', numberIn(1e-300, 1))
    .option('--unit <unit>', 'record (default) or participant')
    .option('--mechanism <law>', 'discrete-gaussian (default) or skellam')
    .option('--xnoise', 'noise that is exact whoever drops out; needs --mechanism skellam')
    .option('--participants <n>', 'invited participants of a round (12)', integerIn(3, 65_536))
    .option('--min-survivors <n>', 'fewest survivors (three quarters)', integerIn(2, 65_536))
    .option('--colluders <n>', 'members that collude (0)', integerIn(0, 65_536))
    .option('--sampling <q>', 'Poisson probability of a record (1)', numberIn(1e-9, 1))
    .option(
      '--cohort-sampling <q>',
      'probability of a participant; never counts against the server (1)',
      numberIn(0, 1),
    )
    .option('--participation-cap <n>', 'most rounds of one participant', integerIn(1, 10_000_000))
    .option('--population <n>', 'number of records or participants, to judge delta', integerIn(1, 1e12))
    .option('--parameters <n>', 'parameters of the model (10000)', integerIn(1, 1_000_000_000))
    .option(
      '--mean-noise <x>',
      'unit participant: least cohort whose mean has this noise, in clips',
      numberIn(1e-9, 1e9),
    )
    .option('--clipping <what>', 'record (default) or participant')
    .option('--head <what>', 'none (default), released or raw')
    .option('--local-epochs <n>', 'local epochs (1)', integerIn(1, 1_000_000))
    .option('--standardization <what>', 'public (default), protected or raw')
    .option('--batches <what>', 'poisson (default) or shuffled')
    .option('--rows-per-person <n>', 'most rows of one person (1)', integerIn(1, 1_000_000))
    .option('--tuning-runs <n>', 'runs made to choose hyper-parameters', integerIn(0, 1_000_000))
    .option('--svg <file>', 'draw epsilon over rounds and over delta')
    .option('--json', 'print one JSON object', false)
    .addHelpText(
      'after',
      `\nExample:\n  covey budget plan --epsilon 4 --rounds 200 --sampling 0.05 --tuning-runs 0\n\nExit codes: 0 planned, 2 wrong usage, 3 no noise meets the target or a warning voids the claim`,
    )
    .action(plan);
  budget
    .command('show')
    .description('Show what every participant of a run has spent in each view, and what is left')
    .argument(
      '<folder>',
      "run folder (bundle) with log.jsonl, folder of a node (it may be running), or a node's ledger file",
    )
    .option('--json', 'print one JSON object', false)
    .addHelpText(
      'after',
      '\nExample:\n  covey budget show runs/demo-1/bundle\n  covey budget show runs/demo-1/organizations/organization-1\n\nExit codes: 0 shown, 2 wrong usage, 4 the log does not hold (covey audit verify says where)',
    )
    .action(show);
}
