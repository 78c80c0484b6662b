import { connect as connectTcp, createServer, type Server, type Socket } from 'node:net';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import type { WebSocket } from 'ws';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { decodeAcknowledgement, encodeAcknowledgement } from '../platform/transport/framing.ts';
import { createHello, encodeHello, encodeProof, helloDigest, openChallenge } from '../platform/transport/hello.ts';
import { createLink, isResumable, NO_TOKEN } from '../platform/transport/link.ts';
import { fromHex, toHex, u32le } from '../protocol/bytes.ts';
import { codeOf } from './support/code-of.ts';
import { dialInsider, dialSilent } from './support/hostile.ts';
import { COORDINATOR, createIdentity, type Identity, startTestClient, startTestServer } from './support/transport.ts';

const alice = createIdentity(1);
const mallory = createIdentity(2);

/** A TCP relay whose connections a test can cut. */
interface Relay {
  readonly url: string;
  /** Cuts every open connection now. */
  cut(): void;
  readonly connections: number;
  close(): Promise<void>;
}

/** `budgets`: bytes of both directions after which the first connections are cut, one by one. */
async function startRelay(port: number, budgets: readonly number[] = []): Promise<Relay> {
  const pairs = new Set<[Socket, Socket]>();
  let connections = 0;
  const server: Server = createServer((near) => {
    let budget = budgets[connections] ?? Number.POSITIVE_INFINITY;
    connections += 1;
    const far = connectTcp(port, '127.0.0.1');
    const pair: [Socket, Socket] = [near, far];
    pairs.add(pair);
    const end = (): void => {
      pairs.delete(pair);
      near.destroy();
      far.destroy();
    };
    for (const [from, to] of [pair, [far, near]] as const) {
      from.on('data', (chunk: Uint8Array) => {
        if (chunk.length >= budget) {
          end();
          return;
        }
        budget -= chunk.length;
        to.write(chunk);
      });
      from.on('error', end).on('close', end);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `ws://127.0.0.1:${(server.address() as { port: number }).port}`,
    cut: () => {
      for (const [near, far] of [...pairs]) {
        near.destroy();
        far.destroy();
      }
    },
    get connections() {
      return connections;
    },
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function serve(
  members: readonly Identity[],
  options: Parameters<typeof startTestServer>[1] = {},
): Promise<Awaited<ReturnType<typeof startTestServer>>> {
  const test = await startTestServer(members, options);
  cleanups.push(() => test.server.close());
  return test;
}

/** A message that says its number, of a length that differs. */
function numbered(i: number, length: number): Uint8Array {
  const message = new Uint8Array(4 + length);
  message.set(u32le(i));
  return message;
}
const numberOf = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);

describe('a link', () => {
  const make = (maxBytes = 1_000, total = 10_000): ReturnType<typeof createLink> =>
    createLink(new Uint8Array(32).fill(7), maxBytes, { heldBytes: 0, maxBytes: total });

  it('keeps what is not acknowledged, in order, whatever the order of events', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.constant('send'), fc.nat({ max: 20 })), { maxLength: 60 }), (events) => {
        const budget = { heldBytes: 0, maxBytes: 10_000 };
        const link = createLink(NO_TOKEN, 10_000, budget);
        let sent = 0;
        let acknowledged = 0;
        for (const event of events) {
          if (event === 'send') {
            link.remember(numbered(sent, 3));
            sent += 1;
          } else {
            const count = event as number;
            const isFine = count >= acknowledged && count <= sent;
            expect(codeOf(() => link.acknowledge(count))).toBe(isFine ? null : 'PROTO_UNEXPECTED');
            if (isFine) acknowledged = count;
          }
          const kept = link.unacknowledged().map(numberOf);
          expect(kept).toEqual(Array.from({ length: sent - acknowledged }, (_, i) => acknowledged + i));
          expect(budget.heldBytes).toBe(7 * kept.length);
        }
      }),
      { numRuns: 200, seed: 11 },
    );
  });

  it('cannot be resumed once it had to let go, by bytes of its own, of all, or by number', () => {
    const own = make(10);
    own.remember(new Uint8Array(11));
    expect(own.canReplayFrom(0)).toBe(false);
    const budget = { heldBytes: 95, maxBytes: 100 };
    const shared = createLink(NO_TOKEN, 1_000, budget);
    shared.remember(new Uint8Array(6));
    expect([shared.canReplayFrom(0), budget.heldBytes]).toEqual([false, 95]);
    const many = make();
    for (let i = 0; i < 4_097; i++) many.remember(new Uint8Array(0));
    expect(many.canReplayFrom(0)).toBe(false);
    // It goes on counting, so that late acknowledgements are still judged.
    expect(codeOf(() => many.acknowledge(4_098))).toBe('PROTO_UNEXPECTED');
  });

  it('is resumed by its token and by counts that it knows', () => {
    const link = make();
    link.remember(new Uint8Array(1));
    link.remember(new Uint8Array(1));
    link.acknowledge(1);
    expect([0, 1, 2, 3].map((count) => isResumable(link, link.token, count))).toEqual([false, true, true, false]);
    expect(isResumable(link, NO_TOKEN, 1)).toBe(false);
    expect(isResumable(undefined, link.token, 1)).toBe(false);
  });

  it('has acknowledgements of one form', () => {
    expect(decodeAcknowledgement(encodeAcknowledgement(70_000))).toBe(70_000);
    expect(decodeAcknowledgement(Uint8Array.of(0, 1))).toBeNull();
    expect(codeOf(() => decodeAcknowledgement(Uint8Array.of(3, 1, 0, 0)))).toBe('CODEC_TRUNCATED');
    expect(codeOf(() => decodeAcknowledgement(Uint8Array.of(3, 1, 0, 0, 0, 0)))).toBe('CODEC_TRAILING');
  });
});

describe('a connection that breaks', () => {
  it('hands out every message once and in order, both ways, wherever it is cut', async () => {
    const test = await serve([alice]);
    // In the middle of the hello, of small messages, of acknowledgements and of large messages.
    const budgets = Array.from({ length: 24 }, (_, k) => (k % 8 === 5 ? 310_000 : 900 + ((k * 977) % 2_900)));
    const relay = await startRelay(test.server.port, budgets);
    cleanups.push(() => relay.close());
    const resumed: boolean[] = [];
    const { client, messages, opened } = startTestClient(relay.url, alice, {
      onOpen: (isResumed) => {
        resumed.push(isResumed);
        opened.put(true);
      },
    });
    cleanups.push(() => client.close());
    await opened.next();
    const count = 120;
    const lengthOf = (i: number): number => (i % 40 === 30 ? 300_000 : 40 * (i % 7));
    const up: number[] = [];
    const down: number[] = [];
    for (let i = 0; i < count; i++) {
      await client.send(numbered(i, lengthOf(i)));
      await test.server.send(toHex(alice.id), numbered(i, lengthOf(count - i)));
      // Three under way at a time, so that a cut finds some handed out, some not, and some not even sent.
      if (i % 3 !== 2) continue;
      for (let k = 0; k < 3; k++) up.push(numberOf((await test.messages.next()).bytes));
      for (let k = 0; k < 3; k++) down.push(numberOf(await messages.next()));
    }
    const all = Array.from({ length: count }, (_, i) => i);
    expect(up).toEqual(all);
    expect(down).toEqual(all);
    expect([test.messages.size, messages.size]).toEqual([0, 0]);
    expect(relay.connections).toBeGreaterThan(8);
    expect(resumed[0]).toBe(false);
    expect(resumed.slice(1).every(Boolean)).toBe(true);
    expect(test.errors).toEqual([]);
  });

  it('takes messages for a peer that is away, and delivers them when it is back', async () => {
    const test = await serve([alice]);
    const relay = await startRelay(test.server.port);
    cleanups.push(() => relay.close());
    const { client, messages, opened } = startTestClient(relay.url, alice);
    cleanups.push(() => client.close());
    await opened.next();
    await test.opened.next();
    relay.cut();
    await test.closed.next();
    expect(await test.server.send(toHex(alice.id), numbered(5, 10))).toBe(true);
    expect(numberOf(await messages.next())).toBe(5);
  });

  it('starts anew when the coordinator has forgotten it', async () => {
    const test = await serve([alice], { limits: { resumeMs: 1 } });
    const relay = await startRelay(test.server.port);
    cleanups.push(() => relay.close());
    const resumed: boolean[] = [];
    const { client, opened, closed } = startTestClient(relay.url, alice, {
      backoff: { initialMs: 400, maxMs: 400 },
      onOpen: (isResumed) => {
        resumed.push(isResumed);
        opened.put(true);
      },
    });
    cleanups.push(() => client.close());
    await opened.next();
    relay.cut();
    await closed.next();
    // The next attempt may come before the link has ended: cut until one does not resume.
    for (await opened.next(); resumed.at(-1) === true; await opened.next()) relay.cut();
    await client.send(numbered(9, 0));
    expect(numberOf((await test.messages.next()).bytes)).toBe(9);
    expect(await test.server.send('00'.repeat(32), numbered(1, 0))).toBe(false);
  });
});

/** A hello that names a link; resolves with the challenge. */
async function ask(
  url: string,
  identity: Identity,
  link: { token: Uint8Array; received: number },
): Promise<{ socket: WebSocket; challenge: ReturnType<typeof openChallenge>; prove: () => void }> {
  const { socket } = await dialSilent(url);
  const hello = createHello(identity.id, new Uint8Array(32).fill(6), 1_000_000, link);
  const answer = new Promise<Uint8Array>((resolve) => socket.once('message', (data: Uint8Array) => resolve(data)));
  socket.send(encodeHello(hello));
  const challenge = openChallenge(nodeCrypto, COORDINATOR.publicKey, hello, await answer);
  const digest = helloDigest(nodeCrypto, 'client', COORDINATOR.publicKey, hello, challenge);
  return {
    socket,
    challenge,
    prove: () => socket.send(encodeProof(nodeCrypto.ed25519Sign(digest, identity.secretSeed))),
  };
}

describe('a stolen or invented link', () => {
  it('is worth nothing to another member, whatever it says it received', async () => {
    const test = await serve([alice, mallory]);
    const first = await ask(test.url, alice, { token: NO_TOKEN, received: 0 });
    first.prove();
    await test.opened.next();
    const { token } = first.challenge;
    expect(first.challenge.resumed).toBe(0);
    // The token of another member's link starts a link of its own.
    const theft = await ask(test.url, mallory, { token, received: 0 });
    expect(theft.challenge.resumed).toBe(0);
    expect(toHex(theft.challenge.token)).not.toBe(toHex(token));
    // The right member with counts that never were starts anew, too.
    for (const received of [1, 0xffff_ffff]) {
      const wrong = await ask(test.url, alice, { token, received });
      expect(wrong.challenge.resumed).toBe(0);
      wrong.socket.terminate();
    }
    // Without the proof of the node's key nothing is resumed and nobody is pushed out.
    const copied = await ask(test.url, alice, { token, received: 0 });
    expect(copied.challenge.resumed).toBe(1);
    copied.socket.send(encodeProof(nodeCrypto.ed25519Sign(fromHex('00'.repeat(32)), mallory.secretSeed)));
    const code = await new Promise<number>((resolve) => copied.socket.once('close', resolve));
    expect(code).toBe(4401);
    expect(test.server.connected()).toHaveLength(1);
    theft.socket.terminate();
    first.socket.terminate();
  });

  it('is ended by acknowledgements of messages that were never sent, and the server goes on', async () => {
    const test = await serve([alice, mallory]);
    for (const frame of [encodeAcknowledgement(1), Uint8Array.of(3), Uint8Array.of(3, 0, 0, 0, 0, 0)]) {
      const { socket } = await dialInsider(test.url, mallory);
      const closed = new Promise<number>((resolve) => socket.once('close', resolve));
      socket.send(frame);
      expect([4400, 1007, 1009]).toContain(await closed);
    }
    const { client } = startTestClient(test.url, alice);
    cleanups.push(() => client.close());
    await client.send(numbered(3, 0));
    expect(numberOf((await test.messages.next()).bytes)).toBe(3);
    expect(test.errors).toEqual([]);
  });
});
