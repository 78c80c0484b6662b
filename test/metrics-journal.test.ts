import { describe, expect, it } from 'vitest';
import { runInProcess, simulatedRoster } from '../experiments/in-process.ts';
import { createMemoryStore } from '../platform/memory/store.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { toBase64, toHex } from '../protocol/bytes.ts';
import { encodeParams, nodeId, sessionId } from '../protocol/params.ts';
import type { SessionParams } from '../protocol/session.ts';
import { openJournal } from '../server/coordinator/journal.ts';
import { type Coordinator, createCoordinator } from '../server/coordinator/run.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { parseRunConfig } from '../src/run/config.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { bytesFrom } from './support/malice.ts';
import { repeatable } from './support/repeatable.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
const metrics = { every: 1, bins: 5, noiseStddev: 4 };
const config = parseRunConfig({
  ...scenarioConfig('digits', { seed: 5, steps: 1, targetEpsilon: 8, participants: 12, metrics }),
  clusters: null,
});
const { roster } = simulatedRoster(nodeCrypto, 12);
const secretSeed = bytesFrom('coordinator');
const publicKey = nodeCrypto.ed25519PublicKey(secretSeed);
const identity = { id: nodeId(nodeCrypto, publicKey), publicKey, secretSeed };
const now = (): string => '2030-01-01T00:00:00.000Z';

describe('a coordinator that ended between a release of accuracies and its entry in the log', () => {
  it('writes the entry when it starts again, once', async () => {
    const store = createMemoryStore();
    const start = (): Promise<Coordinator> =>
      createCoordinator({
        config,
        runId: RUN_ID,
        roster,
        identity,
        crypto: nodeCrypto,
        store,
        peers: { send: async () => true, connected: () => [] },
        now,
        onProgress: () => undefined,
        onError: () => undefined,
        graceMs: 0,
        joinMs: 0,
        gatherMs: 0,
      });
    await start();
    const released: { params: SessionParams; sum: Uint32Array; survivors: number }[] = [];
    const oracle = createDenseOracle(config.model);
    const { state } = runInProcess({
      config,
      runId: RUN_ID,
      crypto: nodeCrypto,
      random: repeatable(4),
      organizations: Array.from({ length: 12 }, (_, i) => {
        const { train, test } = generateDigits(5, i);
        return { data: train, test, oracle };
      }),
      isPresent: () => true,
      onRelease: (params, sum, survivors) => released.push({ params, sum: sum.slice(), survivors }),
    });
    const journal = await openJournal(store, nodeCrypto, {
      federation: config.federation,
      runId: RUN_ID,
      identity,
      now,
    });
    for (const { params, sum, survivors } of released) {
      const sid = sessionId(nodeCrypto, params);
      await journal.append('round.open', {
        sid: toHex(sid),
        round: params.round,
        purpose: params.purpose,
        attempt: 0,
        kind: params.purpose,
        step: 0,
        slots: 1,
        params: toBase64(encodeParams(params)),
        invited: 12,
      });
      const record = { params: encodeParams(params), sid, sum, transcript: new Uint8Array(0) };
      const hash = toHex(nodeCrypto.sha256(sid));
      const hashes = { h3: hash, sumHash: hash, modelHash: hash };
      const sizes = { survivors, u1: 12, u2: 12, threshold: 8, uploadBytes: 0 };
      await journal.release(record, { sid: toHex(sid), ...hashes, ...sizes });
    }
    const entries = async (): Promise<unknown[]> =>
      (await start())
        .journal()
        .lines()
        .map((line) => JSON.parse(line) as { type: string; body: unknown })
        .filter(({ type }) => type === 'metrics.histogram')
        .map(({ body }) => body);
    const histogram = state.metrics[0]?.histogram.map(String);
    const sid = toHex(sessionId(nodeCrypto, released[1]?.params as SessionParams));
    expect(await entries()).toEqual([{ sid, step: 0, histogram }]);
    expect((await entries()).length).toBe(1);
  });
});
