import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nobleCrypto } from '../platform/noble/crypto.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromHex, toHex } from '../protocol/bytes.ts';
import {
  addWords,
  applyMasks,
  bytesToWords,
  hasStrayBits,
  laneBits,
  packLanes,
  ringWordCount,
  subtractWords,
  unpackLanes,
  wordsToBytes,
} from '../protocol/ring.ts';
import type { Lanes, MaskSeed } from '../protocol/session.ts';
import { codeOf } from './support/code-of.ts';

const ALL_LANES: readonly Lanes[] = [2, 3, 4];

// The oracle: fields as BigInt, straight from the definition in SPEC section 3.
const wordAt = (words: Uint32Array, i: number): bigint =>
  BigInt(words[2 * i] as number) | (BigInt(words[2 * i + 1] as number) << 32n);
function fieldsOf(words: Uint32Array, lanes: Lanes): bigint[] {
  const bits = BigInt(laneBits(lanes));
  return Array.from({ length: (words.length / 2) * lanes }, (_, i) => {
    const word = wordAt(words, Math.floor(i / lanes));
    return (word >> (BigInt(i % lanes) * bits)) & ((1n << bits) - 1n);
  });
}
const combineFields = (a: bigint[], b: bigint[], lanes: Lanes, sign: bigint): bigint[] =>
  a.map((x, i) => BigInt.asUintN(laneBits(lanes), x + sign * (b[i] as bigint)));

/** Halves that force carries and borrows through every bit, mixed with arbitrary ones. */
const half = fc.oneof(
  fc.constantFrom(
    0,
    0xffff_ffff,
    0x8000_0000,
    0x7fff_ffff,
    0x001f_ffff,
    0x0010_0000,
    0xffe0_0000,
    0x0000_03ff,
    0x0000_0200,
    0x7fff_fc00,
    1,
  ),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);
const wordsOf = (wordCount: number) =>
  fc.array(half, { minLength: 2 * wordCount, maxLength: 2 * wordCount }).map((list) => Uint32Array.from(list));
const withoutStrayBits = (words: Uint32Array, lanes: Lanes): Uint32Array =>
  lanes === 3 ? words.map((word, i) => (i % 2 === 1 ? word & 0x7fff_ffff : word)) : words;

for (const lanes of ALL_LANES) {
  const bits = laneBits(lanes);
  const top = 2 ** (bits - 1);

  describe(`the ring of ${lanes} lanes`, () => {
    it('packs and unpacks the centred representative of every integer', () => {
      const value = fc.oneof(
        fc.constantFrom(0, 1, -1, top - 1, -top, top, -top - 1),
        fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      );
      fc.assert(
        fc.property(fc.array(value, { maxLength: 25 }), (list) => {
          const values = Int32Array.from(list);
          const words = packLanes(values, lanes);
          expect(words.length).toBe(ringWordCount(values.length, lanes));
          expect(hasStrayBits(words, values.length, lanes)).toBe(false);
          const fields = fieldsOf(words, lanes);
          values.forEach((x, i) => {
            expect(fields[i]).toBe(BigInt.asUintN(bits, BigInt(x)));
          });
          expect([...unpackLanes(words, values.length, lanes)]).toEqual(
            [...values].map((x) => Number(BigInt.asIntN(bits, BigInt(x)))),
          );
        }),
      );
    });

    it('adds and subtracts modulo 2^bits in every field, without carries between fields', () => {
      fc.assert(
        fc.property(wordsOf(4), wordsOf(4), (rawA, rawB) => {
          const a = withoutStrayBits(rawA, lanes);
          const sum = a.slice();
          addWords(sum, rawB, lanes);
          expect(fieldsOf(sum, lanes)).toEqual(combineFields(fieldsOf(a, lanes), fieldsOf(rawB, lanes), lanes, 1n));
          const difference = a.slice();
          subtractWords(difference, rawB, lanes);
          expect(fieldsOf(difference, lanes)).toEqual(
            combineFields(fieldsOf(a, lanes), fieldsOf(rawB, lanes), lanes, -1n),
          );
          for (const result of [sum, difference]) expect(hasStrayBits(result, 4 * lanes, lanes)).toBe(false);
          subtractWords(sum, rawB, lanes);
          expect(sum).toEqual(a);
        }),
        { numRuns: 1_000 },
      );
    });

    it('A17: wraps at the limit of a field and not before', () => {
      const sum = packLanes(Int32Array.from([top - 1, -top, top - 2]), lanes);
      addWords(sum, packLanes(Int32Array.from([1, -1, 1]), lanes), lanes);
      expect([...unpackLanes(sum, 3, lanes)]).toEqual([-top, top - 1, top - 1]);
    });

    it('adds the keystreams of any seeds with their signs', () => {
      // Lengths below, at and above the chunk, and cohorts that leave every remainder of a group of four.
      for (const [wordCount, seedCount] of [
        [1, 1],
        [3, 2],
        [50, 3],
        [50, 4],
        [50, 9],
        [8_192, 5],
        [8_193, 6],
        [20_000, 7],
      ] as const) {
        const x = withoutStrayBits(
          Uint32Array.from({ length: 2 * wordCount }, (_, i) => Math.imul(i + 1, 0x9e37_79b1)),
          lanes,
        );
        const seeds: MaskSeed[] = Array.from({ length: seedCount }, (_, i) => ({
          seed: new Uint8Array(32).fill(i + 1),
          sign: i % 3 === 1 ? -1 : 1,
        }));
        const masked = x.slice();
        applyMasks(masked, lanes, seeds, nodeCrypto);
        const expected = x.slice();
        for (const { seed, sign } of seeds) {
          const stream = new Uint8Array(8 * wordCount);
          nodeCrypto.aes256Ctr(seed).read(stream);
          if (sign > 0) addWords(expected, bytesToWords(stream), lanes);
          else subtractWords(expected, bytesToWords(stream), lanes);
        }
        expect(Buffer.compare(wordsToBytes(masked), wordsToBytes(expected))).toBe(0);
      }
    });

    it('cancels the pair masks of any cohort and leaves the plain sum', () => {
      fc.assert(
        fc.property(
          fc.integer({ min: 2, max: 7 }),
          fc.integer({ min: 1, max: 40 }),
          fc.nat(),
          (members, coordinates, salt) => {
            const sum = new Uint32Array(ringWordCount(coordinates, lanes));
            const plain = sum.slice();
            for (let u = 0; u < members; u++) {
              const seeds: MaskSeed[] = [];
              for (let v = 0; v < members; v++) {
                if (v === u) continue;
                const pair = Uint8Array.of(Math.min(u, v), Math.max(u, v), salt & 255, (salt >> 8) & 255);
                seeds.push({ seed: nodeCrypto.sha256(pair), sign: u > v ? 1 : -1 });
              }
              const x = packLanes(
                Int32Array.from({ length: coordinates }, (_, i) => Math.imul(salt + i, u + 3)),
                lanes,
              );
              addWords(plain, x, lanes);
              applyMasks(x, lanes, seeds, u % 2 === 0 ? nodeCrypto : nobleCrypto);
              addWords(sum, x, lanes);
            }
            expect(sum).toEqual(plain);
            expect(hasStrayBits(sum, coordinates, lanes)).toBe(false);
          },
        ),
        { numRuns: 20 },
      );
    });

    it('finds every bit outside the fields, and tail fields only where they are forbidden', () => {
      for (let coordinates = 1; coordinates <= 2 * lanes + 1; coordinates++) {
        const length = ringWordCount(coordinates, lanes);
        for (let bit = 0; bit < 32 * length; bit++) {
          const words = new Uint32Array(length);
          words[bit >> 5] = 1 << (bit & 31);
          const field = Math.floor((bit % 64) / bits);
          const isUnowned = field >= lanes;
          const isTail = Math.floor(bit / 64) * lanes + field >= coordinates;
          expect(hasStrayBits(words, coordinates, lanes)).toBe(isUnowned || isTail);
          expect(hasStrayBits(words, coordinates, lanes, false)).toBe(isUnowned);
        }
      }
    });

    it('clears unowned bits of masks, whatever the keystream holds', () => {
      const words = new Uint32Array(2_000);
      applyMasks(words, lanes, [{ seed: new Uint8Array(32), sign: 1 }], nodeCrypto);
      expect(hasStrayBits(words, 1_000 * lanes, lanes)).toBe(false);
      applyMasks(words, lanes, [{ seed: new Uint8Array(32), sign: -1 }], nodeCrypto);
      expect(words.every((word) => word === 0)).toBe(true);
    });

    it('A18: masked zeros are uniform in every bit of every field', () => {
      const wordCount = 20_000;
      const words = new Uint32Array(2 * wordCount);
      applyMasks(
        words,
        lanes,
        [
          { seed: new Uint8Array(32).fill(1), sign: 1 },
          { seed: new Uint8Array(32).fill(2), sign: -1 },
        ],
        nodeCrypto,
      );
      for (let bit = 0; bit < lanes * bits; bit++) {
        let ones = 0;
        for (let i = bit >> 5; i < words.length; i += 2) ones += ((words[i] as number) >>> (bit & 31)) & 1;
        // Binomial(20,000, 1/2): six standard deviations.
        expect(Math.abs(ones - wordCount / 2)).toBeLessThan(6 * Math.sqrt(wordCount / 4));
      }
    });

    it('refuses vectors of another length', () => {
      expect(codeOf(() => addWords(new Uint32Array(4), new Uint32Array(2), lanes))).toBe('USAGE_RANGE');
      expect(codeOf(() => subtractWords(new Uint32Array(2), new Uint32Array(4), lanes))).toBe('USAGE_RANGE');
      expect(codeOf(() => unpackLanes(new Uint32Array(4), lanes, lanes))).toBe('USAGE_RANGE');
      expect(codeOf(() => hasStrayBits(new Uint32Array(2), lanes + 1, lanes))).toBe('USAGE_RANGE');
    });

    it('takes no words for no coordinates', () => {
      const words = packLanes(new Int32Array(0), lanes);
      expect(words.length).toBe(0);
      applyMasks(words, lanes, [{ seed: new Uint8Array(32), sign: 1 }], nodeCrypto);
      expect(unpackLanes(words, 0, lanes).length).toBe(0);
      expect(hasStrayBits(words, 0, lanes)).toBe(false);
    });
  });
}

describe('wire words', () => {
  it('hold coordinate i in bits [jw, (j+1)w) of a little-endian 64-bit word', () => {
    expect(toHex(wordsToBytes(packLanes(Int32Array.of(1, -2), 2)))).toBe('01000000feffffff');
    expect(toHex(wordsToBytes(packLanes(Int32Array.of(1, -2, 0x1234, 0x5678), 4)))).toBe('0100feff34127856');
    // 1 + (2^21 - 2) 2^21 + 3 * 2^42
    expect(toHex(wordsToBytes(packLanes(Int32Array.of(1, -2, 3), 3)))).toBe('0100c0ffff0f0000');
  });

  it('A18: first masks of the zero seed are the published keystream blocks, cut to the fields', () => {
    const mask = (lanes: Lanes): string => {
      const words = new Uint32Array(4);
      applyMasks(words, lanes, [{ seed: new Uint8Array(32), sign: 1 }], nodeCrypto);
      return toHex(wordsToBytes(words));
    };
    expect(mask(2)).toBe('dc95c078a2408989ad48a21492842087');
    expect(mask(4)).toBe('dc95c078a2408989ad48a21492842087');
    // Bit 63 of both words is unused with three lanes.
    expect(mask(3)).toBe('dc95c078a2408909ad48a21492842007');
  });

  it('come back from bytes at any offset, as a copy', () => {
    const bytes = fromHex('ff0102030405060708').subarray(1);
    const words = bytesToWords(bytes);
    expect([...words]).toEqual([0x0403_0201, 0x0807_0605]);
    words.fill(0);
    expect(bytes[0]).toBe(1);
    expect(codeOf(() => bytesToWords(new Uint8Array(12)))).toBe('CODEC_TRUNCATED');
  });
});
