import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { type AggregatorState, createAggregator, stepAggregator } from '../protocol/aggregator.ts';
import { decodeParts, encodeParts, equalBytes, fromHex, toHex, utf8 } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { merkleRoot } from '../protocol/merkle.ts';
import {
  decodeBodies,
  decodeDealing,
  decodeLeaf,
  decodeUpload,
  encodeAbort,
  encodeBodies,
  encodeComplaint,
  encodeLeaf,
} from '../protocol/messages.ts';
import { createParticipant, stepParticipant } from '../protocol/participant.ts';
import type {
  AggregatorEffect,
  AggregatorEvent,
  ParticipantRecord,
  Phase,
  SessionMessage,
} from '../protocol/session.ts';
import { bytesFrom, codeOf, forge, idOf, listed, messagesOf, relist, sentBy, signAs } from './support/malice.ts';
import { plainSum, runSession, type World } from './support/session-world.ts';

const crypto = nodeCrypto;

interface Moment {
  readonly before: AggregatorState;
  readonly event: AggregatorEvent;
  readonly after: AggregatorState;
  readonly effects: readonly AggregatorEffect[];
}

/** Every step of the aggregator in a session of 4 members (t = 3). */
function record(options: Partial<Parameters<typeof runSession>[0]> = {}): { moments: Moment[]; world: World } {
  const moments: Moment[] = [];
  const world = runSession({
    members: 4,
    ...options,
    aggregatorStep: (provider, before, event) => {
      const step = stepAggregator(provider, before, event);
      moments.push({ before, event, after: step.state, effects: step.effects });
      return step;
    },
  });
  return { moments, world };
}

const isMessage = (
  event: AggregatorEvent,
  type: SessionMessage['type'],
): event is Extract<AggregatorEvent, { type: 'message' }> => event.type === 'message' && event.message.type === type;

const moment = (moments: readonly Moment[], wanted: (moment: Moment) => boolean, skip = 0): Moment => {
  const found = moments.filter(wanted)[skip];
  if (found === undefined) throw new Error('no such moment');
  return found;
};

const sends = (effects: readonly AggregatorEffect[], type: SessionMessage['type']): AggregatorEffect[] =>
  effects.filter((effect) => effect.type === 'send' && effect.message.type === type);

describe('the aggregator', () => {
  it('never closes U3 while an upload is being folded, and takes no other then', () => {
    const { moments } = record();
    const uploads = moments.filter(({ event }) => isMessage(event, 'p3'));
    // The third upload is verified, its fold not yet done; the fourth has not come.
    const pending = (uploads[2] as Moment).after;
    const closing = stepAggregator(crypto, pending, { type: 'deadline', phase: 'masked-input' });
    expect(closing.effects).toEqual([]);
    const late = stepAggregator(crypto, closing.state, (uploads[3] as Moment).event);
    expect(late.effects).toEqual([]);
    const { event } = uploads[2] as Moment;
    const from = isMessage(event, 'p3') ? event.from : new Uint8Array(0);
    const closed = stepAggregator(crypto, late.state, { type: 'folded', id: from });
    expect(sends(closed.effects, 'p4-ask').length).toBe(3);
    const u3 = closed.effects.find((effect) => effect.type === 'persist');
    expect(u3?.type === 'persist' && u3.record.kind === 'u3' ? u3.record.ids.length : 0).toBe(3);
    expect(closed.effects.indexOf(u3 as AggregatorEffect)).toBe(0);
    expect(sends(closed.effects, 'abort').length).toBe(1);
  });

  it('does not wait for lost members, and waits again for those who come back', () => {
    const { moments, world } = record();
    const third = moment(moments, ({ event }) => isMessage(event, 'p2'), 2).after;
    const missing = sentBy(world, 'p2').map(({ from }) => from)[3] as number;
    const last = moment(moments, ({ event }) => isMessage(event, 'p2'), 3).event;
    const id = isMessage(last, 'p2') ? last.from : idOf(world, missing);
    const lost = stepAggregator(crypto, third, { type: 'lost', id });
    expect(sends(lost.effects, 'p2-all').length).toBe(3);
    const other = world.members.find((member) => !equalBytes(member.id, id))?.id as Uint8Array;
    const first = moment(moments, ({ event }) => isMessage(event, 'p2')).after;
    const away = stepAggregator(crypto, first, { type: 'lost', id });
    const back = stepAggregator(crypto, away.state, { type: 'reconnected', id });
    expect(back.effects.map((effect) => (effect.type === 'send' ? effect.message.type : effect.type))).toEqual([
      'p1-all',
    ]);
    expect(back.state.session?.lost.size).toBe(0);
    expect(stepAggregator(crypto, back.state, { type: 'reconnected', id: other }).effects.length).toBe(1);
  });

  it('repeats the same bytes to a member that reconnects, in every phase', () => {
    const { moments, world } = record();
    for (const { after } of moments) {
      for (const [key, kept] of after.session?.outbox ?? []) {
        const id = fromHex(key);
        const again = stepAggregator(crypto, after, { type: 'reconnected', id });
        const index = world.members.findIndex((member) => equalBytes(member.id, id));
        const delivered = world.received.filter(({ to, message }) => to === index && message.type === 'p2-all');
        const message = kept ?? delivered[0]?.message;
        expect(again.effects).toEqual([{ type: 'send', to: id, message }]);
      }
    }
  });

  it('keeps nothing of an upload but its digest and signature', () => {
    const { moments, world } = record({ coordinates: 1_000 });
    for (const { after } of moments) {
      for (const { message, vector } of after.session?.uploads.values() ?? []) {
        expect(vector).toBeNull();
        expect(message.attachment.length).toBe(0);
        expect(message.body.buffer.byteLength).toBeLessThan(200);
      }
    }
    expect(world.outcome?.survivors.length).toBe(4);
  });

  it('ignores deadlines of phases that are over', () => {
    const { moments } = record();
    const phases: readonly Phase[] = ['advertise', 'share-keys', 'masked-input', 'consistency', 'unmask'];
    for (const { after } of moments) {
      for (const phase of phases) {
        if (after.session === null || phase === after.session.phase) continue;
        expect(stepAggregator(crypto, after, { type: 'deadline', phase })).toEqual({
          state: after,
          effects: [],
          consumed: [],
        });
      }
    }
  });

  it('goes on at once without a member that refuses, and says who refused and why', () => {
    const world = runSession({
      members: 5,
      fromMember: (message, from, w) =>
        from === 2 && message.type === 'p1'
          ? signAs(w, 2, 'abort', encodeAbort(idOf(w, 2), 'PRIVACY_BUDGET'))
          : message,
    });
    expect(world.outcome?.survivors.length).toBe(4);
    const [fault] = world.outcome?.faults ?? [];
    expect(fault).toEqual({
      id: idOf(world, 2),
      phase: 'advertise',
      code: 'PRIVACY_BUDGET',
      reportedBy: 'member',
      evidence: [],
    });
    expect(world.outcome?.accused).toEqual([]);
  });

  it('drops the complainer alone once somebody has uploaded', () => {
    const world = runSession({
      members: 5,
      fromMember: (message, from, w) => {
        if (from !== 4 || message.type !== 'p3') return message;
        const { session } = w.states[4] as World['states'][number];
        const h1 = session?.progress.stage === 'uploaded' ? session.progress.cohort.h1 : new Uint8Array(32);
        return signAs(
          w,
          4,
          'complaint',
          encodeComplaint({ id: idOf(w, 4), h1, dealer: idOf(w, 0), code: 'CRYPTO_TAG' }),
        );
      },
    });
    expect(world.outcome?.survivors.length).toBe(4);
    expect(world.outcome?.sum).toEqual(
      plainSum(
        world,
        world.members.slice(0, 4).map(({ id }) => id),
      ),
    );
    expect(world.outcome?.faults[0]?.evidence.length).toBe(1);
  });

  it('takes no complaint about oneself, about a stranger, of another session, or behind the own upload', () => {
    const { moments, world } = record();
    const waiting = moment(moments, ({ after }) => after.session?.phase === 'masked-input').after;
    const uploaded = moment(moments, ({ event }) => event.type === 'folded').after;
    const [own, other] = [idOf(world, 0), idOf(world, 1)];
    const h1 = waiting.session?.cohort.h1 as Uint8Array;
    const complain = (state: AggregatorState, changes: Partial<Parameters<typeof encodeComplaint>[0]>): string => {
      const body = encodeComplaint({ id: own, h1, dealer: other, code: 'CRYPTO_SHARE', ...changes });
      const message = signAs(world, 0, 'complaint', body);
      const step = stepAggregator(crypto, state, { type: 'message', from: own, message });
      const end = step.effects.find((effect) => effect.type === 'abort');
      return end?.type === 'abort' ? end.outcome.code : (step.state.session?.faults.at(-1)?.code ?? 'none');
    };
    expect(complain(waiting, {})).toBe('ROUND_COMPLAINT');
    expect(complain(waiting, { dealer: own })).toBe('PROTO_UNEXPECTED');
    expect(complain(waiting, { dealer: bytesFrom('stranger') })).toBe('PROTO_UNEXPECTED');
    expect(complain(waiting, { h1: bytesFrom('h1') })).toBe('PROTO_UNEXPECTED');
    expect(complain(waiting, { id: other })).toBe('AUTH_UNKNOWN');
    expect(uploaded.session?.received.has(toHex(own))).toBe(true);
    expect(complain(uploaded, {})).toBe('PROTO_UNEXPECTED');
  });

  it('names the dealer alone that seals nothing for a holder, or something for itself', () => {
    const omissions: ((parts: Uint8Array[], own: number) => Uint8Array[])[] = [
      (parts, own) => parts.map((part, i) => (i === 2 * (own === 0 ? 1 : 0) + 1 ? new Uint8Array(0) : part)),
      (parts, own) => parts.map((part, i) => (i === 2 * own + 1 ? new Uint8Array(144) : part)),
    ];
    for (const omit of omissions) {
      const world = runSession({
        members: 4,
        fromMember: (message, from, w) => {
          if (message.type !== 'p2' || from !== 2) return message;
          const parts = omit(decodeParts(message.attachment), from);
          const leaves = parts
            .filter((_, i) => i % 2 === 0)
            .map((leaf, i) =>
              encodeLeaf({ ...decodeLeaf(leaf), ciphertextHash: crypto.sha256(parts[2 * i + 1] as Uint8Array) }),
            );
          const { id, h1 } = decodeDealing(message.body);
          const bundle = encodeParts(parts.map((part, i) => (i % 2 === 0 ? (leaves[i / 2] as Uint8Array) : part)));
          return signAs(w, 2, 'p2', encodeParts([id, h1, merkleRoot(crypto, leaves)]), bundle);
        },
      });
      expect(world.outcome?.survivors.length).toBe(3);
      expect(world.outcome?.faults.map(({ id, code }) => [toHex(id), code])).toEqual([
        [toHex(idOf(world, 2)), 'CRYPTO_COMMITMENT'],
      ]);
    }
  });

  it('refuses parameters, rosters and members that no participant would accept', () => {
    const { world } = record();
    const open = (changes: Partial<World['params']>, invited = world.members.map(({ id }) => id)): string => {
      try {
        const state = createAggregator(world.coordinator, world.roster);
        stepAggregator(crypto, state, {
          type: 'open',
          params: { ...world.params, ...changes },
          attachment: utf8('m'),
          invited,
        });
        return 'accepted';
      } catch (error) {
        return isCoveyError(error) ? error.code : String(error);
      }
    };
    expect(open({})).toBe('accepted');
    expect(open({ rosterHash: bytesFrom('roster') })).toBe('USAGE_RANGE');
    expect(open({ attempt: 16 })).toBe('CODEC_TYPE');
    expect(open({ minOrgs: 4 })).toBe('CODEC_TYPE');
    expect(open({ colluders: 3 })).toBe('CODEC_TYPE');
    expect(open({ deadlineMs: 0 })).toBe('CODEC_TYPE');
    expect(open({}, [bytesFrom('stranger')])).toBe('AUTH_UNKNOWN');
  });
});

describe('a participant', () => {
  const honest = record().world;
  const trust = { coordinatorKey: honest.coordinator.publicKey, roster: honest.roster };
  const identity = honest.members[0] as World['members'][number];
  const p0 = honest.received.find(({ to, message }) => to === 0 && message.type === 'p0')?.message as SessionMessage;
  const sid = p0.sid;
  const position = { runId: honest.params.runId, sid, round: 1, purpose: 'train' as const };

  const offered = (records: readonly ParticipantRecord[]): string => {
    const state = createParticipant(identity, trust, crypto, records);
    const [effect] = stepParticipant(crypto, state, {
      type: 'open',
      message: p0,
      entropy: bytesFrom('entropy'),
    }).effects;
    return effect?.type === 'abort' ? effect.code : String(effect?.type);
  };

  it('stays silent after a restart in every session that its records name, and joins newer ones', () => {
    expect(offered([])).toBe('authorize');
    expect(offered([{ kind: 'entered', ...position, attempt: 0 }])).toBe('PROTO_ROUND');
    expect(offered([{ kind: 'entered', ...position, attempt: 1 }])).toBe('PROTO_ROUND');
    expect(offered([{ kind: 'entered', ...position, round: 2, attempt: 0 }])).toBe('PROTO_ROUND');
    expect(offered([{ kind: 'entered', ...position, purpose: 'metrics', attempt: 0 }])).toBe('PROTO_ROUND');
    expect(offered([{ kind: 'entered', ...position, purpose: 'census', attempt: 3 }])).toBe('authorize');
    expect(offered([{ kind: 'entered', ...position, round: 0, attempt: 3 }])).toBe('authorize');
    expect(offered([{ kind: 'entered', ...position, runId: '00'.repeat(16), round: 9, attempt: 0 }])).toBe('authorize');
  });

  it('takes a retry of a round only while it has not uploaded in it', () => {
    const retry = (records: readonly ParticipantRecord[]): string => {
      const state = createParticipant(identity, trust, crypto, records);
      const world = runSession({ members: 4, params: { attempt: 1 } });
      const message = world.received.find(({ message: m }) => m.type === 'p0')?.message as SessionMessage;
      const [effect] = stepParticipant(crypto, state, { type: 'open', message, entropy: bytesFrom('entropy') }).effects;
      return effect?.type === 'abort' ? effect.code : String(effect?.type);
    };
    const entered: ParticipantRecord = { kind: 'entered', ...position, attempt: 0 };
    expect(retry([entered])).toBe('authorize');
    expect(retry([entered, { kind: 'uploaded', ...position, digest: bytesFrom('digest') }])).toBe('PROTO_ROUND');
  });

  it('answers every repeated message by the same bytes and does nothing twice', () => {
    const world = runSession({ members: 4, toMember: (message) => [message, message] });
    expect(world.outcome?.survivors.length).toBe(4);
    expect(world.done.size).toBe(4);
    for (let m = 0; m < 4; m++) {
      for (const type of ['p1', 'p2', 'p3', 'p4', 'p5'] as const) {
        const messages = messagesOf(world, m, type);
        expect(messages.length).toBeGreaterThan(0);
        for (const message of messages) expect(message).toEqual(messages[0]);
      }
      const once = world.effects
        .filter(({ member, effect }) => member === m && effect.type !== 'send')
        .map(({ effect }) => effect.type);
      expect(once).toEqual([
        'authorize',
        'persist',
        'contribute',
        'charge',
        'mask',
        'persist',
        'persist',
        'settle',
        'persist',
        'done',
      ]);
    }
  });

  it('wipes an older session when a newer one is offered, and an older offer leaves it untouched', () => {
    const { world } = record({ toMember: (message) => (message.type === 'p1-all' ? null : message) });
    const state = world.states[0] as World['states'][number];
    expect(state.session?.progress.stage).toBe('closed');
    const opened = createParticipant(identity, trust, crypto);
    const first = stepParticipant(crypto, opened, { type: 'open', message: p0, entropy: bytesFrom('entropy') });
    const entered = stepParticipant(crypto, first.state, { type: 'authorized', census: null });
    const newer = runSession({ members: 4, params: { round: 2 } });
    const next = newer.received.find(({ message }) => message.type === 'p0')?.message as SessionMessage;
    const replaced = stepParticipant(crypto, entered.state, {
      type: 'open',
      message: next,
      entropy: bytesFrom('more'),
    });
    expect(replaced.effects.map(({ type }) => type)).toEqual(['abort', 'authorize']);
    // Six session secrets and the entropy.
    expect(replaced.consumed.length).toBe(7);
    const again = stepParticipant(crypto, replaced.state, { type: 'open', message: p0, entropy: bytesFrom('again') });
    expect(again.state).toBe(replaced.state);
    expect(again.effects.map((effect) => (effect.type === 'abort' ? effect.code : effect.type))).toEqual([
      'PROTO_ROUND',
    ]);
  });

  it('ends at a refusal of its policy, its ledger or its own clock, and tells the code only', () => {
    for (const stage of ['authorize', 'charge', 'deadline'] as const) {
      const world = runSession({
        members: 5,
        participantStep: (provider, state, event) => {
          const first = equalBytes(state.identity.id, idOfFirst);
          if (first && stage === 'authorize' && event.type === 'authorized') {
            return stepParticipant(provider, state, { type: 'refused', code: 'PRIVACY_POLICY', reason: 'local text' });
          }
          if (first && stage === 'charge' && event.type === 'charged') {
            return stepParticipant(provider, state, { type: 'refused', code: 'PRIVACY_BUDGET', reason: 'local text' });
          }
          if (first && stage === 'deadline' && event.type === 'contribution')
            return stepParticipant(provider, state, { type: 'deadline' });
          return stepParticipant(provider, state, event);
        },
      });
      const code = { authorize: 'PRIVACY_POLICY', charge: 'PRIVACY_BUDGET', deadline: 'PROTO_DEADLINE' }[stage];
      expect(codeOf(world, 0)).toBe(code);
      expect(world.outcome?.survivors.length).toBe(4);
      expect(world.outcome?.faults.map((fault) => fault.code)).toEqual([code]);
      for (const { message } of world.sent) expect(toHex(message.body).includes(toHex(utf8('local text')))).toBe(false);
    }
  });

  it('takes no message for another one, whatever it holds', () => {
    for (const [type, other] of [
      ['p1-all', 'p2-all'],
      ['p2-all', 'p4-ask'],
      ['p4-ask', 'p5-ask'],
      ['p5-ask', 'p1-all'],
    ] as const) {
      const world = runSession({
        members: 4,
        toMember: (message, to, w) => {
          if (message.type !== type || to !== 0) return message;
          return forge(w, other, message.attachment, type === 'p2-all' ? idOf(w, to) : undefined);
        },
      });
      expect(codeOf(world, 0)).toMatch(other === 'p1-all' ? /^PROTO_EQUIVOCATION$/ : /^PROTO_UNEXPECTED$/);
    }
  });

  it('takes no certificate that names a signer twice', () => {
    const world = runSession({
      members: 4,
      toMember: (message, _to, w) => {
        if (message.type !== 'p5-ask') return message;
        const entries = listed(message, 'p4');
        return relist(w, message, [...entries, ...entries.slice(0, 1)]);
      },
    });
    for (let m = 0; m < 4; m++) expect(codeOf(world, m)).toBe('PROTO_COHORT');
  });

  it('masks no vector of another length or with bits outside its fields', () => {
    const vectors = {
      'too short': new Uint32Array(6),
      'too long': new Uint32Array(10),
      'a field behind the last coordinate': Uint32Array.of(0, 0, 0, 0, 0, 0, 0, 0x7fff_fc00),
      'the bit that no field owns': Uint32Array.of(0, 0x8000_0000, 0, 0, 0, 0, 0, 0),
    };
    for (const words of Object.values(vectors)) {
      const world = runSession({
        members: 4,
        lanes: 3,
        coordinates: 11,
        participantStep: (provider, state, event) => {
          const mine = equalBytes(state.identity.id, idOf(honest, 0)) && event.type === 'contribution';
          return stepParticipant(provider, state, mine ? { type: 'contribution', words: words.slice() } : event);
        },
      });
      expect(codeOf(world, 0)).toBe('USAGE_RANGE');
      expect(world.effects.some(({ member, effect }) => member === 0 && effect.type === 'charge')).toBe(false);
      expect(world.outcome?.survivors.length).toBe(3);
    }
  });

  it('signs no U3 from which more than maxLoss members of the binding census are missing', () => {
    const members = honest.members.map(({ id }) => id);
    const drops = { 'masked-input': [toHex(members[3] as Uint8Array)] };
    const strict = runSession({ members: 4, drops, params: { maxLoss: 0 }, census: () => members });
    expect(strict.outcome).toBeNull();
    expect(codeOf(strict, 0)).toBe('PRIVACY_COHORT_TOO_SMALL');
    expect(
      runSession({ members: 4, drops, params: { maxLoss: 1 }, census: () => members }).outcome?.survivors.length,
    ).toBe(3);
    expect(
      runSession({ members: 4, drops, params: { maxLoss: 0 }, census: () => members.slice(0, 3) }).outcome?.survivors
        .length,
    ).toBe(3);
  });

  it('refuses a dealer that signed another list of members, even if its shares fit', () => {
    const world = runSession({
      members: 4,
      toMember: (message, to, w) => {
        if (message.type !== 'p2-all') return message;
        const [list, ...shares] = decodeParts(message.attachment) as [Uint8Array, ...Uint8Array[]];
        const entries = decodeBodies('p2', list).map((entry) => {
          const { id, root } = decodeDealing(entry.body);
          const liar = equalBytes(id, idOf(w, 3)) && to !== 3;
          return liar ? signAs(w, 3, 'p2', encodeParts([id, bytesFrom('another h1'), root])) : entry;
        });
        return forge(w, 'p2-all', encodeParts([encodeBodies(entries), ...shares]), idOf(w, to));
      },
    });
    for (let m = 0; m < 3; m++) expect(codeOf(world, m)).toBe('PROTO_EQUIVOCATION');
    expect(world.effects.some(({ member, effect }) => member !== 3 && effect.type === 'charge')).toBe(false);
  });

  it('refuses a U3 with an upload that its own key signed but this machine never sent (a cloned node)', () => {
    const world = runSession({
      members: 4,
      toMember: (message, to, w) => {
        if (message.type !== 'p4-ask') return message;
        const entries = listed(message, 'p3').map((entry) => {
          const { id, h2 } = decodeUpload(entry.body);
          return equalBytes(id, idOf(w, to))
            ? signAs(w, to, 'p3', encodeParts([id, h2, bytesFrom('another upload')]))
            : entry;
        });
        return relist(w, message, entries);
      },
    });
    for (let m = 0; m < 4; m++) expect(codeOf(world, m)).toBe('PROTO_COHORT');
    expect(sentBy(world, 'p4')).toEqual([]);
  });

  it('refuses keys that do not belong together and rosters whose ids are not hashes of their keys', () => {
    const other = honest.members[1] as World['members'][number];
    expect(() => createParticipant({ ...identity, id: other.id }, trust, crypto)).toThrow(/identity/);
    expect(() => createParticipant({ ...identity, secretSeed: other.secretSeed }, trust, crypto)).toThrow(/identity/);
    const [first, ...rest] = honest.roster.entries;
    const swapped = { ...honest.roster, entries: [...rest, first as (typeof rest)[number]] };
    expect(() => createParticipant(identity, { ...trust, roster: swapped }, crypto)).toThrow(/roster/);
    const forged = {
      ...honest.roster,
      entries: [{ ...(first as (typeof rest)[number]), publicKey: other.publicKey }, ...rest],
    };
    expect(() => createParticipant(identity, { ...trust, roster: forged }, crypto)).toThrow(/roster/);
  });
});

const idOfFirst = idOf(runSession({ members: 5 }), 0);
