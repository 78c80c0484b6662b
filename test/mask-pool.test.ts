import { createCipheriv } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, it } from 'vitest';
import { startParticipant } from '../clients/core/session.ts';
import { aes256CtrFrom, nodeCrypto, nodeRandom } from '../platform/node/crypto.ts';
import { createMaskJob, type MaskJob, runMaskJob } from '../platform/node/mask-job.ts';
import { createMaskPool, type MaskPool } from '../platform/node/mask-pool.ts';
import { equalBytes, utf8 } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { decodeSessionMessage } from '../protocol/frame.ts';
import { LIMITS } from '../protocol/limits.ts';
import { applyMasks, type MaskVector, packLanes, unpackLanes } from '../protocol/ring.ts';
import type { Lanes, MaskSeed } from '../protocol/session.ts';
import { startSession } from '../server/coordinator/session.ts';
import { bytesFrom } from './support/malice.ts';
import { baseParams, createMembers } from './support/session-world.ts';

const ENTRY = new URL('../dist/platform/node/mask-worker.js', import.meta.url);
/** A thread whose program is given in place of the real one. */
const program = (code: string): URL =>
  new URL(`data:text/javascript,${encodeURIComponent(`import { parentPort } from 'node:worker_threads';${code}`)}`);
const READY = `parentPort.postMessage('ready');`;

const pools: MaskPool[] = [];
const pool = (threads: number, entry: URL = ENTRY, patienceMs = 60_000): MaskPool => {
  const made = createMaskPool({ threads, entry, patienceMs, minKeystreamBytes: 0 });
  pools.push(made);
  return made;
};
afterAll(() => Promise.all(pools.map((made) => made.close())));

const seedsOf = (signs: readonly (1 | -1)[]): MaskSeed[] =>
  signs.map((sign, i) => ({ seed: new Uint8Array(32).fill(i + 1), sign }));
const wordsOf = (halves: number, lanes: Lanes): Uint32Array =>
  Uint32Array.from(
    { length: halves },
    (_, i) => Math.imul(i + 9, 2_654_435_761) >>> (i % 2 === 1 && lanes === 3 ? 1 : 0),
  );
const masked = (words: Uint32Array, lanes: Lanes, seeds: readonly MaskSeed[]): Uint32Array => {
  const copy = words.slice();
  applyMasks(copy, lanes, seeds, nodeCrypto);
  return copy;
};

/** Compares bytes: a difference of long vectors is not worth printing. */
const expectSame = (actual: Uint32Array, expected: Uint32Array): void => {
  const bytes = ({ buffer, byteOffset, byteLength }: Uint32Array): Buffer =>
    Buffer.from(buffer, byteOffset, byteLength);
  expect(Buffer.compare(bytes(actual), bytes(expected))).toBe(0);
};

describe('the keystream from any block on', () => {
  it('is the one that starts at zero, further on', () => {
    const key = new Uint8Array(32).fill(4);
    const whole = new Uint8Array(4_096);
    nodeCrypto.aes256Ctr(key).read(whole);
    for (const block of [0, 1, 7, 255]) {
      const part = new Uint8Array(4_096 - 16 * block);
      aes256CtrFrom(key, block).read(part);
      expect(part).toEqual(whole.subarray(16 * block));
    }
  });

  it('carries over every byte of the counter', () => {
    const key = new Uint8Array(32).fill(5);
    for (const block of [2 ** 8, 2 ** 16, 2 ** 31, 2 ** 32, 2 ** 40, 2 ** 52]) {
      const counters = new Uint8Array(64);
      for (let i = 0; i < 4; i++) new DataView(counters.buffer).setBigUint64(16 * i + 8, BigInt(block - 2 + i));
      const cipher = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false);
      const stream = new Uint8Array(64);
      aes256CtrFrom(key, block - 2).read(stream);
      expect(stream).toEqual(new Uint8Array(cipher.update(counters)));
    }
  });
});

describe('masking by several threads', () => {
  it('gives the bytes of one thread for all lanes, signs, sizes and numbers of threads', async () => {
    for (const threads of [2, 3, 4]) {
      const { mask, start } = pool(threads);
      expect(await start()).toBe(threads - 1);
      for (const lanes of [2, 3, 4] as Lanes[]) {
        for (const signs of [[1], [-1], [1, -1, 1], Array<1 | -1>(19).fill(-1)] as (1 | -1)[][]) {
          // Fewer than a range, odd ends, and more than a chunk of the kernels in every range.
          for (const halves of [2, 14, 18, 62, 66, 1_026, 4 * 32_768 + 38]) {
            const words = wordsOf(halves, lanes);
            const expected = masked(words, lanes, seedsOf(signs));
            await mask(words, lanes, seedsOf(signs));
            expectSame(words, expected);
          }
        }
      }
    }
  });

  it('takes a vector that is a part of a larger buffer', async () => {
    const { mask, start } = pool(2);
    await start();
    const buffer = wordsOf(4_000, 2);
    const expected = masked(buffer.slice(1_000, 3_002), 2, seedsOf([1, -1]));
    await mask(buffer.subarray(1_000, 3_002), 2, seedsOf([1, -1]));
    expect(buffer.slice(1_000, 3_002)).toEqual(expected);
    expect(buffer.slice(3_002)).toEqual(wordsOf(4_000, 2).slice(3_002));
  });

  it('uses what the threads compute', async () => {
    const zeros = program(`${READY} parentPort.on('message', (job) => {
      job.words.fill(0); parentPort.postMessage(job, [job.words.buffer, job.seeds.buffer]); });`);
    const { mask, start } = pool(2, zeros);
    await start();
    const words = wordsOf(128, 2);
    const expected = masked(words, 2, seedsOf([1]));
    await mask(words, 2, seedsOf([1]));
    expect(words.subarray(0, 64)).toEqual(expected.subarray(0, 64));
    expect(words.subarray(64).every((half) => half === 0)).toBe(true);
  });

  it('masks vectors at the same time, each with the threads that are free', async () => {
    const { mask, start } = pool(3);
    await start();
    const vectors = [1, 2, 3, 4].map((n) => wordsOf(10_000 * n, 3));
    const expected = vectors.map((words) => masked(words, 3, seedsOf([1, -1])));
    await Promise.all(vectors.map((words) => mask(words, 3, seedsOf([1, -1]))));
    vectors.forEach((words, i) => {
      expectSame(words, expected[i] as Uint32Array);
    });
  });

  it('starts no thread for small vectors or when it is told to use one', async () => {
    const broken = program(`throw new Error('started');`);
    for (const made of [createMaskPool({ threads: 8, entry: broken }), pool(1, broken)]) {
      const words = wordsOf(1_000, 2);
      const expected = masked(words, 2, seedsOf([1]));
      await made.mask(words, 2, seedsOf([1]));
      expectSame(words, expected);
    }
    expect(await pool(1, broken).start()).toBe(0);
    for (const threads of [0, 1.5, 65]) expect(() => createMaskPool({ threads })).toThrow(/threads/);
  });
});

describe('a thread that fails', () => {
  const failures: readonly (readonly [string, URL, number?])[] = [
    ['is missing', new URL('./no-such-program.js', import.meta.url)],
    ['breaks while it starts', program(`throw new Error('start');`)],
    ['ends before it serves', program(`process.exit(0);`)],
    ['throws at its job', program(`${READY} parentPort.on('message', () => { throw new Error('job'); });`)],
    ['ends at its job', program(`${READY} parentPort.on('message', () => process.exit(1));`)],
    [
      'ends in the middle',
      program(`${READY} parentPort.on('message', (job) => { job.words.fill(1, 0, 9); process.exit(1); });`),
    ],
    [
      'gives another length',
      program(
        `${READY} parentPort.on('message', (job) => parentPort.postMessage({ ...job, words: job.words.slice(1) }));`,
      ),
    ],
    ['gives no vector', program(`${READY} parentPort.on('message', () => parentPort.postMessage({ words: [] }));`)],
    ['never answers', program(`${READY} parentPort.on('message', () => undefined);`), 20],
  ];
  for (const [how, entry, patienceMs] of failures) {
    it(`and ${how} leaves the whole work to the caller, now and later`, async () => {
      const { mask, start } = pool(3, entry, patienceMs);
      await start();
      for (let i = 0; i < 2; i++) {
        const words = wordsOf(5_002, 3);
        const expected = masked(words, 3, seedsOf([1, -1, -1]));
        await mask(words, 3, seedsOf([1, -1, -1]));
        expectSame(words, expected);
      }
    });
  }

  it('masks all the same after the pool was closed, and while it closes', async () => {
    const made = pool(2);
    await made.start();
    const words = wordsOf(400_000, 3);
    const expected = masked(words, 3, seedsOf([1, -1]));
    const work = made.mask(words, 3, seedsOf([1, -1]));
    await made.close();
    await work;
    expectSame(words, expected);
    const later = wordsOf(64, 3);
    await made.mask(later, 3, seedsOf([1]));
    expectSame(later, masked(wordsOf(64, 3), 3, seedsOf([1])));
    expect(await made.start()).toBe(0);
  });

  it('is an error when the caller cannot do the work either, and leaves no half of a vector', async () => {
    const { mask, start } = pool(2);
    await start();
    const words = wordsOf(4_096, 2);
    const code = await mask(words, 2, [{ seed: new Uint8Array(31), sign: 1 }]).catch((error: unknown) =>
      isCoveyError(error) ? error.code : 'other',
    );
    expect(code).toBe('USAGE_RANGE');
    expect(words.every((half) => half === 0)).toBe(true);
  });
});

describe('seeds in a thread', () => {
  it('are wiped after the job, in the buffer that was handed over', async () => {
    const worker = new Worker(ENTRY);
    const words = wordsOf(1_024, 3);
    const job = createMaskJob(words, 512, 1_024, 3, seedsOf([1, -1]));
    expect(job.seeds.some((byte) => byte !== 0)).toBe(true);
    const done = await new Promise<MaskJob>((resolve, reject) => {
      worker.on('error', reject);
      worker.on('message', (message: 'ready' | MaskJob) => {
        if (message === 'ready') worker.postMessage(job, [job.words.buffer, job.seeds.buffer]);
        else resolve(message);
      });
    });
    await worker.terminate();
    // Moved, not copied: nothing is left on this side.
    expect([job.seeds.length, job.words.length]).toEqual([0, 0]);
    expect(done.seeds).toEqual(new Uint8Array(64));
    expect(done.words).toEqual(masked(words, 3, seedsOf([1, -1])).slice(512));
  });

  it('are wiped when the job fails', () => {
    const job = createMaskJob(wordsOf(64, 2), 0, 64, 2, seedsOf([1]));
    expect(() => runMaskJob({ ...job, signs: Int8Array.of(1, 1) })).toThrow();
    expect(job.seeds).toEqual(new Uint8Array(32));
  });
});

describe('a session whose drivers mask by threads', () => {
  const MEMBERS = 5;
  const LENGTH = 1_000;
  const limits = { maxHeaderBytes: LIMITS.headerBytes, maxPayloadBytes: LIMITS.payloadBytes };

  /** One session of the real drivers and machines; `masks` serves the participants, `unmask` the coordinator. */
  async function run(masks: MaskVector, unmask: MaskVector | undefined, errors: unknown[], onStall: () => void) {
    const { members, roster } = createMembers(MEMBERS);
    const secretSeed = bytesFrom('coordinator');
    const coordinator = { secretSeed, publicKey: nodeCrypto.ed25519PublicKey(secretSeed) };
    const params = { ...baseParams(roster, LENGTH, 2), deadlineMs: 60_000 };
    const sent: string[] = [];
    const nodes = members.map((identity, m) =>
      startParticipant(
        nodeCrypto,
        nodeRandom,
        identity,
        { coordinatorKey: coordinator.publicKey, roster },
        {
          mask: masks,
          authorize: async () => null,
          persist: async () => undefined,
          async send(message) {
            sent.push(message.type);
            session.receive((members[m] as { id: Uint8Array }).id, message);
          },
          contribute: async () =>
            packLanes(
              Int32Array.from({ length: LENGTH }, (_, i) => i * (m + 1)),
              2,
            ),
          charge: async () => undefined,
          settle: async () => undefined,
          done: async () => undefined,
          aborted: async () => undefined,
        },
        (error) => {
          errors.push(error);
          if (errors.length === MEMBERS) onStall();
        },
      ),
    );
    const session = startSession(
      nodeCrypto,
      coordinator,
      roster,
      { params, attachment: utf8('models'), invited: members.map(({ id }) => id) },
      {
        mask: unmask,
        async send(id, frame) {
          nodes[members.findIndex((member) => equalBytes(member.id, id))]?.receive(decodeSessionMessage(frame, limits));
        },
        persist: async () => undefined,
        charge: async () => undefined,
        keepUpload: async () => undefined,
        onPhase: () => undefined,
      },
    );
    return { session, sent, stop: () => session.stop() };
  }

  it('sums to what one thread sums to', async () => {
    const { mask, start } = pool(2);
    await start();
    const calls: number[] = [];
    const counting: MaskVector = (words, lanes, seeds) => {
      calls.push(seeds.length);
      return mask(words, lanes, seeds);
    };
    const errors: unknown[] = [];
    const { session } = await run(counting, counting, errors, () => undefined);
    const end = await session.end;
    expect(errors).toEqual([]);
    expect(end.type).toBe('done');
    if (end.type !== 'done') return;
    expect([...unpackLanes(end.outcome.sum, LENGTH, 2)]).toEqual(Array.from({ length: LENGTH }, (_, i) => 15 * i));
    // A self mask and four pair masks for each member; the coordinator takes off five self masks.
    expect(calls).toEqual(Array(MEMBERS + 1).fill(5));
  });

  it('sends no upload when masking fails', async () => {
    const errors: unknown[] = [];
    let stall: () => void = () => undefined;
    const stalled = new Promise<void>((resolve) => {
      stall = resolve;
    });
    const { sent, stop } = await run(() => Promise.reject(new Error('no mask')), undefined, errors, stall);
    await stalled;
    expect(sent).toContain('p2');
    expect(sent).not.toContain('p3');
    stop();
  });
});
