import type { WebSocket } from 'ws';
import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import { releaseLargeView } from '../node/release-buffer.ts';
import {
  createReassembler,
  decodeAcknowledgement,
  encodeAcknowledgement,
  type Staging,
  splitMessage,
} from './framing.ts';
import type { TransportLimits } from './limits.ts';
import type { Link } from './link.ts';

/** Why a connection ended. Units: `code` is a WebSocket close code, 1006 if the peer just vanished. */
export interface ChannelEnd {
  readonly code: number;
  readonly reason: string;
}

/** An authenticated connection that carries whole messages. */
export interface Channel {
  /** Sends what the link has kept, before anything else. */
  replay(): void;
  /**
   * Resolves when the last byte has left this process; the link keeps the message until it is acknowledged.
   * @throws CoveyError CODEC_LIMIT for a message larger than the peer takes, PROTO_DEADLINE if the connection ended before.
   */
  send(message: Uint8Array): Promise<void>;
  /** Ends the connection; the peer is told the code. Only the first call counts. Units: `retryAfterMs` for the peer. */
  end(error: CoveyError, retryAfterMs?: number): void;
}

export interface ChannelOptions {
  readonly limits: TransportLimits;
  /** The coordinator pings; a node only listens. */
  readonly isPinging: boolean;
  readonly heartbeatMs: number;
  /** Largest message that the peer takes. */
  readonly peerMaxBytes: number;
  readonly staging: Staging;
  /** Counts and keeps messages across connections. */
  readonly link: Link;
  /** Messages at the start of this connection that an older one has handed out meanwhile. */
  readonly repeated: number;
  /** While a returned promise is pending, nothing more is read from the peer. */
  onMessage(message: Uint8Array): Promise<void> | void;
  onEnd(end: ChannelEnd): void;
  onError(error: unknown): void;
}

const SILENT_BEATS = 3;
/** An acknowledgement stands for all before it; one of short messages may come so much later, or when so many wait for it. */
const ACKNOWLEDGE_MS = 250;
const ACKNOWLEDGE_BYTES = 65_536;
/** Time for the closing handshake before the socket is cut. */
const CLOSING_MS = 1_000;

/** Tells the peer why, then closes, whatever the peer does. Only the code travels: messages may name local facts. */
export function closeSocket(socket: WebSocket, error: CoveyError, retryAfterMs: number = 0): void {
  const reason = retryAfterMs > 0 ? `${error.code} retryAfterMs=${retryAfterMs}` : error.code;
  const timer = setTimeout(() => socket.terminate(), CLOSING_MS);
  socket.once('close', () => clearTimeout(timer));
  socket.close(error.closeCode ?? 1011, reason);
}

/** The error that a fault is to the peer. */
export function asCoveyError(error: unknown): CoveyError {
  if (isCoveyError(error)) return error;
  // The WebSocket layer marks violations of its framing, masking, length and UTF-8 rules with such codes.
  const { code } = error as { code?: unknown };
  if (code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH' || code === 'WS_ERR_TOO_MANY_BUFFERED_PARTS')
    return new CoveyError('CODEC_LIMIT', '"frame" expected fewer bytes', {}, { cause: error });
  if (typeof code === 'string' && code.startsWith('WS_ERR_'))
    return new CoveyError('CODEC_TYPE', '"frame" expected a valid WebSocket frame', {}, { cause: error });
  return new CoveyError('INTERNAL_INVARIANT', 'a message handler failed', {}, { cause: error });
}

const endedEarly = (cause?: unknown): CoveyError =>
  new CoveyError(
    'PROTO_DEADLINE',
    '"connection" ended before the message was sent',
    {},
    cause === undefined ? undefined : { cause },
  );

/** Ends after which a link may go on: the peer vanished, fell silent or was replaced. Whoever broke a rule starts anew. */
export function isResumableEnd({ code, reason }: ChannelEnd): boolean {
  return code === 1001 || code === 1005 || code === 1006 || reason === 'PROTO_DEADLINE' || reason === 'AUTH_DUPLICATE';
}

/** Serves an authenticated socket: fragments, back pressure, heartbeat and a deadline for everything that can stall. */
export function openChannel(socket: WebSocket, options: ChannelOptions): Channel {
  const { limits, staging } = options;
  const reassembler = createReassembler(limits, staging);
  let sending: Promise<void> = Promise.resolve();
  let queuedBytes = 0;
  let silentBeats = 0;
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  let isHandling = false;
  /** Bytes handed out since the last acknowledgement. */
  let owedBytes = 0;
  let owedTimer: NodeJS.Timeout | null = null;
  let toSkip = options.repeated;
  let messageTimer: NodeJS.Timeout | null = null;
  let ended: ChannelEnd | null = null;
  /** Rejects the one fragment that is on its way. */
  let cutFragment: (error: CoveyError) => void = () => undefined;

  function finish(end: ChannelEnd): void {
    if (ended !== null) return;
    ended = end;
    clearInterval(heartbeat);
    if (messageTimer !== null) clearTimeout(messageTimer);
    if (owedTimer !== null) clearTimeout(owedTimer);
    reassembler.discard();
    waiting = [];
    cutFragment(endedEarly());
    options.onEnd(end);
  }

  function end(error: CoveyError, retryAfterMs?: number): void {
    if (ended !== null) return;
    closeSocket(socket, error, retryAfterMs);
    // A paused socket would never see the answer to the close.
    socket.resume();
    finish({ code: error.closeCode ?? 1011, reason: error.code });
  }

  const heartbeat = setInterval(() => {
    // Beats are counted, not timed: after a long computation of this process only one of them is late.
    // A peer that is not read from cannot be heard.
    if (socket.isPaused) return;
    silentBeats += 1;
    if (silentBeats > SILENT_BEATS) end(new CoveyError('PROTO_DEADLINE', '"peer" expected a sign of life'));
    else if (options.isPinging) socket.ping();
  }, options.heartbeatMs);
  const isAlive = (): void => {
    silentBeats = 0;
  };

  const isFull = (): boolean => waiting.length >= limits.maxWaiting || waitingBytes > limits.fragmentBytes;

  async function handleWaiting(): Promise<void> {
    isHandling = true;
    try {
      for (let message = waiting.shift(); message !== undefined; message = waiting.shift()) {
        // The handler may give the memory of the message back.
        const { length } = message;
        // An older connection of this link has handed it out while this one was being opened.
        if (toSkip > 0) toSkip -= 1;
        else {
          options.link.takeOne();
          await options.onMessage(message);
        }
        waitingBytes -= length;
        owedBytes += length;
        if (waiting.length === 0) owe();
        if (socket.isPaused && !isFull()) socket.resume();
      }
    } catch (error) {
      options.onError(error);
      end(asCoveyError(error));
    }
    isHandling = false;
  }

  /** The other end keeps long messages until it hears of them: at once. Short ones share an acknowledgement. */
  function owe(): void {
    if (owedBytes >= ACKNOWLEDGE_BYTES) acknowledge();
    else if (ended === null) owedTimer ??= setTimeout(acknowledge, ACKNOWLEDGE_MS);
  }

  /** Cumulative, so one that a full pipe leaves out is made up for by the next. */
  function acknowledge(): void {
    if (owedTimer !== null) clearTimeout(owedTimer);
    owedTimer = null;
    owedBytes = 0;
    if (ended !== null || socket.bufferedAmount > limits.fragmentBytes) return;
    socket.send(encodeAcknowledgement(options.link.received()), { binary: true, compress: false }, () => undefined);
  }

  function take(data: Uint8Array, isBinary: boolean): void {
    isAlive();
    // Frames that were already read may still come after the end.
    if (ended !== null) return;
    if (!isBinary) throw new CoveyError('CODEC_TYPE', '"message" expected binary data, got text');
    const acknowledged = decodeAcknowledgement(data);
    if (acknowledged !== null) {
      options.link.acknowledge(acknowledged);
      return;
    }
    const message = reassembler.push(data);
    if (messageTimer !== null && !reassembler.isPartial()) {
      clearTimeout(messageTimer);
      messageTimer = null;
    } else if (messageTimer === null && reassembler.isPartial()) {
      messageTimer = setTimeout(
        () => end(new CoveyError('PROTO_DEADLINE', '"message" expected its last fragment')),
        limits.messageMs,
      );
    }
    if (message === null) return;
    waiting.push(message);
    waitingBytes += message.length;
    // Paused first: a handler that answers at once resumes again.
    if (isFull()) socket.pause();
    if (!isHandling) void handleWaiting();
  }

  socket.on('message', (data: Uint8Array, isBinary: boolean) => {
    try {
      take(data, isBinary);
    } catch (error) {
      end(asCoveyError(error));
    }
  });
  socket.on('ping', isAlive);
  socket.on('pong', isAlive);
  socket.on('error', (error) => end(asCoveyError(error)));
  socket.on('close', (code, reason) => finish({ code, reason: reason.toString('utf8') }));

  function sendFragment(fragment: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      cutFragment = reject;
      const timer = setTimeout(
        () => end(new CoveyError('PROTO_DEADLINE', '"peer" expected to take what is sent')),
        limits.sendMs,
      );
      socket.send(fragment, { binary: true, compress: false }, (error) => {
        clearTimeout(timer);
        // Copied for this one send; what many members are sent would bring the garbage collector on.
        releaseLargeView(fragment, 0);
        if (error === undefined || error === null) resolve();
        else reject(endedEarly(error));
      });
    });
  }

  async function sendNow(message: Uint8Array): Promise<void> {
    for (const fragment of splitMessage(message, limits.fragmentBytes)) {
      if (ended !== null) throw endedEarly();
      await sendFragment(fragment);
    }
  }

  async function enqueue(message: Uint8Array): Promise<void> {
    queuedBytes += message.length;
    const sent = sending.then(() => sendNow(message));
    sending = sent.catch(() => undefined);
    try {
      await sent;
    } finally {
      queuedBytes -= message.length;
    }
  }

  return {
    end,
    replay() {
      for (const message of options.link.unacknowledged()) enqueue(message).catch(() => undefined);
    },
    async send(message) {
      if (message.length > options.peerMaxBytes) {
        throw new CoveyError(
          'CODEC_LIMIT',
          `"message" expected at most ${options.peerMaxBytes} bytes, got ${message.length}`,
        );
      }
      // Kept first: a connection that breaks at any later point leaves the message to the one that resumes the link.
      options.link.remember(message);
      if (ended !== null) throw endedEarly();
      if (queuedBytes + message.length > limits.queuedBytes && queuedBytes > 0) {
        end(new CoveyError('PROTO_DEADLINE', '"peer" expected to keep up with what is sent'));
        throw endedEarly();
      }
      await enqueue(message);
    },
  };
}
