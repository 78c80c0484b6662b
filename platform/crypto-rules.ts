import type { CryptoProvider } from '../protocol/crypto-provider.ts';
import { CoveyError } from '../protocol/errors.ts';
import {
  isAcceptedSignature,
  isPrimeOrderKey,
  isSmallOrder,
  isValidX25519Point,
  satisfiesEquation,
} from './noble/points.ts';

/** What a library brings: the operations on inputs that the rules have let through. */
export type Primitives = Omit<CryptoProvider, 'ed25519IsPrimeOrder' | 'x25519IsPublicKey'>;

function requireLength(field: string, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length)
    throw new CoveyError('USAGE_RANGE', `"${field}" expected ${length} bytes, got ${bytes.length}`);
}

/** 255 blocks of SHA-256. @see RFC 5869, section 2.3 */
const MAX_HKDF_BYTES = 8_160;
const TAG_BYTES = 16;

/**
 * A provider from a library's primitives: lengths, points and signatures are judged here, once, so that no two providers
 * can differ in what they accept. @see SPEC section 3
 */
export function withRules(primitives: Primitives): CryptoProvider {
  return {
    name: primitives.name,
    sha256: primitives.sha256,
    hkdfSha256(inputKey, salt, info, length) {
      if (!(Number.isInteger(length) && length >= 1 && length <= MAX_HKDF_BYTES)) {
        throw new CoveyError('USAGE_RANGE', `"length" expected 1 to ${MAX_HKDF_BYTES} bytes, got ${length}`);
      }
      return primitives.hkdfSha256(inputKey, salt, info, length);
    },
    ed25519PublicKey(secretSeed) {
      requireLength('secretSeed', secretSeed, 32);
      return primitives.ed25519PublicKey(secretSeed);
    },
    ed25519Sign(message, secretSeed) {
      requireLength('secretSeed', secretSeed, 32);
      return primitives.ed25519Sign(message, secretSeed);
    },
    ed25519Verify(signature, message, publicKey) {
      if (!isAcceptedSignature(signature, publicKey)) return false;
      // Newer versions of Node, and WebCrypto, refuse every A or R of small order, older ones apply the equation: what
      // depends on the platform is not left to it. No honest key or signature comes here.
      const isLeftOpen = isSmallOrder(publicKey) || isSmallOrder(signature.subarray(0, 32));
      const verify = isLeftOpen ? satisfiesEquation : primitives.ed25519Verify;
      return verify(signature, message, publicKey);
    },
    ed25519IsPrimeOrder: isPrimeOrderKey,
    x25519PublicKey(secretKey) {
      requireLength('secretKey', secretKey, 32);
      return primitives.x25519PublicKey(secretKey);
    },
    x25519IsPublicKey: isValidX25519Point,
    x25519Agree(secretKey, publicKey) {
      requireLength('secretKey', secretKey, 32);
      if (!isValidX25519Point(publicKey)) {
        throw new CoveyError('CRYPTO_POINT', '"publicKey" expected a canonical X25519 point of large order');
      }
      const shared = primitives.x25519Agree(secretKey, publicKey);
      // Every point of low order was refused above; RFC 7748, section 6.1, asks for this check as well.
      if (shared.every((byte) => byte === 0))
        throw new CoveyError('CRYPTO_POINT', '"publicKey" yields no shared secret');
      return shared;
    },
    aes256GcmSeal(key, nonce, additionalData, plaintext) {
      requireLength('key', key, 32);
      requireLength('nonce', nonce, 12);
      return primitives.aes256GcmSeal(key, nonce, additionalData, plaintext);
    },
    aes256GcmOpen(key, nonce, additionalData, sealed) {
      requireLength('key', key, 32);
      requireLength('nonce', nonce, 12);
      if (sealed.length < TAG_BYTES)
        throw new CoveyError('CRYPTO_TAG', `"sealed" expected at least ${TAG_BYTES} bytes`);
      try {
        return primitives.aes256GcmOpen(key, nonce, additionalData, sealed);
      } catch (cause) {
        throw new CoveyError('CRYPTO_TAG', 'the ciphertext does not authenticate', {}, { cause });
      }
    },
    aes256Ctr(key) {
      requireLength('key', key, 32);
      return primitives.aes256Ctr(key);
    },
  };
}
