import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createAggregator, stepAggregator } from '../protocol/aggregator.ts';
import { decodeParts, encodeParts, toHex } from '../protocol/bytes.ts';
import { signMessage } from '../protocol/messages.ts';
import { createParticipant, type ParticipantState, stepParticipant } from '../protocol/participant.ts';
import type { MessageType, SessionMessage } from '../protocol/session.ts';
import { bytesFrom, numbersFrom, sidOf } from './support/malice.ts';
import { plainSum, runSession, type World } from './support/session-world.ts';

const crypto = nodeCrypto;
const MEMBERS = 4;
const TYPES: readonly MessageType[] = [
  'p0',
  'p1',
  'p1-all',
  'p2',
  'p2-all',
  'p3',
  'p4-ask',
  'p4',
  'p5-ask',
  'p5',
  'result',
  'complaint',
  'abort',
];

type Numbers = (below: number) => number;

function randomBytes(below: Numbers, length: number): Uint8Array {
  return Uint8Array.from({ length }, () => below(256));
}

/** One change of one byte string: a bit, a cut, an insertion, another length, a part more, less, twice or out of order. */
function mutate(below: Numbers, bytes: Uint8Array): Uint8Array {
  const at = bytes.length === 0 ? 0 : below(bytes.length);
  const parts = (): Uint8Array[] => {
    try {
      return decodeParts(bytes);
    } catch {
      return [bytes];
    }
  };
  const mutateParts = (change: (list: Uint8Array[]) => Uint8Array[]): Uint8Array => encodeParts(change([...parts()]));
  switch (below(9)) {
    case 0:
      return bytes.map((byte, i) => (i === at ? byte ^ (1 << below(8)) : byte));
    case 1:
      return bytes.slice(0, at);
    case 2:
      return Uint8Array.from([...bytes.slice(0, at), below(256), ...bytes.slice(at)]);
    case 3:
      return randomBytes(below, below(200));
    case 4:
      return new Uint8Array(0);
    case 5:
      return mutateParts((list) => list.filter((_, i) => i !== below(list.length)));
    case 6:
      return mutateParts((list) => [...list, list[below(list.length)] ?? new Uint8Array(0)]);
    case 7:
      return mutateParts((list) => list.reverse());
    default:
      return mutateParts((list) => {
        const i = below(Math.max(1, list.length));
        if (list[i] !== undefined) list[i] = randomBytes(below, list[i].length);
        return list;
      });
  }
}

/** Another message in place of this one: changed anywhere, with or without a valid signature of its sender. */
function corrupt(below: Numbers, message: SessionMessage, secretSeed: Uint8Array): SessionMessage {
  const changed: SessionMessage = {
    type: below(6) === 0 ? (TYPES[below(TYPES.length)] as MessageType) : message.type,
    sid: below(12) === 0 ? mutate(below, message.sid) : message.sid,
    body: below(2) === 0 ? mutate(below, message.body) : message.body,
    attachment: below(2) === 0 ? mutate(below, message.attachment) : message.attachment,
    signature: below(8) === 0 ? mutate(below, message.signature) : message.signature,
  };
  const isList = changed.type.includes('-');
  switch (below(3)) {
    case 0:
      return changed;
    case 1:
      return signMessage(crypto, secretSeed, changed.type, changed.sid, changed.body, changed.attachment);
    default: {
      // A body that binds the attachment as it should, so that the change is found further inside.
      const fields = decodeSafely(message.body);
      const body =
        isList || changed.type === 'p5' || changed.type === 'p3'
          ? encodeParts([...fields.slice(0, -1), crypto.sha256(changed.attachment)])
          : changed.body;
      return signMessage(crypto, secretSeed, changed.type, changed.sid, body, changed.attachment);
    }
  }
}

function decodeSafely(bytes: Uint8Array): Uint8Array[] {
  try {
    return decodeParts(bytes);
  } catch {
    return [];
  }
}

/** Whatever happened: the exact sum or nothing, and no fault of this program. */
function expectCleanEnd(world: World, seed: string): void {
  const codes = [...((world.outcome ?? world.abort)?.faults ?? []), ...world.memberAborts.values()].map(
    ({ code }) => code,
  );
  expect([seed, codes.filter((code) => code === 'INTERNAL_INVARIANT')]).toEqual([seed, []]);
  expect([seed, world.outcome === null, world.abort === null]).toEqual([
    seed,
    world.outcome === null,
    world.outcome !== null,
  ]);
  if (world.outcome === null) return;
  expect([seed, world.outcome.sum]).toEqual([seed, plainSum(world, world.outcome.survivors)]);
  // Whoever is done agrees on the result.
  const certified = toHex(world.outcome.h3);
  for (const { h3 } of world.done.values()) expect([seed, toHex(h3)]).toEqual([seed, certified]);
}

describe('changed messages', () => {
  const MEMBER_STEPS: readonly MessageType[] = ['p1', 'p2', 'p3', 'p4', 'p5'];
  for (const type of MEMBER_STEPS) {
    it(`in place of the ${type} of one member: the honest rest ends with the exact sum or nothing`, () => {
      let completed = 0;
      for (let trial = 0; trial < 9; trial++) {
        const seed = `member ${type} ${trial}`;
        const below = numbersFrom(seed);
        const liar = below(MEMBERS);
        const world = runSession({
          members: MEMBERS,
          lanes: ([2, 3, 4] as const)[trial % 3] as 2 | 3 | 4,
          fromMember: (message, from, w) => {
            if (from !== liar || message.type !== type) return message;
            const changed = corrupt(below, message, (w.members[from] as World['members'][number]).secretSeed);
            return below(3) === 0 ? [changed, message] : changed;
          },
        });
        expectCleanEnd(world, seed);
        if (world.outcome !== null) completed += 1;
      }
      // One of four cannot stop a session, except by dealing wrong shares.
      expect(completed).toBeGreaterThanOrEqual(type === 'p2' ? 4 : 9);
    });
  }

  const COORDINATOR_STEPS: readonly MessageType[] = ['p0', 'p1-all', 'p2-all', 'p4-ask', 'p5-ask', 'result'];
  for (const type of COORDINATOR_STEPS) {
    it(`in place of the ${type} to one member: it refuses, the rest ends with the exact sum`, () => {
      for (let trial = 0; trial < 6; trial++) {
        const seed = `coordinator ${type} ${trial}`;
        const below = numbersFrom(seed);
        const victim = below(MEMBERS);
        const world = runSession({
          members: MEMBERS,
          toMember: (message, to, w) =>
            to === victim && message.type === type ? corrupt(below, message, w.coordinator.secretSeed) : message,
        });
        expectCleanEnd(world, seed);
        expect([seed, world.outcome === null]).toEqual([seed, false]);
      }
    });
  }

  it('in place of everything that one member sends and receives', () => {
    for (let trial = 0; trial < 15; trial++) {
      const seed = `everything ${trial}`;
      const below = numbersFrom(seed);
      const liar = below(MEMBERS);
      const world = runSession({
        members: MEMBERS,
        toMember: (message, to, w) =>
          to === liar && below(4) === 0 ? corrupt(below, message, w.coordinator.secretSeed) : message,
        fromMember: (message, from, w) =>
          from === liar
            ? [message, corrupt(below, message, (w.members[from] as World['members'][number]).secretSeed)]
            : message,
      });
      expectCleanEnd(world, seed);
    }
  });
});

describe('random messages', () => {
  const reference = runSession({ members: MEMBERS });
  const noise = (below: Numbers, secretSeed: Uint8Array): SessionMessage => {
    const type = TYPES[below(TYPES.length)] as MessageType;
    const sid = below(5) === 0 ? randomBytes(below, below(40)) : sidOf(reference);
    const [body, attachment] = [randomBytes(below, below(160)), randomBytes(below, below(600))];
    if (below(2) === 0) return signMessage(crypto, secretSeed, type, sid, body, attachment);
    return { type, sid, body, attachment, signature: randomBytes(below, below(2) === 0 ? 64 : below(100)) };
  };

  it('move no participant, in no stage, and none throws', () => {
    const below = numbersFrom('participant noise');
    const identity = reference.members[0] as World['members'][number];
    const trust = { coordinatorKey: reference.coordinator.publicKey, roster: reference.roster };
    const received = reference.received.filter(({ to }) => to === 0).map(({ message }) => message);
    // The states of member 0 up to each coordinator message, from the offer on.
    let state: ParticipantState = createParticipant(identity, trust, crypto);
    const states: ParticipantState[] = [state];
    state = stepParticipant(crypto, state, {
      type: 'open',
      message: received[0] as SessionMessage,
      entropy: bytesFrom('entropy'),
    }).state;
    states.push(state);
    states.push(stepParticipant(crypto, state, { type: 'authorized' }).state, reference.states[0] as ParticipantState);
    for (const before of states) {
      for (let trial = 0; trial < 60; trial++) {
        const message = noise(below, reference.coordinator.secretSeed);
        const event =
          below(4) === 0
            ? ({ type: 'open', message, entropy: bytesFrom('entropy') } as const)
            : ({ type: 'message', message } as const);
        const { effects } = stepParticipant(crypto, before, event);
        for (const effect of effects) {
          expect(['send', 'abort']).toContain(effect.type);
          if (effect.type === 'abort') expect(effect.code).not.toBe('INTERNAL_INVARIANT');
          if (effect.type === 'send') expect(effect.message.type).toBe('abort');
        }
      }
    }
  });

  it('move no aggregator but to dismiss their sender, and it never throws', () => {
    const below = numbersFrom('aggregator noise');
    const { params, members, roster, coordinator } = reference;
    const invited = members.map(({ id }) => id);
    const opened = stepAggregator(crypto, createAggregator(coordinator, roster), {
      type: 'open',
      params,
      attachment: new Uint8Array(0),
      invited,
    }).state;
    for (let trial = 0; trial < 200; trial++) {
      const sender = members[below(MEMBERS)] as World['members'][number];
      const from = below(6) === 0 ? randomBytes(below, 32) : sender.id;
      const { effects, state } = stepAggregator(crypto, opened, {
        type: 'message',
        from,
        message: noise(below, sender.secretSeed),
      });
      for (const effect of effects) {
        expect(effect.type).toBe('send');
        if (effect.type === 'send') expect([toHex(effect.to), effect.message.type]).toEqual([toHex(from), 'abort']);
      }
      for (const { code } of state.session?.faults ?? []) expect(code).not.toBe('INTERNAL_INVARIANT');
    }
  });
});
