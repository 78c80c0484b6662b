import { nodeCrypto, nodeRandom } from '../../platform/node/crypto.ts';
import type { TransportLimits } from '../../platform/transport/limits.ts';
import {
  type ClientClose,
  connectSocketClient,
  type SocketClient,
  type SocketClientOptions,
} from '../../platform/transport/socket-client.ts';
import {
  type Peer,
  type SocketServer,
  type SocketServerOptions,
  startSocketServer,
} from '../../platform/transport/socket-server.ts';
import { toHex } from '../../protocol/bytes.ts';
import { nodeId } from '../../protocol/params.ts';

export interface Identity {
  readonly id: Uint8Array;
  readonly secretSeed: Uint8Array;
  readonly publicKey: Uint8Array;
}

export function createIdentity(seed: number): Identity {
  const secretSeed = new Uint8Array(32).fill(seed);
  const publicKey = nodeCrypto.ed25519PublicKey(secretSeed);
  return { id: nodeId(nodeCrypto, publicKey), secretSeed, publicKey };
}

/** Values that arrive and are waited for, in order. */
export interface Inbox<T> {
  put(value: T): void;
  next(): Promise<T>;
  readonly size: number;
}

export function createInbox<T>(): Inbox<T> {
  const values: T[] = [];
  const waiting: ((value: T) => void)[] = [];
  return {
    put(value) {
      const first = waiting.shift();
      if (first === undefined) values.push(value);
      else first(value);
    },
    next: () => new Promise((resolve) => (values.length > 0 ? resolve(values.shift() as T) : waiting.push(resolve))),
    get size() {
      return values.length;
    },
  };
}

export const COORDINATOR: Identity = createIdentity(200);

export interface TestServer {
  readonly server: SocketServer;
  readonly url: string;
  readonly opened: Inbox<Peer>;
  readonly closed: Inbox<{ readonly idHex: string; readonly code: number }>;
  readonly messages: Inbox<{ readonly idHex: string; readonly bytes: Uint8Array }>;
  readonly errors: unknown[];
}

/** A server on loopback that knows `members`; every event lands in an inbox. */
export async function startTestServer(
  members: readonly Identity[],
  options: Partial<SocketServerOptions> & { limits?: Partial<TransportLimits> } = {},
): Promise<TestServer> {
  const opened = createInbox<Peer>();
  const closed = createInbox<{ idHex: string; code: number }>();
  const messages = createInbox<{ idHex: string; bytes: Uint8Array }>();
  const errors: unknown[] = [];
  const keys = new Map(members.map(({ id, publicKey }) => [toHex(id), publicKey]));
  const server = await startSocketServer({
    host: '127.0.0.1',
    port: 0,
    identity: COORDINATOR,
    authenticate: (id) => keys.get(toHex(id)),
    crypto: nodeCrypto,
    random: nodeRandom,
    onOpen: (peer) => opened.put(peer),
    onMessage: ({ idHex }, bytes) => messages.put({ idHex, bytes }),
    onClose: ({ idHex }, code) => closed.put({ idHex, code }),
    onError: (error) => errors.push(error),
    ...options,
  });
  return { server, url: `ws://127.0.0.1:${server.port}`, opened, closed, messages, errors };
}

export interface TestClient {
  readonly client: SocketClient;
  readonly opened: Inbox<true>;
  readonly closed: Inbox<ClientClose>;
  readonly messages: Inbox<Uint8Array>;
}

export function startTestClient(
  url: string,
  identity: Identity,
  options: Partial<SocketClientOptions> = {},
): TestClient {
  const opened = createInbox<true>();
  const closed = createInbox<ClientClose>();
  const messages = createInbox<Uint8Array>();
  const client = connectSocketClient({
    url,
    identity,
    coordinatorKey: COORDINATOR.publicKey,
    crypto: nodeCrypto,
    random: nodeRandom,
    backoff: { initialMs: 5, maxMs: 20 },
    onMessage: (bytes) => messages.put(bytes),
    onOpen: () => opened.put(true),
    onClose: (reason) => closed.put(reason),
    ...options,
  });
  return { client, opened, closed, messages };
}

/** True if an honest participant can connect, send and be answered: what must hold after every attack. */
export async function servesHonestClient(test: TestServer, identity: Identity): Promise<boolean> {
  const honest = startTestClient(test.url, identity);
  const question = Uint8Array.of(1, 2, 3);
  await honest.client.send(question);
  let received = await test.messages.next();
  while (received.idHex !== toHex(identity.id)) received = await test.messages.next();
  const sent = await test.server.send(received.idHex, received.bytes);
  const answer = await honest.messages.next();
  await honest.client.close();
  return sent && toHex(answer) === toHex(question);
}
