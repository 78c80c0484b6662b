import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { type AggregatorState, stepAggregator } from '../../protocol/aggregator.ts';
import { isCoveyError } from '../../protocol/errors.ts';
import { decodeSessionMessage, encodeSessionMessage } from '../../protocol/frame.ts';
import { decodeParams } from '../../protocol/params.ts';
import { type ParticipantState, stepParticipant } from '../../protocol/participant.ts';
import type { MessageType, SessionMessage } from '../../protocol/session.ts';
import { verifyTranscript } from '../../protocol/transcript.ts';
import { forge, numbersFrom, signAs } from '../support/malice.ts';
import { runSession } from '../support/session-world.ts';

const crypto = nodeCrypto;
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

/** A state of each stage, right before the honest message that it waits for. */
const participants: { readonly state: ParticipantState; readonly message: SessionMessage }[] = [];
const aggregators: { readonly state: AggregatorState; readonly from: Uint8Array; readonly message: SessionMessage }[] =
  [];
const world = runSession({
  members: 4,
  participantStep: (provider, state, event) => {
    if (state.identity.id[0] === firstByte(state) && event.type === 'message')
      participants.push({ state, message: event.message });
    return stepParticipant(provider, state, event);
  },
  aggregatorStep: (provider, state, event) => {
    if (event.type === 'message') aggregators.push({ state, from: event.from, message: event.message });
    return stepAggregator(provider, state, event);
  },
});

/** Stages of one member are enough: the first on the roster. */
function firstByte(state: ParticipantState): number {
  return state.trust.roster.entries[0]?.id[0] ?? 0;
}

const KNOWN = /^(CODEC|PROTO|AUTH|CRYPTO|PRIVACY|ROUND)_/;

/** What a participant does with bytes that nobody should send: nothing, a repeated answer, or a coded end. */
function feedParticipant(state: ParticipantState, message: SessionMessage): string {
  const step = stepParticipant(
    crypto,
    state,
    message.type === 'p0' ? { type: 'open', message, entropy: new Uint8Array(32) } : { type: 'message', message },
  );
  const end = step.effects.find((effect) => effect.type === 'abort');
  if (end?.type !== 'abort') return 'none';
  expect(end.code).toMatch(KNOWN);
  return end.code;
}

function feedAggregator(state: AggregatorState, from: Uint8Array, message: SessionMessage): string {
  const step = stepAggregator(crypto, state, { type: 'message', from, message });
  const before = state.session?.faults.length ?? 0;
  const faults = step.state.session?.faults.slice(before) ?? [];
  for (const { code } of faults) expect(code).toMatch(KNOWN);
  return faults[0]?.code ?? 'none';
}

const bytes = (maxLength: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength });

/** One of many ways to damage bytes: flip, cut, append, repeat, overwrite a length, replace. */
function damage(source: Uint8Array, next: (below: number) => number): Uint8Array {
  const at = source.length === 0 ? 0 : next(source.length);
  const copy = source.slice();
  switch (next(6)) {
    case 0:
      if (copy.length > 0) copy[at] = (copy[at] as number) ^ (1 << next(8));
      return copy;
    case 1:
      return copy.slice(0, at);
    case 2:
      return Uint8Array.from([...copy, ...Array.from({ length: 1 + next(40) }, () => next(256))]);
    case 3:
      return Uint8Array.from([...copy, ...copy]);
    case 4:
      // A length prefix of almost 4 GiB.
      copy.set(
        [0xff, 0xff, 0xff, 0xff].slice(0, Math.max(0, Math.min(4, copy.length))),
        Math.min(at & ~3, Math.max(0, copy.length - 4)),
      );
      return copy;
    default:
      return Uint8Array.from({ length: next(300) }, () => next(256));
  }
}

describe('random bytes', () => {
  it('reach both machines as unsigned messages and end in coded effects', () => {
    expect(participants.length).toBe(5);
    expect(aggregators.length).toBeGreaterThan(15);
    fc.assert(
      fc.property(
        fc.constantFrom(...TYPES),
        bytes(64),
        bytes(300),
        bytes(300),
        fc.boolean(),
        fc.nat(),
        (type, signature, body, attachment, ownSid, pick) => {
          const sid = ownSid ? (participants[0]?.message.sid as Uint8Array) : crypto.sha256(body);
          const message: SessionMessage = { type, sid, body, signature, attachment };
          const participant = participants[pick % participants.length] as (typeof participants)[number];
          expect(feedParticipant(participant.state, message)).toMatch(/^(none|AUTH_SIGNATURE|CODEC_\w+|PROTO_\w+)$/);
          const aggregator = aggregators[pick % aggregators.length] as (typeof aggregators)[number];
          expect(feedAggregator(aggregator.state, aggregator.from, message)).toMatch(
            /^(none|AUTH_SIGNATURE|PROTO_UNEXPECTED)$/,
          );
        },
      ),
      { numRuns: 400, seed: 11 },
    );
  });

  it('end the decoders of frames, parameters and transcripts in coded errors', () => {
    const quietly = (decode: () => unknown): void => {
      try {
        decode();
      } catch (error) {
        if (!isCoveyError(error)) throw error;
      }
    };
    fc.assert(
      fc.property(bytes(400), (noise) => {
        quietly(() => decodeSessionMessage(noise, { maxHeaderBytes: 4_096, maxPayloadBytes: 4_096 }));
        quietly(() => decodeParams(noise));
        quietly(() => verifyTranscript(crypto, noise, world.roster, world.coordinator.publicKey));
      }),
      { numRuns: 400, seed: 12 },
    );
  });
});

describe('A23: damaged messages with valid signatures', () => {
  it('of a malicious coordinator end a participant in every stage by a code, never by a throw', () => {
    const next = numbersFrom('coordinator');
    const codes = new Set<string>();
    for (const { state, message } of participants) {
      for (let i = 0; i < 60; i++) {
        const attachment = damage(message.attachment, next);
        const recipient = message.type === 'p2-all' ? state.identity.id : undefined;
        codes.add(feedParticipant(state, forge(world, message.type, attachment, recipient)));
      }
    }
    expect(codes.has('none')).toBe(false);
    expect(codes.size).toBeGreaterThan(4);
  });

  it('of a malicious member remove that member in every phase by a code, never by a throw', () => {
    const next = numbersFrom('member');
    const codes = new Set<string>();
    for (const { state, from, message } of aggregators) {
      const m = world.members.findIndex(({ id }) => id.every((byte, i) => byte === from[i]));
      for (let i = 0; i < 20; i++) {
        codes.add(
          feedAggregator(state, from, signAs(world, m, message.type, damage(message.body, next), message.attachment)),
        );
        codes.add(
          feedAggregator(state, from, signAs(world, m, message.type, message.body, damage(message.attachment, next))),
        );
      }
    }
    expect(codes.size).toBeGreaterThan(4);
  });

  it('and on the wire end in coded errors', () => {
    const next = numbersFrom('wire');
    const limits = { maxHeaderBytes: 65_536, maxPayloadBytes: 1_000_000 };
    for (const { message } of [...participants, ...aggregators]) {
      const frame = encodeSessionMessage(message);
      expect(decodeSessionMessage(frame, limits)).toEqual(message);
      for (let i = 0; i < 40; i++) {
        try {
          decodeSessionMessage(damage(frame, next), limits);
        } catch (error) {
          expect(isCoveyError(error)).toBe(true);
        }
      }
    }
  });
});

describe('messages out of order', () => {
  it('end a participant or are answered again; they never make it skip a stage', () => {
    const all = world.received.filter(({ to }) => to === 0).map(({ message }) => message);
    for (const { state, message: expected } of participants) {
      for (const message of all) {
        if (message.type === 'p0' || message === expected || message.type === expected.type) continue;
        const step = stepParticipant(crypto, state, { type: 'message', message });
        const stages = [state.session?.progress.stage, 'closed'];
        expect(stages).toContain(step.state.session?.progress.stage);
        const sent = step.effects.filter((effect) => effect.type === 'send').map(({ message: answer }) => answer.type);
        expect(sent.every((type) => type === 'abort' || state.session?.answers.has(message.type) === true)).toBe(true);
      }
    }
  });

  it('from a member before its phase remove it, behind its phase change nothing', () => {
    for (const { state } of aggregators) {
      for (const { from, message } of aggregators) {
        const step = stepAggregator(crypto, state, { type: 'message', from, message });
        expect(step.state.session?.received.size).toBeLessThanOrEqual(4);
        for (const { code } of step.state.session?.faults ?? []) expect(code).toBe('PROTO_UNEXPECTED');
      }
    }
  });
});
