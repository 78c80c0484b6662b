import { compareBytes, encodeParts, equalBytes, hashParts, u32le, utf8 } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import { LABELS } from './labels.ts';
import { LIMITS } from './limits.ts';
import type { Roster, RosterEntry, SessionParams } from './session.ts';

type WithId = { readonly id: Uint8Array };

/** Identifier of a node: SHA-256 of its public key. @see SPEC section 3 */
export function nodeId(crypto: Pick<CryptoProvider, 'sha256'>, publicKey: Uint8Array): Uint8Array {
  return crypto.sha256(publicKey);
}

/** Hash that pins a roster: version, members in order of id, revoked ids. */
export function rosterHash(crypto: Pick<CryptoProvider, 'sha256'>, roster: Roster): Uint8Array {
  const members = roster.entries.map(({ id, publicKey, organization }) =>
    encodeParts([id, publicKey, utf8(organization)]),
  );
  return hashParts(
    crypto,
    utf8(LABELS.roster),
    u32le(roster.version),
    encodeParts(members),
    encodeParts(roster.revoked),
  );
}

// Lists of members are immutable, so that an index can live beside each of them: positions by the first bytes of the id,
// which are those of a hash; who grinds for equal ones only makes a bucket longer.
const indexes = new WeakMap<readonly WithId[], ReadonlyMap<number, number | readonly number[]>>();

const prefixOf = (id: Uint8Array): number =>
  (((id[0] ?? 0) << 22) | ((id[1] ?? 0) << 14) | ((id[2] ?? 0) << 6) | ((id[3] ?? 0) >> 2)) >>> 0;

function indexOf(list: readonly WithId[]): ReadonlyMap<number, number | readonly number[]> {
  const known = indexes.get(list);
  if (known !== undefined) return known;
  const index = new Map<number, number | readonly number[]>();
  list.forEach(({ id }, i) => {
    const prefix = prefixOf(id);
    const before = index.get(prefix);
    index.set(prefix, before === undefined ? i : typeof before === 'number' ? [before, i] : [...before, i]);
  });
  indexes.set(list, index);
  return index;
}

/** Position of an id in a list of members, or -1. Cost: constant after the first look into a list. */
export function rankOf(list: readonly WithId[], id: Uint8Array): number {
  const found = indexOf(list).get(prefixOf(id));
  if (found === undefined) return -1;
  if (typeof found === 'number') return equalBytes((list[found] as WithId).id, id) ? found : -1;
  for (const rank of found) if (equalBytes((list[rank] as WithId).id, id)) return rank;
  return -1;
}

/** @throws CoveyError AUTH_UNKNOWN, AUTH_REVOKED */
export function requireEntry(roster: Roster, id: Uint8Array): RosterEntry {
  const entry = roster.entries[rankOf(roster.entries, id)];
  if (entry === undefined) throw new CoveyError('AUTH_UNKNOWN', '"id" expected a member of the roster');
  for (const revoked of roster.revoked)
    if (equalBytes(revoked, id)) throw new CoveyError('AUTH_REVOKED', '"id" expected a member that is not revoked');
  return entry;
}

/**
 * Checks a roster before it is trusted: entries in order of id, ids that are the hashes of their keys.
 * Keys are checked to be of prime order at enrolment. @throws CoveyError USAGE_CONFIG
 */
export function checkRoster(crypto: Pick<CryptoProvider, 'sha256'>, roster: Roster): void {
  roster.entries.forEach(({ id, publicKey }, i) => {
    const before = roster.entries[i - 1];
    if (before !== undefined && compareBytes(before.id, id) >= 0)
      throw new CoveyError('USAGE_CONFIG', '"roster" expected distinct ids in order');
    if (!equalBytes(nodeId(crypto, publicKey), id))
      throw new CoveyError('USAGE_CONFIG', '"roster" expected ids that are the hashes of their keys');
  });
}

/** Strict threshold, computed by every member from |U1| alone: t = floor(2 |U1| / 3) + 1. @see SPEC section 4 */
export function strictThreshold(members: number): number {
  return Math.floor((2 * members) / 3) + 1;
}

/** Sparse certificate: two of q signatures share more than c signers, one of whom is honest. @see SPEC section 5 */
export function sparseQuorum(members: number, colluders: number): number {
  return Math.floor((members + colluders) / 2) + 1;
}

/**
 * fit(U): ids distinct and in order, on the roster, not revoked; |U| >= max(q, minSurvivors); enough organizations.
 * `quorum`: q, signatures of a certificate; in the strict profile it is t.
 * @throws CoveyError PROTO_COHORT, AUTH_UNKNOWN, AUTH_REVOKED, PRIVACY_COHORT_TOO_SMALL @see SPEC section 4
 */
export function requireFit(
  roster: Roster,
  params: SessionParams,
  ids: readonly Uint8Array[],
  quorum: number,
): RosterEntry[] {
  const most = params.profile === 'strict' ? LIMITS.cohort : LIMITS.sparseCohort;
  if (ids.length > most) throw new CoveyError('PROTO_COHORT', `"members" expected at most ${most}, got ${ids.length}`);
  const members = ids.map((id, i) => {
    const before = ids[i - 1];
    if (before !== undefined && compareBytes(before, id) >= 0)
      throw new CoveyError('PROTO_COHORT', '"members" expected distinct ids in order');
    return requireEntry(roster, id);
  });
  const fewest = Math.max(quorum, params.minSurvivors);
  if (members.length < fewest)
    throw new CoveyError('PRIVACY_COHORT_TOO_SMALL', `"members" expected at least ${fewest}, got ${members.length}`);
  const organizations = new Set(members.map(({ organization }) => organization)).size;
  if (organizations < params.minOrgs) {
    throw new CoveyError(
      'PRIVACY_COHORT_TOO_SMALL',
      `"organizations" expected at least ${params.minOrgs}, got ${organizations}`,
    );
  }
  return members;
}
