import { expect, it, vi } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { equalBytes, toHex, utf8 } from '../protocol/bytes.ts';
import { CoveyError } from '../protocol/errors.ts';
import { decodeSessionMessage } from '../protocol/frame.ts';
import { LIMITS } from '../protocol/limits.ts';
import { createParticipant, type ParticipantState, stepParticipant } from '../protocol/participant.ts';
import { applyMasks, packLanes, wordsToBytes } from '../protocol/ring.ts';
import type { MessageType, ParticipantEvent } from '../protocol/session.ts';
import { createSendsUnderWay } from '../server/coordinator/sends-under-way.ts';
import { startSession } from '../server/coordinator/session.ts';
import { bytesFrom } from './support/malice.ts';
import { baseParams, createMembers } from './support/session-world.ts';

const MEMBERS = 5;
const limits = { maxHeaderBytes: LIMITS.headerBytes, maxPayloadBytes: LIMITS.payloadBytes };

/** One session of the real driver and machines; a message of type `deaf` cannot be sent to member 0, or never leaves for it. */
async function run(
  deaf: MessageType | null,
  fate: 'refused' | 'stuck' = 'refused',
): Promise<{ type: string; survivors: string[]; ids: string[] }> {
  const { members, roster } = createMembers(MEMBERS);
  const secretSeed = bytesFrom('coordinator');
  const coordinator = { secretSeed, publicKey: nodeCrypto.ed25519PublicKey(secretSeed) };
  const params = { ...baseParams(roster, 8, 2), deadlineMs: 60_000 };
  const states = members.map(
    (identity): ParticipantState =>
      createParticipant(identity, { coordinatorKey: coordinator.publicKey, roster }, nodeCrypto),
  );
  const values = packLanes(
    Int32Array.from({ length: 8 }, (_, i) => i),
    2,
  );
  const step = (m: number, event: ParticipantEvent): void => {
    const { state, effects } = stepParticipant(nodeCrypto, states[m] as ParticipantState, event);
    states[m] = state;
    for (const effect of effects) {
      if (effect.type === 'authorize') step(m, { type: 'authorized', census: null });
      else if (effect.type === 'contribute') step(m, { type: 'contribution', words: values.slice() });
      else if (effect.type === 'charge') step(m, { type: 'charged' });
      else if (effect.type === 'mask') {
        const words = effect.words.slice();
        applyMasks(words, 2, effect.seeds, nodeCrypto);
        step(m, { type: 'masked', words, digest: nodeCrypto.sha256(wordsToBytes(words)) });
      } else if (effect.type === 'send') session.receive((members[m] as { id: Uint8Array }).id, effect.message);
    }
  };
  // What the transport reports when the deadline of the connection has passed.
  const stuck = (): void => queueMicrotask(() => session.lost((members[0] as { id: Uint8Array }).id));
  const session = startSession(
    nodeCrypto,
    coordinator,
    roster,
    { params, attachment: utf8('models'), invited: members.map(({ id }) => id) },
    {
      async send(id, frame) {
        await Promise.resolve();
        const message = decodeSessionMessage(frame, limits);
        const m = members.findIndex((member) => equalBytes(member.id, id));
        if (m === 0 && message.type === deaf && fate === 'stuck') {
          stuck();
          await new Promise<never>(() => undefined);
        }
        if (m === 0 && message.type === deaf) throw new CoveyError('CODEC_LIMIT', '"message" expected a short one');
        step(
          m,
          message.type === 'p0'
            ? { type: 'open', message, entropy: bytesFrom('entropy', m) }
            : { type: 'message', message },
        );
      },
      persist: async () => undefined,
      charge: async () => undefined,
      keepUpload: async () => undefined,
      onPhase: () => undefined,
    },
  );
  const end = await session.end;
  const survivors = end.type === 'done' ? end.outcome.survivors.map(toHex) : [];
  return { type: end.type, survivors, ids: members.map(({ id }) => toHex(id)) };
}

it('a member that cannot be sent to is a dropout and does not end the session of the others', async () => {
  const all = await run(null);
  expect(all.survivors).toEqual(all.ids);
  for (const deaf of ['p0', 'p1-all', 'p2-all'] as const) {
    const { type, survivors, ids } = await run(deaf);
    expect([deaf, type, survivors]).toEqual([deaf, 'done', ids.slice(1)]);
  }
  const late = await run('p4-ask');
  expect(late.survivors).toEqual(late.ids);
});

it('a member that takes nothing does not hold the others up, whichever message it leaves waiting', async () => {
  for (const deaf of ['p0', 'p1-all', 'p2-all'] as const) {
    const { type, survivors, ids } = await run(deaf, 'stuck');
    expect([deaf, type, survivors]).toEqual([deaf, 'done', ids.slice(1)]);
  }
  for (const deaf of ['p4-ask', 'p5-ask', 'result'] as const) {
    const { type, survivors, ids } = await run(deaf, 'stuck');
    expect([deaf, type, survivors]).toEqual([deaf, 'done', ids]);
  }
});

it('starts a few sends at a time, and goes on when those that are under way do not end', async () => {
  vi.useFakeTimers();
  try {
    const sends = createSendsUnderWay();
    const started: number[] = [];
    const faults: unknown[] = [];
    const ends: (() => void)[] = [];
    const start = (n: number): Promise<void> =>
      sends.start(
        () => {
          started.push(n);
          return new Promise((resolve) => ends.push(resolve));
        },
        (error) => faults.push(error),
      );
    const all = (async () => {
      for (let n = 0; n < 20; n++) await start(n);
    })();
    await vi.advanceTimersByTimeAsync(0);
    expect(started).toHaveLength(8);
    // One that ends makes room for one.
    ends[3]?.();
    await vi.advanceTimersByTimeAsync(0);
    expect(started).toHaveLength(9);
    // None ends any more: each batch is given up waiting for.
    await vi.runAllTimersAsync();
    await all;
    expect(started).toEqual(Array.from({ length: 20 }, (_, n) => n));
    await sends.start(
      () => Promise.reject(new Error('broken')),
      (error) => faults.push(error),
    );
    await vi.advanceTimersByTimeAsync(0);
    expect(faults).toEqual([new Error('broken')]);
  } finally {
    vi.useRealTimers();
  }
});
