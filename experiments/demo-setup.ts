import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { NodeConfig } from '../clients/node/config.ts';
import { nodeCrypto, nodeRandom } from '../platform/node/crypto.ts';
import { createKeyFile } from '../platform/node/key-file.ts';
import { toHex } from '../protocol/bytes.ts';
import { CoveyError } from '../protocol/errors.ts';
import { digitCanaries } from '../src/data/digit-canaries.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import { buildRoster, federationToJson } from '../src/run/roster.ts';
import { CANARIES_FILE, type CanaryTruth } from './attacks/finished-run.ts';

/** Files of a demo federation: what an operator and each organization would write by hand. */
export interface DemoFiles {
  readonly folder: string;
  readonly serverConfig: string;
  readonly coordinatorKey: Uint8Array;
  readonly coordinatorSeed: Uint8Array;
  readonly organizations: readonly {
    readonly name: string;
    readonly config: string;
    readonly state: string;
    readonly id: string;
  }[];
}

export interface DemoPlan {
  readonly scenario: 'digits' | 'heart';
  readonly dataFolder: string | null;
  readonly seed: number;
  readonly steps: number;
  readonly targetEpsilon: number;
  readonly participants: number;
  /** A layers model in place of the scenario's: its file, and what the file says. */
  readonly modelFile?: string;
  readonly model?: DenseShape;
  /** Canaries over all organizations, each in by a fair coin; none by default. */
  readonly canaries?: number;
}

/** Coins of the canaries of each organization, from the system's generator: no seed gives them away. */
function tossDemoCoins({ canaries = 0, participants, seed }: DemoPlan): boolean[][] {
  return Array.from({ length: participants }, (_, i) => {
    const share = Math.floor(canaries / participants) + (i < canaries % participants ? 1 : 0);
    if (share === 0) return [];
    const { count } = digitCanaries(seed, i);
    if (share > count)
      throw new CoveyError('USAGE_CONFIG', `"canaries" expected at most ${count} for each organization, got ${share}`);
    return [...nodeRandom(share)].map((byte) => (byte & 1) === 1);
  });
}

/** Numbers of the canaries that are in; a demo without canaries says nothing of them. */
const canariesOf = (included: readonly boolean[]): { canaries?: readonly number[] } =>
  included.length === 0 ? {} : { canaries: included.flatMap((isIn, j) => (isIn ? [j] : [])) };

/** First free folder `<base>/demo-<n>`. */
export function nextRunFolder(base: string): string {
  for (let n = 1; ; n++) {
    const folder = join(base, `demo-${n}`);
    if (!existsSync(folder)) return folder;
  }
}

/** Makes keys, the federation file and one configuration for each process. */
export async function writeDemoFiles(folder: string, plan: DemoPlan, port: number): Promise<DemoFiles> {
  const coins = tossDemoCoins(plan);
  await mkdir(join(folder, 'coordinator'), { recursive: true });
  const coordinatorSeed = nodeRandom(32);
  const coordinatorKey = nodeCrypto.ed25519PublicKey(coordinatorSeed);
  await createKeyFile(join(folder, 'coordinator', 'coordinator.key'), coordinatorSeed);
  const organizations: { name: string; config: string; state: string; publicKey: Uint8Array }[] = [];
  for (let i = 0; i < plan.participants; i++) {
    const name = `${plan.scenario === 'heart' ? 'hospital' : 'organization'}-${i + 1}`;
    const state = join(folder, 'organizations', name);
    await mkdir(state, { recursive: true });
    const seed = nodeRandom(32);
    await createKeyFile(join(state, 'node.key'), seed);
    const data: NodeConfig['data'] =
      plan.scenario === 'digits'
        ? { kind: 'digits', seed: plan.seed, organization: i, ...canariesOf(coins[i] ?? []) }
        : { kind: 'heart', folder: plan.dataFolder ?? '', hospital: i };
    const config = join(state, 'node.yaml');
    await writeFile(
      config,
      toYaml({
        coordinator: `ws://127.0.0.1:${port}`,
        federation: '../../federation.json',
        key: 'node.key',
        state: '.',
        data,
        policy: { maxEpsilon: plan.targetEpsilon, maxDelta: 1e-5 },
      }),
    );
    organizations.push({ name, config, state, publicKey: nodeCrypto.ed25519PublicKey(seed) });
  }
  const roster = buildRoster(
    nodeCrypto,
    1,
    organizations.map(({ name, publicKey }) => ({ organization: name, publicKey })),
  );
  if ((plan.canaries ?? 0) > 0) {
    const truth: CanaryTruth = {
      seed: plan.seed,
      organizations: organizations.map(({ name }, i) => ({ name, included: coins[i] ?? [] })),
    };
    await writeFile(join(folder, CANARIES_FILE), `${JSON.stringify(truth)}\n`);
  }
  await writeFile(
    join(folder, 'federation.json'),
    `${JSON.stringify(federationToJson({ coordinatorKey, roster }), null, 2)}\n`,
  );
  const serverConfig = join(folder, 'coordinator', 'covey.yaml');
  await writeFile(
    serverConfig,
    toYaml({
      host: '127.0.0.1',
      port,
      federation: '../federation.json',
      key: 'coordinator.key',
      state: '.',
      graceMs: 2_000,
      joinMs: 15_000,
      gatherMs: 120_000,
      run: {
        scenario: plan.scenario,
        seed: plan.seed,
        steps: plan.steps,
        targetEpsilon: plan.targetEpsilon,
        ...(plan.modelFile === undefined ? {} : { model: { file: plan.modelFile } }),
      },
    }),
  );
  const idOf = new Map(roster.entries.map(({ id, organization }) => [organization, toHex(id)]));
  return {
    folder,
    serverConfig,
    coordinatorKey,
    coordinatorSeed,
    organizations: organizations.map(({ name, config, state }) => ({ name, config, state, id: idOf.get(name) ?? '' })),
  };
}

/** YAML of plain values: JSON is YAML, and one key a line stays readable. */
function toYaml(value: Record<string, unknown>): string {
  return `${Object.entries(value)
    .map(([key, field]) => `${key}: ${JSON.stringify(field)}`)
    .join('\n')}\n`;
}
