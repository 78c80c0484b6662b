import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Packr } from 'msgpackr';
import { WebSocketServer } from 'ws';
import { nodeCrypto, nodeRandom } from '../platform/node/crypto.ts';
import { startSocketServer } from '../platform/transport/socket-server.ts';
import { toHex, utf8 } from '../protocol/bytes.ts';
import { decodeSessionMessage } from '../protocol/frame.ts';
import { LIMITS } from '../protocol/limits.ts';
import { applyMasks, foldWords, ringWordCount, wordsToBytes } from '../protocol/ring.ts';
import { type RunningSession, startSession } from '../server/coordinator/session.ts';
import { benchIdentities, benchParams, cpuMs, median } from './session.ts';

/*
 * One session over real WebSockets without training: CPU time of the coordinator's process, beside a bare ws and msgpackr
 * server that takes the same vectors and sends them back.
 */

const MEMBERS = 50;
const COORDINATES = 100_000;

interface Clients {
  /** Resolves when all of them are done. */
  run(): Promise<void>;
}

/** Starts the process of the members, which waits for `run`: what that costs is neither server's work. */
async function startClients(mode: string, url: string): Promise<Clients> {
  const clients = fork(fileURLToPath(new URL('./socket-clients.js', import.meta.url)), [
    mode,
    url,
    String(MEMBERS),
    String(COORDINATES),
  ]);
  const ended = once(clients, 'exit') as Promise<[number]>;
  await Promise.race([once(clients, 'message'), ended]);
  return {
    async run() {
      clients.send('run');
      const [code] = await ended;
      if (code !== 0) throw new Error(`the clients ended with ${code}`);
    },
  };
}

async function measureEcho(): Promise<number> {
  const packr = new Packr();
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false, maxPayload: 2 ** 28 });
  await once(server, 'listening');
  server.on('connection', (socket) => {
    socket.on('message', (data: Uint8Array) => {
      socket.send(packr.pack(packr.unpack(data)));
    });
  });
  const clients = await startClients('echo', `ws://127.0.0.1:${(server.address() as { port: number }).port}`);
  const before = cpuMs();
  await clients.run();
  const spent = cpuMs() - before;
  server.close();
  return spent;
}

async function measureSession(): Promise<number> {
  const { nodes, roster, coordinator } = benchIdentities(MEMBERS);
  const keys = new Map(nodes.map(({ id, publicKey }) => [toHex(id), publicKey]));
  const limit = { maxHeaderBytes: LIMITS.headerBytes, maxPayloadBytes: LIMITS.payloadBytes };
  let session: RunningSession | null = null;
  let connected = 0;
  let start: () => void = () => undefined;
  const everybody = new Promise<void>((resolve) => {
    start = resolve;
  });
  const server = await startSocketServer({
    host: '127.0.0.1',
    port: 0,
    identity: coordinator,
    authenticate: (id) => keys.get(toHex(id)),
    crypto: nodeCrypto,
    random: nodeRandom,
    onOpen: () => {
      connected += 1;
      if (connected === MEMBERS) start();
    },
    onMessage: ({ id }, bytes) => session?.receive(id, decodeSessionMessage(bytes, limit)),
    onClose: () => undefined,
  });
  const clients = await startClients('session', `ws://127.0.0.1:${server.port}`);
  const before = cpuMs();
  const ran = clients.run();
  await everybody;
  session = startSession(
    nodeCrypto,
    coordinator,
    roster,
    { params: benchParams(roster, COORDINATES, 3), attachment: utf8('models'), invited: nodes.map(({ id }) => id) },
    {
      send: async (id, frame) => {
        await server.send(toHex(id), frame);
      },
      persist: async () => undefined,
      charge: async () => undefined,
      keepUpload: async () => undefined,
      onPhase: () => undefined,
    },
  );
  const end = await session.end;
  await ran;
  const spent = cpuMs() - before;
  await server.close();
  if (end.type !== 'done') throw new Error(`the session was given up: ${end.outcome.reason}`);
  return spent;
}

/** Cryptography that the coordinator cannot leave out of a session of this size, without any of the rest. */
function mandatoryWork(): (readonly [string, number, () => unknown])[] {
  const secret = nodeRandom(32);
  const digest = nodeRandom(32);
  const publicKey = nodeCrypto.ed25519PublicKey(secret);
  const signature = nodeCrypto.ed25519Sign(digest, secret);
  const [leaf, vector] = [nodeRandom(109), new Uint32Array(ringWordCount(COORDINATES, 3))];
  const bytes = wordsToBytes(vector);
  const sum = vector.slice();
  const pairs = MEMBERS * MEMBERS;
  return [
    [
      'signatures verified: hello and five phases',
      6 * MEMBERS,
      () => nodeCrypto.ed25519Verify(signature, digest, publicKey),
    ],
    ['signatures made: challenges, deliveries', 2 * MEMBERS, () => nodeCrypto.ed25519Sign(digest, secret)],
    ['digests of uploads', MEMBERS, () => nodeCrypto.sha256(bytes)],
    ['short hashes: leaves, tree, ciphertexts, openings', 4 * pairs, () => nodeCrypto.sha256(leaf)],
    ['uploads folded', MEMBERS, () => foldWords(sum, vector, 3)],
    ['self masks taken off', MEMBERS, () => applyMasks(sum, 3, [{ seed: digest, sign: -1 }], nodeCrypto)],
  ];
}

/** Alternating, so that both have the machine in the same state; the first of each runs code that is not compiled yet. */
const ROUNDS = 7;
const echoMs: number[] = [];
const sessionMs: number[] = [];
for (let i = 0; i < ROUNDS; i++) {
  echoMs.push(await measureEcho());
  sessionMs.push(await measureSession());
}
const line = (name: string, of: (values: readonly number[]) => number): string => {
  const [echo, session] = [of(echoMs), of(sessionMs)];
  return `| ${name} | ${echo.toFixed(0)} ms | ${session.toFixed(0)} ms | ${(session / echo).toFixed(1)}x | <= 2x |`;
};
console.log(
  `One round over WebSockets, n = ${MEMBERS}, d = ${COORDINATES.toLocaleString('en')}, CPU time of the server process, Node ${process.version}.\n`,
);
console.log('| round | bare ws + msgpackr, the vectors and back | coordinator, all phases and checks | ratio | goal |');
console.log('|---|---|---|---|---|');
console.log(line('first of the process', ([first]) => first ?? 0));
console.log(line(`median of the ${ROUNDS - 1} after it`, ([, ...rest]) => median(rest)));

console.log('\n| of a session, in the same process | count | CPU time |\n|---|---|---|');
let mandatoryMs = 0;
for (const [name, count, work] of mandatoryWork()) {
  const before = cpuMs();
  // Ten sessions: one is shorter than the clock is exact.
  for (let i = 0; i < 10 * count; i++) work();
  const spent = (cpuMs() - before) / 10;
  mandatoryMs += spent;
  console.log(`| ${name} | ${count.toLocaleString('en')} | ${spent.toFixed(1)} ms |`);
}
console.log(`| together | | ${mandatoryMs.toFixed(0)} ms |`);
