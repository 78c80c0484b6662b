import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromBase64, hashParts, toHex, u32le, utf8 } from '../protocol/bytes.ts';
import { CoveyError } from '../protocol/errors.ts';
import { nodeId } from '../protocol/params.ts';
import { canonicalJson, parseCanonicalBytes, parseCanonicalJson } from '../src/audit/canonical-json.ts';
import { checkpointOf, openCheckpoint, signCheckpoint } from '../src/audit/checkpoint.ts';
import { entryHash, parseEntry, signEntry } from '../src/audit/entries.ts';
import { openNote, signNote } from '../src/audit/signed-note.ts';

const crypto = nodeCrypto;
const seed = hashParts(crypto, utf8('test'), u32le(1));
const publicKey = crypto.ed25519PublicKey(seed);
const actor = toHex(nodeId(crypto, publicKey));

function failureOf(act: () => unknown): CoveyError {
  try {
    act();
  } catch (error) {
    if (error instanceof CoveyError) return error;
    throw error;
  }
  throw new Error('expected a failure');
}

describe('canonical JSON (RFC 8785)', () => {
  it('writes the example of section 3.2.4', () => {
    const input = JSON.parse(
      '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}',
    );
    const expected =
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}';
    expect(canonicalJson(input)).toBe(expected);
  });

  it('sorts keys by UTF-16 code units as in section 3.2.3', () => {
    const input = { '\u20ac': 1, '\r': 2, '\ufb33': 3, '1': 4, '\u{1f600}': 5, '\u0080': 6, '\u00f6': 7 };
    expect(canonicalJson(input)).toBe('{"\\r":2,"1":4,"\u0080":6,"\u00f6":7,"\u20ac":1,"\u{1f600}":5,"\ufb33":3}');
  });

  it('reads back what it writes and nothing else', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
        const text = canonicalJson(value);
        expect(canonicalJson(parseCanonicalJson(text))).toBe(text);
        expect(failureOf(() => parseCanonicalJson(` ${text}`)).code).toBe('CODEC_TYPE');
      }),
      { seed: 7, numRuns: 300 },
    );
  });

  it.each([
    ['{"b":1,"a":2}', 7],
    ['{"a":1,"a":2}', 7],
    ['{"a": 1}', 5],
    ['[1.0]', 1],
    ['[1e3]', 1],
    ['[-0]', 1],
    ['["\\u0041"]', 1],
    ['["\\/"]', 1],
    ['["\\ud800"]', 1],
    ['[1,]', 3],
    ['{"a":1}x', 7],
    ['["€",01]', 7],
    ['[NaN]', 1],
    ['"open', 5],
  ])('refuses %s at byte %i', (text, byte) => {
    expect(failureOf(() => parseCanonicalBytes(utf8(text))).detail['byte']).toBe(byte);
  });

  it.each([[undefined], [Number.NaN], [{ a: undefined }], ['\ud800'], [new Uint8Array(1)], [1n]])(
    'has no text for %s',
    (value) => {
      expect(failureOf(() => canonicalJson(value)).code).toBe('CODEC_TYPE');
    },
  );
});

const unsigned = {
  type: 'incident',
  federation: 'test',
  run: '00112233445566778899aabbccddeeff',
  seq: 0,
  time: '2025-01-02T03:04:05.678Z',
  actor,
  body: { kind: 'note', detail: 'a line' },
  prevByActor: '',
} as const;
const keyOf = (): Uint8Array => publicKey;

describe('log entries', () => {
  it('are one canonical line that names its actor and chains to the one before', () => {
    const line = signEntry(unsigned, seed, crypto);
    const entry = parseEntry(line, keyOf, crypto);
    expect(entry).toMatchObject(unsigned);
    const next = signEntry({ ...unsigned, seq: 1, prevByActor: entryHash(crypto, line) }, seed, crypto);
    expect(parseEntry(next, keyOf, crypto).prevByActor).toBe(toHex(crypto.sha256(utf8(line))));
  });

  it('break when any byte changes', () => {
    const bytes = utf8(signEntry(unsigned, seed, crypto));
    for (let i = 0; i < bytes.length; i++) {
      const changed = bytes.slice();
      changed[i] = (changed[i] as number) ^ 1;
      const text = String.fromCharCode(...changed);
      expect(() => parseEntry(text, keyOf, crypto)).toThrow(CoveyError);
    }
  });

  it('refuse the signature of another key, an unknown actor and unknown fields', () => {
    const other = hashParts(crypto, utf8('test'), u32le(2));
    const forged = signEntry(unsigned, other, crypto);
    expect(failureOf(() => parseEntry(forged, keyOf, crypto)).code).toBe('AUTH_SIGNATURE');
    const line = signEntry(unsigned, seed, crypto);
    expect(failureOf(() => parseEntry(line, () => undefined, crypto)).code).toBe('AUTH_UNKNOWN');
    const body = { ...unsigned.body, extra: 1 };
    expect(failureOf(() => signEntry({ ...unsigned, body }, seed, crypto)).code).toBe('CODEC_EXTRA_KEY');
    expect(
      failureOf(() =>
        signEntry(
          { ...unsigned, type: 'budget.block', body: { round: 1, epsilon: '1.0', target: '8', view: 'server' } },
          seed,
          crypto,
        ),
      ).message,
    ).toBe('"budget.block.epsilon" expected a decimal string in shortest form, got "1.0"');
  });
});

describe('signed notes and checkpoints (C2SP)', () => {
  it('opens a published note', () => {
    const text =
      "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const note = `${text}\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n`;
    // Verifier key "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW": type byte and key.
    const key = fromBase64('ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW').subarray(1);
    expect(openNote(utf8(note), [{ name: 'PeterNeumann', publicKey: key }], crypto)).toBe(text);
  });

  const key = { name: 'covey/test/1', publicKey };
  it('signs a tree head in three lines and reads it back', () => {
    const checkpoint = checkpointOf('covey/test/1', [utf8('a'), utf8('b'), utf8('c')], crypto);
    const note = signCheckpoint(checkpoint, key, seed, crypto);
    expect(note.split('\n').slice(0, 2)).toEqual(['covey/test/1', '3']);
    expect(openCheckpoint(utf8(note), 'covey/test/1', [key], crypto)).toEqual(checkpoint);
    expect(failureOf(() => openCheckpoint(utf8(note), 'covey/test/2', [key], crypto)).code).toBe('CODEC_TYPE');
  });

  it('ignores signatures of unknown keys, refuses wrong ones of known keys', () => {
    const note = signNote('text\n', key, seed, crypto);
    const stranger = signNote('text\n', { name: 'stranger', publicKey }, seed, crypto).split('\n').at(-2);
    expect(openNote(utf8(`${note}${stranger}\n`), [key], crypto)).toBe('text\n');
    expect(failureOf(() => openNote(utf8(`text\n\n${stranger}\n`), [key], crypto)).code).toBe('AUTH_UNKNOWN');
    expect(failureOf(() => openNote(utf8(note.replace('text', 'next')), [key], crypto)).code).toBe('AUTH_SIGNATURE');
  });
});
