import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chargeStream } from '../clients/core/charge-book.ts';
import { createNode, type FederationNode } from '../clients/core/node.ts';
import type { SitePolicy } from '../clients/core/policy.ts';
import { createMemoryStore } from '../platform/memory/store.ts';
import { nodeCrypto, nodeRandom } from '../platform/node/crypto.ts';
import { listFiles } from '../platform/node/list-files.ts';
import { openTranscriptFolder, verifyTranscriptFile } from '../platform/node/transcript-file.ts';
import { fromBase64, fromUtf8, toHex } from '../protocol/bytes.ts';
import { openFrame } from '../protocol/frame.ts';
import { decodeParams } from '../protocol/params.ts';
import { wordsToBytes } from '../protocol/ring.ts';
import type { SessionParams } from '../protocol/session.ts';
import type { RunProgress } from '../server/coordinator/progress.ts';
import { type Coordinator, createCoordinator } from '../server/coordinator/run.ts';
import { exportRun } from '../server/export.ts';
import { canonicalJson } from '../src/audit/canonical-json.ts';
import { logOrigin } from '../src/audit/checkpoint.ts';
import { reportFacts } from '../src/audit/facts.ts';
import { verifyBundle } from '../src/audit/index.ts';
import { renderReport } from '../src/audit/report.ts';
import { signNote } from '../src/audit/signed-note.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { planRun } from '../src/run/plan.ts';
import { buildRoster } from '../src/run/roster.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { COORDINATOR, createIdentity } from './support/transport.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
const TOLERANCE = 2;
/** Members that are lost between their shares and their uploads, and before their last reply, in a training step. */
interface Lost {
  readonly uploads: readonly number[];
  readonly replies: readonly number[];
}
interface Scenario {
  readonly config: RunConfig;
  readonly lost: readonly Lost[];
}
const now = (): string => '2030-01-01T00:00:00.000Z';
const planned = (participants: number, steps: number): RunConfig =>
  scenarioConfig('digits', {
    seed: 5,
    steps,
    targetEpsilon: 12,
    participants,
    mechanism: 'skellam',
    xnoise: { tolerance: TOLERANCE },
  });
const wide = planned(12, 3);
const SCENARIOS: Readonly<Record<SessionParams['profile'], Scenario>> = {
  strict: {
    config: planned(8, 4),
    lost: [
      { uploads: [], replies: [] },
      { uploads: [3], replies: [] },
      { uploads: [0, 5], replies: [] },
      { uploads: [2], replies: [6] },
    ],
  },
  // Shares among neighbours: no more colluders and losses than a graph of twelve bears.
  sparse: {
    config: parseRunConfig({
      ...wide,
      cohort: { ...wide.cohort, profile: 'sparse', minSurvivors: 9, minOrgs: 9, colluders: 1 },
    }),
    lost: [
      { uploads: [3], replies: [7] },
      { uploads: [0, 5], replies: [] },
      // One more than the noise is made for, though not more than the graph bears: the last step releases nothing.
      { uploads: [0, 5, 8], replies: [] },
    ],
  },
};
const policyFor = ({ cohort }: RunConfig): SitePolicy => ({
  maxEpsilon: 12,
  maxDelta: 1e-5,
  minCohort: cohort.minSurvivors,
  minOrgs: cohort.minOrgs,
  colluders: 1,
  minCluster: 0,
  minNoiseMultiplier: 0,
  openClusters: false,
  maxClippingNorm: 1,
  sparse: cohort.profile === 'sparse',
});

let base = '';
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'covey-xnoise-'));
});
afterAll(() => rm(base, { recursive: true, force: true }));

/** Fields of log entries that are looked at here. */
interface LogBody {
  readonly sid: string;
  readonly kind: string;
  readonly params: string;
  readonly u2: number;
  readonly survivors: number;
  readonly events: { readonly server: readonly { readonly event: { readonly variance: string | number } }[] };
}

interface Deployed {
  readonly coordinator: Coordinator;
  readonly roster: ReturnType<typeof buildRoster>;
  readonly stores: ReadonlyMap<string, ReturnType<typeof createMemoryStore>>;
  readonly progress: readonly RunProgress[];
}

/** Coordinator and nodes in this process; connections break where the scenario says so and come back after the release. */
async function deploy({ config, lost }: Scenario): Promise<Deployed> {
  const { profile, participants } = config.cohort;
  const identities = Array.from({ length: participants }, (_, i) => createIdentity(i + 1));
  const organizations = identities.map(({ publicKey }, i) => ({ organization: `org-${i}`, publicKey }));
  const roster = buildRoster(nodeCrypto, 1, organizations);
  const nodes = new Map<string, FederationNode>();
  const stores = new Map(identities.map(({ id }) => [toHex(id), createMemoryStore()]));
  const away = new Set<number>();
  const progress: RunProgress[] = [];
  let step = -1;
  const fail = (error: unknown): void => {
    throw error;
  };
  const coordinator = await createCoordinator({
    config,
    runId: RUN_ID,
    roster,
    identity: COORDINATOR,
    crypto: nodeCrypto,
    store: createMemoryStore(),
    transcripts: openTranscriptFolder(join(base, profile, 'transcripts')),
    peers: {
      connected: () => identities.filter((_, i) => !away.has(i)).map(({ id }) => id),
      async send(id, bytes) {
        nodes.get(toHex(id))?.onMessage(bytes.slice());
        return true;
      },
    },
    now,
    onProgress(event) {
      progress.push(event);
      if (event.event === 'phase') step = event.kind === 'train' ? event.step : -1;
      if (event.event !== 'release') return;
      step = -1;
      const back = [...away];
      away.clear();
      for (const i of back) coordinator.onOpen(identities[i]?.id as Uint8Array, false);
    },
    onError: fail,
    graceMs: 0,
    joinMs: 60_000,
    gatherMs: 60_000,
  });
  const breaks = (i: number, type: string): boolean => {
    const { uploads = [], replies = [] } = lost[step] ?? {};
    return (type === 'p3' && uploads.includes(i)) || (type === 'p5' && replies.includes(i));
  };
  identities.forEach((identity, i) => {
    const { train, test } = generateDigits(5, i);
    const node = createNode({
      identity,
      federation: { coordinatorKey: COORDINATOR.publicKey, roster },
      policy: policyFor(config),
      data: train,
      test,
      createOracle: createDenseOracle,
      crypto: nodeCrypto,
      random: nodeRandom,
      store: stores.get(toHex(identity.id)) as ReturnType<typeof createMemoryStore>,
      async send(bytes) {
        if (!away.has(i) && breaks(i, String(openFrame(bytes).header['t']))) {
          away.add(i);
          coordinator.onClose(identity.id);
        }
        if (!away.has(i)) await coordinator.onMessage(identity.id, bytes.slice());
      },
      now,
      onProgress: async () => undefined,
      onError: fail,
    });
    nodes.set(toHex(identity.id), node);
  });
  for (const { id } of identities) coordinator.onOpen(id, false);
  await coordinator.run();
  await Promise.all([...nodes.values()].map((node) => node.finished));
  return { coordinator, roster, stores, progress };
}

/** The bundle of the run in a folder, as an operator puts it together. */
async function bundleOf({ config }: Scenario, { coordinator, stores, progress }: Deployed): Promise<string> {
  const folder = join(base, config.cohort.profile, 'bundle');
  await exportRun(folder, nodeCrypto, COORDINATOR, config, coordinator.journal(), coordinator.models());
  const finished = progress.find((event) => event.event === 'finished');
  const epsilons = finished?.epsilons ?? {};
  const worst = (view: 'server' | 'release'): number => Math.max(...Object.values(epsilons).map((e) => e[view]));
  const results = {
    claims: {
      server: { epsilon: worst('server'), delta: 1e-5 },
      release: { epsilon: worst('release'), delta: 1e-5 },
      perParticipant: epsilons,
    },
    table: [],
    accuracyOverRounds: [],
    lost: [],
    clusters: [],
    note: 'dropouts',
  };
  await writeFile(join(folder, 'results.json'), `${canonicalJson(results)}\n`);
  const log = await readFile(join(folder, 'log.jsonl'), 'utf8');
  await writeFile(join(folder, 'report.html'), renderReport(reportFacts(log, results, nodeCrypto)));
  await mkdir(join(folder, 'ledgers'));
  for (const [id, store] of stores) {
    const lines = (await store.read(chargeStream(RUN_ID))).map(({ payload }) => `${fromUtf8(payload)}\n`);
    await writeFile(join(folder, 'ledgers', `${id}.jsonl`), lines.join(''));
  }
  const hashes: Record<string, string> = {};
  for (const path of await listFiles(folder))
    hashes[path] = toHex(nodeCrypto.sha256(new Uint8Array(await readFile(join(folder, path)))));
  const manifest = `${canonicalJson({ files: hashes })}\n`;
  await writeFile(join(folder, 'manifest.json'), manifest);
  const key = { name: logOrigin(config.federation, RUN_ID), publicKey: COORDINATOR.publicKey };
  await writeFile(join(folder, 'manifest.note'), signNote(manifest, key, COORDINATOR.secretSeed, nodeCrypto));
  return folder;
}

describe('a run with dropout-exact noise and members that are lost', () => {
  it.each(['strict', 'sparse'] as const)(
    'charges one total of noise whoever survives, and is derived again by the audit and from transcripts (%s)',
    async (profile) => {
      const scenario = SCENARIOS[profile];
      const { config, lost } = scenario;
      const deployed = await deploy(scenario);
      const { roster, coordinator } = deployed;
      const bundle = await bundleOf(scenario, deployed);
      const log = (await readFile(join(bundle, 'log.jsonl'), 'utf8'))
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { type: string; body: LogBody });
      const of = (type: string, sid: string) =>
        log.find((entry) => entry.type === type && entry.body.sid === sid)?.body;
      const { shareVariance } = planRun(config);
      const { colluders, minSurvivors, participants } = config.cohort;
      const opened = log.filter(({ type, body }) => type === 'round.open' && body.kind === 'train');
      // Nothing was tried twice.
      expect(opened.length).toBe(lost.length);
      opened.forEach(({ body }, step) => {
        const params = decodeParams(fromBase64(body.params));
        expect(params.noise).toEqual({ mechanism: 'skellam', shareVariance, tolerance: TOLERANCE });
        expect(params.profile).toBe(profile);
        const { uploads = [] } = lost[step] ?? {};
        const total = minSurvivors * shareVariance;
        const isOver = uploads.length > TOLERANCE;
        expect(of('round.abort', body.sid) !== undefined).toBe(isOver);
        if (isOver) {
          // Nothing was asked for or opened; what members reserved for the fewest survivors stays with them.
          for (const type of ['charge.reserve', 'round.release']) expect(of(type, body.sid)).toBeUndefined();
          const own = log.filter((entry) => entry.type === 'client.charge' && entry.body.sid === body.sid);
          expect(own.map((entry) => entry.body.kind)).toEqual(Array(participants).fill('reserve'));
          return;
        }
        const survivors = participants - uploads.length;
        const release = of('round.release', body.sid);
        expect([release?.u2, release?.survivors]).toEqual([participants, survivors]);
        const variance = Number(of('charge.reserve', body.sid)?.events.server[0]?.event.variance);
        expect(variance / ((total * (survivors - colluders)) / survivors)).toBeCloseTo(1, 12);
      });

      const report = await verifyBundle(
        { list: () => listFiles(bundle), read: async (path) => new Uint8Array(await readFile(join(bundle, path))) },
        nodeCrypto,
        { pinnedCoordinatorKey: COORDINATOR.publicKey },
      );
      expect(report.failure).toBeNull();

      const sums = new Map(
        coordinator
          .journal()
          .releases()
          .map(({ sid, sum }) => [toHex(sid), sum]),
      );
      const files = await readdir(join(base, profile, 'transcripts'));
      let trained = 0;
      for (const file of files.filter((name) => name.endsWith('.transcript'))) {
        const path = join(base, profile, 'transcripts', file);
        const verified = await verifyTranscriptFile(path, nodeCrypto, roster, COORDINATOR.publicKey);
        expect(wordsToBytes(verified.sum)).toEqual(wordsToBytes(sums.get(toHex(verified.sid)) as Uint32Array));
        if (verified.params.noise.tolerance !== undefined) trained += 1;
      }
      expect(trained).toBe(lost.filter(({ uploads }) => uploads.length <= TOLERANCE).length);
    },
  );
});
