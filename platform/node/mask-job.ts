import { applyMasks } from '../../protocol/ring.ts';
import type { Lanes, MaskSeed } from '../../protocol/session.ts';
import { aes256CtrFrom } from './crypto.ts';

const SEED_BYTES = 32;
/** Of the vector, in 32-bit halves: one block of AES. */
const BLOCK_HALVES = 4;

/** A range of a vector to be masked elsewhere; its buffers are moved, not copied, and come back. */
export interface MaskJob {
  readonly words: Uint32Array<ArrayBuffer>;
  readonly lanes: Lanes;
  /** The seeds one after the other; all zeros when the job comes back. */
  readonly seeds: Uint8Array<ArrayBuffer>;
  readonly signs: Int8Array<ArrayBuffer>;
  /** Where the range starts in every keystream. Units: blocks of 16 bytes. */
  readonly firstBlock: number;
}

/** Copies the range [from, to) of `words`, and the seeds. Units: 32-bit halves, `from` a multiple of 4. */
export function createMaskJob(
  words: Uint32Array,
  from: number,
  to: number,
  lanes: Lanes,
  seeds: readonly MaskSeed[],
): MaskJob {
  const packed = new Uint8Array(SEED_BYTES * seeds.length);
  seeds.forEach(({ seed }, i) => {
    packed.set(seed, SEED_BYTES * i);
  });
  return {
    words: new Uint32Array(words.subarray(from, to)),
    lanes,
    seeds: packed,
    signs: Int8Array.from(seeds, ({ sign }) => sign),
    firstBlock: from / BLOCK_HALVES,
  };
}

/** Masks the range in place. Secrets: the seeds of the job are wiped, whatever happens. */
export function runMaskJob(job: MaskJob): void {
  try {
    const seeds = Array.from(job.signs, (sign, i): MaskSeed => {
      const seed = job.seeds.subarray(SEED_BYTES * i, SEED_BYTES * (i + 1));
      return { seed, sign: sign === 1 ? 1 : -1 };
    });
    applyMasks(job.words, job.lanes, seeds, { aes256Ctr: (key) => aes256CtrFrom(key, job.firstBlock) });
  } finally {
    job.seeds.fill(0);
  }
}
