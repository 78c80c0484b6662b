import { equalBytes, hashConcatenation } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';

type Hasher = Pick<CryptoProvider, 'sha256'>;

/*
 * Merkle trees of RFC 6962, section 2.1: leaf hash SHA-256(0x00 || leaf), node hash SHA-256(0x01 || left || right), the
 * left subtree of n > 1 leaves holds the largest power of two smaller than n. Proofs list sibling hashes, lowest first.
 */

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

const leafHash = (crypto: Hasher, leaf: Uint8Array): Uint8Array => hashConcatenation(crypto, LEAF, leaf);
const nodeHash = (crypto: Hasher, left: Uint8Array, right: Uint8Array): Uint8Array =>
  hashConcatenation(crypto, NODE, left, right);

/** Largest power of two smaller than `size`. */
function leftSize(size: number): number {
  let power = 1;
  while (2 * power < size) power *= 2;
  return power;
}

function subtreeHash(crypto: Hasher, leaves: readonly Uint8Array[], from: number, to: number): Uint8Array {
  const size = to - from;
  if (size === 1) return leafHash(crypto, leaves[from] as Uint8Array);
  const middle = from + leftSize(size);
  return nodeHash(crypto, subtreeHash(crypto, leaves, from, middle), subtreeHash(crypto, leaves, middle, to));
}

/** Root over the leaves (MTH); of no leaves, the hash of nothing. @see RFC 6962, section 2.1 */
export function merkleRoot(crypto: Hasher, leaves: readonly Uint8Array[]): Uint8Array {
  return leaves.length === 0 ? crypto.sha256(new Uint8Array(0)) : subtreeHash(crypto, leaves, 0, leaves.length);
}

/** Audit paths of all leaves at once. Shapes: one list of sibling hashes for each leaf. Cost: 2n hashes. */
export function inclusionProofs(crypto: Hasher, leaves: readonly Uint8Array[]): Uint8Array[][] {
  const hashes = leaves.length === 0 ? new Uint8Array(0) : treeHashes(crypto, leaves);
  return leaves.map((_, index) =>
    siblingsOf(leaves.length, index).map((at) => hashes.slice(HASH_BYTES * at, HASH_BYTES * (at + 1))),
  );
}

export const HASH_BYTES = 32;

/** All 2n - 1 hashes of the tree of n > 0 leaves, one behind the other: both subtrees before their node, the root last. */
export function treeHashes(crypto: Hasher, leaves: readonly Uint8Array[]): Uint8Array {
  const hashes = new Uint8Array(HASH_BYTES * (2 * leaves.length - 1));
  writeSubtree(crypto, leaves, 0, leaves.length, hashes, 0);
  return hashes;
}

/** Writes the hashes of one subtree from the `start`-th hash on, and returns its root. */
function writeSubtree(
  crypto: Hasher,
  leaves: readonly Uint8Array[],
  from: number,
  to: number,
  hashes: Uint8Array,
  start: number,
): Uint8Array {
  const size = to - from;
  let hash: Uint8Array;
  if (size === 1) hash = leafHash(crypto, leaves[from] as Uint8Array);
  else {
    const middle = from + leftSize(size);
    const left = writeSubtree(crypto, leaves, from, middle, hashes, start);
    const right = writeSubtree(crypto, leaves, middle, to, hashes, start + 2 * (middle - from) - 1);
    hash = nodeHash(crypto, left, right);
  }
  hashes.set(hash, HASH_BYTES * (start + 2 * size - 2));
  return hash;
}

/** Where in `treeHashes` the audit path of a leaf lies, lowest first. Units: hashes. */
export function siblingsOf(size: number, index: number): number[] {
  const path: number[] = [];
  // The hashes of a subtree of m leaves are 2m - 1 in a row; this one ends before `end`.
  let end = 2 * size - 1;
  let rest = size;
  let leaf = index;
  while (rest > 1) {
    const left = leftSize(rest);
    const right = rest - left;
    if (leaf < left) {
      path.push(end - 2);
      end -= 2 * right;
      rest = left;
    } else {
      path.push(end - 2 * right - 1);
      end -= 1;
      rest = right;
      leaf -= left;
    }
  }
  return path.reverse();
}

/** Audit path of one leaf. @throws CoveyError USAGE_RANGE @see RFC 6962, section 2.1.1 */
export function inclusionProof(crypto: Hasher, leaves: readonly Uint8Array[], index: number): Uint8Array[] {
  if (!(Number.isInteger(index) && index >= 0 && index < leaves.length)) {
    throw new CoveyError('USAGE_RANGE', `"index" expected 0 to ${leaves.length - 1}, got ${index}`);
  }
  const proof: Uint8Array[] = [];
  let from = 0;
  let to = leaves.length;
  while (to - from > 1) {
    const middle = from + leftSize(to - from);
    if (index < middle) {
      proof.push(subtreeHash(crypto, leaves, middle, to));
      to = middle;
    } else {
      proof.push(subtreeHash(crypto, leaves, from, middle));
      from = middle;
    }
  }
  return proof.reverse();
}

/** True if `leaf` is leaf `index` of a tree of `size` leaves with this root. @see RFC 9162, section 2.1.3.2 */
export function verifyInclusion(
  crypto: Hasher,
  leaf: Uint8Array,
  index: number,
  size: number,
  proof: readonly Uint8Array[],
  root: Uint8Array,
): boolean {
  if (!(Number.isInteger(index) && Number.isInteger(size) && index >= 0 && index < size)) return false;
  let node = index;
  let last = size - 1;
  let hash = leafHash(crypto, leaf);
  for (const sibling of proof) {
    if (last === 0) return false;
    if (node % 2 === 1 || node === last) {
      hash = nodeHash(crypto, sibling, hash);
      // The right edge of the tree has no sibling on some levels.
      while (node % 2 === 0 && node !== 0) [node, last] = up(node, last);
    } else {
      hash = nodeHash(crypto, hash, sibling);
    }
    [node, last] = up(node, last);
  }
  return last === 0 && equalBytes(hash, root);
}

/** One level up for both positions; not a shift, sizes may exceed 32 bits. */
const up = (node: number, last: number): [number, number] => [Math.floor(node / 2), Math.floor(last / 2)];

/**
 * Proof that the tree of the first `oldSize` leaves is a prefix of the tree of all leaves; empty for equal sizes.
 * @throws CoveyError USAGE_RANGE unless 1 <= oldSize <= number of leaves. @see RFC 6962, section 2.1.2
 */
export function consistencyProof(crypto: Hasher, leaves: readonly Uint8Array[], oldSize: number): Uint8Array[] {
  if (!(Number.isInteger(oldSize) && oldSize >= 1 && oldSize <= leaves.length)) {
    throw new CoveyError('USAGE_RANGE', `"oldSize" expected 1 to ${leaves.length}, got ${oldSize}`);
  }
  const proof: Uint8Array[] = [];
  let from = 0;
  let to = leaves.length;
  let rest = oldSize;
  // The old root itself is known to the verifier and left out while the old tree is a complete subtree from the left.
  let isOldRoot = true;
  while (rest !== to - from) {
    const size = leftSize(to - from);
    const middle = from + size;
    if (rest <= size) {
      proof.push(subtreeHash(crypto, leaves, middle, to));
      to = middle;
    } else {
      proof.push(subtreeHash(crypto, leaves, from, middle));
      from = middle;
      rest -= size;
      isOldRoot = false;
    }
  }
  if (!isOldRoot) proof.push(subtreeHash(crypto, leaves, from, to));
  return proof.reverse();
}

/** True if the tree (oldSize, oldRoot) is a prefix of the tree (size, root). @see RFC 9162, section 2.1.4.2 */
export function verifyConsistency(
  crypto: Hasher,
  oldSize: number,
  oldRoot: Uint8Array,
  size: number,
  root: Uint8Array,
  proof: readonly Uint8Array[],
): boolean {
  if (!(Number.isInteger(oldSize) && Number.isInteger(size) && oldSize >= 1 && oldSize <= size)) return false;
  if (oldSize === size) return proof.length === 0 && equalBytes(oldRoot, root);
  // A complete old tree is its own first hash.
  const isComplete = leftSize(oldSize + 1) === oldSize;
  const [first, ...path] = isComplete ? [oldRoot, ...proof] : proof;
  if (first === undefined) return false;
  let node = oldSize - 1;
  let last = size - 1;
  while (node % 2 === 1) [node, last] = up(node, last);
  let oldHash = first;
  let hash = first;
  for (const sibling of path) {
    if (last === 0) return false;
    if (node % 2 === 1 || node === last) {
      oldHash = nodeHash(crypto, sibling, oldHash);
      hash = nodeHash(crypto, sibling, hash);
      while (node % 2 === 0 && node !== 0) [node, last] = up(node, last);
    } else {
      hash = nodeHash(crypto, hash, sibling);
    }
    [node, last] = up(node, last);
  }
  return last === 0 && equalBytes(oldHash, oldRoot) && equalBytes(hash, root);
}
