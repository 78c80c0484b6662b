import { ed25519 } from '@noble/curves/ed25519.js';
import { sha512 } from '@noble/hashes/sha2.js';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { concatBytes } from '../../protocol/bytes.ts';
import { signedBytes } from '../../protocol/messages.ts';
import type { SessionMessage } from '../../protocol/session.ts';
import { sidOf } from './malice.ts';
import type { World } from './session-world.ts';

/** RFC 7748: coordinates of low order, and encodings that a lax implementation reduces. */
export const BAD_KEYS: Readonly<Record<string, string>> = {
  'zero, of order 4': '0000000000000000000000000000000000000000000000000000000000000000',
  'one, of order 1': '0100000000000000000000000000000000000000000000000000000000000000',
  'of order 8': 'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  'of order 8, the other': '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  'p - 1, of order 2': 'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'p, not reduced': 'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'p + 1, not reduced': 'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'p + 9, a base point not reduced': 'f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'nine with bit 255 set': '0900000000000000000000000000000000000000000000000000000000000080',
};

const { Point } = ed25519;
const L = 2n ** 252n + 27742317777372353535851937790883648493n;
const toInteger = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
const toBytes = (value: bigint): Uint8Array =>
  Uint8Array.from(Buffer.from(value.toString(16).padStart(64, '0'), 'hex').reverse());

/** The scalar of RFC 7748 and RFC 8032: bits 0 to 2 and 255 cleared, bit 254 set. */
function clamp(secret: Uint8Array): bigint {
  const scalar = secret.slice(0, 32);
  scalar[0] = (scalar[0] as number) & 248;
  scalar[31] = ((scalar[31] as number) & 127) | 64;
  return toInteger(scalar);
}

/**
 * A signature whose R carries a point of small order: verifiers that multiply by the cofactor accept it, others do not.
 * If members judged it differently they would disagree about U1 in a session that the coordinator cannot repair.
 */
export function signWithTorsion(world: World, member: number, message: SessionMessage): SessionMessage {
  const { secretSeed, publicKey } = world.members[member] as World['members'][number];
  const r = 0x1357_9bdf_0246_8acen;
  // (0, -1) has order 2.
  const torsion = Point.fromAffine({ x: 0n, y: 2n ** 255n - 20n });
  const encodedR = Point.BASE.multiply(r).add(torsion).toBytes();
  const text = signedBytes(nodeCrypto, message.type, sidOf(world), message.body);
  const k = toInteger(sha512(concatBytes(encodedR, publicKey, text))) % L;
  return { ...message, signature: concatBytes(encodedR, toBytes((r + k * clamp(sha512(secretSeed))) % L)) };
}

/**
 * The X25519 public key of a secret with a point of order 8 added: it is no point of low order, and agrees like the honest
 * key, because every scalar is a multiple of 8. It differs from X25519(secret, base).
 */
export function torsionedKey(secret: Uint8Array): Uint8Array {
  const torsion = Point.fromHex('26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05');
  const point = Point.BASE.multiply(clamp(secret) % L).add(torsion);
  return ed25519.utils.toMontgomery(point.toBytes());
}
