import { EventEmitter } from 'node:events';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { WebSocket } from 'ws';
import { type ChannelEnd, openChannel } from '../platform/transport/channel.ts';
import { DEFAULT_TRANSPORT_LIMITS, type TransportLimits } from '../platform/transport/limits.ts';
import { createLink } from '../platform/transport/link.ts';
import { createInbox } from './support/transport.ts';

/** The part of a WebSocket that a channel uses, without a network: what it does is seen, what it answers is chosen. */
class FakeSocket extends EventEmitter {
  isPaused = false;
  pings = 0;
  terminated = false;
  closedWith: string | null = null;
  readonly acknowledged: number[] = [];
  readonly sent: { readonly bytes: Uint8Array; done(error?: Error): void }[] = [];
  pause(): void {
    this.isPaused = true;
  }
  resume(): void {
    this.isPaused = false;
  }
  ping(): void {
    this.pings += 1;
  }
  terminate(): void {
    this.terminated = true;
  }
  close(code: number, reason: string): void {
    this.closedWith = `${code} ${reason}`;
  }
  send(bytes: Uint8Array, _options: unknown, done: (error?: Error) => void): void {
    if (bytes[0] === 3) this.acknowledged.push(bytes[1] ?? 0);
    else this.sent.push({ bytes, done });
  }
  receive(payload: Uint8Array): void {
    this.emit('message', Uint8Array.of(0, ...payload), true);
  }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function start(
  change: Partial<TransportLimits> = {},
  takeOver: (message: Uint8Array) => void = () => undefined,
): {
  socket: FakeSocket;
  channel: ReturnType<typeof openChannel>;
  ends: ChannelEnd[];
  handled: number[];
  release: ReturnType<typeof createInbox<true>>;
} {
  const socket = new FakeSocket();
  const ends: ChannelEnd[] = [];
  const handled: number[] = [];
  const release = createInbox<true>();
  const channel = openChannel(socket as unknown as WebSocket, {
    limits: { ...DEFAULT_TRANSPORT_LIMITS, fragmentBytes: 100, maxWaiting: 4, queuedBytes: 1_000, ...change },
    isPinging: true,
    heartbeatMs: 1_000,
    peerMaxBytes: 10_000,
    staging: { heldBytes: 0, maxBytes: 10_000 },
    link: createLink(new Uint8Array(32), 10_000, { heldBytes: 0, maxBytes: 10_000 }),
    repeated: 0,
    async onMessage(message) {
      handled.push(message[0] ?? -1);
      takeOver(message);
      await release.next();
    },
    onEnd: (end) => ends.push(end),
    onError: () => undefined,
  });
  return { socket, channel, ends, handled, release };
}

afterEach(() => {
  vi.useRealTimers();
});

describe('channel', () => {
  it('stops reading while messages wait, by number and by bytes, and goes on afterwards', async () => {
    const { socket, handled, release } = start();
    for (let i = 0; i < 4; i++) socket.receive(Uint8Array.of(i));
    expect(socket.isPaused).toBe(false);
    socket.receive(Uint8Array.of(4));
    expect(socket.isPaused).toBe(true);
    for (let i = 0; i < 2; i++) release.put(true);
    await settled();
    expect([socket.isPaused, handled]).toEqual([false, [0, 1, 2]]);
    for (let i = 0; i < 3; i++) release.put(true);
    await settled();
    socket.receive(new Uint8Array(60));
    expect(socket.isPaused).toBe(false);
    socket.receive(new Uint8Array(60));
    expect(socket.isPaused).toBe(true);
    release.put(true);
    await settled();
    expect(socket.isPaused).toBe(false);
  });

  it('counts a message whose memory the handler has given away', async () => {
    const { socket, release } = start({}, ({ buffer }) => structuredClone(null, { transfer: [buffer as ArrayBuffer] }));
    for (let i = 0; i < 3; i++) {
      socket.receive(new Uint8Array(60));
      release.put(true);
      await settled();
    }
    socket.receive(new Uint8Array(60));
    expect(socket.isPaused).toBe(false);
  });

  it('acknowledges long messages when nothing waits, and short ones together after a while', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { socket, release } = start({ fragmentBytes: 50_000 });
    for (const value of [1, 2, 3]) socket.receive(Uint8Array.of(value));
    for (let i = 0; i < 3; i++) release.put(true);
    await settled();
    vi.advanceTimersByTime(249);
    expect(socket.acknowledged).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(socket.acknowledged).toEqual([3]);
    // Two messages of 40,000 bytes are more than may be owed.
    for (const value of [4, 5]) socket.receive(new Uint8Array(40_000).fill(value));
    release.put(true);
    await settled();
    expect(socket.acknowledged).toEqual([3]);
    release.put(true);
    await settled();
    expect(socket.acknowledged).toEqual([3, 5]);
    vi.runAllTimers();
    expect(socket.acknowledged).toEqual([3, 5]);
  });

  it('has one fragment on its way and sends messages in order', async () => {
    const { socket, channel } = start();
    const first = channel.send(new Uint8Array(150).fill(1));
    const second = channel.send(Uint8Array.of(2));
    for (const [length, kind] of [
      [105, 1],
      [51, 2],
      [2, 0],
    ] as const) {
      await settled();
      const { bytes, done } = socket.sent.at(-1) as (typeof socket.sent)[number];
      expect([bytes.length, bytes[0]]).toEqual([length, kind]);
      done();
    }
    await Promise.all([first, second]);
    expect(socket.sent).toHaveLength(3);
  });

  it('drops a peer that does not take what is sent, by bytes and by time', async () => {
    const full = start();
    const waiting = full.channel.send(new Uint8Array(900));
    await expect(full.channel.send(new Uint8Array(101))).rejects.toMatchObject({ code: 'PROTO_DEADLINE' });
    await expect(waiting).rejects.toMatchObject({ code: 'PROTO_DEADLINE' });
    expect([full.socket.closedWith, full.ends]).toEqual([
      '4408 PROTO_DEADLINE',
      [{ code: 4408, reason: 'PROTO_DEADLINE' }],
    ]);

    vi.useFakeTimers();
    const slow = start({ sendMs: 500 });
    const stuck = expect(slow.channel.send(Uint8Array.of(1))).rejects.toMatchObject({ code: 'PROTO_DEADLINE' });
    await vi.advanceTimersByTimeAsync(499);
    expect(slow.socket.closedWith).toBeNull();
    await vi.advanceTimersByTimeAsync(1);
    await stuck;
    expect(slow.socket.closedWith).toBe('4408 PROTO_DEADLINE');
    // A peer that does not answer the close either is cut.
    await vi.advanceTimersByTimeAsync(1_000);
    expect(slow.socket.terminated).toBe(true);
  });

  it('counts silent beats; pongs and messages are signs of life, a peer that is not read from is not blamed', () => {
    vi.useFakeTimers();
    const { socket, ends } = start();
    vi.advanceTimersByTime(3_000);
    expect([socket.pings, ends.length]).toEqual([3, 0]);
    socket.emit('pong');
    vi.advanceTimersByTime(3_000);
    socket.isPaused = true;
    vi.advanceTimersByTime(60_000);
    expect(ends).toHaveLength(0);
    socket.isPaused = false;
    vi.advanceTimersByTime(1_000);
    expect(ends).toEqual([{ code: 4408, reason: 'PROTO_DEADLINE' }]);
    vi.advanceTimersByTime(60_000);
    expect(socket.pings).toBe(6);
  });

  it('gives one message a deadline from its first to its last fragment', () => {
    vi.useFakeTimers();
    const { socket, ends } = start({ messageMs: 700 });
    const first = Uint8Array.of(1, 150, 0, 0, 0, ...new Uint8Array(100));
    socket.emit('message', first, true);
    vi.advanceTimersByTime(699);
    socket.emit('message', Uint8Array.of(2, ...new Uint8Array(50)), true);
    vi.advanceTimersByTime(1_000);
    expect(ends).toEqual([]);
    socket.emit('message', first, true);
    vi.advanceTimersByTime(700);
    expect(ends).toEqual([{ code: 4408, reason: 'PROTO_DEADLINE' }]);
  });

  it('ends once, hands out nothing afterwards and says so to senders', async () => {
    const { socket, channel, ends, handled } = start();
    socket.emit('message', 'text', false);
    socket.receive(Uint8Array.of(1));
    socket.emit('close', 1006, Buffer.from('late'));
    await settled();
    expect([ends, handled]).toEqual([[{ code: 1007, reason: 'CODEC_TYPE' }], []]);
    await expect(channel.send(Uint8Array.of(1))).rejects.toMatchObject({ code: 'PROTO_DEADLINE' });
  });
});
