import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { nodeConfigSchema } from '../clients/node/config.ts';
import { runNode } from '../clients/node/index.ts';
import { createMemoryStore } from '../platform/memory/store.ts';
import { loadConfig } from '../platform/node/config.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createKeyFile } from '../platform/node/key-file.ts';
import { openStore } from '../platform/node/store.ts';
import { readStreamsOfCopy } from '../platform/node/store-copy.ts';
import { fromUtf8, toHex, utf8 } from '../protocol/bytes.ts';
import type { RunProgress } from '../server/coordinator/progress.ts';
import { createCoordinator } from '../server/coordinator/run.ts';
import { openDatasetLedger, reportDataset } from '../src/privacy/dataset-ledger.ts';
import { parseRunConfig } from '../src/run/config.ts';
import { buildRoster, federationToJson } from '../src/run/roster.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { BUILT_COMMAND } from './support/built-command.ts';
import { codeOf } from './support/code-of.ts';
import { createHeads } from './support/crash.ts';
import { type Deployment, deploy, OPEN_POLICY } from './support/deployment.ts';
import { COORDINATOR, createIdentity, startTestServer } from './support/transport.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const MEMBERS = 4;
const base = scenarioConfig('digits', { seed: 5, steps: 3, targetEpsilon: 1.9, participants: MEMBERS });
const config = parseRunConfig({
  ...base,
  model: { inputs: 64, hidden: [], classes: 10 },
  clusters: null,
  cohort: { ...base.cohort, minSurvivors: 3, minOrgs: 3, colluders: 0 },
});
const BUDGET = 'datasetBudget: { dataset: cardiology, period: quarter, epsilon: 2, delta: 1.0e-5 }';

describe('a budget of a data set over all runs', () => {
  const budget = {
    dataset: 'cardiology',
    period: 'quarter',
    epsilon: 2,
    delta: 1e-5,
    unit: 'record',
    view: 'server',
  } as const;

  it('lets the first run of a quarter pass, stops in the second, and is whole again in the next quarter', async () => {
    const stores = Array.from({ length: MEMBERS }, () => createMemoryStore());
    const heads = stores.map(() => createHeads());
    const others = { ...OPEN_POLICY, maxRuns: 100 };
    const policies = [{ ...OPEN_POLICY, datasetBudget: budget }, others, others, others];
    const run = (n: number, time: string): Promise<Deployment> =>
      deploy({ config, runId: `0${n}`.repeat(16), policies, stores, heads, now: () => time });
    const summed = ({ ids, log }: Deployment): number =>
      log.filter(
        ({ type, body }) => type === 'charge.reserve' && (body['survivors'] as string[]).includes(ids[0] ?? ''),
      ).length;
    const first = await run(1, '2030-02-01T00:00:00Z');
    expect(summed(first)).toBe(config.training.steps);
    const second = await run(2, '2030-03-31T23:59:59Z');
    expect(summed(second)).toBeLessThan(config.training.steps);
    const [left] = second.progress.filter((event) => event.event === 'left');
    expect(left).toMatchObject({
      organization: 'org-1',
      code: 'PRIVACY_BUDGET',
      reason: 'a budget of this site is spent',
    });
    // Its own operator reads which one; nobody else does.
    const told = second.nodeProgress[0]?.find((event) => event.event === 'left');
    expect(told?.reason).toBe('data set cardiology would exceed epsilon 2 at delta 0.00001 in 2030-Q1');
    expect(JSON.stringify(second.lines)).not.toContain('cardiology');
    // The others have no such budget and finish.
    expect(second.progress.at(-1)?.event).toBe('finished');
    expect(second.progress.some(({ event }) => event === 'budget')).toBe(false);
    const third = await run(3, '2030-04-01T00:00:00Z');
    expect(summed(third)).toBe(config.training.steps);
    const lines = ((await stores[0]?.read('dataset/cardiology')) ?? []).map(({ payload }) => fromUtf8(payload));
    const ledger = openDatasetLedger(
      nodeCrypto,
      budget,
      lines,
      await (heads[0] as ReturnType<typeof createHeads>).load(),
    );
    const periods = reportDataset(ledger);
    expect(periods.map(({ period }) => period)).toEqual(['2030-Q1', '2030-Q2']);
    for (const { epsilon } of periods) expect(epsilon).toBeLessThanOrEqual(2);
    expect(periods[0]?.epsilon).toBeGreaterThan(periods[1]?.epsilon ?? 0);
  });

  it('ends a run before its first session when nobody has any of it left', async () => {
    const stores = Array.from({ length: MEMBERS }, () => createMemoryStore());
    const heads = stores.map(() => createHeads());
    const policies = stores.map(() => ({ ...OPEN_POLICY, datasetBudget: { ...budget, epsilon: 1.9 } }));
    const now = (): string => '2030-02-01T00:00:00Z';
    const first = await deploy({ config, runId: '01'.repeat(16), policies, stores, heads, now });
    expect(first.progress.some(({ event }) => event === 'budget' || event === 'left')).toBe(false);
    const second = await deploy({ config, runId: '02'.repeat(16), policies, stores, heads, now });
    const left = second.progress.filter((event) => event.event === 'left');
    expect(left.map(({ code }) => code)).toEqual([
      'PRIVACY_BUDGET',
      'PRIVACY_BUDGET',
      'PRIVACY_BUDGET',
      'PRIVACY_BUDGET',
    ]);
    expect(second.progress).toContainEqual(expect.objectContaining({ event: 'budget', remaining: 0, needed: 3 }));
    expect(second.log.some(({ type }) => type === 'charge.reserve')).toBe(false);
  });
});

describe('nodes as a site runs them', () => {
  /** Configuration, key and folder of every site, as it would write them. */
  async function writeSites(): Promise<{ folder: string; federate(url: string): Promise<void> }> {
    const folder = await mkdtemp(join(tmpdir(), 'covey-dataset-'));
    cleanups.push(() => rm(folder, { recursive: true, force: true }));
    const identities = Array.from({ length: MEMBERS }, (_, i) => createIdentity(i + 1));
    const roster = buildRoster(
      nodeCrypto,
      1,
      identities.map(({ publicKey }, i) => ({ organization: `org-${i + 1}`, publicKey })),
    );
    await writeFile(
      join(folder, 'federation.json'),
      JSON.stringify(federationToJson({ coordinatorKey: COORDINATOR.publicKey, roster })),
    );
    return {
      folder,
      async federate(url) {
        for (const [i, { secretSeed }] of identities.entries()) {
          const site = join(folder, `site-${i}`);
          await mkdir(site, { recursive: true });
          await createKeyFile(join(site, 'node.key'), secretSeed).catch(() => undefined);
          const lines = [
            `coordinator: ${url}`,
            'federation: ../federation.json',
            'key: node.key',
            'state: .',
            `data: { kind: digits, seed: 5, organization: ${i} }`,
            'maskThreads: 1',
            'policy:',
            '  maxEpsilon: 8',
            '  minNoiseMultiplier: 0',
            `  ${BUDGET}`,
          ];
          await writeFile(join(site, 'node.yaml'), `${lines.join('\n')}\n`);
        }
      },
    };
  }

  /** One run over sockets, stores and configuration files; `onCharged` while the first site's node is running. */
  async function federate(
    sites: Awaited<ReturnType<typeof writeSites>>,
    runId: string,
    onCharged: (folder: string) => void = () => undefined,
  ): Promise<readonly RunProgress[]> {
    const identities = Array.from({ length: MEMBERS }, (_, i) => createIdentity(i + 1));
    let coordinator: Awaited<ReturnType<typeof createCoordinator>> | undefined;
    const early: { id: Uint8Array; isResumed: boolean }[] = [];
    const { server, url } = await startTestServer(identities, {
      onOpen: ({ id }, isResumed) => (coordinator ? coordinator.onOpen(id, isResumed) : early.push({ id, isResumed })),
      onMessage: async ({ id }, bytes) => coordinator?.onMessage(id, bytes),
      onClose: ({ id }) => coordinator?.onClose(id),
    });
    try {
      await sites.federate(url);
      const progress: RunProgress[] = [];
      const roster = buildRoster(
        nodeCrypto,
        1,
        identities.map(({ publicKey }, i) => ({ organization: `org-${i + 1}`, publicKey })),
      );
      coordinator = await createCoordinator({
        config,
        runId,
        roster,
        identity: COORDINATOR,
        crypto: nodeCrypto,
        store: createMemoryStore(),
        peers: { send: (id, bytes) => server.send(toHex(id), bytes), connected: () => server.connected() },
        now: () => new Date(0).toISOString(),
        onProgress: (event) => progress.push(event),
        onError: (error) => {
          throw error;
        },
        graceMs: 60_000,
        joinMs: 60_000,
        gatherMs: 60_000,
      });
      for (const { id, isResumed } of early) coordinator.onOpen(id, isResumed);
      const nodes = identities.map(async (_, i) => {
        const site = join(sites.folder, `site-${i}`);
        await runNode({
          base: site,
          config: await loadConfig(join(site, 'node.yaml'), nodeConfigSchema),
          evaluate: false,
          onProgress: (event) => {
            if (i === 0 && event.event === 'charged') onCharged(site);
          },
          onState: () => undefined,
        });
      });
      await Promise.all([coordinator.run(), ...nodes]);
      return progress;
    } finally {
      await server.close();
    }
  }

  it('spend a data set over two runs from node.yaml, refuse the second by name, and show it while they run', async () => {
    const sites = await writeSites();
    const shown: Promise<{ stdout: string }>[] = [];
    const show = (folder: string): void =>
      void shown.push(promisify(execFile)(process.execPath, [BUILT_COMMAND, 'budget', 'show', folder, '--json']));
    const first = await federate(sites, '0a'.repeat(16), (folder) => {
      if (shown.length === 0) show(folder);
    });
    expect(first.some(({ event }) => event === 'left' || event === 'budget')).toBe(false);
    const [output] = await Promise.all(shown);
    const [ledger] = JSON.parse(output?.stdout ?? '[]') as {
      settled: number;
      reserved: number;
      paths: { path: string }[];
    }[];
    expect((ledger?.settled ?? 0) + (ledger?.reserved ?? 0)).toBeGreaterThan(0);
    expect(ledger?.paths.map(({ path }) => path)).toEqual(['slots', 'personal']);
    const second = await federate(sites, '0b'.repeat(16));
    const left = second.filter((event) => event.event === 'left');
    expect(left.map(({ organization }) => organization).sort()).toEqual(['org-1', 'org-2', 'org-3', 'org-4']);
    for (const { code, reason } of left)
      expect([code, reason]).toEqual(['PRIVACY_BUDGET', 'a budget of this site is spent']);
    // As soon as too few are left the run ends, whether or not the last of them has said so.
    const [end] = second.filter((event) => event.event === 'budget');
    expect(end?.remaining).toBeLessThan(end?.needed ?? 0);
  });

  it('are read from a copy while they hold the lock of their store, and never written to', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'covey-store-'));
    cleanups.push(() => rm(folder, { recursive: true, force: true }));
    const path = join(folder, 'node.sqlite');
    const store = await openStore(path);
    cleanups.push(() => store.close());
    for (let i = 0; i < 50; i++) await store.append('ledger/a', utf8(`line ${i}`));
    await store.append('other', utf8('hidden'));
    let seen = await readStreamsOfCopy(path, 'ledger/');
    expect([...seen.keys()]).toEqual(['ledger/a']);
    expect(seen.get('ledger/a')?.map(fromUtf8)).toEqual(Array.from({ length: 50 }, (_, i) => `line ${i}`));
    // Readers and the writer do not wait for each other; what is read is always a whole beginning.
    const writing = (async () => {
      for (let i = 50; i < 400; i++) await store.append('ledger/a', utf8(`line ${i}`));
    })();
    for (let i = 0; i < 5; i++) {
      seen = await readStreamsOfCopy(path, 'ledger/');
      const lines = seen.get('ledger/a')?.map(fromUtf8) ?? [];
      expect(lines.length).toBeGreaterThanOrEqual(50);
      expect(lines).toEqual(Array.from({ length: lines.length }, (_, k) => `line ${k}`));
    }
    await writing;
    const notes = join(folder, 'notes.sqlite');
    await writeFile(notes, 'not a database at all, but long enough to be taken for one'.repeat(20));
    const code = await readStreamsOfCopy(notes, '').then(
      () => 'read',
      (error: unknown) =>
        codeOf(() => {
          throw error;
        }),
    );
    expect(code).toBe('USAGE_STATE');
  });
});
