import type { AggregatorSession, RevealedSecrets } from './aggregator-state.ts';
import { isPublishedSecret, removedComponents, rootStepsOf, unmaskSeeds } from './aggregator-unmask.ts';
import { decodeParts, encodeParts, equalBytes, toHex } from './bytes.ts';
import {
  type Cohort,
  checkAdvertisements,
  checkDealings,
  checkReveals,
  type Dealers,
  type SessionContext,
} from './cohort.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import { hashDealers } from './key-schedule.ts';
import { decodeBodies, decodeResult, encodeBodies, requireSignature, type SignedBody } from './messages.ts';
import { coordinateCount, decodeParams, rosterHash, sessionId } from './params.ts';
import { type Agreement, checkUploads, countCertificate } from './participant-unmask.ts';
import { addWords, applyMasks, bytesToWords, hasStrayBits, ringWordCount, wordsToBytes } from './ring.ts';
import { rankOf } from './roster.ts';
import type { MessageType, NoiseComponent, Roster, SessionMessage, SessionParams } from './session.ts';

/**
 * What the coordinator saw of a completed session: signed bodies, masked vectors of U3, the secrets that P5
 * gave back in order of U2, the signed result. The vectors are there for a census only; who keeps those of other sessions
 * puts them in their place. Never shares, ciphertexts, late uploads. Its reader has the coordinator's
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
    encodeBodies(session.reveals),
    encodeBodies(session.p2),
    encodeBodies(session.p3),
    encodeParts(vectors),
    encodeBodies(session.p4),
    encodeParts(
      // The five bits that X25519 ignores would be the only ones of a transcript that nothing checks.
      session.dealers.dealers.map(({ id }, i) => {
        const secret = secrets[i] as Uint8Array;
        return rankOf(session.agreement.survivors, id) >= 0 ? secret : clampScalar(secret);
      }),
    ),
    encodeBodies([result]),
  ]);
}

/** The form of a secret scalar that X25519 works with (RFC 7748, section 5). */
function clampScalar(secret: Uint8Array): Uint8Array {
  return secret.map((byte, i) => (i === 0 ? byte & 248 : i === 31 ? (byte & 127) | 64 : byte));
}

export interface VerifiedTranscript {
  readonly params: SessionParams;
  readonly sid: Uint8Array;
  readonly survivors: readonly Uint8Array[];
  /** The ring sum, recomputed from masked vectors and revealed seeds. */
  readonly sum: Uint32Array;
  /** Sizes of U1 and U2, the P4 signatures that are needed, and those of the certificate. */
  readonly u1: number;
  readonly u2: number;
  readonly quorum: number;
  readonly signatures: number;
}

function single(type: MessageType, bytes: Uint8Array): SignedBody {
  const [message, ...more] = decodeBodies(type, bytes);
  if (message === undefined || more.length > 0)
    throw new CoveyError('CODEC_TRUNCATED', `"transcript" expected one ${type} message`);
  return message;
}

/**
 * Draws the components again and takes them off an unmasked sum, in place; the law of the noise is no part of this
 * protocol. Shapes: `members` is |U2|. @see SPEC section 4, removable noise
 */
export type RemoveNoise = (
  crypto: CryptoProvider,
  sum: Uint32Array,
  params: SessionParams,
  members: number,
  components: readonly NoiseComponent[],
) => void;

/** Takes a transcript in its own order, one vector at a time, so that a long one need not fit into memory. */
export interface TranscriptVerifier {
  /**
   * P0 to P3, as lists; that of P1R is empty in the strict profile. Returns U3 and the length of each of its vectors, which follow in this order.
   * Units: `vectorBytes` in bytes.
   */
  begin(
    p0: Uint8Array,
    p1: Uint8Array,
    p1r: Uint8Array,
    p2: Uint8Array,
    p3: Uint8Array,
  ): { readonly survivors: readonly Uint8Array[]; readonly vectorBytes: number };
  /** The next vector of U3: folded into the sum once it fits its signed digest. */
  takeVector(vector: Uint8Array): void;
  /** P4, the revealed secrets in order of U2, and the signed result. */
  finish(p4: Uint8Array, secrets: Uint8Array, result: Uint8Array): VerifiedTranscript;
}

/**
 * Recomputes the sum of a session and checks every signature, set and commitment on the way. Its methods throw a CoveyError
 * naming the first thing that does not fit (A25: a coordinator that lies about the sum). Memory: one vector and the sum.
 * `removeNoise`: needed for sessions with removable noise.
 */
export function createTranscriptVerifier(
  crypto: CryptoProvider,
  roster: Roster,
  coordinatorKey: Uint8Array,
  removeNoise?: RemoveNoise,
): TranscriptVerifier {
  interface Begun {
    readonly context: SessionContext;
    readonly cohort: Cohort;
    readonly dealers: Dealers;
    readonly agreement: Agreement;
    readonly sum: Uint32Array;
  }
  let begun: Begun | null = null;
  let taken = 0;
  const active = (): Begun => {
    if (begun === null) throw new CoveyError('USAGE_STATE', '"transcript" expected its lists before anything else');
    return begun;
  };

  return {
    begin(p0, p1, p1r, p2, p3) {
      const opening = single('p0', p0);
      const params = decodeParams(opening.body);
      const sid = sessionId(crypto, params);
      requireSignature(crypto, opening, sid, coordinatorKey);
      if (!equalBytes(params.rosterHash, rosterHash(crypto, roster)))
        throw new CoveyError('PRIVACY_POLICY', '"rosterHash" expected the pinned roster');
      const context = { crypto, roster, params, sid };
      const members = checkAdvertisements(context, decodeBodies('p1', p1));
      const reveals = decodeBodies('p1r', p1r);
      const cohort =
        params.profile === 'sparse' || reveals.length > 0 ? checkReveals(context, members, reveals) : members;
      const dealerList = checkDealings(context, cohort, decodeBodies('p2', p2));
      const h2 = hashDealers(
        crypto,
        sid,
        cohort.h1,
        dealerList.map(({ id, root }) => [id, root]),
      );
      const dealers: Dealers = { dealers: dealerList, h2 };
      const agreement = checkUploads(context, cohort, dealers, decodeBodies('p3', p3));
      const sum = new Uint32Array(ringWordCount(coordinateCount(params), params.ring.lanes));
      begun = { context, cohort, dealers, agreement, sum };
      return { survivors: agreement.survivors.map(({ id }) => id), vectorBytes: sum.byteLength };
    },
    takeVector(vector) {
      const { agreement, context, sum } = active();
      const survivor = agreement.survivors[taken];
      if (
        survivor === undefined ||
        vector.length !== sum.byteLength ||
        !equalBytes(crypto.sha256(vector), survivor.digest)
      )
        throw new CoveyError('CODEC_TYPE', '"vector" does not match its signed digest');
      addWords(sum, bytesToWords(vector), context.params.ring.lanes);
      taken += 1;
    },
    finish(p4, secretList, resultBytes) {
      const { context, cohort, dealers, agreement, sum } = active();
      const { params, sid } = context;
      if (taken !== agreement.survivors.length)
        throw new CoveyError('CODEC_TRUNCATED', `"vectors" expected ${agreement.survivors.length}, got ${taken}`);
      const signatures = countCertificate(context, agreement, decodeBodies('p4', p4));
      if (signatures < cohort.quorum)
        throw new CoveyError(
          'ROUND_BELOW_THRESHOLD',
          `"certificate" expected at least ${cohort.quorum} signatures, got ${signatures}`,
        );
      const secrets = decodeParts(secretList, dealers.dealers.length);
      const rootSteps = rootStepsOf(params, dealers, agreement);
      dealers.dealers.forEach(({ id }, i) => {
        const survived = rankOf(agreement.survivors, id) >= 0;
        const secret = secrets[i] as Uint8Array;
        const isCanonical = survived || equalBytes(secret, clampScalar(secret));
        if (!isCanonical || !isPublishedSecret(crypto, sid, cohort, id, survived, secret, rootSteps)) {
          throw new CoveyError('CRYPTO_COMMITMENT', '"secret" does not open what its owner published');
        }
      });
      const { lanes } = params.ring;
      applyMasks(sum, lanes, unmaskSeeds(crypto, sid, cohort, dealers, agreement, secrets), crypto);
      const components = removedComponents(crypto, params, sid, dealers, agreement, secrets);
      if (components.length > 0) {
        if (removeNoise === undefined)
          throw new CoveyError('USAGE_STATE', '"removeNoise" expected for a session with removable noise');
        removeNoise(crypto, sum, params, dealers.dealers.length, components);
      }
      if (hasStrayBits(sum, coordinateCount(params), lanes))
        throw new CoveyError('CODEC_TYPE', '"sum" has bits outside its fields');
      const result = single('result', resultBytes);
      requireSignature(crypto, result, sid, coordinatorKey);
      const { h3, sumHash, survivors } = decodeResult(result.body);
      if (
        !equalBytes(h3, agreement.h3) ||
        survivors !== agreement.survivors.length ||
        !equalBytes(sumHash, crypto.sha256(wordsToBytes(sum)))
      ) {
        throw new CoveyError('CRYPTO_COMMITMENT', '"result" expected the recomputed sum');
      }
      return {
        params,
        sid,
        survivors: agreement.survivors.map(({ id }) => id),
        sum,
        u1: cohort.advertisements.length,
        u2: dealers.dealers.length,
        quorum: cohort.quorum,
        signatures,
      };
    },
  };
}

/** Number of parts of a transcript; part 5 holds the vectors. @see SPEC section 6 */
export const TRANSCRIPT_PARTS = 9;

/** A whole transcript in memory (censuses, which are small). @throws as `createTranscriptVerifier`. */
export function verifyTranscript(
  crypto: CryptoProvider,
  bytes: Uint8Array,
  roster: Roster,
  coordinatorKey: Uint8Array,
  removeNoise?: RemoveNoise,
): VerifiedTranscript {
  const parts = decodeParts(bytes, TRANSCRIPT_PARTS);
  const part = (i: number): Uint8Array => parts[i] as Uint8Array;
  const verifier = createTranscriptVerifier(crypto, roster, coordinatorKey, removeNoise);
  const { survivors } = verifier.begin(part(0), part(1), part(2), part(3), part(4));
  for (const vector of decodeParts(part(5), survivors.length)) verifier.takeVector(vector);
  return verifier.finish(part(6), part(7), part(8));
}
