import { ctr, gcm } from '@noble/ciphers/aes.js';
import { ed25519, x25519 } from '@noble/curves/ed25519.js';
import { hkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import type { CryptoProvider, KeyStream } from '../../protocol/crypto-provider.ts';
import { withRules } from '../crypto-rules.ts';
import { satisfiesEquation } from './points.ts';

const BLOCK_BYTES = 16;

/** 128-bit big-endian block counter. */
function counterBlock(index: bigint): Uint8Array {
  const bytes = new Uint8Array(BLOCK_BYTES);
  for (let i = BLOCK_BYTES - 1, left = index; i >= 0; i--, left >>= 8n) bytes[i] = Number(left & 255n);
  return bytes;
}

function aes256Ctr(key: Uint8Array): KeyStream {
  const secret = key.slice();
  let block = 0n;
  let rest: Uint8Array = new Uint8Array(0);
  return {
    read(target) {
      const head = Math.min(rest.length, target.length);
      target.set(rest.subarray(0, head));
      rest = rest.subarray(head);
      const needed = target.length - head;
      if (needed === 0) return;
      const blocks = Math.ceil(needed / BLOCK_BYTES);
      const stream = ctr(secret, counterBlock(block)).encrypt(new Uint8Array(blocks * BLOCK_BYTES));
      block += BigInt(blocks);
      target.set(stream.subarray(0, needed), head);
      rest = stream.slice(needed);
    },
  };
}

/** The primitives in portable JavaScript: for browsers, and the oracle of the other providers. */
export const nobleCrypto: CryptoProvider = withRules({
  name: 'noble',
  sha256: (data) => sha256(data),
  hkdfSha256: (inputKey, salt, info, length) => hkdf(sha256, inputKey, salt, info, length),
  ed25519PublicKey: (secretSeed) => ed25519.getPublicKey(secretSeed),
  ed25519Sign: (message, secretSeed) => ed25519.sign(message, secretSeed),
  ed25519Verify: satisfiesEquation,
  x25519PublicKey: (secretKey) => x25519.getPublicKey(secretKey),
  x25519Agree: (secretKey, publicKey) => x25519.getSharedSecret(secretKey, publicKey),
  aes256GcmSeal: (key, nonce, additionalData, plaintext) => gcm(key, nonce, additionalData).encrypt(plaintext),
  aes256GcmOpen: (key, nonce, additionalData, sealed) => gcm(key, nonce, additionalData).decrypt(sealed),
  aes256Ctr,
});
