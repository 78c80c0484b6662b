import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { simulatedRoster } from '../experiments/in-process.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { deriveEvents } from '../src/audit/derive-events.ts';
import type { DpEvent } from '../src/privacy/events.ts';
import {
  createLedger,
  type Ledger,
  openLedger,
  reportPaths,
  reserve,
  settle,
  statusOf,
} from '../src/privacy/ledger.ts';
import type { Path } from '../src/privacy/paths.ts';
import { conversionTerm, rdpToEpsilon } from '../src/privacy/rdp-conversion.ts';
import { rdpCurve } from '../src/privacy/rdp-curve.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { orderParams } from '../src/run/order.ts';
import { planRun, type ScheduledSession, sessionEvents, sessionSlots } from '../src/run/plan.ts';
import { initialModels } from '../src/run/released.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { atSurvivors } from '../src/run/shrink.ts';
import { codeOf } from './support/code-of.ts';

const DELTA = 1e-5;
const sidOf = (n: number): string => n.toString(16).padStart(64, '0');

/** A sum with some shares; more shares are the realised case. */
type Shape = (shares: number) => DpEvent;
const sum = (sensitivity: number, shareVariance: number, law: 'skellam' | 'discreteGaussian'): Shape => {
  const moved = { sensitivity, dimension: 64, symmetric: true };
  return (shares) =>
    law === 'skellam'
      ? { kind: 'skellam', variance: shares * shareVariance, ...moved }
      : { kind: 'discreteGaussian', shares, shareVariance, ...moved };
};
const shape: fc.Arbitrary<Shape> = fc
  .tuple(
    fc.constantFrom('skellam', 'discreteGaussian', 'choice'),
    fc.integer({ min: 1, max: 40 }),
    fc.double({ min: 4, max: 400, noNaN: true }),
    fc.constantFrom(1, 0.5, 0.01),
    fc.integer({ min: 1, max: 5 }),
  )
  .map(([law, sensitivity, stddev, probability, count]): Shape => {
    if (law === 'choice') return () => ({ kind: 'exponentialMechanism', epsilon: sensitivity / 40, monotone: true });
    const whole = sum(sensitivity, (stddev * sensitivity) ** 2 / 4, law as 'skellam');
    return (shares) => {
      const event: DpEvent =
        probability === 1 ? whole(shares) : { kind: 'poissonSampled', probability, event: whole(shares) };
      return count === 1 ? event : { kind: 'selfComposed', count, event };
    };
  });

const paths = fc.subarray<Path>(['body', 'slots', 'extra', 'clip-count', 'selection', 'metrics'], { minLength: 1 });
/** A session: how it ends, and whether its ledger is read again from the store after it. */
const session = fc.record({
  shape,
  paths,
  end: fc.constantFrom('settled', 'lost'),
  survivors: fc.integer({ min: 2, max: 6 }),
  restart: fc.boolean(),
});

describe('a ledger over random sessions', () => {
  it('admits what a sum over the charges at its order admits, and never more than the budget at any order', () => {
    fc.assert(
      fc.property(
        fc.array(session, { minLength: 1, maxLength: 12 }),
        fc.double({ min: 0.3, max: 6, noNaN: true }),
        fc.integer({ min: 12, max: 90 }),
        (sessions, room, order) => {
          const epsilon = conversionTerm(order, DELTA) + room;
          const first = createLedger(nodeCrypto, {
            participant: '0'.repeat(64),
            budget: { epsilon, delta: DELTA },
            budgetView: 'server',
            views: ['server'],
            unit: 'record',
            relation: 'add-remove',
            colluders: 0,
            accountant: 'rdp',
            gate: { kind: 'rdp', order },
          });
          let ledger: Ledger = first.ledger;
          const lines = [first.line];
          const charged = new Map<string, { event: DpEvent; paths: readonly Path[] }>();
          const cost = (event: DpEvent, at: number): number => rdpCurve(event, 'add-remove')(at);
          const totalAt = (at: number, of: (paths: readonly Path[]) => boolean = () => true): number =>
            [...charged.values()].reduce((total, charge) => total + (of(charge.paths) ? cost(charge.event, at) : 0), 0);
          sessions.forEach((given, n) => {
            const sid = sidOf(n);
            const worst = given.shape(2);
            const fits = totalAt(order) + cost(worst, order) - room;
            let step: ReturnType<typeof reserve> | null = null;
            const code = codeOf(() => {
              step = reserve(nodeCrypto, ledger, {
                sid,
                round: n,
                purpose: 'train',
                threshold: 3,
                events: { server: [worst] },
                paths: given.paths,
              });
            });
            // The last bits depend on the order of summing.
            if (Math.abs(fits) > 1e-9) expect(code).toBe(fits > 0 ? 'PRIVACY_BUDGET' : null);
            if (step === null) return;
            const done = step as ReturnType<typeof reserve>;
            [ledger] = [done.ledger];
            lines.push(done.line);
            charged.set(sid, { event: worst, paths: given.paths });
            expect(
              codeOf(() =>
                reserve(nodeCrypto, ledger, { sid, round: n, purpose: 'train', threshold: 3, events: { server: [] } }),
              ),
            ).toBe('PRIVACY_LEDGER');
            if (given.end === 'settled') {
              const event = given.shape(given.survivors);
              const charge = { sid, h3: '1'.repeat(64), survivors: given.survivors, events: { server: [event] } };
              const settled = settle(nodeCrypto, ledger, charge);
              ledger = settled.ledger;
              lines.push(settled.line);
              charged.set(sid, { event, paths: given.paths });
              expect(codeOf(() => settle(nodeCrypto, ledger, charge))).toBe('PRIVACY_LEDGER');
            }
            if (given.restart) {
              const read = openLedger(nodeCrypto, lines);
              expect([read.size, read.head]).toEqual([ledger.size, ledger.head]);
              ledger = read;
            }
            expect(statusOf(ledger, sid)).toBe(given.end === 'settled' ? 'settled' : 'reserved');
          });
          const total = rdpToEpsilon((at) => totalAt(at), DELTA, { isMonotone: false });
          expect(total).toBeLessThanOrEqual(epsilon * (1 + 1e-9));
          for (const { path, epsilon: row } of reportPaths(ledger)) {
            const alone = rdpToEpsilon((at) => totalAt(at, (names) => names.includes(path as Path)), DELTA);
            expect(row).toBeCloseTo(path === 'personal' ? 0 : alone, 6);
            expect(row).toBeLessThanOrEqual(total * (1 + 1e-9));
          }
          // What a crash leaves is never less than what the lines before it charged.
          const epsilons = lines.map((_, i) => openLedger(nodeCrypto, lines.slice(0, i + 1)));
          const reserves = epsilons.map(({ charges }) => charges.reserved.size + charges.closed.size);
          expect(reserves).toEqual(reserves.toSorted((a, b) => a - b));
        },
      ),
      { numRuns: 60 },
    );
  }, 60_000);
});

describe('the charge of a session in a cohort that may shrink', () => {
  const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
  const configOf = (
    unit: 'record' | 'participant',
    mechanism: 'skellam' | 'discrete-gaussian',
    colluders: number,
    isLocal: boolean,
  ): RunConfig => {
    const base = scenarioConfig('digits', {
      seed: 5,
      steps: 3,
      targetEpsilon: 8,
      participants: 12,
      unit,
      mechanism,
      metrics: { every: 2, bins: 4, noiseStddev: 3 },
      ...(isLocal ? { algorithm: { id: 'fedavg' }, localNoise: { clippingNorm: 1 } } : {}),
    });
    const cohort = { ...base.cohort, minSurvivors: 10, leastSurvivors: 5, minOrgs: 3, minCluster: 0, colluders };
    return parseRunConfig({ ...base, cohort });
  };

  it('is the one of its signed parameters, and its noise never below that of the plan', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('record', 'participant'),
        fc.constantFrom('skellam', 'discrete-gaussian'),
        fc.integer({ min: 0, max: 3 }),
        fc.integer({ min: 5, max: 10 }),
        fc.integer({ min: 0, max: 6 }),
        fc.nat(),
        (unit, mechanism, colluders, minSurvivors, more, pick) => {
          const config = configOf(unit as 'record', mechanism as 'skellam', colluders, false);
          const plan = planRun(config);
          const facts = { runId: RUN_ID, config, plan, roster: simulatedRoster(nodeCrypto, 12).roster };
          const chosen = plan.schedule[pick % plan.schedule.length] as ScheduledSession;
          const slots = sessionSlots(config, chosen);
          const order = { session: chosen, models: initialModels(config, slots) };
          const params = orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0, minSurvivors });
          const at = atSurvivors(facts, minSurvivors);
          const survivors = Math.min(12, minSurvivors + more);
          const claim = {
            unit: config.privacy.unit,
            relation: config.privacy.relation,
            delta: '0.00001',
            targetEpsilon: '8',
            noiseMultiplier: String(plan.noiseMultiplier),
            shareVariance: String(plan.shareVariance),
            sensitivity: String(plan.sensitivity),
            samplingProbability: String(config.training.samplingProbability),
            rounds: 3,
            minSurvivors: config.cohort.minSurvivors,
            colluders,
            choices: config.clusters?.choiceSteps.length ?? 0,
            choiceEpsilon: String(config.clusters?.choiceEpsilon ?? 0),
          } as const;
          for (const view of ['server', 'release'] as const)
            expect(sessionEvents(at.config, at.plan, chosen, slots, survivors, view)).toEqual(
              deriveEvents(chosen.kind, params, claim, survivors, view),
            );
          const cost = (events: readonly DpEvent[], alpha: number): number =>
            events.reduce((total, event) => total + rdpCurve(event, config.privacy.relation)(alpha), 0);
          const planned = sessionEvents(config, plan, chosen, slots, config.cohort.minSurvivors, 'server');
          const realised = sessionEvents(at.config, at.plan, chosen, slots, survivors, 'server');
          for (const alpha of [2, 5, 17, 64])
            expect(cost(realised, alpha)).toBeLessThanOrEqual(cost(planned, alpha) * (1 + 1e-9));
          const honest = (survivors - colluders) * params.noise.shareVariance;
          if (chosen.kind === 'train')
            expect(honest).toBeGreaterThanOrEqual((plan.noiseMultiplier * plan.sensitivity) ** 2 * (1 - 1e-9));
        },
      ),
      { numRuns: 60 },
    );
  });

  it('does not depend on survivors where the organizations add the noise', () => {
    const config = configOf('record', 'skellam', 2, true);
    const plan = planRun(config);
    const chosen = plan.schedule[0] as ScheduledSession;
    const [first] = sessionEvents(config, plan, chosen, 1, 10, 'server');
    for (const minSurvivors of [5, 7, 10]) {
      const at = atSurvivors({ config, plan }, minSurvivors);
      expect(sessionEvents(at.config, at.plan, chosen, 1, minSurvivors, 'release')).toEqual([first]);
    }
  });
});
