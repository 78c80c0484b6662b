import { nodeCrypto } from '../../platform/node/crypto.ts';
import { encodeParts, equalBytes } from '../../protocol/bytes.ts';
import { hashUploads, pairMaskSeed, pairSign, selfMaskSeed } from '../../protocol/key-schedule.ts';
import { decodeBodies, decodeUpload, encodeBodies } from '../../protocol/messages.ts';
import { stepParticipant } from '../../protocol/participant.ts';
import type { Progress } from '../../protocol/participant-state.ts';
import { applyMasks, bytesToWords, wordsToBytes } from '../../protocol/ring.ts';
import type { MaskSeed, SessionMessage } from '../../protocol/session.ts';
import { forge, idOf, listed, messagesOf, relist, senderOf, sidOf, signAs } from './malice.ts';
import { runSession, type World, type WorldOptions } from './session-world.ts';

const crypto = nodeCrypto;

export type At<S extends Progress['stage']> = Extract<Progress, { stage: S }>;

/** What colluding members hand over: everything that their machines held. */
export interface Memories {
  readonly agreed: Map<number, At<'agreed'>>;
  readonly peers: Map<number, At<'contributing'>>;
}

/** Runs a session and copies the memories of every member; who colludes is decided afterwards. */
export function runWatched(options: WorldOptions): { world: World; memories: Memories } {
  const memories: Memories = { agreed: new Map(), peers: new Map() };
  const world = runSession({
    ...options,
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
export function strip(world: World, victim: number, seeds: readonly MaskSeed[]): Uint32Array {
  const upload = messagesOf(world, victim, 'p3')[0] as SessionMessage;
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
export function byteStatistic(words: Uint32Array): number {
  const bytes = wordsToBytes(words);
  const counts = new Float64Array(256);
  for (const byte of bytes) counts[byte] = (counts[byte] as number) + 1;
  const expected = bytes.length / 256;
  return counts.reduce((total, count) => total + (count - expected) ** 2 / expected, 0);
}

export const LIMIT: number = 255 + 5 * 22.6;

/** Seeds that the victim shares with members whose memories are known. */
export function seedsWith(world: World, memories: Memories, victim: number, members: readonly number[]): MaskSeed[] {
  const id = idOf(world, victim);
  return members.map((m): MaskSeed => {
    const { peers, dealers } = memories.peers.get(m) as At<'contributing'>;
    const shared = peers.pairSecrets.get(victim) as Uint8Array;
    const seed = pairMaskSeed(crypto, shared, sidOf(world), dealers.h2, id, idOf(world, m));
    return { seed, sign: pairSign(id, idOf(world, m)) };
  });
}

export const selfSeed = (world: World, memories: Memories, victim: number, b: Uint8Array): MaskSeed => ({
  seed: selfMaskSeed(
    crypto,
    b,
    sidOf(world),
    (memories.peers.get(victim) as At<'contributing'>).dealers.h2,
    idOf(world, victim),
  ),
  sign: 1,
});

/** All pair masks of a victim whose mask key was rebuilt, with the given members. */
export function seedsOf(
  world: World,
  memories: Memories,
  victim: number,
  secret: Uint8Array,
  peers: readonly number[],
): MaskSeed[] {
  const { cohort, dealers } = memories.peers.get(victim) as At<'contributing'>;
  const own = idOf(world, victim);
  return peers.map((m): MaskSeed => {
    const { id, maskKey } = cohort.advertisements[m] as { id: Uint8Array; maskKey: Uint8Array };
    const shared = crypto.x25519Agree(secret, maskKey);
    return { seed: pairMaskSeed(crypto, shared, sidOf(world), dealers.h2, own, id), sign: pairSign(own, id) };
  });
}

/**
 * An active coordinator shows U3 to one part of the honest members and U3 without the victim to the other part (`apart`);
 * colluders sign both.
 */
export function splitSurvivors(
  options: WorldOptions,
  victim: number,
  apart: readonly number[],
  colluders: readonly number[],
): { world: World; memories: Memories } {
  const withoutVictim = (w: World, message: SessionMessage): ReturnType<typeof listed> =>
    listed(message, 'p3').filter((entry) => !equalBytes(senderOf(entry), idOf(w, victim)));
  let other: SessionMessage | null = null;
  return runWatched({
    ...options,
    toMember: (message, to, w) => {
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
    },
  });
}
