import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { z } from 'zod';
import { nodeConfigSchema } from '../clients/node/config.ts';
import { parseConfig } from '../platform/node/config.ts';
import { configHelp, configKeys } from '../platform/node/config-help.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { serverConfigSchema } from '../server/config.ts';
import { BUILT_COMMAND } from './support/built-command.ts';

/* The help of a command names the keys of its configuration file: those that the schema reads, and no others. */

const FILES = [
  ['node', 'node.yaml', nodeConfigSchema],
  ['server', 'covey.yaml', serverConfigSchema],
] as const;

/** Keys that the loader says it knows, where it meets one that it does not. */
function knownAt(schema: z.ZodType<unknown>, text: string): string[] {
  try {
    parseConfig(text, 'file', schema);
  } catch (error) {
    if (!isCoveyError(error)) throw error;
    return /known are (.*) \(file/.exec(error.message)?.[1]?.split(', ') ?? [];
  }
  return [];
}

/** Paths of all keys of a document; what has names of its own is one key. */
function pathsOf(value: unknown, prefix = ''): string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [];
  return Object.entries(value).flatMap(([name, below]) => {
    const path = prefix === '' ? name : `${prefix}.${name}`;
    return [path, ...(name === 'options' || name === 'environment' ? [] : pathsOf(below, path))];
  });
}

describe.each(FILES)('covey %s --help', (command, file, schema) => {
  const printed = execFileSync(process.execPath, [BUILT_COMMAND, command, '--help'], { encoding: 'utf8' });
  const keys = configKeys(schema as z.ZodType);
  const paths = keys.map(({ path }) => path);
  const below = (group: string): string[] =>
    paths
      .filter((path) => path.startsWith(group) && !path.slice(group.length).includes('.'))
      .map((path) => path.slice(group.length));

  it('prints every key with what it takes and means', () => {
    expect(printed).toContain(configHelp(file, schema as z.ZodType));
    for (const { description, expected, path } of keys) {
      expect([path, description === '', expected === '']).toEqual([path, false, false]);
      expect(printed).toContain(`\n  ${path}  (`);
    }
    expect(new Set(paths).size).toBe(paths.length);
  });

  it('names what the loader knows', () => {
    expect(below('')).toEqual(knownAt(schema, '{ zzzzzzzzzzzz: 1 }'));
    const group = command === 'node' ? 'policy' : 'run';
    const known = knownAt(schema, `{ federation: f, key: k, state: s, ${group}: { zzzzzzzzzzzz: 1 } }`);
    expect(known.length).toBeGreaterThan(5);
    expect(below(`${group}.`)).toEqual(known);
  });

  it('names every key of the examples', () => {
    for (const example of ['table', 'models']) {
      const used = pathsOf(parse(readFileSync(join(import.meta.dirname, '../examples', example, file), 'utf8')));
      expect(used.length).toBeGreaterThan(4);
      expect(used.filter((path) => !paths.includes(path))).toEqual([]);
    }
  });
});

it('has the keys of policies and runs that are easy to miss', () => {
  const node = configKeys(nodeConfigSchema).map(({ path }) => path);
  const server = configKeys(serverConfigSchema).map(({ path }) => path);
  const inPolicy = ['maxRuns', 'datasetBudget', 'datasetBudget.period', 'budget', 'integerTerms', 'sparse'];
  const inRun = ['terms', 'model', 'model.file', 'xnoise', 'xnoise.tolerance', 'mechanism', 'localNoise', 'config'];
  expect(node).toEqual(expect.arrayContaining(inPolicy.map((key) => `policy.${key}`)));
  expect(server).toEqual(expect.arrayContaining(inRun.map((key) => `run.${key}`)));
  expect(configKeys(nodeConfigSchema).find(({ path }) => path === 'policy.maxEpsilon')).toMatchObject({
    expected: 'number > 0',
    presence: 'default 8',
  });
  const needed = configKeys(serverConfigSchema).filter(
    ({ presence, path }) => presence === 'needed' && !path.includes('.'),
  );
  expect(needed.map(({ path }) => path)).toEqual(['federation', 'key', 'state', 'run']);
});
