import { CoveyError } from '../../protocol/errors.ts';
import type { DpEvent } from './events.ts';

/** JSON as this project writes it: numbers are safe integers, every other number is a decimal string. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

type FieldType =
  | 'positive'
  | 'nonNegative'
  | 'probability'
  | 'count'
  | 'boolean'
  | 'text'
  | 'event'
  | 'events'
  | 'variances'
  | 'counts'
  | 'nonNegatives';
interface FieldRule {
  readonly type: FieldType;
  readonly optional?: true;
}

// One table serves writing, reading and checking. Fields are in alphabetical order: JSON.stringify of the result is
// then one canonical text per event, which ledgers hash and accountants use as key.
const FIELDS: Readonly<Record<DpEvent['kind'], Readonly<Record<string, FieldRule>>>> = {
  gaussian: { noiseMultiplier: { type: 'positive' } },
  discreteGaussian: {
    dimension: { type: 'count' },
    otherShareVariances: { type: 'variances', optional: true },
    sensitivity: { type: 'positive' },
    shareVariance: { type: 'positive' },
    shares: { type: 'count' },
    symmetric: { type: 'boolean' },
  },
  skellam: {
    dimension: { type: 'count' },
    sensitivity: { type: 'positive' },
    symmetric: { type: 'boolean' },
    variance: { type: 'positive' },
  },
  laplace: { noiseMultiplier: { type: 'positive' }, symmetric: { type: 'boolean' } },
  discreteLaplace: { noiseParameter: { type: 'positive' }, sensitivity: { type: 'count' } },
  gaussianMixture: {
    noiseStddev: { type: 'positive' },
    probabilities: { type: 'nonNegatives' },
    sensitivities: { type: 'nonNegatives' },
  },
  truncatedPoissonGaussian: {
    maxBatchSize: { type: 'count' },
    noiseMultiplier: { type: 'positive' },
    populationSize: { type: 'count' },
    probability: { type: 'probability' },
  },
  exponentialMechanism: { epsilon: { type: 'positive' }, monotone: { type: 'boolean' } },
  permuteAndFlip: { epsilon: { type: 'positive' } },
  randomizedResponse: { buckets: { type: 'count' }, noiseParameter: { type: 'probability' } },
  poissonSampled: { event: { type: 'event' }, probability: { type: 'probability' } },
  fixedSizeSampled: { event: { type: 'event' }, populationSize: { type: 'count' }, sampleSize: { type: 'count' } },
  selfComposed: { count: { type: 'count' }, event: { type: 'event' } },
  composed: { events: { type: 'events' } },
  zCdp: { rho: { type: 'nonNegative' }, xi: { type: 'nonNegative', optional: true } },
  treeAggregation: { noiseMultiplier: { type: 'positive' }, stepCounts: { type: 'counts' } },
  repeatAndSelect: {
    event: { type: 'event' },
    mean: { type: 'positive' },
    shape: { type: 'nonNegative', optional: true },
  },
  approximateDp: { delta: { type: 'nonNegative' }, epsilon: { type: 'nonNegative' } },
  nonPrivate: {},
  unsupported: { reason: { type: 'text' } },
};

// Deep nesting is never needed; the bound keeps hostile JSON from exhausting the stack.
const MAX_DEPTH = 8;
const MAX_EVENTS = 100_000;

const EXPECTED: Readonly<Record<FieldType, string>> = {
  positive: 'a finite number > 0',
  nonNegative: 'a finite number >= 0',
  probability: 'a number in (0, 1]',
  count: 'an integer >= 1',
  boolean: 'true or false',
  text: 'a string of at most 200 characters',
  event: 'an event',
  events: `a list of at most ${MAX_EVENTS} events`,
  variances: 'a list of finite numbers > 0',
  counts: 'a list of integers >= 1',
  nonNegatives: 'a list of finite numbers >= 0',
};

/** Lists of numbers, and the rule of their items. */
const ITEMS: Partial<Record<FieldType, FieldType>> = {
  variances: 'positive',
  counts: 'count',
  nonNegatives: 'nonNegative',
};

function isNumberOf(type: FieldType, x: unknown): x is number {
  if (typeof x !== 'number' || !Number.isFinite(x)) return false;
  if (type === 'positive') return x > 0;
  if (type === 'nonNegative') return x >= 0;
  if (type === 'probability') return x > 0 && x <= 1;
  return Number.isSafeInteger(x) && x >= 1;
}

function wrong(field: string, type: FieldType, got: unknown): CoveyError {
  const shown = typeof got === 'object' && got !== null ? 'an object' : String(got);
  return new CoveyError('USAGE_RANGE', `"${field}" expected ${EXPECTED[type]}, got ${shown}`, { field });
}

function isPlainObject(x: unknown): x is Readonly<Record<string, unknown>> {
  return typeof x === 'object' && x !== null && !Array.isArray(x);
}

/** Rebuilds an event field by field: `map` turns one number, in or out of JSON; everything else is checked here. */
function walk(
  event: unknown,
  mapNumber: (value: unknown, field: string) => unknown,
  asNumber: (mapped: unknown, given: unknown) => unknown,
  path: string,
  depth: number,
): Record<string, unknown> {
  if (!isPlainObject(event)) throw new CoveyError('CODEC_TYPE', `"${path}" expected an event, got ${typeof event}`);
  if (depth > MAX_DEPTH)
    throw new CoveyError('CODEC_LIMIT', `"${path}" expected at most ${MAX_DEPTH} levels of events`);
  const kind = event['kind'];
  const rules = typeof kind === 'string' && Object.hasOwn(FIELDS, kind) ? FIELDS[kind as DpEvent['kind']] : undefined;
  if (!rules) throw new CoveyError('CODEC_TYPE', `"${path}.kind" expected a kind of event, got ${String(kind)}`);
  for (const key of Object.keys(event)) {
    if (key !== 'kind' && !Object.hasOwn(rules, key)) {
      throw new CoveyError('CODEC_EXTRA_KEY', `"${path}.${key}" expected no such field in ${String(kind)}`);
    }
  }
  const result: Record<string, unknown> = { kind };
  const nested = (value: unknown, at: string): unknown => walk(value, mapNumber, asNumber, at, depth + 1);
  for (const [key, { type, optional }] of Object.entries(rules)) {
    const value = event[key];
    const field = `${path}.${key}`;
    if (value === undefined && optional) continue;
    if (type === 'event') result[key] = nested(value, field);
    else if (type === 'events' || ITEMS[type]) {
      if (!Array.isArray(value) || value.length > MAX_EVENTS) throw wrong(field, type, value);
      result[key] = value.map((item, i) => {
        if (type === 'events') return nested(item, `${field}[${i}]`);
        const mapped = mapNumber(item, field);
        if (!isNumberOf(ITEMS[type] as FieldType, asNumber(mapped, item))) throw wrong(field, type, item);
        return mapped;
      });
    } else if (type === 'boolean') {
      if (typeof value !== 'boolean') throw wrong(field, type, value);
      result[key] = value;
    } else if (type === 'text') {
      if (typeof value !== 'string' || value.length > 200) throw wrong(field, type, value);
      result[key] = value;
    } else {
      const mapped = mapNumber(value, field);
      if (!isNumberOf(type, asNumber(mapped, value))) throw wrong(field, type, value);
      result[key] = mapped;
    }
  }
  return result;
}

function numberToJson(x: unknown): unknown {
  return typeof x === 'number' && !Number.isSafeInteger(x) ? String(x) : x;
}

function numberFromJson(x: unknown, field: string): unknown {
  if (typeof x === 'number' && Number.isSafeInteger(x)) return x;
  if (typeof x !== 'string') throw new CoveyError('CODEC_TYPE', `"${field}" expected an integer or a decimal string`);
  const value = Number(x);
  // One text per number: no other spelling of the same value, no integer in quotes.
  if (String(value) !== x || Number.isSafeInteger(value)) {
    throw new CoveyError(
      'CODEC_TYPE',
      `"${field}" expected the shortest decimal of a non-integer, got ${x.slice(0, 40)}`,
    );
  }
  return value;
}

/**
 * Writes an event as JSON with a fixed order of keys; non-integers become their shortest round-trip decimal strings.
 * @throws CoveyError USAGE_RANGE, CODEC_TYPE or CODEC_EXTRA_KEY for what is not a well-formed event.
 */
export function eventToJson(event: DpEvent): JsonObject {
  return walk(event, numberToJson, (_, given) => given, 'event', 0) as unknown as JsonObject;
}

/**
 * Reads an event strictly: no unknown fields, no other spelling of a number.
 * @throws CoveyError CODEC_TYPE, CODEC_EXTRA_KEY, CODEC_LIMIT or USAGE_RANGE
 */
export function eventFromJson(json: unknown): DpEvent {
  return walk(json, numberFromJson, (mapped) => mapped, 'event', 0) as unknown as DpEvent;
}

/** The one canonical text of an event: key of caches and content of ledger lines. */
export function eventKey(event: DpEvent): string {
  return JSON.stringify(eventToJson(event));
}
