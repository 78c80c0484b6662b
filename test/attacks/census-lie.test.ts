import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { decodeParts, encodeParts, equalBytes, toHex, u32le } from '../../protocol/bytes.ts';
import { isCoveyError } from '../../protocol/errors.ts';
import { decodeBodies, encodeBodies, signMessage } from '../../protocol/messages.ts';
import { addWords, bytesToWords, wordsToBytes } from '../../protocol/ring.ts';
import { verifyTranscript } from '../../protocol/transcript.ts';
import { bytesFrom, idOf, numbersFrom, sidOf } from '../support/malice.ts';
import { plainSum, runSession, type World } from '../support/session-world.ts';

const crypto = nodeCrypto;
const MEMBERS = 5;
const PARTS = ['parameters', 'P1', 'P1R', 'P2', 'P3', 'vectors', 'P4', 'secrets', 'result'] as const;

function census(): World {
  const dropped = toHex(idOf(runSession({ members: MEMBERS }), 1));
  return runSession({
    members: MEMBERS,
    coordinates: 4,
    params: { purpose: 'census' },
    drops: { 'masked-input': [dropped] },
  });
}

const codeOf = (work: () => unknown): string => {
  try {
    work();
    return 'accepted';
  } catch (error) {
    return isCoveyError(error) ? error.code : `threw ${String(error)}`;
  }
};

describe('A25 and A29: the coordinator lies about a sum or a census', () => {
  const world = census();
  const transcript = world.outcome?.transcript ?? new Uint8Array(0);
  const verify = (bytes: Uint8Array): ReturnType<typeof verifyTranscript> =>
    verifyTranscript(crypto, bytes, world.roster, world.coordinator.publicKey);
  const replacing = (index: number, part: Uint8Array): Uint8Array =>
    encodeParts(decodeParts(transcript, 9).map((old, i) => (i === index ? part : old)));
  const part = (index: number): Uint8Array => decodeParts(transcript, 9)[index] as Uint8Array;

  it('control: the honest transcript gives the sum of the survivors', () => {
    expect(verify(transcript).sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
  });

  it('finds a signed result over another sum, another h3 or another number', () => {
    const [result] = decodeBodies('result', part(8)) as [ReturnType<typeof decodeBodies>[number]];
    const [h3, sumHash, survivors] = decodeParts(result.body, 3) as [Uint8Array, Uint8Array, Uint8Array];
    const lie = world.outcome?.sum.slice() as Uint32Array;
    lie[0] = (lie[0] as number) + 1;
    for (const fields of [
      [h3, crypto.sha256(wordsToBytes(lie)), survivors],
      [bytesFrom('h3'), sumHash, survivors],
      [h3, sumHash, u32le(MEMBERS)],
    ]) {
      const signed = signMessage(crypto, world.coordinator.secretSeed, 'result', sidOf(world), encodeParts(fields));
      expect(codeOf(() => verify(replacing(8, encodeBodies([signed]))))).toBe('CRYPTO_COMMITMENT');
    }
  });

  it('finds a count that was added to a vector, even if the result is signed to match', () => {
    const vectors = decodeParts(part(5));
    const changed = bytesToWords(vectors[0] as Uint8Array);
    const one = new Uint32Array(changed.length);
    one[0] = 1;
    addWords(changed, one, 2);
    const sum = world.outcome?.sum.slice() as Uint32Array;
    addWords(sum, one, 2);
    const parts = decodeParts(transcript, 9);
    const [h3, , survivors] = decodeParts((decodeBodies('result', part(8))[0] as { body: Uint8Array }).body, 3) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    const result = signMessage(
      crypto,
      world.coordinator.secretSeed,
      'result',
      sidOf(world),
      encodeParts([h3, crypto.sha256(wordsToBytes(sum)), survivors]),
    );
    parts[5] = encodeParts([wordsToBytes(changed), ...vectors.slice(1)]);
    parts[8] = encodeBodies([result]);
    expect(codeOf(() => verify(encodeParts(parts)))).toBe('CODEC_TYPE');
  });

  it('finds seeds and mask keys that are not the published ones', () => {
    const secrets = decodeParts(part(7));
    for (let i = 0; i < secrets.length; i++) {
      const forged = secrets.map((secret, j) => (i === j ? bytesFrom('secret') : secret));
      expect(codeOf(() => verify(replacing(7, encodeParts(forged))))).toBe('CRYPTO_COMMITMENT');
    }
    expect(codeOf(() => verify(replacing(7, encodeParts([...secrets].reverse()))))).toBe('CRYPTO_COMMITMENT');
    expect(codeOf(() => verify(replacing(7, encodeParts(secrets.slice(1)))))).toBe('CODEC_TRUNCATED');
  });

  it('finds a survivor that was left out or counted twice, and a certificate below the threshold', () => {
    const uploads = decodeBodies('p3', part(4));
    const parts = decodeParts(transcript, 9);
    const dropFirst = parts.map((old, i) =>
      i === 3
        ? encodeBodies(uploads.slice(1))
        : i === 4
          ? encodeParts(decodeParts(old).slice(1))
          : i === 6
            ? encodeParts(decodeParts(old).slice(1))
            : old,
    );
    expect(codeOf(() => verify(encodeParts(dropFirst)))).not.toBe('accepted');
    const twice = parts.map((old, i) =>
      i === 3 ? encodeBodies([uploads[0] as (typeof uploads)[number], ...uploads]) : old,
    );
    expect(codeOf(() => verify(encodeParts(twice)))).toBe('PROTO_COHORT');
    const signatures = decodeBodies('p4', part(6));
    expect(codeOf(() => verify(replacing(6, encodeBodies(signatures.slice(1)))))).not.toBe('accepted');
    expect(
      codeOf(() =>
        verify(replacing(6, encodeBodies([signatures[0] as (typeof signatures)[number], ...signatures.slice(0, -1)]))),
      ),
    ).toBe('PROTO_COHORT');
  });

  it('finds parts of the census of another round, and a transcript under another key', () => {
    const other = runSession({
      members: MEMBERS,
      coordinates: 4,
      params: { purpose: 'census', round: 2 },
      drops: { 'masked-input': [toHex(idOf(world, 1))] },
    });
    const others = decodeParts(other.outcome?.transcript ?? new Uint8Array(0), 9);
    PARTS.forEach((name, i) => {
      // Empty in the strict profile.
      if (name === 'P1R') return;
      expect([name, codeOf(() => verify(replacing(i, others[i] as Uint8Array))) === 'accepted']).toEqual([name, false]);
    });
    expect(
      codeOf(() =>
        verifyTranscript(crypto, transcript, world.roster, crypto.ed25519PublicKey(bytesFrom('another coordinator'))),
      ),
    ).toBe('AUTH_SIGNATURE');
  });

  it('accepts no change of any byte', () => {
    const below = numbersFrom('census mutations');
    for (let trial = 0; trial < 120; trial++) {
      const changed = transcript.slice();
      const at = below(changed.length);
      changed[at] = (changed[at] as number) ^ (1 << below(8));
      const code = codeOf(() => verify(changed));
      expect([at, code.startsWith('threw'), code === 'accepted']).toEqual([at, false, false]);
    }
    expect(equalBytes(transcript, world.outcome?.transcript ?? new Uint8Array(0))).toBe(true);
  });
});
