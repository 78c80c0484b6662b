import { createNode, type FederationNode, type NodeOptions, type NodeProgress } from '../../clients/core/node.ts';
import type { SitePolicy } from '../../clients/core/policy.ts';
import { createMemoryStore } from '../../platform/memory/store.ts';
import { nodeCrypto, nodeRandom } from '../../platform/node/crypto.ts';
import { toHex } from '../../protocol/bytes.ts';
import type { Roster } from '../../protocol/session.ts';
import type { RunProgress } from '../../server/coordinator/progress.ts';
import { type Coordinator, createCoordinator } from '../../server/coordinator/run.ts';
import { generateDigits } from '../../src/data/digits.ts';
import { createDenseOracle } from '../../src/learning/dense-oracle.ts';
import type { RunConfig } from '../../src/run/config.ts';
import type { StartingWeights } from '../../src/run/layout.ts';
import { buildRoster } from '../../src/run/roster.ts';
import type { Store } from '../../src/run/store.ts';
import { COORDINATOR, createIdentity } from './transport.ts';

export const OPEN_POLICY: SitePolicy = {
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

export interface DeploymentOptions {
  readonly config: RunConfig;
  readonly runId: string;
  /** By member. */
  readonly policies: readonly SitePolicy[];
  readonly stores?: readonly Store[];
  readonly coordinatorStore?: Store;
  /** Seed of everybody's data. */
  readonly dataSeed?: number;
  readonly now?: () => string;
  /** Weights that the configuration names. */
  readonly start?: StartingWeights;
  /** Changes what a member receives. */
  tamper?(member: number, bytes: Uint8Array): Uint8Array;
  /** A member that refuses a session hangs up, so that nobody waits for it. */
  readonly hangsUp?: boolean;
  /** What a member sends, before anybody gets it. */
  onSend?(member: number, bytes: Uint8Array): void;
  readonly heads?: readonly NonNullable<Parameters<typeof createNode>[0]['datasetHeads']>[];
  /** How long to wait for the rest once enough members are there; a minute if left out. */
  readonly joinMs?: number;
  /** By member; the plain oracle if left out. */
  createOracle?(member: number): NodeOptions['createOracle'];
  /** The node of a member dies at an error: its connection is gone, the others go on. Thrown if left out. */
  onNodeError?(member: number, error: unknown): void;
  onCoordinator?(progress: RunProgress): void;
}

export interface Deployment {
  readonly coordinator: Coordinator;
  readonly ids: readonly string[];
  readonly roster: Roster;
  readonly stores: readonly Store[];
  readonly log: readonly { readonly type: string; readonly actor: string; readonly body: Record<string, unknown> }[];
  readonly lines: readonly string[];
  readonly progress: readonly RunProgress[];
  /** By member. */
  readonly nodeProgress: readonly (readonly NodeProgress[])[];
}

/** A coordinator and its nodes in this process: the code of a deployment without sockets and files. */
export async function deploy(options: DeploymentOptions): Promise<Deployment> {
  const { config, policies, runId } = options;
  const { now = () => '2030-01-01T00:00:00.000Z' } = options;
  const identities = policies.map((_, i) => createIdentity(i + 1));
  const roster = buildRoster(
    nodeCrypto,
    1,
    identities.map(({ publicKey }, i) => ({ organization: `org-${i + 1}`, publicKey })),
  );
  const fail = (error: unknown): void => {
    throw error;
  };
  const stores = options.stores ?? policies.map(() => createMemoryStore());
  const nodes = new Map<string, FederationNode>();
  const dead = new Set<string>();
  const progress: RunProgress[] = [];
  const nodeProgress: NodeProgress[][] = policies.map(() => []);
  const { tamper = (_, bytes) => bytes } = options;
  const coordinator = await createCoordinator({
    config,
    start: options.start,
    runId,
    roster,
    identity: COORDINATOR,
    crypto: nodeCrypto,
    store: options.coordinatorStore ?? createMemoryStore(),
    peers: {
      connected: () => identities.map(({ id }) => id).filter((id) => !dead.has(toHex(id))),
      async send(id, bytes) {
        const member = identities.findIndex((identity) => toHex(identity.id) === toHex(id));
        if (!dead.has(toHex(id))) nodes.get(toHex(id))?.onMessage(tamper(member, bytes.slice()));
        return true;
      },
    },
    now,
    onProgress(event) {
      progress.push(event);
      options.onCoordinator?.(event);
    },
    onError: fail,
    graceMs: options.onNodeError === undefined && options.hangsUp !== true ? 60_000 : 1,
    joinMs: options.joinMs ?? 60_000,
    gatherMs: 60_000,
  });
  identities.forEach((identity, i) => {
    const { train, test } = generateDigits(options.dataSeed ?? 5, i);
    const node = createNode({
      identity,
      federation: { coordinatorKey: COORDINATOR.publicKey, roster },
      policy: policies[i] as SitePolicy,
      data: train,
      test,
      createOracle: options.createOracle?.(i) ?? createDenseOracle,
      crypto: nodeCrypto,
      random: nodeRandom,
      store: stores[i] as Store,
      datasetHeads: options.heads?.[i],
      async send(bytes) {
        if (dead.has(toHex(identity.id))) return;
        options.onSend?.(i, bytes);
        await coordinator.onMessage(identity.id, bytes.slice());
      },
      now,
      async onProgress(event) {
        nodeProgress[i]?.push(event);
        if (event.event !== 'aborted' || options.hangsUp !== true) return;
        dead.add(toHex(identity.id));
        coordinator.onClose(identity.id);
      },
      onError(error) {
        if (options.onNodeError === undefined) fail(error);
        if (dead.has(toHex(identity.id))) return;
        dead.add(toHex(identity.id));
        options.onNodeError?.(i, error);
        coordinator.onClose(identity.id);
      },
    });
    nodes.set(toHex(identity.id), node);
  });
  for (const { id } of identities) coordinator.onOpen(id, false);
  await coordinator.run();
  await Promise.all([...nodes].flatMap(([id, node]) => (dead.has(id) ? [] : [node.finished])));
  const lines = coordinator.journal().lines();
  return {
    coordinator,
    ids: identities.map(({ id }) => toHex(id)),
    roster,
    stores,
    log: lines.map((line) => JSON.parse(line) as Deployment['log'][number]),
    lines,
    progress,
    nodeProgress,
  };
}
