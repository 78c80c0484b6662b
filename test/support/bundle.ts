import { nodeCrypto } from '../../platform/node/crypto.ts';
import {
  compareBytes,
  concatBytes,
  fromUtf8,
  hashParts,
  toBase64,
  toHex,
  u8,
  u32le,
  utf8,
} from '../../protocol/bytes.ts';
import { LABELS } from '../../protocol/labels.ts';
import { coordinateCount, encodeParams, nodeId, rosterHash, sessionId } from '../../protocol/params.ts';
import { packLanes, wordsToBytes } from '../../protocol/ring.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { canonicalJson, type JsonObject } from '../../src/audit/canonical-json.ts';
import { checkpointOf, logOrigin, signCheckpoint } from '../../src/audit/checkpoint.ts';
import { type EntryType, entryHash, signEntry } from '../../src/audit/entries.ts';
import { reportFacts } from '../../src/audit/facts.ts';
import { renderReport } from '../../src/audit/report.ts';
import type { RunResults } from '../../src/audit/results.ts';
import { signNote } from '../../src/audit/signed-note.ts';
import type { BundleReader } from '../../src/audit/verifier.ts';
import { rdpAccountant } from '../../src/privacy/accountant.ts';
import { createDiscreteGaussian } from '../../src/privacy/discrete-gaussian.ts';
import { eventToJson } from '../../src/privacy/event-json.ts';
import type { DpEvent } from '../../src/privacy/events.ts';
import { createSkellam } from '../../src/privacy/skellam.ts';

/*
 * A small federation log with real keys and signatures: a seat lottery, a choice, training steps, an attempt that was
 * given up before any upload, a lost member. Built by hand from the documents, without the machines that run.
 */

const crypto = nodeCrypto;
const seedOf = (name: string): Uint8Array => hashParts(crypto, utf8('bundle'), utf8(name));

export const FEDERATION = 'test federation';
export const RUN = '00112233445566778899aabbccddeeff';
const SHARE_VARIANCE = 4_000_000;
const SCALE = 1_024;
const COUNT_SCALE = 16;

export interface Node {
  readonly id: string;
  readonly publicKey: Uint8Array;
  readonly seed: Uint8Array;
  readonly organization: string;
}

function createNode(name: string): Node {
  const seed = seedOf(name);
  const publicKey = crypto.ed25519PublicKey(seed);
  return { id: toHex(nodeId(crypto, publicKey)), publicKey, seed, organization: name };
}

/** One entry before it is signed. */
export interface EntrySpec {
  readonly actor: Node;
  readonly type: EntryType;
  readonly body: Record<string, unknown>;
}

/** Law of noise that the configuration announces (by leaving it out: discrete Gaussian) and that sessions use. */
export interface BundleNoise {
  readonly announced?: 'discrete-gaussian' | 'skellam';
  readonly used: 'discrete-gaussian' | 'skellam';
  /** Most losses that the configuration, and the parameters of training steps, say noise is exact for. */
  readonly tolerance?: { readonly announced?: number; readonly used?: number };
}

/** What a test may change before the bundle is signed. */
export interface BundleChanges {
  readonly noise?: BundleNoise;
  readonly cohort?: Readonly<Record<string, number>>;
  /** Adds accuracies after steps 2 and 4. */
  readonly metrics?: boolean;
  /** Clusters that the configuration announces in place of two hidden slots. */
  readonly clusters?: JsonObject;
  /** Announces that units are persons. */
  readonly perPerson?: boolean;
  /**
   * Sums of records that are rounded once: what the configuration and the parameters of training steps say; the right
   * sensitivity in charges and plan unless another one is given.
   */
  readonly floatTerms?: {
    readonly announced?: boolean;
    readonly used?: boolean;
    readonly charged?: number;
    readonly planned?: number;
    /** Most records of a sum that the configuration names; 100 if left out. */
    readonly records?: number;
  };
  /** Noise inside the organizations, in this many gradients a step. */
  readonly localQueries?: number;
  /** Paths that charges name; those of the session if left out, none at all (as earlier versions wrote) if null. */
  readonly paths?: readonly string[] | null;
  /** Adds label counts before everything else. */
  readonly labels?: boolean;
  readonly specs?: (specs: EntrySpec[], world: BundleWorld) => EntrySpec[];
  readonly lines?: (lines: string[], world: BundleWorld) => string[];
  readonly sums?: (sums: Map<string, Uint8Array>) => void;
  readonly results?: (results: RunResults) => RunResults;
  readonly ledgers?: (ledgers: Map<string, string[]>, world: BundleWorld) => void;
  readonly files?: (files: Map<string, Uint8Array>) => void;
}

export interface BundleWorld {
  readonly coordinator: Node;
  readonly members: readonly Node[];
}

export interface TestBundle extends BundleWorld {
  readonly files: Map<string, Uint8Array>;
  readonly lines: readonly string[];
  readonly reader: BundleReader;
}

const configOf = ({
  announced,
  tolerance,
  cohort,
}: BundleNoise & { readonly cohort?: BundleChanges['cohort'] | undefined }): JsonObject => ({
  federation: FEDERATION,
  training: { steps: 4, samplingProbability: 0.5 },
  clusters: { kept: 2 },
  ...(announced === undefined && tolerance?.announced === undefined
    ? {}
    : {
        privacy: {
          ...(announced === undefined ? {} : { mechanism: announced }),
          ...(tolerance?.announced === undefined ? {} : { xnoise: { tolerance: tolerance.announced } }),
        },
      }),
  ...(cohort === undefined ? {} : { cohort }),
});
const PLAN = {
  unit: 'record',
  relation: 'add-remove',
  delta: '0.00001',
  targetEpsilon: '8',
  noiseMultiplier: String(Math.sqrt(2 * SHARE_VARIANCE) / SCALE),
  shareVariance: String(SHARE_VARIANCE),
  sensitivity: String(SCALE),
  samplingProbability: '0.5',
  rounds: 4,
  minSurvivors: 3,
  colluders: 1,
  choices: 1,
  choiceEpsilon: '0.5',
} as const;
/** A histogram of accuracies every second step. */
const METRICS = { every: 2, bins: 5, noiseStddev: 4 };
const METRICS_SCALE = 16;
const METRICS_SHARE_VARIANCE = 2_048;
const LABELLED = { model: { classes: 5 }, algorithm: { id: 'fedrod', labels: { noiseStddev: 4 } } };
const LABELS_SHARE_VARIANCE = 8;
const KINDS = ['seats', 'choice', 'train', 'metrics', 'labels'] as const;
type Kind = (typeof KINDS)[number];

interface SessionSpec {
  readonly kind: Kind;
  readonly step: number;
  readonly round: number;
  readonly attempt: number;
  readonly slots: number;
  readonly survivors: number;
  readonly aborted?: boolean;
}

const SESSIONS: readonly SessionSpec[] = [
  { kind: 'seats', step: 0, round: 1, attempt: 0, slots: 4, survivors: 4 },
  { kind: 'train', step: 0, round: 2, attempt: 0, slots: 4, survivors: 4, aborted: true },
  { kind: 'train', step: 0, round: 2, attempt: 1, slots: 4, survivors: 4 },
  { kind: 'choice', step: 1, round: 3, attempt: 0, slots: 4, survivors: 4 },
  { kind: 'train', step: 1, round: 4, attempt: 0, slots: 2, survivors: 4 },
  { kind: 'train', step: 2, round: 5, attempt: 0, slots: 2, survivors: 3 },
  { kind: 'train', step: 3, round: 6, attempt: 0, slots: 2, survivors: 3 },
];

const METRICS_SESSIONS: readonly SessionSpec[] = SESSIONS.flatMap((spec): SessionSpec[] =>
  spec.kind === 'train' && spec.step % 2 === 1 ? [spec, { ...spec, kind: 'metrics', round: spec.round + 10 }] : [spec],
)
  // Rounds grow from session to session.
  .map((spec, i) => ({ ...spec, round: i < 3 ? spec.round : i }));

/** Training whose every gradient carries one organization's noise: two layers of 4-3-2, hence 23 parameters. */
const LOCAL = {
  training: { steps: 4, samplingProbability: 0.5, local: { epochs: 1, batches: 5, batchSize: 8, stepSize: 0.1 } },
  model: { inputs: 4, hidden: [3], classes: 2 },
  encoding: { scale: SCALE, lanes: 2 },
  privacy: { localNoise: { clippingNorm: 1 } },
};
const LOCAL_DIMENSION = 23;
const LABELS_SESSIONS: readonly SessionSpec[] = [
  { kind: 'labels', step: 0, round: 1, attempt: 0, slots: 4, survivors: 4 },
  ...SESSIONS.map((spec) => ({ ...spec, round: spec.round + 1 })),
];

interface Run {
  readonly floatTerms: BundleChanges['floatTerms'];
  readonly localQueries: number | undefined;
  readonly config: JsonObject;
  readonly noise: BundleNoise;
  readonly sessions: readonly SessionSpec[];
  readonly paths: readonly string[] | null | undefined;
}

function runOf({
  labels = false,
  metrics = false,
  noise = { used: 'discrete-gaussian' },
  cohort,
  floatTerms,
  localQueries,
  paths,
  perPerson,
  clusters,
}: BundleChanges): Run {
  const config = {
    ...configOf({ ...noise, cohort }),
    ...(localQueries === undefined ? {} : LOCAL),
    ...(perPerson === undefined ? {} : { privacy: { perPerson } }),
    ...(floatTerms?.announced === true
      ? {
          privacy: { terms: 'float-bounded' },
          training: { steps: 4, samplingProbability: 0.5, maxRecordsPerStep: floatTerms.records ?? 100 },
        }
      : {}),
    ...(clusters === undefined ? {} : { clusters }),
  };
  if (labels)
    return { floatTerms, localQueries, noise, config: { ...config, ...LABELLED }, sessions: LABELS_SESSIONS, paths };
  return metrics
    ? { floatTerms, localQueries, noise, config: { ...config, metrics: METRICS }, sessions: METRICS_SESSIONS, paths }
    : { floatTerms, localQueries, noise, config, sessions: SESSIONS, paths };
}

function paramsOf(
  spec: SessionSpec,
  { config, floatTerms, localQueries, noise }: Run,
  roster: Uint8Array,
): SessionParams {
  const { kind, slots, round, attempt, step } = spec;
  const task = hashParts(crypto, utf8(LABELS.runConfig), utf8(canonicalJson(config)));
  const heads = Array.from({ length: slots }, (_, i) => ({ segment: `slot-${i}`, length: 32 }));
  return {
    protocol: 'covey/1',
    runId: RUN,
    round,
    purpose: kind === 'train' || kind === 'metrics' ? kind : 'census',
    attempt,
    groupId: 'all',
    mode: 'hybrid',
    slots,
    layout:
      kind === 'train'
        ? [{ segment: 'body', length: 128 }, ...heads]
        : kind === 'metrics' || kind === 'labels'
          ? [{ segment: kind, length: 5 }]
          : [{ segment: kind === 'seats' ? 'seats' : 'counts', length: kind === 'seats' ? 64 : slots }],
    modelHash: seedOf(`model ${round}`),
    taskHash: hashParts(crypto, utf8(LABELS.task), task, concatBytes(u8(KINDS.indexOf(kind)), u32le(step))),
    rosterHash: roster,
    rosterVersion: 1,
    ring: { lanes: 2, bits: 32 },
    encoding: {
      clippingNorm: 1,
      scale: kind === 'train' ? SCALE : kind === 'choice' ? COUNT_SCALE : kind === 'metrics' ? METRICS_SCALE : 1,
      rotationSeed: seedOf('rotation'),
      rounding: kind !== 'train' ? 'none' : floatTerms?.used === true ? 'float-bounded' : 'toward-zero',
    },
    noise: {
      mechanism: kind === 'seats' || (kind === 'train' && localQueries !== undefined) ? 'none' : noise.used,
      shareVariance: {
        seats: 0,
        choice: 64,
        train: localQueries === undefined ? SHARE_VARIANCE : 0,
        metrics: METRICS_SHARE_VARIANCE,
        labels: LABELS_SHARE_VARIANCE,
      }[kind],
      ...(kind === 'train' && noise.tolerance?.used !== undefined ? { tolerance: noise.tolerance.used } : {}),
    },
    minSurvivors: 3,
    minOrgs: 3,
    colluders: 1,
    dropoutFraction: 0.25,
    maxLoss: 1,
    profile: 'strict',
    deadlineMs: 30_000,
  };
}

const PATHS = {
  labels: ['labels'],
  seats: [],
  choice: ['selection'],
  train: ['body', 'slots'],
  metrics: ['metrics'],
} as const;

/** Three survivors carry three shares; where noise is exact so do four. */
const shareOf = ({ noise }: SessionParams, survivors: number): number =>
  noise.tolerance === undefined ? noise.shareVariance : (3 * noise.shareVariance) / survivors;

/** Clip times scale, a bound on floats, the rounding of a body of 128 and slots of 32 coordinates: at most four slots. */
const floatSensitivity = (coordinates: number): number => SCALE * (1 + 2 ** -30) + Math.sqrt(coordinates);
const FLOAT_PLANNED = floatSensitivity(128 + 4 * 32);

function planOf({ floatTerms, localQueries }: Run): Record<string, unknown> {
  if (localQueries !== undefined) return { ...PLAN, noiseMultiplier: String(Math.sqrt(SHARE_VARIANCE) / SCALE) };
  const sensitivity = floatTerms?.planned ?? (floatTerms?.used === true ? FLOAT_PLANNED : SCALE);
  const noiseMultiplier = String(Math.sqrt(2 * SHARE_VARIANCE) / sensitivity);
  return { ...PLAN, noiseMultiplier, sensitivity: String(sensitivity) };
}

function trainingSensitivity(terms: BundleChanges['floatTerms'], params: SessionParams): number {
  return terms?.charged ?? (terms?.used === true ? floatSensitivity(coordinateCount(params)) : SCALE);
}

function eventsOf(
  spec: SessionSpec,
  params: SessionParams,
  survivors: number,
  { floatTerms, localQueries }: Run,
): DpEvent[] {
  if (spec.kind === 'seats') return [];
  if (spec.kind === 'choice') return [{ kind: 'exponentialMechanism', epsilon: 0.5, monotone: true }];
  const common = {
    sensitivity:
      spec.kind === 'metrics'
        ? METRICS_SCALE * Math.SQRT2
        : spec.kind === 'labels'
          ? 1
          : trainingSensitivity(floatTerms, params),
    dimension: coordinateCount(params),
    symmetric: true,
  };
  if (spec.kind === 'train' && localQueries !== undefined) {
    const own = { shares: 1, shareVariance: SHARE_VARIANCE, ...common, dimension: LOCAL_DIMENSION };
    const gradient = { kind: 'poissonSampled', probability: 0.5, event: { kind: 'discreteGaussian', ...own } } as const;
    return [{ kind: 'selfComposed', count: localQueries, event: gradient }];
  }
  const { mechanism } = params.noise;
  const shareVariance = shareOf(params, survivors);
  // One colludes.
  const shares = survivors - 1;
  const event: DpEvent =
    mechanism === 'skellam'
      ? { kind: 'skellam', variance: shares * shareVariance, ...common }
      : { kind: 'discreteGaussian', shares, shareVariance, ...common };
  if (spec.kind === 'metrics' || spec.kind === 'labels') return [event];
  return [{ kind: 'poissonSampled', probability: 0.5, event }];
}

function sumOf(spec: SessionSpec, params: SessionParams): Int32Array {
  const sum = new Int32Array(coordinateCount(params));
  if (spec.kind === 'seats') for (let i = 0; i < spec.survivors; i++) sum[7 * i + 2] = 1;
  if (spec.kind === 'choice') sum.set([2 * COUNT_SCALE, 0, 2 * COUNT_SCALE, 0]);
  if (spec.kind === 'metrics')
    for (let i = 0; i < spec.survivors; i++)
      sum[2 + (i % 3)] = METRICS_SCALE * Math.ceil((spec.survivors - (i % 3)) / 3);
  const stream = crypto.aes256Ctr(seedOf(`noise ${spec.round}`));
  const create = params.noise.mechanism === 'skellam' ? createSkellam : createDiscreteGaussian;
  if (params.noise.shareVariance > 0)
    for (let i = 0; i < spec.survivors; i++) create(shareOf(params, spec.survivors)).add(sum, stream);
  return sum;
}

/** Gives the sums the numbers of their sessions in the log, in the order of their releases. */
export function renameSums(files: Map<string, Uint8Array>): void {
  const released = fromUtf8(files.get('log.jsonl') as Uint8Array)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; body: { sid: string } })
    .filter(({ type }) => type === 'round.release');
  const sums = [...files].filter(([path]) => path.startsWith('sums/'));
  if (released.length !== sums.length) return;
  for (const [path] of sums) files.delete(path);
  sums.forEach(([, bytes], i) => {
    files.set(`sums/${released[i]?.body.sid}.bin`, bytes);
  });
}

function createWorld(): BundleWorld {
  const members = ['org-a', 'org-b', 'org-c', 'org-d'].map(createNode).sort((a, b) => (a.id < b.id ? -1 : 1));
  return { coordinator: createNode('coordinator'), members };
}

/** Entries of the whole run, in the order of the log, and the released sums. */
function describeRun(
  world: BundleWorld,
  run: Run,
): {
  specs: EntrySpec[];
  sums: Map<string, Uint8Array>;
  charged: Map<string, { server: DpEvent[]; release: DpEvent[] }>;
} {
  const { coordinator, members } = world;
  const entries = members.map(({ id, publicKey, organization }) => ({
    id: Uint8Array.from(id.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16)),
    publicKey,
    organization,
  }));
  const roster = rosterHash(crypto, {
    version: 1,
    entries: entries.sort((a, b) => compareBytes(a.id, b.id)),
    revoked: [],
  });
  const specs: EntrySpec[] = [];
  const sums = new Map<string, Uint8Array>();
  const heads = new Map(
    members.map((member) => [
      member.id,
      hashParts(
        crypto,
        utf8(LABELS.ledgerEntry),
        utf8(RUN),
        entries.find((e) => toHex(e.id) === member.id)?.id ?? u8(0),
      ),
    ]),
  );
  const charged = new Map(members.map(({ id }) => [id, { server: [] as DpEvent[], release: [] as DpEvent[] }]));
  const say = (type: EntryType, body: Record<string, unknown>): void =>
    void specs.push({ actor: coordinator, type, body });
  say('genesis', {
    coordinatorKey: toHex(coordinator.publicKey),
    rosterHash: toHex(roster),
    rosterVersion: 1,
    members: members.map(({ id, publicKey, organization }) => ({ id, publicKey: toHex(publicKey), organization })),
  });
  say('run.open', {
    config: run.config,
    taskHash: toHex(hashParts(crypto, utf8(LABELS.runConfig), utf8(canonicalJson(run.config)))),
    plan: planOf(run),
  });
  for (const spec of run.sessions) {
    const params = paramsOf(spec, run, roster);
    const { round, attempt, kind, step, slots } = spec;
    const { purpose } = params;
    const sid = toHex(sessionId(crypto, params));
    const h3 = toHex(seedOf(`h3 ${round}`));
    say('round.open', {
      sid,
      round,
      purpose,
      attempt,
      kind,
      step,
      slots,
      params: toBase64(encodeParams(params)),
      invited: 4,
    });
    if (spec.aborted === true) {
      say('round.abort', {
        sid,
        round,
        phase: 'share-keys',
        code: 'ROUND_COMPLAINT',
        reason: 'a ciphertext did not open',
        uploadBegun: false,
        excluded: [],
      });
      continue;
    }
    const paths = run.paths === undefined ? PATHS[kind] : run.paths;
    const named = paths === null ? {} : { paths };
    const survivors = members.slice(0, spec.survivors);
    const chargeOwn = (member: Node, chargeKind: 'reserve' | 'settle', count: number): void => {
      const events = eventsOf(spec, params, count, run).map(eventToJson);
      const head = hashParts(
        crypto,
        utf8(LABELS.ledgerEntry),
        heads.get(member.id) ?? u8(0),
        utf8(sid),
        utf8(chargeKind),
        utf8(canonicalJson(events)),
        ...(paths === null ? [] : [utf8(canonicalJson(paths))]),
      );
      heads.set(member.id, head);
      specs.push({
        actor: member,
        type: 'client.charge',
        body: { sid, round, purpose, kind: chargeKind, survivors: count, events, ...named, ledgerHead: toHex(head) },
      });
    };
    for (const member of survivors) chargeOwn(member, 'reserve', 3);
    const events = eventsOf(spec, params, spec.survivors, run);
    say('charge.reserve', {
      sid,
      h3,
      round,
      purpose,
      survivors: survivors.map(({ id }) => id),
      colluders: 1,
      events: { server: events.map(eventToJson), release: events.map(eventToJson) },
      ...named,
    });
    for (const { id } of survivors) {
      charged.get(id)?.server.push(...events);
      charged.get(id)?.release.push(...events);
    }
    say('round.unmask', { sid, h3, requests: spec.survivors });
    for (const member of survivors) chargeOwn(member, 'settle', spec.survivors);
    const bytes = wordsToBytes(packLanes(sumOf(spec, params), 2));
    sums.set(sid, bytes);
    say('round.release', {
      sid,
      h3,
      sumHash: toHex(crypto.sha256(bytes)),
      survivors: spec.survivors,
      u1: 4,
      u2: 4,
      threshold: 3,
      modelHash: toHex(seedOf(`after ${round}`)),
      uploadBytes: 2_048,
    });
    if (kind === 'metrics') {
      const histogram = [...sumOf(spec, params)].map((value) => String(value / METRICS_SCALE));
      say('metrics.histogram', { sid, step, histogram });
    }
    if (kind === 'choice') {
      const counts = [...sumOf(spec, params)].map((value) => value / COUNT_SCALE);
      const kept = counts
        .map((count, slot) => ({ count, slot }))
        .sort((a, b) => b.count - a.count)
        .slice(0, 2)
        .map(({ slot }) => slot)
        .sort();
      say('cluster.census', { sid, counts: counts.map(String), open: [0, 1] });
      say('cluster.assign', { step, kept });
    }
  }
  return { specs, sums, charged };
}

function resultsOf(
  world: BundleWorld,
  charged: ReadonlyMap<string, { server: DpEvent[]; release: DpEvent[] }>,
): RunResults {
  const epsilonOf = (events: readonly DpEvent[]): number =>
    events.reduce((accountant, event) => accountant.compose(event), rdpAccountant()).epsilon(1e-5);
  const perParticipant = Object.fromEntries(
    world.members.map(({ id }) => [
      id,
      { server: epsilonOf(charged.get(id)?.server ?? []), release: epsilonOf(charged.get(id)?.release ?? []) },
    ]),
  );
  const worst = (view: 'server' | 'release'): number =>
    Math.max(...Object.values(perParticipant).map((claim) => claim[view]));
  const row = { epsilonServer: worst('server'), epsilonRelease: worst('release'), bytesUp: 12_288 };
  return {
    claims: {
      server: { epsilon: worst('server'), delta: 1e-5 },
      release: { epsilon: worst('release'), delta: 1e-5 },
      perParticipant,
    },
    table: [
      {
        name: 'Local only',
        mean: 0.77,
        worst: 0.61,
        epsilonServer: null,
        epsilonRelease: null,
        bytesUp: null,
        simulated: true,
      },
      {
        name: 'Global FedAvg',
        mean: 0.72,
        worst: 0.6,
        epsilonServer: 6.4,
        epsilonRelease: 6.4,
        bytesUp: null,
        simulated: true,
      },
      { name: 'Clustered', mean: 0.81, worst: 0.72, simulated: false, ...row },
      { name: 'Clustered + personal', mean: 0.84, worst: 0.75, simulated: false, ...row },
    ],
    accuracyOverRounds: [
      { round: 2, mean: 0.31, worst: 0.2 },
      { round: 4, mean: 0.52, worst: 0.41 },
      { round: 6, mean: 0.81, worst: 0.72 },
    ],
    lost: [{ organization: world.members[3]?.organization ?? '', round: 5, phase: 'masked-input' }],
    clusters: [
      { slot: 0, noisyCount: 2.1, line: 'one noisy sum a round; who trained it stays hidden' },
      { slot: 1, noisyCount: 1.9, line: 'one noisy sum a round; who trained it stays hidden' },
    ],
    note: 'Accuracies are computed on each organization’s own test records.',
  };
}

function signAll(specs: readonly EntrySpec[]): string[] {
  const heads = new Map<string, { seq: number; hash: string }>();
  return specs.map(({ actor, type, body }, i) => {
    const { seq, hash } = heads.get(actor.id) ?? { seq: 0, hash: '' };
    const time = new Date(Date.UTC(2025, 0, 2, 3, 4, 5) + 250 * i).toISOString();
    const line = signEntry(
      { type, federation: FEDERATION, run: RUN, seq, time, actor: actor.id, body, prevByActor: hash },
      actor.seed,
      crypto,
    );
    heads.set(actor.id, { seq: seq + 1, hash: entryHash(crypto, line) });
    return line;
  });
}

/** Signs the manifest over what is in `files`. */
export function sealFiles(files: Map<string, Uint8Array>, coordinator: Node): void {
  files.delete('manifest.json');
  files.delete('manifest.note');
  const hashes = Object.fromEntries([...files].map(([path, bytes]) => [path, toHex(crypto.sha256(bytes))]));
  const manifest = `${canonicalJson({ files: hashes })}\n`;
  files.set('manifest.json', utf8(manifest));
  files.set(
    'manifest.note',
    utf8(
      signNote(
        manifest,
        { name: logOrigin(FEDERATION, RUN), publicKey: coordinator.publicKey },
        coordinator.seed,
        crypto,
      ),
    ),
  );
}

/** A valid bundle, or one whose author changed something and signed it all the same. */
export function createBundle(changes: BundleChanges = {}): TestBundle {
  const world = createWorld();
  const run = runOf(changes);
  const { specs, sums, charged } = describeRun(world, run);
  changes.sums?.(sums);
  const signed = signAll(changes.specs?.(specs, world) ?? specs);
  const lines = changes.lines?.([...signed], world) ?? signed;
  const results = changes.results?.(resultsOf(world, charged)) ?? resultsOf(world, charged);
  const log = lines.map((line) => `${line}\n`).join('');
  const origin = logOrigin(FEDERATION, RUN);
  const key = { name: origin, publicKey: world.coordinator.publicKey };
  const ledgers = new Map(
    world.members.map(({ id }) => [id, signed.filter((line) => (JSON.parse(line) as { actor: string }).actor === id)]),
  );
  changes.ledgers?.(ledgers, world);
  const files = new Map<string, Uint8Array>([
    ['config.json', utf8(`${canonicalJson(run.config)}\n`)],
    ['log.jsonl', utf8(log)],
    [
      'checkpoint',
      utf8(signCheckpoint(checkpointOf(origin, lines.map(utf8), crypto), key, world.coordinator.seed, crypto)),
    ],
    ['results.json', utf8(`${canonicalJson(results)}\n`)],
    ...[...ledgers].map(([id, own]) => [`ledgers/${id}.jsonl`, utf8(own.map((line) => `${line}\n`).join(''))] as const),
    ...[...sums].map(([sid, bytes]) => [`sums/${sid}.bin`, bytes] as const),
  ]);
  files.set('report.html', utf8(renderOrEmpty(log, results)));
  changes.files?.(files);
  sealFiles(files, world.coordinator);
  return { ...world, files, lines, reader: readerOf(files) };
}

/** A log that breaks a rule has no report; the audit stops before it would look for one. */
function renderOrEmpty(log: string, results: RunResults): string {
  try {
    return renderReport(reportFacts(log, results, crypto));
  } catch {
    return 'no report';
  }
}

export function readerOf(files: ReadonlyMap<string, Uint8Array>): BundleReader {
  return {
    list: async () => [...files.keys()],
    read: async (path) => files.get(path) ?? new Uint8Array(0),
  };
}
