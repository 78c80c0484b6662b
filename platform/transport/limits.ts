import { LIMITS } from '../../protocol/limits.ts';

/** Every cap and deadline of a connection. Units: bytes and milliseconds as the names say. */
export interface TransportLimits {
  /** All bytes that a peer may send before it is authenticated. */
  readonly helloBytes: number;
  /** Time from the connection to the authenticated hello. */
  readonly helloMs: number;
  readonly fragmentBytes: number;
  /** Largest message accepted; told to the peer in the hello. */
  readonly maxMessageBytes: number;
  /** Between two pings; a peer that is silent for three of them is dropped. */
  readonly heartbeatMs: number;
  /** Time for one fragment to leave this machine. */
  readonly sendMs: number;
  /** Time from the first to the last fragment of one message. */
  readonly messageMs: number;
  /** Bytes that may wait for one slow peer. */
  readonly queuedBytes: number;
  /** Bytes of unacknowledged messages kept for one peer, and for all peers together. */
  readonly replayBytes: number;
  readonly replayTotalBytes: number;
  /** How long a link waits for its peer to come back. */
  readonly resumeMs: number;
  /** Bytes of incomplete messages of all peers together. */
  readonly stagingBytes: number;
  /** Messages of one peer that wait for the handler before reading stops. */
  readonly maxWaiting: number;
  /** Connections that are not authenticated yet; a newer one takes the place of the oldest. */
  readonly maxPending: number;
  readonly maxConnections: number;
}

export const DEFAULT_TRANSPORT_LIMITS: TransportLimits = {
  helloBytes: LIMITS.helloBytes,
  helloMs: LIMITS.helloMs,
  fragmentBytes: LIMITS.fragmentBytes,
  maxMessageBytes: LIMITS.payloadBytes + LIMITS.headerBytes + 16,
  heartbeatMs: 20_000,
  sendMs: 60_000,
  messageMs: 300_000,
  queuedBytes: 2 * LIMITS.payloadBytes,
  replayBytes: LIMITS.payloadBytes,
  replayTotalBytes: 4 * LIMITS.payloadBytes,
  resumeMs: 120_000,
  stagingBytes: 8 * LIMITS.payloadBytes,
  maxWaiting: 16,
  maxPending: 256,
  maxConnections: 4_096,
};
