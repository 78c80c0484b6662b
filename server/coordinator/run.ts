import { equalBytes, fromBase64, fromUtf8, toBase64, toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import { openFrame, readSessionMessage } from '../../protocol/frame.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { decodeParams, encodeParams, rosterHash, sessionId } from '../../protocol/params.ts';
import type { MaskVector } from '../../protocol/ring.ts';
import { wordsToBytes } from '../../protocol/ring.ts';
import type { Roster, SessionOutcome, SessionParams } from '../../protocol/session.ts';
import { evolveSlots } from '../../src/cluster/evolution.ts';
import type { ReleasedModels } from '../../src/learning/algorithm.ts';
import { layoutOf } from '../../src/learning/trainer.ts';
import { totalVarianceOf } from '../../src/privacy/dropout-noise.ts';
import { eventToJson } from '../../src/privacy/event-json.ts';
import { reportSignal } from '../../src/privacy/noise-shares.ts';
import { configHash, type RunConfig } from '../../src/run/config.ts';
import { evolutionRule } from '../../src/run/evolution.ts';
import { groupIdOf } from '../../src/run/groups.ts';
import { requireStart, type StartingWeights } from '../../src/run/layout.ts';
import { encodeRunMessage, type RunMessage, readRunMessage } from '../../src/run/messages.ts';
import { summarizeMetrics } from '../../src/run/metrics.ts';
import { encodeOrder, orderParams, type RunFacts, type SessionOrder } from '../../src/run/order.ts';
import { groupOf, planRun, sessionEvents, sessionPaths } from '../../src/run/plan.ts';
import {
  applyRelease,
  decodeCounts,
  initialState,
  nextOrder,
  type ReleaseState,
  seatsAreDistinct,
  sumCoordinates,
} from '../../src/run/release.ts';
import { encodeModels, modelManifest, modelsHash } from '../../src/run/released.ts';
import { atSurvivors } from '../../src/run/shrink.ts';
import type { Store } from '../../src/run/store.ts';
import { createAccounts } from './accounts.ts';
import { createCohort } from './cohort.ts';
import { type Journal, openJournal, type ReleaseRecord } from './journal.ts';
import { createPresence } from './presence.ts';
import type { RunProgress } from './progress.ts';
import { type RunningSession, requireMember, startSession } from './session.ts';

/** Connections as the coordinator needs them. */
export interface Peers {
  send(id: Uint8Array, bytes: Uint8Array): Promise<boolean>;
  connected(): readonly Uint8Array[];
}

/** Keeps masked uploads so that completed sessions can be recomputed by others. */
export interface TranscriptKeeper {
  keep(sid: Uint8Array, id: Uint8Array, vector: Uint8Array): Promise<void>;
  /** Writes the transcript of a completed session, with the vectors of its survivors. */
  complete(
    params: SessionParams,
    sid: Uint8Array,
    transcript: Uint8Array,
    survivors: readonly Uint8Array[],
  ): Promise<void>;
  /** Forgets what was kept: sessions that release nothing leave no transcript. */
  discard(sid: Uint8Array): Promise<void>;
}

export interface CoordinatorOptions {
  readonly config: RunConfig;
  /** The weights that the configuration names, if it does. */
  readonly start?: StartingWeights | undefined;
  readonly runId: string;
  readonly roster: Roster;
  readonly identity: { readonly id: Uint8Array; readonly publicKey: Uint8Array; readonly secretSeed: Uint8Array };
  readonly crypto: CryptoProvider;
  readonly store: Store;
  /** Unmasks whole sums with the bytes of `applyMasks`, which does it where this is left out. */
  readonly mask?: MaskVector | undefined;
  readonly peers: Peers;
  now(): string;
  onProgress(progress: RunProgress): void;
  onError(error: unknown): void;
  readonly transcripts?: TranscriptKeeper | undefined;
  /** How long a member may be away before it counts as lost in a session. */
  readonly graceMs: number;
  /** How long to wait for members that are not connected once enough are. */
  readonly joinMs: number;
  /** How long to wait for enough members; then the run stops and can be taken up again. */
  readonly gatherMs: number;
}

export interface Coordinator {
  /** Resolves when the schedule is done or the budget is used up. */
  run(): Promise<void>;
  onOpen(id: Uint8Array, isResumed: boolean): void;
  /** Rejects for bytes that are not what a member may send; the connection is then closed with the code. */
  onMessage(id: Uint8Array, bytes: Uint8Array): Promise<void>;
  onClose(id: Uint8Array): void;
  journal(): Journal;
  models(): ReleasedModels;
}

/** How much of a released sum is signal: post-processing, free of privacy cost. */
function signalToNoise(params: SessionParams, { sum, survivors }: SessionOutcome): number | null {
  const { mechanism, shareVariance, tolerance } = params.noise;
  if (mechanism === 'none') return null;
  const total = tolerance === undefined ? survivors.length * shareVariance : totalVarianceOf(params);
  return reportSignal(sumCoordinates(params, sum), total).ratio;
}

/** A session that was opened, with the fewest survivors that its parameters accept. */
interface OpenedSession {
  readonly order: SessionOrder;
  readonly minSurvivors: number;
}

/** The coordinator of one run: replays its journal, then opens session after session until the schedule is done. */
export async function createCoordinator(options: CoordinatorOptions): Promise<Coordinator> {
  const { config, runId, roster, identity, crypto, store, peers, onProgress } = options;
  const plan = planRun(config);
  const facts: RunFacts = { runId, config, plan, roster };
  const { delta, targetEpsilon } = config.privacy;
  const { colluders, minSurvivors } = config.cohort;
  const journal = await openJournal(store, crypto, {
    federation: config.federation,
    runId,
    identity,
    now: options.now,
  });
  requireStart(crypto, config, options.start);
  let state: ReleaseState = initialState(config, options.start);
  const openedSessions = new Map<string, OpenedSession>();
  const accounts = createAccounts(config, plan, roster);
  const cohort = createCohort(crypto, facts, accounts);
  let session: RunningSession | null = null;
  let uploadBytes = 0;
  let uploadBytesTotal = 0;
  const left = new Set<string>();
  let isOver = false;

  const presence = createPresence({
    roster,
    connected: peers.connected,
    graceMs: options.graceMs,
    joinMs: options.joinMs,
    gatherMs: options.gatherMs,
    onLost(id) {
      if (!left.has(toHex(id))) onProgress({ event: 'lost', organization: requireMember(roster, id).organization });
      session?.lost(id);
    },
  });
  /** Nobody waits for a member that is slow to take it: what it is sent later goes behind this. */
  function broadcast(message: RunMessage): void {
    const bytes = encodeRunMessage(message);
    // Also to members that are away for a moment: their link keeps it, and a resumed connection is not greeted again.
    for (const { id } of roster.entries) {
      peers.send(id, bytes).catch((error) => {
        // Who cannot be sent to is found lost by its own deadline.
        if (!isCoveyError(error)) options.onError(error);
      });
    }
  }

  /** A run goes on with the configuration that its members were told. */
  function requireOpened(): void {
    const { body } = JSON.parse(journal.lines()[1] ?? '{}') as { body?: { taskHash?: string } };
    if (body?.taskHash !== toHex(configHash(crypto, config)))
      throw new CoveyError(
        'USAGE_CONFIG',
        '"run" expected the configuration that this run was opened with, got another; hint: a new state folder starts a new run',
      );
  }

  async function openLog(): Promise<void> {
    // The process may have ended between the two.
    const opened = journal.lines().length;
    if (opened < 1)
      await journal.append('genesis', {
        coordinatorKey: toHex(identity.publicKey),
        rosterHash: toHex(rosterHash(crypto, roster)),
        rosterVersion: roster.version,
        members: roster.entries.map((e) => ({
          id: toHex(e.id),
          publicKey: toHex(e.publicKey),
          organization: e.organization,
        })),
      });
    if (opened >= 2) return requireOpened();
    await journal.append('run.open', {
      config,
      taskHash: toHex(configHash(crypto, config)),
      layout: layoutOf(crypto, modelManifest(config)),
      plan: {
        unit: config.privacy.unit,
        relation: config.privacy.relation,
        delta: String(delta),
        targetEpsilon: String(targetEpsilon),
        noiseMultiplier: String(plan.noiseMultiplier),
        shareVariance: String(plan.shareVariance),
        sensitivity: String(plan.sensitivity),
        samplingProbability: String(config.training.samplingProbability),
        rounds: config.training.steps,
        minSurvivors,
        colluders,
        choices: config.clusters?.choiceSteps.length ?? 0,
        choiceEpsilon: String(config.clusters?.choiceEpsilon ?? 0),
        gateOrder: String(plan.gateOrder),
      },
    });
  }

  /** Charges are read back from the log: a charge that is durable counts, released or not. */
  function replayCharges(): void {
    for (const line of journal.lines()) {
      const entry = JSON.parse(line) as {
        type: string;
        actor: string;
        body: { sid: string; survivors: string[]; events: unknown[] };
      };
      if (entry.type === 'client.charge') accounts.note(entry);
      if (entry.type === 'client.leave') cohort.leave(entry.actor);
      const opened = openedSessions.get(entry.body.sid);
      if (entry.type === 'charge.reserve' && opened !== undefined)
        accounts.charge(entry.body.sid, opened.order, entry.body.survivors, opened.minSurvivors);
    }
  }

  /** Number of members of every released sum, as the log has it, by session. */
  function survivorsBySession(): ReadonlyMap<string, number> {
    const entries = journal
      .lines()
      .map((line) => JSON.parse(line) as { type: string; body: { sid: string; survivors: number } });
    const released = entries.filter(({ type }) => type === 'round.release');
    return new Map(released.map(({ body }) => [body.sid, body.survivors]));
  }

  function replay(): void {
    const survivorsOf = survivorsBySession();
    for (const record of journal.releases()) {
      const survivors = survivorsOf.get(toHex(record.sid));
      if (survivors === undefined) throw new CoveyError('INTERNAL_INVARIANT', 'the log lost a release of the store');
      state = applyRelease(crypto, config, plan, state, decodeParams(record.params), record.sum, survivors);
      if (isClashed(state, record)) state = { ...state, position: state.position - 1 };
    }
    for (const line of journal.lines()) {
      const entry = JSON.parse(line) as {
        type: string;
        body: { sid: string; kind: string; step: number; slots: number; params: string };
      };
      if (entry.type !== 'round.open') continue;
      const { groupId, minSurvivors: fewest } = decodeParams(fromBase64(entry.body.params));
      const scheduled = plan.schedule.find(
        (s) => s.kind === entry.body.kind && s.step === entry.body.step && groupIdOf(config, groupOf(s)) === groupId,
      );
      if (scheduled === undefined) continue;
      // Charges depend on the number of slots only, not on the models of that time.
      const heads = Array.from({ length: entry.body.slots }, () => new Float32Array(0));
      const models = { body: new Float32Array(0), heads, extra: [] };
      openedSessions.set(entry.body.sid, { order: { session: scheduled, models }, minSurvivors: fewest });
    }
    replayCharges();
  }

  /** A seat lottery with a clash is drawn again: its session stays in the log, the schedule does not move. */
  function isClashed(after: ReleaseState, record: { params: Uint8Array; sum: Uint32Array }): boolean {
    if (plan.schedule[after.position - 1]?.kind !== 'seats') return false;
    const coordinates = sumCoordinates(decodeParams(record.params), record.sum);
    const survivors = coordinates.reduce((total, value) => total + value, 0);
    return !seatsAreDistinct(coordinates, survivors);
  }

  /** Says in the log what a released sum of accuracies is: noisy members of each bin. */
  async function logHistogram({ params: bytes, sid, sum }: ReleaseRecord): Promise<void> {
    const params = decodeParams(bytes);
    const histogram = [...sumCoordinates(params, sum)].map((value) => String(value / params.encoding.scale));
    const step = openedSessions.get(toHex(sid))?.order.session.step;
    await journal.append('metrics.histogram', { sid: toHex(sid), step, histogram });
  }

  /** Says in the log how probes of evolving clusters ended that it does not know of yet. */
  async function logProbes(): Promise<void> {
    const rule = evolutionRule(config);
    if (rule === null) return;
    const known = new Set<string>();
    for (const line of journal.lines()) {
      const { type, body } = JSON.parse(line) as { type: string; body: { sid: string } };
      if (type === 'cluster.probe') known.add(body.sid);
    }
    const { ended } = evolveSlots(rule, state.probes);
    const opened = journal
      .releases()
      .map(({ sid }) => ({ sid: toHex(sid), order: openedSessions.get(toHex(sid))?.order }));
    const ends = opened.filter(({ order }) => order?.session.kind === 'gaps');
    for (const [i, { next, retired, trials }] of ended.entries()) {
      const { sid, order } = ends[i] ?? {};
      if (sid === undefined || known.has(sid)) continue;
      const told = trials.map(({ slots, gap, stays }) => ({ slots, gap: String(gap), stays }));
      const step = order?.session.step;
      await journal.append('cluster.probe', { sid, step, trials: told, retired, slots: next.slots });
    }
  }

  /** The process may have ended between a release and the entry that follows from it. */
  async function logMissingHistograms(): Promise<void> {
    const logged = new Set<string>();
    for (const line of journal.lines()) {
      const { type, body } = JSON.parse(line) as { type: string; body: { sid: string } };
      if (type === 'metrics.histogram') logged.add(body.sid);
    }
    for (const record of journal.releases())
      if (decodeParams(record.params).purpose === 'metrics' && !logged.has(toHex(record.sid)))
        await logHistogram(record);
  }

  /** A session that was open when the process ended is given up: its round is spent, its charges stay. */
  async function closeDangling(): Promise<void> {
    const open = new Map<string, number>();
    for (const line of journal.lines()) {
      const { type, body } = JSON.parse(line) as { type: string; body: { sid: string; round: number } };
      if (type === 'round.open') open.set(body.sid, body.round);
      if (type === 'round.release' || type === 'round.abort') open.delete(body.sid);
    }
    for (const [sid, round] of open) {
      await journal.append('round.abort', {
        sid,
        round,
        phase: 'unmask',
        code: 'ROUND_TIMEOUT',
        reason: 'the coordinator was restarted',
        uploadBegun: true,
        excluded: [],
      });
    }
  }

  async function runSession(
    order: SessionOrder,
    round: number,
    attempt: number,
    invited: readonly Uint8Array[],
    fewest: number,
  ): Promise<{ released: boolean; spent: boolean; excluded: readonly Uint8Array[] }> {
    const params = orderParams(crypto, facts, order, { round, attempt, minSurvivors: fewest });
    const attachment = encodeOrder(order);
    const sid = sessionId(crypto, params);
    const { kind, step } = order.session;
    if (attempt === 0) await journal.openRound(round);
    openedSessions.set(toHex(sid), { order, minSurvivors: fewest });
    await journal.append('round.open', {
      sid: toHex(sid),
      round,
      purpose: params.purpose,
      attempt,
      kind,
      step,
      slots: order.models.heads.length,
      params: toBase64(encodeParams(params)),
      invited: invited.length,
    });
    uploadBytes = 0;
    let members = invited.length;
    const current = startSession(
      crypto,
      identity,
      roster,
      { params, attachment, invited },
      {
        mask: options.mask,
        async send(id, frame) {
          await peers.send(id, frame);
        },
        async persist(record) {
          if ('ids' in record) members = record.ids.length;
          await store.put(
            'sets',
            `${toHex(sid)}/${record.kind}`,
            utf8('ids' in record ? record.ids.map(toHex).join(',') : toHex(record.id)),
          );
        },
        async charge({ h3, survivors }) {
          const slots = order.models.heads.length;
          const at = atSurvivors(facts, fewest);
          const events = (view: 'server' | 'release'): unknown[] =>
            sessionEvents(at.config, at.plan, order.session, slots, survivors.length, view).map(eventToJson);
          await journal.append('charge.reserve', {
            sid: toHex(sid),
            h3: toHex(h3),
            round,
            purpose: params.purpose,
            survivors: survivors.map(toHex),
            colluders,
            events: { server: events('server'), release: events('release') },
            paths: sessionPaths(config, plan, order.session, slots),
          });
          accounts.charge(toHex(sid), order, survivors.map(toHex), fewest);
          await journal.append('round.unmask', { sid: toHex(sid), h3: toHex(h3), requests: survivors.length });
        },
        keepUpload: async (id, words) => options.transcripts?.keep(sid, id, wordsToBytes(words)),
        onPhase: (phase) => onProgress({ event: 'phase', round, kind, step, phase, members }),
      },
    );
    session = current;
    // Whoever vanished between the invitation and now is reported at once.
    for (const id of invited) if (!peers.connected().some((c) => equalBytes(c, id))) presence.closed(id);
    const end = await current.end.finally(() => {
      session = null;
    });
    if (end.type === 'done') {
      await options.transcripts?.complete(params, sid, end.outcome.transcript, end.outcome.survivors);
      await releaseSession(order, params, end.outcome, invited.length);
      return { released: true, spent: true, excluded: [] };
    }
    await options.transcripts?.discard(sid);
    const { phase, code, reason, uploadBegun, excluded } = end.outcome;
    await journal.append('round.abort', {
      sid: toHex(sid),
      round,
      phase,
      code,
      reason,
      uploadBegun,
      excluded: excluded.map(toHex),
    });
    onProgress({ event: 'abort', round, phase, code, reason });
    return { released: false, spent: uploadBegun, excluded };
  }

  async function releaseSession(
    order: SessionOrder,
    params: SessionParams,
    outcome: SessionOutcome,
    invited: number,
  ): Promise<void> {
    const { kind, step } = order.session;
    let next = applyRelease(crypto, config, plan, state, params, outcome.sum, outcome.survivors.length);
    const record = {
      params: encodeParams(params),
      sid: outcome.sid,
      sum: outcome.sum,
      transcript: params.purpose === 'census' ? outcome.transcript : new Uint8Array(0),
    };
    if (isClashed(next, record)) next = { ...next, position: next.position - 1 };
    const line = await journal.release(record, {
      sid: toHex(outcome.sid),
      h3: toHex(outcome.h3),
      sumHash: toHex(crypto.sha256(wordsToBytes(outcome.sum))),
      survivors: outcome.survivors.length,
      u1: outcome.u1.length,
      u2: outcome.u2.length,
      threshold: outcome.quorum,
      modelHash: toHex(modelsHash(crypto, next.models)),
      uploadBytes,
    });
    state = next;
    uploadBytesTotal += uploadBytes;
    if (kind === 'choice') {
      await journal.append('cluster.census', {
        sid: toHex(outcome.sid),
        counts: decodeCounts(sumCoordinates(params, outcome.sum)).map(String),
        open: next.open ?? next.models.heads.map((_, j) => j),
      });
      if (order.models.heads.length !== next.models.heads.length)
        await journal.append('cluster.assign', { step, kept: next.kept ?? [] });
    }
    if (kind === 'metrics') await logHistogram(record);
    if (kind === 'gaps') await logProbes();
    if (record.transcript.length > 0) broadcast({ type: 'run/census', payload: record.transcript });
    broadcast({ type: 'run/log', payload: utf8(line) });
    onProgress({
      event: 'release',
      round: params.round,
      kind,
      step,
      steps: config.training.steps,
      survivors: outcome.survivors.length,
      dropped: invited - outcome.survivors.length,
      epsilonServer: accounts.worst('server'),
      epsilonRelease: accounts.worst('release'),
      targetEpsilon,
      signalToNoise: signalToNoise(params, outcome),
      counts: kind === 'choice' || kind === 'gaps' ? next.counts : null,
      metrics: kind === 'metrics' ? summarizeMetrics(config, next.metrics) : null,
      uploadBytesTotal,
    });
  }

  async function finish(): Promise<void> {
    isOver = true;
    const payload = encodeModels(state.models);
    broadcast({ type: 'run/finished', payload });
    onProgress({ event: 'finished', steps: config.training.steps, epsilons: accounts.perMember() });
    while (peers.connected().some((id) => !left.has(toHex(id)))) await presence.changed(1_000);
  }

  await openLog();
  replay();
  await closeDangling();
  await logMissingHistograms();
  await logProbes();

  return {
    journal: () => journal,
    models: () => state.models,
    async run() {
      let excluded: readonly Uint8Array[] = [];
      let round = journal.lastRound();
      let attempt = -1;
      let failures = 0;
      for (let order = nextOrder(plan, state); order !== null; order = nextOrder(plan, state)) {
        const { excluded: outside, minSurvivors: fewest, needed, remaining } = cohort.next(order);
        if (fewest === null) {
          const epsilon = accounts.worst('server');
          await journal.append('budget.block', {
            round: round + 1,
            epsilon: String(epsilon),
            target: String(targetEpsilon),
            view: 'server',
            remaining,
            needed,
          });
          onProgress({ event: 'budget', epsilon, targetEpsilon, remaining, needed });
          break;
        }
        const invited = await presence.gather(needed, [...excluded, ...outside], (connected) =>
          onProgress({ event: 'waiting', connected, needed }),
        );
        // A number is retried only if no upload can have left under it; a restarted coordinator never retries.
        if (attempt < 0 || attempt >= LIMITS.attempts) {
          round += 1;
          attempt = 0;
        }
        const end = await runSession(order, round, attempt, invited, fewest);
        excluded = end.excluded;
        failures = end.released ? 0 : failures + 1;
        if (failures > LIMITS.attempts) {
          throw new CoveyError('ROUND_BELOW_THRESHOLD', `the run cannot go on: ${failures} sessions in a row failed`);
        }
        attempt = end.spent ? -1 : attempt + 1;
      }
      await finish();
    },
    onOpen(id, isResumed) {
      const wasLost = presence.opened(id);
      // A resumed link has kept what was sent meanwhile; the session hears of a member that it had given up.
      if (isResumed && wasLost) session?.reconnected(id);
      if (!isResumed) {
        onProgress({ event: 'joined', organization: requireMember(roster, id).organization });
        greet(id).then(() => session?.reconnected(id), options.onError);
      }
      presence.wake();
    },
    onMessage: receive,
    onClose(id) {
      presence.closed(id);
    },
  };

  /**
   * Genesis, run.open and the censuses so far: what a new or restarted node needs before its first session. All of it is
   * handed over in this turn, so that no message of a session that opens meanwhile comes before it.
   */
  async function greet(id: Uint8Array): Promise<void> {
    const logged = journal.lines().slice(0, 2);
    const messages: RunMessage[] = [
      ...logged.map((line): RunMessage => ({ type: 'run/log', payload: utf8(line) })),
      ...journal
        .releases()
        .filter(({ transcript }) => transcript.length > 0)
        .map(({ transcript }): RunMessage => ({ type: 'run/census', payload: transcript })),
      ...(isOver ? [{ type: 'run/finished', payload: encodeModels(state.models) } as const] : []),
    ];
    await Promise.all(messages.map((message) => peers.send(id, encodeRunMessage(message))));
  }

  async function receive(id: Uint8Array, bytes: Uint8Array): Promise<void> {
    const frame = openFrame(bytes);
    const run = readRunMessage(frame);
    if (run === null) {
      const message = readSessionMessage(frame);
      if (message.type === 'p3') uploadBytes = Math.max(uploadBytes, bytes.length);
      session?.receive(id, message);
    } else if (run.type === 'run/log') {
      const line = fromUtf8(run.payload);
      const entry = await journal.appendForeign(line, requireMember(roster, id).publicKey);
      if (entry?.type === 'client.charge') accounts.note(entry);
      if (entry?.type === 'client.leave') {
        cohort.leave(entry.actor);
        const { kind, step, code, reason } = entry.body;
        const { organization } = requireMember(roster, id);
        onProgress({ event: 'left', organization, kind, step, code, reason });
      }
    } else if (run.type === 'run/leave') {
      left.add(toHex(id));
      presence.wake();
    }
  }
}
