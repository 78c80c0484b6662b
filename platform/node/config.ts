import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { CoveyError } from '../../protocol/errors.ts';
import { expectedText, type SchemaNode as Node } from './schema-words.ts';

const LONGEST_FILE = 1_048_576;
type Path = readonly PropertyKey[];

/** `members[0].name`, or the word "file" for the whole document. */
function pathText(path: Path): string {
  if (path.length === 0) return 'file';
  return path
    .map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? String(part) : `.${String(part)}`))
    .join('');
}

/** Parts of the JSON Schema that may describe the value at `path`; several where alternatives branch. */
function describedBy(root: Node, node: Node, path: Path): readonly Node[] {
  const { $ref } = node;
  if (typeof $ref === 'string') {
    const target = $ref
      .split('/')
      .slice(1)
      .reduce<unknown>((at, part) => (at as Node | undefined)?.[part], root);
    return describedBy(root, (target ?? {}) as Node, path);
  }
  const branches = [node['anyOf'], node['oneOf'], node['allOf']].flatMap((list) =>
    Array.isArray(list) ? (list as Node[]) : [],
  );
  if (branches.length > 0) return branches.flatMap((branch) => describedBy(root, branch, path));
  const [first, ...rest] = path;
  if (first === undefined) return [node];
  const child =
    typeof first === 'number'
      ? node['items']
      : ((node['properties'] as Node | undefined)?.[String(first)] ?? node['additionalProperties']);
  return typeof child === 'object' && child !== null ? describedBy(root, child as Node, rest) : [];
}

function gotText(value: unknown): string {
  if (value === undefined || value === null) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a group of keys';
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** Edit distance in which swapping two neighbours counts as one. */
function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min((rows[i - 1]?.[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (rows[i - 1]?.[j - 1] ?? 0) + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, (rows[i - 2]?.[j - 2] ?? 0) + 1);
      row.push(best);
    }
    rows.push(row);
  }
  return rows[a.length]?.[b.length] ?? 0;
}

function unknownKeyText(path: Path, key: string, known: readonly string[]): string {
  const ranked = known
    .map((name) => ({ name, distance: editDistance(key.toLowerCase(), name.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance);
  const nearest = ranked[0];
  const isNear = nearest !== undefined && nearest.distance <= Math.max(2, Math.floor(key.length / 3));
  const hint = isNear ? `did you mean "${nearest.name}"?` : `known are ${known.join(', ')}`;
  return `"${pathText([...path, key])}" is not a known key, ${hint}`;
}

type Issue = z.core.$ZodIssue;

/** The fault that says most: inside alternatives, that of the alternative that fits best; a wrong key before its missing twin. */
function mainIssue(issues: readonly Issue[], path: Path = []): { readonly issue: Issue; readonly path: Path } | null {
  const issue = issues.find((candidate) => candidate.code === 'unrecognized_keys') ?? issues[0];
  if (issue === undefined) return null;
  const at = [...path, ...issue.path];
  if (issue.code === 'invalid_union' && issue.errors.length > 0) {
    const depth = (list: readonly Issue[]): number => Math.max(0, ...list.map((nested) => nested.path.length));
    const hasUnknown = (list: readonly Issue[]): number =>
      list.filter((nested) => nested.code === 'unrecognized_keys').length;
    const [best] = [...issue.errors].sort(
      (a, b) => hasUnknown(a) - hasUnknown(b) || a.length - b.length || depth(b) - depth(a),
    );
    return mainIssue(best ?? [], at) ?? { issue, path: at };
  }
  return { issue, path: at };
}

function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (at, part) =>
      typeof at === 'object' && at !== null && Object.hasOwn(at, part)
        ? (at as Record<PropertyKey, unknown>)[part]
        : undefined,
    value,
  );
}

function faultText(schema: z.ZodType, value: unknown, issues: readonly Issue[]): string {
  const main = mainIssue(issues);
  if (main === null) return '"file" expected another content';
  const { issue, path } = main;
  const root = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Node;
  if (issue.code === 'unrecognized_keys') {
    const known = [
      ...new Set(
        describedBy(root, root, path).flatMap((node) => Object.keys((node['properties'] as Node | undefined) ?? {})),
      ),
    ];
    return unknownKeyText(path, issue.keys[0] ?? '', known);
  }
  // Rules that a JSON Schema cannot state speak for themselves.
  if (issue.code === 'custom') return `"${pathText(path)}" ${issue.message}`;
  const expected = [...new Set(describedBy(root, root, path).map(expectedText))].join(' or ');
  return `"${pathText(path)}" expected ${expected === '' ? issue.message : expected}, got ${gotText(valueAt(value, path))}`;
}

/**
 * Reads a configuration in YAML (or JSON, which is YAML) by its schema. `name` appears in messages.
 * @throws CoveyError USAGE_CONFIG, one line: `"clients" expected integer >= 3, got 2 (covey.yaml)`.
 */
export function parseConfig<T>(text: string, name: string, schema: z.ZodType<T>): T {
  const document = parseDocument(text, { uniqueKeys: true, strict: true, stringKeys: true, prettyErrors: true });
  const [error] = document.errors;
  if (error !== undefined) {
    const [line = ''] = error.message.split('\n');
    throw new CoveyError(
      'USAGE_CONFIG',
      `${name} expected valid YAML: ${line.replace(/:$/, '')}`,
      {},
      { cause: error },
    );
  }
  let value: unknown;
  try {
    // Aliases may not multiply: a short file could otherwise stand for an endless one.
    value = document.toJS({ maxAliasCount: 16 });
  } catch (cause) {
    throw new CoveyError('USAGE_CONFIG', `${name} expected fewer aliases`, {}, { cause });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const more = result.error.issues.length - 1;
  const others = more > 0 ? `, and ${more} more` : '';
  throw new CoveyError('USAGE_CONFIG', `${faultText(schema, value, result.error.issues)} (${name}${others})`);
}

/**
 * Reads a configuration file by its schema; unknown keys are refused with the nearest known name.
 * @throws CoveyError USAGE_CONFIG with one line that names the field, what was expected and what came.
 */
export async function loadConfig<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"config" expected a readable file, got ${cause.code} for ${path}`,
      {},
      { cause },
    );
  });
  if (bytes.length > LONGEST_FILE)
    throw new CoveyError(
      'USAGE_CONFIG',
      `"config" expected at most ${LONGEST_FILE} bytes, got ${bytes.length} in ${path}`,
    );
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new CoveyError('USAGE_CONFIG', `"config" expected UTF-8 text in ${path}`, {}, { cause });
  }
  return parseConfig(text, basename(path), schema);
}
