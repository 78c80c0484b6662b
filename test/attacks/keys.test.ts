import { ed25519 } from '@noble/curves/ed25519.js';
import { describe, expect, it } from 'vitest';
import { nobleCrypto } from '../../platform/noble/crypto.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { equalBytes, fromHex, toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { decodeAdvertisement, encodeAdvertisement, signedBytes } from '../../protocol/messages.ts';
import { stepParticipant } from '../../protocol/participant.ts';
import type { SessionMessage } from '../../protocol/session.ts';
import { BAD_KEYS, signWithTorsion } from '../support/bad-keys.ts';
import {
  accusedBy,
  codeOf,
  idOf,
  listed,
  messagesOf,
  relist,
  senderOf,
  sentBy,
  sidOf,
  signAs,
} from '../support/malice.ts';
import { plainSum, runSession, type World, type WorldOptions } from '../support/session-world.ts';

const MEMBERS = 4;
const LIAR = 2;
const PROVIDERS: readonly CryptoProvider[] = [nodeCrypto, nobleCrypto];

type Keys = Partial<Record<'encryptionKey' | 'maskKey', Uint8Array>>;

/** P1 of a member with other keys, signed by that member. */
function readvertise(world: World, from: number, message: SessionMessage, keys: Keys): SessionMessage {
  return signAs(world, from, 'p1', encodeAdvertisement({ ...decodeAdvertisement(message.body), ...keys }));
}

/** What the coordinator makes of it. */
function offered(keysFor: (world: World, own: SessionMessage) => Keys): World {
  return runSession({
    members: MEMBERS,
    fromMember: (message, from, w) =>
      from === LIAR && message.type === 'p1' ? readvertise(w, from, message, keysFor(w, message)) : message,
  });
}

/** What participants make of it when the coordinator lets it pass: the liar's signed P1 stands in the list. */
function letThrough(crypto: CryptoProvider, keysFor: (world: World, own: SessionMessage) => Keys): World {
  const options: WorldOptions = {
    members: MEMBERS,
    toMember: (message, _to, w) => {
      if (message.type !== 'p1-all') return message;
      const own = sentBy(w, 'p1').find(({ from }) => from === LIAR)?.message as SessionMessage;
      const bad = readvertise(w, LIAR, own, keysFor(w, own));
      return relist(
        w,
        message,
        listed(message, 'p1').map((entry) => (equalBytes(senderOf(entry), idOf(w, LIAR)) ? bad : entry)),
      );
    },
    participantStep: (_provider, state, event) => stepParticipant(crypto, state, event),
  };
  return runSession(options);
}

const maskKeyOf = (world: World, member: number): Uint8Array =>
  decodeAdvertisement((messagesOf(world, member, 'p1')[0] as SessionMessage).body).maskKey;

describe('A19: low-order, non-canonical and duplicate keys', () => {
  for (const field of ['encryptionKey', 'maskKey'] as const) {
    for (const [name, hex] of Object.entries(BAD_KEYS)) {
      it(`${field} ${name}: the coordinator goes on without that member`, () => {
        const world = offered(() => ({ [field]: fromHex(hex) }));
        expect(world.outcome?.faults.map(({ id, code }) => [toHex(id), code])).toEqual([
          [toHex(idOf(world, LIAR)), 'CRYPTO_POINT'],
        ]);
        expect(world.outcome?.accused.map(toHex)).toEqual([toHex(idOf(world, LIAR))]);
        const others = world.members.filter((_, m) => m !== LIAR).map(({ id }) => id);
        expect(world.outcome?.sum).toEqual(plainSum(world, others));
      });
    }
  }

  for (const crypto of PROVIDERS) {
    it(`let through by the coordinator, they end every session (${crypto.name}) before a charge and name who signed them`, () => {
      Object.values(BAD_KEYS).forEach((hex, i) => {
        const field = i % 2 === 0 ? 'maskKey' : 'encryptionKey';
        const world = letThrough(crypto, () => ({ [field]: fromHex(hex) }));
        for (let m = 0; m < MEMBERS; m++) {
          if (m === LIAR) continue;
          expect(codeOf(world, m)).toBe('CRYPTO_POINT');
          expect(accusedBy(world, m)).toEqual([toHex(idOf(world, LIAR))]);
        }
        expect(world.effects.some(({ effect }) => effect.type === 'charge' || effect.type === 'mask')).toBe(false);
      });
    });
  }

  const duplicates: Readonly<Record<string, (world: World, own: SessionMessage) => Keys>> = {
    'one key for both uses': (_w, own) => ({ encryptionKey: decodeAdvertisement(own.body).maskKey }),
    "another member's mask key": (w) => ({ maskKey: maskKeyOf(w, 0) }),
    "another member's mask key to receive shares": (w) => ({ encryptionKey: maskKeyOf(w, 0) }),
  };
  for (const [name, keysFor] of Object.entries(duplicates)) {
    it(`${name}: refused by the coordinator and by every participant`, () => {
      const world = offered(keysFor);
      expect(world.outcome?.survivors.length).toBe(MEMBERS - 1);
      expect(world.outcome?.faults.map(({ code }) => code)).toEqual(['PROTO_COHORT']);
      for (const crypto of PROVIDERS) {
        const passed = letThrough(crypto, keysFor);
        for (let m = 0; m < MEMBERS; m++) if (m !== LIAR) expect(codeOf(passed, m)).toBe('PROTO_COHORT');
        expect(sentBy(passed, 'p2')).toEqual([]);
      }
    });
  }
});

describe('A31: torsion signatures', () => {
  it('are what a cofactored verifier accepts', () => {
    const world = runSession({ members: MEMBERS });
    const crafted = signWithTorsion(world, LIAR, messagesOf(world, LIAR, 'p1')[0] as SessionMessage);
    const text = signedBytes(nodeCrypto, 'p1', sidOf(world), crafted.body);
    const { publicKey } = world.members[LIAR] as World['members'][number];
    expect(ed25519.verify(crafted.signature, text, publicKey, { zip215: true })).toBe(true);
  });

  for (const type of ['p1', 'p2', 'p3', 'p4', 'p5'] as const) {
    it(`of a member on ${type}: the coordinator refuses them and goes on`, () => {
      const world = runSession({
        members: MEMBERS,
        fromMember: (message, from, w) =>
          from === LIAR && message.type === type ? signWithTorsion(w, from, message) : message,
      });
      // Consistency and unmasking need t = 3 of 4 answers and close without the last.
      expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
      expect(world.outcome?.faults.map(({ id, code }) => [toHex(id), code])).toEqual([
        [toHex(idOf(world, LIAR)), 'AUTH_SIGNATURE'],
      ]);
    });
  }

  const lists = { 'p1-all': 'p1', 'p2-all': 'p2', 'p4-ask': 'p3', 'p5-ask': 'p4' } as const;
  for (const crypto of PROVIDERS) {
    for (const [list, type] of Object.entries(lists).filter(([name]) => name !== 'p2-all')) {
      it(`let through in ${list}, every participant (${crypto.name}) refuses them alike`, () => {
        const world = runSession({
          members: MEMBERS,
          participantStep: (_provider, state, event) => stepParticipant(crypto, state, event),
          toMember: (message, _to, w) =>
            message.type === list
              ? relist(
                  w,
                  message,
                  listed(message, type).map((entry) => {
                    const member = w.members.findIndex(({ id }) => equalBytes(id, senderOf(entry)));
                    return { ...signWithTorsion(w, member, { ...message, ...entry }) };
                  }),
                )
              : message,
        });
        for (let m = 0; m < MEMBERS; m++) expect(codeOf(world, m)).toBe('AUTH_SIGNATURE');
        expect(world.outcome).toBeNull();
      });
    }
  }
});
