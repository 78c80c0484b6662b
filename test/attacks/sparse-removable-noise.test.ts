import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { decodeParts, encodeParts, equalBytes, toHex } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { neighboursOf } from '../../protocol/graph.ts';
import { commitShare } from '../../protocol/key-schedule.ts';
import { LABELS } from '../../protocol/labels.ts';
import { decodeAdvertisement, decodeLeaf, encodeAdvertisement, type ShareLeaf } from '../../protocol/messages.ts';
import { chainEnd } from '../../protocol/noise-seeds.ts';
import { decodeParams, encodeParams } from '../../protocol/params.ts';
import { sparseQuorum } from '../../protocol/roster.ts';
import type { Lanes, SessionMessage, SessionParams } from '../../protocol/session.ts';
import { combineShares } from '../../protocol/shamir.ts';
import { TRANSCRIPT_PARTS, verifyTranscript } from '../../protocol/transcript.ts';
import { removeDropoutNoise } from '../../src/privacy/dropout-noise.ts';
import { type At, runWatched } from '../support/coalition.ts';
import { forgedSeeds } from '../support/forged-seeds.ts';
import {
  bytesFrom,
  codeOf,
  idOf,
  listed,
  messagesOf,
  nothingOpened,
  relist,
  senderOf,
  sentBy,
  sidOf,
  signAs,
  variants,
} from '../support/malice.ts';
import { expectExact } from '../support/removable-noise.ts';
import { baseParams, createMembers, runSession, type World, type WorldOptions } from '../support/session-world.ts';
import { SPARSE_MEMBERS as MEMBERS, SPARSE, sparseCohort } from '../support/sparse.ts';

const crypto = nodeCrypto;
/** As many as the graph tolerates: floor(0.17 * 12). One component more is made, for a third that may be lost. */
const TOLERANCE = 3;
const VICTIM = 4;
const COORDINATES = 30;
const PARAMS: Partial<SessionParams> = {
  ...SPARSE,
  noise: { mechanism: 'skellam', shareVariance: 5_000, tolerance: TOLERANCE },
  minSurvivors: 9,
};
const QUORUM = sparseQuorum(MEMBERS, SPARSE.colluders as number);
const ids = createMembers(MEMBERS).members.map(({ id }) => toHex(id));
const run = (more: Partial<WorldOptions> = {}): World =>
  runSession({ members: MEMBERS, coordinates: COORDINATES, params: PARAMS, ...more });

const without = (
  w: World,
  message: SessionMessage,
  type: Parameters<typeof listed>[1],
  ...gone: number[]
): SessionMessage =>
  relist(
    w,
    message,
    listed(message, type).filter((entry) => !gone.some((m) => equalBytes(senderOf(entry), idOf(w, m)))),
  );

/** The leaf that a dealer made for one of its neighbours. */
function leafOf(world: World, dealer: number, holder: number): ShareLeaf {
  const at = neighboursOf(sparseCohort(world).graph, dealer).indexOf(holder);
  const dealing = messagesOf(world, dealer, 'p2')[0] as SessionMessage;
  return decodeLeaf(decodeParts(dealing.attachment)[2 * at] as Uint8Array, TOLERANCE);
}

/** Which root of each of its neighbours a member opened: 0 for none; by recomputing the commitments. */
function openedRoots(world: World, holder: number, bundle: Uint8Array): Map<number, number> {
  const dealers = neighboursOf(sparseCohort(world).graph, holder).filter(
    (dealer) => messagesOf(world, dealer, 'p2').length > 0,
  );
  return new Map(
    decodeParts(bundle).map((entry, i) => {
      const dealer = dealers[i] as number;
      const [, , share, opening] = decodeParts(entry);
      if (share === undefined || opening === undefined) return [dealer, 0] as const;
      const [from, to] = [idOf(world, dealer), idOf(world, holder)];
      const commitment = commitShare(crypto, LABELS.shareX, sidOf(world), from, to, share, opening);
      const number = leafOf(world, dealer, holder).commitmentsX.findIndex((c) => equalBytes(c, commitment));
      return [dealer, 1 + number] as const;
    }),
  );
}

const everOpened = (world: World): number[] =>
  [
    ...new Set(
      sentBy(world, 'p5').flatMap(({ from, message }) => [...openedRoots(world, from, message.attachment).values()]),
    ),
  ].sort();

/** Places of one byte in each half of each revealed secret of a transcript. */
function secretPlaces(transcript: Uint8Array, parts: readonly Uint8Array[]): number[] {
  const start = (bytes: Uint8Array): number => bytes.byteOffset - transcript.byteOffset;
  return decodeParts(parts[7] as Uint8Array).flatMap((secret) =>
    Array.from({ length: secret.length / 32 }, (_, i) => start(secret) + 32 * i + 5),
  );
}

describe('removable noise (sparse)', () => {
  for (const lanes of [2, 3, 4] as const)
    it(`keeps exactly the components of the lost, for every number of them (${lanes} lanes)`, () => {
      const sums = new Set<string>();
      for (const dropped of [0, 1, 2]) {
        const world = run({ lanes: lanes as Lanes, drops: { 'masked-input': ids.slice(2, 2 + dropped) } });
        expectExact(world, MEMBERS, dropped);
        sums.add(String(world.outcome?.sum));
      }
      expect(sums.size).toBe(3);
    });

  it('counts the lost from U2, and needs neither signature nor reply of survivors that are lost later', () => {
    expectExact(run({ drops: { 'share-keys': ids.slice(1, 2), 'masked-input': ids.slice(5, 6) } }), MEMBERS - 1, 1);
    for (const phase of ['consistency', 'unmask'] as const)
      expectExact(run({ drops: { 'masked-input': ids.slice(0, 1), [phase]: ids.slice(6, 7) } }), MEMBERS, 1);
  });

  it('is recomputed from a transcript, by whoever can draw it, and from no other bytes', () => {
    const world = run({
      coordinates: 4,
      drops: { 'masked-input': ids.slice(0, 1) },
      params: { ...PARAMS, purpose: 'census' },
    });
    const { transcript = new Uint8Array(0), sum } = world.outcome ?? {};
    const { roster, coordinator } = world;
    const verify = (bytes: Uint8Array, remove?: typeof removeDropoutNoise) =>
      verifyTranscript(crypto, bytes, roster, coordinator.publicKey, remove);
    expect(verify(transcript, removeDropoutNoise).sum).toEqual(sum);
    expect(() => verify(transcript)).toThrow('"removeNoise" expected');
    const parts = decodeParts(transcript, TRANSCRIPT_PARTS);
    const secrets = decodeParts(parts[7] as Uint8Array);
    // Of who is lost the mask key, of a survivor b and s_2.
    expect(secrets.map(({ length }) => length)).toEqual(ids.map((_, m) => (m === 0 ? 32 : 64)));
    const wholly = (changed: Uint8Array[]): Uint8Array => encodeParts(parts.with(7, encodeParts(changed)));
    const survivor = secrets[VICTIM] as Uint8Array;
    const next = chainEnd(crypto, sidOf(world), idOf(world, VICTIM), survivor.subarray(32), 1);
    for (const other of [survivor.subarray(0, 32), new Uint8Array([...survivor.subarray(0, 32), ...next])])
      expect(() => verify(wholly(secrets.with(VICTIM, other)), removeDropoutNoise)).toThrow('does not open');
    const flipped = [...transcript.keys()].filter((at) => at % 401 === 0).concat(secretPlaces(transcript, parts));
    for (const at of flipped) {
      const changed = transcript.map((byte, i) => (i === at ? byte ^ 1 : byte));
      expect(() => verify(changed, removeDropoutNoise), `byte ${at}`).toThrow(CoveyError);
    }
  });

  it('publishes both commitments, and refuses an advertisement without either', () => {
    const world = run();
    for (const { message } of sentBy(world, 'p1')) {
      const { graphCommitment, noiseCommitment } = decodeAdvertisement(message.body);
      expect([graphCommitment?.length, noiseCommitment?.length]).toEqual([32, 32]);
    }
    for (const missing of ['graphCommitment', 'noiseCommitment'] as const) {
      const short = run({
        fromMember: (message, from, w) =>
          message.type === 'p1' && from === VICTIM
            ? signAs(w, from, 'p1', encodeAdvertisement({ ...decodeAdvertisement(message.body), [missing]: null }))
            : message,
      });
      // The coordinator goes on without it, or ends: never with a member whose chain nobody can check.
      const members = (short.outcome?.survivors ?? []).map(toHex);
      expect(members).not.toContain(ids[VICTIM]);
    }
    const { roster } = createMembers(4);
    const params = baseParams(roster, 10, 2, PARAMS);
    expect(decodeParams(encodeParams(params))).toEqual(params);
  });
});

describe('A32: lies about who dropped out (sparse)', () => {
  for (const dropped of [0, 1, 2])
    it(`opens of every surviving neighbour the root behind the noise of ${dropped} lost, of nobody else any`, () => {
      const world = run({ drops: { 'masked-input': ids.slice(0, dropped) } });
      const { graph } = sparseCohort(world);
      const replies = sentBy(world, 'p5');
      expect(replies.length).toBe(MEMBERS - dropped);
      for (const { from, message } of replies)
        expect([...openedRoots(world, from, message.attachment)]).toEqual(
          [...neighboursOf(graph, from)].map((dealer) => [dealer, dealer < dropped ? 0 : dropped + 1]),
        );
    });

  for (const group of [1, 4, 5, 6, 7, 8, 11])
    it(`opens one root a chain at most if ${group} of ${MEMBERS} are told that two more were lost`, () => {
      const world = run({
        toMember: (message, to, w) => {
          if (message.type === 'p4-ask') return to < group ? without(w, message, 'p3', 10, 11) : message;
          if (message.type !== 'abort' && message.type !== 'p5-ask') return message;
          const own = messagesOf(w, to, 'p4')[0];
          if (own === undefined) return message;
          const alike = sentBy(w, 'p4').filter((s) =>
            equalBytes(decodeParts(s.message.body)[1] as Uint8Array, decodeParts(own.body)[1] as Uint8Array),
          );
          return relist(
            w,
            { ...message, type: 'p5-ask' },
            alike.map((s) => s.message),
          );
        },
      });
      const views = [Math.min(group, 10), MEMBERS - group].filter((signers) => signers >= QUORUM);
      expect(views.length).toBeLessThan(2);
      const lied = Math.min(group, 10) >= QUORUM;
      expect(everOpened(world)).toEqual(views.length === 0 ? [] : lied ? [0, 3] : [1]);
      for (let m = 0; m < MEMBERS; m++) expect(variants(world, m, 'p5')).toBeLessThan(2);
    });

  it('has no second D where a colluder signs two sets of survivors', () => {
    // Thirteen members: with the colluder left out of q, six honest members and it would be a certificate, twice.
    const members = 13;
    const side = (m: number): number => (m <= 6 ? 0 : 1);
    const world = runSession({
      members,
      coordinates: COORDINATES,
      params: PARAMS,
      toMember: (message, to, w) => {
        if (message.type === 'p4-ask') return side(to) === 0 ? without(w, message, 'p3', 11, 12) : message;
        if (message.type !== 'abort' && message.type !== 'p5-ask') return message;
        const own = messagesOf(w, to, 'p4')[0];
        if (own === undefined) return message;
        const [, h3] = decodeParts(own.body) as [Uint8Array, Uint8Array];
        const honest = sentBy(w, 'p4').filter(
          ({ from, message: { body } }) => from !== 0 && equalBytes(decodeParts(body)[1] as Uint8Array, h3),
        );
        const colluder = signAs(w, 0, 'p4', encodeParts([idOf(w, 0), h3]));
        return relist(w, { ...message, type: 'p5-ask' }, [colluder, ...honest.map((s) => s.message)]);
      },
    });
    const views = new Set(sentBy(world, 'p4').map(({ message }) => toHex(decodeParts(message.body)[1] as Uint8Array)));
    expect(views.size).toBe(2);
    expect(everOpened(world)).toEqual([]);
    for (let m = 1; m < members; m++) expect(codeOf(world, m)).toBe('PROTO_COHORT');
  });

  it('does not take a lost member for a survivor', () => {
    const world = run({
      drops: { 'masked-input': [ids[VICTIM] as string] },
      toMember: (message, _to, w) => {
        if (message.type !== 'p4-ask') return message;
        const entries = listed(message, 'p3');
        const [, h2] = decodeParts((entries[0] as { body: Uint8Array }).body) as [Uint8Array, Uint8Array];
        const body = encodeParts([idOf(w, VICTIM), h2, bytesFrom('digest')]);
        const fake = { type: 'p3' as const, body, signature: (entries[0] as { signature: Uint8Array }).signature };
        const all = [...entries, fake].sort((a, b) => (toHex(senderOf(a)) < toHex(senderOf(b)) ? -1 : 1));
        return relist(w, message, all);
      },
    });
    expect(nothingOpened(world)).toBe(true);
    for (let m = 0; m < MEMBERS; m++) if (m !== VICTIM) expect(codeOf(world, m)).toBe('AUTH_SIGNATURE');
  });

  it('signs nothing once more are called lost than the noise was made for', () => {
    const params = { ...PARAMS, noise: { mechanism: 'skellam', shareVariance: 5_000, tolerance: 1 } as const };
    const world = run({
      params,
      toMember: (message, _to, w) => (message.type === 'p4-ask' ? without(w, message, 'p3', 6, 7) : message),
    });
    expect(sentBy(world, 'p4').length).toBe(0);
    expect(nothingOpened(world)).toBe(true);
    for (const m of [0, 5, 8, 11]) expect(codeOf(world, m)).toBe('PRIVACY_COHORT_TOO_SMALL');
  });

  it('leaves t - 1 neighbours, and all members that are none, no root of noise that protects', () => {
    const { world, memories } = runWatched({
      members: MEMBERS,
      coordinates: COORDINATES,
      params: PARAMS,
      drops: { 'masked-input': ids.slice(0, 1) },
    });
    const { graph, threshold } = sparseCohort(world);
    const neighbours = neighboursOf(graph, VICTIM);
    const held = (m: number) => (memories.agreed.get(m) as At<'agreed'> | undefined)?.held.get(VICTIM);
    const strangers = ids.map((_, m) => m).filter((m) => m > 0 && m !== VICTIM && !neighbours.includes(m));
    expect(strangers.length).toBeGreaterThan(0);
    for (const stranger of strangers) expect(held(stranger)).toBeUndefined();
    const holders = neighbours.flatMap((m, i) => (m === 0 ? [] : [{ x: i + 1, m }]));
    const root = (from: typeof holders, k: number): Uint8Array =>
      combineShares(
        from.map(({ x, m }) => ({ x, share: held(m)?.roots[k - 1]?.share ?? new Uint8Array(32) })),
        neighbours.length,
      );
    const { noiseCommitment } = decodeAdvertisement((messagesOf(world, VICTIM, 'p1')[0] as SessionMessage).body);
    const opens = (secret: Uint8Array, k: number): boolean =>
      equalBytes(
        chainEnd(crypto, sidOf(world), idOf(world, VICTIM), secret, TOLERANCE + 1 - k),
        noiseCommitment as Uint8Array,
      );
    for (const k of [1, 2, 3]) {
      expect(opens(root(holders.slice(0, threshold), k), k)).toBe(true);
      expect(opens(root(holders.slice(0, threshold - 1), k), k)).toBe(false);
    }
  });
});

forgedSeeds('sparse', {
  members: MEMBERS,
  params: PARAMS,
  indexOf: (world, of, member) => neighboursOf(sparseCohort(world).graph, of).indexOf(member),
});
