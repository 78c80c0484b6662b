import { describe, expect, it } from 'vitest';
import { chargeStream, openChargeBook } from '../clients/core/charge-book.ts';
import { type HeadKeeper, openDatasetBook } from '../clients/core/dataset-book.ts';
import { simulatedRoster } from '../experiments/in-process.ts';
import { createMemoryStore } from '../platform/memory/store.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromUtf8, toHex, utf8 } from '../protocol/bytes.ts';
import { nodeId, sessionId } from '../protocol/params.ts';
import { openLedger, reportLedger, statusOf } from '../src/privacy/ledger.ts';
import { parseRunConfig } from '../src/run/config.ts';
import { orderParams } from '../src/run/order.ts';
import { planRun } from '../src/run/plan.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import type { Store } from '../src/run/store.ts';
import { createCrash, createHeads, MOMENTS } from './support/crash.ts';
import { coordinatorDies, countWrites, nodeDies } from './support/ledger-crash.ts';

const RUN_ID = '11'.repeat(16);
const base = scenarioConfig('digits', { seed: 1, steps: 8, targetEpsilon: 8, participants: 6 });
const config = parseRunConfig({ ...base, clusters: null });
const { roster, seeds } = simulatedRoster(nodeCrypto, 6);
const facts = { runId: RUN_ID, config, plan: planRun(config), roster };
const secretSeed = seeds[0] as Uint8Array;
const identity = { id: nodeId(nodeCrypto, nodeCrypto.ed25519PublicKey(secretSeed)), secretSeed };
const BUDGET = { epsilon: 8, delta: config.privacy.delta };
const DATASET = {
  dataset: 'cardiology',
  period: 'quarter',
  epsilon: 8,
  delta: 1e-5,
  unit: 'record',
  view: 'server',
} as const;
const order = {
  session: { kind: 'train', step: 0 },
  models: { body: new Float32Array(0), heads: [new Float32Array(0)], extra: [] },
} as const;
const paramsOf = (round: number) => {
  const params = orderParams(nodeCrypto, facts, order, { round, attempt: 0 });
  return { params, sid: sessionId(nodeCrypto, params) };
};

async function openBook(store: Store, heads: HeadKeeper) {
  const dataset = await openDatasetBook(store, nodeCrypto, DATASET, heads);
  return openChargeBook(store, nodeCrypto, identity, facts, BUDGET, () => '2030-01-01T00:00:00Z', dataset);
}

/** Rounds that reserve and settle; the third stays reserved. `acted` names what was acknowledged. */
async function play(store: Store, heads: HeadKeeper, rounds: readonly number[], acted: string[]): Promise<void> {
  const book = await openBook(store, heads);
  for (const round of rounds) {
    const { params, sid } = paramsOf(round);
    await book.reserve(params, sid, order.session, 1);
    acted.push(`${toHex(sid)} reserved`);
    if (round % 3 === 0) continue;
    await book.settle(params, sid, order.session, 1, new Uint8Array(32), 6);
    acted.push(`${toHex(sid)} settled`);
  }
}

const linesOf = async (store: Store, stream: string): Promise<string[]> =>
  (await store.read(stream)).map(({ payload }) => fromUtf8(payload));

async function writesOf(): Promise<number> {
  const crash = createCrash(Number.POSITIVE_INFINITY, 'before');
  await play(crash.store(createMemoryStore()), crash.heads(createHeads()), [1, 2, 3], []);
  return crash.writes();
}

describe('a node that dies at a write of its ledgers', () => {
  it.each(MOMENTS)('keeps every acknowledged charge, all of its ledgers agree, and it goes on: %s', async (moment) => {
    const writes = await writesOf();
    expect(writes).toBeGreaterThan(10);
    for (let at = 1; at <= writes; at++) {
      const crash = createCrash(at, moment);
      const [store, heads] = [createMemoryStore(), createHeads()];
      const acted: string[] = [];
      await expect(play(crash.store(store), crash.heads(heads), [1, 2, 3], acted)).rejects.toThrow('dead');
      const lines = await linesOf(store, `ledger/${RUN_ID}`);
      const entries = await linesOf(store, chargeStream(RUN_ID));
      const shared = await linesOf(store, `dataset/${DATASET.dataset}`);
      expect([entries.length, shared.length]).toEqual([Math.max(0, lines.length - 1), Math.max(0, lines.length - 1)]);
      // The head outside is never ahead of the store, which would make the node refuse itself.
      expect((await heads.load())?.size ?? 0).toBeLessThanOrEqual(shared.length);
      if (lines.length > 0) {
        const ledger = openLedger(nodeCrypto, lines);
        for (const act of acted) {
          const [sid, status] = act.split(' ') as [string, string];
          const found = statusOf(ledger, sid);
          expect(found === status || found === 'settled').toBe(true);
        }
        expect((await openBook(store, heads)).epsilon()).toBe(reportLedger(ledger).epsilon);
      } else expect(acted).toEqual([]);
      await play(store, heads, [4, 5], acted);
      expect(openLedger(nodeCrypto, await linesOf(store, `ledger/${RUN_ID}`)).charges.closed.size).toBeGreaterThan(1);
    }
  });

  it('is refused, with the first charge that differs, where only one of its two ledgers was restored', async () => {
    const [store, heads] = [createMemoryStore(), createHeads()];
    await play(store, heads, [1, 2], []);
    const lines = await linesOf(store, `ledger/${RUN_ID}`);
    const entries = await linesOf(store, chargeStream(RUN_ID));
    const open = async (ledger: readonly string[], signed: readonly string[]): Promise<string> => {
      const mixed = createMemoryStore();
      for (const line of ledger) await mixed.append(`ledger/${RUN_ID}`, utf8(line));
      for (const line of signed) await mixed.append(chargeStream(RUN_ID), utf8(line));
      return openChargeBook(mixed, nodeCrypto, identity, facts, BUDGET, () => '2030-01-01T00:00:00Z').then(
        () => 'opened',
        (error: unknown) => (error instanceof Error ? error.message : String(error)),
      );
    };
    expect(await open(lines, entries)).toBe('opened');
    const sid = toHex(paramsOf(2).sid).slice(0, 12);
    expect(await open(lines.slice(0, 3), entries)).toMatch(
      new RegExp(`charge 3 of the ledger \\(none\\) and of the signed entries \\(reserve of session ${sid}`),
    );
    expect(await open(lines, entries.slice(0, 2))).toMatch(
      new RegExp(`charge 3 of the ledger \\(reserve of session ${sid}.*signed entries \\(none\\)`),
    );
  });
});

// All writes: test/long/ledger-crash.test.ts. Here every so many, at another moment each.
describe('a federation in which somebody dies at a write', () => {
  it('the coordinator: started again, no charge is lost on either side', async () => {
    const writes = await countWrites('coordinator');
    for (let at = 2, i = 0; at <= writes; at += 7, i++) await coordinatorDies(at, MOMENTS[i % 3] ?? 'after');
  });

  it('a node: the run goes on, and both ledgers agree', async () => {
    const writes = await countWrites('node');
    for (let at = 3, i = 0; at <= writes; at += 4, i++) await nodeDies(at, MOMENTS[i % 3] ?? 'after');
  });
});
