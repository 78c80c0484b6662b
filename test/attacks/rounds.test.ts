import { describe, expect, it } from 'vitest';
import { openChargeBook } from '../../clients/core/charge-book.ts';
import { openMemory } from '../../clients/core/memory.ts';
import { simulatedRoster } from '../../experiments/in-process.ts';
import { createMemoryStore } from '../../platform/memory/store.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { toHex } from '../../protocol/bytes.ts';
import { isCoveyError } from '../../protocol/errors.ts';
import { nodeId, sessionId } from '../../protocol/params.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { openJournal } from '../../server/coordinator/journal.ts';
import { generateDigits } from '../../src/data/digits.ts';
import { createDenseOracle } from '../../src/learning/dense-oracle.ts';
import { contribute, type MemberState, NEW_MEMBER } from '../../src/run/member.ts';
import { orderParams, type SessionOrder } from '../../src/run/order.ts';
import { planRun, sessionBlocks, trainingSensitivity } from '../../src/run/plan.ts';
import { initialState, sumCoordinates } from '../../src/run/release.ts';
import { scenarioConfig } from '../../src/run/scenario.ts';
import { bytesFrom } from '../support/malice.ts';

const crypto = nodeCrypto;
const PARTICIPANTS = 12;
const config = scenarioConfig('digits', { seed: 3, steps: 8, targetEpsilon: 8, participants: PARTICIPANTS });
const plan = planRun(config);
const { roster, ids, seeds } = simulatedRoster(crypto, PARTICIPANTS);
const facts = { runId: '0f'.repeat(16), config, plan, roster };
const order: SessionOrder = { session: { kind: 'train', step: 0 }, models: initialState(config).models };
const oracle = createDenseOracle(config.model);

const paramsOf = (round: number): SessionParams => orderParams(crypto, facts, order, { round, attempt: 0 });

/** Vector of one member in a slot; `quiet` leaves its noise out. */
function vectorOf(round: number, organization: number, slot: number, quiet = false): Int32Array {
  const params = paramsOf(round);
  const member: MemberState = { ...NEW_MEMBER, slot };
  const inputs = {
    data: generateDigits(3, organization).train,
    oracle,
    local: {},
    seed: bytesFrom('noise', 100 * round + organization),
  };
  const noise = { mechanism: 'none', shareVariance: 0 } as const;
  return sumCoordinates(
    params,
    contribute(crypto, config, order, quiet ? { ...params, noise } : params, member, inputs).words,
  );
}

function add(into: Float64Array, values: Int32Array, sign: 1 | -1 = 1): void {
  for (let i = 0; i < into.length; i++) into[i] = (into[i] as number) + sign * (values[i] as number);
}

/** Variance of values around zero, and how far it may stray by chance (eight deviations). */
const varianceOf = (values: Float64Array): number => values.reduce((sum, v) => sum + v * v, 0) / values.length;
const least = (variance: number, count: number): number => variance * (1 - 8 * Math.sqrt(2 / count));

describe('A9: models crafted so that one member is alone in a slot', () => {
  it('leave its slot under the noise of the whole cohort', () => {
    const blocks = sessionBlocks(config, order.session, order.models.heads.length);
    const starts = blocks.map((_, i) => blocks.slice(0, i).reduce((sum, block) => sum + block.length, 0));
    const sum = new Float64Array(vectorOf(1, 0, 5).length);
    // Everybody else trains slot 0, the victim alone slot 5.
    for (let m = 0; m < PARTICIPANTS; m++) add(sum, vectorOf(1, m, m === 7 ? 5 : 0));
    add(sum, vectorOf(1, 7, 5, true), -1);
    const [start, length] = [starts[6] as number, (blocks[6] as { length: number }).length];
    const noise = sum.slice(start, start + length);
    expect(varianceOf(noise)).toBeGreaterThan(least(PARTICIPANTS * plan.shareVariance, length));
    // What that noise hides is one clipped record: it is larger by the multiplier that the budget asks for.
    const honest = (config.cohort.minSurvivors - config.cohort.colluders) * plan.shareVariance;
    expect(Math.sqrt(honest) / trainingSensitivity(config, 12)).toBeCloseTo(plan.noiseMultiplier, 6);
  });

  it('cannot differ between members: other models are another session', () => {
    const crafted = initialState({ ...config, training: { ...config.training, initialSeed: 99 } }).models;
    const other = orderParams(crypto, facts, { ...order, models: crafted }, { round: 1, attempt: 0 });
    expect(toHex(sessionId(crypto, other))).not.toBe(toHex(sessionId(crypto, paramsOf(1))));
  });
});

describe('A12: differencing over rounds with changing membership', () => {
  it('leaves the noise of both rounds on the difference of two sums that differ by one member', () => {
    const difference = new Float64Array(vectorOf(1, 0, 0).length);
    for (let m = 0; m < PARTICIPANTS; m++) add(difference, vectorOf(2, m, 0));
    for (let m = 0; m < PARTICIPANTS - 1; m++) add(difference, vectorOf(3, m, 0), -1);
    // Without rotation the members of both rounds would cancel; take their quiet vectors off to look at the noise alone.
    for (let m = 0; m < PARTICIPANTS; m++) add(difference, vectorOf(2, m, 0, true), -1);
    for (let m = 0; m < PARTICIPANTS - 1; m++) add(difference, vectorOf(3, m, 0, true));
    expect(varianceOf(difference)).toBeGreaterThan(
      least((2 * PARTICIPANTS - 1) * plan.shareVariance, difference.length),
    );
  });

  it('no session that reads data is without noise', () => {
    for (const session of plan.schedule) {
      const heads = initialState(config).models.heads;
      const params = orderParams(
        crypto,
        facts,
        { session, models: { ...order.models, heads } },
        { round: 9, attempt: 0 },
      );
      if (session.kind === 'seats') expect(params.layout.map(({ segment }) => segment)).toEqual(['seats']);
      else expect([params.noise.mechanism, params.noise.shareVariance > 0]).toEqual(['discrete-gaussian', true]);
    }
  });
});

describe('A30: a node restored from a backup, or cloned', () => {
  const identity = { id: ids[0] as Uint8Array, secretSeed: seeds[0] as Uint8Array };
  const publicKey = crypto.ed25519PublicKey(identity.secretSeed);
  const coordinatorSeed = bytesFrom('coordinator');
  const coordinatorKey = crypto.ed25519PublicKey(coordinatorSeed);
  const now = (): string => '2030-01-01T00:00:00.000Z';

  async function journalOf(): ReturnType<typeof openJournal> {
    return openJournal(createMemoryStore(), crypto, {
      federation: config.federation,
      runId: facts.runId,
      identity: { id: nodeId(crypto, coordinatorKey), secretSeed: coordinatorSeed },
      now,
    });
  }

  it('is refused as soon as its charges do not continue what it has signed before', async () => {
    const journal = await journalOf();
    const [backup, present] = [createMemoryStore(), createMemoryStore()];
    const book = await openChargeBook(
      present,
      crypto,
      identity,
      facts,
      { epsilon: 8, delta: config.privacy.delta },
      now,
    );
    const old = await openChargeBook(backup, crypto, identity, facts, { epsilon: 8, delta: config.privacy.delta }, now);
    const params = [1, 2, 3].map(paramsOf) as [SessionParams, SessionParams, SessionParams];
    const reserve = (of: typeof book, p: SessionParams): Promise<string> =>
      of.reserve(p, sessionId(crypto, p), order.session, order.models.heads.length);
    expect((await journal.appendForeign(await reserve(book, params[0]), publicKey))?.type).toBe('client.charge');
    expect((await journal.appendForeign(await reserve(book, params[1]), publicKey))?.type).toBe('client.charge');
    // The backup knows nothing of both rounds: its next charge takes the place of one that is in the log already.
    const forked = await reserve(old, params[2]);
    const refusal = await journal.appendForeign(forked, publicKey).catch((error: unknown) => error);
    expect(isCoveyError(refusal) && refusal.code).toBe('PROTO_EQUIVOCATION');
    // The honest store goes on.
    expect((await journal.appendForeign(await reserve(book, params[2]), publicKey))?.type).toBe('client.charge');
  });

  it('control: the same store opened again continues its chain', async () => {
    const journal = await journalOf();
    const store = createMemoryStore();
    const reserve = async (round: number): Promise<string> => {
      const book = await openChargeBook(
        store,
        crypto,
        identity,
        facts,
        { epsilon: 8, delta: config.privacy.delta },
        now,
      );
      const p = paramsOf(round);
      return book.reserve(p, sessionId(crypto, p), order.session, order.models.heads.length);
    };
    expect(await journal.appendForeign(await reserve(1), publicKey)).not.toBeNull();
    expect(await journal.appendForeign(await reserve(2), publicKey)).not.toBeNull();
  });

  it('a clone that opens the same store cannot enter a session twice', async () => {
    const store = createMemoryStore();
    const first = await openMemory(store, facts.runId);
    const p = paramsOf(4);
    await first.persist({
      kind: 'entered',
      runId: p.runId,
      sid: sessionId(crypto, p),
      round: p.round,
      purpose: p.purpose,
      attempt: 0,
    });
    const second = await openMemory(store, facts.runId);
    expect(() => second.requireNewer(p)).toThrow('"round" expected later');
  });
});
