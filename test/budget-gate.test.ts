import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openChargeBook } from '../clients/core/charge-book.ts';
import { simulatedRoster } from '../experiments/in-process.ts';
import { createMemoryStore } from '../platform/memory/store.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromUtf8, hashParts, toHex, utf8 } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { nodeId, sessionId } from '../protocol/params.ts';
import { createAccounts } from '../server/coordinator/accounts.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import { openDatasetLedger, reserveDataset } from '../src/privacy/dataset-ledger.ts';
import type { DpEvent } from '../src/privacy/events.ts';
import { admitsAll, createFilter } from '../src/privacy/filter.ts';
import { gateOrder, lastingOrder } from '../src/privacy/gate-order.ts';
import { createLedger, openLedger, wouldExceed } from '../src/privacy/ledger.ts';
import type { LedgerTerms } from '../src/privacy/ledger-entry.ts';
import { conversionTerm } from '../src/privacy/rdp-conversion.ts';
import { rdpCurve } from '../src/privacy/rdp-curve.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { orderParams, type SessionOrder } from '../src/run/order.ts';
import { groupOf, planRun, sessionSlots } from '../src/run/plan.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { codeOf } from './support/code-of.ts';

const MEMBERS = 8;
const settings = { seed: 1, steps: 9, participants: MEMBERS } as const;
const record = scenarioConfig('digits', { ...settings, targetEpsilon: 4 });
const whole = scenarioConfig('digits', { ...settings, targetEpsilon: 40, unit: 'participant' });
const adaptiveClip = { quantile: 0.5, learningRate: 0.2, countNoise: 2 };
const CONFIGS: readonly (readonly [string, unknown])[] = [
  ['founding, choices and sampled records', record],
  ['accuracies between the steps', { ...record, clusters: null, metrics: { every: 2, bins: 5, noiseStddev: 30 } }],
  ['Skellam noise', { ...record, clusters: null, privacy: { ...record.privacy, mechanism: 'skellam' } }],
  ['participants', { ...whole, clusters: null }],
  ['participants under an adaptive clip', { ...whole, clusters: null, training: { ...whole.training, adaptiveClip } }],
  ['a budget far below one', { ...record, clusters: null, privacy: { ...record.privacy, targetEpsilon: 0.01 } }],
];

function worldOf(given: unknown) {
  const config: RunConfig = parseRunConfig(given);
  const plan = planRun(config);
  const { roster, ids, seeds } = simulatedRoster(nodeCrypto, MEMBERS);
  const facts = { runId: '11'.repeat(16), config, plan, roster };
  const orders = plan.schedule
    .filter((session) => groupOf(session) === 0)
    .map((session): SessionOrder => {
      const heads = Array.from({ length: sessionSlots(config, session) }, () => new Float32Array(0));
      const models = { body: new Float32Array(0), heads, extra: [] };
      return { session, models, ...(plan.countUnits > 0 ? { clip: [] } : {}) };
    });
  const secretSeed = seeds[0] as Uint8Array;
  const id = nodeId(nodeCrypto, nodeCrypto.ed25519PublicKey(secretSeed));
  const store = createMemoryStore();
  const open = (epsilon: number, delta = config.privacy.delta) =>
    openChargeBook(store, nodeCrypto, { id, secretSeed }, facts, { epsilon, delta }, () => '2030-01-01T00:00:00Z');
  const paramsOf = (order: SessionOrder, round: number) => {
    const params = orderParams(nodeCrypto, facts, order, { round, attempt: 0 });
    return { params, sid: sessionId(nodeCrypto, params) };
  };
  return { config, plan, roster, ids: ids.map(toHex), facts, orders, store, open, paramsOf };
}

/** Survivors that drop and come back, the same in every run of the test. */
const realised = ({ cohort }: RunConfig, round: number): number =>
  cohort.minSurvivors +
  ((nodeCrypto.sha256(utf8(`survivors ${round}`))[0] as number) % (MEMBERS + 1 - cohort.minSurvivors));

describe('a plan whose worst case fits is never stopped by the gates', () => {
  it.each(CONFIGS)('%s', async (_, given) => {
    for (const survivorsOf of [(config: RunConfig) => config.cohort.minSurvivors, realised]) {
      const { config, plan, roster, ids, orders, open, paramsOf } = worldOf(given);
      const accounts = createAccounts(config, plan, roster);
      const book = await open(config.privacy.targetEpsilon);
      for (const [i, order] of orders.entries()) {
        expect(accounts.overBudget(order, roster.entries)).toEqual([]);
        const { params, sid } = paramsOf(order, i + 1);
        const slots = order.models.heads.length;
        await book.reserve(params, sid, order.session, slots);
        const survivors = survivorsOf(config, i + 1);
        accounts.charge(toHex(sid), order, ids.slice(0, survivors));
        await book.settle(params, sid, order.session, slots, new Uint8Array(32), survivors);
      }
      expect(book.epsilon()).toBeLessThanOrEqual(config.privacy.targetEpsilon);
    }
  });

  it.each(CONFIGS)('and the step after the worst case is: %s', async (_, given) => {
    const { config, plan, roster, ids, orders, open, paramsOf } = worldOf(given);
    const accounts = createAccounts(config, plan, roster);
    const book = await open(config.privacy.targetEpsilon);
    const [last] = orders.filter(({ session }) => session.kind === 'train').slice(-1) as [SessionOrder];
    for (const [i, order] of orders.entries()) {
      const { params, sid } = paramsOf(order, i + 1);
      await book.reserve(params, sid, order.session, order.models.heads.length);
      accounts.charge(toHex(sid), order, ids.slice(0, config.cohort.minSurvivors));
    }
    const { params, sid } = paramsOf(last, orders.length + 1);
    expect(accounts.overBudget(last, roster.entries).length).toBe(config.cohort.minSurvivors);
    await expect(book.reserve(params, sid, last.session, last.models.heads.length)).rejects.toMatchObject({
      code: 'PRIVACY_BUDGET',
    });
  });
});

describe('the order of the gate', () => {
  const sampled = (noiseMultiplier: number): DpEvent => ({
    kind: 'poissonSampled',
    probability: 0.1,
    event: { kind: 'gaussian', noiseMultiplier },
  });
  const gaussian = (noiseMultiplier: number): DpEvent => ({ kind: 'gaussian', noiseMultiplier });

  it('gives a fitting schedule the epsilon of the best order', () => {
    const sessions = Array.from({ length: 30 }, (_, i) => [sampled(1.5), ...(i % 10 === 0 ? [gaussian(20)] : [])]);
    const spent = sessions.flat().reduce((total, event) => total.compose(event), rdpAccountant());
    const epsilon = spent.epsilon(1e-5);
    const order = gateOrder({ epsilon: epsilon * 1.0001, delta: 1e-5 }, 'add-remove', sessions);
    expect(
      rdpAccountant({ orders: [order] })
        .compose(sampled(1.5), 30)
        .compose(gaussian(20), 3)
        .epsilon(1e-5),
    ).toBe(epsilon);
  });

  it.each([0.3, 0.7, 1.4, 2.5])('lets a budget of %s last as long as the best order does', (epsilon) => {
    const sessions = Array.from({ length: 400 }, () => [sampled(3)]);
    const longest = sessions.findIndex(
      (_, i) =>
        rdpAccountant()
          .compose(sampled(3), i + 1)
          .epsilon(1e-5) > epsilon,
    );
    const order = gateOrder({ epsilon, delta: 1e-5 }, 'add-remove', sessions);
    const filter = createFilter({
      budget: { epsilon, delta: 1e-5 },
      relation: 'add-remove',
      gate: { kind: 'rdp', order },
    });
    expect(longest).toBeGreaterThan(0);
    expect(admitsAll(filter, rdpAccountant().compose(sampled(3), longest))).toBe(true);
    expect(admitsAll(filter, rdpAccountant().compose(sampled(3), longest + 1))).toBe(false);
  });

  it('stays what it was declared to be when a run turns to events for which another order is better', () => {
    const budget = { epsilon: 1, delta: 1e-5 };
    const planned = Array.from({ length: 8 }, () => [gaussian(14)]);
    const gate = { kind: 'rdp', order: gateOrder(budget, 'add-remove', planned) } as const;
    const filter = createFilter({ budget, relation: 'add-remove', gate });
    // Sampled sums are cheap at small orders only.
    let turned = rdpAccountant();
    while (turned.compose(sampled(1.5)).epsilon(budget.delta) <= budget.epsilon) turned = turned.compose(sampled(1.5));
    expect(turned.contents[0]?.count).toBeGreaterThan(0);
    expect(admitsAll(filter, turned)).toBe(false);
    expect(admitsAll(filter, rdpAccountant().compose(gaussian(14), 8))).toBe(true);
  });

  it('is in the first line of a ledger, and ledgers without one keep the gate they had', () => {
    const terms: LedgerTerms = {
      participant: 'ab'.repeat(32),
      budget: { epsilon: 1, delta: 1e-5 },
      budgetView: 'server',
      views: ['server'],
      unit: 'record',
      relation: 'add-remove',
      colluders: 0,
      accountant: 'rdp',
    };
    const gated = createLedger(nodeCrypto, { ...terms, gate: { kind: 'rdp', order: 14.5 } });
    expect(openLedger(nodeCrypto, [gated.line]).terms.gate).toEqual({ kind: 'rdp', order: 14.5 });
    const bare = createLedger(nodeCrypto, terms);
    const zcdp = createLedger(nodeCrypto, { ...terms, gate: { kind: 'zcdp' } });
    const events = { server: [gaussian(6)] };
    expect(wouldExceed(bare.ledger, events)).toBe(false);
    expect(wouldExceed(zcdp.ledger, events)).toBe(false);
    // The conversion alone takes more than all of the budget at this order.
    expect(codeOf(() => createLedger(nodeCrypto, { ...terms, gate: { kind: 'rdp', order: 1.5 } }))).toBe('USAGE_RANGE');
    // The same charge fits at the best order, but not at one far above it.
    const high = createLedger(nodeCrypto, { ...terms, gate: { kind: 'rdp', order: 60 } });
    expect(wouldExceed(bare.ledger, { server: [gaussian(4.3)] })).toBe(false);
    expect(wouldExceed(high.ledger, { server: [gaussian(4.3)] })).toBe(true);
    expect(codeOf(() => openLedger(nodeCrypto, [gated.line.replace('"rdp","order"', '"rdpx","order"')]))).toBe(
      'PRIVACY_LEDGER',
    );
  });

  it('of a data set holds most runs of the first plan, and a small first run does not shut larger ones out', () => {
    const noise = fc.double({ min: 0.8, max: 300, noNaN: true });
    const planOf = fc.tuple(noise, fc.integer({ min: 1, max: 30 }), fc.boolean());
    fc.assert(
      fc.property(planOf, fc.double({ min: 0.2, max: 8, noNaN: true }), ([z, steps, isSampled], epsilon) => {
        const budget = { epsilon, delta: 1e-5 };
        const event = isSampled ? sampled(z) : gaussian(z);
        const sessions = Array.from({ length: steps }, () => [event]);
        const order = lastingOrder(budget, 'add-remove', sessions) as number;
        const runsAt = (at: number): number =>
          (epsilon - conversionTerm(at, budget.delta)) / (steps * rdpCurve(event, 'add-remove')(at));
        const most = runsAt(order);
        expect(most).toBeGreaterThan(0);
        for (let at = 1.05; at < 2_000; at = at < 20 ? at * 1.07 : Math.ceil(at * 1.07))
          expect(runsAt(at)).toBeLessThanOrEqual(most * 1.001);
      }),
      { numRuns: 40 },
    );
    const budget = { epsilon: 4, delta: 1e-5 };
    const small = lastingOrder(budget, 'add-remove', [[gaussian(400)]]) as number;
    const filter = createFilter({ budget, relation: 'add-remove', gate: { kind: 'rdp', order: small } });
    const half = rdpAccountant().compose(gaussian(9), 16);
    expect(half.epsilon(1e-5)).toBeGreaterThan(1.9);
    expect(admitsAll(filter, half.compose(gaussian(400)))).toBe(true);
    // The optimum of the small run by itself leaves room for nothing else.
    const narrow = gateOrder(budget, 'add-remove', [[gaussian(400)]]);
    const shut = createFilter({ budget, relation: 'add-remove', gate: { kind: 'rdp', order: narrow } });
    expect(admitsAll(shut, half)).toBe(false);
    expect(lastingOrder(budget, 'add-remove', [[], []])).toBeNull();
  });

  it('of a data set is fixed by the first charge of a period and read back', () => {
    const budget = {
      dataset: 'cardiology',
      period: 'quarter',
      epsilon: 2,
      delta: 1e-5,
      unit: 'record',
      view: 'server',
    } as const;
    const charge = (n: number, order: number) => ({
      run: 'run',
      sid: toHex(hashParts(nodeCrypto, utf8(`${n}`))),
      time: n < 2 ? '2026-01-01T00:00:00Z' : '2026-04-01T00:00:00Z',
      events: [gaussian(9)],
      order,
    });
    let ledger = openDatasetLedger(nodeCrypto, budget, [], null);
    const lines = [11, 30, 7].map((order, n) => {
      const step = reserveDataset(nodeCrypto, ledger, charge(n, order));
      ledger = step.ledger;
      return step.line;
    });
    const orders = [
      ['2026-Q1', 11],
      ['2026-Q2', 7],
    ];
    expect([...ledger.orders]).toEqual(orders);
    const read = openDatasetLedger(nodeCrypto, budget, lines, { size: 3, head: ledger.head });
    expect([...read.orders]).toEqual(orders);
    // The order of a later plan counts for nothing in a period that has one.
    expect(reserveDataset(nodeCrypto, read, charge(3, 400)).ledger.orders.get('2026-Q2')).toBe(7);
    // Far from the optimum the same charges are too many.
    const far = openDatasetLedger(nodeCrypto, budget, [], null);
    expect(codeOf(() => reserveDataset(nodeCrypto, far, charge(0, 1.01)))).toBe('PRIVACY_BUDGET');
    expect(codeOf(() => reserveDataset(nodeCrypto, far, charge(0, 400)))).toBe('PRIVACY_BUDGET');
  });
});

it('the order and the budget of a node are in its store before its first charge', async () => {
  const { config, plan, store, open } = worldOf({ ...record, clusters: null });
  await open(1.5, 1e-6);
  const [line] = await store.read(`ledger/${'11'.repeat(16)}`);
  const { terms } = openLedger(nodeCrypto, [fromUtf8(line?.payload ?? new Uint8Array(0))]);
  expect(terms.budget).toEqual({ epsilon: 1.5, delta: 1e-6 });
  expect(terms.gate?.kind).toBe('rdp');
  const { gateOrder: planned } = plan;
  const whole = await worldOf({ ...record, clusters: null }).open(config.privacy.targetEpsilon);
  expect(planned).toBeGreaterThan(1);
  expect(whole.epsilon()).toBe(0);
});

it('a budget that the site lowers while a run goes on is obeyed, one that it raises is not', async () => {
  const { config, orders, open, paramsOf } = worldOf({ ...record, clusters: null });
  const { targetEpsilon } = config.privacy;
  const book = await open(targetEpsilon);
  const act = async (given: typeof book, round: number): Promise<string> => {
    const order = orders[round] as SessionOrder;
    const { params, sid } = paramsOf(order, round);
    const why = given.refusalOf(order.session);
    try {
      await given.reserve(params, sid, order.session, 1);
      expect(why).toBeNull();
    } catch (error) {
      if (!isCoveyError(error)) throw error;
      expect(why?.code).toBe(error.code);
      return error.code;
    }
    return 'reserved';
  };
  for (const round of [0, 1, 2]) expect(await act(book, round)).toBe('reserved');
  const spent = book.epsilon();
  // Below what was spent, just above it, at an order that leaves no room, and at a smaller delta.
  for (const [epsilon, delta] of [
    [spent * 0.9, 1e-5],
    [spent * 1.02, 1e-5],
    [1e-3, 1e-5],
    [targetEpsilon, 1e-12],
  ] as const)
    expect(await act(await open(epsilon, delta), 3)).toBe('PRIVACY_BUDGET');
  const raised = await open(100 * targetEpsilon);
  for (let round = 3; round < orders.length; round++) expect(await act(raised, round)).toBe('reserved');
  expect(raised.refusalOf((orders[0] as SessionOrder).session)?.code).toBe('PRIVACY_BUDGET');
});
