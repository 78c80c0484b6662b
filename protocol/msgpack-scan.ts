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
    throw new CoveyError('CODEC_TRUNCATED', `"header" expected ${length} more bytes, got ${cursor.bytes.length - start}`);
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

function countItems(cursor: Cursor, items: number): void {
  cursor.items += items;
  if (cursor.items > LIMITS.msgpackItems) throw new CoveyError('CODEC_LIMIT', `"header" expected at most ${LIMITS.msgpackItems} items`);
}

function scanKey(cursor: Cursor, seen: Set<string>): void {
  const tag = cursor.bytes[take(cursor, 1)] as number;
  const length = tag >= 0xa0 && tag <= 0xbf ? tag - 0xa0 : tag === 0xd9 ? readLength(cursor, 1) : -1;
  if (length < 0) throw new CoveyError('CODEC_TYPE', '"header" expected short strings as keys');
  if (length > LIMITS.keyBytes) throw new CoveyError('CODEC_LIMIT', `"header" expected keys of at most ${LIMITS.keyBytes} bytes`);
  const start = take(cursor, length);
  let key = '';
  for (let i = 0; i < length; i++) {
    const byte = cursor.bytes[start + i] as number;
    if (byte < 0x20 || byte > 0x7e) throw new CoveyError('CODEC_TYPE', '"header" expected printable ASCII keys');
    key += String.fromCharCode(byte);
  }
  // Such a key would change the object's prototype instead of becoming a field.
  if (seen.has(key) || key === '__proto__') throw new CoveyError('CODEC_EXTRA_KEY', '"header" has a repeated or reserved key');
  seen.add(key);
}

function scanMap(cursor: Cursor, entries: number, depth: number): void {
  countItems(cursor, 2 * entries);
  const seen = new Set<string>();
  for (let i = 0; i < entries; i++) {
    scanKey(cursor, seen);
    scanValue(cursor, depth + 1);
  }
}

function scanArray(cursor: Cursor, entries: number, depth: number): void {
  countItems(cursor, entries);
  for (let i = 0; i < entries; i++) scanValue(cursor, depth + 1);
}

function scanValue(cursor: Cursor, depth: number): void {
  if (depth > LIMITS.msgpackDepth) throw new CoveyError('CODEC_LIMIT', `"header" expected a depth of at most ${LIMITS.msgpackDepth}`);
  const tag = cursor.bytes[take(cursor, 1)] as number;
  if (tag <= 0x7f || tag >= 0xe0 || tag === 0xc0 || tag === 0xc2 || tag === 0xc3) return;
  if (tag <= 0x8f) return scanMap(cursor, tag - 0x80, depth);
  if (tag <= 0x9f) return scanArray(cursor, tag - 0x90, depth);
  if (tag <= 0xbf) return void take(cursor, tag - 0xa0);
  switch (tag) {
    case 0xc4:
    case 0xd9:
      return void take(cursor, readLength(cursor, 1));
    case 0xc5:
    case 0xda:
      return void take(cursor, readLength(cursor, 2));
    case 0xc6:
    case 0xdb:
      return void take(cursor, readLength(cursor, 4));
    case 0xca:
    case 0xce:
    case 0xd2:
      return void take(cursor, 4);
    case 0xcb:
      return void take(cursor, 8);
    case 0xcc:
    case 0xd0:
      return void take(cursor, 1);
    case 0xcd:
    case 0xd1:
      return void take(cursor, 2);
    case 0xdc:
      return scanArray(cursor, readLength(cursor, 2), depth);
    case 0xde:
      return scanMap(cursor, readLength(cursor, 2), depth);
    default:
      // Extensions, 64-bit integers and the unused 0xc1: the decoder would build objects from them.
      throw new CoveyError('CODEC_TYPE', `"header" expected an allowed type, got 0x${tag.toString(16)}`);
  }
}

/**
 * Walks over MessagePack bytes before any decoder sees them: allowed types only, bounded depth, items and keys, unique
 * printable keys, a map at the top, nothing behind it. Cost: linear, no allocation beyond the keys.
 * @throws CoveyError CODEC_* @see SPEC section 8
 */
export function scanMsgpack(bytes: Uint8Array): void {
  const first = bytes[0];
  if (first === undefined || !((first >= 0x80 && first <= 0x8f) || first === 0xde)) throw new CoveyError('CODEC_TYPE', '"header" expected a map');
  const cursor: Cursor = { bytes, at: 0, items: 0 };
  scanValue(cursor, 0);
  if (cursor.at !== bytes.length) throw new CoveyError('CODEC_TRAILING', `"header" expected no bytes behind its end, got ${bytes.length - cursor.at}`);
}
