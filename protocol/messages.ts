import { decodeParts, encodeParts, equalBytes, hashParts, utf8 } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import { LABELS } from './labels.ts';
import type { MessageType, SessionMessage } from './session.ts';

const LABEL_OF: Readonly<Record<MessageType, string>> = {
  p0: LABELS.p0,
  p1: LABELS.p1,
  'p1-all': LABELS.p1All,
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
  return { type, sid, body, attachment, signature: crypto.ed25519Sign(signedBytes(crypto, type, sid, body), secretSeed) };
}

/** @throws CoveyError AUTH_SIGNATURE unless `publicKey` signed this body as a message of this type and session. */
export function requireSignature(crypto: CryptoProvider, message: SignedBody, sid: Uint8Array, publicKey: Uint8Array): void {
  if (!crypto.ed25519Verify(message.signature, signedBytes(crypto, message.type, sid, message.body), publicKey)) {
    throw new CoveyError('AUTH_SIGNATURE', `"signature" of a ${message.type} message does not verify`);
  }
}

export type SignedBody = Pick<SessionMessage, 'type' | 'body' | 'signature'>;

/** A list of other members' signed bodies, as one attachment. */
export function encodeBodies(messages: readonly Pick<SignedBody, 'body' | 'signature'>[]): Uint8Array {
  return encodeParts(messages.flatMap(({ body, signature }) => [body, signature]));
}

export function decodeBodies(type: MessageType, bytes: Uint8Array): SignedBody[] {
  const parts = decodeParts(bytes);
  if (parts.length % 2 !== 0) throw new CoveyError('CODEC_TRUNCATED', '"list" expected pairs of body and signature');
  const messages: SignedBody[] = [];
  for (let i = 0; i < parts.length; i += 2) messages.push({ type, body: parts[i] as Uint8Array, signature: parts[i + 1] as Uint8Array });
  return messages;
}

/** A coordinator message whose body is the hash of its attachment. */
export function signList(crypto: CryptoProvider, secretSeed: Uint8Array, type: MessageType, sid: Uint8Array, attachment: Uint8Array): SessionMessage {
  return signMessage(crypto, secretSeed, type, sid, crypto.sha256(attachment), attachment);
}

/** @throws CoveyError CODEC_TYPE unless the body is the hash of the attachment. */
export function requireBoundAttachment(crypto: CryptoProvider, message: SessionMessage): void {
  if (!equalBytes(crypto.sha256(message.attachment), message.body)) throw new CoveyError('CODEC_TYPE', '"attachment" does not match its signed hash');
}

/** Fields of a body with fixed lengths. @throws CoveyError CODEC_* */
export function readFields(body: Uint8Array, lengths: readonly number[]): Uint8Array[] {
  const parts = decodeParts(body, lengths.length);
  parts.forEach((part, i) => {
    if (part.length !== lengths[i]) throw new CoveyError('CODEC_TYPE', `"body" expected ${lengths[i]} bytes in field ${i}, got ${part.length}`);
  });
  return parts;
}

/** P1: keys and the commitment to the self-mask seed. */
export interface Advertisement {
  readonly id: Uint8Array;
  readonly encryptionKey: Uint8Array;
  readonly maskKey: Uint8Array;
  readonly seedCommitment: Uint8Array;
}

export function encodeAdvertisement(a: Advertisement): Uint8Array {
  return encodeParts([a.id, a.encryptionKey, a.maskKey, a.seedCommitment]);
}

export function decodeAdvertisement(body: Uint8Array): Advertisement {
  const [id, encryptionKey, maskKey, seedCommitment] = readFields(body, [32, 32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  return { id, encryptionKey, maskKey, seedCommitment };
}

/** Bytes of a sealed bundle of two shares and their openings: 4 x 32 and the GCM tag. */
export const SEALED_SHARES_BYTES = 144;

/** Commitments of one holder's two shares and the hash of the ciphertext: one leaf of a dealer's tree. */
export interface ShareLeaf {
  readonly commitmentB: Uint8Array;
  readonly commitmentS: Uint8Array;
  readonly ciphertextHash: Uint8Array;
}

export function encodeLeaf(leaf: ShareLeaf): Uint8Array {
  return encodeParts([leaf.commitmentB, leaf.commitmentS, leaf.ciphertextHash]);
}

export function decodeLeaf(bytes: Uint8Array): ShareLeaf {
  const [commitmentB, commitmentS, ciphertextHash] = readFields(bytes, [32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array];
  return { commitmentB, commitmentS, ciphertextHash };
}
