import { availableParallelism } from 'node:os';
import type { Command } from 'commander';
import {
  type BenchmarkJob,
  choiceOf,
  type RecordedResult,
  runBenchmark,
  TABLE_FILE,
} from '../experiments/benchmark.ts';
import { type ExperimentOptions, rowOf } from '../experiments/experiment-config.ts';
import { isReached } from '../experiments/oracle-problem.ts';
import { ORACLE_RUNS } from '../experiments/oracle-runs.ts';
import { algorithmOptions, checkRows, settingsWith } from '../experiments/rows.ts';
import { findScenario, SCENARIOS } from '../experiments/scenarios/registry.ts';
import type { Scenario } from '../experiments/scenarios/scenario-type.ts';
import type { TrainingSettings } from '../experiments/settings.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { loadModelFile } from '../platform/node/model-file.ts';
import { CoveyError } from '../protocol/errors.ts';
import type { Lanes } from '../protocol/session.ts';
import { weightedLayers } from '../src/learning/network.ts';
import type { LocalOptimizer } from '../src/learning/optimizer.ts';
import { ALGORITHMS, findAlgorithm } from '../src/learning/registry.ts';
import { optimizerSchema } from '../src/run/config-schema.ts';
import { addDataOptions, type DataFlags, sourceOf } from './data-flags.ts';
import { addPlotCommand } from './experiment-plot.ts';
import { addRecommendCommand } from './experiment-recommend.ts';
import { addSweepCommand } from './experiment-sweep.ts';
import { integerIn, numberIn } from './options.ts';
import { table } from './table.ts';

interface RunFlags extends DataFlags {
  readonly algorithm: string;
  readonly seeds: number;
  readonly firstSeed: number;
  readonly rounds?: number;
  readonly clip?: number;
  readonly unit?: string;
  readonly noise: string;
  readonly terms: string;
  readonly lanes?: Lanes;
  readonly slots?: number;
  readonly hidden?: string;
  readonly model?: string;
  readonly optimizer?: string;
  readonly localStep?: number;
  readonly cuts: boolean;
  readonly set: readonly string[];
  readonly epsilon?: number;
  readonly noiseMultiplier?: number;
  readonly delta?: number;
  readonly perStep?: number;
  readonly colluders: number;
  readonly labelNoise?: number;
  readonly newcomers?: number;
  readonly curriculum?: string;
  readonly lossThreshold?: string;
  readonly expert: string;
  readonly pacing: string;
  readonly protocol: string;
  readonly out: string;
  readonly threads: number;
  readonly only: boolean;
  readonly json: boolean;
}

/** Rows that every comparison shows. */
const BASELINES = ['local', 'fedavg', 'fedavg+ft'];

const percent = (share: number): string => (100 * share).toFixed(1);

function settingsFor(scenario: Scenario, flags: RunFlags): TrainingSettings {
  const noise = oneOf('--noise', ['shared', 'local', 'central'] as const, flags.noise);
  const terms = oneOf('--terms', ['integer', 'float-bounded'] as const, flags.terms);
  const { clip: clippingNorm, delta, rounds, slots, unit } = flags;
  return settingsWith(scenario.settings, {
    rounds,
    clippingNorm,
    delta,
    slots,
    noise: noise === 'shared' ? undefined : noise,
    lanes: flags.lanes,
    terms: terms === 'float-bounded' ? terms : undefined,
    unit: unit === undefined ? undefined : oneOf('--unit', ['record', 'participant'] as const, unit),
    ...(flags.hidden === undefined ? {} : { hidden: widthsOf(flags.hidden) }),
    ...(flags.optimizer === undefined ? {} : { optimizer: optimizerFor(flags.optimizer) }),
    ...(flags.localStep === undefined ? {} : { stepSize: flags.localStep }),
    ...((unit ?? scenario.settings.unit) === 'record' ? thresholdOf(flags) : curriculumOf(flags)),
  });
}

/** The model of a file, in place of the scenario's. @throws CoveyError of `loadModelFile` */
async function modelFor({ hidden, model }: RunFlags): Promise<Pick<TrainingSettings, 'model'>> {
  if (model === undefined) return {};
  if (hidden !== undefined)
    throw new CoveyError('USAGE_CONFIG', '"--model" and "--hidden" expected one of them, got both');
  const { shape } = await loadModelFile(model);
  return { model: shape };
}

/** The optimizer of local training: `adam`, `sgd`, each with `:name=number` behind it. @throws CoveyError USAGE_CONFIG */
function optimizerFor(text: string): LocalOptimizer {
  const [kind, ...pairs] = text.split(':');
  const numbers = Object.fromEntries(pairs.map((pair) => [pair.split('=')[0], Number(pair.split('=')[1])]));
  const parsed = optimizerSchema.safeParse({ kind, ...numbers });
  if (parsed.success) return parsed.data;
  throw new CoveyError(
    'USAGE_CONFIG',
    `"--optimizer" expected sgd:momentum=0.9:weightDecay=0.001 or adam:weightDecay=0.001, got ${text}`,
  );
}

/** Widths of hidden layers. @throws CoveyError USAGE_CONFIG */
function widthsOf(text: string): number[] {
  const widths = text.split(',').map(Number);
  if (!widths.every((width) => Number.isInteger(width) && width >= 1) || widths.length > 4)
    throw new CoveyError('USAGE_CONFIG', `"--hidden" expected one to four widths, got ${text}`);
  return widths;
}

/** One of the names. @throws CoveyError USAGE_CONFIG */
function oneOf<T extends string>(flag: string, names: readonly T[], text: string): T {
  const found = names.find((name) => name === text);
  if (found === undefined) throw new CoveyError('USAGE_CONFIG', `"${flag}" expected ${names.join(', ')}, got ${text}`);
  return found;
}

/** From a third of the records to all of them at three fifths of the rounds. */
function curriculumOf({ curriculum, expert, pacing }: RunFlags): Pick<TrainingSettings, 'curriculum'> {
  if (curriculum === undefined) return {};
  return {
    curriculum: {
      order: oneOf('--curriculum', ['easy', 'hard', 'random'] as const, curriculum),
      expert: oneOf('--expert', ['global', 'local', 'hybrid'] as const, expert),
      pacing: oneOf('--pacing', ['linear', 'step', 'exponential', 'log'] as const, pacing),
      startShare: 0.33,
      fullAt: 0.6,
    },
  };
}

/** The same at unit `record`: by a public threshold on the loss of a record under the released model. */
function thresholdOf(flags: RunFlags): Pick<TrainingSettings, 'lossThreshold'> {
  const { curriculum } = curriculumOf(flags);
  if (curriculum === undefined) return {};
  const { expert, fullAt, order, pacing, startShare } = curriculum;
  if (expert !== 'global')
    throw new CoveyError(
      'PRIVACY_POLICY',
      `"--expert" expected global at unit record, got ${expert}: an expert of own records depends on all of them`,
    );
  const [low = Number.NaN, high = Number.NaN] = (flags.lossThreshold ?? '0.5,3').split(',').map(Number);
  if (!(low >= 0 && high > low))
    throw new CoveyError('USAGE_CONFIG', `"--loss-threshold" expected <low>,<high>, got ${flags.lossThreshold}`);
  const [from, to] = order === 'random' ? [startShare, 1] : order === 'easy' ? [low, high] : [high, low];
  return { lossThreshold: { order, pacing, from, to, fullAt } };
}

/** `name=value` pairs. */
function readPairs(pairs: readonly string[]): Record<string, number> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const [name = '', text = ''] = pair.split('=');
      const value = Number(text);
      if (name === '' || text === '' || !Number.isFinite(value))
        throw new CoveyError('USAGE_CONFIG', `"--set" expected name=number, got ${pair}`);
      return [name, value];
    }),
  );
}

function privacyOf({ epsilon, noiseMultiplier }: RunFlags): ExperimentOptions['privacy'] {
  if (epsilon !== undefined && noiseMultiplier !== undefined)
    throw new CoveyError('USAGE_CONFIG', '"--epsilon" and "--noise-multiplier" expected one of them, got both');
  if (noiseMultiplier !== undefined) return { noiseMultiplier };
  return epsilon === undefined ? null : { epsilon };
}

/** A row for every cut of the model where the body alone is shared; other rows as they are. */
function cutsOf(row: string, layers: number): string[] {
  const { id, cut, tuned } = rowOf(row);
  if (id === 'local' || cut !== null || findAlgorithm(id).shares !== 'body') return [row];
  return Array.from({ length: layers }, (_, i) => `${id}@${i + 1}${tuned ? '+ft' : ''}`);
}

async function jobsOf(name: string, flags: RunFlags): Promise<BenchmarkJob[]> {
  const source = sourceOf(flags);
  const found = findScenario(name, source);
  const { scenario } = found;
  const settings = { ...settingsFor(scenario, flags), ...(await modelFor(flags)) };
  const runnable = ALGORITHMS.filter(
    ({ info }) =>
      settings.unit === 'participant' || settings.noise === 'local' || info.recordLevel.kind !== 'local-noise-only',
  ).filter(({ info }) => info.id !== 'fedavgm' || settings.momentum > 0);
  const asked = flags.algorithm === 'all' ? runnable.map(({ info }) => info.id) : flags.algorithm.split(',');
  const { hidden = settings.model?.hidden, model } = settings;
  const layers = model?.network === undefined ? (hidden?.length ?? 0) : weightedLayers(model.network) - 1;
  if (flags.cuts && layers === 0)
    throw new CoveyError('USAGE_CONFIG', '"--cuts" expected "--hidden" or "--model": layers to cut between');
  const named = asked.map((row) => row.trim()).flatMap((row) => (flags.cuts ? cutsOf(row, layers) : [row]));
  const rows = [...new Set([...(flags.only ? [] : BASELINES), ...named])];
  const given = readPairs(flags.set);
  checkRows(rows, settings, given, '--set');
  if (flags.protocol !== 'ideal' && flags.protocol !== 'real')
    throw new CoveyError('USAGE_CONFIG', `"--protocol" expected ideal or real, got ${flags.protocol}`);
  const { protocol } = flags;
  if (settings.noise === 'central' && protocol === 'real')
    throw new CoveyError(
      'USAGE_CONFIG',
      '"--protocol" expected ideal with central noise, which no protocol has, got real',
    );
  return Array.from({ length: flags.seeds }, (_, i) => flags.firstSeed + i).flatMap((seed) =>
    rows.map((algorithm) => ({
      ...choiceOf(found, source),
      protocol,
      experiment: {
        algorithm,
        options: algorithmOptions(algorithm, settings, given),
        settings,
        seed,
        privacy: algorithm === 'local' ? null : privacyOf(flags),
        perStep: flags.perStep ?? null,
        colluders: flags.colluders,
        ...(flags.labelNoise === undefined ? {} : { labelNoise: flags.labelNoise }),
        // Left out where nobody asked: the hash of a job is that of its fields.
        ...(flags.newcomers === undefined ? {} : { newcomers: flags.newcomers }),
      },
    })),
  );
}

/** Mean and, over several seeds, standard deviation, in percent. */
function overSeeds(values: readonly number[]): string {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  if (values.length === 1) return percent(mean);
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1);
  return `${percent(mean)} ±${percent(Math.sqrt(variance))}`;
}

const megabytes = (bytes: number): string => (bytes === 0 ? '-' : `${(bytes / 1e6).toFixed(1)} MB`);

function resultRows(results: readonly RecordedResult[]): string[][] {
  const names = [...new Set(results.map(({ algorithm }) => algorithm))];
  return names.map((name) => {
    const rows = results.filter(({ algorithm }) => algorithm === name);
    const [first] = rows as [RecordedResult];
    const spent = (view: 'server' | 'release'): string =>
      first.epsilon === null ? '0' : first.protection === 'none' ? 'none' : first.epsilon[view].toFixed(2);
    return [
      name,
      overSeeds(rows.map(({ personal }) => personal.weightedMean)),
      overSeeds(rows.map(({ personal }) => personal.mean)),
      overSeeds(rows.map(({ personal }) => personal.stddev)),
      overSeeds(rows.map(({ personal }) => personal.worstTenth)),
      first.released === null ? '-' : overSeeds(rows.map(({ released }) => released?.mean ?? 0)),
      spent('server'),
      spent('release'),
      megabytes(first.bytesUp),
      megabytes(first.bytesDown),
      `${first.seconds.toFixed(1)} s`,
    ];
  });
}

/** A problem with a known answer: what runs of the algorithms measured beside it. */
function runOracle(name: string, solve: (typeof ORACLE_RUNS)[string], { firstSeed, json, rounds }: RunFlags): void {
  const rows = solve(nodeCrypto, firstSeed, rounds);
  for (const row of rows) if (json) console.log(JSON.stringify({ scenario: name, ...row, reached: isReached(row) }));
  if (!json) {
    const cells = rows.map((row) => [
      row.name,
      row.measured.toPrecision(8),
      `${row.atMost === true ? '<= ' : ''}${row.expected.toPrecision(8)}`,
      row.tolerance.toPrecision(2),
      isReached(row) ? 'reached' : 'MISSED',
    ]);
    console.log(table([['', 'measured', 'expected', 'tolerance', ''], ...cells]));
  }
  if (!rows.every(isReached)) process.exitCode = 1;
}

/** How clusters evolved and how newcomers did, a line for each row that has it. */
function evolutionLines(results: readonly RecordedResult[]): string[] {
  return results.flatMap(({ algorithm, evolution, newcomers, seed }) => {
    const lines: string[] = [];
    const name = `${algorithm}, seed ${seed}`;
    if (evolution !== undefined) {
      const { groups, purity, slots, trials } = evolution;
      const gaps = trials.map((of) =>
        of.map(({ gap, stays }) => `${gap?.toFixed(2) ?? '-'}${stays ? '*' : ''}`).join(' '),
      );
      const fit = purity === null ? '' : `; ${groups} groups found, ${percent(purity)} % with their group`;
      lines.push(`${name}: slots ${slots.join(' ')}${fit}; gaps (* stays) ${gaps.join(' | ')}`);
    }
    if (newcomers !== undefined) {
      const { count, local, personal, released } = newcomers;
      const means = [released, personal, local].map(({ mean }) => percent(mean));
      lines.push(`${name}: ${count} newcomers: released ${means[0]} %, adapted ${means[1]} %, alone ${means[2]} %`);
    }
    return lines;
  });
}

async function run(name: string, flags: RunFlags): Promise<void> {
  const oracle = ORACLE_RUNS[name];
  if (oracle !== undefined) {
    runOracle(name, oracle, flags);
    return;
  }
  const jobs = await jobsOf(name, flags);
  const steps = new Map<string, number>();
  const total = jobs.reduce((sum, { experiment }) => sum + experiment.settings.rounds, 0);
  const isTerminal = process.stderr.isTTY === true && !flags.json;
  let done = 0;
  const results = await runBenchmark(jobs, flags.out, flags.threads, {
    onStep({ experiment }, step) {
      steps.set(`${experiment.algorithm}/${experiment.seed}`, step);
      const reached = [...steps.values()].reduce((sum, at) => sum + at, 0);
      if (isTerminal)
        process.stderr.write(`\r${Math.floor((100 * reached) / total)} %  ${experiment.algorithm}, step ${step}   `);
    },
    // Asked for everything, rows that do not fit the scenario are named and left out; asked for by name, they end the command.
    ...(flags.algorithm === 'all'
      ? {
          onRefused({ experiment }: BenchmarkJob, reason: string) {
            done += 1;
            console.error(`${done} of ${jobs.length}: ${experiment.algorithm} does not run here: ${reason}`);
          },
        }
      : {}),
    onResult(result, isNew) {
      done += 1;
      steps.set(`${result.algorithm}/${result.seed}`, result.rounds);
      if (isTerminal) process.stderr.write('\r\u001b[K');
      const { algorithm, seed, personal, seconds } = result;
      const when = isNew ? `${seconds.toFixed(1)} s` : 'recorded before';
      if (!flags.json)
        console.error(
          `${done} of ${jobs.length}: ${algorithm}, seed ${seed}: mean ${percent(personal.mean)} % (${when})`,
        );
    },
  });
  if (flags.json) {
    for (const result of results) console.log(JSON.stringify(result));
    return;
  }
  for (const line of evolutionLines(results)) console.log(line);
  const [first] = results;
  const head = ['', 'weighted', 'mean', 'std', 'worst 10 %', 'released', 'ε server', 'ε release', 'up', 'down', 'time'];
  console.log(`\n${table([head, ...resultRows(results)])}`);
  const delta = first === undefined ? '' : `, delta ${results.find((row) => row.delta !== null)?.delta ?? '-'}`;
  console.log(
    `\naccuracies in percent over participants, of the last round; "released" before any personal part; a simulation by seed${delta}\n${flags.out}/${TABLE_FILE}`,
  );
}

const LINE = 96;

/** A paragraph under its heading. */
function wrapped(text: string): string {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last === undefined || last.length + word.length >= LINE) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines.map((line) => `    ${line}`).join('\n');
}

function list(flags: { readonly json: boolean }): void {
  if (flags.json) {
    const scenarios = SCENARIOS.map(({ load: _, ...facts }) => facts);
    console.log(JSON.stringify({ scenarios, algorithms: ALGORITHMS.map(({ info }) => info) }));
    return;
  }
  console.log('Scenarios');
  for (const { id, title, about, folders, options } of SCENARIOS) {
    const names = Object.entries(options).map(([name, { byDefault }]) => `${name}=${byDefault}`);
    console.log(`\n  ${id}${names.length === 0 ? '' : ` (${names.join(', ')})`}: ${title}`);
    console.log(wrapped(about));
    console.log(`    data: ${folders.length === 0 ? 'generated' : folders.join(', ')}`);
  }
  console.log(`\nProblems with a known answer\n\n${wrapped(Object.keys(ORACLE_RUNS).join(', '))}`);
  console.log('\nAlgorithms ("+ft" behind a name: with fine-tuning at the end)\n');
  const named = [
    ['local', 'every participant alone', ''],
    ...ALGORITHMS.map(({ info }) => [info.id, info.title, info.source]),
  ];
  const widths = [0, 1].map((column) => Math.max(...named.map((row) => (row[column] ?? '').length)));
  for (const [id = '', title = '', source = ''] of named)
    console.log(`  ${id.padEnd(widths[0] ?? 0)}  ${title.padEnd(widths[1] ?? 0)}  ${source}`.trimEnd());
}

export function addExperimentCommand(program: Command): void {
  const experiment = program
    .command('experiment')
    .description('Compare algorithms and privacy settings, in this process');
  experiment
    .command('list')
    .description('Scenarios and algorithms')
    .option('--json', 'print one JSON object', false)
    .action(list);
  addDataOptions(experiment.command('run'))
    .description('Run rows of the benchmark: encoding, noise, ledger and decoding of a deployment')
    .argument(
      '<scenario>',
      'one of "covey experiment list", with options in brackets: fedprox-synthetic(1,1); a file that describes your own records (docs/scenarios.md); or a problem: oracle/quadratics',
    )
    .option('--algorithm <ids>', 'separated by commas, or all; local, fedavg and fedavg+ft are always shown', 'fedavg')
    .option('--only', 'the rows asked for alone', false)
    .option('--seeds <n>', 'runs of every row', integerIn(1, 1_000), 1)
    .option('--first-seed <n>', 'seed of the first run', integerIn(0, 0xffff_0000), 1)
    .option('--rounds <n>', 'training rounds', integerIn(1, 100_000))
    .option('--clip <x>', 'clipping norm', numberIn(1e-6, 1e6))
    .option('--unit <unit>', 'record or participant (default: of the scenario)')
    .option(
      '--noise <place>',
      'shared in the sum; local: in every gradient inside a participant (unit record); central: continuous, by a curator that a deployment does not have, for comparison',
      'shared',
    )
    .option('--terms <kind>', 'sums of records: integer, or float-bounded (rounded once; unit record)', 'integer')
    .option(
      '--lanes <n>',
      'ring coordinates in 64 bits: 2 of 32 bits, 3 of 21 or 4 of 16 (default: 2)',
      integerIn(2, 4),
    )
    .option('--slots <n>', 'slots of clustered algorithms', integerIn(2, 64))
    .option('--hidden <widths>', 'hidden layers, separated by commas (default: of the scenario)')
    .option('--model <file>', 'a layers model (tfjs-layers or Keras JSON) in place of the model of the scenario')
    .option('--optimizer <spec>', 'of local training: sgd:momentum=0.9:weightDecay=0.001 or adam (default: plain SGD)')
    .option('--local-step <x>', 'step size of local training (default: of the scenario)', numberIn(1e-9, 1e3))
    .option('--cuts', 'a row for every cut of the model where the body alone is shared', false)
    .option('--set <name=number>', 'an option of an algorithm', (pair: string, all: string[]) => [...all, pair], [])
    .option('--epsilon <x>', 'target, server view', numberIn(1e-3, 1e6))
    .option('--noise-multiplier <x>', 'noise deviation over sensitivity', numberIn(1e-3, 1e6))
    .option('--delta <x>', 'delta of the claim', numberIn(1e-12, 0.5))
    .option('--per-step <n>', 'participants of a step, drawn anew', integerIn(3, 65_535))
    .option('--colluders <n>', 'members whose noise does not count', integerIn(0, 65_535), 0)
    .option('--label-noise <x>', 'noise on label counts, in records (fedrod at unit record)', numberIn(1e-3, 1e6))
    .option('--newcomers <n>', 'last participants, who adapt the released models after the run', integerIn(1, 65_535))
    .option('--curriculum <order>', 'records of a participant from easy, hard, or at random (control); all by default')
    .option('--loss-threshold <low,high>', 'losses between which its threshold moves at unit record (default: "0.5,3")')
    .option('--expert <whose>', 'loss that says what is easy: global, local or hybrid', 'global')
    .option('--pacing <how>', 'linear, step, exponential or log', 'linear')
    .option('--protocol <which>', 'ideal aggregator, or real machines with masks and signatures', 'ideal')
    .option('--out <folder>', 'folder of results; rows in it are not computed again', 'runs/experiment')
    .option('--threads <n>', 'threads', integerIn(1, 256), Math.max(1, availableParallelism()))
    .option('--json', 'print results as JSON lines', false)
    .addHelpText(
      'after',
      '\nExamples:\n  covey experiment run digits --algorithm ditto,fedrep\n  covey experiment run qmnist-writers --algorithm ditto --clip 0.5 --noise-multiplier 8 --rounds 20 --data-dir data\n\nExit codes: 0 done, 2 wrong usage, 3 a combination that breaks the privacy claim',
    )
    .action(run);
  addSweepCommand(experiment);
  addPlotCommand(experiment);
  addRecommendCommand(experiment);
}
