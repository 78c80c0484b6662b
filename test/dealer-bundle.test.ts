import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { encodeParts, hashParts, toHex, u32le } from '../protocol/bytes.ts';
import { commitmentOf, type DealerBundle, encodeDelivery, withoutDelivery } from '../protocol/dealer-bundle.ts';
import { LABELS } from '../protocol/labels.ts';
import { inclusionProofs, treeHashes } from '../protocol/merkle.ts';
import { encodeLeaf, sealedSharesBytes } from '../protocol/messages.ts';

const bytesOf = (...numbers: readonly number[]): Uint8Array => hashParts(nodeCrypto, ...numbers.map(u32le));

/** What a dealer sent to `holders`, once as parts and once as a bundle. */
function dealt(dealer: number, holders: readonly number[], tolerance = 0) {
  const leaves = holders.map((holder) => ({
    commitmentB: bytesOf(dealer, holder, 0),
    commitmentS: bytesOf(dealer, holder, 1),
    ciphertextHash: bytesOf(dealer, holder, 2),
    commitmentsX: Array.from({ length: tolerance }, (_, k) => bytesOf(dealer, holder, 3 + k)),
  }));
  const encoded = leaves.map(encodeLeaf);
  const sealed = holders.map((holder) =>
    Uint8Array.from({ length: sealedSharesBytes(tolerance) }, (_, i) => dealer + 7 * holder + i),
  );
  const bundle: DealerBundle = {
    holders,
    tolerance,
    leaves: Uint8Array.from(encoded.flatMap((leaf) => [...leaf])),
    sealed: Uint8Array.from(sealed.flatMap((ciphertext) => [...ciphertext])),
    hashes: treeHashes(nodeCrypto, encoded),
  };
  const proofs = inclusionProofs(nodeCrypto, encoded);
  const entryFor = (holder: number): Uint8Array => {
    const at = holders.indexOf(holder);
    return encodeParts([encoded[at] as Uint8Array, sealed[at] as Uint8Array, ...(proofs[at] as Uint8Array[])]);
  };
  return { bundle, leaves, entryFor };
}

describe('what the coordinator keeps of a dealer', () => {
  it('is delivered as if every list had been encoded first, for trees of every shape', () => {
    for (let size = 1; size <= 70; size++) {
      const dealers = [0, 1, 2].map((dealer) =>
        dealt(
          dealer,
          Array.from({ length: size + dealer }, (_, i) => 3 * i + 1),
          size % 3,
        ),
      );
      const list = bytesOf(size);
      for (let i = 0; i < size; i += 1 + (size >> 3)) {
        const holder = 3 * i + 1;
        const expected = encodeParts([list, ...dealers.map(({ entryFor }) => entryFor(holder))]);
        const bundles = dealers.map(({ bundle }) => bundle);
        expect(toHex(encodeDelivery(list, bundles, holder))).toBe(toHex(expected));
      }
    }
  });

  it('still holds every commitment once nothing is delivered any more, and no ciphertext', () => {
    const { bundle, leaves } = dealt(5, [2, 4, 8, 16], 3);
    const kept = withoutDelivery(bundle);
    bundle.holders.forEach((holder, i) => {
      const { commitmentB, commitmentS, commitmentsX } = leaves[i] as (typeof leaves)[number];
      expect(commitmentOf(kept, holder, LABELS.shareB)).toEqual(commitmentB);
      expect(commitmentOf(kept, holder, LABELS.shareS)).toEqual(commitmentS);
      expect([1, 2, 3].map((root) => commitmentOf(kept, holder, LABELS.shareX, root))).toEqual(commitmentsX);
    });
    expect([kept.sealed.length, kept.hashes.length]).toEqual([0, 0]);
  });
});
