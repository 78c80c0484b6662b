import { createServer, type IncomingMessage, type RequestListener, type ServerOptions } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider, RandomSource } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { requireSecureHost } from './address.ts';
import { asCoveyError, type Channel, closeSocket, isResumableEnd, openChannel } from './channel.ts';
import { FRAGMENT_OVERHEAD, type Staging } from './framing.ts';
import {
  type Challenge,
  chooseVersion,
  decodeHello,
  decodeProof,
  encodeChallenge,
  encodeWelcome,
  type Hello,
  helloDigest,
  REQUIRED_FEATURES,
} from './hello.ts';
import { DEFAULT_TRANSPORT_LIMITS, type TransportLimits } from './limits.ts';
import { createLink, isResumable, type Link, type ReplayBudget, TOKEN_BYTES } from './link.ts';

/** An authenticated participant. */
export interface Peer {
  readonly id: Uint8Array;
  readonly idHex: string;
}

export interface SocketServerOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly identity: { readonly secretSeed: Uint8Array; readonly publicKey: Uint8Array };
  /** Key of a participant, or undefined if it is unknown. @throws CoveyError AUTH_REVOKED */
  authenticate(id: Uint8Array): Uint8Array | undefined;
  readonly crypto: CryptoProvider;
  readonly random: RandomSource;
  readonly limits?: Partial<TransportLimits>;
  /** Certificate and key; without them the server listens on loopback only. */
  readonly tls?: { readonly cert: string; readonly key: string };
  readonly insecure?: boolean;
  /** Other requests on the same port: health and metrics. */
  readonly httpHandler?: RequestListener;
  /** `isResumed`: the peer goes on where it was; everything sent meanwhile reaches it once. */
  onOpen(peer: Peer, isResumed: boolean): void;
  /** While a returned promise is pending, nothing more is read from this peer. */
  onMessage(peer: Peer, message: Uint8Array): Promise<void> | void;
  /** Units: `code` is the WebSocket close code, 1006 if the peer vanished. */
  onClose(peer: Peer, code: number): void;
  /** Faults of our own handlers; the peer sees INTERNAL_INVARIANT and the server goes on. */
  onError?(error: unknown): void;
}

export interface SocketServer {
  readonly port: number;
  /**
   * Resolves with true once all bytes have left, or are kept for a peer that may come back; with false if the peer is not
   * connected and its link has ended.
   */
  send(idHex: string, message: Uint8Array): Promise<boolean>;
  connected(): readonly Uint8Array[];
  /** Ends all connections and stops listening. Units: `retryAfterMs` is what the peers are asked to wait. */
  close(retryAfterMs?: number): Promise<void>;
}

/** Bytes and time of the HTTP request that asks for a WebSocket; both end before any of its content is looked at. */
const httpLimits = ({ helloBytes, helloMs }: TransportLimits): ServerOptions => ({
  maxHeaderSize: helloBytes,
  headersTimeout: helloMs,
  requestTimeout: helloMs,
  keepAliveTimeout: helloMs,
  connectionsCheckingInterval: Math.min(1_000, helloMs),
});

/** One frame carries one fragment; how it may be cut into continuation frames and chunks is bounded too. */
export const webSocketLimits = (
  fragmentBytes: number,
): { maxPayload: number; maxFragments: number; maxBufferedChunks: number } => ({
  maxPayload: fragmentBytes + FRAGMENT_OVERHEAD,
  maxFragments: 16,
  maxBufferedChunks: 8_192,
});

function refuseUpgrade(socket: Duplex, status: string, headers: string = ''): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n${headers}\r\n`);
}

const reject404: RequestListener = (_request, response) => {
  response.writeHead(404).end();
};

/**
 * Listens for participants. Nobody is heard before the signed hello, nothing that arrives can end the process, and
 * a new authenticated connection of a participant replaces its old one.
 * @throws CoveyError USAGE_CONFIG if the address would be open in plain text, or cannot be listened on.
 */
export async function startSocketServer(options: SocketServerOptions): Promise<SocketServer> {
  const { crypto, identity, random } = options;
  const limits: TransportLimits = { ...DEFAULT_TRANSPORT_LIMITS, ...options.limits };
  requireSecureHost(options.host, options.tls !== undefined, options.insecure === true);
  const onError = (error: unknown): void => {
    try {
      options.onError?.(error);
    } catch {
      // A reporter that fails has nobody to report to; the server goes on.
    }
  };
  const staging: Staging = { heldBytes: 0, maxBytes: limits.stagingBytes };
  const peers = new Map<string, { readonly peer: Peer; readonly channel: Channel }>();
  const pending = new Set<WebSocket>();
  const budget: ReplayBudget = { heldBytes: 0, maxBytes: limits.replayTotalBytes };
  /** By id; a link whose peer is away ends with its timer. */
  const links = new Map<
    string,
    { readonly link: Link; readonly maxMessageBytes: number; timer: NodeJS.Timeout | null }
  >();
  let isClosing = false;

  /** Our own handlers must not bring the server down. */
  function guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      onError(error);
    }
  }

  function endLink(idHex: string): void {
    const entry = links.get(idHex);
    if (entry === undefined) return;
    if (entry.timer !== null) clearTimeout(entry.timer);
    entry.link.forget();
    links.delete(idHex);
  }

  function waitForPeer(idHex: string): void {
    const entry = links.get(idHex);
    if (entry === undefined) return;
    entry.timer = setTimeout(() => endLink(idHex), limits.resumeMs);
    entry.timer.unref();
  }

  function admit(socket: WebSocket, hello: Hello, challenge: Challenge): void {
    const peer: Peer = { id: hello.id, idHex: toHex(hello.id) };
    // The link may have ended, or moved on, since the challenge was signed.
    const resumed = challenge.resumed === 1 ? links.get(peer.idHex) : undefined;
    const isResumed = resumed !== undefined && isResumable(resumed.link, hello.token, hello.received);
    if (challenge.resumed === 1 && !isResumed) {
      refuse(socket, new CoveyError('PROTO_DEADLINE', '"link" ended while it was being resumed'));
      return;
    }
    peers.get(peer.idHex)?.channel.end(new CoveyError('AUTH_DUPLICATE', '"connection" was replaced by a newer one'));
    if (!isResumed) endLink(peer.idHex);
    const link = isResumed ? resumed.link : createLink(challenge.token, limits.replayBytes, budget);
    if (resumed?.timer != null) clearTimeout(resumed.timer);
    links.set(peer.idHex, { link, maxMessageBytes: hello.maxMessageBytes, timer: null });
    if (isResumed) link.acknowledge(hello.received);
    const channel = openChannel(socket, {
      link,
      repeated: isResumed ? link.received() - challenge.received : 0,
      limits,
      isPinging: true,
      heartbeatMs: limits.heartbeatMs,
      peerMaxBytes: hello.maxMessageBytes,
      staging,
      onMessage: (message) => options.onMessage(peer, message),
      onError,
      onEnd(end) {
        if (peers.get(peer.idHex)?.channel === channel) peers.delete(peer.idHex);
        if (links.get(peer.idHex)?.link === link && !peers.has(peer.idHex)) {
          if (isResumableEnd(end) && !isClosing) waitForPeer(peer.idHex);
          else endLink(peer.idHex);
        }
        guard(() => options.onClose(peer, end.code));
      },
    });
    peers.set(peer.idHex, { peer, channel });
    if (isResumed) channel.replay();
    guard(() => options.onOpen(peer, isResumed));
  }

  /** The steps of one hello; every message has to be the next one. */
  function startHello(socket: WebSocket, onAdmitted: () => void): (message: Uint8Array) => void {
    let sent: { readonly hello: Hello; readonly challenge: Challenge; readonly key: Uint8Array } | null = null;
    return (message) => {
      if (sent === null) {
        const hello = decodeHello(message);
        const proto = chooseVersion(hello);
        const key = options.authenticate(hello.id);
        if (key === undefined) throw new CoveyError('AUTH_UNKNOWN', '"id" expected one of the roster');
        const { heartbeatMs, maxMessageBytes } = limits;
        const known = links.get(toHex(hello.id))?.link;
        const link = isResumable(known, hello.token, hello.received) ? known : null;
        const challenge: Challenge = {
          proto,
          features: REQUIRED_FEATURES,
          nonce: random(32),
          maxMessageBytes,
          heartbeatMs,
          token: link?.token ?? random(TOKEN_BYTES),
          resumed: link === null ? 0 : 1,
          received: link?.received() ?? 0,
        };
        sent = { hello, challenge, key };
        const digest = helloDigest(crypto, 'server', identity.publicKey, hello, challenge);
        socket.send(encodeChallenge(challenge, crypto.ed25519Sign(digest, identity.secretSeed)));
        return;
      }
      const { hello, challenge, key } = sent;
      const digest = helloDigest(crypto, 'client', identity.publicKey, hello, challenge);
      if (!crypto.ed25519Verify(decodeProof(message), digest, key))
        throw new CoveyError('AUTH_SIGNATURE', '"proof" expected the signature of the node key');
      socket.send(encodeWelcome());
      leaveHello(socket);
      onAdmitted();
      admit(socket, hello, challenge);
    };
  }

  const leaving = new Map<WebSocket, () => void>();
  /** Ends the first stage: its deadline, listeners and place in the queue. */
  function leaveHello(socket: WebSocket): void {
    leaving.get(socket)?.();
    leaving.delete(socket);
    pending.delete(socket);
  }

  function acceptSocket(socket: WebSocket, stream: Duplex): void {
    if (pending.size >= limits.maxPending) {
      // Whoever has waited longest is the least likely to be honest.
      const [oldest] = pending;
      if (oldest !== undefined) refuse(oldest, new CoveyError('PROTO_DEADLINE', '"hello" expected earlier'));
    }
    pending.add(socket);
    let receivedBytes = 0;
    const step = startHello(socket, () => stream.off('data', count));
    const timer = setTimeout(
      () => refuse(socket, new CoveyError('PROTO_DEADLINE', '"hello" expected in time')),
      limits.helloMs,
    );
    const count = (chunk: Uint8Array): void => {
      receivedBytes += chunk.length;
      if (receivedBytes <= limits.helloBytes) return;
      // Counted on the wire, so that no frame, ping or fragment goes round it; also while a refused peer is closing.
      if (pending.has(socket))
        refuse(socket, new CoveyError('CODEC_LIMIT', `"hello" expected at most ${limits.helloBytes} bytes`));
      else if (receivedBytes > 2 * limits.helloBytes) stream.destroy();
    };
    const onMessage = (data: Uint8Array, isBinary: boolean): void => {
      try {
        if (!isBinary) throw new CoveyError('CODEC_TYPE', '"hello" expected binary data, got text');
        step(data);
      } catch (error) {
        const fault = asCoveyError(error);
        if (fault.code === 'INTERNAL_INVARIANT') onError(error);
        refuse(socket, fault);
      }
    };
    const onFault = (error: Error): void => refuse(socket, asCoveyError(error));
    const onGone = (): void => leaveHello(socket);
    leaving.set(socket, () => {
      clearTimeout(timer);
      socket.off('message', onMessage).off('error', onFault).off('close', onGone);
    });
    // Before the listener of the WebSocket itself, which would read the same bytes first.
    stream.prependListener('data', count);
    socket.on('message', onMessage).on('error', onFault).on('close', onGone);
  }

  function refuse(socket: WebSocket, error: CoveyError): void {
    leaveHello(socket);
    // Whatever still arrives has no listener; an error without one would end the process.
    socket.on('error', () => socket.terminate());
    closeSocket(socket, error);
  }

  const sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    clientTracking: false,
    ...webSocketLimits(limits.fragmentBytes),
  });
  const http = httpLimits(limits);
  const server =
    options.tls === undefined
      ? createServer(http, options.httpHandler ?? reject404)
      : createTlsServer(
          { ...http, ...options.tls, handshakeTimeout: limits.helloMs },
          options.httpHandler ?? reject404,
        );
  server.maxConnections = limits.maxConnections + 2 * limits.maxPending;
  // Connections that have not asked for anything yet; the oldest gives way, so silence cannot lock others out.
  const silent = new Set<Duplex>();
  server.on(options.tls === undefined ? 'connection' : 'secureConnection', (stream: Duplex) => {
    silent.add(stream);
    stream.once('close', () => silent.delete(stream));
    const [oldest] = silent;
    if (silent.size > limits.maxPending) oldest?.destroy();
  });
  server.on('clientError', (_error, socket) => refuseUpgrade(socket, '400 Bad Request'));
  server.on('upgrade', (request: IncomingMessage, stream: Duplex, head: Buffer) => {
    stream.on('error', () => stream.destroy());
    silent.delete(stream);
    if (isClosing || peers.size >= limits.maxConnections) {
      refuseUpgrade(stream, '503 Service Unavailable', 'Retry-After: 5\r\n');
    } else if (head.length > limits.helloBytes) {
      stream.destroy();
    } else {
      sockets.handleUpgrade(request, stream, head, (socket) => acceptSocket(socket, stream));
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      reject(
        new CoveyError(
          'USAGE_CONFIG',
          `"port" expected a free one, got ${cause.code} for ${options.host}:${options.port}`,
          {},
          { cause },
        ),
      );
    });
    server.listen(options.port, options.host, resolve);
  });
  server.on('error', onError);

  return {
    port: (server.address() as AddressInfo).port,
    connected: () => [...peers.values()].map(({ peer }) => peer.id),
    async send(idHex, message) {
      const entry = peers.get(idHex);
      const away = links.get(idHex);
      if (entry === undefined) {
        if (away === undefined || message.length > away.maxMessageBytes) return false;
        // The peer finds it when it comes back.
        away.link.remember(message);
        return true;
      }
      try {
        await entry.channel.send(message);
        return true;
      } catch (error) {
        if (asCoveyError(error).code !== 'PROTO_DEADLINE') throw error;
        return links.get(idHex) === away && away !== undefined;
      }
    },
    async close(retryAfterMs = 1_000) {
      isClosing = true;
      const goodbye = new CoveyError('ROUND_TIMEOUT', '"coordinator" is going down');
      for (const { channel } of [...peers.values()]) channel.end(goodbye, retryAfterMs);
      for (const socket of [...pending]) refuse(socket, goodbye);
      for (const idHex of [...links.keys()]) endLink(idHex);
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeIdleConnections();
      });
    },
  };
}
