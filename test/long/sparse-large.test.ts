import { describe, expect, it } from 'vitest';
import { rememberingVerifications } from '../../bench/remembered-crypto.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { decodeParts, encodeParts, equalBytes, toHex } from '../../protocol/bytes.ts';
import { checkAdvertisements, checkReveals, holdersOf, type SessionContext } from '../../protocol/cohort.ts';
import { encryptionKey, expandEntropy, selfMaskSeed } from '../../protocol/key-schedule.ts';
import { inclusionProofs } from '../../protocol/merkle.ts';
import { type Advertisement, encodeBodies, type SignedBody, signMessage } from '../../protocol/messages.ts';
import { sessionId } from '../../protocol/params.ts';
import { advertise, type Dealt, prepareMask, reveal, shareKeys, takeShares } from '../../protocol/participant-share.ts';
import { applyMasks, packLanes } from '../../protocol/ring.ts';
import type { SessionMessage } from '../../protocol/session.ts';
import { combineShares } from '../../protocol/shamir.ts';
import { bytesFrom } from '../support/malice.ts';
import { baseParams, createMembers, plainSum, runSession } from '../support/session-world.ts';

describe('the sparse profile at scale', () => {
  it('sums 1,000 members exactly, of whom 48 are lost, a quarter of them in each phase', () => {
    const members = 1_000;
    const ids = createMembers(members).members.map(({ id }) => toHex(id));
    const pick = (start: number): string[] => ids.filter((_, i) => i % 83 === start).slice(0, 12);
    const world = runSession({
      members,
      coordinates: 30,
      lanes: 3,
      params: { profile: 'sparse', colluders: 50, dropoutFraction: 0.05, minSurvivors: 900 },
      drops: { 'share-keys': pick(0), 'masked-input': pick(20), consistency: pick(40), unmask: pick(60) },
    });
    expect(world.abort?.reason).toBeUndefined();
    expect(world.outcome?.survivors.length).toBe(976);
    expect(world.outcome?.quorum).toBe(526);
    expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
  });

  it('holds for one neighbourhood among 10,000, with all that its members send and receive counted', () => {
    const crypto = rememberingVerifications(nodeCrypto);
    const size = 10_000;
    const { members, roster } = createMembers(size);
    const params = baseParams(roster, 30, 3, {
      profile: 'sparse',
      colluders: 500,
      dropoutFraction: 0.05,
      minSurvivors: 9_000,
    });
    const sid = sessionId(crypto, params);
    const context: SessionContext = { crypto, roster, params, sid };
    const of = (rank: number) => ({ ...context, identity: members[rank] as (typeof members)[number] });
    const secretsOf = (rank: number) => expandEntropy(crypto, bytesFrom('entropy', rank), sid);
    const p1 = members.map((_, rank) => advertise(of(rank), secretsOf(rank)));
    const unrevealed = checkAdvertisements(context, p1);
    expect([unrevealed.plan?.degree, unrevealed.threshold, unrevealed.quorum]).toEqual([82, 58, 5_251]);
    const p1r = (unrevealed.plan?.committee ?? []).map((rank) => reveal(of(rank), unrevealed, secretsOf(rank)));
    const cohort = checkReveals(context, unrevealed, p1r);

    // One member and its neighbours deal for real; everybody else signs a root over nothing.
    const centre = 1_234;
    const neighbours = holdersOf(cohort, centre);
    const real = new Set([centre, ...neighbours]);
    const dealt = new Map([...real].map((rank) => [rank, shareKeys(of(rank), secretsOf(rank), cohort)]));
    const p2: SignedBody[] = members.map(({ id, secretSeed }, rank) => {
      const root = encodeParts([id, cohort.h1, bytesFrom('root', rank)]);
      return dealt.get(rank)?.message ?? signMessage(crypto, secretSeed, 'p2', sid, root);
    });
    const list = encodeBodies(p2);
    /** What a dealer sent for one holder: leaf, ciphertext, path. */
    const entryFor = (dealer: number, holder: number): Uint8Array[] => {
      const parts = decodeParts((dealt.get(dealer) as Dealt).message.attachment);
      const leaves = parts.filter((_, i) => i % 2 === 0);
      const at = holdersOf(cohort, dealer).indexOf(holder);
      const path = inclusionProofs(crypto, leaves)[at] as Uint8Array[];
      return [leaves[at] as Uint8Array, parts[2 * at + 1] as Uint8Array, ...path];
    };
    const own = dealt.get(centre) as Dealt;
    const delivery = encodeParts([list, ...neighbours.map((dealer) => encodeParts(entryFor(dealer, centre)))]);
    const { dealers, held } = takeShares(of(centre), cohort, own.peers, own.held, own.message, delivery);
    expect(held.size).toBe(82);

    // Every pair mask of the centre is cancelled by the neighbour's own; the self mask alone is left.
    const words = packLanes(
      Int32Array.from({ length: 30 }, (_, i) => i - 15),
      3,
    );
    const masked = words.slice();
    const seeds = prepareMask(of(centre), cohort, dealers, own.peers);
    expect(seeds.length).toBe(83);
    applyMasks(masked, 3, seeds, crypto);
    const centreAlone = {
      ...dealers,
      dealers: dealers.dealers.filter(({ id }) => equalBytes(id, of(centre).identity.id)),
    };
    for (const rank of neighbours) {
      const { peers } = dealt.get(rank) as Dealt;
      applyMasks(masked, 3, prepareMask(of(rank), cohort, centreAlone, peers).slice(1), crypto);
    }
    expect(masked).not.toEqual(words);

    // 58 of its 82 neighbours give the seed of the self mask back, 57 do not.
    const advertised = cohort.advertisements[centre] as Advertisement;
    const shares = neighbours.map((rank, i) => {
      const shared = crypto.x25519Agree(secretsOf(rank).encryptionSecret, advertised.encryptionKey);
      const key = encryptionKey(crypto, shared, sid, advertised.id, of(rank).identity.id);
      const ciphertext = entryFor(centre, rank)[1] as Uint8Array;
      return { x: i + 1, share: crypto.aes256GcmOpen(key, new Uint8Array(12), cohort.h1, ciphertext).slice(0, 32) };
    });
    const { selfSeed } = secretsOf(centre);
    expect(equalBytes(combineShares(shares.slice(3, 60), 82), selfSeed)).toBe(false);
    const opened = combineShares(shares.slice(3, 61), 82);
    expect(opened).toEqual(selfSeed);
    const seed = selfMaskSeed(crypto, opened, sid, dealers.h2, advertised.id);
    applyMasks(masked, 3, [{ seed, sign: -1 }], crypto);
    expect(masked).toEqual(words);

    // Counted: what one member of 10,000 receives and sends beside its vector, in MB, and the masks of all.
    const bodies = (count: number, body: number): number => count * (body + 64 + 8);
    const lists = encodeBodies(p1).length + bodies(p1r.length, 108) + delivery.length;
    const later = bodies(size, 108) + bodies(cohort.quorum, 72);
    const sent = [p1[centre] as SessionMessage, own.message].reduce(
      (sum, m) => sum + m.body.length + m.attachment.length,
      0,
    );
    const total = (lists + later + sent + 82 * 76) / 1e6;
    expect(total).toBeGreaterThan(5);
    expect(total).toBeLessThan(9);
    expect(size * seeds.length).toBe(830_000);
  });
});
