import { equalBytes } from '../../protocol/bytes.ts';
import type { CryptoProvider, RandomSource } from '../../protocol/crypto-provider.ts';
import { isCoveyError } from '../../protocol/errors.ts';
import { createParticipant, type ParticipantState, stepParticipant } from '../../protocol/participant.ts';
import { applyMasks, type MaskVector, wordsToBytes } from '../../protocol/ring.ts';
import type {
  ParticipantEffect,
  ParticipantEvent,
  ParticipantRecord,
  Roster,
  SessionMessage,
  SessionParams,
} from '../../protocol/session.ts';

/** What a session asks of the site; each call resolves when its effect is durable or sent. */
export interface ParticipantHost {
  /**
   * Local policy; returns the members of the census that binds this node's slot, or null.
   * @throws CoveyError PRIVACY_* to refuse.
   */
  authorize(params: SessionParams, sid: Uint8Array): Promise<readonly Uint8Array[] | null>;
  persist(record: ParticipantRecord): Promise<void>;
  send(message: SessionMessage): Promise<void>;
  /** Masks a whole vector faster than one thread does; left out where there is nothing of the kind. */
  readonly mask?: MaskVector | undefined;
  /** The unmasked vector; it is wiped as soon as it is masked. */
  contribute(effect: Extract<ParticipantEffect, { type: 'contribute' }>): Promise<Uint32Array>;
  /** Reserves the worst accepted case. @throws CoveyError PRIVACY_BUDGET */
  charge(effect: Extract<ParticipantEffect, { type: 'charge' }>): Promise<void>;
  settle(effect: Extract<ParticipantEffect, { type: 'settle' }>): Promise<void>;
  done(effect: Extract<ParticipantEffect, { type: 'done' }>): Promise<void>;
  aborted(effect: Extract<ParticipantEffect, { type: 'abort' }>): Promise<void>;
}

/** Sessions of one node, one after the other; a new P0 replaces the session before it. */
export interface ParticipantSessions {
  receive(message: SessionMessage): void;
  /** Resolves when everything received so far has been handled. */
  idle(): Promise<void>;
  /** Sends what the coordinator may have missed, as the same bytes. */
  resend(): void;
}

/**
 * Drives the participant machine: events in order, the effects of a step strictly in order, secrets wiped.
 * Random: 32 bytes of `random` enter with each P0 and serve that session only.
 */
export function startParticipant(
  crypto: CryptoProvider,
  random: RandomSource,
  identity: { readonly id: Uint8Array; readonly secretSeed: Uint8Array; readonly publicKey: Uint8Array },
  trust: { readonly coordinatorKey: Uint8Array; readonly roster: Roster },
  host: ParticipantHost,
  onError: (error: unknown) => void,
): ParticipantSessions {
  let state: ParticipantState = createParticipant(identity, trust, crypto);
  let timer: NodeJS.Timeout | null = null;
  let queue: Promise<void> = Promise.resolve();

  const restartTimer = (ms: number): void => {
    if (timer !== null) clearTimeout(timer);
    timer = setTimeout(() => push({ type: 'deadline' }), ms);
  };
  const stopTimer = (): void => {
    if (timer !== null) clearTimeout(timer);
    timer = null;
  };

  async function run(effect: ParticipantEffect): Promise<ParticipantEvent | null> {
    switch (effect.type) {
      case 'authorize':
        // The site waits a little longer than the coordinator, on its own clock.
        restartTimer(2 * effect.params.deadlineMs);
        try {
          return { type: 'authorized', census: await host.authorize(effect.params, effect.sid) };
        } catch (error) {
          if (!isCoveyError(error)) throw error;
          return { type: 'refused', code: error.code, reason: error.message };
        }
      case 'persist':
        await host.persist(effect.record);
        return null;
      case 'send':
        await host.send(effect.message);
        return null;
      case 'contribute':
        return { type: 'contribution', words: await host.contribute(effect) };
      case 'charge':
        try {
          await host.charge(effect);
          return { type: 'charged' };
        } catch (error) {
          if (!isCoveyError(error)) throw error;
          return { type: 'refused', code: error.code, reason: error.message };
        }
      case 'settle':
        await host.settle(effect);
        return null;
      case 'mask': {
        const words = effect.words.slice();
        if (host.mask === undefined) applyMasks(words, effect.lanes, effect.seeds, crypto);
        else await host.mask(words, effect.lanes, effect.seeds);
        return { type: 'masked', words, digest: crypto.sha256(wordsToBytes(words)) };
      }
      case 'done':
        stopTimer();
        await host.done(effect);
        return null;
      case 'abort':
        // A refused offer is no end of the session that is running.
        if (state.session === null || equalBytes(state.session.sid, effect.sid)) stopTimer();
        await host.aborted(effect);
        return null;
    }
  }

  async function handle(first: ParticipantEvent): Promise<void> {
    const events: ParticipantEvent[] = [first];
    for (let event = events.shift(); event !== undefined; event = events.shift()) {
      const step = stepParticipant(crypto, state, event);
      state = step.state;
      const answers: ParticipantEvent[] = [];
      for (const effect of step.effects) {
        const answer = await run(effect);
        if (answer !== null) answers.push(answer);
      }
      for (const secret of step.consumed) secret.fill(0);
      events.unshift(...answers);
    }
  }

  function push(event: ParticipantEvent): void {
    queue = queue.then(() => handle(event)).catch(onError);
  }

  return {
    receive(message) {
      push(message.type === 'p0' ? { type: 'open', message, entropy: random(32) } : { type: 'message', message });
    },
    idle: () => queue,
    resend: () => push({ type: 'resend' }),
  };
}
