import { decodeParts, encodeParts, equalBytes, toHex } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import { commitSelfSeed, hashDealers, hashUploads, pairMaskSeed, pairSign, requireFit, selfMaskSeed } from './key-schedule.ts';
import { type Advertisement, decodeBodies, encodeBodies, readFields, requireSignature } from './messages.ts';
import { coordinateCount, decodeParams, sessionId } from './params.ts';
import { checkAdvertisements, countCertificate, rankOf } from './participant-phases.ts';
import { addWords, applyMasks, bytesToWords, hasStrayBits, ringWordCount, wordsToBytes } from './ring.ts';
import type { AggregatorSession, RevealedSecrets } from './aggregator-unmask.ts';
import type { MaskSeed, Roster, SessionMessage, SessionParams } from './session.ts';

/**
 * Everything that the coordinator saw of a completed session: signed bodies, masked vectors of U3, the secrets that P5
 * gave back, the signed result. Never shares, ciphertexts, late uploads. Its reader has the coordinator's view.
 */
export function encodeTranscript(session: AggregatorSession, secrets: RevealedSecrets, result: SessionMessage): Uint8Array {
  const vectors = session.survivors.map(({ id }) => session.uploads.get(toHex(id))?.vector ?? new Uint8Array(0));
  return encodeParts([
    encodeBodies([session.opening]),
    encodeBodies(session.p1),
    encodeBodies(session.p2),
    encodeBodies(session.p3),
    encodeParts(vectors),
    encodeBodies(session.p4),
    encodeParts(session.survivors.map(({ id }) => secrets.selfSeeds.get(toHex(id)) ?? new Uint8Array(0))),
    encodeParts(session.dealers.flatMap(({ id }) => secrets.maskSecrets.get(toHex(id)) ?? [])),
    encodeBodies([result]),
  ]);
}

export interface VerifiedTranscript {
  readonly params: SessionParams;
  readonly sid: Uint8Array;
  readonly survivors: readonly Uint8Array[];
  /** The ring sum, recomputed from masked vectors and revealed seeds. */
  readonly sum: Uint32Array;
}

/**
 * Recomputes the sum of a session from its transcript and checks every signature, set and commitment on the way.
 * @throws CoveyError naming the first thing that does not fit (A25: a coordinator that lies about the sum).
 */
export function verifyTranscript(crypto: CryptoProvider, bytes: Uint8Array, roster: Roster, coordinatorKey: Uint8Array): VerifiedTranscript {
  const parts = decodeParts(bytes, 9);
  const part = (i: number): Uint8Array => parts[i] as Uint8Array;
  const [opening] = decodeBodies('p0', part(0));
  if (opening === undefined) throw new CoveyError('CODEC_TRUNCATED', '"transcript" expected the session parameters');
  const params = decodeParams(opening.body);
  const sid = sessionId(crypto, params);
  requireSignature(crypto, opening, sid, coordinatorKey);
  const context = { crypto, identity: { id: coordinatorKey, secretSeed: new Uint8Array(32) }, roster, params, sid };
  const { advertisements, threshold, h1 } = checkAdvertisements(context, decodeBodies('p1', part(1)));
  const keyOf = (id: Uint8Array): Uint8Array => {
    const entry = roster.entries.find((candidate) => equalBytes(candidate.id, id));
    if (entry === undefined) throw new CoveyError('AUTH_UNKNOWN', '"members" expected ids of the roster');
    return entry.publicKey;
  };
  const p2 = decodeBodies('p2', part(2));
  const dealers = p2.map((message) => {
    const [id, seenH1, root] = readFields(message.body, [32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array];
    if (!equalBytes(seenH1, h1)) throw new CoveyError('PROTO_EQUIVOCATION', '"h1" expected the members of the transcript');
    if (rankOf(advertisements, id) < 0) throw new CoveyError('PROTO_COHORT', '"dealers" expected members of U1');
    requireSignature(crypto, message, sid, keyOf(id));
    return { id, root };
  });
  requireFit(roster, params, dealers.map(({ id }) => id), threshold);
  const h2 = hashDealers(crypto, sid, h1, dealers.map(({ id, root }) => [id, root]));
  const vectors = decodeParts(part(4));
  const lanes = params.ring.lanes;
  const coordinates = coordinateCount(params);
  const sum = new Uint32Array(ringWordCount(coordinates, lanes));
  const survivors = decodeBodies('p3', part(3)).map((message, i) => {
    const [id, seenH2, digest] = readFields(message.body, [32, 32, 32]) as [Uint8Array, Uint8Array, Uint8Array];
    const vector = vectors[i] ?? new Uint8Array(0);
    if (!equalBytes(seenH2, h2)) throw new CoveyError('PROTO_EQUIVOCATION', '"h2" expected the dealers of the transcript');
    if (rankOf(dealers, id) < 0) throw new CoveyError('PROTO_COHORT', '"survivors" expected members of U2');
    requireSignature(crypto, message, sid, keyOf(id));
    if (!equalBytes(crypto.sha256(vector), digest)) throw new CoveyError('CODEC_TYPE', '"vector" does not match its signed digest');
    addWords(sum, bytesToWords(vector), lanes);
    return { id, digest };
  });
  requireFit(roster, params, survivors.map(({ id }) => id), threshold);
  const h3 = hashUploads(crypto, sid, h2, survivors.map(({ id, digest }) => [id, digest]));
  if (countCertificate(context, survivors, h3, decodeBodies('p4', part(5))) < threshold) {
    throw new CoveyError('ROUND_BELOW_THRESHOLD', `"certificate" expected at least ${threshold} signatures`);
  }
  applyMasks(sum, lanes, revealedSeeds(context, advertisements, dealers, survivors, h2, decodeParts(part(6)), decodeParts(part(7))), crypto);
  if (hasStrayBits(sum, coordinates, lanes)) throw new CoveyError('CODEC_TYPE', '"sum" has bits outside its fields');
  const [result] = decodeBodies('result', part(8));
  if (result === undefined) throw new CoveyError('CODEC_TRUNCATED', '"transcript" expected the signed result');
  requireSignature(crypto, result, sid, coordinatorKey);
  const [signedH3, sumHash] = readFields(result.body, [32, 32, 4]) as [Uint8Array, Uint8Array];
  if (!equalBytes(signedH3, h3) || !equalBytes(sumHash, crypto.sha256(wordsToBytes(sum)))) {
    throw new CoveyError('CRYPTO_COMMITMENT', '"result" expected the recomputed sum');
  }
  return { params, sid, survivors: survivors.map(({ id }) => id.slice()), sum };
}

interface TranscriptContext {
  readonly crypto: CryptoProvider;
  readonly sid: Uint8Array;
}

function revealedSeeds(
  { crypto, sid }: TranscriptContext,
  advertisements: readonly Advertisement[],
  dealers: readonly { readonly id: Uint8Array }[],
  survivors: readonly { readonly id: Uint8Array }[],
  h2: Uint8Array,
  selfSeeds: readonly Uint8Array[],
  maskSecrets: readonly Uint8Array[],
): MaskSeed[] {
  const dropped = dealers.filter(({ id }) => rankOf(survivors, id) < 0);
  if (selfSeeds.length !== survivors.length || maskSecrets.length !== dropped.length) {
    throw new CoveyError('CODEC_TRUNCATED', '"seeds" expected one secret for each dealer');
  }
  const advertisementOf = (id: Uint8Array): Advertisement => advertisements[rankOf(advertisements, id)] as Advertisement;
  const seeds: MaskSeed[] = survivors.map(({ id }, i) => {
    const seed = selfSeeds[i] as Uint8Array;
    if (!equalBytes(commitSelfSeed(crypto, sid, id, seed), advertisementOf(id).seedCommitment)) {
      throw new CoveyError('CRYPTO_COMMITMENT', '"seed" does not open its commitment');
    }
    return { seed: selfMaskSeed(crypto, seed, sid, h2, id), sign: -1 };
  });
  dropped.forEach(({ id }, i) => {
    const secret = maskSecrets[i] as Uint8Array;
    if (secret.length !== 32 || !equalBytes(crypto.x25519PublicKey(secret), advertisementOf(id).maskKey)) {
      throw new CoveyError('CRYPTO_COMMITMENT', '"mask key" does not match its public key');
    }
    for (const survivor of survivors) {
      const seed = pairMaskSeed(crypto, secret, advertisementOf(survivor.id).maskKey, sid, h2, id, survivor.id);
      seeds.push({ seed, sign: pairSign(survivor.id, id) === 1 ? -1 : 1 });
    }
  });
  return seeds;
}
