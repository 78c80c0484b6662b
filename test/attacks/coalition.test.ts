import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { isPublishedSecret } from '../../protocol/aggregator-unmask.ts';
import { decodeParts, encodeParts, equalBytes, toHex } from '../../protocol/bytes.ts';
import { hashUploads, pairMaskSeed, pairSign, selfMaskSeed } from '../../protocol/key-schedule.ts';
import { decodeBodies, decodeUpload, encodeBodies, type SignedBody } from '../../protocol/messages.ts';
import { stepParticipant } from '../../protocol/participant.ts';
import type { HeldShares } from '../../protocol/participant-share.ts';
import type { Progress } from '../../protocol/participant-state.ts';
import { applyMasks, bytesToWords, wordsToBytes } from '../../protocol/ring.ts';
import { strictThreshold } from '../../protocol/roster.ts';
import type { MaskSeed, SessionMessage } from '../../protocol/session.ts';
import { combineShares } from '../../protocol/shamir.ts';
import { forge, idOf, listed, messagesOf, relist, senderOf, sidOf, signAs } from '../support/malice.ts';
import { runSession, type World } from '../support/session-world.ts';

const crypto = nodeCrypto;
const MEMBERS = 7;
const THRESHOLD = 5;
const VICTIM = 0;
const COORDINATES = 4_096;

type At<S extends Progress['stage']> = Extract<Progress, { stage: S }>;

/** What colluding members hand over: everything that their machines held. */
interface Memories {
  readonly agreed: Map<number, At<'agreed'>>;
  readonly peers: Map<number, At<'contributing'>>;
}

/** Runs a session and copies the memories of every member; who colludes is decided afterwards. */
function runWatched(toMember: (message: SessionMessage, to: number, world: World) => SessionMessage | null): {
  world: World;
  memories: Memories;
} {
  const memories: Memories = { agreed: new Map(), peers: new Map() };
  const world = runSession({
    members: MEMBERS,
    coordinates: COORDINATES,
    toMember,
    participantStep: (provider, state, event) => {
      const step = stepParticipant(provider, state, event);
      const progress = step.state.session?.progress;
      const member = state.trust.roster.entries.findIndex(({ id }) => equalBytes(id, state.identity.id));
      if (progress?.stage === 'agreed') memories.agreed.set(member, structuredClone(progress));
      if (progress?.stage === 'contributing') memories.peers.set(member, structuredClone(progress));
      return step;
    },
  });
  return { world, memories };
}

/** The victim's upload without the masks whose seeds are known. */
function strip(world: World, seeds: readonly MaskSeed[]): Uint32Array {
  const upload = messagesOf(world, VICTIM, 'p3')[0] as SessionMessage;
  const words = bytesToWords(upload.attachment);
  applyMasks(
    words,
    world.params.ring.lanes,
    seeds.map(({ seed, sign }): MaskSeed => ({ seed, sign: sign === 1 ? -1 : 1 })),
    crypto,
  );
  return words;
}

/** Chi-square statistic of the bytes: 255 degrees of freedom, mean 255, standard deviation 22.6. */
function byteStatistic(words: Uint32Array): number {
  const bytes = wordsToBytes(words);
  const counts = new Float64Array(256);
  for (const byte of bytes) counts[byte] = (counts[byte] as number) + 1;
  const expected = bytes.length / 256;
  return counts.reduce((total, count) => total + (count - expected) ** 2 / expected, 0);
}

const LIMIT = 255 + 5 * 22.6;

/** Seeds that the victim shares with members whose memories are known. */
function seedsWith(world: World, memories: Memories, members: readonly number[]): MaskSeed[] {
  const victim = idOf(world, VICTIM);
  return members.map((m): MaskSeed => {
    const { peers, dealers } = memories.peers.get(m) as At<'contributing'>;
    const shared = peers.pairSecrets.get(VICTIM) as Uint8Array;
    const seed = pairMaskSeed(crypto, shared, sidOf(world), dealers.h2, victim, idOf(world, m));
    return { seed, sign: pairSign(victim, idOf(world, m)) };
  });
}

const selfSeed = (world: World, memories: Memories, b: Uint8Array): MaskSeed => ({
  seed: selfMaskSeed(
    crypto,
    b,
    sidOf(world),
    (memories.peers.get(VICTIM) as At<'contributing'>).dealers.h2,
    idOf(world, VICTIM),
  ),
  sign: 1,
});

function shareOf(memories: Memories, holder: number, kind: 'shareB' | 'shareS'): { x: number; share: Uint8Array } {
  const { held } = memories.agreed.get(holder) as At<'agreed'>;
  return { x: holder + 1, share: (held.get(VICTIM) as HeldShares)[kind] };
}

describe('a coalition with a coordinator that only listens', () => {
  const { world, memories } = runWatched((message) => message);
  // P5 has given the victim's self seed to the coordinator.
  const holders = Array.from({ length: THRESHOLD }, (_, m) => shareOf(memories, m, 'shareB'));
  const b = combineShares(holders, MEMBERS);

  it('of t - 1 members sees an honest vector as uniform bytes', () => {
    const coalition = Array.from({ length: THRESHOLD - 1 }, (_, i) => MEMBERS - 1 - i);
    const rest = strip(world, [selfSeed(world, memories, b), ...seedsWith(world, memories, coalition)]);
    expect(byteStatistic(rest)).toBeLessThan(LIMIT);
    expect(rest).not.toEqual(world.contributions.get(toHex(idOf(world, VICTIM))));
  });

  it('of all others sees it bare: the statistic can tell', () => {
    const everybody = Array.from({ length: MEMBERS - 1 }, (_, i) => i + 1);
    const rest = strip(world, [selfSeed(world, memories, b), ...seedsWith(world, memories, everybody)]);
    expect(rest).toEqual(world.contributions.get(toHex(idOf(world, VICTIM))));
    expect(byteStatistic(rest)).toBeGreaterThan(100 * LIMIT);
  });

  it('cannot rebuild any secret from t - 1 shares', () => {
    const { cohort } = memories.agreed.get(1) as At<'agreed'>;
    const victim = idOf(world, VICTIM);
    for (const [kind, survived] of [
      ['shareB', true],
      ['shareS', false],
    ] as const) {
      const shares = Array.from({ length: MEMBERS }, (_, m) => shareOf(memories, m, kind));
      const isSecret = (count: number): boolean =>
        isPublishedSecret(
          crypto,
          sidOf(world),
          cohort,
          victim,
          survived,
          combineShares(shares.slice(0, count), MEMBERS),
        );
      expect(isSecret(THRESHOLD)).toBe(true);
      expect(isSecret(THRESHOLD - 1)).toBe(false);
    }
  });
});

/**
 * An active coordinator shows U3 to one part of the honest members and U3 without the victim to the other part (`apart`);
 * colluders sign both.
 */
function splitSurvivors(apart: readonly number[], colluders: readonly number[]): { world: World; memories: Memories } {
  const withoutVictim = (w: World, message: SessionMessage): SignedBody[] =>
    listed(message, 'p3').filter((entry) => !equalBytes(senderOf(entry), idOf(w, VICTIM)));
  let other: SessionMessage | null = null;
  return runWatched((message, to, w) => {
    if (!apart.includes(to)) return message;
    if (message.type === 'p4-ask') {
      other = relist(w, message, withoutVictim(w, message));
      return other;
    }
    // The honest machine dismisses who signed another h3; the malicious one sends a certificate instead.
    if (message.type !== 'abort' || other === null) return message;
    const uploads = decodeBodies('p3', other.attachment).map(({ body }) => decodeUpload(body));
    const { h2 } = uploads[0] as { h2: Uint8Array };
    const h3 = hashUploads(
      crypto,
      sidOf(w),
      h2,
      uploads.map(({ id, digest }) => [id, digest]),
    );
    const honest = apart.flatMap((m) => messagesOf(w, m, 'p4'));
    const forged = colluders.map((m) => signAs(w, m, 'p4', encodeParts([idOf(w, m), h3])));
    return forge(w, 'p5-ask', encodeBodies([...honest, ...forged]));
  });
}

/** Shares of the victim's two secrets that the honest members opened and the colluders held. */
function harvest(
  { world, memories }: { world: World; memories: Memories },
  apart: readonly number[],
  colluders: readonly number[],
): Record<'shareB' | 'shareS', { x: number; share: Uint8Array }[]> {
  const found: Record<'shareB' | 'shareS', { x: number; share: Uint8Array }[]> = { shareB: [], shareS: [] };
  for (const { from, message } of world.sent) {
    if (message.type !== 'p5' || colluders.includes(from)) continue;
    const [share] = decodeParts(decodeParts(message.attachment)[VICTIM] as Uint8Array, 2);
    found[apart.includes(from) ? 'shareS' : 'shareB'].push({ x: from + 1, share: share as Uint8Array });
  }
  for (const m of colluders) {
    for (const kind of ['shareB', 'shareS'] as const) found[kind].push(shareOf(memories, m, kind));
  }
  return found;
}

describe('an active coordinator with colluders', () => {
  it('2t > |U1| + c for every strict cohort with 3c < |U1|: no two certificates', () => {
    const broken: [number, number][] = [];
    for (let members = 1; members <= 256; members++) {
      for (let c = 0; 3 * c < members; c++) if (2 * strictThreshold(members) <= members + c) broken.push([members, c]);
    }
    expect(broken).toEqual([]);
  });

  const colluders = [5, 6];
  for (const apart of [[4], [3, 4], [2, 3, 4], [1, 2, 3, 4]]) {
    it(`c = 2 of 7, ${apart.length} of 5 honest members shown another U3: at most one kind of share reaches t`, () => {
      const attack = splitSurvivors(apart, colluders);
      const { shareB, shareS } = harvest(attack, apart, colluders);
      expect(shareB.length >= THRESHOLD && shareS.length >= THRESHOLD).toBe(false);
      // The one kind alone: with b the pair masks of the honest members remain, with the mask key the self mask.
      const { world, memories } = attack;
      const known = seedsWith(world, memories, colluders);
      const rest =
        shareB.length >= THRESHOLD
          ? strip(world, [selfSeed(world, memories, combineShares(shareB.slice(0, THRESHOLD), MEMBERS)), ...known])
          : strip(world, known);
      expect(byteStatistic(rest)).toBeLessThan(LIMIT);
    });
  }

  it('control: 2t - |U1| = 3 colluders get both shares and the bare vector, so that the attack above is a real one', () => {
    const three = [4, 5, 6];
    const apart = [2, 3];
    const attack = splitSurvivors(apart, three);
    const { world, memories } = attack;
    const { shareB, shareS } = harvest(attack, apart, three);
    expect([shareB.length, shareS.length]).toEqual([THRESHOLD, THRESHOLD]);
    const maskSecret = combineShares(shareS, MEMBERS);
    const { cohort, dealers } = memories.peers.get(VICTIM) as At<'contributing'>;
    const pairs = cohort.advertisements
      .filter(({ id }) => !equalBytes(id, idOf(world, VICTIM)))
      .map(
        ({ id, maskKey }): MaskSeed => ({
          seed: pairMaskSeed(
            crypto,
            crypto.x25519Agree(maskSecret, maskKey),
            sidOf(world),
            dealers.h2,
            idOf(world, VICTIM),
            id,
          ),
          sign: pairSign(idOf(world, VICTIM), id),
        }),
      );
    const bare = strip(world, [selfSeed(world, memories, combineShares(shareB, MEMBERS)), ...pairs]);
    expect(bare).toEqual(world.contributions.get(toHex(idOf(world, VICTIM))));
  });
});
