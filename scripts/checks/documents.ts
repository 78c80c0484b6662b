import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { ERROR_CODES } from '../../protocol/errors.ts';
import { type Check, listFiles, ROOT, readText, runPackage, runProgram } from './run.ts';

const ERRORS_PAGE = 'docs/errors.md';
const REQUIRED = [
  'README.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'LICENSE',
  'threat-model.md',
  'protocol/SPEC.md',
  ERRORS_PAGE,
];

/** The table of `docs/errors.md` as the registry gives it. */
export function errorTable(): string {
  const rows = Object.entries(ERROR_CODES).map(
    ([code, { class: errorClass, closeCode, retryable, meaning }]) =>
      `| \`${code}\` | ${errorClass} | ${closeCode ?? '-'} | ${retryable ? 'yes' : 'no'} | ${meaning} |`,
  );
  return ['| code | class | close code | retryable | meaning |', '|---|---|---|---|---|', ...rows].join('\n');
}

function checkErrors(): readonly string[] {
  const text = readText(ERRORS_PAGE);
  if (text === null) return [`${ERRORS_PAGE} does not exist`];
  const rows = text.split('\n').filter((line) => line.startsWith('|'));
  const expected = errorTable().split('\n');
  const missing = expected.filter((row) => !rows.includes(row)).map((row) => `missing row: ${row}`);
  const extra = rows
    .filter((row) => /^\| `[A-Z0-9_]+` /.test(row) && !expected.includes(row))
    .map((row) => `row that the registry does not hold: ${row}`);
  const faults = [...missing, ...extra];
  return faults.length === 0 ? [] : [...faults, 'write it anew with: npm run docs:errors'];
}

/** `npm run <script>` in any document must exist; so must the files that it links to. */
function checkReferences(): readonly string[] {
  const { scripts } = JSON.parse(readText('package.json') ?? '{}') as { scripts?: Record<string, string> };
  const faults: string[] = [];
  for (const path of listFiles(['.md'])) {
    const text = readText(path) ?? '';
    for (const [, name = ''] of text.matchAll(/\bnpm run (?:--silent |-s )?([a-z][\w:-]*)/g)) {
      if (scripts?.[name] === undefined) faults.push(`${path}: "npm run ${name}" is no script of package.json`);
    }
    for (const [, target = ''] of text.replace(/```[\s\S]*?```/g, '').matchAll(/\]\(([^)\s#]+)(?:#[^)]*)?\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const file = posix.normalize(posix.join(posix.dirname(path), target));
      if (!existsFile(file)) faults.push(`${path}: the link to ${target} leads nowhere`);
    }
  }
  return faults;
}

function existsFile(path: string): boolean {
  try {
    return readText(path) !== null;
  } catch {
    // A folder exists, but is not read as text.
    return true;
  }
}

/** The README shows what a newcomer needs, and every sub-command that it or another document names is one of `cli/`. */
function checkReadmeCommands(): readonly string[] {
  const text = readText('README.md');
  if (text === null) return ['README.md does not exist'];
  const flat = text.replace(/\s+/g, ' ').replaceAll('covey -- ', 'covey ');
  const needed = [
    'npm ci',
    'npm run demo',
    'npm test',
    'covey audit verify',
    'covey server --config',
    'covey node --config',
  ];
  const missing = needed
    .filter((command) => !flat.includes(command))
    .map((command) => `README.md expected to show "${command}"`);
  const unknown = listFiles(['.md']).flatMap((path) =>
    [...(readText(path) ?? '').matchAll(/(?:^|`|\$ |npx |npm run )covey (?:-- )?([a-z]+)\b/gm)]
      .map(([, name = '']) => name)
      .filter((name) => readText(`cli/${name}.ts`) === null)
      .map((name) => `${path}: "covey ${name}" is no command`),
  );
  return [...missing, ...unknown];
}

/** Compiles every TypeScript block of the documents against the built package, as a reader would. */
function compileBlocks(): readonly string[] {
  const blocks = listFiles(['.md']).flatMap((path) =>
    [...(readText(path) ?? '').matchAll(/```ts\n([\s\S]*?)```/g)].map((match, i) => ({
      name: `${path.replace(/[^\w]/g, '-')}-${i + 1}.ts`,
      text: match[1] ?? '',
    })),
  );
  if (blocks.length === 0) return [];
  const folder = join(ROOT, 'dist', 'documents');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const { name, text } of blocks) writeFileSync(join(folder, name), `${text}\nexport {};\n`);
  const compilerOptions = {
    composite: false,
    isolatedDeclarations: false,
    declaration: false,
    noEmit: true,
    noUnusedLocals: false,
    types: ['node'],
    lib: ['ES2023'],
  };
  const config = join(folder, 'tsconfig.json');
  writeFileSync(config, JSON.stringify({ extends: '../../tsconfig.base.json', compilerOptions, include: ['*.ts'] }));
  return runPackage('typescript/bin/tsc', ['-p', dirname(config)]);
}

/** What a reader relies on: the pages exist, their tables, commands, links and examples are right. */
export const documentChecks: readonly Check[] = [
  {
    name: 'documents exist',
    run: () => REQUIRED.filter((path) => readText(path) === null).map((path) => `${path} does not exist`),
  },
  { name: 'error registry = docs/errors.md', run: checkErrors },
  { name: 'README commands', run: checkReadmeCommands },
  { name: 'scripts and links named in documents', run: checkReferences },
  { name: 'examples in documents compile', run: compileBlocks },
  {
    name: 'figures of docs/study are those of their results',
    run: () => runProgram(process.execPath, ['dist/experiments/study-docs.js', '--check']),
  },
];
