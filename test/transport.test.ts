import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, connect as dial, type Socket } from 'node:net';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { isLoopback, requireSecureHost, requireSecureUrl } from '../platform/transport/address.ts';
import { createReassembler, type Staging, splitMessage } from '../platform/transport/framing.ts';
import type { SocketServer } from '../platform/transport/socket-server.ts';
import { toHex, utf8 } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import {
  COORDINATOR,
  createIdentity,
  createInbox,
  servesHonestClient,
  startTestClient,
  startTestServer,
} from './support/transport.ts';

const alice = createIdentity(1);
const bob = createIdentity(2);
const mallory = createIdentity(66);

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  await Promise.all(closers.splice(0).map((close) => close()));
});
const serve = async (...args: Parameters<typeof startTestServer>): ReturnType<typeof startTestServer> => {
  const test = await startTestServer(...args);
  closers.push(() => test.server.close());
  return test;
};
const connect = (...args: Parameters<typeof startTestClient>): ReturnType<typeof startTestClient> => {
  const test = startTestClient(...args);
  closers.push(() => test.client.close());
  return test;
};
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 31) >> 3);

function codeOf(action: () => unknown): string {
  try {
    action();
    return 'no error';
  } catch (error) {
    return isCoveyError(error) ? error.code : String(error);
  }
}

describe('framing', () => {
  const limits = { maxMessageBytes: 1_000, fragmentBytes: 16 };
  const newStaging = (maxBytes: number = 10_000): Staging => ({ heldBytes: 0, maxBytes });

  it('gives every message back whole, in memory of its own', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 6 }), (messages) => {
        const staging = newStaging();
        const reassembler = createReassembler(limits, staging);
        const received: Uint8Array[] = [];
        for (const message of messages) {
          for (const fragment of splitMessage(message, limits.fragmentBytes)) {
            const whole = reassembler.push(fragment);
            fragment.fill(0);
            if (whole !== null) received.push(whole);
          }
        }
        expect(received).toEqual(messages);
        expect(received.every((message) => message.byteOffset === 0)).toBe(true);
        expect([reassembler.isPartial(), staging.heldBytes]).toEqual([false, 0]);
      }),
    );
  });

  it('gives the memory of a long fragment back, unless something else lies in it', async () => {
    // Node 20 leaves buffers to the garbage collector in the first turn of the event loop.
    await new Promise((resolve) => setImmediate(resolve));
    const large = { maxMessageBytes: 100_000, fragmentBytes: 20_000 };
    const reassembler = createReassembler(large, newStaging(100_000));
    const message = Uint8Array.from({ length: 50_000 }, (_, i) => i % 251);
    const fragments = [...splitMessage(message, large.fragmentBytes)];
    const shared = new Uint8Array(30_000);
    shared.set(fragments[1] as Uint8Array, 9_000);
    fragments[1] = shared.subarray(9_000, 29_001);
    const received = fragments.map((fragment) => reassembler.push(fragment));
    expect(received[2]).toEqual(message);
    expect(fragments.map(({ buffer }) => buffer.byteLength)).toEqual([0, 30_000, 10_001]);
  });

  it('throws nothing but codec errors, whatever arrives, and holds no more than its window', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 24 }), { maxLength: 40 }), (fragments) => {
        const staging = newStaging(64);
        const reassembler = createReassembler(limits, staging);
        for (const fragment of fragments) {
          const code = codeOf(() => reassembler.push(fragment));
          expect(code === 'no error' || code.startsWith('CODEC_')).toBe(true);
          expect(staging.heldBytes).toBeLessThanOrEqual(64);
        }
        reassembler.discard();
        expect(staging.heldBytes).toBe(0);
      }),
    );
  });

  it('accepts one form of each message only', () => {
    const first = (total: number, carried: number): Uint8Array =>
      Uint8Array.of(1, total, 0, 0, 0, ...new Uint8Array(carried));
    const rest = (carried: number): Uint8Array => Uint8Array.of(2, ...new Uint8Array(carried));
    const push = (...fragments: Uint8Array[]): string =>
      codeOf(() => {
        const reassembler = createReassembler(limits, newStaging());
        for (const fragment of fragments) reassembler.push(fragment);
      });
    expect(push(first(20, 16), rest(4))).toBe('no error');
    expect(push(new Uint8Array(0))).toBe('CODEC_TYPE');
    expect(push(Uint8Array.of(3))).toBe('CODEC_TYPE');
    expect(push(rest(4))).toBe('CODEC_TYPE');
    expect(push(first(20, 16), Uint8Array.of(0, 1))).toBe('CODEC_TYPE');
    expect(push(first(20, 16), first(20, 16))).toBe('CODEC_TYPE');
    expect(push(first(16, 16))).toBe('CODEC_TYPE');
    expect(push(first(20, 15))).toBe('CODEC_TRUNCATED');
    expect(push(first(20, 17))).toBe('CODEC_TRAILING');
    expect(push(first(20, 16), rest(3))).toBe('CODEC_TRUNCATED');
    expect(push(first(20, 16), rest(5))).toBe('CODEC_TRAILING');
    expect(push(Uint8Array.of(1, 20))).toBe('CODEC_TRUNCATED');
    expect(push(Uint8Array.of(0, ...new Uint8Array(17)))).toBe('CODEC_LIMIT');
    expect(push(Uint8Array.of(1, 0xff, 0xff, 0xff, 0xff, ...new Uint8Array(16)))).toBe('CODEC_LIMIT');
  });

  it('bounds the incomplete messages of all connections together', () => {
    const staging = newStaging(40);
    const start = (): void => {
      createReassembler(limits, staging).push(Uint8Array.of(1, 100, 0, 0, 0, ...new Uint8Array(16)));
    };
    start();
    start();
    expect(codeOf(start)).toBe('CODEC_LIMIT');
    expect(staging.heldBytes).toBe(32);
  });
});

describe('addresses', () => {
  it('are plain text on this machine only', () => {
    expect(['localhost', '127.0.0.1', '127.8.9.1', '[::1]', '::1'].map(isLoopback)).toEqual(Array(5).fill(true));
    expect(
      ['0.0.0.0', '127.0.0.1.example.org', 'localhost.example.org', '::', '10.0.0.1', '1127.0.0.1'].map(isLoopback),
    ).toEqual(Array(6).fill(false));
    expect(codeOf(() => requireSecureUrl('ws://hospital.example', false))).toBe('USAGE_CONFIG');
    expect(codeOf(() => requireSecureUrl('http://127.0.0.1', true))).toBe('USAGE_CONFIG');
    expect(codeOf(() => requireSecureUrl('hospital', true))).toBe('USAGE_CONFIG');
    for (const url of ['wss://hospital.example', 'ws://127.0.0.1:1', 'ws://[::1]:1'])
      expect(codeOf(() => requireSecureUrl(url, false))).toBe('no error');
    expect(codeOf(() => requireSecureUrl('ws://hospital.example', true))).toBe('no error');
    expect(codeOf(() => requireSecureHost('0.0.0.0', false, false))).toBe('USAGE_CONFIG');
    expect(codeOf(() => requireSecureHost('0.0.0.0', true, false))).toBe('no error');
  });
});

describe('sockets', () => {
  it('carry messages of every size both ways, in order', async () => {
    const test = await serve([alice]);
    const { client, messages } = connect(test.url, alice);
    const sizes = [0, 1, 262_144, 262_145, 524_288, 3_000_001];
    for (const size of sizes) void client.send(pattern(size));
    const received: Uint8Array[] = [];
    for (const _ of sizes) received.push((await test.messages.next()).bytes);
    expect(received.map((bytes) => bytes.length)).toEqual(sizes);
    expect(Buffer.compare(received.at(-1) as Uint8Array, pattern(3_000_001))).toBe(0);
    const idHex = toHex(alice.id);
    expect(await Promise.all(sizes.map((size) => test.server.send(idHex, pattern(size))))).toEqual(
      sizes.map(() => true),
    );
    for (const size of sizes) expect((await messages.next()).length).toBe(size);
  });

  it('know who is connected and say so when nobody is', async () => {
    const test = await serve([alice, bob]);
    const first = connect(test.url, alice);
    expect((await test.opened.next()).idHex).toBe(toHex(alice.id));
    connect(test.url, bob);
    await test.opened.next();
    expect(test.server.connected().map(toHex).sort()).toEqual([toHex(alice.id), toHex(bob.id)].sort());
    await first.client.close();
    expect(await test.closed.next()).toEqual({ idHex: toHex(alice.id), code: 1000 });
    expect(test.server.connected().map(toHex)).toEqual([toHex(bob.id)]);
    expect(await test.server.send(toHex(alice.id), utf8('lost'))).toBe(false);
    await expect(first.client.send(utf8('late'))).rejects.toMatchObject({ code: 'USAGE_STATE' });
  });

  it('refuse unknown and revoked nodes, and proofs of another key', async () => {
    const test = await serve([alice]);
    const stranger = connect(test.url, mallory);
    const failed = stranger.client.send(utf8('hello'));
    await expect(failed).rejects.toMatchObject({ code: 'AUTH_UNKNOWN' });
    expect(await stranger.closed.next()).toMatchObject({ code: 4401, reason: 'AUTH_UNKNOWN', retryInMs: null });
    const thief = connect(test.url, { ...alice, secretSeed: mallory.secretSeed });
    await expect(thief.client.send(utf8('hello'))).rejects.toMatchObject({ code: 'AUTH_SIGNATURE' });
    expect(test.opened.size).toBe(0);
    expect(await servesHonestClient(test, alice)).toBe(true);
  });

  it('refuse a coordinator that is not the pinned one, before anything is sent to it', async () => {
    const test = await serve([alice], { identity: mallory });
    const { client, closed } = connect(test.url, alice);
    await expect(client.send(utf8('secret'))).rejects.toMatchObject({ code: 'AUTH_SIGNATURE' });
    expect(await closed.next()).toMatchObject({ retryInMs: null });
    expect(test.opened.size).toBe(0);
  });

  it('replace the old connection of a participant by its new one', async () => {
    const test = await serve([alice]);
    const old = connect(test.url, alice);
    await test.opened.next();
    const young = connect(test.url, alice);
    await test.opened.next();
    expect(await test.closed.next()).toEqual({ idHex: toHex(alice.id), code: 4409 });
    // The replaced one stays away: two nodes with one key would push each other out for ever.
    expect(await old.closed.next()).toMatchObject({ code: 4409, reason: 'AUTH_DUPLICATE', retryInMs: null });
    await young.client.send(utf8('still here'));
    expect((await test.messages.next()).bytes).toEqual(utf8('still here'));
    expect(test.server.connected()).toHaveLength(1);
  });

  it('come back after the coordinator was away, and wait as long as it asks', async () => {
    const first = await serve([alice]);
    const { client, closed, opened } = connect(first.url, alice);
    await opened.next();
    await first.server.close(30);
    const end = await closed.next();
    expect(end).toMatchObject({ code: 4420, reason: 'ROUND_TIMEOUT retryAfterMs=30' });
    expect(end.retryInMs).toBeGreaterThanOrEqual(30);
    const pending = client.send(utf8('kept until the coordinator is back'));
    const second = await serve([alice], { port: first.server.port });
    await pending;
    expect((await second.messages.next()).bytes).toEqual(utf8('kept until the coordinator is back'));
  });

  it('say what the system said of a connection that does not come about', async () => {
    const test = await serve([alice]);
    await test.server.close(0);
    expect(await connect(test.url, alice).closed.next()).toMatchObject({ error: null, cause: 'ECONNREFUSED' });
    const other = createHttpServer((_request, response) => response.writeHead(503).end()).listen(0, '127.0.0.1');
    await once(other, 'listening');
    const url = `ws://127.0.0.1:${(other.address() as AddressInfo).port}`;
    expect(await connect(url, alice).closed.next()).toMatchObject({ error: null, cause: 'HTTP 503' });
    other.close();
  });

  it('send a message again as a whole when the connection broke in its middle', async () => {
    const gate = createInbox<true>();
    const test = await serve([alice], {
      onMessage: async ({ idHex }, bytes) => {
        test.messages.put({ idHex, bytes });
        // While this message is being handled nothing more is read, so the large one behind it fills the pipe.
        if (bytes[0] === 1) await gate.next();
      },
    });
    const proxy = await startProxy(test.server);
    const { client, opened } = connect(proxy.url, alice);
    await client.send(new Uint8Array(300_000).fill(1));
    expect((await test.messages.next()).bytes.length).toBe(300_000);
    const sent = client.send(new Uint8Array(60_000_000).fill(7));
    await opened.next();
    proxy.cut();
    expect((await test.closed.next()).code).toBe(1006);
    gate.put(true);
    await sent;
    const { bytes } = await test.messages.next();
    expect([bytes.length, bytes[0], bytes.at(-1)]).toEqual([60_000_000, 7, 7]);
    expect(test.messages.size).toBe(0);
  });

  it('drop a peer that falls silent', async () => {
    const test = await serve([alice], { limits: { heartbeatMs: 10 } });
    const { client } = connect(test.url, alice);
    await client.send(utf8('here'));
    await test.messages.next();
    // The proxy stops forwarding, but keeps both ends open.
    const proxy = await startProxy(test.server);
    const silenced = connect(proxy.url, alice);
    await silenced.opened.next();
    expect(await test.closed.next()).toMatchObject({ code: 4409 });
    proxy.freeze();
    expect(await test.closed.next()).toEqual({ idHex: toHex(alice.id), code: 4408 });
    expect((await silenced.closed.next()).reason).toBe('PROTO_DEADLINE');
  });

  it('hand one message at a time to a slow handler and read no further', async () => {
    const release = createInbox<true>();
    let active = 0;
    let most = 0;
    const test = await serve([alice], {
      onMessage: async ({ idHex }, bytes) => {
        active += 1;
        most = Math.max(most, active);
        test.messages.put({ idHex, bytes });
        await release.next();
        active -= 1;
      },
    });
    const { client } = connect(test.url, alice);
    const sent = Array.from({ length: 40 }, (_, i) => client.send(Uint8Array.of(i)));
    const seen: number[] = [];
    for (let i = 0; i < 40; i++) {
      seen.push((await test.messages.next()).bytes[0] as number);
      release.put(true);
    }
    await Promise.all(sent);
    expect(seen).toEqual(Array.from({ length: 40 }, (_, i) => i));
    expect(most).toBe(1);
  });

  it('refuse to send more than the peer takes', async () => {
    const test = await serve([alice], { limits: { maxMessageBytes: 10_000 } });
    const { client, opened } = connect(test.url, alice, { limits: { maxMessageBytes: 5_000 } });
    await opened.next();
    await expect(client.send(new Uint8Array(10_001))).rejects.toMatchObject({ code: 'CODEC_LIMIT' });
    await expect(test.server.send(toHex(alice.id), new Uint8Array(5_001))).rejects.toMatchObject({
      code: 'CODEC_LIMIT',
    });
    await client.send(new Uint8Array(10_000));
    expect((await test.messages.next()).bytes.length).toBe(10_000);
  });

  it('close with the code of the error that a handler throws, and go on', async () => {
    let fault: unknown = new TypeError('a bug');
    const test = await serve([alice, bob], {
      onMessage: ({ idHex }, bytes) => {
        if (idHex === toHex(bob.id)) throw fault;
        test.messages.put({ idHex, bytes });
      },
    });
    const faulty = connect(test.url, bob, { backoff: { initialMs: 1, maxMs: 1 } });
    await faulty.client.send(utf8('x'));
    expect(await test.closed.next()).toEqual({ idHex: toHex(bob.id), code: 1011 });
    expect(test.errors).toEqual([fault]);
    // What is sent before the node has seen the end of its connection is lost; sessions send it again on onOpen.
    await faulty.closed.next();
    fault = 'not even an error';
    await faulty.client.send(utf8('x'));
    expect(await test.closed.next()).toEqual({ idHex: toHex(bob.id), code: 1011 });
    expect(await servesHonestClient(test, alice)).toBe(true);
  });

  it('speak TLS with a certificate that the node trusts, and with no other', async () => {
    const read = (name: string): string => readFileSync(new URL(`vectors/${name}`, import.meta.url), 'utf8');
    const cert = read('loopback-cert.pem');
    const test = await serve([alice], { tls: { cert, key: read('loopback-key.pem') } });
    const url = test.url.replace('ws:', 'wss:');
    const { client } = connect(url, alice, { ca: cert });
    await client.send(new Uint8Array(600_000));
    expect((await test.messages.next()).bytes.length).toBe(600_000);
    const distrustful = connect(url, alice);
    expect(await distrustful.closed.next()).toMatchObject({
      code: 1006,
      error: null,
      cause: 'DEPTH_ZERO_SELF_SIGNED_CERT',
    });
    expect(test.server.connected()).toHaveLength(1);
  });

  it('say in one line that a port is taken', async () => {
    const test = await serve([alice]);
    await expect(serve([alice], { port: test.server.port })).rejects.toThrow(
      `"port" expected a free one, got EADDRINUSE for 127.0.0.1:${test.server.port}`,
    );
    await expect(serve([alice], { host: '0.0.0.0' })).rejects.toMatchObject({ code: 'USAGE_CONFIG' });
    expect(COORDINATOR.publicKey).toHaveLength(32);
  });
});

/** A TCP proxy that can stop forwarding without closing anything, or cut what runs through it. */
async function startProxy(target: SocketServer): Promise<{ readonly url: string; freeze(): void; cut(): void }> {
  const pairs: [Socket, Socket][] = [];
  const proxy = createServer((incoming) => {
    const outgoing = dial(target.port, '127.0.0.1');
    pairs.push([incoming, outgoing]);
    incoming.on('error', () => outgoing.destroy()).pipe(outgoing);
    outgoing.on('error', () => incoming.destroy()).pipe(incoming);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const cut = (): void => {
    for (const socket of pairs.splice(0).flat()) socket.destroy();
  };
  closers.push(async () => {
    cut();
    proxy.close();
  });
  const { port } = proxy.address() as { port: number };
  return {
    url: `ws://127.0.0.1:${port}`,
    cut,
    freeze() {
      for (const socket of pairs.flat()) socket.unpipe().pause();
    },
  };
}
