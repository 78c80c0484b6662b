import type { AggregatorSession, MemberOpenings, RevealedSecrets } from './aggregator-state.ts';
import { concatBytes, decodeParts, equalBytes, toHex } from './bytes.ts';
import { arePeers, type Cohort, type Dealers, dealersFor } from './cohort.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { commitmentOf, type DealerBundle, type ShareLabel } from './dealer-bundle.ts';
import { CoveyError } from './errors.ts';
import { commitSelfSeed, commitShare, pairMaskSeed, pairSign, selfMaskSeed } from './key-schedule.ts';
import { LABELS } from './labels.ts';
import { type Advertisement, readFields } from './messages.ts';
import { chainEnd, componentCount, componentSeeds, firstRemoved, toleranceOf } from './noise-seeds.ts';
import type { Agreement } from './participant-unmask.ts';
import { rankOf } from './roster.ts';
import type { MaskSeed, NoiseComponent, SessionMessage, SessionParams } from './session.ts';
import { combineShares } from './shamir.ts';

/** One secret of a dealer whose share is opened. `root`: see `commitmentOf`. */
interface Opened {
  readonly label: ShareLabel;
  readonly root: number;
}

// Lengths of the fields in one dealer's openings: share and randomness of its commitment, once or twice.
const ONE_OPENING: readonly number[] = [32, 32];
const TWO_OPENINGS: readonly number[] = [32, 32, 32, 32];

/** Checks every opening of a P5 reply against the dealers' commitments. @throws CoveyError CRYPTO_SHARE for a bad one */
export function checkOpenings(
  crypto: CryptoProvider,
  session: AggregatorSession,
  holder: Uint8Array,
  message: SessionMessage,
): MemberOpenings {
  const { params, sid, cohort, dealers, agreement, bundles } = session;
  const [, h3, bundleHash] = readFields(message.body, [32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array];
  if (!equalBytes(h3, agreement.h3)) throw new CoveyError('PROTO_EQUIVOCATION', '"h3" expected the agreed survivors');
  if (!equalBytes(bundleHash, crypto.sha256(message.attachment)))
    throw new CoveyError('CODEC_TYPE', '"openings" do not match their signed hash');
  const rank = rankOf(cohort.advertisements, holder);
  const held = dealersFor(cohort, dealers, rank);
  const openings = decodeParts(message.attachment.slice(), held.length);
  const first = firstRemoved(params, dealers.dealers.length, dealers.dealers.length - agreement.survivors.length);
  const ofSurvivor: Opened[] = [{ label: LABELS.shareB, root: 0 }];
  if (first !== null) ofSurvivor.push({ label: LABELS.shareX, root: first });
  const ofDropped: Opened[] = [{ label: LABELS.shareS, root: 0 }];
  const opened = new Map<number, Uint8Array>();
  for (let i = 0; i < held.length; i++) {
    const dealer = held[i] as number;
    const { id } = cohort.advertisements[dealer] as Advertisement;
    const shared = rankOf(agreement.survivors, id) >= 0 ? ofSurvivor : ofDropped;
    const bundle = bundles.get(dealer) as DealerBundle;
    const fields = readFields(openings[i] as Uint8Array, shared.length === 1 ? ONE_OPENING : TWO_OPENINGS);
    const shares: Uint8Array[] = [];
    for (let j = 0; j < shared.length; j++) {
      const { label, root } = shared[j] as Opened;
      const [share, opening] = [fields[2 * j] as Uint8Array, fields[2 * j + 1] as Uint8Array];
      const commitment = commitShare(crypto, label, sid, id, holder, share, opening);
      if (!equalBytes(commitment, commitmentOf(bundle, rank, label, root))) {
        throw new CoveyError('CRYPTO_SHARE', '"share" does not open its commitment', { holder: toHex(holder) });
      }
      shares.push(share);
    }
    // Sharing works byte by byte: shares side by side give back the secrets side by side.
    opened.set(dealer, shares.length === 1 ? (shares[0] as Uint8Array) : concatBytes(...shares));
  }
  return opened;
}

/** Openings of the secret that has fewest. */
export function fewestOpenings({ coverage }: AggregatorSession): number {
  let fewest = Number.POSITIVE_INFINITY;
  for (const count of coverage) if (count < fewest) fewest = count;
  return fewest;
}

const advertisementOf = ({ advertisements }: Cohort, id: Uint8Array): Advertisement =>
  advertisements[rankOf(advertisements, id)] as Advertisement;

/**
 * Checks a secret against what its dealer published in P1: H(b) = cb for a survivor, X25519(base, eskMask) = epkMask for a
 * member that dropped. `rootSteps`: hashes from the noise root behind b of a survivor to the end of its chain, or null
 * where there is none.
 */
export function isPublishedSecret(
  crypto: CryptoProvider,
  sid: Uint8Array,
  cohort: Cohort,
  dealer: Uint8Array,
  survived: boolean,
  secret: Uint8Array,
  rootSteps: number | null = null,
): boolean {
  const { seedCommitment, maskKey, noiseCommitment } = advertisementOf(cohort, dealer);
  if (secret.length !== (survived && rootSteps !== null ? 64 : 32)) return false;
  if (!survived) return equalBytes(crypto.x25519PublicKey(secret), maskKey);
  if (!equalBytes(commitSelfSeed(crypto, sid, dealer, secret.subarray(0, 32)), seedCommitment)) return false;
  if (rootSteps === null) return true;
  const end = chainEnd(crypto, sid, dealer, secret.subarray(32), rootSteps);
  return equalBytes(end, noiseCommitment ?? new Uint8Array(0));
}

/** Hashes from the noise root that P5 opens to the published end of its chain; null where none is opened. */
export function rootStepsOf(params: SessionParams, { dealers }: Dealers, { survivors }: Agreement): number | null {
  const first = firstRemoved(params, dealers.length, dealers.length - survivors.length);
  return first === null ? null : toleranceOf(params) + 1 - first;
}

/**
 * Reconstructs each secret from exactly t openings. `liars`: dealers whose valid openings give another secret than the one
 * they published, which proves that they dealt inconsistent shares.
 */
export function reconstructSecrets(
  crypto: CryptoProvider,
  session: AggregatorSession,
): { readonly secrets: RevealedSecrets; readonly liars: readonly Uint8Array[] } {
  const { params, sid, cohort, dealers, agreement, bundles } = session;
  const rootSteps = rootStepsOf(params, dealers, agreement);
  const openingsOf = cohort.advertisements.map(({ id }) => session.openings.get(toHex(id)));
  const liars: Uint8Array[] = [];
  const secrets: Uint8Array[] = [];
  for (const { id } of dealers.dealers) {
    const dealer = rankOf(cohort.advertisements, id);
    const { holders } = bundles.get(dealer) as DealerBundle;
    const shares: { x: number; share: Uint8Array }[] = [];
    for (let i = 0; i < holders.length && shares.length < cohort.threshold; i++) {
      const share = openingsOf[holders[i] as number]?.get(dealer);
      if (share !== undefined) shares.push({ x: i + 1, share });
    }
    const secret = combineShares(shares, holders.length);
    const survived = rankOf(agreement.survivors, id) >= 0;
    if (!isPublishedSecret(crypto, sid, cohort, id, survived, secret, rootSteps)) liars.push(id);
    secrets.push(secret);
  }
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
    if (rankOf(survivors, id) >= 0)
      return [{ seed: selfMaskSeed(crypto, secret.subarray(0, 32), sid, h2, id), sign: -1 }];
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

/** Components k > D of the survivors' noise, which are taken off the unmasked sum. Shapes: `secrets` in order of U2. */
export function removedComponents(
  crypto: CryptoProvider,
  params: SessionParams,
  sid: Uint8Array,
  { dealers, h2 }: Dealers,
  { survivors }: Agreement,
  secrets: RevealedSecrets,
): NoiseComponent[] {
  const first = firstRemoved(params, dealers.length, dealers.length - survivors.length);
  if (first === null) return [];
  const last = componentCount(params, dealers.length);
  return dealers.flatMap(({ id }, i) =>
    rankOf(survivors, id) < 0
      ? []
      : componentSeeds(crypto, sid, h2, id, (secrets[i] as Uint8Array).subarray(32), first, last),
  );
}
