import { describe, expect, it } from 'vitest';
import { openChargeBook } from '../../clients/core/charge-book.ts';
import { openMemory } from '../../clients/core/memory.ts';
import { createMemoryStore } from '../../platform/memory/store.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { equalBytes, toHex } from '../../protocol/bytes.ts';
import { isCoveyError } from '../../protocol/errors.ts';
import { nodeId, sessionId } from '../../protocol/params.ts';
import { createParticipant, type ParticipantState, stepParticipant } from '../../protocol/participant.ts';
import { packLanes, unpackLanes, wordsToBytes } from '../../protocol/ring.ts';
import type { ParticipantEffect, SessionMessage, SessionParams } from '../../protocol/session.ts';
import { openJournal } from '../../server/coordinator/journal.ts';
import { generateDigits } from '../../src/data/digits.ts';
import { createDenseOracle } from '../../src/learning/dense-oracle.ts';
import { parseRunConfig } from '../../src/run/config.ts';
import { contribute, NEW_MEMBER } from '../../src/run/member.ts';
import { orderParams, type SessionOrder } from '../../src/run/order.ts';
import { planRun, sessionBlocks, trainingSensitivity } from '../../src/run/plan.ts';
import { initialState } from '../../src/run/release.ts';
import { scenarioConfig } from '../../src/run/scenario.ts';
import { bytesFrom, codeOf, idOf, messagesOf, sentBy } from '../support/malice.ts';
import { createMembers, plainSum, runSession, type World, type WorldOptions } from '../support/session-world.ts';
import { SPARSE_MEMBERS as MEMBERS, SPARSE } from '../support/sparse.ts';
import { feedMember } from '../vectors/replay.ts';

const crypto = nodeCrypto;
const base = scenarioConfig('digits', { seed: 3, steps: 8, targetEpsilon: 8, participants: MEMBERS });
const config = parseRunConfig({ ...base, cohort: { ...base.cohort, profile: 'sparse', colluders: 1 } });
const plan = planRun(config);
const { members, roster } = createMembers(MEMBERS);
const facts = { runId: '0f'.repeat(16), config, plan, roster };
const order: SessionOrder = { session: { kind: 'train', step: 0 }, models: initialState(config).models };
const oracle = createDenseOracle(config.model);
const paramsOf = (round: number): SessionParams => orderParams(crypto, facts, order, { round, attempt: 0 });

/** What a member puts into a round, packed; `quiet` leaves its noise out. */
function wordsOf(round: number, member: number, slot: number, quiet = false): Uint32Array {
  const params = paramsOf(round);
  const inputs = {
    data: generateDigits(3, member).train,
    oracle,
    local: {},
    seed: bytesFrom('sparse noise', 100 * round + member),
  };
  const noise = { mechanism: 'none', shareVariance: 0 } as const;
  const state = { ...NEW_MEMBER, slot };
  return contribute(crypto, config, order, quiet ? { ...params, noise } : params, state, inputs).words;
}

/** A real session in the sparse profile over real contributions; `lost` never uploads. Returns the released sum. */
function release(round: number, slotOf: (member: number) => number, lost: readonly number[] = []): Int32Array {
  const params = paramsOf(round);
  const world = runSession({
    members: MEMBERS,
    params,
    lanes: params.ring.lanes,
    drops: { 'masked-input': lost.map((m) => toHex((members[m] as { id: Uint8Array }).id)) },
    participantStep: (provider, state, event) => {
      if (event.type !== 'contribution') return stepParticipant(provider, state, event);
      const member = members.findIndex(({ id }) => equalBytes(id, state.identity.id));
      return stepParticipant(provider, state, { ...event, words: wordsOf(round, member, slotOf(member)) });
    },
  });
  expect([world.abort?.reason, world.outcome?.survivors.length]).toEqual([undefined, MEMBERS - lost.length]);
  const coordinates = params.layout.reduce((sum, { length }) => sum + length, 0);
  return unpackLanes(world.outcome?.sum ?? new Uint32Array(0), coordinates, params.ring.lanes);
}

/** The vectors of some members without their noise, summed. */
function quietSum(round: number, who: readonly number[], slotOf: (member: number) => number): Float64Array {
  const params = paramsOf(round);
  const coordinates = params.layout.reduce((sum, { length }) => sum + length, 0);
  const sum = new Float64Array(coordinates);
  for (const m of who)
    unpackLanes(wordsOf(round, m, slotOf(m), true), coordinates, params.ring.lanes).forEach((value, i) => {
      sum[i] = (sum[i] as number) + value;
    });
  return sum;
}

const everybody = Array.from({ length: MEMBERS }, (_, m) => m);
const varianceOf = (values: Float64Array): number => values.reduce((sum, v) => sum + v * v, 0) / values.length;
/** A variance less three deviations of its estimate: the seeds are fixed, and nine shares of twelve must not do. */
const least = (variance: number, count: number): number => variance * (1 - 3 * Math.sqrt(2 / count));

describe('A9: models crafted so that one member is alone in a slot (sparse)', () => {
  const slotOf = (member: number): number => (member === 7 ? 5 : 0);

  it('leave its slot under the noise of the whole cohort, not of its neighbours alone', () => {
    const sum = release(1, slotOf);
    const quiet = quietSum(1, everybody, slotOf);
    const blocks = sessionBlocks(config, order.session, order.models.heads.length);
    const start = blocks.slice(0, 6).reduce((total, block) => total + block.length, 0);
    const { length } = blocks[6] as { length: number };
    const noise = Float64Array.from({ length }, (_, i) => (sum[start + i] as number) - (quiet[start + i] as number));
    expect(varianceOf(noise)).toBeGreaterThan(least(MEMBERS * plan.shareVariance, length));
    // Less the share of the colluder and of those that may vanish, it is what the budget asks for.
    const honest = (config.cohort.minSurvivors - config.cohort.colluders) * plan.shareVariance;
    expect(Math.sqrt(honest) / trainingSensitivity(config, 12)).toBeCloseTo(plan.noiseMultiplier, 6);
    // The victim is there: its quiet slot is not empty, or there would be nothing to hide.
    expect(quiet.subarray(start, start + length).some((value) => value !== 0)).toBe(true);
  });

  it('cannot differ between members: other models are another session, with another graph', () => {
    const crafted = initialState({ ...config, training: { ...config.training, initialSeed: 99 } }).models;
    const other = orderParams(crypto, facts, { ...order, models: crafted }, { round: 1, attempt: 0 });
    expect(toHex(sessionId(crypto, other))).not.toBe(toHex(sessionId(crypto, paramsOf(1))));
    // A member that was offered the other models takes nothing from the session of the rest.
    const world = runSession({
      members: MEMBERS,
      coordinates: 4,
      params: SPARSE,
      toMember: (message, to, w) => (to === 7 && message.type === 'p0' ? offerOf(w) : message),
    });
    expect(messagesOf(world, 7, 'p1r')).toEqual([]);
    expect(messagesOf(world, 7, 'p3')).toEqual([]);
    expect(world.outcome?.survivors.some((id) => equalBytes(id, idOf(world, 7)))).toBe(false);
  });
});

/** P0 of a session with other models, signed by the same coordinator. */
function offerOf(world: World): SessionMessage {
  const other = runSession({
    members: MEMBERS,
    coordinates: 4,
    params: { ...SPARSE, modelHash: bytesFrom('crafted models') },
    toMember: (message) => (message.type === 'p0' ? message : null),
  });
  const p0 = other.received.find(({ message }) => message.type === 'p0')?.message as SessionMessage;
  expect(toHex(p0.sid)).not.toBe(toHex((world.received[0] ?? { message: p0 }).message.sid));
  return p0;
}

describe('A12: differencing over rounds with changing membership (sparse)', () => {
  it('leaves the noise of both rounds on the difference of two sums, the second without one member', () => {
    const slotOf = (): number => 0;
    const [with12, with11] = [release(2, slotOf), release(3, slotOf, [11])];
    const difference = Float64Array.from(with12, (value, i) => value - (with11[i] as number));
    // The members of both rounds would cancel but for their rotation; their quiet vectors are taken off.
    const [before, after] = [quietSum(2, everybody, slotOf), quietSum(3, everybody.slice(0, 11), slotOf)];
    for (let i = 0; i < difference.length; i++)
      difference[i] = (difference[i] as number) - (before[i] as number) + (after[i] as number);
    expect(varianceOf(difference)).toBeGreaterThan(least((2 * MEMBERS - 1) * plan.shareVariance, difference.length));
  });

  it('a round cannot be run twice with one member less: its number is spent by everybody who uploaded', () => {
    const first = runSession({ members: MEMBERS, coordinates: 4, params: SPARSE });
    const again = runSession({ members: MEMBERS, coordinates: 4, params: { ...SPARSE, attempt: 1 } });
    const p0 = again.received[0]?.message as SessionMessage;
    for (const state of first.states) {
      const [effect] = stepParticipant(crypto, state, {
        type: 'open',
        message: p0,
        entropy: bytesFrom('again'),
      }).effects;
      expect(effect?.type === 'abort' && effect.code).toBe('PROTO_ROUND');
    }
  });
});

describe('A30: a node restored from a backup, or cloned (sparse)', () => {
  const NODE = 4;

  interface Clone {
    readonly world: World;
    readonly sent: readonly SessionMessage[];
    readonly abort: Extract<ParticipantEffect, { type: 'abort' }> | undefined;
  }

  /** A session in which a second machine with the keys of one member gets and says what the first one does. */
  function cloned(entropy: Uint8Array, contribution: Uint32Array, more: Partial<WorldOptions> = {}): Clone {
    let clone: ParticipantState | null = null;
    const effects: ParticipantEffect[] = [];
    const unsaid: SessionMessage[] = [];
    const vector = {
      secretSeed: '',
      entropy: toHex(entropy),
      contribution: toHex(wordsToBytes(contribution)),
      received: [],
      sent: [],
    };
    const world = runSession({
      members: MEMBERS,
      coordinates: 4,
      params: SPARSE,
      ...more,
      toMember: (message, to, w) => {
        if (to !== NODE) return message;
        clone ??= createParticipant(
          w.members[NODE] as World['members'][number],
          { coordinatorKey: w.coordinator.publicKey, roster: w.roster },
          crypto,
        );
        const step = feedMember(crypto, clone, vector, message);
        clone = step.state;
        effects.push(...step.effects);
        for (const effect of step.effects) if (effect.type === 'send') unsaid.push(effect.message);
        return message;
      },
      fromMember: (message, from) => (from === NODE ? [message, ...unsaid.splice(0)] : message),
    });
    const abort = effects.find((effect) => effect.type === 'abort');
    return {
      world,
      sent: effects.flatMap((effect) => (effect.type === 'send' ? [effect.message] : [])),
      abort: abort?.type === 'abort' ? abort : undefined,
    };
  }
  const honest = runSession({ members: MEMBERS, coordinates: 4, params: SPARSE });
  const own = honest.contributions.get(toHex(idOf(honest, NODE))) as Uint32Array;
  const other = packLanes(
    Int32Array.from({ length: 4 }, (_, i) => 1_000 + i),
    2,
  );

  it('with fresh entropy it is a second advertisement: evidence, no part of the seed and no upload of its own', () => {
    const { world, sent, abort } = cloned(bytesFrom('fresh'), other);
    const faults = (world.outcome ?? world.abort)?.faults ?? [];
    const equivocation = faults.filter(({ code }) => code === 'PROTO_EQUIVOCATION');
    expect(equivocation.map(({ id, evidence }) => [toHex(id), evidence.length])).toEqual([
      [toHex(idOf(world, NODE)), 2],
    ]);
    // It misses its own advertisement in the list and leaves before it reveals anything.
    expect(abort?.code).toBe('PROTO_COHORT');
    expect(sent.map(({ type }) => type)).toEqual(['p1', 'abort']);
    expect(new Set(sentBy(world, 'p1r').map(({ from }) => from)).size).toBe(MEMBERS);
    expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
  });

  it('with the same entropy it can only repeat the same bytes, until its vector differs: then the first one counts', () => {
    const { world, sent, abort } = cloned(honest.entropies[NODE] as Uint8Array, other);
    for (const type of ['p1', 'p1r', 'p2'] as const)
      expect(sent.filter((message) => message.type === type)).toEqual(messagesOf(world, NODE, type));
    expect(sent.find(({ type }) => type === 'p3')).not.toEqual(messagesOf(world, NODE, 'p3')[0]);
    // U3 names the first upload; the clone finds another digest under its own key and opens nothing.
    expect(abort?.code).toBe('PROTO_COHORT');
    expect(sent.some(({ type }) => type === 'p4' || type === 'p5')).toBe(false);
    expect(codeOf(world, NODE)).toBeUndefined();
    expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
    expect(world.outcome?.faults.map(({ code }) => code)).toContain('PROTO_EQUIVOCATION');
  });

  it('control: a clone that does everything alike is one member, counted once', () => {
    const { world, sent, abort } = cloned(honest.entropies[NODE] as Uint8Array, own);
    expect(abort).toBeUndefined();
    expect(sent.map(({ type }) => type)).toEqual(['p1', 'p1r', 'p2', 'p3', 'p4', 'p5']);
    expect(world.outcome?.sum).toEqual(honest.outcome?.sum);
    expect(world.outcome?.faults).toEqual([]);
  });

  it('its charges must continue the chain that it has signed, and one store enters a session once', async () => {
    const identity = members[NODE] as World['members'][number];
    const coordinatorSeed = bytesFrom('coordinator');
    const coordinatorKey = crypto.ed25519PublicKey(coordinatorSeed);
    const now = (): string => '2030-01-01T00:00:00.000Z';
    const journal = await openJournal(createMemoryStore(), crypto, {
      federation: config.federation,
      runId: facts.runId,
      identity: { id: nodeId(crypto, coordinatorKey), secretSeed: coordinatorSeed },
      now,
    });
    const [present, backup] = [createMemoryStore(), createMemoryStore()];
    const [book, old] = await Promise.all(
      [present, backup].map((store) =>
        openChargeBook(store, crypto, identity, facts, { epsilon: 8, delta: config.privacy.delta }, now),
      ),
    );
    const charge = async (of: typeof book, round: number): Promise<string | undefined> => {
      const p = paramsOf(round);
      expect(p.profile).toBe('sparse');
      const entry = (await of?.reserve(p, sessionId(crypto, p), order.session, order.models.heads.length)) ?? '';
      return journal.appendForeign(entry, identity.publicKey).then(
        (appended) => appended?.type,
        (error: unknown) => (isCoveyError(error) ? error.code : String(error)),
      );
    };
    expect(await charge(book, 1)).toBe('client.charge');
    expect(await charge(book, 2)).toBe('client.charge');
    expect(await charge(old, 3)).toBe('PROTO_EQUIVOCATION');
    expect(await charge(book, 3)).toBe('client.charge');
    const memory = await openMemory(present, facts.runId);
    const { runId, round, purpose, attempt } = paramsOf(4);
    await memory.persist({ kind: 'entered', runId, sid: sessionId(crypto, paramsOf(4)), round, purpose, attempt });
    const twin = await openMemory(present, facts.runId);
    expect(() => twin.requireNewer(paramsOf(4))).toThrow('"round" expected later');
  });
});
