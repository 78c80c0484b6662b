import { expect, it } from 'vitest';
import { createMemoryStore } from '../platform/memory/store.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromUtf8 } from '../protocol/bytes.ts';
import { createCoordinator } from '../server/coordinator/run.ts';
import { decodeRunMessage } from '../src/run/messages.ts';
import { buildRoster } from '../src/run/roster.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { COORDINATOR, createIdentity, type Identity } from './support/transport.ts';

it('a new member is handed the whole greeting at once, before any session that opens meanwhile', async () => {
  const identities = [1, 2, 3, 4].map(createIdentity);
  const [alice] = identities as [Identity];
  const roster = buildRoster(
    nodeCrypto,
    1,
    identities.map(({ publicKey }, i) => ({ organization: `org-${i}`, publicKey })),
  );
  const sent: Uint8Array[] = [];
  let isWaiting: () => void = () => undefined;
  const waiting = new Promise<void>((resolve) => {
    isWaiting = resolve;
  });
  const coordinator = await createCoordinator({
    config: scenarioConfig('digits', { seed: 5, steps: 1, targetEpsilon: 8, participants: 4 }),
    runId: '0f0e0d0c0b0a09080706050403020100',
    roster,
    identity: COORDINATOR,
    crypto: nodeCrypto,
    store: createMemoryStore(),
    peers: {
      connected: () => [],
      // Nothing drains: whatever waits for an earlier message never comes.
      send: (_, bytes) => {
        sent.push(bytes.slice());
        return new Promise(() => undefined);
      },
    },
    now: () => '2030-01-01T00:00:00.000Z',
    onProgress: ({ event }) => event === 'waiting' && isWaiting(),
    onError: () => undefined,
    graceMs: 60_000,
    joinMs: 60_000,
    gatherMs: 60_000,
  });
  void coordinator.run();
  await waiting;
  coordinator.onOpen(alice.id, false);
  const types = sent.map(
    (bytes) => (JSON.parse(fromUtf8(decodeRunMessage(bytes)?.payload ?? new Uint8Array(0))) as { type: string }).type,
  );
  expect(types).toEqual(['genesis', 'run.open']);
});
