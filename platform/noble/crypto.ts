import { ctr, gcm } from '@noble/ciphers/aes.js';
import { ed25519, x25519 } from '@noble/curves/ed25519.js';
import { hkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { sha512 } from '@noble/hashes/sha2.js';
import { equalBytes } from '../../protocol/bytes.ts';
import type { CryptoProvider, KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { isAcceptedSignature, isPrimeOrderKey, isValidX25519Point } from './points.ts';

const GROUP_ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

function littleEndian(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] as number);
  return value;
}

/** encode(S*B - k*A) = R, without the cofactor. @see RFC 8032, section 5.1.7 */
function satisfiesEquation(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean {
  const encodedR = signature.subarray(0, 32);
  const k = littleEndian(sha512.create().update(encodedR).update(publicKey).update(message).digest()) % GROUP_ORDER;
  const s = littleEndian(signature.subarray(32));
  const a = ed25519.Point.fromBytes(publicKey, false);
  // multiplyUnsafe: verification uses public values only; it accepts points with a torsion component.
  const left = ed25519.Point.BASE.multiplyUnsafe(s).subtract(a.multiplyUnsafe(k));
  return equalBytes(left.toBytes(), encodedR);
}

const BLOCK = 16;

function aes256Ctr(key: Uint8Array): KeyStream {
  const secret = key.slice();
  let block = 0n;
  let rest = new Uint8Array(0);
  const counter = (value: bigint): Uint8Array => {
    const bytes = new Uint8Array(BLOCK);
    for (let i = BLOCK - 1, left = value; i >= 0; i--, left >>= 8n) bytes[i] = Number(left & 255n);
    return bytes;
  };
  return {
    read(target) {
      const head = Math.min(rest.length, target.length);
      target.set(rest.subarray(0, head));
      rest = rest.slice(head);
      const needed = target.length - head;
      if (needed === 0) return;
      const blocks = Math.ceil(needed / BLOCK);
      const stream = ctr(secret, counter(block)).encrypt(new Uint8Array(blocks * BLOCK));
      block += BigInt(blocks);
      target.set(stream.subarray(0, needed), head);
      rest = stream.slice(needed);
    },
  };
}

/** The primitives in portable JavaScript: for browsers, and the oracle of the other providers. */
export const nobleCrypto: CryptoProvider = {
  name: 'noble',
  sha256: (data) => sha256(data),
  hkdfSha256: (inputKey, salt, info, length) => hkdf(sha256, inputKey, salt, info, length),
  ed25519PublicKey: (secretSeed) => ed25519.getPublicKey(secretSeed),
  ed25519Sign: (message, secretSeed) => ed25519.sign(message, secretSeed),
  ed25519Verify: (signature, message, publicKey) => isAcceptedSignature(signature, publicKey) && satisfiesEquation(signature, message, publicKey),
  ed25519IsPrimeOrder: isPrimeOrderKey,
  x25519PublicKey: (secretKey) => x25519.getPublicKey(secretKey),
  x25519Agree(secretKey, publicKey) {
    if (!isValidX25519Point(publicKey)) throw new CoveyError('CRYPTO_POINT', '"publicKey" expected a canonical X25519 point of large order');
    return x25519.getSharedSecret(secretKey, publicKey);
  },
  aes256GcmSeal: (key, nonce, additionalData, plaintext) => gcm(key, nonce, additionalData).encrypt(plaintext),
  aes256GcmOpen(key, nonce, additionalData, sealed) {
    try {
      return gcm(key, nonce, additionalData).decrypt(sealed);
    } catch (cause) {
      throw new CoveyError('CRYPTO_TAG', 'the ciphertext does not authenticate', {}, { cause });
    }
  },
  aes256Ctr,
};
