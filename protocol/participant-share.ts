import { decodeParts, encodeParts, equalBytes } from './bytes.ts';
import {
  arePeers,
  type Cohort,
  checkAdvertisements,
  checkDealings,
  type Dealers,
  holdersOf,
  type SessionContext,
} from './cohort.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError, type ErrorCode } from './errors.ts';
import {
  commitGraphSeed,
  commitSelfSeed,
  commitShare,
  encryptionKey,
  hashDealers,
  pairMaskSeed,
  pairSign,
  type SessionSecrets,
  selfMaskSeed,
  streamSource,
} from './key-schedule.ts';
import { LABELS } from './labels.ts';
import { merkleRoot, verifyInclusion } from './merkle.ts';
import {
  type Advertisement,
  decodeBodies,
  decodeLeaf,
  encodeAdvertisement,
  encodeLeaf,
  type ShareLeaf,
  sealedSharesBytes,
  signMessage,
} from './messages.ts';
import { chainEnd, chainRoots, toleranceOf } from './noise-seeds.ts';
import { rankOf } from './roster.ts';
import type { MaskSeed, SessionMessage } from './session.ts';
import { splitSecret } from './shamir.ts';

/** A member's context: its own long-term key as well. */
export interface MemberContext extends SessionContext {
  readonly identity: { readonly id: Uint8Array; readonly secretSeed: Uint8Array };
}

/** Shares that a member holds for one dealer, with the openings of their commitments. */
export interface HeldShares {
  readonly shareB: Uint8Array;
  readonly openingB: Uint8Array;
  readonly shareS: Uint8Array;
  readonly openingS: Uint8Array;
  /** Of the noise roots s_1 to s_T; none without removable noise. */
  readonly roots: readonly { readonly share: Uint8Array; readonly opening: Uint8Array }[];
}

/** Secrets between P2 and the mask. By rank of the peer in U1. */
export interface PeerSecrets {
  readonly selfSeed: Uint8Array;
  /** s_1 of the own removable noise. */
  readonly noiseRoot: Uint8Array;
  /** Keys of the ciphertexts that each dealer sends here. */
  readonly openingKeys: ReadonlyMap<number, Uint8Array>;
  /** X25519 of the two mask keys. */
  readonly pairSecrets: ReadonlyMap<number, Uint8Array>;
}

/** A fault of a member that this member can name. */
export class AccusedError extends CoveyError {
  readonly accused: Uint8Array;

  constructor(code: ErrorCode, message: string, accused: Uint8Array) {
    super(code, message);
    this.accused = accused;
  }
}

/** A dealer's shares are wrong although its signed commitments arrived: either the dealer or this member is at fault. */
export class Complaint extends AccusedError {}

// Each key seals one message, so the nonce may be 0.
const NONCE = new Uint8Array(12);

/** P1: fresh keys and the commitment to the self-mask seed. */
export function advertise(context: MemberContext, secrets: SessionSecrets): SessionMessage {
  const { crypto, identity, sid } = context;
  const tolerance = toleranceOf(context.params);
  const body = encodeAdvertisement({
    id: identity.id,
    encryptionKey: crypto.x25519PublicKey(secrets.encryptionSecret),
    maskKey: crypto.x25519PublicKey(secrets.maskSecret),
    seedCommitment: commitSelfSeed(crypto, sid, identity.id, secrets.selfSeed),
    graphCommitment:
      context.params.profile === 'sparse' ? commitGraphSeed(crypto, sid, identity.id, secrets.graphSeed) : null,
    noiseCommitment: tolerance === 0 ? null : chainEnd(crypto, sid, identity.id, secrets.noiseRoot, tolerance),
  });
  return signMessage(crypto, identity.secretSeed, 'p1', sid, body);
}

/** Checks U1 and that the own advertisement is in it. */
export function takeCohort(context: MemberContext, p1: SessionMessage, attachment: Uint8Array): Cohort {
  const messages = decodeBodies('p1', attachment);
  const cohort = checkAdvertisements(context, messages);
  const ownBody = messages[rankOf(cohort.advertisements, context.identity.id)]?.body;
  if (ownBody === undefined || !equalBytes(ownBody, p1.body)) {
    throw new CoveyError('PROTO_COHORT', '"members" expected the own advertisement, byte for byte');
  }
  return cohort;
}

/** P1R of a committee member: its part of the graph seed, told once U1 is fixed and under its hash. */
export function reveal(context: MemberContext, { h1 }: Cohort, secrets: SessionSecrets): SessionMessage {
  const { crypto, identity, sid } = context;
  return signMessage(crypto, identity.secretSeed, 'p1r', sid, encodeParts([identity.id, h1, secrets.graphSeed]));
}

/** X25519 with a member's advertised key. @throws AccusedError CRYPTO_POINT naming the member that signed a bad key */
function agreeWith(crypto: CryptoProvider, secret: Uint8Array, key: Uint8Array, owner: Uint8Array): Uint8Array {
  try {
    return crypto.x25519Agree(secret, key);
  } catch {
    throw new AccusedError('CRYPTO_POINT', '"keys" expected valid points of every member', owner);
  }
}

/** Everything secret in a bundle of shares, in the order in which it is sealed. */
export const secretsOfShares = (held: HeldShares): Uint8Array[] => [
  held.shareB,
  held.openingB,
  held.shareS,
  held.openingS,
  ...held.roots.flatMap(({ share, opening }) => [share, opening]),
];

/** The bundle that a plaintext holds. Shapes: 32 bytes each. */
function readShares(plaintext: Uint8Array): HeldShares {
  const at = (i: number): Uint8Array => plaintext.slice(32 * i, 32 * (i + 1));
  const tolerance = plaintext.length / 64 - 2;
  return {
    shareB: at(0),
    openingB: at(1),
    shareS: at(2),
    openingS: at(3),
    roots: Array.from({ length: tolerance }, (_, k) => ({ share: at(4 + 2 * k), opening: at(5 + 2 * k) })),
  };
}

/** Commitments of a leaf to a bundle of shares. */
function commitShares(
  { crypto, sid }: SessionContext,
  dealer: Uint8Array,
  holder: Uint8Array,
  held: HeldShares,
): Omit<ShareLeaf, 'ciphertextHash'> {
  return {
    commitmentB: commitShare(crypto, LABELS.shareB, sid, dealer, holder, held.shareB, held.openingB),
    commitmentS: commitShare(crypto, LABELS.shareS, sid, dealer, holder, held.shareS, held.openingS),
    commitmentsX: held.roots.map(({ share, opening }) =>
      commitShare(crypto, LABELS.shareX, sid, dealer, holder, share, opening),
    ),
  };
}

export interface Dealt {
  /** Own shares by own rank; none in the sparse profile. */
  readonly held: ReadonlyMap<number, HeldShares>;
  readonly peers: PeerSecrets;
  readonly message: SessionMessage;
}

/** P2: deals all secrets to everybody who holds shares of this member and seals the shares. */
export function shareKeys(context: MemberContext, secrets: SessionSecrets, cohort: Cohort): Dealt {
  const { crypto, identity, sid } = context;
  const { advertisements, threshold, h1 } = cohort;
  const ownRank = rankOf(advertisements, identity.id);
  const holders = holdersOf(cohort, ownRank);
  const random = streamSource(crypto, secrets.sharingKey);
  const sharesB = splitSecret(secrets.selfSeed, holders.length, threshold, random);
  const sharesS = splitSecret(secrets.maskSecret, holders.length, threshold, random);
  const tolerance = toleranceOf(context.params);
  const roots = chainRoots(crypto, sid, identity.id, secrets.noiseRoot, tolerance);
  const sharesX = roots.map((root) => splitSecret(root, holders.length, threshold, random));
  for (const root of roots) root.fill(0);
  const openingKeys = new Map<number, Uint8Array>();
  const pairSecrets = new Map<number, Uint8Array>();
  const leaves: Uint8Array[] = [];
  const ciphertexts: Uint8Array[] = [];
  const own = new Map<number, HeldShares>();
  holders.forEach((rank, i) => {
    const holder = advertisements[rank] as Advertisement;
    const held: HeldShares = {
      shareB: sharesB[i] as Uint8Array,
      openingB: random(32),
      shareS: sharesS[i] as Uint8Array,
      openingS: random(32),
      roots: sharesX.map((shares) => ({ share: shares[i] as Uint8Array, opening: random(32) })),
    };
    let ciphertext = new Uint8Array(0);
    if (rank !== ownRank) {
      const shared = agreeWith(crypto, secrets.encryptionSecret, holder.encryptionKey, holder.id);
      // Agreed now and not at P3: a bad key must surface before anything is charged.
      pairSecrets.set(rank, agreeWith(crypto, secrets.maskSecret, holder.maskKey, holder.id));
      openingKeys.set(rank, encryptionKey(crypto, shared, sid, holder.id, identity.id));
      const key = encryptionKey(crypto, shared, sid, identity.id, holder.id);
      const plaintext = new Uint8Array(64 * (2 + tolerance));
      secretsOfShares(held).forEach((part, i) => {
        plaintext.set(part, 32 * i);
      });
      // h1 as additional data ties the shares to this cohort.
      ciphertext = new Uint8Array(crypto.aes256GcmSeal(key, NONCE, h1, plaintext));
      for (const secret of [shared, key, plaintext]) secret.fill(0);
    }
    ciphertexts.push(ciphertext);
    leaves.push(
      encodeLeaf({
        ...commitShares(context, identity.id, holder.id, held),
        ciphertextHash: crypto.sha256(ciphertext),
      }),
    );
    if (rank === ownRank) own.set(rank, held);
    else for (const secret of secretsOfShares(held)) secret.fill(0);
  });
  const body = encodeParts([identity.id, h1, merkleRoot(crypto, leaves)]);
  const bundle = encodeParts(leaves.flatMap((leaf, i) => [leaf, ciphertexts[i] as Uint8Array]));
  return {
    held: own,
    peers: { selfSeed: secrets.selfSeed.slice(), noiseRoot: secrets.noiseRoot.slice(), openingKeys, pairSecrets },
    message: signMessage(crypto, identity.secretSeed, 'p2', sid, body, bundle),
  };
}

/** Checks U2 and every received share before anything is charged or masked. Shapes: `held` by rank in U1. */
export function takeShares(
  context: MemberContext,
  cohort: Cohort,
  peers: PeerSecrets,
  own: ReadonlyMap<number, HeldShares>,
  p2: SessionMessage,
  attachment: Uint8Array,
): { readonly dealers: Dealers; readonly held: ReadonlyMap<number, HeldShares> } {
  const { crypto, identity, sid } = context;
  const { advertisements, h1 } = cohort;
  const [list, ...entries] = decodeParts(attachment);
  const messages = decodeBodies('p2', list ?? new Uint8Array(0));
  const dealers = checkDealings(context, cohort, messages);
  const ownRank = rankOf(advertisements, identity.id);
  if (!messages.some(({ body }) => equalBytes(body, p2.body)))
    throw new CoveyError('PROTO_COHORT', '"members" expected the own root, byte for byte');
  const others = dealers.filter(({ id }) => arePeers(cohort, rankOf(advertisements, id), ownRank));
  if (entries.length !== others.length)
    throw new CoveyError('CODEC_TRUNCATED', `"shares" expected ${others.length}, got ${entries.length}`);
  const held = new Map(own);
  others.forEach((dealer, i) => {
    const rank = rankOf(advertisements, dealer.id);
    const [leafBytes, ciphertext, ...proof] = decodeParts(entries[i] as Uint8Array);
    if (leafBytes === undefined || ciphertext === undefined)
      throw new CoveyError('CODEC_TRUNCATED', '"share" expected leaf and ciphertext');
    // A share that misses the dealer's signed root accuses the coordinator, not the dealer. The path at the own index
    // also proves that the dealer meant x = 1 + own rank among its holders.
    const holders = holdersOf(cohort, rank);
    if (!verifyInclusion(crypto, leafBytes, holders.indexOf(ownRank), holders.length, proof, dealer.root)) {
      throw new CoveyError('CRYPTO_COMMITMENT', '"leaf" expected a path to the signed root');
    }
    const leaf = decodeLeaf(leafBytes, toleranceOf(context.params));
    if (!equalBytes(leaf.ciphertextHash, crypto.sha256(ciphertext)))
      throw new CoveyError('CRYPTO_COMMITMENT', '"ciphertext" expected its signed hash');
    held.set(rank, openShares(context, peers.openingKeys.get(rank) as Uint8Array, dealer.id, leaf, ciphertext, h1));
  });
  const h2 = hashDealers(
    crypto,
    sid,
    h1,
    dealers.map(({ id, root }) => [id, root]),
  );
  return { dealers: { dealers, h2 }, held };
}

function openShares(
  context: MemberContext,
  key: Uint8Array,
  dealer: Uint8Array,
  leaf: ShareLeaf,
  ciphertext: Uint8Array,
  h1: Uint8Array,
): HeldShares {
  const { crypto, identity, params } = context;
  let plaintext: Uint8Array;
  try {
    plaintext = crypto.aes256GcmOpen(key, NONCE, h1, ciphertext);
  } catch {
    throw new Complaint('CRYPTO_TAG', '"ciphertext" of a dealer does not open', dealer);
  }
  if (ciphertext.length !== sealedSharesBytes(toleranceOf(params)))
    throw new Complaint('CRYPTO_SHARE', '"share" of a dealer has a wrong length', dealer);
  const held = readShares(plaintext);
  plaintext.fill(0);
  const opened = commitShares(context, dealer, identity.id, held);
  // The commitments are public: one comparison of the whole leaf tells whether all of them open.
  if (!equalBytes(encodeLeaf({ ...opened, ciphertextHash: leaf.ciphertextHash }), encodeLeaf(leaf)))
    throw new Complaint('CRYPTO_SHARE', '"share" of a dealer does not open its commitment', dealer);
  return held;
}

/** P3: seeds of the self mask and of the pair mask with every other member of U2, or every neighbour in it. */
export function prepareMask(
  { crypto, identity, sid }: MemberContext,
  cohort: Cohort,
  { dealers, h2 }: Dealers,
  peers: PeerSecrets,
): MaskSeed[] {
  const seeds: MaskSeed[] = [{ seed: selfMaskSeed(crypto, peers.selfSeed, sid, h2, identity.id), sign: 1 }];
  const ownRank = rankOf(cohort.advertisements, identity.id);
  for (const { id } of dealers) {
    const rank = rankOf(cohort.advertisements, id);
    if (!arePeers(cohort, rank, ownRank)) continue;
    const shared = peers.pairSecrets.get(rank) as Uint8Array;
    seeds.push({ seed: pairMaskSeed(crypto, shared, sid, h2, identity.id, id), sign: pairSign(identity.id, id) });
  }
  return seeds;
}
