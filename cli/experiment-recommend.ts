import type { Command } from 'commander';
import { SCENARIOS } from '../experiments/scenarios/registry.ts';
import {
  type Cell,
  describeSettings,
  filterCells,
  METRICS,
  type Metric,
  varyingAxes,
} from '../experiments/study/cells.ts';
import { loadCells } from '../experiments/study/load.ts';
import { priceOfSearch, type SearchPrice } from '../experiments/study/price.ts';
import {
  type Candidate,
  candidatesOf,
  type Goal,
  type Recommendation,
  recommend,
} from '../experiments/study/recommend.ts';
import { CoveyError } from '../protocol/errors.ts';
import type { View } from '../src/privacy/views.ts';
import { pairs, wordOf } from './lists.ts';
import { numberIn } from './options.ts';
import { table } from './table.ts';

const DATA = ['private', 'public', 'simulated'] as const;

interface RecommendFlags {
  readonly scenario?: string;
  readonly maxEpsilon?: number;
  readonly minValue?: number;
  readonly metric: Metric;
  readonly view: View;
  readonly where: Readonly<Record<string, string>>;
  readonly data?: (typeof DATA)[number];
  readonly json: boolean;
}

function goalOf({ maxEpsilon, minValue }: RecommendFlags): Goal {
  if ((maxEpsilon === undefined) === (minValue === undefined)) {
    const got = maxEpsilon === undefined ? 'none' : 'both';
    throw new CoveyError('USAGE_CONFIG', `"--max-epsilon" and "--min-value" expected one of them, got ${got}`);
  }
  return maxEpsilon === undefined ? { kind: 'utility', minValue: minValue ?? 0 } : { kind: 'budget', maxEpsilon };
}

/** The only value that cells have, or an error that says how to choose. */
function onlyOne(values: readonly string[], flag: string): string {
  const [value = '', ...others] = [...new Set(values)];
  if (others.length > 0)
    throw new CoveyError('USAGE_CONFIG', `"${flag}" expected one of ${[value, ...others].join(', ')}, got none`);
  return value;
}

/** Three significant digits, up: a printed epsilon never promises more than the exact one. */
function epsilonText(epsilon: number): string {
  if (!Number.isFinite(epsilon)) return 'none';
  if (epsilon === 0) return '0';
  const step = 10 ** (Math.floor(Math.log10(epsilon)) - 2);
  return String(Number((Math.ceil(epsilon / step - 1e-6) * step).toPrecision(3)));
}

function valueText({ value }: Candidate): string {
  const mean = `${(100 * value.mean).toFixed(1)} %`;
  return value.halfWidth === null ? mean : `${mean} ±${(100 * value.halfWidth).toFixed(1)}`;
}

const counted = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

function priceText(price: SearchPrice, winner: Candidate, data: string): string[] {
  const { release, releaseSelected, runs, server, unknown, unprotected } = price;
  const priced = runs - unprotected - unknown;
  const own = `ε ${epsilonText(winner.epsilon)} for the recommended cell alone`;
  const lines = [
    `server view:  ε ${epsilonText(server)} for ${counted(priced, 'run')}, ${own}: the server saw the sums of every run`,
    `release view: ε ${epsilonText(release)} for ${counted(priced, 'run')}`,
    ...(releaseSelected === null || releaseSelected >= release
      ? []
      : [
          `              ε ${epsilonText(releaseSelected)} if the number of runs had been drawn at random (Poisson, mean ${priced})`,
          '              and nobody but the server had seen a run that lost (Papernot, Steinke 2021)',
        ]),
    ...(unprotected > 0
      ? [`${counted(unprotected, 'run')} without noise besides: on private data they leave no claim at all`]
      : []),
    ...(unknown > 0 ? [`${counted(unknown, 'run')} besides, recorded without charges: their price is not known`] : []),
  ];
  return [
    `What this search costs on private data (${counted(runs, 'run')}, every seed one)`,
    ...lines.map((line) => `  ${line}`),
    ...(data === 'private'
      ? [
          '  The data is private: this is spent, also if only the recommended cell is deployed. The accuracies that chose',
          '  it are not among these numbers: release them through charged metrics.',
        ]
      : [`  The data is ${data}: nothing is spent. A search on private data is charged as above.`]),
  ];
}

function printAnswer(
  { front, heldOut, ties, winner }: Recommendation,
  cells: readonly Cell[],
  flags: RecommendFlags,
  scenario: string,
): void {
  const axes = [...new Set(['algorithm' as const, ...varyingAxes(cells)])];
  const name = ({ cell }: Candidate): string => describeSettings(cell, axes);
  const rows = front.map((one) => [
    `${one === winner ? '> ' : '  '}${name(one)}`,
    epsilonText(one.epsilon),
    valueText(one),
    String(one.value.runs),
  ]);
  console.log(`Pareto front of ${scenario} (${METRICS[flags.metric].title}, ${flags.view} view)\n`);
  console.log(table([['  settings', 'ε', flags.metric, 'seeds'], ...rows]));
  console.log(`\nRecommended: ${name(winner)}: ${valueText(winner)} at ε ${epsilonText(winner.epsilon)}`);
  console.log(
    `  all settings: ${describeSettings(winner.cell, Object.keys(winner.cell.settings) as (keyof Cell['settings'])[])}, ${winner.cell.target}`,
  );
  if (heldOut !== null) console.log(`  chosen without the seed it is measured on: ${(100 * heldOut).toFixed(1)} %`);
  if (winner.value.halfWidth === null) console.log('  one seed: what the choice owes to chance is not known');
  const shown = ties.slice(0, 3).map((tie) => `${name(tie)} (ε ${epsilonText(tie.epsilon)}, ${valueText(tie)})`);
  if (ties.length > 0)
    console.log(
      `  not told apart by the intervals: ${shown.join('; ')}${ties.length > 3 ? ` and ${ties.length - 3} more` : ''}`,
    );
  if (ties.some(({ cell }) => cell.settings.algorithm === 'local'))
    console.log('  "local" is among them: that the federation helps at this budget is not shown');
}

/** What the records of a scenario are: those of one's own are private unless somebody says otherwise. */
function dataOf(scenario: string): 'simulated' | 'public' | 'private' {
  const known = SCENARIOS.find(({ id }) => id === scenario);
  return known === undefined ? 'private' : known.folders.length === 0 ? 'simulated' : 'public';
}

async function recommendFrom(folder: string, flags: RecommendFlags): Promise<void> {
  const goal = goalOf(flags);
  const { cells } = await loadCells(folder);
  const scenario =
    flags.scenario ??
    onlyOne(
      cells.map((cell) => cell.scenario),
      '--scenario',
    );
  const recorded = cells.filter((cell) => cell.scenario === scenario);
  if (recorded.length === 0) {
    const known = [...new Set(cells.map((cell) => cell.scenario))].join(', ');
    throw new CoveyError('USAGE_CONFIG', `"--scenario" expected one of ${known}, got ${scenario}`);
  }
  const own = filterCells(recorded, flags.where);
  const federated = own.filter(({ settings }) => settings.algorithm !== 'local');
  const unit = onlyOne(
    federated.flatMap(({ settings }) => settings.unit ?? []),
    '--where unit',
  );
  const delta = Number(
    onlyOne(
      federated.flatMap(({ settings }) => settings.delta ?? []),
      '--where delta',
    ),
  );
  const answer = recommend(candidatesOf(own, flags.metric, flags.view), goal, flags.metric);
  // Whatever was left out of the choice was still computed from the same data.
  const runs = recorded.flatMap((cell) => cell.runs).filter((run) => run.unit === null || run.unit === unit);
  const price = priceOfSearch(runs, delta);
  const data = flags.data ?? dataOf(scenario);
  if (flags.json) {
    const line = ({ cell, epsilon, value }: Candidate): object => ({
      settings: cell.settings,
      target: cell.target,
      epsilon: Number.isFinite(epsilon) ? epsilon : null,
      value,
    });
    console.log(
      JSON.stringify({
        scenario,
        unit,
        delta,
        view: flags.view,
        metric: flags.metric,
        front: answer.front.map(line),
        recommended: line(answer.winner),
        ties: answer.ties.map(line),
        heldOut: answer.heldOut,
        data,
        search: { ...price, charged: data === 'private' },
      }),
    );
    return;
  }
  printAnswer(answer, own, flags, scenario);
  console.log(`\n${priceText(price, answer.winner, data).join('\n')}`);
}

/** `covey experiment recommend` */
export function addRecommendCommand(experiment: Command): void {
  experiment
    .command('recommend')
    .description('Choose among recorded runs, and say what the search costs on private data')
    .argument('<folder>', 'folder of results')
    .option('--scenario <name>', 'of several in the folder')
    .option('--max-epsilon <x>', 'the best value under a budget', numberIn(1e-3, 1e6))
    .option('--min-value <x>', 'the least epsilon that reaches a value in [0, 1]', numberIn(0, 1))
    .option('--metric <name>', Object.keys(METRICS).join(', '), wordOf(Object.keys(METRICS) as Metric[]), 'mean')
    .option('--view <view>', 'server or release', wordOf(['server', 'release']), 'server')
    .option('--where <name=value>', 'only cells with this setting; the others stay in the price', pairs, {})
    .option('--data <what>', 'private, public or simulated (default: of the scenario)', wordOf(DATA))
    .option('--json', 'print one JSON object', false)
    .addHelpText(
      'after',
      '\nExamples:\n  covey experiment recommend runs/budget-study --scenario heart-4 --max-epsilon 2\n  covey experiment recommend runs/budget-study --scenario heart-4 --min-value 0.8 --data private\n\nExit codes: 0 done, 2 wrong usage or no recorded cell meets the goal',
    )
    .action(recommendFrom);
}
