import { connect, type Socket } from 'node:net';
import { WebSocket } from 'ws';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { splitMessage } from '../../platform/transport/framing.ts';
import { createHello, encodeHello, encodeProof, helloDigest, openChallenge } from '../../platform/transport/hello.ts';
import { ERROR_CODES } from '../../protocol/errors.ts';
import { COORDINATOR, type Identity, type TestServer } from './transport.ts';

/** Deterministic bytes for attacks; `below` is uniform enough for choosing. */
export interface Dice {
  bytes(length: number): Uint8Array;
  below(bound: number): number;
}

export function createDice(seed: number): Dice {
  const stream = nodeCrypto.aes256Ctr(nodeCrypto.sha256(Uint8Array.of(seed, seed >>> 8, seed >>> 16, seed >>> 24)));
  const bytes = (length: number): Uint8Array => {
    const target = new Uint8Array(length);
    stream.read(target);
    return target;
  };
  return {
    bytes,
    below(bound) {
      const [a = 0, b = 0, c = 0] = bytes(3);
      return (a + 256 * (b + 256 * c)) % bound;
    },
  };
}

/** A raw TCP connection; `ended` resolves with everything that came back once the other side has closed it. */
export function dialRaw(port: number): { readonly socket: Socket; readonly ended: Promise<Buffer> } {
  const socket = connect(port, '127.0.0.1');
  const parts: Buffer[] = [];
  const ended = new Promise<Buffer>((resolve) => {
    socket.on('data', (part) => parts.push(part));
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(Buffer.concat(parts)));
  });
  return { socket, ended };
}

/** The HTTP request of a WebSocket. */
export const UPGRADE =
  'GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n';

/** One WebSocket frame with full control over every field. */
export function rawFrame(
  payload: Uint8Array,
  fields: { opcode?: number; fin?: boolean; rsv?: number; masked?: boolean; length?: number } = {},
): Uint8Array {
  const { opcode = 2, fin = true, rsv = 0, masked = true, length = payload.length } = fields;
  const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode];
  const mask = masked ? 0x80 : 0;
  if (length < 126) head.push(mask | length);
  else if (length < 65_536) head.push(mask | 126, length >> 8, length & 255);
  else
    head.push(
      mask | 127,
      0,
      0,
      0,
      Math.floor(length / 2 ** 32),
      (length >>> 24) & 255,
      (length >>> 16) & 255,
      (length >>> 8) & 255,
      length & 255,
    );
  // An all-zero mask leaves the payload as it is.
  return Uint8Array.from([...head, ...(masked ? [0, 0, 0, 0] : []), ...payload]);
}

export interface HostileSocket {
  readonly socket: WebSocket;
  /** Close code that the other side gave, 1006 if it cut the connection. */
  readonly closed: Promise<number>;
}

/** A WebSocket that says no hello by itself. */
export async function dialSilent(url: string): Promise<HostileSocket> {
  const socket = new WebSocket(url, { perMessageDeflate: false });
  const closed = new Promise<number>((resolve) => socket.on('close', (code) => resolve(code)));
  await new Promise<void>((resolve) => {
    socket.on('error', () => resolve());
    socket.on('open', () => resolve());
  });
  return { socket, closed };
}

/** An authenticated participant that then does what it likes. */
export async function dialInsider(url: string, identity: Identity): Promise<HostileSocket> {
  const hostile = await dialSilent(url);
  const { socket } = hostile;
  const hello = createHello(identity.id, new Uint8Array(32).fill(5), 1_000_000);
  const next = (): Promise<Uint8Array> =>
    new Promise((resolve) => socket.once('message', (data: Uint8Array) => resolve(data)));
  socket.send(encodeHello(hello));
  const challenge = openChallenge(nodeCrypto, COORDINATOR.publicKey, hello, await next());
  const digest = helloDigest(nodeCrypto, 'client', COORDINATOR.publicKey, hello, challenge);
  socket.send(encodeProof(nodeCrypto.ed25519Sign(digest, identity.secretSeed)));
  await next();
  return hostile;
}

/** Close codes of the registry and those that the WebSocket layer gives by itself (RFC 6455 section 7.4). */
const KNOWN_CODES = new Set<number>([
  1000,
  1002,
  1005,
  1006,
  1008,
  ...Object.values(ERROR_CODES).map(({ closeCode }) => closeCode ?? 1011),
]);

/** Random and mutated bytes at every stage of a connection; every one of them has to end with a known code. */
export async function fuzzTransport(test: TestServer, insider: Identity, seed: number, rounds: number): Promise<void> {
  const dice = createDice(seed);
  for (let round = 0; round < rounds; round++) {
    const raw = dialRaw(test.server.port);
    if (dice.below(2) === 0) raw.socket.write(UPGRADE);
    for (let k = dice.below(3); k > 0; k--) {
      const payload = dice.bytes(dice.below(300));
      const fields = {
        opcode: dice.below(16),
        fin: dice.below(2) === 0,
        rsv: dice.below(8),
        masked: dice.below(4) > 0,
        length: dice.below(2) === 0 ? payload.length : dice.below(70_000),
      };
      raw.socket.write(rawFrame(payload, fields));
    }
    raw.socket.end(dice.bytes(1 + dice.below(6_000)));
    const before = await dialSilent(test.url);
    const mutated = encodeHello(createHello(insider.id, dice.bytes(32), 1_000_000));
    for (let k = dice.below(4); k >= 0; k--) mutated[dice.below(mutated.length)] = dice.below(256);
    before.socket.send(dice.below(2) === 0 ? mutated : dice.bytes(dice.below(4_000)));
    const after = await dialInsider(test.url, insider);
    const [fragment = new Uint8Array(0)] = splitMessage(dice.bytes(dice.below(200_000)), 65_536);
    if (dice.below(2) === 0) fragment[dice.below(5)] = dice.below(256);
    after.socket.send(fragment);
    for (let k = dice.below(3); k >= 0; k--) after.socket.send(dice.bytes(dice.below(70_000)));
    before.socket.close();
    after.socket.close();
    for (const code of [await before.closed, await after.closed]) {
      if (!KNOWN_CODES.has(code))
        throw new Error(`round ${round} of seed ${seed} ended with the unknown close code ${code}`);
    }
    await raw.ended;
  }
}
