import { concatBytes, equalBytes, fromBase64, fromUtf8, toBase64, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError, isCoveyError } from '../../protocol/errors.ts';

/** A key that may sign notes. `name`: no spaces, no plus sign. */
export interface NoteKey {
  readonly name: string;
  readonly publicKey: Uint8Array;
}

/** Signature type byte of Ed25519 over the note text. */
const ED25519 = 0x01;
const MAX_NOTE_BYTES = 16_777_216;
/** Verifiers must accept at least 16 signatures. */
const MAX_SIGNATURES = 64;

function refuse(expected: string): never {
  throw new CoveyError('CODEC_TYPE', `"note" expected ${expected}`);
}

function requireName(name: string): void {
  if (!/^[^\s+]+$/u.test(name)) refuse('a key name without spaces and plus signs');
}

/** First four bytes of SHA-256(name || 0x0A || 0x01 || public key). */
export function noteKeyId(crypto: Pick<CryptoProvider, 'sha256'>, key: NoteKey): Uint8Array {
  return crypto.sha256(concatBytes(utf8(key.name), Uint8Array.of(0x0a, ED25519), key.publicKey)).subarray(0, 4);
}

/**
 * Signs a text that ends with a newline.
 * @throws CoveyError CODEC_TYPE for control characters, a missing newline or an impossible key name.
 * @see C2SP signed-note
 */
export function signNote(text: string, key: NoteKey, secretSeed: Uint8Array, crypto: CryptoProvider): string {
  requireName(key.name);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a note holds no control character but the newline.
  if (!text.endsWith('\n') || /[\u0000-\u0009\u000b-\u001f]/.test(text))
    refuse('text of whole lines without control characters');
  const signature = concatBytes(noteKeyId(crypto, key), crypto.ed25519Sign(utf8(text), secretSeed));
  return `${text}\n— ${key.name} ${toBase64(signature)}\n`;
}

/**
 * Checks a note and returns its text: at least one signature of a trusted key, and none of theirs that is wrong.
 * Signatures of other keys are ignored.
 * @throws CoveyError CODEC_TYPE for the form, AUTH_UNKNOWN without a trusted signature, AUTH_SIGNATURE for a wrong one.
 */
export function openNote(bytes: Uint8Array, trusted: readonly NoteKey[], crypto: CryptoProvider): string {
  if (bytes.length > MAX_NOTE_BYTES) refuse(`at most ${MAX_NOTE_BYTES} bytes`);
  const note = fromUtf8(bytes);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a note holds no control character but the newline.
  if (/[\u0000-\u0009\u000b-\u001f]/.test(note)) refuse('no control characters');
  // The text is separated from the signatures by the last empty line.
  const split = note.lastIndexOf('\n\n');
  if (split < 0 || !note.endsWith('\n')) refuse('text, an empty line and signatures');
  const text = note.slice(0, split + 1);
  const lines = note.slice(split + 2, -1).split('\n');
  if (lines.length > MAX_SIGNATURES) refuse(`at most ${MAX_SIGNATURES} signatures`);
  let verified = 0;
  for (const line of lines) {
    const [, name, encoded] = /^— ([^\s+]+) ([A-Za-z0-9+/=]+)$/u.exec(line) ?? refuse('signature lines');
    const signature = decodeSignature(encoded ?? '');
    const key = trusted.find(
      (candidate) => candidate.name === name && equalBytes(noteKeyId(crypto, candidate), signature.subarray(0, 4)),
    );
    if (key === undefined) continue;
    if (!crypto.ed25519Verify(signature.subarray(4), utf8(text), key.publicKey)) {
      throw new CoveyError('AUTH_SIGNATURE', `"note" expected a valid signature of ${key.name}`);
    }
    verified += 1;
  }
  if (verified === 0)
    throw new CoveyError(
      'AUTH_UNKNOWN',
      `"note" expected a signature of ${trusted.map((key) => key.name).join(' or ')}`,
    );
  return text;
}

function decodeSignature(encoded: string): Uint8Array {
  let signature: Uint8Array;
  try {
    signature = fromBase64(encoded);
  } catch (error) {
    if (!isCoveyError(error)) throw error;
    refuse('signatures in canonical base64');
  }
  return signature.length > 4 ? signature : refuse('signatures of more than four bytes');
}
