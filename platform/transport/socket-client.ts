import { WebSocket } from 'ws';
import type { CryptoProvider, RandomSource } from '../../protocol/crypto-provider.ts';
import { CoveyError, ERROR_CODES, type ErrorCode } from '../../protocol/errors.ts';
import { requireSecureUrl } from './address.ts';
import { asCoveyError, type Channel, type ChannelEnd, closeSocket, isResumableEnd, openChannel } from './channel.ts';
import type { Staging } from './framing.ts';
import {
  type Challenge,
  createHello,
  encodeHello,
  encodeProof,
  helloDigest,
  openChallenge,
  requireWelcome,
} from './hello.ts';
import { DEFAULT_TRANSPORT_LIMITS, type TransportLimits } from './limits.ts';
import { createLink, type Link, type ReplayBudget } from './link.ts';
import { webSocketLimits } from './socket-server.ts';

/** Waiting times between attempts: full jitter below a bound that doubles. Units: milliseconds. */
export interface Backoff {
  readonly initialMs: number;
  readonly maxMs: number;
}

/** Why the connection is gone and what happens next. */
export interface ClientClose extends ChannelEnd {
  /** Time to the next attempt, or null if there will be none. */
  readonly retryInMs: number | null;
  /** What the coordinator or our own checks said; null if the connection just broke. */
  readonly error: CoveyError | null;
  /** What the system said of a connection that did not come about or broke: `ECONNREFUSED`, `HTTP 503`, a fault of TLS. */
  readonly cause: string | null;
}

export interface SocketClientOptions {
  readonly url: string;
  readonly identity: { readonly id: Uint8Array; readonly secretSeed: Uint8Array };
  /** Pinned; a server that cannot sign with it is refused. */
  readonly coordinatorKey: Uint8Array;
  readonly crypto: CryptoProvider;
  readonly random: RandomSource;
  readonly limits?: Partial<TransportLimits>;
  readonly backoff?: Backoff;
  /** Certificate authority of the coordinator, if not a public one (PEM). */
  readonly ca?: string;
  readonly insecure?: boolean;
  /** While a returned promise is pending, nothing more is read. */
  onMessage(message: Uint8Array): Promise<void> | void;
  /** `isResumed`: nothing was lost in either direction; otherwise the application repeats what matters. */
  onOpen(isResumed: boolean): void;
  onClose(reason: ClientClose): void;
  /** Faults of our own message handler; the connection is closed and opened anew. */
  onError?(error: unknown): void;
}

export interface SocketClient {
  /**
   * Waits for a connection and until the last byte has left; a message that was cut off is sent again as a whole.
   * @throws CoveyError with the code of the coordinator's final refusal, CODEC_LIMIT, or USAGE_STATE after `close`.
   */
  send(message: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

export const DEFAULT_BACKOFF: Backoff = { initialMs: 250, maxMs: 30_000 };

/** Refusals that no later attempt changes. */
const FINAL: ReadonlySet<ErrorCode> = new Set([
  'AUTH_UNKNOWN',
  'AUTH_REVOKED',
  'AUTH_SIGNATURE',
  'AUTH_DUPLICATE',
  'PROTO_VERSION',
]);
const LONGEST_RETRY_MS = 600_000;

function parseReason(reason: string): { readonly error: CoveyError | null; readonly retryAfterMs: number } {
  const [, code = '', retryAfterMs = '0'] = /^([A-Z_]{1,40})(?: retryAfterMs=(\d{1,9}))?$/.exec(reason) ?? [];
  const isKnown = Object.hasOwn(ERROR_CODES, code);
  return {
    error: isKnown
      ? new CoveyError(
          code as ErrorCode,
          `the coordinator closed the connection: ${ERROR_CODES[code as ErrorCode].meaning}`,
        )
      : null,
    retryAfterMs: Math.min(LONGEST_RETRY_MS, Number(retryAfterMs)),
  };
}

/**
 * Keeps a connection to the coordinator: mutual signed hello, automatic reconnect with exponential back-off and full
 * jitter, waiting times that the coordinator asks for.
 * @throws CoveyError USAGE_CONFIG for plain text to another machine.
 */
export function connectSocketClient(options: SocketClientOptions): SocketClient {
  requireSecureUrl(options.url, options.insecure === true);
  const { coordinatorKey, crypto, identity, random } = options;
  const limits: TransportLimits = { ...DEFAULT_TRANSPORT_LIMITS, ...options.limits };
  const backoff = options.backoff ?? DEFAULT_BACKOFF;
  const staging: Staging = { heldBytes: 0, maxBytes: limits.stagingBytes };
  const budget: ReplayBudget = { heldBytes: 0, maxBytes: limits.replayTotalBytes };
  let link: Link | null = null;
  let channel: Channel | null = null;
  let current: WebSocket | null = null;
  let failedAttempts = 0;
  let retryTimer: NodeJS.Timeout | null = null;
  let final: CoveyError | null = null;
  let waiters: { resolve(channel: Channel): void; reject(error: CoveyError): void }[] = [];
  let sending: Promise<unknown> = Promise.resolve();

  const whenOpen = (): Promise<Channel> =>
    new Promise((resolve, reject) => {
      if (final !== null) reject(final);
      else if (channel !== null) resolve(channel);
      else waiters.push({ resolve, reject });
    });

  function stop(error: CoveyError): void {
    final ??= error;
    if (retryTimer !== null) clearTimeout(retryTimer);
    for (const waiter of waiters) waiter.reject(final);
    waiters = [];
  }

  /** Full jitter: uniform below the bound, so that many nodes do not come back at once. */
  function nextDelayMs(atLeastMs: number): number {
    const boundMs = Math.min(backoff.maxMs, backoff.initialMs * 2 ** Math.min(30, failedAttempts));
    const [a = 0, b = 0, c = 0, d = 0] = random(4);
    return atLeastMs + Math.floor((boundMs * (a + 256 * (b + 256 * (c + 256 * d)))) / 2 ** 32);
  }

  function onGone(end: ChannelEnd, local: CoveyError | null, cause: string | null, retryAfterMs: number): void {
    channel = null;
    current = null;
    const told = parseReason(end.reason);
    const error = local ?? told.error;
    if (error !== null && FINAL.has(error.code)) stop(error);
    if (final !== null) {
      options.onClose({ ...end, error, cause, retryInMs: null });
      return;
    }
    const retryInMs = nextDelayMs(Math.max(told.retryAfterMs, retryAfterMs));
    failedAttempts += 1;
    retryTimer = setTimeout(connect, retryInMs);
    options.onClose({ ...end, error, cause, retryInMs });
  }

  function connect(): void {
    const socket = new WebSocket(options.url, {
      perMessageDeflate: false,
      followRedirects: false,
      handshakeTimeout: limits.helloMs,
      ...(options.ca === undefined ? {} : { ca: options.ca }),
      ...webSocketLimits(limits.fragmentBytes),
    });
    current = socket;
    const hello = createHello(
      identity.id,
      random(32),
      limits.maxMessageBytes,
      link === null ? undefined : { token: link.token, received: link.received() },
    );
    let challenge: Challenge | null = null;
    let fault: CoveyError | null = null;
    let cause: string | null = null;
    let retryAfterMs = 0;
    const fail = (error: CoveyError): void => {
      fault ??= error;
      closeSocket(socket, error);
    };
    const timer = setTimeout(
      () => fail(new CoveyError('PROTO_DEADLINE', '"coordinator" expected to answer the hello')),
      2 * limits.helloMs,
    );

    const onHello = (data: Uint8Array, isBinary: boolean): void => {
      try {
        if (!isBinary || data.length > limits.helloBytes)
          throw new CoveyError('CODEC_LIMIT', '"hello" expected a short binary message');
        if (challenge === null) {
          challenge = openChallenge(crypto, coordinatorKey, hello, data);
          if (challenge.resumed === 1 && link?.canReplayFrom(challenge.received) !== true)
            throw new CoveyError('PROTO_UNEXPECTED', '"received" expected a count of messages that were sent');
          const digest = helloDigest(crypto, 'client', coordinatorKey, hello, challenge);
          socket.send(encodeProof(crypto.ed25519Sign(digest, identity.secretSeed)));
        } else {
          requireWelcome(data);
          leave();
          open(socket, challenge);
        }
      } catch (error) {
        fail(asCoveyError(error));
      }
    };
    // A broken connection says nothing about the coordinator; only faults in what it sent are named.
    const onFault = (error: Error & { code?: string }): void => {
      if (error.code?.startsWith('WS_ERR_') === true) fault ??= asCoveyError(error);
      cause ??= error.code ?? null;
    };
    const onClosed = (code: number, reason: Buffer): void => {
      leave();
      onGone({ code, reason: reason.toString('utf8') }, fault, cause, retryAfterMs);
    };
    function leave(): void {
      clearTimeout(timer);
      socket.off('message', onHello).off('close', onClosed);
    }
    socket.on('unexpected-response', (request, response) => {
      cause = `HTTP ${response.statusCode}`;
      const seconds = Number(response.headers['retry-after'] ?? 0);
      if (Number.isFinite(seconds) && seconds > 0) retryAfterMs = Math.min(LONGEST_RETRY_MS, 1_000 * seconds);
      request.destroy();
      socket.terminate();
    });
    socket.on('open', () => socket.send(encodeHello(hello)));
    socket.on('message', onHello).on('error', onFault).on('close', onClosed);
  }

  function open(socket: WebSocket, challenge: Challenge): void {
    let hasHeard = false;
    const isResumed = challenge.resumed === 1 && link !== null;
    if (!isResumed) {
      link?.forget();
      link = createLink(challenge.token, limits.replayBytes, budget);
    }
    const own = link as Link;
    // What the coordinator has handed out need not be sent again.
    if (isResumed) own.acknowledge(challenge.received);
    const opened = openChannel(socket, {
      link: own,
      repeated: 0,
      limits,
      isPinging: false,
      heartbeatMs: challenge.heartbeatMs,
      peerMaxBytes: challenge.maxMessageBytes,
      staging,
      onMessage(message) {
        // An opened connection alone proves little: a coordinator that fails at once would be asked without a pause.
        if (!hasHeard) failedAttempts = 0;
        hasHeard = true;
        return options.onMessage(message);
      },
      onEnd: (end) => {
        if (!isResumableEnd(end)) {
          own.forget();
          if (link === own) link = null;
        }
        onGone(end, null, null, 0);
      },
      onError: (error) => options.onError?.(error),
    });
    if (isResumed) opened.replay();
    channel = opened;
    for (const waiter of waiters) waiter.resolve(opened);
    waiters = [];
    options.onOpen(isResumed);
  }

  async function sendWhole(message: Uint8Array): Promise<void> {
    let carrier: Link | null = null;
    for (;;) {
      const open = await whenOpen();
      // The resumed link has kept the message and sends it again by itself.
      if (carrier !== null && carrier === link) return;
      carrier = link;
      try {
        await open.send(message);
        return;
      } catch (error) {
        // The connection broke: the same bytes go out again on the next one, by the link or by this loop.
        if (asCoveyError(error).code !== 'PROTO_DEADLINE') throw error;
        if (channel === open) channel = null;
      }
    }
  }

  connect();
  return {
    send(message) {
      const sent = sending.then(() => sendWhole(message));
      sending = sent.catch(() => undefined);
      return sent;
    },
    async close() {
      const closed = new CoveyError('USAGE_STATE', '"connection" was closed');
      stop(closed);
      const socket = current;
      if (socket === null) return;
      await new Promise<void>((resolve) => {
        socket.once('close', () => resolve());
        if (socket.readyState === WebSocket.CONNECTING) socket.terminate();
        else socket.close(1000);
        setTimeout(() => socket.terminate(), 1_000).unref();
      });
    },
  };
}
