import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { CANARIES_FILE, type CanaryTruth } from '../../experiments/attacks/finished-run.ts';
import { startBuilt } from '../support/built-command.ts';

const base = await mkdtemp(join(tmpdir(), 'covey-attack-'));
afterAll(() => rm(base, { recursive: true, force: true }));

async function run(
  args: readonly string[],
): Promise<{ code: number | null; line: Record<string, unknown>; error: string }> {
  let line: Record<string, unknown> = {};
  const process = startBuilt(args, (next) => {
    line = next;
  });
  const code = await process.exited;
  return { code, line, error: process.errorTail() };
}

describe('membership inference on a demo that took place', () => {
  it('reads bundle and coins, stays within the claim, and refuses a bundle that was changed', async () => {
    const demo = ['demo', '--json', '--canaries', '120', '--rounds', '10', '--participants', '6', '--out', base];
    const { code: ended, error: why } = await run(demo);
    expect(`${ended} ${ended === 0 ? '' : why}`).toBe('0 ');
    const folder = join(base, 'demo-1');
    const truth = JSON.parse(await readFile(join(folder, CANARIES_FILE), 'utf8')) as CanaryTruth;
    const coins = truth.organizations.flatMap(({ included }) => included);
    expect(coins.length).toBe(120);
    const { code, line } = await run(['audit', 'attack', '--run', folder, '--json']);
    expect(code).toBe(0);
    expect(line).toMatchObject({ method: 'membership', run: folder, canaries: 120, verdict: 'consistent' });
    expect((line['evidence'] as Record<string, number>)['canariesIn']).toBe(coins.filter((isIn) => isIn).length);
    // Sums are of what was trained: with coins turned round the same scores point the other way.
    const flipped = truth.organizations.map(({ name, included }) => ({
      name,
      included: included.map((isIn) => !isIn),
    }));
    await writeFile(join(folder, CANARIES_FILE), JSON.stringify({ ...truth, organizations: flipped }));
    const { line: turned } = await run(['audit', 'attack', '--run', folder, '--json']);
    expect(turned['found']).not.toBe(line['found']);
    const results = join(folder, 'bundle', 'results.json');
    await writeFile(results, (await readFile(results, 'utf8')).replace('"epsilon":', '"epsilon": '));
    const changed = await run(['audit', 'attack', '--run', folder]);
    expect(changed.code).not.toBe(0);
    expect(changed.error).toMatch(/expected a bundle that verifies/);
  });
});
