import { Packr } from 'msgpackr/index-no-eval';
import { readU32le, u32le } from './bytes.ts';
import { CoveyError } from './errors.ts';
import { LIMITS } from './limits.ts';
import { scanMsgpack } from './msgpack-scan.ts';
import type { MessageType, SessionMessage } from './session.ts';

/** Largest sizes that a receiver accepts at this point. Units: bytes. */
export interface FrameLimits {
  readonly maxHeaderBytes: number;
  readonly maxPayloadBytes: number;
}

export interface Frame {
  readonly header: Readonly<Record<string, unknown>>;
  readonly payload: Uint8Array;
}

const packr = new Packr({ useRecords: false, mapsAsObjects: true, moreTypes: false, int64AsType: 'number' });

/** Start of the payload: the next multiple of 16, so that words can be read in place. */
const payloadStart = (headerBytes: number): number => Math.ceil((4 + headerBytes) / 16) * 16;

/**
 * Builds `[u32 LE header length][msgpack header][zeros to a multiple of 16][payload]`; `payloadBytes` is set here.
 * Shapes: the payload is the parts one behind the other, copied once.
 * @throws CoveyError CODEC_* for a header that `decodeFrame` would refuse.
 */
export function encodeFrame(fields: Readonly<Record<string, unknown>>, ...payload: readonly Uint8Array[]): Uint8Array {
  const payloadBytes = payload.reduce((length, part) => length + part.length, 0);
  const header = packr.pack({ ...fields, payloadBytes });
  // What a receiver would refuse never leaves: undefined, dates and big integers pack as extensions.
  if (header.length > LIMITS.headerBytes) {
    throw new CoveyError('CODEC_LIMIT', `"header" expected at most ${LIMITS.headerBytes} bytes, got ${header.length}`);
  }
  scanMsgpack(header);
  const start = payloadStart(header.length);
  const frame = new Uint8Array(start + payloadBytes);
  frame.set(u32le(header.length));
  frame.set(header, 4);
  let at = start;
  for (const part of payload) {
    frame.set(part, at);
    at += part.length;
  }
  return frame;
}

/**
 * Reads a frame; the header is scanned before it is decoded and the declared payload length must be the real one.
 * @throws CoveyError CODEC_* @see SPEC section 8
 */
export function decodeFrame(bytes: Uint8Array, limits: FrameLimits): Frame {
  const headerBytes = readU32le(bytes, 0);
  if (headerBytes > limits.maxHeaderBytes)
    throw new CoveyError('CODEC_LIMIT', `"header" expected at most ${limits.maxHeaderBytes} bytes, got ${headerBytes}`);
  const start = payloadStart(headerBytes);
  if (start > bytes.length)
    throw new CoveyError('CODEC_TRUNCATED', `"frame" expected at least ${start} bytes, got ${bytes.length}`);
  const raw = bytes.subarray(4, 4 + headerBytes);
  scanMsgpack(raw);
  for (let i = 4 + headerBytes; i < start; i++)
    if (bytes[i] !== 0) throw new CoveyError('CODEC_TYPE', '"padding" expected zero bytes');
  const payload = bytes.subarray(start);
  if (payload.length > limits.maxPayloadBytes)
    throw new CoveyError(
      'CODEC_LIMIT',
      `"payload" expected at most ${limits.maxPayloadBytes} bytes, got ${payload.length}`,
    );
  let header: Record<string, unknown>;
  try {
    header = packr.unpack(raw) as Record<string, unknown>;
  } catch (cause) {
    throw new CoveyError('CODEC_TYPE', '"header" expected valid MessagePack', {}, { cause });
  }
  const declared = header['payloadBytes'];
  if (typeof declared !== 'number') throw new CoveyError('CODEC_TYPE', '"payloadBytes" expected a number');
  if (declared !== payload.length) {
    const code = declared < payload.length ? 'CODEC_TRAILING' : 'CODEC_TRUNCATED';
    throw new CoveyError(code, `"payload" expected ${declared} bytes, got ${payload.length}`);
  }
  return { header, payload };
}

/** `decodeFrame` within the limits of the protocol. @throws CoveyError CODEC_* */
export function openFrame(bytes: Uint8Array): Frame {
  return decodeFrame(bytes, { maxHeaderBytes: LIMITS.headerBytes, maxPayloadBytes: LIMITS.payloadBytes });
}

/** Demands exactly the keys of a schema. @throws CoveyError CODEC_EXTRA_KEY for an unknown one, CODEC_TYPE for a missing one. */
export function requireKeys(header: Readonly<Record<string, unknown>>, keys: readonly string[]): void {
  for (const key of Object.keys(header))
    if (!keys.includes(key)) throw new CoveyError('CODEC_EXTRA_KEY', '"header" has an unknown key');
  for (const key of keys)
    if (!Object.hasOwn(header, key)) throw new CoveyError('CODEC_TYPE', `"${key}" expected in the header`);
}

const SESSION_TYPES: ReadonlySet<string> = new Set<MessageType>([
  'p0',
  'p1',
  'p1-all',
  'p1r',
  'p1r-all',
  'p2',
  'p2-all',
  'p3',
  'p4-ask',
  'p4',
  'p5-ask',
  'p5',
  'result',
  'complaint',
  'abort',
]);
const SIGNATURE_BYTES = 64;

/** Wire form of a session message: header {v, t, sid, bodyBytes, payloadBytes}, payload signature | body | attachment. */
export function encodeSessionMessage(message: SessionMessage): Uint8Array {
  if (message.signature.length !== SIGNATURE_BYTES) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"signature" expected ${SIGNATURE_BYTES} bytes, got ${message.signature.length}`,
    );
  }
  const header = { v: 1, t: message.type, sid: message.sid, bodyBytes: message.body.length };
  return encodeFrame(header, message.signature, message.body, message.attachment);
}

/** @throws CoveyError CODEC_* */
export function decodeSessionMessage(bytes: Uint8Array, limits: FrameLimits): SessionMessage {
  return readSessionMessage(decodeFrame(bytes, limits));
}

/** The session message that a frame is. @throws CoveyError CODEC_* */
export function readSessionMessage({ header, payload }: Frame): SessionMessage {
  requireKeys(header, ['v', 't', 'sid', 'bodyBytes', 'payloadBytes']);
  const { v, t, sid, bodyBytes } = header as { v: unknown; t: unknown; sid: unknown; bodyBytes: unknown };
  if (v !== 1 || typeof t !== 'string' || !SESSION_TYPES.has(t))
    throw new CoveyError('CODEC_TYPE', '"t" expected a session message of version 1');
  if (!(sid instanceof Uint8Array) || sid.length !== 32) throw new CoveyError('CODEC_TYPE', '"sid" expected 32 bytes');
  if (
    typeof bodyBytes !== 'number' ||
    !Number.isInteger(bodyBytes) ||
    bodyBytes < 0 ||
    SIGNATURE_BYTES + bodyBytes > payload.length
  ) {
    throw new CoveyError('CODEC_TRUNCATED', '"bodyBytes" expected a length within the payload');
  }
  return {
    type: t as MessageType,
    sid: Uint8Array.from(sid),
    signature: payload.subarray(0, SIGNATURE_BYTES),
    body: payload.subarray(SIGNATURE_BYTES, SIGNATURE_BYTES + bodyBytes),
    attachment: payload.subarray(SIGNATURE_BYTES + bodyBytes),
  };
}
