import { compareBytes, encodeParts, hashParts, utf8 } from './bytes.ts';
import type { CryptoProvider, RandomSource } from './crypto-provider.ts';
import { LABELS } from './labels.ts';
import type { MaskSeed } from './session.ts';

/** Secrets of one member in one session, all expanded from the entropy that came with P0. Never on disk. */
export interface SessionSecrets {
  readonly encryptionSecret: Uint8Array;
  readonly maskSecret: Uint8Array;
  readonly selfSeed: Uint8Array;
  /** r: this member's part of the graph seed; of use in the sparse profile only. */
  readonly graphSeed: Uint8Array;
  /** s_1: root of the seeds of removable noise; of use in sessions with a tolerance only. */
  readonly noiseRoot: Uint8Array;
  /** Key of the stream of polynomial coefficients and openings. */
  readonly sharingKey: Uint8Array;
}

/** Expands 32 bytes of entropy by label. Secrets: `entropy` serves nothing else and is wiped by the caller. */
export function expandEntropy(crypto: CryptoProvider, entropy: Uint8Array, sid: Uint8Array): SessionSecrets {
  const expand = (use: string): Uint8Array =>
    crypto.hkdfSha256(entropy, sid, encodeParts([utf8(LABELS.entropy), utf8(use)]), 32);
  return {
    encryptionSecret: expand('encryption'),
    maskSecret: expand('mask'),
    selfSeed: expand('self'),
    graphSeed: expand('graph'),
    noiseRoot: expand('noise'),
    sharingKey: expand('sharing'),
  };
}

/** Uniform bytes from a keystream, in order. */
export function streamSource(crypto: CryptoProvider, key: Uint8Array): RandomSource {
  const stream = crypto.aes256Ctr(key);
  return (length) => {
    const bytes = new Uint8Array(length);
    stream.read(bytes);
    return bytes;
  };
}

export function commitSelfSeed(crypto: CryptoProvider, sid: Uint8Array, id: Uint8Array, seed: Uint8Array): Uint8Array {
  return hashParts(crypto, utf8(LABELS.selfSeedCommitment), sid, id, seed);
}

export function commitGraphSeed(crypto: CryptoProvider, sid: Uint8Array, id: Uint8Array, seed: Uint8Array): Uint8Array {
  return hashParts(crypto, utf8(LABELS.graphSeedCommitment), sid, id, seed);
}

/** Seed of the sparse graph: H(sid, h1, reveals in order of id). */
export function hashReveals(
  crypto: CryptoProvider,
  sid: Uint8Array,
  h1: Uint8Array,
  seeds: readonly Uint8Array[],
): Uint8Array {
  return hashParts(crypto, utf8(LABELS.graph), sid, h1, ...seeds);
}

// A session opens as many shares as it has pairs of members.
const SHARE_LABELS = {
  [LABELS.shareB]: utf8(LABELS.shareB),
  [LABELS.shareS]: utf8(LABELS.shareS),
  [LABELS.shareX]: utf8(LABELS.shareX),
} as const;

/** C^B, C^S or C^X of SPEC section 4, P2: binds one share to its dealer and holder; each opens without the others. */
export function commitShare(
  crypto: CryptoProvider,
  label: typeof LABELS.shareB | typeof LABELS.shareS | typeof LABELS.shareX,
  sid: Uint8Array,
  dealer: Uint8Array,
  holder: Uint8Array,
  share: Uint8Array,
  opening: Uint8Array,
): Uint8Array {
  const labelBytes = SHARE_LABELS[label];
  return hashParts(crypto, labelBytes, sid, dealer, holder, share, opening);
}

/** Key of the ciphertext from `dealer` to `holder`; both ends derive it from X25519 of their encryption keys. */
export function encryptionKey(
  crypto: CryptoProvider,
  shared: Uint8Array,
  sid: Uint8Array,
  dealer: Uint8Array,
  holder: Uint8Array,
): Uint8Array {
  return crypto.hkdfSha256(shared, sid, encodeParts([utf8(LABELS.encryption), dealer, holder]), 32);
}

/** Seed of the self mask, bound to h2. */
export function selfMaskSeed(
  crypto: CryptoProvider,
  selfSeed: Uint8Array,
  sid: Uint8Array,
  h2: Uint8Array,
  id: Uint8Array,
): Uint8Array {
  return crypto.hkdfSha256(selfSeed, sid, encodeParts([utf8(LABELS.selfMask), h2, id]), 32);
}

/**
 * Seed of the pair mask from X25519 of two mask keys, bound to h2: different views of the cohort give masks that do not
 * cancel.
 */
export function pairMaskSeed(
  crypto: CryptoProvider,
  shared: Uint8Array,
  sid: Uint8Array,
  h2: Uint8Array,
  a: Uint8Array,
  b: Uint8Array,
): Uint8Array {
  const [low, high] = compareBytes(a, b) < 0 ? [a, b] : [b, a];
  return crypto.hkdfSha256(shared, sid, encodeParts([utf8(LABELS.pairMask), h2, low, high]), 32);
}

/** sgn(u - v): with which sign u adds the pair mask. */
export function pairSign(u: Uint8Array, v: Uint8Array): MaskSeed['sign'] {
  return compareBytes(u, v) > 0 ? 1 : -1;
}

/** h1 = H(sid, P1 bodies in order of id). */
export function hashAdvertisements(crypto: CryptoProvider, sid: Uint8Array, bodies: readonly Uint8Array[]): Uint8Array {
  return hashParts(crypto, utf8(LABELS.h1), sid, ...bodies);
}

/** h2 = H(sid, h1, U2 as pairs (id, root) in order). */
export function hashDealers(
  crypto: CryptoProvider,
  sid: Uint8Array,
  h1: Uint8Array,
  pairs: readonly (readonly [Uint8Array, Uint8Array])[],
): Uint8Array {
  return hashParts(crypto, utf8(LABELS.h2), sid, h1, ...pairs.flat());
}

/** h3 = H(sid, h2, pairs (id, digest) in order). */
export function hashUploads(
  crypto: CryptoProvider,
  sid: Uint8Array,
  h2: Uint8Array,
  pairs: readonly (readonly [Uint8Array, Uint8Array])[],
): Uint8Array {
  return hashParts(crypto, utf8(LABELS.h3), sid, h2, ...pairs.flat());
}
