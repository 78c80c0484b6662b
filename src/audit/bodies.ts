import { CoveyError } from '../../protocol/errors.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { isPath, type Path } from '../privacy/paths.ts';
import type { JsonObject } from './canonical-json.ts';
import {
  anyObject,
  boolean,
  type Check,
  decimal,
  hexOf,
  integer,
  listOf,
  mapOf,
  oneOf,
  optional,
  record,
  text,
} from './checks.ts';

type Hex = string;
/** A number in the shortest decimal form that reads back as the same double. */
type Decimal = string;
type Purpose = 'census' | 'train' | 'metrics';
/** What a session releases about records. */
export type SessionKind = 'seats' | 'choice' | 'train' | 'metrics' | 'labels' | 'gaps';
type EventsJson = readonly JsonObject[];

/** What a run says about its privacy before it starts. Units: `sensitivity` and `shareVariance` in integer units. */
export interface RunPlanClaim {
  readonly unit: 'record' | 'participant';
  readonly relation: 'add-remove' | 'zero-out' | 'replace-one';
  readonly delta: Decimal;
  readonly targetEpsilon: Decimal;
  readonly noiseMultiplier: Decimal;
  readonly shareVariance: Decimal;
  readonly sensitivity: Decimal;
  readonly samplingProbability: Decimal;
  readonly rounds: number;
  readonly minSurvivors: number;
  readonly colluders: number;
  readonly choices: number;
  readonly choiceEpsilon: Decimal;
  /** Order of the filter that gates the budget; left out by runs of earlier versions. */
  readonly gateOrder?: Decimal | undefined;
}

/** Fields of every kind of entry. */
export interface EntryBodies {
  readonly genesis: {
    readonly coordinatorKey: Hex;
    readonly rosterHash: Hex;
    readonly rosterVersion: number;
    readonly members: readonly { readonly id: Hex; readonly publicKey: Hex; readonly organization: string }[];
  };
  /** `layout`: hash of the tensors of the model; left out by runs of earlier versions. */
  readonly 'run.open': {
    readonly config: JsonObject;
    readonly taskHash: Hex;
    readonly layout?: Hex | undefined;
    readonly plan: RunPlanClaim;
  };
  /** `params`: base64 of the parameters that the coordinator signs in P0. */
  readonly 'round.open': {
    readonly sid: Hex;
    readonly round: number;
    readonly purpose: Purpose;
    readonly attempt: number;
    readonly kind: SessionKind;
    readonly step: number;
    readonly slots: number;
    readonly params: string;
    readonly invited: number;
  };
  /** Written before the request to unmask leaves. */
  readonly 'charge.reserve': {
    readonly sid: Hex;
    readonly h3: Hex;
    readonly round: number;
    readonly purpose: Purpose;
    readonly survivors: readonly Hex[];
    readonly colluders: number;
    readonly events: { readonly server: EventsJson; readonly release: EventsJson };
    /** What the events pay for, all together; left out by runs of earlier versions. */
    readonly paths?: readonly Path[] | undefined;
  };
  readonly 'round.unmask': { readonly sid: Hex; readonly h3: Hex; readonly requests: number };
  readonly 'round.release': {
    readonly sid: Hex;
    readonly h3: Hex;
    readonly sumHash: Hex;
    readonly survivors: number;
    readonly u1: number;
    readonly u2: number;
    readonly threshold: number;
    readonly modelHash: Hex;
    readonly uploadBytes: number;
  };
  readonly 'round.abort': {
    readonly sid: Hex;
    readonly round: number;
    readonly phase: string;
    readonly code: string;
    readonly reason: string;
    readonly uploadBegun: boolean;
    readonly excluded: readonly Hex[];
  };
  readonly 'cluster.census': {
    readonly sid: Hex;
    readonly counts: readonly Decimal[];
    readonly open: readonly number[];
  };
  /** How a probe of evolving clusters ended: offered slots, `slots` of them left. `gap`: NaN where nobody was counted. */
  readonly 'cluster.probe': {
    readonly sid: Hex;
    readonly step: number;
    readonly trials: readonly { readonly slots: readonly number[]; readonly gap: string; readonly stays: boolean }[];
    readonly retired: readonly number[];
    readonly slots: number;
  };
  /** Accuracies after a training step: noisy members of each bin, of one group. */
  readonly 'metrics.histogram': {
    readonly sid: Hex;
    readonly step: number;
    readonly histogram: readonly Decimal[];
  };
  readonly 'cluster.assign': { readonly step: number; readonly kept: readonly number[] };
  /** A participant's own charge, in its own words: the worst accepted case before the upload, then the realised one. */
  readonly 'client.charge': {
    readonly sid: Hex;
    readonly round: number;
    readonly purpose: Purpose;
    readonly kind: 'reserve' | 'settle';
    readonly survivors: number;
    readonly events: EventsJson;
    readonly paths?: readonly Path[] | undefined;
    /** Said where a program of the site computed what the others have to trust; absent if Covey did. */
    readonly assurance?: 'trusted trainer' | undefined;
    readonly ledgerHead: Hex;
  };
  /** A participant pays for no further session: the worst case of this one is not within its budget. */
  readonly 'client.leave': {
    readonly kind: SessionKind;
    readonly step: number;
    readonly code: string;
    readonly reason: string;
  };
  readonly 'budget.block': {
    readonly round: number;
    readonly epsilon: Decimal;
    readonly target: Decimal;
    readonly view: 'server' | 'release';
    /** Members of the next session whose budget still allows it, and how many it needs; left out by earlier versions. */
    readonly remaining?: number | undefined;
    readonly needed?: number | undefined;
  };
  readonly 'model.export': { readonly files: Readonly<Record<string, Hex>> };
  readonly incident: { readonly kind: string; readonly detail: string };
}

/** Kinds of log entries. */
export type EntryType = keyof EntryBodies;
/** Body of an entry of kind `T`. */
export type EntryBody<T extends EntryType> = EntryBodies[T];

const id: Check<string> = hexOf(32);
const sid: Check<string> = hexOf(32);
const hash: Check<string> = hexOf(32);
const round: Check<number> = integer(0, 0xffff_ffff);
const sessionKind: Check<SessionKind> = oneOf('seats', 'choice', 'train', 'metrics', 'labels', 'gaps');
const purpose: Check<'census' | 'train' | 'metrics'> = oneOf('census', 'train', 'metrics');
const view: Check<'server' | 'release'> = oneOf('server', 'release');
const members: Check<readonly string[]> = listOf(id, LIMITS.cohort);
const cohortSize: Check<number> = integer(0, LIMITS.cohort);
/** Events in the JSON form of `eventToJson`; the audit compares them with the ones that it derives itself. */
const events: Check<EventsJson> = listOf(anyObject, 64);
const path: Check<Path> = (value, field) => {
  if (isPath(value)) return value;
  throw new CoveyError('CODEC_TYPE', `"${field}" expected the name of a path`, { field });
};
const paths: Check<readonly Path[] | undefined> = optional(listOf(path, 8));
const positive: Check<string> = decimal(Number.MIN_VALUE);
const filePath = /^[A-Za-z0-9_-][A-Za-z0-9._-]*(\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/;
const files: Check<Readonly<Record<string, string>>> = mapOf(filePath, hash);

const plan: Check<RunPlanClaim> = record({
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
  gateOrder: optional(decimal(1)),
});

/** Bytes are lower-case hex, numbers that matter are decimal strings. */
const BODIES: { readonly [T in EntryType]: Check<EntryBodies[T]> } = {
  genesis: record({
    coordinatorKey: hexOf(32),
    rosterHash: hash,
    rosterVersion: round,
    members: listOf(record({ id, publicKey: hexOf(32), organization: text(200) }), LIMITS.cohort),
  }),
  'run.open': record({ config: anyObject, taskHash: hash, layout: optional(hash), plan }),
  'round.open': record({
    sid,
    round,
    purpose,
    attempt: integer(0, 255),
    kind: sessionKind,
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
    paths,
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
    phase: oneOf('advertise', 'reveal', 'share-keys', 'masked-input', 'consistency', 'unmask'),
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
  'cluster.probe': record({
    sid,
    step: round,
    trials: listOf(
      record({
        slots: listOf(integer(0, LIMITS.slots), 2),
        gap: text(32, /^(-?\d+(\.\d+)?(e[+-]\d+)?|NaN)$/),
        stays: boolean,
      }),
      LIMITS.slots,
    ),
    retired: listOf(integer(0, LIMITS.slots), LIMITS.slots),
    slots: integer(1, LIMITS.slots),
  }),
  'metrics.histogram': record({ sid, step: round, histogram: listOf(decimal(), LIMITS.slots) }),
  'cluster.assign': record({ step: round, kept: listOf(integer(0, LIMITS.slots), LIMITS.slots) }),
  'client.charge': record({
    sid,
    round,
    purpose,
    kind: oneOf('reserve', 'settle'),
    survivors: cohortSize,
    events,
    paths,
    assurance: optional(oneOf('trusted trainer')),
    ledgerHead: hash,
  }),
  'client.leave': record({
    kind: sessionKind,
    step: round,
    code: text(64, /^[A-Z0-9_]+$/),
    reason: text(500),
  }),
  'budget.block': record({
    round,
    epsilon: decimal(0),
    target: positive,
    view,
    remaining: optional(cohortSize),
    needed: optional(cohortSize),
  }),
  'model.export': record({ files }),
  incident: record({ kind: text(64), detail: text(2_000) }),
};

export function isEntryType(type: unknown): type is EntryType {
  return typeof type === 'string' && Object.hasOwn(BODIES, type);
}

/**
 * Reads the body of an entry: exactly the fields of its kind, each of its type.
 * @throws CoveyError CODEC_TYPE, CODEC_EXTRA_KEY naming the field.
 */
export function parseBody<T extends EntryType>(type: T, body: unknown): EntryBody<T> {
  return BODIES[type](body, type);
}

/** Paths of files in a bundle: relative, ASCII, no hidden names, no way up. */
export function isBundlePath(path: string): boolean {
  return filePath.test(path);
}
