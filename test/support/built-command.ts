import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** A process of the built command, as a user starts it. */
export interface BuiltProcess {
  readonly child: ChildProcess;
  readonly exited: Promise<number | null>;
  errorTail(): string;
}

export const BUILT_COMMAND: string = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** Starts `covey <args>` from the build and hands every JSON line of its output to `onLine`. */
export function startBuilt(args: readonly string[], onLine: (line: Record<string, unknown>) => void): BuiltProcess {
  const child = spawn(process.execPath, [BUILT_COMMAND, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let rest = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.startsWith('{')) onLine(JSON.parse(line) as Record<string, unknown>);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  return {
    child,
    exited: new Promise((resolve) => child.on('exit', (code) => resolve(code))),
    errorTail: () => errors.slice(-1_000),
  };
}

/** Runs `covey <args>` from the build to its end. */
export function runBuilt(
  args: readonly string[],
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [BUILT_COMMAND, ...args], (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1, stdout, stderr });
    });
  });
}
