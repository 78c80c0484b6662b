import { decodeParts, equalBytes, writeLength } from './bytes.ts';
import { type Cohort, holdersOf } from './cohort.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import { LABELS } from './labels.ts';
import { HASH_BYTES, siblingsOf, treeHashes } from './merkle.ts';
import { decodeDealing, decodeLeaf, LEAF_BYTES, SEALED_SHARES_BYTES } from './messages.ts';
import type { SessionMessage } from './session.ts';

/**
 * What one dealer sent, in order of its holders. Flat: a large cohort has as many leaves as pairs of neighbours, and an
 * object for each of them would cost more than its bytes.
 */
export interface DealerBundle {
  /** Ranks of the holders in U1, ascending. */
  readonly holders: readonly number[];
  /** LEAF_BYTES for each holder. */
  readonly leaves: Uint8Array;
  /** SEALED_SHARES_BYTES for each holder, zeros for the dealer itself; empty once nothing is delivered any more. */
  readonly sealed: Uint8Array;
  /** `treeHashes` over the leaves; empty once nothing is delivered any more. */
  readonly hashes: Uint8Array;
}

const NOTHING = new Uint8Array(0);

/** P2: commitments and ciphertexts, checked against the root that the dealer signed. @throws CoveyError */
export function readBundle(
  crypto: CryptoProvider,
  cohort: Cohort,
  ownRank: number,
  message: Pick<SessionMessage, 'body' | 'attachment'>,
): DealerBundle {
  const holders = holdersOf(cohort, ownRank);
  const dealing = decodeDealing(message.body);
  if (!equalBytes(dealing.h1, cohort.h1))
    throw new CoveyError('PROTO_EQUIVOCATION', '"h1" expected the list that was sent');
  const parts = decodeParts(message.attachment, 2 * holders.length);
  const hashes = treeHashes(
    crypto,
    parts.filter((_, i) => i % 2 === 0),
  );
  if (!equalBytes(hashes.subarray(-HASH_BYTES), dealing.root))
    throw new CoveyError('CRYPTO_COMMITMENT', '"root" expected the root of the commitments');
  const leaves = new Uint8Array(LEAF_BYTES * holders.length);
  const sealed = new Uint8Array(SEALED_SHARES_BYTES * holders.length);
  holders.forEach((holder, i) => {
    const [leaf, ciphertext] = [parts[2 * i] as Uint8Array, parts[2 * i + 1] as Uint8Array];
    // The dealer's own shares stay at home.
    const expected = holder === ownRank ? 0 : SEALED_SHARES_BYTES;
    if (ciphertext.length !== expected)
      throw new CoveyError('CRYPTO_COMMITMENT', `"ciphertext" expected ${expected} bytes, got ${ciphertext.length}`);
    if (!equalBytes(decodeLeaf(leaf).ciphertextHash, crypto.sha256(ciphertext)))
      throw new CoveyError('CRYPTO_COMMITMENT', '"ciphertext" expected its committed hash');
    leaves.set(leaf, LEAF_BYTES * i);
    sealed.set(ciphertext, SEALED_SHARES_BYTES * i);
  });
  return { holders, leaves, sealed, hashes };
}

/** Commitments are needed to check openings; nobody needs ciphertexts and paths any more. */
export const withoutDelivery = (bundle: DealerBundle): DealerBundle => ({
  ...bundle,
  sealed: NOTHING,
  hashes: NOTHING,
});

/** Commitment to the share of a holder, by its rank in U1, in one of the two secrets. Leaves were decoded when they came. */
export function commitmentOf(
  { holders, leaves }: DealerBundle,
  holder: number,
  label: typeof LABELS.shareB | typeof LABELS.shareS,
): Uint8Array {
  // Parts of 32 bytes behind their lengths: see `encodeLeaf`.
  const at = LEAF_BYTES * holders.indexOf(holder) + (label === LABELS.shareB ? 4 : 40);
  return leaves.subarray(at, at + HASH_BYTES);
}

function copy(target: Uint8Array, at: number, source: Uint8Array, from: number, length: number): number {
  for (let i = 0; i < length; i++) target[at + i] = source[from + i] as number;
  return at + length;
}

/**
 * `encodeParts([list, ...entries])`, written once: an entry is `encodeParts([leaf, ciphertext, ...path])` of one dealer
 * for this holder.
 */
export function encodeDelivery(list: Uint8Array, bundles: readonly DealerBundle[], holder: number): Uint8Array {
  const places = bundles.map(({ holders }) => {
    const index = holders.indexOf(holder);
    const path = siblingsOf(holders.length, index);
    return { index, path, length: 8 + LEAF_BYTES + SEALED_SHARES_BYTES + path.length * (4 + HASH_BYTES) };
  });
  const joined = new Uint8Array(places.reduce((sum, { length }) => sum + 4 + length, 4 + list.length));
  joined.set(list, writeLength(joined, 0, list.length));
  let at = 4 + list.length;
  bundles.forEach(({ leaves, sealed, hashes }, i) => {
    const { index, path, length } = places[i] as (typeof places)[number];
    at = writeLength(joined, at, length);
    at = copy(joined, writeLength(joined, at, LEAF_BYTES), leaves, LEAF_BYTES * index, LEAF_BYTES);
    at = writeLength(joined, at, SEALED_SHARES_BYTES);
    at = copy(joined, at, sealed, SEALED_SHARES_BYTES * index, SEALED_SHARES_BYTES);
    for (const sibling of path)
      at = copy(joined, writeLength(joined, at, HASH_BYTES), hashes, HASH_BYTES * sibling, HASH_BYTES);
  });
  return joined;
}
