import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { CoveyError } from '../../protocol/errors.ts';
import { atExit } from './at-exit.ts';

/** A program to start, without a shell. */
export interface LineProgram {
  readonly command: string;
  readonly args: readonly string[];
  /** Folder in which it runs. */
  readonly folder: string;
  /** Variables beside those of `INHERITED`. */
  readonly environment?: Readonly<Record<string, string>> | undefined;
  /** Receives what the program writes to standard error; it may show records, so it must stay at the site. */
  onLog?(line: string): void;
}

/** A running program that answers each JSON line with one JSON line. */
export interface LineProcess {
  /** Why it has ended or has been given up; null while it can be asked. */
  failure(): CoveyError | null;
  /**
   * Sends a message and waits for the next line. One question at a time.
   * @throws CoveyError DEP_TRAINER_START, DEP_TRAINER_EXIT, DEP_TRAINER_OUTPUT or DEP_TRAINER_TIMEOUT; the program is
   * killed then.
   */
  ask(message: object, timeLimitMs: number): Promise<Record<string, unknown>>;
  /** Ends the program and everything it has started; resolves when it is gone. */
  end(): Promise<void>;
}

/** The only variables of Covey's own environment that a program sees: keys and paths of the site are none of them. */
const INHERITED = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR', 'SYSTEMROOT', 'TEMP'];
/** Longest answer; arrays travel in files. */
const MAX_LINE_BYTES = 65_536;
const MAX_LOG_CHARACTERS = 1_000;
/** Time for an orderly end after standard input was closed. */
const GRACE_MS = 2_000;

function environmentOf(extra: Readonly<Record<string, string>> | undefined): Record<string, string> {
  const entries = INHERITED.map((name) => [name, process.env[name]] as const).filter(
    (entry): entry is readonly [string, string] => entry[1] !== undefined,
  );
  return { ...Object.fromEntries(entries), ...extra };
}

function outputError(what: string): CoveyError {
  return new CoveyError('DEP_TRAINER_OUTPUT', `the training program ${what}`);
}

function parseLine(bytes: Buffer): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw outputError('wrote a line that is no JSON to standard output; logs belong on standard error');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw outputError('answered with something else than a JSON object');
  return value as Record<string, unknown>;
}

/** Cuts a stream into lines and calls `onOverflow` once for a line above the limit. */
function createSplitter(onLine: (line: Buffer) => void, onOverflow: () => void): (chunk: Buffer) => void {
  let parts: Buffer[] = [];
  let held = 0;
  return (chunk) => {
    let rest = chunk;
    for (let at = rest.indexOf(10); at >= 0; at = rest.indexOf(10)) {
      if (held + at > MAX_LINE_BYTES) return onOverflow();
      const line = Buffer.concat([...parts, rest.subarray(0, at)]);
      parts = [];
      held = 0;
      rest = rest.subarray(at + 1);
      onLine(line);
    }
    parts.push(rest);
    held += rest.length;
    if (held > MAX_LINE_BYTES) onOverflow();
  };
}

/** Passes standard error on, line by line, without ever holding more than a line. */
function createLog(onLog: ((line: string) => void) | undefined): (chunk: Buffer) => void {
  let rest = '';
  const decoder = new TextDecoder();
  return (chunk) => {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = (lines.pop() ?? '').slice(0, MAX_LOG_CHARACTERS);
    for (const line of lines) onLog?.(line.slice(0, MAX_LOG_CHARACTERS));
  };
}

/** Starts a program of its own process group, so that what it starts ends with it. */
export function startLineProcess(program: LineProgram): LineProcess {
  const ownsGroup = process.platform !== 'win32';
  let child: ChildProcessWithoutNullStreams;
  try {
    child = spawn(program.command, program.args, {
      cwd: program.folder,
      env: environmentOf(program.environment),
      detached: ownsGroup,
      windowsHide: true,
    });
  } catch (cause) {
    throw new CoveyError('DEP_TRAINER_START', `"command" expected a program, got ${program.command}`, {}, { cause });
  }
  let failure: CoveyError | null = null;
  let waiting: { resolve(answer: Record<string, unknown>): void; reject(error: CoveyError): void } | null = null;

  let isGone = false;

  const signal = (name: 'SIGTERM' | 'SIGKILL'): void => {
    // Its number may belong to another program by now.
    if (isGone) return;
    try {
      if (ownsGroup && child.pid !== undefined) process.kill(-child.pid, name);
      else child.kill(name);
    } catch {
      // Already gone.
    }
  };
  const killNow = (): void => signal('SIGKILL');
  const fail = (error: CoveyError): void => {
    failure ??= error;
    killNow();
    waiting?.reject(failure);
    waiting = null;
  };
  // If this process ends first, nobody else would stop the program.
  const forget = atExit(killNow);
  const gone = new Promise<void>((resolve) => {
    child.once('error', (cause: NodeJS.ErrnoException) => {
      const text = `"command" expected a program that can be started, got ${program.command} (${cause.code ?? 'no code'})`;
      fail(new CoveyError('DEP_TRAINER_START', text, {}, { cause }));
      if (child.pid === undefined) {
        forget();
        resolve();
      }
    });
    child.once('exit', () => {
      // What it started is still in its group.
      killNow();
      isGone = true;
      forget();
      resolve();
    });
  });
  // Later than its exit: by now the last line that it wrote has been read.
  child.once('close', (code, name) => {
    fail(new CoveyError('DEP_TRAINER_EXIT', `the training program ended (${name ?? `exit code ${code}`})`));
  });

  const onLine = (line: Buffer): void => {
    if (failure !== null) return;
    try {
      const answer = parseLine(line);
      if (waiting === null) throw outputError('answered without being asked');
      waiting.resolve(answer);
      waiting = null;
    } catch (error) {
      fail(error as CoveyError);
    }
  };
  const split = createSplitter(onLine, () => fail(outputError(`wrote a line of more than ${MAX_LINE_BYTES} bytes`)));
  child.stdout.on('data', (chunk: Buffer) => {
    if (failure === null) split(chunk);
  });
  child.stderr.on('data', createLog(program.onLog?.bind(program)));
  // A program that has ended breaks the pipe; its exit says so.
  for (const stream of [child.stdin, child.stdout, child.stderr]) stream.on('error', () => undefined);

  return {
    failure: () => failure,
    ask(message, timeLimitMs) {
      if (failure !== null) return Promise.reject(failure);
      if (waiting !== null)
        return Promise.reject(new CoveyError('USAGE_STATE', 'the training program has a question to answer'));
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          const text = `the training program expected to answer within ${Math.ceil(timeLimitMs)} ms`;
          fail(new CoveyError('DEP_TRAINER_TIMEOUT', text));
        }, timeLimitMs);
        waiting = {
          resolve: (answer) => {
            clearTimeout(timer);
            resolve(answer);
          },
          reject: (error) => {
            clearTimeout(timer);
            reject(error);
          },
        };
        child.stdin.write(`${JSON.stringify(message)}\n`);
      });
    },
    async end() {
      if (failure === null) {
        failure = new CoveyError('USAGE_STATE', 'the training program was ended');
        child.stdin.end();
        signal('SIGTERM');
      }
      waiting?.reject(failure);
      waiting = null;
      const timer = setTimeout(killNow, GRACE_MS);
      await gone;
      clearTimeout(timer);
    },
  };
}
