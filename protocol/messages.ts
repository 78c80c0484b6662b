import { decodeParts, encodeParts, equalBytes, fromUtf8, hashParts, readU32le, u32le, utf8 } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError, ERROR_CODES, type ErrorCode } from './errors.ts';
import { LABELS } from './labels.ts';
import type { MessageType, SessionMessage } from './session.ts';

const LABEL_OF: Readonly<Record<MessageType, string>> = {
  p0: LABELS.p0,
  p1: LABELS.p1,
  'p1-all': LABELS.p1All,
  p1r: LABELS.p1r,
  'p1r-all': LABELS.p1rAll,
  p2: LABELS.p2,
  'p2-all': LABELS.p2All,
  p3: LABELS.p3,
  'p4-ask': LABELS.p4Ask,
  p4: LABELS.p4,
  'p5-ask': LABELS.p5Ask,
  p5: LABELS.p5,
  result: LABELS.result,
  complaint: LABELS.complaint,
  abort: LABELS.abort,
};

const NOTHING = new Uint8Array(0);

/** What is signed: H(phase label, sid, body). @see SPEC section 3 */
export function signedBytes(crypto: CryptoProvider, type: MessageType, sid: Uint8Array, body: Uint8Array): Uint8Array {
  return hashParts(crypto, utf8(LABEL_OF[type]), sid, body);
}

/** Builds and signs a message; called once for each (sid, type), later sends repeat the bytes. */
export function signMessage(
  crypto: CryptoProvider,
  secretSeed: Uint8Array,
  type: MessageType,
  sid: Uint8Array,
  body: Uint8Array,
  attachment: Uint8Array = NOTHING,
): SessionMessage {
  return {
    type,
    sid,
    body,
    attachment,
    signature: crypto.ed25519Sign(signedBytes(crypto, type, sid, body), secretSeed),
  };
}

/** @throws CoveyError AUTH_SIGNATURE unless `publicKey` signed this body as a message of this type and session. */
export function requireSignature(
  crypto: CryptoProvider,
  message: SignedBody,
  sid: Uint8Array,
  publicKey: Uint8Array,
): void {
  if (!crypto.ed25519Verify(message.signature, signedBytes(crypto, message.type, sid, message.body), publicKey)) {
    throw new CoveyError('AUTH_SIGNATURE', `"signature" of a ${message.type} message does not verify`);
  }
}

export type SignedBody = Pick<SessionMessage, 'type' | 'body' | 'signature'>;

/** A list of members' signed bodies, as one attachment. */
export function encodeBodies(messages: readonly Pick<SignedBody, 'body' | 'signature'>[]): Uint8Array {
  return encodeParts(messages.flatMap(({ body, signature }) => [body, signature]));
}

export function decodeBodies(type: MessageType, bytes: Uint8Array): SignedBody[] {
  const parts = decodeParts(bytes);
  if (parts.length % 2 !== 0) throw new CoveyError('CODEC_TRUNCATED', '"list" expected pairs of body and signature');
  const messages: SignedBody[] = [];
  for (let i = 0; i < parts.length; i += 2)
    messages.push({ type, body: parts[i] as Uint8Array, signature: parts[i + 1] as Uint8Array });
  return messages;
}

/**
 * A coordinator message whose body is {recipient, hash of the attachment}. The recipient is empty where everybody gets
 * the same bytes, so that two different messages of one type always prove equivocation.
 */
export function signList(
  crypto: CryptoProvider,
  secretSeed: Uint8Array,
  type: MessageType,
  sid: Uint8Array,
  attachment: Uint8Array,
  recipient: Uint8Array = NOTHING,
): SessionMessage {
  return signMessage(crypto, secretSeed, type, sid, encodeParts([recipient, crypto.sha256(attachment)]), attachment);
}

/** @throws CoveyError CODEC_TYPE unless the body names the recipient and holds the hash of the attachment. */
export function requireBoundAttachment(
  crypto: CryptoProvider,
  message: SessionMessage,
  recipient: Uint8Array = NOTHING,
): void {
  if (!equalBytes(encodeParts([recipient, crypto.sha256(message.attachment)]), message.body)) {
    throw new CoveyError('CODEC_TYPE', '"attachment" does not match its signed hash');
  }
}

/** What is kept of a message once its attachment has been dealt with; copied, so that no large buffer stays alive. */
export function withoutAttachment(message: SessionMessage): SessionMessage {
  const { type, sid, body, signature } = message;
  return { type, sid: sid.slice(), body: body.slice(), signature: signature.slice(), attachment: NOTHING };
}

/** Fields of a body with fixed lengths. @throws CoveyError CODEC_* */
export function readFields(body: Uint8Array, lengths: readonly number[]): Uint8Array[] {
  const parts = decodeParts(body, lengths.length);
  for (let i = 0; i < parts.length; i++) {
    const { length } = parts[i] as Uint8Array;
    if (length !== lengths[i])
      throw new CoveyError('CODEC_TYPE', `"body" expected ${lengths[i]} bytes in field ${i}, got ${length}`);
  }
  return parts;
}

/**
 * P1: keys and the commitment to the self-mask seed; in the sparse profile that to the graph seed as well, with removable
 * noise the end of the chain of its seeds. A body with one of both does not say which: `readAdvertisement` tells.
 */
export interface Advertisement {
  readonly id: Uint8Array;
  readonly encryptionKey: Uint8Array;
  readonly maskKey: Uint8Array;
  readonly seedCommitment: Uint8Array;
  readonly graphCommitment: Uint8Array | null;
  readonly noiseCommitment?: Uint8Array | null;
}

export function encodeAdvertisement(a: Advertisement): Uint8Array {
  const more = [a.graphCommitment, a.noiseCommitment ?? null].filter((part) => part !== null);
  return encodeParts([a.id, a.encryptionKey, a.maskKey, a.seedCommitment, ...more]);
}

/** `most`: fields that a body may have; 6 in a session with both commitments. @throws CoveyError CODEC_* */
export function decodeAdvertisement(body: Uint8Array, most: 5 | 6 = 6): Advertisement {
  const found = decodeParts(body).length;
  const parts = readFields(body, new Array<number>(found > most ? 4 : Math.max(4, found)).fill(32));
  const [id, encryptionKey, maskKey, seedCommitment, graphCommitment = null, noiseCommitment = null] = parts as [
    Uint8Array,
    Uint8Array,
    Uint8Array,
    Uint8Array,
    Uint8Array?,
    Uint8Array?,
  ];
  return { id, encryptionKey, maskKey, seedCommitment, graphCommitment, noiseCommitment };
}

/** P1R: a committee member's part of the graph seed, under its view of U1. */
export interface Reveal {
  readonly id: Uint8Array;
  readonly h1: Uint8Array;
  readonly seed: Uint8Array;
}

export function decodeReveal(body: Uint8Array): Reveal {
  const [id, h1, seed] = readFields(body, [32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array];
  return { id, h1, seed };
}

/** Bytes of a sealed bundle of two shares and one of each noise root, with their openings, and the GCM tag. */
export function sealedSharesBytes(tolerance: number): number {
  return 64 * (2 + tolerance) + 16;
}

/** Bytes of an encoded leaf. */
export function leafBytes(tolerance: number): number {
  return 36 * (3 + tolerance);
}

/** Commitments of one holder's shares and the hash of the ciphertext: one leaf of a dealer's tree. */
export interface ShareLeaf {
  readonly commitmentB: Uint8Array;
  readonly commitmentS: Uint8Array;
  readonly ciphertextHash: Uint8Array;
  /** Of the shares of s_1 to s_T; none without removable noise. */
  readonly commitmentsX: readonly Uint8Array[];
}

export function encodeLeaf(leaf: ShareLeaf): Uint8Array {
  return encodeParts([leaf.commitmentB, leaf.commitmentS, leaf.ciphertextHash, ...leaf.commitmentsX]);
}

export function decodeLeaf(bytes: Uint8Array, tolerance: number = 0): ShareLeaf {
  const [commitmentB, commitmentS, ciphertextHash, ...commitmentsX] = readFields(
    bytes,
    Array<number>(3 + tolerance).fill(32),
  ) as [Uint8Array, Uint8Array, Uint8Array, ...Uint8Array[]];
  return { commitmentB, commitmentS, ciphertextHash, commitmentsX };
}

/**
 * Hash of the ciphertext in an encoded leaf, as a view: one for each pair of members, so nothing else is taken apart.
 * @throws CoveyError CODEC_* unless all fields are there.
 */
export function ciphertextHashOf(leaf: Uint8Array, tolerance: number): Uint8Array {
  const fieldBytes = leafBytes(0) / 3;
  let isWhole = leaf.length === leafBytes(tolerance);
  for (let at = 0; isWhole && at < leaf.length; at += fieldBytes) isWhole = readU32le(leaf, at) === fieldBytes - 4;
  // The general decoder says what is wrong.
  if (!isWhole) return decodeLeaf(leaf, tolerance).ciphertextHash;
  return leaf.subarray(2 * fieldBytes + 4, 3 * fieldBytes);
}

/** P2: the dealer's root over the commitments of all holders. */
export interface Dealing {
  readonly id: Uint8Array;
  readonly h1: Uint8Array;
  readonly root: Uint8Array;
}

export function decodeDealing(body: Uint8Array): Dealing {
  const [id, h1, root] = readFields(body, [32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array];
  return { id, h1, root };
}

/** P3: the digest of the masked vector. */
export interface UploadBody {
  readonly id: Uint8Array;
  readonly h2: Uint8Array;
  readonly digest: Uint8Array;
}

export function decodeUpload(body: Uint8Array): UploadBody {
  const [id, h2, digest] = readFields(body, [32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array];
  return { id, h2, digest };
}

/** A member's claim that the shares of `dealer` are wrong; to others it proves only that one of the two is at fault. */
export interface Accusation {
  readonly id: Uint8Array;
  readonly h1: Uint8Array;
  readonly dealer: Uint8Array;
  readonly code: ErrorCode;
}

export function encodeComplaint({ id, h1, dealer, code }: Accusation): Uint8Array {
  return encodeParts([id, h1, dealer, utf8(code)]);
}

export function decodeComplaint(body: Uint8Array): Accusation {
  const [id, h1, dealer, code] = decodeParts(body, 4) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  if (id.length !== 32 || h1.length !== 32 || dealer.length !== 32)
    throw new CoveyError('CODEC_TYPE', '"complaint" expected 32-byte fields');
  return { id, h1, dealer, code: readCode(code) };
}

/** Abort of a member (`id` its own) or of the coordinator (`id` empty): a code of the registry, no text. */
export function encodeAbort(id: Uint8Array, code: ErrorCode): Uint8Array {
  return encodeParts([id, utf8(code)]);
}

export function decodeAbort(body: Uint8Array): { id: Uint8Array; code: ErrorCode } {
  const [id, code] = decodeParts(body, 2) as [Uint8Array, Uint8Array];
  return { id, code: readCode(code) };
}

function readCode(bytes: Uint8Array): ErrorCode {
  const code = fromUtf8(bytes);
  if (!Object.hasOwn(ERROR_CODES, code)) throw new CoveyError('CODEC_TYPE', '"code" expected a known error code');
  return code as ErrorCode;
}

/** Result {h3, hash of the sum, |U3|}. */
export function encodeResult(h3: Uint8Array, sumHash: Uint8Array, survivors: number): Uint8Array {
  return encodeParts([h3, sumHash, u32le(survivors)]);
}

export function decodeResult(body: Uint8Array): { h3: Uint8Array; sumHash: Uint8Array; survivors: number } {
  const [h3, sumHash, survivors] = readFields(body, [32, 32, 4]) as [Uint8Array, Uint8Array, Uint8Array];
  return { h3, sumHash, survivors: readU32le(survivors, 0) };
}
