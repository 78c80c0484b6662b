import type { CryptoProvider, RandomSource } from '../../protocol/crypto-provider.ts';
import { addWords, subtractWords } from '../../protocol/ring.ts';
import type { Lanes, MaskSeed } from '../../protocol/session.ts';
import { nobleCrypto } from '../noble/crypto.ts';

/**
 * The primitives of browsers: what the machines call is synchronous, hence portable JavaScript; whole vectors are masked by
 * WebCrypto (`applyMasksWeb`), with the same bytes. Nothing here needs Node.
 */
export const webCrypto: CryptoProvider = { ...nobleCrypto, name: 'web' };

/** WebCrypto hands out at most so many random bytes at once. */
const QUOTA_BYTES = 65_536;

/** Random: the browser's CSPRNG. */
export const webRandom: RandomSource = (length) => {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += QUOTA_BYTES) crypto.getRandomValues(bytes.subarray(at, at + QUOTA_BYTES));
  return bytes;
};

/** Keystream made at a time: long enough for the engine's pipeline, short enough to stay in memory that is reused. */
const CHUNK_BYTES = 1_048_576;
const BLOCK_BYTES = 16;

/** 128-bit big-endian counter of a byte offset. */
function counterAt(offsetBytes: number): Uint8Array<ArrayBuffer> {
  const counter = new Uint8Array(BLOCK_BYTES);
  new DataView(counter.buffer).setBigUint64(8, BigInt(offsetBytes / BLOCK_BYTES));
  return counter;
}

/**
 * `applyMasks` of the protocol on WebCrypto's AES-256-CTR: same bytes, asynchronous. A browser without it rejects; there is
 * no other generator to fall back to.
 * Secrets: keystream buffers are wiped; the seeds stay the caller's to wipe.
 */
export async function applyMasksWeb(words: Uint32Array, lanes: Lanes, seeds: readonly MaskSeed[]): Promise<void> {
  const keys = await Promise.all(
    seeds.map(({ seed }) => crypto.subtle.importKey('raw', Uint8Array.from(seed), 'AES-CTR', false, ['encrypt'])),
  );
  const zeros = new Uint8Array(Math.min(CHUNK_BYTES, words.byteLength));
  for (let at = 0; at < words.length; at += CHUNK_BYTES / 4) {
    const piece = words.subarray(at, at + CHUNK_BYTES / 4);
    const algorithm = { name: 'AES-CTR', counter: counterAt(4 * at), length: 128 };
    for (const [i, key] of keys.entries()) {
      const stream = new Uint32Array(await crypto.subtle.encrypt(algorithm, key, zeros.subarray(0, piece.byteLength)));
      if (seeds[i]?.sign === 1) addWords(piece, stream, lanes);
      else subtractWords(piece, stream, lanes);
      stream.fill(0);
    }
  }
}
