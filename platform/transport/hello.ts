import { encodeParts, equalBytes, hashParts, u32le, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { decodeFrame, encodeFrame, requireKeys } from '../../protocol/frame.ts';
import { LABELS } from '../../protocol/labels.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { NO_TOKEN, TOKEN_BYTES } from './link.ts';

/*
 * The hello (SPEC section 8), four frames without payload:
 *   client -> server  hello      versions, features, id, nonce, largest message, link to resume
 *   server -> client  challenge  version, features, nonce, limits, link, signature of the coordinator over both
 *   client -> server  proof      signature of the node over both
 *   server -> client  welcome
 * Each side signs what it received and what it sent, so versions and features cannot be talked down by a third party.
 */

/** Wire versions that this code speaks. */
const PROTOCOL_MIN = 1;
const PROTOCOL_MAX = 1;

/** Safety features of the wire; a peer that lacks one is refused, whatever its version. */
export const REQUIRED_FEATURES: readonly string[] = ['strict', 'fragments', 'resume'];

const NONCE_BYTES = 32;
const ID_BYTES = 32;
const SIGNATURE_BYTES = 64;
const MAX_FEATURES = 16;
const NOTHING = new Uint8Array(0);

export interface Hello {
  readonly protoMin: number;
  readonly protoMax: number;
  readonly features: readonly string[];
  readonly id: Uint8Array;
  readonly nonce: Uint8Array;
  readonly maxMessageBytes: number;
  /** Link to resume, all zeros for none, and the messages of it that were handed out here. */
  readonly token: Uint8Array;
  readonly received: number;
}

export interface Challenge {
  readonly proto: number;
  readonly features: readonly string[];
  readonly nonce: Uint8Array;
  readonly maxMessageBytes: number;
  readonly heartbeatMs: number;
  /** The link of this connection: the one that the hello named, or a new one. */
  readonly token: Uint8Array;
  readonly resumed: 0 | 1;
  /** Messages of a resumed link that were handed out at the server. */
  readonly received: number;
}

type Fields = Readonly<Record<string, unknown>>;

function open(bytes: Uint8Array, type: string, keys: readonly string[]): Fields {
  const { header } = decodeFrame(bytes, { maxHeaderBytes: LIMITS.helloBytes, maxPayloadBytes: 0 });
  if (header['t'] !== type) throw new CoveyError('PROTO_UNEXPECTED', `"t" expected ${type}`);
  requireKeys(header, ['t', 'payloadBytes', ...keys]);
  return header;
}

function integerField(fields: Fields, key: string, low: number, high: number): number {
  const value = fields[key];
  if (typeof value !== 'number' || !Number.isInteger(value) || value < low || value > high) {
    throw new CoveyError('CODEC_TYPE', `"${key}" expected an integer from ${low} to ${high}`);
  }
  return value;
}

function bytesField(fields: Fields, key: string, length: number): Uint8Array {
  const value = fields[key];
  if (!(value instanceof Uint8Array) || value.length !== length)
    throw new CoveyError('CODEC_TYPE', `"${key}" expected ${length} bytes`);
  return Uint8Array.from(value);
}

function featuresField(fields: Fields): readonly string[] {
  const value = fields['features'];
  if (
    !Array.isArray(value) ||
    value.length > MAX_FEATURES ||
    !value.every((f) => typeof f === 'string' && /^[a-z0-9-]{1,32}$/.test(f))
  ) {
    throw new CoveyError('CODEC_TYPE', `"features" expected at most ${MAX_FEATURES} short names`);
  }
  return value as string[];
}

/** A hello of this version for a node. Random: `nonce` is 32 fresh bytes. */
export function createHello(
  id: Uint8Array,
  nonce: Uint8Array,
  maxMessageBytes: number,
  link: Pick<Hello, 'token' | 'received'> = { token: NO_TOKEN, received: 0 },
): Hello {
  const { token, received } = link;
  const versions = { protoMin: PROTOCOL_MIN, protoMax: PROTOCOL_MAX, features: REQUIRED_FEATURES };
  return { ...versions, id, nonce, maxMessageBytes, token, received };
}

export function encodeHello(hello: Hello): Uint8Array {
  return encodeFrame({ t: 'hello', ...hello }, NOTHING);
}

/** @throws CoveyError CODEC_*, PROTO_UNEXPECTED */
export function decodeHello(bytes: Uint8Array): Hello {
  const fields = open(bytes, 'hello', [
    'protoMin',
    'protoMax',
    'features',
    'id',
    'nonce',
    'maxMessageBytes',
    'token',
    'received',
  ]);
  return {
    protoMin: integerField(fields, 'protoMin', 1, 0xffff),
    protoMax: integerField(fields, 'protoMax', 1, 0xffff),
    features: featuresField(fields),
    id: bytesField(fields, 'id', ID_BYTES),
    nonce: bytesField(fields, 'nonce', NONCE_BYTES),
    maxMessageBytes: integerField(fields, 'maxMessageBytes', LIMITS.helloBytes, 0xffff_ffff),
    token: bytesField(fields, 'token', TOKEN_BYTES),
    received: integerField(fields, 'received', 0, 0xffff_ffff),
  };
}

function requireFeatures(features: readonly string[]): void {
  const missing = REQUIRED_FEATURES.find((feature) => !features.includes(feature));
  if (missing !== undefined)
    throw new CoveyError('PROTO_VERSION', `"features" expected ${missing}, which the peer lacks`);
}

/**
 * The newest version that both ends speak.
 * @throws CoveyError PROTO_VERSION if there is none or a safety feature is missing.
 */
export function chooseVersion(hello: Hello): number {
  requireFeatures(hello.features);
  const proto = Math.min(PROTOCOL_MAX, hello.protoMax);
  if (proto < Math.max(PROTOCOL_MIN, hello.protoMin)) {
    throw new CoveyError(
      'PROTO_VERSION',
      `"protocol" expected ${PROTOCOL_MIN} to ${PROTOCOL_MAX}, got ${hello.protoMin} to ${hello.protoMax}`,
    );
  }
  return proto;
}

/** What both ends sign: role, pinned key, both messages. */
export function helloDigest(
  crypto: Pick<CryptoProvider, 'sha256'>,
  role: 'server' | 'client',
  coordinatorKey: Uint8Array,
  hello: Hello,
  challenge: Challenge,
): Uint8Array {
  const features = (names: readonly string[]): Uint8Array => encodeParts(names.map(utf8));
  return hashParts(
    crypto,
    utf8(LABELS.hello),
    utf8(role),
    coordinatorKey,
    hello.id,
    u32le(hello.protoMin),
    u32le(hello.protoMax),
    features(hello.features),
    hello.nonce,
    u32le(hello.maxMessageBytes),
    hello.token,
    u32le(hello.received),
    u32le(challenge.proto),
    features(challenge.features),
    challenge.nonce,
    u32le(challenge.maxMessageBytes),
    u32le(challenge.heartbeatMs),
    challenge.token,
    u32le(challenge.resumed),
    u32le(challenge.received),
  );
}

export function encodeChallenge(challenge: Challenge, signature: Uint8Array): Uint8Array {
  return encodeFrame({ t: 'challenge', ...challenge, signature }, NOTHING);
}

/**
 * The challenge, after everything that it claims has been checked against the hello that was sent.
 * @throws CoveyError CODEC_*, PROTO_VERSION, AUTH_SIGNATURE if it is not signed with the pinned key.
 */
export function openChallenge(
  crypto: CryptoProvider,
  coordinatorKey: Uint8Array,
  hello: Hello,
  bytes: Uint8Array,
): Challenge {
  const fields = open(bytes, 'challenge', [
    'proto',
    'features',
    'nonce',
    'maxMessageBytes',
    'heartbeatMs',
    'token',
    'resumed',
    'received',
    'signature',
  ]);
  const challenge: Challenge = {
    proto: integerField(fields, 'proto', 1, 0xffff),
    features: featuresField(fields),
    nonce: bytesField(fields, 'nonce', NONCE_BYTES),
    maxMessageBytes: integerField(fields, 'maxMessageBytes', LIMITS.helloBytes, 0xffff_ffff),
    heartbeatMs: integerField(fields, 'heartbeatMs', 1, 3_600_000),
    token: bytesField(fields, 'token', TOKEN_BYTES),
    resumed: integerField(fields, 'resumed', 0, 1) === 1 ? 1 : 0,
    received: integerField(fields, 'received', 0, 0xffff_ffff),
  };
  const signature = bytesField(fields, 'signature', SIGNATURE_BYTES);
  if (
    !crypto.ed25519Verify(signature, helloDigest(crypto, 'server', coordinatorKey, hello, challenge), coordinatorKey)
  ) {
    throw new CoveyError('AUTH_SIGNATURE', '"signature" expected one of the pinned coordinator key');
  }
  requireFeatures(challenge.features);
  if (challenge.proto < hello.protoMin || challenge.proto > hello.protoMax) {
    throw new CoveyError(
      'PROTO_VERSION',
      `"proto" expected ${hello.protoMin} to ${hello.protoMax}, got ${challenge.proto}`,
    );
  }
  if (challenge.resumed === 1 && !equalBytes(challenge.token, hello.token))
    throw new CoveyError('PROTO_UNEXPECTED', '"token" expected the link that the hello named');
  return challenge;
}

export function encodeProof(signature: Uint8Array): Uint8Array {
  return encodeFrame({ t: 'proof', signature }, NOTHING);
}

/** @throws CoveyError CODEC_*, PROTO_UNEXPECTED */
export function decodeProof(bytes: Uint8Array): Uint8Array {
  return bytesField(open(bytes, 'proof', ['signature']), 'signature', SIGNATURE_BYTES);
}

export function encodeWelcome(): Uint8Array {
  return encodeFrame({ t: 'welcome' }, NOTHING);
}

/** @throws CoveyError CODEC_*, PROTO_UNEXPECTED */
export function requireWelcome(bytes: Uint8Array): void {
  open(bytes, 'welcome', []);
}
