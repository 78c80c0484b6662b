import { setImmediate as pause } from 'node:timers/promises';
import { releaseBuffer, releaseLargeView } from '../../platform/node/release-buffer.ts';
import { type AggregatorState, createAggregator, stepAggregator } from '../../protocol/aggregator.ts';
import { equalBytes, toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import { encodeSessionMessage } from '../../protocol/frame.ts';
import { applyMasks, foldWords, type MaskVector, ringWordCount } from '../../protocol/ring.ts';
import type {
  AggregatorEffect,
  AggregatorEvent,
  NoiseComponent,
  Phase,
  Roster,
  SessionAbort,
  SessionMessage,
  SessionOutcome,
  SessionParams,
} from '../../protocol/session.ts';
import { rememberVerified } from '../../protocol/verified-signatures.ts';
import { removeDropoutNoise } from '../../src/privacy/dropout-noise.ts';
import { createSendsUnderWay } from './sends-under-way.ts';

/** What a session needs from the run around it; each call is durable or sent before it resolves. */
export interface SessionHost {
  /**
   * `frame`: wire form of a session message; the same bytes object for all who get the same message. Messages to one member
   * keep the order of the calls; one that does not resolve holds no other member up.
   */
  send(id: Uint8Array, frame: Uint8Array): Promise<void>;
  /** U1, U2, U3 with the folded sum, replies. */
  persist(record: Extract<AggregatorEffect, { type: 'persist' }>['record'], sum: Uint32Array): Promise<void>;
  /** The charge of every survivor, before unmasking is requested. */
  charge(effect: Extract<AggregatorEffect, { type: 'charge' }>): Promise<void>;
  /** A complete, verified upload, before it is folded into the sum. */
  keepUpload(id: Uint8Array, words: Uint32Array): Promise<void>;
  onPhase(phase: Phase): void;
  /** Unmasks a whole sum faster than one thread does; left out where there is nothing of the kind. */
  readonly mask?: MaskVector | undefined;
}

export type SessionEnd =
  | { readonly type: 'done'; readonly outcome: SessionOutcome }
  | { readonly type: 'abort'; readonly outcome: SessionAbort };

/** One session in flight: events go in, in order; `end` resolves when the machine is done. */
export interface RunningSession {
  readonly end: Promise<SessionEnd>;
  /** Consumes the message: the memory of an upload is given back once it is folded. */
  receive(from: Uint8Array, message: SessionMessage): void;
  reconnected(id: Uint8Array): void;
  lost(id: Uint8Array): void;
  /** Stops without a result; nothing more is sent. */
  stop(): void;
}

/** Components of noise that are drawn without a pause: about a tenth of a second for a million coordinates. */
const COMPONENTS_AT_ONCE = 4;
/** Bytes of a P3 frame beside its vector: header, padding, signature and body. */
const UPLOAD_OVERHEAD = 512;

/** Drives the aggregator machine: one event at a time, the effects of a step strictly in order. */
export function startSession(
  provider: CryptoProvider,
  identity: { readonly secretSeed: Uint8Array; readonly publicKey: Uint8Array },
  roster: Roster,
  open: { readonly params: SessionParams; readonly attachment: Uint8Array; readonly invited: readonly Uint8Array[] },
  host: SessionHost,
): RunningSession {
  const { params } = open;
  const crypto = rememberVerified(provider);
  const lanes = params.ring.lanes;
  const sum = new Uint32Array(
    ringWordCount(
      params.layout.reduce((total, s) => total + s.length, 0),
      lanes,
    ),
  );
  let state: AggregatorState = createAggregator(identity, roster);
  let timer: NodeJS.Timeout | null = null;
  let finished = false;
  const events: AggregatorEvent[] = [];
  let pumping = false;
  let settle: (end: SessionEnd) => void = () => undefined;
  let fail: (error: unknown) => void = () => undefined;
  const end = new Promise<SessionEnd>((resolve, reject) => {
    settle = resolve;
    fail = reject;
  });

  const finish = (): void => {
    finished = true;
    if (timer !== null) clearTimeout(timer);
    events.length = 0;
  };

  const breakOff = (error: unknown): void => {
    finish();
    fail(error);
  };

  const sends = createSendsUnderWay();
  let encoded: { readonly message: SessionMessage; readonly frame: Uint8Array } | null = null;

  /** Wire form of a message; a broadcast is one message object for everybody and is encoded once. */
  function frameOf(message: SessionMessage): Uint8Array {
    if (encoded?.message === message) return encoded.frame;
    const frame = encodeSessionMessage(message);
    // A delivery is composed for this one send: left to the garbage collector, those of a large cohort would pile up.
    if (message.type === 'p2-all') releaseBuffer(message.attachment.buffer as ArrayBuffer);
    else encoded = { message, frame };
    return frame;
  }

  /** Draws whole vectors; between some of them whatever else is waiting gets its turn. */
  async function takeOff(members: number, components: readonly NoiseComponent[]): Promise<void> {
    // In order of their laws, so that each table is built once.
    const ordered = components.toSorted((a, b) => a.number - b.number);
    for (let from = 0; from < ordered.length; from += COMPONENTS_AT_ONCE) {
      removeDropoutNoise(crypto, sum, params, members, ordered.slice(from, from + COMPONENTS_AT_ONCE));
      await pause();
    }
  }

  async function run(effect: AggregatorEffect): Promise<AggregatorEvent | null> {
    switch (effect.type) {
      case 'persist':
        await host.persist(effect.record, sum);
        return null;
      case 'send':
        await sends.start(
          () => host.send(effect.to, frameOf(effect.message)),
          (error) => {
            // Who cannot be sent to, say because it announced that it takes only short messages, is a dropout.
            if (isCoveyError(error)) push({ type: 'lost', id: effect.to });
            else breakOff(error);
          },
        );
        return null;
      case 'deadline': {
        if (timer !== null) clearTimeout(timer);
        const { phase } = effect;
        host.onPhase(phase);
        timer = setTimeout(() => push({ type: 'deadline', phase }), effect.ms);
        return null;
      }
      case 'fold':
        await host.keepUpload(effect.id, effect.words);
        foldWords(sum, effect.words, lanes);
        releaseLargeView(effect.words, UPLOAD_OVERHEAD);
        return { type: 'folded', id: effect.id };
      case 'charge':
        await host.charge(effect);
        return { type: 'charged' };
      case 'unmask':
        if (host.mask === undefined) applyMasks(sum, lanes, effect.seeds, crypto);
        else await host.mask(sum, lanes, effect.seeds);
        await takeOff(effect.members, effect.components);
        return { type: 'unmasked', sum };
      case 'done':
        finish();
        settle({ type: 'done', outcome: effect.outcome });
        return null;
      case 'abort':
        finish();
        settle({ type: 'abort', outcome: effect.outcome });
        return null;
    }
  }

  async function pump(): Promise<void> {
    if (pumping) return;
    pumping = true;
    try {
      for (let event = events.shift(); event !== undefined && !finished; event = events.shift()) {
        const step = stepAggregator(crypto, state, event);
        state = step.state;
        const answers: AggregatorEvent[] = [];
        for (const effect of step.effects) {
          const answer = await run(effect);
          if (answer !== null) answers.push(answer);
        }
        for (const secret of step.consumed) secret.fill(0);
        // Answers go first: the machine waits for them.
        events.unshift(...answers);
      }
    } catch (error) {
      breakOff(error);
    } finally {
      pumping = false;
    }
  }

  function push(event: AggregatorEvent): void {
    if (finished) return;
    events.push(event);
    void pump();
  }

  push({ type: 'open', ...open });
  return {
    end,
    receive: (from, message) => push({ type: 'message', from, message }),
    reconnected: (id) => push({ type: 'reconnected', id }),
    lost: (id) => push({ type: 'lost', id }),
    stop: finish,
  };
}

/** Roster entry of a node. @throws CoveyError AUTH_UNKNOWN, AUTH_REVOKED */
export function requireMember(roster: Roster, id: Uint8Array): Roster['entries'][number] {
  const entry = roster.entries.find((e) => equalBytes(e.id, id));
  if (entry === undefined)
    throw new CoveyError('AUTH_UNKNOWN', `"id" expected a member of the roster, got ${toHex(id).slice(0, 12)}`);
  if (roster.revoked.some((r) => equalBytes(r, id)))
    throw new CoveyError('AUTH_REVOKED', `"id" ${toHex(id).slice(0, 12)} was revoked`);
  return entry;
}
