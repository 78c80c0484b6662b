import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WebSocketServer } from 'ws';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { splitMessage } from '../platform/transport/framing.ts';
import {
  createHello,
  decodeHello,
  encodeChallenge,
  encodeHello,
  encodeProof,
  encodeWelcome,
  helloDigest,
  openChallenge,
} from '../platform/transport/hello.ts';
import { toHex } from '../protocol/bytes.ts';
import { encodeFrame } from '../protocol/frame.ts';
import {
  dialInsider,
  dialRaw,
  dialSilent,
  fuzzTransport,
  type HostileSocket,
  rawFrame,
  UPGRADE,
} from './support/hostile.ts';
import {
  COORDINATOR,
  createIdentity,
  servesHonestClient,
  startTestClient,
  startTestServer,
  type TestServer,
} from './support/transport.ts';

const honest = createIdentity(1);
const insider = createIdentity(2);
const stranger = createIdentity(66);
const NOTHING = new Uint8Array(0);

let test: TestServer;
beforeEach(async () => {
  const limits = {
    helloMs: 300,
    fragmentBytes: 65_536,
    maxMessageBytes: 1_000_000,
    stagingBytes: 1_500_000,
    messageMs: 300,
    maxPending: 50,
  };
  test = await startTestServer([honest, insider], { limits });
});
afterEach(async () => {
  // Whatever was tried, an honest participant is served afterwards and none of our own handlers failed.
  expect(await servesHonestClient(test, honest)).toBe(true);
  expect(test.errors).toEqual([]);
  await test.server.close();
});

async function closeCodeAfter(dial: Promise<HostileSocket>, ...messages: (Uint8Array | string)[]): Promise<number> {
  const { socket, closed } = await dial;
  for (const message of messages) socket.send(message);
  return closed;
}

/** A challenge that begins a link. */
const NEW_LINK = { token: new Uint8Array(32).fill(1), resumed: 0 as const, received: 0 };

const validHello = (): Uint8Array => encodeHello(createHello(insider.id, new Uint8Array(32), 1_000_000));

describe('before the hello is authenticated', () => {
  it('answers every wrong first message with the code of its error', async () => {
    const header = { t: 'hello', ...createHello(insider.id, new Uint8Array(32), 1_000_000) };
    const variant = (change: Record<string, unknown>): Uint8Array => encodeFrame({ ...header, ...change }, NOTHING);
    // {a: [[[...1...]]]} as MessagePack bytes.
    const deep = Uint8Array.of(
      16,
      0,
      0,
      0,
      0x81,
      0xa1,
      0x61,
      ...new Uint8Array(12).fill(0x91),
      1,
      ...new Uint8Array(12),
    );
    const cases: [string, Uint8Array | string, number][] = [
      ['text', 'hello', 1007],
      ['nothing', NOTHING, 1007],
      ['one byte', Uint8Array.of(1), 1007],
      ['a header longer than the frame', Uint8Array.of(255, 15, 0, 0, 0x80), 1007],
      ['an announced length of 4 GiB', Uint8Array.of(255, 255, 255, 255), 1009],
      ['a truncated hello', validHello().subarray(0, 60), 1007],
      ['bytes behind the hello', Uint8Array.from([...validHello(), 0]), 1009],
      ['a payload', encodeFrame(header, Uint8Array.of(1)), 1009],
      ['deep nesting', deep, 1009],
      ['another type', variant({ t: 'proof' }), 4400],
      ['an unknown key', variant({ extra: 1 }), 1007],
      ['a short id', variant({ id: new Uint8Array(31) }), 1007],
      ['an id of text', variant({ id: 'x'.repeat(32) }), 1007],
      ['a fraction as version', variant({ protoMin: 1.5 }), 1007],
      ['features that are no list', variant({ features: 'strict' }), 1007],
      ['features without the safety of this version', variant({ features: ['fragments'] }), 4400],
      ['a version of the future only', variant({ protoMin: 2, protoMax: 3 }), 4400],
      ['an empty range of versions', variant({ protoMin: 1, protoMax: 0 }), 1007],
      ['an unknown node', encodeHello(createHello(stranger.id, new Uint8Array(32), 1_000_000)), 4401],
      ['5 KiB', new Uint8Array(5_000), 1009],
    ];
    for (const [name, message, code] of cases)
      expect([name, await closeCodeAfter(dialSilent(test.url), message)]).toEqual([name, code]);
    expect(test.opened.size).toBe(0);
  });

  it('refuses a proof that is wrong, comes from another session, or comes twice', async () => {
    const hello = createHello(insider.id, new Uint8Array(32), 1_000_000);
    const { socket, closed } = await dialSilent(test.url);
    socket.send(encodeHello(hello));
    const challengeBytes = await new Promise<Uint8Array>((resolve) =>
      socket.once('message', (data: Uint8Array) => resolve(data)),
    );
    const challenge = openChallenge(nodeCrypto, COORDINATOR.publicKey, hello, challengeBytes);
    const proof = encodeProof(
      nodeCrypto.ed25519Sign(
        helloDigest(nodeCrypto, 'client', COORDINATOR.publicKey, hello, challenge),
        insider.secretSeed,
      ),
    );
    const opened = test.opened.next();
    socket.send(proof);
    expect((await opened).id).toEqual(insider.id);
    // The same bytes on a new connection meet another nonce.
    expect(await closeCodeAfter(dialSilent(test.url), encodeHello(hello), proof)).toBe(4401);
    // The signature of the coordinator is not one of the node, whoever sends it back.
    const asServer = nodeCrypto.ed25519Sign(
      helloDigest(nodeCrypto, 'server', COORDINATOR.publicKey, hello, challenge),
      insider.secretSeed,
    );
    expect(await closeCodeAfter(dialSilent(test.url), encodeHello(hello), encodeProof(asServer))).toBe(4401);
    expect(await closeCodeAfter(dialSilent(test.url), validHello(), validHello())).toBe(4400);
    // After the welcome a hello is only an unknown fragment.
    socket.send(proof);
    expect([1007, 1009]).toContain(await closed);
  });

  it('gives nobody more time than the deadline: silence, half a request, half a frame, no hello', async () => {
    const silent = dialRaw(test.server.port);
    const half = dialRaw(test.server.port);
    half.socket.write(UPGRADE.slice(0, 40));
    const frame = dialRaw(test.server.port);
    frame.socket.write(UPGRADE);
    frame.socket.write(rawFrame(new Uint8Array(100)).subarray(0, 50));
    const upgraded = await dialSilent(test.url);
    expect(await upgraded.closed).toBe(4408);
    await frame.ended;
    await half.ended;
    await silent.ended;
  });

  it('counts bytes on the wire, so that pings and fragments do not go round the limit', async () => {
    const pings = dialRaw(test.server.port);
    pings.socket.write(UPGRADE);
    for (let i = 0; i < 60; i++) pings.socket.write(rawFrame(new Uint8Array(120), { opcode: 9 }));
    const fragments = dialRaw(test.server.port);
    fragments.socket.write(UPGRADE);
    for (let i = 0; i < 60; i++)
      fragments.socket.write(rawFrame(new Uint8Array(120), { opcode: i === 0 ? 2 : 0, fin: false }));
    const large = dialRaw(test.server.port);
    large.socket.write(UPGRADE);
    large.socket.write(rawFrame(new Uint8Array(30_000), { length: 60_000 }));
    await Promise.all([pings.ended, fragments.ended, large.ended]);
    expect(test.opened.size).toBe(0);
  });

  it('survives violations of the WebSocket framing', async () => {
    const frames = [
      rawFrame(validHello(), { masked: false }),
      rawFrame(validHello(), { rsv: 4 }),
      rawFrame(validHello(), { opcode: 3 }),
      rawFrame(validHello(), { opcode: 0 }),
      rawFrame(new Uint8Array(126), { opcode: 9 }),
      rawFrame(NOTHING, { length: 2 ** 52 }),
      rawFrame(Uint8Array.of(0xff, 0xff), { opcode: 1 }),
      rawFrame(Uint8Array.of(3), { opcode: 8 }),
      rawFrame(Uint8Array.of(0xff, 0xff), { opcode: 8 }),
    ];
    await Promise.all(
      frames.map((frame) => {
        const { socket, ended } = dialRaw(test.server.port);
        socket.write(UPGRADE);
        socket.write(frame);
        return ended;
      }),
    );
  });

  it('serves an honest node while hundreds of connections do nothing', async () => {
    const idle = await Promise.all(Array.from({ length: 200 }, () => dialSilent(test.url)));
    const raw = Array.from({ length: 200 }, () => dialRaw(test.server.port));
    expect(await servesHonestClient(test, honest)).toBe(true);
    for (const { socket } of idle) socket.terminate();
    for (const { socket } of raw) socket.destroy();
    await Promise.all(raw.map(({ ended }) => ended));
  });
});

describe('too many connections', () => {
  it('make the oldest that has said nothing give way, at once and not at its deadline', async () => {
    const crowded = await startTestServer([honest], { limits: { helloMs: 600_000, maxPending: 5 } });
    const upgraded: HostileSocket[] = [];
    for (let i = 0; i < 8; i++) upgraded.push(await dialSilent(crowded.url));
    expect(await Promise.all(upgraded.slice(0, 3).map(({ closed }) => closed))).toEqual([4408, 4408, 4408]);
    const raw = Array.from({ length: 8 }, () => dialRaw(crowded.server.port));
    await Promise.race(raw.map(({ ended }) => ended));
    expect(await servesHonestClient(crowded, honest)).toBe(true);
    for (const { socket } of upgraded) socket.terminate();
    for (const { socket } of raw) socket.destroy();
    await crowded.server.close();
  });
});

describe('a false coordinator', () => {
  it('gets neither a proof nor a message, even if it welcomes everybody', async () => {
    const impostor = createIdentity(67);
    const received: Uint8Array[] = [];
    const sockets = new WebSocketServer({ host: '127.0.0.1', port: 0 });
    sockets.on('connection', (socket) => {
      socket.on('message', (data: Uint8Array) => {
        received.push(data);
        const hello = decodeHello(data);
        const challenge = {
          proto: 1,
          features: hello.features,
          nonce: new Uint8Array(32),
          maxMessageBytes: 1_000_000,
          heartbeatMs: 1_000,
          ...NEW_LINK,
        };
        const digest = helloDigest(nodeCrypto, 'server', COORDINATOR.publicKey, hello, challenge);
        socket.send(encodeChallenge(challenge, nodeCrypto.ed25519Sign(digest, impostor.secretSeed)));
        socket.send(encodeWelcome());
      });
    });
    await new Promise<void>((resolve) => sockets.once('listening', resolve));
    const { port } = sockets.address() as { port: number };
    const node = startTestClient(`ws://127.0.0.1:${port}`, honest);
    await expect(node.client.send(Uint8Array.of(1))).rejects.toMatchObject({ code: 'AUTH_SIGNATURE' });
    expect((await node.closed.next()).error?.message).toContain('pinned coordinator key');
    expect([node.opened.size, received.length]).toEqual([0, 1]);
    await node.client.close();
    sockets.close();
  });

  it('cannot pass the signature of one role, nonce or offer off as another', () => {
    const hello = createHello(insider.id, new Uint8Array(32), 1_000_000);
    const challenge = {
      proto: 1,
      features: hello.features,
      nonce: new Uint8Array(32),
      maxMessageBytes: 1_000_000,
      heartbeatMs: 1_000,
      ...NEW_LINK,
    };
    const key = COORDINATOR.publicKey;
    const digests = [
      helloDigest(nodeCrypto, 'server', key, hello, challenge),
      helloDigest(nodeCrypto, 'client', key, hello, challenge),
      helloDigest(nodeCrypto, 'client', insider.publicKey, hello, challenge),
      ...[
        { id: stranger.id },
        { protoMin: 2 },
        { protoMax: 2 },
        { features: ['strict'] },
        { nonce: insider.id },
        { maxMessageBytes: 1 },
        { token: insider.id },
        { received: 1 },
      ].map((change) => helloDigest(nodeCrypto, 'client', key, { ...hello, ...change }, challenge)),
      ...[
        { proto: 2 },
        { features: ['strict'] },
        { nonce: insider.id },
        { maxMessageBytes: 1 },
        { heartbeatMs: 1 },
        { token: insider.id },
        { resumed: 1 as const },
        { received: 1 },
      ].map((change) => helloDigest(nodeCrypto, 'client', key, hello, { ...challenge, ...change })),
    ];
    expect(new Set(digests.map(toHex)).size).toBe(digests.length);
  });
});

describe('after the hello', () => {
  it('closes with a known code, whatever an insider sends', async () => {
    const whole = (bytes: number): Uint8Array => Uint8Array.of(0, ...new Uint8Array(bytes));
    const first = (total: number[], carried: number): Uint8Array =>
      Uint8Array.of(1, ...total, ...new Uint8Array(carried));
    const cases: [string, (Uint8Array | string)[], number][] = [
      ['text', ['{"a":1}'], 1007],
      ['an unknown kind', [Uint8Array.of(7)], 1007],
      ['an empty frame', [NOTHING], 1007],
      ['a continuation of nothing', [Uint8Array.of(2, 1)], 1007],
      ['a message in a message', [first([0, 0, 2, 0], 65_536), whole(1)], 1007],
      ['a fragment that is too short', [first([0, 0, 2, 0], 10)], 1007],
      ['a fragment that is too long', [first([1, 0, 1, 0], 65_536), Uint8Array.of(2, 1, 2)], 1007],
      ['more than the negotiated size', [first([0, 0, 0, 1], 65_536)], 1009],
      ['a frame above the fragment size', [new Uint8Array(70_000)], 1009],
      ['a message that never ends', [first([0, 0, 8, 0], 65_536)], 4408],
    ];
    for (const [name, messages, code] of cases)
      expect([name, await closeCodeAfter(dialInsider(test.url, insider), ...messages)]).toEqual([name, code]);
    expect(test.messages.size).toBe(0);
  });

  it('gives the memory of incomplete messages back', async () => {
    // Each holds 0.9 MB of 1.5 MB: without the give-back the second one would be refused for the wrong reason.
    for (let i = 0; i < 4; i++) {
      const { socket, closed } = await dialInsider(test.url, insider);
      for (const fragment of [...splitMessage(new Uint8Array(950_000), 65_536)].slice(0, -1)) socket.send(fragment);
      socket.send(Uint8Array.of(2));
      expect(await closed).toBe(1007);
    }
    const { socket } = await dialInsider(test.url, insider);
    for (const fragment of splitMessage(new Uint8Array(950_000), 65_536)) socket.send(fragment);
    expect((await test.messages.next()).bytes.length).toBe(950_000);
    socket.terminate();
  });

  it('drops an insider that floods with tiny continuation frames', async () => {
    const { socket, closed } = await dialInsider(test.url, insider);
    for (let i = 0; i < 100; i++) socket.send(Uint8Array.of(0), { fin: false });
    // The WebSocket layer itself refuses them (policy violation, RFC 6455 section 7.4).
    expect(await closed).toBe(1008);
  });

  it('takes thousands of small messages from one peer while another is served', async () => {
    const { socket } = await dialInsider(test.url, insider);
    for (let i = 0; i < 5_000; i++) socket.send(Uint8Array.of(0, i, i >> 8));
    expect(await servesHonestClient(test, honest)).toBe(true);
    socket.terminate();
  });
});

describe('random bytes', () => {
  it('never bring the server down', async () => {
    await fuzzTransport(test, insider, 1, 40);
  });
});
