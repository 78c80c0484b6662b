import { describe, expect, it } from 'vitest';
import { nobleCrypto } from '../../platform/noble/crypto.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { concatBytes, fromHex, toHex, u32le } from '../../protocol/bytes.ts';
import { isCoveyError } from '../../protocol/errors.ts';
import { signedBytes, signMessage } from '../../protocol/messages.ts';
import { encodeParams, sessionId } from '../../protocol/params.ts';
import { createParticipant, stepParticipant } from '../../protocol/participant.ts';
import { addWords, bytesToWords, packLanes, subtractWords, unpackLanes } from '../../protocol/ring.ts';
import type { Lanes, MaskSeed, SessionMessage, SessionParams } from '../../protocol/session.ts';
import { checkRingWidth } from '../../src/privacy/ring-width.ts';
import { bytesFrom, codeOf, idOf, messagesOf, nothingOpened, sentBy } from '../support/malice.ts';
import { plainSum, runSession, type World } from '../support/session-world.ts';

const crypto = nodeCrypto;
const MEMBERS = 7;

const hexOf = (world: World, member: number): string => toHex(idOf(world, member));

describe('A10: the boundary of the fewest survivors', () => {
  for (const [lost, works] of [
    [2, true],
    [3, false],
  ] as const) {
    it(`${works ? 'releases' : 'reveals nothing'} with ${MEMBERS - lost} survivors where 5 are the fewest, colluders counted`, () => {
      const drops = {
        'masked-input': Array.from({ length: lost }, (_, i) => hexOf(runSession({ members: MEMBERS }), i)),
      };
      const world = runSession({ members: MEMBERS, params: { minSurvivors: 5, colluders: 2 }, drops });
      expect(world.outcome?.survivors.length ?? null).toBe(works ? 5 : null);
      if (!works) expect([world.abort?.code, nothingOpened(world)]).toEqual(['ROUND_BELOW_THRESHOLD', true]);
    });
  }

  it('holds for every member by itself when the coordinator claims that fewer are enough', () => {
    // Five survive; the list that one member is shown has four, which the threshold of seven alone would refuse too.
    const world = runSession({
      members: MEMBERS,
      params: { minSurvivors: 6, minOrgs: 6 },
      perOrganization: 1,
      drops: {
        'masked-input': [hexOf(runSession({ members: MEMBERS }), 6), hexOf(runSession({ members: MEMBERS }), 5)],
      },
    });
    expect(world.outcome).toBeNull();
    expect(nothingOpened(world)).toBe(true);
  });
});

describe('A11: abort after the reveal and rerun without the victim', () => {
  const world = runSession({ members: MEMBERS });
  const offerOf = (changes: Partial<SessionParams>): SessionMessage => {
    const params = { ...world.params, ...changes };
    return signMessage(crypto, world.coordinator.secretSeed, 'p0', sessionId(crypto, params), encodeParams(params));
  };
  const answers = (changes: Partial<SessionParams>): string[] =>
    world.states.map((state) => {
      const [effect] = stepParticipant(crypto, state, {
        type: 'open',
        message: offerOf(changes),
        entropy: bytesFrom('rerun'),
      }).effects;
      return effect?.type === 'abort' ? effect.code : (effect?.type ?? 'nothing');
    });

  it('is refused by everybody who uploaded, whatever attempt or group is named', () => {
    expect(answers({ attempt: 1 })).toEqual(Array(MEMBERS).fill('PROTO_ROUND'));
    expect(answers({ attempt: 15, groupId: 'the others' })).toEqual(Array(MEMBERS).fill('PROTO_ROUND'));
  });

  it('control: a new round is a new release with a charge of its own', () => {
    expect(answers({ round: 2 })).toEqual(Array(MEMBERS).fill('authorize'));
  });
});

describe('A14: mask reuse after a crash', () => {
  it('is impossible: a restarted member stays out of the session, and the next one has masks of its own', () => {
    const seedsOf = (params: Partial<SessionParams>): { world: World; seeds: string[][] } => {
      const seeds: string[][] = Array.from({ length: MEMBERS }, () => []);
      const world = runSession({
        members: MEMBERS,
        params,
        participantStep: (provider, state, event) => {
          const step = stepParticipant(provider, state, event);
          for (const effect of step.effects) {
            if (effect.type !== 'mask') continue;
            const member = world_(state.identity.id);
            for (const { seed } of effect.seeds) seeds[member]?.push(toHex(seed));
          }
          return step;
        },
      });
      return { world, seeds };
    };
    const members = runSession({ members: MEMBERS }).members;
    const world_ = (id: Uint8Array): number => members.findIndex((member) => toHex(member.id) === toHex(id));
    const first = seedsOf({ round: 1 });
    // The same entropy, as if the source had been rolled back too: masks still differ, for they are bound to the session.
    const second = seedsOf({ round: 2 });
    for (let m = 0; m < MEMBERS; m++) {
      expect(first.seeds[m]?.length).toBe(MEMBERS);
      expect(second.seeds[m]?.some((seed) => first.seeds[m]?.includes(seed))).toBe(false);
    }
    const trust = { coordinatorKey: first.world.coordinator.publicKey, roster: first.world.roster };
    const records = first.world.effects.flatMap(({ member, effect }) =>
      member === 0 && effect.type === 'persist' ? [effect.record] : [],
    );
    for (let kept = 1; kept <= records.length; kept++) {
      const restarted = createParticipant(
        first.world.members[0] as World['members'][number],
        trust,
        crypto,
        records.slice(0, kept),
      );
      const [effect] = stepParticipant(crypto, restarted, {
        type: 'open',
        message: (first.world.received[0] as World['received'][number]).message,
        entropy: bytesFrom('restart'),
      }).effects;
      expect(effect?.type === 'abort' && effect.code).toBe('PROTO_ROUND');
    }
  });
});

describe('A16: late upload of a member that was declared dropped', () => {
  it('is discarded unread, and its self mask is never opened', () => {
    let held: SessionMessage | null = null;
    const world = runSession({
      members: MEMBERS,
      fromMember: (message, from) => {
        if (from === 2 && message.type === 'p3') {
          held = message;
          return null;
        }
        // The upload comes once the survivors are settled.
        return message.type === 'p4' && held !== null && from === 0 ? [held, message] : message;
      },
    });
    expect(world.outcome?.survivors.length).toBe(MEMBERS - 1);
    expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
    expect(codeOf(world, 2)).toBe('ROUND_TIMEOUT');
    // The late vector minus everything that became public is still masked by b of its member.
    const late = bytesToWords((held as unknown as SessionMessage).attachment);
    const bare = packLanes(world.values[2] as Int32Array, 2);
    expect(late).not.toEqual(bare);
  });
});

describe('A17: modular wraparound', () => {
  for (const [lanes, bits] of [
    [2, 32],
    [3, 21],
    [4, 16],
  ] as const) {
    it(`${bits} bits: the largest sum comes out whole, one more is refused before it can wrap`, () => {
      const members = 5;
      const largestTerm = Math.floor((2 ** (bits - 1) - 1) / members);
      const sum = packLanes(
        Int32Array.from({ length: 7 }, () => 0),
        lanes,
      );
      for (const sign of [1, -1]) {
        sum.fill(0);
        for (let m = 0; m < members; m++)
          addWords(
            sum,
            packLanes(
              Int32Array.from({ length: 7 }, () => sign * largestTerm),
              lanes,
            ),
            lanes,
          );
        expect([...unpackLanes(sum, 7, lanes)]).toEqual(Array(7).fill(sign * largestTerm * members));
      }
      const load = { bits, coordinates: 7, largestTerm, terms: members, noiseVariance: 0 };
      expect(() => checkRingWidth(load)).not.toThrow();
      expect(() => checkRingWidth({ ...load, largestTerm: largestTerm + 1 })).toThrow('bits');
      // What the refusal prevents: one unit more in every term comes out with another sign.
      sum.fill(0);
      for (let m = 0; m < members; m++)
        addWords(
          sum,
          packLanes(
            Int32Array.from({ length: 7 }, () => largestTerm + 1),
            lanes,
          ),
          lanes,
        );
      expect(unpackLanes(sum, 7, lanes)[0]).toBeLessThan(0);
    });
  }
});

/** Chi-square of the bytes against uniform: 255 degrees of freedom, 99.9999 % below 378. */
function chiSquare(bytes: Uint8Array): number {
  const counts = new Float64Array(256);
  for (const byte of bytes) counts[byte] = (counts[byte] as number) + 1;
  const expected = bytes.length / 256;
  return counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
}

const IMPROBABLE = 378;

/** The mask that an upload carries: what was sent minus what was meant. */
function maskOf(world: World, member: number): Uint8Array {
  const { lanes } = world.params.ring;
  const words = bytesToWords(messagesOf(world, member, 'p3')[0]?.attachment as Uint8Array);
  subtractWords(words, packLanes(world.values[member] as Int32Array, lanes), lanes);
  return new Uint8Array(words.buffer);
}

describe('A18: the mask generator', () => {
  it('gives the vectors of SP 800-38A section F.5.5 keys on every provider, counter from 0', () => {
    const key = fromHex('603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4');
    const streams = [nodeCrypto, nobleCrypto].map((provider) => {
      const bytes = new Uint8Array(1_000);
      const stream = provider.aes256Ctr(key);
      // In pieces: the counter goes on between reads.
      for (const [from, to] of [
        [0, 1],
        [1, 17],
        [17, 640],
        [640, 1_000],
      ] as const)
        stream.read(bytes.subarray(from, to));
      return toHex(bytes);
    });
    expect(streams[0]).toBe(streams[1]);
    // AES-256 of the zero block and of the block 1 under that key.
    expect(streams[0]?.slice(0, 64)).toBe('e568f68194cf76d6174d4cc04310a85491151e5d0b7a1f1bc0d7acd0ae3e51e4');
  });

  it('masks are uniform, and so are their differences over members, rounds and layers', () => {
    const coordinates = 40_000;
    for (const lanes of [2, 4] as Lanes[]) {
      const rounds = [1, 2].map((round) => runSession({ members: 4, coordinates, lanes, params: { round } }));
      const [first, second] = rounds as [World, World];
      const masks = [maskOf(first, 0), maskOf(first, 1), maskOf(second, 0)] as const;
      for (const mask of masks) expect(chiSquare(mask)).toBeLessThan(IMPROBABLE);
      for (const other of [masks[1], masks[2], masks[0].subarray(1_024)]) {
        const difference = other.map((byte, i) => (byte - (masks[0][i] as number)) & 0xff);
        expect(chiSquare(difference)).toBeLessThan(IMPROBABLE);
      }
      const blocks = new Set<string>();
      let count = 0;
      for (const mask of masks)
        for (let at = 0; at + 16 <= mask.length; at += 16, count++) blocks.add(toHex(mask.subarray(at, at + 16)));
      expect(blocks.size).toBe(count);
    }
  });

  it('control: a generator that repeats itself is found', () => {
    const mask = maskOf(runSession({ members: 4, coordinates: 40_000 }), 0);
    const repeated = mask.map((_, i) => mask[i % 4_096] as number);
    const blocks = new Set<string>();
    for (let at = 0; at + 16 <= repeated.length; at += 16) blocks.add(toHex(repeated.subarray(at, at + 16)));
    expect(blocks.size).toBe(256);
    expect(chiSquare(repeated)).toBeGreaterThan(IMPROBABLE);
  });
});

describe('fault of other frameworks: masks from small seeds', () => {
  /** Tries every seed of `bits` bits in the first or last word of an otherwise empty key. */
  function search(seed: Uint8Array, bits: number): boolean {
    const target = new Uint8Array(16);
    crypto.aes256Ctr(seed).read(target);
    const found = new Uint8Array(16);
    for (let guess = 0; guess < 2 ** bits; guess++) {
      for (const key of [
        concatBytes(u32le(guess), new Uint8Array(28)),
        concatBytes(new Uint8Array(28), u32le(guess)),
      ]) {
        crypto.aes256Ctr(key).read(found);
        if (found.every((byte, i) => byte === target[i])) return true;
      }
    }
    return false;
  }

  it('a search over small seeds finds none of a session, and finds a planted one', () => {
    const world = runSession({ members: 4 });
    const seeds = world.effects.flatMap(({ effect }): MaskSeed[] => (effect.type === 'mask' ? [...effect.seeds] : []));
    expect(seeds.length).toBe(16);
    const watched = runSession({
      members: 4,
      participantStep: (provider, state, event) => {
        const step = stepParticipant(provider, state, event);
        for (const effect of step.effects)
          if (effect.type === 'mask') for (const { seed } of effect.seeds) kept.push(seed.slice());
        return step;
      },
    });
    expect(watched.outcome).not.toBeNull();
    expect(kept.length).toBe(16);
    for (const seed of kept.slice(0, 4)) expect(search(seed, 12)).toBe(false);
    expect(search(concatBytes(u32le(3_001), new Uint8Array(28)), 12)).toBe(true);
    // Every pair shares one seed, nobody else has it, and all use the full length of 32 bytes.
    const counts = new Map<string, number>();
    for (const seed of kept) counts.set(toHex(seed), (counts.get(toHex(seed)) ?? 0) + 1);
    expect([...counts.values()].sort()).toEqual([1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    for (let at = 0; at < 32; at += 4) {
      const words = kept.map((seed) => toHex(seed.subarray(at, at + 4)));
      expect(words.every((word) => word !== '00000000')).toBe(true);
    }
  });
  const kept: Uint8Array[] = [];
});

describe('fault of other frameworks: a member listed as survivor and as dropped', () => {
  it('cannot be asked: the partition follows from one signed survivor set', () => {
    const world = runSession({
      members: MEMBERS,
      drops: { 'masked-input': [hexOf(runSession({ members: MEMBERS }), 3)] },
    });
    // The request of P5 carries signatures only, no list of whose share to open.
    for (const { message } of world.received.filter((r) => r.message.type === 'p5-ask'))
      expect(toHex(message.attachment).includes(hexOf(world, 3))).toBe(false);
    expect(world.outcome?.survivors.length).toBe(MEMBERS - 1);
  });
});

describe('fault of other frameworks: a member lost before its upload halts the round', () => {
  for (const phase of ['advertise', 'share-keys', 'masked-input', 'consistency', 'unmask'] as const) {
    it(`goes on without a member lost at ${phase}`, () => {
      const world = runSession({ members: MEMBERS, drops: { [phase]: [hexOf(runSession({ members: MEMBERS }), 1)] } });
      expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
    });
  }
});

/** Order of the Ed25519 group, little-endian. */
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

describe('A20: signature malleability', () => {
  it('the same signature with S + L is another string and is refused, by every provider and by both machines', () => {
    const world = runSession({ members: MEMBERS });
    const [{ message }] = sentBy(world, 'p3') as [{ from: number; message: SessionMessage }];
    const s = [...message.signature.subarray(32)].reduceRight((value, byte) => value * 256n + BigInt(byte), 0n) + ORDER;
    const bytes = Uint8Array.from({ length: 32 }, (_, i) => Number((s >> BigInt(8 * i)) & 255n));
    const forged = concatBytes(message.signature.subarray(0, 32), bytes);
    const signed = signedBytes(crypto, 'p3', message.sid, message.body);
    const key = world.members[sentBy(world, 'p3')[0]?.from ?? 0]?.publicKey as Uint8Array;
    for (const provider of [nodeCrypto, nobleCrypto]) {
      expect(provider.ed25519Verify(message.signature, signed, key)).toBe(true);
      expect(provider.ed25519Verify(forged, signed, key)).toBe(false);
    }
    const swapped = runSession({
      members: MEMBERS,
      fromMember: (sent, from) => (from === 0 && sent.type === 'p3' ? { ...sent, signature: forged } : sent),
    });
    expect(swapped.outcome?.survivors.map(toHex)).not.toContain(hexOf(swapped, 0));
    const fault = swapped.outcome?.faults.find(({ id }) => toHex(id) === hexOf(swapped, 0));
    expect(fault?.code).toBe('AUTH_SIGNATURE');
  });
});

describe('A24: poisoning is not prevented (documented)', () => {
  it('one member moves the sum as far as it likes, and learns or blocks nothing by it', () => {
    const honest = runSession({ members: MEMBERS });
    const poisoned = runSession({
      members: MEMBERS,
      participantStep: (provider, state, event) => {
        if (event.type !== 'contribution' || toHex(state.identity.id) !== hexOf(honest, 4))
          return stepParticipant(provider, state, event);
        const words = packLanes(
          Int32Array.from({ length: 10 }, () => 1_000_000),
          2,
        );
        return stepParticipant(provider, state, { ...event, words });
      },
    });
    const before = unpackLanes(honest.outcome?.sum as Uint32Array, 10, 2);
    const after = unpackLanes(poisoned.outcome?.sum as Uint32Array, 10, 2);
    const own = honest.values[4] as Int32Array;
    expect([...after]).toEqual([...before].map((value, i) => value - (own[i] as number) + 1_000_000));
    expect(poisoned.outcome?.accused).toEqual([]);
    expect(isCoveyError(poisoned.abort)).toBe(false);
  });
});
