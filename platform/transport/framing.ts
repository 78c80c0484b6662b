import { readU32le, u32le, writeLength } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { releaseLargeView } from '../node/release-buffer.ts';

/*
 * One message travels as one or more WebSocket binary messages:
 *   whole        0x00 | bytes
 *   first        0x01 | total length, u32 LE | bytes
 *   continuation 0x02 | bytes
 *   acknowledge  0x03 | messages of this link handed out so far, u32 LE; between any two fragments
 * All but the last fragment of a message are full, so that a message has exactly one form.
 */
const WHOLE = 0;
const FIRST = 1;
const CONTINUATION = 2;

const ACKNOWLEDGE = 3;

export function encodeAcknowledgement(count: number): Uint8Array {
  const frame = new Uint8Array(5);
  frame[0] = ACKNOWLEDGE;
  writeLength(frame, 1, count);
  return frame;
}

/** Count of an acknowledgement, or null for a fragment. @throws CoveyError CODEC_TRUNCATED, CODEC_TRAILING */
export function decodeAcknowledgement(frame: Uint8Array): number | null {
  if (frame[0] !== ACKNOWLEDGE) return null;
  if (frame.length !== 5) {
    const code = frame.length < 5 ? 'CODEC_TRUNCATED' : 'CODEC_TRAILING';
    throw new CoveyError(code, `"acknowledgement" expected 5 bytes, got ${frame.length}`);
  }
  return readU32le(frame, 1);
}

/** Bytes that a fragment is longer than what it carries. */
export const FRAGMENT_OVERHEAD = 5;

/** Cuts a message into fragments that carry at most `fragmentBytes` each; made one by one, so only one is in memory. */
export function* splitMessage(message: Uint8Array, fragmentBytes: number): Generator<Uint8Array> {
  if (message.length <= fragmentBytes) {
    const fragment = new Uint8Array(1 + message.length);
    fragment[0] = WHOLE;
    fragment.set(message, 1);
    yield fragment;
    return;
  }
  for (let at = 0; at < message.length; at += fragmentBytes) {
    const part = message.subarray(at, at + fragmentBytes);
    const head = at === 0 ? Uint8Array.of(FIRST, ...u32le(message.length)) : Uint8Array.of(CONTINUATION);
    const fragment = new Uint8Array(head.length + part.length);
    fragment.set(head);
    fragment.set(part, head.length);
    yield fragment;
  }
}

/** Bytes of incomplete messages that several connections hold together. */
export interface Staging {
  heldBytes: number;
  readonly maxBytes: number;
}

/** Puts the fragments of one connection together. */
export interface Reassembler {
  /**
   * Takes one fragment, memory included, and returns the message if it is complete, in memory of its own.
   * @throws CoveyError CODEC_TYPE, CODEC_TRUNCATED, CODEC_TRAILING, CODEC_LIMIT
   */
  push(fragment: Uint8Array): Uint8Array | null;
  isPartial(): boolean;
  /** Gives the held memory back. */
  discard(): void;
}

/** Memory grows with what arrives, never with what is announced. */
export function createReassembler(
  limits: { readonly maxMessageBytes: number; readonly fragmentBytes: number },
  staging: Staging,
): Reassembler {
  let parts: Uint8Array[] = [];
  let expectedBytes = 0;
  let receivedBytes = 0;

  function discard(): void {
    staging.heldBytes -= receivedBytes;
    parts = [];
    expectedBytes = 0;
    receivedBytes = 0;
  }

  function take(part: Uint8Array): Uint8Array | null {
    const restBytes = expectedBytes - receivedBytes;
    const wanted = Math.min(limits.fragmentBytes, restBytes);
    if (part.length < wanted)
      throw new CoveyError('CODEC_TRUNCATED', `"fragment" expected ${wanted} bytes, got ${part.length}`);
    if (part.length > wanted)
      throw new CoveyError('CODEC_TRAILING', `"fragment" expected ${wanted} bytes, got ${part.length}`);
    if (staging.heldBytes + part.length > staging.maxBytes) {
      throw new CoveyError(
        'CODEC_LIMIT',
        `"staging" expected at most ${staging.maxBytes} bytes of incomplete messages`,
      );
    }
    parts.push(part);
    receivedBytes += part.length;
    staging.heldBytes += part.length;
    if (receivedBytes < expectedBytes) return null;
    const message = new Uint8Array(expectedBytes);
    let at = 0;
    for (const piece of parts) {
      message.set(piece, at);
      at += piece.length;
      releaseLargeView(piece, FRAGMENT_OVERHEAD);
    }
    discard();
    return message;
  }

  return {
    discard,
    isPartial: () => expectedBytes > 0,
    push(fragment) {
      const kind = fragment[0];
      if (kind === CONTINUATION) {
        if (expectedBytes === 0)
          throw new CoveyError('CODEC_TYPE', '"fragment" expected a first fragment, got a continuation');
        return take(fragment.subarray(1));
      }
      if (kind !== WHOLE && kind !== FIRST)
        throw new CoveyError('CODEC_TYPE', `"fragment" expected kind 0, 1 or 2, got ${kind ?? 'nothing'}`);
      if (expectedBytes > 0)
        throw new CoveyError('CODEC_TYPE', '"fragment" expected a continuation, got a new message');
      const announcedBytes = kind === WHOLE ? fragment.length - 1 : readU32le(fragment, 1);
      if (announcedBytes > limits.maxMessageBytes) {
        throw new CoveyError(
          'CODEC_LIMIT',
          `"message" expected at most ${limits.maxMessageBytes} bytes, got ${announcedBytes}`,
        );
      }
      if (kind === WHOLE) {
        if (announcedBytes > limits.fragmentBytes) {
          throw new CoveyError(
            'CODEC_LIMIT',
            `"fragment" expected at most ${limits.fragmentBytes} bytes, got ${announcedBytes}`,
          );
        }
        return new Uint8Array(fragment.subarray(1));
      }
      if (announcedBytes <= limits.fragmentBytes)
        throw new CoveyError('CODEC_TYPE', '"fragment" expected a whole message for so few bytes');
      expectedBytes = announcedBytes;
      return take(fragment.subarray(5));
    },
  };
}
