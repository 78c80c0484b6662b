import { isDeepStrictEqual } from 'node:util';
import { describe, expect, it } from 'vitest';
import { type AggregatorState, stepAggregator } from '../protocol/aggregator.ts';
import { toHex } from '../protocol/bytes.ts';
import type { SessionDrops } from '../protocol/ideal.ts';
import { stepParticipant } from '../protocol/participant.ts';
import type { Step } from '../protocol/session.ts';
import { createMembers, runSession, type WorldOptions } from './support/session-world.ts';
import { SPARSE, SPARSE_MEMBERS } from './support/sparse.ts';

/** Every typed array that is reachable from a value. */
function arraysIn(value: unknown, found: Set<Uint8Array | Uint32Array> = new Set()): Set<Uint8Array | Uint32Array> {
  if (value instanceof Uint8Array || value instanceof Uint32Array) found.add(value);
  else if (value instanceof Map) for (const entry of value.values()) arraysIn(entry, found);
  else if (value instanceof Set || Array.isArray(value)) for (const entry of value) arraysIn(entry, found);
  else if (typeof value === 'object' && value !== null)
    for (const entry of Object.values(value)) arraysIn(entry, found);
  return found;
}

const overlaps = (a: Uint8Array | Uint32Array, b: Uint8Array | Uint32Array): boolean =>
  a.buffer === b.buffer && a.byteOffset < b.byteOffset + b.byteLength && b.byteOffset < a.byteOffset + a.byteLength;

const counts = { steps: 0, consumed: 0 };

/** A step that is checked: input unmutated, deterministic, nothing consumed is still referred to. */
function checked<State, Event, Effect>(
  step: (state: State, event: Event) => Step<State, Effect>,
  state: State,
  event: Event,
): Step<State, Effect> {
  const before = structuredClone({ state, event });
  const first = step(state, event);
  expect(isDeepStrictEqual({ state, event }, before)).toBe(true);
  const second = step(before.state, before.event);
  expect(isDeepStrictEqual(second, first)).toBe(true);
  const kept = [...arraysIn(first.state), ...arraysIn(first.effects)];
  for (const secret of first.consumed) {
    expect(kept.some((array) => overlaps(array, secret))).toBe(false);
    counts.consumed += 1;
  }
  counts.steps += 1;
  return first;
}

const watched = (options: WorldOptions): WorldOptions => ({
  ...options,
  participantStep: (crypto, state, event) => checked((s, e) => stepParticipant(crypto, s, e), state, event),
  aggregatorStep: (crypto, state, event) => checked((s, e) => stepAggregator(crypto, s, e), state, event),
});

const ids = createMembers(6).members.map(({ id }) => toHex(id));
const stories: Readonly<Record<string, SessionDrops>> = {
  'nobody is lost': {},
  'one is lost before its upload': { 'masked-input': ids.slice(0, 1) },
  'one is lost after its upload': { consistency: ids.slice(2, 3) },
  'too many are lost': { unmask: ids.slice(0, 3) },
};

describe('both machines are pure', () => {
  for (const [story, drops] of Object.entries(stories)) {
    it(`when ${story}: inputs unmutated, steps deterministic, consumed secrets out of reach`, () => {
      counts.steps = 0;
      counts.consumed = 0;
      const world = runSession(watched({ members: 6, drops, params: { purpose: 'census' } }));
      expect(world.outcome === null).toBe(story === 'too many are lost');
      expect(counts.steps).toBeGreaterThan(60);
      expect(counts.consumed).toBeGreaterThan(60);
    });
  }

  it('and when noise is taken off, or too many are lost for it', () => {
    for (const lost of [0, 1, 2]) {
      const noise = { mechanism: 'skellam', shareVariance: 5_000, tolerance: 1 } as const;
      const drops = { 'masked-input': ids.slice(0, lost) };
      const world = runSession(watched({ members: 6, coordinates: 3, drops, params: { noise } }));
      expect(world.outcome?.survivors.length).toBe(lost > 1 ? undefined : 6 - lost);
      // Nothing that leads to the seeds is left anywhere.
      for (const { session } of world.states) expect(['closed', undefined]).toContain(session?.progress.stage);
    }
  });

  it('and when a member is served a message twice, a different one, and one of another phase', () => {
    const world = runSession(
      watched({
        members: 6,
        toMember: (message, to) => {
          if (to === 0) return [message, message];
          if (to === 1 && message.type === 'p2-all') return { ...message, type: 'p4-ask' };
          return message;
        },
      }),
    );
    expect(world.outcome?.survivors.length).toBe(5);
    expect(world.memberAborts.get(1)?.code).toBe('AUTH_SIGNATURE');
  });
});

describe('both machines are pure in the sparse profile', () => {
  const sparseIds = createMembers(SPARSE_MEMBERS).members.map(({ id }) => toHex(id));
  const sparseStories: Readonly<Record<string, SessionDrops>> = {
    'nobody is lost': {},
    'one is lost before its upload': { 'masked-input': sparseIds.slice(4, 5) },
    'a reveal is missing': { reveal: sparseIds.slice(0, 1) },
    'too many are lost': { unmask: sparseIds.slice(0, 8) },
  };
  for (const [story, drops] of Object.entries(sparseStories)) {
    it(`when ${story}`, () => {
      counts.steps = 0;
      counts.consumed = 0;
      const world = runSession(
        watched({ members: SPARSE_MEMBERS, coordinates: 3, drops, params: { ...SPARSE, purpose: 'census' } }),
      );
      expect(world.outcome === null).toBe(story === 'too many are lost' || story === 'a reveal is missing');
      expect(counts.steps).toBeGreaterThan(60);
      expect(counts.consumed).toBeGreaterThan(60);
    });
  }
});

describe('session secrets', () => {
  it('are gone from the state of every member and of the coordinator when the session is over', () => {
    let aggregator: AggregatorState | null = null;
    const world = runSession({
      members: 6,
      drops: { 'masked-input': ids.slice(0, 1) },
      aggregatorStep: (crypto, state, event) => {
        const step = stepAggregator(crypto, state, event);
        aggregator = step.state;
        return step;
      },
    });
    expect(world.outcome?.survivors.length).toBe(5);
    const { openings, secrets, seeds, bundles } = (aggregator as AggregatorState | null)?.session ?? {};
    expect([openings?.size, secrets?.length, seeds?.length, bundles?.size]).toEqual([0, 0, 0, 0]);
    for (const { session } of world.states) {
      expect(session?.progress).toEqual({ stage: 'closed' });
      expect(session?.answers.size).toBe(0);
    }
  });

  it('live no longer than their stage: keys until the mask, shares until the reply', () => {
    const seen = new Map<string, Set<string>>();
    runSession({
      members: 4,
      participantStep: (crypto, state, event) => {
        const step = stepParticipant(crypto, state, event);
        const progress = step.state.session?.progress;
        if (progress !== undefined) {
          const fields = seen.get(progress.stage) ?? new Set<string>();
          for (const field of Object.keys(progress)) fields.add(field);
          seen.set(progress.stage, fields);
        }
        return step;
      },
    });
    const has = (field: string): string[] =>
      [...seen].filter(([, fields]) => fields.has(field)).map(([stage]) => stage);
    expect(has('entropy')).toEqual(['authorizing']);
    expect(has('secrets')).toEqual(['advertised']);
    expect(has('peers')).toEqual(['shared', 'contributing', 'charging']);
    expect(has('words')).toEqual(['charging', 'masking']);
    expect(has('seeds')).toEqual(['masking']);
    expect(has('held')).toEqual(['shared', 'contributing', 'charging', 'masking', 'uploaded', 'agreed']);
  });

  it('wait for the graph in the sparse profile, and are given up with it when a reveal is missing', () => {
    const consumed: number[] = [];
    const world = runSession({
      members: SPARSE_MEMBERS,
      params: SPARSE,
      drops: {
        reveal: createMembers(SPARSE_MEMBERS)
          .members.slice(2, 3)
          .map(({ id }) => toHex(id)),
      },
      participantStep: (crypto, state, event) => {
        const step = stepParticipant(crypto, state, event);
        if (state.session?.progress.stage === 'revealing') consumed.push(step.consumed.length);
        return step;
      },
    });
    expect(world.abort?.code).toBe('ROUND_REVEAL');
    // Six secrets of each member: two keys, three seeds and the key of the sharing.
    expect(consumed).toEqual(Array(SPARSE_MEMBERS).fill(6));
    for (const { session } of world.states) expect(session?.progress).toEqual({ stage: 'closed' });
  });
});
