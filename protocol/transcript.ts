import type { AggregatorSession, RevealedSecrets } from './aggregator-state.ts';
import { isPublishedSecret, unmaskSeeds } from './aggregator-unmask.ts';
import { decodeParts, encodeParts, equalBytes, toHex } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import { hashDealers } from './key-schedule.ts';
import { decodeBodies, decodeResult, encodeBodies, requireSignature, type SignedBody } from './messages.ts';
import { coordinateCount, decodeParams, rosterHash, sessionId } from './params.ts';
import { checkAdvertisements, checkDealings, type Dealers } from './participant-share.ts';
import { checkUploads, countCertificate } from './participant-unmask.ts';
import { addWords, applyMasks, bytesToWords, hasStrayBits, ringWordCount, wordsToBytes } from './ring.ts';
import { rankOf } from './roster.ts';
import type { MessageType, Roster, SessionMessage, SessionParams } from './session.ts';

/**
 * Everything that the coordinator saw of a completed session: signed bodies, masked vectors of U3, the secrets that P5
 * gave back in order of U2, the signed result. Never shares, ciphertexts, late uploads. Its reader has the coordinator's
 * view. @see SPEC section 6
 */
export function encodeTranscript(
  session: AggregatorSession,
  secrets: RevealedSecrets,
  result: SessionMessage,
): Uint8Array {
  const vectors = session.agreement.survivors.map(
    ({ id }) => session.uploads.get(toHex(id))?.vector ?? new Uint8Array(0),
  );
  return encodeParts([
    encodeBodies([session.opening]),
    encodeBodies(session.p1),
    encodeBodies(session.p2),
    encodeBodies(session.p3),
    encodeParts(vectors),
    encodeBodies(session.p4),
    encodeParts(secrets),
    encodeBodies([result]),
  ]);
}

export interface VerifiedTranscript {
  readonly params: SessionParams;
  readonly sid: Uint8Array;
  readonly survivors: readonly Uint8Array[];
  /** The ring sum, recomputed from masked vectors and revealed seeds. */
  readonly sum: Uint32Array;
  /** What was verified, in order. */
  readonly checks: readonly string[];
}

function single(type: MessageType, bytes: Uint8Array): SignedBody {
  const [message, ...more] = decodeBodies(type, bytes);
  if (message === undefined || more.length > 0)
    throw new CoveyError('CODEC_TRUNCATED', `"transcript" expected one ${type} message`);
  return message;
}

/**
 * Recomputes the sum of a session from its transcript and checks every signature, set and commitment on the way.
 * @throws CoveyError naming the first thing that does not fit (A25: a coordinator that lies about the sum).
 */
export function verifyTranscript(
  crypto: CryptoProvider,
  bytes: Uint8Array,
  roster: Roster,
  coordinatorKey: Uint8Array,
): VerifiedTranscript {
  const parts = decodeParts(bytes, 8);
  const part = (i: number): Uint8Array => parts[i] as Uint8Array;
  const opening = single('p0', part(0));
  const params = decodeParams(opening.body);
  const sid = sessionId(crypto, params);
  requireSignature(crypto, opening, sid, coordinatorKey);
  if (!equalBytes(params.rosterHash, rosterHash(crypto, roster)))
    throw new CoveyError('PRIVACY_POLICY', '"rosterHash" expected the pinned roster');
  const context = { crypto, roster, params, sid };
  const cohort = checkAdvertisements(context, decodeBodies('p1', part(1)));
  const dealerList = checkDealings(context, cohort, decodeBodies('p2', part(2)));
  const dealers: Dealers = {
    dealers: dealerList,
    h2: hashDealers(
      crypto,
      sid,
      cohort.h1,
      dealerList.map(({ id, root }) => [id, root]),
    ),
  };
  const agreement = checkUploads(context, cohort, dealers, decodeBodies('p3', part(3)));
  const signatures = countCertificate(context, agreement, decodeBodies('p4', part(5)));
  if (signatures < cohort.threshold)
    throw new CoveyError(
      'ROUND_BELOW_THRESHOLD',
      `"certificate" expected at least ${cohort.threshold} signatures, got ${signatures}`,
    );

  const { lanes } = params.ring;
  const coordinates = coordinateCount(params);
  const sum = new Uint32Array(ringWordCount(coordinates, lanes));
  const vectors = decodeParts(part(4), agreement.survivors.length);
  agreement.survivors.forEach(({ digest }, i) => {
    const vector = vectors[i] as Uint8Array;
    if (vector.length !== sum.byteLength || !equalBytes(crypto.sha256(vector), digest))
      throw new CoveyError('CODEC_TYPE', '"vector" does not match its signed digest');
    addWords(sum, bytesToWords(vector), lanes);
  });
  const secrets = decodeParts(part(6), dealerList.length);
  dealerList.forEach(({ id }, i) => {
    if (!isPublishedSecret(crypto, sid, cohort, id, rankOf(agreement.survivors, id) >= 0, secrets[i] as Uint8Array)) {
      throw new CoveyError('CRYPTO_COMMITMENT', '"secret" does not open what its owner published');
    }
  });
  applyMasks(sum, lanes, unmaskSeeds(crypto, sid, cohort, dealers, agreement, secrets), crypto);
  if (hasStrayBits(sum, coordinates, lanes)) throw new CoveyError('CODEC_TYPE', '"sum" has bits outside its fields');
  const result = single('result', part(7));
  requireSignature(crypto, result, sid, coordinatorKey);
  const { h3, sumHash, survivors } = decodeResult(result.body);
  if (
    !equalBytes(h3, agreement.h3) ||
    survivors !== agreement.survivors.length ||
    !equalBytes(sumHash, crypto.sha256(wordsToBytes(sum)))
  ) {
    throw new CoveyError('CRYPTO_COMMITMENT', '"result" expected the recomputed sum');
  }
  const checks = [
    'parameters',
    'roster',
    'U1 and threshold',
    'U2',
    'U3',
    'certificate',
    'uploads',
    'revealed secrets',
    'sum',
    'result',
  ];
  return { params, sid, survivors: agreement.survivors.map(({ id }) => id), sum, checks };
}
