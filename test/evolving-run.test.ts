import { beforeAll, describe, expect, it } from 'vitest';
import { chargeStream } from '../clients/core/charge-book.ts';
import { openMemory } from '../clients/core/memory.ts';
import { createNode, type FederationNode } from '../clients/core/node.ts';
import { type InProcessResult, runInProcess } from '../experiments/in-process.ts';
import { realSum } from '../experiments/real-sum.ts';
import { createMemoryStore } from '../platform/memory/store.ts';
import { nodeCrypto, nodeRandom } from '../platform/node/crypto.ts';
import { fromUtf8, toHex, utf8 } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { idealSum, type SecureSum } from '../protocol/ideal.ts';
import { decodeParams } from '../protocol/params.ts';
import { bytesToWords, wordsToBytes } from '../protocol/ring.ts';
import type { SessionParams } from '../protocol/session.ts';
import type { RunProgress } from '../server/coordinator/progress.ts';
import { type Coordinator, createCoordinator } from '../server/coordinator/run.ts';
import { canonicalJson } from '../src/audit/canonical-json.ts';
import { checkpointOf, logOrigin, signCheckpoint } from '../src/audit/checkpoint.ts';
import { checkEvolution } from '../src/audit/evolution.ts';
import { reportFacts } from '../src/audit/facts.ts';
import { readLog } from '../src/audit/read-log.ts';
import { type RunHistory, replayLog, type SessionHistory } from '../src/audit/replay.ts';
import { renderReport } from '../src/audit/report.ts';
import { signNote } from '../src/audit/signed-note.ts';
import { verifyBundle } from '../src/audit/verifier.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { encodeRunMessage } from '../src/run/messages.ts';
import { planRun } from '../src/run/plan.ts';
import { applyRelease, initialState, sumCoordinates } from '../src/run/release.ts';
import { modelsHash } from '../src/run/released.ts';
import { buildRoster } from '../src/run/roster.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { readerOf } from './support/bundle.ts';
import { repeatable } from './support/repeatable.ts';
import { COORDINATOR, createIdentity } from './support/transport.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
const MODEL = { inputs: 64, hidden: [12], classes: 10 };

function configOf(unit: RunConfig['privacy']['unit'], participants: number): RunConfig {
  const base = scenarioConfig('digits', { seed: 5, steps: 6, targetEpsilon: 1_000, participants, unit });
  const { local } = base.training;
  return parseRunConfig({
    ...base,
    model: MODEL,
    training: { ...base.training, ...(local === null ? {} : { local: { ...local, epochs: 2 } }) },
    clusters: {
      assignment: 'evolving',
      foundingSlots: 0,
      seatPositions: 0,
      kept: 1,
      choiceSteps: [1, 4],
      choiceEpsilon: 5,
      lossBound: 2,
      countNoiseStddev: 0.2,
      evolving: { most: 4, probeSteps: 2, perturbation: 1, minGap: 0.001, minMembers: 1, gapNoiseStddev: 0.2 },
    },
    algorithm: { id: 'evolving' },
    personal: { ...base.personal, method: 'none', epochs: 1 },
  });
}

interface Released {
  readonly params: SessionParams;
  readonly sum: Uint32Array;
  readonly survivors: number;
}

function run(config: RunConfig, secureSum: SecureSum, released: Released[] = []): InProcessResult {
  const oracle = createDenseOracle(config.model);
  return runInProcess({
    config,
    runId: RUN_ID,
    crypto: nodeCrypto,
    random: repeatable(11),
    organizations: Array.from({ length: 6 }, (_, i) => ({ data: generateDigits(5, i).train, oracle })),
    // One member is away for a choice and the gaps behind it.
    isPresent: (organization, step) => organization !== 2 || step > 2,
    secureSum,
    onRelease: (params, sum, survivors) => released.push({ params, sum: sum.slice(), survivors }),
  });
}

describe.each(['participant', 'record'] as const)('a run with evolving clusters at unit %s', (unit) => {
  const config = configOf(unit, 6);

  it('releases the same bits through the real protocol, and its state follows from them alone', () => {
    const [real, ideal]: [Released[], Released[]] = [[], []];
    const through = run(config, realSum(6), real);
    const { state, members } = run(config, idealSum, ideal);
    expect(real.map(({ sum }) => sum)).toEqual(ideal.map(({ sum }) => sum));
    expect(toHex(modelsHash(nodeCrypto, through.state.models))).toBe(toHex(modelsHash(nodeCrypto, state.models)));
    expect(through.members).toEqual(members);
    const plan = planRun(config);
    let replayed = initialState(config);
    for (const { params, sum, survivors } of ideal)
      replayed = applyRelease(nodeCrypto, config, plan, replayed, params, sum, survivors);
    expect(replayed).toEqual(state);
    const slots = ideal.map(({ params }) => params.slots);
    // One slot, then two halves, which stay apart: four in the second probe.
    expect(slots.slice(0, 5)).toEqual([1, 2, 2, 2, 2]);
    expect(state.probes.length).toBe(4);
    expect(slots[5]).toBeGreaterThanOrEqual(1);
    expect(Math.max(...slots)).toBeLessThanOrEqual(4);
  });
});

const POLICY = {
  maxEpsilon: 1e9,
  maxDelta: 1e-5,
  minCohort: 3,
  minOrgs: 3,
  colluders: 0,
  minCluster: 0,
  minNoiseMultiplier: 0,
  openClusters: false,
  maxClippingNorm: 1,
  sparse: false,
};

/** A coordinator and four nodes in this process, and the bundle that an auditor would get of them. */
async function deploy(config: RunConfig) {
  const identities = Array.from({ length: 4 }, (_, i) => createIdentity(i + 1));
  const roster = buildRoster(
    nodeCrypto,
    1,
    identities.map(({ publicKey }, i) => ({ organization: `org-${i}`, publicKey })),
  );
  const nodes = new Map<string, FederationNode>();
  const stores = identities.map(() => createMemoryStore());
  const released: Extract<RunProgress, { event: 'release' }>[] = [];
  const censuses: Uint8Array[] = [];
  let epsilons: Readonly<Record<string, { server: number; release: number }>> = {};
  const fail = (error: unknown): void => {
    throw error;
  };
  const coordinatorStore = createMemoryStore();
  const options = {
    config,
    runId: RUN_ID,
    roster,
    identity: COORDINATOR,
    crypto: nodeCrypto,
    store: coordinatorStore,
    peers: {
      connected: () => identities.map(({ id }) => id),
      async send(id: Uint8Array, bytes: Uint8Array) {
        if (fromUtf8(bytes.subarray(0, 200).map((byte) => byte & 0x7f)).includes('run/census'))
          censuses.push(bytes.slice());
        nodes.get(toHex(id))?.onMessage(bytes.slice());
        return true;
      },
    },
    now: () => '2030-01-01T00:00:00.000Z',
    onProgress(progress: RunProgress) {
      if (progress.event === 'release') released.push(progress);
      if (progress.event === 'finished') epsilons = progress.epsilons;
    },
    onError: fail,
    graceMs: 60_000,
    joinMs: 60_000,
    gatherMs: 60_000,
  };
  const coordinator: Coordinator = await createCoordinator(options);
  identities.forEach((identity, i) => {
    const { train, test } = generateDigits(5, i);
    const node = createNode({
      identity,
      federation: { coordinatorKey: COORDINATOR.publicKey, roster },
      policy: POLICY,
      data: train,
      test,
      createOracle: createDenseOracle,
      crypto: nodeCrypto,
      random: nodeRandom,
      store: stores[i] as ReturnType<typeof createMemoryStore>,
      send: (bytes) => coordinator.onMessage(identity.id, bytes.slice()),
      now: options.now,
      onProgress: async () => undefined,
      onError: fail,
    });
    nodes.set(toHex(identity.id), node);
  });
  for (const { id } of identities) coordinator.onOpen(id, false);
  await coordinator.run();
  await Promise.all([...nodes.values()].map((node) => node.finished));
  const memories = await Promise.all(stores.map((store) => openMemory(store, RUN_ID)));
  const journal = coordinator.journal();
  const log = journal
    .lines()
    .map((line) => `${line}\n`)
    .join('');
  const origin = logOrigin(config.federation, RUN_ID);
  const key = { name: origin, publicKey: COORDINATOR.publicKey };
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
    note: 'evolving clusters',
  };
  const ledgers = await Promise.all(stores.map((store) => store.read(chargeStream(RUN_ID))));
  const files = new Map<string, Uint8Array>([
    ['config.json', utf8(`${canonicalJson(config)}\n`)],
    ['log.jsonl', utf8(log)],
    [
      'checkpoint',
      utf8(
        signCheckpoint(
          checkpointOf(origin, journal.lines().map(utf8), nodeCrypto),
          key,
          COORDINATOR.secretSeed,
          nodeCrypto,
        ),
      ),
    ],
    ['results.json', utf8(`${canonicalJson(results)}\n`)],
    ['report.html', utf8(renderReport(reportFacts(log, results, nodeCrypto)))],
    ...journal.releases().map(({ sid, sum }) => [`sums/${toHex(sid)}.bin`, wordsToBytes(sum)] as const),
    ...ledgers.map((entries, i) => {
      const lines = entries.map(({ payload }) => `${fromUtf8(payload)}\n`).join('');
      return [`ledgers/${toHex((identities[i] as { id: Uint8Array }).id)}.jsonl`, utf8(lines)] as const;
    }),
  ]);
  const hashes = Object.fromEntries([...files].map(([path, bytes]) => [path, toHex(nodeCrypto.sha256(bytes))]));
  const manifest = `${canonicalJson({ files: hashes })}\n`;
  files.set('manifest.json', utf8(manifest));
  files.set('manifest.note', utf8(signNote(manifest, key, COORDINATOR.secretSeed, nodeCrypto)));
  return { censuses, coordinator, files, log, memories, nodes, options, released, stores };
}

describe.each(['participant', 'record'] as const)('evolving clusters in a deployment at unit %s', (unit) => {
  const config = configOf(unit, 4);
  let deployed: Awaited<ReturnType<typeof deploy>>;
  let history: RunHistory;
  beforeAll(async () => {
    deployed = await deploy(config);
    history = replayLog(readLog(utf8(deployed.log), nodeCrypto), nodeCrypto);
  }, 60_000);

  const sumOf = ({ sid, params }: Pick<SessionHistory, 'sid' | 'params'>): Int32Array =>
    sumCoordinates(params, bytesToWords(deployed.files.get(`sums/${sid}.bin`) as Uint8Array));
  const judge = (sessions: readonly SessionHistory[], sums = sumOf): string => {
    try {
      checkEvolution(history.open, sessions, sums);
      return 'follows';
    } catch (error) {
      return isCoveyError(error, 'AUDIT_FAILED') ? (error as Error).message : 'other';
    }
  };
  /** The sessions with one of them changed. */
  const changed = (at: number, change: (session: SessionHistory) => Partial<SessionHistory>): SessionHistory[] =>
    history.sessions.map((session, i) => (i === at ? { ...session, ...change(session) } : session));
  const first = (kind: string): number => history.sessions.findIndex((session) => session.kind === kind);

  it('gives a bundle that verifies, with every probe in the log', async () => {
    const report = await verifyBundle(readerOf(deployed.files), nodeCrypto);
    expect(report.failure).toBeNull();
    expect(deployed.log.match(/"type":"cluster.probe"/g)?.length).toBe(2);
    expect(deployed.released.filter(({ kind }) => kind === 'gaps').map(({ step }) => step)).toEqual([2, 5]);
    expect(deployed.released.filter(({ kind }) => kind === 'gaps').every(({ counts }) => counts !== null)).toBe(true);
    expect(fromUtf8(deployed.files.get('report.html') as Uint8Array)).toContain('slots after the probes');
  });

  it('leaves the same history of probes at every node', () => {
    const [memory, ...others] = deployed.memories;
    expect(memory?.probes().length).toBe(4);
    for (const other of others) expect(other.probes()).toEqual(memory?.probes());
  });

  it('goes on from a stored journal: the same models, no entry twice', async () => {
    const again = await createCoordinator(deployed.options);
    expect(toHex(modelsHash(nodeCrypto, again.models()))).toBe(
      toHex(modelsHash(nodeCrypto, deployed.coordinator.models())),
    );
    expect(again.journal().lines()).toEqual(deployed.coordinator.journal().lines());
  });

  it('does not pass the audit with slots, probes or decisions that do not follow', () => {
    expect(judge(history.sessions)).toBe('follows');
    const gaps = first('gaps');
    const more = (session: SessionHistory): Partial<SessionHistory> => ({
      params: { ...session.params, slots: session.params.slots + 1 },
    });
    for (const kind of ['choice', 'train', 'gaps'])
      expect(judge(changed(first(kind), more))).toMatch(/"slots" expected \d from the released probes, got \d/);
    // A probe that is left out, told at another step, or in the wrong turn.
    expect(judge(history.sessions.filter((_, i) => i !== gaps))).toMatch(
      /step 3 was opened after 1 releases of probes/,
    );
    const later = (session: SessionHistory): Partial<SessionHistory> => ({
      opened: { ...session.opened, body: { ...session.opened.body, step: session.opened.body.step + 1 } },
    });
    expect(judge(changed(first('choice'), later))).toMatch(/choice after step 2 is not the next release of a probe/);
    expect(judge(history.sessions.filter((_, i) => i !== first('choice')))).toMatch(/opened after 0 releases/);
    const probe = history.sessions[gaps]?.probe as NonNullable<SessionHistory['probe']>;
    const told = (body: Partial<typeof probe.body>): string =>
      judge(changed(gaps, () => ({ probe: { ...probe, body: { ...probe.body, ...body } } })));
    expect(told({ slots: probe.body.slots + 1 })).toMatch(/"slots" expected \d after the probe/);
    expect(told({ retired: [...probe.body.retired, 1] })).toMatch(/"retired" expected/);
    expect(told({ trials: probe.body.trials.map((trial) => ({ ...trial, stays: !trial.stays })) })).toMatch(
      /"trials" expected .* from the released sum/,
    );
    // Sums that lead elsewhere: halves without a gap are one slot again.
    const flat = (session: Pick<SessionHistory, 'sid' | 'params'>): Int32Array =>
      session.params.layout[0]?.segment === 'gaps' ? sumOf(session).fill(0, 0, session.params.slots) : sumOf(session);
    expect(judge(history.sessions, flat)).toMatch(/expected/);
  });

  it('gets no other history past a node than the one it was told', async () => {
    const errors: unknown[] = [];
    const store = createMemoryStore();
    const identity = createIdentity(1);
    const { train, test } = generateDigits(5, 0);
    const node = createNode({
      ...{ identity, policy: POLICY, data: train, test, createOracle: createDenseOracle, crypto: nodeCrypto },
      federation: { coordinatorKey: COORDINATOR.publicKey, roster: deployed.options.roster },
      random: nodeRandom,
      store,
      send: async () => undefined,
      now: deployed.options.now,
      onProgress: async () => undefined,
      onError: (error) => errors.push(error),
    });
    const tell = (bytes: Uint8Array): void => node.onMessage(bytes.slice());
    for (const line of deployed.coordinator.journal().lines().slice(0, 2))
      tell(encodeRunMessage({ type: 'run/log', payload: utf8(line) }));
    const transcripts = deployed.coordinator
      .journal()
      .releases()
      .filter(({ transcript }) => transcript.length > 0)
      .map(({ transcript }) => encodeRunMessage({ type: 'run/census', payload: transcript }));
    expect(transcripts.length).toBe(4);
    const [choice, gaps] = transcripts as [Uint8Array, Uint8Array];
    // Out of turn, in turn, and once more.
    for (const message of [gaps, choice, gaps, choice, gaps]) tell(message);
    await expect.poll(() => errors.length).toBe(1);
    expect(isCoveyError(errors[0], 'PRIVACY_POLICY')).toBe(true);
    expect((errors[0] as Error).message).toMatch(/"probes" expected release 0 next, got release 1/);
    await expect.poll(async () => (await openMemory(store, RUN_ID)).probes().length).toBe(2);
  });

  it('says in its parameters what a probe is', () => {
    const session = history.sessions[first('gaps')] as SessionHistory;
    const { layout, purpose, slots } = decodeParams(
      Uint8Array.from(atob(session.opened.body.params), (c) => c.charCodeAt(0)),
    );
    expect([layout, purpose]).toEqual([[{ segment: 'gaps', length: 2 * slots }], 'census']);
  });
});
