import pino, { type DestinationStream, type Logger as PinoLogger } from 'pino';
import { isCoveyError } from '../../protocol/errors.ts';
import { type Clock, systemClock } from './clock.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
/** Facts of one line: run, round and participant ids, counts and lengths; never keys, seeds, shares or updates. */
export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger whose lines all carry `fields`. */
  child(fields: LogFields): Logger;
}

export interface LoggerOptions {
  readonly level?: LogLevel;
  /** JSON lines appended to a file (mode 0600), or lines handed to a function, as JSON or for reading. */
  readonly to: { readonly file: string } | { write(line: string): void; readonly form: 'json' | 'plain' };
  readonly fields?: LogFields;
  readonly clock?: Clock;
}

/** Names under which nothing is ever written, whatever the value. Compared without case, "-" and "_". */
const SECRET_NAMES =
  /^(secret.*|.*secret|seeds?|.*seed|private.*|.*privatekey|signingkey|.*keypair|shares?|.*shares|masks?|.*masks?|noise|x|y|updates?|.*update|gradients?|.*gradient|contributions?|words|vector|weights|records?|labels|features|pass(word|phrase).*|tokens?|.*token|authorization|cookie|entropy)$/;
const REDACTED = '[redacted]';
const DEEPEST = 4;
const LONGEST_LIST = 32;
const LONGEST_TEXT = 1_000;

function safeError(error: Error, depth: number): unknown {
  const cause = error.cause instanceof Error && depth < DEEPEST ? { cause: safeError(error.cause, depth + 1) } : {};
  const known = isCoveyError(error)
    ? { code: error.code, detail: safeValue(error.detail, depth + 1) }
    : { stack: error.stack };
  return { name: error.name, message: error.message, ...known, ...cause };
}

/** Copies what may be written: plain values, short lists, nested facts; bytes and arrays of numbers become their length. */
function safeValue(value: unknown, depth: number): unknown {
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `[${value.byteLength} bytes]`;
  if (value instanceof Error) return safeError(value, depth);
  if (typeof value === 'string') return value.length > LONGEST_TEXT ? `${value.slice(0, LONGEST_TEXT)}...` : value;
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'function' || typeof value === 'symbol') return `[${typeof value}]`;
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= DEEPEST) return '[nested]';
  if (Array.isArray(value))
    return value.length > LONGEST_LIST ? `[${value.length} values]` : value.map((item) => safeValue(item, depth + 1));
  if (value instanceof Map || value instanceof Set) return `[${value.size} values]`;
  return safeFields(value as LogFields, depth + 1);
}

function safeFields(fields: LogFields, depth: number): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [
      name,
      SECRET_NAMES.test(name.toLowerCase().replace(/[-_]/g, '')) ? REDACTED : safeValue(value, depth),
    ]),
  );
}

/** One line for people: `12:03:04 warn message key=value`. */
function plainLine(json: string): string {
  const { level, time, msg, ...fields } = JSON.parse(json) as Record<string, unknown>;
  const facts = Object.entries(fields).map(
    ([name, value]) =>
      ` ${name}=${typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value)}`,
  );
  // Control characters could rewrite what a terminal shows.
  const text = `${String(time).slice(11, 19)} ${String(level)} ${String(msg)}${facts.join('')}`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones to remove.
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ');
}

function wrap(logger: PinoLogger): Logger {
  const at =
    (level: LogLevel) =>
    (message: string, fields: LogFields = {}): void =>
      logger[level](fields, message);
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => wrap(logger.child(safeFields(fields, 0))),
  };
}

/**
 * Makes a logger. Values are copied through a filter: names that sound secret are redacted, bytes and long lists are
 * replaced by their length, errors are reduced to name, code, message and public detail.
 */
export function createLogger(options: LoggerOptions): Logger {
  const { to, clock = systemClock } = options;
  let destination: DestinationStream;
  if ('file' in to) {
    // Synchronous, so that the last line before a crash is in the file.
    destination = pino.destination({ dest: to.file, append: true, mkdir: true, mode: 0o600, sync: true });
  } else {
    destination = { write: (json) => to.write(to.form === 'json' ? json.trimEnd() : plainLine(json)) };
  }
  const logger = pino(
    {
      level: options.level ?? 'info',
      base: options.fields === undefined ? null : safeFields(options.fields, 0),
      timestamp: () => `,"time":"${clock.now()}"`,
      formatters: { level: (label) => ({ level: label }), log: (fields) => safeFields(fields, 0) },
    },
    destination,
  );
  return wrap(logger);
}
