import { CoveyError } from '../../protocol/errors.ts';
import type { Json, JsonObject } from './canonical-json.ts';

/** Reads an unknown value as a `T` or refuses it with the path of the field. */
export type Check<T> = (value: unknown, path: string) => T;
export type Checked<C> = C extends Check<infer T> ? T : never;

function refuse(path: string, expected: string, value: unknown): never {
  const got =
    typeof value === 'string'
      ? `"${value.slice(0, 40)}"`
      : value === undefined
        ? 'nothing'
        : (JSON.stringify(value)?.slice(0, 40) ?? typeof value);
  throw new CoveyError('CODEC_TYPE', `"${path}" expected ${expected}, got ${got}`, { field: path });
}

/** Lower-case hex of a fixed number of bytes. */
export function hexOf(bytes: number): Check<string> {
  const pattern = new RegExp(`^[0-9a-f]{${2 * bytes}}$`);
  return (value, path) =>
    typeof value === 'string' && pattern.test(value) ? value : refuse(path, `${bytes} bytes in lower-case hex`, value);
}

export function integer(min = 0, max: number = Number.MAX_SAFE_INTEGER): Check<number> {
  return (value, path) =>
    typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max
      ? value
      : refuse(path, `an integer from ${min} to ${max}`, value);
}

/** A finite number written as the shortest decimal string that reads back as the same double. */
export function decimal(min: number = Number.NEGATIVE_INFINITY, max: number = Number.POSITIVE_INFINITY): Check<string> {
  return (value, path) => {
    const number = typeof value === 'string' ? Number(value) : Number.NaN;
    if (!Number.isFinite(number) || String(number) !== value) refuse(path, 'a decimal string in shortest form', value);
    if (number < min || number > max) refuse(path, `a decimal from ${min} to ${max}`, value);
    return value as string;
  };
}

export function text(maxLength: number, pattern: RegExp = /^[^\p{Cc}]*$/u): Check<string> {
  return (value, path) =>
    typeof value === 'string' && value.length <= maxLength && pattern.test(value)
      ? value
      : refuse(path, `text of at most ${maxLength} characters`, value);
}

export const boolean: Check<boolean> = (value, path) =>
  typeof value === 'boolean' ? value : refuse(path, 'true or false', value);

export function oneOf<const T extends string>(...options: readonly T[]): Check<T> {
  return (value, path) => options.find((option) => option === value) ?? refuse(path, options.join(' | '), value);
}

export function listOf<T>(item: Check<T>, maxLength: number): Check<readonly T[]> {
  return (value, path) => {
    if (!Array.isArray(value) || value.length > maxLength) refuse(path, `a list of at most ${maxLength}`, value);
    return value.map((element, i) => item(element, `${path}[${i}]`));
  };
}

/** A field that may be left out. */
export function optional<T>(check: Check<T>): Check<T | undefined> {
  return (value, path) => (value === undefined ? undefined : check(value, path));
}

/** An object with exactly these fields. */
export function record<T extends Readonly<Record<string, Check<unknown>>>>(
  fields: T,
): Check<{ readonly [K in keyof T]: Checked<T[K]> }> {
  return (value, path) => {
    const object = plainObject(value, path);
    const extra = Object.keys(object).find((key) => !Object.hasOwn(fields, key));
    if (extra !== undefined)
      throw new CoveyError('CODEC_EXTRA_KEY', `"${path}" has an unknown field "${extra.slice(0, 40)}"`, {
        field: path,
      });
    const entries = Object.entries(fields).map(([key, check]) => [
      key,
      check(Object.hasOwn(object, key) ? object[key] : undefined, `${path}.${key}`),
    ]);
    // A field that may be left out stays left out: canonical text knows no undefined.
    return Object.fromEntries(entries.filter(([, value]) => value !== undefined)) as {
      readonly [K in keyof T]: Checked<T[K]>;
    };
  };
}

/** An object with any keys that match `key`. */
export function mapOf<T>(key: RegExp, item: Check<T>): Check<Readonly<Record<string, T>>> {
  return (value, path) =>
    Object.fromEntries(
      Object.entries(plainObject(value, path)).map(([name, element]) => {
        if (!key.test(name)) refuse(path, `keys like ${key.source}`, name);
        return [name, item(element, `${path}.${name}`)];
      }),
    );
}

/** Any JSON object; what it means is read elsewhere. */
export const anyObject: Check<JsonObject> = (value, path) =>
  plainObject(value, path) as { readonly [key: string]: Json };

function plainObject(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(path, 'an object', value);
  return value as Record<string, unknown>;
}
