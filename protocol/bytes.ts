import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';

/** UTF-8 bytes of a string; a lone surrogate becomes U+FFFD. */
export function utf8(text: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of text) {
    let code = character.codePointAt(0) ?? 0;
    if (code >= 0xd800 && code <= 0xdfff) code = 0xfffd;
    if (code < 0x80) bytes.push(code);
    else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 63));
    else if (code < 0x1_0000) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    else bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
  }
  return Uint8Array.from(bytes);
}

/**
 * Text of UTF-8 bytes.
 * @throws CoveyError CODEC_TYPE for anything but the shortest form of valid scalar values.
 */
export function fromUtf8(bytes: Uint8Array): string {
  const parts: string[] = [];
  for (let i = 0; i < bytes.length; ) {
    const first = bytes[i] as number;
    const length =
      first < 0x80
        ? 1
        : first >= 0xc2 && first < 0xe0
          ? 2
          : first >= 0xe0 && first < 0xf0
            ? 3
            : first >= 0xf0 && first < 0xf5
              ? 4
              : 0;
    let code = length === 1 ? first : first & (0xff >> (length + 1));
    for (let k = 1; k < length; k++) {
      const next = bytes[i + k] ?? 0;
      if ((next & 0xc0) !== 0x80) throw new CoveyError('CODEC_TYPE', '"text" expected valid UTF-8');
      code = (code << 6) | (next & 63);
    }
    const shortest = length === 1 || code >= ([0, 0, 0x80, 0x800, 0x1_0000][length] ?? 0);
    if (length === 0 || !shortest || code > 0x10_ffff || (code >= 0xd800 && code <= 0xdfff)) {
      throw new CoveyError('CODEC_TYPE', '"text" expected valid UTF-8');
    }
    parts.push(String.fromCodePoint(code));
    i += length;
  }
  return parts.join('');
}

const HEX: readonly string[] = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));

export function toHex(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i++) text += HEX[bytes[i] as number];
  return text;
}

/** @throws CoveyError CODEC_TYPE unless the text is lower-case hex of whole bytes. */
export function fromHex(text: string): Uint8Array {
  if (!/^([0-9a-f]{2})*$/.test(text))
    throw new CoveyError('CODEC_TYPE', '"hex" expected an even number of lower-case hex digits');
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

/** Base64 with padding (RFC 4648). */
export function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const word = ((bytes[i] ?? 0) << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    for (let k = 0; k < 4; k++) text += i + k > bytes.length ? '=' : BASE64[(word >> (18 - 6 * k)) & 63];
  }
  return text;
}

/** @throws CoveyError CODEC_TYPE unless the text is the one canonical encoding of its bytes. */
export function fromBase64(text: string): Uint8Array {
  const digits = text.replace(/={0,2}$/, '');
  const bytes: number[] = [];
  let word = 0;
  let bits = 0;
  for (const digit of digits) {
    const value = BASE64.indexOf(digit);
    if (value < 0) throw new CoveyError('CODEC_TYPE', '"base64" expected digits of RFC 4648');
    word = ((word << 6) | value) & 0xff_ffff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes.push((word >> bits) & 255);
    }
  }
  const decoded = Uint8Array.from(bytes);
  if (toBase64(decoded) !== text) throw new CoveyError('CODEC_TYPE', '"base64" expected the canonical encoding');
  return decoded;
}

/** One character for each of a few bytes: a key of a map that is cheaper than hex. */
export function byteString(bytes: Uint8Array): string {
  return String.fromCharCode.apply(null, bytes as unknown as number[]);
}

export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= (a[i] as number) ^ (b[i] as number);
  return difference === 0;
}

/** Bytewise order: negative, zero or positive. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

function requireUnsigned(value: number, bits: number): void {
  if (!(Number.isInteger(value) && value >= 0 && value < 2 ** bits)) {
    throw new CoveyError('USAGE_RANGE', `"u${bits}" expected an unsigned ${bits}-bit integer, got ${value}`);
  }
}

/** One byte. @throws CoveyError USAGE_RANGE: a value that wraps around would share the canonical bytes of another. */
export function u8(value: number): Uint8Array {
  requireUnsigned(value, 8);
  return Uint8Array.of(value);
}

/** Four bytes, little-endian. @throws CoveyError USAGE_RANGE */
export function u32le(value: number): Uint8Array {
  requireUnsigned(value, 32);
  return Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24);
}

/** IEEE 754 double, little-endian. */
export function f64le(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, value, true);
  return bytes;
}

export function readU32le(bytes: Uint8Array, at: number): number {
  if (at + 4 > bytes.length) throw new CoveyError('CODEC_TRUNCATED', '"u32" expected 4 bytes');
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  );
}

/** Writes a length and the part behind it; returns where the next one begins. */
function writePart(target: Uint8Array, at: number, part: Uint8Array): number {
  target.set(part, writeLength(target, at, part.length));
  return at + 4 + part.length;
}

/** Writes the length that stands before a part; returns where the part begins. */
export function writeLength(target: Uint8Array, at: number, length: number): number {
  target[at] = length;
  target[at + 1] = length >>> 8;
  target[at + 2] = length >>> 16;
  target[at + 3] = length >>> 24;
  return at + 4;
}

const partsLength = (parts: readonly Uint8Array[]): number => {
  let length = 0;
  for (const part of parts) length += 4 + part.length;
  return length;
};

/** Length-prefixed list: each part behind its length as u32 LE. The one form of every "||" in SPEC. @see SPEC section 3 */
export function encodeParts(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(partsLength(parts));
  let at = 0;
  for (const part of parts) at = writePart(joined, at, part);
  return joined;
}

/**
 * Parts of a length-prefixed list, as views.
 * @throws CoveyError CODEC_TRUNCATED, or CODEC_TRAILING if there are not exactly `count` parts.
 */
export function decodeParts(bytes: Uint8Array, count?: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = readU32le(bytes, at);
    at += 4;
    if (length > bytes.length - at)
      throw new CoveyError('CODEC_TRUNCATED', `"part" expected ${length} bytes, got ${bytes.length - at}`);
    parts.push(bytes.subarray(at, at + length));
    at += length;
    if (count !== undefined && parts.length > count)
      throw new CoveyError('CODEC_TRAILING', `"parts" expected ${count}, got more`);
  }
  if (count !== undefined && parts.length !== count)
    throw new CoveyError('CODEC_TRUNCATED', `"parts" expected ${count}, got ${parts.length}`);
  return parts;
}

// Sessions hash thousands of short inputs, each longer than what engines keep on their own heap.
const SCRATCH = new Uint8Array(1_024);
/** The first bytes of it, by their number: a view costs as much as the memory that it saves. */
const SCRATCH_STARTS: Uint8Array[] = [];

/** Hashes the first bytes of the scratch memory, and wipes them: they may be of a secret. */
function hashScratch(crypto: Pick<CryptoProvider, 'sha256'>, length: number): Uint8Array {
  const input = SCRATCH_STARTS[length] ?? SCRATCH.subarray(0, length);
  SCRATCH_STARTS[length] = input;
  try {
    return crypto.sha256(input);
  } finally {
    SCRATCH.fill(0, 0, length);
  }
}

/** H of SPEC section 3: SHA-256 over the length-prefixed list. */
export function hashParts(crypto: Pick<CryptoProvider, 'sha256'>, ...parts: readonly Uint8Array[]): Uint8Array {
  if (partsLength(parts) > SCRATCH.length) return crypto.sha256(encodeParts(parts));
  let at = 0;
  for (const part of parts) at = writePart(SCRATCH, at, part);
  return hashScratch(crypto, at);
}

/** SHA-256 over the parts one behind the other, without lengths. */
export function hashConcatenation(crypto: Pick<CryptoProvider, 'sha256'>, ...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  if (length > SCRATCH.length) return crypto.sha256(concatBytes(...parts));
  let at = 0;
  for (const part of parts) {
    SCRATCH.set(part, at);
    at += part.length;
  }
  return hashScratch(crypto, length);
}
