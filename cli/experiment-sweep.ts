import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, dirname, extname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { type BenchmarkJob, RESULTS_FILE, type RecordedResult, runBenchmark } from '../experiments/benchmark.ts';
import { isDescription } from '../experiments/own/scenario.ts';
import { type Cell, cellsOf, describeSettings, epsilonOf, measure, varyingAxes } from '../experiments/study/cells.ts';
import { studyJobs } from '../experiments/study/grid.ts';
import { parseStudy, STUDY_FILE, type Study } from '../experiments/study/schema.ts';
import { writeFileAtomic } from '../platform/node/atomic-file.ts';
import { loadModelFile } from '../platform/node/model-file.ts';
import { CoveyError } from '../protocol/errors.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import { addDataOptions, type DataFlags, sourceOf } from './data-flags.ts';
import { listOf, orNone, pairs, wordOf } from './lists.ts';
import { integerIn, numberIn } from './options.ts';
import { table } from './table.ts';

interface SweepFlags extends DataFlags {
  readonly out?: string;
  readonly threads: number;
  readonly dryRun: boolean;
  readonly json: boolean;
  readonly set: Readonly<Record<string, string>>;
  readonly seeds?: number;
  readonly firstSeed?: number;
  readonly [axis: string]: unknown;
}

/** Flags that are keys of a part of a study. */
const PART_FLAGS = [
  'algorithm',
  'epsilon',
  'noiseMultiplier',
  'clip',
  'rounds',
  'serverStep',
  'sampling',
  'terms',
  'perStep',
  'dropouts',
  'slots',
  'mode',
  'unit',
  'delta',
  'colluders',
  'countNoise',
  'slotMean',
  'model',
] as const;

const flagName = (key: string): string => `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** The study of a file, or the one that the flags describe. */
async function readStudy(what: string, flags: SweepFlags): Promise<Study> {
  const given = PART_FLAGS.filter((key) => flags[key] !== undefined);
  const { firstSeed, seeds } = flags;
  if (isDescription(what)) {
    const [stray] = [...given, ...(Object.keys(flags.set).length > 0 ? ['set'] : [])];
    if (stray !== undefined)
      throw new CoveyError('USAGE_CONFIG', `"${flagName(stray)}" expected in the study file, got it beside ${what}`);
    const text = await readFile(what, 'utf8').catch((cause: NodeJS.ErrnoException) => {
      throw new CoveyError('USAGE_CONFIG', `"study" expected a readable file, got ${cause.code} for ${what}`);
    });
    const study = parseStudy(text, basename(what));
    // Files that a study names are found from where it is.
    const parts = study.parts.map((part) =>
      isDescription(part.scenario) ? { ...part, scenario: resolve(dirname(what), part.scenario) } : part,
    );
    return {
      ...study,
      parts,
      ...(seeds === undefined ? {} : { seeds }),
      ...(firstSeed === undefined ? {} : { firstSeed }),
    };
  }
  const part = {
    scenario: what,
    ...Object.fromEntries(given.map((key) => [key, flags[key]])),
    set: Object.fromEntries(Object.entries(flags.set).map(([name, value]) => [name, Number(value)])),
  };
  return parseStudy(JSON.stringify({ seeds, firstSeed, parts: [part] }), 'flags');
}

/** The models that the parts of a study name, by path; a path starts at the folder of the study. */
async function readModels({ parts }: Study, folder: string): Promise<Map<string, DenseShape>> {
  const paths = new Set(parts.flatMap(({ model }) => model ?? []));
  const read = [...paths].map(async (path) => [path, (await loadModelFile(resolve(folder, path))).shape] as const);
  return new Map(await Promise.all(read));
}

const percent = (share: number): string => (100 * share).toFixed(1);

function cellRow(cell: Cell, axes: ReturnType<typeof varyingAxes>): string[] {
  const spent = (view: 'server' | 'release'): string => {
    const epsilon = epsilonOf(cell, view);
    return Number.isFinite(epsilon) ? epsilon.toFixed(2) : 'none';
  };
  const reached = (metric: 'mean' | 'worst'): string => {
    const value = measure(cell, metric);
    if (value === null) return '-';
    return value.halfWidth === null ? percent(value.mean) : `${percent(value.mean)} ±${percent(value.halfWidth)}`;
  };
  const name = describeSettings(cell, axes) || cell.settings.algorithm;
  return [name, spent('server'), spent('release'), reached('mean'), reached('worst'), String(cell.runs.length)];
}

function printCells(results: readonly RecordedResult[]): void {
  const cells = cellsOf(results);
  for (const scenario of new Set(cells.map((cell) => cell.scenario))) {
    const own = cells.filter((cell) => cell.scenario === scenario);
    const axes = [...new Set([...varyingAxes(own), 'algorithm' as const])];
    const head = [scenario, 'ε server', 'ε release', 'mean', 'worst 10 %', 'seeds'];
    console.log(`\n${table([head, ...own.map((cell) => cellRow(cell, axes))])}`);
  }
  console.log(
    '\naccuracies in percent, of the last round; ±: 95 % confidence interval of the mean over seeds; simulations',
  );
}

/** Minutes and seconds. */
function duration(seconds: number): string {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;
}

const jobName = ({ experiment, scenario }: BenchmarkJob): string => {
  const { algorithm, privacy, seed } = experiment;
  const noise =
    privacy === null ? '' : 'epsilon' in privacy ? `, ε ${privacy.epsilon}` : `, noise ${privacy.noiseMultiplier}`;
  return `${scenario} ${algorithm}${noise}, seed ${seed}`;
};

async function sweep(what: string, flags: SweepFlags): Promise<void> {
  const study = await readStudy(what, flags);
  const jobs = studyJobs(study, sourceOf(flags), await readModels(study, isDescription(what) ? dirname(what) : '.'));
  const folder =
    flags.out ??
    join('runs', isDescription(what) ? basename(what, extname(what)) : `sweep-${what.replace(/\W+/g, '-')}`);
  if (flags.dryRun) {
    if (flags.json) for (const { source: _, ...job } of jobs) console.log(JSON.stringify(job));
    else console.log(`${jobs.length} runs into ${folder}\n${jobs.map(jobName).join('\n')}`);
    return;
  }
  const isTerminal = process.stderr.isTTY === true && !flags.json;
  const started = performance.now();
  let [done, fresh] = [0, 0];
  let refused: { readonly job: BenchmarkJob; readonly reason: string } | undefined;
  const say = (line: string): void => {
    if (isTerminal) process.stderr.write('\r\u001b[K');
    console.error(line);
  };
  process.once('SIGINT', () => {
    say(`stopped: ${done} of ${jobs.length} runs are in ${folder}; the same command goes on from there`);
    process.exit(130);
  });
  const results = await runBenchmark(jobs, folder, flags.threads, {
    onStep(job, step) {
      if (!isTerminal) return;
      const left =
        fresh === 0 ? '' : `, ${duration(((performance.now() - started) / 1_000 / fresh) * (jobs.length - done))} left`;
      process.stderr.write(`\r\u001b[K${done} of ${jobs.length}${left}  ${jobName(job)}, round ${step}`);
    },
    onRefused(job, reason) {
      done += 1;
      refused ??= { job, reason };
      say(`${done} of ${jobs.length}: ${jobName(job)} does not run: ${reason}`);
    },
    onResult(result, isNew) {
      done += 1;
      if (!isNew) return;
      fresh += 1;
      const { algorithm, epsilon, personal, protection, scenario, seconds, seed } = result;
      const noise = epsilon === null || protection === 'none' ? '' : `, ε ${epsilon.server.toFixed(2)}`;
      if (!flags.json)
        say(
          `${done} of ${jobs.length}: ${scenario} ${algorithm}${noise}, seed ${seed}: ${percent(personal.mean)} % (${seconds.toFixed(1)} s)`,
        );
    },
  });
  if (results.length === 0 && refused !== undefined)
    throw new CoveyError('USAGE_CONFIG', `no run fits: ${refused.reason}`);
  await writeFileAtomic(join(folder, STUDY_FILE), `${JSON.stringify(study, null, 2)}\n`);
  if (flags.json) {
    for (const result of results) console.log(JSON.stringify(result));
    return;
  }
  printCells(results);
  console.log(
    `${results.length} runs, ${fresh} of them new, in ${join(folder, RESULTS_FILE)}; next: covey experiment plot ${folder}`,
  );
}

/** `covey experiment sweep` */
export function addSweepCommand(experiment: Command): void {
  const target = listOf(orNone(numberIn(1e-3, 1e6)));
  addDataOptions(experiment.command('sweep'))
    .description('Run every combination of settings, in parallel; runs that are recorded are not computed again')
    .argument('<study>', 'a scenario, with lists as flags, or a study file (.yaml, .json)')
    .option('--algorithm <ids>', 'separated by commas; local: every participant alone', listOf(String))
    .option('--epsilon <list>', 'targets, server view; none: without protection', target)
    .option('--noise-multiplier <list>', 'noise deviations over sensitivity, in place of targets', target)
    .option('--clip <list>', 'clipping norms', listOf(numberIn(1e-6, 1e6)))
    .option('--rounds <list>', 'training rounds', listOf(integerIn(1, 100_000)))
    .option('--server-step <list>', 'step sizes of the server', listOf(numberIn(1e-6, 1e6)))
    .option('--sampling <list>', 'unit record: probabilities that a record joins a step', listOf(numberIn(1e-6, 1)))
    .option(
      '--terms <list>',
      'unit record: integer, or float-bounded sums (rounded once)',
      listOf(wordOf(['integer', 'float-bounded'])),
    )
    .option('--per-step <list>', 'participants of a step, drawn anew', listOf(integerIn(3, 65_535)))
    .option('--dropouts <list>', 'shares of them that are lost in every step', listOf(numberIn(0, 0.9)))
    .option('--slots <list>', 'K of clustered algorithms', listOf(integerIn(2, 64)))
    .option(
      '--mode <list>',
      'hidden, hybrid (slots) or open (true groups declared)',
      listOf(wordOf(['hidden', 'hybrid', 'open'])),
    )
    .option('--unit <unit>', 'record or participant (default: of the scenario)', wordOf(['record', 'participant']))
    .option('--delta <x>', 'delta of the claims', numberIn(1e-12, 0.5))
    .option('--colluders <n>', 'members whose noise does not count', integerIn(0, 65_535))
    .option('--count-noise <x>', 'deviation of the noise on slot counts, in members', numberIn(1e-6, 1e6))
    .option(
      '--slot-mean <by>',
      'divide the sum of a slot by an even share, or by the released counts',
      wordOf(['even', 'counts']),
    )
    .option('--model <file>', 'a layers model (tfjs-layers or Keras JSON) in place of the model of the scenario')
    .option('--set <name=number>', 'an option of algorithms that have it', pairs, {})
    .option('--seeds <n>', 'runs of every cell (default: 1, or as the study says)', integerIn(1, 1_000))
    .option('--first-seed <n>', 'seed of the first run', integerIn(0, 0xffff_0000))
    .option('--out <folder>', 'folder of results (default: runs/<study>)')
    .option('--threads <n>', 'threads', integerIn(1, 256), Math.max(1, availableParallelism()))
    .option('--dry-run', 'list the runs and compute nothing', false)
    .option('--json', 'print results as JSON lines', false)
    .addHelpText(
      'after',
      '\nExamples:\n  covey experiment sweep heart-4 --algorithm fedavg,ditto,local --unit record --delta 0.001 --epsilon 0.5,1,2,4,none --seeds 3 --data-dir data\n  covey experiment sweep examples/budget-study/study.yaml\n\nCtrl-C loses the running runs at most; the same command goes on. Combinations that do not fit are named and left out.\nExit codes: 0 done, 2 wrong usage, 3 a combination that breaks the privacy claim, 130 stopped',
    )
    .action(sweep);
}
