import { describe, expect, it } from 'vitest';
import type { SitePolicy } from '../clients/core/policy.ts';
import { checkRun, checkSession } from '../clients/core/policy.ts';
import { simulatedRoster } from '../experiments/in-process.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromBase64, utf8 } from '../protocol/bytes.ts';
import { decodeParams } from '../protocol/params.ts';
import type { SessionParams } from '../protocol/session.ts';
import { checkNoise } from '../src/audit/check-noise.ts';
import { readLog } from '../src/audit/read-log.ts';
import { replayLog } from '../src/audit/replay.ts';
import { spentBudgets } from '../src/budget/spent.ts';
import { rdpCurve } from '../src/privacy/rdp-curve.ts';
import { parseRunConfig } from '../src/run/config.ts';
import { orderParams } from '../src/run/order.ts';
import { planRun, sessionEvents } from '../src/run/plan.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { atSurvivors, survivorsFor } from '../src/run/shrink.ts';
import { codeOf } from './support/code-of.ts';
import { type Deployment, deploy, OPEN_POLICY } from './support/deployment.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
const MEMBERS = 6;
const STEPS = 6;
const base = scenarioConfig('digits', { seed: 5, steps: STEPS, targetEpsilon: 4, participants: MEMBERS });
const small = { ...base, model: { inputs: 64, hidden: [8], classes: 10 }, clusters: null };
const cohort = { ...base.cohort, minSurvivors: 4, minOrgs: 3, colluders: 0 };
const config = parseRunConfig({ ...small, cohort });
const shrinking = parseRunConfig({ ...small, cohort: { ...cohort, minSurvivors: 5, leastSurvivors: 3 } });

const within = (epsilon: number): SitePolicy => ({ ...OPEN_POLICY, budget: { epsilon, delta: 1e-5 } });

/** Training steps in whose sum each member was. */
function stepsOf({ ids, log }: Deployment): number[] {
  const charged = log.filter(({ type }) => type === 'charge.reserve');
  return ids.map((id) => charged.filter(({ body }) => (body['survivors'] as string[]).includes(id)).length);
}

const openedParams = ({ log }: Deployment): SessionParams[] =>
  log.filter(({ type }) => type === 'round.open').map(({ body }) => decodeParams(fromBase64(body['params'] as string)));

const historyOf = ({ lines }: Deployment) => replayLog(readLog(utf8(`${lines.join('\n')}\n`), nodeCrypto), nodeCrypto);

describe('participants with budgets of their own', () => {
  it('leave before the session that they cannot afford, named, and the others go on', async () => {
    const policies = [within(1.2), within(2.4), ...Array.from({ length: 4 }, () => OPEN_POLICY)];
    const done = await deploy({ config, runId: RUN_ID, policies });
    const [first = 0, second = 0, ...others] = stepsOf(done);
    expect(others).toEqual([STEPS, STEPS, STEPS, STEPS]);
    expect(first).toBeLessThan(second);
    expect(second).toBeLessThan(STEPS);
    const left = done.progress.filter((event) => event.event === 'left');
    expect(left.map(({ organization, code }) => [organization, code])).toEqual([
      ['org-1', 'PRIVACY_BUDGET'],
      ['org-2', 'PRIVACY_BUDGET'],
    ]);
    expect(left[0]?.reason).toBe('a budget of this site is spent');
    expect(left[0]?.step).toBe(first);
    expect(done.progress.some(({ event }) => event === 'budget')).toBe(false);
    // Who left still gets the final models.
    expect(done.nodeProgress.map((events) => events.filter(({ event }) => event === 'finished').length)).toEqual(
      Array.from({ length: MEMBERS }, () => 1),
    );
    // What was planned still covers what is left: the shares stay as they were.
    for (const params of openedParams(done)) expect(params.minSurvivors).toBe(4);
    const { rows } = spentBudgets(utf8(`${done.lines.join('\n')}\n`), nodeCrypto);
    const spent = (organization: string): number =>
      rows.find((row) => row.organization === organization)?.spent.server ?? Number.NaN;
    expect(spent('org-1')).toBeLessThanOrEqual(1.2);
    expect(spent('org-2')).toBeLessThanOrEqual(2.4);
    expect(spent('org-3')).toBeGreaterThan(spent('org-2'));
  });

  it('leave at the same step whatever their data are', async () => {
    const policies = [within(1.2), within(2.4), ...Array.from({ length: 4 }, () => OPEN_POLICY)];
    const worlds = await Promise.all([5, 77].map((dataSeed) => deploy({ config, runId: RUN_ID, policies, dataSeed })));
    const [one, other] = worlds.map((world) => ({
      steps: stepsOf(world),
      left: world.log.filter(({ type }) => type === 'client.leave').map(({ actor, body }) => [actor, body]),
    }));
    expect(one).toEqual(other);
    expect(one?.left.length).toBe(2);
    const released = worlds.map(({ log }) => log.find(({ type }) => type === 'round.release')?.body['modelHash']);
    expect(released[0]).not.toBe(released[1]);
  });

  it('end the run with one line when too few of them are left', async () => {
    const policies = [within(1.2), within(1.2), within(1.2), OPEN_POLICY, OPEN_POLICY, OPEN_POLICY];
    const done = await deploy({ config, runId: RUN_ID, policies });
    const budget = done.progress.filter((event) => event.event === 'budget');
    expect(budget).toEqual([expect.objectContaining({ remaining: 3, needed: 4 })]);
    expect(new Set(stepsOf(done)).size).toBe(1);
    expect(stepsOf(done)[0]).toBeLessThan(STEPS);
    expect(done.log.at(-1)?.type).toBe('budget.block');
    expect(historyOf(done).leaves.size).toBe(3);
  });

  it('get louder shares when fewer survivors have to do, at the same charge and checked by everybody', async () => {
    const policies = [within(1.2), within(1.2), within(1.2), OPEN_POLICY, OPEN_POLICY, OPEN_POLICY];
    const done = await deploy({ config: shrinking, runId: RUN_ID, policies });
    expect(done.progress.some(({ event }) => event === 'budget')).toBe(false);
    const opened = openedParams(done);
    const { shareVariance } = planRun(shrinking);
    const [first, last] = [opened[0], opened.at(-1)] as [SessionParams, SessionParams];
    expect([first.minSurvivors, first.noise.shareVariance]).toEqual([5, shareVariance]);
    expect([last.minSurvivors, last.noise.shareVariance]).toEqual([3, (shareVariance * 5) / 3]);
    const history = historyOf(done);
    expect(checkNoise(history)).toBeGreaterThan(0);
    expect(stepsOf(done).slice(3)).toEqual([STEPS, STEPS, STEPS]);
  });
});

describe('a cohort that shrinks', () => {
  const { roster } = simulatedRoster(nodeCrypto, MEMBERS);
  const facts = { runId: RUN_ID, config: shrinking, plan: planRun(shrinking), roster };
  const order = {
    session: { kind: 'train', step: 0 },
    models: { body: new Float32Array(0), heads: [new Float32Array(0)], extra: [] },
  } as const;

  it('asks for the same share of survivors, never below what the run or the protocol allows', () => {
    expect([6, 5, 4, 3, 2].map((left) => survivorsFor(shrinking, 6, left))).toEqual([5, 5, 4, 3, null]);
    expect([6, 5, 4, 3].map((left) => survivorsFor(config, 6, left))).toEqual([4, 4, 4, null]);
    const colluding = { cohort: { ...shrinking.cohort, colluders: 1 } };
    expect([4, 3].map((left) => survivorsFor(colluding, 6, left))).toEqual([4, null]);
  });

  it('charges no unit more than the plan', () => {
    for (const minSurvivors of [5, 4, 3]) {
      const at = atSurvivors(facts, minSurvivors);
      const cost = (plan: typeof facts, survivors: number): number => {
        const [event] = sessionEvents(plan.config, plan.plan, order.session, 1, survivors, 'server');
        return rdpCurve(event as NonNullable<typeof event>, 'add-remove')(8);
      };
      expect(cost({ ...facts, ...at }, minSurvivors)).toBeLessThanOrEqual(cost(facts, 5) * (1 + 1e-12));
      expect(minSurvivors * at.plan.shareVariance).toBeCloseTo(5 * facts.plan.shareVariance, -3);
    }
  });

  it('is refused by a site where fewer, quieter or unannounced', () => {
    const number = { round: 1, attempt: 0 };
    const params = orderParams(nodeCrypto, facts, order, { ...number, minSurvivors: 3 });
    const check = (given: SessionParams): string | null => codeOf(() => checkSession(nodeCrypto, facts, order, given));
    expect(check(params)).toBeNull();
    expect(check({ ...params, minSurvivors: 2 })).toBe('PRIVACY_POLICY');
    expect(check({ ...params, minSurvivors: 6 })).toBe('PRIVACY_POLICY');
    expect(check({ ...params, noise: { ...params.noise, shareVariance: facts.plan.shareVariance } })).toBe(
      'PRIVACY_POLICY',
    );
    // A run that did not name fewer survivors cannot come to them.
    expect(codeOf(() => orderParams(nodeCrypto, { ...facts, config }, order, { ...number, minSurvivors: 3 }))).toBe(
      'PRIVACY_POLICY',
    );
    expect(codeOf(() => checkRun({ ...OPEN_POLICY, minCohort: 4 }, facts))).toBe('PRIVACY_POLICY');
    expect(codeOf(() => checkRun({ ...OPEN_POLICY, minCohort: 3 }, facts))).toBeNull();
    for (const leastSurvivors of [2, 6])
      expect(codeOf(() => parseRunConfig({ ...small, cohort: { ...shrinking.cohort, leastSurvivors } }))).toBe(
        'USAGE_CONFIG',
      );
  });
});
