import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { decodeParts, encodeParts, equalBytes, toHex } from '../../protocol/bytes.ts';
import { commitShare } from '../../protocol/key-schedule.ts';
import { LABELS } from '../../protocol/labels.ts';
import { decodeAdvertisement, decodeLeaf } from '../../protocol/messages.ts';
import { chainEnd, chainRoots, componentSeeds } from '../../protocol/noise-seeds.ts';
import { strictThreshold } from '../../protocol/roster.ts';
import type { SessionMessage, SessionParams } from '../../protocol/session.ts';
import { combineShares } from '../../protocol/shamir.ts';
import { type At, type Memories, runWatched } from '../support/coalition.ts';
import { forgedSeeds } from '../support/forged-seeds.ts';
import {
  bytesFrom,
  codeOf,
  forge,
  idOf,
  listed,
  messagesOf,
  nothingOpened,
  relist,
  senderOf,
  sentBy,
  sidOf,
  variants,
} from '../support/malice.ts';
import { createMembers, runSession, type World, type WorldOptions } from '../support/session-world.ts';

const crypto = nodeCrypto;
const MEMBERS = 10;
const TOLERANCE = 3;
const VICTIM = 4;
const THRESHOLD = strictThreshold(MEMBERS);
const PARAMS: Partial<SessionParams> = {
  noise: { mechanism: 'skellam', shareVariance: 5_000, tolerance: TOLERANCE },
  minSurvivors: 6,
};
const ids = createMembers(MEMBERS).members.map(({ id }) => toHex(id));

const run = (more: Partial<WorldOptions>): World => runSession({ members: MEMBERS, params: PARAMS, ...more });

/** A list without the entries of some members. */
const without = (
  w: World,
  message: SessionMessage,
  type: Parameters<typeof listed>[1],
  ...gone: number[]
): SessionMessage =>
  relist(
    w,
    message,
    listed(message, type).filter((entry) => !gone.some((m) => equalBytes(senderOf(entry), idOf(w, m)))),
  );

/** Which root of each dealer a member opened: 0 for none; by recomputing the commitments of the dealer's leaf. */
function openedRoots(world: World, holder: number, bundle: Uint8Array): number[] {
  return decodeParts(bundle).map((entry, dealer) => {
    const [, , share, opening] = decodeParts(entry);
    if (share === undefined || opening === undefined) return 0;
    const dealing = messagesOf(world, dealer, 'p2')[0] as SessionMessage;
    const leaf = decodeLeaf(decodeParts(dealing.attachment)[2 * holder] as Uint8Array, TOLERANCE);
    const [from, to] = [idOf(world, dealer), idOf(world, holder)];
    const commitment = commitShare(crypto, LABELS.shareX, sidOf(world), from, to, share, opening);
    return 1 + leaf.commitmentsX.findIndex((c) => equalBytes(c, commitment));
  });
}

/** Roots of every dealer that any member ever opened, as one sorted list without repetition. */
const everOpened = (world: World): number[] =>
  [...new Set(sentBy(world, 'p5').flatMap(({ from, message }) => openedRoots(world, from, message.attachment)))].sort();

describe('A32: lies about who dropped out', () => {
  for (const dropped of [0, 1, 2, 3]) {
    it(`opens of every survivor the root behind the noise of ${dropped} lost, of the lost none`, () => {
      const world = run({ drops: { 'masked-input': ids.slice(0, dropped) } });
      expect(world.outcome?.survivors.length).toBe(MEMBERS - dropped);
      for (const { from, message } of sentBy(world, 'p5')) {
        const root = dropped < TOLERANCE ? dropped + 1 : 0;
        expect(openedRoots(world, from, message.attachment)).toEqual(ids.map((_, m) => (m < dropped ? 0 : root)));
      }
    });
  }

  for (const group of [1, 4, 5, 6, 9]) {
    it(`opens nothing if ${group} of ${MEMBERS} are told that two more were lost`, () => {
      const world = run({
        toMember: (message, to, w) => {
          if (message.type === 'p4-ask') return to < group ? without(w, message, 'p3', 8, 9) : message;
          if (message.type !== 'abort' && message.type !== 'p5-ask') return message;
          const own = messagesOf(w, to, 'p4')[0];
          if (own === undefined) return message;
          // Every view gets all signatures that fit it.
          const alike = sentBy(w, 'p4').filter((s) =>
            equalBytes(decodeParts(s.message.body)[1] as Uint8Array, decodeParts(own.body)[1] as Uint8Array),
          );
          return relist(
            w,
            { ...message, type: 'p5-ask' },
            alike.map((s) => s.message),
          );
        },
      });
      // A view with a certificate is the only one that has one.
      const views = [Math.min(group, 8), MEMBERS - group].filter((signers) => signers >= THRESHOLD);
      expect(views.length).toBeLessThan(2);
      expect(everOpened(world)).toEqual(views.length === 0 ? [] : group < 5 ? [1] : [0, 3]);
    });
  }

  it('opens root 3, not 1 or 2, for a U3 that is too small, and of those left out neither root nor self seed', () => {
    // Two honest members are called lost although they uploaded: their noise goes, the others' parts 1 and 2 stay.
    const { world, memories } = watch((message, w) => {
      if (message.type === 'p4-ask') return without(w, message, 'p3', 8, 9);
      if (message.type !== 'abort') return message;
      const signed = sentBy(w, 'p4').map((s) => s.message);
      return relist(w, { ...message, type: 'p5-ask' }, signed);
    });
    for (const left of [8, 9]) {
      expect(codeOf(world, left)).toBe('PROTO_COHORT');
      expect(messagesOf(world, left, 'p4').length + messagesOf(world, left, 'p5').length).toBe(0);
    }
    expect(memories.agreed.size).toBe(MEMBERS - 2);
    expect(everOpened(world)).toEqual([0, 3]);
    for (const { from, message } of sentBy(world, 'p5')) {
      const { held } = memories.agreed.get(from) as At<'agreed'>;
      decodeParts(message.attachment).forEach((entry, dealer) => {
        const { shareB, shareS } = held.get(dealer) as NonNullable<ReturnType<typeof held.get>>;
        expect(decodeParts(entry)[0]).toEqual(dealer < 8 ? shareB : shareS);
      });
    }
  });

  it('does not take a lost member for a survivor', () => {
    const world = run({
      drops: { 'masked-input': [ids[VICTIM] as string] },
      toMember: (message, _to, w) => {
        if (message.type !== 'p4-ask') return message;
        const entries = listed(message, 'p3');
        const [, h2] = decodeParts((entries[0] as { body: Uint8Array }).body) as [Uint8Array, Uint8Array];
        const body = encodeParts([idOf(w, VICTIM), h2, bytesFrom('digest')]);
        const fake = { type: 'p3' as const, body, signature: (entries[0] as { signature: Uint8Array }).signature };
        return relist(
          w,
          message,
          [...entries, fake].sort((a, b) => (toHex(senderOf(a)) < toHex(senderOf(b)) ? -1 : 1)),
        );
      },
    });
    expect(nothingOpened(world)).toBe(true);
    for (let m = 0; m < MEMBERS; m++) if (m !== VICTIM) expect(codeOf(world, m)).toBe('AUTH_SIGNATURE');
  });

  it('signs nothing once more are called lost than the noise was made for', () => {
    const world = run({
      params: { ...PARAMS, minSurvivors: 3 },
      toMember: (message, _to, w) => (message.type === 'p4-ask' ? without(w, message, 'p3', 6, 7, 8) : message),
    });
    expect(sentBy(world, 'p4').length).toBe(7);
    const four = runSession({
      members: 14,
      params: { ...PARAMS, minSurvivors: 3 },
      toMember: (message, _to, w) => (message.type === 'p4-ask' ? without(w, message, 'p3', 6, 7, 8, 9) : message),
    });
    expect(sentBy(four, 'p4').length).toBe(0);
    expect(nothingOpened(four)).toBe(true);
    for (const m of [0, 5, 10, 13]) expect(codeOf(four, m)).toBe('PRIVACY_COHORT_TOO_SMALL');
  });

  it('opens once: a second certificate, another one of the same set or an old one opens no other root', () => {
    const before = run({ params: { ...PARAMS, attempt: 0 } });
    const old = before.received.find(({ message }) => message.type === 'p5-ask')?.message as SessionMessage;
    const world = run({
      params: { ...PARAMS, attempt: 1 },
      drops: { 'masked-input': ids.slice(0, 2) },
      toMember: (message, _to, w) =>
        message.type === 'p5-ask'
          ? [
              { ...old, sid: sidOf(w) },
              forge(w, 'p5-ask', old.attachment),
              message,
              relist(w, message, listed(message, 'p4').slice(1)),
            ]
          : message,
    });
    // Signed for another session: refused before it is read; signed anew, its signatures are still of the old one.
    for (let m = 2; m < MEMBERS; m++) expect(codeOf(world, m)).toBe('AUTH_SIGNATURE');
    expect(nothingOpened(world)).toBe(true);
    const twice = run({
      drops: { 'masked-input': ids.slice(0, 2) },
      toMember: (message, _to, w) =>
        message.type === 'p5-ask' ? [message, relist(w, message, listed(message, 'p4').slice(1)), message] : message,
    });
    expect(everOpened(twice)).toEqual([0, 3]);
    for (let m = 2; m < MEMBERS; m++) {
      expect(variants(twice, m, 'p5')).toBe(1);
      expect(codeOf(twice, m)).toBe('PROTO_EQUIVOCATION');
    }
  });

  it('leaves a coalition of t - 1 members with what is opened no root of noise that protects', () => {
    const dropped = 1;
    const { world, memories } = watch(undefined, { 'masked-input': ids.slice(0, dropped) });
    const members = [9, 8, 7, 6, 5, 3];
    const another = 2;
    expect(members.length).toBe(THRESHOLD - 1);
    const root = (from: readonly number[], k: number): Uint8Array =>
      combineShares(
        from.map((m) => {
          const { held } = memories.agreed.get(m) as At<'agreed'>;
          return { x: m + 1, share: held.get(VICTIM)?.roots[k - 1]?.share ?? new Uint8Array(32) };
        }),
        MEMBERS,
      );
    const id = idOf(world, VICTIM);
    const published = decodeAdvertisement(messagesOf(world, VICTIM, 'p1')[0]!.body).graphCommitment as Uint8Array;
    const opens = (secret: Uint8Array, k: number): boolean =>
      equalBytes(chainEnd(crypto, sidOf(world), id, secret, TOLERANCE + 1 - k), published);
    // Control: t of them have every root.
    for (const k of [1, 2, 3]) expect(opens(root([...members, another], k), k)).toBe(true);
    for (const k of [1, 2, 3]) expect(opens(root(members, k), k)).toBe(false);
    // What P5 gives leads forward only: to the roots behind it, none of which is that of the noise that stays.
    const second = root([...members, another], 2);
    const reachable = chainRoots(crypto, sidOf(world), id, second, TOLERANCE).map(toHex);
    expect(reachable).not.toContain(toHex(root([...members, another], 1)));
    const { h2 } = (memories.peers.get(VICTIM) as At<'contributing'>).dealers;
    const seeds = componentSeeds(crypto, sidOf(world), h2, id, second, 2, TOLERANCE);
    const drawn = world.components.get(VICTIM)?.drawn ?? [];
    expect(seeds).toEqual(drawn.slice(1));
    expect(seeds.map(({ seed }) => toHex(seed))).not.toContain(toHex(drawn[0]?.seed ?? new Uint8Array(0)));
  });
});

function watch(
  change: ((message: SessionMessage, w: World) => SessionMessage) | undefined,
  drops: WorldOptions['drops'] = {},
): { world: World; memories: Memories } {
  return runWatched({
    members: MEMBERS,
    params: PARAMS,
    drops,
    ...(change === undefined ? {} : { toMember: (message, _to, w) => change(message, w) }),
  });
}

forgedSeeds('strict', { members: MEMBERS, params: PARAMS, indexOf: (_world, _dealer, holder) => holder });
