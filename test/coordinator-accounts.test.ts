import { describe, expect, it } from 'vitest';
import { simulatedRoster } from '../experiments/in-process.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { toHex } from '../protocol/bytes.ts';
import { createAccounts } from '../server/coordinator/accounts.ts';
import { eventToJson } from '../src/privacy/event-json.ts';
import type { SessionOrder } from '../src/run/order.ts';
import { planRun, sessionEvents } from '../src/run/plan.ts';
import { scenarioConfig } from '../src/run/scenario.ts';

const config = {
  ...scenarioConfig('digits', { seed: 1, steps: 12, targetEpsilon: 8, participants: 6 }),
  clusters: null,
};
const plan = planRun(config);
const { roster, ids } = simulatedRoster(nodeCrypto, 6);
const members = ids.map(toHex);
const order: SessionOrder = {
  session: { kind: 'train', step: 0 },
  models: { body: new Float32Array(0), heads: [new Float32Array(0)], extra: [] },
};
const fewest = members.slice(0, config.cohort.minSurvivors);

describe('the accounts of a coordinator', () => {
  it('let a run of the fewest survivors spend exactly its budget and stop before the step after it', () => {
    const accounts = createAccounts(config, plan, roster);
    for (let step = 0; step < config.training.steps; step++) {
      expect(accounts.overBudget(order, roster.entries)).toEqual([]);
      accounts.charge(`session ${step}`, order, fewest);
    }
    expect(accounts.worst('server')).toBeLessThanOrEqual(8);
    expect([...accounts.overBudget(order, roster.entries)].sort()).toEqual([...fewest].sort());
  });

  it('count what a member reserved in a round that was lost', () => {
    const accounts = createAccounts(config, plan, roster);
    for (let step = 0; step + 1 < config.training.steps; step++) accounts.charge(`session ${step}`, order, fewest);
    expect(accounts.overBudget(order, roster.entries)).toEqual([]);
    const events = sessionEvents(config, plan, order.session, 1, config.cohort.minSurvivors, 'server').map(eventToJson);
    accounts.note({ actor: fewest[0] as string, body: { sid: 'lost', events } });
    expect(accounts.overBudget(order, roster.entries)).toEqual([fewest[0]]);
    // A session that was charged to this member replaces its reserve instead of adding to it.
    const settled = createAccounts(config, plan, roster);
    for (let step = 0; step + 1 < config.training.steps; step++) {
      settled.note({ actor: fewest[0] as string, body: { sid: `session ${step}`, events } });
      settled.charge(`session ${step}`, order, fewest);
    }
    expect(settled.overBudget(order, roster.entries)).toEqual([]);
  });
});
