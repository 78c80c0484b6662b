import { decodeParts, fromHex, hashParts, toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider, KeyStream } from '../../protocol/crypto-provider.ts';
import { merkleRoot } from '../../protocol/merkle.ts';
import { decodeParams } from '../../protocol/params.ts';
import { addWords, applyMasks, bytesToWords, wordsToBytes } from '../../protocol/ring.ts';
import type { Lanes, MaskSeed } from '../../protocol/session.ts';
import { combineShares, splitSecret } from '../../protocol/shamir.ts';
import { removeDropoutNoise } from '../../src/privacy/dropout-noise.ts';
import { failedRefusals, type RefusalVector } from './refusals.ts';
import {
  decodeMessageVector,
  encodeMessageVector,
  feedMember,
  type MemberVector,
  type MessageVector,
  type SessionVector,
  startMember,
} from './replay.ts';

/*
 * Checks the frozen vectors with a provider. No test framework and nothing of Node, so that the same code runs in a browser.
 * The format is described in protocol/SPEC.md, appendix.
 */

/** What a primitive vector may call; numbers are big-endian bytes. */
export type CallName =
  | 'sha256'
  | 'hkdf'
  | 'ed25519PublicKey'
  | 'ed25519Sign'
  | 'ed25519Verify'
  | 'ed25519IsPrimeOrder'
  | 'x25519PublicKey'
  | 'x25519Agree'
  | 'gcmSeal'
  | 'gcmOpen'
  | 'ctr'
  | 'hashParts'
  | 'merkleRoot'
  | 'split'
  | 'combine'
  | 'mask'
  | 'parts';

export interface Vectors {
  /** `output` in hex, or the error code that a `bad_` case must end with. */
  readonly primitives: readonly {
    readonly name: string;
    readonly call: CallName;
    readonly inputs: readonly string[];
    readonly output: string;
  }[];
  readonly session: SessionVector;
  /** A session in the sparse profile, in the same form. */
  readonly sparse: SessionVector;
  /** A session with removable noise, in the same form. */
  readonly removable: SessionVector;
  /** A sparse session with removable noise, in the same form. */
  readonly sparseRemovable: SessionVector;
  /** Messages that must be refused, each by one check alone. */
  readonly refusals: readonly RefusalVector[];
  /** Messages as they travel (SPEC section 8), one of every type. */
  readonly frames: readonly { readonly type: string; readonly frame: string }[];
}

const numberOf = (bytes: Uint8Array): number => bytes.reduce((value, byte) => value * 256 + byte, 0);

function streamBytes(stream: KeyStream, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  stream.read(bytes);
  return bytes;
}

type Call = (crypto: CryptoProvider, ...inputs: Uint8Array[]) => Uint8Array;
const part = (inputs: readonly Uint8Array[], i: number): Uint8Array => inputs[i] ?? new Uint8Array(0);

const CALLS: Readonly<Record<CallName, Call>> = {
  sha256: (c, ...x) => c.sha256(part(x, 0)),
  hkdf: (c, ...x) => c.hkdfSha256(part(x, 0), part(x, 1), part(x, 2), numberOf(part(x, 3))),
  ed25519PublicKey: (c, ...x) => c.ed25519PublicKey(part(x, 0)),
  ed25519Sign: (c, ...x) => c.ed25519Sign(part(x, 0), part(x, 1)),
  ed25519Verify: (c, ...x) => Uint8Array.of(c.ed25519Verify(part(x, 0), part(x, 1), part(x, 2)) ? 1 : 0),
  ed25519IsPrimeOrder: (c, ...x) => Uint8Array.of(c.ed25519IsPrimeOrder(part(x, 0)) ? 1 : 0),
  x25519PublicKey: (c, ...x) => c.x25519PublicKey(part(x, 0)),
  x25519Agree: (c, ...x) => c.x25519Agree(part(x, 0), part(x, 1)),
  gcmSeal: (c, ...x) => c.aes256GcmSeal(part(x, 0), part(x, 1), part(x, 2), part(x, 3)),
  gcmOpen: (c, ...x) => c.aes256GcmOpen(part(x, 0), part(x, 1), part(x, 2), part(x, 3)),
  ctr: (c, ...x) => streamBytes(c.aes256Ctr(part(x, 0)), numberOf(part(x, 1))),
  hashParts: (c, ...x) => hashParts(c, ...x),
  merkleRoot: (c, ...x) => merkleRoot(c, x),
  /** Secret, holders, threshold, key of the stream that gives the coefficients: all shares, one after the other. */
  split: (c, ...x) => {
    const stream = c.aes256Ctr(part(x, 3));
    const shares = splitSecret(part(x, 0), numberOf(part(x, 1)), numberOf(part(x, 2)), (length) => streamBytes(stream, length));
    return Uint8Array.from(shares.flatMap((share) => [...share]));
  },
  /** Number of holders, then pairs of x and share. */
  combine: (_c, ...x) => {
    const shares = Array.from({ length: (x.length - 1) / 2 }, (_, i) => ({
      x: numberOf(part(x, 1 + 2 * i)),
      share: part(x, 2 + 2 * i),
    }));
    return combineShares(shares, numberOf(part(x, 0)));
  },
  /** Words, lanes, seeds of which all but the last are added and the last one is taken off. */
  mask: (c, ...x) => {
    const words = bytesToWords(part(x, 0));
    const seeds = x.slice(2).map((seed, i): MaskSeed => ({ seed, sign: i === x.length - 3 ? -1 : 1 }));
    applyMasks(words, numberOf(part(x, 1)) as Lanes, seeds, c);
    return wordsToBytes(words).slice();
  },
  parts: (_c, ...x) => Uint8Array.from(decodeParts(part(x, 0)).flatMap((bytes) => [...bytes])),
};

/** Output of a primitive vector in hex, or the code of its error. */
export function evaluate(crypto: CryptoProvider, call: CallName, inputs: readonly string[]): string {
  try {
    return toHex(CALLS[call](crypto, ...inputs.map(fromHex)));
  } catch (error) {
    return String((error as { code?: unknown }).code ?? error);
  }
}

/** Drives one member of a frozen session through what it received; returns what it sent. */
function replayMember(crypto: CryptoProvider, session: SessionVector, member: MemberVector): MessageVector[] {
  let state = startMember(crypto, session, member);
  return member.received.flatMap((vector) => {
    const step = feedMember(crypto, state, member, decodeMessageVector(vector));
    state = step.state;
    for (const effect of step.effects) {
      if (effect.type !== 'contribute') continue;
      const seeds = effect.components.map(({ seed }) => toHex(seed));
      if (seeds.join() !== (member.components ?? []).join()) throw new Error('other seeds of removable noise');
    }
    return step.effects.flatMap((effect) => (effect.type === 'send' ? [encodeMessageVector(effect.message)] : []));
  });
}

/** Takes the components k > D of the survivors' noise off the sum of their contributions; D from the members' own messages. */
function removeComponents(crypto: CryptoProvider, session: SessionVector, sum: Uint32Array): void {
  const { members, survivors, roster } = session;
  const p0 = members[0]?.received.find(({ type }) => type === 'p0');
  const params = decodeParams(fromHex(p0?.body ?? ''));
  if (params.noise.tolerance === undefined) return;
  const dealers = members.filter(({ sent }) => sent.some(({ type }) => type === 'p2')).length;
  const removed = members.flatMap(({ components = [], secretSeed }) => {
    const key = toHex(crypto.ed25519PublicKey(fromHex(secretSeed)));
    const isSurvivor = survivors.includes(roster.entries.find(({ publicKey }) => publicKey === key)?.id ?? '');
    return components.flatMap((seed, i) =>
      isSurvivor && i >= dealers - survivors.length ? [{ number: i + 1, seed: fromHex(seed) }] : [],
    );
  });
  removeDropoutNoise(crypto, sum, params, dealers, removed);
}

/** Names of the vectors that a provider does not reproduce. */
export function failedVectors(crypto: CryptoProvider, vectors: Vectors): string[] {
  const failed = vectors.primitives
    .filter(({ call, inputs, output }) => evaluate(crypto, call, inputs) !== output)
    .map(({ name }) => name);
  for (const [name, session] of [
    ['session', vectors.session],
    ['sparse', vectors.sparse],
    ['removable', vectors.removable],
    ['sparseRemovable', vectors.sparseRemovable],
  ] as const) {
    session.members.forEach((member, i) => {
      let sent = '';
      try {
        sent = JSON.stringify(replayMember(crypto, session, member));
      } catch {
        // A provider that cannot even enter the session.
      }
      if (sent !== JSON.stringify(member.sent)) failed.push(`${name}, member ${i}`);
    });
    const sum = new Uint32Array(fromHex(session.sum).length / 4);
    session.members.forEach(({ contribution, secretSeed }) => {
      const key = toHex(crypto.ed25519PublicKey(fromHex(secretSeed)));
      const id = session.roster.entries.find(({ publicKey }) => publicKey === key)?.id ?? '';
      if (session.survivors.includes(id)) addWords(sum, bytesToWords(fromHex(contribution)), session.lanes);
    });
    removeComponents(crypto, session, sum);
    if (toHex(wordsToBytes(sum)) !== session.sum) failed.push(`${name}, sum`);
  }
  return [...failed, ...failedRefusals(crypto, { strict: vectors.session, sparse: vectors.sparse }, vectors.refusals)];
}
