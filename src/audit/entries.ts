import { fromBase64, hashParts, toBase64, toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import { LABELS } from '../../protocol/labels.ts';
import { type EntryBody, type EntryType, isEntryType, parseBody } from './bodies.ts';
import { canonicalJson, parseCanonicalBytes } from './canonical-json.ts';
import { anyObject, hexOf, integer, record, text } from './checks.ts';

export type { EntryBody, EntryType } from './bodies.ts';

/** Largest entry: tlog-tiles stores the length of an entry in 16 bits. */
export const MAX_ENTRY_BYTES = 65_535;

/** What an actor signs. `prevByActor`: hex hash of the actor's previous entry, '' for its first; `seq` counts them from 0. */
export interface UnsignedEntry<T extends EntryType = EntryType> {
  readonly type: T;
  readonly federation: string;
  /** 16 bytes, lower-case hex. */
  readonly run: string;
  readonly seq: number;
  /** Wall clock of the actor, RFC 3339 in UTC. */
  readonly time: string;
  /** Hex id of the actor's node. */
  readonly actor: string;
  readonly body: Readonly<Record<string, unknown>>;
  readonly prevByActor: string;
}

export type SignedEntry<T extends EntryType = EntryType> = T extends EntryType
  ? Omit<UnsignedEntry<T>, 'body'> & { readonly v: 1; readonly body: EntryBody<T>; readonly sig: string }
  : never;

const envelope = record({
  v: integer(1, 1),
  type: text(64),
  federation: text(64),
  run: hexOf(16),
  seq: integer(),
  time: text(32, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/),
  actor: hexOf(32),
  body: anyObject,
  prevByActor: text(64, /^([0-9a-f]{64})?$/),
  sig: text(88, /^[A-Za-z0-9+/]{86}==$/),
});

/** Bytes under the signature: H(label, canonical bytes of the entry without `sig`). */
function signedDigest(unsigned: object, crypto: CryptoProvider): Uint8Array {
  return hashParts(crypto, utf8(LABELS.logEntry), utf8(canonicalJson(unsigned)));
}

/**
 * Signs an entry and returns its line: canonical JSON without a newline. The body is checked first, so that no log is
 * ever written that its own audit would refuse.
 * @throws CoveyError CODEC_* for a body that is not of its kind, CODEC_LIMIT above 65,535 bytes.
 */
export function signEntry(entry: UnsignedEntry, secretSeed: Uint8Array, crypto: CryptoProvider): string {
  const { type, federation, run, seq, time, actor, body, prevByActor } = entry;
  parseBody(type, body);
  const unsigned = { v: 1, type, federation, run, seq, time, actor, body, prevByActor };
  const sig = toBase64(crypto.ed25519Sign(signedDigest(unsigned, crypto), secretSeed));
  const line = canonicalJson(envelope({ ...unsigned, sig }, 'entry'));
  if (utf8(line).length > MAX_ENTRY_BYTES)
    throw new CoveyError('CODEC_LIMIT', `"entry" expected at most ${MAX_ENTRY_BYTES} bytes`);
  return line;
}

/** Hash of an entry's line, hex: the next `prevByActor` of the same actor. */
export function entryHash(crypto: Pick<CryptoProvider, 'sha256'>, line: string): string {
  return toHex(crypto.sha256(utf8(line)));
}

/**
 * Reads a line: canonical bytes, fields of its kind, signature of its actor.
 * @throws CoveyError CODEC_* for the form, AUTH_UNKNOWN if `publicKeyOf` does not know the actor, AUTH_SIGNATURE.
 */
export function parseEntry(
  line: string,
  publicKeyOf: (actor: string) => Uint8Array | undefined,
  crypto: CryptoProvider,
): SignedEntry {
  const entry = readEntry(utf8(line));
  const key = publicKeyOf(entry.actor);
  if (key === undefined)
    throw new CoveyError('AUTH_UNKNOWN', `"actor" expected a known node, got ${entry.actor.slice(0, 12)}`);
  requireEntrySignature(entry, key, crypto);
  return entry;
}

/**
 * Reads the bytes of an entry without checking its signature.
 * @throws CoveyError CODEC_*; `detail.byte` names the first byte that cannot stand where it is, where one can be named.
 */
export function readEntry(bytes: Uint8Array): SignedEntry {
  if (bytes.length > MAX_ENTRY_BYTES)
    throw new CoveyError('CODEC_LIMIT', `"entry" expected at most ${MAX_ENTRY_BYTES} bytes, got ${bytes.length}`);
  const fields = envelope(parseCanonicalBytes(bytes), 'entry');
  if (!isEntryType(fields.type))
    throw new CoveyError('CODEC_TYPE', `"entry.type" expected a known kind, got ${fields.type}`);
  return { ...fields, body: parseBody(fields.type, fields.body) } as unknown as SignedEntry;
}

/** @throws CoveyError AUTH_SIGNATURE unless `key` signed the entry. */
export function requireEntrySignature(entry: SignedEntry, key: Uint8Array, crypto: CryptoProvider): void {
  const { sig, ...unsigned } = entry;
  let signature: Uint8Array;
  try {
    signature = fromBase64(sig);
  } catch (error) {
    if (!isCoveyError(error)) throw error;
    throw new CoveyError('AUTH_SIGNATURE', '"sig" expected canonical base64');
  }
  if (!crypto.ed25519Verify(signature, signedDigest(unsigned, crypto), key)) {
    throw new CoveyError(
      'AUTH_SIGNATURE',
      `"sig" expected the signature of ${entry.actor.slice(0, 12)} over ${entry.type} ${entry.seq}`,
    );
  }
}
