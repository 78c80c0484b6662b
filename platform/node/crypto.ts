import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
  type KeyObject,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';
import type { CryptoProvider, KeyStream, RandomSource } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { isAcceptedSignature, isPrimeOrderKey, isValidX25519Point } from '../noble/points.ts';

const base64url = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');

// RFC 8410 prefixes of a 32-byte secret; importing a public key as JWK is several times faster than as DER.
const PKCS8_ED25519 = Buffer.from('302e020100300506032b657004220420', 'hex');
const PKCS8_X25519 = Buffer.from('302e020100300506032b656e04220420', 'hex');

const publicKeyOf = (curve: 'Ed25519' | 'X25519', key: Uint8Array): KeyObject =>
  createPublicKey({ key: { kty: 'OKP', crv: curve, x: base64url(key) }, format: 'jwk' });
const secretKeyOf = (prefix: Buffer, secret: Uint8Array): KeyObject =>
  createPrivateKey({ key: Buffer.concat([prefix, secret]), format: 'der', type: 'pkcs8' });
const rawPublicKey = (key: KeyObject): Uint8Array =>
  new Uint8Array(Buffer.from(createPublicKey(key).export({ format: 'jwk' }).x ?? '', 'base64url'));

const ZEROS = new Uint8Array(131_072);

function aes256Ctr(key: Uint8Array): KeyStream {
  const cipher = createCipheriv('aes-256-ctr', key, new Uint8Array(16));
  return {
    read(target) {
      for (let at = 0; at < target.length; at += ZEROS.length) {
        target.set(cipher.update(ZEROS.subarray(0, Math.min(ZEROS.length, target.length - at))), at);
      }
    },
  };
}

/** The primitives on OpenSSL, through `node:crypto`; point and signature rules are those of the portable provider. */
export const nodeCrypto: CryptoProvider = {
  name: 'node',
  sha256: (data) => new Uint8Array(createHash('sha256').update(data).digest()),
  hkdfSha256: (inputKey, salt, info, length) => new Uint8Array(hkdfSync('sha256', inputKey, salt, info, length)),
  ed25519PublicKey: (secretSeed) => rawPublicKey(secretKeyOf(PKCS8_ED25519, secretSeed)),
  ed25519Sign: (message, secretSeed) => new Uint8Array(sign(null, message, secretKeyOf(PKCS8_ED25519, secretSeed))),
  ed25519Verify(signature, message, publicKey) {
    if (!isAcceptedSignature(signature, publicKey)) return false;
    try {
      return verify(null, message, publicKeyOf('Ed25519', publicKey), signature);
    } catch {
      // OpenSSL throws for a key that it cannot import; it is no signature by that key.
      return false;
    }
  },
  ed25519IsPrimeOrder: isPrimeOrderKey,
  x25519PublicKey: (secretKey) => rawPublicKey(secretKeyOf(PKCS8_X25519, secretKey)),
  x25519Agree(secretKey, publicKey) {
    if (!isValidX25519Point(publicKey)) throw new CoveyError('CRYPTO_POINT', '"publicKey" expected a canonical X25519 point of large order');
    try {
      const privateKey = secretKeyOf(PKCS8_X25519, secretKey);
      return new Uint8Array(diffieHellman({ privateKey, publicKey: publicKeyOf('X25519', publicKey) }));
    } catch (cause) {
      throw new CoveyError('CRYPTO_POINT', '"publicKey" expected a point that yields a shared secret', {}, { cause });
    }
  },
  aes256GcmSeal(key, nonce, additionalData, plaintext) {
    const cipher = createCipheriv('aes-256-gcm', key, nonce);
    cipher.setAAD(additionalData);
    return new Uint8Array(Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]));
  },
  aes256GcmOpen(key, nonce, additionalData, sealed) {
    if (sealed.length < 16) throw new CoveyError('CRYPTO_TAG', '"sealed" expected at least 16 bytes');
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, nonce);
      decipher.setAAD(additionalData);
      decipher.setAuthTag(sealed.subarray(sealed.length - 16));
      return new Uint8Array(Buffer.concat([decipher.update(sealed.subarray(0, sealed.length - 16)), decipher.final()]));
    } catch (cause) {
      throw new CoveyError('CRYPTO_TAG', 'the ciphertext does not authenticate', {}, { cause });
    }
  },
  aes256Ctr,
};

/** The operating system's CSPRNG. */
export const nodeRandom: RandomSource = (length) => new Uint8Array(randomBytes(length));
