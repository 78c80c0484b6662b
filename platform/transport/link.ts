import { equalBytes } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';

/*
 * A link outlives its connections (SPEC section 8): each direction counts its messages, keeps those that the other end has
 * not acknowledged, and sends them again, the same bytes in the same order, on a connection that resumes it. Each message
 * is handed out once. A link that cannot be resumed starts anew and says so; what to repeat is then the application's word.
 */

export const TOKEN_BYTES = 32;

/** Of every zero: a hello that resumes nothing. */
export const NO_TOKEN: Uint8Array = new Uint8Array(TOKEN_BYTES);

/** Bytes that the links of one process keep for replay. */
export interface ReplayBudget {
  heldBytes: number;
  readonly maxBytes: number;
}

/** One end of a link. Units: counts in messages since the link began. */
export interface Link {
  /** Random, known to both ends; worth nothing without the key of the node that the link belongs to. */
  readonly token: Uint8Array;
  /** Messages handed out. */
  received(): number;
  /** Counts one message as handed out. */
  takeOne(): void;
  /** Remembers a message before it is sent. Too much to keep: the link can no longer be resumed. */
  remember(message: Uint8Array): void;
  /** Forgets what the other end has. @throws CoveyError PROTO_UNEXPECTED for more than was sent or less than before. */
  acknowledge(count: number): void;
  /** True if everything behind `received` is still kept. */
  canReplayFrom(received: number): boolean;
  /** Messages after the acknowledged ones, oldest first. */
  unacknowledged(): readonly Uint8Array[];
  /** Gives the kept memory back; the link cannot be resumed afterwards. */
  forget(): void;
}

/** Messages kept for one peer; more small ones than this without an acknowledgement are no honest backlog. */
const MAX_KEPT = 4_096;

export function createLink(token: Uint8Array, maxBytes: number, budget: ReplayBudget): Link {
  let kept: Uint8Array[] = [];
  let keptBytes = 0;
  let acknowledged = 0;
  let sent = 0;
  let received = 0;
  let isWhole = true;

  function forget(): void {
    budget.heldBytes -= keptBytes;
    kept = [];
    keptBytes = 0;
    isWhole = false;
  }

  return {
    token,
    forget,
    received: () => received,
    takeOne() {
      received += 1;
    },
    remember(message) {
      sent += 1;
      if (!isWhole) return;
      kept.push(message);
      keptBytes += message.length;
      budget.heldBytes += message.length;
      if (keptBytes > maxBytes || kept.length > MAX_KEPT || budget.heldBytes > budget.maxBytes) forget();
    },
    acknowledge(count) {
      if (count < acknowledged || count > sent) {
        throw new CoveyError(
          'PROTO_UNEXPECTED',
          `"acknowledged" expected from ${acknowledged} to ${sent} messages, got ${count}`,
        );
      }
      const gone = isWhole ? kept.splice(0, count - acknowledged) : [];
      acknowledged = count;
      const bytes = gone.reduce((sum, message) => sum + message.length, 0);
      keptBytes -= bytes;
      budget.heldBytes -= bytes;
    },
    canReplayFrom: (count) => isWhole && count >= acknowledged && count <= sent,
    unacknowledged: () => kept,
  };
}

/** True if a hello names this link and what it misses is still there. */
export function isResumable(link: Link | undefined, token: Uint8Array, received: number): link is Link {
  return link !== undefined && equalBytes(link.token, token) && link.canReplayFrom(received);
}
