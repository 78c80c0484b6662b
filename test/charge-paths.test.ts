import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { simulatedRoster } from '../experiments/in-process.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { utf8 } from '../protocol/bytes.ts';
import { derivePaths } from '../src/audit/derive-events.ts';
import { verifyBundle } from '../src/audit/verifier.ts';
import { spentBudgets, spentLedger } from '../src/budget/spent.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import { createCharges, pathCharges, reserveCharge, settleCharge, totalCharges } from '../src/privacy/charges.ts';
import { createLedger, openLedger, reportLedger, reportPaths, reserve, settle } from '../src/privacy/ledger.ts';
import { comparePaths, isPath, type Path } from '../src/privacy/paths.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { orderParams } from '../src/run/order.ts';
import { planRun, sessionPaths, sessionSlots } from '../src/run/plan.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { createBundle } from './support/bundle.ts';
import { codeOf } from './support/code-of.ts';

const gaussian = (noiseMultiplier: number) => ({ kind: 'gaussian', noiseMultiplier }) as const;
const DELTA = 1e-5;
const sid = (n: number): string => n.toString(16).padStart(64, '0');

describe('charges by path', () => {
  /** Settles a session with one event for these paths. */
  function spend(sessions: readonly (readonly [Path[], number])[]) {
    return sessions.reduce(
      (charges, [paths, noiseMultiplier], n) => {
        const events = { server: [gaussian(noiseMultiplier)] };
        const reserved = reserveCharge(charges, sid(n), events, paths);
        // Every third session stays at its reserve.
        return n % 3 === 2 ? reserved : settleCharge(reserved, sid(n), events);
      },
      createCharges(['server'], 'add-remove'),
    );
  }
  const epsilonsOf = (charges: ReturnType<typeof spend>): Map<string, number> =>
    new Map([...pathCharges(charges, 'server')].map(([path, spent]) => [path, spent.epsilon(DELTA)]));

  it('hold the event of a joint vector in each of its parts, and once in the total', () => {
    const charges = spend([
      [['body', 'slots'], 5],
      [['selection'], 9],
      [['body', 'slots'], 5],
      [['metrics'], 7],
    ]);
    const alone = (noise: number, count: number): number =>
      rdpAccountant().compose(gaussian(noise), count).epsilon(DELTA);
    expect([...epsilonsOf(charges)]).toEqual([
      ['body', alone(5, 2)],
      ['slots', alone(5, 2)],
      ['selection', alone(9, 1)],
      ['metrics', alone(7, 1)],
    ]);
    const all = rdpAccountant().compose(gaussian(5), 2).compose(gaussian(9)).compose(gaussian(7));
    expect(totalCharges(charges, 'server').epsilon(DELTA)).toBe(all.epsilon(DELTA));
  });

  it('never add up to less than the total, and none is above it', () => {
    const paths = fc.subarray<Path>(['body', 'slots', 'extra', 'clip-count', 'selection', 'metrics'], { minLength: 1 });
    const session = fc.tuple(paths, fc.double({ min: 0.7, max: 40, noNaN: true }));
    fc.assert(
      fc.property(fc.array(session, { minLength: 1, maxLength: 6 }), (sessions) => {
        const charges = spend(sessions);
        const total = totalCharges(charges, 'server').epsilon(DELTA);
        const parts = [...epsilonsOf(charges).values()];
        expect(parts.reduce((sum, epsilon) => sum + epsilon, 0)).toBeGreaterThanOrEqual(total * (1 - 1e-6));
        for (const epsilon of parts) expect(epsilon).toBeLessThanOrEqual(total * (1 + 1e-6));
      }),
      { numRuns: 60, seed: 1 },
    );
  });

  it('name what they pay for', () => {
    const events = { server: [gaussian(5)] };
    expect(codeOf(() => reserveCharge(createCharges(['server'], 'add-remove'), sid(1), events, []))).toBe(
      'PRIVACY_LEDGER',
    );
    const names = ['metrics', 'cluster-10', 'clip-count', 'cluster-9', 'extra', 'slots', 'body', 'selection'];
    expect([...names].sort(comparePaths)).toEqual([
      'body',
      'slots',
      'cluster-9',
      'cluster-10',
      'extra',
      'clip-count',
      'selection',
      'metrics',
    ]);
    expect(names.every(isPath)).toBe(true);
    expect(['personal', 'cluster-', 'cluster-01', 'head', 7].some(isPath)).toBe(false);
  });
});

describe('paths in a ledger', () => {
  const terms = {
    participant: 'ab'.repeat(32),
    budget: { epsilon: 4, delta: DELTA },
    budgetView: 'server',
    views: ['server', 'release'],
    unit: 'record',
    relation: 'add-remove',
    colluders: 1,
    accountant: 'rdp',
  } as const;
  const events = { server: [gaussian(5)], release: [gaussian(4)] };

  it('are stored with the reserve, kept by its settlement and read back', () => {
    const opened = createLedger(nodeCrypto, terms);
    const first = reserve(nodeCrypto, opened.ledger, {
      sid: sid(1),
      round: 1,
      purpose: 'train',
      threshold: 3,
      events,
      paths: ['body', 'cluster-2'],
    });
    const settled = settle(nodeCrypto, first.ledger, { sid: sid(1), h3: sid(9), survivors: 4, events });
    const read = openLedger(
      nodeCrypto,
      [opened, first, settled].map(({ line }) => line),
    );
    for (const view of ['server', 'release'] as const) {
      const { epsilon } = reportLedger(settled.ledger, view);
      const rows = [
        { path: 'body', epsilon },
        { path: 'cluster-2', epsilon },
        { path: 'personal', epsilon: 0 },
      ];
      expect(reportPaths(settled.ledger, view)).toEqual(rows);
      expect(reportPaths(read, view)).toEqual(rows);
    }
    const other = first.line.replace('cluster-2', 'personal');
    expect(codeOf(() => openLedger(nodeCrypto, [opened.line, other]))).toBe('PRIVACY_LEDGER');
  });

  it('are unnamed in ledgers that were written before there were paths', () => {
    // Lines as earlier versions wrote them: they load forever.
    const open = `{"body":{"accountant":"rdp","budget":{"delta":"0.00001","epsilon":4},"budgetView":"server","colluders":1,"participant":"${'ab'.repeat(32)}","relation":"add-remove","unit":"record","views":["server","release"]},"kind":"open","previous":"${'0'.repeat(64)}","sequence":0,"v":1}`;
    const head = openLedger(nodeCrypto, [open]).head;
    const charge = `{"body":{"events":{"release":[{"kind":"gaussian","noiseMultiplier":4}],"server":[{"kind":"gaussian","noiseMultiplier":5}]},"purpose":"train","round":1,"sid":"${sid(1)}","threshold":3},"kind":"reserve","previous":"${head}","sequence":1,"v":1}`;
    const { paths, spent } = spentLedger([open, charge], nodeCrypto);
    expect(paths).toEqual([
      { path: 'unnamed', spent },
      { path: 'personal', spent: { server: 0, release: 0 } },
    ]);
    expect(spent.server).toBe(rdpAccountant().compose(gaussian(5)).epsilon(DELTA));
  });
});

describe('paths of sessions', () => {
  const base = scenarioConfig('digits', { seed: 1, steps: 2, targetEpsilon: 1e6, participants: 6 });
  const whole = scenarioConfig('digits', {
    seed: 1,
    steps: 2,
    targetEpsilon: 1e6,
    participants: 6,
    unit: 'participant',
  });
  const adaptiveClip = { quantile: 0.5, learningRate: 0.2, countNoise: 5 };
  const logistic = { inputs: 64, hidden: [], classes: 10 };
  const openClusters = {
    ...(base.clusters as NonNullable<RunConfig['clusters']>),
    open: [
      ['org-1', 'org-2', 'org-3'],
      ['org-4', 'org-5', 'org-6'],
    ],
    foundingSlots: 0,
    seatPositions: 0,
    kept: 2,
    choiceSteps: [],
  };
  const cohort = { ...base.cohort, minSurvivors: 3, minOrgs: 3, colluders: 0, minCluster: 0 };
  const cases: readonly (readonly [string, unknown, readonly (readonly string[])[]])[] = [
    ['one shared model', { ...base, clusters: null }, [['body', 'slots']]],
    ['founding and hidden slots', base, [[], ['body', 'slots'], ['selection']]],
    ['a model without shared layers', { ...base, model: logistic, clusters: null }, [['slots']]],
    [
      'clusters in the open',
      { ...base, model: { ...base.model, sharedLayers: 0 }, clusters: openClusters, cohort },
      [['cluster-0'], ['cluster-1']],
    ],
    [
      'an adaptive clip',
      { ...whole, clusters: null, training: { ...whole.training, adaptiveClip } },
      [['body', 'slots', 'clip-count']],
    ],
    [
      'sums of the algorithm',
      { ...whole, clusters: null, algorithm: { id: 'q-fedavg' } },
      [['body', 'slots', 'extra']],
    ],
    [
      'accuracies',
      { ...base, clusters: null, metrics: { every: 1, bins: 5, noiseStddev: 60 } },
      [['body', 'slots'], ['metrics']],
    ],
    [
      'label counts',
      { ...base, clusters: null, algorithm: { id: 'fedrod', labels: { noiseStddev: 60 } } },
      [['labels'], ['body', 'slots']],
    ],
  ];

  it.each(cases)('are the same for who charges and who audits: %s', (_, given, expected) => {
    const config = parseRunConfig(given);
    const plan = planRun(config);
    const { roster } = simulatedRoster(nodeCrypto, 6);
    const facts = { runId: '11'.repeat(16), config, plan, roster };
    const found = new Set<string>();
    for (const session of plan.schedule) {
      const slots = sessionSlots(config, session);
      const heads = Array.from({ length: slots }, () => new Float32Array(0));
      const models = { body: new Float32Array(0), heads, extra: [] };
      const clip = plan.countUnits > 0 ? { clip: [] } : {};
      const params = orderParams(nodeCrypto, facts, { session, models, ...clip }, { round: 1, attempt: 0 });
      const paths = sessionPaths(config, plan, session, slots);
      expect(derivePaths(session.kind, params)).toEqual(paths);
      found.add(paths.join());
    }
    expect([...found].sort()).toEqual(expected.map((paths) => paths.join()).sort());
  });
});

describe('paths in an audit', () => {
  it('are shown for each view, the personal part as zero, and agree with the spent budgets', async () => {
    const bundle = createBundle({ metrics: true });
    const report = await verifyBundle(bundle.reader, nodeCrypto);
    expect(report.failure).toBeNull();
    const line = report.proved.find((text) => text.startsWith('epsilon by path, server view')) ?? '';
    const shown = [...line.matchAll(/([a-z]+) (\d+(?:\.\d+)?)/g)].map(([, path, epsilon]) => [path, Number(epsilon)]);
    expect(shown.map(([path]) => path)).toEqual(['body', 'slots', 'selection', 'metrics', 'personal']);
    const { rows } = spentBudgets(utf8(`${bundle.lines.join('\n')}\n`), nodeCrypto);
    for (const [path, epsilon] of shown) {
      const spent = rows.map(({ paths }) => paths.find((row) => row.path === path)?.spent.server ?? Number.NaN);
      expect(Math.max(...spent)).toBeCloseTo(epsilon as number, 3);
    }
    expect(Object.fromEntries(shown)['personal']).toBe(0);
    const page = new TextDecoder().decode(bundle.files.get('report.html'));
    expect(page).toContain('Each part of the releases');
    expect(page).toContain('<code>personal</code>');
  });

  it('may be missing in logs of earlier versions, but not be others than those of the layout', async () => {
    expect((await verifyBundle(createBundle({ paths: null }).reader, nodeCrypto)).ok).toBe(true);
    const wrong = await verifyBundle(createBundle({ paths: ['selection'] }).reader, nodeCrypto);
    expect(wrong.failure).toMatchObject({ class: 'noise' });
    expect(wrong.failure?.message).toContain('"paths" expected');
  });
});
