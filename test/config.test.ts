import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { loadConfig, parseConfig } from '../platform/node/config.ts';
import { parseRunConfig } from '../src/run/config.ts';
import { scenarioConfig } from '../src/run/scenario.ts';

const schema = z.strictObject({
  clients: z.number().int().min(3),
  epsilon: z.number().positive().max(20).default(8),
  host: z.string().min(1).default('127.0.0.1'),
  scenario: z.enum(['digits', 'heart']).optional(),
  verbose: z.boolean().default(false),
  members: z.array(z.strictObject({ name: z.string().min(1), weight: z.number().optional() })).default([]),
  data: z
    .discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('file'), path: z.string() }),
      z.strictObject({ kind: z.literal('generated'), seed: z.number().int().min(0) }),
    ])
    .optional(),
  run: z
    .union([
      z.strictObject({ name: z.enum(['a', 'b']), seed: z.number().default(1) }),
      z.strictObject({ config: z.unknown() }),
    ])
    .optional(),
  threshold: z
    .number()
    .refine((value) => value % 2 === 1, 'expected an odd number')
    .optional(),
});

/** The message of the error, without the name of the file. */
function fault(text: string): string {
  try {
    parseConfig(text, 'covey.yaml', schema);
    return 'no error';
  } catch (error) {
    expect(error).toMatchObject({ code: 'USAGE_CONFIG' });
    const { message } = error as Error;
    expect(message.split('\n')).toHaveLength(1);
    return message.replace(/ \(covey\.yaml\)$/, '');
  }
}

describe('parseConfig', () => {
  it('reads YAML and JSON and fills in defaults', () => {
    const expected = { clients: 12, epsilon: 4, host: '127.0.0.1', verbose: false, members: [{ name: 'a' }] };
    expect(
      parseConfig('clients: 12 # organizations\nepsilon: 4\nmembers:\n  - name: a\n', 'covey.yaml', schema),
    ).toEqual(expected);
    expect(parseConfig('{"clients": 12, "epsilon": 4, "members": [{"name": "a"}]}', 'covey.yaml', schema)).toEqual(
      expected,
    );
  });

  it('names the field, what was expected and what came', () => {
    expect(fault('clients: 2')).toBe('"clients" expected integer >= 3, got 2');
    expect(fault('clients: 3.5')).toBe('"clients" expected integer >= 3, got 3.5');
    expect(fault('clients: three')).toBe('"clients" expected integer >= 3, got "three"');
    expect(fault('{}')).toBe('"clients" expected integer >= 3, got nothing');
    expect(fault('clients: .nan')).toBe('"clients" expected integer >= 3, got NaN');
    expect(fault('clients: 3\nepsilon: 0')).toBe('"epsilon" expected number > 0 and <= 20, got 0');
    expect(fault('clients: 3\nhost: ""')).toBe('"host" expected text of at least 1 characters, got ""');
    expect(fault('clients: 3\nscenario: digit')).toBe('"scenario" expected one of "digits", "heart", got "digit"');
    expect(fault('clients: 3\nverbose: 1')).toBe('"verbose" expected true or false, got 1');
    expect(fault('clients: 3\nmembers: a')).toBe('"members" expected a list, got "a"');
    expect(fault('clients: 3\nmembers: [{name: a}, {name: 7}]')).toBe(
      '"members[1].name" expected text of at least 1 characters, got 7',
    );
    expect(fault('clients: 3\nmembers: [7]')).toBe('"members[0]" expected a group of keys, got 7');
    expect(fault('- a')).toBe('"file" expected a group of keys, got a list');
    expect(fault('')).toBe('"file" expected a group of keys, got nothing');
    expect(fault('clients: 3\nthreshold: 4')).toBe('"threshold" expected an odd number');
    expect(fault(`clients: ${'x'.repeat(200)}`).length).toBeLessThan(120);
  });

  it('chooses the alternative that was meant', () => {
    expect(fault('clients: 3\ndata: {kind: generated, seed: -1}')).toBe('"data.seed" expected integer >= 0, got -1');
    expect(fault('clients: 3\ndata: {kind: fil, path: x}')).toBe(
      '"data.kind" expected "file" or "generated", got "fil"',
    );
    expect(fault('clients: 3\nrun: {name: c}')).toBe('"run.name" expected one of "a", "b", got "c"');
    expect(fault('clients: 3\nrun: {name: a, sead: 2}')).toBe('"run.sead" is not a known key, did you mean "seed"?');
  });

  it('refuses unknown keys with the nearest known name', () => {
    expect(fault('clinets: 3')).toBe('"clinets" is not a known key, did you mean "clients"? (covey.yaml, and 1 more)');
    expect(fault('clients: 3\nEpsilon: 3')).toBe('"Epsilon" is not a known key, did you mean "epsilon"?');
    expect(fault('clients: 3\nmembers: [{nam: a, name: b}]')).toBe(
      '"members[0].nam" is not a known key, did you mean "name"?',
    );
    expect(fault('clients: 3\nwholly-different: 3')).toMatch(
      /^"wholly-different" is not a known key, known are clients, epsilon, host, /,
    );
    expect(fault('clients: 3\n__proto__: {a: 1}')).toMatch(/^"__proto__" is not a known key/);
  });

  it('refuses repeated keys, broken YAML and files that grow when read', () => {
    expect(fault('clients: 3\nclients: 4')).toBe(
      'covey.yaml expected valid YAML: Map keys must be unique at line 2, column 1',
    );
    expect(fault('clients: [3')).toMatch(/^covey\.yaml expected valid YAML: .* at line 1, column/);
    const bomb = `a: &a [1]\n${Array.from({ length: 26 }, (_, i) => `b${i}: &b${i} [${`*${i === 0 ? 'a' : `b${i - 1}`},`.repeat(9)}]`).join('\n')}`;
    expect(fault(bomb)).toBe('covey.yaml expected fewer aliases');
  });
});

describe('loadConfig', () => {
  const folder = mkdtempSync(join(tmpdir(), 'covey-config-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  it('reads a file and says in one line why it cannot', async () => {
    const path = join(folder, 'node.yaml');
    writeFileSync(path, 'clients: 3');
    expect(await loadConfig(path, schema)).toMatchObject({ clients: 3 });
    writeFileSync(path, 'clients: 1');
    await expect(loadConfig(path, schema)).rejects.toThrow('"clients" expected integer >= 3, got 1 (node.yaml)');
    writeFileSync(path, Uint8Array.of(0x63, 0xff));
    await expect(loadConfig(path, schema)).rejects.toThrow('"config" expected UTF-8 text');
    const missing = join(folder, 'missing.yaml');
    await expect(loadConfig(missing, schema)).rejects.toThrow(
      `"config" expected a readable file, got ENOENT for ${missing}`,
    );
  });
});

describe('a run configuration', () => {
  const fault = (changes: (config: Record<string, Record<string, unknown>>) => void): string => {
    const config = JSON.parse(
      JSON.stringify(scenarioConfig('digits', { seed: 1, steps: 20, targetEpsilon: 8, participants: 12 })),
    );
    changes(config);
    try {
      parseRunConfig(config);
      return 'no error';
    } catch (error) {
      expect(error).toMatchObject({ code: 'USAGE_CONFIG' });
      return (error as Error).message;
    }
  };

  it('names field, what was expected and what came', () => {
    expect(fault(() => {})).toBe('no error');
    const set = (group: string, key: string, value: unknown) => (config: Record<string, Record<string, unknown>>) => {
      (config[group] as Record<string, unknown>)[key] = value;
    };
    expect(fault(set('cohort', 'participants', 2))).toContain('"cohort.participants" expected >= 3, got 2');
    expect(fault(set('cohort', 'profile', 'loose'))).toContain(
      '"cohort.profile" expected "strict" or "sparse", got loose',
    );
    expect(fault(set('training', 'steps', 'many'))).toContain('"training.steps" expected number, got many');
    expect(fault(set('training', 'momentum', 1))).toContain('"training.momentum" expected < 1, got 1');
    expect(fault(set('training', 'pace', 1))).toContain('"training" expected known keys, got pace');
  });

  it('takes three organizations', () => {
    expect(scenarioConfig('heart', { seed: 1, steps: 5, targetEpsilon: 8, participants: 3 }).cohort).toMatchObject({
      participants: 3,
      minSurvivors: 3,
      colluders: 0,
    });
  });
});
