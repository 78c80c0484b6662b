import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A named check; it returns one line for each fault, none if all is well. */
export interface Check {
  readonly name: string;
  run(): readonly string[];
}

/** Root of the repository, seen from the compiled `dist/scripts/checks`. */
export const ROOT: string = fileURLToPath(new URL('../../../', import.meta.url));

const SKIPPED = new Set(['node_modules', 'dist', '.git', 'coverage', 'runs', '.vitest']);

/** Relative paths (with `/`) of all files whose name ends in one of `endings`, in a fixed order. */
export function listFiles(endings: readonly string[], folder: string = ROOT): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return SKIPPED.has(entry.name) ? [] : listFiles(endings, path);
      return endings.some((ending) => entry.name.endsWith(ending)) ? [relative(ROOT, path).split(sep).join('/')] : [];
    })
    .sort();
}

/** Text of a file of the repository, or null if it does not exist. */
export function readText(path: string): string | null {
  try {
    return readFileSync(join(ROOT, path), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Runs a program; a fault is its output if it fails. */
export function runProgram(
  file: string,
  args: readonly string[],
  options: { readonly maxLines?: number } = {},
): readonly string[] {
  const result = spawnSync(file, args, {
    cwd: ROOT,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    shell: process.platform === 'win32',
  });
  if (result.error !== undefined) return [`cannot start ${file}: ${result.error.message}`];
  if (result.status === 0) return [];
  const lines = `${result.stdout}\n${result.stderr}`.split('\n').filter((line) => line.trim() !== '');
  return [
    `${file} ${args.join(' ')} ended with ${result.status ?? result.signal}`,
    ...lines.slice(0, options.maxLines ?? 200),
  ];
}

/** Runs a script of an installed package with this Node, so that no shell or PATH is needed. */
export function runPackage(script: string, args: readonly string[]): readonly string[] {
  return runProgram(process.execPath, [join(ROOT, 'node_modules', script), ...args]);
}
