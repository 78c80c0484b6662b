import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { CoveyError } from '../protocol/errors.ts';

/** A started `covey` process whose standard output is one JSON object a line. */
export interface CoveyProcess {
  readonly name: string;
  readonly child: ChildProcess;
  /** Resolves with the exit code, or null if a signal ended the process. */
  readonly exited: Promise<number | null>;
  /** Last lines of standard error, for a message if the process fails. */
  errorTail(): string;
}

/** The compiled command line; experiments start it, they never import it. */
const COMMAND = fileURLToPath(new URL('../cli/main.js', import.meta.url));

/** Starts `covey <args>` and hands every JSON line of its output to `onLine`. */
export function startCovey(
  name: string,
  args: readonly string[],
  onLine: (value: Record<string, unknown>) => void,
): CoveyProcess {
  const child = spawn(process.execPath, [COMMAND, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let rest = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line.startsWith('{')) onLine(JSON.parse(line) as Record<string, unknown>);
    }
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-2_000);
  });
  const exited = new Promise<number | null>((resolve, reject) => {
    child.on('error', (cause) => reject(new CoveyError('INTERNAL_INVARIANT', `cannot start ${name}`, {}, { cause })));
    child.on('exit', (code) => resolve(code));
  });
  return { name, child, exited, errorTail: () => errors.trim().split('\n').slice(-5).join('\n') };
}

/** Ends a process that still runs. */
export function stopCovey(process: CoveyProcess): void {
  if (process.child.exitCode === null && process.child.signalCode === null) process.child.kill('SIGTERM');
}
