import { fromUtf8 } from './bytes.ts';
import { CoveyError } from './errors.ts';
import { LIMITS } from './limits.ts';

interface Cursor {
  readonly bytes: Uint8Array;
  at: number;
  items: number;
}

function take(cursor: Cursor, length: number): number {
  const start = cursor.at;
  if (length > cursor.bytes.length - start) {
    throw new CoveyError(
      'CODEC_TRUNCATED',
      `"header" expected ${length} more bytes, got ${cursor.bytes.length - start}`,
    );
  }
  cursor.at += length;
  return start;
}

function readLength(cursor: Cursor, width: number): number {
  const start = take(cursor, width);
  let value = 0;
  for (let i = 0; i < width; i++) value = value * 256 + (cursor.bytes[start + i] as number);
  return value;
}

/** Counts the members of a container at `depth` (the top map is 1) before any of them is read. */
function enterContainer(cursor: Cursor, items: number, depth: number): void {
  if (depth > LIMITS.msgpackDepth) {
    throw new CoveyError('CODEC_LIMIT', `"header" expected a depth of at most ${LIMITS.msgpackDepth}`);
  }
  cursor.items += items;
  if (cursor.items > LIMITS.msgpackItems)
    throw new CoveyError('CODEC_LIMIT', `"header" expected at most ${LIMITS.msgpackItems} items`);
}

function scanKey(cursor: Cursor, seen: Set<string>): void {
  const tag = cursor.bytes[take(cursor, 1)] as number;
  const length = tag >= 0xa0 && tag <= 0xbf ? tag - 0xa0 : tag === 0xd9 ? readLength(cursor, 1) : -1;
  if (length < 0) throw new CoveyError('CODEC_TYPE', '"header" expected short strings as keys');
  if (length > LIMITS.keyBytes)
    throw new CoveyError('CODEC_LIMIT', `"header" expected keys of at most ${LIMITS.keyBytes} bytes`);
  const start = take(cursor, length);
  let key = '';
  for (let i = 0; i < length; i++) {
    const byte = cursor.bytes[start + i] as number;
    if (byte < 0x20 || byte > 0x7e) throw new CoveyError('CODEC_TYPE', '"header" expected printable ASCII keys');
    key += String.fromCharCode(byte);
  }
  // Such a key would change the object's prototype instead of becoming a field.
  if (seen.has(key) || key === '__proto__')
    throw new CoveyError('CODEC_EXTRA_KEY', '"header" has a repeated or reserved key');
  seen.add(key);
}

function scanMap(cursor: Cursor, entries: number, depth: number): void {
  enterContainer(cursor, 2 * entries, depth);
  const seen = new Set<string>();
  for (let i = 0; i < entries; i++) {
    scanKey(cursor, seen);
    scanValue(cursor, depth + 1);
  }
}

/** Decoders replace broken UTF-8, each in its own way; it is refused instead. */
function scanText(cursor: Cursor, length: number): void {
  const start = take(cursor, length);
  fromUtf8(cursor.bytes.subarray(start, start + length));
}

function scanArray(cursor: Cursor, entries: number, depth: number): void {
  enterContainer(cursor, entries, depth);
  for (let i = 0; i < entries; i++) scanValue(cursor, depth + 1);
}

// First bytes of the MessagePack specification that are allowed, with the bytes of the value or of its length behind them.
const SCALAR_BYTES: ReadonlyMap<number, number> = new Map([
  [0xc0, 0], // nil
  [0xc2, 0], // false
  [0xc3, 0], // true
  [0xca, 4], // float 32
  [0xcb, 8], // float 64
  [0xcc, 1], // uint 8, 16, 32
  [0xcd, 2],
  [0xce, 4],
  [0xd0, 1], // int 8, 16, 32
  [0xd1, 2],
  [0xd2, 4],
]);
const BINARY_LENGTH_BYTES: ReadonlyMap<number, number> = new Map([
  [0xc4, 1],
  [0xc5, 2],
  [0xc6, 4],
]);
const TEXT_LENGTH_BYTES: ReadonlyMap<number, number> = new Map([
  [0xd9, 1],
  [0xda, 2],
  [0xdb, 4],
]);

function scanValue(cursor: Cursor, depth: number): void {
  const tag = cursor.bytes[take(cursor, 1)] as number;
  if (tag <= 0x7f || tag >= 0xe0) return; // small integers
  if (tag <= 0x8f) scanMap(cursor, tag - 0x80, depth);
  else if (tag <= 0x9f) scanArray(cursor, tag - 0x90, depth);
  else if (tag <= 0xbf) scanText(cursor, tag - 0xa0);
  else if (tag === 0xdc) scanArray(cursor, readLength(cursor, 2), depth);
  else if (tag === 0xde) scanMap(cursor, readLength(cursor, 2), depth);
  else scanLongValue(cursor, tag);
}

function scanLongValue(cursor: Cursor, tag: number): void {
  const scalarBytes = SCALAR_BYTES.get(tag);
  const binaryLengthBytes = BINARY_LENGTH_BYTES.get(tag);
  const textLengthBytes = TEXT_LENGTH_BYTES.get(tag);
  if (scalarBytes !== undefined) take(cursor, scalarBytes);
  else if (binaryLengthBytes !== undefined) take(cursor, readLength(cursor, binaryLengthBytes));
  else if (textLengthBytes !== undefined) scanText(cursor, readLength(cursor, textLengthBytes));
  // Extensions, 64-bit integers and the unused 0xc1: the decoder would build objects from them.
  else throw new CoveyError('CODEC_TYPE', `"header" expected an allowed type, got 0x${tag.toString(16)}`);
}

/**
 * Walks over MessagePack bytes before any decoder sees them: allowed types only, bounded depth, items and keys, unique
 * printable keys, a map at the top, nothing behind it. Cost: linear, no allocation beyond the keys.
 * @throws CoveyError CODEC_* @see SPEC section 8
 */
export function scanMsgpack(bytes: Uint8Array): void {
  const first = bytes[0];
  if (first === undefined || !((first >= 0x80 && first <= 0x8f) || first === 0xde))
    throw new CoveyError('CODEC_TYPE', '"header" expected a map');
  const cursor: Cursor = { bytes, at: 0, items: 0 };
  scanValue(cursor, 1);
  if (cursor.at !== bytes.length)
    throw new CoveyError(
      'CODEC_TRAILING',
      `"header" expected no bytes behind its end, got ${bytes.length - cursor.at}`,
    );
}
