import { hashParts, toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { LABELS } from '../../protocol/labels.ts';
import type { ViewEvents } from './charges.ts';
import { eventFromJson, eventToJson, type JsonObject, type JsonValue } from './event-json.ts';
import { type DpEvent, RELATIONS, type Relation } from './events.ts';
import type { GateKind } from './filter.ts';
import { isPath, type Path } from './paths.ts';
import { VIEWS, type View } from './views.ts';

/** What every epsilon of a ledger means; written in its first line and never changed. */
export interface LedgerTerms {
  /** Payer: hexadecimal node id. */
  readonly participant: string;
  readonly budget: { readonly epsilon: number; readonly delta: number };
  /** The view that the budget limits. */
  readonly budgetView: View;
  /** The views that are followed; every charge names the events of each. */
  readonly views: readonly View[];
  readonly unit: 'record' | 'participant';
  readonly relation: Relation;
  readonly colluders: number;
  readonly accountant: 'rdp';
  /** Filter that the budget is gated by; ledgers of earlier versions name none and are gated at any order. */
  readonly gate?: GateKind | undefined;
  /** Sums of records that rest on a bound of float errors (F13); left out where each record is rounded to integers. */
  readonly sums?: 'float-bounded' | undefined;
}

/** Survivors of a session, with signatures of at least t of them over h3 (hexadecimal). */
export interface SurvivorEvidence {
  readonly h3: string;
  readonly survivors: readonly string[];
  readonly signatures: readonly { readonly signer: string; readonly signature: string }[];
}

export type LedgerEntry =
  | { readonly kind: 'open'; readonly terms: LedgerTerms }
  | {
      readonly kind: 'reserve';
      readonly sid: string;
      readonly round: number;
      readonly purpose: string;
      /** Signatures that a proof of absence needs: the session's threshold. */
      readonly threshold: number;
      readonly events: ViewEvents;
      /** What the session releases; a settlement is for the paths of its reserve. Left out by old ledgers. */
      readonly paths?: readonly Path[] | undefined;
    }
  | {
      readonly kind: 'settle';
      readonly sid: string;
      readonly h3: string;
      readonly survivors: number;
      readonly events: ViewEvents;
    }
  | { readonly kind: 'restore'; readonly sid: string; readonly evidence: SurvivorEvidence };

/** Hash that the next line carries. @see SPEC section 3 (labels) */
export function hashLine(crypto: Pick<CryptoProvider, 'sha256'>, line: string): string {
  return toHex(hashParts(crypto, utf8(LABELS.ledgerEntry), utf8(line)));
}

/** `previous` of the first line. */
export const CHAIN_START: string = '0'.repeat(64);
/** A line holds a few events and at most one certificate. */
export const MAX_LINE_LENGTH = 262_144;

function eventsToJson(events: ViewEvents): JsonObject {
  const json: Record<string, JsonValue> = {};
  for (const view of [...VIEWS].sort()) {
    const list = events[view];
    if (list) json[view] = list.map(eventToJson);
  }
  return json;
}

function gateToJson(gate: GateKind): JsonObject {
  return gate.kind === 'zcdp' ? { kind: gate.kind } : { kind: gate.kind, order: decimal(gate.order) };
}

const decimal = (x: number): JsonValue => (Number.isSafeInteger(x) ? x : String(x));

function bodyOf(entry: LedgerEntry): JsonObject {
  switch (entry.kind) {
    case 'open': {
      const { accountant, budget, budgetView, colluders, gate, participant, relation, sums, unit, views } = entry.terms;
      return {
        accountant,
        budget: { delta: decimal(budget.delta), epsilon: decimal(budget.epsilon) },
        budgetView,
        colluders,
        ...(gate === undefined ? {} : { gate: gateToJson(gate) }),
        participant,
        relation,
        ...(sums === undefined ? {} : { sums }),
        unit,
        views,
      };
    }
    case 'reserve': {
      const { events, paths, purpose, round, sid, threshold } = entry;
      const named = paths === undefined ? {} : { paths };
      return { events: eventsToJson(events), ...named, purpose, round, sid, threshold };
    }
    case 'settle': {
      const { events, h3, sid, survivors } = entry;
      return { events: eventsToJson(events), h3, sid, survivors };
    }
    case 'restore': {
      const { h3, signatures, survivors } = entry.evidence;
      const signed = signatures.map(({ signature, signer }) => ({ signature, signer }));
      return { evidence: { h3, signatures: signed, survivors }, sid: entry.sid };
    }
  }
}

/** One line of a ledger, without line break: JSON with sorted keys, one text per entry. */
export function encodeLine(entry: LedgerEntry, sequence: number, previous: string): string {
  return JSON.stringify({ body: bodyOf(entry), kind: entry.kind, previous, sequence, v: 1 });
}

type Fields = Readonly<Record<string, unknown>>;

function fail(field: string, expected: string): never {
  throw new CoveyError('PRIVACY_LEDGER', `"${field}" expected ${expected}`);
}

function object(x: unknown, field: string): Fields {
  return typeof x === 'object' && x !== null && !Array.isArray(x) ? (x as Fields) : fail(field, 'an object');
}

function list(x: unknown, field: string): readonly unknown[] {
  return Array.isArray(x) && x.length <= 100_000 ? x : fail(field, 'a list');
}

function hex(x: unknown, field: string, bytes: number): string {
  const ok = typeof x === 'string' && x.length === 2 * bytes && /^[0-9a-f]*$/.test(x);
  return ok ? x : fail(field, `${bytes} bytes in hexadecimal`);
}

function hexId(x: unknown, field: string): string {
  return typeof x === 'string' && /^[0-9a-f]{2,128}$/.test(x) ? x : fail(field, 'an id in hexadecimal');
}

function count(x: unknown, field: string): number {
  return typeof x === 'number' && Number.isSafeInteger(x) && x >= 0 ? x : fail(field, 'a count');
}

function oneOf<T extends string>(x: unknown, field: string, allowed: readonly T[]): T {
  return allowed.includes(x as T) ? (x as T) : fail(field, allowed.join(', '));
}

function number(x: unknown, field: string): number {
  const value = typeof x === 'string' ? Number(x) : x;
  return typeof value === 'number' && Number.isFinite(value) ? value : fail(field, 'a number');
}

function text(x: unknown, field: string): string {
  return typeof x === 'string' && x.length <= 100 ? x : fail(field, 'a short text');
}

function eventsFromJson(x: unknown): ViewEvents {
  const events: Partial<Record<View, readonly DpEvent[]>> = {};
  for (const [view, given] of Object.entries(object(x, 'events'))) {
    events[oneOf(view, 'events', VIEWS)] = list(given, `events.${view}`).map(eventFromJson);
  }
  return events;
}

function pathFromJson(x: unknown): Path {
  return isPath(x) ? x : fail('paths', 'names of paths');
}

function gateFromJson(gate: Fields): GateKind {
  const kind = oneOf(gate['kind'], 'gate.kind', ['rdp', 'zcdp'] as const);
  return kind === 'zcdp' ? { kind } : { kind, order: number(gate['order'], 'gate.order') };
}

function parseTerms(body: Fields): LedgerTerms {
  const budget = object(body['budget'], 'budget');
  return {
    participant: hexId(body['participant'], 'participant'),
    budget: { epsilon: number(budget['epsilon'], 'epsilon'), delta: number(budget['delta'], 'delta') },
    budgetView: oneOf(body['budgetView'], 'budgetView', VIEWS),
    views: list(body['views'], 'views').map((view) => oneOf(view, 'views', VIEWS)),
    unit: oneOf(body['unit'], 'unit', ['record', 'participant']),
    relation: oneOf(body['relation'], 'relation', RELATIONS),
    colluders: count(body['colluders'], 'colluders'),
    accountant: oneOf(body['accountant'], 'accountant', ['rdp']),
    ...(body['gate'] === undefined ? {} : { gate: gateFromJson(object(body['gate'], 'gate')) }),
    ...(body['sums'] === undefined ? {} : { sums: oneOf(body['sums'], 'sums', ['float-bounded'] as const) }),
  };
}

function parseEvidence(x: unknown): SurvivorEvidence {
  const evidence = object(x, 'evidence');
  return {
    h3: hex(evidence['h3'], 'h3', 32),
    survivors: list(evidence['survivors'], 'survivors').map((id) => hexId(id, 'survivors')),
    signatures: list(evidence['signatures'], 'signatures').map((given) => {
      const { signer, signature } = object(given, 'signatures');
      return { signer: hexId(signer, 'signer'), signature: hex(signature, 'signature', 64) };
    }),
  };
}

function parseEntry(kind: unknown, body: Fields): LedgerEntry {
  if (kind === 'open') return { kind, terms: parseTerms(body) };
  const sid = hex(body['sid'], 'sid', 32);
  if (kind === 'restore') return { kind, sid, evidence: parseEvidence(body['evidence']) };
  const events = eventsFromJson(body['events']);
  if (kind === 'settle') {
    return { kind, sid, h3: hex(body['h3'], 'h3', 32), survivors: count(body['survivors'], 'survivors'), events };
  }
  if (kind !== 'reserve') return fail('kind', 'open, reserve, settle or restore');
  const named = body['paths'] === undefined ? {} : { paths: list(body['paths'], 'paths').map(pathFromJson) };
  return {
    kind,
    sid,
    round: count(body['round'], 'round'),
    purpose: text(body['purpose'], 'purpose'),
    threshold: count(body['threshold'], 'threshold'),
    events,
    ...named,
  };
}

/**
 * Reads one line strictly: what is read must encode to the very same text, so unknown keys, other orders of keys and
 * other spellings of a number are refused.
 * @throws CoveyError PRIVACY_LEDGER or a codec error
 */
export function decodeLine(line: string): {
  readonly entry: LedgerEntry;
  readonly sequence: number;
  readonly previous: string;
} {
  if (line.length > MAX_LINE_LENGTH) fail('line', `at most ${MAX_LINE_LENGTH} characters`);
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch (cause) {
    throw new CoveyError('PRIVACY_LEDGER', '"line" expected JSON', {}, { cause });
  }
  const fields = object(json, 'line');
  const entry = parseEntry(fields['kind'], object(fields['body'], 'body'));
  const sequence = count(fields['sequence'], 'sequence');
  const previous = hex(fields['previous'], 'previous', 32);
  if (encodeLine(entry, sequence, previous) !== line) fail('line', 'the canonical text of its entry');
  return { entry, sequence, previous };
}
