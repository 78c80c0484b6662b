import { parentPort, workerData } from 'node:worker_threads';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { isCoveyError } from '../protocol/errors.ts';
import type { BenchmarkJob, ScenarioChoice, WorkerMessage } from './benchmark.ts';
import { runExperiment } from './experiment.ts';
import { oraclesFor } from './oracles.ts';
import { realSum } from './real-sum.ts';
import { findScenario } from './scenarios/registry.ts';

/** Rows of the benchmark in a thread of their own, all of one scenario and seed. */
const { scenario: name, file, options, source, seed } = workerData as ScenarioChoice & { readonly seed: number };
const post = (message: WorkerMessage): void => parentPort?.postMessage(message);

async function guarded(of: 'job' | 'load', work: () => void | Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    // Errors of users keep their code on the way to the main thread; faults end the thread.
    if (!isCoveyError(error)) throw error;
    post({ kind: 'failed', of, code: error.code, message: error.message });
  }
}

await guarded('load', async () => {
  const data = await findScenario(file ?? name, source).scenario.load(seed, options, source ?? undefined);
  parentPort?.on('message', ({ experiment, protocol }: Pick<BenchmarkJob, 'experiment' | 'protocol'>) => {
    void guarded('job', async () => {
      const createOracle = await oraclesFor(experiment.settings.model);
      const result = runExperiment(nodeCrypto, data, experiment, {
        ...(protocol === 'real' ? { secureSum: realSum(data.participants.length) } : {}),
        createOracle,
        onStep: (step) => post({ kind: 'step', step }),
      });
      post({ kind: 'result', result });
    });
  });
  post({ kind: 'ready', split: data.manifest });
});
