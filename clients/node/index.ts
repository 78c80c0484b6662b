import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { writeFileAtomic } from '../../platform/node/atomic-file.ts';
import { systemClock } from '../../platform/node/clock.ts';
import { parseConfig } from '../../platform/node/config.ts';
import { nodeCrypto, nodeRandom } from '../../platform/node/crypto.ts';
import { readKeyFile } from '../../platform/node/key-file.ts';
import { createMaskPool } from '../../platform/node/mask-pool.ts';
import { openStore } from '../../platform/node/store.ts';
import { connectSocketClient, type SocketClient } from '../../platform/transport/socket-client.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { nodeId } from '../../protocol/params.ts';
import { createDenseOracle } from '../../src/learning/dense-oracle.ts';
import { type DenseShape, denseManifest } from '../../src/learning/manifest.ts';
import type { GradientOracle } from '../../src/learning/oracle.ts';
import type { Trainer } from '../../src/learning/trainer.ts';
import type { OutsideTrainer } from '../../src/run/outside.ts';
import { type FederationFile, federationFromJson } from '../../src/run/roster.ts';
import type { HeadKeeper } from '../core/dataset-book.ts';
import { createNode, type NodeProgress } from '../core/node.ts';
import { openExternalTrainer } from '../trainers/external-trainer.ts';
import { type NodeConfig, seenHeadSchema } from './config.ts';
import { loadNodeData } from './data.ts';
import { createEvaluator } from './evaluation.ts';

export { nodeCrypto } from '../../platform/node/crypto.ts';
export { readLayersNetwork } from '../../src/learning/layers-json.ts';
export { type ExternalTrainerOptions, openExternalTrainer } from '../trainers/external-trainer.ts';

/** Reads a federation file. @throws CoveyError USAGE_CONFIG */
export async function readFederation(path: string): Promise<FederationFile> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"federation" expected a readable file, got ${path}; hint: covey roster writes it`,
      {},
      { cause },
    );
  }
  try {
    return federationFromJson(nodeCrypto, JSON.parse(text));
  } catch (cause) {
    if (cause instanceof CoveyError) throw cause;
    throw new CoveyError('USAGE_CONFIG', `"federation" expected JSON, got ${path}`, {}, { cause });
  }
}

export interface RunNodeOptions {
  /** Folder of the configuration file; relative paths start here. */
  readonly base: string;
  readonly config: NodeConfig;
  /** Evaluate on the site's own test records and write `evaluation.json` to the state folder. */
  readonly evaluate: boolean;
  onProgress(progress: NodeProgress): void;
  onState(text: string): void;
  /** Fault injection for drills: runs before the upload and after the signature over the survivors. */
  readonly drill?: (moment: 'before-upload' | 'after-upload', step: number) => void;
}

/** Makes models for a trainer; a tensor engine is loaded only if the site or a network of layers asks for it. */
async function chooseTrainer(
  trainer: NodeConfig['trainer'],
  say: (text: string) => void,
): Promise<(model: DenseShape) => GradientOracle | Promise<GradientOracle>> {
  const onTensors = async (): Promise<(model: DenseShape) => GradientOracle> => {
    const [{ loadTensorRuntime }, { createTfjsOracle }, { networkOf }] = await Promise.all([
      import('../trainers/tfjs-runtime.ts'),
      import('../trainers/tfjs-oracle.ts'),
      import('../trainers/tfjs-network.ts'),
    ]);
    const runtime = await loadTensorRuntime();
    say(runtime.why);
    return (model) => createTfjsOracle(runtime, networkOf(model));
  };
  if (trainer === 'tfjs') return onTensors();
  // Choices, metrics and personal parts of a site with a program of its own are computed here; a network of layers always
  // needs a tensor engine, which is loaded when a run brings one.
  return async (model) => (model.network === undefined ? createDenseOracle(model) : (await onTensors())(model));
}

/** The site's training program, started when a run says what model it trains, and ended with the node. */
function createPrograms(
  program: NodeConfig['trainer'],
  base: string,
  say: (text: string) => void,
): { open: ((model: DenseShape) => Promise<OutsideTrainer>) | undefined; close(): Promise<void> } {
  const opened: Trainer[] = [];
  const close = async (): Promise<void> => {
    for (const trainer of opened) await trainer.close();
  };
  if (typeof program === 'string') return { open: undefined, close };
  const { args, command, environment, timeLimitMs } = program;
  const open = async (model: DenseShape): Promise<OutsideTrainer> => {
    const trainer = await openExternalTrainer({
      manifest: denseManifest(model),
      featureLength: model.inputs,
      classes: model.classes,
      crypto: nodeCrypto,
      // A program beside the configuration file, or one on the path; it runs in a folder of its own.
      command: /[\\/]/.test(command) ? resolve(base, command) : command,
      args: args.map((arg) => (existsSync(resolve(base, arg)) ? resolve(base, arg) : arg)),
      environment,
      onLog: (line) => say(`trainer: ${line}`),
    });
    opened.push(trainer);
    say(`trained by ${command}: ${trainer.assurance}`);
    const onFailure = ({ code, message }: CoveyError): void =>
      say(`trainer failed, this update is zero: ${message} [${code}]`);
    return { trainer, timeLimitMs, monotonicMs: systemClock.monotonicMs, onFailure };
  };
  return { open, close };
}

/** Keeps the head of a data set's ledger in a file of its own. */
function headFile(path: string): HeadKeeper {
  return {
    async load() {
      let text: string;
      try {
        text = await readFile(path, 'utf8');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
        throw error;
      }
      return parseConfig(text, path, seenHeadSchema);
    },
    save: (head) => writeFileAtomic(path, `${JSON.stringify(head)}\n`),
  };
}

/** Runs one organization's node until the coordinator has finished the run. */
export async function runNode(options: RunNodeOptions): Promise<void> {
  const { base, config } = options;
  const at = (path: string): string => resolve(base, path);
  const federation = await readFederation(at(config.federation));
  const secretSeed = await readKeyFile(at(config.key));
  const publicKey = nodeCrypto.ed25519PublicKey(secretSeed);
  const identity = { id: nodeId(nodeCrypto, publicKey), publicKey, secretSeed };
  const data = await loadNodeData(config.data, at);
  const folder = at(config.state);
  await mkdir(folder, { recursive: true });
  const store = await openStore(join(folder, 'node.sqlite'));
  const createOracle = await chooseTrainer(config.trainer, options.onState);
  const programs = createPrograms(config.trainer, base, options.onState);
  const evaluator = createEvaluator(data, folder);
  const masks = createMaskPool({ threads: config.maskThreads });
  let isFinished = false;
  // A coordinator that is away for an hour is worth one line, not a thousand.
  let told = '';
  const tell = (text: string): void => {
    if (text !== told) options.onState(text);
    told = text;
  };
  let client: SocketClient | null = null;
  let fail: (error: unknown) => void = () => undefined;
  const failed = new Promise<never>((_, reject) => {
    fail = reject;
  });
  const node = createNode({
    identity,
    federation,
    policy: config.policy,
    data: data.train,
    test: data.test,
    createOracle,
    openTrainer: programs.open,
    crypto: nodeCrypto,
    random: nodeRandom,
    store,
    mask: masks.mask,
    datasetHeads: headFile(at(config.datasetHead)),
    send: async (bytes) => client?.send(bytes),
    now: systemClock.now,
    async onProgress(progress) {
      options.onProgress(progress);
      if (progress.event === 'contributing' && progress.session.kind === 'train')
        options.drill?.('before-upload', progress.session.step);
      if (progress.event === 'agreed' && progress.session.kind === 'train')
        options.drill?.('after-upload', progress.session.step);
      if (progress.event === 'models' && options.evaluate) evaluator.onModels(progress);
      if (progress.event === 'finished') isFinished = true;
      if (progress.event === 'finished') await evaluator.onFinished(progress);
    },
    onError: (error) => fail(error),
  });
  client = connectSocketClient({
    url: config.coordinator,
    identity,
    coordinatorKey: federation.coordinatorKey,
    crypto: nodeCrypto,
    random: nodeRandom,
    backoff: { initialMs: 200, maxMs: 5_000 },
    insecure: config.insecure,
    ...(config.ca === undefined ? {} : { ca: await readFile(at(config.ca), 'utf8') }),
    onMessage: (bytes) => node.onMessage(bytes),
    onOpen(isResumed) {
      told = '';
      node.onOpen(isResumed);
    },
    onClose({ cause, error, retryInMs }) {
      if (retryInMs === null && error !== null) fail(error);
      else if (!isFinished)
        tell(`no connection to ${config.coordinator}: ${error?.code ?? cause ?? 'it was closed'}; trying again`);
    },
    onError: (error) => fail(error),
  });
  try {
    await Promise.race([node.finished, failed]);
  } finally {
    await client.close();
    await programs.close();
    await masks.close();
    await store.close();
  }
}

/** Folder that relative paths of a configuration file start from. */
export const baseOf = (configPath: string): string => dirname(resolve(configPath));
