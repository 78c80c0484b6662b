import { decodeParts, fromHex, hashParts, toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider, KeyStream } from '../../protocol/crypto-provider.ts';
import { merkleRoot } from '../../protocol/merkle.ts';
import { createParticipant, stepParticipant } from '../../protocol/participant.ts';
import { addWords, applyMasks, bytesToWords, wordsToBytes } from '../../protocol/ring.ts';
import type { Lanes, MaskSeed, MessageType, ParticipantEvent, Roster, SessionMessage } from '../../protocol/session.ts';
import { combineShares, splitSecret } from '../../protocol/shamir.ts';

/*
 * Checks the frozen vectors with a provider. No test framework and nothing of Node, so that the same code runs in a browser.
 * The format is described in protocol/SPEC.md, appendix.
 */

export interface MessageVector {
  readonly type: MessageType;
  readonly sid: string;
  readonly body: string;
  readonly signature: string;
  readonly attachment: string;
}

/** What a primitive vector may call; numbers are big-endian bytes. */
export type CallName =
  | 'sha256'
  | 'hkdf'
  | 'ed25519PublicKey'
  | 'ed25519Sign'
  | 'ed25519Verify'
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
  readonly session: {
    readonly lanes: Lanes;
    readonly coordinatorKey: string;
    readonly roster: { readonly version: number; readonly entries: readonly { id: string; publicKey: string; organization: string }[] };
    readonly members: readonly {
      readonly secretSeed: string;
      readonly entropy: string;
      readonly contribution: string;
      readonly received: readonly MessageVector[];
      readonly sent: readonly MessageVector[];
    }[];
    readonly survivors: readonly string[];
    readonly sum: string;
  };
  /** A session in the sparse profile, in the same form. */
  readonly sparse: Vectors['session'];
  /** Messages as they travel (SPEC section 8), one of every type. */
  readonly frames: readonly { readonly type: string; readonly frame: string }[];
}

export function encodeMessageVector(message: SessionMessage): MessageVector {
  const { type, sid, body, signature, attachment } = message;
  return {
    type,
    sid: toHex(sid),
    body: toHex(body),
    signature: toHex(signature),
    attachment: toHex(attachment),
  };
}

const decodeMessageVector = (vector: MessageVector): SessionMessage => ({
  type: vector.type,
  sid: fromHex(vector.sid),
  body: fromHex(vector.body),
  signature: fromHex(vector.signature),
  attachment: fromHex(vector.attachment),
});

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

/** Drives one member of the frozen session through what it received; returns what it sent. */
export function replayMember(
  crypto: CryptoProvider,
  session: Vectors['session'],
  member: Vectors['session']['members'][number],
): MessageVector[] {
  const secretSeed = fromHex(member.secretSeed);
  const publicKey = crypto.ed25519PublicKey(secretSeed);
  const roster: Roster = {
    version: session.roster.version,
    entries: session.roster.entries.map(({ id, publicKey: key, organization }) => ({
      id: fromHex(id),
      publicKey: fromHex(key),
      organization,
    })),
    revoked: [],
  };
  const identity = { id: crypto.sha256(publicKey), publicKey, secretSeed };
  const own = roster.entries.find((entry) => toHex(entry.publicKey) === toHex(publicKey));
  let state = createParticipant(
    { ...identity, id: own?.id ?? identity.id },
    { coordinatorKey: fromHex(session.coordinatorKey), roster },
    crypto,
  );
  const sent: MessageVector[] = [];
  const events: ParticipantEvent[] = member.received.map((vector) => {
    const message = decodeMessageVector(vector);
    return message.type === 'p0'
      ? { type: 'open', message, entropy: fromHex(member.entropy) }
      : { type: 'message', message };
  });
  for (let event = events.shift(); event !== undefined; event = events.shift()) {
    const step = stepParticipant(crypto, state, event);
    state = step.state;
    const answers: ParticipantEvent[] = [];
    for (const effect of step.effects) {
      if (effect.type === 'authorize') answers.push({ type: 'authorized', census: null });
      else if (effect.type === 'contribute')
        answers.push({ type: 'contribution', words: bytesToWords(fromHex(member.contribution)) });
      else if (effect.type === 'charge') answers.push({ type: 'charged' });
      else if (effect.type === 'mask') {
        const words = effect.words.slice();
        applyMasks(words, effect.lanes, effect.seeds, crypto);
        answers.push({ type: 'masked', words, digest: crypto.sha256(wordsToBytes(words)) });
      } else if (effect.type === 'send') sent.push(encodeMessageVector(effect.message));
    }
    events.unshift(...answers);
  }
  return sent;
}

/** Names of the vectors that a provider does not reproduce. */
export function failedVectors(crypto: CryptoProvider, vectors: Vectors): string[] {
  const failed = vectors.primitives
    .filter(({ call, inputs, output }) => evaluate(crypto, call, inputs) !== output)
    .map(({ name }) => name);
  for (const [name, session] of [
    ['session', vectors.session],
    ['sparse', vectors.sparse],
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
    if (toHex(wordsToBytes(sum)) !== session.sum) failed.push(`${name}, sum`);
  }
  return failed;
}
