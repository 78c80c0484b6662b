import { beforeAll, describe, expect, it } from 'vitest';
import { networkOf } from '../clients/trainers/tfjs-network.ts';
import { createTfjsOracle } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime, type TensorRuntime } from '../clients/trainers/tfjs-runtime.ts';
import { createMemoryStore } from '../platform/memory/store.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromUtf8, utf8 } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { openFrame } from '../protocol/frame.ts';
import { signEntry, type UnsignedEntry } from '../src/audit/entries.ts';
import { readLog } from '../src/audit/read-log.ts';
import { replayLog } from '../src/audit/replay.ts';
import { denseManifest } from '../src/learning/manifest.ts';
import { readModelDefinition } from '../src/learning/model-definition.ts';
import { layoutOf } from '../src/learning/trainer.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { checkStart, requireLayout, startingHash, startingWeights } from '../src/run/layout.ts';
import { encodeRunMessage, readRunMessage } from '../src/run/messages.ts';
import { initialModels } from '../src/run/released.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { codeOf } from './support/code-of.ts';
import { type Deployment, type DeploymentOptions, deploy, OPEN_POLICY } from './support/deployment.ts';
import { CONVOLUTIONAL } from './support/model-files.ts';
import { COORDINATOR } from './support/transport.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
const MEMBERS = 4;
const { shape } = readModelDefinition({ modelJson: CONVOLUTIONAL });
const config = scenarioConfig('digits', {
  seed: 5,
  steps: 2,
  targetEpsilon: 1e5,
  participants: MEMBERS,
  model: shape,
  algorithm: { id: 'fedavg' },
});
const layout = layoutOf(nodeCrypto, denseManifest(shape));
let runtime: TensorRuntime;

beforeAll(async () => {
  runtime = await loadTensorRuntime({ candidates: ['tfjs-wasm'] });
});

const start = (options: Partial<DeploymentOptions> = {}): Promise<Deployment> =>
  deploy({
    config,
    runId: RUN_ID,
    policies: Array.from({ length: MEMBERS }, () => OPEN_POLICY),
    createOracle: () => async (model) => createTfjsOracle(runtime, networkOf(model)),
    ...options,
  });

/** What stopped the last member, while the others went on. */
async function refusalOf(options: Partial<DeploymentOptions>): Promise<string> {
  const lines: string[] = [];
  const { log } = await start({
    onNodeError: (member, error) =>
      lines.push(isCoveyError(error) ? `${member} ${error.code} ${error.message}` : String(error)),
    ...options,
  });
  expect(log.filter(({ type }) => type === 'round.release')).toHaveLength(config.training.steps);
  expect(lines).toHaveLength(1);
  return lines[0] ?? '';
}

const only = <T>(special: T, usual: T): T[] => Array.from({ length: MEMBERS }, (_, i) => (i === 3 ? special : usual));

describe('a deployed run of a network of layers', () => {
  it.each(['integer', 'float-bounded'] as const)(
    'is opened with its layout, which the audit recomputes: %s terms',
    async (terms) => {
      const run = { ...config, privacy: { ...config.privacy, terms } };
      const { lines, log, nodeProgress } = await start({ config: parseRunConfig(run) });
      expect(log.find(({ type }) => type === 'run.open')?.body['layout']).toBe(layout);
      expect(nodeProgress.every((events) => events.some(({ event }) => event === 'finished'))).toBe(true);
      const replay = (texts: readonly string[]): unknown =>
        replayLog(readLog(utf8(`${texts.join('\n')}\n`), nodeCrypto), nodeCrypto);
      expect(() => replay(lines)).not.toThrow();
      const { sig: _, ...entry } = JSON.parse(lines[1] ?? '') as UnsignedEntry<'run.open'> & { readonly sig: string };
      const other = { ...entry, body: { ...entry.body, layout: 'ab'.repeat(32) } };
      const forged = [lines[0] ?? '', signEntry(other, COORDINATOR.secretSeed, nodeCrypto)];
      expect(() => replay(forged)).toThrow('"layout" is not the hash of the tensors of the model');
    },
  );

  it('is left by a member that is told another layout than the model has', async () => {
    const tamper = (member: number, bytes: Uint8Array): Uint8Array => {
      const message = readRunMessage(openFrame(bytes.slice()));
      if (member !== 3 || message?.type !== 'run/log') return bytes;
      const { sig: _, ...entry } = JSON.parse(fromUtf8(message.payload)) as UnsignedEntry & { readonly sig: string };
      if (entry.type !== 'run.open') return bytes;
      const other = { ...entry, body: { ...entry.body, layout: 'ab'.repeat(32) } } as UnsignedEntry;
      return encodeRunMessage({
        type: 'run/log',
        payload: utf8(signEntry(other, COORDINATOR.secretSeed, nodeCrypto)),
      });
    };
    expect(await refusalOf({ tamper })).toBe(
      `3 PRIVACY_POLICY "layout" expected ${layout} of the tensors of the model, got ${'ab'.repeat(32)}`,
    );
  });

  it('is left by a member whose policy names other layouts or fewer parameters', async () => {
    const layouts = ['cd'.repeat(32)];
    expect(await refusalOf({ policies: only({ ...OPEN_POLICY, layouts }, OPEN_POLICY) })).toContain(
      'PRIVACY_POLICY "layout" expected one of the 1 that this site trains',
    );
    const own = { ...OPEN_POLICY, layouts: [layout], maxParameters: 1_029 };
    expect(await refusalOf({ policies: only(own, OPEN_POLICY) })).toContain(
      'PRIVACY_POLICY "model" expected at most 1029 parameters, got 1030',
    );
    expect(() => requireLayout(nodeCrypto, config, layout, { ...own, maxParameters: 1_030 })).not.toThrow();
    expect(() => requireLayout(nodeCrypto, config, undefined)).toThrow('"layout" expected');
  });

  it('is left by a member without a tensor engine, in one line', async () => {
    const createOracle: DeploymentOptions['createOracle'] = (member) => async () => {
      const candidates = member === 3 ? [] : (['tfjs-wasm'] as const);
      return createTfjsOracle(await loadTensorRuntime({ candidates }), networkOf(shape));
    };
    expect(await refusalOf({ createOracle })).toContain('DEP_TFJS_NATIVE no tensor engine works');
  });
});

describe('a restarted coordinator', () => {
  it('goes on with the configuration that the run was opened with and with no other', async () => {
    const coordinatorStore = createMemoryStore();
    const stores = Array.from({ length: MEMBERS }, () => createMemoryStore());
    const { lines } = await start({ coordinatorStore, stores });
    const again = await start({ coordinatorStore, stores });
    expect(again.lines).toEqual(lines);
    const others = parseRunConfig({ ...config, model: { inputs: 64, hidden: [], classes: 10 } });
    await expect(start({ config: others, coordinatorStore, stores })).rejects.toThrow(
      '"run" expected the configuration that this run was opened with',
    );
  });
});

describe('starting weights', () => {
  const manifest = denseManifest(shape);
  const filled = (length: number): Float64Array => Float64Array.from({ length }, (_, i) => Math.sin(i) / 4);
  const weights = startingWeights(manifest, { body: filled(manifest.bodyLength), head: filled(manifest.headLength) });
  const named = (options: Partial<RunConfig> = {}): RunConfig =>
    parseRunConfig({
      ...config,
      ...options,
      training: { ...config.training, initialWeights: startingHash(nodeCrypto, weights) },
    });

  it('are what the first step starts from, at every member', async () => {
    const { nodeProgress } = await start({ config: named(), start: weights });
    for (const events of nodeProgress) {
      const first = events.find((event) => event.event === 'models');
      if (first?.event !== 'models') throw new Error('no models');
      expect([first.models.body, first.models.heads]).toEqual([weights.body, [weights.head]]);
    }
  });

  it('are where a restarted coordinator replays its releases from', async () => {
    const coordinatorStore = createMemoryStore();
    const stores = Array.from({ length: MEMBERS }, () => createMemoryStore());
    const finalOf = ({ nodeProgress }: Deployment): unknown => {
      const last = nodeProgress[0]?.find((event) => event.event === 'finished');
      return last?.event === 'finished' ? last.models : null;
    };
    const models = finalOf(await start({ config: named(), start: weights, coordinatorStore, stores }));
    expect(models).not.toBeNull();
    expect(finalOf(await start({ config: named(), start: weights, coordinatorStore, stores }))).toEqual(models);
  });

  it('are refused by the coordinator and by every member if they are others', async () => {
    const others = { ...weights, head: weights.head.map((value, i) => (i === 7 ? value + 1 : value)) };
    const hash = startingHash(nodeCrypto, others);
    await expect(start({ config: named(), start: others })).rejects.toThrow(`got ${hash}`);
    await expect(start({ config: named() })).rejects.toThrow('"training.initialWeights" expected weights');
    await expect(start({ start: weights })).rejects.toThrow('hash none');
    expect(() =>
      startingWeights(manifest, { body: weights.body.map(Number), head: new Float64Array(3) } as never),
    ).toThrow('"weights" expected 60 + 970 parameters');
    const broken = { body: filled(60), head: filled(970).fill(Number.NaN, 5, 6) };
    expect(() => startingWeights(manifest, broken)).toThrow('"weights" expected finite numbers');
  });

  it('are compared with the models of the first step, of every slot or of the own open cluster', () => {
    const run = named();
    const { body, head } = weights;
    const other = head.map((value) => value + 1);
    const check = (heads: Float32Array[], cluster: number | null = null): string | null =>
      codeOf(() => checkStart(nodeCrypto, run, { body, heads }, cluster));
    expect([check([head]), check([head, head]), check([other, head], 1)]).toEqual([null, null, null]);
    for (const refused of [check([other]), check([head, other]), check([]), check([other, head], 0)])
      expect(refused).toBe('PRIVACY_POLICY');
    // Without named weights they are the draws from the public seed, those and no others.
    const { body: drawnBody, heads } = initialModels(config, 3);
    const drawn = (changed: Float32Array[], cluster: number | null = null): string | null =>
      codeOf(() => checkStart(nodeCrypto, config, { body: drawnBody, heads: changed }, cluster));
    const [a, b, c] = heads as [Float32Array, Float32Array, Float32Array];
    expect([drawn([a, b, c]), drawn([a, b]), drawn([other, b, other], 1)]).toEqual([null, null, null]);
    for (const refused of [drawn([other]), drawn([b, a, c]), drawn([a, other], 1)])
      expect(refused).toBe('PRIVACY_POLICY');
    expect(codeOf(() => checkStart(nodeCrypto, config, { body, heads: [a] }, null))).toBe('PRIVACY_POLICY');
  });

  it('are refused where slots are chosen by their losses from the start', () => {
    const soft = scenarioConfig('digits', { ...optionsOf(), algorithm: { id: 'fedsoft' } });
    expect(() => named({ clusters: soft.clusters, algorithm: { id: 'fedsoft' } })).toThrow('they would stay alike');
    const founded = scenarioConfig('digits', optionsOf());
    expect(() => named({ clusters: founded.clusters, algorithm: { id: 'fedavg' } })).not.toThrow();
  });
});

function optionsOf(): Parameters<typeof scenarioConfig>[1] {
  return { seed: 5, steps: 20, targetEpsilon: 1e5, participants: MEMBERS, model: shape };
}
