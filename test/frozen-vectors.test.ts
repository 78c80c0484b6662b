import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ed25519 } from '@noble/curves/ed25519.js';
import { describe, expect, it } from 'vitest';
import { nobleCrypto } from '../platform/noble/crypto.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { applyMasksWeb, webCrypto, webRandom } from '../platform/web/crypto.ts';
import { fromHex, toHex } from '../protocol/bytes.ts';
import { decodeSessionMessage, encodeSessionMessage } from '../protocol/frame.ts';
import { LIMITS } from '../protocol/limits.ts';
import { applyMasks } from '../protocol/ring.ts';
import type { Lanes, MaskSeed } from '../protocol/session.ts';
import { decodeRunMessage, encodeRunMessage, type RunMessage } from '../src/run/messages.ts';
import { describeCryptoProvider } from './support/crypto-provider.ts';
import { failedVectors, type Vectors } from './vectors/check.ts';
import { failedRefusals } from './vectors/refusals.ts';

const vectors = JSON.parse(readFileSync(join(import.meta.dirname, 'vectors/covey-1.json'), 'utf8')) as Vectors;
const LIMIT = { maxHeaderBytes: LIMITS.headerBytes, maxPayloadBytes: LIMITS.payloadBytes };

describe('frozen vectors', () => {
  for (const provider of [nodeCrypto, nobleCrypto, webCrypto])
    it(`are reproduced by the provider ${provider.name}, byte for byte`, () => {
      expect(failedVectors(provider, vectors)).toEqual([]);
    });

  it('are not reproduced by a provider that differs in one byte', () => {
    const broken = {
      ...nodeCrypto,
      sha256: (data: Uint8Array) => nodeCrypto.sha256(data).map((b, i) => (i === 9 ? b ^ 1 : b)),
    };
    const failed = failedVectors(broken, vectors);
    expect(failed).toContain('sha256');
    expect(failed.filter((name) => name.startsWith('session, member')).length).toBe(5);
    expect(failed.filter((name) => name.startsWith('sparse, member')).length).toBe(12);
    expect(failed.filter((name) => name.startsWith('removable, member')).length).toBe(5);
    expect(failed.filter((name) => name.startsWith('sparseRemovable, member')).length).toBe(8);
  });

  it.each([
    ['removable', 5],
    ['sparseRemovable', 8],
  ] as const)('hold a session of which one component of the noise stays and one is taken off (%s)', (name, count) => {
    const session = vectors[name];
    const others = session.members.map((member) => ({
      ...member,
      components: [...(member.components ?? [])].reverse(),
    }));
    for (const members of [others, session.members.map(({ components, ...member }) => member)]) {
      const failed = failedVectors(nodeCrypto, {
        ...vectors,
        primitives: [],
        refusals: [],
        [name]: { ...session, members },
      });
      expect(failed).toContain(`${name}, sum`);
      expect(failed.filter((failure) => failure.startsWith(`${name}, member`)).length).toBe(count);
    }
    expect(session.members.every(({ components }) => components?.length === 2)).toBe(true);
    expect(session.survivors.length).toBe(count - 1);
  });

  it('hold a negative case for every primitive that can refuse', () => {
    const bad = vectors.primitives.filter(({ name }) => name.startsWith('bad_'));
    expect(new Set(bad.map(({ call }) => call))).toEqual(
      new Set(['hkdf', 'ed25519Verify', 'ed25519IsPrimeOrder', 'x25519Agree', 'gcmOpen', 'combine', 'parts']),
    );
    for (const { call, output } of bad)
      expect(output).toMatch(call.startsWith('ed25519') ? /^00$/ : /^(USAGE|CRYPTO|CODEC)_[A-Z]+$/);
  });

  it('hold signatures of a key of small order that lax verifiers accept, one of which the equation holds for', () => {
    const named = (part: string) => vectors.primitives.filter(({ name }) => name.includes(part));
    const [holds, fails] = [named('accepts under a key of order 8')[0], named('with the cofactor only')[0]];
    for (const { inputs } of [holds, fails] as NonNullable<typeof holds>[]) {
      const [signature, message, key] = inputs.map(fromHex) as [Uint8Array, Uint8Array, Uint8Array];
      expect(ed25519.verify(signature, message, key, { zip215: true })).toBe(true);
      // Enrolment refuses that key, so that no signature of it ever counts.
      expect(named('bad_key of order 8')[0]?.inputs).toEqual([toHex(key)]);
    }
    expect([holds?.output, fails?.output]).toEqual(['01', '00']);
  });

  it('hold refusals that a machine without the check does not reproduce', () => {
    const sessions = { strict: vectors.session, sparse: vectors.sparse };
    const lax = { ...nodeCrypto, ed25519Verify: () => true };
    const failed = failedRefusals(lax, sessions, vectors.refusals);
    const signatures = vectors.refusals.filter(({ check }) => check.endsWith('signature'));
    expect(failed.length).toBe(signatures.length);
    // Another code, another party or another answer is a failure as well.
    const [first] = vectors.refusals.filter(({ accused }) => accused.length === 1) as [Vectors['refusals'][number]];
    for (const other of [{ code: 'CODEC_LIMIT' as const }, { accused: [] }, { answer: 'nothing' as const }])
      expect(failedRefusals(nodeCrypto, sessions, [{ ...first, ...other }]).length).toBe(1);
  });

  it('hold a frame of every message type, in its only form', () => {
    const types = [
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
    const run = ['run/census', 'run/finished', 'run/leave', 'run/log'];
    expect(vectors.frames.map(({ type }) => type).sort()).toEqual([...types, ...run].sort());
    for (const { type, frame } of vectors.frames) {
      const bytes = fromHex(frame);
      const again = type.startsWith('run/')
        ? encodeRunMessage(decodeRunMessage(bytes) as RunMessage)
        : encodeSessionMessage(decodeSessionMessage(bytes, LIMIT));
      expect(toHex(again)).toBe(frame);
    }
  });
});

describeCryptoProvider(webCrypto);

describe('masks by WebCrypto', () => {
  it('are the bytes of the synchronous masks, over several chunks and both signs', async () => {
    for (const lanes of [2, 3, 4] as Lanes[]) {
      const seeds = [1, 2, 3].map((n): MaskSeed => ({ seed: new Uint8Array(32).fill(n), sign: n === 2 ? -1 : 1 }));
      const words = new Uint32Array(600_002).map((_, i) => (i * 2_654_435_761) & 0x7fff_ffff);
      const [expected, actual] = [words.slice(), words.slice()];
      applyMasks(expected, lanes, seeds, nodeCrypto);
      await applyMasksWeb(actual, lanes, seeds);
      expect(actual.every((word, i) => word === expected[i])).toBe(true);
    }
  });

  it('have random bytes beyond the quota of one call', () => {
    const bytes = webRandom(200_000);
    expect(new Set(bytes.subarray(131_072)).size).toBe(256);
  });
});
