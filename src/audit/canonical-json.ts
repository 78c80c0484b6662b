import { fromUtf8, utf8 } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';

/** A JSON value as the log knows it. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

/** Deepest nesting that is read or written. */
const MAX_DEPTH = 32;
const LONE_SURROGATE = /\p{Surrogate}/u;

function refuse(expected: string, at?: number): never {
  throw new CoveyError('CODEC_TYPE', `"json" expected ${expected}`, at === undefined ? {} : { at });
}

/** RFC 8785, section 3.2.2.2: minimal escapes, lower-case hex; a lone surrogate has no encoding. */
function quote(text: string): string {
  if (LONE_SURROGATE.test(text)) refuse('strings of whole Unicode characters');
  return JSON.stringify(text);
}

function write(value: unknown, depth: number): string {
  if (depth > MAX_DEPTH) refuse(`at most ${MAX_DEPTH} levels`);
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return quote(value);
  if (typeof value === 'number') {
    // RFC 8785, section 3.2.2.3: the shortest form of ECMAScript, -0 as 0.
    if (!Number.isFinite(value)) refuse('finite numbers');
    return JSON.stringify(value === 0 ? 0 : value);
  }
  if (Array.isArray(value)) return `[${value.map((item) => write(item, depth + 1)).join(',')}]`;
  if (typeof value !== 'object' || value instanceof Uint8Array) refuse('plain JSON values');
  const object = value as Record<string, unknown>;
  // Section 3.2.3: keys in the order of their UTF-16 code units, which is the default order of sort().
  const members = Object.keys(object)
    .sort()
    .map((key) => `${quote(key)}:${write(object[key], depth + 1)}`);
  return `{${members.join(',')}}`;
}

/**
 * The one canonical text of a JSON value.
 * @throws CoveyError CODEC_TYPE for values without one: undefined, NaN, infinities, lone surrogates, functions, bytes.
 * @see RFC 8785
 */
export function canonicalJson(value: unknown): string {
  return write(value, 0);
}

/** Reads canonical JSON only, so a position can be named: every value has exactly one accepted text. */
class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  read(): Json {
    const value = this.#value(0);
    if (this.#at !== this.#text.length) refuse('nothing after the value', this.#at);
    return value;
  }

  #take(literal: string): boolean {
    if (!this.#text.startsWith(literal, this.#at)) return false;
    this.#at += literal.length;
    return true;
  }

  #expect(literal: string): void {
    if (!this.#take(literal)) refuse(`"${literal}"`, this.#at);
  }

  #value(depth: number): Json {
    if (depth > MAX_DEPTH) refuse(`at most ${MAX_DEPTH} levels`, this.#at);
    const next = this.#text[this.#at];
    if (next === '{') return this.#object(depth);
    if (next === '[') return this.#array(depth);
    if (next === '"') return this.#string();
    if (this.#take('true')) return true;
    if (this.#take('false')) return false;
    if (this.#take('null')) return null;
    return this.#number();
  }

  #object(depth: number): JsonObject {
    this.#expect('{');
    const members: [string, Json][] = [];
    let previous: string | undefined;
    while (!this.#take('}')) {
      if (members.length > 0) this.#expect(',');
      const at = this.#at;
      const key = this.#string();
      if (previous !== undefined && !(previous < key)) refuse('distinct keys in ascending order', at);
      previous = key;
      this.#expect(':');
      members.push([key, this.#value(depth + 1)]);
    }
    // fromEntries defines own properties: a key "__proto__" stays a plain key.
    return Object.fromEntries(members);
  }

  #array(depth: number): Json[] {
    this.#expect('[');
    const items: Json[] = [];
    while (!this.#take(']')) {
      if (items.length > 0) this.#expect(',');
      items.push(this.#value(depth + 1));
    }
    return items;
  }

  #string(): string {
    const start = this.#at;
    this.#expect('"');
    for (;;) {
      const character = this.#text[this.#at];
      if (character === undefined) refuse('the end of the string', this.#at);
      if (character < ' ') refuse('no control characters', this.#at);
      this.#at += character === '\\' ? 2 : 1;
      if (character === '"') break;
    }
    const source = this.#text.slice(start, this.#at);
    let value: unknown;
    try {
      value = JSON.parse(source);
    } catch {
      refuse('a string with valid escapes', start);
    }
    if (typeof value !== 'string' || LONE_SURROGATE.test(value) || JSON.stringify(value) !== source)
      refuse('a string in canonical form', start);
    return value;
  }

  #number(): number {
    const start = this.#at;
    const source = /^[-+.0-9eE]*/.exec(this.#text.slice(start, start + 32))?.[0] ?? '';
    const value = Number(source);
    if (source === '' || !Number.isFinite(value) || canonicalJson(value) !== source)
      refuse('a value in canonical form', start);
    this.#at += source.length;
    return value;
  }
}

/**
 * Reads the canonical text of a JSON value and nothing else.
 * @throws CoveyError CODEC_TYPE for every other text of the same value (spaces, order or repetition of keys, escapes,
 * number forms); `detail.at` is the position in UTF-16 code units.
 */
export function parseCanonicalJson(text: string): Json {
  return new Reader(text).read();
}

/**
 * Reads canonical JSON from UTF-8 bytes.
 * @throws CoveyError CODEC_TYPE; `detail.byte` is the offset of the first byte that does not fit, where one can be named.
 */
export function parseCanonicalBytes(bytes: Uint8Array): Json {
  const text = fromUtf8(bytes);
  try {
    return parseCanonicalJson(text);
  } catch (error) {
    const at = error instanceof CoveyError ? error.detail['at'] : undefined;
    if (!(error instanceof CoveyError) || typeof at !== 'number') throw error;
    throw new CoveyError(error.code, error.message, { byte: utf8(text.slice(0, at)).length });
  }
}
