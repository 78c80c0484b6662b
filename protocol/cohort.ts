import { equalBytes } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import {
  areNeighbours,
  buildGraph,
  type Graph,
  type GraphPlan,
  neighboursOf,
  planGraph,
  requireUncutRing,
} from './graph.ts';
import { commitGraphSeed, hashAdvertisements, hashReveals } from './key-schedule.ts';
import {
  type Advertisement,
  decodeAdvertisement,
  decodeDealing,
  decodeReveal,
  requireSignature,
  type SignedBody,
} from './messages.ts';
import { toleranceOf } from './noise-seeds.ts';
import { rankOf, requireFit, sparseQuorum, strictThreshold } from './roster.ts';
import type { Roster, RosterEntry, SessionParams } from './session.ts';

/** Public facts of a session that both ends check against. */
export interface SessionContext {
  readonly crypto: CryptoProvider;
  readonly roster: Roster;
  readonly params: SessionParams;
  readonly sid: Uint8Array;
}

/** U1 as whoever holds this checked it, with everything that follows from it. */
export interface Cohort {
  /** In order of id. */
  readonly advertisements: readonly Advertisement[];
  /** t: shares that give a secret back. */
  readonly threshold: number;
  /** q: signatures that make a certificate; t in the strict profile. */
  readonly quorum: number;
  readonly h1: Uint8Array;
  /** Null in the strict profile. */
  readonly plan: GraphPlan | null;
  /** Null in the strict profile, and in the sparse one until its seed was revealed. */
  readonly graph: Graph | null;
}

export interface Dealer {
  readonly id: Uint8Array;
  readonly root: Uint8Array;
}

/** U2 as whoever holds this checked it. */
export interface Dealers {
  /** In order of id. */
  readonly dealers: readonly Dealer[];
  readonly h2: Uint8Array;
}

/**
 * A P1 body of this session: with a commitment to a part of the graph seed in the sparse profile, and with the end of a chain
 * of seeds where noise is removable; neither where the session does not have it.
 */
export function readAdvertisement(params: Pick<SessionParams, 'profile' | 'noise'>, body: Uint8Array): Advertisement {
  const isSparse = params.profile === 'sparse';
  const isRemovable = toleranceOf(params) > 0;
  const decoded = decodeAdvertisement(body, isSparse && isRemovable ? 6 : 5);
  const { graphCommitment: first, noiseCommitment: second = null, ...keys } = decoded;
  const fields = (first === null ? 0 : 1) + (second === null ? 0 : 1);
  if (fields !== (isSparse ? 1 : 0) + (isRemovable ? 1 : 0))
    throw new CoveyError('CODEC_TYPE', `"body" expected an advertisement of the ${params.profile} profile`);
  // The one field of a strict session is the end of a chain.
  return isSparse
    ? { ...keys, graphCommitment: first, noiseCommitment: second }
    : { ...keys, graphCommitment: null, noiseCommitment: first };
}

/** Checks U1: fit, few enough colluders, all keys distinct across members and both kinds, signatures. @see SPEC section 4 */
export function checkAdvertisements(context: SessionContext, messages: readonly SignedBody[]): Cohort {
  const { crypto, roster, params, sid } = context;
  const advertisements = messages.map(({ body }) => readAdvertisement(params, body));
  const members = advertisements.length;
  const ids = advertisements.map(({ id }) => id);
  const isSparse = params.profile === 'sparse';
  const quorum = isSparse ? sparseQuorum(members, params.colluders) : strictThreshold(members);
  const entries = requireFit(roster, params, ids, quorum);
  // An absolute bound: the coordinator chooses who enters U1, so a fraction of the roster would prove nothing.
  if (!isSparse && 3 * params.colluders >= members) {
    throw new CoveyError(
      'PRIVACY_COHORT_TOO_SMALL',
      `"members" expected more than ${3 * params.colluders} for ${params.colluders} colluders, got ${members}`,
    );
  }
  const keys = new Set(advertisements.flatMap(({ encryptionKey: e, maskKey: m }) => [e.join(), m.join()]));
  if (keys.size !== 2 * members) throw new CoveyError('PROTO_COHORT', '"keys" expected distinct keys of all members');
  messages.forEach((message, i) => {
    requireSignature(crypto, message, sid, (entries[i] as RosterEntry).publicKey);
  });
  const h1 = hashAdvertisements(
    crypto,
    sid,
    messages.map(({ body }) => body),
  );
  const plan = isSparse ? planGraph(crypto, params, h1, ids) : null;
  return { advertisements, threshold: plan?.threshold ?? quorum, quorum, h1, plan, graph: null };
}

/**
 * Checks P1R and draws the graph: the whole committee revealed, under this h1, what it had committed to.
 * @see SPEC section 5
 */
export function checkReveals(context: SessionContext, cohort: Cohort, messages: readonly SignedBody[]): Cohort {
  const { crypto, roster, sid } = context;
  const { advertisements, h1, plan } = cohort;
  if (plan === null) throw new CoveyError('PROTO_UNEXPECTED', '"reveals" expected none in the strict profile');
  if (messages.length !== plan.committee.length)
    throw new CoveyError('PROTO_COHORT', `"reveals" expected ${plan.committee.length}, got ${messages.length}`);
  const seeds = messages.map((message, i) => {
    const reveal = decodeReveal(message.body);
    const member = advertisements[plan.committee[i] as number] as Advertisement;
    if (!equalBytes(reveal.id, member.id))
      throw new CoveyError('PROTO_COHORT', '"reveals" expected the committee in order');
    const entry = roster.entries[rankOf(roster.entries, reveal.id)];
    requireSignature(crypto, message, sid, entry?.publicKey ?? reveal.id);
    requireReveal(context, cohort, member, reveal);
    return reveal.seed;
  });
  const ids = advertisements.map(({ id }) => id);
  return { ...cohort, graph: buildGraph(crypto, plan, hashReveals(crypto, sid, h1, seeds), ids) };
}

/** One reveal against its member's advertisement. @throws CoveyError PROTO_EQUIVOCATION, CRYPTO_COMMITMENT */
export function requireReveal(
  { crypto, sid }: SessionContext,
  { h1 }: Cohort,
  { id, graphCommitment }: Advertisement,
  reveal: { readonly h1: Uint8Array; readonly seed: Uint8Array },
): void {
  if (!equalBytes(reveal.h1, h1))
    throw new CoveyError('PROTO_EQUIVOCATION', '"h1" expected the same list of members for everybody');
  if (graphCommitment === null || !equalBytes(commitGraphSeed(crypto, sid, id, reveal.seed), graphCommitment))
    throw new CoveyError('CRYPTO_COMMITMENT', '"seed" of a reveal does not open its commitment');
}

/** Checks U2: members of U1 that all signed this h1; fit; an uncut ring; signatures. @see SPEC section 4, P2 */
export function checkDealings(context: SessionContext, cohort: Cohort, messages: readonly SignedBody[]): Dealer[] {
  const { crypto, roster, params, sid } = context;
  const dealings = messages.map(({ body }) => decodeDealing(body));
  const entries = requireFit(
    roster,
    params,
    dealings.map(({ id }) => id),
    cohort.quorum,
  );
  const dealers = dealings.map(({ id, h1, root }, i) => {
    if (rankOf(cohort.advertisements, id) < 0) throw new CoveyError('PROTO_COHORT', '"dealers" expected members of U1');
    requireSignature(crypto, messages[i] as SignedBody, sid, (entries[i] as RosterEntry).publicKey);
    if (!equalBytes(h1, cohort.h1))
      throw new CoveyError('PROTO_EQUIVOCATION', '"h1" expected the same list of members for everybody');
    return { id: id.slice(), root: root.slice() };
  });
  requireUncut(cohort, dealers);
  return dealers;
}

/** In the sparse profile: nobody's arc of the ring is cut off by who is missing from U2 or U3. */
export function requireUncut({ advertisements, graph }: Cohort, list: readonly { readonly id: Uint8Array }[]): void {
  if (graph !== null) requireUncutRing(graph, (rank) => rankOf(list, (advertisements[rank] as Advertisement).id) >= 0);
}

const everybody = new WeakMap<readonly Advertisement[], readonly number[]>();

/** Ranks in U1 of those who hold shares of a member's secrets, ascending: all of U1 and itself, or its neighbours. */
export function holdersOf({ advertisements, plan, graph }: Cohort, dealer: number): readonly number[] {
  if (graph !== null) return neighboursOf(graph, dealer);
  if (plan !== null) throw new CoveyError('INTERNAL_INVARIANT', 'a sparse cohort without its graph');
  const all = everybody.get(advertisements) ?? advertisements.map((_, rank) => rank);
  everybody.set(advertisements, all);
  return all;
}

const dealerRanks = new WeakMap<readonly Dealer[], ReadonlySet<number>>();

/** Members of U2 whose shares a member holds, by rank in U1, ascending: the graph is the same from both ends. */
export function dealersFor(cohort: Cohort, { dealers }: Dealers, holder: number): readonly number[] {
  const ranks = dealerRanks.get(dealers) ?? new Set(dealers.map(({ id }) => rankOf(cohort.advertisements, id)));
  dealerRanks.set(dealers, ranks);
  const held: number[] = [];
  for (const rank of holdersOf(cohort, holder)) if (ranks.has(rank)) held.push(rank);
  return held;
}

/** True if two different members exchange shares and pair masks. */
export function arePeers({ graph }: Cohort, a: number, b: number): boolean {
  return a !== b && (graph === null || areNeighbours(graph, a, b));
}
