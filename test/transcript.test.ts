import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { decodeParts, encodeParts, toHex } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { decodeBodies, encodeBodies, encodeResult, signMessage } from '../protocol/messages.ts';
import { wordsToBytes } from '../protocol/ring.ts';
import { verifyTranscript } from '../protocol/transcript.ts';
import { createMembers, plainSum, runSession } from './support/session-world.ts';

const crypto = nodeCrypto;
const ids = createMembers(7).members.map(({ id }) => toHex(id));
const world = runSession({
  members: 7,
  lanes: 3,
  coordinates: 7,
  params: { purpose: 'census' },
  drops: { 'share-keys': ids.slice(1, 2), unmask: ids.slice(3, 4) },
});
const withDrop = runSession({ members: 7, params: { purpose: 'census' }, drops: { 'masked-input': ids.slice(5, 6) } });
const { roster, coordinator } = world;
const transcript = world.outcome?.transcript as Uint8Array;

const verify = (bytes: Uint8Array): ReturnType<typeof verifyTranscript> =>
  verifyTranscript(crypto, bytes, roster, coordinator.publicKey);

/** The transcript with one of its eight parts changed. */
function changed(part: number, change: (bytes: Uint8Array) => Uint8Array, source = transcript): Uint8Array {
  return encodeParts(decodeParts(source, 9).map((bytes, i) => (i === part ? change(bytes) : bytes)));
}

function codeOf(bytes: Uint8Array): string {
  try {
    verify(bytes);
    return 'accepted';
  } catch (error) {
    if (!isCoveyError(error)) throw error;
    return error.code;
  }
}

const flipLast = (bytes: Uint8Array): Uint8Array => bytes.map((byte, i) => (i === bytes.length - 1 ? byte ^ 1 : byte));

describe('a transcript', () => {
  it('gives the sum, the survivors and the checks back', () => {
    const verified = verify(transcript);
    expect(verified.sum).toEqual(world.outcome?.sum);
    expect(verified.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
    expect(verified.survivors.map(toHex)).toEqual(world.outcome?.survivors.map(toHex));
    expect(verified.params).toEqual(world.params);
    expect(verified.sid).toEqual(world.outcome?.sid);
  });

  it('takes the pair masks of a member off that dropped after it had dealt', () => {
    const verified = verify(withDrop.outcome?.transcript as Uint8Array);
    expect(verified.sum).toEqual(plainSum(withDrop, withDrop.outcome?.survivors ?? []));
    expect(verified.survivors.length).toBe(6);
  });

  it('leaves the vectors to whoever keeps them, unless it is a census', () => {
    const [vectors] = decodeParts(runSession({ members: 4 }).outcome?.transcript as Uint8Array, 9).slice(5, 6);
    expect(decodeParts(vectors as Uint8Array).map(({ length }) => length)).toEqual([0, 0, 0, 0]);
  });

  it('holds no share, no ciphertext and no contribution', () => {
    const text = toHex(transcript);
    for (const { message } of world.sent.filter(({ message: { type } }) => type === 'p2')) {
      for (const part of decodeParts(message.attachment))
        if (part.length > 0) expect(text.includes(toHex(part))).toBe(false);
    }
    for (const { message } of world.sent.filter(({ message: { type } }) => type === 'p5')) {
      for (const opening of decodeParts(message.attachment)) {
        for (const secret of decodeParts(opening, 2)) expect(text.includes(toHex(secret))).toBe(false);
      }
    }
    for (const words of world.contributions.values()) expect(text.includes(toHex(wordsToBytes(words)))).toBe(false);
  });
});

describe('A25: a coordinator that lies about the sum', () => {
  it('is found when it signs another sum', () => {
    const { h3, sid, sum, survivors } = world.outcome as NonNullable<typeof world.outcome>;
    const other = sum.slice();
    other[0] = (other[0] as number) ^ 1;
    const lie = (count: number, words: Uint32Array): Uint8Array =>
      encodeBodies([
        signMessage(
          crypto,
          coordinator.secretSeed,
          'result',
          sid,
          encodeResult(h3, crypto.sha256(wordsToBytes(words)), count),
        ),
      ]);
    expect(codeOf(changed(8, () => lie(survivors.length, sum)))).toBe('accepted');
    expect(codeOf(changed(8, () => lie(survivors.length, other)))).toBe('CRYPTO_COMMITMENT');
    expect(codeOf(changed(8, () => lie(survivors.length - 1, sum)))).toBe('CRYPTO_COMMITMENT');
  });

  it('is found when it leaves an upload out, changes one, or reveals other secrets', () => {
    const dropFirst = (bytes: Uint8Array): Uint8Array => encodeParts(decodeParts(bytes).slice(1));
    expect(codeOf(changed(5, flipLast))).toBe('CODEC_TYPE');
    expect(codeOf(changed(5, dropFirst))).toBe('CODEC_TRUNCATED');
    expect(codeOf(changed(7, flipLast))).toBe('CRYPTO_COMMITMENT');
    expect(codeOf(changed(7, dropFirst))).toBe('CODEC_TRUNCATED');
    const other = decodeParts(withDrop.outcome?.transcript as Uint8Array, 9);
    expect(codeOf(changed(7, () => other[7] as Uint8Array))).not.toBe('accepted');
  });

  it('is found when it leaves a member out of U1, U2, U3 or the certificate', () => {
    const types = { 1: 'p1', 3: 'p2', 4: 'p3', 6: 'p4' } as const;
    for (const [part, type] of Object.entries(types)) {
      const shorter = changed(Number(part), (bytes) => encodeBodies(decodeBodies(type, bytes).slice(1)));
      expect(codeOf(shorter)).not.toBe('accepted');
    }
  });

  it('is found when any signature, parameter, roster or key is another', () => {
    for (const part of [0, 1, 3, 4, 6, 8]) expect(codeOf(changed(part, flipLast))).not.toBe('accepted');
    const { publicKey } = createMembers(2).members[0] as { publicKey: Uint8Array };
    expect(() => verifyTranscript(crypto, transcript, roster, publicKey)).toThrow(/signature/);
    expect(() => verifyTranscript(crypto, transcript, { ...roster, version: 2 }, coordinator.publicKey)).toThrow(
      /rosterHash/,
    );
  });

  it('and every single flipped bit is found', () => {
    // Every 23rd byte, another bit each time.
    for (let at = 0; at < transcript.length; at += 23) {
      const flipped = transcript.slice();
      flipped[at] = (flipped[at] as number) ^ (1 << (at % 8));
      expect(codeOf(flipped)).not.toBe('accepted');
    }
  });
});
