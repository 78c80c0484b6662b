import { describe, expect, it } from 'vitest';
import { joinRun } from '../clients/core/earlier-runs.ts';
import type { SitePolicy } from '../clients/core/policy.ts';
import { nodeConfigSchema } from '../clients/node/config.ts';
import { createMemoryStore } from '../platform/memory/store.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { parseRunConfig } from '../src/run/config.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { createHeads } from './support/crash.ts';
import { type Deployment, deploy, OPEN_POLICY } from './support/deployment.ts';

const MEMBERS = 4;
const base = scenarioConfig('digits', { seed: 5, steps: 2, targetEpsilon: 1.9, participants: MEMBERS });
const config = parseRunConfig({
  ...base,
  model: { inputs: 64, hidden: [], classes: 10 },
  clusters: null,
  cohort: { ...base.cohort, minSurvivors: 3, minOrgs: 3, colluders: 0 },
});
const runId = (n: number): string => `0${n}`.repeat(16);
const datasetBudget = {
  dataset: 'cardiology',
  period: 'quarter',
  epsilon: 10,
  delta: 1e-5,
  unit: 'record',
  view: 'server',
} as const;

/** Runs one after the other over the same sites; the first one has the policy, the others accept all. */
function createSites(policy: Partial<SitePolicy>): (n: number) => Promise<Deployment & { readonly refusal: unknown }> {
  const stores = Array.from({ length: MEMBERS }, () => createMemoryStore());
  const heads = stores.map(() => createHeads());
  const policies = stores.map((_, i) => ({ ...OPEN_POLICY, ...(i === 0 ? policy : { maxRuns: 100 }) }));
  return async (n) => {
    let refusal: unknown;
    const onNodeError = (member: number, error: unknown): void => {
      expect(member).toBe(0);
      refusal = error;
    };
    const done = await deploy({ config, runId: runId(n), policies, stores, heads, onNodeError });
    return { ...done, refusal };
  };
}

const chargesOf = ({ ids, log }: Deployment): number =>
  log.filter(({ type, body }) => type === 'charge.reserve' && (body['survivors'] as string[]).includes(ids[0] ?? ''))
    .length;

describe('a coordinator that opens run after run', () => {
  it('is refused the second one by a site that limits neither their sum nor their number', async () => {
    const run = createSites({});
    const first = await run(1);
    expect([first.refusal, chargesOf(first)]).toEqual([undefined, config.training.steps]);
    const second = await run(2);
    expect(isCoveyError(second.refusal, 'PRIVACY_POLICY') && second.refusal.message).toMatch(
      /^"maxRuns" expected at most 1 run on the data of this site, which paid in 1 before; hint: policy.datasetBudget/,
    );
    expect(chargesOf(second)).toBe(0);
    expect(await second.stores[0]?.read(`ledger/${runId(2)}`)).toEqual([]);
    // The others accept a hundred.
    expect(second.progress.at(-1)?.event).toBe('finished');
  });

  it('gets as many as a site accepts, which hears each time what they may cost together', async () => {
    const run = createSites({ maxRuns: 2, budget: { epsilon: 3, delta: 1e-5 } });
    const further = ({ nodeProgress }: Deployment): unknown[] =>
      (nodeProgress[0] ?? []).filter(({ event }) => event === 'further-run');
    expect(further(await run(1))).toEqual([]);
    const second = await run(2);
    expect(second.refusal).toBeUndefined();
    expect(further(second)).toEqual([{ event: 'further-run', runs: 2, budget: { epsilon: 3, delta: 1e-5 } }]);
    expect(isCoveyError((await run(3)).refusal, 'PRIVACY_POLICY')).toBe(true);
  });

  it('may do so under a budget over all runs, unless their number is limited as well', async () => {
    const [open, limited] = [createSites({ datasetBudget }), createSites({ datasetBudget, maxRuns: 1 })];
    await open(1);
    const second = await open(2);
    expect([second.refusal, chargesOf(second)]).toEqual([undefined, config.training.steps]);
    expect(second.nodeProgress[0]?.some(({ event }) => event === 'further-run')).toBe(false);
    await limited(1);
    expect(isCoveyError((await limited(2)).refusal, 'PRIVACY_POLICY')).toBe(true);
  });

  it('counts runs that were paid for, each once however often the node is started', async () => {
    const store = createMemoryStore();
    const join = (n: number): Promise<readonly string[]> => joinRun(store, OPEN_POLICY, runId(n));
    await join(1);
    // Opened and never charged.
    await store.append(`ledger/${runId(1)}`, new Uint8Array(1));
    expect(await join(2)).toEqual([]);
    await store.append(`ledger/${runId(2)}`, new Uint8Array(1));
    await store.append(`ledger/${runId(2)}`, new Uint8Array(1));
    expect(await join(2)).toEqual([]);
    await expect(join(1)).rejects.toThrow('"maxRuns" expected at most 1 run');
    await expect(join(3)).rejects.toThrow('"maxRuns" expected at most 1 run');
    expect((await store.read('runs')).length).toBe(2);
  });

  it('meets a configured number, and nothing that is none', () => {
    const policyOf = (policy: object): unknown =>
      nodeConfigSchema.safeParse({
        coordinator: 'wss://localhost',
        federation: 'f',
        key: 'k',
        state: '.',
        data: { kind: 'digits', seed: 1, organization: 0 },
        policy,
      }).data?.policy;
    expect(policyOf({})).not.toHaveProperty('maxRuns');
    expect(policyOf({ maxRuns: 3 })).toMatchObject({ maxRuns: 3 });
    expect([policyOf({ maxRuns: 0 }), policyOf({ maxRuns: 1.5 })]).toEqual([undefined, undefined]);
  });
});
