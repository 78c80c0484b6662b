import type { KeyStream } from '../../protocol/crypto-provider.ts';

/** Largest refill: whole blocks amortize the call into the cipher. Units: 32-bit words (64 KiB). */
const MAX_REFILL_WORDS = 16_384;

// The stream's bytes are read as little-endian words on every host, so that one seed gives one result everywhere.
const HOST_IS_LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/**
 * Buffered 32-bit words of a keystream. Hot loops work on `words` and `at` directly and call `refill` when `at`
 * reaches the end; everything else uses `next` and `bits`. Whole refills are taken from the stream: words left over
 * are lost to other readers of the same stream.
 * Secrets: the buffer holds bits that decide noise; `wipe` when done.
 */
export class RandomWords {
  readonly words: Uint32Array;
  at: number;
  readonly #bytes: Uint8Array;
  readonly #stream: KeyStream;

  /**
   * Units: `expectedWords` sizes the refills (a power of two from 16 to `MAX_REFILL_WORDS`). `storage`: where to keep
   * the words, of `MAX_REFILL_WORDS` at least.
   */
  constructor(stream: KeyStream, expectedWords: number = MAX_REFILL_WORDS, storage?: Uint32Array) {
    let size = 16;
    while (size < expectedWords && size < MAX_REFILL_WORDS) size *= 2;
    this.words = storage?.subarray(0, size) ?? new Uint32Array(size);
    this.#bytes = new Uint8Array(this.words.buffer, this.words.byteOffset, this.words.byteLength);
    this.#stream = stream;
    this.at = size;
  }

  refill(): void {
    this.#stream.read(this.#bytes);
    if (!HOST_IS_LITTLE_ENDIAN) {
      const view = new DataView(this.words.buffer, this.words.byteOffset);
      for (let i = 0; i < this.words.length; i++) this.words[i] = view.getUint32(4 * i, true);
    }
    this.at = 0;
  }

  next(): number {
    if (this.at === this.words.length) this.refill();
    return this.words[this.at++] as number;
  }

  /** A uniform integer below 2^count from ceil(count / 32) words. */
  bits(count: number): bigint {
    let value = 0n;
    for (let have = 0; have < count; have += 32) value = (value << 32n) | BigInt(this.next());
    return value & ((1n << BigInt(count)) - 1n);
  }

  wipe(): void {
    this.words.fill(0);
    this.at = this.words.length;
  }
}
