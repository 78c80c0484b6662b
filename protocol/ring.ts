import type { CryptoProvider, KeyStream } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import type { Lanes, MaskSeed } from './session.ts';

/*
 * Lane rings (SPEC section 3): L fields of w bits in each little-endian 64-bit word, kept as two 32-bit halves (lo, hi).
 * Coordinate i is bits [jw, (j+1)w) of word floor(i/L), j = i mod L. Addition is modulo 2^w in every field at once.
 */

/** Bits of one field. */
export function laneBits(lanes: Lanes): 32 | 21 | 16 {
  return lanes === 2 ? 32 : lanes === 3 ? 21 : 16;
}

/** 32-bit halves that hold `coordinates` fields: two for each 64-bit word. */
export function ringWordCount(coordinates: number, lanes: Lanes): number {
  return 2 * Math.ceil(coordinates / lanes);
}

/** Packs integers modulo 2^bits. Shapes: `values` n -> `ringWordCount(n)`; tail fields are 0. */
export function packLanes(values: Int32Array, lanes: Lanes): Uint32Array {
  const words = new Uint32Array(ringWordCount(values.length, lanes));
  if (lanes === 2) {
    words.set(values);
  } else if (lanes === 4) {
    for (let i = 0; i < values.length; i++) words[i >> 1] = (words[i >> 1] as number) | (((values[i] as number) & 0xffff) << (16 * (i & 1)));
  } else {
    for (let i = 0, w = 0; i < values.length; i += 3, w += 2) {
      const a = (values[i] as number) & 0x1f_ffff;
      const b = (values[i + 1] ?? 0) & 0x1f_ffff;
      const c = (values[i + 2] ?? 0) & 0x1f_ffff;
      words[w] = a | (b << 21);
      words[w + 1] = (b >>> 11) | (c << 10);
    }
  }
  return words;
}

/** Unpacks fields to the representative in [-2^(bits-1), 2^(bits-1)). */
export function unpackLanes(words: Uint32Array, coordinates: number, lanes: Lanes): Int32Array {
  if (words.length !== ringWordCount(coordinates, lanes)) {
    throw new CoveyError('USAGE_RANGE', `"words" expected ${ringWordCount(coordinates, lanes)} halves, got ${words.length}`);
  }
  const values = new Int32Array(coordinates);
  for (let i = 0; i < coordinates; i++) {
    if (lanes === 2) values[i] = words[i] as number;
    else if (lanes === 4) values[i] = ((words[i >> 1] as number) << (16 - 16 * (i & 1))) >> 16;
    else {
      const w = 2 * Math.floor(i / 3);
      const lo = words[w] as number;
      const hi = words[w + 1] as number;
      const field = i % 3 === 0 ? lo & 0x1f_ffff : i % 3 === 1 ? (lo >>> 21) | ((hi & 0x3ff) << 11) : (hi >>> 10) & 0x1f_ffff;
      values[i] = (field << 11) >> 11;
    }
  }
  return values;
}

// Bits below the top bit of every field, and the top bits themselves. L = 3: fields at 0, 21 and 42; bit 63 is unused.
const LOW3_LO = 0xffef_ffff;
const LOW3_HI = 0x3fff_fdff;
const TOP3_LO = 0x0010_0000;
const TOP3_HI = 0x4000_0200;
const LOW4 = 0x7fff_7fff;
const TOP4 = 0x8000_8000;

function addAt(a: Uint32Array, at: number, b: Uint32Array, count: number, lanes: Lanes): void {
  if (lanes === 2) {
    for (let i = 0; i < count; i++) a[at + i] = (a[at + i] as number) + (b[i] as number);
  } else if (lanes === 4) {
    for (let i = 0; i < count; i++) {
      const x = a[at + i] as number;
      const y = b[i] as number;
      // Carries stop at the top bit of each field, which is added without carry.
      a[at + i] = ((x & LOW4) + (y & LOW4)) ^ ((x ^ y) & TOP4);
    }
  } else {
    for (let i = 0; i < count; i += 2) {
      const x0 = a[at + i] as number;
      const x1 = a[at + i + 1] as number;
      const y0 = b[i] as number;
      const y1 = b[i + 1] as number;
      const lo = ((x0 & LOW3_LO) >>> 0) + ((y0 & LOW3_LO) >>> 0);
      const carry = lo > 0xffff_ffff ? 1 : 0;
      const hi = (x1 & LOW3_HI) + (y1 & LOW3_HI) + carry;
      a[at + i] = lo ^ ((x0 ^ y0) & TOP3_LO);
      a[at + i + 1] = (hi ^ ((x1 ^ y1) & TOP3_HI)) & 0x7fff_ffff;
    }
  }
}

function subtractAt(a: Uint32Array, at: number, b: Uint32Array, count: number, lanes: Lanes): void {
  if (lanes === 2) {
    for (let i = 0; i < count; i++) a[at + i] = (a[at + i] as number) - (b[i] as number);
  } else if (lanes === 4) {
    for (let i = 0; i < count; i++) {
      const x = a[at + i] as number;
      const y = b[i] as number;
      // The top bit is set in the minuend so that no borrow leaves a field.
      a[at + i] = ((x | TOP4) - (y & LOW4)) ^ ((x ^ ~y) & TOP4);
    }
  } else {
    for (let i = 0; i < count; i += 2) {
      const x0 = a[at + i] as number;
      const x1 = a[at + i + 1] as number;
      const y0 = b[i] as number;
      const y1 = b[i + 1] as number;
      const lo = ((x0 | TOP3_LO) >>> 0) - ((y0 & LOW3_LO) >>> 0);
      const borrow = lo < 0 ? 1 : 0;
      const hi = ((x1 | TOP3_HI) & 0x7fff_ffff) - (y1 & LOW3_HI) - borrow;
      a[at + i] = lo ^ ((x0 ^ ~y0) & TOP3_LO);
      a[at + i + 1] = (hi ^ ((x1 ^ ~y1) & TOP3_HI)) & 0x7fff_ffff;
    }
  }
}

function requireSameLength(a: Uint32Array, b: Uint32Array): void {
  if (a.length !== b.length) throw new CoveyError('USAGE_RANGE', `"words" expected ${a.length} halves, got ${b.length}`);
}

/** Adds `words` to `accumulator` in the ring, in place. */
export function addWords(accumulator: Uint32Array, words: Uint32Array, lanes: Lanes): void {
  requireSameLength(accumulator, words);
  addAt(accumulator, 0, words, words.length, lanes);
}

/** Subtracts `words` from `accumulator` in the ring, in place. */
export function subtractWords(accumulator: Uint32Array, words: Uint32Array, lanes: Lanes): void {
  requireSameLength(accumulator, words);
  subtractAt(accumulator, 0, words, words.length, lanes);
}

/**
 * True if a bit is set that no field owns (bit 63 for three lanes), or, with `fieldsOnly`, a field behind the last
 * coordinate. Masked words may fill the tail fields; x and unmasked sums may not.
 */
export function hasStrayBits(words: Uint32Array, coordinates: number, lanes: Lanes, fieldsOnly: boolean = true): boolean {
  if (lanes === 3) for (let i = 1; i < words.length; i += 2) if ((words[i] as number) > 0x7fff_ffff) return true;
  if (!fieldsOnly) return false;
  const full = ringWordCount(coordinates, lanes) / 2;
  const used = coordinates - (full - 1) * lanes;
  if (used === lanes || full === 0) return false;
  const mask = packLanes(Int32Array.from({ length: lanes }, (_, j) => (j < used ? 0 : -1)), lanes);
  const lo = words[2 * full - 2] as number;
  const hi = words[2 * full - 1] as number;
  return ((lo & (mask[0] as number)) | (hi & (mask[1] as number))) !== 0;
}

/** Bytes of keystream handled at a time: stays in the second-level cache with the piece of the vector it is added to. */
const CHUNK_BYTES = 131_072;

/**
 * Adds the keystreams of `seeds`, each with its sign, to `words` in place. Keystream words are read little-endian and
 * unused top bits are cleared. Cost: one AES-256-CTR pass over the vector for each seed, chunk by chunk.
 */
export function applyMasks(words: Uint32Array, lanes: Lanes, seeds: readonly MaskSeed[], crypto: Pick<CryptoProvider, 'aes256Ctr'>): void {
  const streams: readonly { readonly stream: KeyStream; readonly sign: 1 | -1 }[] = seeds.map(({ seed, sign }) => ({ stream: crypto.aes256Ctr(seed), sign }));
  const chunk = new Uint32Array(Math.min(words.length, CHUNK_BYTES / 4));
  const bytes = new Uint8Array(chunk.buffer);
  for (let at = 0; at < words.length; at += chunk.length) {
    const count = Math.min(chunk.length, words.length - at);
    for (const { stream, sign } of streams) {
      stream.read(count === chunk.length ? bytes : bytes.subarray(0, 4 * count));
      if (sign > 0) addAt(words, at, chunk, count, lanes);
      else subtractAt(words, at, chunk, count, lanes);
    }
  }
  chunk.fill(0);
}

// Typed arrays use the byte order of the machine; every platform that runs JavaScript engines today is little-endian.
const LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** Little-endian bytes of the words, a view of the same memory. */
export function wordsToBytes(words: Uint32Array): Uint8Array {
  if (!LITTLE_ENDIAN) throw new CoveyError('INTERNAL_INVARIANT', 'a big-endian machine is not supported');
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

/** Words of little-endian bytes, copied. @throws CoveyError CODEC_TRUNCATED unless the length is a multiple of 8. */
export function bytesToWords(bytes: Uint8Array): Uint32Array {
  if (!LITTLE_ENDIAN) throw new CoveyError('INTERNAL_INVARIANT', 'a big-endian machine is not supported');
  if (bytes.length % 8 !== 0) throw new CoveyError('CODEC_TRUNCATED', `"words" expected a multiple of 8 bytes, got ${bytes.length}`);
  return new Uint32Array(bytes.slice().buffer);
}
