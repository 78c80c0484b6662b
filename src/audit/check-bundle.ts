import { equalBytes, fromUtf8, toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { isBundlePath } from './bodies.ts';
import { canonicalJson, parseCanonicalBytes } from './canonical-json.ts';
import { checkpointOf, logOrigin, openCheckpoint } from './checkpoint.ts';
import { type Check, hexOf, mapOf, record } from './checks.ts';
import { readEntry } from './entries.ts';
import { failAudit, failureOf, inClass } from './failures.ts';
import { LOG_FILE, readLog, splitLines } from './read-log.ts';
import type { RunHistory } from './replay.ts';
import { openNote } from './signed-note.ts';

/** Where a bundle is read from: a folder, an archive, memory. */
export interface BundleReader {
  /** Relative paths of all files, with slashes. */
  list(): Promise<readonly string[]>;
  read(path: string): Promise<Uint8Array>;
}

/** Files of a bundle whose hashes matched the manifest. */
export type BundleFiles = ReadonlyMap<string, Uint8Array>;

export const MANIFEST_FILE = 'manifest.json';
export const MANIFEST_NOTE_FILE = 'manifest.note';
export const CHECKPOINT_FILE = 'checkpoint';
export const CONFIG_FILE = 'config.json';

const manifest: Check<{ readonly files: Readonly<Record<string, string>> }> = record({
  files: mapOf(/^.+$/, hexOf(32)),
});

/** Canonical JSON in a file that ends with a newline. */
function readCanonicalFile(bytes: Uint8Array): unknown {
  const end = bytes.at(-1) === 0x0a ? bytes.length - 1 : bytes.length;
  return parseCanonicalBytes(bytes.subarray(0, end));
}

/** A file of the bundle. @throws CoveyError AUDIT_FAILED (files) if it is missing. */
export function requireFile(files: BundleFiles, path: string): Uint8Array {
  return files.get(path) ?? failAudit('files', { file: path }, 'the file is missing');
}

/** Names the first line of a changed log that does not hold: every line is signed, so there is one, unless whole lines went. */
function locateLogChange(log: Uint8Array, files: ReadonlyMap<string, Uint8Array>, crypto: CryptoProvider): void {
  try {
    const entries = readLog(log, crypto);
    const size = Number(fromUtf8(files.get(CHECKPOINT_FILE) ?? new Uint8Array(0)).split('\n')[1]);
    if (size > entries.length) {
      failAudit(
        'files',
        { file: LOG_FILE, line: entries.length + 1, byte: log.length },
        `the log was changed: it ends after ${entries.length} of ${size} entries`,
      );
    }
  } catch (error) {
    const found = failureOf(error);
    if (found === null) throw error;
    failAudit('files', found, `the log was changed here: ${found.message}`);
  }
}

/**
 * Reads all files and compares them with the manifest: none missing, none more, none changed.
 * @throws CoveyError AUDIT_FAILED (files), for the log with the line and bytes that do not hold.
 */
export async function readBundle(reader: BundleReader, crypto: CryptoProvider): Promise<BundleFiles> {
  const paths = [...(await reader.list())].sort();
  const files = new Map<string, Uint8Array>();
  for (const path of paths) {
    if (!isBundlePath(path)) failAudit('files', { file: path }, 'a path of this form has no place in a bundle');
    files.set(path, await reader.read(path));
  }
  const where = { file: MANIFEST_FILE };
  const { files: hashes } = inClass('files', where, () =>
    manifest(readCanonicalFile(requireFile(files, MANIFEST_FILE)), 'manifest'),
  );
  for (const path of Object.keys(hashes).sort()) requireFile(files, path);
  for (const [path, bytes] of files) {
    if (path === MANIFEST_FILE || path === MANIFEST_NOTE_FILE) continue;
    if (!Object.hasOwn(hashes, path)) failAudit('files', { file: path }, 'the manifest does not name this file');
    if (toHex(crypto.sha256(bytes)) === hashes[path]) continue;
    if (path === LOG_FILE) locateLogChange(bytes, files, crypto);
    failAudit('files', { file: path }, `the file was changed: its hash is not the one in ${MANIFEST_FILE}`);
  }
  return files;
}

/** Who signs for a run: taken from the first log entry, and compared with the pinned key if there is one. */
export interface RunSigner {
  readonly origin: string;
  readonly publicKey: Uint8Array;
}

/**
 * Checks that the coordinator signed the manifest, and that it is the pinned one.
 * @throws CoveyError AUDIT_FAILED (manifest)
 */
export function checkManifest(
  files: BundleFiles,
  pinnedKey: Uint8Array | undefined,
  crypto: CryptoProvider,
): RunSigner {
  const [first] = splitLines(LOG_FILE, requireFile(files, LOG_FILE));
  const where = { file: LOG_FILE, line: 1, byte: 0 };
  if (first === undefined) return failAudit('rules', where, 'the log is empty');
  const entry = inClass('entry', where, () => readEntry(first.bytes));
  if (entry.type !== 'genesis') return failAudit('rules', where, `the first entry must be genesis, got ${entry.type}`);
  const note = { file: MANIFEST_NOTE_FILE };
  if (pinnedKey !== undefined && toHex(pinnedKey) !== entry.body.coordinatorKey) {
    return failAudit(
      'manifest',
      note,
      `the coordinator of this run has key ${entry.body.coordinatorKey}, not the pinned one`,
    );
  }
  const publicKey = Uint8Array.from(entry.body.coordinatorKey.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  const origin = logOrigin(entry.federation, entry.run);
  const text = inClass('manifest', note, () =>
    openNote(requireFile(files, MANIFEST_NOTE_FILE), [{ name: origin, publicKey }], crypto),
  );
  if (!equalBytes(utf8(text), requireFile(files, MANIFEST_FILE)))
    failAudit('manifest', note, `the note was signed over another ${MANIFEST_FILE}`);
  return { origin, publicKey };
}

/** @throws CoveyError AUDIT_FAILED (checkpoint) unless the signed tree head is the one over the log. */
export function checkCheckpoint(files: BundleFiles, signer: RunSigner, crypto: CryptoProvider): number {
  const where = { file: CHECKPOINT_FILE };
  const key = { name: signer.origin, publicKey: signer.publicKey };
  const signed = inClass('checkpoint', where, () =>
    openCheckpoint(requireFile(files, CHECKPOINT_FILE), signer.origin, [key], crypto),
  );
  const leaves = splitLines(LOG_FILE, requireFile(files, LOG_FILE)).map(({ bytes }) => bytes);
  if (signed.size !== leaves.length)
    failAudit('checkpoint', where, `the tree head covers ${signed.size} entries, the log has ${leaves.length}`);
  if (!equalBytes(signed.root, checkpointOf(signer.origin, leaves, crypto).root))
    failAudit('checkpoint', where, 'the root is not the one over the log');
  return signed.size;
}

/** @throws CoveyError AUDIT_FAILED (rules) unless configuration and exported models are the ones that the log names. */
export function checkNamedFiles(files: BundleFiles, history: RunHistory, crypto: CryptoProvider): void {
  const where = { file: CONFIG_FILE };
  const config = inClass('rules', where, () => canonicalJson(readCanonicalFile(requireFile(files, CONFIG_FILE))));
  if (config !== canonicalJson(history.open.config))
    failAudit('rules', where, 'the configuration is not the one in the log');
  for (const { at, body } of history.exports) {
    for (const [path, hash] of Object.entries(body.files)) {
      const bytes = files.get(path);
      if (bytes === undefined || toHex(crypto.sha256(bytes)) !== hash)
        failAudit('rules', at, `${path} is not the exported file`);
    }
  }
}
