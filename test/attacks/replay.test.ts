import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { equalBytes, toHex } from '../../protocol/bytes.ts';
import { isCoveyError } from '../../protocol/errors.ts';
import { requireSignature, signMessage } from '../../protocol/messages.ts';
import { encodeParams, requireNewer, sessionId } from '../../protocol/params.ts';
import { createParticipant, type ParticipantState, stepParticipant } from '../../protocol/participant.ts';
import type { MessageType, ParticipantRecord, SessionMessage, SessionParams } from '../../protocol/session.ts';
import {
  bytesFrom,
  codeOf,
  idOf,
  listed,
  messagesOf,
  nothingOpened,
  relist,
  senderOf,
  sentBy,
} from '../support/malice.ts';
import { plainSum, runSession, type World } from '../support/session-world.ts';

const crypto = nodeCrypto;
const MEMBERS = 5;
const COORDINATOR_TYPES: readonly MessageType[] = ['p0', 'p1-all', 'p2-all', 'p4-ask', 'p5-ask', 'result'];
const MEMBER_TYPES: readonly MessageType[] = ['p1', 'p2', 'p3', 'p4', 'p5'];

const offer = (world: World, params: SessionParams): SessionMessage =>
  signMessage(crypto, world.coordinator.secretSeed, 'p0', sessionId(crypto, params), encodeParams(params));

const open = (state: ParticipantState, message: SessionMessage): ReturnType<typeof stepParticipant> =>
  stepParticipant(crypto, state, { type: 'open', message, entropy: bytesFrom('entropy') });

const EARLIER: Record<string, Partial<SessionParams>> = {
  'another round': { round: 1 },
  'another attempt': { round: 2, attempt: 0 },
  'another purpose': { round: 2, purpose: 'census' },
  'another run': { round: 2, attempt: 1, runId: 'ffffffffffffffffffffffffffffffff' },
  'another group': { round: 2, groupId: 'other' },
};

describe('A13: replay', () => {
  for (const [name, changes] of Object.entries(EARLIER)) {
    it(`messages of ${name} change nothing, whichever type and whenever they come`, () => {
      const old = runSession({ members: MEMBERS, params: changes });
      for (const type of COORDINATOR_TYPES)
        expect(old.received.some(({ message }) => message.type === type)).toBe(true);
      for (const type of MEMBER_TYPES) expect(old.sent.some(({ message }) => message.type === type)).toBe(true);
      const world = runSession({
        members: MEMBERS,
        params: { round: 2, attempt: 1 },
        toMember: (message, to) => [
          message,
          ...old.received
            .filter((r) => r.to === to && (r.message.type !== 'p0' || changes.runId === undefined))
            .map((r) => r.message),
        ],
        fromMember: (message, from) => [...old.sent.filter((s) => s.from === from).map((s) => s.message), message],
      });
      expect(world.outcome?.sum).toEqual(
        plainSum(
          world,
          world.members.map(({ id }) => id),
        ),
      );
      expect(world.outcome?.faults).toEqual([]);
      // A replayed offer is refused as such; it never ends the session that is in progress.
      for (const { code, sid } of world.memberAborts.values()) {
        expect(code).toBe('PROTO_ROUND');
        expect(equalBytes(sid, sessionId(crypto, old.params))).toBe(true);
      }
    });
  }

  for (const type of COORDINATOR_TYPES.slice(1)) {
    it(`a ${type} of an earlier round under the new session identifier is not accepted`, () => {
      const old = runSession({ members: MEMBERS });
      const world = runSession({
        members: MEMBERS,
        params: { round: 2 },
        toMember: (message, to) =>
          message.type === type
            ? {
                ...(old.received.find((r) => r.to === to && r.message.type === type) as World['received'][number])
                  .message,
                sid: message.sid,
              }
            : message,
      });
      for (let m = 0; m < MEMBERS; m++) expect(codeOf(world, m)).toBe('AUTH_SIGNATURE');
      expect(world.done.size).toBe(0);
      if (type !== 'result') expect(world.outcome).toBeNull();
    });
  }

  for (const type of MEMBER_TYPES) {
    it(`a ${type} of an earlier round under the new session identifier removes its sender only`, () => {
      const old = runSession({ members: MEMBERS });
      const world = runSession({
        members: MEMBERS,
        params: { round: 2 },
        fromMember: (message, from) =>
          message.type === type && from === 0
            ? { ...(messagesOf(old, 0, type)[0] as SessionMessage), sid: message.sid }
            : message,
      });
      expect(world.outcome?.faults.map(({ id, code }) => [toHex(id), code])).toEqual([
        [toHex(idOf(world, 0)), 'AUTH_SIGNATURE'],
      ]);
      expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
    });
  }

  it('a signature counts for one type, one session and one body', () => {
    const world = runSession({ members: MEMBERS });
    const types: MessageType[] = [...COORDINATOR_TYPES, ...MEMBER_TYPES, 'complaint', 'abort'];
    const sid = bytesFrom('sid');
    const body = bytesFrom('body');
    const key = (world.members[0] as World['members'][number]).publicKey;
    for (const signed of types) {
      const message = signMessage(crypto, (world.members[0] as World['members'][number]).secretSeed, signed, sid, body);
      for (const type of types) {
        let code: string | null = null;
        try {
          requireSignature(crypto, { ...message, type }, sid, key);
        } catch (error) {
          code = isCoveyError(error) ? error.code : 'other';
        }
        expect(code).toBe(type === signed ? null : 'AUTH_SIGNATURE');
      }
      expect(() => requireSignature(crypto, message, bytesFrom('another sid'), key)).toThrow(/signature/);
      expect(() => requireSignature(crypto, { ...message, body: bytesFrom('another body') }, sid, key)).toThrow(
        /signature/,
      );
    }
  });

  it('orders sessions by round, purpose and attempt, and spends a number with its upload', () => {
    const at = (
      round: number,
      purpose: SessionParams['purpose'],
      attempt: number,
    ): Pick<SessionParams, 'round' | 'purpose' | 'attempt'> => ({ round, purpose, attempt });
    const last = at(5, 'train', 2);
    const table: [ReturnType<typeof at>, boolean, boolean][] = [
      [at(5, 'train', 2), false, false],
      [at(5, 'train', 1), false, false],
      [at(5, 'train', 3), true, false],
      [at(5, 'census', 9), false, false],
      [at(5, 'metrics', 0), true, true],
      [at(4, 'metrics', 15), false, false],
      [at(6, 'census', 0), true, true],
    ];
    for (const [next, fresh, afterUpload] of table) {
      for (const [uploaded, accepted] of [
        [false, fresh],
        [true, afterUpload],
      ] as const) {
        let code: string | null = null;
        try {
          requireNewer({ ...last, uploaded }, next);
        } catch (error) {
          code = isCoveyError(error) ? error.code : 'other';
        }
        expect([next, uploaded, code]).toEqual([next, uploaded, accepted ? null : 'PROTO_ROUND']);
      }
    }
    expect(() => requireNewer(undefined, last)).not.toThrow();
  });

  it('refuses every session that its durable records name, after a restart too', () => {
    const world = runSession({ members: MEMBERS, params: { round: 3, attempt: 1 } });
    const records = (member: number, kinds: readonly string[]): ParticipantRecord[] =>
      world.effects.flatMap(({ member: m, effect }) =>
        m === member && effect.type === 'persist' && kinds.includes(effect.record.kind) ? [effect.record] : [],
      );
    const trust = { coordinatorKey: world.coordinator.publicKey, roster: world.roster };
    const restart = (kinds: readonly string[]): ParticipantState =>
      createParticipant(world.members[0] as World['members'][number], trust, crypto, records(0, kinds));
    const answer = (state: ParticipantState, changes: Partial<SessionParams>): string => {
      const [effect] = open(state, offer(world, { ...world.params, ...changes })).effects;
      return effect?.type === 'abort' ? effect.code : (effect?.type ?? 'nothing');
    };
    const before = restart([]);
    expect(answer(before, {})).toBe('authorize');
    const entered = restart(['entered']);
    expect(answer(entered, {})).toBe('PROTO_ROUND');
    expect(answer(entered, { groupId: 'other' })).toBe('PROTO_ROUND');
    expect(answer(entered, { attempt: 2 })).toBe('authorize');
    const uploaded = restart(['entered', 'uploaded']);
    expect(answer(uploaded, { attempt: 2 })).toBe('PROTO_ROUND');
    expect(answer(uploaded, { round: 2, attempt: 5 })).toBe('PROTO_ROUND');
    expect(answer(uploaded, { round: 4, attempt: 0 })).toBe('authorize');
    expect(answer(world.states[0] as ParticipantState, { attempt: 2 })).toBe('PROTO_ROUND');
  });

  it('never reuses keys or masks: another session gives other bytes for the same entropy', () => {
    const [one, two] = [runSession({ members: MEMBERS }), runSession({ members: MEMBERS, params: { round: 2 } })];
    for (const type of MEMBER_TYPES) {
      for (let m = 0; m < MEMBERS; m++) {
        const [a, b] = [messagesOf(one, m, type)[0] as SessionMessage, messagesOf(two, m, type)[0] as SessionMessage];
        expect(toHex(a.body) === toHex(b.body)).toBe(false);
      }
    }
  });
});

describe('A8: two models', () => {
  it('gives members with different models different sessions, so that nothing adds up', () => {
    const alone = 1;
    const world = runSession({
      members: MEMBERS,
      toMember: (message, to, w) => {
        if (to !== alone) return message;
        if (message.type === 'p0') return offer(w, { ...w.params, modelHash: bytesFrom('crafted model') });
        return message;
      },
    });
    // The member answers under its own identifier; the others go on without it.
    expect(world.outcome?.survivors.map(toHex)).toEqual(
      world.members.filter((_, m) => m !== alone).map(({ id }) => toHex(id)),
    );
    const [own] = messagesOf(world, alone, 'p1') as [SessionMessage];
    expect(equalBytes(own.sid, sessionId(crypto, world.params))).toBe(false);
    expect(messagesOf(world, alone, 'p2').length).toBe(0);
  });

  it('lets nobody into the session of another model, whoever carries the messages over', () => {
    const alone = 1;
    const world = runSession({
      members: MEMBERS,
      toMember: (message, to, w) => {
        if (to === alone && message.type === 'p0')
          return offer(w, { ...w.params, modelHash: bytesFrom('crafted model') });
        const [own] = messagesOf(w, alone, 'p1');
        if (message.type !== 'p1-all' || own === undefined) return message;
        const entries = [
          ...listed(message, 'p1').filter((entry) => !equalBytes(senderOf(entry), idOf(w, alone))),
          own,
        ].sort((a, b) => (toHex(senderOf(a)) < toHex(senderOf(b)) ? -1 : 1));
        return to === alone
          ? {
              ...signMessage(
                crypto,
                w.coordinator.secretSeed,
                'p1-all',
                own.sid,
                relist(w, message, entries).body,
                relist(w, message, entries).attachment,
              ),
            }
          : relist(w, message, entries);
      },
    });
    for (let m = 0; m < MEMBERS; m++) if (m !== alone) expect(codeOf(world, m)).toBe('AUTH_SIGNATURE');
    expect(nothingOpened(world)).toBe(true);
    expect(sentBy(world, 'p2').length).toBe(0);
  });
});
