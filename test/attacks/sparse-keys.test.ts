import { describe, expect, it } from 'vitest';
import { rememberingVerifications } from '../../bench/remembered-crypto.ts';
import { nobleCrypto } from '../../platform/noble/crypto.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { webCrypto } from '../../platform/web/crypto.ts';
import { decodeParts, encodeParts, equalBytes, fromHex, toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { neighboursOf } from '../../protocol/graph.ts';
import { expandEntropy, hashAdvertisements } from '../../protocol/key-schedule.ts';
import { encodeBodies, signMessage } from '../../protocol/messages.ts';
import { stepParticipant } from '../../protocol/participant.ts';
import type { SessionMessage } from '../../protocol/session.ts';
import { BAD_KEYS, signWithTorsion, torsionedKey } from '../support/bad-keys.ts';
import {
  accusedBy,
  codeOf,
  forge,
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
import { SPARSE_MEMBERS as MEMBERS, SPARSE, sparseCohort } from '../support/sparse.ts';

const PROVIDERS = [nodeCrypto, nobleCrypto, webCrypto].map(rememberingVerifications);
const LIAR = 2;
/** Members are on all three providers: judgements that differ would split them. */
const onTheirOwn: typeof stepParticipant = (_provider, state, event) =>
  stepParticipant(PROVIDERS[(state.identity.id[31] as number) % 3] as CryptoProvider, state, event);
const everybody = Array.from({ length: MEMBERS }, (_, m) => m);
const run = (more: Partial<WorldOptions> = {}): World =>
  runSession({ members: MEMBERS, coordinates: 4, ...more, params: { ...SPARSE, ...more.params } });
const honest = run();
const { entropies } = honest;
const liar = toHex(idOf(honest, LIAR));
const faultsOf = (world: World): [string, string][] =>
  (world.outcome ?? world.abort)?.faults.map(({ id, code }) => [toHex(id), code]) ?? [];
const isExact = (world: World): void =>
  expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));

describe('A31: torsion signatures (sparse)', () => {
  it('control: the members are on all providers, and honest signatures pass them', () => {
    expect(new Set(honest.members.map(({ id }) => (id[31] as number) % 3)).size).toBe(3);
    isExact(run({ participantStep: onTheirOwn }));
  });

  for (const type of ['p1', 'p2', 'p3', 'p4', 'p5'] as const) {
    it(`of a member on ${type}: the coordinator refuses them and goes on`, () => {
      const world = run({
        fromMember: (message, from, w) =>
          from === LIAR && message.type === type ? signWithTorsion(w, from, message) : message,
      });
      expect(faultsOf(world)).toEqual([[liar, 'AUTH_SIGNATURE']]);
      isExact(world);
    });
  }

  it('of a committee member on its reveal: no graph is drawn, and that member stays out of the next attempt', () => {
    const world = run({
      fromMember: (message, from, w) =>
        from === LIAR && message.type === 'p1r' ? signWithTorsion(w, from, message) : message,
    });
    expect(faultsOf(world)).toEqual([[liar, 'AUTH_SIGNATURE']]);
    expect([world.abort?.code, world.abort?.excluded.map(toHex)]).toEqual(['ROUND_REVEAL', [liar]]);
    expect(sentBy(world, 'p2')).toEqual([]);
  });

  const lists = { 'p1-all': 'p1', 'p1r-all': 'p1r', 'p2-all': 'p2', 'p4-ask': 'p3', 'p5-ask': 'p4' } as const;
  for (const [list, type] of Object.entries(lists)) {
    it(`let through in ${list}, every participant refuses them alike, whatever its provider`, () => {
      const world = run({
        participantStep: onTheirOwn,
        toMember: (message, to, w) => {
          if (message.type !== list) return message;
          // The bodies of a P2 list are its first part; the shares behind them stay.
          const [bodies, ...shares] = list === 'p2-all' ? decodeParts(message.attachment) : [message.attachment];
          const crafted = listed({ ...message, attachment: bodies as Uint8Array }, type).map((entry) => {
            const member = w.members.findIndex(({ id }) => equalBytes(id, senderOf(entry)));
            return member === LIAR ? signWithTorsion(w, member, { ...message, ...entry }) : entry;
          });
          if (list !== 'p2-all') return relist(w, message, crafted);
          return forge(w, list, encodeParts([encodeBodies(crafted), ...shares]), idOf(w, to));
        },
      });
      for (const m of everybody) expect(codeOf(world, m)).toBe('AUTH_SIGNATURE');
      expect(world.outcome).toBeNull();
    });
  }
});

describe('A19 and A31: small order and torsion in advertised keys (sparse)', () => {
  type Field = 'encryption' | 'mask';
  const withKey = (body: Uint8Array, field: Field, key: Uint8Array): Uint8Array =>
    encodeParts(decodeParts(body).with(field === 'encryption' ? 1 : 2, key));

  for (const [name, hex] of Object.entries(BAD_KEYS)) {
    it(`${name}: the coordinator goes on without that member, whichever key it is`, () => {
      for (const field of ['encryption', 'mask'] as const) {
        const world = run({
          fromMember: (message, from, w) =>
            from === LIAR && message.type === 'p1'
              ? signAs(w, LIAR, 'p1', withKey(message.body, field, fromHex(hex)))
              : message,
        });
        expect(faultsOf(world)).toEqual([[liar, 'CRYPTO_POINT']]);
        expect(world.outcome?.survivors.length).toBe(MEMBERS - 1);
        isExact(world);
      }
    });
  }

  it('let through, they end the sessions of all neighbours before a charge and name who signed them, on every provider', () => {
    Object.values(BAD_KEYS).forEach((hex, i) => {
      const field: Field = i % 2 === 0 ? 'mask' : 'encryption';
      // The coordinator's machine runs on with the honest list; all members are shown the bad key and reveals for it.
      const bad = (w: World, message: SessionMessage): SessionMessage =>
        relist(
          w,
          message,
          listed(message, 'p1').map((entry) =>
            toHex(senderOf(entry)) === liar ? signAs(w, LIAR, 'p1', withKey(entry.body, field, fromHex(hex))) : entry,
          ),
        );
      let h1 = new Uint8Array(0);
      const world = run({
        participantStep: onTheirOwn,
        toMember: (message, to, w) => {
          // The machine of the liar sees what it signed honestly.
          if (to === LIAR) return message;
          if (message.type === 'p1-all') {
            const list = bad(w, message);
            const bodies = listed(list, 'p1').map(({ body }) => body);
            h1 = new Uint8Array(hashAdvertisements(nodeCrypto, sidOf(w), bodies));
            return list;
          }
          if (message.type !== 'p1r-all') return message;
          const again = listed(message, 'p1r').map((entry) => {
            const member = w.members.findIndex(({ id }) => equalBytes(id, senderOf(entry)));
            return signAs(w, member, 'p1r', encodeParts(decodeParts(entry.body).with(1, h1)));
          });
          return relist(w, message, again);
        },
        // What the members say about the list that they saw, told to the machine as if they had seen its own.
        fromMember: (message, from, w) => {
          if (message.type !== 'p1r' || from === LIAR) return message;
          const real = hashAdvertisements(
            nodeCrypto,
            sidOf(w),
            sentBy(w, 'p1').map(({ message: m }) => m.body),
          );
          return signAs(w, from, 'p1r', encodeParts(decodeParts(message.body).with(1, real)));
        },
      });
      const { graph } = sparseCohort(world);
      const neighbours = neighboursOf(graph, LIAR);
      expect(neighbours.length).toBe(8);
      for (const m of everybody.filter((member) => member !== LIAR)) {
        const isNear = neighbours.includes(m);
        expect([m, codeOf(world, m) === 'CRYPTO_POINT', accusedBy(world, m).includes(liar)]).toEqual([
          m,
          isNear,
          isNear,
        ]);
      }
      expect(world.effects.some(({ effect }) => effect.type === 'charge' || effect.type === 'mask')).toBe(false);
    });
  });

  it('a mask key with torsion agrees like the honest one on every provider', () => {
    const secret = fromHex('2a'.repeat(32));
    const honest = nodeCrypto.x25519PublicKey(secret);
    const crafted = torsionedKey(secret);
    expect(toHex(crafted)).not.toBe(toHex(honest));
    for (const crypto of PROVIDERS) {
      const other = fromHex('17'.repeat(32));
      expect(toHex(crypto.x25519Agree(other, crafted))).toBe(toHex(crypto.x25519Agree(other, honest)));
    }
  });

  for (const drop of [false, true]) {
    it(`it gives its member nothing: ${drop ? 'dropped, it is a proven liar' : 'among the survivors the sum is exact'}`, () => {
      const world = run({
        drops: drop ? { 'masked-input': [liar] } : {},
        participantStep: (provider, state, event) => {
          // Its machine signs the crafted key itself, so that its own view is that of the others.
          const step = stepParticipant(provider, state, event);
          if (toHex(state.identity.id) !== liar || event.type !== 'authorized') return step;
          const { session } = step.state;
          const p1 = session?.answers.get('p0') as SessionMessage;
          const { maskSecret } = expandEntropy(nodeCrypto, entropies[LIAR] as Uint8Array, p1.sid);
          const body = withKey(p1.body, 'mask', torsionedKey(maskSecret));
          const crafted = signMessage(nodeCrypto, state.identity.secretSeed, 'p1', p1.sid, body);
          return {
            ...step,
            state: { ...step.state, session: { ...(session as object), answers: new Map([['p0', crafted]]) } as never },
            effects: step.effects.map((effect) => (effect.type === 'send' ? { ...effect, message: crafted } : effect)),
          };
        },
      });
      expect(messagesOf(world, LIAR, 'p1').length).toBe(1);
      if (!drop) {
        expect(world.outcome?.survivors.length).toBe(MEMBERS);
        isExact(world);
        return;
      }
      expect([world.outcome, world.abort?.code]).toEqual([null, 'CRYPTO_COMMITMENT']);
      expect(world.abort?.excluded.map(toHex)).toEqual([liar]);
    });
  }
});
