import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import {
  compareBytes,
  concatBytes,
  decodeParts,
  encodeParts,
  equalBytes,
  f64le,
  fromBase64,
  fromHex,
  fromUtf8,
  hashConcatenation,
  hashParts,
  readU32le,
  toBase64,
  toHex,
  u8,
  u32le,
  utf8,
} from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { LABELS } from '../protocol/labels.ts';
import { LIMITS } from '../protocol/limits.ts';
import { codeOf } from './support/code-of.ts';

const bytesOf = (maxLength: number) => fc.uint8Array({ maxLength });

describe('UTF-8', () => {
  it('agrees with the platform for every string', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (text) => {
        expect(toHex(utf8(text))).toBe(Buffer.from(text, 'utf8').toString('hex'));
        expect(fromUtf8(utf8(text))).toBe(text);
      }),
    );
  });

  it('replaces a lone surrogate as the platform does', () => {
    expect(toHex(utf8('a\ud800b'))).toBe(Buffer.from('a\ud800b', 'utf8').toString('hex'));
  });

  it('decodes exactly what the fatal decoder of the platform accepts', () => {
    const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(0x41, 0x80, 0xbf, 0xc1, 0xc2, 0xe0, 0xed, 0xa0, 0xef, 0xf0, 0xf4, 0x90, 0xf5, 0xff)),
        (list) => {
          const bytes = Uint8Array.from(list);
          let expected: string | undefined;
          try {
            expected = strict.decode(bytes);
          } catch {
            expected = undefined;
          }
          if (expected === undefined) expect(codeOf(() => fromUtf8(bytes))).toBe('CODEC_TYPE');
          else expect(fromUtf8(bytes)).toBe(expected);
        },
      ),
      { numRuns: 2_000 },
    );
  });
});

describe('hex and base64', () => {
  it('agree with the platform and come back', () => {
    fc.assert(
      fc.property(bytesOf(50), (bytes) => {
        expect(toHex(bytes)).toBe(Buffer.from(bytes).toString('hex'));
        expect(fromHex(toHex(bytes))).toEqual(bytes);
        expect(toBase64(bytes)).toBe(Buffer.from(bytes).toString('base64'));
        expect(fromBase64(toBase64(bytes))).toEqual(bytes);
      }),
    );
  });

  it.each(['0', 'AB', 'zz', '0x', '00 '])('refuses %j as hex', (text) => {
    expect(codeOf(() => fromHex(text))).toBe('CODEC_TYPE');
  });

  it.each(['A', 'AA', 'AA=', 'AB==', 'AA==A', 'AA===', 'A-==', 'AAAA='])('refuses %j as base64', (text) => {
    expect(codeOf(() => fromBase64(text))).toBe('CODEC_TYPE');
  });
});

describe('integers', () => {
  it('are little-endian', () => {
    expect(toHex(u32le(0x0102_0304))).toBe('04030201');
    expect(toHex(u32le(2 ** 32 - 1))).toBe('ffffffff');
    expect(toHex(u8(255))).toBe('ff');
    expect(toHex(f64le(-2))).toBe('00000000000000c0');
    expect(readU32le(Uint8Array.of(9, 0xff, 0xff, 0xff, 0xff), 1)).toBe(2 ** 32 - 1);
  });

  it.each([-1, 0.5, 2 ** 32, Number.NaN])('refuse %d, which would wrap around', (value) => {
    expect(codeOf(() => u32le(value))).toBe('USAGE_RANGE');
    expect(codeOf(() => u8(value))).toBe('USAGE_RANGE');
  });

  it('refuse to read behind the end', () => {
    expect(codeOf(() => readU32le(new Uint8Array(4), 1))).toBe('CODEC_TRUNCATED');
  });
});

describe('comparison', () => {
  it('is the order of the bytes, then of the lengths', () => {
    fc.assert(
      fc.property(bytesOf(6), bytesOf(6), (a, b) => {
        expect(Math.sign(compareBytes(a, b))).toBe(Buffer.compare(a, b));
        expect(equalBytes(a, b)).toBe(Buffer.compare(a, b) === 0);
      }),
    );
  });
});

describe('length-prefixed lists', () => {
  it('come back for every list', () => {
    fc.assert(
      fc.property(fc.array(bytesOf(20), { maxLength: 8 }), (parts) => {
        expect(decodeParts(encodeParts(parts))).toEqual(parts);
        expect(decodeParts(encodeParts(parts), parts.length)).toEqual(parts);
      }),
    );
  });

  it('give different bytes to different lists with the same concatenation', () => {
    const a = encodeParts([utf8('ab'), utf8('c')]);
    const b = encodeParts([utf8('a'), utf8('bc')]);
    expect(toHex(a)).toBe('0200000061620100000063');
    expect(equalBytes(a, b)).toBe(false);
  });

  it('are refused one part short, one part long, or cut anywhere', () => {
    const list = encodeParts([utf8('one'), utf8('two')]);
    expect(codeOf(() => decodeParts(list, 3))).toBe('CODEC_TRUNCATED');
    expect(codeOf(() => decodeParts(list, 1))).toBe('CODEC_TRAILING');
    for (let length = 1; length < list.length; length++) {
      expect(codeOf(() => decodeParts(list.subarray(0, length), 2))).toBe('CODEC_TRUNCATED');
    }
  });

  it('throw nothing but CoveyError for random bytes', () => {
    fc.assert(
      fc.property(bytesOf(40), fc.option(fc.nat(4), { nil: undefined }), (bytes, count) => {
        try {
          expect(encodeParts(decodeParts(bytes, count))).toEqual(bytes);
        } catch (error) {
          expect(isCoveyError(error)).toBe(true);
        }
      }),
    );
  });

  it('are what H hashes', () => {
    const expected = nodeCrypto.sha256(concatBytes(u32le(1), utf8('x'), u32le(0), u32le(2), utf8('yz')));
    expect(hashParts(nodeCrypto, utf8('x'), new Uint8Array(0), utf8('yz'))).toEqual(expected);
  });
});

describe('tables', () => {
  it('give every purpose a label of its own, in printable ASCII', () => {
    const labels = Object.values(LABELS);
    expect(new Set(labels).size).toBe(labels.length);
    for (const label of labels) expect(label).toMatch(/^[ -~]+$/);
  });

  it('hold positive whole limits, the hello below a fragment below a message', () => {
    for (const limit of Object.values(LIMITS)) expect(Number.isSafeInteger(limit) && limit > 0).toBe(true);
    expect(LIMITS.helloBytes).toBeLessThan(LIMITS.fragmentBytes);
    expect(LIMITS.fragmentBytes).toBeLessThan(LIMITS.payloadBytes);
  });
});

describe('hashing and encoding in one pass', () => {
  it('hashes what the list encodes to and what the parts join to, short or long, and leaves the parts as they are', () => {
    fc.assert(
      fc.property(fc.array(bytesOf(700), { maxLength: 5 }), (parts) => {
        const before = parts.map(toHex);
        expect(toHex(hashParts(nodeCrypto, ...parts))).toBe(toHex(nodeCrypto.sha256(encodeParts(parts))));
        expect(toHex(hashConcatenation(nodeCrypto, ...parts))).toBe(toHex(nodeCrypto.sha256(concatBytes(...parts))));
        expect(parts.map(toHex)).toEqual(before);
      }),
    );
  });

  it('keeps nothing of what was hashed', () => {
    const seen: Uint8Array[] = [];
    const spy = {
      sha256(data: Uint8Array) {
        seen.push(data);
        return nodeCrypto.sha256(data);
      },
    };
    const secret = new Uint8Array(64).fill(0xa5);
    hashParts(spy, secret);
    hashConcatenation(spy, secret);
    const memory = seen.map((data) => new Uint8Array(data.buffer));
    expect(memory.every((bytes) => bytes.every((byte) => byte === 0))).toBe(true);
  });
});
