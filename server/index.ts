import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { systemClock } from '../platform/node/clock.ts';
import { nodeCrypto, nodeRandom } from '../platform/node/crypto.ts';
import { readKeyFile } from '../platform/node/key-file.ts';
import { createMaskPool } from '../platform/node/mask-pool.ts';
import { loadModelFile } from '../platform/node/model-file.ts';
import { openStore } from '../platform/node/store.ts';
import { openTranscriptFolder } from '../platform/node/transcript-file.ts';
import { type SocketServer, startSocketServer } from '../platform/transport/socket-server.ts';
import { fromUtf8, toHex, utf8 } from '../protocol/bytes.ts';
import { CoveyError } from '../protocol/errors.ts';
import { nodeId } from '../protocol/params.ts';
import { type DenseShape, denseManifest } from '../src/learning/manifest.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { type StartingWeights, startingHash, startingWeights } from '../src/run/layout.ts';
import { federationFromJson } from '../src/run/roster.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import type { ServerConfig } from './config.ts';
import type { RunProgress } from './coordinator/progress.ts';
import { type Coordinator, createCoordinator } from './coordinator/run.ts';
import { requireMember } from './coordinator/session.ts';
import { exportRun } from './export.ts';
import { createHttpHandler } from './http/health.ts';
import { createMetrics } from './http/metrics.ts';

export interface RunServerOptions {
  /** Folder of the configuration file; relative paths start here. */
  readonly base: string;
  readonly config: ServerConfig;
  onProgress(progress: RunProgress): void;
  onListening(port: number): void;
  onError(error: unknown): void;
}

/** The configuration of the run with the model of its files, and the weights that it starts from. */
export async function openRun(
  config: ServerConfig,
  participants: number,
  at: (path: string) => string,
): Promise<{ readonly config: RunConfig; readonly start: StartingWeights | undefined }> {
  const { model } = config.run;
  if (model === undefined) return { config: runConfigOf(config, participants), start: undefined };
  const { shape, weights } = await loadModelFile(at(model.file), {
    sharedLayers: model.sharedLayers,
    weights: model.weights === undefined ? undefined : at(model.weights),
  });
  const own = runConfigOf(config, participants, shape);
  if (weights === null) return { config: own, start: undefined };
  const start = startingWeights(denseManifest(shape), weights);
  const training = { ...own.training, initialWeights: startingHash(nodeCrypto, start) };
  return { config: parseRunConfig({ ...own, training }), start };
}

function runConfigOf(config: ServerConfig, participants: number, model?: DenseShape): RunConfig {
  const { run } = config;
  if ('config' in run)
    return parseRunConfig(model === undefined ? run.config : { ...(run.config as object | undefined), model });
  return scenarioConfig(run.scenario, {
    model,
    seed: run.seed,
    steps: run.steps,
    targetEpsilon: run.targetEpsilon,
    unit: run.unit,
    mechanism: run.mechanism,
    terms: run.terms,
    xnoise: run.xnoise,
    algorithm: run.algorithm,
    metrics: run.metrics,
    localNoise: run.localNoise,
    perPerson: run.perPerson,
    table: run.table,
    optimizer: run.optimizer,
    localStep: run.localStep,
    participants,
  });
}

/** Runs the coordinator of one run until its schedule is done, then exports what an auditor needs. */
export async function runServer(options: RunServerOptions): Promise<void> {
  const { base, config } = options;
  const at = (path: string): string => resolve(base, path);
  const federation = federationFromJson(nodeCrypto, JSON.parse(await readFile(at(config.federation), 'utf8')));
  const secretSeed = await readKeyFile(at(config.key));
  const publicKey = nodeCrypto.ed25519PublicKey(secretSeed);
  if (toHex(publicKey) !== toHex(federation.coordinatorKey)) {
    throw new CoveyError('USAGE_CONFIG', '"key" expected the coordinator key of the federation file, got another key');
  }
  const identity = { id: nodeId(nodeCrypto, publicKey), publicKey, secretSeed };
  const readTls = async (files: { cert: string; key: string }): Promise<{ cert: string; key: string }> => ({
    cert: await readFile(at(files.cert), 'utf8'),
    key: await readFile(at(files.key), 'utf8'),
  });
  const folder = at(config.state);
  await mkdir(folder, { recursive: true });
  const store = await openStore(join(folder, 'coordinator.sqlite'));
  const { config: runConfig, start } = await openRun(config, federation.roster.entries.length, at);
  // The run outlives the process: its identifier is drawn once and kept.
  let runId = (await store.get('run', 'id')) ?? null;
  if (runId === null) {
    runId = utf8(toHex(nodeRandom(16)));
    await store.put('run', 'id', runId);
  }
  let server: SocketServer | null = null;
  const connected = (): readonly Uint8Array[] => server?.connected() ?? [];
  const metrics = createMetrics({ connectedNodes: () => connected().length });
  let isReady = true;
  const masks = createMaskPool({ threads: config.maskThreads });
  const coordinator: Coordinator = await createCoordinator({
    config: runConfig,
    start,
    runId: fromUtf8(runId),
    roster: federation.roster,
    identity,
    crypto: nodeCrypto,
    store,
    mask: masks.mask,
    peers: { send: async (id, bytes) => (await server?.send(toHex(id), bytes)) ?? false, connected },
    now: systemClock.now,
    onProgress(progress) {
      metrics.observe(progress);
      options.onProgress(progress);
    },
    onError: options.onError,
    graceMs: config.graceMs,
    joinMs: config.joinMs,
    ...(config.transcripts ? { transcripts: openTranscriptFolder(join(folder, 'transcripts')) } : {}),
    gatherMs: config.gatherMs,
  });
  server = await startSocketServer({
    host: config.host,
    port: config.port,
    insecure: config.insecure,
    ...(config.tls === undefined ? {} : { tls: await readTls(config.tls) }),
    identity,
    authenticate: (id) => requireMember(federation.roster, id).publicKey,
    crypto: nodeCrypto,
    random: nodeRandom,
    httpHandler: createHttpHandler({ isReady: () => isReady, metrics, onError: options.onError }),
    onOpen: ({ id }, isResumed) => coordinator.onOpen(id, isResumed),
    onMessage: ({ id }, bytes) => coordinator.onMessage(id, bytes),
    onClose: ({ id }) => coordinator.onClose(id),
    onError: options.onError,
  });
  options.onListening(server.port);
  try {
    await coordinator.run();
    await exportRun(join(folder, 'run'), nodeCrypto, identity, runConfig, coordinator.journal(), coordinator.models());
  } finally {
    isReady = false;
    await server.close();
    await masks.close();
    await store.close();
  }
}

/** Folder that relative paths of a configuration file start from. */
export const baseOf = (configPath: string): string => dirname(resolve(configPath));
