import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { writeDemoFiles } from '../../experiments/demo-setup.ts';
import { writeRunFolder } from '../../experiments/run-folder.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { listFiles } from '../../platform/node/list-files.ts';
import { fromBase64 } from '../../protocol/bytes.ts';
import { decodeParams } from '../../protocol/params.ts';
import { verifyBundle } from '../../src/audit/index.ts';
import { scenarioConfig } from '../../src/run/scenario.ts';
import { type BuiltProcess, startBuilt } from '../support/built-command.ts';
import { freePort } from '../support/free-port.ts';

const folders: string[] = [];
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

describe('an adaptive clip in a federation of processes', () => {
  it('moves with the releases, also over a killed coordinator, and is verified by the audit', async () => {
    const base = await mkdtemp(join(tmpdir(), 'covey-clip-'));
    folders.push(base);
    const plan = {
      scenario: 'digits',
      dataFolder: null,
      seed: 3,
      steps: 8,
      targetEpsilon: 30,
      participants: 6,
    } as const;
    const scenario = scenarioConfig('digits', { ...plan, unit: 'participant' });
    const config = {
      ...scenario,
      clusters: null,
      metrics: { every: 8, bins: 5, noiseStddev: 2 },
      training: {
        ...scenario.training,
        clippingNorm: 0.5,
        adaptiveClip: { quantile: 0.5, learningRate: 0.3, countNoise: 2, maxNorm: 1 },
      },
    };
    const files = await writeDemoFiles(join(base, 'run'), plan, await freePort());
    const yaml = await readFile(files.serverConfig, 'utf8');
    await writeFile(files.serverConfig, yaml.replace(/^run: .*$/m, `run: ${JSON.stringify({ config })}`));
    const nodes = files.organizations.map(({ config: file }) =>
      startBuilt(['node', '--config', file, '--json'], () => {}),
    );
    let epsilons: Record<string, { server: number; release: number }> = {};
    let isKilled = false;
    for (let isDone = false; !isDone; ) {
      const coordinator: BuiltProcess = startBuilt(['server', '--config', files.serverConfig, '--json'], (line) => {
        if (line['event'] === 'finished') epsilons = line['epsilons'] as typeof epsilons;
        if (!isKilled && line['event'] === 'phase' && line['step'] === 2 && line['phase'] === 'masked-input') {
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
      note: 'adaptive clip drill',
    });
    const report = await verifyBundle(
      { list: () => listFiles(bundle), read: async (path) => new Uint8Array(await readFile(join(bundle, path))) },
      nodeCrypto,
      { pinnedCoordinatorKey: files.coordinatorKey },
    );
    expect(report.failure).toBeNull();
    expect(await readFile(join(bundle, 'report.html'), 'utf8')).toContain('follows the 0.5 quantile');
    const clips = (await readFile(join(bundle, 'log.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string; body: { kind: string; params: string } })
      .filter(({ type, body }) => type === 'round.open' && body.kind === 'train')
      .map(({ body }) => decodeParams(fromBase64(body.params)).encoding.clippingNorm);
    // What the lost step reserved fits beside eight steps of all six, for the noise was made for five. A step that was opened again after the kill has the same clip.
    expect(clips.filter((clip, i) => i > 0 && clip !== clips[i - 1]).length).toBe(7);
  });
});
