/**
 * What the optional package `@tensorflow/tfjs-node` 4.22 needs and how it fails. Its installer downloads a binary,
 * which closed networks and package managers that block install scripts prevent.
 */

/** Functions that `@tensorflow/tfjs-node` 4.22 takes from `util` and that Node 23 removed. */
const REMOVED: Readonly<Record<string, (value: unknown) => boolean>> = {
  isArray: (value) => Array.isArray(value),
  isBoolean: (value) => typeof value === 'boolean',
  isBuffer: (value) => Buffer.isBuffer(value),
  isDate: (value) => value instanceof Date,
  isError: (value) => value instanceof Error,
  isFunction: (value) => typeof value === 'function',
  isNull: (value) => value === null,
  isNullOrUndefined: (value) => value === null || value === undefined,
  isNumber: (value) => typeof value === 'number',
  isObject: (value) => typeof value === 'object' && value !== null,
  isPrimitive: (value) => value === null || (typeof value !== 'object' && typeof value !== 'function'),
  isRegExp: (value) => value instanceof RegExp,
  isString: (value) => typeof value === 'string',
  isSymbol: (value) => typeof value === 'symbol',
  isUndefined: (value) => value === undefined,
};

/** Adds the functions that are missing from the `util` module and returns a function that takes them out again. */
export function removedUtilFunctions(util: Record<string, unknown>): () => void {
  const missing = Object.keys(REMOVED).filter((name) => typeof util[name] !== 'function');
  for (const name of missing) util[name] = REMOVED[name];
  return () => {
    for (const name of missing) delete util[name];
  };
}

interface Failure {
  readonly code?: unknown;
  readonly message?: unknown;
}

function messageOf(error: unknown): string {
  return String((error as Failure | null)?.message ?? error);
}

/** Says in a few words why the native package could not be used, and what would help. */
export function explainNativeFailure(error: unknown): string {
  const code = (error as Failure | null)?.code;
  const message = messageOf(error);
  const line = message.split('\n', 1)[0] ?? '';
  if (code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND') {
    // Node names the missing package before the file that asked for it.
    if (/Cannot find (package|module) '@tensorflow\/tfjs-node'/.test(message)) return 'is not installed (optional)';
    return `is installed without a package it needs: ${line}`;
  }
  if (/native addon module .*can ?not be found/i.test(message)) {
    return 'has no binary, because its install script was blocked or could not download it (npm rebuild @tensorflow/tfjs-node)';
  }
  if (
    code === 'ERR_DLOPEN_FAILED' ||
    /NODE_MODULE_VERSION|self-register|shared object|invalid ELF|not a valid Win32/i.test(message)
  ) {
    return `has a binary that this system cannot open: ${line}`;
  }
  return `fails: ${line}`;
}
