import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { KERNEL_CHUNK_BYTES, loadLaneKernels } from '../protocol/kernels/lanes.ts';
import { LANES_WASM, LANES_WASM_SHA256 } from '../protocol/kernels/lanes-wasm.ts';
import { loadSamplerKernels, type SamplerKernels } from '../protocol/kernels/sampler.ts';
import { cellsPlain, scanPlain, searchPlain } from '../protocol/kernels/sampler-plain.ts';
import { SAMPLER_WASM, SAMPLER_WASM_SHA256 } from '../protocol/kernels/sampler-wasm.ts';
import { loadShareKernels } from '../protocol/kernels/shamir.ts';
import { plainShares, type ShareArithmetic } from '../protocol/kernels/shamir-plain.ts';
import { SHAMIR_WASM, SHAMIR_WASM_SHA256 } from '../protocol/kernels/shamir-wasm.ts';
import { addWords, applyMasks, applyMasksPlain, bytesToWords, foldWords, subtractWords } from '../protocol/ring.ts';
import type { Lanes, MaskSeed } from '../protocol/session.ts';
import { createSkellam } from '../src/privacy/skellam.ts';

describe('the SIMD kernels', () => {
  it('are here, and are the bytes that their hash names', () => {
    expect(loadLaneKernels()).not.toBeNull();
    expect(createHash('sha256').update(Buffer.from(LANES_WASM, 'base64')).digest('hex')).toBe(LANES_WASM_SHA256);
  });

  it('give the bytes of their plain twins for any length, lanes, numbers of streams and signs', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<Lanes>(2, 3, 4),
        fc.oneof(
          fc.integer({ min: 1, max: 40 }),
          fc.integer({ min: 8_185, max: 8_200 }),
          fc.integer({ min: 16_380, max: 16_390 }),
        ),
        fc.array(fc.boolean(), { minLength: 1, maxLength: 40 }),
        fc.integer(),
        (lanes, words, signs, fill) => {
          const seeds = signs.map(
            (plus, i): MaskSeed => ({ seed: new Uint8Array(32).fill(i + 1), sign: plus ? 1 : -1 }),
          );
          const start = new Uint32Array(2 * words).map(
            (_, i) => Math.imul(fill + i, 2_654_435_761) >>> (i % 2 && lanes === 3 ? 1 : 0),
          );
          const [fast, plain] = [start.slice(), start.slice()];
          applyMasks(fast, lanes, seeds, nodeCrypto);
          applyMasksPlain(plain, lanes, seeds, nodeCrypto);
          expect(fast).toEqual(plain);
        },
      ),
      { numRuns: 60, seed: 5 },
    );
  });

  it('agree with one keystream after the other by addWords and subtractWords, on every edge value', () => {
    for (const lanes of [2, 3, 4] as Lanes[]) {
      for (const value of [0, 1, 0x1f_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]) {
        const seeds = [1, 2, 3].map((n): MaskSeed => ({ seed: new Uint8Array(32).fill(n), sign: n === 2 ? -1 : 1 }));
        const words = new Uint32Array(66).map((_, i) =>
          i % 2 === 1 && lanes === 3 ? (value & 0x7fff_ffff) >>> 0 : value,
        );
        const expected = words.slice();
        for (const { seed, sign } of seeds) {
          const stream = new Uint8Array(expected.byteLength);
          nodeCrypto.aes256Ctr(seed).read(stream);
          (sign === 1 ? addWords : subtractWords)(expected, bytesToWords(stream), lanes);
        }
        applyMasks(words, lanes, seeds, nodeCrypto);
        expect(words).toEqual(expected);
      }
    }
  });

  it('fold like the plain loop, for any length and lanes', () => {
    for (const lanes of [2, 3, 4] as Lanes[]) {
      for (const words of [2, 6, 14, 16, 66, KERNEL_CHUNK_BYTES / 4 + 2, KERNEL_CHUNK_BYTES / 2]) {
        const fill = (factor: number): Uint32Array =>
          new Uint32Array(words).map((_, i) => Math.imul(i + 3, factor) >>> (i % 2 && lanes === 3 ? 1 : 0));
        const [fast, plain, added] = [fill(2_654_435_761), fill(2_654_435_761), fill(40_503_017)];
        foldWords(fast, added, lanes);
        addWords(plain, added, lanes);
        expect(fast).toEqual(plain);
        expect(added).toEqual(fill(40_503_017));
      }
    }
  });

  it('leave neither vector nor keystream in their memory', () => {
    const seeds = [{ seed: new Uint8Array(32).fill(9), sign: 1 as const }];
    applyMasks(new Uint32Array(KERNEL_CHUNK_BYTES / 2).fill(77), 2, seeds, nodeCrypto);
    const kernels = loadLaneKernels();
    for (const memory of [kernels?.accumulator, ...(kernels?.streams ?? [])])
      expect(memory?.every((byte) => byte === 0)).toBe(true);
  });
});

describe('the kernels of secret sharing', () => {
  const bytes = (length: number, n: number): Uint8Array => {
    const filled = new Uint8Array(length);
    nodeCrypto.aes256Ctr(new Uint8Array(32).fill(n)).read(filled);
    return filled;
  };

  it('are here, and are the bytes that their hash names', () => {
    expect(loadShareKernels()).not.toBeNull();
    expect(createHash('sha256').update(Buffer.from(SHAMIR_WASM, 'base64')).digest('hex')).toBe(SHAMIR_WASM_SHA256);
  });

  it('give the bytes of their plain twins in both fields, also beyond what their memory holds', () => {
    const kernels = loadShareKernels() as ShareArithmetic;
    for (const bits of [8, 16] as const) {
      for (const [length, coefficients, holders] of [
        [32, 66, 100],
        [32, 0, 3],
        [2, 3, 5],
        [48, 40, 60],
        [66, 7, 255],
        [32, 1_100, bits === 8 ? 255 : 1_030],
      ] as const) {
        const secret = bytes(length, 1);
        const drawn = bytes(length * coefficients, 2);
        const shares = plainShares.evaluate(bits, secret, drawn, holders);
        expect(kernels.evaluate(bits, secret, drawn, holders)).toEqual(shares);
        const weights = shares.map((_, i) => (i * 40_503 + 7) & (bits === 8 ? 0xff : 0xffff));
        expect(kernels.combine(bits, weights, shares)).toEqual(plainShares.combine(bits, weights, shares));
      }
    }
  });

  it('leave neither secrets nor shares in their memory', () => {
    const kernels = loadShareKernels();
    const shares = kernels?.evaluate(8, bytes(32, 3), bytes(32 * 66, 4), 100) ?? [];
    kernels?.combine(8, Array(100).fill(1), shares);
    const memory = new Uint8Array(kernels?.memory ?? new ArrayBuffer(0));
    for (const share of shares) expect(Buffer.from(memory.buffer).includes(Buffer.from(share))).toBe(false);
    for (const secret of [bytes(32, 3), bytes(32 * 66, 4).subarray(0, 32)])
      expect(Buffer.from(memory.buffer).includes(Buffer.from(secret))).toBe(false);
  });
});

describe('the kernels of the noise sampler', () => {
  const kernels = loadSamplerKernels() as SamplerKernels;
  const fillWords = (n: number): void =>
    nodeCrypto.aes256Ctr(new Uint8Array(32).fill(n)).read(new Uint8Array(kernels.memory, 0, kernels.words.byteLength));

  /** Ascending thresholds up to 2^31 - 1, close at the top as in tables of noise. */
  const thresholds = (count: number): Int32Array =>
    Int32Array.from({ length: count }, (_, k) => Math.round((2 ** 31 - 1) * (1 - (1 - (k + 1) / count) ** 3)));

  it('are here, and are the bytes that their hash names', () => {
    expect(loadSamplerKernels()).not.toBeNull();
    const bytes = Buffer.from(SAMPLER_WASM, 'base64');
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(SAMPLER_WASM_SHA256);
    // Chromium compiles more than that on the main thread only asynchronously.
    expect(bytes.length).toBeLessThanOrEqual(4_096);
  });

  it('give the draws of their plain twins for any table, offset and length', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('scan' as const, 'search' as const),
        fc.integer({ min: 1, max: 700 }),
        fc.integer({ min: 0, max: 100 }),
        fc.integer({ min: 0, max: 500 }),
        fc.integer({ min: 1, max: 255 }),
        (route, count, at, draws, seed) => {
          const table = thresholds(count);
          const plain = (route === 'scan' ? scanPlain : searchPlain)(table);
          fillWords(seed);
          const words = kernels.words.slice();
          const start = Int32Array.from({ length: draws + 7 }, (_, i) => Math.imul(i + seed, 2_654_435_761));
          const [fast, slow] = [start.slice(), start.slice()];
          kernels.inversion(route, table)?.run(kernels.words, at, fast, 3, 3 + draws);
          plain.run(words, at, slow, 3, 3 + draws);
          expect(fast).toEqual(slow);
        },
      ),
      { numRuns: 200, seed: 6 },
    );
  });

  it('stop in front of every draw that equals a threshold, wherever it is', () => {
    for (const route of ['scan', 'search'] as const) {
      for (const count of [1, 2, 9, 63, 400]) {
        const table = thresholds(count);
        const inversion = kernels.inversion(route, table);
        for (const position of [0, 1, 2, 3, 5, 15, 16, 31, 47, 63, 70]) {
          for (const k of [0, count >> 1, count - 1]) {
            fillWords(9);
            kernels.words[position] = (2 * (table[k] as number) + (position % 2)) >>> 0;
            const target = new Int32Array(80);
            let from = 0;
            while (from < position) from = inversion?.run(kernels.words, from, target, from, 80) ?? 80;
            expect(from).toBe(position);
            expect(inversion?.run(kernels.words, from, target, from, 80)).toBe(position);
            expect(target.slice(position).every((x) => x === 0)).toBe(true);
          }
        }
      }
    }
  });

  it('give the draws of cells as their plain twin, and stop where it stops', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 600 }),
        fc.integer({ min: 4, max: 12 }),
        fc.integer({ min: 0, max: 9 }),
        fc.integer({ min: 1, max: 255 }),
        (count, offsetBits, at, seed) => {
          const table = thresholds(count);
          // About one draw in fifty is not below its limit.
          const limits = new Int32Array(count).fill(0.98 * 2 ** (32 - offsetBits));
          const spec = { thresholds: table, limits, offsetBits };
          const [fast, plain] = [kernels.cells(spec), cellsPlain(spec)];
          fillWords(seed);
          kernels.words[at + 300] = 2 * (table[count >> 1] as number);
          kernels.words.fill(0, at + 400, at + 402);
          const words = kernels.words.slice();
          kernels.draws.fill(seed, 0, 500);
          const expected = new Int32Array(500).fill(seed);
          const stops = (run: typeof fast, source: Uint32Array, target: Int32Array): number[] => {
            const seen: number[] = [];
            for (let from = 3; from < 500; ) {
              const stop = run?.(source, at + 2 * from, target, from, 500) ?? 500;
              if (stop < 500 && stop === from) {
                seen.push(stop);
                from += 1;
              } else from = stop;
            }
            return seen;
          };
          expect(stops(fast, kernels.words, kernels.draws)).toEqual(stops(plain, words, expected));
          expect(kernels.draws.slice(0, 500)).toEqual(expected);
        },
      ),
      { numRuns: 150, seed: 7 },
    );
    kernels.draws.fill(0);
    kernels.words.fill(0);
  });

  it('refuse tables that their memory does not hold', () => {
    expect(kernels.inversion('search', thresholds(20_000))).toBeNull();
    expect(kernels.inversion('scan', thresholds(20_000))).toBeNull();
    expect(kernels.inversion('search', thresholds(16_384))).not.toBeNull();
    expect(kernels.cells({ thresholds: thresholds(8_193), limits: new Int32Array(8_193), offsetBits: 4 })).toBeNull();
  });

  it('leave neither random words nor draws in their memory', () => {
    for (const stddev of [10, 500, 5_000]) {
      createSkellam(stddev ** 2).add(new Int32Array(40_001), nodeCrypto.aes256Ctr(new Uint8Array(32).fill(8)));
      const memory = new Uint8Array(kernels.memory, 0, 2 * kernels.words.byteLength);
      expect(memory.every((byte) => byte === 0)).toBe(true);
    }
  });
});
