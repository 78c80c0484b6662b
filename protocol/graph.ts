import { compareBytes, hashParts, utf8 } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import { LABELS } from './labels.ts';
import { LIMITS } from './limits.ts';
import type { SessionParams } from './session.ts';

/*
 * The neighbour graph of the sparse profile (SPEC section 5): its degree and threshold, who draws its seed, who is whose
 * neighbour. Every member computes all of it by itself and must get what the others get, so the tails below use nothing
 * but +, -, * and /, which every engine rounds alike.
 */

/** Statistical security and correctness of one graph, in bits, where nothing else is asked. */
const SIGMA = 40;
const ETA = 30;
/**
 * Security of the graph of a session, in bits: 2^-40 for a round in which the coordinator looks at no more than 16 attempts
 * times 65,535 members graphs, each of which costs it an honest member.
 */
const SESSION_SIGMA = 60;
/** At most this probability that members who vanish by chance cut the ring: the session ends, the next attempt draws another. */
const CUT_BY_CHANCE = 2 ** -12;
/** 2^128 attempts at choosing U1 and SIGMA on top. */
const COMMITTEE_BOUND = 2 ** -168;

const TINY = 2 ** -512;
const HUGE = 2 ** 512;

/** A product of factors in (0, 1] that may fall far below the smallest double: value = mantissa * TINY^scale. */
interface Scaled {
  mantissa: number;
  scale: number;
}

function multiply(product: Scaled, factor: number): void {
  product.mantissa *= factor;
  if (product.mantissa !== 0 && product.mantissa < TINY) {
    product.mantissa *= HUGE;
    product.scale += 1;
  } else if (product.mantissa > 1 && product.scale > 0) {
    product.mantissa *= TINY;
    product.scale -= 1;
  }
}

/** As a double: far below any bound that is compared with it, zero is as good. */
const asNumber = ({ mantissa, scale }: Scaled): number => (scale === 0 ? mantissa : scale === 1 ? mantissa * TINY : 0);

/**
 * P[X = lowest + i] of the number X of marked ones among `drawn` of `population`, `marked` of which are marked.
 * @returns the lowest possible X and the probabilities from there on.
 */
function hypergeometric(population: number, marked: number, drawn: number): { lowest: number; pmf: Float64Array } {
  const unmarked = population - marked;
  const lowest = Math.max(0, drawn - unmarked);
  const highest = Math.min(drawn, marked);
  const term: Scaled = { mantissa: 1, scale: 0 };
  // At the lowest X either no marked one is drawn, or what is left behind is all marked.
  if (lowest === 0) for (let i = 0; i < drawn; i++) multiply(term, (unmarked - i) / (population - i));
  else for (let i = 0; i < population - drawn; i++) multiply(term, (marked - i) / (population - i));
  const pmf = new Float64Array(highest - lowest + 1);
  for (let x = lowest; x <= highest; x++) {
    pmf[x - lowest] = asNumber(term);
    multiply(term, ((marked - x) * (drawn - x)) / ((x + 1) * (unmarked - drawn + x + 1)));
  }
  return { lowest, pmf };
}

/** Least x with P[X > x] <= bound. */
function upperBound(population: number, marked: number, drawn: number, bound: number): number {
  const { lowest, pmf } = hypergeometric(population, marked, drawn);
  let tail = 0;
  for (let i = pmf.length - 1; i > 0; i--) {
    tail += pmf[i] as number;
    if (tail > bound) return lowest + i;
  }
  return lowest;
}

/** Largest x with P[X < x] <= bound. */
function lowerBound(population: number, marked: number, drawn: number, bound: number): number {
  const { lowest, pmf } = hypergeometric(population, marked, drawn);
  let tail = 0;
  for (let i = 0; i < pmf.length; i++) {
    tail += pmf[i] as number;
    if (tail > bound) return lowest + i;
  }
  return lowest + pmf.length;
}

export interface GraphQuery {
  readonly members: number;
  /** Number of members that collude with the coordinator. */
  readonly corrupt: number;
  /** Number of members that may vanish. */
  readonly dropped: number;
  /** Against a coordinator that only listens, or (default) one that asks different members for different things. */
  readonly model?: 'semi-honest' | 'semi-malicious';
  /** Default 40: the probability that some secret is not protected is below 2^-sigma. */
  readonly sigma?: number;
  /** Default 30: the probability that some secret cannot be reconstructed is below 2^-eta. */
  readonly eta?: number;
  readonly maxDegree?: number;
}

export interface GraphParameters {
  /** k, even: number of neighbours of every member. */
  readonly degree: number;
  /** t: shares that give a secret back. */
  readonly threshold: number;
}

/** True if the members that neither collude nor vanish may be cut in two, by a union bound over all pairs of arcs. */
function mayFallApart(members: number, bad: number, degree: number, sigma: number): boolean {
  if (degree > bad) return false;
  const product: Scaled = { mantissa: 1, scale: 0 };
  for (let i = 0; i < degree; i++) multiply(product, (bad - i) / (members - i));
  return asNumber(product) * ((members * Math.max(members - degree - 1, 1)) / 2) >= 2 ** -(sigma + 1);
}

/**
 * Least even degree k of a Harary graph on randomly placed members, and the least threshold t for it, such that
 * nobody has t corrupt neighbours and the honest survivors are connected (2^-sigma together), everybody keeps t surviving
 * neighbours (2^-eta), and 2t > k + t1 where t1 bounds the corrupt neighbours: no secret loses t shares of both kinds.
 * @param accepts a further condition on the degree
 * @returns null if only the complete graph will do, or none of at most `maxDegree`.
 * @see Bell et al. 2020, section 3 and appendix; SPEC section 5
 */
export function graphParameters(
  query: GraphQuery,
  accepts: (degree: number) => boolean = () => true,
): GraphParameters | null {
  const { members, corrupt, dropped, model = 'semi-malicious', sigma = SIGMA, eta = ETA } = query;
  const maxDegree = Math.min(query.maxDegree ?? members, members - 2);
  const corruptBound = 2 ** -(sigma + 1) / members;
  const survivorBound = 2 ** -eta / members;
  for (let degree = 2; degree <= maxDegree; degree += 2) {
    if (mayFallApart(members, corrupt + dropped, degree, sigma)) continue;
    const mostCorrupt = upperBound(members, corrupt, degree, corruptBound);
    const surviving = lowerBound(members, members - dropped, degree, survivorBound);
    const least = model === 'semi-honest' ? mostCorrupt + 1 : Math.floor((degree + mostCorrupt) / 2) + 1;
    const threshold = Math.max(least, 2);
    if (surviving >= threshold && accepts(degree)) return { degree, threshold };
  }
  return null;
}

/** (k, t) of a session, and a: any k/2 neighbouring positions of the ring must hold more members of U2 and of U3. */
export interface SessionGraph extends GraphParameters {
  readonly windowCorrupt: number;
}

/**
 * The graph that a session of this size uses: `graphParameters` at a security that survives a coordinator's looking at many
 * graphs, with windows that members who vanish by chance do not empty.
 * @returns null if there is none of at most `LIMITS.degree` neighbours.
 */
export function sessionGraph(members: number, corrupt: number, dropped: number): SessionGraph | null {
  if (corrupt + dropped >= members) return null;
  const bound = 2 ** -(SESSION_SIGMA + 1) / members;
  const windowCorrupt = (degree: number) => upperBound(members, corrupt, degree / 2, bound);
  const mayBeCut = CUT_BY_CHANCE / members;
  const found = graphParameters(
    { members, corrupt, dropped, sigma: SESSION_SIGMA, maxDegree: LIMITS.degree },
    (degree) => lowerBound(members, members - dropped, degree / 2, mayBeCut) > windowCorrupt(degree),
  );
  return found === null ? null : { ...found, windowCorrupt: windowCorrupt(found.degree) };
}

/** What a member of U1 knows of the graph before its seed is drawn. */
export interface GraphPlan extends SessionGraph {
  /** Ranks of the members that draw the seed, in order. */
  readonly committee: readonly number[];
}

/** The graph on U1, by rank in U1. */
export interface Graph extends GraphPlan {
  /** Rank of the member at each position of the ring. */
  readonly ring: Uint16Array;
  /** Position of each rank. */
  readonly positions: Uint16Array;
}

const plans = new Map<string, SessionGraph>();
const MAX_PLANS = 64;

/** (k, t) and a from |U1|, c and the dropout fraction. @throws CoveyError PRIVACY_COHORT_TOO_SMALL */
function planFor(members: number, params: Pick<SessionParams, 'colluders' | 'dropoutFraction'>): SessionGraph {
  const { colluders, dropoutFraction } = params;
  const name = `${members}/${colluders}/${dropoutFraction}`;
  const known = plans.get(name);
  if (known !== undefined) return known;
  // The fraction is written in decimals: 0.29 of 100 are 29, not 28.
  const dropped = Math.floor((dropoutFraction + 1e-14) * members);
  const found = sessionGraph(members, colluders, dropped);
  if (found === null) {
    throw new CoveyError(
      'PRIVACY_COHORT_TOO_SMALL',
      `"members" expected a cohort with a sparse graph, got ${members} with ${colluders} colluders and ${dropped} that may vanish`,
    );
  }
  if (plans.size >= MAX_PLANS) plans.clear();
  plans.set(name, found);
  return found;
}

/** Number of members that draw the seed: at least one of them is honest, whatever U1 was chosen. */
export function committeeSize(members: number, colluders: number): number {
  let size = 1;
  for (let all = colluders / members; all > COMMITTEE_BOUND && size < members; size++) all *= colluders / members;
  return size;
}

/** Items sorted by a hash of each id; equal hashes would be a collision. */
function sortedBy(ids: readonly Uint8Array[], hash: (id: Uint8Array) => Uint8Array): number[] {
  return ids
    .map((id, rank) => ({ rank, key: hash(id) }))
    .sort((a, b) => compareBytes(a.key, b.key))
    .map(({ rank }) => rank);
}

/** Everything about the graph that follows from U1. Shapes: `ids` in order. @throws CoveyError PRIVACY_COHORT_TOO_SMALL */
export function planGraph(
  crypto: CryptoProvider,
  params: SessionParams,
  h1: Uint8Array,
  ids: readonly Uint8Array[],
): GraphPlan {
  const plan = planFor(ids.length, params);
  const drawn = sortedBy(ids, (id) => hashParts(crypto, utf8(LABELS.committee), h1, id));
  const committee = drawn.slice(0, committeeSize(ids.length, params.colluders)).sort((a, b) => a - b);
  return { ...plan, committee };
}

/** The Harary graph on the ring of U1 in order of H(seed, id): neighbours are at most k/2 positions apart. */
export function buildGraph(
  crypto: CryptoProvider,
  plan: GraphPlan,
  seed: Uint8Array,
  ids: readonly Uint8Array[],
): Graph {
  const ring = Uint16Array.from(sortedBy(ids, (id) => hashParts(crypto, utf8(LABELS.ring), seed, id)));
  const positions = new Uint16Array(ring.length);
  ring.forEach((rank, position) => {
    positions[rank] = position;
  });
  return { ...plan, ring, positions };
}

/** Ranks of a member's neighbours, ascending. */
export function neighboursOf({ ring, positions, degree }: Graph, rank: number): number[] {
  const position = positions[rank] as number;
  const found: number[] = [];
  for (let step = 1; step <= degree / 2; step++) {
    found.push(ring[(position + step) % ring.length] as number);
    found.push(ring[(position - step + ring.length) % ring.length] as number);
  }
  return found.sort((a, b) => a - b);
}

/** True if two different members are at most k/2 positions apart. */
export function areNeighbours({ ring, positions, degree }: Graph, a: number, b: number): boolean {
  const distance = Math.abs((positions[a] as number) - (positions[b] as number));
  return Math.min(distance, ring.length - distance) <= degree / 2;
}

/**
 * Refuses a set that cuts the ring: where any k/2 neighbouring positions hold more members than may collude there, one of
 * them is honest and the honest members form one connected part, whoever was left out.
 * @throws CoveyError PRIVACY_COHORT_TOO_SMALL @see SPEC section 5
 */
export function requireUncutRing(graph: Graph, isMember: (rank: number) => boolean): void {
  const { ring, degree, windowCorrupt } = graph;
  const width = degree / 2;
  let inside = 0;
  for (let i = 0; i < width; i++) if (isMember(ring[i] as number)) inside += 1;
  for (let start = 0; start < ring.length; start++) {
    if (inside <= windowCorrupt) {
      throw new CoveyError(
        'PRIVACY_COHORT_TOO_SMALL',
        `"members" expected more than ${windowCorrupt} in any ${width} neighbouring positions of the ring, got ${inside}`,
      );
    }
    if (isMember(ring[start] as number)) inside -= 1;
    if (isMember(ring[(start + width) % ring.length] as number)) inside += 1;
  }
}
