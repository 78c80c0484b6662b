import { execFile, spawnSync } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { loadModelFile } from '../../platform/node/model-file.ts';
import { denseManifest } from '../../src/learning/manifest.ts';
import { layoutOf } from '../../src/learning/trainer.ts';
import { BUILT_COMMAND, type BuiltProcess, startBuilt } from '../support/built-command.ts';
import { freePort } from '../support/free-port.ts';

const execute = promisify(execFile);
const SITES = 4;
const EXAMPLE = resolve('examples/models');
const folders: string[] = [];
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

interface Federation {
  readonly base: string;
  readonly sites: readonly string[];
  start(): { readonly server: BuiltProcess; readonly nodes: readonly BuiltProcess[] };
}

/** Keys and configurations of a federation, from the files of the example. */
async function federate(
  change: (yaml: string) => string,
  nodeOf: (site: number, yaml: string) => string,
): Promise<Federation> {
  const base = await mkdtemp(join(tmpdir(), 'covey-models-'));
  folders.push(base);
  const covey = (...args: string[]) => spawnSync(process.execPath, [BUILT_COMMAND, ...args], { encoding: 'utf8' });
  const keyOf = (path: string): string => /[0-9a-f]{64}/.exec(covey('keygen', path).stdout)?.[0] ?? '';
  const coordinator = keyOf(join(base, 'coordinator.key'));
  const sites = Array.from({ length: SITES }, (_, i) => join(base, `site-${i}`));
  const members: string[] = [];
  for (const [i, site] of sites.entries()) {
    await mkdir(site);
    members.push(`site-${i}=${keyOf(join(site, 'site.key'))}`);
  }
  const federation = join(base, 'federation.json');
  expect(covey('roster', federation, '--coordinator', coordinator, '--member', ...members).status).toBe(0);
  const port = await freePort();
  await copyFile(join(EXAMPLE, 'conv.json'), join(base, 'conv.json'));
  const yaml = (await readFile(join(EXAMPLE, 'covey.yaml'), 'utf8')).replace('port: 7400', `port: ${port}`);
  await writeFile(join(base, 'covey.yaml'), change(yaml));
  const node = (await readFile(join(EXAMPLE, 'node.yaml'), 'utf8')).replace('7400', String(port));
  for (const [i, site] of sites.entries()) {
    await copyFile(federation, join(site, 'federation.json'));
    await writeFile(join(site, 'node.yaml'), nodeOf(i, node.replace('organization: 0', `organization: ${i}`)));
  }
  return {
    base,
    sites,
    start: () => ({
      server: startBuilt(['server', '--config', join(base, 'covey.yaml'), '--json'], () => {}),
      nodes: sites.map((site) => startBuilt(['node', '--config', join(site, 'node.yaml'), '--json'], () => {})),
    }),
  };
}

describe('sites that train a network from a file', () => {
  it('train the network of the example, start from its export, and one whose policy names another layout stays out', async () => {
    const first = await federate(
      (yaml) => yaml.replace('steps: 20', 'steps: 6').replace('targetEpsilon: 8', 'targetEpsilon: 100'),
      (_, yaml) => yaml.replace('maxEpsilon: 8', 'maxEpsilon: 100, minNoiseMultiplier: 0.01'),
    );
    const { server, nodes } = first.start();
    const codes = await Promise.all([server, ...nodes].map(({ exited }) => exited));
    expect([codes, server.errorTail()]).toEqual([Array(SITES + 1).fill(0), '']);
    const { shape } = await loadModelFile(join(EXAMPLE, 'conv.json'));
    const exported = join(first.base, 'coordinator-state', 'run', 'models', 'slot-0');
    const again = await loadModelFile(join(exported, 'model.json'), { weights: join(exported, 'model.safetensors') });
    expect(denseManifest(again.shape)).toEqual(denseManifest(shape));
    const log = await readFile(join(first.base, 'coordinator-state', 'run', 'log.jsonl'), 'utf8');
    const layout = layoutOf(nodeCrypto, denseManifest(shape));
    expect(log).toContain(`"layout":"${layout}"`);
    for (const site of first.sites) {
      const evaluation = JSON.parse(await readFile(join(site, 'state', 'evaluation.json'), 'utf8')) as {
        personal: number;
      };
      expect(evaluation.personal).toBeGreaterThan(0.5);
    }

    const second = await federate(
      (yaml) =>
        yaml
          .replace('steps: 20', 'steps: 2')
          .replace('targetEpsilon: 8', 'targetEpsilon: 100')
          .replace('{ file: conv.json }', '{ file: conv.json, weights: start.safetensors }')
          .replace('host:', 'graceMs: 0\nhost:'),
      (site, yaml) =>
        yaml.replace(
          'maxEpsilon: 8',
          `maxEpsilon: 100, minNoiseMultiplier: 0.01, layouts: [${site === 3 ? 'ab'.repeat(32) : layout}]`,
        ),
    );
    await copyFile(join(exported, 'model.safetensors'), join(second.base, 'start.safetensors'));
    const run = second.start();
    expect(await Promise.all([run.server, ...run.nodes].map(({ exited }) => exited))).toEqual([0, 0, 0, 0, 3]);
    expect(run.nodes[3]?.errorTail()).toContain('"layout" expected one of the 1 that this site trains');
    const opened = await readFile(join(second.base, 'coordinator-state', 'run', 'log.jsonl'), 'utf8');
    expect(opened).toMatch(/"initialWeights":"[0-9a-f]{64}"/);
  });

  it('train it in a demo, whose bundle verifies', async () => {
    const out = await mkdtemp(join(tmpdir(), 'covey-demo-model-'));
    folders.push(out);
    const args = ['--model', join(EXAMPLE, 'conv.json'), '--participants', '4', '--rounds', '4', '--out', out];
    const said = await execute(process.execPath, [BUILT_COMMAND, 'demo', ...args, '--json']);
    const { folder, table } = JSON.parse(said.stdout) as { folder: string; table: { name: string; mean: number }[] };
    expect(table.map(({ name }) => name)).toContain('Clustered + personal');
    const { shape } = await loadModelFile(join(EXAMPLE, 'conv.json'));
    expect(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'))).toMatchObject({ model: shape });
    await execute(process.execPath, [BUILT_COMMAND, 'audit', 'verify', folder]);
    const refused = execute(process.execPath, [BUILT_COMMAND, 'demo', ...args, '--data', 'heart', '--data-dir', out]);
    await expect(refused).rejects.toThrow('"model" expected 13 inputs for heart, got 64');
  });
});
