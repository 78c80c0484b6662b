import { encodeParts, equalBytes } from './bytes.ts';
import { type Cohort, type Dealers, requireUncut, type SessionContext } from './cohort.ts';
import { CoveyError } from './errors.ts';
import { hashUploads } from './key-schedule.ts';
import { decodeBodies, decodeUpload, readFields, requireSignature, type SignedBody, signMessage } from './messages.ts';
import { firstRemoved } from './noise-seeds.ts';
import type { HeldShares, MemberContext } from './participant-share.ts';
import { rankOf, requireFit } from './roster.ts';
import type { SessionMessage } from './session.ts';

export interface Survivor {
  readonly id: Uint8Array;
  readonly digest: Uint8Array;
}

/** U3 as a member checked it. */
export interface Agreement {
  /** In order of id. */
  readonly survivors: readonly Survivor[];
  readonly h3: Uint8Array;
}

/** Checks U3: members of U2 that all signed this h2; fit; signatures. @see SPEC section 4, P4 */
export function checkUploads(
  context: SessionContext,
  cohort: Cohort,
  { dealers, h2 }: Dealers,
  messages: readonly SignedBody[],
): Agreement {
  const { crypto, roster, params, sid } = context;
  const uploads = messages.map(({ body }) => decodeUpload(body));
  const entries = requireFit(
    roster,
    params,
    uploads.map(({ id }) => id),
    cohort.quorum,
  );
  const survivors = uploads.map((upload, i) => {
    if (rankOf(dealers, upload.id) < 0) throw new CoveyError('PROTO_COHORT', '"survivors" expected members of U2');
    requireSignature(crypto, messages[i] as SignedBody, sid, (entries[i] as { publicKey: Uint8Array }).publicKey);
    if (!equalBytes(upload.h2, h2))
      throw new CoveyError('PROTO_EQUIVOCATION', '"h2" expected the same dealers for everybody');
    return { id: upload.id.slice(), digest: upload.digest.slice() };
  });
  requireUncut(cohort, survivors);
  // More are lost than the noise was made for: too little of it would stay. Nothing is signed, nothing opened.
  const dropped = dealers.length - survivors.length;
  if (params.noise.tolerance !== undefined && dropped > params.noise.tolerance) {
    throw new CoveyError(
      'PRIVACY_COHORT_TOO_SMALL',
      `"survivors" expected at most ${params.noise.tolerance} of U2 missing, got ${dropped}`,
    );
  }
  return {
    survivors,
    h3: hashUploads(
      crypto,
      sid,
      h2,
      survivors.map(({ id, digest }) => [id, digest]),
    ),
  };
}

/** P4: checks U3 and signs its hash. `census`: U3 of the census that binds this session, or null. */
export function agree(
  context: MemberContext,
  cohort: Cohort,
  dealers: Dealers,
  digest: Uint8Array,
  census: readonly Uint8Array[] | null,
  attachment: Uint8Array,
): { readonly agreement: Agreement; readonly message: SessionMessage } {
  const { crypto, identity, params, sid } = context;
  const agreement = checkUploads(context, cohort, dealers, decodeBodies('p3', attachment));
  const own = agreement.survivors[rankOf(agreement.survivors, identity.id)];
  // A member outside U3 signs and opens nothing.
  if (own === undefined || !equalBytes(own.digest, digest))
    throw new CoveyError('PROTO_COHORT', '"survivors" expected the own upload');
  const missing = census === null ? 0 : census.filter((id) => rankOf(agreement.survivors, id) < 0).length;
  if (missing > params.maxLoss) {
    throw new CoveyError(
      'PRIVACY_COHORT_TOO_SMALL',
      `"survivors" expected at most ${params.maxLoss} of the last census missing, got ${missing}`,
    );
  }
  return {
    agreement,
    message: signMessage(crypto, identity.secretSeed, 'p4', sid, encodeParts([identity.id, agreement.h3])),
  };
}

/**
 * Number of distinct members of U3 whose P4 signatures over this h3 verify.
 * @throws CoveyError for a malformed, repeated, foreign or unsigned entry.
 */
export function countCertificate(
  context: SessionContext,
  { survivors, h3 }: Agreement,
  messages: readonly SignedBody[],
): number {
  const signers = new Set<number>();
  for (const message of messages) {
    const [id, signed] = readFields(message.body, [32, 32]) as [Uint8Array, Uint8Array];
    if (!equalBytes(signed, h3))
      throw new CoveyError('PROTO_EQUIVOCATION', '"h3" expected the own view of the survivors');
    const rank = rankOf(survivors, id);
    if (rank < 0 || signers.has(rank))
      throw new CoveyError('PROTO_COHORT', '"signers" expected distinct members of U3');
    const entry = context.roster.entries[rankOf(context.roster.entries, id)];
    requireSignature(context.crypto, message, context.sid, entry?.publicKey ?? id);
    signers.add(rank);
  }
  return signers.size;
}

/**
 * P5: with q signatures over the own h3, opens one share of every dealer that it holds shares of: of b for survivors, of
 * the mask key for the rest. With removable noise also that of s_{D+1} for survivors, D the number of lost members.
 */
export function answerCertificate(
  context: MemberContext,
  cohort: Cohort,
  { dealers }: Dealers,
  agreement: Agreement,
  held: ReadonlyMap<number, HeldShares>,
  attachment: Uint8Array,
): SessionMessage {
  const { crypto, identity, params, sid } = context;
  const signatures = countCertificate(context, agreement, decodeBodies('p4', attachment));
  if (signatures < cohort.quorum) {
    throw new CoveyError(
      'PROTO_COHORT',
      `"certificate" expected at least ${cohort.quorum} signatures, got ${signatures}`,
    );
  }
  // The partition and D follow from U2 and U3; the coordinator cannot ask for a share of its choice.
  const first = firstRemoved(params, dealers.length, dealers.length - agreement.survivors.length);
  const openings = dealers.flatMap(({ id }) => {
    const shares = held.get(rankOf(cohort.advertisements, id));
    if (shares === undefined) return [];
    if (rankOf(agreement.survivors, id) < 0) return [encodeParts([shares.shareS, shares.openingS])];
    const root = first === null ? undefined : shares.roots[first - 1];
    const opened = root === undefined ? [] : [root.share, root.opening];
    return [encodeParts([shares.shareB, shares.openingB, ...opened])];
  });
  const bundle = encodeParts(openings);
  return signMessage(
    crypto,
    identity.secretSeed,
    'p5',
    sid,
    encodeParts([identity.id, agreement.h3, crypto.sha256(bundle)]),
    bundle,
  );
}
