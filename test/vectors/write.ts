import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { encodeParts, fromHex, hashParts, toHex, u32le, utf8 } from '../../protocol/bytes.ts';
import { encodeSessionMessage } from '../../protocol/frame.ts';
import { encodeAbort, encodeComplaint, signMessage } from '../../protocol/messages.ts';
import { packLanes, wordsToBytes } from '../../protocol/ring.ts';
import type { SessionMessage } from '../../protocol/session.ts';
import { encodeRunMessage } from '../../src/run/messages.ts';
import { runSession, type World, type WorldOptions } from '../support/session-world.ts';
import { type CallName, evaluate, type Vectors } from './check.ts';
import { coordinatorRefusals } from './coordinator-refusals.ts';
import { memberRefusals } from './member-refusals.ts';
import { encodeMessageVector } from './replay.ts';
import type { Scene } from './scene.ts';

/* Writes test/vectors/covey-1.json: node dist/test/vectors/write.js [--renew]. Existing vectors never change by accident. */

const crypto = nodeCrypto;
/** Label of the deterministic bytes that vectors are made from. */
const VECTOR_LABEL = utf8('covey/1 vectors');
const bytes = (n: number, length = 32): Uint8Array => {
  const stream = crypto.aes256Ctr(hashParts(crypto, VECTOR_LABEL, u32le(n)));
  const target = new Uint8Array(length);
  stream.read(target);
  return target;
};
const number = (value: number): Uint8Array => Uint8Array.of(value >> 8, value & 255);
const flip = (value: Uint8Array, at: number): Uint8Array => value.map((byte, i) => (i === at ? byte ^ 1 : byte));

/** A point of order 8, the first one by its encoding. */
const ORDER_8 = fromHex('26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05');
/** Five times the base point, and that point. */
const MIXED = fromHex('131604d01865fbedf9f662d25311c68a197cf286f2683724873a147fed6ada35');
/** The neutral element. */
const NEUTRAL = Uint8Array.of(1, ...new Uint8Array(31));

/**
 * A key of order 8 with R neutral and S = 0: the equation of a signature holds for every message with the cofactor, and
 * without it where k is a multiple of 8. The key is refused at enrolment and the rule need not refuse the signature.
 */
function smallOrder(): [string, CallName, Uint8Array[]][] {
  const signature = Uint8Array.of(...NEUTRAL, ...new Uint8Array(32));
  const holds = (message: Uint8Array): boolean => crypto.ed25519Verify(signature, message, ORDER_8);
  const messages = Array.from({ length: 64 }, (_, n) => bytes(100 + n, 16));
  const [message, other] = [messages.find(holds), messages.find((m) => !holds(m))] as [Uint8Array, Uint8Array];
  return [
    ['ed25519 key of prime order', 'ed25519IsPrimeOrder', [crypto.ed25519PublicKey(bytes(1))]],
    ['bad_key of order 8', 'ed25519IsPrimeOrder', [ORDER_8]],
    ['bad_key neutral', 'ed25519IsPrimeOrder', [NEUTRAL]],
    ['bad_key of mixed order', 'ed25519IsPrimeOrder', [MIXED]],
    ['ed25519 accepts under a key of order 8 where the equation holds', 'ed25519Verify', [signature, message, ORDER_8]],
    ['bad_signature that holds with the cofactor only', 'ed25519Verify', [signature, other, ORDER_8]],
  ];
}

function primitives(): Vectors['primitives'] {
  const cases: [string, CallName, Uint8Array[]][] = [];
  const seed = bytes(1);
  const publicKey = crypto.ed25519PublicKey(seed);
  const message = bytes(2, 45);
  const signature = crypto.ed25519Sign(message, seed);
  cases.push(
    ['sha256', 'sha256', [bytes(3, 100)]],
    ['hash of parts', 'hashParts', [bytes(3, 5), new Uint8Array(0), bytes(4, 70)]],
    ['hkdf', 'hkdf', [bytes(5), bytes(6), bytes(7, 20), number(77)]],
    ['bad_hkdf length', 'hkdf', [bytes(5), bytes(6), bytes(7, 20), number(8_161)]],
    ['ed25519 public key', 'ed25519PublicKey', [seed]],
    ['ed25519 signature', 'ed25519Sign', [message, seed]],
    ['ed25519 accepts', 'ed25519Verify', [signature, message, publicKey]],
    ['bad_signature R', 'ed25519Verify', [flip(signature, 0), message, publicKey]],
    ['bad_signature S', 'ed25519Verify', [flip(signature, 40), message, publicKey]],
    ['bad_signature message', 'ed25519Verify', [signature, flip(message, 3), publicKey]],
    ['bad_signature key', 'ed25519Verify', [signature, message, flip(publicKey, 9)]],
    ['bad_signature length', 'ed25519Verify', [signature.subarray(1), message, publicKey]],
    ['x25519 public key', 'x25519PublicKey', [bytes(8)]],
    ['x25519 agreement', 'x25519Agree', [bytes(8), crypto.x25519PublicKey(bytes(9))]],
    ['bad_point zero', 'x25519Agree', [bytes(8), new Uint8Array(32)]],
    ['bad_point one', 'x25519Agree', [bytes(8), Uint8Array.of(1, ...new Uint8Array(31))]],
    ['bad_point bit 255', 'x25519Agree', [bytes(8), crypto.x25519PublicKey(bytes(9)).map((b, i) => (i === 31 ? b | 128 : b))]],
    ['bad_point above p', 'x25519Agree', [bytes(8), new Uint8Array(32).fill(255, 0, 31).fill(127, 31)]],
    ['aes-256-ctr', 'ctr', [bytes(10), number(300)]],
  );
  cases.push(...smallOrder());
  const [key, nonce, aad, text] = [bytes(11), bytes(12, 12), bytes(13, 32), bytes(14, 128)] as const;
  const sealed = crypto.aes256GcmSeal(key, nonce, aad, text);
  cases.push(
    ['aes-256-gcm', 'gcmSeal', [key, nonce, aad, text]],
    ['aes-256-gcm opens', 'gcmOpen', [key, nonce, aad, sealed]],
    ['bad_tag ciphertext', 'gcmOpen', [key, nonce, aad, flip(sealed, 5)]],
    ['bad_tag tag', 'gcmOpen', [key, nonce, aad, flip(sealed, sealed.length - 1)]],
    ['bad_tag additional data', 'gcmOpen', [key, nonce, flip(aad, 0), sealed]],
    ['merkle root of 1', 'merkleRoot', [bytes(15, 96)]],
    ['merkle root of 5', 'merkleRoot', [15, 16, 17, 18, 19].map((n) => bytes(n, 96))],
    ['shamir 4 of 6', 'split', [bytes(20), number(6), number(4), bytes(21)]],
  );
  const shares = evaluate(crypto, 'split', [bytes(20), number(6), number(4), bytes(21)].map(toHex));
  const share = (i: number): Uint8Array => Uint8Array.from(shares.slice(64 * i, 64 * i + 64).match(/../g) ?? [], (h) => Number.parseInt(h, 16));
  const four = [0, 2, 3, 5].flatMap((i) => [number(i + 1), share(i)]);
  cases.push(
    ['shamir combines', 'combine', [number(6), ...four]],
    ['bad_share repeated x', 'combine', [number(6), ...four.slice(0, 4), ...four.slice(0, 2), ...four.slice(6)]],
    ['bad_share x of zero', 'combine', [number(6), number(0), share(0)]],
    ['parts', 'parts', [encodeParts([bytes(22, 3), new Uint8Array(0), bytes(23, 9)])]],
    ['bad_parts truncated', 'parts', [encodeParts([bytes(22, 3)]).subarray(0, 6)]],
    ['bad_parts trailing', 'parts', [Uint8Array.of(...encodeParts([bytes(22, 3)]), 1)]],
  );
  for (const lanes of [2, 3, 4] as const) {
    const words = wordsToBytes(packLanes(Int32Array.from({ length: 7 }, (_, i) => 1_000 * i - 3_000), lanes)).slice();
    cases.push([`mask in ${lanes} lanes`, 'mask', [words, number(lanes), bytes(30), bytes(31), bytes(32)]]);
  }
  return cases.map(([name, call, inputs]) => {
    const hex = inputs.map(toHex);
    return { name, call, inputs: hex, output: evaluate(crypto, call, hex) };
  });
}

/** One member is lost before its upload. */
function record(session: Scene['session'], members: number, params: WorldOptions['params'] = {}): Scene {
  const options = { members, coordinates: 4, lanes: 3, params } as const;
  const first = runSession(options);
  const dropped = toHex((first.members[1] as { id: Uint8Array }).id);
  const world = runSession({ ...options, drops: { 'masked-input': [dropped] } });
  const vector: Vectors['session'] = {
    lanes: 3,
    coordinatorSeed: toHex(world.coordinator.secretSeed),
    coordinatorKey: toHex(world.coordinator.publicKey),
    roster: {
      version: world.roster.version,
      entries: world.roster.entries.map(({ id, publicKey, organization }) => ({
        id: toHex(id),
        publicKey: toHex(publicKey),
        organization,
      })),
    },
    members: world.members.map(({ id, secretSeed }, m) => ({
      secretSeed: toHex(secretSeed),
      entropy: toHex(world.entropies[m] as Uint8Array),
      contribution: toHex(wordsToBytes(world.contributions.get(toHex(id)) as Uint32Array)),
      ...(world.components.size === 0
        ? {}
        : { components: (world.components.get(m)?.drawn ?? []).map(({ seed }) => toHex(seed)) }),
      received: world.received.filter(({ to }) => to === m).map(({ message }) => encodeMessageVector(message)),
      sent: world.effects.flatMap(({ member, effect }) =>
        member === m && effect.type === 'send' ? [encodeMessageVector(effect.message)] : [],
      ),
    })),
    survivors: (world.outcome?.survivors ?? []).map(toHex),
    sum: toHex(wordsToBytes(world.outcome?.sum ?? new Uint32Array(0))),
  };
  return { session, vector, world, sid: (world.received[0] as World['received'][number]).message.sid };
}

function frames(): Vectors['frames'] {
  const world = runSession({ members: 3, coordinates: 2 });
  const sid = (world.received[0] as { message: SessionMessage }).message.sid;
  const [member] = world.members as [(typeof world.members)[number]];
  const complaint = encodeComplaint({ id: member.id, h1: bytes(40), dealer: bytes(41), code: 'CRYPTO_SHARE' });
  const signed = [
    ...world.received.map(({ message }) => message),
    ...world.sent.map(({ message }) => message),
    signMessage(crypto, member.secretSeed, 'complaint', sid, complaint),
    signMessage(crypto, member.secretSeed, 'abort', sid, encodeAbort(member.id, 'PRIVACY_BUDGET')),
  ];
  const first = new Map<string, string>();
  for (const message of signed) if (!first.has(message.type)) first.set(message.type, toHex(encodeSessionMessage(message)));
  for (const type of ['run/log', 'run/census', 'run/finished', 'run/leave'] as const)
    first.set(type, toHex(encodeRunMessage({ type, payload: bytes(42, 10) })));
  return [...first].map(([type, frame]) => ({ type, frame }));
}

const path = 'test/vectors/covey-1.json';
const strict = record('strict', 5);
const sparse = record('sparse', 12, { profile: 'sparse', colluders: 1, dropoutFraction: 0.17 });
const noise = { mechanism: 'skellam', shareVariance: 5_000, tolerance: 2 } as const;
const removable = record('strict', 5, { noise });
/** The least cohort that bears a colluder and a loss. */
const sparseRemovable = record('sparse', 8, { profile: 'sparse', colluders: 1, dropoutFraction: 0.13, noise });
const vectors: Vectors = {
  primitives: primitives(),
  session: strict.vector,
  frames: frames(),
  sparse: sparse.vector,
  removable: removable.vector,
  sparseRemovable: sparseRemovable.vector,
  refusals: [strict, sparse].flatMap((scene) => [...memberRefusals(scene), ...coordinatorRefusals(scene)]),
};
const { refusals, ...rest } = vectors;
/** One refusal a line: there are many of them. */
const lines = refusals.map((refusal) => `  ${JSON.stringify(refusal)}`).join(',\n');
const text = `${JSON.stringify(rest, null, 1).slice(0, -2)},\n "refusals": [\n${lines}\n ]\n}\n`;
if (existsSync(path) && readFileSync(path, 'utf8') !== text && !process.argv.includes('--renew')) {
  process.stderr.write('"vectors" expected the bytes that are frozen; --renew replaces them\n');
  process.exitCode = 1;
} else writeFileSync(path, text);
