import type { CryptoProvider, KeyStream } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import { KERNEL_CHUNK_BYTES, KERNEL_STREAMS, loadLaneKernels } from './kernels/lanes.ts';
import type { Lanes, MaskSeed } from './session.ts';

/*
 * Lane rings (SPEC section 3): L fields of w bits in each little-endian 64-bit word, kept as two 32-bit halves (lo, hi).
 * Coordinate i is bits [jw, (j+1)w) of word floor(i/L), j = i mod L. Addition is modulo 2^w in every field at once.
 * Three lanes of 21 bits: field 0 is lo 0-20, field 1 straddles the halves (lo 21-31, hi 0-9), field 2 is hi 10-30.
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
    for (let i = 0; i < values.length; i++) {
      words[i >> 1] = (words[i >> 1] as number) | (((values[i] as number) & 0xffff) << (16 * (i & 1)));
    }
  } else {
    for (let i = 0, w = 0; i < values.length; i += 3, w += 2) {
      const f0 = (values[i] as number) & 0x1f_ffff;
      const f1 = (values[i + 1] ?? 0) & 0x1f_ffff;
      const f2 = (values[i + 2] ?? 0) & 0x1f_ffff;
      words[w] = f0 | (f1 << 21);
      words[w + 1] = (f1 >>> 11) | (f2 << 10);
    }
  }
  return words;
}

function requireWordCount(words: Uint32Array, coordinates: number, lanes: Lanes): void {
  const count = ringWordCount(coordinates, lanes);
  if (words.length !== count) {
    throw new CoveyError('USAGE_RANGE', `"words" expected ${count} halves, got ${words.length}`);
  }
}

/**
 * Unpacks fields to the representative in [-2^(bits-1), 2^(bits-1)).
 * @throws CoveyError USAGE_RANGE unless `words` holds exactly `coordinates` fields.
 */
export function unpackLanes(words: Uint32Array, coordinates: number, lanes: Lanes): Int32Array {
  requireWordCount(words, coordinates, lanes);
  if (lanes === 2) return Int32Array.from(words.subarray(0, coordinates));
  const values = new Int32Array(coordinates);
  if (lanes === 4) {
    for (let i = 0; i < coordinates; i++) values[i] = ((words[i >> 1] as number) << (16 - 16 * (i & 1))) >> 16;
    return values;
  }
  // Shifting a field up to bit 31 and back extends its sign; a write behind the end of the array does nothing.
  for (let i = 0, w = 0; i < coordinates; i += 3, w += 2) {
    const lo = words[w] as number;
    const hi = words[w + 1] as number;
    values[i] = (lo << 11) >> 11;
    values[i + 1] = (((lo >>> 21) | (hi << 11)) << 11) >> 11;
    values[i + 2] = (hi << 1) >> 11;
  }
  return values;
}

// The loops below take fields out of the halves with whatever lies above them still attached: sums modulo 2^32 are right
// in the low w bits, and only the result is cut. Signed views keep the engine on 32-bit integer instructions.
const signedView = (words: Uint32Array): Int32Array => new Int32Array(words.buffer, words.byteOffset, words.length);

/** a += b for `negate` 0, a -= b for `negate` -1: (x ^ -1) - -1 = -x in two's complement. */
function combine(a: Int32Array, b: Int32Array, lanes: Lanes, negate: 0 | -1): void {
  const count = a.length;
  if (lanes === 2) {
    for (let i = 0; i < count; i++) a[i] = ((a[i] as number) + ((b[i] as number) ^ negate) - negate) | 0;
  } else if (lanes === 4) {
    for (let i = 0; i < count; i++) {
      const x = a[i] as number;
      const y = b[i] as number;
      const f0 = x + (y ^ negate) - negate;
      const f1 = (x >>> 16) + ((y >>> 16) ^ negate) - negate;
      a[i] = (f0 & 0xffff) | (f1 << 16);
    }
  } else {
    for (let i = 0; i < count; i += 2) {
      const x0 = a[i] as number;
      const x1 = a[i + 1] as number;
      const y0 = b[i] as number;
      const y1 = b[i + 1] as number;
      const f0 = x0 + (y0 ^ negate) - negate;
      const f1 = ((x0 >>> 21) | (x1 << 11)) + (((y0 >>> 21) | (y1 << 11)) ^ negate) - negate;
      const f2 = (x1 >>> 10) + ((y1 >>> 10) ^ negate) - negate;
      a[i] = (f0 & 0x1f_ffff) | (f1 << 21);
      a[i + 1] = ((f1 >>> 11) & 0x3ff) | ((f2 << 10) & 0x7fff_ffff);
    }
  }
}

type FourStreams = readonly [Int32Array, Int32Array, Int32Array, Int32Array];

/** The same with four operands at once: the accumulator is read, cut and written once for four streams. */
function combineFour(a: Int32Array, [b, c, d, e]: FourStreams, lanes: Lanes, negate: 0 | -1): void {
  const count = a.length;
  if (lanes === 2) {
    for (let i = 0; i < count; i++) {
      const sum = ((b[i] as number) + (c[i] as number) + (d[i] as number) + (e[i] as number)) | 0;
      a[i] = ((a[i] as number) + (sum ^ negate) - negate) | 0;
    }
  } else if (lanes === 4) {
    for (let i = 0; i < count; i++) {
      const x = a[i] as number;
      const y = b[i] as number;
      const z = c[i] as number;
      const u = d[i] as number;
      const v = e[i] as number;
      const s0 = (y + z + u + v) | 0;
      const s1 = ((y >>> 16) + (z >>> 16) + (u >>> 16) + (v >>> 16)) | 0;
      const f0 = x + (s0 ^ negate) - negate;
      const f1 = (x >>> 16) + (s1 ^ negate) - negate;
      a[i] = (f0 & 0xffff) | (f1 << 16);
    }
  } else {
    for (let i = 0; i < count; i += 2) {
      const x0 = a[i] as number;
      const x1 = a[i + 1] as number;
      const y0 = b[i] as number;
      const y1 = b[i + 1] as number;
      const z0 = c[i] as number;
      const z1 = c[i + 1] as number;
      const u0 = d[i] as number;
      const u1 = d[i + 1] as number;
      const v0 = e[i] as number;
      const v1 = e[i + 1] as number;
      const s0 = (y0 + z0 + u0 + v0) | 0;
      const s1 =
        (((y0 >>> 21) | (y1 << 11)) +
          ((z0 >>> 21) | (z1 << 11)) +
          ((u0 >>> 21) | (u1 << 11)) +
          ((v0 >>> 21) | (v1 << 11))) |
        0;
      const s2 = ((y1 >>> 10) + (z1 >>> 10) + (u1 >>> 10) + (v1 >>> 10)) | 0;
      const f0 = x0 + (s0 ^ negate) - negate;
      const f1 = ((x0 >>> 21) | (x1 << 11)) + (s1 ^ negate) - negate;
      const f2 = (x1 >>> 10) + (s2 ^ negate) - negate;
      a[i] = (f0 & 0x1f_ffff) | (f1 << 21);
      a[i + 1] = ((f1 >>> 11) & 0x3ff) | ((f2 << 10) & 0x7fff_ffff);
    }
  }
}

function requireSameLength(a: Uint32Array, b: Uint32Array): void {
  if (a.length !== b.length)
    throw new CoveyError('USAGE_RANGE', `"words" expected ${a.length} halves, got ${b.length}`);
}

/** Adds `words` to `accumulator` in the ring, in place. @throws CoveyError USAGE_RANGE for lengths that differ. */
export function addWords(accumulator: Uint32Array, words: Uint32Array, lanes: Lanes): void {
  requireSameLength(accumulator, words);
  combine(signedView(accumulator), signedView(words), lanes, 0);
}

/** The same by the SIMD kernels, chunk by chunk; `addWords` is its plain twin. @throws CoveyError USAGE_RANGE */
export function foldWords(accumulator: Uint32Array, words: Uint32Array, lanes: Lanes): void {
  requireSameLength(accumulator, words);
  const kernels = loadLaneKernels();
  if (kernels === null) {
    addWords(accumulator, words, lanes);
    return;
  }
  const [target, added] = [wordsToBytes(accumulator), wordsToBytes(words)];
  const stream = kernels.streams[0] as Uint8Array;
  for (let at = 0; at < target.length; at += KERNEL_CHUNK_BYTES) {
    const piece = target.subarray(at, at + KERNEL_CHUNK_BYTES);
    kernels.accumulator.set(piece);
    stream.set(added.subarray(at, at + KERNEL_CHUNK_BYTES));
    kernels.sweep(lanes, 1, 1, (piece.length + 63) & ~63);
    piece.set(kernels.accumulator.subarray(0, piece.length));
  }
  kernels.accumulator.fill(0);
  stream.fill(0);
}

/** Subtracts `words` from `accumulator` in the ring, in place. @throws CoveyError USAGE_RANGE for lengths that differ. */
export function subtractWords(accumulator: Uint32Array, words: Uint32Array, lanes: Lanes): void {
  requireSameLength(accumulator, words);
  combine(signedView(accumulator), signedView(words), lanes, -1);
}

/**
 * True if a bit is set that no field owns (bit 63 for three lanes), or, with `withTail`, a field behind the last
 * coordinate. Masked words may fill the tail fields; x and unmasked sums may not.
 * @throws CoveyError USAGE_RANGE unless `words` holds exactly `coordinates` fields.
 */
export function hasStrayBits(words: Uint32Array, coordinates: number, lanes: Lanes, withTail: boolean = true): boolean {
  requireWordCount(words, coordinates, lanes);
  if (lanes === 3) {
    const halves = signedView(words);
    let top = 0;
    for (let i = 1; i < halves.length; i += 2) top |= halves[i] as number;
    if (top < 0) return true;
  }
  const used = coordinates % lanes;
  if (!withTail || used === 0) return false;
  // All ones in the fields behind the last coordinate.
  const tail = packLanes(
    Int32Array.from({ length: lanes }, (_, j) => (j < used ? 0 : -1)),
    lanes,
  );
  const lo = words[words.length - 2] as number;
  const hi = words[words.length - 1] as number;
  return ((lo & (tail[0] as number)) | (hi & (tail[1] as number))) !== 0;
}

/** Bytes of each keystream handled at a time: four of them and their piece of the vector stay in the cache. */
const CHUNK_BYTES = 65_536;

/**
 * Adds the keystreams of `seeds`, each with its sign, to `words` in place. Keystream words are read little-endian and
 * unused top bits are cleared. Cost: one AES-256-CTR pass over the vector for each seed, chunk by chunk, and one sweep of
 * the SIMD kernels over a few of them; `applyMasksPlain` does the same in plain loops.
 * Secrets: the keystream buffers are wiped; the seeds stay the caller's to wipe.
 */
export function applyMasks(
  words: Uint32Array,
  lanes: Lanes,
  seeds: readonly MaskSeed[],
  crypto: Pick<CryptoProvider, 'aes256Ctr'>,
): void {
  const kernels = loadLaneKernels();
  if (kernels === null) {
    applyMasksPlain(words, lanes, seeds, crypto);
    return;
  }
  const { accumulator, streams: chunks } = kernels;
  const target = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  const streams = ([1, -1] as const).map((sign) => ({ sign, open: openStreams(seeds, sign, crypto) }));
  for (let at = 0; at < target.length; at += KERNEL_CHUNK_BYTES) {
    const piece = target.subarray(at, at + KERNEL_CHUNK_BYTES);
    const pieces =
      piece.length === KERNEL_CHUNK_BYTES ? chunks : chunks.map((chunk) => chunk.subarray(0, piece.length));
    // Sweeps go in steps of 64 bytes; what lies behind the end is worked on in vain.
    const bytes = (piece.length + 63) & ~63;
    accumulator.set(piece);
    for (const { sign, open } of streams) {
      let filled = 0;
      for (const [i, stream] of open.entries()) {
        stream.read(pieces[filled++] as Uint8Array);
        if (filled < KERNEL_STREAMS && i < open.length - 1) continue;
        kernels.sweep(lanes, sign, filled, bytes);
        filled = 0;
      }
    }
    piece.set(accumulator.subarray(0, piece.length));
  }
  accumulator.fill(0);
  for (const chunk of chunks) chunk.fill(0);
}

/** `applyMasks` by whatever a platform has for it, with the same bytes. A rejection leaves nothing of use in `words`. */
export type MaskVector = (words: Uint32Array, lanes: Lanes, seeds: readonly MaskSeed[]) => Promise<void>;

const openStreams = (
  seeds: readonly MaskSeed[],
  sign: 1 | -1,
  crypto: Pick<CryptoProvider, 'aes256Ctr'>,
): KeyStream[] => seeds.filter((mask) => mask.sign === sign).map(({ seed }) => crypto.aes256Ctr(seed));

/** The plain twin of `applyMasks`: fallback and oracle. */
export function applyMasksPlain(
  words: Uint32Array,
  lanes: Lanes,
  seeds: readonly MaskSeed[],
  crypto: Pick<CryptoProvider, 'aes256Ctr'>,
): void {
  const signed = [
    { negate: 0, streams: openStreams(seeds, 1, crypto) },
    { negate: -1, streams: openStreams(seeds, -1, crypto) },
  ] as const;
  const target = signedView(words);
  const chunkWords = Math.min(target.length, CHUNK_BYTES / 4);
  const chunks = Array.from({ length: 4 }, () => new Int32Array(chunkWords));
  for (let at = 0; at < target.length; at += chunkWords) {
    const piece = target.subarray(at, at + chunkWords);
    const operands = chunks.map((chunk) => chunk.subarray(0, piece.length)) as unknown as FourStreams;
    const bytes = operands.map((operand) => new Uint8Array(operand.buffer, 0, operand.byteLength));
    for (const { negate, streams } of signed) {
      for (let first = 0; first < streams.length; first += 4) {
        // A group of fewer than four is filled up with zeros.
        bytes.forEach((operand, k) => {
          const stream = streams[first + k];
          if (stream === undefined) operand.fill(0);
          else stream.read(operand);
        });
        combineFour(piece, operands, lanes, negate);
      }
    }
  }
  for (const chunk of chunks) chunk.fill(0);
}

// Typed arrays use the byte order of the machine; every platform that runs JavaScript engines today is little-endian.
const LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

function requireLittleEndian(): void {
  if (!LITTLE_ENDIAN) throw new CoveyError('INTERNAL_INVARIANT', 'a big-endian machine is not supported');
}

/** Little-endian bytes of the words, a view of the same memory. */
export function wordsToBytes(words: Uint32Array): Uint8Array {
  requireLittleEndian();
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

/** Words of little-endian bytes: a view where they lie on a word boundary, else a copy. @throws CoveyError CODEC_TRUNCATED */
export function viewWords(bytes: Uint8Array): Uint32Array {
  if (bytes.byteOffset % 4 !== 0 || bytes.length % 8 !== 0) return bytesToWords(bytes);
  requireLittleEndian();
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

/** Words of little-endian bytes, copied. @throws CoveyError CODEC_TRUNCATED unless the length is a multiple of 8. */
export function bytesToWords(bytes: Uint8Array): Uint32Array {
  requireLittleEndian();
  if (bytes.length % 8 !== 0) {
    throw new CoveyError('CODEC_TRUNCATED', `"words" expected a multiple of 8 bytes, got ${bytes.length}`);
  }
  const words = new Uint32Array(bytes.length / 4);
  new Uint8Array(words.buffer).set(bytes);
  return words;
}
