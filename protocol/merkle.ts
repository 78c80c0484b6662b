import { concatBytes, equalBytes } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';

type Hasher = Pick<CryptoProvider, 'sha256'>;

/*
 * Merkle trees of RFC 6962, section 2.1: leaf hash SHA-256(0x00 || leaf), node hash SHA-256(0x01 || left || right), the
 * left subtree of n > 1 leaves holds the largest power of two smaller than n.
 */

const leafHash = (crypto: Hasher, leaf: Uint8Array): Uint8Array => crypto.sha256(concatBytes(Uint8Array.of(0), leaf));
const nodeHash = (crypto: Hasher, left: Uint8Array, right: Uint8Array): Uint8Array => crypto.sha256(concatBytes(Uint8Array.of(1), left, right));

function leftSize(size: number): number {
  let power = 1;
  while (2 * power < size) power *= 2;
  return power;
}

function treeHash(crypto: Hasher, hashes: readonly Uint8Array[], from: number, to: number): Uint8Array {
  const size = to - from;
  if (size === 0) return crypto.sha256(new Uint8Array(0));
  if (size === 1) return hashes[from] as Uint8Array;
  const middle = from + leftSize(size);
  return nodeHash(crypto, treeHash(crypto, hashes, from, middle), treeHash(crypto, hashes, middle, to));
}

/** Root over the leaves. */
export function merkleRoot(crypto: Hasher, leaves: readonly Uint8Array[]): Uint8Array {
  return treeHash(crypto, leaves.map((leaf) => leafHash(crypto, leaf)), 0, leaves.length);
}


/** Audit paths of all leaves at once. Shapes: one list of sibling hashes for each leaf, lowest level first. */
export function inclusionProofs(crypto: Hasher, leaves: readonly Uint8Array[]): Uint8Array[][] {
  const hashes = leaves.map((leaf) => leafHash(crypto, leaf));
  const proofs: Uint8Array[][] = leaves.map(() => []);
  const build = (from: number, to: number): Uint8Array => {
    if (to - from === 1) return hashes[from] as Uint8Array;
    const middle = from + leftSize(to - from);
    const left = build(from, middle);
    const right = build(middle, to);
    for (let i = from; i < to; i++) (proofs[i] as Uint8Array[]).push(i < middle ? right : left);
    return nodeHash(crypto, left, right);
  };
  if (leaves.length > 0) build(0, leaves.length);
  return proofs;
}


/** True if `leaf` is leaf `index` of a tree of `size` leaves with this root. */
export function verifyInclusion(crypto: Hasher, leaf: Uint8Array, index: number, size: number, proof: readonly Uint8Array[], root: Uint8Array): boolean {
  if (!(index >= 0 && index < size)) return false;
  // RFC 9162, section 2.1.3.2
  let fn = index;
  let sn = size - 1;
  let hash = leafHash(crypto, leaf);
  for (const sibling of proof) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      hash = nodeHash(crypto, sibling, hash);
      while (fn % 2 === 0 && fn !== 0) {
        fn = Math.floor(fn / 2);
        sn = Math.floor(sn / 2);
      }
    } else {
      hash = nodeHash(crypto, hash, sibling);
    }
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  return sn === 0 && equalBytes(hash, root);
}
