import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { hashParts, toHex, u32le, utf8 } from '../../protocol/bytes.ts';
import { encodeSessionMessage } from '../../protocol/frame.ts';
import { expandEntropy, streamSource } from '../../protocol/key-schedule.ts';
import { packLanes, wordsToBytes } from '../../protocol/ring.ts';
import type { Lanes } from '../../protocol/session.ts';
import { splitSecret } from '../../protocol/shamir.ts';
import { sidOf } from '../support/malice.ts';
import { runSession, type World } from '../support/session-world.ts';

const crypto = nodeCrypto;
const MEMBERS = 6;
const DROPPED = 2;

/** Every byte that crossed the wire, in both directions. */
function wireOf(world: World): Buffer[] {
  return [...world.sent, ...world.received].map(({ message }) => Buffer.from(encodeSessionMessage(message)));
}

/** What the world derives each member's secrets from. */
const entropyOf = (m: number): Uint8Array => hashParts(crypto, utf8('test'), utf8('entropy'), u32le(m));

const occurrences = (wire: readonly Buffer[], needle: Uint8Array): number =>
  wire.filter((bytes) => bytes.includes(Buffer.from(needle))).length;

const session = (lanes: Lanes): World => {
  const dropped = toHex((runSession({ members: MEMBERS }).members[DROPPED] as World['members'][number]).id);
  return runSession({ members: MEMBERS, lanes, coordinates: 48, drops: { 'masked-input': [dropped] } });
};

describe('A21: wire snoop', () => {
  for (const lanes of [2, 3, 4] as const) {
    it(`carries no word of any contribution in ${lanes} lanes`, () => {
      const world = session(lanes);
      expect(world.outcome?.survivors.length).toBe(MEMBERS - 1);
      const wire = wireOf(world);
      for (const words of world.contributions.values()) {
        const bytes = wordsToBytes(words);
        // Single 64-bit words, at every offset of the wire.
        for (let at = 0; at + 8 <= bytes.length; at += 8) expect(occurrences(wire, bytes.subarray(at, at + 8))).toBe(0);
      }
      // Nor the negative, nor the values as 32-bit integers.
      for (const values of world.values) {
        expect(
          occurrences(
            wire,
            wordsToBytes(
              packLanes(
                values.map((value) => -value),
                lanes,
              ),
            ).subarray(0, 8),
          ),
        ).toBe(0);
        expect(occurrences(wire, new Uint8Array(values.slice(0, 3).buffer))).toBe(0);
      }
    });
  }

  it('finds a contribution that is sent in the clear (control)', () => {
    const world = runSession({ members: MEMBERS, coordinates: 48 });
    const words = wordsToBytes(
      world.contributions.get(toHex((world.members[0] as World['members'][number]).id)) as Uint32Array,
    );
    const [first] = world.sent as [World['sent'][number]];
    const wire = [...wireOf(world), Buffer.from(encodeSessionMessage({ ...first.message, attachment: words }))];
    expect(occurrences(wire, words.subarray(8, 16))).toBe(1);
  });

  it('carries no secret: keys, seeds, entropy, mask seeds, or both shares of anybody', () => {
    const world = session(2);
    const wire = wireOf(world);
    world.members.forEach(({ secretSeed }, m) => {
      const secrets = expandEntropy(crypto, entropyOf(m), sidOf(world));
      const named = { secretSeed, entropy: entropyOf(m), ...secrets };
      for (const [name, secret] of Object.entries(named)) expect([name, occurrences(wire, secret)]).toEqual([name, 0]);
      // The shares that the member dealt, recomputed: in the clear, P5 carries those of one kind only.
      const random = streamSource(crypto, secrets.sharingKey);
      const threshold = Math.floor((2 * MEMBERS) / 3) + 1;
      const sharesB = splitSecret(secrets.selfSeed, MEMBERS, threshold, random);
      const sharesS = splitSecret(secrets.maskSecret, MEMBERS, threshold, random);
      const seen = (shares: readonly Uint8Array[]): number =>
        shares.filter((share) => occurrences(wire, share) > 0).length;
      const [openedB, openedS] = [seen(sharesB), seen(sharesS)];
      expect(m === DROPPED ? openedB : openedS).toBe(0);
      expect(m === DROPPED ? openedS : openedB).toBeGreaterThanOrEqual(threshold);
    });
    expect(occurrences(wire, world.coordinator.secretSeed)).toBe(0);
  });

  it('never repeats an uploaded word between members or sessions', () => {
    const words = new Set<string>();
    let count = 0;
    for (const round of [1, 2]) {
      const world = runSession({ members: MEMBERS, coordinates: 64, params: { round } });
      for (const { message } of world.sent.filter((s) => s.message.type === 'p3')) {
        for (let at = 0; at < message.attachment.length; at += 8) {
          words.add(toHex(message.attachment.subarray(at, at + 8)));
          count += 1;
        }
      }
    }
    expect(words.size).toBe(count);
  });
});

describe('A22: message lengths', () => {
  for (const lanes of [2, 3, 4] as const) {
    it(`are the same for all members in ${lanes} lanes, whatever they contribute`, () => {
      const world = session(lanes);
      for (const type of ['p1', 'p2', 'p3', 'p4', 'p5'] as const) {
        const lengths = new Set(
          world.sent
            .filter(({ message }) => message.type === type)
            .map(({ message }) => encodeSessionMessage(message).length),
        );
        expect([type, lengths.size]).toEqual([type, 1]);
      }
    });
  }
});
