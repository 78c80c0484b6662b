import { z } from 'zod';
import { expectedText, type SchemaNode } from './schema-words.ts';

/** One key of a configuration file, in words. */
export interface ConfigKey {
  /** `policy.datasetBudget.period` */
  readonly path: string;
  /** What it takes; alternatives together. */
  readonly expected: string;
  /** `needed`, `default 8`, or nothing: it may be left out. */
  readonly presence: string;
  /** From the schema; empty if nobody wrote one. */
  readonly description: string;
}

const asNode = (value: unknown): SchemaNode =>
  typeof value === 'object' && value !== null ? (value as SchemaNode) : {};

function alternatives(node: SchemaNode): readonly SchemaNode[] {
  const branches = [node['anyOf'], node['oneOf']].flatMap((list) =>
    Array.isArray(list) ? (list as SchemaNode[]) : [],
  );
  return branches.length === 0 ? [node] : branches.flatMap(alternatives);
}

/** A group whose keys follow is named by them; what else it may be is said. */
function takes(node: SchemaNode): string {
  const words = alternatives(node).map((one) => {
    if (one['type'] === 'object') return one['properties'] === undefined ? 'names and values' : 'a group of keys';
    if (one['type'] === 'string' && one['minLength'] === 1) return 'text';
    return Object.keys(one).every((key) => key === 'description') ? 'anything' : expectedText(one);
  });
  return [...new Set(words)].join(', or ');
}

/** Defaults of groups are those of their keys. */
function presenceOf(node: SchemaNode, isNeeded: boolean): string {
  const value = node['default'];
  if (value !== undefined && (typeof value !== 'object' || Array.isArray(value)))
    return `default ${typeof value === 'string' ? value : JSON.stringify(value)}`;
  return isNeeded ? 'needed' : '';
}

function keysUnder(node: SchemaNode, prefix: string): ConfigKey[] {
  const keys = new Map<string, ConfigKey>();
  const branches = alternatives(node).filter((one) => one['properties'] !== undefined);
  const isInAll = (name: string): boolean => branches.every((one) => Object.hasOwn(asNode(one['properties']), name));
  for (const one of branches) {
    const needed = Array.isArray(one['required']) ? (one['required'] as string[]) : [];
    for (const [name, property] of Object.entries(asNode(one['properties']))) {
      const child = asNode(property);
      const path = prefix === '' ? name : `${prefix}.${name}`;
      const own = {
        path,
        expected: takes(child),
        presence: presenceOf(child, needed.includes(name) && isInAll(name)),
        description: String(child['description'] ?? ''),
      };
      const before = keys.get(path);
      const merged = (a: string, b: string): string => (a === b || b === '' ? a : a === '' ? b : `${a}, or ${b}`);
      keys.set(
        path,
        before === undefined
          ? own
          : {
              ...own,
              expected: merged(before.expected, own.expected),
              presence: before.presence === own.presence ? own.presence : '',
              description: merged(before.description, own.description),
            },
      );
      for (const below of keysUnder(child, path)) if (!keys.has(below.path)) keys.set(below.path, below);
    }
  }
  return [...keys.values()];
}

/** Every key that a configuration file of this schema may have, in the order of the schema, groups before their keys. */
export function configKeys(schema: z.ZodType): ConfigKey[] {
  return keysUnder(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any', reused: 'inline' }) as SchemaNode, '');
}

const WIDTH = 100;

function wrap(text: string, indent: string): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && indent.length + line.length + 1 + word.length > WIDTH) {
      lines.push(indent + line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, indent + line].join('\n');
}

/** The keys of a configuration file, for the end of a command's help. The schema's descriptions are its only source. */
export function configHelp(file: string, schema: z.ZodType): string {
  const lines = configKeys(schema).map(({ description, expected, path, presence }) => {
    const facts = presence === '' ? expected : `${expected}; ${presence}`;
    return `  ${path}  (${facts})\n${wrap(description, '      ')}`;
  });
  return `Keys of ${file} (what is not needed may be left out):\n${lines.join('\n')}`;
}
