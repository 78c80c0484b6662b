import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadNodeData } from '../clients/node/data.ts';
import { attackFinishedRun, CANARIES_FILE } from '../experiments/attacks/finished-run.ts';
import { writeDemoFiles } from '../experiments/demo-setup.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { digitCanaries } from '../src/data/digit-canaries.ts';
import { generateDigits } from '../src/data/digits.ts';
import { startBuilt } from './support/built-command.ts';
import { codeOf } from './support/code-of.ts';

const base = await mkdtemp(join(tmpdir(), 'covey-attack-'));
afterAll(() => rm(base, { recursive: true, force: true }));

describe('canaries of a demo', () => {
  const digits = { kind: 'digits', seed: 5, organization: 2 } as const;
  it('are real images with a wrong label, of other writers than the records', () => {
    const canaries = digitCanaries(5, 2);
    const { train } = generateDigits((5 ^ 0x5eed) >>> 0, 2);
    expect(canaries.features).toEqual(train.features);
    expect([...canaries.labels].every((label, j) => label !== train.labels[j] && label < 10)).toBe(true);
    expect(canaries.features).not.toEqual(generateDigits(5, 2).train.features);
  });
  it('are trained on by the node that holds them, and by no other', async () => {
    const plain = await loadNodeData(digits, String);
    const { train, test } = await loadNodeData({ ...digits, canaries: [4, 0] }, String);
    const canaries = digitCanaries(5, 2);
    expect(train.count).toBe(plain.train.count + 2);
    expect([...train.labels].slice(-2)).toEqual([canaries.labels[4], canaries.labels[0]]);
    expect([...train.features].slice(-64)).toEqual([...canaries.features].slice(0, 64));
    expect(test).toEqual(plain.test);
    await expect(loadNodeData({ ...digits, canaries: [9_999] }, String)).rejects.toThrow(/"records" expected/);
  });
  it('are drawn by fair coins that a seed does not give away', async () => {
    const plan = {
      scenario: 'digits',
      dataFolder: null,
      seed: 5,
      steps: 4,
      targetEpsilon: 8,
      participants: 4,
    } as const;
    const coins = async (folder: string): Promise<string> => {
      await writeDemoFiles(join(base, folder), { ...plan, canaries: 200 }, 1);
      return readFile(join(base, folder, CANARIES_FILE), 'utf8');
    };
    const [first, second] = [await coins('a'), await coins('b')];
    expect(first).not.toBe(second);
    const heads = (first.match(/true/g) ?? []).length;
    // Five deviations of 200 fair coins.
    expect(Math.abs(heads - 100)).toBeLessThan(36);
    await expect(writeDemoFiles(join(base, 'c'), { ...plan, canaries: 400 }, 1)).rejects.toThrow(/at most 60/);
  });
});

describe('an attack on a folder', () => {
  it('asks for canaries in one line', async () => {
    const why = await attackFinishedRun(join(base, 'nowhere'), nodeCrypto).catch((error: unknown) => error);
    expect(
      codeOf(() => {
        throw why;
      }),
    ).toBe('USAGE_CONFIG');
    expect(String(why)).toMatch(/canaries\.json.*hint: covey demo --canaries/);
    await writeFile(join(base, CANARIES_FILE), '{"seed":1}');
    await expect(attackFinishedRun(base, nodeCrypto)).rejects.toThrow(/not there or not readable/);
  });
  it.each([
    [['--run', base, '--seed', '3'], /"--seed" expected to be left out with --run/],
    [['--run', base, '--method', 'one-run'], /"--method" expected membership with --run/],
    [['--method', 'psychic'], /"--method" expected one-run, two-worlds, one-shot, membership, got "psychic"/],
    [['--method', 'two-worlds', '--canaries', '9'], /"canaries" expected a multiple of 8/],
  ])('refuses %j', async (flags, message) => {
    const process = startBuilt(['audit', 'attack', ...flags], () => undefined);
    expect(await process.exited).toBe(2);
    expect(process.errorTail()).toMatch(message);
    expect(process.errorTail().trim().split('\n').length).toBeLessThanOrEqual(2);
  });
});
