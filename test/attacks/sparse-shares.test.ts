import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { concatBytes, decodeParts, encodeParts, equalBytes, fromHex, toHex, utf8 } from '../../protocol/bytes.ts';
import { encodeSessionMessage } from '../../protocol/frame.ts';
import { areNeighbours, neighboursOf } from '../../protocol/graph.ts';
import { expandEntropy, streamSource } from '../../protocol/key-schedule.ts';
import { merkleRoot } from '../../protocol/merkle.ts';
import { decodeAdvertisement, encodeAdvertisement, encodeBodies, signMessage } from '../../protocol/messages.ts';
import { encodeParams, sessionId } from '../../protocol/params.ts';
import { createParticipant, stepParticipant } from '../../protocol/participant.ts';
import { bytesToWords, packLanes, unpackLanes, wordsToBytes } from '../../protocol/ring.ts';
import type { SessionMessage, SessionParams } from '../../protocol/session.ts';
import { splitSecret } from '../../protocol/shamir.ts';
import { verifyTranscript } from '../../protocol/transcript.ts';
import {
  accusedBy,
  bytesFrom,
  codeOf,
  forge,
  idOf,
  listed,
  messagesOf,
  nothingOpened,
  numbersFrom,
  relist,
  senderOf,
  sentBy,
  sidOf,
  signAs,
} from '../support/malice.ts';
import { plainSum, runSession, type World, type WorldOptions } from '../support/session-world.ts';
import { SPARSE_MEMBERS as MEMBERS, SPARSE, sparseCohort } from '../support/sparse.ts';

const crypto = nodeCrypto;
const run = (more: Partial<WorldOptions> = {}): World =>
  runSession({ members: MEMBERS, ...more, params: { ...SPARSE, ...more.params } });
const honest = run();
const { graph, quorum, threshold } = sparseCohort(honest);
const hexOf = (...members: number[]): string[] => members.map((m) => toHex(idOf(honest, m)));
const faultsOf = (world: World): [string, string, string][] =>
  (world.outcome ?? world.abort)?.faults.map(({ id, code, reportedBy }) => [toHex(id), code, reportedBy]) ?? [];
const flip = (bytes: Uint8Array, at = 0): Uint8Array => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));
const sumIsExact = (world: World): void => {
  expect(world.abort?.reason).toBeUndefined();
  expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
};
const everybody = Array.from({ length: MEMBERS }, (_, m) => m);
/** Uploads come in order of id, so the first member complains before anybody has uploaded. */
const HOLDER = 0;
const DEALER = neighboursOf(graph, HOLDER)[4] as number;
const HOLDERS = neighboursOf(graph, DEALER);
const STRANGER = everybody.find((m) => m !== DEALER && !HOLDERS.includes(m)) as number;

/** The dealer's own P2 with parts changed, root and signature made to fit. */
function redeal(w: World, message: SessionMessage, change: (parts: Uint8Array[]) => Uint8Array[]): SessionMessage {
  const parts = change(decodeParts(message.attachment));
  const [id, h1] = decodeParts(message.body) as [Uint8Array, Uint8Array];
  const root = merkleRoot(
    crypto,
    parts.filter((_, i) => i % 2 === 0),
  );
  return signAs(w, DEALER, 'p2', encodeParts([id, h1, root]), encodeParts(parts));
}
const dealing = (change: (parts: Uint8Array[]) => Uint8Array[]): World =>
  run({ fromMember: (m, from, w) => (m.type === 'p2' && from === DEALER ? redeal(w, m, change) : m) });

describe('A4 and A5: keys and members that are not real (sparse)', () => {
  const showing = (
    change: (w: World, entries: ReturnType<typeof listed>) => Parameters<typeof relist>[2],
    more: Partial<WorldOptions> = {},
  ): World =>
    run({
      ...more,
      toMember: (message, _to, w) =>
        message.type === 'p1-all' ? relist(w, message, change(w, listed(message, 'p1'))) : message,
    });
  const other = crypto.x25519PublicKey(bytesFrom('server key'));

  for (const field of ['encryptionKey', 'maskKey', 'seedCommitment', 'graphCommitment'] as const) {
    it(`A4: a foreign ${field} is refused under the member's signature, and by the member itself under a stolen key`, () => {
      const changed = (body: Uint8Array): Uint8Array =>
        encodeAdvertisement({ ...decodeAdvertisement(body), [field]: other });
      const world = showing((_w, entries) =>
        entries.map(({ body, signature }, i) => ({ body: i === 2 ? changed(body) : body, signature })),
      );
      for (const m of everybody) expect(codeOf(world, m)).toBe('AUTH_SIGNATURE');
      const stolen = showing((w, entries) =>
        entries.map((entry, i) => (i === 2 ? signAs(w, 2, 'p1', changed(entry.body)) : entry)),
      );
      expect(codeOf(stolen, 2)).toBe('PROTO_COHORT');
      for (const w of [world, stolen]) expect(messagesOf(w, 2, 'p1r')).toEqual([]);
    });
  }

  it('A4: an advertisement of the strict profile is refused by the coordinator and by every member', () => {
    const bare = (body: Uint8Array): Uint8Array =>
      encodeAdvertisement({ ...decodeAdvertisement(body), graphCommitment: null });
    const sent = run({
      fromMember: (m, from, w) => (m.type === 'p1' && from === 2 ? signAs(w, 2, 'p1', bare(m.body)) : m),
    });
    expect(faultsOf(sent)).toEqual([[...hexOf(2), 'CODEC_TYPE', 'coordinator']]);
    const shown = showing((w, entries) =>
      entries.map((entry, i) => (i === 2 ? signAs(w, 2, 'p1', bare(entry.body)) : entry)),
    );
    for (const m of everybody) expect(codeOf(shown, m)).toBe('CODEC_TYPE');
  });

  it('A5: members that are unknown, counted twice or out of order, and too few, draw no graph', () => {
    for (const [code, change] of [
      ['PROTO_COHORT', (entries: ReturnType<typeof listed>) => [entries[0]!, ...entries]],
      ['PROTO_COHORT', (entries: ReturnType<typeof listed>) => [...entries].reverse()],
      ['PRIVACY_COHORT_TOO_SMALL', (entries: ReturnType<typeof listed>) => entries.slice(0, 4)],
    ] as const) {
      const world = showing((_w, entries) => change(entries), { params: { minSurvivors: 5 } });
      for (const { from } of sentBy(world, 'p1').slice(0, 4)) expect(codeOf(world, from)).toBe(code);
      expect(sentBy(world, 'p1r')).toEqual([]);
    }
  });

  it('A10 and A26: a cohort cropped below the fewest survivors, or in which colluders leave no graph, is refused', () => {
    const cropped = showing((_w, entries) => entries.slice(0, 8), { params: { minSurvivors: 9 } });
    for (let m = 0; m < 8; m++) expect(codeOf(cropped, m)).toBe('PRIVACY_COHORT_TOO_SMALL');
    // Twelve members with one colluder have a graph; five of them have none.
    const few = showing((_w, entries) => entries.slice(0, 5), { params: { minSurvivors: 3 } });
    for (let m = 0; m < 5; m++) expect(codeOf(few, m)).toBe('PRIVACY_COHORT_TOO_SMALL');
    for (const world of [cropped, few]) expect(sentBy(world, 'p1r')).toEqual([]);
  });

  it('A19: a key of low order is refused by the coordinator; let through, neighbours name who signed it', () => {
    const low = (body: Uint8Array): Uint8Array =>
      encodeAdvertisement({ ...decodeAdvertisement(body), maskKey: new Uint8Array(32) });
    const sent = run({
      fromMember: (m, from, w) => (m.type === 'p1' && from === 2 ? signAs(w, 2, 'p1', low(m.body)) : m),
    });
    expect(faultsOf(sent)).toEqual([[...hexOf(2), 'CRYPTO_POINT', 'coordinator']]);
    sumIsExact(sent);
    // The malicious machine goes on, with a part that the colluder signed for the list in which its bad key stands.
    const shown = run({
      toMember: (message, _to, w) => {
        if (message.type === 'p1-all')
          return relist(
            w,
            message,
            listed(message, 'p1').map((entry, i) => (i === 2 ? signAs(w, 2, 'p1', low(entry.body)) : entry)),
          );
        if (message.type !== 'abort') return message;
        const others = sentBy(w, 'p1r').map(({ message: part }) => part);
        const h1 = decodeParts(others[0]!.body)[1] as Uint8Array;
        const { graphSeed } = expandEntropy(crypto, w.entropies[2]!, sidOf(w));
        const own = signAs(w, 2, 'p1r', encodeParts([idOf(w, 2), h1, graphSeed]));
        return relist(w, { ...message, type: 'p1r-all' }, [...others.slice(0, 2), own, ...others.slice(2)]);
      },
    });
    const naming = everybody.filter((m) => codeOf(shown, m) === 'CRYPTO_POINT');
    expect(naming.length).toBe(graph.degree);
    for (const m of naming) expect(accusedBy(shown, m)).toEqual(hexOf(2));
    expect(shown.effects.some(({ effect }) => effect.type === 'charge')).toBe(false);
  });
});

describe('A15: malformed and wrong shares (sparse)', () => {
  const at = 2 * HOLDERS.indexOf(HOLDER);
  const wrong: Record<string, { code: string; change: (parts: Uint8Array[]) => Uint8Array[] }> = {
    'a ciphertext that does not open': {
      code: 'CRYPTO_TAG',
      change: (parts) => {
        const ciphertext = flip(parts[at + 1] as Uint8Array);
        const [b, s] = decodeParts(parts[at] as Uint8Array) as [Uint8Array, Uint8Array];
        return parts.with(at, encodeParts([b, s, crypto.sha256(ciphertext)])).with(at + 1, ciphertext);
      },
    },
    'a share that misses its commitment': {
      code: 'CRYPTO_SHARE',
      change: (parts) => {
        const [b, s, hash] = decodeParts(parts[at] as Uint8Array) as [Uint8Array, Uint8Array, Uint8Array];
        return parts.with(at, encodeParts([flip(b), s, hash]));
      },
    },
  };
  for (const [name, { code, change }] of Object.entries(wrong)) {
    it(`${name}: the pair stays out of the next attempt`, () => {
      const world = dealing(change);
      expect([codeOf(world, HOLDER), accusedBy(world, HOLDER)]).toEqual([code, hexOf(DEALER)]);
      expect(world.abort).toMatchObject({ code: 'ROUND_COMPLAINT', uploadBegun: false });
      expect(world.abort?.excluded.map(toHex).sort()).toEqual(hexOf(HOLDER, DEALER).sort());
      expect(nothingOpened(world)).toBe(true);
    });
  }

  it('shares dealt in another order give every holder the x of another: each sees it by its path, nobody uploads', () => {
    const swap = (parts: Uint8Array[]): Uint8Array[] => [...parts.slice(2), ...parts.slice(0, 2)];
    const world = dealing(swap);
    expect(codeOf(world, HOLDER)).toMatch(/^CRYPTO_(TAG|SHARE)$/);
    expect(world.abort?.excluded.map(toHex)).toContain(hexOf(DEALER)[0]);
  });

  it('a dealer with too few, too many or unsigned shares is out before U2, and named', () => {
    const worlds = [
      dealing((parts) => parts.slice(2)),
      dealing((parts) => [...parts, ...parts.slice(0, 2)]),
      run({
        fromMember: (m, from) =>
          m.type === 'p2' && from === DEALER ? { ...m, attachment: flip(m.attachment, 20) } : m,
      }),
    ];
    for (const world of worlds) {
      expect(faultsOf(world).map(([id, , by]) => [id, by])).toEqual([[...hexOf(DEALER), 'coordinator']]);
      expect(world.outcome?.u2.length).toBe(MEMBERS - 1);
      sumIsExact(world);
    }
  });

  const complaining = (about: number): World =>
    run({
      fromMember: (message, from, w) => {
        if (message.type !== 'p3' || from !== HOLDER) return message;
        const h1 = decodeParts(messagesOf(w, HOLDER, 'p2')[0]!.body)[1] as Uint8Array;
        return signAs(w, HOLDER, 'complaint', encodeParts([idOf(w, HOLDER), h1, idOf(w, about), utf8('CRYPTO_TAG')]));
      },
    });

  it('a complaint about somebody who is no neighbour burns nothing but its sender', () => {
    const far = everybody.find((m) => m !== HOLDER && !areNeighbours(graph, HOLDER, m)) as number;
    for (const about of [far, HOLDER]) {
      const world = complaining(about);
      sumIsExact(world);
      expect(world.outcome?.survivors.map(toHex)).not.toContain(hexOf(HOLDER)[0]);
      expect(faultsOf(world)).toEqual([[...hexOf(HOLDER), 'PROTO_UNEXPECTED', 'coordinator']]);
    }
    // Control: about a neighbour it ends the session, for both.
    const near = neighboursOf(graph, HOLDER)[0] as number;
    expect(complaining(near).abort?.excluded.map(toHex).sort()).toEqual(hexOf(HOLDER, near).sort());
  });

  for (const secret of ['selfSeed', 'maskSecret'] as const) {
    it(`consistent shares of another ${secret} prove the dealer a liar when they are opened`, () => {
      const world = run({
        drops: secret === 'maskSecret' ? { 'masked-input': hexOf(DEALER) } : {},
        fromMember: (message, from, w) => {
          const progress = w.states[from]?.session?.progress;
          if (message.type === 'p1' && from === DEALER && progress?.stage === 'advertised')
            progress.secrets[secret].set(bytesFrom('another secret'));
          return message;
        },
      });
      expect(world.abort).toMatchObject({ code: 'CRYPTO_COMMITMENT', phase: 'unmask', uploadBegun: true });
      expect(world.abort?.excluded.map(toHex)).toEqual(hexOf(DEALER));
    });
  }

  it('a holder that opens a wrong share, one too few or one of a stranger is named; the sum is right without it', () => {
    for (const change of [
      (openings: Uint8Array[]) => openings.map((opening, i) => (i === 2 ? flip(opening, 5) : opening)),
      (openings: Uint8Array[]) => openings.slice(1),
      (openings: Uint8Array[]) => [...openings, openings[0]!],
    ]) {
      const world = run({
        fromMember: (message, from, w) => {
          if (message.type !== 'p5' || from !== HOLDER) return message;
          const bundle = encodeParts(change(decodeParts(message.attachment)));
          const [id, h3] = decodeParts(message.body) as [Uint8Array, Uint8Array];
          return signAs(w, HOLDER, 'p5', encodeParts([id, h3, crypto.sha256(bundle)]), bundle);
        },
      });
      sumIsExact(world);
      expect(faultsOf(world).map(([id]) => id)).toEqual(hexOf(HOLDER));
    }
  });

  it('a share for another holder, or from a dealer that is no neighbour, is refused by its receiver', () => {
    const world = run({
      toMember: (message, to, w) => {
        if (message.type !== 'p2-all' || to !== STRANGER) return message;
        // The first entry is replaced by a leaf and path of the dealer that has nothing for this member.
        const [list, , ...rest] = decodeParts(message.attachment) as [Uint8Array, Uint8Array, ...Uint8Array[]];
        const foreign = w.received.find((r) => r.to === HOLDERS[0] && r.message.type === 'p2-all')?.message;
        const entry = foreign === undefined ? rest[0]! : decodeParts(foreign.attachment)[1]!;
        return forge(w, 'p2-all', encodeParts([list, entry, ...rest]), idOf(w, to));
      },
    });
    expect(codeOf(world, STRANGER)).toBe('CRYPTO_COMMITMENT');
    expect(accusedBy(world, STRANGER)).toEqual([]);
    expect(messagesOf(world, STRANGER, 'p3')).toEqual([]);
  });
});

describe('A11, A14, A16 and A27: reruns and uploads (sparse)', () => {
  const offer = (changes: Partial<SessionParams>): SessionMessage => {
    const params = { ...honest.params, ...changes };
    return signMessage(crypto, honest.coordinator.secretSeed, 'p0', sessionId(crypto, params), encodeParams(params));
  };
  const answers = (world: World, changes: Partial<SessionParams>): string[] =>
    world.states.map((state) => {
      const [effect] = stepParticipant(crypto, state, {
        type: 'open',
        message: offer(changes),
        entropy: bytesFrom('e'),
      }).effects;
      return effect?.type === 'abort' ? effect.code : (effect?.type ?? 'nothing');
    });

  it('A11: nobody who uploaded joins another attempt, also not as a strict one; who only revealed does', () => {
    const spent = Array(MEMBERS).fill('PROTO_ROUND');
    expect(answers(honest, { attempt: 1 })).toEqual(spent);
    expect(answers(honest, { attempt: 2, profile: 'strict' })).toEqual(spent);
    const silent = run({ drops: { reveal: hexOf(3) } });
    expect(answers(silent, { groupId: 'other' })).toEqual(spent);
    expect(answers(silent, { attempt: 1 })).toEqual(Array(MEMBERS).fill('authorize'));
    const last = run({ params: { attempt: 15 }, drops: { reveal: hexOf(3) } });
    expect(answers(last, { attempt: 16 })).toEqual(Array(MEMBERS).fill('CODEC_TYPE'));
  });

  it('A14: a member restarted at any record stays out, and other sessions have other masks', () => {
    const records = honest.effects.flatMap(({ member, effect }) =>
      member === 0 && effect.type === 'persist' ? [effect.record] : [],
    );
    expect(records.length).toBe(4);
    const trust = { coordinatorKey: honest.coordinator.publicKey, roster: honest.roster };
    for (let kept = 1; kept <= records.length; kept++) {
      const restarted = createParticipant(honest.members[0]!, trust, crypto, records.slice(0, kept));
      const [effect] = stepParticipant(crypto, restarted, {
        type: 'open',
        message: offer({}),
        entropy: bytesFrom('r'),
      }).effects;
      expect(effect?.type === 'abort' && effect.code).toBe('PROTO_ROUND');
    }
    const uploads = [honest, run({ params: { round: 2 } }), run({ params: { attempt: 1 } })].map((w) =>
      toHex(messagesOf(w, 0, 'p3')[0]!.attachment),
    );
    expect(new Set(uploads).size).toBe(3);
  });

  it('A16: a late upload is discarded, the pair masks alone come off, and it stays masked', () => {
    let held: SessionMessage | null = null;
    const world = run({
      fromMember: (message, from) => {
        if (from === 2 && message.type === 'p3') {
          held = message;
          return null;
        }
        return message.type === 'p4' && held !== null && from === 0 ? [held, message] : message;
      },
    });
    sumIsExact(world);
    expect(world.outcome?.survivors.length).toBe(MEMBERS - 1);
    // What was opened of the member is shares of its mask key; no share of its self seed left anybody.
    const { selfSeed, sharingKey, maskSecret } = expandEntropy(crypto, world.entropies[2]!, sidOf(world));
    const random = streamSource(crypto, sharingKey);
    const ofSelf = splitSecret(selfSeed, graph.degree, threshold, random);
    const ofMask = splitSecret(maskSecret, graph.degree, threshold, random);
    const wire = sentBy(world, 'p5').map(({ message }) => Buffer.from(message.attachment));
    const seen = (shares: Uint8Array[]): number =>
      shares.filter((share) => wire.some((bytes) => bytes.includes(Buffer.from(share)))).length;
    expect(seen(ofSelf)).toBe(0);
    expect(seen(ofMask)).toBeGreaterThanOrEqual(threshold);
    expect(bytesToWords((held as unknown as SessionMessage).attachment)).not.toEqual(packLanes(world.values[2]!, 2));
  });

  it('A27: broken uploads leave no trace, repeated ones count once, a second one is evidence', () => {
    const resign = (w: World, message: SessionMessage, attachment: Uint8Array): SessionMessage => {
      const [id, h2] = decodeParts(message.body) as [Uint8Array, Uint8Array];
      return signAs(w, 2, 'p3', encodeParts([id, h2, crypto.sha256(attachment)]), attachment);
    };
    const uploading = (change: (w: World, m: SessionMessage) => SessionMessage | readonly SessionMessage[]): World =>
      run({ fromMember: (m, from, w) => (m.type === 'p3' && from === 2 ? change(w, m) : m) });
    for (const [code, change] of [
      ['CODEC_TRUNCATED', (w: World, m: SessionMessage) => resign(w, m, m.attachment.subarray(0, -8))],
      ['CODEC_TRUNCATED', (w: World, m: SessionMessage) => resign(w, m, concatBytes(m.attachment, new Uint8Array(8)))],
      ['CODEC_TYPE', (_w: World, m: SessionMessage) => ({ ...m, attachment: flip(m.attachment) })],
    ] as const) {
      const world = uploading(change);
      expect(faultsOf(world)).toEqual([[...hexOf(2), code, 'coordinator']]);
      expect(world.outcome?.survivors.length).toBe(MEMBERS - 1);
      sumIsExact(world);
    }
    const twice = uploading((w, m) => [m, m, resign(w, m, flip(m.attachment))]);
    expect(faultsOf(twice)).toEqual([[...hexOf(2), 'PROTO_EQUIVOCATION', 'coordinator']]);
    expect(twice.outcome?.survivors.length).toBe(MEMBERS);
    sumIsExact(twice);
  });
});

describe('A20: signatures of the reveal phase (sparse)', () => {
  it('a reveal with S + L is refused on its way up and in the list', () => {
    const order = 2n ** 252n + 27742317777372353535851937790883648493n;
    const malleate = <T extends { signature: Uint8Array }>(message: T): T => {
      const s = BigInt(`0x${toHex(message.signature.slice(32).reverse())}`) + order;
      const bytes = fromHex(s.toString(16).padStart(64, '0')).reverse();
      return { ...message, signature: concatBytes(message.signature.subarray(0, 32), bytes) };
    };
    const up = run({ fromMember: (m, from) => (m.type === 'p1r' && from === 2 ? malleate(m) : m) });
    expect(faultsOf(up)).toEqual([[...hexOf(2), 'AUTH_SIGNATURE', 'coordinator']]);
    expect(up.abort?.excluded.map(toHex)).toEqual(hexOf(2));
    const down = run({
      toMember: (m, _to, w) =>
        m.type === 'p1r-all'
          ? relist(
              w,
              m,
              listed(m, 'p1r').map((entry, i) => (i === 2 ? malleate(entry) : entry)),
            )
          : m,
    });
    for (const m of everybody) expect(codeOf(down, m)).toBe('AUTH_SIGNATURE');
  });
});

describe('A17, A18, A21, A22, A23 and A24: what is on the wire (sparse)', () => {
  it('A17: the sum wraps nowhere below the ring, in all lanes, with the masks of a ring', () => {
    for (const lanes of [2, 3, 4] as const) {
      const world = run({ lanes, drops: { 'masked-input': hexOf(5) } });
      sumIsExact(world);
      const plain = Array.from({ length: 10 }, (_, i) =>
        world.values.reduce((sum, own, m) => sum + (m === 5 ? 0 : (own[i] as number)), 0),
      );
      expect([...unpackLanes(world.outcome!.sum, 10, lanes)]).toEqual(plain);
    }
  });

  it('A18 and fault of other frameworks, masks from small seeds: k + 1 full seeds a member, each pair alike, no two pairs', () => {
    const counts = new Map<string, number>();
    run({
      participantStep: (provider, state, event) => {
        const step = stepParticipant(provider, state, event);
        for (const effect of step.effects) {
          if (effect.type !== 'mask') continue;
          expect(effect.seeds.length).toBe(graph.degree + 1);
          for (const { seed } of effect.seeds) {
            counts.set(toHex(seed), (counts.get(toHex(seed)) ?? 0) + 1);
            for (let i = 0; i < 32; i += 4) expect(toHex(seed.subarray(i, i + 4))).not.toBe('00000000');
          }
        }
        return step;
      },
    });
    const times = [...counts.values()];
    expect(times.filter((n) => n === 1).length).toBe(MEMBERS);
    expect(times.filter((n) => n === 2).length).toBe((MEMBERS * graph.degree) / 2);
    expect(times.length).toBe(MEMBERS + (MEMBERS * graph.degree) / 2);
  });

  it('A21: no secret and no word of a vector crosses the wire; the part of the graph seed does, and only that', () => {
    const world = run({ coordinates: 48, drops: { 'masked-input': hexOf(2) } });
    const wire = [...world.sent, ...world.received].map(({ message }) => Buffer.from(encodeSessionMessage(message)));
    const occurs = (needle: Uint8Array): boolean => wire.some((bytes) => bytes.includes(Buffer.from(needle)));
    world.members.forEach(({ secretSeed }, m) => {
      const { graphSeed, ...secrets } = expandEntropy(crypto, world.entropies[m]!, sidOf(world));
      expect(occurs(graphSeed)).toBe(true);
      for (const secret of [secretSeed, world.entropies[m]!, ...Object.values(secrets)])
        expect(occurs(secret)).toBe(false);
      const random = streamSource(crypto, secrets.sharingKey);
      const ofSelf = splitSecret(secrets.selfSeed, graph.degree, threshold, random);
      const ofMask = splitSecret(secrets.maskSecret, graph.degree, threshold, random);
      const [b, s] = [ofSelf.filter(occurs).length, ofMask.filter(occurs).length];
      expect(m === 2 ? b : s).toBe(0);
      expect(m === 2 ? s : b).toBeGreaterThanOrEqual(threshold);
    });
    for (const words of world.contributions.values()) {
      const bytes = wordsToBytes(words);
      for (let i = 0; i + 8 <= bytes.length; i += 8) expect(occurs(bytes.subarray(i, i + 8))).toBe(false);
    }
  });

  it('A22: lengths are the same for all members', () => {
    for (const type of ['p1', 'p1r', 'p2', 'p3', 'p4', 'p5'] as const) {
      const lengths = new Set(sentBy(honest, type).map(({ message }) => encodeSessionMessage(message).length));
      expect([type, lengths.size]).toEqual([type, 1]);
    }
  });

  it('A23: damaged reveals with valid signatures end in codes, on both sides', () => {
    const next = numbersFrom('sparse');
    const damage = (bytes: Uint8Array): Uint8Array => {
      if (next(3) === 0) return bytes.subarray(0, next(bytes.length));
      if (next(3) === 0) return concatBytes(bytes, bytesFrom('more', next(99)));
      return bytes.map((byte, i) => (i === next(bytes.length) || next(40) === 0 ? next(256) : byte));
    };
    for (let i = 0; i < 30; i++) {
      const up = run({
        fromMember: (m, from, w) =>
          m.type === 'p1r' && from === 2 ? signAs(w, 2, 'p1r', concatBytes(damage(m.body), Uint8Array.of(i))) : m,
      });
      expect(faultsOf(up)[0]?.[1]).toMatch(/^(CODEC|PROTO|AUTH|CRYPTO)_/);
      const down = run({
        toMember: (m, to, w) => (m.type === 'p1r-all' && to === 2 ? forge(w, 'p1r-all', damage(m.attachment)) : m),
      });
      expect(codeOf(down, 2)).toMatch(/^(CODEC|PROTO|AUTH|CRYPTO)_/);
      sumIsExact(down);
    }
  });

  it('A24: one member moves the sum (documented), and learns or blocks nothing by it', () => {
    const poison = packLanes(
      Int32Array.from({ length: 10 }, () => 1_000_000),
      2,
    );
    const world = run({
      participantStep: (provider, state, event) =>
        stepParticipant(
          provider,
          state,
          event.type === 'contribution' && equalBytes(state.identity.id, idOf(honest, 4))
            ? { ...event, words: poison.slice() }
            : event,
        ),
    });
    const [before, after] = [honest, world].map((w) => unpackLanes(w.outcome!.sum, 10, 2)) as [Int32Array, Int32Array];
    expect([...after]).toEqual([...before].map((value, i) => value - (honest.values[4]![i] as number) + 1_000_000));
  });
});

describe('A25 and A29: lies about a sum or a census (sparse)', () => {
  const world = run({ coordinates: 4, params: { purpose: 'census' }, drops: { 'masked-input': hexOf(1) } });
  const transcript = world.outcome?.transcript ?? new Uint8Array(0);
  const accepts = (bytes: Uint8Array): boolean => {
    try {
      return verifyTranscript(crypto, bytes, world.roster, world.coordinator.publicKey).sum.length > 0;
    } catch {
      return false;
    }
  };
  it('are found in every part, the reveals and the quorum included; the honest transcript is accepted', () => {
    expect(accepts(transcript)).toBe(true);
    const parts = decodeParts(transcript, 9);
    const other = decodeParts(
      run({ coordinates: 4, params: { purpose: 'census', round: 2 }, drops: { 'masked-input': hexOf(1) } }).outcome!
        .transcript,
      9,
    );
    for (let i = 0; i < 9; i++) expect([i, accepts(encodeParts(parts.with(i, other[i]!)))]).toEqual([i, false]);
    const entries = listed({ ...world.sent[0]!.message, attachment: parts[6]! }, 'p4');
    expect(entries.length).toBe(quorum);
    expect(accepts(encodeParts(parts.with(6, encodeBodies(entries.slice(1)))))).toBe(false);
    const below = numbersFrom('sparse census');
    for (let trial = 0; trial < 60; trial++) {
      const at = below(transcript.length);
      expect([at, accepts(flip(transcript, at))]).toEqual([at, false]);
    }
  });
});

describe('fault of other frameworks (sparse)', () => {
  it('a member listed as survivor and as dropped cannot be asked for: the request names nobody, the partition follows', () => {
    const world = run({ drops: { 'masked-input': hexOf(3) } });
    const asked = world.received.filter((r) => r.message.type === 'p5-ask');
    expect(asked.length).toBe(MEMBERS - 1);
    for (const { message } of asked) {
      expect(toHex(message.attachment).includes(hexOf(3)[0]!)).toBe(false);
      expect(listed(message, 'p4').every((entry) => !equalBytes(senderOf(entry), idOf(world, 3)))).toBe(true);
    }
  });

  for (const phase of ['advertise', 'share-keys', 'masked-input', 'consistency', 'unmask'] as const) {
    it(`a member lost at ${phase} does not halt the round`, () => sumIsExact(run({ drops: { [phase]: hexOf(1) } })));
  }
});
