import { LIMITS } from '../../protocol/limits.ts';
import {
  anyObject,
  boolean,
  type Check,
  type Checked,
  decimal,
  hexOf,
  integer,
  listOf,
  mapOf,
  oneOf,
  record,
  text,
} from './checks.ts';

const id: Check<string> = hexOf(32);
const sid: Check<string> = hexOf(32);
const hash: Check<string> = hexOf(32);
const round: Check<number> = integer(0, 0xffff_ffff);
const purpose: Check<'census' | 'train' | 'metrics'> = oneOf('census', 'train', 'metrics');
const view: Check<'server' | 'release'> = oneOf('server', 'release');
const members: Check<readonly string[]> = listOf(id, LIMITS.cohort);
const cohortSize: Check<number> = integer(0, LIMITS.cohort);
/** Events in the JSON form of `eventToJson`; the audit compares them with the ones that it derives itself. */
const events: Check<readonly { readonly [key: string]: unknown }[]> = listOf(anyObject, 64);
const positive: Check<string> = decimal(Number.MIN_VALUE);
const filePath: RegExp = /^[A-Za-z0-9_-][A-Za-z0-9._-]*(\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/;
const files: Check<Readonly<Record<string, string>>> = mapOf(filePath, hash);

const plan = record({
  unit: oneOf('record', 'participant'),
  relation: oneOf('add-remove', 'zero-out', 'replace-one'),
  delta: decimal(Number.MIN_VALUE, 1),
  targetEpsilon: positive,
  noiseMultiplier: positive,
  shareVariance: positive,
  sensitivity: positive,
  samplingProbability: decimal(Number.MIN_VALUE, 1),
  rounds: integer(1),
  minSurvivors: cohortSize,
  colluders: cohortSize,
  choices: integer(),
  choiceEpsilon: decimal(0),
});

/** Fields of every kind of entry. Bytes are lower-case hex, numbers that matter are decimal strings. */
const BODIES = {
  genesis: record({
    coordinatorKey: hexOf(32),
    rosterHash: hash,
    rosterVersion: round,
    members: listOf(record({ id, publicKey: hexOf(32), organization: text(200) }), LIMITS.cohort),
  }),
  'run.open': record({ config: anyObject, taskHash: hash, plan }),
  'round.open': record({
    sid,
    round,
    purpose,
    attempt: integer(0, 255),
    kind: oneOf('seats', 'choice', 'train', 'metrics'),
    step: round,
    slots: integer(1, LIMITS.slots),
    params: text(8_192, /^[A-Za-z0-9+/]*={0,2}$/),
    invited: cohortSize,
  }),
  'charge.reserve': record({
    sid,
    h3: hash,
    round,
    purpose,
    survivors: members,
    colluders: cohortSize,
    events: record({ server: events, release: events }),
  }),
  'round.unmask': record({ sid, h3: hash, requests: cohortSize }),
  'round.release': record({
    sid,
    h3: hash,
    sumHash: hash,
    survivors: cohortSize,
    u1: cohortSize,
    u2: cohortSize,
    threshold: cohortSize,
    modelHash: hash,
    uploadBytes: integer(),
  }),
  'round.abort': record({
    sid,
    round,
    phase: oneOf('advertise', 'share-keys', 'masked-input', 'consistency', 'unmask'),
    code: text(64, /^[A-Z0-9_]*$/),
    reason: text(500),
    uploadBegun: boolean,
    excluded: members,
  }),
  'cluster.census': record({
    sid,
    counts: listOf(decimal(), LIMITS.slots),
    open: listOf(integer(0, LIMITS.slots), LIMITS.slots),
  }),
  'cluster.assign': record({ step: round, kept: listOf(integer(0, LIMITS.slots), LIMITS.slots) }),
  'client.charge': record({
    sid,
    round,
    purpose,
    kind: oneOf('reserve', 'settle'),
    survivors: cohortSize,
    events,
    ledgerHead: hash,
  }),
  'budget.block': record({ round, epsilon: decimal(0), target: positive, view }),
  'model.export': record({ files }),
  incident: record({ kind: text(64), detail: text(2_000) }),
} satisfies Readonly<Record<string, Check<unknown>>>;

/** Kinds of log entries. */
export type EntryType = keyof typeof BODIES;
/** Body of an entry of kind `T`. */
export type EntryBody<T extends EntryType> = Checked<(typeof BODIES)[T]>;
export type RunPlanClaim = EntryBody<'run.open'>['plan'];

export function isEntryType(type: unknown): type is EntryType {
  return typeof type === 'string' && Object.hasOwn(BODIES, type);
}

/**
 * Reads the body of an entry: exactly the fields of its kind, each of its type.
 * @throws CoveyError CODEC_TYPE, CODEC_EXTRA_KEY naming the field.
 */
export function parseBody<T extends EntryType>(type: T, body: unknown): EntryBody<T> {
  return (BODIES[type] as Check<EntryBody<T>>)(body, type);
}

/** Paths of files in a bundle: relative, ASCII, no hidden names, no way up. */
export function isBundlePath(path: string): boolean {
  return filePath.test(path);
}
