import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { nodeConfigSchema } from '../clients/node/config.ts';
import { serverConfigSchema } from '../server/config.ts';

/* docs/configuration.md has every key of the two files and no other, with the defaults of the schemas. */

type Schema = {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly anyOf?: readonly Schema[];
  readonly default?: unknown;
};

const page = readFileSync(join(import.meta.dirname, '..', 'docs', 'configuration.md'), 'utf8');
const schemaOf = (schema: z.ZodType): Schema =>
  z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Schema;
const server = schemaOf(serverConfigSchema);
const node = schemaOf(nodeConfigSchema);

/** Keys and printed defaults of the table behind a heading. */
function rowsOf(heading: string): Map<string, string> {
  const [, section = ''] = page.split(`${heading}\n`);
  const [table = ''] = section.split(/\n#/);
  const rows = [...table.matchAll(/^\| (`[^|]*) \| ([^|]*) \|/gm)];
  return new Map(
    rows.flatMap(([, names = '', values = '']) => {
      const keys = [...names.matchAll(/`(\w+)`/g)].map(([, key = '']) => key);
      const defaults = keys.length === 1 ? [values] : values.split(/, (?=\S)/);
      return keys.map((key, i) => [key, (defaults[i] ?? values).replaceAll(/(?<=\d),(?=\d{3})/g, '')] as const);
    }),
  );
}

const run = (server.properties?.['run']?.anyOf ?? []).find(({ properties }) => properties?.['scenario'] !== undefined);

describe('docs/configuration.md', () => {
  it.each([
    ['## Coordinator: `covey.yaml`', server],
    ['### What is run: `run`', run],
    ['## Site: `node.yaml`', node],
    ['### What a site insists on: `policy`', node.properties?.['policy']],
  ] as const)('has every key and default: %s', (heading, schema) => {
    const rows = rowsOf(heading);
    const properties = schema?.properties ?? {};
    expect([...rows.keys()].sort()).toEqual(Object.keys(properties).sort());
    for (const [key, { default: value }] of Object.entries(properties))
      if (value !== undefined && typeof value !== 'object')
        expect(typeof value === 'number' ? Number(rows.get(key)) : rows.get(key), key).toBe(
          typeof value === 'number' ? value : String(value),
        );
  });
});
