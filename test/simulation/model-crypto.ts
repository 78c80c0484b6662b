import { nodeCrypto } from '../../platform/node/crypto.ts';
import { concatBytes, equalBytes, toHex, u32le, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';

/*
 * A stand-in for the real primitives that is some ten times faster: it keeps what the machines rely on (a signature is
 * valid for one key and message, both ends of a key agreement get the same secret, a sealed box opens under one key and
 * additional data) and gives no secrecy at all. For simulated worlds whose attackers do not compute; a share of every
 * simulation runs with the real provider.
 */

const { sha256, aes256Ctr } = nodeCrypto;
const hash = (label: string, ...parts: Uint8Array[]): Uint8Array =>
  sha256(concatBytes(utf8(label), ...parts.flatMap((part) => [u32le(part.length), part])));

const MODULUS = 1n << 256n;
const toNumber = (bytes: Uint8Array): bigint => BigInt(`0x${toHex(bytes)}`);
function toBytes(value: bigint): Uint8Array {
  const hex = value.toString(16).padStart(64, '0');
  return Uint8Array.from({ length: 32 }, (_, i) => Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16));
}
const BASE = 0x9e3779b97f4a7c15f39cc0605cedc8341082276bf3a27251f86c6a11d0c18e95n;

function signature(publicKey: Uint8Array, message: Uint8Array): Uint8Array {
  const half = hash('signature', publicKey, message);
  return concatBytes(half, half);
}

function keystream(key: Uint8Array, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  aes256Ctr(key).read(bytes);
  return bytes;
}

const tagOf = (key: Uint8Array, aad: Uint8Array, text: Uint8Array): Uint8Array =>
  hash('tag', key, aad, text).slice(0, 16);

export const modelCrypto: CryptoProvider = {
  name: 'model',
  sha256,
  aes256Ctr,
  hkdfSha256: (inputKey, salt, info, length) => keystream(hash('hkdf', inputKey, salt, info), length),
  ed25519PublicKey: (seed) => hash('public', seed),
  ed25519Sign: (message, seed) => signature(hash('public', seed), message),
  ed25519Verify: (given, message, publicKey) => equalBytes(given, signature(publicKey, message)),
  ed25519IsPrimeOrder: () => true,
  x25519PublicKey: (secret) => toBytes((toNumber(secret) * BASE) % MODULUS),
  x25519IsPublicKey: (publicKey) => publicKey.length === 32,
  x25519Agree: (secret, publicKey) => toBytes((toNumber(secret) * toNumber(publicKey)) % MODULUS),
  aes256GcmSeal(key, _nonce, aad, plaintext) {
    const stream = keystream(key, plaintext.length);
    const text = plaintext.map((byte, i) => byte ^ (stream[i] as number));
    return concatBytes(text, tagOf(key, aad, text));
  },
  aes256GcmOpen(key, _nonce, aad, sealed) {
    const text = sealed.slice(0, -16);
    if (!equalBytes(sealed.slice(-16), tagOf(key, aad, text)))
      throw new CoveyError('CRYPTO_TAG', '"tag" does not match');
    const stream = keystream(key, text.length);
    return text.map((byte, i) => byte ^ (stream[i] as number));
  },
};
