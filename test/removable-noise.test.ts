import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { decodeParts, toHex } from '../protocol/bytes.ts';
import { idealSum } from '../protocol/ideal.ts';
import { LIMITS } from '../protocol/limits.ts';
import { decodeLeaf, sealedSharesBytes } from '../protocol/messages.ts';
import { decodeParams, encodeParams } from '../protocol/params.ts';
import type { Lanes, Phase, SessionParams } from '../protocol/session.ts';
import { verifyTranscript } from '../protocol/transcript.ts';
import { removeDropoutNoise } from '../src/privacy/dropout-noise.ts';
import { codeOf } from './support/code-of.ts';
import { nothingOpened } from './support/malice.ts';
import { expectExact } from './support/removable-noise.ts';
import { baseParams, createMembers, runSession, type World } from './support/session-world.ts';

const MEMBERS = 13;
const TOLERANCE = 4;
const COORDINATES = 40;
const ids = createMembers(MEMBERS).members.map(({ id }) => toHex(id));
const NOISE = { mechanism: 'skellam', shareVariance: 5_000, tolerance: TOLERANCE } as const;
// Nine of thirteen are the fewest that a certificate allows.
const PARAMS: Partial<SessionParams> = { noise: NOISE, minSurvivors: 9 };

const run = (drops: Partial<Record<Phase, readonly string[]>>, lanes: Lanes = 2, params = PARAMS): World =>
  runSession({ members: MEMBERS, coordinates: COORDINATES, lanes, drops, params });

describe('removable noise', () => {
  for (const lanes of [2, 3, 4] as const) {
    it(`keeps exactly the components of the lost, for every number of them (${lanes} lanes)`, () => {
      const sums = new Set<string>();
      for (let dropped = 0; dropped <= TOLERANCE; dropped++) {
        const world = run({ 'masked-input': ids.slice(2, 2 + dropped) }, lanes);
        expectExact(world, MEMBERS, dropped);
        for (const { drawn } of world.components.values())
          expect(drawn.map(({ number }) => number)).toEqual([1, 2, 3, 4]);
        sums.add(String(world.outcome?.sum));
      }
      expect(sums.size).toBe(TOLERANCE + 1);
    });
  }

  it('counts the lost from U2, not from who was invited', () => {
    const gone = { advertise: ids.slice(0, 1), 'share-keys': ids.slice(1, 2), 'masked-input': ids.slice(2, 3) };
    const world = run(gone);
    expectExact(world, MEMBERS - 2, 1);
    // Two more can be lost at most with nine survivors of eleven: two components are enough.
    for (const { drawn } of world.components.values()) expect(drawn.length).toBe(2);
  });

  it('needs neither the signature nor the reply of survivors that are lost later', () => {
    for (const phase of ['consistency', 'unmask'] as const) {
      const world = run({ 'masked-input': ids.slice(0, 2), [phase]: ids.slice(4, 6) });
      expectExact(world, MEMBERS, 2);
      const replied = new Set(world.sent.filter(({ message }) => message.type === 'p5').map(({ from }) => from));
      for (const lost of [4, 5]) expect(replied.has(lost)).toBe(false);
    }
  });

  it('ends before anything is signed or opened if more are lost than the noise was made for', () => {
    const params = { ...PARAMS, noise: { ...NOISE, tolerance: 2 }, minSurvivors: 3 };
    expectExact(run({ 'masked-input': ids.slice(0, 2) }, 2, params), MEMBERS, 2);
    const world = run({ 'masked-input': ids.slice(0, 3) }, 2, params);
    expect(world.outcome).toBeNull();
    expect(world.abort).toMatchObject({ code: 'ROUND_BELOW_THRESHOLD', phase: 'masked-input', uploadBegun: true });
    expect(world.sent.some(({ message }) => message.type === 'p4')).toBe(false);
    expect(nothingOpened(world)).toBe(true);
    expect(() => idealSum(world.params, world.contributions, { 'masked-input': ids.slice(0, 3) })).toThrow(/U3/);
  });

  it('opens one share more a survivor, of one root, and none where nothing is taken off', () => {
    for (const dropped of [0, 2, TOLERANCE]) {
      const world = run({ 'masked-input': ids.slice(0, dropped) });
      const replies = world.sent.filter(({ message }) => message.type === 'p5');
      expect(replies.length).toBeGreaterThan(0);
      for (const { message } of replies) {
        const fields = decodeParts(message.attachment).map((entry) => decodeParts(entry).length);
        const kept = dropped < TOLERANCE ? 4 : 2;
        expect(fields).toEqual(ids.map((_, i) => (i < dropped ? 2 : kept)));
      }
    }
  });

  it('seals the shares of every root, with lengths that tell members not apart', () => {
    const world = run({});
    const lengths = world.sent.map(({ message }) => `${message.type} ${message.attachment.length}`);
    expect(new Set(lengths).size).toBe(5);
    for (const { message } of world.sent.filter((s) => s.message.type === 'p2')) {
      const parts = decodeParts(message.attachment);
      expect(parts.filter((_, i) => i % 2 === 1 && parts[i]?.length !== 0).length).toBe(MEMBERS - 1);
      for (let i = 0; i < parts.length; i += 2) {
        expect(decodeLeaf(parts[i] as Uint8Array, TOLERANCE).commitmentsX.length).toBe(TOLERANCE);
        const { length } = parts[i + 1] as Uint8Array;
        expect([0, sealedSharesBytes(TOLERANCE)]).toContain(length);
      }
    }
    expect(sealedSharesBytes(LIMITS.tolerance)).toBe(4_240);
  });

  it('wipes the seeds of a member once its contribution is made', () => {
    const world = run({});
    const given = world.effects.flatMap(({ effect }) => (effect.type === 'contribute' ? effect.components : []));
    expect(given.length).toBe(MEMBERS * TOLERANCE);
    expect(given.every(({ seed }) => seed.every((byte) => byte === 0))).toBe(true);
    const drawn = [...world.components.values()].flatMap((c) => c.drawn.map(({ seed }) => toHex(seed)));
    expect(new Set(drawn).size).toBe(MEMBERS * TOLERANCE);
  });

  it('is recomputed from a transcript, by whoever can draw it', () => {
    const world = run({ 'masked-input': ids.slice(0, 1) }, 3, { ...PARAMS, purpose: 'census' });
    const { transcript = new Uint8Array(0), sum } = world.outcome ?? {};
    const { roster, coordinator } = world;
    const verified = verifyTranscript(nodeCrypto, transcript, roster, coordinator.publicKey, removeDropoutNoise);
    expect(verified.sum).toEqual(sum);
    expect(codeOf(() => verifyTranscript(nodeCrypto, transcript, roster, coordinator.publicKey))).toBe('USAGE_STATE');
    const less: typeof removeDropoutNoise = (crypto, words, params, members, components) =>
      removeDropoutNoise(crypto, words, params, members, components.slice(1));
    expect(codeOf(() => verifyTranscript(nodeCrypto, transcript, roster, coordinator.publicKey, less))).toBe(
      'CRYPTO_COMMITMENT',
    );
  });
});

describe('parameters of removable noise', () => {
  const { roster } = createMembers(4);
  const base = baseParams(roster, 10, 2, PARAMS);
  const decoded = (changes: Partial<SessionParams>): string | null =>
    codeOf(() => decodeParams(encodeParams({ ...base, ...changes })));

  it('are bound by P0 and leave the bytes of other sessions as they were', () => {
    expect(decodeParams(encodeParams(base))).toEqual(base);
    const { tolerance, ...plain } = NOISE;
    const without = encodeParams({ ...base, noise: plain });
    expect(encodeParams(base).length).toBe(without.length + 4);
    expect(decodeParams(without).noise).toEqual(plain);
    expect(tolerance).toBe(TOLERANCE);
  });

  it('are refused with another law and out of bounds', () => {
    expect(decoded({})).toBeNull();
    expect(decoded({ noise: { ...NOISE, mechanism: 'discrete-gaussian' } })).toBe('CODEC_TYPE');
    expect(decoded({ noise: { ...NOISE, mechanism: 'none', shareVariance: 0 } })).toBe('CODEC_TYPE');
    expect(decoded({ profile: 'sparse' })).toBeNull();
    expect(decoded({ noise: { ...NOISE, tolerance: 0 } })).toBe('CODEC_TYPE');
    expect(decoded({ noise: { ...NOISE, tolerance: LIMITS.tolerance } })).toBeNull();
    expect(decoded({ noise: { ...NOISE, tolerance: LIMITS.tolerance + 1 } })).toBe('CODEC_TYPE');
  });
});
