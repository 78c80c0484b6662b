import { decodeParts, equalBytes, toHex } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import { commitSelfSeed, commitShare } from './key-schedule.ts';
import { LABELS } from './labels.ts';
import { type Advertisement, decodeLeaf, readFields, type SignedBody } from './messages.ts';
import { type Dealer, rankOf } from './participant-phases.ts';
import { combineShares } from './shamir.ts';
import type { Phase, SessionMessage, SessionParams } from './session.ts';

/** Shares that one member opened in P5, one for each dealer of U2 in order. */
export interface MemberOpenings {
  readonly shares: readonly Uint8Array[];
  /** The member's rank in U1; its x coordinate is one more. */
  readonly rank: number;
}

/** What P5 gave back: self seeds of the survivors, mask keys of the dropped. By hex id. */
export interface RevealedSecrets {
  readonly selfSeeds: ReadonlyMap<string, Uint8Array>;
  readonly maskSecrets: ReadonlyMap<string, Uint8Array>;
  /** A dealer whose valid openings give another secret than it committed to. */
  readonly liar: Uint8Array | null;
}

/** One session as the coordinator lives it. */
export interface AggregatorSession {
  readonly params: SessionParams;
  readonly sid: Uint8Array;
  readonly phase: Phase;
  readonly opening: SessionMessage;
  /** Members of whom this phase expects an answer. */
  readonly expected: readonly Uint8Array[];
  readonly received: ReadonlyMap<string, { readonly id: Uint8Array; readonly message: SessionMessage }>;
  readonly lost: ReadonlySet<string>;
  /** Last message to each member, for those who come back. */
  readonly outbox: ReadonlyMap<string, SessionMessage>;
  /** Set once the certificate has been sent. */
  readonly outboxPhase?: 'unmask';
  readonly advertisements: readonly Advertisement[];
  readonly p1: readonly SignedBody[];
  readonly threshold: number;
  readonly h1: Uint8Array | null;
  readonly dealers: readonly Dealer[];
  readonly p2: readonly SignedBody[];
  readonly bundles: ReadonlyMap<string, { readonly leaves: readonly Uint8Array[]; readonly ciphertexts: readonly Uint8Array[]; readonly proofs: readonly (readonly Uint8Array[])[] }>;
  readonly h2: Uint8Array | null;
  readonly p3: readonly SignedBody[];
  readonly survivors: readonly { readonly id: Uint8Array; readonly digest: Uint8Array }[];
  readonly uploads: ReadonlyMap<string, { readonly message: SessionMessage; readonly vector: Uint8Array | null }>;
  readonly h3: Uint8Array | null;
  readonly p4: readonly SignedBody[];
  readonly openings: ReadonlyMap<string, MemberOpenings>;
  readonly secrets: RevealedSecrets | null;
  readonly accused: readonly Uint8Array[];
  readonly closed: boolean;
}

/** Checks every opening of a P5 reply against the dealers' commitments. @throws CoveyError CRYPTO_SHARE for a bad one */
export function checkOpenings(crypto: CryptoProvider, session: AggregatorSession, holder: Uint8Array, message: SessionMessage): MemberOpenings {
  const { sid, dealers, advertisements, survivors, bundles } = session;
  const [, h3, bundleHash] = readFields(message.body, [32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array];
  if (!equalBytes(h3, session.h3 as Uint8Array)) throw new CoveyError('PROTO_EQUIVOCATION', '"h3" expected the agreed survivors');
  if (!equalBytes(bundleHash, crypto.sha256(message.attachment))) throw new CoveyError('CODEC_TYPE', '"openings" do not match their signed hash');
  const rank = rankOf(advertisements, holder);
  const openings = decodeParts(message.attachment, dealers.length);
  const shares = dealers.map(({ id }, i) => {
    const [share, opening] = readFields(openings[i] as Uint8Array, [32, 32]) as [Uint8Array, Uint8Array];
    const leaf = decodeLeaf(bundles.get(toHex(id))?.leaves[rank] as Uint8Array);
    const survived = rankOf(survivors, id) >= 0;
    const commitment = commitShare(crypto, survived ? LABELS.shareB : LABELS.shareS, sid, id, holder, share, opening);
    if (!equalBytes(commitment, survived ? leaf.commitmentB : leaf.commitmentS)) {
      throw new CoveyError('CRYPTO_SHARE', '"share" does not open its commitment', { holder: toHex(holder) });
    }
    return share.slice();
  });
  return { shares, rank };
}

/** Reconstructs each secret from exactly t openings and checks it against what its dealer published in P1. */
export function reconstructSecrets(crypto: CryptoProvider, session: AggregatorSession): RevealedSecrets {
  const { sid, dealers, advertisements, survivors, threshold } = session;
  const replies = [...session.openings.values()].sort((a, b) => a.rank - b.rank).slice(0, threshold);
  const selfSeeds = new Map<string, Uint8Array>();
  const maskSecrets = new Map<string, Uint8Array>();
  let liar: Uint8Array | null = null;
  dealers.forEach(({ id }, i) => {
    const secret = combineShares(replies.map(({ rank, shares }) => ({ x: rank + 1, share: shares[i] as Uint8Array })), advertisements.length);
    const published = advertisements[rankOf(advertisements, id)] as Advertisement;
    if (rankOf(survivors, id) >= 0) {
      if (!equalBytes(commitSelfSeed(crypto, sid, id, secret), published.seedCommitment)) liar ??= id;
      selfSeeds.set(toHex(id), secret);
    } else {
      if (!equalBytes(crypto.x25519PublicKey(secret), published.maskKey)) liar ??= id;
      maskSecrets.set(toHex(id), secret);
    }
  });
  return { selfSeeds, maskSecrets, liar };
}
