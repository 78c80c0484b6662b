import { ed25519 } from '@noble/curves/ed25519.js';
import { sha512 } from '@noble/hashes/sha2.js';
import { byteString, equalBytes } from '../../protocol/bytes.ts';

/*
 * One rule for keys and signatures on every provider (SPEC section 3). Libraries differ: some accept a torsion component
 * or a non-canonical encoding, and members that judge one signature differently could be split.
 */

const FIELD_PRIME = 2n ** 255n - 19n;

/** L, the order of the prime subgroup. @see RFC 8032, section 5.1 */
const GROUP_ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

function littleEndian(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] as number);
  return value;
}

function toLittleEndian(value: bigint): Uint8Array {
  return Uint8Array.from({ length: 32 }, (_, i) => Number((value >> BigInt(8 * i)) & 255n));
}

const FIELD_PRIME_BYTES = toLittleEndian(FIELD_PRIME);
const GROUP_ORDER_BYTES = toLittleEndian(GROUP_ORDER);

/** True if 32 bytes, little-endian and their last one under `lastMask`, are a number below `bound`. */
function isBelow(bytes: Uint8Array, bound: Uint8Array, lastMask: number = 255): boolean {
  for (let i = 31, mask = lastMask; i >= 0; i--, mask = 255) {
    const difference = ((bytes[i] as number) & mask) - (bound[i] as number);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

/** The bits of y in the last byte of an encoding; the other one is the sign of x. */
const Y_MASK = 127;

/** True if 32 bytes, the last one under `lastMask`, are one of `values`. */
function isOneOf(values: readonly Uint8Array[], bytes: Uint8Array, lastMask: number = 255): boolean {
  const last = (bytes[31] as number) & lastMask;
  return values.some((value) => {
    if (value[31] !== last) return false;
    for (let i = 0; i < 31; i++) if (value[i] !== bytes[i]) return false;
    return true;
  });
}

/** True for the one canonical encoding of a point of the curve. */
function decodesCanonically(encoding: Uint8Array): boolean {
  if (encoding.length !== 32) return false;
  try {
    // Strict decoding refuses y >= p, and x = 0 with the sign bit set (RFC 8032, 5.1.3).
    ed25519.Point.fromBytes(encoding, false);
    return true;
  } catch {
    return false;
  }
}

// One session checks hundreds of signatures of the same few keys.
const checkedKeys = new Map<string, boolean>();

function remember(cache: Map<string, boolean>, key: string, value: boolean): boolean {
  if (cache.size >= 4_096) cache.clear();
  cache.set(key, value);
  return value;
}

/**
 * True if S < L and A and R are canonical encodings (A of a point). What remains is the equation, which is cofactorless on
 * every provider: encode(S*B - k*A) = R. R is judged by its bytes here in case a provider decodes it instead.
 */
export function isAcceptedSignature(signature: Uint8Array, publicKey: Uint8Array): boolean {
  if (signature.length !== 64 || publicKey.length !== 32) return false;
  if (!isBelow(signature.subarray(32), GROUP_ORDER_BYTES)) return false;
  if (!isBelow(signature, FIELD_PRIME_BYTES, Y_MASK)) return false;
  const name = byteString(publicKey);
  return checkedKeys.get(name) ?? remember(checkedKeys, name, decodesCanonically(publicKey));
}

// y-coordinates of the eight points of small order: orders 1, 2, 4 (twice) and 8 (four times), x and -x alike.
const SMALL_ORDER_Y: readonly Uint8Array[] = [
  1n,
  FIELD_PRIME - 1n,
  0n,
  0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n,
  0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n,
].map(toLittleEndian);

/** True if a canonical encoding names one of the eight points whose order divides the cofactor. */
export function isSmallOrder(encoding: Uint8Array): boolean {
  return isOneOf(SMALL_ORDER_Y, encoding, Y_MASK);
}

/** encode(S*B - k*A) = R, without the cofactor, for an accepted signature. @see RFC 8032, section 5.1.7 */
export function satisfiesEquation(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean {
  const encodedR = signature.subarray(0, 32);
  const k = littleEndian(sha512.create().update(encodedR).update(publicKey).update(message).digest()) % GROUP_ORDER;
  const s = littleEndian(signature.subarray(32));
  const a = ed25519.Point.fromBytes(publicKey, false);
  // multiplyUnsafe: verification uses public values only. k is reduced modulo the order of the prime subgroup as RFC 8032
  // says; with torsion in A a k that is not reduced could give another verdict.
  const left = ed25519.Point.BASE.multiplyUnsafe(s).subtract(a.multiplyUnsafe(k));
  return equalBytes(left.toBytes(), encodedR);
}

/** True for a canonical key in the subgroup of prime order that is not the neutral element. */
export function isPrimeOrderKey(publicKey: Uint8Array): boolean {
  if (!decodesCanonically(publicKey)) return false;
  const point = ed25519.Point.fromBytes(publicKey, false);
  return !point.is0() && point.isTorsionFree();
}

// u-coordinates of low order (RFC 7748, section 6.1), below p.
const LOW_ORDER: readonly Uint8Array[] = [
  0n,
  1n,
  325606250916557431795983626356110631294008115727848805560023387167927233504n,
  39382357235489614581723060781553021112529911719440698176882885853963445705823n,
  FIELD_PRIME - 1n,
].map(toLittleEndian);

/** True for a canonical u-coordinate (bit 255 clear, below p) that is not of low order. */
export function isValidX25519Point(publicKey: Uint8Array): boolean {
  return publicKey.length === 32 && isBelow(publicKey, FIELD_PRIME_BYTES) && !isOneOf(LOW_ORDER, publicKey);
}
