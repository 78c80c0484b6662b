import { fromBase64, toBase64 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { merkleRoot } from '../../protocol/merkle.ts';
import { type NoteKey, openNote, signNote } from './signed-note.ts';

/** Head of a log: `root` over the first `size` entries (RFC 6962). */
export interface Checkpoint {
  readonly origin: string;
  readonly size: number;
  readonly root: Uint8Array;
}

/** Name of a run's log and of the key that signs for it: no spaces, no plus signs, whatever the federation is called. */
export function logOrigin(federation: string, run: string): string {
  return `covey/${encodeURIComponent(federation)}/${run}`;
}

/** Head over entries given as lines of bytes, without their newlines. */
export function checkpointOf(
  origin: string,
  leaves: readonly Uint8Array[],
  crypto: Pick<CryptoProvider, 'sha256'>,
): Checkpoint {
  return { origin, size: leaves.length, root: merkleRoot(crypto, leaves) };
}

/**
 * Signs a checkpoint as a note: origin, size and base64 root, each on a line.
 * @see C2SP tlog-checkpoint, signed-note
 */
export function signCheckpoint(
  checkpoint: Checkpoint,
  key: NoteKey,
  secretSeed: Uint8Array,
  crypto: CryptoProvider,
): string {
  return signNote(`${checkpoint.origin}\n${checkpoint.size}\n${toBase64(checkpoint.root)}\n`, key, secretSeed, crypto);
}

/**
 * Reads a signed checkpoint of `origin`.
 * @throws CoveyError CODEC_TYPE for the form or another origin, AUTH_* for the signature.
 */
export function openCheckpoint(
  bytes: Uint8Array,
  origin: string,
  trusted: readonly NoteKey[],
  crypto: CryptoProvider,
): Checkpoint {
  const [name, size, root, ...rest] = openNote(bytes, trusted, crypto).split('\n');
  // Extension lines are not auditable; none is written, none is accepted.
  const extended = rest.length !== 1 || rest[0] !== '';
  if (name !== origin || extended)
    throw new CoveyError('CODEC_TYPE', `"checkpoint" expected three lines for ${origin}`);
  if (!/^(0|[1-9]\d{0,14})$/.test(size ?? ''))
    throw new CoveyError('CODEC_TYPE', '"checkpoint" expected a decimal size');
  const bytesOfRoot = fromBase64(root ?? '');
  if (bytesOfRoot.length !== 32) throw new CoveyError('CODEC_TYPE', '"checkpoint" expected a root of 32 bytes');
  return { origin, size: Number(size), root: bytesOfRoot };
}
