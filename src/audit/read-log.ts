import { fromHex, toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { isCoveyError } from '../../protocol/errors.ts';
import { nodeId } from '../../protocol/params.ts';
import { readEntry, requireEntrySignature, type SignedEntry } from './entries.ts';
import { type AuditLocation, failAudit, inClass } from './failures.ts';

export const LOG_FILE = 'log.jsonl';

/** A line of a log and where it is. Units: `line` counts from 1, `start` and `end` are byte offsets without the newline. */
export interface LogLine {
  readonly line: number;
  readonly start: number;
  readonly end: number;
  readonly bytes: Uint8Array;
}

/** An entry with its place. */
export interface LocatedEntry {
  readonly at: AuditLocation;
  readonly entry: SignedEntry;
}

/** Lines of a file that ends with a newline. @throws CoveyError AUDIT_FAILED (entry) where the last line is cut. */
export function splitLines(file: string, bytes: Uint8Array): LogLine[] {
  const lines: LogLine[] = [];
  let start = 0;
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] !== 0x0a) continue;
    lines.push({ line: lines.length + 1, start, end: i, bytes: bytes.subarray(start, i) });
    start = i + 1;
  }
  if (start !== bytes.length) {
    failAudit(
      'entry',
      { file, line: lines.length + 1, byte: start, endByte: bytes.length },
      'the last line has no end',
    );
  }
  return lines;
}

export function locate(file: string, line: LogLine): AuditLocation {
  return { file, line: line.line, byte: line.start, endByte: line.end };
}

function readLine(file: string, line: LogLine): LocatedEntry {
  const at = locate(file, line);
  try {
    return { at, entry: readEntry(line.bytes) };
  } catch (error) {
    if (!isCoveyError(error)) throw error;
    // A reader stops at the first byte that cannot stand where it is, which may be behind the one that changed.
    const byte = error.detail['byte'];
    const near = typeof byte === 'number' ? ` (at byte ${line.start + byte})` : '';
    return failAudit('entry', at, `${error.message}${near}`);
  }
}

/** Keys that may sign entries, by hex id; the first entry names them. */
function readActors(first: LocatedEntry | undefined, crypto: CryptoProvider): Map<string, Uint8Array> {
  if (first === undefined) return failAudit('rules', { file: LOG_FILE }, 'the log is empty');
  const { entry, at } = first;
  if (entry.type !== 'genesis') return failAudit('rules', at, `the first entry must be genesis, got ${entry.type}`);
  const coordinatorKey = fromHex(entry.body.coordinatorKey);
  const actors = new Map([[toHex(nodeId(crypto, coordinatorKey)), coordinatorKey]]);
  for (const { id, publicKey } of entry.body.members) {
    const key = fromHex(publicKey);
    if (toHex(nodeId(crypto, key)) !== id)
      failAudit('rules', at, `member ${id.slice(0, 12)} is not the hash of its key`);
    if (actors.has(id)) failAudit('rules', at, `member ${id.slice(0, 12)} appears twice`);
    actors.set(id, key);
  }
  return actors;
}

/**
 * Reads the log line by line: canonical bytes, fields, the actor's signature, the actor's own chain. Stops at the first
 * line that does not hold, so any changed byte is located at least by its line.
 * @throws CoveyError AUDIT_FAILED (entry, signature, chain, rules)
 */
export function readLog(bytes: Uint8Array, crypto: CryptoProvider): LocatedEntry[] {
  const entries: LocatedEntry[] = [];
  const heads = new Map<string, { seq: number; hash: string }>();
  let actors: Map<string, Uint8Array> | undefined;
  for (const line of splitLines(LOG_FILE, bytes)) {
    const located = readLine(LOG_FILE, line);
    const { entry, at } = located;
    actors ??= readActors(located, crypto);
    const key = actors.get(entry.actor);
    if (key === undefined)
      return failAudit('signature', at, `actor ${entry.actor.slice(0, 12)} is neither coordinator nor member`);
    inClass('signature', at, () => requireEntrySignature(entry, key, crypto));
    const head = heads.get(entry.actor) ?? { seq: 0, hash: '' };
    if (entry.seq !== head.seq)
      failAudit('chain', at, `"seq" of ${entry.actor.slice(0, 12)} expected ${head.seq}, got ${entry.seq}`);
    if (entry.prevByActor !== head.hash)
      failAudit('chain', at, `"prevByActor" of ${entry.actor.slice(0, 12)} does not name its previous entry`);
    heads.set(entry.actor, { seq: head.seq + 1, hash: toHex(crypto.sha256(line.bytes)) });
    entries.push(located);
  }
  readActors(entries[0], crypto);
  return entries;
}
