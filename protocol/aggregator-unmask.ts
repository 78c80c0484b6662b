import type { AggregatorSession, MemberOpenings, RevealedSecrets } from './aggregator-state.ts';
import { decodeParts, equalBytes, toHex } from './bytes.ts';
import { arePeers, type Cohort, type Dealers, dealersFor } from './cohort.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { commitmentOf, type DealerBundle } from './dealer-bundle.ts';
import { CoveyError } from './errors.ts';
import { commitSelfSeed, commitShare, pairMaskSeed, pairSign, selfMaskSeed } from './key-schedule.ts';
import { LABELS } from './labels.ts';
import { type Advertisement, readFields } from './messages.ts';
import type { Agreement } from './participant-unmask.ts';
import { rankOf } from './roster.ts';
import type { MaskSeed, SessionMessage } from './session.ts';
import { combineShares } from './shamir.ts';

/** Checks every opening of a P5 reply against the dealers' commitments. @throws CoveyError CRYPTO_SHARE for a bad one */
export function checkOpenings(
  crypto: CryptoProvider,
  session: AggregatorSession,
  holder: Uint8Array,
  message: SessionMessage,
): MemberOpenings {
  const { sid, cohort, dealers, agreement, bundles } = session;
  const [, h3, bundleHash] = readFields(message.body, [32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array];
  if (!equalBytes(h3, agreement.h3)) throw new CoveyError('PROTO_EQUIVOCATION', '"h3" expected the agreed survivors');
  if (!equalBytes(bundleHash, crypto.sha256(message.attachment)))
    throw new CoveyError('CODEC_TYPE', '"openings" do not match their signed hash');
  const rank = rankOf(cohort.advertisements, holder);
  const held = dealersFor(cohort, dealers, rank);
  const openings = decodeParts(message.attachment.slice(), held.length);
  return new Map(
    held.map((dealer, i) => {
      const [share, opening] = readFields(openings[i] as Uint8Array, [32, 32]) as [Uint8Array, Uint8Array];
      const { id } = cohort.advertisements[dealer] as Advertisement;
      const label = rankOf(agreement.survivors, id) >= 0 ? LABELS.shareB : LABELS.shareS;
      const commitment = commitShare(crypto, label, sid, id, holder, share, opening);
      if (!equalBytes(commitment, commitmentOf(bundles.get(dealer) as DealerBundle, rank, label))) {
        throw new CoveyError('CRYPTO_SHARE', '"share" does not open its commitment', { holder: toHex(holder) });
      }
      return [dealer, share];
    }),
  );
}

/** Openings of the secret that has fewest. */
export function fewestOpenings({ coverage }: AggregatorSession): number {
  return coverage.reduce((least, count) => Math.min(least, count), Number.POSITIVE_INFINITY);
}

const advertisementOf = ({ advertisements }: Cohort, id: Uint8Array): Advertisement =>
  advertisements[rankOf(advertisements, id)] as Advertisement;

/**
 * Checks a secret against what its dealer published in P1: H(b) = cb for a survivor, X25519(base, eskMask) = epkMask for a
 * member that dropped.
 */
export function isPublishedSecret(
  crypto: CryptoProvider,
  sid: Uint8Array,
  cohort: Cohort,
  dealer: Uint8Array,
  survived: boolean,
  secret: Uint8Array,
): boolean {
  if (secret.length !== 32) return false;
  const { seedCommitment, maskKey } = advertisementOf(cohort, dealer);
  return survived
    ? equalBytes(commitSelfSeed(crypto, sid, dealer, secret), seedCommitment)
    : equalBytes(crypto.x25519PublicKey(secret), maskKey);
}

/**
 * Reconstructs each secret from exactly t openings. `liars`: dealers whose valid openings give another secret than the one
 * they published, which proves that they dealt inconsistent shares.
 */
export function reconstructSecrets(
  crypto: CryptoProvider,
  session: AggregatorSession,
): { readonly secrets: RevealedSecrets; readonly liars: readonly Uint8Array[] } {
  const { sid, cohort, dealers, agreement, bundles } = session;
  const openingsOf = cohort.advertisements.map(({ id }) => session.openings.get(toHex(id)));
  const liars: Uint8Array[] = [];
  const secrets = dealers.dealers.map(({ id }) => {
    const dealer = rankOf(cohort.advertisements, id);
    const { holders } = bundles.get(dealer) as DealerBundle;
    const shares: { x: number; share: Uint8Array }[] = [];
    for (let i = 0; i < holders.length && shares.length < cohort.threshold; i++) {
      const share = openingsOf[holders[i] as number]?.get(dealer);
      if (share !== undefined) shares.push({ x: i + 1, share });
    }
    const secret = combineShares(shares, holders.length);
    if (!isPublishedSecret(crypto, sid, cohort, id, rankOf(agreement.survivors, id) >= 0, secret)) liars.push(id);
    return secret;
  });
  return { secrets, liars };
}

/**
 * Seeds that take all masks off the sum of U3: the self mask of every survivor, and what is left of the pair masks between
 * survivors and members that dropped. Shapes: `secrets` in order of U2.
 */
export function unmaskSeeds(
  crypto: CryptoProvider,
  sid: Uint8Array,
  cohort: Cohort,
  { dealers, h2 }: Dealers,
  { survivors }: Agreement,
  secrets: RevealedSecrets,
): MaskSeed[] {
  return dealers.flatMap(({ id }, i): MaskSeed[] => {
    const secret = secrets[i] as Uint8Array;
    if (rankOf(survivors, id) >= 0) return [{ seed: selfMaskSeed(crypto, secret, sid, h2, id), sign: -1 }];
    const rank = rankOf(cohort.advertisements, id);
    const peers = survivors.filter((survivor) => arePeers(cohort, rank, rankOf(cohort.advertisements, survivor.id)));
    return peers.map(({ id: survivor }): MaskSeed => {
      const shared = crypto.x25519Agree(secret, advertisementOf(cohort, survivor).maskKey);
      const seed = pairMaskSeed(crypto, shared, sid, h2, id, survivor);
      shared.fill(0);
      // The survivor added its side of the pair; the opposite sign takes it off.
      return { seed, sign: pairSign(id, survivor) };
    });
  });
}
