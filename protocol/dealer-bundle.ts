import { decodeParts, equalBytes, writeLength } from './bytes.ts';
import { type Cohort, holdersOf } from './cohort.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import { LABELS } from './labels.ts';
import { HASH_BYTES, siblingsOf, treeHashes } from './merkle.ts';
import { ciphertextHashOf, decodeDealing, leafBytes, sealedSharesBytes } from './messages.ts';
import type { SessionMessage } from './session.ts';

/**
 * What one dealer sent, in order of its holders. Flat: a large cohort has as many leaves as pairs of neighbours, and an
 * object for each of them would cost more than its bytes.
 */
export interface DealerBundle {
  /** Ranks of the holders in U1, ascending. */
  readonly holders: readonly number[];
  /** Most losses that removable noise is made for; 0 without it. */
  readonly tolerance: number;
  /** `leafBytes` for each holder. */
  readonly leaves: Uint8Array;
  /** `sealedSharesBytes` for each holder, zeros for the dealer itself; empty once nothing is delivered any more. */
  readonly sealed: Uint8Array;
  /** `treeHashes` over the leaves; empty once nothing is delivered any more. */
  readonly hashes: Uint8Array;
}

const NOTHING = new Uint8Array(0);

/** P2: commitments and ciphertexts, checked against the root that the dealer signed. @throws CoveyError */
export function readBundle(
  crypto: CryptoProvider,
  cohort: Cohort,
  tolerance: number,
  ownRank: number,
  message: Pick<SessionMessage, 'body' | 'attachment'>,
): DealerBundle {
  const holders = holdersOf(cohort, ownRank);
  const dealing = decodeDealing(message.body);
  if (!equalBytes(dealing.h1, cohort.h1))
    throw new CoveyError('PROTO_EQUIVOCATION', '"h1" expected the list that was sent');
  const parts = decodeParts(message.attachment, 2 * holders.length);
  const encodedLeaves: Uint8Array[] = [];
  for (let i = 0; i < parts.length; i += 2) encodedLeaves.push(parts[i] as Uint8Array);
  const hashes = treeHashes(crypto, encodedLeaves);
  if (!equalBytes(hashes.subarray(-HASH_BYTES), dealing.root))
    throw new CoveyError('CRYPTO_COMMITMENT', '"root" expected the root of the commitments');
  const [leafLength, sealedLength] = [leafBytes(tolerance), sealedSharesBytes(tolerance)];
  const leaves = new Uint8Array(leafLength * holders.length);
  const sealed = new Uint8Array(sealedLength * holders.length);
  for (let i = 0; i < holders.length; i++) {
    const [leaf, ciphertext] = [parts[2 * i] as Uint8Array, parts[2 * i + 1] as Uint8Array];
    // The dealer's own shares stay at home.
    const expected = holders[i] === ownRank ? 0 : sealedLength;
    if (ciphertext.length !== expected)
      throw new CoveyError('CRYPTO_COMMITMENT', `"ciphertext" expected ${expected} bytes, got ${ciphertext.length}`);
    if (!equalBytes(ciphertextHashOf(leaf, tolerance), crypto.sha256(ciphertext)))
      throw new CoveyError('CRYPTO_COMMITMENT', '"ciphertext" expected its committed hash');
    leaves.set(leaf, leafLength * i);
    sealed.set(ciphertext, sealedLength * i);
  }
  return { holders, tolerance, leaves, sealed, hashes };
}

/** Commitments are needed to check openings; nobody needs ciphertexts and paths any more. */
export const withoutDelivery = (bundle: DealerBundle): DealerBundle => ({
  ...bundle,
  sealed: NOTHING,
  hashes: NOTHING,
});

/** Which of the secrets of a dealer a share is of. */
export type ShareLabel = typeof LABELS.shareB | typeof LABELS.shareS | typeof LABELS.shareX;

/**
 * Commitment to the share of a holder, by its rank in U1. `root`: number of the noise root from 1, with its label only.
 * Leaves were decoded when they came.
 */
export function commitmentOf(
  { holders, leaves, tolerance }: DealerBundle,
  holder: number,
  label: ShareLabel,
  root: number = 0,
): Uint8Array {
  // Parts of 32 bytes behind their lengths, the hash of the ciphertext third: see `encodeLeaf`.
  const part = label === LABELS.shareB ? 0 : label === LABELS.shareS ? 1 : 2 + root;
  const at = leafBytes(tolerance) * holders.indexOf(holder) + part * (4 + HASH_BYTES) + 4;
  return leaves.subarray(at, at + HASH_BYTES);
}

/** Where in a dealer's bundle the entry of one holder lies, and the bytes of that entry. */
interface EntryPlace {
  readonly holders: readonly number[];
  readonly index: number;
  readonly path: readonly number[];
  readonly length: number;
}

/** In the strict profile all dealers have the same list of holders, hence one place. */
function placesOf(bundles: readonly DealerBundle[], holder: number): EntryPlace[] {
  const tolerance = bundles[0]?.tolerance ?? 0;
  const contentBytes = 8 + leafBytes(tolerance) + sealedSharesBytes(tolerance);
  const places: EntryPlace[] = [];
  for (const { holders } of bundles) {
    const before = places.at(-1);
    if (before?.holders === holders) {
      places.push(before);
      continue;
    }
    const index = holders.indexOf(holder);
    const path = siblingsOf(holders.length, index);
    places.push({ holders, index, path, length: contentBytes + path.length * (4 + HASH_BYTES) });
  }
  return places;
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
  const [leafLength, sealedLength] = [
    leafBytes(bundles[0]?.tolerance ?? 0),
    sealedSharesBytes(bundles[0]?.tolerance ?? 0),
  ];
  const places = placesOf(bundles, holder);
  let totalBytes = 4 + list.length;
  for (const { length } of places) totalBytes += 4 + length;
  const joined = new Uint8Array(totalBytes);
  joined.set(list, writeLength(joined, 0, list.length));
  let at = 4 + list.length;
  for (let i = 0; i < bundles.length; i++) {
    const { leaves, sealed, hashes } = bundles[i] as DealerBundle;
    const { index, path, length } = places[i] as EntryPlace;
    at = writeLength(joined, at, length);
    at = copy(joined, writeLength(joined, at, leafLength), leaves, leafLength * index, leafLength);
    at = writeLength(joined, at, sealedLength);
    at = copy(joined, at, sealed, sealedLength * index, sealedLength);
    for (const sibling of path)
      at = copy(joined, writeLength(joined, at, HASH_BYTES), hashes, HASH_BYTES * sibling, HASH_BYTES);
  }
  return joined;
}
