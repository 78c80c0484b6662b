import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { decodeParts, encodeParts, toHex } from '../protocol/bytes.ts';
import { holdersOf } from '../protocol/cohort.ts';
import { committeeSize } from '../protocol/graph.ts';
import { idealSum } from '../protocol/ideal.ts';
import { decodeBodies, encodeBodies } from '../protocol/messages.ts';
import { verifyTranscript } from '../protocol/transcript.ts';
import { createMembers, plainSum, runSession, type World } from './support/session-world.ts';
import { SPARSE, SPARSE_MEMBERS, sparseCohort } from './support/sparse.ts';

const ids = createMembers(SPARSE_MEMBERS).members.map(({ id }) => toHex(id));
const PHASES = ['advertise', 'share-keys', 'masked-input', 'consistency', 'unmask'] as const;

const sumIsExact = (world: World): void => {
  expect(world.abort?.reason).toBeUndefined();
  expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
};

describe('the sparse profile', () => {
  it('sums exactly over everybody', () => {
    const world = runSession({ members: SPARSE_MEMBERS, params: SPARSE });
    sumIsExact(world);
    expect(world.outcome?.survivors.length).toBe(SPARSE_MEMBERS);
    expect(world.done.size).toBe(SPARSE_MEMBERS);
  });

  for (const lanes of [2, 3, 4] as const) {
    for (const phase of PHASES) {
      it(`sums exactly over the survivors when one is lost in ${phase} (${lanes} lanes)`, () => {
        const world = runSession({
          members: SPARSE_MEMBERS,
          lanes,
          params: SPARSE,
          drops: { [phase]: [ids[4] as string] },
        });
        sumIsExact(world);
        const ideal = idealSum(world.params, world.contributions, { [phase]: [ids[4] as string] }, world.roster);
        expect(world.outcome?.survivors).toEqual(ideal.survivors);
        expect(world.outcome?.sum).toEqual(ideal.sum);
      });
    }
  }

  it('sends P1R from the committee only, and shares to neighbours only', () => {
    const world = runSession({ members: 40, params: { ...SPARSE, dropoutFraction: 0.1 } });
    sumIsExact(world);
    const cohort = sparseCohort(world);
    const revealed = world.sent.filter(({ message }) => message.type === 'p1r').map(({ from }) => from);
    expect(revealed.sort((a, b) => a - b)).toEqual(cohort.plan?.committee);
    expect(revealed.length).toBe(committeeSize(40, 1));
    for (const { message } of world.sent.filter(({ message: m }) => m.type === 'p2'))
      expect(decodeParts(message.attachment).length).toBe(2 * (cohort.plan?.degree as number));
    for (const { from, message } of world.sent.filter(({ message: m }) => m.type === 'p5'))
      expect(decodeParts(message.attachment).length).toBe(holdersOf(cohort, from).length);
  });

  it('gives up when a reveal is missing, and the next attempt leaves the silent one out', () => {
    const world = runSession({ members: SPARSE_MEMBERS, params: SPARSE, drops: { reveal: [ids[3] as string] } });
    expect(world.abort?.code).toBe('ROUND_REVEAL');
    expect(world.abort?.uploadBegun).toBe(false);
    expect(world.abort?.excluded.map(toHex)).toEqual([ids[3]]);
    expect(world.sent.some(({ message }) => message.type === 'p2')).toBe(false);
  });

  it('refuses cohorts for which only the complete graph will do', () => {
    const world = runSession({
      members: SPARSE_MEMBERS,
      params: { ...SPARSE, colluders: 3, minSurvivors: 4, dropoutFraction: 0.4 },
    });
    expect(world.abort?.code).toBe('ROUND_BELOW_THRESHOLD');
    expect(world.abort?.reason).toContain('sparse graph');
  });

  it('leaves a transcript from which the sum can be recomputed, with the reveals in it', () => {
    const world = runSession({
      members: SPARSE_MEMBERS,
      params: { ...SPARSE, purpose: 'census' },
      drops: { 'masked-input': [ids[5] as string] },
    });
    const transcript = world.outcome?.transcript as Uint8Array;
    const verify = (bytes: Uint8Array) =>
      verifyTranscript(nodeCrypto, bytes, world.roster, world.coordinator.publicKey);
    expect(verify(transcript).sum).toEqual(world.outcome?.sum);
    expect(verify(transcript).quorum).toBe(7);
    const parts = decodeParts(transcript);
    const reveals = decodeBodies('p1r', parts[2] as Uint8Array);
    expect(reveals.length).toBe(SPARSE_MEMBERS);
    const without = encodeParts(parts.map((part, i) => (i === 2 ? encodeBodies(reveals.slice(1)) : part)));
    expect(() => verify(without)).toThrow('"reveals" expected');
    const swapped = [reveals[1], reveals[0], ...reveals.slice(2)] as typeof reveals;
    const other = encodeParts(parts.map((part, i) => (i === 2 ? encodeBodies(swapped) : part)));
    expect(() => verify(other)).toThrow('committee in order');
  });
});
