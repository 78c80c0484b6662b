import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { listFiles } from '../../platform/node/list-files.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { bytesToWords } from '../../protocol/ring.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { verifyBundle } from '../../src/audit/index.ts';
import { readLog } from '../../src/audit/read-log.ts';
import { replayLog } from '../../src/audit/replay.ts';
import type { RunResults } from '../../src/audit/results.ts';
import { selectRecords } from '../../src/data/dataset.ts';
import { digitCanaries } from '../../src/data/digit-canaries.ts';
import { generateDigits } from '../../src/data/digits.ts';
import { parseRunConfig, type RunConfig } from '../../src/run/config.ts';
import type { SessionOrder } from '../../src/run/order.ts';
import { planRun } from '../../src/run/plan.ts';
import {
  applyRelease,
  initialState,
  nextOrder,
  type ReleaseState,
  seatsAreDistinct,
  sumCoordinates,
} from '../../src/run/release.ts';
import { oraclesFor } from '../oracles.ts';
import type { AttackReport } from './attack-report.ts';
import { judgeMembership, type Suspect } from './membership.ts';
import type { Released } from './observe.ts';

/** File of a demo's folder that tells which canaries were in. It lies beside the bundle: a bundle's reader may not know. */
export const CANARIES_FILE = 'canaries.json';

/** Coins of a demo with canaries, organization after organization. */
export interface CanaryTruth {
  readonly seed: number;
  readonly organizations: readonly { readonly name: string; readonly included: readonly boolean[] }[];
}

const truthSchema: z.ZodType<CanaryTruth> = z.strictObject({
  seed: z.number().int().min(0),
  organizations: z.array(z.strictObject({ name: z.string().min(1), included: z.array(z.boolean()) })).min(1),
});

async function readTruth(folder: string): Promise<CanaryTruth> {
  const path = join(folder, CANARIES_FILE);
  const fail = (cause: unknown): never => {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"--run" expected the folder of a finished demo with canaries, but ${path} is not there or not readable; hint: covey demo --canaries 240`,
      {},
      { cause },
    );
  };
  const text = await readFile(path, 'utf8').catch(fail);
  try {
    return truthSchema.parse(JSON.parse(text));
  } catch (cause) {
    return fail(cause);
  }
}

interface FinishedRun {
  readonly config: RunConfig;
  readonly released: Released;
  readonly results: RunResults;
}

/** What the coordinator released, from a bundle that verifies. @throws CoveyError AUDIT_FAILED */
async function readReleased(bundle: string, crypto: CryptoProvider): Promise<FinishedRun> {
  const read = async (path: string): Promise<Uint8Array> => new Uint8Array(await readFile(join(bundle, path)));
  const verified = await verifyBundle({ list: () => listFiles(bundle), read }, crypto, {});
  if (verified.failure !== null)
    throw new CoveyError(
      'AUDIT_FAILED',
      `"--run" expected a bundle that verifies; hint: covey audit verify ${bundle} names the first failure`,
    );
  const parse = async (path: string): Promise<unknown> => JSON.parse(await readFile(join(bundle, path), 'utf8'));
  const config = parseRunConfig(await parse('config.json'));
  const results = (await parse('results.json')) as RunResults;
  const { sessions } = replayLog(readLog(await read('log.jsonl'), crypto), crypto);
  const plan = planRun(config);
  let state = initialState(config);
  const orders: SessionOrder[] = [];
  const params: SessionParams[] = [];
  const sums: Int32Array[] = [];
  const models: ReleaseState['models'][] = [];
  for (const session of sessions) {
    if (session.release === undefined) continue;
    const words = bytesToWords(await read(`sums/${session.sid}.bin`));
    const sum = sumCoordinates(session.params, words);
    // Seats that clashed were drawn again.
    if (session.kind === 'seats' && !seatsAreDistinct(sum, session.release.body.survivors)) continue;
    orders.push(nextOrder(plan, state) as SessionOrder);
    params.push(session.params);
    sums.push(sum);
    models.push(state.models);
    state = applyRelease(crypto, config, plan, state, session.params, words, session.release.body.survivors);
  }
  const { delta, relation, unit } = config.privacy;
  const { epsilon } = results.claims.server;
  const { colluders } = config.cohort;
  const claim = { epsilon, delta, unit, relation, view: 'server', colluders, accountant: 'rdp' } as const;
  return { config, released: { orders, params, sums, models: [...models, state.models], claim }, results };
}

/**
 * Membership inference on a demo that took place: its bundle, and the coins that lie beside it.
 * @throws CoveyError USAGE_CONFIG for a folder without canaries, AUDIT_FAILED for a bundle that does not verify.
 */
export async function attackFinishedRun(folder: string, crypto: CryptoProvider): Promise<AttackReport> {
  const { seed, organizations } = await readTruth(folder);
  const { config, released, results } = await readReleased(join(folder, 'bundle'), crypto);
  const suspects = organizations.map(({ name, included }, i): Suspect => {
    const rows = Uint32Array.from(included, (_, j) => j);
    return {
      own: generateDigits(seed, i).train,
      canaries: selectRecords(digitCanaries(seed, i), rows),
      included,
      lostAt: results.lost.find(({ organization }) => organization === name)?.round ?? null,
    };
  });
  const createOracle = await oraclesFor(config.model);
  return judgeMembership({ createOracle, crypto, seed, run: folder }, config, released, suspects);
}
