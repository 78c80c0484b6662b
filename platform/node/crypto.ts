import {
  type BinaryToTextEncoding,
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hash,
  hkdfSync,
  type KeyObject,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';
import { byteString, equalBytes } from '../../protocol/bytes.ts';
import type { CryptoProvider, KeyStream, RandomSource } from '../../protocol/crypto-provider.ts';
import { withRules } from '../crypto-rules.ts';
import { releaseBuffer } from './release-buffer.ts';

type Curve = 'Ed25519' | 'X25519';

const base64url = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url');

// JWK imports are several times faster than DER (RFC 8410) on Node 20. Of a secret JWK, Node reads `d` and derives the
// public part; the contract suite would fail if a version began to read `x` here.
const UNREAD = base64url(new Uint8Array(32));
const importSecret = (crv: Curve, secret: Uint8Array): KeyObject =>
  createPrivateKey({ key: { kty: 'OKP', crv, x: UNREAD, d: base64url(secret) }, format: 'jwk' });
const publicKeyOf = (crv: Curve, key: Uint8Array): KeyObject =>
  createPublicKey({ key: { kty: 'OKP', crv, x: base64url(key) }, format: 'jwk' });
const publicPartOf = (key: KeyObject): Uint8Array =>
  new Uint8Array(Buffer.from(createPublicKey(key).export({ format: 'jwk' }).x ?? '', 'base64url'));

/** In one call and by way of a string: no native object and no memory outside the heap for each of many short inputs. */
function sha256(data: Uint8Array): Uint8Array {
  const text = hash('sha256', data, 'latin1' as BinaryToTextEncoding);
  const digest = new Uint8Array(32);
  for (let i = 0; i < 32; i++) digest[i] = text.charCodeAt(i);
  return digest;
}

/*
 * Importing a key costs more than using it. A secret's import lives as long as the array it was made from, and only serves
 * while the array still holds the same bytes: once they are wiped it is of no use.
 */
const importedSecrets: Readonly<Record<Curve, WeakMap<Uint8Array, { digest: Uint8Array; key: KeyObject }>>> = {
  Ed25519: new WeakMap(),
  X25519: new WeakMap(),
};

function secretKeyOf(crv: Curve, secret: Uint8Array): KeyObject {
  const digest = sha256(secret);
  const known = importedSecrets[crv].get(secret);
  if (known !== undefined && equalBytes(known.digest, digest)) return known.key;
  const key = importSecret(crv, secret);
  importedSecrets[crv].set(secret, { digest, key });
  return key;
}

const MOST_KEYS = 4_096;
const importedKeys = new Map<string, KeyObject>();

/** Node keys verify in every session; X25519 keys are fresh in each and not kept. */
function verifyingKeyOf(publicKey: Uint8Array): KeyObject {
  const name = byteString(publicKey);
  const known = importedKeys.get(name);
  if (known !== undefined) return known;
  const key = publicKeyOf('Ed25519', publicKey);
  if (importedKeys.size >= MOST_KEYS) importedKeys.clear();
  importedKeys.set(name, key);
  return key;
}

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
  sha256,
  hkdfSha256: (inputKey, salt, info, length) => new Uint8Array(hkdfSync('sha256', inputKey, salt, info, length)),
  ed25519PublicKey: (secretSeed) => publicPartOf(secretKeyOf('Ed25519', secretSeed)),
  ed25519Sign: (message, secretSeed) => new Uint8Array(sign(null, message, secretKeyOf('Ed25519', secretSeed))),
  ed25519Verify: (signature, message, publicKey) => verify(null, message, verifyingKeyOf(publicKey), signature),
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
