import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { writeDemoFiles } from '../../experiments/demo-setup.ts';
import { writeRunFolder } from '../../experiments/run-folder.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { listFiles } from '../../platform/node/list-files.ts';
import { verifyBundle } from '../../src/audit/index.ts';
import { type BuiltProcess, startBuilt } from '../support/built-command.ts';
import { freePort } from '../support/free-port.ts';

const folders: string[] = [];
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

describe('protected accuracies of a federation of processes', () => {
  it('are released, charged and verified, also when the coordinator is killed while they are summed', async () => {
    const base = await mkdtemp(join(tmpdir(), 'covey-metrics-'));
    folders.push(base);
    const plan = {
      scenario: 'digits',
      dataFolder: null,
      seed: 3,
      steps: 6,
      targetEpsilon: 12,
      participants: 6,
    } as const;
    const files = await writeDemoFiles(join(base, 'run'), plan, await freePort());
    const yaml = await readFile(files.serverConfig, 'utf8');
    const metrics = { every: 3, bins: 10, noiseStddev: 4 };
    await writeFile(
      files.serverConfig,
      yaml.replace(/("targetEpsilon":12)/, `$1,"metrics":${JSON.stringify(metrics)}`),
    );
    const nodes = files.organizations.map(({ config }) => startBuilt(['node', '--config', config, '--json'], () => {}));
    const released: Record<string, unknown>[] = [];
    let epsilons: Record<string, { server: number; release: number }> = {};
    let isKilled = false;
    for (let isDone = false; !isDone; ) {
      const coordinator: BuiltProcess = startBuilt(['server', '--config', files.serverConfig, '--json'], (line) => {
        if (line['event'] === 'release') released.push(line);
        if (line['event'] === 'finished') epsilons = line['epsilons'] as typeof epsilons;
        if (!isKilled && line['event'] === 'phase' && line['kind'] === 'metrics' && line['phase'] === 'consistency') {
          isKilled = true;
          coordinator.child.kill('SIGKILL');
        }
      });
      const code = await coordinator.exited;
      isDone = code !== null;
      if (isDone) expect(`${code} ${code === 0 ? '' : coordinator.errorTail()}`).toBe('0 ');
    }
    expect(isKilled).toBe(true);
    expect(await Promise.all(nodes.map(({ exited }) => exited))).toEqual(Array(6).fill(0));
    const measured = released.filter(({ kind }) => kind === 'metrics');
    expect(measured.map(({ step }) => step)).toEqual([2, 5]);
    for (const { metrics: summary } of measured)
      expect(summary).toMatchObject({ mean: expect.any(Number), worstTenth: expect.any(Number) });
    const worst = (view: 'server' | 'release'): number =>
      Math.max(...Object.values(epsilons).map((epsilon) => epsilon[view]));
    const bundle = await writeRunFolder(files, {
      claims: {
        server: { epsilon: worst('server'), delta: 1e-5 },
        release: { epsilon: worst('release'), delta: 1e-5 },
        perParticipant: epsilons,
      },
      table: [],
      accuracyOverRounds: [],
      lost: [],
      clusters: [],
      note: 'metrics drill',
    });
    const report = await verifyBundle(
      { list: () => listFiles(bundle), read: async (path) => new Uint8Array(await readFile(join(bundle, path))) },
      nodeCrypto,
      { pinnedCoordinatorKey: files.coordinatorKey },
    );
    expect(report.failure).toBeNull();
    expect(await readFile(join(bundle, 'report.html'), 'utf8')).toContain('Protected accuracy');
    const log = await readFile(join(bundle, 'log.jsonl'), 'utf8');
    expect(log.match(/"type":"metrics.histogram"/g)?.length).toBe(2);
  });
});
