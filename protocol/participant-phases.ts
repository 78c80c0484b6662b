import { compareBytes, decodeParts, encodeParts, equalBytes, u32le } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError, type ErrorCode } from './errors.ts';
import {
  commitSelfSeed,
  commitShare,
  encryptionKey,
  hashAdvertisements,
  hashDealers,
  hashUploads,
  pairMaskSeed,
  pairSign,
  requireFit,
  selfMaskSeed,
  type SessionSecrets,
  streamSource,
  strictThreshold,
} from './key-schedule.ts';
import { LABELS } from './labels.ts';
import { inclusionProofs, merkleRoot, verifyInclusion } from './merkle.ts';
import {
  type Advertisement,
  decodeAdvertisement,
  decodeBodies,
  decodeLeaf,
  encodeAdvertisement,
  encodeLeaf,
  readFields,
  requireSignature,
  SEALED_SHARES_BYTES,
  type SignedBody,
  signMessage,
} from './messages.ts';
import { splitSecret } from './shamir.ts';
import type { MaskSeed, Roster, SessionMessage, SessionParams } from './session.ts';

/** Shares that a member holds for one dealer, with the openings of their commitments. */
export interface HeldShares {
  readonly shareB: Uint8Array;
  readonly openingB: Uint8Array;
  readonly shareS: Uint8Array;
  readonly openingS: Uint8Array;
}

export interface Dealer {
  readonly id: Uint8Array;
  readonly root: Uint8Array;
}

/** What a member has verified about its session so far; grows phase by phase. */
export interface MemberView {
  /** U1 in order of id. */
  readonly advertisements: readonly Advertisement[];
  readonly threshold: number;
  readonly h1: Uint8Array | null;
  /** U2 in order of id. */
  readonly dealers: readonly Dealer[];
  readonly h2: Uint8Array | null;
  /** Digest of the own masked vector. */
  readonly digest: Uint8Array | null;
  /** U3 in order of id, with the digests of the uploads. */
  readonly survivors: readonly { readonly id: Uint8Array; readonly digest: Uint8Array }[];
  readonly h3: Uint8Array | null;
  /** By hex-free key: the dealer's position in `advertisements`. */
  readonly held: ReadonlyMap<number, HeldShares>;
}

export interface PhaseContext {
  readonly crypto: CryptoProvider;
  readonly identity: { readonly id: Uint8Array; readonly secretSeed: Uint8Array };
  readonly roster: Roster;
  readonly params: SessionParams;
  readonly sid: Uint8Array;
}

/** A dealer's shares are wrong although its signed commitments arrived: either the dealer or this member is at fault. */
export class Complaint extends CoveyError {
  readonly dealer: Uint8Array;

  constructor(code: ErrorCode, message: string, dealer: Uint8Array) {
    super(code, message);
    this.dealer = dealer;
  }
}

const NONCE = new Uint8Array(12);

/** P1: fresh keys and the commitment to the self-mask seed. */
export function advertise(crypto: CryptoProvider, identity: PhaseContext['identity'], sid: Uint8Array, secrets: SessionSecrets): SessionMessage {
  const body = encodeAdvertisement({
    id: identity.id,
    encryptionKey: crypto.x25519PublicKey(secrets.encryptionSecret),
    maskKey: crypto.x25519PublicKey(secrets.maskSecret),
    seedCommitment: commitSelfSeed(crypto, sid, identity.id, secrets.selfSeed),
  });
  return signMessage(crypto, identity.secretSeed, 'p1', sid, body);
}

function publicKeyOf(roster: Roster, id: Uint8Array): Uint8Array {
  const entry = roster.entries.find((candidate) => equalBytes(candidate.id, id));
  if (entry === undefined) throw new CoveyError('AUTH_UNKNOWN', '"members" expected ids of the roster');
  return entry.publicKey;
}

/** Position of an id in a list ordered by id, or -1. */
export function rankOf(list: readonly { readonly id: Uint8Array }[], id: Uint8Array): number {
  return list.findIndex((entry) => equalBytes(entry.id, id));
}

/** Checks U1: signatures, roster, size, 3c < |U1|, all keys distinct across members and both kinds. */
export function checkAdvertisements(context: PhaseContext, messages: readonly SignedBody[]): { advertisements: Advertisement[]; threshold: number; h1: Uint8Array } {
  const { crypto, roster, params, sid } = context;
  const advertisements = messages.map(({ body }) => decodeAdvertisement(body));
  const threshold = strictThreshold(advertisements.length);
  requireFit(roster, params, advertisements.map(({ id }) => id), threshold);
  // An absolute bound: the coordinator chooses who enters U1, so a fraction of the roster would prove nothing.
  if (3 * params.colluders >= advertisements.length) {
    throw new CoveyError('PRIVACY_COHORT_TOO_SMALL', `"members" expected more than ${3 * params.colluders} for ${params.colluders} colluders, got ${advertisements.length}`);
  }
  const keys = new Set(advertisements.flatMap(({ encryptionKey: e, maskKey: m }) => [e.join(), m.join()]));
  if (keys.size !== 2 * advertisements.length) throw new CoveyError('PROTO_COHORT', '"keys" expected distinct keys of all members');
  messages.forEach((message, i) => {
    requireSignature(crypto, message, sid, publicKeyOf(roster, (advertisements[i] as Advertisement).id));
  });
  return { advertisements, threshold, h1: hashAdvertisements(crypto, sid, messages.map(({ body }) => body)) };
}

/** P2: checks U1, computes the threshold, deals both secrets to every member of U1 and seals the shares. */
export function shareKeys(context: PhaseContext, secrets: SessionSecrets, attachment: Uint8Array): { view: MemberView; message: SessionMessage } {
  const { crypto, identity, sid } = context;
  const messages = decodeBodies('p1', attachment);
  const { advertisements, threshold, h1 } = checkAdvertisements(context, messages);
  const own = rankOf(advertisements, identity.id);
  const ownBody = advertise(crypto, identity, sid, secrets).body;
  if (own < 0 || !equalBytes(messages[own]?.body ?? ownBody.subarray(1), ownBody)) {
    throw new CoveyError('PROTO_COHORT', '"members" expected the own advertisement, byte for byte');
  }
  const random = streamSource(crypto, secrets.sharingKey);
  const n = advertisements.length;
  const sharesB = splitSecret(secrets.selfSeed, n, threshold, random);
  const sharesS = splitSecret(secrets.maskSecret, n, threshold, random);
  const leaves: Uint8Array[] = [];
  const ciphertexts: Uint8Array[] = [];
  let ownShares: HeldShares | null = null;
  advertisements.forEach((holder, rank) => {
    const held: HeldShares = { shareB: sharesB[rank] as Uint8Array, openingB: random(32), shareS: sharesS[rank] as Uint8Array, openingS: random(32) };
    let ciphertext = new Uint8Array(0);
    if (rank === own) {
      ownShares = held;
    } else {
      const key = encryptionKey(crypto, secrets.encryptionSecret, holder.encryptionKey, sid, identity.id, holder.id);
      const plaintext = new Uint8Array(128);
      plaintext.set(held.shareB, 0);
      plaintext.set(held.openingB, 32);
      plaintext.set(held.shareS, 64);
      plaintext.set(held.openingS, 96);
      // One key for one message: the nonce may be 0. h1 as additional data ties the shares to this cohort.
      ciphertext = new Uint8Array(crypto.aes256GcmSeal(key, NONCE, h1, plaintext));
      key.fill(0);
      plaintext.fill(0);
    }
    ciphertexts.push(ciphertext);
    leaves.push(
      encodeLeaf({
        commitmentB: commitShare(crypto, LABELS.shareB, sid, identity.id, holder.id, held.shareB, held.openingB),
        commitmentS: commitShare(crypto, LABELS.shareS, sid, identity.id, holder.id, held.shareS, held.openingS),
        ciphertextHash: crypto.sha256(ciphertext),
      }),
    );
    if (rank !== own) for (const secret of Object.values(held as unknown as Record<string, Uint8Array>)) secret.fill(0);
  });
  if (ownShares === null) throw new CoveyError('INTERNAL_INVARIANT', 'no own shares');
  const body = encodeParts([identity.id, h1, merkleRoot(crypto, leaves)]);
  const bundle = encodeParts(leaves.flatMap((leaf, i) => [leaf, ciphertexts[i] as Uint8Array]));
  return {
    view: {
      advertisements,
      threshold,
      h1,
      dealers: [],
      h2: null,
      digest: null,
      survivors: [],
      h3: null,
      held: new Map([[own, ownShares]]),
    },
    message: signMessage(crypto, identity.secretSeed, 'p2', sid, body, bundle),
  };
}

/** A dealer's commitments and ciphertexts, as the coordinator forwards them to one holder. */
export function encodeDelivery(messages: readonly Pick<SignedBody, 'body' | 'signature'>[], entries: readonly { leaf: Uint8Array; ciphertext: Uint8Array; proof: readonly Uint8Array[] }[]): Uint8Array {
  return encodeParts([
    encodeParts(messages.flatMap(({ body, signature }) => [body, signature])),
    ...entries.map(({ leaf, ciphertext, proof }) => encodeParts([leaf, ciphertext, ...proof])),
  ]);
}

/** Leaves and ciphertexts of one P2 message, checked against its signed root. @throws CoveyError */
export function readDealerBundle(crypto: CryptoProvider, members: number, root: Uint8Array, attachment: Uint8Array): { leaves: Uint8Array[]; ciphertexts: Uint8Array[]; proofs: Uint8Array[][] } {
  const parts = decodeParts(attachment, 2 * members);
  const leaves = parts.filter((_, i) => i % 2 === 0);
  const ciphertexts = parts.filter((_, i) => i % 2 === 1);
  if (!equalBytes(merkleRoot(crypto, leaves), root)) throw new CoveyError('CRYPTO_COMMITMENT', '"root" expected the root of the commitments');
  leaves.forEach((leaf, i) => {
    const ciphertext = ciphertexts[i] as Uint8Array;
    if (!equalBytes(decodeLeaf(leaf).ciphertextHash, crypto.sha256(ciphertext))) throw new CoveyError('CRYPTO_COMMITMENT', '"ciphertext" expected its committed hash');
    if (ciphertext.length !== 0 && ciphertext.length !== SEALED_SHARES_BYTES) throw new CoveyError('CODEC_TYPE', `"ciphertext" expected ${SEALED_SHARES_BYTES} bytes`);
  });
  return { leaves, ciphertexts, proofs: inclusionProofs(crypto, leaves) };
}

/** P2, second half: checks U2 and every received share before anything is masked. */
export function takeShares(context: PhaseContext, secrets: SessionSecrets, view: MemberView, attachment: Uint8Array): MemberView {
  const { crypto, identity, roster, params, sid } = context;
  const h1 = view.h1 as Uint8Array;
  const [list, ...entries] = decodeParts(attachment);
  const messages = decodeBodies('p2', list ?? new Uint8Array(0));
  const dealers = messages.map(({ body }) => {
    const [id, seenH1, root] = readFields(body, [32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array];
    if (!equalBytes(seenH1, h1)) throw new CoveyError('PROTO_EQUIVOCATION', '"h1" expected the same list of members for everybody');
    return { id, root };
  });
  requireFit(roster, params, dealers.map(({ id }) => id), view.threshold);
  messages.forEach((message, i) => {
    requireSignature(crypto, message, sid, publicKeyOf(roster, (dealers[i] as Dealer).id));
  });
  const own = rankOf(view.advertisements, identity.id);
  if (rankOf(dealers, identity.id) < 0) throw new CoveyError('PROTO_COHORT', '"members" expected the own shares among the dealers');
  if (entries.length !== dealers.length - 1) throw new CoveyError('CODEC_TRUNCATED', `"shares" expected ${dealers.length - 1}, got ${entries.length}`);
  const held = new Map(view.held);
  let next = 0;
  for (const dealer of dealers) {
    if (equalBytes(dealer.id, identity.id)) continue;
    const rank = rankOf(view.advertisements, dealer.id);
    if (rank < 0) throw new CoveyError('PROTO_COHORT', '"dealers" expected members of U1');
    const [leafBytes, ciphertext, ...proof] = decodeParts(entries[next] as Uint8Array);
    next += 1;
    if (leafBytes === undefined || ciphertext === undefined) throw new CoveyError('CODEC_TRUNCATED', '"share" expected leaf and ciphertext');
    // A share that misses the dealer's signed root accuses the coordinator, not the dealer.
    const included = verifyInclusion(crypto, leafBytes, own, view.advertisements.length, proof, dealer.root);
    if (!included) throw new CoveyError('CRYPTO_COMMITMENT', '"leaf" expected a path to the signed root');
    const leaf = decodeLeaf(leafBytes);
    if (!equalBytes(leaf.ciphertextHash, crypto.sha256(ciphertext))) throw new CoveyError('CRYPTO_COMMITMENT', '"ciphertext" expected its signed hash');
    held.set(rank, openShares(context, secrets, view.advertisements[rank] as Advertisement, leaf, ciphertext, h1));
  }
  const h2 = hashDealers(crypto, sid, h1, dealers.map(({ id, root }) => [id, root]));
  return { ...view, dealers, h2, held };
}

function openShares(context: PhaseContext, secrets: SessionSecrets, dealer: Advertisement, leaf: ReturnType<typeof decodeLeaf>, ciphertext: Uint8Array, h1: Uint8Array): HeldShares {
  const { crypto, identity, sid } = context;
  let plaintext: Uint8Array;
  try {
    const key = encryptionKey(crypto, secrets.encryptionSecret, dealer.encryptionKey, sid, dealer.id, identity.id);
    plaintext = crypto.aes256GcmOpen(key, NONCE, h1, ciphertext);
    key.fill(0);
  } catch {
    throw new Complaint('CRYPTO_TAG', '"ciphertext" of a dealer does not open', dealer.id);
  }
  if (plaintext.length !== 128) throw new Complaint('CRYPTO_SHARE', '"share" of a dealer has a wrong length', dealer.id);
  const held: HeldShares = {
    shareB: plaintext.slice(0, 32),
    openingB: plaintext.slice(32, 64),
    shareS: plaintext.slice(64, 96),
    openingS: plaintext.slice(96, 128),
  };
  plaintext.fill(0);
  const opensB = equalBytes(leaf.commitmentB, commitShare(crypto, LABELS.shareB, sid, dealer.id, identity.id, held.shareB, held.openingB));
  const opensS = equalBytes(leaf.commitmentS, commitShare(crypto, LABELS.shareS, sid, dealer.id, identity.id, held.shareS, held.openingS));
  if (!opensB || !opensS) throw new Complaint('CRYPTO_SHARE', '"share" of a dealer does not open its commitment', dealer.id);
  return held;
}

/** P3: seeds of the self mask and of the pair mask with every other member of U2. */
export function prepareMask(crypto: CryptoProvider, id: Uint8Array, sid: Uint8Array, secrets: SessionSecrets, view: MemberView): MaskSeed[] {
  const h2 = view.h2 as Uint8Array;
  const seeds: MaskSeed[] = [{ seed: selfMaskSeed(crypto, secrets.selfSeed, sid, h2, id), sign: 1 }];
  for (const dealer of view.dealers) {
    if (equalBytes(dealer.id, id)) continue;
    const peer = view.advertisements[rankOf(view.advertisements, dealer.id)] as Advertisement;
    seeds.push({ seed: pairMaskSeed(crypto, secrets.maskSecret, peer.maskKey, sid, h2, id, peer.id), sign: pairSign(id, peer.id) });
  }
  return seeds;
}

/** P4: checks U3 and signs its hash. */
export function agree(context: PhaseContext, view: MemberView, census: readonly Uint8Array[] | null, attachment: Uint8Array): { view: MemberView; message: SessionMessage } {
  const { crypto, identity, roster, params, sid } = context;
  const h2 = view.h2 as Uint8Array;
  const messages = decodeBodies('p3', attachment);
  const survivors = messages.map(({ body }) => {
    const [id, seenH2, digest] = readFields(body, [32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array];
    if (!equalBytes(seenH2, h2)) throw new CoveyError('PROTO_EQUIVOCATION', '"h2" expected the same dealers for everybody');
    if (rankOf(view.dealers, id) < 0) throw new CoveyError('PROTO_COHORT', '"survivors" expected members of U2');
    return { id, digest };
  });
  requireFit(roster, params, survivors.map(({ id }) => id), view.threshold);
  messages.forEach((message, i) => {
    requireSignature(crypto, message, sid, publicKeyOf(roster, (survivors[i] as { id: Uint8Array }).id));
  });
  const own = survivors[rankOf(survivors, identity.id)];
  // A member outside U3 signs and opens nothing.
  if (own === undefined || view.digest === null || !equalBytes(own.digest, view.digest)) {
    throw new CoveyError('PROTO_COHORT', '"survivors" expected the own upload');
  }
  if (census !== null) {
    const missing = census.filter((id) => rankOf(survivors, id) < 0).length;
    if (missing > params.maxLoss) {
      throw new CoveyError('PRIVACY_COHORT_TOO_SMALL', `"survivors" expected at most ${params.maxLoss} of the last census missing, got ${missing}`);
    }
  }
  const h3 = hashUploads(crypto, sid, h2, survivors.map(({ id, digest }) => [id, digest]));
  return { view: { ...view, survivors, h3 }, message: signMessage(crypto, identity.secretSeed, 'p4', sid, encodeParts([identity.id, h3])) };
}

/** Distinct members of U3 whose P4 signatures over `h3` verify. @throws CoveyError for a malformed or repeated entry. */
export function countCertificate(context: Pick<PhaseContext, 'crypto' | 'roster' | 'sid'>, survivors: readonly { readonly id: Uint8Array }[], h3: Uint8Array, messages: readonly SignedBody[]): number {
  const signers = messages.map(({ body }) => {
    const [id, signed] = readFields(body, [32, 32]) as [Uint8Array, Uint8Array];
    if (!equalBytes(signed, h3)) throw new CoveyError('PROTO_EQUIVOCATION', '"h3" expected the own view of the survivors');
    if (rankOf(survivors, id) < 0) throw new CoveyError('PROTO_COHORT', '"signers" expected members of U3');
    return id;
  });
  const sorted = [...signers].sort(compareBytes);
  if (sorted.some((id, i) => i > 0 && equalBytes(id, sorted[i - 1] as Uint8Array))) throw new CoveyError('PROTO_COHORT', '"signers" expected distinct members');
  messages.forEach((message, i) => {
    requireSignature(context.crypto, message, context.sid, publicKeyOf(context.roster, signers[i] as Uint8Array));
  });
  return signers.length;
}

/** P5: with t signatures over the own h3, opens one share of every dealer: of b for survivors, of the mask key for the rest. */
export function answerCertificate(context: PhaseContext, view: MemberView, attachment: Uint8Array): { message: SessionMessage; h3: Uint8Array } {
  const { crypto, identity, sid } = context;
  const h3 = view.h3 as Uint8Array;
  const signatures = countCertificate(context, view.survivors, h3, decodeBodies('p4', attachment));
  if (signatures < view.threshold) throw new CoveyError('PROTO_COHORT', `"certificate" expected at least ${view.threshold} signatures, got ${signatures}`);
  // The partition follows from U3; the coordinator cannot ask for a share of its choice.
  const openings = view.dealers.map(({ id }) => {
    const held = view.held.get(rankOf(view.advertisements, id)) as HeldShares;
    return rankOf(view.survivors, id) >= 0 ? encodeParts([held.shareB, held.openingB]) : encodeParts([held.shareS, held.openingS]);
  });
  const bundle = encodeParts(openings);
  return { message: signMessage(crypto, identity.secretSeed, 'p5', sid, encodeParts([identity.id, h3, crypto.sha256(bundle)]), bundle), h3 };
}

/** Body of the signed result. */
export function encodeResult(h3: Uint8Array, sumHash: Uint8Array, survivors: number): Uint8Array {
  return encodeParts([h3, sumHash, u32le(survivors)]);
}
