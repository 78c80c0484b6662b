import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nodeCrypto as crypto } from '../platform/node/crypto.ts';
import { concatBytes, fromHex, toHex, u32le } from '../protocol/bytes.ts';
import {
  consistencyProof,
  inclusionProof,
  inclusionProofs,
  merkleRoot,
  verifyConsistency,
  verifyInclusion,
} from '../protocol/merkle.ts';
import { codeOf } from './support/code-of.ts';

// The eight leaves, roots and proofs that implementations of RFC 6962 publish as their common test vectors.
const LEAVES = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'].map(
  fromHex,
);
const ROOTS = [
  'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
];
const FIRST_OF_EIGHT = [
  '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
  '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
  '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
];

const leavesOf = (count: number): Uint8Array[] => Array.from({ length: count }, (_, i) => u32le(i));

describe('published vectors', () => {
  it('give the roots of the first 0 to 8 leaves', () => {
    ROOTS.forEach((root, size) => {
      expect(toHex(merkleRoot(crypto, LEAVES.slice(0, size)))).toBe(root);
    });
  });

  it.each([
    [0, 8, FIRST_OF_EIGHT],
    [
      5,
      8,
      [
        'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
        'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
        'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
      ],
    ],
    [2, 3, ['fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125']],
    [
      1,
      5,
      [
        '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
        '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
        'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
      ],
    ],
  ])('give the audit path of leaf %d of %d', (index, size, path) => {
    expect(inclusionProof(crypto, LEAVES.slice(0, size), index).map(toHex)).toEqual(path);
  });

  it.each([
    [1, 1, []],
    [1, 8, FIRST_OF_EIGHT],
    [
      6,
      8,
      [
        '0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a',
        'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
        'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
      ],
    ],
    [
      2,
      5,
      [
        '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
        'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
      ],
    ],
  ])('give the consistency proof of %d and %d leaves', (oldSize, size, proof) => {
    expect(consistencyProof(crypto, LEAVES.slice(0, size), oldSize).map(toHex)).toEqual(proof);
  });
});

describe('inclusion', () => {
  it('is proved for every leaf of every small tree, and for no other leaf, index, size or root', () => {
    for (let size = 1; size <= 20; size++) {
      const leaves = leavesOf(size);
      const root = merkleRoot(crypto, leaves);
      const all = inclusionProofs(crypto, leaves);
      leaves.forEach((leaf, index) => {
        const proof = inclusionProof(crypto, leaves, index);
        expect(all[index]).toEqual(proof);
        const verify = (l: Uint8Array, i: number, s: number, p: readonly Uint8Array[], r: Uint8Array): boolean =>
          verifyInclusion(crypto, l, i, s, p, r);
        expect(verify(leaf, index, size, proof, root)).toBe(true);
        expect(verify(u32le(1_000), index, size, proof, root)).toBe(false);
        for (let other = 0; other < size; other++) {
          if (other !== index) expect(verify(leaf, other, size, proof, root)).toBe(false);
        }
        expect(verify(leaf, index, size, [...proof, root], root)).toBe(false);
        expect(verify(leaf, index, size, proof, crypto.sha256(root))).toBe(false);
        proof.forEach((sibling, at) => {
          const changed = proof.with(at, crypto.sha256(sibling));
          expect(verify(leaf, index, size, changed, root)).toBe(false);
          expect(verify(leaf, index, size, proof.toSpliced(at, 1), root)).toBe(false);
          expect(verify(leaf, index, size, proof.with(at, concatBytes(sibling, sibling)), root)).toBe(false);
        });
      });
    }
  });

  it.each([
    [-1, 4],
    [4, 4],
    [0.5, 4],
    [0, 0],
    [Number.NaN, 4],
  ])('is false for the index %d of %d', (index, size) => {
    expect(verifyInclusion(crypto, u32le(0), index, size, [], merkleRoot(crypto, [u32le(0)]))).toBe(false);
  });

  it('does not take an inner node for a leaf', () => {
    const leaves = leavesOf(4);
    const [left, right] = [merkleRoot(crypto, leaves.slice(0, 2)), merkleRoot(crypto, leaves.slice(2))];
    const root = merkleRoot(crypto, leaves);
    expect(toHex(merkleRoot(crypto, [left, right]))).not.toBe(toHex(root));
    expect(verifyInclusion(crypto, left, 0, 2, [right], root)).toBe(false);
  });
});

describe('consistency', () => {
  it('is proved for every prefix of every small tree, and for nothing else', () => {
    for (let size = 1; size <= 20; size++) {
      const leaves = leavesOf(size);
      const root = merkleRoot(crypto, leaves);
      for (let oldSize = 1; oldSize <= size; oldSize++) {
        const oldRoot = merkleRoot(crypto, leaves.slice(0, oldSize));
        const proof = consistencyProof(crypto, leaves, oldSize);
        expect(verifyConsistency(crypto, oldSize, oldRoot, size, root, proof)).toBe(true);
        const forged = merkleRoot(crypto, [...leaves.slice(0, oldSize - 1), u32le(1_000)]);
        expect(verifyConsistency(crypto, oldSize, forged, size, root, proof)).toBe(false);
        expect(verifyConsistency(crypto, oldSize, oldRoot, size, crypto.sha256(root), proof)).toBe(false);
        expect(verifyConsistency(crypto, oldSize, oldRoot, size, root, [...proof, root])).toBe(false);
        proof.forEach((hash, at) => {
          expect(verifyConsistency(crypto, oldSize, oldRoot, size, root, proof.with(at, crypto.sha256(hash)))).toBe(
            false,
          );
          expect(verifyConsistency(crypto, oldSize, oldRoot, size, root, proof.toSpliced(at, 1))).toBe(false);
        });
        if (oldSize < size) expect(verifyConsistency(crypto, oldSize, oldRoot, size, root, [])).toBe(false);
      }
    }
  });

  it.each([
    [0, 3],
    [4, 3],
    [1.5, 3],
  ])('is false for %d and %d leaves', (oldSize, size) => {
    const root = merkleRoot(crypto, leavesOf(3));
    expect(verifyConsistency(crypto, oldSize, root, size, root, [])).toBe(false);
  });
});

describe('large trees', () => {
  it('prove inclusion and consistency', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 400 }), fc.nat(), fc.nat(), (size, a, b) => {
        const leaves = leavesOf(size);
        const root = merkleRoot(crypto, leaves);
        const index = a % size;
        const oldSize = 1 + (b % size);
        expect(verifyInclusion(crypto, u32le(index), index, size, inclusionProof(crypto, leaves, index), root)).toBe(
          true,
        );
        const oldRoot = merkleRoot(crypto, leaves.slice(0, oldSize));
        expect(verifyConsistency(crypto, oldSize, oldRoot, size, root, consistencyProof(crypto, leaves, oldSize))).toBe(
          true,
        );
      }),
      { numRuns: 30 },
    );
  });

  it('refuse to prove what is not there', () => {
    for (const index of [-1, 3, 0.5])
      expect(codeOf(() => inclusionProof(crypto, leavesOf(3), index))).toBe('USAGE_RANGE');
    for (const oldSize of [0, 4, 0.5])
      expect(codeOf(() => consistencyProof(crypto, leavesOf(3), oldSize))).toBe('USAGE_RANGE');
    expect(inclusionProofs(crypto, [])).toEqual([]);
  });
});
