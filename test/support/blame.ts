import { describe, expect, it } from 'vitest';
import { toHex } from '../../protocol/bytes.ts';
import type { MessageType, SessionMessage } from '../../protocol/session.ts';
import { idOf } from './malice.ts';
import { plainSum, runSession, type World, type WorldOptions } from './session-world.ts';
import { SPARSE, SPARSE_MEMBERS } from './sparse.ts';

const LIAR = 2;
const UP = ['p1', 'p2', 'p3', 'p4', 'p5'] as const;
const DOWN = ['p0', 'p1-all', 'p2-all', 'p4-ask', 'p5-ask', 'result'] as const;

interface Profile {
  readonly options: WorldOptions;
  readonly up: readonly MessageType[];
  readonly down: readonly MessageType[];
}

const PROFILES: Readonly<Record<'strict' | 'sparse', Profile>> = {
  strict: { options: { members: 4, coordinates: 4 }, up: UP, down: DOWN },
  sparse: {
    options: { members: SPARSE_MEMBERS, coordinates: 4, params: SPARSE },
    up: ['p1r', ...UP],
    down: ['p1r-all', ...DOWN],
  },
};

/** The message with one bit of its body, signature and attachment, taken as one string, changed. */
function corrupt(message: SessionMessage, at: number): SessionMessage {
  const parts = [message.body, message.signature, message.attachment] as const;
  let left = at;
  const [body, signature, attachment] = parts.map((part) => {
    const here = left >= 0 && left < part.length ? left : -1;
    left -= part.length;
    return here < 0 ? part : part.map((byte, i) => (i === here ? byte ^ (1 << (at % 8)) : byte));
  }) as unknown as [Uint8Array, Uint8Array, Uint8Array];
  return { ...message, body, signature, attachment };
}

const lengthOf = ({ body, signature, attachment }: SessionMessage): number =>
  body.length + signature.length + attachment.length;

function messageOf(honest: World, type: MessageType, to: boolean): SessionMessage {
  const found = to
    ? honest.received.find((r) => r.to === LIAR && r.message.type === type)
    : honest.sent.find((s) => s.from === LIAR && s.message.type === type);
  if (found === undefined) throw new Error(`no ${type}`);
  return found.message;
}

/** Members that anybody holds responsible in a world. */
const blamed = (world: World): string[] => [...accused(world), ...(world.abort?.excluded ?? []).map(toHex)];

const accused = (world: World): string[] => [
  ...(world.outcome?.faults ?? world.abort?.faults ?? [])
    .filter(({ reportedBy }) => reportedBy === 'coordinator')
    .map(({ id }) => toHex(id)),
  ...[...world.memberAborts.values()].flatMap(({ accused }) => accused.map(toHex)),
];

/**
 * Every `every`-th byte of each message type is changed on its way. From a member: that member is named, or its own next
 * answer is missing; nobody else is. To a member: it names nobody, for a broken channel proves nothing.
 */
export function describeBlame(every: number, profile: 'strict' | 'sparse'): void {
  const { options, up, down } = PROFILES[profile];
  describe(`a changed byte in the ${profile} profile`, () => {
    const honest = runSession(options);
    const liar = toHex(idOf(honest, LIAR));
    for (const type of up) {
      const length = lengthOf(messageOf(honest, type, false));
      it(`of ${type} (${length} bytes) accuses its sender and nobody else`, () => {
        for (let at = 0; at < length; at += every) {
          const world = runSession({
            ...options,
            fromMember: (message, from) => (from === LIAR && message.type === type ? corrupt(message, at) : message),
          });
          expect(blamed(world), `byte ${at}`).toEqual(expect.arrayContaining([liar]));
          expect(new Set(blamed(world)), `byte ${at}`).toEqual(new Set([liar]));
          // The round goes on without one member and is right; only the reveals have to be complete.
          if (world.outcome !== null) expect(world.outcome.sum).toEqual(plainSum(world, world.outcome.survivors));
        }
      });
    }
    for (const type of down) {
      const length = lengthOf(messageOf(honest, type, true));
      it(`of ${type} (${length} bytes) on its way to a member accuses no member`, () => {
        for (let at = 0; at < length; at += every) {
          const world = runSession({
            ...options,
            toMember: (message, to) => (to === LIAR && message.type === type ? corrupt(message, at) : message),
          });
          // Who cannot reveal, for its list was broken on the way, stays out of the next attempt and is accused of nothing.
          if (world.abort?.code === 'ROUND_REVEAL') {
            expect([type, accused(world)], `byte ${at}`).toEqual(['p1-all', []]);
            expect(blamed(world), `byte ${at}`).toEqual([liar]);
          } else expect(blamed(world), `byte ${at}`).toEqual([]);
          if (world.outcome !== null) expect(world.outcome.sum).toEqual(plainSum(world, world.outcome.survivors));
        }
      });
    }
  });
}
