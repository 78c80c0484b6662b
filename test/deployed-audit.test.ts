import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { listFiles } from '../platform/node/list-files.ts';
import { utf8 } from '../protocol/bytes.ts';
import { writeBundle } from '../server/bundle.ts';
import { exportRun } from '../server/export.ts';
import { verifyBundle } from '../src/audit/index.ts';
import { resultsOfLog } from '../src/audit/log-results.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { federationToJson } from '../src/run/roster.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { deploy, OPEN_POLICY } from './support/deployment.ts';
import { COORDINATOR } from './support/transport.ts';

/* Coordinator, nodes and audit have their own code for every kind of run: what the first two charge, the last must accept. */

const MEMBERS = 6;
const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
const POLICIES = Array.from({ length: MEMBERS }, () => ({
  ...OPEN_POLICY,
  openClusters: true,
  maxClippingNorm: 2 ** 16,
}));

const record = scenarioConfig('digits', { seed: 5, steps: 2, targetEpsilon: 1e5, participants: MEMBERS });
const whole = scenarioConfig('digits', {
  seed: 5,
  steps: 2,
  targetEpsilon: 1e5,
  participants: MEMBERS,
  unit: 'participant',
});
const model = { inputs: 64, hidden: [6], classes: 10 };
const personal = { ...record.personal, method: 'none' } as const;
const plain = { ...record, model, personal, clusters: null };
const slots = {
  ...(record.clusters as NonNullable<RunConfig['clusters']>),
  foundingSlots: 0,
  seatPositions: 0,
  kept: 2,
  choiceSteps: [],
};
const open = [
  ['org-1', 'org-2', 'org-3'],
  ['org-4', 'org-5', 'org-6'],
];
const few = { ...record.cohort, minSurvivors: 3, minOrgs: 3, colluders: 0 };

const RUNS: readonly (readonly [string, unknown])[] = [
  ['founding, choices and accuracies', { ...record, model, metrics: { every: 1, bins: 4, noiseStddev: 3 } }],
  ['label counts', { ...plain, algorithm: { id: 'fedrod', labels: { noiseStddev: 6 } } }],
  ['float-bounded terms', { ...plain, privacy: { ...record.privacy, terms: 'float-bounded' } }],
  [
    'noise inside the organizations',
    scenarioConfig('digits', {
      seed: 5,
      steps: 2,
      targetEpsilon: 1e5,
      participants: MEMBERS,
      algorithm: { id: 'fedrep' },
      localNoise: { clippingNorm: 1 },
      model,
    }),
  ],
  ['records that fill slots', { ...plain, clusters: { ...slots, assignment: 'soft' }, algorithm: { id: 'fedsoft' } }],
  [
    'several slots of a member',
    {
      ...plain,
      clusters: { ...slots, assignment: 'several', filled: 2, kept: 3, choiceSteps: [0] },
      algorithm: { id: 'flsc' },
    },
  ],
  [
    'clusters in the open',
    { ...plain, model: { ...model, sharedLayers: 0 }, clusters: { ...slots, open }, cohort: few },
  ],
  ['independent groups', { ...plain, cohort: { ...few, groups: 2 } }],
  [
    'an adaptive clip and Skellam noise',
    {
      ...whole,
      model,
      personal,
      clusters: null,
      training: { ...whole.training, adaptiveClip: { quantile: 0.5, learningRate: 0.2, countNoise: 1 } },
      privacy: { ...whole.privacy, mechanism: 'skellam' },
    },
  ],
];

describe('the bundle of a deployed run', () => {
  let base: string;
  beforeAll(async () => {
    base = await mkdtemp(join(tmpdir(), 'covey-deployed-audit-'));
  });
  afterAll(() => rm(base, { recursive: true }));

  it.each(RUNS)('verifies: %s', async (name, given) => {
    const config = parseRunConfig(given);
    const { coordinator, lines, roster } = await deploy({ config, runId: RUN_ID, policies: POLICIES });
    const [exported, folder] = [join(base, name, 'run'), join(base, name, 'bundle')];
    await exportRun(exported, nodeCrypto, COORDINATOR, config, coordinator.journal(), coordinator.models());
    const federation = join(base, name, 'federation.json');
    await writeFile(federation, JSON.stringify(federationToJson({ coordinatorKey: COORDINATOR.publicKey, roster })));
    const log = utf8(lines.map((line) => `${line}\n`).join(''));
    const results = resultsOfLog(log, nodeCrypto);
    await writeBundle({ exported, federation, identity: COORDINATOR, ledgers: new Map(), out: folder, results });
    const { failure } = await verifyBundle(
      { list: () => listFiles(folder), read: async (path) => new Uint8Array(await readFile(join(folder, path))) },
      nodeCrypto,
      { pinnedCoordinatorKey: COORDINATOR.publicKey },
    );
    expect(failure).toBeNull();
  });
});
