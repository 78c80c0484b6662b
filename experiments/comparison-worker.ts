import { parentPort, workerData } from 'node:worker_threads';
import { loadHeart } from '../clients/node/data.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { generateDigits } from '../src/data/digits.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { compareFederation, compareLocal, globalConfig } from './comparison.ts';
import type { DemoPlan } from './demo-setup.ts';
import { oraclesFor } from './oracles.ts';

/** The rows beside a run, computed in a thread of their own. */
export interface ComparisonJob extends DemoPlan {
  readonly losses: readonly { readonly organization: number; readonly step: number }[];
}

const job = workerData as ComparisonJob;
const config = scenarioConfig(job.scenario, job);
const numbers = Array.from({ length: job.participants }, (_, i) => i);
const organizations = await Promise.all(
  numbers.map((i) => (job.scenario === 'digits' ? generateDigits(job.seed, i) : loadHeart(job.dataFolder ?? '', i))),
);
const isPresent = (organization: number, step: number): boolean =>
  job.losses.every((loss) => loss.organization !== organization || step < loss.step);
const createOracle = await oraclesFor(config.model);
const names = ['Global FedAvg', 'Global + personal'] as const;
parentPort?.postMessage([
  compareLocal(config, organizations, createOracle),
  ...compareFederation(nodeCrypto, globalConfig(config), organizations, isPresent, names, createOracle),
]);
