import { expect } from 'vitest';
import { chargeStream, openChargeBook } from '../../clients/core/charge-book.ts';
import { createMemoryStore } from '../../platform/memory/store.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { fromUtf8, utf8 } from '../../protocol/bytes.ts';
import { checkLedgers, type LedgerSummary, ledgerPath } from '../../src/audit/check-ledgers.ts';
import { checkNoise } from '../../src/audit/check-noise.ts';
import { readLog } from '../../src/audit/read-log.ts';
import { type RunHistory, replayLog } from '../../src/audit/replay.ts';
import { parseRunConfig } from '../../src/run/config.ts';
import { planRun } from '../../src/run/plan.ts';
import { scenarioConfig } from '../../src/run/scenario.ts';
import type { Store } from '../../src/run/store.ts';
import { createCrash, type Moment } from './crash.ts';
import { type Deployment, deploy, OPEN_POLICY } from './deployment.ts';
import { createIdentity } from './transport.ts';

export const RUN_ID = '00112233445566778899aabbccddee00';
const MEMBERS = 5;
const base = scenarioConfig('digits', { seed: 5, steps: 2, targetEpsilon: 8, participants: MEMBERS });
const config = parseRunConfig({
  ...base,
  model: { inputs: 64, hidden: [], classes: 10 },
  clusters: null,
  cohort: { ...base.cohort, minSurvivors: 3, minOrgs: 3, colluders: 0 },
});
const policies = Array.from({ length: MEMBERS }, () => OPEN_POLICY);

/** Compares the log with the ledgers of all nodes, as an audit does. */
export async function compareLedgers(
  lines: readonly string[],
  members: readonly { readonly id: string; readonly store: Store }[],
): Promise<{ readonly history: RunHistory; readonly summary: LedgerSummary }> {
  const log = utf8(lines.map((line) => `${line}\n`).join(''));
  const history = replayLog(readLog(log, nodeCrypto), nodeCrypto);
  checkNoise(history);
  const files = new Map<string, Uint8Array>();
  for (const { id, store } of members) {
    const own = (await store.read(chargeStream(history.run))).map(({ payload }) => `${fromUtf8(payload)}\n`);
    files.set(ledgerPath(id), utf8(own.join('')));
  }
  return { history, summary: checkLedgers(files, history, log, nodeCrypto) };
}

const membersOf = ({ ids, stores }: Deployment): { id: string; store: Store }[] =>
  ids.map((id, i) => ({ id, store: stores[i] as Store }));

/** Writes that a coordinator, or the first node, makes in a run where nothing dies. */
export async function countWrites(who: 'coordinator' | 'node'): Promise<number> {
  const crash = createCrash(Number.POSITIVE_INFINITY, 'before');
  const wrapped = crash.store(createMemoryStore());
  const rest = Array.from({ length: MEMBERS - 1 }, () => createMemoryStore());
  await deploy({
    config,
    runId: RUN_ID,
    policies,
    ...(who === 'node' ? { stores: [wrapped, ...rest] } : { coordinatorStore: wrapped }),
  });
  return crash.writes();
}

/** The node of the first member dies at a write; the run goes on, and both ledgers hold what the other may have seen. */
export async function nodeDies(at: number, moment: Moment): Promise<void> {
  const crash = createCrash(at, moment);
  const stores = policies.map(() => createMemoryStore());
  const [first, ...rest] = stores as [Store, ...Store[]];
  const done = await deploy({
    config,
    runId: RUN_ID,
    policies,
    stores: [crash.store(first), ...rest],
    onNodeError: () => undefined,
  });
  expect(crash.isDead()).toBe(true);
  const { history, summary } = await compareLedgers(done.lines, membersOf({ ...done, stores }));
  expect(summary.missing).toEqual([]);
  expect(summary.unlogged).toBeLessThanOrEqual(1);
  expect(history.sessions.filter(({ release }) => release !== undefined).length).toBe(config.training.steps);
  // The node starts again from what is on its disk and finds its chain whole.
  const facts = { runId: RUN_ID, config, plan: planRun(config), roster: done.roster };
  const { epsilon, delta } = { epsilon: OPEN_POLICY.maxEpsilon, delta: config.privacy.delta };
  const identity = createIdentity(1);
  const book = await openChargeBook(
    first,
    nodeCrypto,
    identity,
    facts,
    { epsilon, delta },
    () => '2030-01-02T00:00:00Z',
  );
  const held = done.log.filter(({ type, actor }) => type === 'client.charge' && actor === done.ids[0]);
  expect(book.epsilon() > 0).toBe(held.length > 0 || summary.unlogged > 0);
}

/** The coordinator dies at a write, everybody is started again with the same stores; no charge is lost on either side. */
export async function coordinatorDies(at: number, moment: Moment): Promise<void> {
  const crash = createCrash(at, moment);
  const store = createMemoryStore();
  const stores = policies.map(() => createMemoryStore());
  const dying = deploy({
    config,
    runId: RUN_ID,
    policies,
    // A power cut: everybody is started again.
    stores: stores.map(crash.shadow),
    coordinatorStore: crash.store(store),
    onNodeError: () => undefined,
  });
  // It ends by the error of the store, or not at all: nobody hears of a coordinator that is dead.
  await Promise.race([crash.died, dying.catch(() => undefined)]);
  dying.catch(() => undefined);
  expect(crash.isDead()).toBe(true);
  const done = await deploy({ config, runId: RUN_ID, policies, stores, coordinatorStore: store });
  expect(done.progress.at(-1)?.event).toBe('finished');
  const { history, summary } = await compareLedgers(done.lines, membersOf(done));
  expect(summary).toEqual({ compared: MEMBERS, missing: [], unlogged: 0 });
  for (const { charge, release, reserved } of history.sessions) {
    if (release !== undefined) expect(charge).toBeDefined();
    for (const id of charge?.body.survivors ?? []) expect(reserved.has(id)).toBe(true);
  }
}
