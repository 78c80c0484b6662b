import { expect, it } from 'vitest';
import { fuzzTransport } from '../support/hostile.ts';
import { createIdentity, servesHonestClient, startTestServer } from '../support/transport.ts';

/** Rounds of random bytes; each seed is a run of its own that can be repeated. */
const SEEDS: readonly number[] = [11, 12, 13, 14];
const ROUNDS = 500;

it.each(SEEDS)('random bytes never bring the server down (seed %i)', async (seed) => {
  const honest = createIdentity(1);
  const insider = createIdentity(2);
  const limits = { helloMs: 1_000, fragmentBytes: 65_536, maxMessageBytes: 1_000_000, messageMs: 1_000 };
  const test = await startTestServer([honest, insider], { limits });
  await fuzzTransport(test, insider, seed, ROUNDS);
  expect(await servesHonestClient(test, honest)).toBe(true);
  expect(test.errors).toEqual([]);
  await test.server.close();
});
