import { spawnSync } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createRandom } from '../../src/data/random.ts';
import { BUILT_COMMAND, startBuilt } from '../support/built-command.ts';
import { freePort } from '../support/free-port.ts';

/** The fewest that a run takes. */
const SITES = 3;
const EXAMPLE = resolve('examples/table');
const folders: string[] = [];
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

/** 300 stays of 220 patients: the older and the longer they stay, the likelier they come back. */
function stays(seed: number): string {
  const random = createRandom(seed);
  const rows = Array.from({ length: 300 }, (_, i) => {
    const [age, days] = [18 + random.integer(78), random.integer(31)];
    const isBack = random.uniform(-3, 3) < (age - 55) / 12 + (days - 15) / 6;
    const ward = ['medicine', 'surgery', 'other'][random.integer(3)];
    const known = random.integer(20) > 0 ? age : '';
    return `patient ${i % 220},${isBack ? 'yes' : 'no'},${known},${random.integer(2) === 0 ? 'f' : 'm'},${days},${ward}`;
  });
  return `patient,readmitted,age,sex,days,ward\n${rows.join('\n')}\n`;
}

describe('sites with tables of their own', () => {
  it('train together from the files of the example, one of them with a program in Python where there is one', async () => {
    const base = await mkdtemp(join(tmpdir(), 'covey-tables-'));
    folders.push(base);
    const covey = (...args: string[]) => spawnSync(process.execPath, [BUILT_COMMAND, ...args], { encoding: 'utf8' });
    const keyOf = (path: string): string => {
      const { stdout } = covey('keygen', path);
      return /[0-9a-f]{64}/.exec(stdout)?.[0] ?? '';
    };
    const coordinator = keyOf(join(base, 'coordinator.key'));
    const sites = Array.from({ length: SITES }, (_, i) => join(base, `site-${i}`));
    const members: string[] = [];
    for (const [i, site] of sites.entries()) {
      await mkdir(site);
      members.push(`site-${i}=${keyOf(join(site, 'hospital-a.key'))}`);
    }
    const federation = join(base, 'federation.json');
    expect(covey('roster', federation, '--coordinator', coordinator, '--member', ...members).status).toBe(0);
    const address = `127.0.0.1:${await freePort()}`;
    const [port] = address.split(':').slice(1);
    const yaml = await readFile(join(EXAMPLE, 'covey.yaml'), 'utf8');
    await writeFile(
      join(base, 'covey.yaml'),
      // The program of the example is a softmax regression: no hidden layers.
      yaml
        .replace('port: 7400', `port: ${port}`)
        .replace('steps: 20', 'steps: 6')
        .replace('hidden: [16]', 'hidden: []'),
    );
    const hasPython = spawnSync('python3', ['-c', 'import numpy']).status === 0;
    const program = resolve('examples/trainers/softmax_regression.py');
    for (const [i, site] of sites.entries()) {
      await copyFile(federation, join(site, 'federation.json'));
      await copyFile(join(EXAMPLE, 'description.yaml'), join(site, 'description.yaml'));
      await writeFile(join(site, 'patients.csv'), stays(i));
      const node = (await readFile(join(EXAMPLE, 'node.yaml'), 'utf8')).replace('127.0.0.1:7400', address);
      const trainer = hasPython && i === 0 ? `trainer: { command: python3, args: [${JSON.stringify(program)}] }\n` : '';
      await writeFile(join(site, 'node.yaml'), node + trainer);
    }
    const server = startBuilt(['server', '--config', join(base, 'covey.yaml'), '--json'], () => {});
    const nodes = sites.map((site) => startBuilt(['node', '--config', join(site, 'node.yaml'), '--json'], () => {}));
    expect(await Promise.all([server, ...nodes].map(({ exited }) => exited))).toEqual(Array(SITES + 1).fill(0));
    for (const site of sites) {
      const { released } = JSON.parse(await readFile(join(site, 'state', 'evaluation.json'), 'utf8')) as {
        released: number;
      };
      // Guessing the larger class gets about half of them.
      expect(released).toBeGreaterThan(0.55);
    }
    await mkdir(join(base, 'ledgers'));
    for (const [i, site] of sites.entries()) {
      const out = join(base, 'ledgers', `site-${i}.jsonl`);
      const told = covey('audit', 'ledger', '--config', join(site, 'node.yaml'), '--out', out, '--json').stdout;
      expect(JSON.parse(told)).toMatchObject({ file: out, charges: 12 });
      expect(covey('audit', 'ledger', '--config', join(site, 'node.yaml'), '--out', out).stderr).toContain('EEXIST');
    }
    const bundle = ['--ledgers', join(base, 'ledgers'), '--out', join(base, 'bundle')];
    const { status, stdout } = covey('audit', 'export', '--config', join(base, 'covey.yaml'), ...bundle);
    expect(status).toBe(0);
    expect(stdout).toContain(`${SITES} participant ledgers agree with the log`);
    expect(stdout.includes('(trusted trainer)')).toBe(hasPython);
    expect(covey('audit', 'verify', join(base, 'bundle'), '--key', coordinator).status).toBe(0);
  });
});
