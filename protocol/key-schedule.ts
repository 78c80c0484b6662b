import { compareBytes, encodeParts, hashParts, utf8 } from './bytes.ts';
import type { CryptoProvider, RandomSource } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import { LABELS } from './labels.ts';
import type { MaskSeed, Roster, RosterEntry, SessionParams } from './session.ts';

/** Secrets of one member in one session, all expanded from the entropy that came with P0. Never on disk. */
export interface SessionSecrets {
  readonly encryptionSecret: Uint8Array;
  readonly maskSecret: Uint8Array;
  readonly selfSeed: Uint8Array;
  /** Key of the stream of polynomial coefficients and openings. */
  readonly sharingKey: Uint8Array;
}

/** Expands 32 bytes of entropy by label. Secrets: `entropy` serves nothing else and is wiped by the caller. */
export function expandEntropy(crypto: CryptoProvider, entropy: Uint8Array, sid: Uint8Array): SessionSecrets {
  const expand = (use: string): Uint8Array => crypto.hkdfSha256(entropy, sid, encodeParts([utf8(LABELS.entropy), utf8(use)]), 32);
  return { encryptionSecret: expand('encryption'), maskSecret: expand('mask'), selfSeed: expand('self'), sharingKey: expand('sharing') };
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

/** C^B or C^S of SPEC section 4, P2: binds one share to its dealer and holder; either opens without the other. */
export function commitShare(
  crypto: CryptoProvider,
  label: typeof LABELS.shareB | typeof LABELS.shareS,
  sid: Uint8Array,
  dealer: Uint8Array,
  holder: Uint8Array,
  share: Uint8Array,
  opening: Uint8Array,
): Uint8Array {
  return hashParts(crypto, utf8(label), sid, dealer, holder, share, opening);
}

/** Key of the ciphertext from `dealer` to `holder`; both ends derive it. */
export function encryptionKey(crypto: CryptoProvider, secret: Uint8Array, peerKey: Uint8Array, sid: Uint8Array, dealer: Uint8Array, holder: Uint8Array): Uint8Array {
  const shared = crypto.x25519Agree(secret, peerKey);
  const key = crypto.hkdfSha256(shared, sid, encodeParts([utf8(LABELS.encryption), dealer, holder]), 32);
  shared.fill(0);
  return key;
}

/** Seed of the self mask, bound to h2. */
export function selfMaskSeed(crypto: CryptoProvider, selfSeed: Uint8Array, sid: Uint8Array, h2: Uint8Array, id: Uint8Array): Uint8Array {
  return crypto.hkdfSha256(selfSeed, sid, encodeParts([utf8(LABELS.selfMask), h2, id]), 32);
}

/** Seed of the pair mask, bound to h2, so that different views of the cohort give masks that do not cancel. */
export function pairMaskSeed(crypto: CryptoProvider, secret: Uint8Array, peerKey: Uint8Array, sid: Uint8Array, h2: Uint8Array, a: Uint8Array, b: Uint8Array): Uint8Array {
  const [low, high] = compareBytes(a, b) < 0 ? [a, b] : [b, a];
  const shared = crypto.x25519Agree(secret, peerKey);
  const seed = crypto.hkdfSha256(shared, sid, encodeParts([utf8(LABELS.pairMask), h2, low, high]), 32);
  shared.fill(0);
  return seed;
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
export function hashDealers(crypto: CryptoProvider, sid: Uint8Array, h1: Uint8Array, pairs: readonly (readonly [Uint8Array, Uint8Array])[]): Uint8Array {
  return hashParts(crypto, utf8(LABELS.h2), sid, h1, ...pairs.flat());
}

/** h3 = H(sid, h2, pairs (id, digest) in order). */
export function hashUploads(crypto: CryptoProvider, sid: Uint8Array, h2: Uint8Array, pairs: readonly (readonly [Uint8Array, Uint8Array])[]): Uint8Array {
  return hashParts(crypto, utf8(LABELS.h3), sid, h2, ...pairs.flat());
}

/** Strict threshold, computed by every member from |U1| alone. */
export function strictThreshold(members: number): number {
  return Math.floor((2 * members) / 3) + 1;
}

/** fit(U) of SPEC section 4. @throws CoveyError PROTO_COHORT, AUTH_UNKNOWN, AUTH_REVOKED, PRIVACY_COHORT_TOO_SMALL */
export function requireFit(roster: Roster, params: SessionParams, ids: readonly Uint8Array[], threshold: number): RosterEntry[] {
  const members = ids.map((id, i) => {
    const before = ids[i - 1];
    if (before !== undefined && compareBytes(before, id) >= 0) throw new CoveyError('PROTO_COHORT', '"members" expected distinct ids in order');
    const entry = findEntry(roster, id);
    if (entry === undefined) throw new CoveyError('AUTH_UNKNOWN', '"members" expected ids of the roster');
    if (roster.revoked.some((revoked) => compareBytes(revoked, id) === 0)) throw new CoveyError('AUTH_REVOKED', '"members" holds a revoked id');
    return entry;
  });
  const fewest = Math.max(threshold, params.minSurvivors);
  if (members.length < fewest) throw new CoveyError('PRIVACY_COHORT_TOO_SMALL', `"members" expected at least ${fewest}, got ${members.length}`);
  const organizations = new Set(members.map(({ organization }) => organization)).size;
  if (organizations < params.minOrgs) throw new CoveyError('PRIVACY_COHORT_TOO_SMALL', `"organizations" expected at least ${params.minOrgs}, got ${organizations}`);
  return members;
}

export function findEntry(roster: Roster, id: Uint8Array): RosterEntry | undefined {
  return roster.entries.find((entry) => compareBytes(entry.id, id) === 0);
}
