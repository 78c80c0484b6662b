import { CoveyError } from '../../protocol/errors.ts';
import { encodeFrame, type Frame, openFrame } from '../../protocol/frame.ts';

/**
 * Messages between sessions. None is trusted for its transport: log lines carry their actor's signature, a census its
 * transcript, final models the hash in a signed `round.release`.
 */
export type RunMessage =
  /** Signed log line: genesis, run.open and round.release downwards, client.charge and client.leave upwards. */
  | { readonly type: 'run/log'; readonly payload: Uint8Array }
  /** Transcript of a census session; every member recomputes its sum. */
  | { readonly type: 'run/census'; readonly payload: Uint8Array }
  /** Models after the last release, bound by its signed hash; the run is over. */
  | { readonly type: 'run/finished'; readonly payload: Uint8Array }
  /** Upwards: the node has taken the last release and leaves. */
  | { readonly type: 'run/leave'; readonly payload: Uint8Array };

const TYPES: readonly string[] = ['run/log', 'run/census', 'run/finished', 'run/leave'] satisfies RunMessage['type'][];

export function encodeRunMessage(message: RunMessage): Uint8Array {
  return encodeFrame({ v: 1, t: message.type, payloadBytes: message.payload.length }, message.payload);
}

/**
 * Reads a run message; null if the frame is of another kind (a session message).
 * @throws CoveyError CODEC_* for malformed frames.
 */
export function decodeRunMessage(bytes: Uint8Array): RunMessage | null {
  return readRunMessage(openFrame(bytes));
}

/** The run message that a frame is; null for one of another kind. @throws CoveyError CODEC_* */
export function readRunMessage({ header, payload }: Frame): RunMessage | null {
  const type = header['t'];
  if (typeof type !== 'string' || !type.startsWith('run/')) return null;
  const extra = Object.keys(header).find((key) => !['v', 't', 'payloadBytes'].includes(key));
  if (extra !== undefined) throw new CoveyError('CODEC_EXTRA_KEY', '"header" has an unknown key');
  if (header['v'] !== 1 || !TYPES.includes(type))
    throw new CoveyError('CODEC_TYPE', '"t" expected a known run message');
  return { type: type as RunMessage['type'], payload };
}
