import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { compareBytes, equalBytes, toHex } from '../../protocol/bytes.ts';
import {
  decodeAdvertisement,
  encodeAdvertisement,
  encodeBodies,
  type SignedBody,
  signMessage,
} from '../../protocol/messages.ts';
import { encodeParams, nodeId, rosterHash, sessionId } from '../../protocol/params.ts';
import { createParticipant, stepParticipant } from '../../protocol/participant.ts';
import type { SessionMessage } from '../../protocol/session.ts';
import {
  accusedBy,
  bytesFrom,
  codeOf,
  forge,
  idOf,
  listed,
  relist,
  senderOf,
  sentBy,
  sidOf,
  signAs,
} from '../support/malice.ts';
import { runSession, type World, type WorldOptions } from '../support/session-world.ts';

const crypto = nodeCrypto;
const MEMBERS = 7;
const VICTIM = 2;

/** Changes one member's entry in the P1 list of everybody (or of those in `shownTo`). */
function substitute(
  change: (w: World, entry: SignedBody) => Pick<SignedBody, 'body' | 'signature'>,
  shownTo = (_m: number): boolean => true,
): World {
  return runSession({
    members: MEMBERS,
    toMember: (message, to, w) =>
      message.type !== 'p1-all' || !shownTo(to)
        ? message
        : relist(
            w,
            message,
            listed(message, 'p1').map((entry) =>
              equalBytes(senderOf(entry), idOf(w, VICTIM)) ? change(w, entry) : entry,
            ),
          ),
  });
}

const sorted = (entries: readonly Pick<SignedBody, 'body' | 'signature'>[]): Pick<SignedBody, 'body' | 'signature'>[] =>
  [...entries].sort((a, b) => compareBytes(senderOf(a), senderOf(b)));

/** Shows every member another list of advertisements. */
const showing = (
  members: number,
  change: (w: World, entries: SignedBody[]) => readonly Pick<SignedBody, 'body' | 'signature'>[],
  more: Partial<WorldOptions> = {},
): World =>
  runSession({
    members,
    ...more,
    toMember: (message, _to, w) =>
      message.type === 'p1-all' ? relist(w, message, change(w, listed(message, 'p1'))) : message,
  });

/** Nobody dealt a share: nothing of the session can be learned. */
function expectNoShares(world: World, code: string, members = world.members.map((_, m) => m)): void {
  expect(world.outcome).toBeNull();
  expect(sentBy(world, 'p2').filter(({ from }) => members.includes(from)).length).toBe(0);
  for (const m of members) expect(codeOf(world, m)).toBe(code);
}

describe('A4: key substitution', () => {
  const own = crypto.x25519PublicKey(bytesFrom('server key'));
  const others = Array.from({ length: MEMBERS }, (_, m) => m).filter((m) => m !== VICTIM);

  for (const field of ['encryptionKey', 'maskKey', 'seedCommitment'] as const) {
    it(`refuses a foreign ${field} under the member's signature`, () => {
      const world = substitute((_w, { body, signature }) => ({
        body: encodeAdvertisement({ ...decodeAdvertisement(body), [field]: own }),
        signature,
      }));
      expectNoShares(world, 'AUTH_SIGNATURE');
    });
  }

  it("refuses keys that the coordinator or another member signed in the member's name", () => {
    const body = (entry: SignedBody): Uint8Array =>
      encodeAdvertisement({ ...decodeAdvertisement(entry.body), maskKey: own });
    const byCoordinator = substitute((w, entry) =>
      signMessage(crypto, w.coordinator.secretSeed, 'p1', sidOf(w), body(entry)),
    );
    expectNoShares(byCoordinator, 'AUTH_SIGNATURE', others);
    const byMember = substitute((w, entry) => signAs(w, VICTIM + 1, 'p1', body(entry)));
    expectNoShares(byMember, 'AUTH_SIGNATURE', others);
  });

  it('lets the member itself find keys that its stolen long-term key signed', () => {
    const world = substitute((w, entry) =>
      signAs(w, VICTIM, 'p1', encodeAdvertisement({ ...decodeAdvertisement(entry.body), maskKey: own })),
    );
    expect(codeOf(world, VICTIM)).toBe('PROTO_COHORT');
    expect(sentBy(world, 'p2').some(({ from }) => from === VICTIM)).toBe(false);
  });

  it('refuses a list that repeats a key of another member, whoever signed it', () => {
    const copied = showing(MEMBERS, (w, entries) =>
      entries.map((entry, i) =>
        i === VICTIM
          ? signAs(
              w,
              VICTIM,
              'p1',
              encodeAdvertisement({
                ...decodeAdvertisement(entry.body),
                maskKey: decodeAdvertisement(entries[0]!.body).encryptionKey,
              }),
            )
          : entry,
      ),
    );
    expectNoShares(copied, 'PROTO_COHORT');
  });

  it('keeps a member out that copies the key of another or advertises one key twice', () => {
    for (const copy of [true, false]) {
      const world = runSession({
        members: MEMBERS,
        fromMember: (message, from, w) => {
          if (message.type !== 'p1' || from !== VICTIM) return message;
          const advertisement = decodeAdvertisement(message.body);
          const first = decodeAdvertisement(sentBy(w, 'p1')[0]!.message.body);
          return signAs(
            w,
            from,
            'p1',
            encodeAdvertisement({ ...advertisement, maskKey: copy ? first.maskKey : advertisement.encryptionKey }),
          );
        },
      });
      expect(world.outcome?.survivors.length).toBe(MEMBERS - 1);
      expect(world.outcome?.faults.map(({ id, code }) => [toHex(id), code])).toEqual([
        [toHex(idOf(world, VICTIM)), 'PROTO_COHORT'],
      ]);
    }
  });

  it('names the member that signed a point of low order', () => {
    const low = new Uint8Array(32);
    for (const field of ['encryptionKey', 'maskKey'] as const) {
      const world = substitute((w, entry) =>
        signAs(w, VICTIM, 'p1', encodeAdvertisement({ ...decodeAdvertisement(entry.body), [field]: low })),
      );
      expectNoShares(world, 'CRYPTO_POINT', others);
      for (const m of others) expect(accusedBy(world, m)).toEqual([toHex(idOf(world, VICTIM))]);
    }
  });
});

describe('A5: Sybil cohort', () => {
  function sybil(w: World, n: number): SessionMessage {
    const secretSeed = bytesFrom('sybil', n);
    const body = encodeAdvertisement({
      id: nodeId(crypto, crypto.ed25519PublicKey(secretSeed)),
      encryptionKey: crypto.x25519PublicKey(bytesFrom('sybil enc', n)),
      maskKey: crypto.x25519PublicKey(bytesFrom('sybil mask', n)),
      seedCommitment: bytesFrom('sybil commitment', n),
      graphCommitment: null,
    });
    return signMessage(crypto, secretSeed, 'p1', sidOf(w), body);
  }

  it('refuses members that are not on the roster', () => {
    expectNoShares(
      showing(MEMBERS, (w, entries) => sorted([...entries, sybil(w, 0)])),
      'AUTH_UNKNOWN',
    );
  });

  it('refuses a cohort in which one member is surrounded by Sybils', () => {
    const world = runSession({
      members: MEMBERS,
      toMember: (message, to, w) =>
        message.type === 'p1-all'
          ? relist(
              w,
              message,
              sorted([
                ...listed(message, 'p1').filter((entry) => equalBytes(senderOf(entry), idOf(w, to))),
                ...Array.from({ length: 6 }, (_, n) => sybil(w, n)),
              ]),
            )
          : message,
    });
    expectNoShares(world, 'AUTH_UNKNOWN');
  });

  it('refuses a member that is counted twice or out of order', () => {
    expectNoShares(
      showing(MEMBERS, (_w, entries) => [entries[0]!, ...entries]),
      'PROTO_COHORT',
    );
    expectNoShares(
      showing(MEMBERS, (_w, entries) => [...entries].reverse()),
      'PROTO_COHORT',
    );
  });

  it('refuses a cohort without the member itself, and one that is too small', () => {
    const world = runSession({
      members: MEMBERS,
      toMember: (message, to, w) =>
        message.type === 'p1-all'
          ? relist(
              w,
              message,
              listed(message, 'p1').filter((entry) => !equalBytes(senderOf(entry), idOf(w, to))),
            )
          : message,
    });
    expectNoShares(world, 'PROTO_COHORT');
    expectNoShares(
      showing(MEMBERS, (_w, entries) => entries.slice(0, 4), { params: { minSurvivors: 5 } }),
      'PRIVACY_COHORT_TOO_SMALL',
    );
  });

  it('refuses nodes of too few organizations', () => {
    const world = showing(8, (_w, entries) => entries, { perOrganization: 4, params: { minOrgs: 3 } });
    expect(world.outcome).toBeNull();
    expect(world.abort?.code).toBe('ROUND_BELOW_THRESHOLD');
    // 8 nodes of 4 organizations are enough; the coordinator shows the 6 nodes of 3 of them to a site that asks for 4.
    const cropped = showing(8, (_w, entries) => entries.slice(0, 6), {
      perOrganization: 2,
      params: { minOrgs: 4, minSurvivors: 4 },
    });
    expectNoShares(cropped, 'PRIVACY_COHORT_TOO_SMALL', [0, 1, 2, 3, 4, 5]);
  });

  it('refuses a revoked member, and a session under a roster that was not pinned', () => {
    const world = runSession({ members: MEMBERS });
    const identity = world.members[0]!;
    const revoked = { ...world.roster, version: 2, revoked: [idOf(world, VICTIM)] };
    const trust = { coordinatorKey: world.coordinator.publicKey, roster: revoked };
    const offer = (params: World['params']): SessionMessage => {
      const sid = sessionId(crypto, params);
      return {
        ...forge(world, 'p0', new Uint8Array(0)),
        ...signMessage(crypto, world.coordinator.secretSeed, 'p0', sid, encodeParams(params)),
      };
    };
    const state = createParticipant(identity, trust, crypto);
    const [refusal] = stepParticipant(crypto, state, {
      type: 'open',
      message: offer(world.params),
      entropy: new Uint8Array(32),
    }).effects;
    expect(refusal).toMatchObject({ type: 'abort', code: 'PRIVACY_POLICY' });

    const params = { ...world.params, rosterHash: rosterHash(crypto, revoked), rosterVersion: 2 };
    const opened = stepParticipant(crypto, state, {
      type: 'open',
      message: offer(params),
      entropy: bytesFrom('entropy'),
    });
    expect(opened.effects.map(({ type }) => type)).toEqual(['authorize']);
    const entered = stepParticipant(crypto, opened.state, { type: 'authorized' });
    const advertised = entered.effects.flatMap((effect) => (effect.type === 'send' ? [effect.message] : []))[0]!;
    const sid = sessionId(crypto, params);
    const list = sorted([
      advertised,
      ...sentBy(world, 'p1')
        .slice(1)
        .map(({ from, message }) => signMessage(crypto, world.members[from]!.secretSeed, 'p1', sid, message.body)),
    ]);
    const attachment = encodeBodies(list);
    const message = { ...forge(world, 'p1-all', attachment), sid };
    const signed = signMessage(crypto, world.coordinator.secretSeed, 'p1-all', sid, message.body, attachment);
    const ending = stepParticipant(crypto, entered.state, { type: 'message', message: signed }).effects.at(-1);
    expect(ending).toMatchObject({ type: 'abort', code: 'AUTH_REVOKED' });
  });
});

describe('A26: colluders reach a third', () => {
  for (const [members, colluders, works] of [
    [7, 2, true],
    [6, 2, false],
    [10, 3, true],
    [9, 3, false],
    [5, 1, true],
    [4, 2, false],
  ] as const) {
    it(`${works ? 'runs' : 'refuses'} ${members} members with ${colluders} colluders`, () => {
      const world = runSession({ members, params: { colluders, minSurvivors: 4 } });
      expect(world.outcome === null).toBe(!works);
      if (!works) {
        expect(sentBy(world, 'p2').length).toBe(0);
        expect(world.abort?.code).toBe('ROUND_BELOW_THRESHOLD');
      }
    });
  }

  it('is found by every member when the coordinator crops U1 to a set in which colluders are a third', () => {
    const world = showing(9, (_w, entries) => entries.slice(0, 6), { params: { colluders: 2 } });
    expectNoShares(world, 'PRIVACY_COHORT_TOO_SMALL', [0, 1, 2, 3, 4, 5]);
  });
});
