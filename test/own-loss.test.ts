import { describe, expect, it } from 'vitest';
import { ledgerStream } from '../clients/core/charge-book.ts';
import { normStream } from '../clients/core/memory.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromUtf8 } from '../protocol/bytes.ts';
import type { SessionParams } from '../protocol/session.ts';
import { spentLedger } from '../src/budget/spent.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { contribute, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams } from '../src/run/order.ts';
import { planRun } from '../src/run/plan.ts';
import { initialState, nextOrder, sumCoordinates } from '../src/run/release.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import type { Store } from '../src/run/store.ts';
import { type Deployment, deploy, OPEN_POLICY } from './support/deployment.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
const MEMBERS = 4;

function configOf(unit: 'record' | 'participant', clippingNorm: number): RunConfig {
  const base = scenarioConfig('digits', { seed: 5, steps: 3, targetEpsilon: 40, participants: MEMBERS, unit });
  const cohort = { ...base.cohort, minSurvivors: 3, minOrgs: 3, colluders: 0 };
  const training = { ...base.training, clippingNorm };
  return parseRunConfig({ ...base, training, model: { inputs: 64, hidden: [8], classes: 10 }, clusters: null, cohort });
}

const linesOf = async (store: Store | undefined, stream: string): Promise<string[]> =>
  ((await store?.read(stream)) ?? []).map(({ payload }) => fromUtf8(payload));

/** Norms and ledger of a member, as its own operator reads them. */
async function ownOf({ stores }: Deployment, member: number) {
  const lines = await linesOf(stores[member], ledgerStream(RUN_ID));
  const norms = (await linesOf(stores[member], normStream(RUN_ID))).map(
    (line) => JSON.parse(line) as { readonly sid: string; readonly norm: number },
  );
  return { lines, norms: new Map(norms.map(({ norm, sid }) => [sid, norm])) };
}

describe('the loss of a participant by its own norms', () => {
  it.each([0.01, 0.3, 8])('counts no less than the integers of an update, clip %f', (clippingNorm) => {
    const config = configOf('participant', clippingNorm);
    const plan = planRun(config);
    const order = nextOrder(plan, initialState(config));
    if (order === null) throw new Error('a first session is expected');
    const facts = { runId: RUN_ID, config, plan, roster: { version: 1, entries: [], revoked: [] } };
    const params: SessionParams = {
      ...orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 }),
      noise: { mechanism: 'none', shareVariance: 0 },
    };
    const oracle = createDenseOracle(config.model);
    for (let seed = 1; seed <= 6; seed++) {
      const { train: data } = generateDigits(seed, seed % 3);
      const inputs = { data, oracle, local: {}, seed: new Uint8Array(32).fill(seed) };
      const { ownNorm, words } = contribute(nodeCrypto, config, order, params, NEW_MEMBER, inputs);
      const norm = Math.sqrt(sumCoordinates(params, words).reduce((sum, value) => sum + value * value, 0));
      expect(norm).toBeGreaterThan(0);
      expect(norm).toBeLessThanOrEqual(ownNorm ?? 0);
      // And not much more: rounding moves every coordinate by less than one.
      expect(ownNorm).toBeLessThanOrEqual(norm + 3 * Math.sqrt(words.length * 2) + norm / 2 ** 15);
    }
  });

  it('is below what the ledger charges where updates are short, and known to nobody else', async () => {
    const done = await deploy({
      config: configOf('participant', 8),
      runId: RUN_ID,
      policies: Array.from({ length: MEMBERS }, () => OPEN_POLICY).map((policy) => ({ ...policy, maxClippingNorm: 8 })),
    });
    for (let member = 0; member < MEMBERS; member++) {
      const { lines, norms } = await ownOf(done, member);
      expect(norms.size).toBe(3);
      const { ownLoss, spent } = spentLedger(lines, nodeCrypto, norms);
      expect(ownLoss).toBeGreaterThan(0);
      expect(ownLoss).toBeLessThan(spent.server ?? 0);
      // Sessions without a norm count in full; the more are known, the less is left.
      const [first] = norms;
      const partly = spentLedger(lines, nodeCrypto, new Map(first === undefined ? [] : [first])).ownLoss;
      expect(partly).toBeGreaterThan(ownLoss as number);
      expect(spentLedger(lines, nodeCrypto).ownLoss).toBeNull();
      for (const norm of norms.values()) expect(done.lines.join('\n')).not.toContain(String(norm));
    }
  });

  it('is not kept where records are protected: it would be that of no record', async () => {
    const policies = Array.from({ length: MEMBERS }, () => OPEN_POLICY);
    const done = await deploy({ config: configOf('record', 1), runId: RUN_ID, policies });
    const { lines, norms } = await ownOf(done, 0);
    expect(norms.size).toBe(0);
    expect(spentLedger(lines, nodeCrypto, new Map([['00'.repeat(32), 1]])).ownLoss).toBeNull();
  });
});
