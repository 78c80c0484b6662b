import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { NodeEvaluation } from '../clients/node/evaluation.ts';
import { CoveyError } from '../protocol/errors.ts';
import type { RunProgress } from '../server/coordinator/progress.ts';
import type { RunResults } from '../src/audit/results.ts';
import { summarizeAccuracies } from '../src/learning/evaluation.ts';
import type { ComparisonRow } from './comparison.ts';
import type { ComparisonJob } from './comparison-worker.ts';
import { type DemoFiles, type DemoPlan, nextRunFolder, writeDemoFiles } from './demo-setup.ts';
import { type CoveyProcess, startCovey, stopCovey } from './processes.ts';
import { writeRunFolder } from './run-folder.ts';

/** Someone who vanishes for good, by index of the organization. */
export interface PlannedLoss {
  readonly organization: number;
  readonly step: number;
  readonly when: 'before-upload' | 'after-upload';
}

export interface DemoOptions extends DemoPlan {
  readonly baseFolder: string;
  onProgress(progress: RunProgress): void;
  onLoss(loss: PlannedLoss, name: string): void;
}

export interface DemoResult {
  readonly folder: string;
  readonly results: RunResults;
  readonly elapsedMs: number;
}

/**
 * Losses of a demo: two small organizations of one style, one before and one after its upload, some steps after the
 * founding; as many as the cohort can bear.
 */
export function planLosses(plan: DemoPlan, foundingEnds: number): PlannedLoss[] {
  const bearable = plan.participants - Math.max(3, Math.ceil(plan.participants * 0.75));
  const first = Math.max(foundingEnds + 2, Math.round(plan.steps * 0.32));
  const losses: PlannedLoss[] = [
    { organization: plan.scenario === 'heart' ? 2 : 0, step: first, when: 'before-upload' },
    {
      organization: 3,
      step: first + Math.max(2, Math.round(plan.steps / 16)),
      when: 'after-upload',
    },
  ];
  return losses.slice(0, Math.max(0, Math.min(2, bearable))).filter(({ step }) => step < plan.steps);
}

const NOTE =
  'Accuracies are computed by the demo itself on the own test records of each organization that stayed; a deployment would release metrics only through the same protected sums, charged. ' +
  'Local only and Global are simulated for comparison: same data, seed, clip, noise and rounds, summed by the ideal aggregator.';

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string')
    throw new CoveyError('INTERNAL_INVARIANT', 'no free port on the loopback interface');
  return address.port;
}

function startComparison(job: ComparisonJob): Promise<ComparisonRow[]> {
  const worker = new Worker(new URL('./comparison-worker.js', import.meta.url), { workerData: job });
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

async function readEvaluation(state: string): Promise<NodeEvaluation> {
  return JSON.parse(await readFile(join(state, 'evaluation.json'), 'utf8')) as NodeEvaluation;
}

/** Waits for every process that is not meant to vanish; the first that fails stops the demo with its own words. */
async function waitForAll(processes: readonly CoveyProcess[], doomed: ReadonlySet<string>): Promise<void> {
  await Promise.all(
    processes.map(async (process) => {
      const code = await process.exited;
      if (code !== 0 && !doomed.has(process.name)) {
        throw new CoveyError(
          'ROUND_TIMEOUT',
          `${process.name} ended with ${code ?? 'a signal'}: ${process.errorTail()}`,
        );
      }
    }),
  );
}

/** Runs a whole federation on this machine: a coordinator and organizations as processes, and the rows beside it. */
export async function runDemo(options: DemoOptions): Promise<DemoResult> {
  const started = performance.now();
  const folder = nextRunFolder(options.baseFolder);
  const files: DemoFiles = await writeDemoFiles(folder, options, await freePort());
  const losses = planLosses(options, Math.max(1, Math.round((14 * options.steps) / 80)));
  const progress: RunProgress[] = [];
  const processes: CoveyProcess[] = [];
  try {
    processes.push(
      startCovey('coordinator', ['server', '--config', files.serverConfig, '--json'], (line) => {
        const event = line as unknown as RunProgress;
        progress.push(event);
        options.onProgress(event);
      }),
    );
    files.organizations.forEach(({ name, config }, i) => {
      const loss = losses.find(({ organization }) => organization === i);
      const kill = loss === undefined ? [] : ['--kill-at', `${loss.step}:${loss.when}`];
      const process = startCovey(name, ['node', '--config', config, '--evaluate', '--json', ...kill], () => undefined);
      if (loss !== undefined) void process.exited.then(() => options.onLoss(loss, name));
      processes.push(process);
    });
    const lossSteps = losses.map(({ organization, step }) => ({ organization, step }));
    const { scenario, dataFolder, model, seed, steps, targetEpsilon, participants } = options;
    const plan: DemoPlan = { scenario, dataFolder, seed, steps, targetEpsilon, participants };
    const job: ComparisonJob = { ...plan, ...(model === undefined ? {} : { model }), losses: lossSteps };
    const simulated = startComparison(job);
    const doomed = new Set(losses.map(({ organization }) => files.organizations[organization]?.name ?? ''));
    await waitForAll(processes, doomed);
    const survivors = files.organizations.filter(({ name }) => !doomed.has(name));
    const evaluations = await Promise.all(survivors.map(({ state }) => readEvaluation(state)));
    const rows = await simulated;
    const results = summarizeRun(files, progress, losses, evaluations, rows);
    const bundle = await writeRunFolder(files, results);
    return { folder: bundle, results, elapsedMs: performance.now() - started };
  } finally {
    for (const process of processes) stopCovey(process);
  }
}

function summarizeRun(
  files: DemoFiles,
  progress: readonly RunProgress[],
  losses: readonly PlannedLoss[],
  evaluations: readonly NodeEvaluation[],
  simulated: readonly ComparisonRow[],
): RunResults {
  const releases = progress.filter((event) => event.event === 'release');
  const last = releases.at(-1);
  if (last === undefined) throw new CoveyError('ROUND_TIMEOUT', 'the run released nothing');
  const lost = new Set(losses.map(({ organization }) => organization));
  const row = (name: string, accuracies: readonly number[]): { name: string; mean: number; worst: number } => {
    const { mean, worst } = summarizeAccuracies(accuracies);
    return { name, mean, worst };
  };
  const federated = {
    epsilonServer: last.epsilonServer,
    epsilonRelease: last.epsilonRelease,
    bytesUp: last.uploadBytesTotal,
    simulated: false,
  };
  const table = [
    ...simulated.map(({ name, accuracies, epsilon, uploadBytes }) => ({
      ...row(
        name,
        accuracies.filter((_, i) => !lost.has(i)),
      ),
      epsilonServer: epsilon?.server ?? null,
      epsilonRelease: epsilon?.release ?? null,
      bytesUp: uploadBytes,
      simulated: true,
    })),
    {
      ...row(
        'Clustered',
        evaluations.map(({ released }) => released),
      ),
      ...federated,
    },
    {
      ...row(
        'Clustered + personal',
        evaluations.map(({ personal }) => personal),
      ),
      ...federated,
    },
  ];
  const steps = evaluations[0]?.overSteps.map(({ step }) => step) ?? [];
  const counts = releases.findLast((event) => event.counts !== null)?.counts ?? [];
  const finished = progress.findLast((event) => event.event === 'finished');
  return {
    claims: {
      server: { epsilon: last.epsilonServer, delta: 1e-5 },
      release: { epsilon: last.epsilonRelease, delta: 1e-5 },
      perParticipant: finished?.epsilons ?? {},
    },
    table,
    accuracyOverRounds: steps.map((step, i) => {
      const { mean, worst } = summarizeAccuracies(evaluations.map(({ overSteps }) => overSteps[i]?.accuracy ?? 0));
      return { round: step, mean, worst };
    }),
    lost: losses.map(({ organization, step, when }) => ({
      organization: files.organizations[organization]?.name ?? '',
      round: step,
      phase: when,
    })),
    clusters: counts.map((noisyCount, slot) => ({
      slot,
      noisyCount,
      line: `a noisy sum of gradients at every step and a noisy count of about ${Math.max(0, noisyCount).toFixed(1)} members`,
    })),
    note: NOTE,
  };
}
