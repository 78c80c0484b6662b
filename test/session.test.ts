import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { toHex } from '../protocol/bytes.ts';
import { idealSum, type SessionDrops } from '../protocol/ideal.ts';
import { verifyTranscript } from '../protocol/transcript.ts';
import { createMembers, plainSum, runSession } from './support/session-world.ts';

const LANES = [2, 3, 4] as const;

describe('an honest session', () => {
  for (const lanes of LANES) {
    for (const members of [3, 4, 7, 12]) {
      it(`gives the exact ring sum of ${members} members in ${lanes} lanes`, () => {
        const world = runSession({ members, lanes, coordinates: 11 });
        expect(world.abort).toBeNull();
        expect(world.memberAborts.size).toBe(0);
        expect(world.outcome?.survivors.length).toBe(members);
        expect(world.outcome?.sum).toEqual(
          plainSum(
            world,
            world.members.map(({ id }) => id),
          ),
        );
        expect(world.done.size).toBe(members);
      });
    }
  }

  it('charges before anybody unmasks, and every member before its upload', () => {
    const world = runSession({ members: 4 });
    expect(world.charges.length).toBe(1);
    for (let m = 0; m < 4; m++) {
      const order = world.effects
        .filter((e) => e.member === m)
        .map(({ effect }) =>
          effect.type === 'send' ? effect.message.type : effect.type === 'persist' ? effect.record.kind : effect.type,
        );
      expect(order).toEqual([
        'authorize',
        'entered',
        'p1',
        'p2',
        'contribute',
        'charge',
        'mask',
        'uploaded',
        'p3',
        'agreed',
        'p4',
        'settle',
        'replied',
        'p5',
        'done',
      ]);
    }
  });

  it('gives members of a census a transcript from which they recompute the sum', () => {
    const world = runSession({
      members: 5,
      lanes: 2,
      params: { purpose: 'census' },
      drops: { 'masked-input': [toHex((createMembers(5).members[2] as { id: Uint8Array }).id)] },
    });
    const transcript = world.outcome?.transcript ?? new Uint8Array(0);
    const verified = verifyTranscript(nodeCrypto, transcript, world.roster, world.coordinator.publicKey);
    expect(verified.sum).toEqual(world.outcome?.sum);
    expect(verified.survivors.length).toBe(4);
  });
});

describe('dropouts', () => {
  const phases = ['advertise', 'share-keys', 'masked-input', 'consistency', 'unmask'] as const;
  for (const phase of phases) {
    for (const members of [4, 7]) {
      const ids = createMembers(members).members.map(({ id }) => toHex(id));
      for (let dropped = 1; dropped <= members; dropped++) {
        it(`${dropped} of ${members} lost in ${phase}: the exact sum or nothing, as the ideal aggregator says`, () => {
          const drops: SessionDrops = { [phase]: ids.slice(0, dropped) };
          const world = runSession({ members, drops });
          let ideal: ReturnType<typeof idealSum> | null = null;
          try {
            ideal = idealSum(world.params, world.contributions, drops);
          } catch {
            ideal = null;
          }
          if (ideal === null) {
            expect(world.outcome).toBeNull();
            expect(world.abort?.code).toMatch(/^ROUND_|^PRIVACY_/);
            // Below the threshold nobody opens a share.
            if (phase !== 'unmask') expect(world.sent.some(({ message }) => message.type === 'p5')).toBe(false);
          } else {
            expect(world.abort).toBeNull();
            expect(world.outcome?.sum).toEqual(ideal.sum);
            expect(world.outcome?.survivors.map(toHex)).toEqual(ideal.survivors.map(toHex));
          }
        });
      }
    }
  }

  it('gives the exact sum with losses in every phase at once', () => {
    const ids = createMembers(12).members.map(({ id }) => toHex(id));
    const drops: SessionDrops = {
      advertise: [ids[0] as string],
      'share-keys': [ids[3] as string],
      'masked-input': [ids[5] as string],
      unmask: [ids[7] as string],
    };
    const world = runSession({ members: 12, lanes: 3, drops });
    expect(world.outcome?.sum).toEqual(idealSum(world.params, world.contributions, drops).sum);
    expect(world.outcome?.u1.length).toBe(11);
    expect(world.outcome?.u2.length).toBe(10);
    expect(world.outcome?.survivors.length).toBe(9);
  });
});
