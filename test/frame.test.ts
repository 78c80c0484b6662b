import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concatBytes, fromHex, toHex, u32le, utf8 } from '../protocol/bytes.ts';
import { CoveyError, isCoveyError } from '../protocol/errors.ts';
import {
  decodeFrame,
  decodeSessionMessage,
  encodeFrame,
  encodeSessionMessage,
  requireKeys,
} from '../protocol/frame.ts';
import { LIMITS } from '../protocol/limits.ts';
import { scanMsgpack } from '../protocol/msgpack-scan.ts';
import type { MessageType, SessionMessage } from '../protocol/session.ts';
import { codeOf } from './support/code-of.ts';

const WIDE = { maxHeaderBytes: LIMITS.headerBytes, maxPayloadBytes: LIMITS.payloadBytes };
const EMPTY = new Uint8Array(0);
const scanned = (hex: string): string | null => codeOf(() => scanMsgpack(fromHex(hex.replaceAll(' ', ''))));
/** A map with the one key "a" and a value in hex. */
const inMap = (value: string): string => `81 a161 ${value}`;

/** Frame around raw header bytes, as an attacker would build it. */
function frameOf(header: Uint8Array, payload: Uint8Array = EMPTY): Uint8Array {
  const head = concatBytes(u32le(header.length), header);
  return concatBytes(head, new Uint8Array(-head.length & 15), payload);
}

const message = (fields: Partial<SessionMessage> = {}): SessionMessage => ({
  type: 'p1',
  sid: new Uint8Array(32).fill(1),
  body: utf8('body'),
  signature: new Uint8Array(64).fill(2),
  attachment: Uint8Array.of(9, 8, 7),
  ...fields,
});

describe('the scan before decoding', () => {
  it.each([
    ['an empty map', '80'],
    ['small integers', inMap('7f')],
    ['negative small integers', inMap('e0')],
    ['nil', inMap('c0')],
    ['booleans', '82 a161 c2 a162 c3'],
    ['floats', '82 a161 ca00000000 a162 cb0000000000000000'],
    ['integers of 8, 16 and 32 bits', '86 a161 ccff a162 cdffff a163 ceffffffff a164 d080 a165 d18000 a166 d280000000'],
    ['binaries', '83 a161 c40101 a162 c5000101 a163 c60000000101'],
    ['strings', '84 a161 a162 a162 d90162 a163 da000162 a164 db0000000162'],
    ['arrays', '82 a161 9101 a162 dc000101'],
    ['maps', '82 a161 81a16201 a162 de0001a16201'],
    ['a 16-bit map at the top', 'de0001 a16101'],
    ['a key of 64 bytes', `81 d940${'61'.repeat(64)} 01`],
    ['8 nested containers', inMap(`${'91'.repeat(7)}01`)],
  ])('lets %s through', (_, hex) => {
    expect(scanned(hex)).toBeNull();
  });

  it.each([
    ['nothing', '', 'CODEC_TYPE'],
    ['an array at the top', '9101', 'CODEC_TYPE'],
    ['a number at the top', '01', 'CODEC_TYPE'],
    ['the unused 0xc1', inMap('c1'), 'CODEC_TYPE'],
    ['extension 8', inMap('c7010001'), 'CODEC_TYPE'],
    ['extension 16', inMap('c800010001'), 'CODEC_TYPE'],
    ['extension 32', inMap('c9000000010001'), 'CODEC_TYPE'],
    ['fixed extensions', inMap('d40000'), 'CODEC_TYPE'],
    ['a timestamp', inMap('d6ff00000000'), 'CODEC_TYPE'],
    ['a record definition', inMap('d472 40 91a178'), 'CODEC_TYPE'],
    ['a regular expression', inMap('c70578 92a161a0'), 'CODEC_TYPE'],
    ['unsigned 64-bit integers', inMap('cf0000000000000001'), 'CODEC_TYPE'],
    ['signed 64-bit integers', inMap('d3ffffffffffffffff'), 'CODEC_TYPE'],
    ['32-bit arrays', inMap('dd0000000101'), 'CODEC_TYPE'],
    ['32-bit maps', inMap('df00000001a16101'), 'CODEC_TYPE'],
    ['a number as a key', '81 01 01', 'CODEC_TYPE'],
    ['a binary as a key', '81 c40161 01', 'CODEC_TYPE'],
    ['a control character in a key', '81 a10a 01', 'CODEC_TYPE'],
    ['a character above ASCII in a key', '81 a2c3a4 01', 'CODEC_TYPE'],
    ['a key of 65 bytes', `81 d941${'61'.repeat(65)} 01`, 'CODEC_LIMIT'],
    ['a repeated key', '82 a16101 a16102', 'CODEC_EXTRA_KEY'],
    ['a repeated key in another encoding', '82 a16101 d9016102', 'CODEC_EXTRA_KEY'],
    ['a repeated key in an inner map', inMap('82 a16101 a16102'), 'CODEC_EXTRA_KEY'],
    ['the key __proto__', `81 a9${toHex(utf8('__proto__'))} 80`, 'CODEC_EXTRA_KEY'],
    ['broken UTF-8 in a string', inMap('a1ff'), 'CODEC_TYPE'],
    ['bytes behind the end', '80 00', 'CODEC_TRAILING'],
    ['9 nested containers', inMap(`${'91'.repeat(8)}01`), 'CODEC_LIMIT'],
    ['9 nested containers, the last empty', inMap(`${'91'.repeat(7)}90`), 'CODEC_LIMIT'],
    ['a string longer than the rest', inMap('dbffffffff62'), 'CODEC_TRUNCATED'],
    ['a binary longer than the rest', inMap('c6ffffffff00'), 'CODEC_TRUNCATED'],
    ['an array longer than the rest', inMap('dc000201'), 'CODEC_TRUNCATED'],
    ['more items than the limit', inMap(`dcffff${'01'.repeat(10)}`), 'CODEC_LIMIT'],
    ['a map with more entries than the limit', 'deffff', 'CODEC_LIMIT'],
  ])('refuses %s', (_, hex, code) => {
    expect(scanned(hex)).toBe(code);
  });

  it('refuses every valid header cut anywhere', () => {
    const header = fromHex('83a16193010203a162c403aabbcca163d9036162ce'.replace('ce', '63'));
    expect(codeOf(() => scanMsgpack(header))).toBeNull();
    for (let length = 1; length < header.length; length++) {
      expect(codeOf(() => scanMsgpack(header.subarray(0, length)))).toBe('CODEC_TRUNCATED');
    }
  });

  it('counts the items of all containers together', () => {
    const inner = (count: number): Uint8Array => concatBytes(fromHex('dc07d0'), new Uint8Array(count));
    const outer = (lists: number): Uint8Array =>
      concatBytes(
        fromHex(`81a161${(0x90 + lists).toString(16)}`),
        ...Array.from({ length: lists }, () => inner(2_000)),
      );
    expect(codeOf(() => scanMsgpack(outer(2)))).toBeNull();
    expect(codeOf(() => scanMsgpack(outer(3)))).toBe('CODEC_LIMIT');
  });
});

describe('frames', () => {
  const value = fc.oneof(
    fc.integer({ min: -(2 ** 31), max: 2 ** 32 - 1 }),
    // Negative zero is written as the integer 0; see below.
    fc.double().filter((x) => !Object.is(x, -0)),
    fc.boolean(),
    fc.constant(null),
    fc.string({ unit: 'grapheme', maxLength: 300 }),
    fc.uint8Array({ maxLength: 70 }),
    fc.array(fc.nat(9), { maxLength: 20 }),
    fc.dictionary(fc.stringMatching(/^[a-z]{1,6}$/), fc.nat(9), { maxKeys: 3 }),
  );
  const fields = fc.dictionary(fc.stringMatching(/^[a-zA-Z0-9_]{1,12}$/), value, {
    maxKeys: 20,
    noNullPrototype: true,
  });

  it('come back, with the payload at a multiple of 16', () => {
    fc.assert(
      fc.property(fields, fc.uint8Array({ maxLength: 200 }), (header, payload) => {
        fc.pre(!Object.hasOwn(header, '__proto__') && !Object.hasOwn(header, 'payloadBytes'));
        const frame = encodeFrame(header, payload);
        expect((frame.length - payload.length) % 16).toBe(0);
        const decoded = decodeFrame(frame, WIDE);
        expect({ ...decoded.header }).toEqual({ ...header, payloadBytes: payload.length });
        expect(decoded.payload).toEqual(payload);
      }),
      { numRuns: 300 },
    );
  });

  it('lose the sign of zero and no other number', () => {
    const sent = { zero: -0, small: -5e-324, nan: Number.NaN, infinite: -Infinity, whole: 2 ** 53, fraction: 0.1 };
    const { payloadBytes, ...received } = decodeFrame(encodeFrame(sent), WIDE).header;
    expect(payloadBytes).toBe(0);
    expect(received).toEqual({ ...sent, zero: 0 });
  });

  it('hold payload parts one behind the other', () => {
    const parts = [Uint8Array.of(1), EMPTY, Uint8Array.of(2, 3)];
    expect(encodeFrame({ t: 'x' }, ...parts)).toEqual(encodeFrame({ t: 'x' }, concatBytes(...parts)));
  });

  it('have these bytes', () => {
    expect(toHex(encodeFrame({ v: 1 }, Uint8Array.of(0xaa)))).toBe(
      // length 20 | map16 of 2 | "v": 1 | "payloadBytes": 1 | zeros to 32 | payload
      `14000000de0002a17601ac${toHex(utf8('payloadBytes'))}01${'00'.repeat(8)}aa`,
    );
  });

  it('are refused if the payload is longer, shorter or larger than declared', () => {
    const frame = encodeFrame({ t: 'x' }, new Uint8Array(5));
    expect(codeOf(() => decodeFrame(frame.subarray(0, frame.length - 1), WIDE))).toBe('CODEC_TRUNCATED');
    expect(codeOf(() => decodeFrame(concatBytes(frame, Uint8Array.of(0)), WIDE))).toBe('CODEC_TRAILING');
    expect(codeOf(() => decodeFrame(frame, { ...WIDE, maxPayloadBytes: 4 }))).toBe('CODEC_LIMIT');
    expect(codeOf(() => decodeFrame(frame, { ...WIDE, maxHeaderBytes: 4 }))).toBe('CODEC_LIMIT');
    expect(codeOf(() => decodeFrame(frameOf(fromHex('81a17401')), WIDE))).toBe('CODEC_TYPE');
    const negative = fromHex(`81ac${toHex(utf8('payloadBytes'))}ff`);
    expect(codeOf(() => decodeFrame(frameOf(negative), WIDE))).toBe('CODEC_TRAILING');
  });

  it('are refused if the padding is not zero', () => {
    const frame = encodeFrame({ t: 'x' });
    frame[frame.length - 1] = 1;
    expect(codeOf(() => decodeFrame(frame, WIDE))).toBe('CODEC_TYPE');
  });

  it.each([undefined, 10n ** 18n, new Date(0), new Map([[1, 2]])])(
    'never leave with the value %s, which a receiver would refuse',
    (bad) => {
      expect(codeOf(() => encodeFrame({ bad }))).toBe('CODEC_TYPE');
    },
  );

  it('never leave with a header over the limit', () => {
    expect(codeOf(() => encodeFrame({ text: 'x'.repeat(LIMITS.headerBytes) }))).toBe('CODEC_LIMIT');
  });

  it('are checked against the keys of a schema', () => {
    expect(codeOf(() => requireKeys({ a: 1, b: 2 }, ['a', 'b']))).toBeNull();
    expect(codeOf(() => requireKeys({ a: 1, b: 2, c: 3 }, ['a', 'b']))).toBe('CODEC_EXTRA_KEY');
    expect(codeOf(() => requireKeys({ a: 1 }, ['a', 'b']))).toBe('CODEC_TYPE');
    // Inherited names are no fields.
    expect(codeOf(() => requireKeys({ a: 1 }, ['a', 'toString']))).toBe('CODEC_TYPE');
  });
});

describe('session messages', () => {
  it('come back for every type', () => {
    const types: readonly MessageType[] = [
      'p0',
      'p1',
      'p1-all',
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
    ];
    const bytes = fc.uint8Array({ maxLength: 100 });
    fc.assert(
      fc.property(
        fc.constantFrom(...types),
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        bytes,
        bytes,
        (type, sid, body, attachment) => {
          const sent = message({ type, sid, body, attachment });
          expect(decodeSessionMessage(encodeSessionMessage(sent), WIDE)).toEqual(sent);
        },
      ),
    );
  });

  it('A22: are of one length for one type and lengths of body and attachment', () => {
    const lengths = new Set<number>();
    for (let i = 0; i < 256; i += 5) {
      const fill = (n: number) => new Uint8Array(n).fill(i);
      lengths.add(
        encodeSessionMessage(message({ sid: fill(32), body: fill(80), signature: fill(64), attachment: fill(999) }))
          .length,
      );
    }
    expect(lengths.size).toBe(1);
  });

  const valid = { v: 1, t: 'p1', sid: new Uint8Array(32), bodyBytes: 3 };
  it.each([
    ['another version', { ...valid, v: 2 }, 70, 'CODEC_TYPE'],
    ['an unknown type', { ...valid, t: 'p9' }, 70, 'CODEC_TYPE'],
    ['a type of an object prototype', { ...valid, t: 'toString' }, 70, 'CODEC_TYPE'],
    ['a short sid', { ...valid, sid: new Uint8Array(31) }, 70, 'CODEC_TYPE'],
    ['a sid that is text', { ...valid, sid: 'a'.repeat(32) }, 70, 'CODEC_TYPE'],
    ['a body longer than the payload', { ...valid, bodyBytes: 7 }, 70, 'CODEC_TRUNCATED'],
    ['a negative body length', { ...valid, bodyBytes: -1 }, 70, 'CODEC_TRUNCATED'],
    ['half a byte of body', { ...valid, bodyBytes: 0.5 }, 70, 'CODEC_TRUNCATED'],
    ['no room for the signature', { ...valid, bodyBytes: 0 }, 63, 'CODEC_TRUNCATED'],
    ['an unknown key', { ...valid, weight: 5 }, 70, 'CODEC_EXTRA_KEY'],
    ['a missing key', { v: 1, t: 'p1', sid: new Uint8Array(32) }, 70, 'CODEC_TYPE'],
  ])('are refused with %s', (_, header, payloadBytes, code) => {
    expect(codeOf(() => decodeSessionMessage(encodeFrame(header, new Uint8Array(payloadBytes)), WIDE))).toBe(code);
  });

  it('are not sent with a signature of another length', () => {
    expect(codeOf(() => encodeSessionMessage(message({ signature: new Uint8Array(63) })))).toBe('USAGE_RANGE');
  });
});

describe('A23: hostile bytes', () => {
  const decodesOrRefuses = (bytes: Uint8Array): void => {
    for (const decode of [decodeFrame, decodeSessionMessage]) {
      try {
        decode(bytes, WIDE);
      } catch (error) {
        if (!(error instanceof CoveyError)) throw error;
        expect(error.name).toBe('CodecError');
      }
    }
  };

  it('random bytes end in a value or a codec error', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), decodesOrRefuses), { numRuns: 3_000 });
  });

  it('random bytes as a header end in a value or a codec error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 0x80, max: 0x8f }), (rest, tag) => {
        decodesOrRefuses(frameOf(concatBytes(Uint8Array.of(tag), rest)));
      }),
      { numRuns: 3_000 },
    );
  });

  it('valid frames with changed, lost and added bytes end in a value or a codec error', () => {
    const frame = encodeSessionMessage(message({ body: new Uint8Array(40), attachment: new Uint8Array(64) }));
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(frame.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.nat(frame.length),
        fc.uint8Array({ maxLength: 3 }),
        (changes, cut, added) => {
          const changed = frame.slice();
          for (const [at, byte] of changes) changed[at] = byte;
          decodesOrRefuses(changed);
          decodesOrRefuses(concatBytes(changed.subarray(0, cut), added, changed.subarray(cut)));
          decodesOrRefuses(changed.subarray(0, cut));
        },
      ),
      { numRuns: 3_000 },
    );
  });

  it('every byte of the header replaced by every first byte of MessagePack ends in a value or a codec error', () => {
    const frame = encodeSessionMessage(message());
    const headerBytes = new DataView(frame.buffer).getUint32(0, true);
    for (let at = 4; at < 4 + headerBytes; at++) {
      for (let byte = 0; byte < 256; byte++) {
        const changed = frame.slice();
        changed[at] = byte;
        decodesOrRefuses(changed);
      }
    }
  });

  it('whatever passes the scan decodes to plain data only', () => {
    const isPlain = (x: unknown): boolean => {
      if (x === null || ['number', 'string', 'boolean'].includes(typeof x) || x instanceof Uint8Array) return true;
      if (Array.isArray(x)) return x.every(isPlain);
      return typeof x === 'object' && Object.getPrototypeOf(x) === Object.prototype && Object.values(x).every(isPlain);
    };
    const tag = fc.oneof(
      fc.nat(255),
      fc.constantFrom(0x80, 0x81, 0x90, 0x91, 0xa1, 0xc0, 0xc4, 0xcb, 0xd9, 0xdc, 0xde, 0x61, 0x00, 0x01),
    );
    let decoded = 0;
    fc.assert(
      fc.property(fc.array(tag, { maxLength: 14 }), (list) => {
        // A key first, so that a fair share gets through; payloadBytes as decodeFrame needs it.
        const header = concatBytes(fromHex(`82ac${toHex(utf8('payloadBytes'))}00a161`), Uint8Array.from(list));
        try {
          const frame = decodeFrame(frameOf(header), WIDE);
          expect(isPlain(frame.header)).toBe(true);
          decoded++;
        } catch (error) {
          if (!isCoveyError(error)) throw error;
        }
      }),
      { numRuns: 5_000 },
    );
    expect(decoded).toBeGreaterThan(100);
  });
});
