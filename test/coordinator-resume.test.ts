import { connect as connectTcp, createServer, type Server, type Socket } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { createMemoryStore } from '../platform/memory/store.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { equalBytes, toHex } from '../protocol/bytes.ts';
import { decodeSessionMessage, encodeSessionMessage, openFrame } from '../protocol/frame.ts';
import { LIMITS } from '../protocol/limits.ts';
import { coordinateCount } from '../protocol/params.ts';
import { createParticipant, type ParticipantState, stepParticipant } from '../protocol/participant.ts';
import { applyMasks, ringWordCount, wordsToBytes } from '../protocol/ring.ts';
import type { ParticipantEvent, SessionMessage } from '../protocol/session.ts';
import { createCoordinator } from '../server/coordinator/run.ts';
import { parseRunConfig } from '../src/run/config.ts';
import { buildRoster } from '../src/run/roster.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { bytesFrom } from './support/malice.ts';
import { COORDINATOR, createIdentity, type Identity, startTestClient, startTestServer } from './support/transport.ts';

const LIMIT = { maxHeaderBytes: LIMITS.headerBytes, maxPayloadBytes: LIMITS.payloadBytes };
const frameType = (bytes: Uint8Array): string => String(openFrame(bytes).header['t']);
const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A TCP relay that a test can cut and keep shut. */
async function startGate(port: number): Promise<{ readonly url: string; shut(): void; open(): void }> {
  const sockets = new Set<Socket>();
  let isShut = false;
  const server: Server = createServer((near) => {
    if (isShut) {
      near.destroy();
      return;
    }
    const far = connectTcp(port, '127.0.0.1');
    const end = (): void => {
      near.destroy();
      far.destroy();
    };
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', end).on('close', end);
    }
    near.pipe(far);
    far.pipe(near);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanups.push(() => new Promise((resolve) => server.close(() => resolve(undefined))));
  return {
    url: `ws://127.0.0.1:${(server.address() as { port: number }).port}`,
    shut() {
      isShut = true;
      for (const socket of sockets) socket.destroy();
      sockets.clear();
    },
    open() {
      isShut = false;
    },
  };
}

/** Something that happens once and can be waited for. */
function createMoment(): { readonly happened: Promise<void>; happen(): void } {
  let happen: () => void = () => undefined;
  const happened = new Promise<void>((resolve) => {
    happen = resolve;
  });
  return { happened, happen: () => happen() };
}

const base = scenarioConfig('heart', { seed: 1, steps: 1, targetEpsilon: 8, participants: 5 });
const config = parseRunConfig({
  ...base,
  // A choice first, so that the transcript of a census is broadcast, and then one step.
  clusters: {
    assignment: 'hard',
    foundingSlots: 0,
    seatPositions: 0,
    kept: 2,
    choiceSteps: [0],
    choiceEpsilon: 0.5,
    lossBound: 2,
    countNoiseStddev: 0.7,
  },
});

it('a resumed member gets every broadcast that it missed, byte for byte and once', async () => {
  const identities = [1, 2, 3, 4, 5].map(createIdentity);
  const [alice, bob] = identities as [Identity, Identity];
  const roster = buildRoster(
    nodeCrypto,
    1,
    identities.map(({ publicKey }, i) => ({ organization: `org-${i}`, publicKey })),
  );
  const aliceIsAway = createMoment();
  const aliceIsBack = createMoment();
  const everybodyIsDone = createMoment();
  const resumed: boolean[] = [];
  let onOpen: (id: Uint8Array, isResumed: boolean) => void = () => undefined;
  let onMessage: (id: Uint8Array, bytes: Uint8Array) => Promise<void> = async () => undefined;
  let onClose: (id: Uint8Array) => void = () => undefined;
  const { server, url, errors } = await startTestServer(identities, {
    onOpen: ({ id }, isResumed) => {
      if (equalBytes(id, alice.id)) resumed.push(isResumed);
      onOpen(id, isResumed);
    },
    onMessage: ({ id }, bytes) => {
      const arrived = onMessage(id, bytes);
      // Her reply is the last thing that is heard of her: result, census and log line go out while she is away.
      if (equalBytes(id, alice.id) && frameType(bytes) === 'p5' && resumed.length === 1) gate.shut();
      return arrived;
    },
    onClose: ({ id }) => {
      onClose(id);
      if (equalBytes(id, alice.id)) aliceIsAway.happen();
    },
  });
  cleanups.push(() => server.close());
  const gate = await startGate(server.port);
  const coordinator = await createCoordinator({
    config,
    runId: 'ab'.repeat(16),
    roster,
    identity: COORDINATOR,
    crypto: nodeCrypto,
    store: createMemoryStore(),
    peers: { send: (id, bytes) => server.send(toHex(id), bytes), connected: () => server.connected() },
    now: () => '2030-01-01T00:00:00.000Z',
    onProgress: ({ event }) => {
      if (event === 'finished') everybodyIsDone.happen();
    },
    onError: (error) => errors.push(error),
    graceMs: 60_000,
    joinMs: 60_000,
    gatherMs: 60_000,
  });
  ({ onOpen, onMessage, onClose } = coordinator);

  const trust = { coordinatorKey: COORDINATOR.publicKey, roster };
  const received = new Map<string, Uint8Array[]>();
  const nodes = identities.map((identity, m) => {
    const isAlice = identity === alice;
    const inbox: Uint8Array[] = [];
    received.set(toHex(identity.id), inbox);
    const [greeted, end] = [createMoment(), createMoment()];
    let state: ParticipantState = createParticipant(identity, trust, nodeCrypto);
    const say = async (message: SessionMessage): Promise<void> => {
      // The others wait with their replies until she is gone: nothing can be released before.
      if (message.type === 'p5' && !isAlice) await aliceIsAway.happened;
      await client.send(encodeSessionMessage(message));
    };
    const step = async (event: ParticipantEvent): Promise<void> => {
      const { state: next, effects } = stepParticipant(nodeCrypto, state, event);
      state = next;
      for (const effect of effects) {
        if (effect.type === 'authorize') await step({ type: 'authorized', census: null });
        else if (effect.type === 'contribute') {
          const { params } = effect;
          const words = new Uint32Array(ringWordCount(coordinateCount(params), params.ring.lanes));
          await step({ type: 'contribution', words });
        } else if (effect.type === 'charge') await step({ type: 'charged' });
        else if (effect.type === 'mask') {
          const words = effect.words.slice();
          applyMasks(words, effect.lanes, effect.seeds, nodeCrypto);
          await step({ type: 'masked', words, digest: nodeCrypto.sha256(wordsToBytes(words)) });
        } else if (effect.type === 'send') await say(effect.message);
      }
    };
    let turn: Promise<void> = Promise.resolve();
    const take = async (bytes: Uint8Array): Promise<void> => {
      const type = frameType(bytes);
      if (inbox.length >= 2) greeted.happen();
      if (type === 'run/finished') end.happen();
      // Once the others have what she missed, the way is free again.
      if (identity === bob && type === 'run/log' && inbox.some((other) => frameType(other) === 'run/census')) {
        gate.open();
        aliceIsBack.happen();
      }
      if (type?.startsWith('run/') === true) return;
      const message = decodeSessionMessage(bytes, LIMIT);
      const entropy = bytesFrom('entropy', 100 * inbox.length + m);
      await step(message.type === 'p0' ? { type: 'open', message, entropy } : { type: 'message', message });
    };
    const { client } = startTestClient(isAlice ? gate.url : url, identity, {
      onMessage: (bytes) => {
        const own = bytes.slice();
        inbox.push(own);
        turn = turn.then(() => take(own));
      },
    });
    cleanups.push(() => client.close());
    return { greeted: greeted.happened, finished: end.happened, leave: () => client.close() };
  });

  // A greeting behind the opening of a session repeats its P0; here everybody is there before.
  for (const { greeted } of nodes) await greeted;
  const run = coordinator.run();
  await aliceIsAway.happened;
  await aliceIsBack.happened;
  await everybodyIsDone.happened;
  for (const { finished } of nodes) await finished;
  for (const { leave } of nodes) await leave();
  await run;

  const inboxOf = ({ id }: Identity): Uint8Array[] => received.get(toHex(id)) as Uint8Array[];
  /** What is sent to everybody alike, in order: the P2 list is each member's own. */
  const broadcasts = (identity: Identity): string[] =>
    inboxOf(identity)
      .filter((bytes) => frameType(bytes) !== 'p2-all')
      .map(toHex);
  expect(broadcasts(alice)).toEqual(broadcasts(bob));
  const types = inboxOf(alice).map((bytes) => frameType(bytes));
  const session = ['p0', 'p1-all', 'p2-all', 'p4-ask', 'p5-ask', 'result'];
  expect(types).toEqual([
    ...['run/log', 'run/log'],
    ...[...session, 'run/census', 'run/log'],
    ...[...session, 'run/log'],
    'run/finished',
  ]);
  expect(resumed).toEqual([false, true]);
  expect(errors).toEqual([]);
});
