import type { Command } from 'commander';
import { writeFileAtomic } from '../platform/node/atomic-file.ts';
import { loadConfig, parseConfig } from '../platform/node/config.ts';
import { plotBudget } from '../src/budget/plots.ts';
import { type AssumedQuantity, type BudgetProblem, budgetProblemSchema } from '../src/budget/problem.ts';
import { type BudgetPlan, leastCohort, planBudget } from '../src/budget/solve.ts';
import {
  colluderTable,
  dropoutTable,
  type EffectRow,
  participationTable,
  personEpsilon,
} from '../src/budget/tables.ts';
import { type BudgetWarning, budgetWarnings } from '../src/budget/warnings.ts';
import { unitSensitivity } from '../src/privacy/sum-event.ts';
import { planOfRun } from './budget-run.ts';
import { deltaText, epsilonText } from './epsilon-text.ts';
import { integerIn, numberIn } from './options.ts';
import { table } from './table.ts';

type PlanFlags = Readonly<Record<string, string | number | undefined>> & {
  readonly config?: string;
  readonly run?: string;
  readonly json: boolean;
  readonly xnoise?: boolean;
  readonly svg?: string;
  readonly meanNoise?: number;
};

const PRACTICE = ['clipping', 'head', 'localEpochs', 'standardization', 'batches', 'rowsPerPerson', 'tuningRuns'];
const OUTPUT = ['config', 'run', 'json', 'svg', 'meanNoise'];

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

/** Four significant digits, rounded to the side that keeps the promise: noise up, a sampling rate down. */
function fourDigits(value: number, round: (scaled: number) => number): string {
  const step = 10 ** (Math.floor(Math.log10(value)) - 3);
  return String(Number((round(value / step) * step).toPrecision(4)));
}

/** A quantity of the plan: as it was given, or rounded to the safe side if it was solved. */
function quantityText(plan: BudgetPlan, key: 'noiseMultiplier' | 'rounds' | 'sampling'): string {
  if (plan.solved !== key || key === 'rounds') return String(plan[key]);
  return fourDigits(plan[key], key === 'sampling' ? Math.floor : Math.ceil);
}

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

const QUANTITY_TEXT: Readonly<Record<AssumedQuantity, string>> = {
  noiseMultiplier: 'noise multiplier',
  rounds: 'rounds',
  participants: 'participants',
  sampling: 'record sampling rate',
};

const percentText = (part: number): string => `${Number((100 * part).toPrecision(2))} %`;

/** Where the sensitivity of one unit comes from, and what the plan does not know of it. */
function sensitivityText({ problem, sensitivity }: BudgetPlan): string {
  const { clippingNorm, dimension, parameters, scale, terms = 'integer', unit, vectorBasis } = problem;
  const rounded = unit === 'participant' || terms === 'float-bounded';
  const sums = unit === 'participant' ? 'updates rounded at random' : `${terms} terms`;
  const line = `sensitivity ${Number(sensitivity.toPrecision(9))} integer units (clip ${clippingNorm} x scale ${scale}), ${sums}`;
  if (!rounded) return `${line}: rounding adds nothing`;
  const surplus = (coordinates: number): number =>
    unitSensitivity(unit, scale * clippingNorm, coordinates, terms) / (scale * clippingNorm) - 1;
  const own = `${line}: rounding adds ${percentText(surplus(dimension))} over ${dimension} coordinates`;
  if (vectorBasis === 'given') return own;
  const most = percentText(surplus(2 * parameters));
  const known =
    vectorBasis === 'parameters' ? `${parameters} parameters as one block` : `${parameters} parameters, assumed`;
  return `${own} (${known}); a run pads each of its blocks: at most ${most}; --dimension or --run gives the exact one`;
}

function printPlan(plan: BudgetPlan, warnings: readonly BudgetWarning[]): void {
  const { problem } = plan;
  const { unit, delta, participants, minSurvivors, colluders, practice, xnoise, assumed } = problem;
  if (warnings.some(({ severity }) => severity === 'void'))
    console.log(`NO CLAIM: no epsilon below protects one ${unit}; the warnings at the end say why`);
  const answer = plan.solved === 'epsilon' ? epsilonText(plan.headline.server) : quantityText(plan, plan.solved);
  console.log(`${SOLVED_TEXT[plan.solved]}: ${answer}`);
  if (assumed.length > 0)
    console.log(`assumed, as not given: ${assumed.map((key) => `${QUANTITY_TEXT[key]} ${problem[key]}`).join(', ')}`);
  console.log();
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
    `${plan.rounds} ${plan.rounds === 1 ? 'round' : 'rounds'}${cap}, noise multiplier ${quantityText(plan, 'noiseMultiplier')}, records drawn with probability ${quantityText(plan, 'sampling')}`,
    sensitivityText(plan),
    ...(xnoise === true ? ['Skellam noise of one total variance, whoever of the cohort survives (xnoise)'] : []),
    `${participants} participants, at least ${minSurvivors} survivors, ${colluders} colluders assumed; relation ${plan.relation}, delta ${deltaText(delta)}`,
    `declared schedule: accountant ${[plan.headline.accountant, ...plan.headline.labels].join('; ')}`,
    'server view: the coordinator, who sees who takes part; release view: a member or whoever gets the models',
  ];
  if (unit === 'record' && practice.rowsPerPerson > 1)
    lines.push(`one person (${practice.rowsPerPerson} rows): epsilon ${epsilonText(personEpsilon(plan))}, server view`);
  console.log(`\n${lines.join('\n')}`);
  console.log(`\n${effects('Charged by ledgers, by survivors of every round', 'survivors', dropoutTable(plan))}`);
  console.log(
    `\n${effects('Charged by ledgers, if others collude than the plan assumes', 'colluders', colluderTable(plan))}`,
  );
  console.log(`\n${effects('Charged by ledgers, if a participant joins at most', 'rounds', participationTable(plan))}`);
  if (warnings.length > 0) console.log('\nWarnings');
  for (const { name, severity, text } of warnings)
    console.log(`  ${severity === 'void' ? 'NO CLAIM' : 'caution'}  ${name}: ${text}`);
}

async function plan(flags: PlanFlags): Promise<void> {
  if (flags.run !== undefined) return planOfRun(flags.run, flags);
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

export function addPlanCommand(budget: Command): void {
  budget
    .command('plan')
    .description(
      'Solve for what a budget leaves open: give two of --epsilon, --noise-multiplier, --rounds, --participants, --sampling',
    )
    .option('--config <file>', 'the same fields in YAML; flags override them')
    .option(
      '--run <file>',
      "a coordinator's covey.yaml: what the ledgers of that run charge; only with --participants, --json",
    )
    .option('--epsilon <x>', 'target, server view', numberIn(1e-6, 1e6))
    .option('--noise-multiplier <x>', 'noise deviation over sensitivity (solved, or 1)', numberIn(1e-6, 1e9))
    .option('--rounds <n>', 'training rounds (solved, or 100)', integerIn(1, 10_000_000))
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
    .option('--dimension <n>', 'coordinates of the vector, padding included (of one block)', integerIn(1, 2 ** 31))
    .option('--clipping-norm <x>', 'clipping norm (1)', numberIn(1e-9, 1e9))
    .option('--scale <x>', 'integer units per 1.0 (65536)', numberIn(1e-9, 1e12))
    .option('--terms <kind>', 'unit record: integer (default) or float-bounded sums')
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
      `\nExample:\n  covey budget plan --epsilon 4 --rounds 200 --sampling 0.05 --tuning-runs 0\n\nWith epsilon, noise multiplier and rounds all given, the largest sampling rate is solved. The target is what ledgers\ncharge in the server view; printed numbers are rounded to the safe side: planning with them keeps the target.\n\nExit codes: 0 planned, 2 wrong usage, 3 no noise meets the target or a warning voids the claim`,
    )
    .action(plan);
}
