import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { hashParts, toHex, u32le } from '../protocol/bytes.ts';
import {
  areNeighbours,
  buildGraph,
  committeeSize,
  type Graph,
  graphParameters,
  neighboursOf,
  requireUncutRing,
  sessionGraph,
} from '../protocol/graph.ts';
import { GOLDEN_FOLDER, readGolden } from './support/golden.ts';

interface Case {
  readonly n: number;
  readonly corruptFraction: number;
  readonly dropoutFraction: number;
  readonly model: 'semi-honest' | 'semi-malicious';
  readonly sigma: number;
  readonly eta: number;
  readonly degree: number | null;
  readonly threshold?: number | null;
  readonly thresholdAtMostOrEqual?: number;
}

const countOf = (fraction: number, n: number): number => Math.floor((fraction + 1e-14) * n);

const golden = readGolden('secagg-graph.json') as { readonly cases: readonly Case[] } | null;
describe.skipIf(golden === null)(
  `all published graph parameters (folder ${golden ? '' : 'not found: '}${GOLDEN_FOLDER})`,
  () => {
    for (const test of golden?.cases ?? []) {
      const { n, corruptFraction, dropoutFraction, model, sigma, eta } = test;
      it(`n ${n}, ${corruptFraction} corrupt, ${dropoutFraction} dropped, ${model}, eta ${eta}`, () => {
        const found = graphParameters({
          members: n,
          corrupt: countOf(corruptFraction, n),
          dropped: countOf(dropoutFraction, n),
          model,
          sigma,
          eta,
        });
        expect(found?.degree ?? null).toBe(test.degree);
        if (test.thresholdAtMostOrEqual === undefined) expect(found?.threshold ?? null).toBe(test.threshold);
        else expect(found?.threshold).toBeLessThanOrEqual(test.thresholdAtMostOrEqual);
      });
    }
  },
);

describe('neighbour degree and threshold', () => {
  const at = (members: number, corrupt: number, dropped: number) => graphParameters({ members, corrupt, dropped });

  it('meets the published numbers of 1,000 members with a twentieth corrupt and a twentieth dropped', () => {
    expect(at(1_000, 50, 50)).toEqual({ degree: 62, threshold: 43 });
    expect(at(10_000, 500, 500)).toEqual({ degree: 74, threshold: 51 });
  });

  it('of a session leave 2^-40 for a round in which 2^20 graphs are looked at, and windows that chance does not empty', () => {
    expect(sessionGraph(1_000, 50, 50)).toEqual({ degree: 68, threshold: 48, windowCorrupt: 21 });
    expect(sessionGraph(10_000, 500, 500)).toEqual({ degree: 82, threshold: 58, windowCorrupt: 25 });
    expect(graphParameters({ members: 257, corrupt: 84, dropped: 12, sigma: 60 })?.degree).toBe(88);
    // 44 neighbouring positions would hold no more than 41 members too often.
    expect(sessionGraph(257, 84, 12)).toEqual({ degree: 122, threshold: 99, windowCorrupt: 50 });
    expect(sessionGraph(12, 1, 4)).toBeNull();
    expect(sessionGraph(10, 5, 5)).toBeNull();
  });

  it('always keeps 2t > k + the corrupt neighbours anybody may have', () => {
    for (const [n, corrupt, dropped] of [
      [300, 3, 15],
      [1_000, 10, 100],
      [5_000, 250, 250],
    ] as const) {
      const { degree, threshold } = at(n, corrupt, dropped) as { degree: number; threshold: number };
      expect(2 * threshold).toBeGreaterThan(degree);
      expect(degree % 2).toBe(0);
    }
  });

  it('finds no graph where only the complete one will do', () => {
    expect(at(100, 33, 33)).toBeNull();
    expect(graphParameters({ members: 1_000, corrupt: 330, dropped: 330, maxDegree: 900 })).toBeNull();
  });

  it('agrees with exact rational tails', () => {
    // P[X > x] by big integers, for a population small enough.
    const choose = (n: bigint, k: bigint): bigint => {
      let result = 1n;
      for (let i = 0n; i < k; i++) result = (result * (n - i)) / (i + 1n);
      return result;
    };
    const [n, c, k] = [200n, 20n, 60n];
    const { degree, threshold } = at(200, 20, 20) as { degree: number; threshold: number };
    expect([degree, threshold]).toEqual([60, 41]);
    let tail = 0n;
    let most = k < c ? k : c;
    const scale = 1n << 80n;
    for (; most > 0n; most--) {
      tail += (scale * choose(c, most) * choose(n - c, k - most)) / choose(n, k);
      if (tail * n > scale >> 41n) break;
    }
    expect(2 * threshold).toBeGreaterThan(degree + Number(most));
    expect(2 * (threshold - 1)).toBeLessThanOrEqual(degree + Number(most));
  });

  it('needs a larger committee the more members collude', () => {
    expect(committeeSize(1_000, 0)).toBe(1);
    expect(committeeSize(1_000, 1)).toBe(17);
    expect(committeeSize(1_024, 128)).toBe(56);
    expect(committeeSize(10, 9)).toBe(10);
  });
});

describe('the ring', () => {
  const ids = Array.from({ length: 40 }, (_, i) => hashParts(nodeCrypto, u32le(i)));
  const graphOf = (degree: number, windowCorrupt: number, n = 0): Graph =>
    buildGraph(
      nodeCrypto,
      { degree, threshold: 2, windowCorrupt, committee: [] },
      hashParts(nodeCrypto, u32le(n)),
      ids,
    );

  it('gives everybody k neighbours, each of whom is a neighbour back', () => {
    const graph = graphOf(6, 1);
    for (let rank = 0; rank < ids.length; rank++) {
      const own = neighboursOf(graph, rank);
      expect(new Set(own).size).toBe(6);
      expect(own).toEqual([...own].sort((a, b) => a - b));
      for (let other = 0; other < ids.length; other++) {
        if (other === rank) continue;
        expect(areNeighbours(graph, rank, other)).toBe(own.includes(other));
        expect(areNeighbours(graph, other, rank)).toBe(own.includes(other));
      }
    }
  });

  it('moves with its seed', () => {
    const rings = new Set(Array.from({ length: 20 }, (_, n) => toHex(new Uint8Array(graphOf(6, 1, n).ring.buffer))));
    expect(rings.size).toBe(20);
  });

  it('is cut by a window that holds too few, wherever the window lies', () => {
    const graph = graphOf(8, 1);
    requireUncutRing(graph, () => true);
    for (let start = 0; start < ids.length; start++) {
      const missing = (count: number) => {
        const out = new Set(Array.from({ length: count }, (_, i) => graph.ring[(start + i) % ids.length] as number));
        return (rank: number): boolean => !out.has(rank);
      };
      requireUncutRing(graph, missing(2));
      expect(() => requireUncutRing(graph, missing(3))).toThrow(/PRIVACY_COHORT_TOO_SMALL|neighbouring positions/);
    }
  });

  it('stays connected among honest members for every set that it accepts', () => {
    const graph = graphOf(8, 1, 7);
    // A linear congruential walk over sets; every accepted one must be connected without any one corrupt member.
    let state = 12_345;
    const next = (bound: number): number => {
      state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
      return Math.floor((state / 2_147_483_648) * bound);
    };
    let accepted = 0;
    for (let trial = 0; trial < 2_000; trial++) {
      const out = new Set(Array.from({ length: 1 + next(8) }, () => next(ids.length)));
      try {
        requireUncutRing(graph, (rank) => !out.has(rank));
      } catch {
        continue;
      }
      accepted += 1;
      out.add(next(ids.length));
      const honest = ids.map((_, rank) => rank).filter((rank) => !out.has(rank));
      const reached = new Set([honest[0] as number]);
      for (const rank of reached) for (const peer of neighboursOf(graph, rank)) if (!out.has(peer)) reached.add(peer);
      expect(reached.size).toBe(honest.length);
    }
    expect(accepted).toBeGreaterThan(100);
  });
});
