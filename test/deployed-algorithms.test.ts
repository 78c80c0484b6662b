import { describe, expect, it } from 'vitest';
import { chargeStream } from '../clients/core/charge-book.ts';
import { openMemory } from '../clients/core/memory.ts';
import { createNode, type FederationNode, type NodeOptions, type NodeProgress } from '../clients/core/node.ts';
import { createMemoryStore } from '../platform/memory/store.ts';
import { systemClock } from '../platform/node/clock.ts';
import { nodeCrypto, nodeRandom } from '../platform/node/crypto.ts';
import { fromUtf8, toHex } from '../protocol/bytes.ts';
import { type Coordinator, createCoordinator } from '../server/coordinator/run.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createRandom } from '../src/data/random.ts';
import type { LocalVectors, ReleasedModels } from '../src/learning/algorithm.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { createOracleTrainer } from '../src/learning/oracle-trainer.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { personalModel } from '../src/run/home.ts';
import { NEW_MEMBER } from '../src/run/member.ts';
import { planRun } from '../src/run/plan.ts';
import { initialState } from '../src/run/release.ts';
import { buildRoster } from '../src/run/roster.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { COORDINATOR, createIdentity, type Identity } from './support/transport.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
const MEMBERS = 4;
const now = (): string => '2030-01-01T00:00:00.000Z';
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

function configFor(algorithm: RunConfig['algorithm'], unit: 'record' | 'participant' = 'participant'): RunConfig {
  const base = scenarioConfig('digits', { seed: 5, steps: 3, targetEpsilon: 1e9, participants: MEMBERS, unit });
  const local = unit === 'record' ? null : { epochs: 1, batches: 6, batchSize: 16, stepSize: 0.05 };
  return parseRunConfig({
    ...base,
    model: { inputs: 64, hidden: [12], classes: 10 },
    training: { ...base.training, local },
    clusters: null,
    algorithm,
    personal: { ...base.personal, method: 'none', epochs: 1 },
  });
}

interface Deployed {
  readonly models: ReleasedModels;
  /** What each node keeps, read anew from its store. */
  readonly locals: readonly LocalVectors[];
  readonly finished: readonly NodeProgress[];
  /** Epsilons that nodes charged, in the order they said so. */
  readonly charged: readonly number[];
  /** Signed charges of each node, read anew from its store. */
  readonly told: readonly (readonly { readonly purpose: string; readonly assurance?: string }[])[];
}

/** A coordinator and its nodes in this process: the code of a deployment without sockets and files. */
async function deploy(config: RunConfig, openTrainer?: NodeOptions['openTrainer']): Promise<Deployed> {
  const identities = Array.from({ length: MEMBERS }, (_, i) => createIdentity(i + 1));
  const roster = buildRoster(
    nodeCrypto,
    1,
    identities.map(({ publicKey }, i) => ({ organization: `org-${i}`, publicKey })),
  );
  const nodes = new Map<string, FederationNode>();
  const stores = identities.map(() => createMemoryStore());
  const finished: NodeProgress[] = [];
  const charged: number[] = [];
  const fail = (error: unknown): void => {
    throw error;
  };
  const coordinator: Coordinator = await createCoordinator({
    config,
    runId: RUN_ID,
    roster,
    identity: COORDINATOR,
    crypto: nodeCrypto,
    store: createMemoryStore(),
    peers: {
      connected: () => identities.map(({ id }) => id),
      async send(id, bytes) {
        nodes.get(toHex(id))?.onMessage(bytes.slice());
        return true;
      },
    },
    now,
    onProgress: () => undefined,
    onError: fail,
    graceMs: 60_000,
    joinMs: 60_000,
    gatherMs: 60_000,
  });
  identities.forEach((identity: Identity, i) => {
    const { train, test } = generateDigits(5, i);
    const node = createNode({
      identity,
      federation: { coordinatorKey: COORDINATOR.publicKey, roster },
      policy: POLICY,
      data: train,
      test,
      createOracle: createDenseOracle,
      // One site trains with a program of its own, if any does.
      openTrainer: i === 1 ? openTrainer : undefined,
      crypto: nodeCrypto,
      random: nodeRandom,
      store: stores[i] as ReturnType<typeof createMemoryStore>,
      send: (bytes) => coordinator.onMessage(identity.id, bytes.slice()),
      now,
      onProgress: async (progress) => {
        if (progress.event === 'finished') finished.push(progress);
        if (progress.event === 'charged') charged.push(progress.epsilon);
      },
      onError: fail,
    });
    nodes.set(toHex(identity.id), node);
  });
  for (const { id } of identities) coordinator.onOpen(id, false);
  await coordinator.run();
  await Promise.all([...nodes.values()].map((node) => node.finished));
  const locals = await Promise.all(stores.map(async (store) => (await openMemory(store, RUN_ID)).local()));
  const told = await Promise.all(
    stores.map(async (store) =>
      (await store.read(chargeStream(RUN_ID))).map(({ payload }) => JSON.parse(fromUtf8(payload)).body),
    ),
  );
  return { models: coordinator.models(), locals, finished, charged, told };
}

describe('algorithms in a deployment', () => {
  it('SCAFFOLD: the control variate of the coordinator is the mean of those that the nodes keep', async () => {
    const { models, locals } = await deploy(configFor({ id: 'scaffold' }));
    const [body] = models.extra as [Float32Array];
    const mean = (i: number): number =>
      locals.reduce((sum, { controlBody }) => sum + (controlBody?.[i] ?? 0), 0) / MEMBERS;
    const normOf = (values: Iterable<number>): number => Math.hypot(...values);
    // A little noise is all that is between them.
    const apart = normOf(body.map((value, i) => value - mean(i)));
    expect(apart / normOf(body)).toBeLessThan(0.1);
    expect(apart).toBeGreaterThan(0);
  });

  it('Ditto: the personal model survives in the store and is what a node ends with', async () => {
    const config = configFor({ id: 'ditto' });
    const { models, locals, finished } = await deploy(config);
    expect(finished.length).toBe(MEMBERS);
    const oracle = createDenseOracle(config.model);
    locals.forEach((local, i) => {
      const inputs = { oracle, data: generateDigits(5, i).train, local };
      const personal = personalModel(config, models, NEW_MEMBER, inputs, createRandom(1));
      expect(personal.body).toEqual(local['body']);
      expect(personal.body).not.toEqual(Float64Array.from(models.body));
    });
    expect(new Set(locals.map(({ body }) => body?.join())).size).toBe(MEMBERS);
  });

  it('FedRep at unit record: heads and bodies learn from gradients that carry noise, and every node charges them', async () => {
    const base = scenarioConfig('digits', {
      seed: 5,
      steps: 2,
      targetEpsilon: 6,
      participants: MEMBERS,
      algorithm: { id: 'fedrep' },
      localNoise: { clippingNorm: 1 },
    });
    const config = parseRunConfig({ ...base, personal: { ...base.personal, method: 'none', epochs: 1 } });
    const plan = planRun(config);
    expect(plan.local?.queries).toBe(24);
    const { charged, finished, locals, models } = await deploy(config);
    expect(finished.length).toBe(MEMBERS);
    expect(locals.every(({ head }) => head?.some((value) => value !== 0) === true)).toBe(true);
    expect(models.body).not.toEqual(initialState(config).models.body);
    // One share is all there is: the plan's worst case is what is paid.
    for (const epsilon of charged.slice(-MEMBERS)) expect(epsilon).toBeGreaterThan(5.9);
    expect(Math.max(...charged)).toBeLessThanOrEqual(6);
  });

  it('FedRoD at unit record: the counts of all labels are released first and end in what every node has', async () => {
    const config = configFor({ id: 'fedrod', labels: { noiseStddev: 2 } }, 'record');
    const { models, locals, finished } = await deploy(config);
    const [counts] = models.extra as [Float32Array];
    const labels = locals.flatMap((_, i) => [...generateDigits(5, i).train.labels]);
    counts.forEach((count, label) => {
      const exact = labels.filter((own) => own === label).length;
      // Four shares of deviation 1.5 to 2.
      expect(Math.abs(count - exact)).toBeLessThan(6 * 4);
    });
    expect(Math.max(...counts)).toBeGreaterThan(6 * 4);
    expect(locals.every(({ head }) => head?.some((value) => value !== 0))).toBe(true);
    for (const progress of finished)
      if (progress.event === 'finished') expect(progress.models.extra).toEqual(models.extra);
  });

  it('says in every charge of a training step that a program of the site is to be trusted', async () => {
    const config = configFor({ id: 'fedavg' }, 'record');
    const { monotonicMs } = systemClock;
    const { finished, told } = await deploy(config, async (model) => {
      const options = { crypto: nodeCrypto, featureLength: model.inputs, classes: model.classes, monotonicMs };
      const trainer = createOracleTrainer(createDenseOracle(model), options);
      return {
        trainer: { ...trainer, assurance: 'trusted trainer' },
        timeLimitMs: 20_000,
        monotonicMs,
        onFailure: (error) => expect.unreachable(error.message),
      };
    });
    expect(finished.length).toBe(MEMBERS);
    told.forEach((charges, i) => {
      expect(charges.length).toBeGreaterThan(2);
      for (const { assurance, purpose } of charges)
        expect(assurance).toBe(i === 1 && purpose === 'train' ? 'trusted trainer' : undefined);
    });
  });
});
