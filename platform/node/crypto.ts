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
import { withRules } from '../crypto-rules.ts';
import { releaseBuffer } from './release-buffer.ts';

type Curve = 'Ed25519' | 'X25519';

const base64url = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url');

// JWK imports are several times faster than DER (RFC 8410) on Node 20. Of a secret JWK, Node reads `d` and derives the
// public part; the contract suite would fail if a version began to read `x` here.
const UNREAD = base64url(new Uint8Array(32));
const secretKeyOf = (crv: Curve, secret: Uint8Array): KeyObject =>
  createPrivateKey({ key: { kty: 'OKP', crv, x: UNREAD, d: base64url(secret) }, format: 'jwk' });
const publicKeyOf = (crv: Curve, key: Uint8Array): KeyObject =>
  createPublicKey({ key: { kty: 'OKP', crv, x: base64url(key) }, format: 'jwk' });
const publicPartOf = (key: KeyObject): Uint8Array =>
  new Uint8Array(Buffer.from(createPublicKey(key).export({ format: 'jwk' }).x ?? '', 'base64url'));

// The keystream is the encryption of zeros. 128 KiB at a time: large enough that the call does not count.
const ZEROS = new Uint8Array(131_072);
const RELEASE_FROM_BYTES = 16_384;

/** The keystream of `aes256Ctr` from one of its 16-byte blocks on. Units: `firstBlock` in blocks, below 2^53. */
export function aes256CtrFrom(key: Uint8Array, firstBlock: number): KeyStream {
  const counter = new Uint8Array(16);
  new DataView(counter.buffer).setBigUint64(8, BigInt(firstBlock));
  const cipher = createCipheriv('aes-256-ctr', key, counter);
  const next = (bytes: number): Uint8Array => cipher.update(bytes === ZEROS.length ? ZEROS : ZEROS.subarray(0, bytes));
  return {
    read(target) {
      for (let at = 0; at < target.length; at += ZEROS.length) {
        const piece = next(Math.min(ZEROS.length, target.length - at));
        target.set(piece, at);
        const memory = piece.buffer;
        if (memory.byteLength >= RELEASE_FROM_BYTES && memory.byteLength === piece.length)
          releaseBuffer(memory as ArrayBuffer);
      }
    },
  };
}

/** The primitives on OpenSSL, through `node:crypto`. */
export const nodeCrypto: CryptoProvider = withRules({
  name: 'node',
  sha256: (data) => new Uint8Array(createHash('sha256').update(data).digest()),
  hkdfSha256: (inputKey, salt, info, length) => new Uint8Array(hkdfSync('sha256', inputKey, salt, info, length)),
  ed25519PublicKey: (secretSeed) => publicPartOf(secretKeyOf('Ed25519', secretSeed)),
  ed25519Sign: (message, secretSeed) => new Uint8Array(sign(null, message, secretKeyOf('Ed25519', secretSeed))),
  ed25519Verify: (signature, message, publicKey) => verify(null, message, publicKeyOf('Ed25519', publicKey), signature),
  x25519PublicKey: (secretKey) => publicPartOf(secretKeyOf('X25519', secretKey)),
  x25519Agree: (secretKey, publicKey) =>
    new Uint8Array(
      diffieHellman({ privateKey: secretKeyOf('X25519', secretKey), publicKey: publicKeyOf('X25519', publicKey) }),
    ),
  aes256GcmSeal(key, nonce, additionalData, plaintext) {
    const cipher = createCipheriv('aes-256-gcm', key, nonce);
    cipher.setAAD(additionalData);
    return new Uint8Array(Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]));
  },
  aes256GcmOpen(key, nonce, additionalData, sealed) {
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 });
    decipher.setAAD(additionalData);
    decipher.setAuthTag(sealed.subarray(sealed.length - 16));
    return new Uint8Array(Buffer.concat([decipher.update(sealed.subarray(0, sealed.length - 16)), decipher.final()]));
  },
  aes256Ctr: (key) => aes256CtrFrom(key, 0),
});

/** The operating system's CSPRNG. */
export const nodeRandom: RandomSource = (length) => new Uint8Array(randomBytes(length));
