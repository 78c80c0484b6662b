import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { concatBytes, decodeParts, encodeParts, toHex, utf8 } from '../../protocol/bytes.ts';
import { merkleRoot } from '../../protocol/merkle.ts';
import { decodeLeaf, encodeLeaf, type ShareLeaf } from '../../protocol/messages.ts';
import type { SessionMessage } from '../../protocol/session.ts';
import {
  accusedBy,
  bytesFrom,
  codeOf,
  forge,
  idOf,
  messagesOf,
  nothingOpened,
  sentBy,
  signAs,
} from '../support/malice.ts';
import { plainSum, runSession, type World, type WorldOptions } from '../support/session-world.ts';

const crypto = nodeCrypto;
const MEMBERS = 7;
const DEALER = 4;

const hexOf = (world: World, ...members: number[]): string[] => members.map((m) => toHex(idOf(world, m)));
const faultsOf = (world: World): [string, string, string][] =>
  (world.outcome ?? world.abort)?.faults.map(({ id, code, reportedBy }) => [toHex(id), code, reportedBy]) ?? [];

/** The dealer's own P2 with another leaf and ciphertext for one holder, root and signature made to fit. */
function redeal(
  world: World,
  message: SessionMessage,
  holder: number,
  change: (leaf: ShareLeaf, ciphertext: Uint8Array) => { leaf: ShareLeaf; ciphertext: Uint8Array },
): SessionMessage {
  const parts = decodeParts(message.attachment);
  const { leaf, ciphertext } = change(decodeLeaf(parts[2 * holder] as Uint8Array), parts[2 * holder + 1] as Uint8Array);
  parts[2 * holder] = encodeLeaf(leaf);
  parts[2 * holder + 1] = ciphertext;
  const [id, h1] = decodeParts(message.body) as [Uint8Array, Uint8Array];
  const leaves = parts.filter((_, i) => i % 2 === 0);
  return signAs(world, DEALER, 'p2', encodeParts([id, h1, merkleRoot(crypto, leaves)]), encodeParts(parts));
}

const dealing = (
  change: (world: World, message: SessionMessage) => SessionMessage,
  more: Partial<WorldOptions> = {},
): World =>
  runSession({
    members: MEMBERS,
    ...more,
    fromMember: (message, from, w) => (message.type === 'p2' && from === DEALER ? change(w, message) : message),
  });

const flip = (bytes: Uint8Array, at = 0): Uint8Array => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));

describe('A15: malformed and wrong shares', () => {
  const wrong: Record<
    string,
    { code: string; change: (leaf: ShareLeaf, ciphertext: Uint8Array) => { leaf: ShareLeaf; ciphertext: Uint8Array } }
  > = {
    'a ciphertext that does not open': {
      code: 'CRYPTO_TAG',
      change: (leaf, ciphertext) => ({
        leaf: { ...leaf, ciphertextHash: crypto.sha256(flip(ciphertext)) },
        ciphertext: flip(ciphertext),
      }),
    },
    'a share of b that misses its commitment': {
      code: 'CRYPTO_SHARE',
      change: (leaf, ciphertext) => ({ leaf: { ...leaf, commitmentB: flip(leaf.commitmentB) }, ciphertext }),
    },
    'a share of the mask key that misses its commitment': {
      code: 'CRYPTO_SHARE',
      change: (leaf, ciphertext) => ({ leaf: { ...leaf, commitmentS: flip(leaf.commitmentS) }, ciphertext }),
    },
  };
  for (const [name, { code, change }] of Object.entries(wrong)) {
    it(`${name}: the pair stays out of the next attempt, nothing is charged or opened`, () => {
      const holder = 0;
      const world = dealing((w, message) => redeal(w, message, holder, change));
      expect(codeOf(world, holder)).toBe(code);
      expect(accusedBy(world, holder)).toEqual(hexOf(world, DEALER));
      expect(world.abort).toMatchObject({ code: 'ROUND_COMPLAINT', uploadBegun: false });
      expect(world.abort?.excluded.map(toHex).sort()).toEqual(hexOf(world, holder, DEALER).sort());
      expect(messagesOf(world, holder, 'p3').length).toBe(0);
      expect(nothingOpened(world)).toBe(true);

      const pair = hexOf(world, holder, DEALER);
      const retry = runSession({ members: MEMBERS, params: { attempt: 1 }, drops: { advertise: pair } });
      expect(retry.outcome?.survivors.length).toBe(MEMBERS - 2);
    });
  }

  it('a complaint after the first upload costs the complainer its place and nobody the round', () => {
    const holder = 6;
    const world = dealing((w, message) => redeal(w, message, holder, wrong['a ciphertext that does not open']!.change));
    expect(codeOf(world, holder)).toBe('CRYPTO_TAG');
    // The dealer leaves too: its machine does not recognize the root that was signed in its name.
    expect(world.outcome?.survivors.map(toHex)).toEqual(hexOf(world, 0, 1, 2, 3, 5));
    expect(faultsOf(world)).toContainEqual([...hexOf(world, holder), 'CRYPTO_TAG', 'member']);
    expect(world.outcome?.accused).toEqual([]);
    expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
  });

  it('a false complaint never names anybody but the pair, and proves nothing against the dealer', () => {
    const world = runSession({
      members: MEMBERS,
      fromMember: (message, from, w) => {
        if (message.type !== 'p3' || from !== 0) return message;
        const h1 = decodeParts(messagesOf(w, 0, 'p2')[0]!.body)[1] as Uint8Array;
        return signAs(w, 0, 'complaint', encodeParts([idOf(w, 0), h1, idOf(w, DEALER), utf8('CRYPTO_TAG')]));
      },
    });
    expect(world.abort?.code).toBe('ROUND_COMPLAINT');
    expect(world.abort?.excluded.map(toHex).sort()).toEqual(hexOf(world, 0, DEALER).sort());
    expect(faultsOf(world)).toEqual([[...hexOf(world, 0), 'CRYPTO_TAG', 'member']]);
  });

  it('the coordinator alone is to blame for a share that misses the signed root of its dealer', () => {
    const deliveries: Record<string, (entry: Uint8Array[]) => Uint8Array[]> = {
      'another ciphertext': ([leaf, ciphertext, ...proof]) => [leaf!, flip(ciphertext!), ...proof],
      'another leaf': ([leaf, ciphertext, ...proof]) => [flip(leaf!, 10), ciphertext!, ...proof],
      'a path too short': ([leaf, ciphertext, ...proof]) => [leaf!, ciphertext!, ...proof.slice(1)],
      'a path too long': ([leaf, ciphertext, ...proof]) => [leaf!, ciphertext!, ...proof, proof[0]!],
    };
    for (const [name, change] of Object.entries(deliveries)) {
      const world = runSession({
        members: MEMBERS,
        toMember: (message, to, w) => {
          if (message.type !== 'p2-all' || to !== 1) return message;
          const [list, first, ...rest] = decodeParts(message.attachment) as [Uint8Array, Uint8Array, ...Uint8Array[]];
          return forge(w, 'p2-all', encodeParts([list, encodeParts(change(decodeParts(first))), ...rest]), idOf(w, to));
        },
      });
      expect([name, codeOf(world, 1)]).toEqual([name, 'CRYPTO_COMMITMENT']);
      expect(accusedBy(world, 1)).toEqual([]);
      expect(world.sent.some(({ message }) => message.type === 'complaint')).toBe(false);
      expect(messagesOf(world, 1, 'p3').length).toBe(0);
    }
  });

  it("a member refuses another holder's share, and a delivery meant for another member", () => {
    const world = runSession({
      members: MEMBERS,
      toMember: (message, to, w) => {
        if (message.type !== 'p2-all' || to !== 1) return message;
        const [list, , ...rest] = decodeParts(message.attachment) as [Uint8Array, Uint8Array, ...Uint8Array[]];
        const parts = decodeParts(sentBy(w, 'p2')[0]!.message.attachment);
        const proof = decodeParts(decodeParts(message.attachment)[1] as Uint8Array).slice(2);
        return forge(
          w,
          'p2-all',
          encodeParts([list, encodeParts([parts[4]!, parts[5]!, ...proof]), ...rest]),
          idOf(w, to),
        );
      },
    });
    expect(codeOf(world, 1)).toBe('CRYPTO_COMMITMENT');
    const crossed = runSession({
      members: MEMBERS,
      toMember: (message, to, w) =>
        message.type === 'p2-all' && to === 1
          ? (w.received.find((r) => r.to === 0 && r.message.type === 'p2-all')?.message ?? null)
          : message,
    });
    expect(codeOf(crossed, 1)).toBe('CODEC_TYPE');
    expect(messagesOf(crossed, 1, 'p3').length).toBe(0);
  });

  it('a dealer whose commitments miss its root, or whose bundle is malformed, is out before U2', () => {
    const bundles: Record<string, (w: World, message: SessionMessage) => SessionMessage> = {
      CRYPTO_COMMITMENT: (_w, message) => ({ ...message, attachment: flip(message.attachment, 20) }),
      CODEC_TRUNCATED: (_w, message) => ({ ...message, attachment: message.attachment.subarray(0, -1) }),
      PROTO_EQUIVOCATION: (w, message) => {
        const [id, , root] = decodeParts(message.body) as [Uint8Array, Uint8Array, Uint8Array];
        return signAs(w, DEALER, 'p2', encodeParts([id, bytesFrom('h1'), root]), message.attachment);
      },
      AUTH_SIGNATURE: (_w, message) => ({ ...message, signature: flip(message.signature, 3) }),
    };
    for (const [code, change] of Object.entries(bundles)) {
      const world = dealing(change);
      expect(world.outcome?.u2.length).toBe(MEMBERS - 1);
      expect(faultsOf(world)).toEqual([[...hexOf(world, DEALER), code, 'coordinator']]);
      expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
    }
  });

  for (const secret of ['selfSeed', 'maskSecret'] as const) {
    it(`consistent shares of another ${secret} prove the dealer a liar when they are opened`, () => {
      const names = runSession({ members: MEMBERS });
      const world = runSession({
        members: MEMBERS,
        // A self seed is opened of a survivor, a mask key of a member that dropped.
        drops: secret === 'maskSecret' ? { 'masked-input': hexOf(names, DEALER) } : {},
        fromMember: (message, from, w) => {
          const progress = w.states[from]?.session?.progress;
          // It published one secret and goes on with another.
          if (message.type === 'p1' && from === DEALER && progress?.stage === 'advertised') {
            progress.secrets[secret].set(bytesFrom('another secret'));
          }
          return message;
        },
      });
      expect(world.outcome).toBeNull();
      expect(world.abort).toMatchObject({ code: 'CRYPTO_COMMITMENT', phase: 'unmask', uploadBegun: true });
      expect(world.abort?.excluded.map(toHex)).toEqual(hexOf(world, DEALER));
      // Every honest holder had to accept the shares: they open their commitments.
      expect(sentBy(world, 'complaint').length).toBe(0);
    });
  }

  it('a holder that opens a wrong share is named and the sum is right without it', () => {
    for (const change of [
      (openings: Uint8Array[]) => openings.map((opening, i) => (i === 2 ? flip(opening, 5) : opening)),
      (openings: Uint8Array[]) => openings.map((opening, i) => (i === 2 ? openings[3]! : opening)),
      (openings: Uint8Array[]) => openings.slice(1),
      (openings: Uint8Array[]) => [...openings, openings[0]!],
    ]) {
      const liar = 0;
      const world = runSession({
        members: MEMBERS,
        fromMember: (message, from, w) => {
          if (message.type !== 'p5' || from !== liar) return message;
          const bundle = encodeParts(change(decodeParts(message.attachment)));
          const [id, h3] = decodeParts(message.body) as [Uint8Array, Uint8Array];
          return signAs(w, liar, 'p5', encodeParts([id, h3, crypto.sha256(bundle)]), bundle);
        },
      });
      expect(world.outcome?.sum).toEqual(
        plainSum(
          world,
          world.members.map(({ id }) => id),
        ),
      );
      expect(faultsOf(world).map(([id]) => id)).toEqual(hexOf(world, liar));
    }
  });
});

describe('A27: partial, repeated and second uploads', () => {
  const UPLOADER = 2;
  const uploading = (
    change: (w: World, message: SessionMessage) => SessionMessage | readonly SessionMessage[],
    more: Partial<WorldOptions> = {},
  ): World =>
    runSession({
      members: MEMBERS,
      ...more,
      fromMember: (message, from, w) => (message.type === 'p3' && from === UPLOADER ? change(w, message) : message),
    });
  const resign = (w: World, message: SessionMessage, attachment: Uint8Array): SessionMessage => {
    const [id, h2] = decodeParts(message.body) as [Uint8Array, Uint8Array];
    return signAs(w, UPLOADER, 'p3', encodeParts([id, h2, crypto.sha256(attachment)]), attachment);
  };

  const broken: Record<string, { code: string; change: (w: World, message: SessionMessage) => SessionMessage }> = {
    'cut off': {
      code: 'CODEC_TRUNCATED',
      change: (_w, message) => ({ ...message, attachment: message.attachment.subarray(0, -8) }),
    },
    'cut off and signed so': {
      code: 'CODEC_TRUNCATED',
      change: (w, message) => resign(w, message, message.attachment.subarray(0, -8)),
    },
    'too long': {
      code: 'CODEC_TRUNCATED',
      change: (w, message) => resign(w, message, concatBytes(message.attachment, new Uint8Array(8))),
    },
    empty: { code: 'CODEC_TRUNCATED', change: (w, message) => resign(w, message, new Uint8Array(0)) },
    'another vector than it signed': {
      code: 'CODEC_TYPE',
      change: (_w, message) => ({ ...message, attachment: flip(message.attachment) }),
    },
    'for other dealers': {
      code: 'PROTO_EQUIVOCATION',
      change: (w, message) => {
        const [id, , digest] = decodeParts(message.body) as [Uint8Array, Uint8Array, Uint8Array];
        return signAs(w, UPLOADER, 'p3', encodeParts([id, bytesFrom('h2'), digest]), message.attachment);
      },
    },
    'in the name of another member': {
      code: 'AUTH_UNKNOWN',
      change: (w, message) => {
        const [, h2, digest] = decodeParts(message.body) as [Uint8Array, Uint8Array, Uint8Array];
        return signAs(w, UPLOADER, 'p3', encodeParts([idOf(w, 0), h2, digest]), message.attachment);
      },
    },
  };
  for (const [name, { code, change }] of Object.entries(broken)) {
    it(`an upload that is ${name} leaves no trace in the sum`, () => {
      const world = uploading(change);
      expect(faultsOf(world)).toEqual([[...hexOf(world, UPLOADER), code, 'coordinator']]);
      expect(world.outcome?.survivors.length).toBe(MEMBERS - 1);
      expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
    });
  }

  it('an upload with a bit that no field owns is refused', () => {
    const world = uploading(
      (w, message) =>
        resign(
          w,
          message,
          message.attachment.map((byte, i) => (i === 7 ? byte | 0x80 : byte)),
        ),
      { lanes: 3 },
    );
    expect(faultsOf(world)).toEqual([[...hexOf(world, UPLOADER), 'CODEC_TYPE', 'coordinator']]);
    expect(world.outcome?.sum).toEqual(plainSum(world, world.outcome?.survivors ?? []));
  });

  it('a repeated upload counts once', () => {
    const world = uploading((_w, message) => [message, message, message]);
    expect(faultsOf(world)).toEqual([]);
    expect(world.outcome?.sum).toEqual(
      plainSum(
        world,
        world.members.map(({ id }) => id),
      ),
    );
  });

  it('a second, different upload is refused and kept as evidence; the first one counts', () => {
    const world = uploading((w, message) => [message, resign(w, message, flip(message.attachment))]);
    expect(faultsOf(world)).toEqual([[...hexOf(world, UPLOADER), 'PROTO_EQUIVOCATION', 'coordinator']]);
    const evidence = world.outcome?.faults[0]?.evidence ?? [];
    expect(evidence.length).toBe(2);
    for (const message of evidence)
      expect(toHex(decodeParts(message.body)[0] as Uint8Array)).toBe(hexOf(world, UPLOADER)[0]);
    expect(world.outcome?.sum).toEqual(
      plainSum(
        world,
        world.members.map(({ id }) => id),
      ),
    );
  });

  it('every member uploads at most once, however often it is asked', () => {
    const world = runSession({
      members: MEMBERS,
      toMember: (message) => (message.type === 'p2-all' ? [message, message] : message),
    });
    for (let m = 0; m < MEMBERS; m++)
      expect(new Set(messagesOf(world, m, 'p3').map(({ attachment }) => toHex(attachment))).size).toBe(1);
    expect(world.effects.filter(({ effect }) => effect.type === 'charge').length).toBe(MEMBERS);
  });
});
