import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { writeFileAtomic } from '../platform/node/atomic-file.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { toHex, utf8 } from '../protocol/bytes.ts';
import { CoveyError } from '../protocol/errors.ts';
import { canonicalJson } from '../src/audit/canonical-json.ts';
import type { ScenarioManifest } from '../src/data/scenario.ts';
import type { ExperimentResult } from './experiment.ts';
import type { ExperimentMode, ExperimentOptions } from './experiment-config.ts';
import { lockFolder } from './folder-lock.ts';
import type { DataSource } from './scenarios/data-source.ts';
import type { OptionValues } from './scenarios/options.ts';
import type { FoundScenario } from './scenarios/scenario-type.ts';

/** A scenario and how to get its data. */
export interface ScenarioChoice {
  readonly scenario: string;
  readonly options: OptionValues;
  readonly source: DataSource | null;
  /** The file that describes the scenario, where it is one's own. */
  readonly file?: string;
}

/** A scenario that was found, with where its data are. */
export function choiceOf({ file, options, scenario }: FoundScenario, source: DataSource | null): ScenarioChoice {
  return { scenario: scenario.id, options, source, ...(file === undefined ? {} : { file }) };
}

/** One row to compute: everything that decides its numbers. */
export interface BenchmarkJob extends ScenarioChoice {
  readonly experiment: ExperimentOptions;
  readonly protocol: 'ideal' | 'real';
}

export interface RecordedResult extends ExperimentResult {
  /** Hash of the job, so that a run that was cut off goes on where it stopped. */
  readonly job: string;
  readonly protocol: BenchmarkJob['protocol'];
  /** Of the scenario, where any were given. */
  readonly scenarioOptions?: OptionValues;
  /** What was asked for; `epsilon` is what it came to. */
  readonly privacy?: ExperimentOptions['privacy'];
  readonly settings: ExperimentOptions['settings'];
  readonly perStep: number | null;
  readonly colluders: number;
  readonly dropouts?: number;
  readonly mode?: ExperimentMode;
  readonly versions: { readonly covey: string; readonly node: string };
}

/** What a worker reports. */
export type WorkerMessage =
  | { readonly kind: 'ready'; readonly split: ScenarioManifest }
  | { readonly kind: 'step'; readonly step: number }
  | { readonly kind: 'result'; readonly result: ExperimentResult }
  /** `job`: this row was refused; `load`: the data could not be had. */
  | { readonly kind: 'failed'; readonly of: 'job' | 'load'; readonly code: string; readonly message: string };

export interface BenchmarkProgress {
  onStep(job: BenchmarkJob, step: number): void;
  onResult(result: RecordedResult, isNew: boolean): void;
  /** A row that its own settings refuse. Absent: such a row ends the benchmark. */
  onRefused?(job: BenchmarkJob, reason: string): void;
}

const COVEY_VERSION = '0.1.0';

/** Identifies a row. Where its data come from says nothing about its numbers: the manifest of the split does. */
export function jobHash({ scenario, options, experiment, protocol }: BenchmarkJob): string {
  return toHex(nodeCrypto.sha256(utf8(canonicalJson({ scenario, options, experiment, protocol })))).slice(0, 32);
}

/** Name of the file of a split manifest beside the rows that name its hash. */
export const splitFile = (sha256: string): string => `split-${sha256.slice(0, 16)}.json`;

export const RESULTS_FILE = 'results.jsonl';
export const TABLE_FILE = 'results.csv';

/** Results of a folder, in the order in which they were computed. A last line that was cut off is computed again. */
export async function readResults(folder: string): Promise<RecordedResult[]> {
  const text = await readFile(join(folder, RESULTS_FILE), 'utf8').catch(() => '');
  const lines = text.split('\n').filter((line) => line !== '');
  return lines.flatMap((line, i) => {
    try {
      return [JSON.parse(line) as RecordedResult];
    } catch (cause) {
      if (i === lines.length - 1) return [];
      throw new CoveyError('CODEC_TYPE', `"${RESULTS_FILE}" expected JSON in line ${i + 1}`, {}, { cause });
    }
  });
}

const CSV_COLUMNS = [
  'scenario',
  'seed',
  'algorithm',
  'rounds',
  'unit',
  'protection',
  'delta',
  'epsilonServer',
  'epsilonRelease',
  'weighted',
  'mean',
  'stddev',
  'worstTenth',
  'balanced',
  'releasedWeighted',
  'releasedMean',
  'bytesUp',
  'bytesDown',
  'seconds',
  'protocol',
  'split',
] as const;

function csvRow(result: RecordedResult): string {
  const { personal, released, epsilon } = result;
  const protectedBy = result.protection === 'noise' ? epsilon : null;
  const cells: Record<(typeof CSV_COLUMNS)[number], string | number | null> = {
    ...result,
    epsilonServer: protectedBy?.server ?? null,
    epsilonRelease: protectedBy?.release ?? null,
    weighted: personal.weightedMean,
    mean: personal.mean,
    stddev: personal.stddev,
    worstTenth: personal.worstTenth,
    releasedWeighted: released?.weightedMean ?? null,
    releasedMean: released?.mean ?? null,
  };
  return CSV_COLUMNS.map((column) => cells[column] ?? '').join(',');
}

/** One table of all results of a folder. */
export function resultsTable(results: readonly RecordedResult[]): string {
  return `${[CSV_COLUMNS.join(','), ...results.map(csvRow)].join('\n')}\n`;
}

function startWorker(choice: ScenarioChoice, seed: number): Worker {
  return new Worker(new URL('./experiment-worker.js', import.meta.url), { workerData: { ...choice, seed } });
}

/** Runs jobs of one scenario and seed in a worker, one after the other, until there are none left. */
function workOff(
  choice: ScenarioChoice,
  seed: number,
  next: () => BenchmarkJob | undefined,
  onMessage: (job: BenchmarkJob, message: WorkerMessage) => Promise<void>,
  onSplit: (split: ScenarioManifest) => Promise<void>,
  onRefused: BenchmarkProgress['onRefused'],
): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = startWorker(choice, seed);
    let job: BenchmarkJob | undefined;
    const end = (error?: unknown): void => {
      void worker.terminate();
      if (error === undefined) resolve();
      else reject(error);
    };
    const advance = (): void => {
      job = next();
      if (job === undefined) end();
      else worker.postMessage({ experiment: job.experiment, protocol: job.protocol });
    };
    worker.on('error', end);
    worker.on('message', (message: WorkerMessage) => {
      if (message.kind === 'failed') {
        if (message.of === 'load' || job === undefined || onRefused === undefined) {
          end(new CoveyError(message.code as CoveyError['code'], message.message));
          return;
        }
        onRefused(job, message.message);
        advance();
      } else if (message.kind === 'ready') onSplit(message.split).then(advance, end);
      else if (job !== undefined)
        onMessage(job, message).then(() => {
          if (message.kind === 'result') advance();
        }, end);
    });
  });
}

/**
 * Computes the rows of jobs that are not in the folder yet, on as many threads as asked for, and appends each as it is
 * done. The numbers of a row do not depend on the threads or on what else is computed.
 * @returns the rows in the order of the jobs, without the refused ones.
 * @throws CoveyError of the first row that fails; those that were done stay. USAGE_STATE while another process writes.
 */
export async function runBenchmark(
  jobs: readonly BenchmarkJob[],
  folder: string,
  threads: number,
  progress: BenchmarkProgress,
): Promise<RecordedResult[]> {
  const unlock = await lockFolder(folder);
  try {
    return await workThrough(jobs, folder, threads, progress);
  } finally {
    await unlock();
  }
}

async function workThrough(
  jobs: readonly BenchmarkJob[],
  folder: string,
  threads: number,
  progress: BenchmarkProgress,
): Promise<RecordedResult[]> {
  const results = await readResults(folder);
  // A line that was cut off must not be continued by the next one.
  await writeFileAtomic(join(folder, RESULTS_FILE), results.map((result) => `${JSON.stringify(result)}\n`).join(''));
  const known = new Map(results.map((result) => [result.job, result]));
  const wanted = jobs.map((job) => ({ job, hash: jobHash(job) }));
  for (const { hash } of wanted) {
    const result = known.get(hash);
    if (result !== undefined) progress.onResult(result, false);
  }
  const open = wanted.filter(({ hash }) => !known.has(hash)).map(({ job }) => job);
  let writing: Promise<void> = Promise.resolve();
  const onMessage = (job: BenchmarkJob, message: WorkerMessage): Promise<void> => {
    if (message.kind === 'step') progress.onStep(job, message.step);
    if (message.kind !== 'result') return Promise.resolve();
    const { settings, perStep, colluders, dropouts, mode, privacy } = job.experiment;
    const versions = { covey: COVEY_VERSION, node: process.versions.node };
    const recorded = {
      job: jobHash(job),
      ...message.result,
      protocol: job.protocol,
      ...(Object.keys(job.options).length === 0 ? {} : { scenarioOptions: job.options }),
      privacy,
      settings,
      perStep,
      colluders,
      ...(dropouts === undefined ? {} : { dropouts }),
      ...(mode === undefined ? {} : { mode }),
      versions,
    };
    known.set(recorded.job, recorded);
    writing = writing.then(() => appendFile(join(folder, RESULTS_FILE), `${JSON.stringify(recorded)}\n`));
    progress.onResult(recorded, true);
    return writing;
  };
  const onSplit = (split: ScenarioManifest): Promise<void> =>
    writeFileAtomic(join(folder, splitFile(split.sha256)), `${canonicalJson(split)}\n`);
  // A worker holds the data of one scenario and seed; a thread that finds its queue empty takes up the next one.
  const queues = new Map<string, BenchmarkJob[]>();
  for (const job of open) {
    const key = canonicalJson([job.scenario, job.options, job.experiment.seed]);
    queues.set(key, [...(queues.get(key) ?? []), job]);
  }
  let isFailed = false;
  const work = async (): Promise<void> => {
    for (;;) {
      const queue = [...queues.values()].find(({ length }) => length > 0);
      const [first] = queue ?? [];
      if (queue === undefined || first === undefined || isFailed) return;
      const next = (): BenchmarkJob | undefined => (isFailed ? undefined : queue.shift());
      await workOff(first, first.experiment.seed, next, onMessage, onSplit, progress.onRefused).catch(
        (error: unknown) => {
          isFailed = true;
          throw error;
        },
      );
    }
  };
  await Promise.all(Array.from({ length: Math.min(threads, open.length) }, work));
  const all = await readResults(folder);
  await writeFile(join(folder, TABLE_FILE), resultsTable(all));
  return wanted.flatMap(({ hash }) => known.get(hash) ?? []);
}
