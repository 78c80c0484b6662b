import { equalBytes, fromUtf8, hashParts, toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider, RandomSource } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { encodeSessionMessage, openFrame, readSessionMessage } from '../../protocol/frame.ts';
import { LABELS } from '../../protocol/labels.ts';
import { nodeId, rosterHash, sessionId } from '../../protocol/params.ts';
import type { MaskVector } from '../../protocol/ring.ts';
import type { SessionMessage, SessionParams } from '../../protocol/session.ts';
import { type VerifiedTranscript, verifyTranscript } from '../../protocol/transcript.ts';
import { parseEntry } from '../../src/audit/entries.ts';
import type { Dataset } from '../../src/data/dataset.ts';
import type { LocalVectors, ReleasedModels } from '../../src/learning/algorithm.ts';
import type { GradientOracle } from '../../src/learning/oracle.ts';
import type { Budget } from '../../src/privacy/accountant.ts';
import { removeDropoutNoise } from '../../src/privacy/dropout-noise.ts';
import { requireSameHistory } from '../../src/run/adaptive-clip.ts';
import { isFloatBounded, parseRunConfig } from '../../src/run/config.ts';
import { evolvingOf, probeRelease, probesBefore } from '../../src/run/evolution.ts';
import { requireFactors } from '../../src/run/factored-terms.ts';
import { groupMembers, isInGroup } from '../../src/run/groups.ts';
import { checkStart, requireLayout } from '../../src/run/layout.ts';
import { contribute, type MemberState, missChoice, takeChoice, takeGaps, takeSeat } from '../../src/run/member.ts';
import { encodeRunMessage, readRunMessage } from '../../src/run/messages.ts';
import { decodeOrder, probeOf, type RunFacts, type SessionOrder } from '../../src/run/order.ts';
import { checkOutside, checkTimeLimit, contributeOutside, type OutsideTrainer } from '../../src/run/outside.ts';
import { groupOf, planRun, type ScheduledSession, sessionNoise } from '../../src/run/plan.ts';
import { seatsAreDistinct, sumCoordinates } from '../../src/run/release.ts';
import { decodeModels, modelsHash } from '../../src/run/released.ts';
import type { FederationFile } from '../../src/run/roster.ts';
import { atSurvivors, nextSessionOf } from '../../src/run/shrink.ts';
import type { Store } from '../../src/run/store.ts';
import { type ChargeBook, openChargeBook } from './charge-book.ts';
import { type HeadKeeper, openDatasetBook } from './dataset-book.ts';
import { joinRun } from './earlier-runs.ts';
import { type NodeMemory, openMemory } from './memory.ts';
import { budgetOf, checkData, checkRun, checkSession, type SitePolicy } from './policy.ts';
import { type ParticipantSessions, startParticipant } from './session.ts';

/** What the site sees of its own node while a run goes on; stays at the site. */
export type NodeProgress =
  /** Another run on data that paid before, without a budget over all runs: each may cost as much as `budget`. */
  | { readonly event: 'further-run'; readonly runs: number; readonly budget: Budget }
  | { readonly event: 'contributing'; readonly session: ScheduledSession }
  | { readonly event: 'agreed'; readonly session: ScheduledSession }
  | {
      readonly event: 'models';
      readonly step: number;
      readonly config: RunFacts['config'];
      readonly oracle: GradientOracle;
      readonly models: ReleasedModels;
      readonly member: MemberState;
      readonly local: LocalVectors;
    }
  | { readonly event: 'aborted'; readonly code: string; readonly reason: string }
  /** The budget is used up before this session: the site pays for no further one and waits for the final models. */
  | { readonly event: 'left'; readonly session: ScheduledSession; readonly code: string; readonly reason: string }
  | { readonly event: 'charged'; readonly epsilon: number; readonly maxEpsilon: number }
  | {
      readonly event: 'finished';
      readonly config: RunFacts['config'];
      readonly oracle: GradientOracle;
      readonly models: ReleasedModels;
      readonly member: MemberState;
      readonly local: LocalVectors;
    };

export interface NodeOptions {
  readonly identity: { readonly id: Uint8Array; readonly publicKey: Uint8Array; readonly secretSeed: Uint8Array };
  readonly federation: FederationFile;
  readonly policy: SitePolicy;
  readonly data: Dataset;
  /** Held-out records, which a run with metrics measures the released models on. */
  readonly test: Dataset;
  /** Makes the model of a run for the site's data. */
  createOracle(model: RunFacts['config']['model']): GradientOracle | Promise<GradientOracle>;
  /** Starts the site's own training program for a run; who opens it closes it. Absent: the oracle's gradients. */
  readonly openTrainer?: ((model: RunFacts['config']['model']) => Promise<OutsideTrainer>) | undefined;
  readonly crypto: CryptoProvider;
  readonly random: RandomSource;
  readonly store: Store;
  /** Masks whole vectors with the bytes of `applyMasks`, which does it where this is left out. */
  readonly mask?: MaskVector | undefined;
  /** Keeps the head of the data set's ledger; needed where the policy has a budget for it. */
  readonly datasetHeads?: HeadKeeper | undefined;
  send(bytes: Uint8Array): Promise<void>;
  now(): string;
  /** Called and awaited in order; a rejection stops the node. */
  onProgress(progress: NodeProgress): Promise<void>;
  onError(error: unknown): void;
}

export interface FederationNode {
  /** `isResumed`: the connection goes on where the last one broke; there is nothing to repeat. */
  onOpen(isResumed: boolean): void;
  onMessage(bytes: Uint8Array): void;
  readonly finished: Promise<void>;
}

interface ActiveRun {
  readonly facts: RunFacts;
  readonly oracle: GradientOracle;
  readonly outside: OutsideTrainer | null;
  readonly memory: NodeMemory;
  readonly charges: ChargeBook;
}

/** Sessions of the first step that nothing was released before which moves a model. */
const BEFORE_RELEASES: ReadonlySet<ScheduledSession['kind']> = new Set(['labels', 'seats', 'choice', 'train']);

/** One organization's node: takes part in every session that its policy, its ledger and its checks allow. */
export function createNode(options: NodeOptions): FederationNode {
  const { crypto, identity, federation, policy, store, onProgress } = options;
  const { coordinatorKey, roster } = federation;
  const coordinatorId = toHex(nodeId(crypto, coordinatorKey));
  let run: ActiveRun | null = null;
  let order: { readonly sid: string; readonly order: SessionOrder } | null = null;
  let pending: { readonly attachment: Uint8Array } | null = null;
  let proposed: {
    readonly sid: string;
    /** Null if the algorithm keeps nothing new. */
    readonly local: LocalVectors | null;
    readonly ownNorm: number | undefined;
  } | null = null;
  let lastModelHash = '';
  let finish: () => void = () => undefined;
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });

  const active = (): ActiveRun => {
    if (run === null)
      throw new CoveyError('PRIVACY_POLICY', '"run" expected a signed run.open before the first session');
    return run;
  };
  const currentOrder = (sid: Uint8Array): SessionOrder => {
    if (order === null || order.sid !== toHex(sid))
      throw new CoveyError('INTERNAL_INVARIANT', 'a session without its order');
    return order.order;
  };

  async function authorize(params: SessionParams, sid: Uint8Array): Promise<readonly Uint8Array[] | null> {
    const { charges, facts, memory } = active();
    const attachment = pending?.attachment ?? new Uint8Array(0);
    if (!equalBytes(hashParts(crypto, utf8(LABELS.order), attachment), params.modelHash)) {
      throw new CoveyError('PRIVACY_POLICY', '"modelHash" expected the hash of the received models, got another');
    }
    const received = decodeOrder(facts, attachment, memory.probes());
    checkSession(crypto, facts, received, params);
    const { session } = received;
    if (session.step === 0 && BEFORE_RELEASES.has(session.kind))
      checkStart(
        crypto,
        facts.config,
        received.models,
        facts.config.clusters?.open === undefined ? null : groupOf(session),
      );
    // Another group's session would charge this site for a step twice.
    if (!isInGroup(groupMembers(crypto, facts, groupOf(received.session)), identity.id))
      throw new CoveyError('PRIVACY_POLICY', `"groupId" expected the own group, got ${params.groupId}`);
    memory.requireNewer(params);
    const refusal = charges.refusalOf(received.session);
    if (refusal !== null) {
      await leave(received.session, refusal);
      throw refusal;
    }
    if (received.clip !== undefined) {
      requireSameHistory(memory.clip(), received.clip);
      await memory.saveClip(received.clip);
    }
    order = { sid: toHex(sid), order: received };
    await memory.rememberSession(sid, received.session);
    if (received.session.kind === 'train') {
      await onProgress({
        event: 'models',
        step: received.session.step,
        config: facts.config,
        oracle: active().oracle,
        models: received.models,
        member: memory.member(),
        local: memory.local(),
      });
    }
    // A slot is trained only among those who were counted in it (maxLoss, SPEC section 4).
    return received.session.kind === 'train' ? memory.census() : null;
  }

  /** Leaves before the next session of the schedule if its worst case is not affordable; by charges alone, so in public. */
  async function leaveIfSpent(after: ScheduledSession | null): Promise<void> {
    const { charges, facts } = active();
    const next = nextSessionOf(crypto, facts, identity.id, after);
    const refusal = next === null ? null : charges.refusalOf(next);
    if (next !== null && refusal !== null) await leave(next, refusal);
  }

  async function leave(session: ScheduledSession, why: CoveyError): Promise<void> {
    const line = await active().charges.leave(session, why);
    if (line === null) return;
    await sendLog(line);
    await onProgress({ event: 'left', session, code: why.code, reason: why.message });
  }

  const sessions: ParticipantSessions = startParticipant(
    crypto,
    options.random,
    identity,
    { coordinatorKey, roster },
    {
      authorize,
      mask: options.mask,
      persist: async (record) => {
        await active().memory.persist(record);
        if (record.kind === 'agreed') await onProgress({ event: 'agreed', session: currentOrder(record.sid).session });
      },
      send: (message) => options.send(encodeSessionMessage(message)),
      async contribute({ params, sid, cohort, components }) {
        const { facts, memory, oracle, outside } = active();
        const received = currentOrder(sid);
        await onProgress({ event: 'contributing', session: received.session });
        const { data, test } = options;
        const { local: localNoise } = facts.plan;
        const noise = { members: cohort.length, components };
        const inputs = { data, test, oracle, local: memory.local(), seed: options.random(32), localNoise, noise };
        const given = [crypto, facts.config, received, params, memory.member(), inputs] as const;
        const { words, member, local, ownNorm } =
          outside === null ? contribute(...given) : await contributeOutside(...given, outside);
        inputs.seed.fill(0);
        proposed = { sid: toHex(sid), local: local === inputs.local ? null : local, ownNorm };
        if (member !== memory.member()) await memory.saveMember(member);
        return words;
      },
      async charge({ params, sid }) {
        const { session, models } = currentOrder(sid);
        await sendLog(await active().charges.reserve(params, sid, session, models.heads.length));
      },
      async settle({ params, sid, h3, survivors }) {
        const { charges, memory } = active();
        const { session, models } = currentOrder(sid);
        // This member is in the sum: what its algorithm keeps moves on with it, and only then.
        const own = proposed?.sid === toHex(sid) ? proposed : null;
        if (own !== null && own.local !== null) await memory.saveLocal(own.local);
        await sendLog(await charges.settle(params, sid, session, models.heads.length, h3, survivors.length));
        if (own?.ownNorm !== undefined && active().facts.config.privacy.unit === 'participant')
          await memory.saveOwnNorm(toHex(sid), own.ownNorm);
        await leaveIfSpent(session);
        await onProgress({
          event: 'charged',
          epsilon: charges.epsilon(),
          maxEpsilon: budgetOf(policy, active().facts.config).epsilon,
        });
      },
      done: async () => undefined,
      aborted: ({ code, reason }) => onProgress({ event: 'aborted', code, reason }),
    },
    options.onError,
  );

  const sendLog = (line: string): Promise<void> =>
    options.send(encodeRunMessage({ type: 'run/log', payload: utf8(line) }));

  async function takeLog(line: string): Promise<void> {
    const entry = parseEntry(line, (actor) => (actor === coordinatorId ? coordinatorKey : undefined), crypto);
    const body = entry.body as { rosterHash?: string; config?: unknown; layout?: string; modelHash?: string };
    if (entry.type === 'genesis') {
      if (body.rosterHash !== toHex(rosterHash(crypto, roster))) {
        throw new CoveyError('PRIVACY_POLICY', '"rosterHash" expected the pinned roster, got another');
      }
    } else if (entry.type === 'run.open' && run?.facts.runId !== entry.run) {
      const config = parseRunConfig(body.config);
      requireLayout(crypto, config, body.layout, policy);
      const facts: RunFacts = { runId: entry.run, config, plan: planRun(config), roster };
      checkRun(policy, facts);
      checkData(config, options.data);
      const { openTrainer } = options;
      if (openTrainer !== undefined) checkOutside(config);
      if (options.data.count > config.training.maxRecordsPerStep) {
        throw new CoveyError(
          'PRIVACY_POLICY',
          `"data" expected at most ${config.training.maxRecordsPerStep} records, got ${options.data.count}`,
        );
      }
      const oracle = await options.createOracle(config.model);
      if (isFloatBounded(config)) requireFactors(oracle);
      const earlier = await joinRun(store, policy, entry.run);
      const memory = await openMemory(store, entry.run);
      const { datasetBudget } = policy;
      if (datasetBudget !== undefined && options.datasetHeads === undefined)
        throw new CoveyError(
          'USAGE_CONFIG',
          '"datasetHeads" expected a keeper of heads with a data set budget, got none',
        );
      const dataset =
        datasetBudget === undefined || options.datasetHeads === undefined
          ? null
          : await openDatasetBook(store, crypto, datasetBudget, options.datasetHeads);
      const outside = openTrainer === undefined ? null : await openTrainer(config.model);
      if (outside !== null) checkTimeLimit(config, outside);
      const charges = await openChargeBook(
        store,
        crypto,
        identity,
        facts,
        budgetOf(policy, config),
        options.now,
        dataset,
        outside?.trainer.assurance,
      );
      if (earlier.length > 0 && datasetBudget === undefined)
        await onProgress({ event: 'further-run', runs: earlier.length + 1, budget: budgetOf(policy, config) });
      run = { facts, oracle, outside, memory, charges };
      // The coordinator may have ended before it stored what this node had told it before its own end.
      for (const line of charges.recentLines()) await sendLog(line);
      if (charges.recentLines().length === 0) await leaveIfSpent(null);
    } else if (entry.type === 'round.release' && body.modelHash !== undefined) {
      lastModelHash = body.modelHash;
    }
  }

  async function takeCensus(transcript: Uint8Array): Promise<void> {
    const { facts, memory } = active();
    const census = verifyTranscript(crypto, transcript, roster, coordinatorKey, removeDropoutNoise);
    const sid = sessionId(crypto, census.params);
    const session = await memory.recallSession(sid);
    if (census.params.runId !== facts.runId) return;
    if (evolvingOf(facts.config) !== null) return takeProbe(census);
    const { config } = atSurvivors(facts, census.params.minSurvivors);
    const sum = sumCoordinates(census.params, census.sum);
    const member = memory.member();
    // A census that this node was not counted in says nothing about its slot, unless slots have a least size.
    if (session === null || !census.survivors.some((id) => equalBytes(id, identity.id))) {
      const isChoice = census.params.layout[0]?.segment === 'counts';
      if (isChoice) await memory.saveMember(missChoice(config, member, sum));
      return;
    }
    // A lottery with a clash gives nobody a seat; it is drawn again.
    if (session.kind === 'seats' && member.choices.length === 0 && seatsAreDistinct(sum, census.survivors.length)) {
      await memory.saveMember(takeSeat(member, sum));
    }
    if (session.kind === 'choice') {
      await memory.saveMember(takeChoice(config, member, session.choice, sum));
      await memory.saveCensus(census.survivors);
    }
  }

  /**
   * A release of a probe: what the slots from now on follow from. Whoever was not counted in it needs it as well, and none
   * that was told before may change.
   */
  async function takeProbe({ params, sum, survivors }: VerifiedTranscript): Promise<void> {
    const { facts, memory } = active();
    const { config, plan } = facts;
    const session = probeOf(crypto, facts, params);
    if (session === null)
      throw new CoveyError('PRIVACY_POLICY', '"probes" expected a probe of the schedule, got another');
    const history = memory.probes();
    const released = probeRelease(sumCoordinates(params, sum), sessionNoise(config, plan, session).scale);
    const at = probesBefore(plan, session);
    if (at < history.length) {
      if (history[at]?.join() !== released.join())
        throw new CoveyError('PRIVACY_POLICY', `"probes" expected release ${at} as it was told before, got another`);
      return;
    }
    if (at > history.length)
      throw new CoveyError('PRIVACY_POLICY', `"probes" expected release ${history.length} next, got release ${at}`);
    const probes = [...history, released];
    const isCounted = survivors.some((id) => equalBytes(id, identity.id));
    const member = memory.member();
    if (session.kind === 'gaps') {
      await memory.saveProbe(probes, takeGaps(config, member, probes));
      return;
    }
    const choice = session.kind === 'choice' ? session.choice : 0;
    const coordinates = sumCoordinates(params, sum);
    await memory.saveProbe(probes, isCounted ? takeChoice(config, member, choice, coordinates) : member);
    if (isCounted) await memory.saveCensus(survivors);
  }

  async function takeFinished(payload: Uint8Array): Promise<void> {
    const { facts, memory, oracle } = active();
    const models = decodeModels(facts.config, payload);
    if (lastModelHash !== '' && toHex(modelsHash(crypto, models)) !== lastModelHash) {
      throw new CoveyError('PRIVACY_POLICY', '"models" expected the hash of the last signed release, got another');
    }
    await onProgress({
      event: 'finished',
      config: facts.config,
      oracle,
      models,
      member: memory.member(),
      local: memory.local(),
    });
    await options.send(encodeRunMessage({ type: 'run/leave', payload: new Uint8Array(0) }));
    finish();
  }

  async function take(bytes: Uint8Array): Promise<void> {
    const frame = openFrame(bytes);
    const message = readRunMessage(frame);
    if (message === null) {
      await takeSession(readSessionMessage(frame));
      return;
    }
    // Releases belong between sessions: what came before is handled first.
    await sessions.idle();
    if (message.type === 'run/log') await takeLog(fromUtf8(message.payload));
    else if (message.type === 'run/census') await takeCensus(message.payload);
    else if (message.type === 'run/finished') await takeFinished(message.payload);
  }

  async function takeSession(message: SessionMessage): Promise<void> {
    if (message.type === 'p0') {
      await sessions.idle();
      pending = { attachment: message.attachment };
    }
    sessions.receive(message);
  }

  let queue: Promise<void> = Promise.resolve();
  return {
    onOpen(isResumed) {
      // The link repeats what was under way by itself.
      if (isResumed) return;
      queue = queue
        .then(async () => {
          for (const line of run?.charges.recentLines() ?? []) await sendLog(line);
          sessions.resend();
        })
        .catch(options.onError);
    },
    onMessage(bytes) {
      queue = queue.then(() => take(bytes)).catch(options.onError);
    },
    finished,
  };
}
